use serde_json::json;

use super::super::dereference::View;
use super::super::observe::{self, Said};
use super::super::validate::validate;
use super::*;
use crate::api::{Ceilings, Days};
use crate::contract::{CameraState, RecorderConfig};
use crate::controllers::recorders::RecorderError;

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

fn view(suspensions: &serde_json::Value) -> View {
    let site = json!({
        "metadata": {"name": "s", "namespace": "heusden"},
        "spec": {
            "displayName": "S", "address": {"street": "a", "city": "b"}, "policyRef": {"name": "p"}, "managers": [],
            "notices": {"staffInformedOn": "2020-05-05", "signsPostedOn": "2020-05-05"},
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
            "title": "t", "timeZone": "Europe/Amsterdam", "adopted": {"by": "c", "date": "2020-05-04"},
            "inForce": {"from": "2020-05-06"}, "worksCouncilConsent": {"date": "2020-04-21"}, "purposes": ["Theft"],
            "retention": {"video": "28d", "calls": "7d"}, "holds": {"reviewEvery": "28d"},
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
    View {
        site: Some(serde_json::from_value(site).unwrap()),
        policy: Some(serde_json::from_value(policy).unwrap()),
        config: Some(config),
        ..View::default()
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

fn said(report: Option<CameraReport>) -> Answer {
    let now = NOW.parse().map_err(|_| RecorderError::Unintelligible)?;
    Ok(Said { now, report })
}

fn status_of(camera: &Camera, view: &View, answer: Option<&Answer>) -> CameraStatus {
    status_at(NOW, camera, view, answer).0
}

fn status_at(
    now: &str,
    camera: &Camera,
    view: &View,
    answer: Option<&Answer>,
) -> (CameraStatus, Option<Timestamp>) {
    let now = now.parse().unwrap();
    let valid = validate(camera, view, &Ceilings { video: Days(28), calls: Days(7) }, now);
    let carrier = observe::carrier("receptie", view);
    status(camera, &Observed { valid: &valid, carrier: carrier.as_ref(), answer, last_known: None }, now)
}

fn row(status: &CameraStatus, type_: &str) -> (String, String) {
    let found = status.conditions.iter().find(|condition| condition.type_ == type_).unwrap();
    assert!(!found.message.contains("10.9.8.7"), "{}", found.message);
    (found.status.clone(), found.reason.clone())
}

fn is(status: &CameraStatus, type_: &str, truth: &str, reason: &str) {
    assert_eq!(row(status, type_), (truth.into(), reason.into()), "{type_} of {status:#?}");
}

#[test]
fn a_camera_that_records_is_ready() {
    let answer = said(Some(report(CameraState::Recording, "2026-01-02T11:58:30Z")));
    let status = status_of(&camera(), &view(&json!([])), Some(&answer));
    for (type_, truth, reason) in [
        ("Accepted", "True", "Valid"),
        ("Permitted", "True", "Permitted"),
        ("Recording", "True", "Recording"),
        ("Ready", "True", "Recording"),
        ("Stalled", "False", "AsRequired"),
    ] {
        is(&status, type_, truth, reason);
    }
    assert_eq!(status.recorder.as_deref(), Some("s-recorder-2"));
    assert_eq!(status.last_segment.unwrap().duration_ms, 60_000);
}

#[test]
fn a_silent_camera_is_not_ready_and_says_why() {
    for (answer, truth, reason) in [
        (Some(said(Some(report(CameraState::Disconnected, NOW)))), "False", "Disconnected"),
        (Some(said(None)), "False", "Connecting"),
        (Some(Err(RecorderError::Unreachable)), "Unknown", "RecorderNotReady"),
        (None, "Unknown", "RecorderNotReady"),
    ] {
        let status = status_of(&camera(), &view(&json!([])), answer.as_ref());
        is(&status, "Recording", truth, reason);
        is(&status, "Ready", "False", reason);
    }
}

#[test]
fn a_covered_camera_is_as_it_should_be() {
    let covered =
        json!([{"reason": "Verkiezing", "from": "2026-01-02T06:00:00Z", "until": "2026-01-02T22:00:00Z"}]);
    let view = view(&covered);
    for answer in [None, Some(said(Some(report(CameraState::Suspended, NOW))))] {
        let status = status_of(&camera(), &view, answer.as_ref());
        is(&status, "Permitted", "False", "Suspended");
        is(&status, "Recording", "False", "Suspended");
        is(&status, "Ready", "True", "Suspended");
    }
    let answer = said(Some(report(CameraState::Recording, "2026-01-02T11:58:30Z")));
    let status = status_of(&camera(), &view, Some(&answer));
    is(&status, "Recording", "True", "Recording");
    is(&status, "Ready", "False", "Suspended");
}

#[test]
fn without_a_site_or_a_policy_nothing_is_permitted() {
    let nothing = View::default();
    let status = status_of(&camera(), &nothing, None);
    is(&status, "Accepted", "False", "ReferenceNotFound");
    is(&status, "Permitted", "False", "DependsOn");
    is(&status, "Recording", "False", "DependsOn");
    let view = View { policy: None, ..view(&json!([])) };
    let status = status_of(&camera(), &view, None);
    is(&status, "Accepted", "True", "Valid");
    is(&status, "Permitted", "False", "DependsOn");
    is(&status, "Ready", "False", "DependsOn");
}

#[test]
fn a_camera_whose_site_is_missing_stalls_after_a_minute_and_one_that_is_wrong_at_once() {
    let nothing = View::default();
    let mut camera = camera();
    let (first, stalls_at) = status_at("2026-01-02T12:00:08Z", &camera, &nothing, None);
    is(&first, "Stalled", "False", "AsRequired");
    let expected: Timestamp = "2026-01-02T12:01:08Z".parse().unwrap();
    assert_eq!(stalls_at, Some(expected));
    camera.status = Some(first);
    for (at, truth, reason) in [
        ("2026-01-02T12:01:07Z", "False", "AsRequired"),
        ("2026-01-02T12:01:08Z", "True", "ReferenceNotFound"),
    ] {
        let (status, _) = status_at(at, &camera, &nothing, None);
        is(&status, "Stalled", truth, reason);
    }

    camera.status = None;
    camera.spec.stream.url = "rtsp://10.9.8.7:70000/h264".to_owned();
    let (wrong, stalls_at) = status_at("2026-01-02T12:00:09Z", &camera, &view(&json!([])), None);
    is(&wrong, "Stalled", "True", "InvalidField");
    assert_eq!(stalls_at, None);
}

#[test]
fn the_newest_segment_is_told_every_five_minutes_or_with_news() {
    let view = view(&json!([]));
    let mut camera = camera();
    let at = |start| said(Some(report(CameraState::Recording, start)));
    let first = status_of(&camera, &view, Some(&at("2026-01-02T11:57:00Z")));
    camera.status = Some(first.clone());
    let soon = status_of(&camera, &view, Some(&at("2026-01-02T11:58:30Z")));
    assert_eq!(soon, first, "nothing moves by the minute");

    let silent = said(Some(report(CameraState::Disconnected, "2026-01-02T11:58:30Z")));
    let news = status_of(&camera, &view, Some(&silent));
    assert!(news.last_segment.unwrap().key.ends_with("11:58:30Z"));

    let mut old = first;
    old.last_segment.as_mut().unwrap().start = Time("2026-01-02T11:50:00Z".parse().unwrap());
    camera.status = Some(old);
    let later = status_of(&camera, &view, Some(&at("2026-01-02T11:58:30Z")));
    assert!(later.last_segment.unwrap().key.ends_with("11:58:30Z"));
}
