//! How old a stored version is, what holds it, and what is due: pure. Decided by the key and the open holds, never by a
//! tag: tags can be written by others.

use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp, ToSpan};

use super::scope::{HeldTag, HoldScope, held_tag_for_end};
use crate::api::{Ceilings, Days as Ceiling};
use crate::rules::Window;
use crate::rules::live_view::Embargo;
use crate::rules::recording::days::{DayFilter, utc_date};
use crate::rules::recording::key::{Key, MAX_DURATION_MS};
use crate::rules::recording::tag::RetentionTag;
use crate::rules::recording::version::ListedVersion;
use crate::rules::recording::{Class, Recording};

/// By how much a recording may seem to end after the store took it: clocks differ, and stores tell whole seconds.
const MAX_CLOCK_SKEW: SignedDuration = SignedDuration::from_secs(60);
/// For so long a sweep may have been away, or the store busy, and what was due is looked for all the same.
const OVERDUE_MARGIN: SignedDuration = SignedDuration::from_hours(24 * 7);
/// What an implausible key is offered to: holds that overlap the day before the store took it.
const IMPLAUSIBLE_KEY_WINDOW: SignedDuration = SignedDuration::from_hours(24);

pub(crate) const fn ceiling(class: Class, ceilings: &Ceilings) -> Ceiling {
    match class {
        Class::Video => ceilings.video,
        Class::Calls => ceilings.calls,
    }
}

/// So many whole days as time.
pub(crate) fn whole_days(days: Ceiling) -> SignedDuration {
    SignedDuration::from_hours(24_i64.saturating_mul(i64::from(days.0)))
}

/// What open holds cover, by where they are known from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenScopes {
    pub ledger: Vec<HoldScope>,
    /// Those that are declared to the API server; the ledger may not have them yet.
    pub declared: Vec<HoldScope>,
}

/// Where the hold is known from that keeps something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeldBy {
    /// The ledger: it stays there until it is released itself.
    Ledger,
    /// The API server alone: it may be gone the next moment, and then nothing would tell why something is held.
    Declared,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRecording<'a> {
    pub(crate) key: Key,
    pub(crate) listed: &'a ListedVersion,
    ceiling: SignedDuration,
}

impl<'a> StoredRecording<'a> {
    /// `None`: the key is not one of a recording.
    pub fn of(listed: &'a ListedVersion, ceilings: &Ceilings) -> Option<Self> {
        let key: Key = listed.key.parse().ok()?;
        let ceiling = whole_days(ceiling(key.class(), ceilings));
        Some(Self { key, listed, ceiling })
    }

    /// Whether the key's time can be true: the store took it after it ended, and while it could still be in a spool,
    /// which purges what is past the ceiling. A marker says nothing of that.
    pub(crate) fn is_plausible(&self) -> bool {
        let modified = self.listed.modified;
        self.listed.is_marker
            || self.key.end().duration_since(modified) <= MAX_CLOCK_SKEW
                && modified.duration_since(self.key.start()) <= self.ceiling + MAX_CLOCK_SKEW
    }

    pub(crate) fn ceiling_starts_at(&self) -> Timestamp {
        if self.is_plausible() { self.key.start() } else { self.listed.modified }
    }

    /// The first instant at which it is over its ceiling (article 6). What has an implausible key counts from when
    /// the store took it.
    pub fn expires_at(&self) -> Timestamp {
        self.ceiling_starts_at().saturating_add(self.ceiling).unwrap_or(Timestamp::MAX)
    }

    /// The same by its key alone, for what was held: some stores move the time of a version when its legal hold changes.
    pub fn expires_at_by_key(&self) -> Timestamp {
        self.key.start().saturating_add(self.ceiling).unwrap_or(Timestamp::MAX)
    }

    /// Whether one of `holds` covers it by its key alone.
    pub fn is_in_scope_by_key(&self, holds: &[HoldScope]) -> bool {
        let said = self.key.recording();
        holds.iter().any(|hold| hold.covers(&said))
    }

    /// Whether an open hold covers it. A key that cannot be true is offered to holds by when the store took it, too.
    pub fn is_in_scope(&self, holds: &[HoldScope]) -> bool {
        // Nearly all keys are plausible, and there may be many holds.
        if self.is_plausible() {
            return self.is_in_scope_by_key(holds);
        }
        let said = self.key.recording();
        let modified = self.listed.modified;
        let may_be = Recording {
            start: modified.saturating_sub(IMPLAUSIBLE_KEY_WINDOW).unwrap_or(Timestamp::MIN),
            end: modified.saturating_add(MAX_CLOCK_SKEW).unwrap_or(Timestamp::MAX),
            ..said
        };
        let is_it = |hold: &HoldScope| hold.covers(&said) || hold.covers(&may_be);
        holds.iter().any(is_it)
    }

    /// Which open hold keeps it; `None`: none does.
    pub fn held_by(&self, open: &OpenScopes) -> Option<HeldBy> {
        if self.is_in_scope(&open.ledger) {
            Some(HeldBy::Ledger)
        } else {
            self.is_in_scope(&open.declared).then_some(HeldBy::Declared)
        }
    }

    /// Which open hold keeps it by its key alone; `None`: none does.
    pub fn held_by_key(&self, open: &OpenScopes) -> Option<HeldBy> {
        if self.is_in_scope_by_key(&open.ledger) {
            Some(HeldBy::Ledger)
        } else {
            self.is_in_scope_by_key(&open.declared).then_some(HeldBy::Declared)
        }
    }

    /// The tag that it must have for these open holds at `now`; `None`: none covers it. What has a key that cannot be
    /// true may show what happened just before the store took it (article 4.2).
    pub fn required_tag(
        &self,
        holds: &[HoldScope],
        embargo: Embargo,
        now: Timestamp,
    ) -> Option<RetentionTag> {
        self.is_in_scope(holds).then(|| self.tag_if_held(embargo, now))
    }

    /// The tag that it must have at `now` where a hold covers it.
    pub(crate) fn tag_if_held(&self, embargo: Embargo, now: Timestamp) -> RetentionTag {
        match held_tag_for_end(self.content_end(), embargo, now) {
            HeldTag::Held => RetentionTag::Held,
            HeldTag::Sealed => RetentionTag::Sealed,
        }
    }

    /// Until when what it shows may reach.
    fn content_end(&self) -> Timestamp {
        if self.is_plausible() { self.key.end() } else { self.listed.modified }
    }

    /// Returns the instant from which it may be read.
    pub(crate) fn embargo_end(&self, embargo: Embargo) -> Timestamp {
        embargo.end_for(self.content_end())
    }

    /// How long after its end the store took it; negative where it seems to have been before.
    pub(crate) fn upload_delay(&self) -> SignedDuration {
        self.listed.modified.duration_since(self.key.end())
    }
}

/// What the sweep is to do about a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Disposition {
    /// It is not over its ceiling, or no recording: it stays.
    Keep,
    /// It is over its ceiling, and an open hold covers it: it stays.
    Held,
    /// It is over its ceiling, and nothing keeps it: it goes.
    Delete,
}

/// What is to become of `listed` at `now`.
pub fn disposition(
    listed: &ListedVersion,
    ceilings: &Ceilings,
    holds: &[HoldScope],
    now: Timestamp,
) -> Disposition {
    match StoredRecording::of(listed, ceilings) {
        Some(stored) if stored.expires_at() > now => Disposition::Keep,
        Some(stored) if stored.is_in_scope(holds) => Disposition::Held,
        Some(_) => Disposition::Delete,
        None => Disposition::Keep,
    }
}

/// Whether a pass over the days at the ceiling, at `now`, looks at what is from `at`.
pub fn is_at_boundary(class: Class, ceilings: &Ceilings, at: Timestamp, now: Timestamp) -> bool {
    boundary_days(class, ceilings, now).iter().any(|days| days.contains(utc_date(at)))
}

/// The UTC days on which a recording may have begun that overlaps `window`.
pub(crate) fn days_of_window(window: &Window, now: Timestamp) -> DayFilter {
    let longest = SignedDuration::from_millis(i64::try_from(MAX_DURATION_MS).unwrap_or(i64::MAX));
    let from = window.from.saturating_sub(longest).unwrap_or(Timestamp::MIN);
    // Clocks differ: recordings that seem to be of tomorrow count too.
    let last = window.until.unwrap_or(Timestamp::MAX).min(now);
    DayFilter {
        from: Some(utc_date(from)),
        to: Some(utc_date(last).checked_add(1.day()).unwrap_or(Date::MAX)),
    }
}

/// The days in which recordings are expected at `now`: those within their ceiling, and what was due lately.
pub(crate) fn expected_days(class: Class, ceilings: &Ceilings, now: Timestamp) -> DayFilter {
    let oldest = now
        .saturating_sub(whole_days(ceiling(class, ceilings)))
        .and_then(|due| due.saturating_sub(OVERDUE_MARGIN));
    DayFilter {
        from: Some(utc_date(oldest.unwrap_or(Timestamp::MIN))),
        to: Some(utc_date(now).checked_add(2.days()).unwrap_or(Date::MAX)),
    }
}

/// The same, and the days of the windows of open holds.
pub(crate) fn expected_days_with_holds(
    open: &[HoldScope],
    class: Class,
    ceilings: &Ceilings,
    now: Timestamp,
) -> Vec<DayFilter> {
    let held = open.iter().map(|cover| days_of_window(&cover.window, now));
    held.chain([expected_days(class, ceilings, now)]).collect()
}

/// The days of which something may be over its ceiling, and those that are still to come, where no recording can be.
pub(crate) fn boundary_days(class: Class, ceilings: &Ceilings, now: Timestamp) -> [DayFilter; 2] {
    let due = now.saturating_sub(whole_days(ceiling(class, ceilings))).unwrap_or(Timestamp::MIN);
    let to_come = utc_date(now).checked_add(2.days()).unwrap_or(Date::MAX);
    [DayFilter { from: None, to: Some(utc_date(due)) }, DayFilter { from: Some(to_come), to: None }]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use jiff::tz::TimeZone;

    use super::*;
    use crate::rules::Window;
    use crate::rules::hold::scope::CameraSelector;
    use crate::rules::retention::PROTOCOL_CEILINGS;

    const DAY: i64 = 86_400;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    fn listed(class: Class, start: i64, modified: i64) -> ListedVersion {
        let key = Key::new(class, "hal", at(start), 60_000, &[7; 32]).unwrap();
        ListedVersion {
            key: key.to_string(),
            id: "1".into(),
            is_marker: false,
            is_latest: true,
            modified: at(modified),
            size: 10,
            etag: "e".into(),
        }
    }

    fn hold(from: i64, until: i64) -> HoldScope {
        HoldScope {
            cameras: CameraSelector::All,
            calls: true,
            window: Window::new(at(from), Some(at(until))),
        }
    }

    #[test]
    fn recording_is_deleted_at_ceiling() {
        for (class, days) in [(Class::Video, 28), (Class::Calls, 7)] {
            let it = listed(class, 0, 62);
            assert_eq!(disposition(&it, &PROTOCOL_CEILINGS, &[], at(days * DAY - 1)), Disposition::Keep);
            assert_eq!(disposition(&it, &PROTOCOL_CEILINGS, &[], at(days * DAY)), Disposition::Delete);
            assert_eq!(
                disposition(&it, &PROTOCOL_CEILINGS, &[hold(30, 40)], at(days * DAY)),
                Disposition::Held
            );
            assert_eq!(
                disposition(&it, &PROTOCOL_CEILINGS, &[hold(60, 90)], at(days * DAY)),
                Disposition::Delete
            );
        }
    }

    #[test]
    fn implausible_key_ages_from_upload() {
        for (start, modified) in [(200, 62), (0, 29 * DAY), (5000 * DAY, 0)] {
            let it = listed(Class::Video, start, modified);
            let stored = StoredRecording::of(&it, &PROTOCOL_CEILINGS).unwrap();
            assert!(!stored.is_plausible(), "{start} {modified}");
            assert_eq!(stored.expires_at(), at(modified + 28 * DAY));
            assert!(stored.is_in_scope(&[hold(modified - 10, modified)]), "{start} {modified}");
        }
        assert!(
            StoredRecording::of(&listed(Class::Video, 0, 28 * DAY), &PROTOCOL_CEILINGS)
                .unwrap()
                .is_plausible()
        );
        assert!(StoredRecording::of(&listed(Class::Video, 0, 0), &PROTOCOL_CEILINGS).unwrap().is_plausible());
    }

    #[test]
    fn other_objects_are_kept() {
        for key in [
            "ledger/owner.json",
            "video/hal/notes.txt",
            "video/hal/2020/01/01/x.mp4",
            "probe/recorder/1/recording",
        ] {
            let it = ListedVersion { key: key.into(), ..listed(Class::Video, 0, 0) };
            assert_eq!(disposition(&it, &PROTOCOL_CEILINGS, &[], at(5000 * DAY)), Disposition::Keep, "{key}");
        }
    }

    proptest! {
        #[test]
        fn expired_recordings_are_on_boundary_days(start in 0_i64..100 * DAY, delay in 0_i64..2 * DAY, now in 0_i64..100 * DAY) {
            let it = listed(Class::Video, start, start + 60 + delay);
            let now = at(now);
            let stored = StoredRecording::of(&it, &PROTOCOL_CEILINGS).unwrap();
            if stored.is_plausible() && stored.expires_at() <= now {
                let boundary = boundary_days(Class::Video, &PROTOCOL_CEILINGS, now);
                let day = TimeZone::UTC.to_datetime(stored.key.start()).date();
                prop_assert!(boundary.iter().any(|days| days.contains(day)));
            }
        }

        #[test]
        fn held_recordings_are_kept_and_expired_ones_deleted(
            start in 0_i64..50 * DAY, delay in 0_i64..40 * DAY, from in 0_i64..50 * DAY, length in 1_i64..DAY, now in 0_i64..200 * DAY,
        ) {
            let it = listed(Class::Video, start, start + 60 + delay);
            let hold = hold(from, from + length);
            let fate = disposition(&it, &PROTOCOL_CEILINGS, std::slice::from_ref(&hold), at(now));
            let stored = StoredRecording::of(&it, &PROTOCOL_CEILINGS).unwrap();
            if hold.covers(&stored.key.recording()) {
                prop_assert_ne!(fate, Disposition::Delete);
            }
            // Whatever the key says: nothing lives longer than its ceiling after the store took it.
            if now >= start + 60 + delay + 28 * DAY && !stored.is_in_scope(&[hold]) {
                prop_assert_eq!(fate, Disposition::Delete);
            }
        }
    }
}
