//! Coverage of a hold's window by recordings. Pure; in time order within a source.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::memory_budget::VersionSet;
use crate::rules::{CameraSelector, Class, HoldScope, Recording, Window};
use crate::storage::recordings::{HoldError, PassErrors, SourceDay};

/// Gaps that are reported of one source.
pub(crate) const MAX_GAPS: usize = 10;
/// Longest segment and its upload: a younger gap may still be filled.
pub(crate) const MAX_UPLOAD_DELAY: SignedDuration = SignedDuration::from_mins(12);
/// Longest pause between segments that is no gap.
pub(crate) const GAP_TOLERANCE: SignedDuration = SignedDuration::from_secs(2);

/// Known coverage of a window by one source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceTimeline {
    /// Number of covered versions.
    pub segments: u64,
    /// Recorded time up to `known_until`.
    recorded: SignedDuration,
    /// Time without recordings that no upload can fill any more.
    pub missing: SignedDuration,
    pub gaps: Vec<Window>,
    /// Time up to which the window is either recorded or missing.
    known_until: Option<Timestamp>,
    /// A gap that may still be filled follows `known_until`.
    has_open_gap: bool,
}

/// Coverage of a hold by source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coverage {
    window: Window,
    /// End of the elapsed part of the window: its end, or now.
    elapsed_until: Timestamp,
    /// Time before which recordings have arrived or never will.
    arrived_until: Timestamp,
    pub sources: BTreeMap<(Class, String), SourceTimeline>,
    pub segments: u64,
    pub bytes: u64,
    /// Number of versions under embargo.
    pub sealed: u64,
    /// Covered versions whose protection the store rejected, failed at, or did not return. They exist, but their
    /// protection is unknown.
    pub errors: Option<PassErrors>,
    /// Number of versions that failed the read-back.
    pub unconfirmed: u64,
    /// Source days with unlisted keys: a version that is not listed there may still exist.
    pub(crate) incomplete_listings: BTreeSet<SourceDay>,
    /// All listed versions, including those with errors.
    pub present: VersionSet,
    pub(crate) days: BTreeSet<SourceDay>,
}

impl Coverage {
    /// Returns the empty coverage of the elapsed window of `cover`.
    ///
    /// Contains every named source, even without recordings. A scope over all cameras contains each of `cameras` that
    /// was declared before the window ended.
    pub fn new(cover: &HoldScope, cameras: &BTreeMap<String, Timestamp>, now: Timestamp) -> Self {
        let Window { from, until } = cover.window;
        let come = until.unwrap_or(now).min(now).max(from);
        let arrived = now.saturating_sub(MAX_UPLOAD_DELAY).unwrap_or(Timestamp::MIN);
        let arrived = arrived.clamp(from, come);
        let named = match &cover.cameras {
            CameraSelector::All => {
                let ended = until.unwrap_or(Timestamp::MAX);
                let there = cameras.iter().filter(|(_, declared)| **declared < ended);
                there.map(|(name, _)| name).collect::<Vec<_>>()
            }
            CameraSelector::Named(names) => names.iter().collect(),
        };
        let named = named.into_iter().map(|name| ((Class::Video, name.clone()), SourceTimeline::default()));
        Self {
            window: cover.window,
            elapsed_until: come,
            arrived_until: arrived,
            sources: named.collect(),
            segments: 0,
            bytes: 0,
            sealed: 0,
            errors: None,
            unconfirmed: 0,
            incomplete_listings: BTreeSet::new(),
            present: VersionSet::default(),
            days: BTreeSet::new(),
        }
    }

    /// Returns the time up to which the recordings of the cameras selected by `is_told` are known. The start of the
    /// window: none of it is.
    pub fn known_until(&self, is_told: impl Fn(&str, &SourceTimeline) -> bool) -> Timestamp {
        let told = self
            .sources
            .iter()
            .filter(|((class, name), covered)| *class == Class::Video && is_told(name, covered));
        let known = told.map(|(_, source)| source.known_until.unwrap_or(self.window.from));
        known.min().unwrap_or(self.arrived_until).max(self.arrived_until)
    }

    /// Returns whether `known_until` reaches the end of the window, if that has passed.
    pub fn is_known(&self, known_until: Timestamp, now: Timestamp) -> bool {
        let ended = self.window.until.filter(|until| *until <= now);
        known_until > self.window.from && ended.is_none_or(|until| until <= known_until)
    }

    /// Adds a covered recording. Those of one source come in order of their start.
    pub fn add(&mut self, recording: &Recording<'_>, bytes: u64, is_sealed: bool) {
        self.segments += 1;
        self.sealed += u64::from(is_sealed);
        self.bytes += bytes;
        self.extend(recording);
    }

    /// Adds a covered recording that could not be protected, in the same order.
    pub fn add_failed(&mut self, recording: &Recording<'_>, error: &HoldError) {
        PassErrors::add_to(&mut self.errors, error);
        self.extend(recording);
    }

    /// Returns whether a manifest of these versions is complete and lists only protected ones.
    pub fn is_complete(&self) -> bool {
        let is_rejected = self.errors.as_ref().is_some_and(PassErrors::has_versions);
        !is_rejected
            && !self.present.is_over_budget()
            && self.incomplete_listings.is_empty()
            && self.unconfirmed == 0
    }

    fn extend(&mut self, recording: &Recording<'_>) {
        let (from, come) = (self.window.from, self.elapsed_until);
        let (start, stop) = (recording.start.clamp(from, come), recording.end.clamp(from, come));
        let name = (recording.class, recording.source.to_owned());
        let source = self.sources.entry(name).or_default();
        source.segments += 1;
        let reached = source.known_until.unwrap_or(from);
        // Calls have no gaps: an unused telephone records nothing.
        if recording.class == Class::Video {
            source.has_open_gap |=
                start > self.arrived_until && start.duration_since(reached) > GAP_TOLERANCE;
            // An upload may still fill the gap. A later segment must not move `known_until` across it.
            if source.has_open_gap {
                return;
            }
            source.add_gap(reached, start);
        }
        source.recorded += stop.duration_since(start.max(reached)).max(SignedDuration::ZERO);
        source.known_until = Some(reached.max(stop));
    }

    /// Adds the gap at the end, after the last recording.
    #[must_use]
    pub fn finish(mut self) -> Self {
        for ((class, _), source) in &mut self.sources {
            if *class == Class::Video {
                source.add_gap(source.known_until.unwrap_or(self.window.from), self.arrived_until);
            }
        }
        self
    }
}

impl SourceTimeline {
    /// Returns the recorded time up to an instant at which it is known.
    pub fn recorded_until(&self, known_until: Timestamp) -> SignedDuration {
        // Later recordings followed without a gap.
        let later = self.known_until.map(|reached| reached.duration_since(known_until));
        self.recorded - later.unwrap_or_default().max(SignedDuration::ZERO)
    }

    fn add_gap(&mut self, from: Timestamp, until: Timestamp) {
        let length = until.duration_since(from);
        if length <= GAP_TOLERANCE {
            // Too short to report. Counted as recorded, so that a window without gaps reaches 100%.
            self.recorded += length.max(SignedDuration::ZERO);
            return;
        }
        self.missing += length;
        if self.gaps.len() < MAX_GAPS {
            self.gaps.push(Window::new(from, Some(until)));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rules::hold::scope::tests::video_scope;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn cover(from: i64, until: Option<i64>, names: &[&str]) -> HoldScope {
        video_scope(names, Window::new(at(from), until.map(at)))
    }

    fn recording(source: &str, start: i64, end: i64) -> Recording<'_> {
        Recording { class: Class::Video, source, start: at(start), end: at(end) }
    }

    fn recorded(covered: &SourceTimeline) -> i64 {
        covered.recorded_until(Timestamp::MAX).as_secs()
    }

    #[test]
    fn coverage_reports_gaps() {
        let mut coverage = Coverage::new(&cover(100, Some(400), &["a", "b"]), &BTreeMap::new(), at(10_000));
        for (start, end) in [(80, 140), (140, 200), (201, 260), (300, 360)] {
            coverage.add(&recording("a", start, end), 7, false);
        }
        let coverage = coverage.finish();
        assert_eq!((coverage.segments, coverage.bytes), (4, 28));
        let a = &coverage.sources[&(Class::Video, "a".to_owned())];
        assert_eq!(a.gaps, [Window::new(at(260), Some(at(300))), Window::new(at(360), Some(at(400)))]);
        assert_eq!((recorded(a), a.missing.as_secs()), (220, 80));
        // All of the window is missing of a named camera without recordings.
        let b = &coverage.sources[&(Class::Video, "b".to_owned())];
        assert_eq!((recorded(b), b.missing.as_secs()), (0, 300));
    }

    #[test]
    fn segments_under_upload_are_not_missing() {
        let mut coverage =
            Coverage::new(&cover(100, None, &[]), &BTreeMap::new(), at(200) + MAX_UPLOAD_DELAY);
        coverage.add(&recording("a", 100, 199), 1, true);
        let coverage = coverage.finish();
        assert!(coverage.sources[&(Class::Video, "a".to_owned())].gaps.is_empty());
    }

    #[test]
    fn calls_have_no_gaps() {
        let mut coverage = Coverage::new(&cover(100, Some(400), &[]), &BTreeMap::new(), at(10_000));
        for (start, end) in [(120, 140), (300, 360)] {
            let call = Recording { class: Class::Calls, ..recording("balie", start, end) };
            coverage.add(&call, 1, false);
        }
        let coverage = coverage.finish();
        let calls = &coverage.sources[&(Class::Calls, "balie".to_owned())];
        assert_eq!((recorded(calls), calls.missing.as_secs()), (80, 0));
    }

    /// Evaluates a window of 90 s from second 910, so many seconds after its end. Returns the known time, whether it is
    /// complete, and the segments and seconds recorded and missing of each camera.
    fn coverage_after(seconds: i64, recordings: &[(&str, i64, i64)]) -> (i64, bool, Vec<(u64, i64, i64)>) {
        let now = at(1_000 + seconds);
        let mut coverage = Coverage::new(&cover(910, Some(1_000), &["hal", "trap"]), &BTreeMap::new(), now);
        for (source, start, end) in recordings {
            coverage.add(&recording(source, *start, *end), 3, false);
        }
        let coverage = coverage.finish();
        let known = coverage.known_until(|_, _| true);
        let told = coverage.sources.values();
        let told = told.map(|it| (it.segments, it.recorded_until(known).as_secs(), it.missing.as_secs()));
        (known.as_second(), coverage.is_known(known, now), told.collect())
    }

    #[test]
    fn coverage_is_known_after_last_segment_or_upload_delay() {
        let whole = [("hal", 900, 960), ("hal", 960, 1_020), ("trap", 905, 961), ("trap", 962, 1_001)];
        assert_eq!(coverage_after(20, &whole), (1_000, true, vec![(2, 90, 0), (2, 90, 0)]));
        // The last segment of one camera is still being uploaded: the window has ended and is not known.
        assert_eq!(coverage_after(20, &whole[..3]), (961, false, vec![(2, 51, 0), (1, 51, 0)]));
        // A segment after a hole does not show whether the hole will be filled.
        let hole = [whole[0], whole[1], ("trap", 970, 1_001)];
        assert_eq!(coverage_after(20, &hole), (910, false, vec![(2, 0, 0), (1, 0, 0)]));

        let late = MAX_UPLOAD_DELAY.as_secs();
        assert_eq!(coverage_after(late, &whole[..3]), (1_000, true, vec![(2, 90, 0), (1, 51, 39)]));
        assert_eq!(coverage_after(late - 50, &[]), (950, false, vec![(0, 0, 40), (0, 0, 40)]));
        assert_eq!(coverage_after(1, &[]), (910, false, vec![(0, 0, 0), (0, 0, 0)]));
    }

    #[test]
    fn open_window_is_known_until_last_recording() {
        let now = at(5_000);
        let mut coverage = Coverage::new(&cover(4_940, None, &["gang", "typo"]), &BTreeMap::new(), now);
        coverage.add(&recording("gang", 4_930, 4_990), 1, true);
        // By a clock that is ahead.
        coverage.add(&recording("gang", 4_990, 5_050), 1, true);
        let coverage = coverage.finish();
        let known = coverage.known_until(|name, _| name == "gang");
        assert_eq!((known, coverage.is_known(known, now)), (now, true));
        let known = coverage.known_until(|_, _| true);
        assert_eq!((known, coverage.is_known(known, now)), (at(4_940), false));
    }

    proptest! {
        #[test]
        fn recorded_plus_missing_equals_known_time(
            mut parts in proptest::collection::vec((0_i64..900, 1_i64..90), 0..24), length in 1_i64..700, age in 0_i64..1_500,
        ) {
            parts.sort_unstable();
            let cover = cover(50, Some(50 + length), &["a", "b"]);
            let mut coverage = Coverage::new(&cover, &BTreeMap::new(), at(50 + age));
            for (number, (start, duration)) in parts.into_iter().enumerate() {
                let it = recording(if number % 3 == 0 { "b" } else { "a" }, start, start + duration);
                if cover.covers(&it) {
                    coverage.add(&it, 1, false);
                }
            }
            let coverage = coverage.finish();
            let known_until = coverage.known_until(|_, _| true);
            let known = known_until.as_second() - 50;
            for source in coverage.sources.values() {
                let recorded = source.recorded_until(known_until);
                prop_assert_eq!((recorded + source.missing).as_secs(), known);
                prop_assert!(recorded >= SignedDuration::ZERO);
            }
            // At the latest when the open gap can no longer be filled, and never in the future.
            prop_assert!(known >= (age - MAX_UPLOAD_DELAY.as_secs()).clamp(0, length), "{}", known);
            prop_assert!(known <= age.clamp(0, length), "{}", known);
        }

        #[test]
        fn recorded_plus_missing_equals_window(mut parts in proptest::collection::vec((0_i64..500, 1_i64..60), 0..20), length in 1_i64..400) {
            parts.sort_unstable();
            let mut coverage = Coverage::new(&cover(50, Some(50 + length), &["a"]), &BTreeMap::new(), at(10_000));
            for (start, duration) in parts {
                let it = recording("a", start, start + duration);
                if cover(50, Some(50 + length), &["a"]).covers(&it) {
                    coverage.add(&it, 1, false);
                }
            }
            let coverage = coverage.finish();
            let a = &coverage.sources[&(Class::Video, "a".to_owned())];
            prop_assert_eq!(recorded(a) + a.missing.as_secs(), length);
        }
    }

    #[test]
    fn hold_over_all_cameras_expects_cameras_declared_before_window_end() {
        let declared = [("old", 50), ("in time", 399), ("late", 400)];
        let declared = declared.map(|(name, second)| (name.to_owned(), at(second))).into();
        let mut coverage = Coverage::new(&cover(100, Some(400), &[]), &declared, at(10_000));
        coverage.add(&recording("gone", 100, 400), 1, false);
        let coverage = coverage.finish();
        let told: Vec<_> =
            coverage.sources.iter().map(|((_, name), it)| (name.as_str(), it.missing.as_secs())).collect();
        assert_eq!(told, [("gone", 0), ("in time", 300), ("old", 300)]);
    }
}
