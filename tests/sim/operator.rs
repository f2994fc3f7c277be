//! The operator: the real looks of the retention controller and the real audit, one after the other, by the process that
//! leads. What is around them (the lease, the Site controller, the API server) is simulated.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use toezicht::api::{AuditFinding, AuditStatus, IncidentHold, RetentionStatus};
use toezicht::controllers::handoff::{HoldAck, SiteBucket, SiteHandoff};
use toezicht::controllers::hold::FINALIZER;
use toezicht::controllers::retention::plan::{HoldPlan, needs_ledger_lookup, plan_holds};
use toezicht::controllers::retention::{PassOutcome, RetentionPass, placement_status, retention_status};
use toezicht::leader::fence::Fence;
use toezicht::leader::takeover::TakeoverDelay;
use toezicht::rules::hold::scope::HoldScope;
use toezicht::rules::live_view::Embargo;
use toezicht::rules::retention::RetentionTerms;
use toezicht::storage::recordings::audit::{AuditOptions, Tally, audit};
use toezicht::storage::recordings::hold::memory_budget::MemoryBudget;
use toezicht::storage::recordings::hold::protection_cache::ProtectionCache;
use toezicht::storage::recordings::ledger;
use toezicht::storage::recordings::open_holds::{OpenHolds, OpenHoldsError};
use toezicht::storage::recordings::sweep::state::ScanRange;
use toezicht::storage::s3::simulation::{Simulation, run_within};
use tokio::time::sleep;

use super::api::{CEILINGS, is_resolved, policy};
use super::claims::{claim, report_never_held};
use super::http::{ProcessLife, Shared, client, lock};
use super::mutations::Mutation;
use super::recorder::bucket;
use super::store::Who;

/// Why a look ended.
pub type Ended = String;

/// One process, while it leads.
pub struct Leader {
    pub world: Shared,
    /// Which of the two.
    pub n: usize,
    pub fence: Fence,
    pub life: Arc<ProcessLife>,
    pub aftermath: TakeoverDelay,
    pub buckets: SiteHandoff,
    audited: Option<Timestamp>,
}

/// The holds that the API server has.
struct Declared {
    world: Shared,
    n: usize,
    /// What it had when the look began.
    before: Vec<HoldScope>,
}

#[async_trait]
impl OpenHolds for Declared {
    async fn scopes(&self) -> Result<Vec<HoldScope>, OpenHoldsError> {
        sleep(Duration::from_millis(3)).await;
        let world = lock(&self.world);
        if world.is_broken(Mutation::DeclaredReadOnce) {
            return Ok(self.before.clone());
        }
        if world.api.is_away {
            if world.is_broken(Mutation::UnknownIsNothing) {
                return Ok(Vec::new());
            }
            return Err(OpenHoldsError("the API server is away".into()));
        }
        Ok(world.api.covers(world.operator_now(self.n)))
    }
}

impl Leader {
    pub fn new(
        world: &Shared,
        n: usize,
        fence: Fence,
        life: Arc<ProcessLife>,
        aftermath: TakeoverDelay,
    ) -> Self {
        Self {
            world: world.clone(),
            n,
            fence,
            life,
            aftermath,
            buckets: SiteHandoff::with_budget(MemoryBudget::of_process(lock(world).memory_limit())),
            audited: None,
        }
    }

    /// Looks again and again, until it does not lead any more.
    pub async fn lead(mut self) {
        let simulated = Simulation {
            http: client(&self.world, Who::Operator(self.n), &self.life),
            now: self.clock(),
            seed: lock(&self.world).seed,
        };
        run_within(simulated, async move {
            loop {
                let ended = self.look().await;
                if self.fence.check().is_err() {
                    return;
                }
                let pause = {
                    let mut world = lock(&self.world);
                    if let Err(why) = &ended {
                        world.say(|| format!("operator {} ends its look: {why}", self.n));
                    }
                    if world.is_over() {
                        return;
                    }
                    Self::pause(&mut world, ended.ok())
                };
                sleep(pause).await;
                if self.fence.check().is_err() {
                    return;
                }
            }
        })
        .await;
    }

    /// Its clock.
    fn clock(&self) -> Arc<dyn Fn() -> Timestamp + Send + Sync> {
        let (world, n) = (self.world.clone(), self.n);
        Arc::new(move || lock(&world).operator_now(n))
    }

    /// Until the next look. Often sooner than the operator would, or much later: it may be down, or busy elsewhere.
    fn pause(world: &mut super::world::World, is_pending: Option<bool>) -> Duration {
        let haste = if world.is_calm { 1 } else { world.temper.haste };
        let seconds = match (world.is_calm, is_pending, world.rng.u32(0..8)) {
            (true, Some(true) | None, 4..) | (_, Some(true), 6..) => world.rng.u64(2..8),
            (true, ..) => world.rng.u64(300..2400),
            (_, _, 0) => world.rng.u64(20..120),
            (_, _, 1..=2) => world.rng.u64(300..4000),
            _ => world.rng.u64(4000..16_000),
        };
        Duration::from_secs((seconds / haste).max(2))
    }

    /// A write to the API server, or a read: the process may die at it.
    async fn api<T>(&self, what: impl FnOnce(&mut super::world::World) -> T) -> Result<T, Ended> {
        let millis = lock(&self.world).rng.u64(1..20);
        sleep(Duration::from_millis(millis)).await;
        if self.life.is_last() {
            self.life.died.notify_one();
            return std::future::pending().await;
        }
        let mut world = lock(&self.world);
        if world.api.is_away {
            return Err("the API server is away".into());
        }
        if !world.is_broken(Mutation::Unfenced) {
            self.fence.check().map_err(|error| error.to_string())?;
        }
        let done = what(&mut world);
        world.see();
        Ok(done)
    }

    async fn guarded<F: Future>(&self, work: F) -> Result<F::Output, Ended> {
        self.fence.guard(work).await.map_err(|error| error.to_string())
    }

    /// One look, as the retention controller takes it; whether it is to be followed by another soon.
    async fn look(&mut self) -> Result<bool, Ended> {
        let began = lock(&self.world).now();
        let now = (self.clock())();
        {
            let mut world = lock(&self.world);
            world.say(|| format!("operator {} looks", self.n));
            world.begin_look(self.n);
        }
        self.run_site_controller().await?;
        let (site, holds) = self.api(|world| (world.api.site.clone(), world.api.all())).await?;
        let Some(bucket) = self.buckets.bucket(&site) else {
            return Ok(true);
        };
        // One memory for each process: whoever takes over knows nothing.
        let memory = self.buckets.protection_cache(&site);
        let entries = self.entries(&bucket, &memory, &holds, now).await?;
        let plan = self.planned(&entries, &holds, now);
        let written = self.guarded(ledger::write_all(&bucket.operator, &plan.to_write)).await?;
        written.map_err(|error| error.to_string())?;
        let counting = holds.iter().filter_map(|hold| hold.metadata.uid.as_ref());
        for uid in counting.filter(|uid| plan.is_in_effect(uid)) {
            self.api(|world| finalize(world, uid)).await?;
        }
        let coverings = plan.recorder_scopes();
        self.buckets.set_hold_scopes(&site, coverings.clone());
        self.api(|world| world.recorders.config = coverings).await?;
        let recorders = match lock(&self.world).broken {
            Some(Mutation::FollowNotAsked) => HoldAck::NoRecorders,
            Some(Mutation::FollowKept) => match &bucket.hold_ack {
                HoldAck::Acknowledged(_) => HoldAck::Acknowledged(plan.recorder_scopes()),
                other => other.clone(),
            },
            _ => self.buckets.bucket(&site).map_or(HoldAck::Unknown, |bucket| bucket.hold_ack),
        };
        let bucket = SiteBucket { hold_ack: recorders, ..bucket };
        let holds = if lock(&self.world).is_broken(Mutation::ScopeForgotten) {
            acknowledge_any_scope(holds, &plan)
        } else {
            holds
        };
        let declared = Declared {
            world: self.world.clone(),
            n: self.n,
            before: toezicht::rules::hold::proof::open_scopes(&holds, now),
        };
        let clock = self.clock();
        let pass = RetentionPass {
            fence: &self.fence,
            release_from: self.aftermath.release_from(now),
            api_holds: &declared,
            clock: &*clock,
            site: &site,
            bucket: &bucket,
            holds: &holds,
            plan: &plan,
            protection_cache: &memory,
            now,
        };
        let (mut outcome, failed) = pass.run().await;
        let problem = failed.map(|error| error.to_string());
        lock(&self.world).end_reconcile(self.n);
        let is_first = lock(&self.world).is_broken(Mutation::ManifestFirst);
        if is_first {
            let (_, written) = pass.write_manifests(&mut outcome).await;
            written.map_err(|error| error.to_string())?;
        }
        self.report(&site, &holds, &plan, &outcome, problem.clone(), began, now).await?;
        if !is_first {
            let (_, written) = pass.write_manifests(&mut outcome).await;
            written.map_err(|error| error.to_string())?;
        }
        self.audit().await?;
        match problem {
            Some(problem) => Err(problem),
            None => Ok(outcome.needs_another_pass || outcome.is_changed() || !plan.to_write.is_empty()),
        }
    }

    /// What the ledger has, once it has the cameras.
    async fn entries(
        &self,
        bucket: &SiteBucket,
        memory: &ProtectionCache,
        holds: &[IncidentHold],
        now: Timestamp,
    ) -> Result<BTreeMap<String, toezicht::rules::hold::entry::LedgerEntry>, Ended> {
        let new = memory.unregistered(bucket.cameras.keys());
        if !new.is_empty() {
            let registered = self.guarded(ledger::register(&bucket.operator, &new)).await?;
            registered.map_err(|error| error.to_string())?;
            memory.note_registered(new);
        }
        let asked = holds.iter().filter(|hold| needs_ledger_lookup(hold, now));
        let asked = asked.filter_map(|hold| hold.metadata.uid.clone()).collect();
        let entries = self.guarded(ledger::read_all(&bucket.operator, &asked)).await?;
        entries.map_err(|error| error.to_string())
    }

    fn planned(
        &self,
        entries: &BTreeMap<String, toezicht::rules::hold::entry::LedgerEntry>,
        holds: &[IncidentHold],
        now: Timestamp,
    ) -> HoldPlan {
        let world = lock(&self.world);
        let mut plan = plan_holds(entries, holds, Some(&policy()), now);
        if world.is_broken(Mutation::NotReopened) {
            plan.to_write.retain(|entry| {
                entries.get(&entry.uid).is_none_or(toezicht::rules::hold::entry::LedgerEntry::is_open)
            });
        }
        if world.is_broken(Mutation::SuccessionOnce) {
            // The predecessor of an entry that is there already is not looked for.
            let is_new = is_new(&plan, entries);
            plan.to_write.retain(|entry| entry.is_open() || is_new);
        }
        plan
    }

    /// What the Site controller does: it asks the recorders what they follow.
    async fn run_site_controller(&self) -> Result<(), Ended> {
        self.api(|world| {
            let recorders = world.recorders.follow(world.is_broken(Mutation::UploadsForgotten));
            let behind = world.recorders.behind();
            world.say(|| format!("recorders that do not follow: {behind}"));
            let declared =
                world.api.site.metadata.creation_timestamp.as_ref().map_or(Timestamp::MIN, |at| at.0);
            let cameras = world
                .recorders
                .all
                .keys()
                .filter(|(class, _)| *class == toezicht::rules::recording::key::Class::Video);
            let bucket = SiteBucket {
                operator: bucket(),
                terms: terms(world.checks.embargo.filter(|_| !world.is_broken(Mutation::EmbargoForgotten))),
                hold_ack: recorders,
                cameras: cameras.map(|(_, name)| (name.clone(), declared)).collect(),
                gaps: BTreeMap::new(),
            };
            let site = world.api.site.clone();
            self.buckets.set_bucket(&site, Some(bucket));
        })
        .await
    }

    /// As the controller reports: what was lost first, then each hold, then the Site.
    #[allow(clippy::too_many_arguments, reason = "as many as the controller has")]
    async fn report(
        &self,
        site: &toezicht::api::Site,
        holds: &[IncidentHold],
        plan: &HoldPlan,
        outcome: &PassOutcome,
        problem: Option<String>,
        began: Timestamp,
        now: Timestamp,
    ) -> Result<(), Ended> {
        let before = site.status.as_ref().and_then(|status| status.retention.as_ref());
        let next = retention_status(before, plan, outcome, problem.clone(), now);
        if let Some(drift) = &outcome.drift {
            let told = RetentionStatus { drift: next.drift.clone(), ..before.cloned().unwrap_or_default() };
            let lost: Vec<String> = drift.holds_with_losses.clone();
            self.api(|world| {
                write_site(world, told);
                for (uid, _) in
                    world.api.holds.clone().iter().filter(|(_, hold)| {
                        hold.metadata.name.as_ref().is_some_and(|name| lost.contains(name))
                    })
                {
                    world.say(|| format!("told: held versions of {uid} are gone"));
                    world.checks.told(uid);
                }
            })
            .await?;
        }
        for hold in holds {
            if let Some(next) = placement_status(hold, plan, outcome, now) {
                self.api(|world| claim(world, hold, next, began, now)).await?;
            } else if hold.metadata.uid.as_ref().is_some_and(|uid| plan.report_never_held.contains(uid)) {
                self.api(|world| report_never_held(world, hold, began, now)).await?;
            }
        }
        self.api(|world| write_site(world, next)).await
    }

    /// As the audit controller does, at its own times.
    async fn audit(&mut self) -> Result<(), Ended> {
        let (began, holds) = {
            let world = lock(&self.world);
            (world.now(), world.api.all())
        };
        if self.audited.is_some_and(|at| began.duration_since(at) < SignedDuration::from_hours(5)) {
            return Ok(());
        }
        let now = (self.clock())();
        let is_blind = lock(&self.world).is_broken(Mutation::AuditBelievesResolved);
        let known = holds
            .iter()
            .filter_map(|hold| Some((hold.metadata.uid.clone()?, is_resolved(hold, now) && !is_blind)));
        let memory = self.buckets.protection_cache(&lock(&self.world).api.site).empty_sibling();
        let scope = AuditOptions {
            terms: terms(lock(&self.world).checks.embargo),
            range: ScanRange::All,
            sample_one_in: 3,
            known_holds: Some(known.collect()),
            cache: memory.into(),
        };
        let tally = self.guarded(audit(&bucket(), &scope, now)).await?;
        let tally = tally.map_err(|error| error.to_string())?;
        self.audited = Some(began);
        self.api(|world| {
            let world = &mut *world;
            world.say(|| format!("the audit finds {:?}", tally.findings));
            if tally.is_compliant() {
                let now = world.now();
                world.checks.compliant(&world.store, &world.api, began, now);
            }
            world.api.site.status.get_or_insert_default().audit = Some(audited(&tally, now));
        })
        .await
    }
}

/// The holds, as if their recorders had acknowledged what they cover now.
fn acknowledge_any_scope(mut holds: Vec<IncidentHold>, plan: &HoldPlan) -> Vec<IncidentHold> {
    for hold in &mut holds {
        let entry = hold.metadata.uid.as_ref().and_then(|uid| plan.open.get(uid));
        let placement = hold.status.as_mut().and_then(|status| status.placement.as_mut());
        if let Some((entry, placement)) = entry.zip(placement) {
            placement.scope_hash = entry.scope_hash();
        }
    }
    holds
}

fn is_new(plan: &HoldPlan, entries: &BTreeMap<String, toezicht::rules::hold::entry::LedgerEntry>) -> bool {
    plan.to_write.iter().any(|entry| entry.is_open() && !entries.contains_key(&entry.uid))
}

fn audited(tally: &Tally, now: Timestamp) -> AuditStatus {
    let count = |number: u64| i64::try_from(number).unwrap();
    let findings = tally.findings.iter().map(|(found, findings)| AuditFinding {
        type_: <&str>::from(found).to_owned(),
        count: count(findings.count),
        violation: found.is_violation(),
        examples: findings.examples.clone(),
    });
    AuditStatus {
        last_full_audit_time: Time(now),
        last_boundary_audit_time: Time(now),
        versions: count(tally.versions),
        bytes: count(tally.bytes),
        held_versions: count(tally.held_versions),
        inspected_versions: count(tally.inspected_versions),
        sample_one_in: 1,
        oldest_unheld_video_time: None,
        oldest_unheld_calls_time: None,
        lifecycle_lag_seconds: 0,
        findings: findings.collect(),
    }
}

fn finalize(world: &mut super::world::World, uid: &str) {
    if let Some(hold) = world.api.holds.get_mut(uid) {
        let finalizers = hold.metadata.finalizers.get_or_insert_default();
        if !finalizers.iter().any(|one| one == FINALIZER) {
            finalizers.push(FINALIZER.to_owned());
        }
    }
}

fn write_site(world: &mut super::world::World, retention: RetentionStatus) {
    world.api.site.status.get_or_insert_default().retention = Some(retention);
}

fn terms(embargo: Option<SignedDuration>) -> RetentionTerms {
    RetentionTerms { ceilings: CEILINGS, embargo: embargo.map_or(Embargo::LiveView, Embargo::After) }
}
