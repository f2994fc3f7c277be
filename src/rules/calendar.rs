//! Days and instants in the policy's time zone.

use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp, civil};

use crate::api::{Date, DateOrInstant};

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CalendarError {
    #[error("{path}: {value:?} is not an IANA time zone; write its name, such as Europe/Amsterdam")]
    Zone { path: String, value: String },
    #[error("{path}: {value:?} is not an existing date; write it such as 2020-05-06{or_instant}")]
    Date {
        path: String,
        value: String,
        /// Other form that the field allows.
        or_instant: &'static str,
    },
}

/// Returns the zone `name`, the value of the field `path`. Rejects `Etc/Unknown`, which jiff would treat as UTC although
/// the user did not choose it.
pub fn parse_zone(name: &str, path: &str) -> Result<TimeZone, CalendarError> {
    TimeZone::get(name)
        .ok()
        .filter(|zone| !zone.is_unknown())
        .ok_or_else(|| CalendarError::Zone { path: path.to_owned(), value: name.to_owned() })
}

/// Returns the first instant of a day in `zone`.
///
/// If the clock skips midnight, this is the first instant after the gap. If midnight occurs twice, it is the first one. A
/// day that the zone skipped entirely (Samoa, 2011-12-30) begins with the next day.
pub fn start_of_day(date: &Date, zone: &TimeZone, path: &str) -> Result<Timestamp, CalendarError> {
    parse_day(&date.0)
        .and_then(|day| first_instant_of_day(day, zone))
        .ok_or_else(|| date_error(&date.0, path, ""))
}

/// Returns the instant, or the first instant of the day.
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

/// Parses a bare date only. From a date and time, jiff would take the date and drop the time.
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
    // The day begins at the transition, which can precede the skipped midnight (Toronto, 1919-03-31).
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
    fn day_starts_at_its_first_local_instant() {
        for (day, zone, expected) in [
            ("2020-05-06", "Europe/Amsterdam", "2020-05-05T22:00:00Z"),
            ("2020-12-06", "Europe/Amsterdam", "2020-12-05T23:00:00Z"),
            ("2020-03-29", "Europe/Amsterdam", "2020-03-28T23:00:00Z"),
            ("2020-05-06", "UTC", "2020-05-06T00:00:00Z"),
            // São Paulo put its clock forward at midnight, so that day began at 01:00 (UTC-2).
            ("2018-11-04", "America/Sao_Paulo", "2018-11-04T03:00:00Z"),
            // Toronto went from 23:30 to 00:30 in 1919.
            ("1919-03-31", "America/Toronto", "1919-03-31T04:30:00Z"),
            // Havana puts its clock back from 01:00 to 00:00: midnight comes twice, first at UTC-4.
            ("2020-11-01", "America/Havana", "2020-11-01T04:00:00Z"),
        ] {
            assert_eq!(start(day, zone), expected, "{zone}");
        }
        // A skipped day starts with the next day.
        assert_eq!(start("2011-12-30", "Pacific/Apia"), start("2011-12-31", "Pacific/Apia"));
    }

    #[test]
    fn instants_resolve_as_written() {
        let zone = parse_zone("Europe/Amsterdam", "spec.timeZone").unwrap();
        let read = |text: &str| resolve_instant(&DateOrInstant(text.into()), &zone, "spec.inForce.from");
        assert_eq!(read("2020-05-06T00:00:00+02:00"), read("2020-05-06"));
        let error = read("2020-02-30").unwrap_err().to_string();
        assert!(error.starts_with("spec.inForce.from: \"2020-02-30\" is not an existing date"), "{error}");
        assert!(read("2020-05-06T00:00:00").is_err(), "a time without an offset is ambiguous");
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
