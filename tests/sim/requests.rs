//! What a day of the operator costs in requests, and what closed holds cost: the rows of docs/development/request-costs.md, counted. Real
//! controllers look at a store in memory at their own times; nothing happens but recording.

mod arriving;
mod counting;
mod crowded;
mod day;
mod desk;
mod furnished;
mod settings;

use std::sync::Arc;
use std::time::{Duration, Instant};

use counting::{Day, count, extrapolate_day};
use day::{Operator, Scenario, cameras, midnight};
use desk::{Part, PriceTier, lock};
use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use toezicht::rules::Window;
use toezicht::rules::hold::entry::LedgerEntry;

use crate::api::Incident;
use crate::say;
use crate::store::{By, Who};

const DOCS: &str = include_str!("../../docs/development/request-costs.md");
/// US dollars for a request: AWS S3 Standard, us-east-1.
const DEAR: f64 = 0.005 / 1000.0;
const CHEAP: f64 = 0.0004 / 1000.0;
const PARTS: [Part; 4] = [Part::Retention, Part::Audit, Part::Site, Part::Probe];

fn over(name: &str, cameras: &[String], hours_ago: i64, hours: Option<i64>) -> Incident {
    let from = midnight() - SignedDuration::from_hours(hours_ago);
    Incident {
        name: name.to_owned(),
        cameras: cameras.to_vec(),
        calls: false,
        window: Window::new(from, hours.map(|hours| from + SignedDuration::from_hours(hours))),
    }
}

/// A day of five cameras.
fn whole(holds: Vec<Incident>) -> Scenario {
    Scenario { cameras: cameras(5), holds, are_uploads_real: false, backlog: 30, hours: 24 }
}

/// Fifty over the last three weeks: two hours each, of one camera or two.
fn fifty() -> Vec<Incident> {
    let names = cameras(5);
    let hold = |number: usize| {
        let mut of = vec![names[number % 5].clone()];
        if number % 2 == 1 {
            of.push(names[(number + 1) % 5].clone());
        }
        let ago = 30 + 9 * i64::try_from(number).unwrap();
        over(&format!("hold-{number}"), &of, ago, Some(2))
    };
    (0..50).map(hold).collect()
}

impl Day {
    fn of(&self, parts: &[Part], price: PriceTier) -> u64 {
        let counts = self.counts.iter();
        let counts = counts.filter(|((part, of, _), _)| parts.contains(part) && *of == price);
        counts.map(|(_, count)| count).sum()
    }

    #[allow(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
    fn dollars(&self, parts: &[Part]) -> f64 {
        self.of(parts, PriceTier::Tier1) as f64 * DEAR + self.of(parts, PriceTier::Cheap) as f64 * CHEAP
    }

    fn requests(&self, parts: &[Part]) -> String {
        let of = |price| thousands(self.of(parts, price));
        let (dear, cheap, free) = (of(PriceTier::Tier1), of(PriceTier::Cheap), of(PriceTier::Free));
        format!("{dear} | {cheap} | {free} | {:.4}", self.dollars(parts))
    }

    /// What was seen held and has not changed is read again when everything is verified, and once.
    fn assert_no_early_reads(&self) {
        let (count, first) = (self.early.len(), self.early.first());
        assert_eq!(count, 0, "read again too early, the first: {first:?}");
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

/// Fails if docs/development/request-costs.md says otherwise.
fn stands(rows: &[String]) {
    for row in rows {
        say(&format!("requests: {row}"));
    }
    let missing: Vec<_> = rows.iter().filter(|row| !DOCS.contains(row.as_str())).collect();
    assert!(missing.is_empty(), "docs/development/request-costs.md says otherwise: {missing:#?}");
}

/// Compares a day with the page.
fn told(name: &str, goal: f64, day: Day) -> Day {
    day.assert_no_early_reads();
    let met = if day.dollars(&PARTS) <= goal { "met" } else { "**missed**" };
    let shares = PARTS.map(|part| format!("{:.4}", day.dollars(&[part]))).join(" | ");
    for ((part, price, operation), count) in &day.counts {
        say(&format!("requests: {name}: {part:?} {price:?} {operation} {count}"));
    }
    say(&format!(
        "requests: {name}: verified every {:?} s, marks of a version read {} times at most, probe: {:?}",
        day.stated, day.most_reads, day.not_held
    ));
    stands(&[
        format!("| {name} | {} | {goal} | {met} |", day.requests(&PARTS)),
        format!("| {name} | {shares} |"),
    ]);
    day
}

#[test]
#[ignore = "`make test-requests`: some minutes"]
fn idle_site_costs_as_documented() {
    let day = count(Scenario { are_uploads_real: true, ..whole(Vec::new()) });
    let recorders = day.requests(&[Part::Recorders]);
    told("an idle Site", 0.02, day);
    stands(&[format!("| its recorders' uploads | {recorders} | | |")]);
}

#[test]
#[ignore = "`make test-requests`: some minutes"]
fn one_ended_hold_costs_as_documented() {
    let hold = || whole(vec![over("one", &cameras(1), 50, Some(2))]);
    let day = told("one hold over two hours of one camera, ended", 0.05, count(hold()));
    // Other rows are counted in part.
    let part = extrapolate_day(hold()).dollars(&PARTS);
    say(&format!("requests: the same in part: {part:.4}"));
    assert!((0.9..1.1).contains(&(part / day.dollars(&PARTS))), "{part}");
}

#[test]
#[ignore = "`make test-requests`: some minutes"]
fn fifty_ended_holds_cost_as_documented() {
    let day = extrapolate_day(whole(fifty()));
    told("50 holds over two hours of one or two cameras, ended", 1.0, day);
}

#[test]
#[ignore = "`make test-requests`: some minutes"]
fn one_ongoing_hold_costs_as_documented() {
    let day = extrapolate_day(whole(vec![over("ongoing", &cameras(5), 24, None)]));
    told("one ongoing hold over five cameras, a day old", 1.0, day);
}

/// The same in short, with every test run.
#[test]
fn protection_is_read_as_often_as_status_says() {
    let holds = vec![over("ended", &cameras(1), 5, Some(1)), over("ongoing", &cameras(1), 2, None)];
    let day = count(Scenario { cameras: cameras(1), holds, are_uploads_real: true, backlog: 1, hours: 1 });
    day.assert_no_early_reads();
    assert_eq!(day.stated, (900, 900));
    // Every quarter of an hour, and before and after its embargo ends.
    assert!((4..=6).contains(&day.most_reads), "{}", day.most_reads);
}

/// What a pass, one that sweeps everything, and a whole audit ask for beside this many closed holds; and how long the pass
/// takes.
fn beside(closed: usize, are_resources_there: bool) -> ([u64; 3], Duration) {
    let situation = Scenario {
        cameras: cameras(1),
        holds: vec![over("open", &cameras(1), 20, Some(1))],
        are_uploads_real: false,
        backlog: 1,
        hours: 0,
    };
    Operator::run(situation, async move |mut operator| {
        let released_at = midnight() - SignedDuration::from_hours(30);
        for number in 0..closed {
            let incident = over(&format!("closed-{number}"), &cameras(1), 72, Some(1));
            let uid = operator.api.declare(&incident, released_at);
            operator.api.resolve(&uid, released_at);
            let hold = operator.api.holds[&uid].clone();
            let entry =
                LedgerEntry::new(uid.clone(), "heusden".into(), incident.name, &hold.spec, released_at);
            let entry = serde_json::to_vec(&entry.resolved(released_at).closed(released_at)).unwrap();
            let by = By { who: Who::Operator(0), now: released_at, sent: released_at };
            let key = format!("ledger/closed/{uid}.json");
            lock(&operator.desk).store.put(by, &key, Arc::from(entry), Vec::new(), false).unwrap();
            if !are_resources_there {
                operator.api.holds.remove(&uid);
            }
        }
        // What the hold that is open has, each closed one had: its status says that nothing is kept any more.
        operator.look().await;
        let open = operator.api.holds.values().find_map(|hold| hold.status.clone()?.placement).unwrap();
        for hold in operator.api.holds.values_mut() {
            if hold.spec.resolution.is_some() {
                let mut placement = open.clone();
                placement.release_time = Some(Time(released_at));
                hold.status.get_or_insert_default().placement = Some(placement);
            }
        }
        operator.look().await;
        let asked = |operator: &Operator| lock(&operator.desk).asked();
        let (before, began) = (asked(&operator), Instant::now());
        operator.look().await;
        let (plain, took) = (asked(&operator), began.elapsed());
        operator.forget_sweep_and_audit();
        operator.look().await;
        let swept = asked(&operator);
        operator.audit().await;
        ([plain - before, swept - plain, asked(&operator) - swept], took)
    })
}

/// Closed holds cost no request, however many there are: with their resources and without.
fn assert_closed_holds_cost_no_request(most: usize) {
    let mut few = None;
    for (closed, are_there) in [(10, true), (most, true), (most, false)] {
        let (asked, took) = beside(closed, are_there);
        let few = *few.get_or_insert(asked);
        let whose = if are_there { "there" } else { "gone" };
        let [plain, swept, audited] = asked;
        say(&format!(
            "requests: beside {closed} closed holds, resources {whose}: {asked:?}, a pass in {took:?}"
        ));
        assert_eq!(asked, few, "{closed} closed holds, resources {whose}");
        // The page has the figures of ten thousand.
        if closed == 10 || closed == most.max(10_000) {
            let closed = thousands(closed as u64);
            stands(&[format!("| {closed} | {whose} | {plain} | {swept} | {audited} |")]);
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
