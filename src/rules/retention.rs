//! Ceilings and the lifecycle rules that enforce them (article 6).
//!
//! S3 rounds up to the next midnight UTC twice: once for the delete marker, once for the noncurrent version. Rules of N days
//! and one day thus delete the bytes at most N + 3 days after the midnight before the upload. A fourth day covers a recording
//! that began before that midnight, and a store that runs late.

use jiff::{SignedDuration, Timestamp};

use super::live_view::Embargo;
use crate::api::{Ceilings, Days, RetentionCeilings};

/// Shortest ceiling that lifecycle rules can enforce. A shorter one would require a store that runs them several times a day.
pub const MIN_CEILING: Days = Days(5);
/// Days before the ceiling at which lifecycle rules must hide a recording, so that the store deletes its bytes in time even if
/// the operator is down: two roundings up to midnight, one noncurrent day, and one day for a store that runs late.
pub const LIFECYCLE_MARGIN: Days = Days(4);

const SECONDS_PER_DAY: i64 = 86_400;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CeilingError {
    #[error(
        "{path}: {value} is shorter than {MIN_CEILING}, the shortest ceiling that daily lifecycle rules can enforce; set \
         {MIN_CEILING} or more"
    )]
    TooShort { path: &'static str, value: Days },
    #[error(
        "{path}: {value} is above the cluster's ceiling of {ceiling} (article 6); set {ceiling} or less, or ask the \
         cluster's administrators to raise ceilings.{class} of the operator"
    )]
    AboveCluster {
        path: &'static str,
        value: Days,
        ceiling: Days,
        /// `video` or `calls`.
        class: &'static str,
    },
}

/// Ceilings of the protocol: four weeks for video and one week for calls (article 6).
pub const PROTOCOL_CEILINGS: Ceilings = Ceilings { video: Days(28), calls: Days(7) };

/// What a site's policy says of each of its recordings: the maximum age, and the age from which it can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetentionTerms {
    pub ceilings: Ceilings,
    pub embargo: Embargo,
}

impl RetentionTerms {
    /// Terms without an embargo.
    pub const fn with_live_view(ceilings: Ceilings) -> Self {
        Self { ceilings, embargo: Embargo::LiveView }
    }
}

/// Returns the days after which lifecycle rules must hide a recording, so that its bytes are deleted before `ceiling`.
/// Returns `None` if the ceiling is shorter than [`MIN_CEILING`].
pub fn lifecycle_expiration_days(ceiling: Days) -> Option<u32> {
    (ceiling >= MIN_CEILING).then(|| ceiling.0.saturating_sub(LIFECYCLE_MARGIN.0))
}

/// State of a version for lifecycle rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VersionState {
    /// Current since its upload.
    CurrentSince(Timestamp),
    /// Hidden by a delete marker or a newer version since this time.
    NoncurrentSince(Timestamp),
}

/// Returns the time of the next lifecycle action on a recording, as S3 documents it: hiding it N days after the upload, then
/// deleting its bytes one day later, each at the next midnight UTC. Returns `None` if `ceiling` is too short.
pub fn lifecycle_deadline(ceiling: Days, state: VersionState) -> Option<Timestamp> {
    let (from, days) = match state {
        VersionState::CurrentSince(uploaded) => (uploaded, lifecycle_expiration_days(ceiling)?),
        VersionState::NoncurrentSince(hidden) => (hidden, 1),
    };
    let at = from.checked_add(SignedDuration::from_hours(24 * i64::from(days))).ok()?;
    let midnight = at
        .as_second()
        // Rounds up without `div_ceil`, which integers of this sign do not have. An instant at midnight stays.
        .checked_add(SECONDS_PER_DAY - 1)?
        .div_euclid(SECONDS_PER_DAY)
        .checked_mul(SECONDS_PER_DAY)?;
    Timestamp::from_second(midnight).ok()
}

/// Returns the ceilings of a policy if lifecycle rules can enforce them and the cluster allows them. Never clamps a ceiling:
/// the policy would then state another number than the one in force.
pub fn validate_ceilings(
    retention: &RetentionCeilings,
    cluster: &Ceilings,
) -> Result<Ceilings, CeilingError> {
    Ok(Ceilings {
        video: validate_ceiling("spec.retention.video", "video", retention.video, cluster.video)?,
        calls: validate_ceiling("spec.retention.calls", "calls", retention.calls, cluster.calls)?,
    })
}

fn validate_ceiling(
    path: &'static str,
    class: &'static str,
    value: Days,
    ceiling: Days,
) -> Result<Days, CeilingError> {
    if value < MIN_CEILING {
        return Err(CeilingError::TooShort { path, value });
    }
    if value > ceiling {
        return Err(CeilingError::AboveCluster { path, value, ceiling, class });
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY_S: u64 = 86_400;

    /// Returns the second at which S3 deletes the bytes of an object that was uploaded at `upload`, with rules of `days` and one
    /// day, in a store that is `late` by these seconds for the marker and for the bytes.
    fn bytes_gone(upload: u64, days: u64, late: [u64; 2]) -> u64 {
        let midnight_after = |at: u64| (at / DAY_S + 1) * DAY_S;
        let marker = midnight_after(upload + days * DAY_S) + late[0];
        midnight_after(marker + DAY_S) + late[1]
    }

    proptest! {
        #[test]
        fn lifecycle_removes_bytes_before_the_ceiling(
            ceiling in 5_u32..400,
            recorded in 0..DAY_S * 2,
            upload_delay in 0..=DAY_S,
            hides_late in 0..DAY_S,
            part in 0_u64..=1000,
        ) {
            // The margin leaves one day for the upload and a late store together. Rounding to midnight absorbs a late marker.
            let removes_late = (DAY_S - upload_delay) * part / 1000;
            let days = u64::from(lifecycle_expiration_days(Days(ceiling)).unwrap());
            let gone = bytes_gone(recorded + upload_delay, days, [hides_late, removes_late]);
            prop_assert!(gone <= recorded + u64::from(ceiling) * DAY_S, "{gone}");
        }

        #[test]
        fn ceilings_are_accepted_or_rejected_never_clamped(video in 1_u32..60, calls in 1_u32..60) {
            let cluster = Ceilings { video: Days(28), calls: Days(7) };
            let asked = RetentionCeilings { video: Days(video), calls: Days(calls) };
            match validate_ceilings(&asked, &cluster) {
                Ok(kept) => {
                    prop_assert_eq!((kept.video, kept.calls), (asked.video, asked.calls));
                    prop_assert!((5..=28).contains(&video) && (5..=7).contains(&calls));
                }
                Err(error) => {
                    let (path, value, most) = if (5..=28).contains(&video) {
                        ("spec.retention.calls", calls, 7)
                    } else {
                        ("spec.retention.video", video, 28)
                    };
                    prop_assert!(error.to_string().starts_with(path), "{error}");
                    prop_assert!(value < 5 || value > most);
                    prop_assert_eq!(value < 5, matches!(error, CeilingError::TooShort { .. }));
                }
            }
        }
    }

    #[test]
    fn one_more_expiration_day_exceeds_the_ceiling() {
        let days = u64::from(lifecycle_expiration_days(Days(28)).unwrap()) + 1;
        assert!(bytes_gone(0, days, [0, 1]) > 28 * DAY_S);
    }

    #[test]
    fn expiration_days_of_the_protocol_ceilings() {
        assert_eq!(lifecycle_expiration_days(Days(28)), Some(24));
        assert_eq!(lifecycle_expiration_days(Days(7)), Some(3));
        assert_eq!(lifecycle_expiration_days(Days(5)), Some(1));
        assert_eq!(lifecycle_expiration_days(Days(4)), None);
    }
}
