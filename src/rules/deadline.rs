//! Next time at which the protocol requires something at a site.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::hold::expiry::{ceiling, whole_days};
use super::{Class, Windows, suspension};
use crate::api::{Ceilings, Deadline, DeadlineReason, Suspension};

/// What the times of a site follow from.
#[derive(Clone, Debug)]
pub struct SiteTimes<'a> {
    /// Start of the oldest recording of each class that no hold covers.
    pub oldest: [(Class, Option<Timestamp>); 2],
    pub ceilings: Option<&'a Ceilings>,
    /// Next time at which the ceilings change.
    pub ceilings_change: Option<Timestamp>,
    /// Periods in which the protocol permits recording.
    pub permitted: &'a Windows,
    /// Time at which another policy takes over.
    pub replaced_at: Option<Timestamp>,
    pub suspensions: &'a [Suspension],
}

/// Returns the next deadline after `now`, or `None`. A recording past its ceiling is none: the audit reports it.
pub fn next_deadline(times: &SiteTimes<'_>, now: Timestamp) -> Option<Deadline> {
    use DeadlineReason::{
        CeilingsChange, PolicyReplaced, RecordingBegins, RecordingEnds, RecordingExpires, SuspensionBegins,
        SuspensionEnds,
    };
    let expiries = times.oldest.iter().filter_map(|(class, oldest)| {
        let ceiling = whole_days(ceiling(*class, times.ceilings?));
        Some((oldest.as_ref()?.checked_add(ceiling).ok()?, RecordingExpires))
    });
    let permission = if times.permitted.contains(now) { RecordingEnds } else { RecordingBegins };
    let suspension = suspension::next_boundary(times.suspensions, now).map(|at| {
        let begins = times.suspensions.iter().any(|suspension| suspension.from.0 == at);
        (at, if begins { SuspensionBegins } else { SuspensionEnds })
    });
    let others = [
        times.permitted.next_change(now).map(|at| (at, permission)),
        times.replaced_at.map(|at| (at, PolicyReplaced)),
        suspension,
        times.ceilings_change.map(|at| (at, CeilingsChange)),
    ];
    let (time, reason) = expiries.chain(others.into_iter().flatten()).filter(|(at, _)| *at > now).min()?;
    Some(Deadline { time: Time(time), reason })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rules::PROTOCOL_CEILINGS;
    use crate::rules::window::tests::{any_windows, instant};

    fn suspension((from, until): (Timestamp, Timestamp)) -> Suspension {
        Suspension { reason: "Verkiezing".into(), from: Time(from), until: Time(until), cameras: Vec::new() }
    }

    #[test]
    fn oldest_recording_expires_at_its_ceiling() {
        let oldest: Timestamp = "2026-11-01T10:00:00Z".parse().unwrap();
        let times = SiteTimes {
            oldest: [(Class::Video, Some(oldest)), (Class::Calls, None)],
            ceilings: Some(&PROTOCOL_CEILINGS),
            ceilings_change: None,
            permitted: &Windows::empty(),
            replaced_at: Some("2026-12-01T00:00:00Z".parse().unwrap()),
            suspensions: &[],
        };
        let found = |now: &str| {
            next_deadline(&times, now.parse().unwrap()).map(|found| (found.time.0.to_string(), found.reason))
        };
        let expiry = Some(("2026-11-29T10:00:00Z".to_owned(), DeadlineReason::RecordingExpires));
        assert_eq!(found("2026-11-29T09:59:59Z"), expiry);
        let replaced = Some(("2026-12-01T00:00:00Z".to_owned(), DeadlineReason::PolicyReplaced));
        assert_eq!(found("2026-11-29T10:00:00Z"), replaced, "a recording past its ceiling is no deadline");
        assert_eq!(found("2026-12-01T00:00:00Z"), None);
    }

    proptest! {
        #[test]
        fn deadline_is_the_first_time_after_now(
            oldest in proptest::option::of(instant()), permitted in any_windows(),
            replaced_at in proptest::option::of(instant()), ceilings_change in proptest::option::of(instant()),
            suspensions in proptest::collection::vec((instant(), instant()), 0..4), now in instant(), later in instant(),
        ) {
            let permitted = Windows::union(permitted);
            let suspensions: Vec<Suspension> = suspensions.into_iter().map(suspension).collect();
            let ceilings = Ceilings { video: crate::api::Days(5), calls: crate::api::Days(5) };
            // Some days before, so that it expires within the other times.
            let oldest = oldest.map(|at| at - jiff::SignedDuration::from_hours(48 + 72));
            let times = SiteTimes {
                oldest: [(Class::Video, oldest), (Class::Calls, None)],
                ceilings: Some(&ceilings),
                ceilings_change,
                permitted: &permitted,
                replaced_at,
                suspensions: &suspensions,
            };
            let found = next_deadline(&times, now);
            let all = [oldest.map(|at| at + whole_days(ceilings.video)), replaced_at, ceilings_change, permitted.next_change(now)];
            let bounds = suspensions.iter().flat_map(|suspension| [suspension.from.0, suspension.until.0]);
            let expected = all.into_iter().flatten().chain(bounds).filter(|at| *at > now).min();
            prop_assert_eq!(found.as_ref().map(|found| found.time.0), expected);
            if later >= now && expected.is_none_or(|expected| later < expected) {
                prop_assert_eq!(next_deadline(&times, later), found, "time alone writes no status");
            }
        }
    }
}
