//! Camera: whether its spec is accepted, whether it may record, and whether it records.
//!
//! dereference → validate → observe → status. The Site applies everything that a camera needs. This controller plans and
//! applies nothing: it queries the recorder.

mod dereference;
mod failure;
mod gaps;
mod gaps_today;
mod observe;
mod status;
mod stream;
mod validate;
mod watches;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;

use self::dereference::SiteSnapshots;
use self::observe::LastFrames;
use self::status::CameraObservations;
pub use self::watches::controller;
use super::context::Context;
use super::kubernetes::{ApiError, meta};
use super::runner::{Reconciled, Reconciler, readable};
use super::{requeue, runner};
use crate::api::Camera;

/// Field manager of a camera's status.
const MANAGER: &str = "toezicht/camera";
/// Interval between two queries about a camera that is `Ready`, and about one that is not. Queries run at multiples of the
/// interval, so that one request to a recorder serves all its cameras.
const READY_POLL_INTERVAL: Duration = Duration::from_secs(15);
const NOT_READY_POLL_INTERVAL: Duration = Duration::from_secs(5);

pub struct CameraReconciler {
    context: Context,
    site_snapshots: SiteSnapshots,
    last_frames: Arc<LastFrames>,
}

impl CameraReconciler {
    pub fn new(context: Context) -> Self {
        let last_frames = Arc::new(LastFrames::default());
        let (cameras, known) = (context.cache.cameras.store(), Arc::clone(&last_frames));
        let lister = move || known.last_segments(readable(&cameras.state()));
        context.telemetry.register_segment_lister(Box::new(lister));
        Self { context, site_snapshots: SiteSnapshots::default(), last_frames }
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
            self.last_frames.forget(camera);
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
        let observed = CameraObservations {
            valid: &valid,
            policy: snapshot.policies.policy.as_ref(),
            recorder: recorder.as_ref(),
            is_omitted: observe::is_omitted(&camera.name_any(), &snapshot),
            reply: reply.as_ref(),
            losses: &losses,
            // Before the reply: a gap begins at the last frame that came before it.
            last_frame_at: self.last_frames.last_frame_at(camera),
        };
        let (next, stalls_at) = status::camera_status(camera, &observed, now);
        self.last_frames.record(camera, observed.report());

        let next_query = match (valid.accepted.is_true(), status::is_ready(&next)) {
            (true, true) => next_multiple(now, READY_POLL_INTERVAL),
            (true, false) => next_multiple(now, NOT_READY_POLL_INTERVAL),
            // A watch reports a missing reference once it exists. A cached snapshot can be older than that event.
            (false, _) if !is_fresh => next_multiple(now, NOT_READY_POLL_INTERVAL),
            (false, _) => None,
        };
        let is_changed = runner::report(&self.context, MANAGER, camera, next).await?;
        let deadlines = [valid.next_change, next_query, stalls_at];
        Ok(Reconciled { action: requeue::at(now, deadlines.into_iter().flatten()), is_changed })
    }
}

/// Returns the next multiple of `interval` since 1970 after `now`.
fn next_multiple(now: Timestamp, interval: Duration) -> Option<Timestamp> {
    let interval = i64::try_from(interval.as_millis()).ok()?;
    let passed = now.as_millisecond().checked_rem(interval)?;
    Timestamp::from_millisecond(now.as_millisecond().checked_add(interval - passed)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polls_align_to_multiples_of_the_interval() {
        let at = |millis| Timestamp::from_millisecond(millis).unwrap();
        for (now, next) in [(1_000, 15_000), (14_999, 15_000), (15_000, 30_000)] {
            assert_eq!(next_multiple(at(now), Duration::from_secs(15)), Some(at(next)));
        }
    }
}
