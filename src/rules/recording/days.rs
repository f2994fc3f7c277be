//! Ranges of UTC days. A day is a prefix of object keys.

use jiff::Timestamp;
use jiff::civil::Date;

/// Range of days, inclusive. `None`: no bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DayFilter {
    pub(crate) from: Option<Date>,
    pub(crate) to: Option<Date>,
}

impl DayFilter {
    pub(crate) const ALL: Self = Self { from: None, to: None };

    pub(crate) fn contains(self, day: Date) -> bool {
        self.from.is_none_or(|from| from <= day) && self.to.is_none_or(|to| day <= to)
    }

    /// Returns the common days, or `None` if there are none.
    pub(crate) fn intersect(self, other: Self) -> Option<Self> {
        // `None` sorts before every day. `max` therefore prefers the bound, while `min` on two options would drop it.
        let later = |one: Option<Date>, other: Option<Date>| one.max(other);
        let earlier = |one: Option<Date>, other| one.into_iter().chain(other).min();
        let (from, to) = (later(self.from, other.from), earlier(self.to, other.to));
        let is_empty = from.zip(to).is_some_and(|(from, to)| from > to);
        (!is_empty).then_some(Self { from, to })
    }

    /// Returns whether the range has a day in common with one of `all`.
    pub(crate) fn overlaps_any(self, all: &[Self]) -> bool {
        let is_before = |one: Self, other: Self| one.to.zip(other.from).is_some_and(|(to, from)| to < from);
        all.iter().any(|other| !is_before(self, *other) && !is_before(*other, self))
    }

    /// Returns the days of a year, a month or a day from its numbers, or `None` if it does not exist.
    pub(crate) fn from_path(path: &[i16]) -> Option<Self> {
        let part = |place: usize| path.get(place).copied().map(i8::try_from).transpose().ok();
        let (year, month, day) = (*path.first()?, part(1)?, part(2)?);
        let from = Date::new(year, month.unwrap_or(1), day.unwrap_or(1)).ok()?;
        let to = match (month, day) {
            (_, Some(_)) => from,
            (Some(_), None) => from.last_of_month(),
            (None, None) => from.last_of_year(),
        };
        Some(Self { from: Some(from), to: Some(to) })
    }
}

pub(crate) fn utc_date(at: Timestamp) -> Date {
    jiff::tz::TimeZone::UTC.to_datetime(at).date()
}
