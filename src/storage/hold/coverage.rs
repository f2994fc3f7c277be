//! How much of a hold's window there are recordings of: pure, in time order within a source.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use jiff::{SignedDuration, Timestamp};

use super::memory::Fingerprint;
use super::{HoldError, Place, Refused};
use crate::protocol::Window;
use crate::protocol::cover::{Cover, Sources};
use crate::protocol::recording::{Class, Recording};

/// Stretches without recordings that are told of one source.
pub(crate) const TOLD: usize = 10;
/// The longest segment, and its upload.
pub(crate) const ON_ITS_WAY: SignedDuration = SignedDuration::from_mins(12);
/// Segments follow each other within this; a longer stretch is a gap.
const SEAM: SignedDuration = SignedDuration::from_secs(2);

/// What one source has of a window.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Covered {
    /// Time of which there are recordings.
    pub recorded: SignedDuration,
    /// Time of which there are none.
    pub missing: SignedDuration,
    /// How many stretches without recordings there are.
    pub gap_count: u64,
    /// The first of them.
    pub gaps: Vec<Window>,
    reached: Option<Timestamp>,
}

/// What there is of a hold, by source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coverage {
    window: Window,
    /// Until when the window has come: its end, or now.
    until: Timestamp,
    /// By class and source.
    pub sources: BTreeMap<(Class, String), Covered>,
    /// Versions that the hold covers.
    pub segments: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How many of them may not be read yet.
    pub sealed: u64,
    /// Versions that it covers too, and to which the store refused a mark, or to tell it: they are there, but whether they
    /// are kept is not known.
    pub refused: Option<Refused>,
    /// Those that were not as they must be when they were read back.
    pub disputed: u64,
    /// All that were listed, the refused among them.
    pub present: HashSet<Fingerprint>,
    /// Where they are.
    pub(super) places: BTreeSet<Place>,
}

impl Coverage {
    /// Of the window of `cover` as far as it has come. Every source that is named is in it, be there nothing of it; where all
    /// are meant, each of `cameras` that there was, by when it was declared, before the window ended.
    pub fn of(cover: &Cover, cameras: &BTreeMap<String, Timestamp>, now: Timestamp) -> Self {
        // What was recorded in the last minutes is still on its way.
        let arrived = now
            .saturating_sub(ON_ITS_WAY)
            .unwrap_or(Timestamp::MIN)
            .max(cover.window.from);
        let named = match &cover.sources {
            Sources::All => {
                let ended = cover.window.until.unwrap_or(Timestamp::MAX);
                let there = cameras.iter().filter(|(_, declared)| **declared < ended);
                there.map(|(name, _)| name).collect::<Vec<_>>()
            }
            Sources::Named(names) => names.iter().collect(),
        };
        let named = named
            .into_iter()
            .map(|name| ((Class::Video, name.clone()), Covered::default()));
        Self {
            window: cover.window,
            until: cover.window.until.unwrap_or(Timestamp::MAX).min(arrived),
            sources: named.collect(),
            segments: 0,
            bytes: 0,
            sealed: 0,
            refused: None,
            disputed: 0,
            present: HashSet::new(),
            places: BTreeSet::new(),
        }
    }

    /// Counts a recording that the hold covers. Those of one source come in the order of their start.
    pub fn add(&mut self, recording: &Recording<'_>, bytes: u64, is_sealed: bool) {
        self.segments += 1;
        self.sealed += u64::from(is_sealed);
        self.bytes += bytes;
        self.extend(recording);
    }

    /// Counts a recording that the hold covers and that the store refused to hold, in the same order.
    pub fn add_refused(&mut self, recording: &Recording<'_>, error: &HoldError) {
        Refused::note(&mut self.refused, error);
        self.extend(recording);
    }

    fn extend(&mut self, recording: &Recording<'_>) {
        let (window, until) = (self.window, self.until);
        let source = self
            .sources
            .entry((recording.class, recording.source.to_owned()))
            .or_default();
        let start = recording.start.clamp(window.from, until.max(window.from));
        let end = recording.end.clamp(window.from, until.max(window.from));
        let reached = source.reached.unwrap_or(window.from);
        // Nobody can tell how long a telephone was not used.
        if recording.class == Class::Video {
            source.gap(reached, start);
        }
        let new = end.duration_since(start.max(reached));
        if new > SignedDuration::ZERO {
            source.recorded += new;
        }
        source.reached = Some(reached.max(end));
    }

    /// When the last has been counted: what is missing at the end.
    #[must_use]
    pub fn finish(mut self) -> Self {
        for ((class, _), source) in &mut self.sources {
            if *class == Class::Video {
                source.gap(source.reached.unwrap_or(self.window.from), self.until);
            }
        }
        self
    }
}

impl Covered {
    fn gap(&mut self, from: Timestamp, until: Timestamp) {
        let length = until.duration_since(from);
        if length <= SEAM {
            // Too short to tell of; it counts as recorded, so that a whole window is a whole.
            self.recorded += length.max(SignedDuration::ZERO);
            return;
        }
        self.missing += length;
        self.gap_count += 1;
        if self.gaps.len() < TOLD {
            self.gaps.push(Window::new(from, Some(until)));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn cover(from: i64, until: Option<i64>, names: &[&str]) -> Cover {
        let cameras = names.iter().map(|name| (*name).to_owned()).collect();
        Cover {
            sources: if names.is_empty() {
                Sources::All
            } else {
                Sources::Named(cameras)
            },
            calls: false,
            window: Window::new(at(from), until.map(at)),
        }
    }

    fn recording(source: &str, start: i64, end: i64) -> Recording<'_> {
        Recording {
            class: Class::Video,
            source,
            start: at(start),
            end: at(end),
        }
    }

    #[test]
    fn what_is_missing_is_told() {
        let mut coverage = Coverage::of(&cover(100, Some(400), &["a", "b"]), &BTreeMap::new(), at(10_000));
        for (start, end) in [(80, 140), (140, 200), (201, 260), (300, 360)] {
            coverage.add(&recording("a", start, end), 7, false);
        }
        let coverage = coverage.finish();
        assert_eq!((coverage.segments, coverage.bytes), (4, 28));
        let a = &coverage.sources[&(Class::Video, "a".to_owned())];
        assert_eq!(
            a.gaps,
            [
                Window::new(at(260), Some(at(300))),
                Window::new(at(360), Some(at(400)))
            ]
        );
        assert_eq!((a.recorded.as_secs(), a.missing.as_secs()), (220, 80));
        // Of a camera that was named and recorded nothing, all is missing.
        let b = &coverage.sources[&(Class::Video, "b".to_owned())];
        assert_eq!((b.recorded.as_secs(), b.missing.as_secs()), (0, 300));
    }

    #[test]
    fn what_is_still_to_come_is_not_missing() {
        let mut coverage = Coverage::of(&cover(100, None, &[]), &BTreeMap::new(), at(200) + ON_ITS_WAY);
        coverage.add(&recording("a", 100, 199), 1, true);
        let coverage = coverage.finish();
        assert_eq!(coverage.sources[&(Class::Video, "a".to_owned())].gap_count, 0);
    }

    #[test]
    fn a_telephone_that_was_not_used_misses_nothing() {
        let mut coverage = Coverage::of(&cover(100, Some(400), &[]), &BTreeMap::new(), at(10_000));
        for (start, end) in [(120, 140), (300, 360)] {
            let call = Recording {
                class: Class::Calls,
                ..recording("balie", start, end)
            };
            coverage.add(&call, 1, false);
        }
        let coverage = coverage.finish();
        let calls = &coverage.sources[&(Class::Calls, "balie".to_owned())];
        assert_eq!((calls.recorded.as_secs(), calls.missing.as_secs()), (80, 0));
    }

    proptest! {
        #[test]
        fn recorded_and_missing_are_the_window(mut parts in proptest::collection::vec((0_i64..500, 1_i64..60), 0..20), length in 1_i64..400) {
            parts.sort_unstable();
            let mut coverage = Coverage::of(&cover(50, Some(50 + length), &["a"]), &BTreeMap::new(), at(10_000));
            for (start, duration) in parts {
                let it = recording("a", start, start + duration);
                if cover(50, Some(50 + length), &["a"]).covers(&it) {
                    coverage.add(&it, 1, false);
                }
            }
            let coverage = coverage.finish();
            let a = &coverage.sources[&(Class::Video, "a".to_owned())];
            prop_assert_eq!((a.recorded + a.missing).as_secs(), length);
        }
    }

    #[test]
    fn a_hold_over_all_cameras_misses_those_that_there_were() {
        let declared = [("old", 50), ("in time", 399), ("late", 400)];
        let declared = declared
            .map(|(name, second)| (name.to_owned(), at(second)))
            .into();
        let mut coverage = Coverage::of(&cover(100, Some(400), &[]), &declared, at(10_000));
        coverage.add(&recording("gone", 100, 400), 1, false);
        let coverage = coverage.finish();
        let told: Vec<_> = coverage
            .sources
            .iter()
            .map(|((_, name), it)| (name.as_str(), it.missing.as_secs()))
            .collect();
        assert_eq!(told, [("gone", 0), ("in time", 300), ("old", 300)]);
    }
}
