//! Camera: whether it can be recorded, whether it may be, and whether it is.
//!
//! dereference → validate → observe → status: what a camera needs is applied by its Site, so there is nothing
//! to plan or apply here; the recorder that carries it is asked instead.

mod dereference;
mod gaps;
mod observe;
mod status;
mod validate;
mod watches;

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::runtime::controller::Action;
use kube::{Api, ResourceExt};

use self::dereference::SiteSnapshots;
use self::observe::LastFrames;
use self::status::CameraObservations;
pub use self::watches::controller;
use super::context::{Context, ControllerKind};
use super::kubernetes::error::ApiError;
use super::kubernetes::{event, meta, status as kit_status};
use super::requeue;
use super::runner::{Reconciled, Reconciler, Watched};
use crate::api::{Camera, CameraStatus};

/// Field manager of a camera's status.
const MANAGER: &str = "toezicht/camera";
/// A recorder is asked this often about a camera that is as it should be, and about one that is not. Asked
/// at multiples of it, so that one question serves all cameras of a site.
const READY_POLL_INTERVAL: Duration = Duration::from_secs(15);
const NOT_READY_POLL_INTERVAL: Duration = Duration::from_secs(5);

impl Watched for Camera {
    fn conditions(&self) -> &[Condition] {
        self.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default()
    }
}

struct CameraReconciler {
    context: Context,
    site_snapshots: SiteSnapshots,
    last_frames: LastFrames,
}

impl CameraReconciler {
    fn new(context: Context) -> Self {
        Self { context, site_snapshots: SiteSnapshots::default(), last_frames: LastFrames::default() }
    }
}

impl Reconciler for CameraReconciler {
    type Object = Camera;
    type Failure = ApiError;
    const KIND: ControllerKind = ControllerKind::Camera;

    fn context(&self) -> &Context {
        &self.context
    }

    async fn reconcile(&self, camera: &Camera, now: Timestamp) -> Result<Reconciled, ApiError> {
        let Context { client, config, events, recorders, .. } = &self.context;
        if meta::is_deleting(camera) {
            self.last_frames.forget(camera);
            return Ok(Reconciled { action: Action::await_change(), is_changed: false });
        }
        let namespace = camera.namespace().unwrap_or_default();
        let api = Api::namespaced(client.clone(), &namespace);
        if meta::is_paused(camera) {
            let before = camera.status.clone().unwrap_or_default();
            let conditions =
                kit_status::paused_conditions(&before.conditions, before.observed_generation, now);
            let next = CameraStatus { conditions, ..before };
            let is_changed = kit_status::report(&api, MANAGER, camera, camera.status.as_ref(), &next).await?;
            return Ok(Reconciled { action: Action::await_change(), is_changed });
        }
        let (snapshot, is_fresh) =
            self.site_snapshots.get(client, &namespace, &camera.spec.site_ref.name).await?;
        let valid = validate::validate(camera, &snapshot, &config.ceilings, now);
        let recorder = observe::assigned_recorder(&camera.name_any(), &snapshot);
        let answer = observe::query(recorders, recorder.as_ref(), &camera.name_any()).await;
        let report =
            answer.as_ref().and_then(|answer| answer.as_ref().ok()).and_then(|said| said.report.as_ref());
        let last_frame_at = self.last_frames.last_frame_at(camera);
        let observed = CameraObservations {
            valid: &valid,
            recorder: recorder.as_ref(),
            answer: answer.as_ref(),
            last_frame_at,
        };
        let (next, stalls_at) = status::camera_status(camera, &observed, now);
        self.last_frames.record(camera, report);

        let is_changed = kit_status::report(&api, MANAGER, camera, camera.status.as_ref(), &next).await?;
        if is_changed {
            event::publish(events, camera, &event::condition_changes(camera.conditions(), &next.conditions))
                .await;
        }
        let ask_again = match (valid.accepted.is_true(), status::is_ready(&next)) {
            (true, true) => next_multiple(now, READY_POLL_INTERVAL),
            (true, false) => next_multiple(now, NOT_READY_POLL_INTERVAL),
            // What is missing shows in a watch; but this view may be from just before.
            (false, _) if !is_fresh => next_multiple(now, NOT_READY_POLL_INTERVAL),
            (false, _) => None,
        };
        Ok(Reconciled {
            action: requeue::at(now, [valid.next_change, ask_again, stalls_at].into_iter().flatten()),
            is_changed,
        })
    }
}

/// The next instant after `now` that is a multiple of `pause` since 1970.
fn next_multiple(now: Timestamp, pause: Duration) -> Option<Timestamp> {
    let pause = i64::try_from(pause.as_millis()).ok()?;
    let passed = now.as_millisecond().checked_rem(pause)?;
    Timestamp::from_millisecond(now.as_millisecond().checked_add(pause - passed)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polls_align_to_multiples_of_the_interval() {
        let at = |millis| Timestamp::from_millisecond(millis).unwrap();
        let pause = Duration::from_secs(15);
        assert_eq!(next_multiple(at(1_000), pause), Some(at(15_000)));
        assert_eq!(next_multiple(at(14_999), pause), Some(at(15_000)));
        assert_eq!(next_multiple(at(15_000), pause), Some(at(30_000)));
    }
}
