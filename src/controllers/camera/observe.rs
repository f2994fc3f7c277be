//! Step three: what the recorder that carries the camera says.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::dereference::SiteSnapshot;
use crate::api::Camera;
use crate::controllers::recorder_client;
use crate::controllers::recorder_client::{RecorderClient, RecorderStatusError};
use crate::controllers::site::recorders::names::ChildNames;
use crate::wire::{CameraReport, StatusApi};

/// The recorder that carries a camera.
#[derive(Clone, Debug, PartialEq)]
pub struct AssignedRecorder {
    pub name: String,
    /// The pod, where there is one.
    pod: Option<Pod>,
    api: StatusApi,
}

/// What it says of the camera.
#[derive(Clone, Debug, PartialEq)]
pub struct RecorderReply {
    pub now: Timestamp,
    /// The camera; absent: it does not know it yet.
    pub report: Option<CameraReport>,
}

pub type CameraQueryResult = Result<RecorderReply, RecorderStatusError>;

/// Who carries the camera `name`; absent: the site has not configured a recorder for it (yet).
pub fn assigned_recorder(name: &str, snapshot: &SiteSnapshot) -> Option<AssignedRecorder> {
    let config = snapshot.config.as_ref()?;
    let shard = config.cameras.iter().find(|camera| camera.name == name)?.shard;
    let pod_name = format!("{}-{shard}", ChildNames::of(snapshot.site.as_ref()?).recorder);
    let pod = snapshot.pods.iter().find(|pod| pod.name_any() == pod_name).cloned();
    Some(AssignedRecorder { name: pod_name, pod, api: config.status_api.clone() })
}

/// Asks `carrier`, if there is one, about the camera `name`.
pub async fn query(
    recorders: &RecorderClient,
    carrier: Option<&AssignedRecorder>,
    name: &str,
) -> Option<CameraQueryResult> {
    let recorder = carrier?;
    let address =
        recorder.pod.as_ref().ok_or(RecorderStatusError::NoAddress).and_then(recorder_client::pod_address);
    let status = match address {
        Ok(address) => recorders.status(address, &recorder.api).await,
        Err(error) => Err(error),
    };
    let said = status.map(|status| RecorderReply {
        now: status.now,
        report: status.cameras.into_iter().find(|report| report.name == name),
    });
    Some(said)
}

/// When each camera was last known to give a picture. In memory, since the status tells it only every five
/// minutes: a recorder that is lost takes its own knowledge along.
#[derive(Default)]
pub struct LastFrames {
    last_frame_at: Mutex<HashMap<String, Timestamp>>,
}

impl LastFrames {
    /// When `camera` was last known to give a picture; what its status knows is older, but outlives us.
    pub fn last_frame_at(&self, camera: &Camera) -> Option<Timestamp> {
        let last_known = self.last_frame_at.lock().unwrap_or_else(PoisonError::into_inner);
        let heard = camera.uid().and_then(|uid| last_known.get(&uid).copied());
        let reported = camera.status.as_ref().and_then(|status| status.last_segment.as_ref());
        heard.max(reported.map(|last| segment_end(last.start_time.0, last.duration_milliseconds)))
    }

    /// Remembers what the recorder says of `camera`.
    pub fn record(&self, camera: &Camera, report: Option<&CameraReport>) {
        let (Some(uid), Some(report)) = (camera.uid(), report) else {
            return;
        };
        let confirmed = report.last_segment.as_ref();
        let confirmed = confirmed
            .map(|last| segment_end(last.start, i64::try_from(last.duration_ms).unwrap_or_default()));
        let Some(newest) = report.last_frame.max(confirmed) else {
            return;
        };
        self.last_frame_at.lock().unwrap_or_else(PoisonError::into_inner).insert(uid, newest);
    }

    /// Forgets a camera that is going away.
    pub fn forget(&self, camera: &Camera) {
        if let Some(uid) = camera.uid() {
            self.last_frame_at.lock().unwrap_or_else(PoisonError::into_inner).remove(&uid);
        }
    }
}

fn segment_end(start: Timestamp, duration_ms: i64) -> Timestamp {
    start.checked_add(SignedDuration::from_millis(duration_ms)).unwrap_or(start)
}
