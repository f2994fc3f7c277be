//! A quiet day of a Site. The operator's own controllers reconcile at their own deadlines and after the status writes
//! that wake them. Nothing fails, and nobody changes anything.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use sha2::{Digest, Sha256};
use toezicht::api::{IncidentHold, StorageStatus};
use toezicht::controllers::audit::{audit_interval, audit_status, due_reach};
use toezicht::controllers::handoff::{HoldAck, SiteBucket, SiteHandoff};
use toezicht::controllers::requeue;
use toezicht::controllers::retention::plan::{needs_ledger_lookup, plan_holds};
use toezicht::controllers::retention::{
    PassOutcome, RetentionPass, deadlines, placement_status, retention_status,
};
use toezicht::controllers::site::bucket::{BucketCache, S3, ensure};
use toezicht::leader::clock::BootInstant;
use toezicht::leader::fence::Fence;
use toezicht::recorder::upload::retention_tag;
use toezicht::rules::hold::proof::open_scopes;
use toezicht::rules::hold::scope::HoldScope;
use toezicht::rules::retention::PROTOCOL_CEILINGS;
use toezicht::storage::recordings::audit::{AuditOptions, audit};
use toezicht::storage::recordings::ledger;
use toezicht::storage::recordings::open_holds::{OpenHolds, OpenHoldsError};
use toezicht::storage::s3::segments::Uploader;
use toezicht::storage::s3::simulation::{Simulation, run_within};
use tokio::time::{Instant, sleep};

use super::counting_store::{CountingStore, OPERATOR, Part, RECORDER, Shared, client, lock};
use super::site_setup::{
    BODY, SEGMENT, TERMS, UPLOAD_DELAY, access, connection, put, recordings_ending_at, set_up_site, target,
};
use crate::api::{Api, Incident, is_resolved, policy};
use crate::lease::Boot;

/// Time after midnight at which the store's lifecycle runs.
pub const LIFECYCLE_HOUR: SignedDuration = SignedDuration::from_hours(3);
/// Delay between a status write and the reconcile that it triggers.
pub const WAKE: SignedDuration = SignedDuration::from_millis(200);
/// Warm-up before the counted day, by whose end everything is placed and verified.
pub const WARM_UP: SignedDuration = SignedDuration::from_hours(1);
/// A scenario to count.
pub struct Scenario {
    pub cameras: Vec<String>,
    pub holds: Vec<Incident>,
    /// Whether recorders upload by their own code. Otherwise segments are put directly into the store.
    pub are_uploads_real: bool,
    /// Days of recordings at the start. Thirty are more than the lifecycle leaves.
    pub backlog: i64,
    /// Number of counted hours.
    pub hours: i64,
}

/// Returns the names of `count` cameras.
pub fn cameras(count: usize) -> Vec<String> {
    (1..=count).map(|number| format!("hal-{number}")).collect()
}

/// Returns the start of the counted day.
pub fn midnight() -> Timestamp {
    "2026-11-03T00:00:00Z".parse().unwrap()
}

struct ApiHolds(Vec<IncidentHold>, Timestamp);

#[async_trait]
impl OpenHolds for ApiHolds {
    async fn scopes(&self) -> Result<Vec<HoldScope>, OpenHoldsError> {
        Ok(open_scopes(&self.0, self.1))
    }
}

/// Next reconcile of each controller, and next event of recorders and lifecycle.
#[derive(Clone, Copy, Debug)]
pub struct Next {
    pub site: Timestamp,
    audit: Timestamp,
    retention: Timestamp,
    segments: Timestamp,
    expiry: Timestamp,
}

/// The operator with a Site and its bucket.
pub struct Operator {
    pub counting_store: Shared,
    pub api: Api,
    cameras: Vec<String>,
    buckets: SiteHandoff,
    site: BucketCache,
    pub reported: Option<StorageStatus>,
    fence: Fence,
    uploader: Option<Uploader>,
    pub next: Next,
    /// Number of pending reconciles triggered by status writes.
    wakes: u32,
    /// Verification intervals that the status reported, in seconds.
    pub stated: Vec<i64>,
    /// Whether the audit must report findings.
    has_findings: bool,
}

impl Operator {
    /// Runs `work` with an operator in simulated time.
    pub fn run<T>(scenario: Scenario, work: impl AsyncFnOnce(Self) -> T) -> T {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async move {
            let base = midnight() - WARM_UP;
            let counting_store = Arc::new(std::sync::Mutex::new(CountingStore::new(base)));
            let simulated = Simulation {
                http: client(&counting_store),
                now: {
                    let counting_store = counting_store.clone();
                    Arc::new(move || lock(&counting_store).now())
                },
                seed: 7,
            };
            let whole = async move {
                let operator = Self::new(counting_store, &scenario, base);
                work(operator).await
            };
            Box::pin(run_within(simulated, whole)).await
        })
    }

    fn new(counting_store: Shared, scenario: &Scenario, base: Timestamp) -> Self {
        let fence = Fence::new(Arc::new(Boot(Instant::now())));
        fence.extend(BootInstant::since_boot(Duration::MAX));
        let mut api = Api::default();
        for incident in &scenario.holds {
            api.declare(incident, base);
        }
        set_up_site(&mut lock(&counting_store), scenario, base);
        let uploader = scenario.are_uploads_real.then(|| Uploader::new(&target(&RECORDER)).unwrap());
        Self {
            counting_store,
            api,
            cameras: scenario.cameras.clone(),
            buckets: SiteHandoff::default(),
            site: BucketCache::default(),
            reported: None,
            fence,
            uploader,
            next: Next {
                site: base,
                audit: base + WAKE * 3,
                retention: base + WAKE * 2,
                segments: base + UPLOAD_DELAY + SEGMENT,
                expiry: midnight() + LIFECYCLE_HOUR,
            },
            wakes: 0,
            stated: Vec::new(),
            has_findings: false,
        }
    }

    /// Makes audits expect findings.
    pub fn expects_findings(&mut self) {
        self.has_findings = true;
    }

    /// Makes the next reconcile verify everything.
    pub fn forget_verification(&mut self) {
        let status = self.api.site.status.get_or_insert_default();
        if let Some(retention) = &mut status.retention {
            retention.last_verification_time = None;
        }
    }

    /// Makes the next reconcile verify and sweep everything, and the next audit a full one.
    pub fn forget_sweep_and_audit(&mut self) {
        let status = self.api.site.status.get_or_insert_default();
        if let Some(retention) = &mut status.retention {
            (retention.last_sweep_time, retention.last_verification_time) = (None, None);
        }
        if let Some(audit) = &mut status.audit {
            audit.last_boundary_audit_time = Time(Timestamp::UNIX_EPOCH);
            audit.last_full_audit_time = Time(Timestamp::UNIX_EPOCH);
        }
    }

    pub fn now(&self) -> Timestamp {
        lock(&self.counting_store).now()
    }

    /// Runs everything that is due until `end`.
    pub async fn run_until(&mut self, end: Timestamp) {
        loop {
            let Next { site, audit, retention, segments, expiry } = self.next;
            let first = [site, audit, retention, segments, expiry].into_iter().min().unwrap();
            let pause = first.min(end).duration_since(self.now());
            sleep(Duration::try_from(pause).unwrap_or_default()).await;
            if first >= end {
                return;
            }
            match first {
                first if first == segments => self.upload_segments(segments).await,
                first if first == expiry => self.expire(),
                first if first == site => self.reconcile_bucket().await,
                first if first == retention => drop(self.reconcile().await),
                _ => self.audit().await,
            }
        }
    }

    /// Disables uploads, audits and sweeps: the test uploads segments itself.
    pub fn reconcile_holds_only(&mut self) {
        (self.next.segments, self.next.audit) = (Timestamp::MAX, Timestamp::MAX);
        let status = self.api.site.status.get_or_insert_default();
        let now = lock(&self.counting_store).now();
        status.retention.get_or_insert_default().last_sweep_time = Some(Time(now));
    }

    fn part(&self, part: Part) {
        lock(&self.counting_store).part = part;
    }

    fn wake(&mut self) {
        self.next.retention = self.next.retention.min(self.now() + WAKE);
    }

    /// Uploads a segment of each camera, and sometimes a call.
    async fn upload_segments(&mut self, at: Timestamp) {
        self.part(Part::Recorders);
        self.next.segments = at + SEGMENT;
        let held = self.buckets.holds(&self.api.site).unwrap_or_default();
        let covers: Vec<HoldScope> = held.values().cloned().collect();
        for key in recordings_ending_at(&self.cameras, at - UPLOAD_DELAY) {
            let tag = retention_tag(&covers, &key);
            if let Some(uploader) = &self.uploader {
                let put = uploader.put_bytes(&key, BODY.to_vec(), Sha256::digest(BODY).into(), tag);
                put.await.unwrap();
            } else {
                let now = self.now();
                put(&mut lock(&self.counting_store), &key, tag.as_str(), now);
            }
        }
    }

    fn expire(&mut self) {
        let now = self.now();
        let mut counting_store = lock(&self.counting_store);
        counting_store.store.run_lifecycle_with(&PROTOCOL_CEILINGS, now, now);
        counting_store.store.effects.clear();
        self.next.expiry = now + SignedDuration::from_hours(24);
    }

    /// Runs the Site controller's reconcile of the bucket. It reads the store only if its cached state is outdated.
    pub async fn reconcile_bucket(&mut self) {
        self.part(Part::Site);
        let (now, before) = (self.now(), lock(&self.counting_store).counts.clone());
        let bucket =
            ensure(&S3::default(), &self.site, &self.fence, Some(&access()), self.reported.as_ref(), now)
                .await
                .unwrap();
        self.site.mark_reported("site-uid");
        let tried_at = |status: &Option<StorageStatus>| {
            status.as_ref().and_then(|status| status.last_probe_time.clone())
        };
        assert!(bucket.may_record(), "{:?} {:?}", bucket.finding, bucket.probe_results);
        let is_written = bucket.status != self.reported;
        if tried_at(&bucket.status) != tried_at(&self.reported) {
            let mut counting_store = lock(&self.counting_store);
            for (key, count) in counting_store.counts.clone() {
                let new = count - before.get(&key).copied().unwrap_or_default();
                if key.0 == Part::Site && new > 0 {
                    *counting_store.counts.get_mut(&key).unwrap() -= new;
                    *counting_store.counts.entry((Part::Probe, key.1, key.2)).or_default() += new;
                }
            }
        }
        self.reported = bucket.status;
        self.next.site = now + SignedDuration::try_from(requeue::delay(now, bucket.recheck_at, 0.5)).unwrap();
        if is_written {
            self.wake();
        }
    }

    /// Runs a reconcile of the audit controller.
    pub async fn audit(&mut self) {
        self.part(Part::Audit);
        let now = self.now();
        let before = self.api.site.status.as_ref().and_then(|status| status.audit.clone());
        let Some(reach) = due_reach(before.as_ref(), now) else {
            self.next.audit = before.unwrap().last_boundary_audit_time.0 + SignedDuration::from_hours(1);
            return;
        };
        let all = self.api.all();
        let known = all.iter().filter_map(|hold| Some((hold.metadata.uid.clone()?, is_resolved(hold, now))));
        let scope = AuditOptions {
            terms: TERMS,
            range: reach,
            sample_one_in: 100,
            known_holds: Some(known.collect()),
            cache: Arc::default(),
        };
        let tally = audit(&connection(&OPERATOR), &scope, now).await.unwrap();
        assert_eq!(tally.is_compliant(), !self.has_findings, "{:?}", tally.findings);
        let next = audit_status(before.as_ref(), &tally, reach, &PROTOCOL_CEILINGS, now);
        let again = now + audit_interval(&next);
        self.next.audit = now + SignedDuration::try_from(requeue::delay(now, [again], 0.5)).unwrap();
        self.api.site.status.get_or_insert_default().audit = Some(next);
        self.wake();
    }

    fn hand_over_bucket(&self) {
        let declared = midnight() - SignedDuration::from_hours(24 * 100);
        let bucket = SiteBucket {
            operator: connection(&OPERATOR),
            terms: TERMS,
            // Recorders acknowledge within one reconcile.
            hold_ack: HoldAck::Acknowledged(self.buckets.holds(&self.api.site).unwrap_or_default()),
            cameras: self.cameras.iter().map(|name| (name.clone(), declared)).collect(),
            gaps: BTreeMap::new(),
        };
        self.buckets.set_bucket(&self.api.site, Some(bucket));
    }

    /// Runs a reconcile of the retention controller.
    pub async fn reconcile(&mut self) -> PassOutcome {
        self.part(Part::Retention);
        self.hand_over_bucket();
        let (site, holds, now) = (self.api.site.clone(), self.api.all(), self.now());
        let status = site.status.as_ref().and_then(|status| status.retention.as_ref());
        let verified = status.and_then(|status| {
            Some((status.last_verification_time.as_ref()?.0, status.verification_interval_seconds?))
        });
        let is_due = verified.is_none_or(|(at, every)| at + SignedDuration::from_secs(every) <= now);
        lock(&self.counting_store).begin_reconcile(is_due);
        let bucket = self.buckets.bucket(&site).unwrap();
        let cache = self.buckets.protection_cache(&site);
        let new = cache.unregistered(bucket.cameras.keys());
        if !new.is_empty() {
            ledger::register(&bucket.operator, &new).await.unwrap();
            cache.note_registered(new);
        }
        let uids = holds.iter().filter(|hold| needs_ledger_lookup(hold, now));
        let uids = uids.filter_map(|hold| hold.metadata.uid.clone()).collect();
        let entries = ledger::read_all(&bucket.operator, &uids).await.unwrap();
        let plan = plan_holds(&entries, &holds, Some(&policy()), now);
        ledger::write_all(&bucket.operator, &plan.to_write).await.unwrap();
        self.buckets.set_hold_scopes(&site, plan.recorder_scopes());
        let recorders = self.buckets.bucket(&site).unwrap().hold_ack;
        let bucket = SiteBucket { hold_ack: recorders, ..bucket };
        let (declared, counting_store) = (ApiHolds(holds.clone(), now), self.counting_store.clone());
        let clock = move || lock(&counting_store).now();
        let pass = RetentionPass {
            fence: &self.fence,
            release_from: Timestamp::MIN,
            api_holds: &declared,
            clock: &clock,
            site: &site,
            bucket: &bucket,
            holds: &holds,
            plan: &plan,
            protection_cache: &cache,
            now,
        };
        let (mut outcome, failed) = Box::pin(pass.run()).await;
        assert!(failed.is_none(), "{failed:?}");
        assert!(outcome.drift.is_none(), "{:?}", outcome.drift);
        let mut writes = 0;
        for hold in &holds {
            let next = placement_status(hold, &plan, &outcome, now);
            let uid = hold.metadata.uid.as_ref().unwrap();
            let status = self.api.holds.get_mut(uid).unwrap().status.get_or_insert_default();
            if next.is_some() && next != status.placement {
                status.placement = next;
                // The hold controller then writes conditions, which wake this controller again.
                writes = 2;
            }
        }
        let status = self.api.site.status.get_or_insert_default();
        let next = retention_status(status.retention.as_ref(), &plan, &outcome, None, now);
        let every = next.verification_interval_seconds;
        if status.retention.as_ref() != Some(&next) {
            status.retention = Some(next);
            writes = writes.max(1);
        }
        pass.write_manifests(&mut outcome).await.1.unwrap();
        let wait = requeue::delay(now, deadlines(&plan, &outcome, now), 0.5);
        self.wakes = self.wakes.saturating_sub(1).max(writes);
        self.next.retention = now + SignedDuration::try_from(wait).unwrap();
        if self.wakes > 0 {
            self.wake();
        }
        self.stated.extend(every);
        outcome
    }
}
