//! What an open hold covers (article 6), and what a covered recording must be marked with (article 4.2).
//!
//! `held = there is an open hold that overlaps in site, source and time`: no counters, so that any number of
//! holds may overlap, and releasing one changes nothing for the others.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::rules::Window;
use crate::rules::live_view::Embargo;
use crate::rules::recording::{Class, Recording};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HoldScopeConfig {
    /// Names of cameras; empty: all.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub cameras: BTreeSet<String>,
    #[serde(default)]
    pub calls: bool,
    pub window: Window,
}

impl HoldScopeConfig {
    /// As the protocol's rules take it.
    pub fn scope(&self) -> HoldScope {
        HoldScope {
            cameras: if self.cameras.is_empty() {
                CameraSelector::All
            } else {
                CameraSelector::Named(self.cameras.clone())
            },
            calls: self.calls,
            window: self.window,
        }
    }
}

/// Which of a site's sources a hold is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CameraSelector {
    /// All cameras, those included that are no longer there.
    All,
    Named(BTreeSet<String>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoldScope {
    pub cameras: CameraSelector,
    /// Whether recorded calls too, of any telephone.
    pub calls: bool,
    /// When; without an end, what is still to come is covered too.
    pub window: Window,
}

impl HoldScope {
    /// Whether anything of `recording` is in it. A recording that merely touches an end of the window is not,
    /// as nothing of it lies within.
    pub fn covers(&self, recording: &Recording<'_>) -> bool {
        self.includes_source(recording.class, recording.source) && overlaps(&self.window, recording)
    }

    /// Whether it is about what this source records, whenever.
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

/// What a recording that a hold covers is marked with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HeldTag {
    /// Kept, and readable by nobody: it is too young where there is no live viewing.
    Sealed,
    /// Kept, and readable by those who may.
    Held,
}

/// What `recording` must be marked with at `now`, given the open holds of its site; `None`: no hold covers
/// it.
///
/// The answer for one recording goes from `None` to `Sealed` to `Held` with time and holds, and back to `None`
/// only when the last hold that covers it is resolved.
pub fn required_tag<'a>(
    recording: &Recording<'_>,
    holds: impl IntoIterator<Item = &'a HoldScope>,
    embargo: Embargo,
    now: Timestamp,
) -> Option<HeldTag> {
    let is_covered = holds.into_iter().any(|hold| hold.covers(recording));
    is_covered.then(|| held_tag_for_end(recording.end, embargo, now))
}

/// What a recording that is covered must be marked with at `now`, if what it shows ends at `end`.
pub fn held_tag_for_end(end: Timestamp, embargo: Embargo, now: Timestamp) -> HeldTag {
    if embargo.end_for(end) <= now { HeldTag::Held } else { HeldTag::Sealed }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use proptest::prelude::*;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn recording(source: &str, start: i64, duration: i64) -> Recording<'_> {
        Recording { class: Class::Video, source, start: at(start), end: at(start + duration) }
    }

    fn scope(from: i64, until: Option<i64>) -> HoldScope {
        HoldScope { cameras: CameraSelector::All, calls: false, window: Window::new(at(from), until.map(at)) }
    }

    prop_compose! {
        fn any_scope()(
            from in 0_i64..300_000,
            length in proptest::option::of(1_i64..200_000),
            names in proptest::option::of(proptest::collection::btree_set("[a-c]", 1..3)),
            calls: bool,
        ) -> HoldScope {
            let sources = names.map_or(CameraSelector::All, CameraSelector::Named);
            HoldScope { cameras: sources, calls, ..scope(from, length.map(|length| from + length)) }
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
            // Across a midnight and into the window.
            (86_399, 60, false),
        ] {
            assert_eq!(hold.covers(&recording("a", start, duration)), is_covered, "{start}+{duration}");
        }
    }

    #[test]
    fn scope_ignores_daylight_saving_changes() {
        // The hour that Amsterdam has twice: instants know no zone.
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
            // Whichever hold is taken away, those that stay decide.
            let rest = required_tag(&it, holds.iter().skip(1), embargo, at(now));
            prop_assert!(rest <= before);
        }

        #[test]
        fn recordings_stay_sealed_until_the_embargo_ends(start in 0_i64..300_000, now in 0_i64..500_000, embargo in 0_i64..10_000) {
            let it = recording("a", start, 60);
            let tag = required_tag(&it, [&scope(0, None)], Embargo::After(SignedDuration::from_secs(embargo)), at(now));
            let is_old = now >= start + 60 + embargo;
            prop_assert_eq!(tag, Some(if is_old { HeldTag::Held } else { HeldTag::Sealed }));
            prop_assert_eq!(required_tag(&it, [&scope(0, None)], Embargo::LiveView, at(now)), Some(HeldTag::Held));
        }
    }
}
