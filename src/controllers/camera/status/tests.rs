use serde_json::json;

use super::super::dereference::SiteSnapshot;
use super::super::observe::{self, RecorderReply};
use super::super::validate::validate;
use super::*;
use crate::api::{CameraGap, Ceilings, Days};
use crate::controllers::recorder_client::RecorderStatusError;
use crate::controllers::site_policies::SitePolicies;
use crate::controllers::testing;
use crate::wire::{CameraState, RecorderConfig, StreamReport};

const NOW: &str = "2026-01-02T12:00:00Z";

fn camera() -> Camera {
    let mut camera = testing::camera("receptie");
    camera.spec.stream.credentials_ref = None;
    camera
}

fn site_snapshot() -> SiteSnapshot {
    let config: RecorderConfig = serde_json::from_value(json!({
        "format": 1, "revision": "r1", "namespace": "gemeente", "site": "zwembad",
        "storage": {"region": "r", "bucket": "b", "pathStyle": true, "accessKeyId": "a", "secretAccessKey": "s"},
        "segmentDurationMs": 60000, "videoCeilingMs": 1, "spoolBytes": 1,
        "cameras": [{"name": "receptie", "shard": 2, "url": "rtsp://10.0.0.1/receptie", "permitted": []}],
        "statusApi": {"certPem": "", "keyPem": "", "token": ""},
    }))
    .unwrap();
    SiteSnapshot {
        site: Some(testing::site()),
        policies: SitePolicies { policy: Some(testing::policy()), ..SitePolicies::default() },
        config: Some(config),
        ..SiteSnapshot::default()
    }
}

fn suspended_snapshot() -> SiteSnapshot {
    let mut snapshot = site_snapshot();
    let suspensions =
        json!([{"reason": "Verkiezing", "from": "2026-01-02T06:00:00Z", "until": "2026-01-02T22:00:00Z"}]);
    snapshot.site.as_mut().unwrap().spec.suspensions = serde_json::from_value(suspensions).unwrap();
    snapshot
}

/// Returns a reply in this state, whose last segment began at `segment_start`.
fn reply(state: CameraState, segment_start: &str) -> RecorderReply {
    let report = serde_json::from_value(json!({
        "name": "receptie", "state": state, "since": "2026-01-02T11:00:00Z", "lastFrame": NOW,
        "lastSegment": {
            "key": format!("video/receptie/{segment_start}"), "start": segment_start, "durationMs": 60000, "bytes": 1,
        },
        "uploaded": 1, "waiting": 0,
    }))
    .unwrap();
    RecorderReply {
        started: Timestamp::UNIX_EPOCH,
        now: NOW.parse().unwrap(),
        clock_ahead_ms: None,
        report: Some(report),
    }
}

fn status_of(camera: &Camera, snapshot: &SiteSnapshot, reply: Option<&CameraQueryResult>) -> CameraStatus {
    status_at(NOW, camera, snapshot, reply).0
}

fn status_at(
    now: &str,
    camera: &Camera,
    snapshot: &SiteSnapshot,
    reply: Option<&CameraQueryResult>,
) -> (CameraStatus, Option<Timestamp>) {
    status_in_silence(now, camera, snapshot, reply, true)
}

fn status_in_silence(
    now: &str,
    camera: &Camera,
    snapshot: &SiteSnapshot,
    reply: Option<&CameraQueryResult>,
    is_silence_news: bool,
) -> (CameraStatus, Option<Timestamp>) {
    status_with_lagging(now, camera, snapshot, reply, is_silence_news, None)
}

fn status_with_lagging(
    now: &str,
    camera: &Camera,
    snapshot: &SiteSnapshot,
    reply: Option<&CameraQueryResult>,
    is_silence_news: bool,
    lagging: Option<&str>,
) -> (CameraStatus, Option<Timestamp>) {
    let now = now.parse().unwrap();
    let valid = validate(camera, snapshot, &Ceilings { video: Days(28), calls: Days(7) }, now);
    let recorder = observe::assigned_recorder("receptie", snapshot);
    let observed = CameraObservations {
        valid: &valid,
        policy: snapshot.policies.policy.as_ref(),
        recorder: recorder.as_ref(),
        is_omitted: observe::is_omitted("receptie", snapshot),
        reply,
        losses: &observe::losses("receptie", snapshot),
        may_be_recorded: observe::may_be_recorded(recorder.as_ref(), snapshot),
        lagging,
        is_silence_news,
        gap_start: GapStart::default(),
    };
    camera_status(camera, &observed, now)
}

/// Asserts the status and reason of conditions, each as `Type=Status Reason`.
fn assert_conditions(status: &CameraStatus, expected: &[&str]) {
    for condition in &status.conditions {
        assert!(!condition.message.contains("10.0.0.1"), "{}", condition.message);
    }
    let found = status.conditions.iter().map(|c| format!("{}={} {}", c.type_, c.status, c.reason));
    let found: Vec<String> = found.collect();
    for expected in expected {
        assert!(found.iter().any(|found| found == expected), "{expected} is not in {found:?}");
    }
}

#[test]
fn recording_camera_is_ready() {
    let reply = Ok(reply(CameraState::Recording, "2026-01-02T11:58:30Z"));
    let status = status_of(&camera(), &site_snapshot(), Some(&reply));
    let expected = [
        "Accepted=True Valid",
        "Permitted=True Permitted",
        "Recording=True Recording",
        "Ready=True Recording",
        "Stalled=False AsRequired",
    ];
    assert_conditions(&status, &expected);
    assert_eq!(status.recorder_pod_name.as_deref(), Some("zwembad-recorder-2"));
    assert_eq!(status.last_segment.unwrap().duration_milliseconds, 60_000);
}

#[test]
fn silent_camera_is_not_ready_with_reason() {
    let unknown_camera = Ok(RecorderReply {
        started: Timestamp::UNIX_EPOCH,
        now: NOW.parse().unwrap(),
        clock_ahead_ms: None,
        report: None,
    });
    for (reply, truth, reason) in [
        (Some(Ok(reply(CameraState::Disconnected, NOW))), "False", "Disconnected"),
        (Some(unknown_camera), "False", "Connecting"),
        (Some(Err(RecorderStatusError::Unreachable)), "Unknown", "RecorderNotReady"),
        (None, "Unknown", "RecorderNotReady"),
    ] {
        let status = status_of(&camera(), &site_snapshot(), reply.as_ref());
        let expected = [format!("Recording={truth} {reason}"), format!("Ready=False {reason}")];
        assert_conditions(&status, &expected.each_ref().map(String::as_str));
    }
}

/// Adds a lost recorder that recorded the camera.
fn lose_recorder(snapshot: &mut SiteSnapshot, spool_lost_time: Option<&str>) {
    let entry = json!({
        "podName": "zwembad-recorder-0", "podUid": "u", "nodeName": "second", "since": "2026-01-02T11:50:00Z",
        "cameras": [{"name": "receptie", "lastSegmentEndTime": "2026-01-02T11:48:00Z"}], "spoolLostTime": spool_lost_time,
    });
    let entry = serde_json::from_value(entry).unwrap();
    let status = snapshot.site.as_mut().unwrap().status.get_or_insert_default();
    status.lost_recorders = vec![entry];
}

#[test]
fn camera_of_lost_recorder_is_not_known_to_be_silent() {
    let (mut suspended, mut permitted) = (suspended_snapshot(), site_snapshot());
    let replies = [CameraState::Suspended, CameraState::Recording, CameraState::Connecting];
    let [covered, records, connects] = replies.map(|state| Ok(reply(state, "2026-01-02T11:58:30Z")));
    lose_recorder(&mut suspended, None);
    let status = status_of(&camera(), &suspended, Some(&covered));
    assert_conditions(&status, &["Recording=Unknown RecorderNotReady", "Ready=False RecorderNotReady"]);
    lose_recorder(&mut permitted, None);
    let status = status_of(&camera(), &permitted, Some(&records));
    assert_conditions(&status, &["Recording=True Recording", "Ready=True Recording"]);
    let status = status_of(&camera(), &permitted, Some(&connects));
    assert_conditions(&status, &["Recording=False Connecting"]);
    let recording = status.conditions.iter().find(|condition| condition.type_ == "Recording").unwrap();
    assert!(recording.message.contains("zwembad-recorder-0 on the node second"), "{}", recording.message);
    // Its pod is gone: nobody records any more.
    lose_recorder(&mut suspended, Some("2026-01-02T11:59:00Z"));
    let status = status_of(&camera(), &suspended, Some(&covered));
    assert_conditions(&status, &["Recording=False Suspended", "Ready=True Suspended"]);
}

#[test]
fn lost_spool_is_a_gap_even_if_no_recorder_answers() {
    let mut snapshot = site_snapshot();
    lose_recorder(&mut snapshot, Some("2026-01-02T11:59:00Z"));
    let gap = CameraGap {
        reason: "SpoolLost".to_owned(),
        from: Some(Time("2026-01-02T11:48:00Z".parse().unwrap())),
        until: Some(Time("2026-01-02T11:50:00Z".parse().unwrap())),
    };
    assert_eq!(status_of(&camera(), &snapshot, None).gaps, [gap]);
}

/// A restart of its recorder takes seconds. Neither the status nor an event says so, and the Site does.
#[test]
fn short_silence_of_a_recorder_leaves_the_status() {
    let (site, mut camera) = (site_snapshot(), camera());
    let recorded = Ok(reply(CameraState::Recording, "2026-01-02T11:58:30Z"));
    camera.status = Some(status_of(&camera, &site, Some(&recorded)));
    let before = camera.status.clone().unwrap();
    let unreachable = Err(RecorderStatusError::Unreachable);
    let without_recorder = SiteSnapshot { config: None, ..site_snapshot() };
    for (snapshot, reply) in [(&site, Some(&unreachable)), (&without_recorder, None)] {
        let (short, _) = status_in_silence(NOW, &camera, snapshot, reply, false);
        assert_eq!(short, before);
        let (long, _) = status_in_silence(NOW, &camera, snapshot, reply, true);
        assert_conditions(&long, &["Recording=Unknown RecorderNotReady", "Ready=False RecorderNotReady"]);
    }
    // An answer counts at once, and so does a suspension.
    let disconnected = Ok(reply(CameraState::Disconnected, NOW));
    let (status, _) = status_in_silence(NOW, &camera, &site, Some(&disconnected), false);
    assert_conditions(&status, &["Recording=False Disconnected"]);
    let (status, _) = status_in_silence(NOW, &camera, &suspended_snapshot(), Some(&unreachable), false);
    assert_conditions(&status, &["Recording=False Suspended", "Ready=True Suspended"]);
    // The recording before was that of another spec.
    camera.metadata.generation = Some(7);
    let (status, _) = status_in_silence(NOW, &camera, &site, Some(&unreachable), false);
    assert_conditions(&status, &["Recording=Unknown RecorderNotReady"]);
    // A new camera has nothing to keep, and its status is the same while its recorder is created and starts.
    (camera.status, camera.metadata.generation) = (None, None);
    let (first, _) = status_in_silence(NOW, &camera, &without_recorder, None, false);
    assert_conditions(&first, &["Recording=Unknown RecorderNotReady"]);
    camera.status = Some(first.clone());
    let (starting, _) = status_in_silence(NOW, &camera, &site, Some(&unreachable), false);
    assert_eq!(starting, first);
    let (silent, _) = status_in_silence(NOW, &camera, &site, Some(&unreachable), true);
    assert_ne!(silent.conditions[2].message, first.conditions[2].message, "it tells the cause");
}

#[test]
fn omitted_camera_is_not_ready() {
    let mut snapshot = site_snapshot();
    let config = snapshot.config.as_mut().unwrap();
    (config.omitted_cameras, config.cameras[0].name) = (1, "hal".into());
    let status = status_of(&camera(), &snapshot, None);
    assert_conditions(&status, &["Recording=False TooManyCameras", "Ready=False TooManyCameras"]);
    let mut snapshot = suspended_snapshot();
    let config = snapshot.config.as_mut().unwrap();
    (config.omitted_cameras, config.cameras[0].name) = (1, "hal".into());
    let status = status_of(&camera(), &snapshot, None);
    assert_conditions(&status, &["Recording=False Suspended", "Ready=True Suspended"]);
}

#[test]
fn suspended_camera_is_ready() {
    for reply in [None, Some(Ok(reply(CameraState::Suspended, NOW)))] {
        let status = status_of(&camera(), &suspended_snapshot(), reply.as_ref());
        let expected = ["Permitted=False Suspended", "Recording=False Suspended", "Ready=True Suspended"];
        assert_conditions(&status, &expected);
    }
    let reply = Ok(reply(CameraState::Recording, "2026-01-02T11:58:30Z"));
    let status = status_of(&camera(), &suspended_snapshot(), Some(&reply));
    assert_conditions(&status, &["Recording=True Recording", "Ready=False Suspended"]);
}

#[test]
fn missing_site_or_policy_permits_nothing() {
    let status = status_of(&camera(), &SiteSnapshot::default(), None);
    let expected = [
        "Accepted=False ReferenceNotFound",
        "Permitted=False DependencyNotReady",
        "Recording=False DependencyNotReady",
    ];
    assert_conditions(&status, &expected);
    let status =
        status_of(&camera(), &SiteSnapshot { policies: SitePolicies::default(), ..site_snapshot() }, None);
    let expected =
        ["Accepted=True Valid", "Permitted=False DependencyNotReady", "Ready=False DependencyNotReady"];
    assert_conditions(&status, &expected);
}

#[test]
fn missing_site_stalls_after_a_minute_and_invalid_url_immediately() {
    let no_site = SiteSnapshot::default();
    let mut camera = camera();
    let (first, stalls_at) = status_at("2026-01-02T12:00:08Z", &camera, &no_site, None);
    assert_conditions(&first, &["Stalled=False AsRequired"]);
    assert_eq!(stalls_at, Some("2026-01-02T12:01:08Z".parse().unwrap()));
    camera.status = Some(first);
    for (at, expected) in [
        ("2026-01-02T12:01:07Z", "Stalled=False AsRequired"),
        ("2026-01-02T12:01:08Z", "Stalled=True ReferenceNotFound"),
    ] {
        assert_conditions(&status_at(at, &camera, &no_site, None).0, &[expected]);
    }

    camera.status = None;
    camera.spec.stream.url = "rtsp://10.0.0.1:70000/h264".to_owned();
    let (wrong, stalls_at) = status_at("2026-01-02T12:00:09Z", &camera, &site_snapshot(), None);
    assert_conditions(&wrong, &["Stalled=True InvalidField"]);
    assert_eq!(stalls_at, None);
}

/// Returns the status of `camera` after a reply in this state, with `waiting` segments, whose last one began at `segment_start`.
fn status_with_segment(
    camera: &Camera,
    state: CameraState,
    segment_start: &str,
    waiting: u64,
) -> CameraStatus {
    let mut reply = reply(state, segment_start);
    if let Some(report) = &mut reply.report {
        report.waiting = waiting;
    }
    status_of(camera, &site_snapshot(), Some(&Ok(reply)))
}

#[test]
fn last_segment_of_a_recording_camera_refreshes_every_fifteen_minutes() {
    let mut camera = camera();
    let status = |camera: &Camera, start: &str| status_with_segment(camera, CameraState::Recording, start, 0);
    let first = status(&camera, "2026-01-02T11:40:00Z");
    camera.status = Some(first.clone());
    for start in ["2026-01-02T11:41:00Z", "2026-01-02T11:54:59Z", "2026-01-02T11:25:01Z"] {
        assert_eq!(status(&camera, start), first, "{start}");
    }
    // The last of them: after a clock was set back.
    for start in ["2026-01-02T11:55:00Z", "2026-01-02T11:25:00Z"] {
        assert!(status(&camera, start).last_segment.unwrap().key.ends_with(start), "{start}");
    }
}

#[test]
fn last_segment_is_exact_when_the_camera_stops_recording() {
    let mut camera = camera();
    camera.status = Some(status_with_segment(&camera, CameraState::Recording, "2026-01-02T11:57:00Z", 0));
    let key = |status: &CameraStatus| status.last_segment.clone().unwrap().key;

    let stopped = status_with_segment(&camera, CameraState::Disconnected, "2026-01-02T11:58:00Z", 2);
    assert!(key(&stopped).ends_with("11:58:00Z"));
    camera.status = Some(stopped.clone());
    let draining = status_with_segment(&camera, CameraState::Disconnected, "2026-01-02T11:58:30Z", 1);
    assert_eq!(draining, stopped, "a backlog does not write the status at each upload");
    let drained = status_with_segment(&camera, CameraState::Disconnected, "2026-01-02T11:58:59Z", 0);
    assert!(key(&drained).ends_with("11:58:59Z"));
}

/// Returns a reply of a recording camera with this stream, whose last segment began at 11:58.
fn reply_with_stream(width: u16, bits_per_second: u64) -> RecorderReply {
    let mut reply = reply(CameraState::Recording, "2026-01-02T11:58:00Z");
    if let Some(report) = &mut reply.report {
        report.stream = Some(StreamReport {
            codec: "H265".into(),
            width,
            height: 1080,
            milliframes_per_second: 25_000,
            bits_per_second,
        });
    }
    reply
}

#[test]
fn rates_alone_write_no_status_and_another_resolution_does() {
    let mut camera = camera();
    camera.status = Some(status_with_segment(&camera, CameraState::Recording, "2026-01-02T11:57:00Z", 0));
    let first = status_of(&camera, &site_snapshot(), Some(&Ok(reply_with_stream(1920, 4_000_000))));
    let stream = first.stream.clone().unwrap();
    assert_eq!(
        (stream.codec.as_str(), stream.width, stream.frames_per_second.as_str()),
        ("H265", 1920, "25")
    );
    camera.status = Some(first.clone());
    assert_eq!(status_of(&camera, &site_snapshot(), Some(&Ok(reply_with_stream(1920, 9_000_000)))), first);
    let other = status_of(&camera, &site_snapshot(), Some(&Ok(reply_with_stream(640, 900_000))));
    assert_eq!(other.stream.unwrap().bits_per_second, 900_000);
}

#[test]
fn gap_is_counted_with_the_exact_last_segment() {
    let mut camera = camera();
    camera.status = Some(status_with_segment(&camera, CameraState::Recording, "2026-01-02T11:50:00Z", 0));
    let mut reply = reply(CameraState::Recording, "2026-01-02T11:58:00Z");
    if let Some(report) = &mut reply.report {
        report.gaps = vec![crate::wire::Gap {
            cause: crate::wire::GapCause::Disconnected,
            from: Some("2026-01-02T11:55:00Z".parse().unwrap()),
            until: Some("2026-01-02T11:56:30Z".parse().unwrap()),
        }];
    }
    let status = status_of(&camera, &site_snapshot(), Some(&Ok(reply)));
    let today = status.gaps_today.unwrap();
    assert_eq!((today.count, today.seconds, today.time_zone.as_str()), (1, 90, "Europe/Amsterdam"));
    assert!(status.last_segment.unwrap().key.ends_with("11:58:00Z"));
}

/// Returns the pod of the camera's recorder, in this state of its container.
fn recorder_pod(state: &serde_json::Value) -> Vec<std::sync::Arc<k8s_openapi::api::core::v1::Pod>> {
    let owner = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "zwembad-recorder", "uid": "w", "controller": true});
    let pod = serde_json::from_value(json!({
        "metadata": {"name": "zwembad-recorder-2", "ownerReferences": [owner]},
        "status": {"phase": "Running", "containerStatuses": [{
            "name": "recorder", "image": "i", "imageID": "", "ready": true, "restartCount": 0, "state": state,
        }]},
    }));
    vec![std::sync::Arc::new(pod.unwrap())]
}

/// Each row: `Recording` before, the pod, the answer, whether silence is news, a recorder that lags, and `Recording`.
#[test]
fn suspended_camera_claims_silence_only_with_evidence() {
    let running = || recorder_pod(&json!({"running": {}}));
    let never = || recorder_pod(&json!({"waiting": {"reason": "ImagePullBackOff"}}));
    let answer = |state| Some(Ok(reply(state, "2026-01-02T11:58:30Z")));
    let silent = || Some(Err(RecorderStatusError::Unreachable));
    let not_known = || {
        Some(Ok(RecorderReply {
            started: Timestamp::UNIX_EPOCH,
            now: NOW.parse().unwrap(),
            clock_ahead_ms: None,
            report: None,
        }))
    };
    let (covered, records) = (CameraState::Suspended, CameraState::Recording);
    let (silence, unknown) = ("False Suspended", "Unknown RecorderNotReady");
    for (number, (before, pods, reply, is_news, lagging, expected)) in [
        (Some(records), running(), answer(covered), false, None, silence),
        (Some(records), running(), answer(records), false, None, "True Recording"),
        (Some(covered), running(), not_known(), false, None, silence),
        // Its recorder restarts, or has just got lost.
        (Some(covered), running(), silent(), false, None, silence),
        (Some(records), running(), silent(), false, None, unknown),
        (None, running(), silent(), false, None, unknown),
        (Some(covered), running(), silent(), true, None, unknown),
        // It never ran, or is gone.
        (Some(records), never(), silent(), true, None, silence),
        (Some(records), Vec::new(), silent(), true, None, silence),
        (None, Vec::new(), None, true, None, silence),
        // It rejects the configuration, or another recorder may have the camera.
        (Some(covered), running(), answer(covered), false, Some("r"), unknown),
        (Some(covered), running(), answer(records), false, Some("r"), "True Recording"),
        (Some(covered), Vec::new(), None, true, Some("r"), unknown),
    ]
    .into_iter()
    .enumerate()
    {
        let snapshot = SiteSnapshot { pods, ..suspended_snapshot() };
        let mut camera = camera();
        camera.status = before.map(|state| {
            let site = if state == covered { suspended_snapshot() } else { site_snapshot() };
            status_of(&camera, &site, answer(state).as_ref())
        });
        let (status, _) = status_with_lagging(NOW, &camera, &snapshot, reply.as_ref(), is_news, lagging);
        let recording = format!("Recording={expected}");
        // Only a camera that is known to be silent is ready.
        let ready = match expected {
            "True Recording" => "Ready=False Suspended".to_owned(),
            _ => format!("Ready={}", expected.replace("False", "True").replace("Unknown", "False")),
        };
        println!("row {number}");
        assert_conditions(&status, &[&recording, &ready]);
    }
}

/// The Secret with the recorders' configuration is gone.
#[test]
fn recorder_without_known_configuration_may_record() {
    let mut snapshot = SiteSnapshot { pods: recorder_pod(&json!({"running": {}})), ..suspended_snapshot() };
    snapshot.config = None;
    assert_conditions(&status_of(&camera(), &snapshot, None), &["Recording=Unknown RecorderNotReady"]);
    snapshot.pods.clear();
    assert_conditions(&status_of(&camera(), &snapshot, None), &["Recording=False Suspended"]);
}

/// Cameras that recorded go on for five minutes without their Secret.
#[test]
fn camera_that_is_not_accepted_reports_what_its_recorder_does() {
    let camera = testing::camera("receptie");
    for (state, expected) in [
        (CameraState::Recording, "Recording=True Recording"),
        (CameraState::NotPermitted, "Recording=False DependencyNotReady"),
    ] {
        let status = status_of(&camera, &site_snapshot(), Some(&Ok(reply(state, "2026-01-02T11:58:30Z"))));
        assert_conditions(
            &status,
            &[expected, "Accepted=False ReferenceNotFound", "Ready=False ReferenceNotFound"],
        );
    }
    let status = status_of(&camera, &site_snapshot(), None);
    assert_conditions(&status, &["Recording=False DependencyNotReady"]);
}

/// Its frames arrive, or it would record if they did.
#[test]
fn suspended_camera_is_not_ready_while_its_recorder_would_record() {
    for (state, reason) in
        [(CameraState::Disconnected, "Disconnected"), (CameraState::Connecting, "Connecting")]
    {
        let status = status_of(&camera(), &suspended_snapshot(), Some(&Ok(reply(state, NOW))));
        let [recording, ready] = [format!("Recording=False {reason}"), format!("Ready=False {reason}")];
        assert_conditions(&status, &[&recording, &ready]);
    }
    let waits = reply(CameraState::Recording, "2026-01-02T11:00:00Z");
    let status = status_of(&camera(), &suspended_snapshot(), Some(&Ok(waits)));
    assert_conditions(&status, &["Recording=False UploadFailing", "Ready=False UploadFailing"]);
}
