//! Step three: queries the camera's recorder.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::dereference::SiteSnapshot;
use crate::api::Camera;
use crate::controllers::recorder_client::{self, RecorderClient, RecorderStatusError};
use crate::controllers::site::recorders::lost;
use crate::controllers::site::recorders::names::ChildNames;
use crate::sync::lock;
use crate::telemetry::metrics::CameraSegment;
use crate::wire::{CameraReport, RecorderConfig, SegmentReport, StatusApi};

/// Recorder of a camera.
#[derive(Clone, Debug, PartialEq)]
pub struct AssignedRecorder {
    pub pod_name: String,
    /// The pod; `None`: it does not exist.
    pod: Option<Arc<Pod>>,
    api: StatusApi,
}

/// Reply of a recorder about one camera.
#[derive(Clone, Debug, PartialEq)]
pub struct RecorderReply {
    /// Clock of the recorder.
    pub now: Timestamp,
    /// Lead of that clock in milliseconds.
    pub clock_ahead_ms: Option<i64>,
    /// Report; `None`: the recorder does not know the camera yet.
    pub report: Option<CameraReport>,
}

/// Recorders of a camera that are lost with their nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CameraLosses {
    /// Names of those that may still record it, with their nodes.
    pub recorders: Option<String>,
    /// Periods of which spools had recordings that are lost. Their beginning may be unknown.
    pub lost_spools: Vec<(Option<Timestamp>, Timestamp)>,
}

pub type CameraQueryResult = Result<RecorderReply, RecorderStatusError>;

/// Returns the recorder of the camera `name`; `None`: the Site has not configured one yet.
pub fn assigned_recorder(name: &str, snapshot: &SiteSnapshot) -> Option<AssignedRecorder> {
    let config = snapshot.config.as_ref()?;
    let shard = config.cameras.iter().find(|camera| camera.name == name)?.shard;
    let pod_name = ChildNames::of(snapshot.site.as_ref()?).pod(shard);
    let pod = snapshot.pods.iter().find(|pod| pod.name_any() == pod_name).cloned();
    Some(AssignedRecorder { pod_name, pod, api: config.status_api.clone() })
}

/// Returns whether the camera `name` does not fit into the recorders' configuration.
pub fn is_omitted(name: &str, snapshot: &SiteSnapshot) -> bool {
    let is_missing = |config: &RecorderConfig| {
        config.omitted_cameras > 0 && config.cameras.iter().all(|camera| camera.name != name)
    };
    snapshot.config.as_ref().is_some_and(is_missing)
}

/// Returns what is known of the recorders that recorded the camera `name` and are lost.
pub fn losses(name: &str, snapshot: &SiteSnapshot) -> CameraLosses {
    let status = snapshot.site.as_ref().and_then(|site| site.status.as_ref());
    let entries = status.map(|status| status.lost_recorders.as_slice()).unwrap_or_default();
    let gone = entries.iter().filter(|entry| entry.spool_lost_time.is_some());
    let lost_spools = gone.filter_map(|entry| {
        let camera = entry.cameras.iter().find(|camera| camera.name == name)?;
        Some((camera.last_segment_end_time.as_ref().map(|end| end.0), entry.since.0))
    });
    CameraLosses { recorders: lost::name_all(entries, Some(name)), lost_spools: lost_spools.collect() }
}

/// Queries `recorder` about the camera `name`.
pub async fn query(
    client: &RecorderClient,
    recorder: Option<&AssignedRecorder>,
    name: &str,
) -> Option<CameraQueryResult> {
    let recorder = recorder?;
    let status = match recorder_client::pod_address(recorder.pod.as_deref()) {
        Ok(address) => client.status(address, &recorder.api).await,
        Err(error) => Err(error),
    };
    let status = status.map_err(|error| recorder_client::explain(error, recorder.pod.as_deref()));
    Some(status.map(|status| RecorderReply {
        now: status.now,
        clock_ahead_ms: status.clock_ahead_ms,
        report: status.cameras.into_iter().find(|report| report.name == name),
    }))
}

/// Last known frame of each camera, by UID. A status has it about every 15 minutes, and a lost recorder takes its own
/// knowledge with it.
#[derive(Default)]
pub struct LastFrames {
    known: Mutex<HashMap<String, LastFrame>>,
}

/// Newest recording of a camera, as its recorder reported it.
#[derive(Clone, Copy, Debug, Default)]
struct LastFrame {
    /// Newest frame, or the end of the newest confirmed segment.
    frame_at: Option<Timestamp>,
    /// End of the newest confirmed segment.
    segment_end: Option<Timestamp>,
}

impl LastFrames {
    /// Returns the time of the last known frame. After a restart of the operator, only the status has it.
    pub fn last_frame_at(&self, camera: &Camera) -> Option<Timestamp> {
        let known = lock(&self.known);
        let observed = camera.uid().and_then(|uid| known.get(&uid)?.frame_at);
        let reported = camera.status.as_ref().and_then(|status| status.last_segment.as_ref());
        observed.max(reported.map(|last| segment_end(last.start_time.0, last.duration_milliseconds)))
    }

    pub fn record(&self, camera: &Camera, report: Option<&CameraReport>) {
        let (Some(uid), Some(report)) = (camera.uid(), report) else {
            return;
        };
        let segment_end = report.last_segment.as_ref().map(SegmentReport::end);
        let mut known = lock(&self.known);
        let last = known.entry(uid).or_default();
        last.frame_at = report.last_frame.max(segment_end).or(last.frame_at);
        // A recorder that restarted has confirmed none yet.
        last.segment_end = segment_end.or(last.segment_end);
    }

    /// Returns the last segment of each of `cameras`, as far as it is known.
    pub fn last_segments<'a>(&self, cameras: impl Iterator<Item = &'a Camera>) -> Vec<CameraSegment> {
        let known = lock(&self.known);
        let last = |camera: &Camera| {
            Some(CameraSegment {
                namespace: camera.namespace().unwrap_or_default(),
                site: camera.spec.site_ref.name.clone(),
                camera: camera.name_any(),
                end: known.get(&camera.uid()?)?.segment_end?,
            })
        };
        cameras.filter_map(last).collect()
    }

    pub fn forget(&self, camera: &Camera) {
        if let Some(uid) = camera.uid() {
            lock(&self.known).remove(&uid);
        }
    }
}

fn segment_end(start: Timestamp, duration_ms: i64) -> Timestamp {
    start.checked_add(SignedDuration::from_millis(duration_ms)).unwrap_or(start)
}
