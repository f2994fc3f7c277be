//! Retention: the one writer of a bucket's holds, and the sweep (article 6).
//!
//! For each Site whose bucket the Site controller has found as it must be: which holds count ([`plan`], from the API
//! server and the ledger), the ledger first, then a pass that places, one that releases, the sweep, and what came of it
//! ([`report`]). One Site is looked at by one task at a time, so all writes to a bucket's holds come one after another.

mod cadence;
mod declared;
mod manifests;
pub(crate) mod outcome;
mod pass;
pub(crate) mod plan;
mod report;
pub(crate) mod rules;
mod watches;

use jiff::{SignedDuration, Timestamp};
use kube::api::ListParams;
use kube::core::DeserializeGuard;
use kube::{Api, ResourceExt};

use self::declared::Declared;
pub use self::outcome::Outcome;
pub use self::pass::Pass;
use self::plan::{Plan, plan};
pub use self::report::{of_site, placement};
pub use self::watches::controller;
use crate::api::{IncidentHold, RecordingPolicy, Site};
use crate::controllers::buckets::{Follow, OpenBucket};
use crate::controllers::drive::{Look, Looks, fetch};
use crate::controllers::kit::context::{Context, Kind};
use crate::controllers::kit::error::{ApiError, Failure};
use crate::controllers::kit::fence::NotLeader;
use crate::controllers::kit::{event, meta, requeue};
use crate::storage::Aspect;
use crate::storage::hold::HoldError;
use crate::storage::hold::Refused;
use crate::storage::hold::coverage::ON_ITS_WAY;
use crate::storage::ledger;
use crate::storage::sweep::SweepError;

/// A bucket that nobody has found as it must be is asked for again after this long, should nobody tell.
const NOT_OPEN_YET: SignedDuration = SignedDuration::from_secs(15);
/// While something goes on being held, what came is looked at this often: a legal hold follows within a minute.
const ONGOING: SignedDuration = SignedDuration::from_secs(20);
/// A pass that waits for recorders, or has to prove something, is made again after this long.
const SOON: SignedDuration = SignedDuration::from_secs(2);
/// The longest pause between two passes while recorders are silent.
const MOST_PATIENT: SignedDuration = SignedDuration::from_mins(1);

/// Why a site's retention could not be looked after.
#[derive(Debug, thiserror::Error)]
pub enum RetentionError {
    /// The API server did not do it.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The ledger, or a pass over held versions.
    #[error(transparent)]
    Hold(#[from] HoldError),
    /// The sweep.
    #[error(transparent)]
    Sweep(#[from] SweepError),
    /// This replica does not lead any more.
    #[error(transparent)]
    NotLeader(#[from] NotLeader),
}

impl Failure for RetentionError {
    fn category(&self) -> &'static str {
        match self {
            Self::Api(error) => error.category(),
            Self::Hold(error) => error.category(),
            Self::Sweep(error) => error.category(),
            Self::NotLeader(_) => "not_leader",
        }
    }

    fn safe_message(&self) -> String {
        self.to_string()
    }
}

struct Retention {
    context: Context,
}

impl Looks for Retention {
    type Object = Site;
    type Failure = RetentionError;
    const KIND: Kind = Kind::Retention;
    const COUNTS: bool = false;
    const ANEW: bool = true;

    fn context(&self) -> &Context {
        &self.context
    }

    async fn look(&self, site: &Site, now: Timestamp) -> Result<Look, RetentionError> {
        if meta::is_paused(site) {
            return Ok(Look::NOTHING);
        }
        let Some(bucket) = self.context.buckets.open(site) else {
            let is_changed = if self.context.buckets.is_shut(site) {
                self.tell(site, &report::unused(site)).await?
            } else {
                false
            };
            return Ok(Look { action: requeue::at(now, [now + NOT_OPEN_YET]), is_changed });
        };
        match Box::pin(self.prepare(site, now, &bucket)).await {
            Ok((holds, plan)) => Box::pin(self.keep(site, bucket, &holds, &plan, now)).await,
            Err(error) => {
                if let RetentionError::Hold(_) = error {
                    self.tell(site, &error.safe_message()).await?;
                }
                Err(error)
            }
        }
    }
}

impl Retention {
    /// Which holds count, by the API and the ledger: as the ledger has it before anything goes by it.
    async fn prepare(
        &self,
        site: &Site,
        now: Timestamp,
        bucket: &OpenBucket,
    ) -> Result<(Vec<IncidentHold>, Plan), RetentionError> {
        let Context { client, fence, .. } = &self.context;
        let namespace = site.namespace().unwrap_or_default();
        let policy = fetch::<RecordingPolicy>(client, &namespace, &site.spec.policy_ref.name).await?;
        let holds = holds(client, site).await?;
        let memory = self.context.buckets.memory(site);
        let new = memory.unregistered(bucket.cameras.keys());
        if !new.is_empty() {
            fence.guard(ledger::register(&bucket.operator, &new)).await??;
            memory.note_registered(new);
        }
        let asked = holds.iter().filter(|hold| plan::is_asked(hold, now));
        let asked = asked.filter_map(ResourceExt::uid).collect();
        let entries = fence.guard(ledger::read_all(&bucket.operator, &asked)).await??;
        let plan = plan(&entries, &holds, policy.as_ref().map(|policy| &policy.spec), now);
        fence.guard(ledger::write_all(&bucket.operator, &plan.write)).await??;
        self.keep_resources(&holds, &plan).await?;
        Ok((holds, plan))
    }

    /// Runs a pass by `plan`, and reports what came of it.
    async fn keep(
        &self,
        site: &Site,
        bucket: OpenBucket,
        holds: &[IncidentHold],
        plan: &Plan,
        now: Timestamp,
    ) -> Result<Look, RetentionError> {
        let Context { client, events, buckets, fence, aftermath, .. } = &self.context;
        buckets.set_held(site, plan.coverings());
        // Asked after that: what was known before may be of what was held before.
        let recorders = buckets.open(site).map_or(Follow::Unknown, |bucket| bucket.recorders);
        let bucket = OpenBucket { recorders, ..bucket };

        let declared = Declared { client, site };
        let pass = Pass {
            fence,
            release_from: aftermath.release_from(now),
            declared: &declared,
            clock: &Timestamp::now,
            site,
            bucket: &bucket,
            holds,
            plan,
            memory: &buckets.memory(site),
            now,
        };
        let (mut outcome, failed) = pass.run().await;
        if let Some(RetentionError::NotLeader(lost)) = failed {
            return Err(lost.into());
        }
        for (kind, count) in &outcome.changes {
            self.context.hooks.retained(kind, *count);
        }
        let drifted = outcome.drift.iter().flat_map(|drift| &drift.counts);
        for (what, count) in drifted.filter(|(what, _)| **what != Aspect::HeldVersion) {
            self.context.hooks.drifted(site, *what, *count);
        }
        // Before the status, which may fail: what was put back is not found again.
        event::publish(events, site, &report::events(&outcome)).await;
        let is_reported = report::report(client, site, holds, plan, &outcome, failed.as_ref(), now).await?;
        let (forgotten, written) = pass.write_manifests(&mut outcome).await;
        if forgotten > 0 {
            // Not before: what a manifest still lists is found again.
            self.context.hooks.drifted(site, Aspect::HeldVersion, forgotten);
        }
        written?;
        if let Some(failed) = failed {
            return Err(failed);
        }
        Ok(Look {
            action: requeue::at(now, deadlines(plan, &outcome, now)),
            is_changed: is_reported || outcome.is_changed() || !plan.write.is_empty(),
        })
    }

    /// Says in the statuses why nothing is looked at.
    async fn tell(&self, site: &Site, problem: &str) -> Result<bool, RetentionError> {
        let client = &self.context.client;
        let holds = holds(client, site).await?;
        Ok(report::trouble(client, site, &holds, problem).await?)
    }

    /// A hold that counts cannot be deleted away: its resource waits until it is released, also where it was resolved before it
    /// ever counted, and took over what its predecessor held.
    async fn keep_resources(&self, holds: &[IncidentHold], plan: &Plan) -> Result<(), ApiError> {
        for hold in holds {
            let counts = hold.uid().is_some_and(|uid| plan.counts(&uid));
            if counts && !meta::is_deleting(hold) {
                meta::add_finalizer(&self.context.client, hold, super::hold::FINALIZER, super::hold::MANAGER)
                    .await?;
            }
        }
        Ok(())
    }
}

/// The site's holds as the API server has them now, not as some cache remembers. Those that cannot be read are left out:
/// what the ledger has of them is kept.
pub async fn holds(client: &kube::Client, site: &Site) -> Result<Vec<IncidentHold>, ApiError> {
    let all = declared(client, site).await?;
    Ok(all.into_iter().filter_map(Result::ok).collect())
}

/// The same; of those that cannot be read, their names.
async fn declared(client: &kube::Client, site: &Site) -> Result<Vec<Result<IncidentHold, String>>, ApiError> {
    let api = Api::<DeserializeGuard<IncidentHold>>::namespaced(
        client.clone(),
        &site.namespace().unwrap_or_default(),
    );
    let fields = format!("spec.siteRef.name={}", site.name_any());
    let all = api.list(&ListParams::default().fields(&fields)).await?;
    let all =
        all.items.into_iter().map(|hold| hold.0.map_err(|invalid| invalid.metadata.name.unwrap_or_default()));
    Ok(all.collect())
}

/// The instants at which the next look is due; the first counts. Pure.
pub fn deadlines(plan: &Plan, outcome: &Outcome, now: Timestamp) -> Vec<Timestamp> {
    // After the end of a window, the last segment that overlaps it is still on its way, and then has to be seen.
    let last = ON_ITS_WAY + ONGOING * 9;
    let is_ongoing = |entry: &ledger::Entry| entry.window.until.is_none_or(|until| until + last > now);
    let mut deadlines = vec![outcome.sweep_at];
    if plan.open.values().any(is_ongoing) {
        deadlines.push(now + ONGOING);
    }
    if outcome.is_pending {
        deadlines.push(now + SOON);
    }
    // The Site controller says when recorders follow; whether it does is asked ever more rarely.
    if let Some(since) = outcome.unacknowledged_since {
        deadlines.push(now + (now.duration_since(since) / 4).clamp(SOON, MOST_PATIENT));
    }
    let has_failed = outcome.refused.as_ref().is_some_and(Refused::is_failure);
    if !outcome.unreleased.is_empty() || outcome.is_undecided || has_failed {
        deadlines.push(now + cadence::REFUSED);
    }
    let of_open = outcome.coverage.iter();
    let mut of_open = of_open.filter_map(|(_, coverage)| coverage.refused.as_ref());
    if !outcome.unseen.is_empty() || of_open.any(|refused| !refused.is_of_versions()) {
        deadlines.push(now + cadence::UNVISITED);
    }
    deadlines.extend(outcome.verify_at);
    deadlines.extend(outcome.next_opening);
    deadlines.extend(outcome.release_from);
    deadlines.extend(outcome.release_again);
    deadlines
}
