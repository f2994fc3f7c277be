//! A simulation of the real operator and recorders with a faulty store and network, clock steps, and people who
//! change holds at any time. Everything follows from one seed, in simulated time. docs/development/simulation.md
//! describes it.
// A test fails by panicking, and its speed does not matter.
#![allow(
    clippy::format_collect,
    clippy::format_push_string,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::expect_used,
    clippy::panic
)]

mod api;
mod checks;
mod claims;
mod concurrent_events;
#[path = "../common/exact.rs"]
mod exact;
mod http;
mod lease;
mod lifecycle;
mod listing;
mod mutations;
mod operator;
mod people_tasks;
mod profile;
mod recorder;
mod requests;
mod run;
mod store;
mod store_api;
mod store_kind;
mod world;
mod xml;

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use mutations::Mutation;
use run::{Report, Scope, simulate};

const DOCS: &str = include_str!("../../docs/development/simulation.md");

/// Number of seeds in every test run.
const SEEDS: u64 = 12;

fn print_line(line: &str) {
    // The harness captures `println!` of tests that pass, so write to standard output directly.
    std::io::stdout().write_all(format!("{line}\n").as_bytes()).unwrap();
}

/// Panics with the violations and the command that reproduces them.
fn assert_no_violations(report: &Report) {
    assert!(
        report.violations.is_empty(),
        "{}\n\nseed {} breaks:\n{}\n\nAgain: SEED={} make test-simulation",
        report.last,
        report.seed,
        report.violations.join("\n"),
        report.seed
    );
}

fn number_from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Returns the full scope, with the rule broken that `RULE` names.
fn options_from_env() -> Scope {
    let named = std::env::var("RULE").ok();
    let all = Mutation::ALL.into_iter().map(|(rule, _)| rule);
    let mut all = all.chain(Mutation::UNDETECTED);
    Scope { mutation: named.and_then(|name| all.find(|rule| format!("{rule:?}") == name)), ..Scope::WHOLE }
}

/// Simulates seeds on all processors until `steps` requests or the first violation.
fn simulate_seeds(seeds: impl Iterator<Item = u64> + Send, steps: u64) {
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
                    print_line(&format!(
                        "sim: seed {seed}, {}, {} steps, {all} in all, {:?}",
                        theme_of(seed),
                        report.steps,
                        report.claims
                    ));
                    if !report.violations.is_empty() {
                        failed.lock().unwrap().get_or_insert(report);
                    }
                }
            });
        }
    });
    if let Some(report) = failed.into_inner().unwrap() {
        assert_no_violations(&report);
    }
}

#[test]
fn fixed_seeds_violate_nothing() {
    match number_from_env("SEED") {
        Some(seed) => simulate_seeds(std::iter::once(seed), u64::MAX),
        None => match number_from_env("STEPS") {
            Some(steps) => simulate_seeds(number_from_env("FROM").unwrap_or(1_000).., steps),
            None => simulate_seeds(0..SEEDS, u64::MAX),
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

/// Returns the report of a seed that detects a broken rule.
fn detect(rule: Mutation, seed: u64) -> Option<Report> {
    let scope = Scope { mutation: Some(rule), ..Scope::WHOLE };
    Some(simulate(seed, scope)).filter(|report| !report.violations.is_empty())
}

#[test]
fn every_mutation_is_detected() {
    let rules = std::sync::Mutex::new(Mutation::ALL.into_iter());
    let undetected = std::sync::Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let Some((rule, seed)) = rules.lock().unwrap().next() else {
                        return;
                    };
                    // Try other seeds too: any change of the code changes the run of every seed.
                    let mut seeds = std::iter::once(seed).chain((0..SEEDS).filter(|other| *other != seed));
                    match seeds.find_map(|seed| detect(rule, seed)) {
                        Some(report) => print_line(&format!(
                            "sim: without {rule:?}, seed {}, after {} steps: {}",
                            report.seed, report.steps, report.violations[0]
                        )),
                        None => undetected.lock().unwrap().push(rule),
                    }
                }
            });
        }
    });
    assert_eq!(undetected.into_inner().unwrap(), [], "no seed detects these");
}

/// Prints for each broken rule a seed that detects it, and after how many steps. Skips seeds with violations if no
/// rule is broken.
#[test]
#[ignore = "runs as long as requested: FROM and COUNT select the seeds"]
fn hunt() {
    let from = number_from_env("FROM").unwrap_or(0);
    let every = Mutation::ALL.into_iter().map(|(rule, _)| rule);
    let mut every: BTreeSet<Mutation> = every.chain(Mutation::UNDETECTED).collect();
    if let Some(rule) = options_from_env().mutation {
        every.retain(|one| *one == rule);
    } else if std::env::var_os("LEFT").is_some() {
        every.retain(|one| Mutation::UNDETECTED.contains(one));
    }
    let left = std::sync::Mutex::new(every);
    let seeds = std::sync::Mutex::new(from..from + number_from_env("COUNT").unwrap_or(SEEDS));
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
                    if !simulate(seed, Scope::WHOLE).violations.is_empty() {
                        print_line(&format!("hunt: seed {seed} has violations without a broken rule"));
                        continue;
                    }
                    let rules = left.lock().unwrap().clone();
                    for report in rules.into_iter().filter_map(|rule| Some((rule, detect(rule, seed)?))) {
                        let (rule, report) = report;
                        left.lock().unwrap().remove(&rule);
                        print_line(&format!(
                            "hunt: {} ({rule:?}, {seed}) after {} steps: {}",
                            theme_of(seed),
                            report.steps,
                            report.violations[0]
                        ));
                    }
                }
            });
        }
    });
    print_line(&format!("hunt: no seed detects {:?}", left.into_inner().unwrap()));
}

/// Returns the theme of a seed.
fn theme_of(seed: u64) -> String {
    let world = world::World::new(seed, store_kind::StoreKind::random, None);
    format!("{:?}", world.profile.theme)
}

#[test]
fn every_mutation_is_documented() {
    let undocumented = Mutation::ALL
        .into_iter()
        .map(|(rule, _)| rule)
        .filter(|rule| !DOCS.contains(&format!("| `{rule:?}` |")));
    assert_eq!(undocumented.collect::<Vec<_>>(), [], "docs/development/simulation.md does not list these");
}
