//! Scope of a hold (article 6) and tag of a covered recording (article 4.2).
//!
//! A recording is held if an open hold overlaps it in site, source and time. There are no counters, so any number of holds can
//! overlap, and a release changes nothing for the others.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::api::IncidentHoldSpec;
use crate::rules::{Class, Embargo, Recording, RetentionTag, Window};

/// Cameras of a hold. As JSON: their names; none for all cameras.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "BTreeSet<String>", into = "BTreeSet<String>")]
pub enum CameraSelector {
    /// All cameras, including deleted ones.
    #[default]
    All,
    Named(BTreeSet<String>),
}

impl CameraSelector {
    fn is_all(&self) -> bool {
        *self == Self::All
    }
}

impl From<BTreeSet<String>> for CameraSelector {
    fn from(names: BTreeSet<String>) -> Self {
        if names.is_empty() { Self::All } else { Self::Named(names) }
    }
}

impl From<CameraSelector> for BTreeSet<String> {
    fn from(cameras: CameraSelector) -> Self {
        match cameras {
            CameraSelector::All => Self::new(),
            CameraSelector::Named(names) => names,
        }
    }
}

/// Scope of a hold, as the ledger and the recorders' configuration have it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HoldScope {
    #[serde(default, skip_serializing_if = "CameraSelector::is_all")]
    pub cameras: CameraSelector,
    /// Includes recorded calls of every telephone.
    #[serde(default)]
    pub calls: bool,
    pub window: Window,
}

impl From<&IncidentHoldSpec> for HoldScope {
    fn from(spec: &IncidentHoldSpec) -> Self {
        Self {
            cameras: spec.cameras.iter().cloned().collect::<BTreeSet<_>>().into(),
            calls: spec.include_calls,
            window: Window::new(spec.window.from.0, spec.window.until.as_ref().map(|until| until.0)),
        }
    }
}

impl HoldScope {
    /// Returns whether the scope contains any part of `recording`. A recording that only touches an end of the window has no
    /// part in it.
    pub fn covers(&self, recording: &Recording<'_>) -> bool {
        self.includes_source(recording.class, recording.source) && overlaps(&self.window, recording)
    }

    /// Returns whether the scope contains the source, at any time.
    pub fn includes_source(&self, class: Class, source: &str) -> bool {
        match (class, &self.cameras) {
            (Class::Calls, _) => self.calls,
            (Class::Video, CameraSelector::All) => true,
            (Class::Video, CameraSelector::Named(names)) => names.contains(source),
        }
    }
}

fn overlaps(window: &Window, recording: &Recording<'_>) -> bool {
    let begins_before_the_end = window.until.is_none_or(|until| recording.start < until);
    // A recording without duration is the instant of its start.
    begins_before_the_end && (recording.end > window.from || recording.start >= window.from)
}

/// Returns the tag of a covered recording whose content ends at `end`. The tag changes from `sealed` to `held`, never back.
pub fn held_tag_for_end(end: Timestamp, embargo: Embargo, now: Timestamp) -> RetentionTag {
    if embargo.end_for(end) <= now { RetentionTag::Held } else { RetentionTag::Sealed }
}

#[cfg(test)]
pub(crate) mod tests {
    use jiff::SignedDuration;
    use proptest::prelude::*;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn required_tag<'a>(
        recording: &Recording<'_>,
        holds: impl IntoIterator<Item = &'a HoldScope>,
        embargo: Embargo,
        now: Timestamp,
    ) -> Option<RetentionTag> {
        let is_covered = holds.into_iter().any(|hold| hold.covers(recording));
        is_covered.then(|| held_tag_for_end(recording.end, embargo, now))
    }

    fn recording(source: &str, start: i64, duration: i64) -> Recording<'_> {
        Recording { class: Class::Video, source, start: at(start), end: at(start + duration) }
    }

    /// Returns the scope of a hold without calls on these cameras, or on all.
    pub(crate) fn video_scope(cameras: &[&str], window: Window) -> HoldScope {
        let names: BTreeSet<String> = cameras.iter().map(|name| (*name).to_owned()).collect();
        HoldScope { cameras: names.into(), calls: false, window }
    }

    fn scope(from: i64, until: Option<i64>) -> HoldScope {
        video_scope(&[], Window::new(at(from), until.map(at)))
    }

    prop_compose! {
        pub(crate) fn any_scope()(
            from in 0_i64..300_000,
            length in proptest::option::of(1_i64..200_000),
            names in proptest::option::of(proptest::collection::btree_set("[a-c]", 1..3)),
            calls: bool,
        ) -> HoldScope {
            let cameras = names.map_or(CameraSelector::All, CameraSelector::Named);
            HoldScope { cameras, calls, ..scope(from, length.map(|length| from + length)) }
        }
    }

    #[test]
    fn scope_excludes_segments_that_only_touch_the_window() {
        let hold = scope(100, Some(200));
        for (start, duration, is_covered) in [
            (40, 60, false),
            (40, 61, true),
            (199, 60, true),
            (200, 60, false),
            (100, 0, true),
            (200, 0, false),
            (0, 1000, true),
            // It ends after midnight, outside the window.
            (86_399, 60, false),
        ] {
            assert_eq!(hold.covers(&recording("a", start, duration)), is_covered, "{start}+{duration}");
        }
    }

    #[test]
    fn scope_ignores_daylight_saving_changes() {
        // This hour occurs twice in Amsterdam. Instants have no zone.
        let from: Timestamp = "2026-10-25T02:30:00+02:00".parse().unwrap();
        let until: Timestamp = "2026-10-25T02:30:00+01:00".parse().unwrap();
        let hold = HoldScope { window: Window::new(from, Some(until)), ..scope(0, None) };
        let start: Timestamp = "2026-10-25T02:59:30+02:00".parse().unwrap();
        let end = start + SignedDuration::from_secs(60);
        assert!(hold.covers(&Recording { class: Class::Video, source: "a", start, end }));
    }

    proptest! {
        #[test]
        fn scope_covers_recordings_that_share_an_instant(hold in any_scope(), source in "[a-d]", start in 0_i64..300_000, duration in 1_i64..90_000) {
            let it = recording(&source, start, duration);
            let until = hold.window.until.map_or(i64::MAX, Timestamp::as_second);
            let shared = start.max(hold.window.from.as_second()) < (start + duration).min(until);
            prop_assert_eq!(hold.covers(&it), shared && hold.includes_source(Class::Video, &source));
        }

        #[test]
        fn holds_combine_as_a_union(
            holds in proptest::collection::vec(any_scope(), 0..5), more in any_scope(),
            start in 0_i64..300_000, now in 0_i64..500_000, embargo in proptest::option::of(0_i64..10_000),
        ) {
            let it = recording("a", start, 60);
            let embargo = embargo.map_or(Embargo::LiveView, |age| Embargo::After(SignedDuration::from_secs(age)));
            let before = required_tag(&it, &holds, embargo, at(now));
            prop_assert_eq!(before.is_some(), holds.iter().any(|hold| hold.covers(&it)));
            let after = required_tag(&it, holds.iter().chain([&more]), embargo, at(now));
            prop_assert!(after >= before);
            // If one hold is released, the others still decide.
            let rest = required_tag(&it, holds.iter().skip(1), embargo, at(now));
            prop_assert!(rest <= before);
        }

        #[test]
        fn recordings_stay_sealed_until_the_embargo_ends(start in 0_i64..300_000, now in 0_i64..500_000, embargo in 0_i64..10_000) {
            let it = recording("a", start, 60);
            let tag = required_tag(&it, [&scope(0, None)], Embargo::After(SignedDuration::from_secs(embargo)), at(now));
            let is_old = now >= start + 60 + embargo;
            prop_assert_eq!(tag, Some(if is_old { RetentionTag::Held } else { RetentionTag::Sealed }));
            prop_assert_eq!(required_tag(&it, [&scope(0, None)], Embargo::LiveView, at(now)), Some(RetentionTag::Held));
        }
    }
}
