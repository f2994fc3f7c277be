//! Gaps of a camera on the current day. Pure.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::api::{CameraGap, DailyGaps, Date, RecordingPolicy};
use crate::rules::{Window, Windows, calendar};

/// Reasons of gaps in which the protocol wants no recording.
const INTENDED: [&str; 2] = ["Suspended", "NotPermitted"];

/// Returns the gaps that touch the day of `now`, in the time zone of `policy`; `None`: there are none.
pub fn gaps_today(gaps: &[CameraGap], policy: Option<&RecordingPolicy>, now: Timestamp) -> Option<DailyGaps> {
    let named = policy.map(|policy| policy.spec.time_zone.as_str());
    let zone = named.and_then(|name| Some((calendar::parse_zone(name, "spec.timeZone").ok()?, name)));
    let (zone, name) = zone.unwrap_or((TimeZone::UTC, "UTC"));
    let date = now.to_zoned(zone.clone()).date();
    let start = |day: jiff::civil::Date| {
        calendar::start_of_day(&Date(day.to_string()), &zone, "").unwrap_or(Timestamp::MIN)
    };
    let next = date.tomorrow().map_or(Timestamp::MAX, start);
    let day = Window::new(start(date), Some(next));
    let counted: Vec<&CameraGap> =
        gaps.iter().filter(|gap| !INTENDED.contains(&gap.reason.as_str()) && touches(gap, &day)).collect();
    if counted.is_empty() {
        return None;
    }
    Some(DailyGaps {
        date: Date(date.to_string()),
        time_zone: name.to_owned(),
        count: i32::try_from(counted.len()).unwrap_or(i32::MAX),
        seconds: total_seconds(&counted, &day),
    })
}

fn touches(gap: &CameraGap, day: &Window) -> bool {
    let (from, until) = (gap.from.as_ref().map(|at| at.0), gap.until.as_ref().map(|at| at.0));
    let has_ended = until.is_some_and(|until| until <= day.from);
    // Without a beginning, it touches the day of its end.
    let is_later = day.until.is_some_and(|end| from.or(until).is_some_and(|from| from >= end));
    !has_ended && !is_later
}

/// Returns the seconds of the day in gaps that are over and whose beginning is known. Gaps that overlap count once.
fn total_seconds(gaps: &[&CameraGap], day: &Window) -> i64 {
    let ended =
        gaps.iter().filter_map(|gap| Some(Window::new(gap.from.as_ref()?.0, Some(gap.until.as_ref()?.0))));
    let within = ended.collect::<Windows>().intersect(&Windows::union([*day]));
    let length = |window: &Window| {
        window.until.map_or(SignedDuration::ZERO, |until| until.duration_since(window.from))
    };
    within.as_slice().iter().map(length).map(|length| length.as_secs()).sum()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use proptest::prelude::*;

    use super::*;
    use crate::controllers::testing;

    fn gap(reason: &str, from: Option<&str>, until: Option<&str>) -> CameraGap {
        let time = |at: &str| Time(at.parse().unwrap());
        CameraGap { reason: reason.into(), from: from.map(time), until: until.map(time) }
    }

    fn found(gaps: &[CameraGap]) -> Option<(i32, i64)> {
        // 00:30 of 3 January in Amsterdam.
        let found = gaps_today(gaps, Some(&testing::policy()), "2026-01-02T23:30:00Z".parse().unwrap())?;
        assert_eq!((found.date.0.as_str(), found.time_zone.as_str()), ("2026-01-03", "Europe/Amsterdam"));
        Some((found.count, found.seconds))
    }

    #[test]
    fn day_is_that_of_the_policy() {
        let yesterday = gap("Disconnected", Some("2026-01-02T22:00:00Z"), Some("2026-01-02T23:00:00Z"));
        assert_eq!(found(std::slice::from_ref(&yesterday)), None);
        let over_midnight = gap("Disconnected", Some("2026-01-02T22:59:00Z"), Some("2026-01-02T23:00:07Z"));
        assert_eq!(found(&[yesterday.clone(), over_midnight]), Some((1, 7)));
        let without_policy = gaps_today(&[yesterday], None, "2026-01-02T23:30:00Z".parse().unwrap()).unwrap();
        assert_eq!((without_policy.time_zone.as_str(), without_policy.seconds), ("UTC", 3600));
    }

    #[test]
    fn open_gap_counts_and_intended_gap_does_not() {
        let at = "2026-01-02T23:10:00Z";
        assert_eq!(found(&[gap("Disconnected", Some("2026-01-01T00:00:00Z"), None)]), Some((1, 0)));
        assert_eq!(found(&[gap("RecorderRestarted", None, Some(at))]), Some((1, 0)));
        assert_eq!(found(&[gap("Suspended", Some("2026-01-01T00:00:00Z"), None)]), None);
        assert_eq!(found(&[gap("NotPermitted", Some("2026-01-01T00:00:00Z"), Some(at))]), None);
    }

    proptest! {
        #[test]
        fn seconds_fit_into_a_day_and_do_not_depend_on_now(
            gaps in proptest::collection::vec((-200_000_i64..200_000, 0_i64..200_000), 0..30), minute in 0_i64..1440,
        ) {
            let at = |second: i64| Timestamp::from_second(1_790_000_000 + second).unwrap();
            let gap = |(from, length): (i64, i64)| CameraGap {
                reason: "Disconnected".into(), from: Some(Time(at(from))), until: Some(Time(at(from + length))),
            };
            let gaps: Vec<CameraGap> = gaps.into_iter().map(gap).collect();
            let policy = testing::policy();
            let found = gaps_today(&gaps, Some(&policy), at(0));
            prop_assert!(found.as_ref().is_none_or(|found| (0..=25 * 3600).contains(&found.seconds)));
            let later = gaps_today(&gaps, Some(&policy), at(minute * 60));
            if let (Some(found), Some(later)) = (found, later) && found.date == later.date {
                prop_assert_eq!(found, later, "time alone writes no status");
            }
        }
    }
}
