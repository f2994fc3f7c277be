//! Grace for a missing reference: tools replace an object by a deletion and a creation, and a moment without it must stop no
//! recording. Pure.
//!
//! The status has the start or the end, which outlives this process, so a restart of the operator does not extend the grace.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::api::Camera;
use crate::api::condition::{ConditionFinding, ConditionType, Reason};
use crate::controllers::stall::condition_since;

/// Time for which a missing reference stops nothing.
const GRACE: SignedDuration = SignedDuration::from_mins(5);

/// Returns the end of the grace for references of a Site that are missing `now`. `reported`: the end in its status.
///
/// The Site's `Accepted` does not have the start: it may have been `False` before, for a problem that stops no recording.
pub fn site_grace_end(reported: Option<&Time>, now: Timestamp) -> Timestamp {
    let latest = whole_seconds(now).saturating_add(GRACE).unwrap_or(now);
    // A clock that was ahead must not prolong it.
    reported.map_or(latest, |reported| reported.0.min(latest))
}

/// Returns the end of the grace for a missing reference of a Camera, by its conditions.
pub fn camera_grace_end(conditions: &[Condition], created: Option<&Time>, now: Timestamp) -> Timestamp {
    let rejected = ConditionFinding::new(ConditionType::Accepted, false, Reason::ReferenceNotFound, "");
    let since = condition_since(conditions, &rejected, created, now);
    whole_seconds(since).saturating_add(GRACE).unwrap_or(now)
}

/// Returns whether a camera with a missing reference still records.
pub fn is_camera_in_grace(camera: &Camera, now: Timestamp) -> bool {
    let conditions = camera.status.as_ref().map_or(&[][..], |status| &status.conditions);
    now < camera_grace_end(conditions, camera.metadata.creation_timestamp.as_ref(), now)
}

/// Rounds down to seconds, which a status has. Otherwise a message with this time would change when the status is read.
fn whole_seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millisecond(1_790_000_000_000 + millis).unwrap()
    }

    #[test]
    fn grace_of_a_site_is_five_minutes_from_the_first_miss() {
        let end = site_grace_end(None, at(1_700));
        assert_eq!(end, at(301_000));
        for later in [2_000, 300_000, 301_000, 999_000] {
            assert_eq!(site_grace_end(Some(&Time(end)), at(later)), end, "at {later}");
        }
    }

    proptest! {
        #[test]
        fn grace_never_lasts_longer_than_five_minutes(reported in -1_000_000_i64..1_000_000, now in 0_i64..1_000_000) {
            let end = site_grace_end(Some(&Time(at(reported))), at(now));
            prop_assert!(end <= at(now) + GRACE && end <= at(reported));
        }
    }
}
