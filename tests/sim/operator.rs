//! The operator: real reconciles of the retention controller and real audits, in turn, by the leading process. The
//! lease, the Site controller and the API server are simulated.

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
use super::store::Actor;

/// Reason why a reconcile ended early.
pub type EndReason = String;

/// An operator process while it leads.
pub struct Leader {
    pub world: Shared,
    /// Number of the operator, 0 or 1.
    pub n: usize,
    pub fence: Fence,
    pub life: Arc<ProcessLife>,
    pub takeover_delay: TakeoverDelay,
    pub buckets: SiteHandoff,
    last_audit: Option<Timestamp>,
}

/// Source of the holds of the API server.
struct ApiHolds {
    world: Shared,
    n: usize,
    /// Open scopes at the start of the reconcile.
    before: Vec<HoldScope>,
}

#[async_trait]
impl OpenHolds for ApiHolds {
    async fn scopes(&self) -> Result<Vec<HoldScope>, OpenHoldsError> {
        sleep(Duration::from_millis(3)).await;
        let world = lock(&self.world);
        if world.is_broken(Mutation::DeclaredReadOnce) {
            return Ok(self.before.clone());
        }
        if world.api.is_unavailable {
            if world.is_broken(Mutation::UnknownIsNothing) {
                return Ok(Vec::new());
            }
            return Err(OpenHoldsError("the API server is unavailable".into()));
        }
        Ok(world.api.open_scopes(world.operator_now(self.n)))
    }
}

impl Leader {
    pub fn new(
        world: &Shared,
        n: usize,
        fence: Fence,
        life: Arc<ProcessLife>,
        takeover_delay: TakeoverDelay,
    ) -> Self {
        Self {
            world: world.clone(),
            n,
            fence,
            life,
            takeover_delay,
            buckets: SiteHandoff::with_budget(MemoryBudget::of_process(lock(world).memory_limit())),
            last_audit: None,
        }
    }

    /// Reconciles repeatedly until it loses the lead.
    pub async fn lead(mut self) {
        let simulated = Simulation {
            http: client(&self.world, Actor::Operator(self.n), &self.life),
            now: self.clock(),
            seed: lock(&self.world).seed,
        };
        run_within(simulated, async move {
            loop {
                let result = self.reconcile().await;
                if self.fence.check().is_err() {
                    return;
                }
                let pause = {
                    let mut world = lock(&self.world);
                    if let Err(reason) = &result {
                        world.log_trace(|| format!("operator {} ends its reconcile: {reason}", self.n));
                    }
                    if world.has_violations() {
                        return;
                    }
                    Self::pause(&mut world, result.ok())
                };
                sleep(pause).await;
                if self.fence.check().is_err() {
                    return;
                }
            }
        })
        .await;
    }

    /// Returns the operator's clock.
    fn clock(&self) -> Arc<dyn Fn() -> Timestamp + Send + Sync> {
        let (world, n) = (self.world.clone(), self.n);
        Arc::new(move || lock(&world).operator_now(n))
    }

    /// Draws the pause until the next reconcile. It is often shorter than the real one, or much longer: the operator
    /// may be down or busy.
    fn pause(world: &mut super::world::World, is_pending: Option<bool>) -> Duration {
        let reconcile_speed = if world.is_calm { 1 } else { world.profile.reconcile_speed };
        let seconds = match (world.is_calm, is_pending, world.rng.u32(0..8)) {
            (true, Some(true) | None, 4..) | (_, Some(true), 6..) => world.rng.u64(2..8),
            (true, ..) => world.rng.u64(300..2400),
            (_, _, 0) => world.rng.u64(20..120),
            (_, _, 1..=2) => world.rng.u64(300..4000),
            _ => world.rng.u64(4000..16_000),
        };
        Duration::from_secs((seconds / reconcile_speed).max(2))
    }

    /// Runs a request to the API server, at which the process may crash.
    async fn api<T>(&self, request: impl FnOnce(&mut super::world::World) -> T) -> Result<T, EndReason> {
        let millis = lock(&self.world).rng.u64(1..20);
        sleep(Duration::from_millis(millis)).await;
        if self.life.is_last() {
            self.life.died.notify_one();
            return std::future::pending().await;
        }
        let mut world = lock(&self.world);
        if world.api.is_unavailable {
            return Err("the API server is unavailable".into());
        }
        if !world.is_broken(Mutation::Unfenced) {
            self.fence.check().map_err(|error| error.to_string())?;
        }
        let done = request(&mut world);
        world.check_effects();
        Ok(done)
    }

    async fn guarded<F: Future>(&self, work: F) -> Result<F::Output, EndReason> {
        self.fence.guard(work).await.map_err(|error| error.to_string())
    }

    /// Runs one reconcile of the retention controller. Returns whether another should follow soon.
    async fn reconcile(&mut self) -> Result<bool, EndReason> {
        let began = lock(&self.world).now();
        let now = (self.clock())();
        {
            let mut world = lock(&self.world);
            world.log_trace(|| format!("operator {} reconciles", self.n));
            world.begin_reconcile(self.n);
        }
        self.run_site_controller().await?;
        let (site, holds) = self.api(|world| (world.api.site.clone(), world.api.all())).await?;
        let Some(bucket) = self.buckets.bucket(&site) else {
            return Ok(true);
        };
        // Each process has its own cache: a new leader starts with an empty one.
        let cache = self.buckets.protection_cache(&site);
        let entries = self.entries(&bucket, &cache, &holds, now).await?;
        let plan = self.plan_holds(&entries, &holds, now);
        let written = self.guarded(ledger::write_all(&bucket.operator, &plan.to_write)).await?;
        written.map_err(|error| error.to_string())?;
        let uids = holds.iter().filter_map(|hold| hold.metadata.uid.as_ref());
        for uid in uids.filter(|uid| plan.is_in_effect(uid)) {
            self.api(|world| add_finalizer(world, uid)).await?;
        }
        let scope_configs = plan.recorder_scopes();
        self.buckets.set_hold_scopes(&site, scope_configs.clone());
        self.api(|world| world.recorders.config = scope_configs).await?;
        let recorders = match lock(&self.world).mutation {
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
        let api_holds = ApiHolds {
            world: self.world.clone(),
            n: self.n,
            before: toezicht::rules::hold::proof::open_scopes(&holds, now),
        };
        let clock = self.clock();
        let pass = RetentionPass {
            fence: &self.fence,
            release_from: self.takeover_delay.release_from(now),
            api_holds: &api_holds,
            clock: &*clock,
            site: &site,
            bucket: &bucket,
            holds: &holds,
            plan: &plan,
            protection_cache: &cache,
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

    /// Registers new cameras in the ledger and reads its entries.
    async fn entries(
        &self,
        bucket: &SiteBucket,
        cache: &ProtectionCache,
        holds: &[IncidentHold],
        now: Timestamp,
    ) -> Result<BTreeMap<String, toezicht::rules::hold::entry::LedgerEntry>, EndReason> {
        let new = cache.unregistered(bucket.cameras.keys());
        if !new.is_empty() {
            let registered = self.guarded(ledger::register(&bucket.operator, &new)).await?;
            registered.map_err(|error| error.to_string())?;
            cache.note_registered(new);
        }
        let uids = holds.iter().filter(|hold| needs_ledger_lookup(hold, now));
        let uids = uids.filter_map(|hold| hold.metadata.uid.clone()).collect();
        let entries = self.guarded(ledger::read_all(&bucket.operator, &uids)).await?;
        entries.map_err(|error| error.to_string())
    }

    fn plan_holds(
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
            // Only new entries make the operator close their predecessors.
            let is_new = is_new(&plan, entries);
            plan.to_write.retain(|entry| entry.is_open() || is_new);
        }
        plan
    }

    /// Simulates the Site controller: requests the recorders' acknowledgements and hands over the bucket.
    async fn run_site_controller(&self) -> Result<(), EndReason> {
        self.api(|world| {
            let recorders = world.recorders.acknowledgement(world.is_broken(Mutation::UploadsForgotten));
            let behind = world.recorders.describe_unacknowledged();
            world.log_trace(|| format!("recorders without acknowledgement: {behind}"));
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

    /// Writes statuses in the controller's order: losses first, then each hold, then the Site.
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
    ) -> Result<(), EndReason> {
        let before = site.status.as_ref().and_then(|status| status.retention.as_ref());
        let next = retention_status(before, plan, outcome, problem.clone(), now);
        if let Some(drift) = &outcome.drift {
            let loss_status =
                RetentionStatus { drift: next.drift.clone(), ..before.cloned().unwrap_or_default() };
            let lost: Vec<String> = drift.holds_with_losses.clone();
            self.api(|world| {
                write_site(world, loss_status);
                for (uid, _) in
                    world.api.holds.clone().iter().filter(|(_, hold)| {
                        hold.metadata.name.as_ref().is_some_and(|name| lost.contains(name))
                    })
                {
                    world.log_trace(|| format!("the status reports that held versions of {uid} are lost"));
                    world.checks.record_loss_report(uid);
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

    /// Audits as the audit controller does, at its own interval.
    async fn audit(&mut self) -> Result<(), EndReason> {
        let (began, holds) = {
            let world = lock(&self.world);
            (world.now(), world.api.all())
        };
        if self.last_audit.is_some_and(|at| began.duration_since(at) < SignedDuration::from_hours(5)) {
            return Ok(());
        }
        let now = (self.clock())();
        let is_blind = lock(&self.world).is_broken(Mutation::AuditBelievesResolved);
        let known = holds
            .iter()
            .filter_map(|hold| Some((hold.metadata.uid.clone()?, is_resolved(hold, now) && !is_blind)));
        let cache = self.buckets.protection_cache(&lock(&self.world).api.site).empty_sibling();
        let scope = AuditOptions {
            terms: terms(lock(&self.world).checks.embargo),
            range: ScanRange::All,
            sample_one_in: 3,
            known_holds: Some(known.collect()),
            cache: cache.into(),
        };
        let tally = self.guarded(audit(&bucket(), &scope, now)).await?;
        let tally = tally.map_err(|error| error.to_string())?;
        self.last_audit = Some(began);
        self.api(|world| {
            let world = &mut *world;
            world.log_trace(|| format!("the audit finds {:?}", tally.findings));
            if tally.is_compliant() {
                let now = world.now();
                world.checks.check_compliant(&world.store, &world.api, began, now);
            }
            world.api.site.status.get_or_insert_default().audit = Some(to_audit_status(&tally, now));
        })
        .await
    }
}

/// Returns the holds as if recorders had acknowledged their current scope.
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

fn to_audit_status(tally: &Tally, now: Timestamp) -> AuditStatus {
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

fn add_finalizer(world: &mut super::world::World, uid: &str) {
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
