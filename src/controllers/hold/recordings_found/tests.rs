use kube::runtime::events::EventType;
use serde_json::{Value, json};

use super::*;
use crate::api::IncidentHoldStatus;
use crate::controllers::hold::dereference::HoldReferences;
use crate::controllers::hold::fixtures::{condition, hold_references, status_at, verdict, with_placement};
use crate::controllers::kubernetes::event;
use crate::controllers::testing;

fn now() -> Timestamp {
    "2026-11-28T10:00:00Z".parse().unwrap()
}

/// Returns a hold over these cameras from 07:00 until this time of the day; `None`: without an end.
fn hold(cameras: &[&str], until: Option<&str>) -> IncidentHold {
    let mut hold = testing::hold("h");
    hold.spec.cameras = cameras.iter().map(ToString::to_string).collect();
    let until = until.map(|until| format!("2026-11-28T{until}Z"));
    let window = json!({"from": "2026-11-28T07:00:00Z", "until": until});
    hold.spec.window = serde_json::from_value(window).unwrap();
    hold
}

/// Returns `hold` with this number of segments of each source, with coverage known until this time of the day.
fn with_sources(hold: IncidentHold, sources: &[(&str, i64)], known: Option<&str>) -> IncidentHold {
    let found: Vec<Value> = sources
        .iter()
        .map(|(name, segments)| {
            json!({"name": name, "segments": segments, "recordedSeconds": 60 * segments, "missingSeconds": 0})
        })
        .collect();
    let placement = json!({
        "observedGeneration": 2, "acceptanceTime": "2026-11-28T09:58:01Z", "verified": true, "sealedSegments": 0, "size": "1 MiB",
        "segments": sources.iter().map(|(_, segments)| segments).sum::<i64>(), "sources": found,
        "coverageUntilTime": known.map(|known| format!("2026-11-28T{known}Z")),
    });
    with_placement(hold, serde_json::from_value(placement).unwrap())
}

/// Returns `RecordingsFound`, its message, the status of `Ready`, and the unknown cameras.
fn evaluate(hold: &IncidentHold, references: &HoldReferences) -> (String, String, String, Vec<String>) {
    let IncidentHoldStatus { conditions, unknown_cameras, .. } = status_at(hold, references, now()).0;
    let message = condition(&conditions, "RecordingsFound").message.clone();
    let ready = condition(&conditions, "Ready").status.clone();
    (verdict(&conditions, "RecordingsFound"), message, ready, unknown_cameras)
}

#[test]
fn hold_with_recordings_reports_recordings_found() {
    let sources = [("entree", 3), ("gang", 0)];
    let hold = with_sources(hold(&["entree", "gang"], Some("08:00:00")), &sources, Some("08:00:00"));
    let (found, message, ready, unknown) = evaluate(&hold, &hold_references(&["entree", "gang"]));
    assert_eq!((found.as_str(), ready.as_str()), ("True RecordingsFound", "True"));
    assert_eq!(message, "3 segments in the window were found, none of gang");
    assert!(unknown.is_empty());
}

#[test]
fn unknown_camera_is_reported_immediately_and_can_be_removed() {
    let sources = [("entrence", 0), ("gang", 2)];
    let misspelt = with_sources(hold(&["entrence", "gang"], None), &sources, None);
    let (found, message, ready, unknown) = evaluate(&misspelt, &hold_references(&["entrance", "gang"]));
    assert_eq!((found.as_str(), ready.as_str()), ("False UnknownCamera", "False"));
    assert!(message.starts_with("spec.cameras: the Site has no Camera named entrence, and"), "{message}");
    assert!(message.contains("2 segments of other cameras are kept"), "{message}");
    assert_eq!(unknown, ["entrence"]);
    // A removed camera with recordings is no typo.
    let removed = with_sources(hold(&["gesloopt"], Some("08:00:00")), &[("gesloopt", 1)], None);
    let (found, _, _, unknown) = evaluate(&removed, &hold_references(&[]));
    assert_eq!((found.as_str(), unknown.len()), ("True RecordingsFound", 0));
}

#[test]
fn window_before_site_creation_suggests_checking_the_utc_offset() {
    let hold = with_sources(hold(&[], Some("08:00:00")), &[], Some("08:00:00"));
    let mut references = hold_references(&["entree"]);
    let created = serde_json::from_value(json!("2026-11-28T08:10:00Z")).unwrap();
    references.site.as_mut().unwrap().metadata.creation_timestamp = Some(created);
    let (found, message, ready, _) = evaluate(&hold, &references);
    assert_eq!((found.as_str(), ready.as_str()), ("False NoRecordingsFound", "False"));
    for part in [
        "from 2026-11-28T07:00:00Z to 2026-11-28T08:00:00Z",
        "before the Site was created",
        "offset from UTC",
    ] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn nothing_found_is_reported_only_once_known() {
    let references = hold_references(&["entree"]);
    let none = [("entree", 0)];
    let (pending, nothing) = (("Unknown UploadsPending", "Unknown"), ("False NoRecordingsFound", "False"));
    for (until, known, expected) in [
        (Some("09:55:00"), Some("09:54:00"), pending),
        (Some("09:48:00"), Some("09:48:00"), nothing),
        (None, None, pending),
        (None, Some("07:30:00"), nothing),
        // The window ends tonight.
        (Some("22:00:00"), Some("07:30:00"), nothing),
    ] {
        let hold = with_sources(hold(&["entree"], until), &none, known);
        let (found, message, ready, _) = evaluate(&hold, &references);
        assert_eq!((found.as_str(), ready.as_str()), expected, "until {until:?}, known {known:?}: {message}");
    }
    // A placement of an earlier generation proves nothing.
    let mut changed = with_sources(hold(&["entree"], Some("08:00:00")), &none, Some("08:00:00"));
    changed.metadata.generation = Some(3);
    assert_eq!(evaluate(&changed, &references).0, "Unknown UploadsPending");
    assert_eq!(evaluate(&hold(&["entree"], None), &references).0, "Unknown UploadsPending");
    let mut rejected = hold(&["entree"], None);
    rejected.spec.purpose = "Curiosity".into();
    let (found, _, ready, _) = evaluate(&rejected, &references);
    assert_eq!((found.as_str(), ready.as_str()), ("Unknown DependencyNotReady", "False"));
}

#[test]
fn nothing_found_produces_one_warning() {
    let references = hold_references(&["entree"]);
    let before = hold(&["entree"], Some("08:00:00"));
    let after = with_sources(before.clone(), &[("entree", 0)], Some("08:00:00"));
    let [before, after] = [before, after].map(|hold| status_at(&hold, &references, now()).0.conditions);
    let events = event::condition_changes(&before, &after);
    let warnings: Vec<_> = events
        .iter()
        .filter(|event| event.type_ == EventType::Warning)
        .map(|event| (event.action.as_str(), event.reason.as_str()))
        .collect();
    assert_eq!(warnings, [("RecordingsFound", "NoRecordingsFound")]);
    assert!(event::condition_changes(&after, &after).is_empty());
}

#[test]
fn messages_do_not_mention_zero_segments() {
    let hold = with_sources(hold(&["entree"], Some("08:00:00")), &[("entree", 0)], Some("08:00:00"));
    for condition in &status_at(&hold, &hold_references(&["entree"]), now()).0.conditions {
        assert!(!condition.message.contains("0 segments"), "{}: {}", condition.type_, condition.message);
        assert!(!condition.message.contains("each"), "{}: {}", condition.type_, condition.message);
    }
}
