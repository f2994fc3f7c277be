//! Decides whether a version is current, held or expired. Pure. Uses the key and the open holds only, since recorders and others
//! can write tags.

use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp, ToSpan};

use super::scope::{HoldScope, held_tag_for_end};
use crate::api::{Ceilings, Days as Ceiling, MAX_CLOCK_SKEW};
use crate::rules::recording::key::MAX_DURATION_MS;
use crate::rules::{
    Class, DayFilter, Embargo, Key, ListedVersion, Recording, RetentionTag, Window, utc_date,
};

/// Age past the ceiling at which a recording still counts as expected. Covers an operator that was down or a store that was busy.
const OVERDUE_MARGIN: SignedDuration = SignedDuration::from_hours(24 * 7);
/// Period before the upload in which a recording with an implausible key may have been made.
const IMPLAUSIBLE_KEY_WINDOW: SignedDuration = SignedDuration::from_hours(24);

pub(crate) const fn ceiling(class: Class, ceilings: &Ceilings) -> Ceiling {
    match class {
        Class::Video => ceilings.video,
        Class::Calls => ceilings.calls,
    }
}

pub(crate) fn whole_days(days: Ceiling) -> SignedDuration {
    SignedDuration::from_hours(24_i64.saturating_mul(i64::from(days.0)))
}

/// Scopes of open holds, by source of knowledge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenScopes {
    pub ledger: Vec<HoldScope>,
    /// Holds in the API server. The ledger may not have them yet.
    pub declared: Vec<HoldScope>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeldBy {
    /// A hold in the ledger, which stays there until its release.
    Ledger,
    /// A hold in the API server only. If it is deleted, nothing explains the legal hold.
    Declared,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRecording<'a> {
    pub(crate) key: Key,
    pub(crate) listed: &'a ListedVersion,
    ceiling: SignedDuration,
}

impl<'a> StoredRecording<'a> {
    /// Returns `None` if the key is not the key of a recording.
    pub fn of(listed: &'a ListedVersion, ceilings: &Ceilings) -> Option<Self> {
        let key: Key = listed.key.parse().ok()?;
        let ceiling = whole_days(ceiling(key.class(), ceilings));
        Some(Self { key, listed, ceiling })
    }

    /// Returns whether the time in the key is possible: the upload was after the end of the recording, and before its ceiling,
    /// at which spools purge it. Allows for clock skew and for stores that report whole seconds. A marker has no upload time.
    pub(crate) fn is_plausible(&self) -> bool {
        let modified = self.listed.modified;
        self.listed.is_marker
            || self.key.end().duration_since(modified) <= MAX_CLOCK_SKEW
                && modified.duration_since(self.key.start()) <= self.ceiling + MAX_CLOCK_SKEW
    }

    pub(crate) fn ceiling_starts_at(&self) -> Timestamp {
        if self.is_plausible() { self.key.start() } else { self.listed.modified }
    }

    /// Returns the first instant past the ceiling (article 6). With an implausible key, the age counts from the upload.
    pub fn expires_at(&self) -> Timestamp {
        self.ceiling_starts_at().saturating_add(self.ceiling).unwrap_or(Timestamp::MAX)
    }

    /// Returns the same, based on the key only. For held versions: some stores change the modification time with the legal hold.
    pub fn expires_at_by_key(&self) -> Timestamp {
        self.key.start().saturating_add(self.ceiling).unwrap_or(Timestamp::MAX)
    }

    pub fn is_in_scope_by_key(&self, holds: &[HoldScope]) -> bool {
        let recording = self.key.recording();
        holds.iter().any(|hold| hold.covers(&recording))
    }

    /// Returns whether one of `holds` covers the recording. With an implausible key, the time before the upload counts too.
    pub fn is_in_scope(&self, holds: &[HoldScope]) -> bool {
        // Nearly all keys are plausible, and there can be many holds: check them once.
        if self.is_plausible() {
            return self.is_in_scope_by_key(holds);
        }
        let by_key = self.key.recording();
        let modified = self.listed.modified;
        let by_upload = Recording {
            start: modified.saturating_sub(IMPLAUSIBLE_KEY_WINDOW).unwrap_or(Timestamp::MIN),
            end: modified.saturating_add(MAX_CLOCK_SKEW).unwrap_or(Timestamp::MAX),
            ..by_key
        };
        holds.iter().any(|hold| hold.covers(&by_key) || hold.covers(&by_upload))
    }

    /// Returns the source of a hold that covers the recording. Prefers the ledger.
    pub fn held_by(&self, open: &OpenScopes) -> Option<HeldBy> {
        held_by(open, |holds| self.is_in_scope(holds))
    }

    /// Returns the same, based on the key only.
    pub fn held_by_key(&self, open: &OpenScopes) -> Option<HeldBy> {
        held_by(open, |holds| self.is_in_scope_by_key(holds))
    }

    /// Returns the tag that the recording must have at `now`, or `None` if none of `holds` covers it. With an implausible key,
    /// the content may be from just before the upload, so the embargo counts from the upload (article 4.2).
    pub fn required_tag(
        &self,
        holds: &[HoldScope],
        embargo: Embargo,
        now: Timestamp,
    ) -> Option<RetentionTag> {
        self.is_in_scope(holds).then(|| self.tag_if_held(embargo, now))
    }

    /// Returns the tag of a covered recording at `now`.
    pub(crate) fn tag_if_held(&self, embargo: Embargo, now: Timestamp) -> RetentionTag {
        held_tag_for_end(self.content_end(), embargo, now)
    }

    /// Returns the latest possible end of the content.
    fn content_end(&self) -> Timestamp {
        if self.is_plausible() { self.key.end() } else { self.listed.modified }
    }

    /// Returns the time at which the embargo ends.
    pub(crate) fn embargo_end(&self, embargo: Embargo) -> Timestamp {
        embargo.end_for(self.content_end())
    }

    /// Returns the time from the end of the recording to its upload. Negative if clocks differ.
    pub(crate) fn upload_delay(&self) -> SignedDuration {
        self.listed.modified.duration_since(self.key.end())
    }
}

fn held_by(open: &OpenScopes, is_in_scope: impl Fn(&[HoldScope]) -> bool) -> Option<HeldBy> {
    if is_in_scope(&open.ledger) {
        Some(HeldBy::Ledger)
    } else {
        is_in_scope(&open.declared).then_some(HeldBy::Declared)
    }
}

/// Action of the sweep on a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Disposition {
    /// Not past its ceiling, or not a recording.
    Keep,
    /// Past its ceiling and covered by an open hold.
    Held,
    /// Past its ceiling and not covered.
    Delete,
}

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
        // A foreign key has no recording time, so nothing proves that the object is expired. The audit reports it.
        None => Disposition::Keep,
    }
}

/// Returns whether a pass over the days at the ceiling, at `now`, includes the day of `at`.
pub fn is_at_boundary(class: Class, ceilings: &Ceilings, at: Timestamp, now: Timestamp) -> bool {
    boundary_days(class, ceilings, now).iter().any(|days| days.contains(utc_date(at)))
}

/// Returns the UTC days on which a recording that overlaps `window` can have begun.
pub(crate) fn days_of_window(window: &Window, now: Timestamp) -> DayFilter {
    let longest = SignedDuration::from_millis(i64::try_from(MAX_DURATION_MS).unwrap_or(i64::MAX));
    let from = window.from.saturating_sub(longest).unwrap_or(Timestamp::MIN);
    // Clocks differ, so recordings may appear to be from tomorrow.
    let last = window.until.unwrap_or(Timestamp::MAX).min(now);
    DayFilter {
        from: Some(utc_date(from)),
        to: Some(utc_date(last).checked_add(1.day()).unwrap_or(Date::MAX)),
    }
}

/// Returns the days on which recordings are expected at `now`: those within the ceiling and [`OVERDUE_MARGIN`].
pub(crate) fn expected_days(class: Class, ceilings: &Ceilings, now: Timestamp) -> DayFilter {
    let oldest = now
        .saturating_sub(whole_days(ceiling(class, ceilings)))
        .and_then(|due| due.saturating_sub(OVERDUE_MARGIN));
    DayFilter {
        from: Some(utc_date(oldest.unwrap_or(Timestamp::MIN))),
        to: Some(utc_date(now).checked_add(2.days()).unwrap_or(Date::MAX)),
    }
}

/// Returns the same days, and those in the windows of open holds.
pub(crate) fn expected_days_with_holds(
    open: &[HoldScope],
    class: Class,
    ceilings: &Ceilings,
    now: Timestamp,
) -> Vec<DayFilter> {
    let held = open.iter().map(|scope| days_of_window(&scope.window, now));
    held.chain([expected_days(class, ceilings, now)]).collect()
}

/// Returns the days on which recordings can be past their ceiling, and the days in the future, which must have no recordings.
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
    use crate::rules::PROTOCOL_CEILINGS;
    use crate::rules::hold::scope::tests::video_scope;

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
        HoldScope { calls: true, ..video_scope(&[], Window::new(at(from), Some(at(until)))) }
    }

    #[test]
    fn recording_is_deleted_at_ceiling() {
        for (class, days) in [(Class::Video, 28), (Class::Calls, 7)] {
            let version = listed(class, 0, 62);
            assert_eq!(disposition(&version, &PROTOCOL_CEILINGS, &[], at(days * DAY - 1)), Disposition::Keep);
            assert_eq!(disposition(&version, &PROTOCOL_CEILINGS, &[], at(days * DAY)), Disposition::Delete);
            assert_eq!(
                disposition(&version, &PROTOCOL_CEILINGS, &[hold(30, 40)], at(days * DAY)),
                Disposition::Held
            );
            assert_eq!(
                disposition(&version, &PROTOCOL_CEILINGS, &[hold(60, 90)], at(days * DAY)),
                Disposition::Delete
            );
        }
    }

    #[test]
    fn implausible_key_ages_from_upload() {
        for (start, modified) in [(200, 62), (0, 29 * DAY), (5000 * DAY, 0)] {
            let version = listed(Class::Video, start, modified);
            let stored = StoredRecording::of(&version, &PROTOCOL_CEILINGS).unwrap();
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
            let version = ListedVersion { key: key.into(), ..listed(Class::Video, 0, 0) };
            assert_eq!(
                disposition(&version, &PROTOCOL_CEILINGS, &[], at(5000 * DAY)),
                Disposition::Keep,
                "{key}"
            );
        }
    }

    proptest! {
        #[test]
        fn expired_recordings_are_on_boundary_days(start in 0_i64..100 * DAY, delay in 0_i64..2 * DAY, now in 0_i64..100 * DAY) {
            let version = listed(Class::Video, start, start + 60 + delay);
            let now = at(now);
            let stored = StoredRecording::of(&version, &PROTOCOL_CEILINGS).unwrap();
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
            let version = listed(Class::Video, start, start + 60 + delay);
            let hold = hold(from, from + length);
            let disposition_now = disposition(&version, &PROTOCOL_CEILINGS, std::slice::from_ref(&hold), at(now));
            let stored = StoredRecording::of(&version, &PROTOCOL_CEILINGS).unwrap();
            if hold.covers(&stored.key.recording()) {
                prop_assert_ne!(disposition_now, Disposition::Delete);
            }
            // Even with a wrong key, no version outlives its ceiling after the upload.
            if now >= start + 60 + delay + 28 * DAY && !stored.is_in_scope(&[hold]) {
                prop_assert_eq!(disposition_now, Disposition::Delete);
            }
        }
    }
}
