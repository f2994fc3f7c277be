use serde_json::json;

use super::super::dereference::SiteSnapshot;
use super::super::observe::{self, RecorderReply};
use super::super::validate::validate;
use super::*;
use crate::api::{Ceilings, Days};
use crate::controllers::recorder_client::RecorderStatusError;
use crate::wire::{CameraState, RecorderConfig};

const NOW: &str = "2026-01-02T12:00:00Z";

fn camera() -> Camera {
    serde_json::from_value(json!({
        "metadata": {"name": "receptie", "namespace": "heusden", "generation": 3, "uid": "u"},
        "spec": {
            "siteRef": {"name": "s"}, "area": "Receptie", "visible": true,
            "stream": {"url": "rtsp://10.9.8.7/h264"},
        },
    }))
    .unwrap()
}

fn site_snapshot(suspensions: &serde_json::Value) -> SiteSnapshot {
    let site = json!({
        "metadata": {"name": "s", "namespace": "heusden"},
        "spec": {
            "displayName": "S", "address": {"street": "a", "city": "b"}, "policyRef": {"name": "p"}, "managers": [],
            "notices": {"staffInformedDate": "2020-05-05", "signsPostedDate": "2020-05-05"},
            "suspensions": suspensions,
            "storage": {
                "bucket": "bucket", "region": "r",
                "operator": {"principal": "o", "credentialsRef": {"name": "o"}},
                "recorder": {"principal": "r", "credentialsRef": {"name": "r"}},
            },
        },
    });
    let policy = json!({
        "metadata": {"name": "p", "namespace": "heusden"},
        "spec": {
            "title": "t", "timeZone": "Europe/Amsterdam", "adoption": {"by": "c", "date": "2020-05-04"},
            "inForce": {"from": "2020-05-06"}, "worksCouncilConsent": {"date": "2020-04-21"}, "purposes": ["Theft"],
            "retention": {"video": "28d", "calls": "7d"}, "holds": {"reviewInterval": "28d"},
        },
    });
    let config: RecorderConfig = serde_json::from_value(json!({
        "format": 1, "revision": "r1", "namespace": "heusden", "site": "s",
        "storage": {"region": "r", "bucket": "b", "pathStyle": true, "accessKeyId": "a", "secretAccessKey": "s"},
        "segmentDurationMs": 60000, "videoCeilingMs": 1, "spoolBytes": 1,
        "cameras": [{"name": "receptie", "shard": 2, "url": "rtsp://10.9.8.7/h264", "permitted": []}],
        "statusApi": {"certPem": "", "keyPem": "", "token": ""},
    }))
    .unwrap();
    SiteSnapshot {
        site: Some(serde_json::from_value(site).unwrap()),
        policy: Some(serde_json::from_value(policy).unwrap()),
        config: Some(config),
        ..SiteSnapshot::default()
    }
}

fn report(state: CameraState, confirmed: &str) -> CameraReport {
    serde_json::from_value(json!({
        "name": "receptie", "state": state, "since": "2026-01-02T11:00:00Z", "lastFrame": NOW,
        "lastSegment": {"key": format!("video/receptie/{confirmed}"), "start": confirmed, "durationMs": 60000, "bytes": 1},
        "uploaded": 1, "waiting": 0,
    }))
    .unwrap()
}

fn reply(report: Option<CameraReport>) -> CameraQueryResult {
    let now = NOW.parse().map_err(|_| RecorderStatusError::InvalidResponse)?;
    Ok(RecorderReply { now, report })
}

fn status_of(camera: &Camera, view: &SiteSnapshot, answer: Option<&CameraQueryResult>) -> CameraStatus {
    status_at(NOW, camera, view, answer).0
}

fn status_at(
    now: &str,
    camera: &Camera,
    view: &SiteSnapshot,
    answer: Option<&CameraQueryResult>,
) -> (CameraStatus, Option<Timestamp>) {
    let now = now.parse().unwrap();
    let valid = validate(camera, view, &Ceilings { video: Days(28), calls: Days(7) }, now);
    let carrier = observe::assigned_recorder("receptie", view);
    camera_status(
        camera,
        &CameraObservations { valid: &valid, recorder: carrier.as_ref(), answer, last_frame_at: None },
        now,
    )
}

fn condition_row(status: &CameraStatus, type_: &str) -> (String, String) {
    let found = status.conditions.iter().find(|condition| condition.type_ == type_).unwrap();
    assert!(!found.message.contains("10.9.8.7"), "{}", found.message);
    (found.status.clone(), found.reason.clone())
}

fn assert_condition(status: &CameraStatus, type_: &str, truth: &str, reason: &str) {
    assert_eq!(condition_row(status, type_), (truth.into(), reason.into()), "{type_} of {status:#?}");
}

#[test]
fn recording_camera_is_ready() {
    let answer = reply(Some(report(CameraState::Recording, "2026-01-02T11:58:30Z")));
    let status = status_of(&camera(), &site_snapshot(&json!([])), Some(&answer));
    for (type_, truth, reason) in [
        ("Accepted", "True", "Valid"),
        ("Permitted", "True", "Permitted"),
        ("Recording", "True", "Recording"),
        ("Ready", "True", "Recording"),
        ("Stalled", "False", "AsRequired"),
    ] {
        assert_condition(&status, type_, truth, reason);
    }
    assert_eq!(status.recorder_pod_name.as_deref(), Some("s-recorder-2"));
    assert_eq!(status.last_segment.unwrap().duration_milliseconds, 60_000);
}

#[test]
fn silent_camera_is_not_ready_with_reason() {
    for (answer, truth, reason) in [
        (Some(reply(Some(report(CameraState::Disconnected, NOW)))), "False", "Disconnected"),
        (Some(reply(None)), "False", "Connecting"),
        (Some(Err(RecorderStatusError::Unreachable)), "Unknown", "RecorderNotReady"),
        (None, "Unknown", "RecorderNotReady"),
    ] {
        let status = status_of(&camera(), &site_snapshot(&json!([])), answer.as_ref());
        assert_condition(&status, "Recording", truth, reason);
        assert_condition(&status, "Ready", "False", reason);
    }
}

#[test]
fn suspended_camera_is_ready() {
    let covered =
        json!([{"reason": "Verkiezing", "from": "2026-01-02T06:00:00Z", "until": "2026-01-02T22:00:00Z"}]);
    let view = site_snapshot(&covered);
    for answer in [None, Some(reply(Some(report(CameraState::Suspended, NOW))))] {
        let status = status_of(&camera(), &view, answer.as_ref());
        assert_condition(&status, "Permitted", "False", "Suspended");
        assert_condition(&status, "Recording", "False", "Suspended");
        assert_condition(&status, "Ready", "True", "Suspended");
    }
    let answer = reply(Some(report(CameraState::Recording, "2026-01-02T11:58:30Z")));
    let status = status_of(&camera(), &view, Some(&answer));
    assert_condition(&status, "Recording", "True", "Recording");
    assert_condition(&status, "Ready", "False", "Suspended");
}

#[test]
fn missing_site_or_policy_permits_nothing() {
    let nothing = SiteSnapshot::default();
    let status = status_of(&camera(), &nothing, None);
    assert_condition(&status, "Accepted", "False", "ReferenceNotFound");
    assert_condition(&status, "Permitted", "False", "DependencyNotReady");
    assert_condition(&status, "Recording", "False", "DependencyNotReady");
    let view = SiteSnapshot { policy: None, ..site_snapshot(&json!([])) };
    let status = status_of(&camera(), &view, None);
    assert_condition(&status, "Accepted", "True", "Valid");
    assert_condition(&status, "Permitted", "False", "DependencyNotReady");
    assert_condition(&status, "Ready", "False", "DependencyNotReady");
}

#[test]
fn missing_site_stalls_after_a_minute_and_invalid_url_immediately() {
    let nothing = SiteSnapshot::default();
    let mut camera = camera();
    let (first, stalls_at) = status_at("2026-01-02T12:00:08Z", &camera, &nothing, None);
    assert_condition(&first, "Stalled", "False", "AsRequired");
    let expected: Timestamp = "2026-01-02T12:01:08Z".parse().unwrap();
    assert_eq!(stalls_at, Some(expected));
    camera.status = Some(first);
    for (at, truth, reason) in [
        ("2026-01-02T12:01:07Z", "False", "AsRequired"),
        ("2026-01-02T12:01:08Z", "True", "ReferenceNotFound"),
    ] {
        let (status, _) = status_at(at, &camera, &nothing, None);
        assert_condition(&status, "Stalled", truth, reason);
    }

    camera.status = None;
    camera.spec.stream.url = "rtsp://10.9.8.7:70000/h264".to_owned();
    let (wrong, stalls_at) = status_at("2026-01-02T12:00:09Z", &camera, &site_snapshot(&json!([])), None);
    assert_condition(&wrong, "Stalled", "True", "InvalidField");
    assert_eq!(stalls_at, None);
}

#[test]
fn last_segment_updates_every_five_minutes_or_with_conditions() {
    let view = site_snapshot(&json!([]));
    let mut camera = camera();
    let at = |start| reply(Some(report(CameraState::Recording, start)));
    let first = status_of(&camera, &view, Some(&at("2026-01-02T11:57:00Z")));
    camera.status = Some(first.clone());
    let soon = status_of(&camera, &view, Some(&at("2026-01-02T11:58:30Z")));
    assert_eq!(soon, first, "nothing moves by the minute");

    let silent = reply(Some(report(CameraState::Disconnected, "2026-01-02T11:58:30Z")));
    let news = status_of(&camera, &view, Some(&silent));
    assert!(news.last_segment.unwrap().key.ends_with("11:58:30Z"));

    let mut old = first;
    old.last_segment.as_mut().unwrap().start_time = Time("2026-01-02T11:50:00Z".parse().unwrap());
    camera.status = Some(old);
    let later = status_of(&camera, &view, Some(&at("2026-01-02T11:58:30Z")));
    assert!(later.last_segment.unwrap().key.ends_with("11:58:30Z"));
}
