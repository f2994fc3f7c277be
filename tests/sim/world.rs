//! The simulated world: store, API server, recorders, clocks, random numbers, and the trace.

use std::collections::VecDeque;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::api::Api;
use super::checks::Checks;
use super::lease::Fate;
use super::mutations::Mutation;
use super::profile::SeedProfile;
use super::recorder::Recorders;
use super::store::{Actor, Caller, Store, StoreError};
use super::store_api::{StoreRequest, StoreResponse};
use super::store_kind::StoreKind;
use super::xml::digest;

/// Number of trace lines kept for a failure report.
const TRACE_LINES: usize = 400;

/// The whole state of a simulation.
pub struct World {
    pub seed: u64,
    pub rng: fastrand::Rng,
    /// Number of requests so far.
    pub step: u64,
    pub profile: SeedProfile,
    /// Pending fate of each operator, with its notification.
    pub pending_fates: [(Fate, Arc<Notify>); 2],
    pub store: Store,
    pub api: Api,
    pub recorders: Recorders,
    pub checks: Checks,
    pub mutation: Option<Mutation>,
    /// Offset of each operator's clock in milliseconds.
    pub ahead: [i64; 2],
    /// Whether the quiet phase has begun, without declarations, resolutions and faults.
    pub is_calm: bool,
    /// Number of requests in the current reconcile of each operator.
    pub requests_in_reconcile: [u64; 2],
    /// Requests that a mutation deferred.
    pub deferred: super::mutations::DeferredRequests,
    base: Timestamp,
    began: Instant,
    trace: VecDeque<String>,
    hash: u64,
    lines: u64,
    /// Whether every trace line is printed at once.
    prints_trace: bool,
}

impl World {
    pub fn new(
        seed: u64,
        kind: impl FnOnce(&mut fastrand::Rng) -> StoreKind,
        mutation: Option<Mutation>,
    ) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let kind = kind(&mut rng);
        let profile = SeedProfile::random(&mut rng);
        let first: Timestamp = "2026-03-01T00:00:00Z".parse().unwrap();
        let base = first + SignedDuration::from_secs(rng.i64(0..86_400));
        let mut world = Self {
            seed,
            step: 0,
            profile,
            pending_fates: [(Fate::Stays, Arc::default()), (Fate::Stays, Arc::default())],
            store: Store::new(kind),
            api: Api::default(),
            recorders: Recorders::default(),
            checks: Checks::default(),
            mutation,
            ahead: [0, 0],
            requests_in_reconcile: [0, 0],
            is_calm: false,
            deferred: super::mutations::DeferredRequests::default(),
            base,
            began: Instant::now(),
            trace: VecDeque::new(),
            hash: 0,
            lines: 0,
            prints_trace: std::env::var_os("TELL").is_some(),
            rng,
        };
        world.log_trace(|| format!("seed {seed}, {kind:?}"));
        world
    }

    /// Returns the memory limit in bytes of an operator that starts now. One of five seeds has room for only a few
    /// versions until the quiet phase.
    pub const fn memory_limit(&self) -> u64 {
        if self.is_calm || !self.is_crowded() {
            return u64::MAX;
        }
        600 * (1 + self.seed / 5 % 8)
    }

    /// Returns whether operators have little memory until the quiet phase.
    pub const fn is_crowded(&self) -> bool {
        self.seed % 5 == 3
    }

    /// Returns whether released recordings are held again at once.
    pub const fn redeclares_released(&self) -> bool {
        self.seed % 5 == 4
    }

    /// Returns the true time.
    pub fn now(&self) -> Timestamp {
        let elapsed = i64::try_from(self.began.elapsed().as_millis()).unwrap();
        self.base + SignedDuration::from_millis(elapsed)
    }

    /// Returns the time by the store's clock.
    pub fn store_now(&self) -> Timestamp {
        self.now() + SignedDuration::from_millis(self.store.kind.clock_ahead)
    }

    /// Returns the time by an operator's clock.
    pub fn operator_now(&self, n: usize) -> Timestamp {
        self.now() + SignedDuration::from_millis(self.ahead[n])
    }

    /// Returns the store's administrator as the caller, now.
    pub fn administrator(&self) -> Caller {
        Caller { actor: Actor::Admin, now: self.store_now(), sent: self.now() }
    }

    pub fn log_trace(&mut self, line: impl FnOnce() -> String) {
        let line = format!("{} {}", self.now().strftime("%m-%d %H:%M:%S%.3f"), line());
        self.hash = self.hash.rotate_left(5) ^ digest(line.as_bytes());
        self.lines += 1;
        if self.prints_trace {
            super::print_line(&line);
        }
        self.trace.push_back(line);
        if self.trace.len() > TRACE_LINES {
            self.trace.pop_front();
        }
    }

    /// Returns a fingerprint of the trace.
    pub fn fingerprint(&self) -> (u64, u64) {
        (self.lines, self.hash)
    }

    /// Returns the last lines of the trace.
    pub fn last_lines(&self, lines: usize) -> String {
        let from = self.trace.len().saturating_sub(lines);
        self.trace.iter().skip(from).cloned().collect::<Vec<_>>().join("\n")
    }

    pub fn is_broken(&self, rule: Mutation) -> bool {
        self.mutation == Some(rule)
    }

    /// Serves a request by the store, or by the mutation if a rule is broken.
    pub fn serve(&mut self, by: Caller, request: &StoreRequest) -> Result<StoreResponse, StoreError> {
        if self.mutation.is_some() {
            return self.serve_mutated(by, request);
        }
        self.store.serve(by, request)
    }

    /// Checks the effects since the last call.
    pub fn check_effects(&mut self) {
        let now = self.now();
        for effect in std::mem::take(&mut self.store.effects) {
            if matches!(effect.actor, Actor::Lifecycle | Actor::Admin | Actor::Hostile) {
                self.log_trace(|| {
                    format!("{:?}: {:?} of {:?} {}", effect.actor, effect.change, effect.key, effect.id)
                });
            }
            self.checks.check_effect(&effect, &self.store, &self.api, now);
        }
    }

    /// Records a violation.
    pub fn fail(&mut self, violation: String) {
        self.log_trace(|| format!("BROKEN: {violation}"));
        self.checks.violations.push(violation);
    }

    pub fn has_violations(&self) -> bool {
        !self.checks.violations.is_empty()
    }
}
