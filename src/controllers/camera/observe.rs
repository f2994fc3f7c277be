//! Step three: queries the camera's recorder.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::Store;

use super::dereference::SiteSnapshot;
use super::gaps::GapStart;
use crate::api::Camera;
use crate::controllers::kubernetes::prune::prune;
use crate::controllers::recorder_client::{self, RecorderClient, RecorderStatusError};
use crate::controllers::site::recorders::names::ChildNames;
use crate::controllers::site::recorders::workload::{is_orphan, is_recorder};
use crate::controllers::site::recorders::{lost, queried};
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
    /// Start of the recorder's process.
    pub started: Timestamp,
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

/// Returns whether a recorder that does not answer may record the camera of `recorder`. Without a configuration, any pod of the Site
/// may have an earlier one.
pub fn may_be_recorded(recorder: Option<&AssignedRecorder>, snapshot: &SiteSnapshot) -> bool {
    let can_record = |pod: &Arc<Pod>| queried::can_record(pod);
    match (recorder, &snapshot.site) {
        (Some(recorder), _) => recorder.pod.as_ref().is_some_and(can_record),
        (None, Some(site)) if snapshot.config.is_none() => {
            let names = ChildNames::of(site);
            snapshot
                .pods
                .iter()
                .filter(|pod| is_recorder(pod, &names) || is_orphan(pod, &names))
                .any(can_record)
        }
        (None, _) => false,
    }
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
        started: status.started,
        now: status.now,
        clock_ahead_ms: status.clock_ahead_ms,
        report: status.cameras.into_iter().find(|report| report.name == name),
    }))
}

/// A camera's recordings by a reply of its recorder.
#[derive(Clone, Debug, PartialEq, Eq)]
struct KnownRecordings {
    pod_name: String,
    /// Start of the recorder's process, if it got frames since.
    recording_since: Option<Timestamp>,
    /// Last known frame, or the time of the reply while a gap lasted.
    until: Timestamp,
    /// Start of the oldest segment that waited in the spool.
    oldest_waiting: Option<Timestamp>,
    /// End of the newest confirmed segment.
    segment_end: Option<Timestamp>,
}

impl KnownRecordings {
    fn of(recorder: &AssignedRecorder, reply: &RecorderReply) -> Option<Self> {
        let report = reply.report.as_ref()?;
        let is_in_gap = report.gaps.last().is_some_and(|gap| gap.until.is_none());
        let segment_end = report.last_segment.as_ref().map(SegmentReport::end);
        let until = if is_in_gap { Some(reply.now) } else { report.last_frame.max(segment_end) };
        let pod_name = recorder.pod_name.clone();
        let recording_since = report.last_frame.map(|_| reply.started);
        let oldest_waiting = report.oldest_waiting;
        Some(Self { pod_name, recording_since, until: until?, oldest_waiting, segment_end })
    }

    /// Returns what is known of a camera in a gap, by its status, whose recorder is silent at `now`.
    fn of_silent(camera: &Camera, recorder: &AssignedRecorder, now: Timestamp) -> Option<Self> {
        let last = camera.status.as_ref()?.gaps.last()?;
        last.until.is_none().then(|| Self {
            pod_name: recorder.pod_name.clone(),
            recording_since: None,
            until: now,
            oldest_waiting: None,
            segment_end: None,
        })
    }

    /// Returns the beginning of a gap whose recorder in `pod_name` does not know it.
    fn gap_start(&self, pod_name: &str) -> Timestamp {
        // The spool of the same pod is lost, with everything that waited in it. If the camera moved to another pod, its
        // former recorder still uploads that.
        let lost = self.oldest_waiting.filter(|_| self.pod_name == pod_name);
        lost.map_or(self.until, |lost| lost.min(self.until))
    }
}

/// Known recordings of each camera, by UID: a lost recorder takes its own knowledge with it.
#[derive(Default)]
pub struct LastReplies {
    known: Mutex<HashMap<String, KnownRecordings>>,
}

impl LastReplies {
    /// Returns what is known of a gap whose beginning the recorder of this `reply` does not know. Nobody knows the beginning after a
    /// restart of the operator. The status does not help then: its last segment is up to 15 minutes old.
    pub fn gap_start(
        &self,
        camera: &Camera,
        recorder: Option<&AssignedRecorder>,
        reply: Option<&CameraQueryResult>,
    ) -> GapStart {
        let known = lock(&self.known);
        let known = camera.uid().and_then(|uid| known.get(&uid));
        let (Some(known), Some(recorder)) = (known, recorder) else {
            return GapStart::default();
        };
        let started = reply.and_then(|reply| reply.as_ref().ok()).map(|reply| reply.started);
        let is_another = started.zip(known.recording_since).is_some_and(|(now, before)| now > before);
        GapStart { at: Some(known.gap_start(&recorder.pod_name)), is_another }
    }

    /// Notes a reply that the camera's status contains, or the first silence that this process finds.
    pub fn record(
        &self,
        camera: &Camera,
        recorder: Option<&AssignedRecorder>,
        reply: Option<&CameraQueryResult>,
        now: Timestamp,
    ) {
        let (Some(uid), Some(recorder), Some(reply)) = (camera.uid(), recorder, reply) else {
            return;
        };
        let Ok(reply) = reply else {
            if let Some(silent) = KnownRecordings::of_silent(camera, recorder, now) {
                lock(&self.known).entry(uid).or_insert(silent);
            }
            return;
        };
        if let Some(mut recordings) = KnownRecordings::of(recorder, reply) {
            let mut known = lock(&self.known);
            // A recorder that restarted has confirmed none yet.
            recordings.segment_end =
                recordings.segment_end.or_else(|| known.get(&uid).and_then(|before| before.segment_end));
            known.insert(uid, recordings);
        }
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

    /// Drops cameras that are gone.
    pub fn prune(&self, cameras: &Store<DeserializeGuard<Camera>>) {
        prune(&mut lock(&self.known), cameras, |camera| camera.uid().unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{CameraState, Gap, GapCause, Secret};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn report() -> CameraReport {
        CameraReport { last_frame: Some(at(100)), ..CameraReport::new("hal", CameraState::Recording, at(0)) }
    }

    fn known(report: CameraReport) -> KnownRecordings {
        KnownRecordings::of(&recorder(), &reply(at(50), report)).unwrap()
    }

    fn reply(started: Timestamp, report: CameraReport) -> RecorderReply {
        RecorderReply { started, now: at(110), clock_ahead_ms: None, report: Some(report) }
    }

    fn recorder() -> AssignedRecorder {
        let (key_pem, token) = (Secret::default(), Secret::default());
        let api = StatusApi { cert_pem: String::new(), key_pem, token, previous: None };
        AssignedRecorder { pod_name: "site-recorder-0".into(), pod: None, api }
    }

    fn camera(gaps: serde_json::Value) -> Camera {
        let mut camera = crate::controllers::testing::camera("hal");
        camera.metadata.uid = Some("u".into());
        camera.status = serde_json::from_value(serde_json::json!({"gaps": gaps})).unwrap();
        camera
    }

    #[test]
    fn another_recorder_is_told_from_one_that_never_got_frames() {
        let (replies, camera, recorder) = (LastReplies::default(), camera(serde_json::json!([])), recorder());
        let without_frames = CameraReport {
            last_frame: None,
            gaps: vec![Gap { cause: GapCause::RecorderRestarted, from: None, until: None }],
            ..report()
        };
        let found = |started| {
            replies.gap_start(&camera, Some(&recorder), Some(&Ok(reply(at(started), without_frames.clone()))))
        };
        for (started, report, expected) in [
            (50, report(), [(50, false), (60, true)]),
            (60, without_frames.clone(), [(60, false), (70, false)]),
        ] {
            replies.record(&camera, Some(&recorder), Some(&Ok(reply(at(started), report))), at(110));
            for (started, is_another) in expected {
                assert_eq!(found(started).is_another, is_another, "{started}");
            }
        }
    }

    #[test]
    fn first_silence_ends_what_the_status_knows_of_a_gap() {
        let (replies, recorder) = (LastReplies::default(), recorder());
        let open = camera(serde_json::json!([{"from": "2026-01-01T00:00:00Z", "reason": "Disconnected"}]));
        let silence = || Some(Err(RecorderStatusError::NoAddress));
        for (now, expected) in [(200, 200), (300, 200)] {
            replies.record(&open, Some(&recorder), silence().as_ref(), at(now));
            assert_eq!(replies.gap_start(&open, Some(&recorder), None).at, Some(at(expected)));
        }
        let replies = LastReplies::default();
        let over = camera(serde_json::json!([]));
        replies.record(&over, Some(&recorder), silence().as_ref(), at(200));
        assert_eq!(
            replies.gap_start(&over, Some(&recorder), None),
            GapStart::default(),
            "it may have recorded"
        );
    }

    #[test]
    fn gap_of_lost_spool_begins_with_what_waited_in_it() {
        let recording = known(report());
        assert_eq!(recording.gap_start("site-recorder-0"), at(100));
        let waiting = known(CameraReport { oldest_waiting: Some(at(40)), ..report() });
        assert_eq!(waiting.gap_start("site-recorder-0"), at(40));
        assert_eq!(waiting.gap_start("site-recorder-1"), at(100), "the former recorder still uploads");
    }

    #[test]
    fn gap_of_lost_recorder_begins_after_the_gap_that_lasted() {
        let gap = |until| Gap { cause: GapCause::Disconnected, from: Some(at(100)), until };
        let lasting = known(CameraReport { gaps: vec![gap(None)], ..report() });
        assert_eq!(lasting.gap_start("site-recorder-0"), at(110));
        let over = known(CameraReport { gaps: vec![gap(Some(at(90)))], ..report() });
        assert_eq!(over.gap_start("site-recorder-0"), at(100));
    }
}
