//! What somebody with a recorder's credentials puts, and no recorder would, costs no more however much it is; and all that is done
//! once a day no more than twice what it does without. A recording that he makes up costs as much as a true one.

use std::sync::Arc;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};

use super::day::{Operator, Scenario, cameras, midnight};
use super::desk::{Desk, lock};
use super::{over, thousands};
use crate::say;
use crate::store::{By, Who};

/// Requests.
type Asked = [u64; 4];

const WHAT: [&str; 4] = [
    "a look between verifications",
    "a look that verifies",
    "a look that verifies and sweeps all",
    "a whole audit",
];
/// What comes on top of a verification at most, for each camera: listings of folders and days, and marks of what is held of it.
const ODD: u64 = 900;

/// What no recorder would put: folders and loose keys, a key in each third day of some years and of years to come, versions of
/// one name, all with the tag that no lifecycle expires. Some of it ten days ago, and some while a hold goes on, which therefore
/// has it. `times` as much of it.
fn crowd(desk: &mut Desk, names: &[String], times: u32) {
    let lately = midnight() - SignedDuration::from_hours(2);
    let before = lately - SignedDuration::from_hours(24 * 10);
    let mut put = |at: Timestamp, key: String| {
        let by = By { who: Who::Hostile, now: at, sent: at };
        let tags = vec![("toezicht-retention".to_owned(), "sealed".to_owned())];
        desk.store.put(by, &key, Arc::from(*b"x"), tags, false).unwrap();
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
    desk.store.effects.clear();
}

/// What is asked for, of a Site of so many cameras with an ended hold and one that has gone on for so many hours.
/// Beside `times` what somebody else puts.
fn asked(count: usize, hours: i64, times: u32) -> Asked {
    let names = cameras(count);
    let situation = Scenario {
        cameras: names.clone(),
        holds: vec![over("ended", &names[..1], 50, Some(2)), over("ongoing", &names, hours, None)],
        are_uploads_real: false,
        backlog: 30,
        hours: 0,
    };
    Operator::run(situation, async move |mut operator| {
        if times > 0 {
            crowd(&mut lock(&operator.desk), &names, times);
            operator.expects_findings();
        }
        let asked = |operator: &Operator| lock(&operator.desk).asked();
        // Everything is placed, and the audit has told of what somebody else put.
        for _ in 0..3 {
            operator.look().await;
            operator.audit().await;
        }
        let before = asked(&operator);
        operator.look().await;
        let looked = asked(&operator);
        operator.forget_verification();
        operator.look().await;
        let verified = asked(&operator);
        operator.forget_sweep_and_audit();
        operator.look().await;
        let swept = asked(&operator);
        operator.audit().await;
        [looked - before, verified - looked, swept - verified, asked(&operator) - swept]
    })
}

/// Beside what somebody else puts, and beside so many times as much.
fn assert_foreign_keys_cost_no_more(count: usize, hours: i64, times: &[u32]) {
    let clean = asked(count, hours, 0);
    let crowded: Vec<Asked> = times.iter().map(|times| asked(count, hours, *times)).collect();
    for (number, what) in WHAT.into_iter().enumerate() {
        let told = [&clean].into_iter().chain(&crowded);
        let told: Vec<String> = told.map(|asked| thousands(asked[number])).collect();
        say(&format!("crowded: {count} cameras, {what}: {}", told.join(", ")));
    }
    let odd = ODD * count as u64;
    for (number, what) in WHAT.into_iter().enumerate() {
        let (clean, first) = (clean[number], crowded[0][number]);
        let most = match number {
            0 => clean,
            1 => clean + odd,
            _ => 2 * clean,
        };
        assert!(first <= most, "{what}: {first}, not {clean}");
        let more = crowded.iter().map(|asked| asked[number]).max().unwrap();
        assert!(more <= first + odd / 4, "{what}: {more} beside more of it, not {first}");
    }
}

#[test]
#[ignore = "`make test-requests`: some minutes"]
fn foreign_keys_at_large_site_cost_no_more() {
    assert_foreign_keys_cost_no_more(5, 24, &[1, 3]);
}

/// The same in short, with every test run.
#[test]
fn foreign_keys_cost_no_more() {
    assert_foreign_keys_cost_no_more(1, 2, &[1]);
}
