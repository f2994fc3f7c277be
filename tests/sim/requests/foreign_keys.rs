//! Foreign keys, put with a recorder's credentials, do not increase costs with their number. Daily work costs at most
//! twice as much with them. A forged recording costs as much as a real one.

use std::sync::Arc;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};

use super::counting_store::{CountingStore, lock};
use super::day::{Operator, Scenario, cameras, midnight};
use super::{incident, thousands};
use crate::print_line;
use crate::store::{Actor, Caller};

/// Request counts of the four kinds of work in [`WORK`].
type RequestCounts = [u64; 4];

const WORK: [&str; 4] = [
    "a reconcile between verifications",
    "a reconcile that verifies",
    "a reconcile that verifies and sweeps everything",
    "a full audit",
];
/// Maximum extra requests of a verification per camera: listings of folders and days, and reads of legal holds.
const MAX_EXTRA: u64 = 900;

/// Puts keys that no recorder would put: folders, loose keys, a key on every third day of past and future years, and
/// versions of one name. All have the tag that no lifecycle rule expires. Some are ten days old, others fall into an
/// ongoing hold. `times` multiplies their number.
fn put_foreign_keys(counting_store: &mut CountingStore, names: &[String], times: u32) {
    let lately = midnight() - SignedDuration::from_hours(2);
    let before = lately - SignedDuration::from_hours(24 * 10);
    let mut put = |at: Timestamp, key: String| {
        let by = Caller { actor: Actor::Hostile, now: at, sent: at };
        let tags = vec![("toezicht-retention".to_owned(), "sealed".to_owned())];
        counting_store.store.put(by, &key, Arc::from(*b"x"), tags, false).unwrap();
    };
    for number in 0..100 * times {
        put(before, format!("calls/a{number:04}/x"));
        put(before, format!("video/a{number:04}/x"));
    }
    for number in 0..3000 * times {
        put(before, format!("video/{number:05}"));
    }
    let first = lately.to_zoned(TimeZone::UTC).date();
    for name in names {
        for (number, days) in (60..60 + 600 * i32::try_from(times).unwrap()).step_by(3).enumerate() {
            for day in [first - days.days(), first + days.days()] {
                let day = day.strftime("%Y/%m/%d").to_string();
                let at = if number % 2 == 0 { before } else { lately };
                put(at, format!("video/{name}/{day}/120000.000Z-60000-00000000deadbeef.mp4"));
            }
        }
        for _ in 0..2000 * times {
            put(before, format!("video/{name}/{}/12", first.strftime("%Y/%m/%d")));
        }
    }
    counting_store.store.effects.clear();
}

/// Counts the requests of the four kinds of work. The Site has `count` cameras, an ended hold, and one that has been
/// ongoing for `hours`. `times` multiplies the number of foreign keys.
fn count_requests(count: usize, hours: i64, times: u32) -> RequestCounts {
    let names = cameras(count);
    let scenario = Scenario {
        cameras: names.clone(),
        holds: vec![incident("ended", &names[..1], 50, Some(2)), incident("ongoing", &names, hours, None)],
        are_uploads_real: false,
        backlog: 30,
        hours: 0,
    };
    Operator::run(scenario, async move |mut operator| {
        if times > 0 {
            put_foreign_keys(&mut lock(&operator.counting_store), &names, times);
            operator.expects_findings();
        }
        let request_count = |operator: &Operator| lock(&operator.counting_store).request_count();
        // Run until everything is placed and the audit has reported the foreign keys.
        for _ in 0..3 {
            operator.reconcile().await;
            operator.audit().await;
        }
        let before = request_count(&operator);
        operator.reconcile().await;
        let reconciled = request_count(&operator);
        operator.forget_verification();
        operator.reconcile().await;
        let verified = request_count(&operator);
        operator.forget_sweep_and_audit();
        operator.reconcile().await;
        let swept = request_count(&operator);
        operator.audit().await;
        [reconciled - before, verified - reconciled, swept - verified, request_count(&operator) - swept]
    })
}

/// Asserts the bounds for foreign keys, and for multiples of their number.
fn assert_foreign_keys_cost_no_more(count: usize, hours: i64, times: &[u32]) {
    let clean = count_requests(count, hours, 0);
    let crowded: Vec<RequestCounts> =
        times.iter().map(|times| count_requests(count, hours, *times)).collect();
    for (number, what) in WORK.into_iter().enumerate() {
        let line = [&clean].into_iter().chain(&crowded);
        let line: Vec<String> = line.map(|counts| thousands(counts[number])).collect();
        print_line(&format!("crowded: {count} cameras, {what}: {}", line.join(", ")));
    }
    let extra = MAX_EXTRA * count as u64;
    for (number, what) in WORK.into_iter().enumerate() {
        let (clean, first) = (clean[number], crowded[0][number]);
        let most = match number {
            0 => clean,
            1 => clean + extra,
            _ => 2 * clean,
        };
        assert!(first <= most, "{what}: {first} with foreign keys, {clean} without");
        let more = crowded.iter().map(|counts| counts[number]).max().unwrap();
        assert!(more <= first + extra / 4, "{what}: {more} with more foreign keys, {first} with fewer");
    }
}

#[test]
#[ignore = "`make test-requests`: some minutes"]
fn foreign_keys_at_large_site_cost_no_more() {
    assert_foreign_keys_cost_no_more(5, 24, &[1, 3]);
}

/// A short variant that runs with every test run.
#[test]
fn foreign_keys_cost_no_more() {
    assert_foreign_keys_cost_no_more(1, 2, &[1]);
}
