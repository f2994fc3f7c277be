//! Everything that there is: the store, the API server, the recorders, the clocks, chance, and what was said of it all.

use std::collections::VecDeque;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::api::Api;
use super::ask::{Answer, Ask};
use super::checks::Checks;
use super::kind::Kind;
use super::lease::Fate;
use super::mutations::Mutation;
use super::recorder::Recorders;
use super::store::{By, No, Store, Who};
use super::temper::SeedProfile;
use super::xml::digest;

/// Lines of the trace that are kept for who reads of a failure.
const KEPT: usize = 400;

/// See the module.
pub struct World {
    pub seed: u64,
    pub rng: fastrand::Rng,
    /// Requests so far.
    pub step: u64,
    pub temper: SeedProfile,
    /// What befalls the leader of each place now, and who is told of it.
    pub befalls: [(Fate, Arc<Notify>); 2],
    pub store: Store,
    pub api: Api,
    pub recorders: Recorders,
    pub checks: Checks,
    pub broken: Option<Mutation>,
    /// How far the clock of each operator is ahead, in milliseconds.
    pub ahead: [i64; 2],
    /// Nobody declares, resolves or breaks anything any more.
    pub is_calm: bool,
    /// Requests of the present look of each operator.
    pub asked: [u64; 2],
    /// What somebody who is broken remembers.
    pub memory: super::mutations::Memory,
    base: Timestamp,
    began: Instant,
    trace: VecDeque<String>,
    hash: u64,
    lines: u64,
    /// Every line is printed, as it comes.
    is_told: bool,
}

impl World {
    pub fn new(seed: u64, kind: impl FnOnce(&mut fastrand::Rng) -> Kind, broken: Option<Mutation>) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let kind = kind(&mut rng);
        let temper = SeedProfile::drawn(&mut rng);
        let first: Timestamp = "2026-03-01T00:00:00Z".parse().unwrap();
        let base = first + SignedDuration::from_secs(rng.i64(0..86_400));
        let mut world = Self {
            seed,
            step: 0,
            temper,
            befalls: [(Fate::Stays, Arc::default()), (Fate::Stays, Arc::default())],
            store: Store::new(kind),
            api: Api::default(),
            recorders: Recorders::default(),
            checks: Checks::default(),
            broken,
            ahead: [0, 0],
            asked: [0, 0],
            is_calm: false,
            memory: super::mutations::Memory::default(),
            base,
            began: Instant::now(),
            trace: VecDeque::new(),
            hash: 0,
            lines: 0,
            is_told: std::env::var_os("TELL").is_some(),
            rng,
        };
        world.say(|| format!("seed {seed}, {kind:?}"));
        world
    }

    /// How much memory an operator may have that is started now, in bytes. Of each five seeds, one has room for a few
    /// versions until all is calm.
    pub const fn memory_limit(&self) -> u64 {
        if self.is_calm || !self.is_crowded() {
            return u64::MAX;
        }
        600 * (1 + self.seed / 5 % 8)
    }

    /// Whether operators have little memory until all is calm.
    pub const fn is_crowded(&self) -> bool {
        self.seed % 5 == 3
    }

    /// Whether what was released is held anew at once.
    pub const fn redeclares_released(&self) -> bool {
        self.seed % 5 == 4
    }

    /// The true time.
    pub fn now(&self) -> Timestamp {
        let elapsed = i64::try_from(self.began.elapsed().as_millis()).unwrap();
        self.base + SignedDuration::from_millis(elapsed)
    }

    /// The store's clock.
    pub fn store_now(&self) -> Timestamp {
        self.now() + SignedDuration::from_millis(self.store.kind.clock_ahead)
    }

    /// An operator's clock.
    pub fn operator_now(&self, n: usize) -> Timestamp {
        self.now() + SignedDuration::from_millis(self.ahead[n])
    }

    /// Who administers the store, now.
    pub fn administrator(&self) -> By {
        By { who: Who::Admin, now: self.store_now(), sent: self.now() }
    }

    pub fn say(&mut self, line: impl FnOnce() -> String) {
        let line = format!("{} {}", self.now().strftime("%m-%d %H:%M:%S%.3f"), line());
        self.hash = self.hash.rotate_left(5) ^ digest(line.as_bytes());
        self.lines += 1;
        if self.is_told {
            super::say(&line);
        }
        self.trace.push_back(line);
        if self.trace.len() > KEPT {
            self.trace.pop_front();
        }
    }

    /// What tells one run from another.
    pub fn fingerprint(&self) -> (u64, u64) {
        (self.lines, self.hash)
    }

    /// The last of what happened.
    pub fn last(&self, lines: usize) -> String {
        let from = self.trace.len().saturating_sub(lines);
        self.trace.iter().skip(from).cloned().collect::<Vec<_>>().join("\n")
    }

    pub fn is_broken(&self, rule: Mutation) -> bool {
        self.broken == Some(rule)
    }

    /// The store does what is asked; where a rule is broken, something else.
    pub fn served(&mut self, by: By, ask: &Ask) -> Result<Answer, No> {
        if self.broken.is_some() {
            return self.serve_mutated(by, ask);
        }
        self.store.answer(by, ask)
    }

    /// Looks whether what happened may happen.
    pub fn see(&mut self) {
        let now = self.now();
        for effect in std::mem::take(&mut self.store.effects) {
            if matches!(effect.who, Who::Lifecycle | Who::Admin | Who::Hostile) {
                self.say(|| format!("{:?}: {:?} of {:?} {}", effect.who, effect.what, effect.key, effect.id));
            }
            self.checks.see(&effect, &self.store, &self.api, now);
        }
    }

    /// Something that must not be.
    pub fn fail(&mut self, what: String) {
        self.say(|| format!("BROKEN: {what}"));
        self.checks.broken.push(what);
    }

    pub fn is_over(&self) -> bool {
        !self.checks.broken.is_empty()
    }
}
