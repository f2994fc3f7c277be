//! What somebody with a recorder's credentials puts costs the operator no more than twice what it asks for without.

use std::sync::Arc;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};

use super::day::{Operator, Situation, cameras, midnight};
use super::desk::{Desk, lock};
use super::{over, thousands};
use crate::say;
use crate::store::{By, Who};

/// Requests of a look between verifications, of one that verifies, sweeps everything and puts tags back, and of a whole audit.
type Asked = [u64; 3];

const WHAT: [&str; 3] = [
    "a look between verifications",
    "a look that verifies and sweeps all",
    "a whole audit",
];

/// All that the policy lets through and that costs somebody something: folders and loose keys, a key in each third day of some
/// years and of years to come, versions of one name, all with the tag that no lifecycle expires. Some of it ten days ago, and some
/// while a hold goes on, which therefore has it.
fn crowd(desk: &mut Desk, names: &[String]) {
    let lately = midnight() - SignedDuration::from_hours(2);
    let before = lately - SignedDuration::from_hours(24 * 10);
    let mut put = |at: Timestamp, key: String| {
        let by = By {
            who: Who::Hostile,
            now: at,
            sent: at,
        };
        let tags = vec![("toezicht-retention".to_owned(), "sealed".to_owned())];
        desk.store.put(by, &key, Arc::from(*b"x"), tags, false).unwrap();
    };
    for number in 0..100 {
        put(before, format!("calls/a{number:04}/x"));
        put(before, format!("video/a{number:04}/x"));
    }
    for number in 0..3000 {
        put(before, format!("video/{number:05}"));
    }
    let first = lately.to_zoned(TimeZone::UTC).date();
    for name in names {
        for (number, days) in (60..1200).step_by(3).enumerate() {
            for day in [first - days.days(), first + days.days()] {
                let day = day.strftime("%Y/%m/%d").to_string();
                let at = if number % 2 == 0 { before } else { lately };
                put(
                    at,
                    format!("video/{name}/{day}/120000.000Z-60000-00000000deadbeef.mp4"),
                );
            }
        }
        for _ in 0..3000 {
            put(before, format!("video/{name}/{}/12", first.strftime("%Y/%m/%d")));
        }
    }
    desk.store.effects.clear();
}

/// What is asked for, of a Site of so many cameras with an ended hold and one that has gone on for so many hours.
fn asked(count: usize, hours: i64, is_crowded: bool) -> Asked {
    let names = cameras(count);
    let situation = Situation {
        cameras: names.clone(),
        holds: vec![
            over("ended", &names[..1], 50, Some(2)),
            over("ongoing", &names, hours, None),
        ],
        are_uploads_real: false,
        backlog: 30,
        hours: 0,
    };
    Operator::run(situation, async move |mut operator| {
        if is_crowded {
            crowd(&mut lock(&operator.desk), &names);
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
        operator.forget_last_times();
        operator.look().await;
        let verified = asked(&operator);
        operator.audit().await;
        [looked - before, verified - looked, asked(&operator) - verified]
    })
}

fn costs_no_more_than_twice(count: usize, hours: i64) {
    let [clean, crowded] = [false, true].map(|is_crowded| asked(count, hours, is_crowded));
    let all = || WHAT.into_iter().zip(clean).zip(crowded);
    for ((what, clean), crowded) in all() {
        say(&format!(
            "crowded: {count} cameras, {what}: {} requests, {} beside what somebody else puts",
            thousands(clean),
            thousands(crowded)
        ));
    }
    for ((what, clean), crowded) in all() {
        assert!(crowded <= 2 * clean, "{what}: {crowded} instead of {clean}");
    }
}

#[test]
#[ignore = "`make requests`: some minutes"]
fn what_somebody_else_puts_at_a_large_site_costs_no_more_than_twice() {
    costs_no_more_than_twice(5, 24);
}

/// The same in short, with every test run.
#[test]
fn what_somebody_else_puts_costs_no_more_than_twice() {
    costs_no_more_than_twice(1, 2);
}
