//! A simulation in which the real operator and recorders meet a store that lies, a network that loses, clocks that step and
//! people who are in a hurry: everything from one seed, in simulated time. docs/development/simulation.md says what is in it.
// A test may panic: that is how it says that something is wrong; and it may be slow at it.
#![allow(
    clippy::format_collect,
    clippy::format_push_string,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::expect_used,
    clippy::panic
)]

mod api;
mod ask;
mod checks;
mod claims;
#[path = "../common/exact.rs"]
mod exact;
mod http;
mod kind;
mod lease;
mod lifecycle;
mod listing;
mod meanwhile;
mod mutations;
mod operator;
mod people;
mod recorder;
mod requests;
mod run;
mod store;
mod temper;
mod world;
mod xml;

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use mutations::Mutation;
use run::{Report, Scope, simulate};

const DOCS: &str = include_str!("../../docs/development/simulation.md");

/// Seeds that every run of the tests goes through.
const SEEDS: u64 = 12;

fn say(line: &str) {
    // Not by `println`, of which nothing is heard where all is well.
    std::io::stdout().write_all(format!("{line}\n").as_bytes()).unwrap();
}

/// Fails with what a reader needs to see it again.
fn hold(report: &Report) {
    assert!(
        report.broken.is_empty(),
        "{}\n\nseed {} breaks:\n{}\n\nAgain: SEED={} make test-simulation",
        report.last,
        report.seed,
        report.broken.join("\n"),
        report.seed
    );
}

fn asked(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// All of it; with the rule broken that `RULE` names.
fn options_from_env() -> Scope {
    let named = std::env::var("RULE").ok();
    let all = Mutation::ALL.into_iter().map(|(rule, _)| rule);
    let mut all = all.chain(Mutation::UNDETECTED);
    Scope { broken: named.and_then(|name| all.find(|rule| format!("{rule:?}") == name)), ..Scope::WHOLE }
}

/// Seeds one after the other, by as many threads as there are processors.
fn each(seeds: impl Iterator<Item = u64> + Send, steps: u64) {
    let (seeds, done) = (std::sync::Mutex::new(seeds), AtomicU64::new(0));
    let failed = std::sync::Mutex::new(None);
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while done.load(Ordering::Relaxed) < steps && failed.lock().unwrap().is_none() {
                    let Some(seed) = seeds.lock().unwrap().next() else {
                        return;
                    };
                    let report = simulate(seed, options_from_env());
                    let all = done.fetch_add(report.steps, Ordering::Relaxed) + report.steps;
                    say(&format!(
                        "sim: seed {seed}, {}, {} steps, {all} in all, {:?}",
                        theme_of(seed),
                        report.steps,
                        report.claims
                    ));
                    if !report.broken.is_empty() {
                        failed.lock().unwrap().get_or_insert(report);
                    }
                }
            });
        }
    });
    if let Some(report) = failed.into_inner().unwrap() {
        hold(&report);
    }
}

#[test]
fn fixed_seeds_violate_nothing() {
    match asked("SEED") {
        Some(seed) => each(std::iter::once(seed), u64::MAX),
        None => match asked("STEPS") {
            Some(steps) => each(asked("FROM").unwrap_or(1_000).., steps),
            None => each(0..SEEDS, u64::MAX),
        },
    }
}

#[test]
fn same_seed_reproduces_same_run() {
    {
        let seed = 4;
        let (one, other) = (simulate(seed, Scope::WHOLE), simulate(seed, Scope::WHOLE));
        assert_eq!(one, other);
    }
}

/// What a broken rule breaks, from a seed.
fn caught(rule: Mutation, seed: u64) -> Option<Report> {
    let scope = Scope { broken: Some(rule), ..Scope::WHOLE };
    Some(simulate(seed, scope)).filter(|report| !report.broken.is_empty())
}

#[test]
fn every_mutation_is_detected() {
    let rules = std::sync::Mutex::new(Mutation::ALL.into_iter());
    let missed = std::sync::Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let Some((rule, seed)) = rules.lock().unwrap().next() else {
                        return;
                    };
                    // Another seed may do as well, since any change of the code makes another story of each.
                    let mut seeds = std::iter::once(seed).chain((0..SEEDS).filter(|other| *other != seed));
                    match seeds.find_map(|seed| caught(rule, seed)) {
                        Some(report) => say(&format!(
                            "sim: without {rule:?}, seed {}, after {} steps: {}",
                            report.seed, report.steps, report.broken[0]
                        )),
                        None => missed.lock().unwrap().push(rule),
                    }
                }
            });
        }
    });
    assert_eq!(missed.into_inner().unwrap(), [], "nobody notices");
}

/// For whoever changes the simulation: which seed, clean with all rules, catches which broken rule, and after how many steps.
#[test]
#[ignore = "takes as long as one likes: FROM and COUNT say which seeds are tried"]
fn hunt() {
    let from = asked("FROM").unwrap_or(0);
    let every = Mutation::ALL.into_iter().map(|(rule, _)| rule);
    let mut every: BTreeSet<Mutation> = every.chain(Mutation::UNDETECTED).collect();
    if let Some(rule) = options_from_env().broken {
        every.retain(|one| *one == rule);
    } else if std::env::var_os("LEFT").is_some() {
        every.retain(|one| Mutation::UNDETECTED.contains(one));
    }
    let left = std::sync::Mutex::new(every);
    let seeds = std::sync::Mutex::new(from..from + asked("COUNT").unwrap_or(SEEDS));
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let Some(seed) = seeds.lock().unwrap().next() else {
                        return;
                    };
                    if left.lock().unwrap().is_empty() {
                        return;
                    }
                    if std::env::var("THEME").is_ok_and(|theme| theme != theme_of(seed)) {
                        continue;
                    }
                    if !simulate(seed, Scope::WHOLE).broken.is_empty() {
                        say(&format!("hunt: seed {seed} is not clean"));
                        continue;
                    }
                    let rules = left.lock().unwrap().clone();
                    for report in rules.into_iter().filter_map(|rule| Some((rule, caught(rule, seed)?))) {
                        let (rule, report) = report;
                        left.lock().unwrap().remove(&rule);
                        say(&format!(
                            "hunt: {} ({rule:?}, {seed}) after {} steps: {}",
                            theme_of(seed),
                            report.steps,
                            report.broken[0]
                        ));
                    }
                }
            });
        }
    });
    say(&format!("hunt: nobody notices {:?}", left.into_inner().unwrap()));
}

/// What the days of a seed are about.
fn theme_of(seed: u64) -> String {
    let world = world::World::new(seed, kind::Kind::drawn, None);
    format!("{:?}", world.temper.theme)
}

#[test]
fn every_mutation_is_documented() {
    let untold = Mutation::ALL
        .into_iter()
        .map(|(rule, _)| rule)
        .filter(|rule| !DOCS.contains(&format!("| `{rule:?}` |")));
    assert_eq!(untold.collect::<Vec<_>>(), [], "docs/development/simulation.md does not list them");
}
