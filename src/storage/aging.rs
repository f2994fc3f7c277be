//! How old a stored version is, what holds it, and what is due: pure. Decided by the key and the open holds, never by a
//! tag: tags can be written by others.

use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp, ToSpan};

use super::key::{Key, MAX_DURATION_MS};
use super::listing::Listed;
use super::tag::RetentionTag;
use super::walk::{Days, day_of};
use crate::api::{Ceilings, Days as Ceiling};
use crate::protocol::Window;
use crate::protocol::cover::{Cover, Marking, marking_of};
use crate::protocol::recording::{Class, Recording};

/// By how much a recording may seem to end after the store took it: clocks differ, and stores tell whole seconds.
const AHEAD: SignedDuration = SignedDuration::from_secs(60);
/// For so long a sweep may have been away, or the store busy, and what was due is looked for all the same.
const LEFT_OVER: SignedDuration = SignedDuration::from_hours(24 * 7);
/// What an implausible key is offered to: holds that overlap the day before the store took it.
const MAY_BE_OF: SignedDuration = SignedDuration::from_hours(24);

/// The ceiling of a class.
pub(crate) const fn ceiling(class: Class, ceilings: &Ceilings) -> Ceiling {
    match class {
        Class::Video => ceilings.video,
        Class::Calls => ceilings.calls,
    }
}

/// So many whole days as time.
pub(crate) fn span(days: Ceiling) -> SignedDuration {
    SignedDuration::from_hours(24_i64.saturating_mul(i64::from(days.0)))
}

/// What open holds cover, by where they are known from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Open {
    /// Those of the bucket's ledger.
    pub ledger: Vec<Cover>,
    /// Those that are declared to the API server; the ledger may not have them yet.
    pub declared: Vec<Cover>,
}

/// Where the hold is known from that keeps something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeptBy {
    /// The ledger: it stays there until it is released itself.
    Ledger,
    /// The API server alone: it may be gone the next moment, and then nothing would tell why something is held.
    Declared,
}

/// A recording in a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored<'a> {
    pub(crate) key: Key,
    pub(crate) listed: &'a Listed,
    ceiling: SignedDuration,
}

impl<'a> Stored<'a> {
    /// `None`: the key is not one of a recording.
    pub fn of(listed: &'a Listed, ceilings: &Ceilings) -> Option<Self> {
        let key: Key = listed.key.parse().ok()?;
        let ceiling = span(ceiling(key.class(), ceilings));
        Some(Self { key, listed, ceiling })
    }

    /// Whether the key's time can be true: the store took it after it ended, and while it could still be in a spool,
    /// which purges what is past the ceiling. A marker says nothing of that.
    pub(crate) fn is_plausible(&self) -> bool {
        let modified = self.listed.modified;
        self.listed.is_marker
            || self.key.end().duration_since(modified) <= AHEAD
                && modified.duration_since(self.key.start()) <= self.ceiling + AHEAD
    }

    /// From when its ceiling counts.
    pub(crate) fn counts_from(&self) -> Timestamp {
        if self.is_plausible() { self.key.start() } else { self.listed.modified }
    }

    /// The first instant at which it is over its ceiling (article 6). What has an implausible key counts from when
    /// the store took it.
    pub fn due_at(&self) -> Timestamp {
        self.counts_from().saturating_add(self.ceiling).unwrap_or(Timestamp::MAX)
    }

    /// The same by its key alone, for what was held: some stores move the time of a version when its legal hold changes.
    pub fn due_by_key(&self) -> Timestamp {
        self.key.start().saturating_add(self.ceiling).unwrap_or(Timestamp::MAX)
    }

    /// Whether one of `holds` covers it by its key alone.
    pub fn is_covered_by_key(&self, holds: &[Cover]) -> bool {
        let said = self.key.recording();
        holds.iter().any(|hold| hold.covers(&said))
    }

    /// Whether an open hold covers it. A key that cannot be true is offered to holds by when the store took it, too.
    pub fn is_covered(&self, holds: &[Cover]) -> bool {
        // Nearly all keys are plausible, and there may be many holds.
        if self.is_plausible() {
            return self.is_covered_by_key(holds);
        }
        let said = self.key.recording();
        let modified = self.listed.modified;
        let may_be = Recording {
            start: modified.saturating_sub(MAY_BE_OF).unwrap_or(Timestamp::MIN),
            end: modified.saturating_add(AHEAD).unwrap_or(Timestamp::MAX),
            ..said
        };
        let is_it = |hold: &Cover| hold.covers(&said) || hold.covers(&may_be);
        holds.iter().any(is_it)
    }

    /// Which open hold keeps it; `None`: none does.
    pub fn kept_by(&self, open: &Open) -> Option<KeptBy> {
        if self.is_covered(&open.ledger) {
            Some(KeptBy::Ledger)
        } else {
            self.is_covered(&open.declared).then_some(KeptBy::Declared)
        }
    }

    /// Which open hold keeps it by its key alone; `None`: none does.
    pub fn kept_by_key(&self, open: &Open) -> Option<KeptBy> {
        if self.is_covered_by_key(&open.ledger) {
            Some(KeptBy::Ledger)
        } else {
            self.is_covered_by_key(&open.declared).then_some(KeptBy::Declared)
        }
    }

    /// The tag that it must have for these open holds at `now`; `None`: none covers it. What has a key that cannot be
    /// true may show what happened just before the store took it (article 4.2).
    pub fn held_tag(
        &self,
        holds: &[Cover],
        embargo: Option<SignedDuration>,
        now: Timestamp,
    ) -> Option<RetentionTag> {
        self.is_covered(holds).then(|| self.tag_if_held(embargo, now))
    }

    /// The tag that it must have at `now` where a hold covers it.
    pub(crate) fn tag_if_held(&self, embargo: Option<SignedDuration>, now: Timestamp) -> RetentionTag {
        match marking_of(self.shown_until(), embargo, now) {
            Marking::Held => RetentionTag::Held,
            Marking::Sealed => RetentionTag::Sealed,
        }
    }

    /// Until when what it shows may reach.
    fn shown_until(&self) -> Timestamp {
        if self.is_plausible() { self.key.end() } else { self.listed.modified }
    }

    /// When it may be read, where nothing younger than `embargo` may.
    pub(crate) fn opens_at(&self, embargo: SignedDuration) -> Timestamp {
        self.shown_until().saturating_add(embargo).unwrap_or(Timestamp::MAX)
    }

    /// How long after its end the store took it; negative where it seems to have been before.
    pub(crate) fn upload_delay(&self) -> SignedDuration {
        self.listed.modified.duration_since(self.key.end())
    }
}

/// What the sweep is to do about a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fate {
    /// It is not over its ceiling, or no recording: it stays.
    Stays,
    /// It is over its ceiling, and an open hold covers it: it stays.
    Held,
    /// It is over its ceiling, and nothing keeps it: it goes.
    Goes,
}

/// What is to become of `listed` at `now`.
pub fn fate(listed: &Listed, ceilings: &Ceilings, holds: &[Cover], now: Timestamp) -> Fate {
    match Stored::of(listed, ceilings) {
        Some(stored) if stored.due_at() > now => Fate::Stays,
        Some(stored) if stored.is_covered(holds) => Fate::Held,
        Some(_) => Fate::Goes,
        None => Fate::Stays,
    }
}

/// Whether a pass over the days at the ceiling, at `now`, looks at what is from `at`.
pub fn is_at_boundary(class: Class, ceilings: &Ceilings, at: Timestamp, now: Timestamp) -> bool {
    boundary(class, ceilings, now).iter().any(|days| days.has(day_of(at)))
}

/// The UTC days on which a recording may have begun that overlaps `window`.
pub(crate) fn days_of_window(window: &Window, now: Timestamp) -> Days {
    let longest = SignedDuration::from_millis(i64::try_from(MAX_DURATION_MS).unwrap_or(i64::MAX));
    let from = window.from.saturating_sub(longest).unwrap_or(Timestamp::MIN);
    // Clocks differ: recordings that seem to be of tomorrow count too.
    let last = window.until.unwrap_or(Timestamp::MAX).min(now);
    Days { from: Some(day_of(from)), to: Some(day_of(last).checked_add(1.day()).unwrap_or(Date::MAX)) }
}

/// The days in which recordings are expected at `now`: those within their ceiling, and what was due lately.
pub(crate) fn expected(class: Class, ceilings: &Ceilings, now: Timestamp) -> Days {
    let oldest =
        now.saturating_sub(span(ceiling(class, ceilings))).and_then(|due| due.saturating_sub(LEFT_OVER));
    Days {
        from: Some(day_of(oldest.unwrap_or(Timestamp::MIN))),
        to: Some(day_of(now).checked_add(2.days()).unwrap_or(Date::MAX)),
    }
}

/// The same, and the days of the windows of open holds.
pub(crate) fn expected_beside(
    open: &[Cover],
    class: Class,
    ceilings: &Ceilings,
    now: Timestamp,
) -> Vec<Days> {
    let held = open.iter().map(|cover| days_of_window(&cover.window, now));
    held.chain([expected(class, ceilings, now)]).collect()
}

/// The days of which something may be over its ceiling, and those that are still to come, where no recording can be.
pub(crate) fn boundary(class: Class, ceilings: &Ceilings, now: Timestamp) -> [Days; 2] {
    let due = now.saturating_sub(span(ceiling(class, ceilings))).unwrap_or(Timestamp::MIN);
    let to_come = day_of(now).checked_add(2.days()).unwrap_or(Date::MAX);
    [Days { from: None, to: Some(day_of(due)) }, Days { from: Some(to_come), to: None }]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use jiff::tz::TimeZone;

    use super::*;
    use crate::protocol::Window;
    use crate::protocol::cover::Sources;

    const DAY: i64 = 86_400;
    const CEILINGS: Ceilings = Ceilings { video: Ceiling(28), calls: Ceiling(7) };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    fn listed(class: Class, start: i64, modified: i64) -> Listed {
        let key = Key::new(class, "hal", at(start), 60_000, &[7; 32]).unwrap();
        Listed {
            key: key.to_string(),
            id: "1".into(),
            is_marker: false,
            is_latest: true,
            modified: at(modified),
            size: 10,
            etag: "e".into(),
        }
    }

    fn hold(from: i64, until: i64) -> Cover {
        Cover { sources: Sources::All, calls: true, window: Window::new(at(from), Some(at(until))) }
    }

    #[test]
    fn a_recording_goes_when_its_ceiling_says_so() {
        for (class, days) in [(Class::Video, 28), (Class::Calls, 7)] {
            let it = listed(class, 0, 62);
            assert_eq!(fate(&it, &CEILINGS, &[], at(days * DAY - 1)), Fate::Stays);
            assert_eq!(fate(&it, &CEILINGS, &[], at(days * DAY)), Fate::Goes);
            assert_eq!(fate(&it, &CEILINGS, &[hold(30, 40)], at(days * DAY)), Fate::Held);
            assert_eq!(fate(&it, &CEILINGS, &[hold(60, 90)], at(days * DAY)), Fate::Goes);
        }
    }

    #[test]
    fn a_key_that_cannot_be_true_counts_from_its_upload() {
        for (start, modified) in [(200, 62), (0, 29 * DAY), (5000 * DAY, 0)] {
            let it = listed(Class::Video, start, modified);
            let stored = Stored::of(&it, &CEILINGS).unwrap();
            assert!(!stored.is_plausible(), "{start} {modified}");
            assert_eq!(stored.due_at(), at(modified + 28 * DAY));
            assert!(stored.is_covered(&[hold(modified - 10, modified)]), "{start} {modified}");
        }
        assert!(Stored::of(&listed(Class::Video, 0, 28 * DAY), &CEILINGS).unwrap().is_plausible());
        assert!(Stored::of(&listed(Class::Video, 0, 0), &CEILINGS).unwrap().is_plausible());
    }

    #[test]
    fn what_is_no_recording_stays() {
        for key in [
            "ledger/owner.json",
            "video/hal/notes.txt",
            "video/hal/2020/01/01/x.mp4",
            "probe/recorder/1/recording",
        ] {
            let it = Listed { key: key.into(), ..listed(Class::Video, 0, 0) };
            assert_eq!(fate(&it, &CEILINGS, &[], at(5000 * DAY)), Fate::Stays, "{key}");
        }
    }

    proptest! {
        #[test]
        fn what_is_due_is_on_a_day_that_is_listed(start in 0_i64..100 * DAY, delay in 0_i64..2 * DAY, now in 0_i64..100 * DAY) {
            let it = listed(Class::Video, start, start + 60 + delay);
            let now = at(now);
            let stored = Stored::of(&it, &CEILINGS).unwrap();
            if stored.is_plausible() && stored.due_at() <= now {
                let boundary = boundary(Class::Video, &CEILINGS, now);
                let day = TimeZone::UTC.to_datetime(stored.key.start()).date();
                prop_assert!(boundary.iter().any(|days| days.has(day)));
            }
        }

        #[test]
        fn nothing_held_goes_and_nothing_unheld_stays(
            start in 0_i64..50 * DAY, delay in 0_i64..40 * DAY, from in 0_i64..50 * DAY, length in 1_i64..DAY, now in 0_i64..200 * DAY,
        ) {
            let it = listed(Class::Video, start, start + 60 + delay);
            let hold = hold(from, from + length);
            let fate = fate(&it, &CEILINGS, std::slice::from_ref(&hold), at(now));
            let stored = Stored::of(&it, &CEILINGS).unwrap();
            if hold.covers(&stored.key.recording()) {
                prop_assert_ne!(fate, Fate::Goes);
            }
            // Whatever the key says: nothing lives longer than its ceiling after the store took it.
            if now >= start + 60 + delay + 28 * DAY && !stored.is_covered(&[hold]) {
                prop_assert_eq!(fate, Fate::Goes);
            }
        }
    }
}
