//! Days and instants, as the protocol's zone counts them.

use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp, civil};

use crate::api::{Date, DateOrInstant};

/// Why a field that speaks of time cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CalendarError {
    /// The zone is not in the time zone database.
    #[error("{path}: {value:?} is not a time zone; write an IANA name such as Europe/Amsterdam")]
    Zone { path: String, value: String },
    /// Neither a date nor an instant.
    #[error("{path}: {value:?} is no date that exists; write 2020-05-06{or_instant}")]
    Date {
        path: String,
        value: String,
        /// What else may be written there.
        or_instant: &'static str,
    },
}

/// The zone that is named in the field `path`.
///
/// The zone of no place, `Etc/Unknown`, is refused: it would pass for UTC without anybody having said so.
pub fn parse_zone(name: &str, path: &str) -> Result<TimeZone, CalendarError> {
    TimeZone::get(name)
        .ok()
        .filter(|zone| !zone.is_unknown())
        .ok_or_else(|| CalendarError::Zone { path: path.to_owned(), value: name.to_owned() })
}

/// The first instant of a day in `zone`.
///
/// Where a day has no midnight because the clock is put forward, it is the first instant that the day has;
/// where midnight comes twice, it is the first of both. A day that a zone skipped as a whole (Samoa,
/// 2011-12-30) begins when the day after it does.
pub fn start_of_day(date: &Date, zone: &TimeZone, path: &str) -> Result<Timestamp, CalendarError> {
    parse_day(&date.0)
        .and_then(|day| first_instant_of_day(day, zone))
        .ok_or_else(|| date_error(&date.0, path, ""))
}

/// The instant that is written, or the first of the day that is written.
pub fn resolve_instant(
    value: &DateOrInstant,
    zone: &TimeZone,
    path: &str,
) -> Result<Timestamp, CalendarError> {
    let text = &value.0;
    let instant = match parse_day(text) {
        Some(day) => first_instant_of_day(day, zone),
        None => text.parse().ok(),
    };
    instant.ok_or_else(|| date_error(text, path, " or 2020-05-06T00:00:00+02:00"))
}

/// A bare date only: jiff would also read the date out of a date and time, and drop the time.
fn parse_day(text: &str) -> Option<civil::Date> {
    (text.len() == "2020-05-06".len()).then(|| text.parse().ok()).flatten()
}

fn first_instant_of_day(day: civil::Date, zone: &TimeZone) -> Option<Timestamp> {
    let midnight = zone.to_ambiguous_timestamp(day.at(0, 0, 0, 0));
    let is_skipped = matches!(midnight.offset(), AmbiguousOffset::Gap { .. });
    let first = midnight.compatible().ok()?;
    if !is_skipped {
        return Some(first);
    }
    // The clock passes midnight at the transition itself, which may lie before what midnight would have been.
    let after = first.checked_add(SignedDuration::from_nanos(1)).ok()?;
    zone.preceding(after).next().map(|transition| transition.timestamp())
}

fn date_error(value: &str, path: &str, or_instant: &'static str) -> CalendarError {
    CalendarError::Date { path: path.to_owned(), value: value.to_owned(), or_instant }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn start(day: &str, name: &str) -> String {
        let zone = parse_zone(name, "spec.timeZone").unwrap();
        start_of_day(&Date(day.into()), &zone, "spec.x").unwrap().to_string()
    }

    #[test]
    fn day_starts_at_local_midnight() {
        assert_eq!(start("2020-05-06", "Europe/Amsterdam"), "2020-05-05T22:00:00Z");
        assert_eq!(start("2020-12-06", "Europe/Amsterdam"), "2020-12-05T23:00:00Z");
        assert_eq!(start("2020-03-29", "Europe/Amsterdam"), "2020-03-28T23:00:00Z");
        assert_eq!(start("2020-05-06", "UTC"), "2020-05-06T00:00:00Z");
    }

    #[test]
    fn day_without_midnight_starts_at_its_first_instant() {
        // São Paulo put its clock forward at midnight, so that day began at 01:00 (UTC-2).
        assert_eq!(start("2018-11-04", "America/Sao_Paulo"), "2018-11-04T03:00:00Z");
        // Toronto went from 23:30 to 00:30 in 1919.
        assert_eq!(start("1919-03-31", "America/Toronto"), "1919-03-31T04:30:00Z");
    }

    #[test]
    fn repeated_midnight_resolves_to_the_first() {
        // Havana puts its clock back from 01:00 to 00:00: midnight comes twice, first at UTC-4.
        assert_eq!(start("2020-11-01", "America/Havana"), "2020-11-01T04:00:00Z");
    }

    #[test]
    fn skipped_day_starts_with_the_next_day() {
        assert_eq!(start("2011-12-30", "Pacific/Apia"), start("2011-12-31", "Pacific/Apia"));
    }

    #[test]
    fn instants_resolve_as_written() {
        let zone = parse_zone("Europe/Amsterdam", "spec.timeZone").unwrap();
        let read = |text: &str| resolve_instant(&DateOrInstant(text.into()), &zone, "spec.inForce.from");
        assert_eq!(read("2020-05-06T00:00:00+02:00"), read("2020-05-06"));
        let error = read("2020-02-30").unwrap_err().to_string();
        assert!(error.starts_with("spec.inForce.from: \"2020-02-30\" is no date"), "{error}");
        assert!(read("2020-05-06T00:00:00").is_err(), "a time without an offset says nothing");
        assert!(start_of_day(&Date("2020-05-06T10:00:00Z".into()), &zone, "x").is_err());
    }

    #[test]
    fn unknown_zone_error_names_the_field() {
        for name in ["Europe/Vlijmen", "", "Etc/Unknown"] {
            let error = parse_zone(name, "spec.timeZone").unwrap_err();
            assert!(error.to_string().starts_with("spec.timeZone: "), "{error}");
        }
    }

    proptest! {
        /// In every zone, the start of a day is in that day and nothing of the day comes before it; days
        /// begin in their order.
        #[test]
        fn day_starts_are_ordered(
            days in 0_i64..80_000,
            name in proptest::sample::select(vec![
                "Europe/Amsterdam", "America/Sao_Paulo", "America/Havana", "Asia/Beirut", "Africa/Cairo",
                "Australia/Lord_Howe", "Asia/Kathmandu", "UTC",
            ]),
        ) {
            let zone = parse_zone(name, "spec.timeZone").unwrap();
            let day = civil::date(1900, 1, 1) + jiff::SignedDuration::from_hours(24 * days);
            let begin = start_of_day(&Date(day.to_string()), &zone, "x").unwrap();
            let next = start_of_day(&Date(day.tomorrow().unwrap().to_string()), &zone, "x").unwrap();
            prop_assert!(begin < next);
            prop_assert_eq!(begin.to_zoned(zone.clone()).date(), day);
            let just_before = begin - jiff::SignedDuration::from_nanos(1);
            prop_assert!(just_before.to_zoned(zone).date() < day);
        }
    }
}
