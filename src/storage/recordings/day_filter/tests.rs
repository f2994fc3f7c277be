//! Buckets in which others put arbitrary keys.

use jiff::SignedDuration;

use super::*;
use crate::storage::s3::stub::Stub;

const DAY: &str = "video/hal/2026/03/07/";

/// A store that lists these versions in byte order, a thousand a page, with inclusive markers.
async fn store_with_inclusive_markers(mut keys: Vec<String>) -> Stub {
    keys.sort();
    Stub::start(move |asked| {
        let of = |name: &str| asked.query_parameter(name).unwrap_or_default();
        let (prefix, from, id) = (of("prefix"), of("key-marker"), asked.query_parameter("version-id-marker"));
        let numbered = keys.iter().enumerate();
        let is_after = |number: usize, key: &str| match &id {
            Some(id) => number > id.parse().unwrap(),
            None => *key >= *from,
        };
        let mut rest = numbered.filter(|(number, key)| key.starts_with(&prefix) && is_after(*number, key));
        let page: Vec<_> = rest.by_ref().take(1000).collect();
        let is_cut = rest.next().is_some();
        let told: Vec<String> = page
            .iter()
            .map(|(number, key)| {
                format!(
                    "<Version><Key>{key}</Key><VersionId>{number}</VersionId><IsLatest>true</IsLatest>\
                     <LastModified>2026-03-07T09:00:00Z</LastModified><Size>1</Size></Version>"
                )
            })
            .collect();
        let (number, key) = page.last().map_or((0, String::new()), |(number, key)| (*number, (*key).clone()));
        let next = format!(
            "<NextKeyMarker>{key}</NextKeyMarker><NextVersionIdMarker>{number}</NextVersionIdMarker>"
        );
        (
            200,
            format!(
                "<ListVersionsResult><IsTruncated>{is_cut}</IsTruncated>{next}{}</ListVersionsResult>",
                told.concat()
            ),
        )
    })
    .await
}

/// Returns the listed keys of the day.
async fn listed_keys(keys: Vec<String>) -> BTreeSet<String> {
    let stub = store_with_inclusive_markers(keys).await;
    let store = stub.store();
    let mut walk = VersionLister::for_day(&store, DAY.to_owned(), None);
    let mut all = BTreeSet::new();
    while let Some(page) = walk.next_page().await.unwrap() {
        all.extend(page.into_iter().map(|listed| listed.key));
    }
    all
}

/// The start of the next page is predictable: an own key and a space. More versions of that key than a page fill the
/// next one.
#[tokio::test]
async fn lister_continues_past_a_crowded_key_marker() {
    let of = |second: u8| format!("{DAY}0800{second:02}.000Z-6000-0123456789abcdef.mp4");
    let ours = BTreeSet::from([of(1), of(2)]);
    for crowd in [format!("{} ", of(1)), format!("{DAY}0"), format!("{DAY}0800015"), format!("{DAY}2")] {
        for many in [999, 1000, 1001, 2001] {
            let all = ours.iter().cloned().chain(std::iter::repeat_n(crowd.clone(), many));
            assert_eq!(listed_keys(all.collect()).await, ours, "{many} of {crowd}");
        }
    }
    // The next range begins with the crowded key.
    let before = (0..1000).map(|number| format!("{DAY}1/{number:04}"));
    let crowd = std::iter::repeat_n(format!("{DAY}2"), 1001);
    assert_eq!(listed_keys(ours.iter().cloned().chain(before).chain(crowd).collect()).await, ours);
}

/// Anyone with a recorder's credentials can put an object into each day since 1900.
#[tokio::test]
async fn unexpected_days_are_visited_over_several_passes() {
    let stub = Stub::start(|asked| {
        let prefix = asked.query_parameter("prefix").unwrap();
        let numbers = match prefix.matches('/').count() {
            2 => 1900..=2099,
            3 => 1..=12,
            _ => 1..=31,
        };
        let folders = numbers
            .map(|number| format!("<CommonPrefixes><Prefix>{prefix}{number:02}/</Prefix></CommonPrefixes>"));
        let folders: Vec<String> = folders.collect();
        (
            200,
            format!(
                "<ListVersionsResult><IsTruncated>false</IsTruncated>{}</ListVersionsResult>",
                folders.concat()
            ),
        )
    })
    .await;
    let store = stub.store();
    let now: Timestamp = "2026-03-07T12:00:00Z".parse().unwrap();
    let days =
        |from: &str, to: &str| DayFilter { from: Some(from.parse().unwrap()), to: Some(to.parse().unwrap()) };
    // The window of a hold, and the days within the ceiling.
    let expected = [days("1999-12-31", "2000-03-01"), days("2026-02-01", "2026-03-09")];
    let (mut odd, mut asked) = (BTreeSet::new(), 0);
    for pass in 0..40 {
        let now = now + SignedDuration::from_mins(10) * pass;
        let found =
            list_source_days(&store, Class::Video, "hal", &[DayFilter::ALL], &expected, now).await.unwrap();
        let (known, others): (BTreeSet<Date>, BTreeSet<Date>) =
            found.days.iter().partition(|day| expected.iter().any(|days| days.contains(**day)));
        assert_eq!(known.len(), 62 + 37, "{known:?}");
        assert!(others.len() == MAX_UNEXPECTED_DAYS && found.deferred > 0, "{}", others.len());
        odd.extend(others);
        asked = stub.take_requests().len().max(asked);
    }
    assert!(odd.len() > 1200, "{} of 40 passes", odd.len());
    assert!(asked < 100, "{asked} requests in a pass");
    // Days that are not wanted are not visited, expected or not.
    let wanted =
        [days("2026-02-27", "2026-03-02"), DayFilter { from: Some("2099-12-31".parse().unwrap()), to: None }];
    let found = list_source_days(&store, Class::Video, "hal", &wanted, &expected, now).await.unwrap();
    let last = found.days.iter().next_back().unwrap();
    assert_eq!((found.days.len(), last.to_string()), (5, "2099-12-31".to_owned()));
}

#[test]
fn intersection_contains_days_in_both_filters() {
    let date = |day: Option<i8>| day.map(|day| Date::new(2026, 3, day).unwrap());
    let ends = [None, Some(3), Some(5), Some(7)];
    let all: Vec<DayFilter> = ends
        .iter()
        .flat_map(|from| ends.map(|to| (date(*from), date(to))))
        .map(|(from, to)| DayFilter { from, to })
        .collect();
    for one in &all {
        for other in &all {
            let both = one.intersect(*other);
            for day in 1..10 {
                let day = Date::new(2026, 3, day).unwrap();
                let is_in = both.is_some_and(|both| both.contains(day));
                assert_eq!(is_in, one.contains(day) && other.contains(day), "{one:?} {other:?} {day}");
            }
        }
    }
}

/// Sweeps run hourly and verifications every quarter of an hour. A choice by the clock would always be the same.
#[test]
fn every_item_is_chosen_by_regular_passes() {
    let start: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
    let all: BTreeSet<u32> = (0..192).collect();
    for seconds in [600, 900, 1800, 3600, 86_400] {
        let mut visited = BTreeSet::new();
        for pass in 0..200 {
            let now = start + SignedDuration::from_secs(pass * seconds);
            let (chosen, put_off) = choose_randomly(all.iter().copied().collect(), 64, now);
            assert_eq!((chosen.len(), put_off.len()), (64, 128));
            visited.extend(chosen);
        }
        assert_eq!(visited, all, "every {seconds} s");
    }
}
