//! Camera: whether its spec is accepted, whether it may record, and whether it records.
//!
//! dereference → validate → observe → status. The Site applies everything that a camera needs. This controller plans and
//! applies nothing: it queries the recorder.

mod dereference;
mod failure;
pub(crate) mod gaps;
mod gaps_today;
mod observe;
mod silence;
mod status;
mod stream;
mod validate;
mod watches;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;

use self::dereference::{SiteSnapshot, SiteSnapshots};
use self::observe::{CameraQueryResult, LastReplies};
use self::silence::Silences;
use self::status::CameraObservations;
pub use self::watches::controller;
use super::context::Context;
use super::kubernetes::{ApiError, meta};
use super::runner::{Reconciled, Reconciler, readable};
use super::{requeue, runner};
use crate::api::Camera;

/// Field manager of a camera's status.
const MANAGER: &str = "toezicht/camera";
/// Interval between two queries about a camera that is `Ready`, and about one that is not. All cameras of a Site are queried at the
/// same time, so that one request to a recorder serves them, and those of different Sites at different times.
const READY_POLL_INTERVAL: Duration = Duration::from_secs(15);
const NOT_READY_POLL_INTERVAL: Duration = Duration::from_secs(5);

pub struct CameraReconciler {
    context: Context,
    site_snapshots: SiteSnapshots,
    last_replies: Arc<LastReplies>,
    silences: Silences,
}

impl CameraReconciler {
    pub fn new(context: Context) -> Self {
        let last_replies = Arc::new(LastReplies::default());
        let (cameras, known) = (context.cache.cameras.store(), Arc::clone(&last_replies));
        let lister = move || known.last_segments(readable(&cameras.state()));
        context.telemetry.register_segment_lister(Box::new(lister));
        Self {
            context,
            site_snapshots: SiteSnapshots::default(),
            last_replies,
            silences: Silences::default(),
        }
    }
}

impl Reconciler for CameraReconciler {
    type Object = Camera;
    type Failure = ApiError;
    /// An earlier status may have gaps that no recorder reports any more.
    const REFETCH: bool = true;

    async fn reconcile(&self, camera: &Camera, now: Timestamp) -> Result<Reconciled, ApiError> {
        let Context { cache, config, recorders, .. } = &self.context;
        if meta::is_deleting(camera) {
            return Ok(Reconciled::AWAIT_CHANGE);
        }
        if meta::is_paused(camera) {
            return runner::report_paused(&self.context, MANAGER, camera, now).await;
        }
        let namespace = camera.namespace().unwrap_or_default();
        let site = &camera.spec.site_ref.name;
        let (snapshot, is_fresh) =
            self.site_snapshots.get(cache, &namespace, site, &config.ceilings, now).await;
        let valid = validate::validate(camera, &snapshot, &config.ceilings, now);
        let recorder = observe::assigned_recorder(&camera.name_any(), &snapshot);
        let reply = observe::query(recorders, recorder.as_ref(), &camera.name_any()).await;
        let losses = observe::losses(&camera.name_any(), &snapshot);
        let site_uid = snapshot.site.as_ref().and_then(ResourceExt::uid).unwrap_or_default();
        let lagging = self.context.lagging.name_overdue(&site_uid, &camera.name_any());
        let is_news_from = self.note_silence(camera, &snapshot, reply.as_ref(), now);
        let observed = CameraObservations {
            valid: &valid,
            policy: snapshot.policies.policy.as_ref(),
            recorder: recorder.as_ref(),
            is_omitted: observe::is_omitted(&camera.name_any(), &snapshot),
            reply: reply.as_ref(),
            losses: &losses,
            may_be_recorded: observe::may_be_recorded(recorder.as_ref(), &snapshot),
            lagging: lagging.as_deref(),
            is_silence_news: is_news_from.is_none_or(|from| from <= now),
            // By the reply before this one.
            gap_start: self.last_replies.gap_start(camera, recorder.as_ref(), reply.as_ref()),
        };
        let (next, stalls_at) = status::camera_status(camera, &observed, now);

        let is_ready = status::is_ready(&next) && is_news_from.is_none_or(|from| from <= now);
        let offset = site_offset(&namespace, &camera.spec.site_ref.name);
        let next_query = match (valid.accepted.is_true(), is_ready) {
            (true, true) => next_query(now, READY_POLL_INTERVAL, offset),
            (true, false) => next_query(now, NOT_READY_POLL_INTERVAL, offset),
            // A watch reports a missing reference once it exists. A cached snapshot can be older than that event. And a recorder stops
            // seconds after the Site's change, of which no watch says more.
            (false, _) if !is_fresh || recorder.is_some() || observed.may_be_recorded => {
                next_query(now, NOT_READY_POLL_INTERVAL, offset)
            }
            (false, _) => None,
        };
        let is_changed = runner::report(&self.context, MANAGER, camera, next).await?;
        let cameras = cache.cameras.store();
        self.last_replies.prune(&cameras);
        self.silences.prune(&cameras);
        // After the write: if it fails, the next one finds the beginning of the gap by the same reply.
        self.last_replies.record(camera, recorder.as_ref(), reply.as_ref(), now);
        let deadlines = [valid.next_change, next_query, stalls_at, is_news_from];
        Ok(Reconciled { action: requeue::at(now, deadlines.into_iter().flatten()), is_changed })
    }
}

impl CameraReconciler {
    /// Notes whether the camera's recorder answers. Returns the time from which its silence is news; `None`: it answers.
    fn note_silence(
        &self,
        camera: &Camera,
        snapshot: &SiteSnapshot,
        reply: Option<&CameraQueryResult>,
        now: Timestamp,
    ) -> Option<Timestamp> {
        if matches!(reply, Some(Ok(_))) {
            self.silences.end(camera);
            return None;
        }
        let handoff = &self.context.handoff;
        let is_site_reconciled = snapshot.site.as_ref().is_none_or(|site| handoff.is_reconciled(site));
        Some(self.silences.note(camera, is_site_reconciled, now))
    }
}

/// Returns the number from which the times of queries about the cameras of a Site follow.
fn site_offset(namespace: &str, site: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (namespace, site).hash(&mut hasher);
    hasher.finish()
}

/// Returns the next time after `now` that is `offset` milliseconds, without whole intervals, after a multiple of `interval` since
/// 1970.
fn next_query(now: Timestamp, interval: Duration, offset: u64) -> Option<Timestamp> {
    let interval = u64::try_from(interval.as_millis()).ok()?;
    let offset = i64::try_from(offset.checked_rem(interval)?).ok()?;
    let interval = i64::try_from(interval).ok()?;
    let passed = now.as_millisecond().checked_sub(offset)?.checked_rem_euclid(interval)?;
    Timestamp::from_millisecond(now.as_millisecond().checked_add(interval - passed)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_of_a_site_are_at_the_same_times() {
        let at = |millis| Timestamp::from_millisecond(millis).unwrap();
        for (now, offset, next) in [
            (1_000, 0, 15_000),
            (14_999, 0, 15_000),
            (15_000, 0, 30_000),
            (1_000, 2_000, 2_000),
            (2_000, 2_000, 17_000),
            (16_999, 15_000_000 + 2_000, 17_000),
        ] {
            assert_eq!(next_query(at(now), READY_POLL_INTERVAL, offset), Some(at(next)), "{now} {offset}");
        }
    }

    /// At the same time for all Sites, every camera of the cluster would wait for its turn.
    #[test]
    fn queries_of_sites_spread_over_the_interval() {
        let mut seconds = [0; 15];
        for site in 0..1500 {
            let offset = site_offset("gemeente", &format!("site-{site}"));
            let next = next_query(Timestamp::UNIX_EPOCH, READY_POLL_INTERVAL, offset).unwrap();
            seconds[usize::try_from(next.as_second()).unwrap() % 15] += 1;
        }
        assert!(seconds.iter().all(|count| (50..200).contains(count)), "{seconds:?}");
    }
}
