//! Counts the requests of one day of the operator and of closed holds, and compares them with the rows of
//! docs/development/request-costs.md. Real controllers reconcile a store in memory at their own intervals, while
//! cameras only record.

mod counting;
mod counting_store;
mod day;
mod foreign_keys;
mod ongoing_hold;
mod settings;
mod site_setup;

use std::sync::Arc;
use std::time::{Duration, Instant};

use counting::{Day, count, extrapolate_day};
use counting_store::{Part, PriceTier, lock};
use day::{Operator, Scenario, cameras, midnight};
use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use toezicht::rules::Window;
use toezicht::rules::hold::entry::LedgerEntry;

use crate::api::Incident;
use crate::print_line;
use crate::store::{Actor, Caller};

const DOCS: &str = include_str!("../../docs/development/request-costs.md");
/// Price of a tier-1 request in US dollars: AWS S3 Standard, us-east-1.
const TIER1_PRICE: f64 = 0.005 / 1000.0;
const OTHER_PRICE: f64 = 0.0004 / 1000.0;
const PARTS: [Part; 4] = [Part::Retention, Part::Audit, Part::Site, Part::Probe];

fn incident(name: &str, cameras: &[String], hours_ago: i64, hours: Option<i64>) -> Incident {
    let from = midnight() - SignedDuration::from_hours(hours_ago);
    Incident {
        name: name.to_owned(),
        cameras: cameras.to_vec(),
        calls: false,
        window: Window::new(from, hours.map(|hours| from + SignedDuration::from_hours(hours))),
    }
}

/// Returns a scenario of one day with five cameras.
fn five_camera_day(holds: Vec<Incident>) -> Scenario {
    Scenario { cameras: cameras(5), holds, are_uploads_real: false, backlog: 30, hours: 24 }
}

/// Returns fifty holds of the last three weeks, of two hours each, over one or two cameras.
fn fifty_holds() -> Vec<Incident> {
    let names = cameras(5);
    let hold = |number: usize| {
        let mut covered = vec![names[number % 5].clone()];
        if number % 2 == 1 {
            covered.push(names[(number + 1) % 5].clone());
        }
        let ago = 30 + 9 * i64::try_from(number).unwrap();
        incident(&format!("hold-{number}"), &covered, ago, Some(2))
    };
    (0..50).map(hold).collect()
}

impl Day {
    fn count(&self, parts: &[Part], price: PriceTier) -> u64 {
        let counts = self.counts.iter();
        let counts = counts.filter(|((part, tier, _), _)| parts.contains(part) && *tier == price);
        counts.map(|(_, count)| count).sum()
    }

    #[allow(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
    fn dollars(&self, parts: &[Part]) -> f64 {
        self.count(parts, PriceTier::Tier1) as f64 * TIER1_PRICE
            + self.count(parts, PriceTier::Other) as f64 * OTHER_PRICE
    }

    fn requests(&self, parts: &[Part]) -> String {
        let count_of = |price| thousands(self.count(parts, price));
        let (tier1, other, free) =
            (count_of(PriceTier::Tier1), count_of(PriceTier::Other), count_of(PriceTier::Free));
        format!("{tier1} | {other} | {free} | {:.4}", self.dollars(parts))
    }

    /// Asserts that the protection of an unchanged held version was read only by verifications, once in each.
    fn assert_no_early_reads(&self) {
        let (count, first) = (self.early_reads.len(), self.early_reads.first());
        assert_eq!(count, 0, "reads too early, the first: {first:?}");
    }
}

fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let (mut out, mut left) = (String::new(), digits.len());
    for digit in digits.chars() {
        out.push(digit);
        left -= 1;
        if left > 0 && left.is_multiple_of(3) {
            out.push(',');
        }
    }
    out
}

/// Asserts that docs/development/request-costs.md has these rows.
fn assert_documented(rows: &[String]) {
    for row in rows {
        print_line(&format!("requests: {row}"));
    }
    let missing: Vec<_> = rows.iter().filter(|row| !DOCS.contains(row.as_str())).collect();
    assert!(missing.is_empty(), "docs/development/request-costs.md lacks these rows: {missing:#?}");
}

/// Compares a day's counts with docs/development/request-costs.md.
fn assert_day_documented(name: &str, goal: f64, day: Day) -> Day {
    day.assert_no_early_reads();
    let met = if day.dollars(&PARTS) <= goal { "met" } else { "**missed**" };
    let shares = PARTS.map(|part| format!("{:.4}", day.dollars(&[part]))).join(" | ");
    for ((part, price, operation), count) in &day.counts {
        print_line(&format!("requests: {name}: {part:?} {price:?} {operation} {count}"));
    }
    print_line(&format!(
        "requests: {name}: verified every {:?} s, legal hold of a version read {} times at most, probe: {:?}",
        day.stated, day.most_reads, day.failed_checks
    ));
    assert_documented(&[
        format!("| {name} | {} | {goal} | {met} |", day.requests(&PARTS)),
        format!("| {name} | {shares} |"),
    ]);
    day
}

#[test]
#[ignore = "`make test-requests`: some minutes"]
fn idle_site_costs_as_documented() {
    let day = count(Scenario { are_uploads_real: true, ..five_camera_day(Vec::new()) });
    let recorders = day.requests(&[Part::Recorders]);
    assert_day_documented("an idle Site", 0.02, day);
    assert_documented(&[format!("| its recorders' uploads | {recorders} | | |")]);
}

#[test]
#[ignore = "`make test-requests`: some minutes"]
fn one_ended_hold_costs_as_documented() {
    let hold = || five_camera_day(vec![incident("one", &cameras(1), 50, Some(2))]);
    let day = assert_day_documented("one hold over two hours of one camera, ended", 0.05, count(hold()));
    // The other rows are extrapolated from a part of a day.
    let part = extrapolate_day(hold()).dollars(&PARTS);
    print_line(&format!("requests: the same, extrapolated: {part:.4}"));
    assert!((0.9..1.1).contains(&(part / day.dollars(&PARTS))), "{part}");
}

#[test]
#[ignore = "`make test-requests`: some minutes"]
fn fifty_ended_holds_cost_as_documented() {
    let day = extrapolate_day(five_camera_day(fifty_holds()));
    assert_day_documented("50 holds over two hours of one or two cameras, ended", 1.0, day);
}

#[test]
#[ignore = "`make test-requests`: some minutes"]
fn one_ongoing_hold_costs_as_documented() {
    let day = extrapolate_day(five_camera_day(vec![incident("ongoing", &cameras(5), 24, None)]));
    assert_day_documented("one ongoing hold over five cameras, a day old", 1.0, day);
}

/// A short variant that runs with every test run.
#[test]
fn protection_is_read_as_often_as_status_says() {
    let holds = vec![incident("ended", &cameras(1), 5, Some(1)), incident("ongoing", &cameras(1), 2, None)];
    let day = count(Scenario { cameras: cameras(1), holds, are_uploads_real: true, backlog: 1, hours: 1 });
    day.assert_no_early_reads();
    assert_eq!(day.stated, (900, 900));
    // Once every 15 minutes, and before and after its embargo ends.
    assert!((4..=6).contains(&day.most_reads), "{}", day.most_reads);
}

/// Counts requests with this many closed holds: of a pass, of a pass with a full sweep, and of a full audit. Also
/// returns the duration of the first.
fn count_with_closed_holds(closed: usize, are_resources_there: bool) -> ([u64; 3], Duration) {
    let scenario = Scenario {
        cameras: cameras(1),
        holds: vec![incident("open", &cameras(1), 20, Some(1))],
        are_uploads_real: false,
        backlog: 1,
        hours: 0,
    };
    Operator::run(scenario, async move |mut operator| {
        let released_at = midnight() - SignedDuration::from_hours(30);
        for number in 0..closed {
            let incident = incident(&format!("closed-{number}"), &cameras(1), 72, Some(1));
            let uid = operator.api.declare(&incident, released_at);
            operator.api.resolve(&uid, released_at);
            let hold = operator.api.holds[&uid].clone();
            let entry =
                LedgerEntry::new(uid.clone(), "heusden".into(), incident.name, &hold.spec, released_at);
            let entry = serde_json::to_vec(&entry.resolved(released_at).closed(released_at)).unwrap();
            let by = Caller { actor: Actor::Operator(0), now: released_at, sent: released_at };
            let key = format!("ledger/closed/{uid}.json");
            lock(&operator.counting_store).store.put(by, &key, Arc::from(entry), Vec::new(), false).unwrap();
            if !are_resources_there {
                operator.api.holds.remove(&uid);
            }
        }
        // Give each closed hold the open hold's placement with a release time, as if it had been placed and released.
        operator.reconcile().await;
        let open = operator.api.holds.values().find_map(|hold| hold.status.clone()?.placement).unwrap();
        for hold in operator.api.holds.values_mut() {
            if hold.spec.resolution.is_some() {
                let mut placement = open.clone();
                placement.release_time = Some(Time(released_at));
                hold.status.get_or_insert_default().placement = Some(placement);
            }
        }
        operator.reconcile().await;
        let request_count = |operator: &Operator| lock(&operator.counting_store).request_count();
        let (before, began) = (request_count(&operator), Instant::now());
        operator.reconcile().await;
        let (plain, took) = (request_count(&operator), began.elapsed());
        operator.forget_sweep_and_audit();
        operator.reconcile().await;
        let swept = request_count(&operator);
        operator.audit().await;
        ([plain - before, swept - plain, request_count(&operator) - swept], took)
    })
}

/// Asserts that closed holds cost no request, with and without their resources.
fn assert_closed_holds_cost_no_request(most: usize) {
    let mut expected = None;
    for (closed, are_there) in [(10, true), (most, true), (most, false)] {
        let (counts, took) = count_with_closed_holds(closed, are_there);
        let expected = *expected.get_or_insert(counts);
        let resources = if are_there { "there" } else { "gone" };
        let [plain, swept, audited] = counts;
        print_line(&format!(
            "requests: beside {closed} closed holds, resources {resources}: {counts:?}, a pass in {took:?}"
        ));
        assert_eq!(counts, expected, "{closed} closed holds, resources {resources}");
        // The document has the figures for ten thousand.
        if closed == 10 || closed == most.max(10_000) {
            let closed = thousands(closed as u64);
            assert_documented(&[format!("| {closed} | {resources} | {plain} | {swept} | {audited} |")]);
        }
    }
}

#[test]
fn thousand_closed_holds_cost_no_request() {
    assert_closed_holds_cost_no_request(1_000);
}

#[test]
#[ignore = "`make test-requests`: a minute"]
fn ten_thousand_closed_holds_cost_no_request() {
    assert_closed_holds_cost_no_request(10_000);
}
