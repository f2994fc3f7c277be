use serde_json::{Value, json};

use super::*;
use crate::api::IncidentHoldStatus;
use crate::controllers::hold::dereference::HoldReferences;
use crate::controllers::hold::status::hold_status;
use crate::controllers::hold::validate::validate;
use crate::controllers::kubernetes::event;

fn now() -> Timestamp {
    "2026-11-28T10:00:00Z".parse().unwrap()
}

/// A hold over these cameras, whose window ended at this time of the day; `None`: it goes on.
fn hold(cameras: &[&str], until: Option<&str>) -> IncidentHold {
    let until = until.map(|until| format!("2026-11-28T{until}Z"));
    serde_json::from_value(json!({
        "metadata": {"name": "h", "namespace": "n", "generation": 5, "creationTimestamp": "2026-11-28T09:58:00Z"},
        "spec": {
            "siteRef": {"name": "s"}, "cameras": cameras, "purpose": "Theft", "reference": "2026-1",
            "window": {"from": "2026-11-28T07:00:00Z", "until": until},
        },
    }))
    .unwrap()
}

fn hold_references(cameras: &[&str], made: &str) -> HoldReferences {
    let site = json!({
        "metadata": {"name": "s", "namespace": "n", "creationTimestamp": made},
        "spec": {
            "displayName": "S", "address": {"street": "a", "city": "b"}, "policyRef": {"name": "p"}, "managers": [],
            "storage": {
                "bucket": "bucket", "region": "r",
                "operator": {"principal": "o", "credentialsRef": {"name": "o"}},
                "recorder": {"principal": "r", "credentialsRef": {"name": "r"}},
            },
        },
    });
    let policy = json!({
        "metadata": {"name": "p", "namespace": "n"},
        "spec": {
            "title": "t", "timeZone": "Europe/Amsterdam", "adoption": {"by": "c", "date": "2020-05-04"},
            "inForce": {"from": "2020-05-06"}, "purposes": ["Theft"],
            "retention": {"video": "28d", "calls": "7d"}, "holds": {"reviewInterval": "28d"},
        },
    });
    HoldReferences {
        site: Some(serde_json::from_value(site).unwrap()),
        policy: Some(serde_json::from_value(policy).unwrap()),
        cameras: cameras.iter().map(|name| (*name).to_owned()).collect(),
    }
}

/// What was found: so many segments of each source, as far as the time of the day.
fn with_sources(mut hold: IncidentHold, sources: &[(&str, i64)], known: Option<&str>) -> IncidentHold {
    let told: Vec<Value> = sources
        .iter()
        .map(|(name, segments)| {
            json!({"name": name, "segments": segments, "recordedSeconds": 60 * segments, "missingSeconds": 0})
        })
        .collect();
    let placement = json!({
        "observedGeneration": 5, "acceptanceTime": "2026-11-28T09:58:01Z", "verified": true, "sealedSegments": 0, "size": "1 MiB",
        "segments": sources.iter().map(|(_, segments)| segments).sum::<i64>(), "sources": told,
        "coverageUntilTime": known.map(|known| format!("2026-11-28T{known}Z")),
    });
    hold.status = Some(IncidentHoldStatus {
        placement: Some(serde_json::from_value(placement).unwrap()),
        ..IncidentHoldStatus::default()
    });
    hold
}

/// `Covers` and `Ready`, the message of the first, and the unknown cameras.
fn covers_and_ready(hold: &IncidentHold, named: &HoldReferences) -> ([String; 3], String, Vec<String>) {
    let (status, _) = hold_status(hold, &validate(&hold.spec, named, now()), now());
    let of = |type_: &str| {
        let mut conditions = status.conditions.iter();
        conditions.find(|condition| condition.type_ == type_).unwrap().clone()
    };
    let (covers, ready) = (of("RecordingsFound"), of("Ready"));
    ([covers.status, covers.reason, ready.status], covers.message, status.unknown_cameras)
}

const LONG_AGO: &str = "2026-01-01T00:00:00Z";

#[test]
fn hold_with_recordings_reports_recordings_found() {
    let sources = [("entree", 3), ("gang", 0)];
    let hold = with_sources(hold(&["entree", "gang"], Some("08:00:00")), &sources, Some("08:00:00"));
    let (told, message, unknown) = covers_and_ready(&hold, &hold_references(&["entree", "gang"], LONG_AGO));
    assert_eq!(told, ["True", "RecordingsFound", "True"]);
    assert_eq!(message, "3 segments were found that it covers, none of them of gang");
    assert!(unknown.is_empty());
}

#[test]
fn unknown_camera_is_reported_immediately_and_can_be_removed() {
    let sources = [("entrence", 0), ("gang", 2)];
    let hold = with_sources(hold(&["entrence", "gang"], None), &sources, None);
    let (told_of_it, message, unknown) =
        covers_and_ready(&hold, &hold_references(&["entrance", "gang"], LONG_AGO));
    assert_eq!(told_of_it, ["False", "UnknownCamera", "False"]);
    assert!(message.starts_with("spec.cameras: the Site has no Camera named entrence, and"), "{message}");
    assert!(message.contains("2 segments of others are kept"), "{message}");
    assert_eq!(unknown, ["entrence"]);
    // One that was removed, and of which there are recordings, is no typo.
    let hold = with_sources(hold_on_removed_camera(), &[("gesloopt", 1)], None);
    let (told_of_it, _, unknown) = covers_and_ready(&hold, &hold_references(&[], LONG_AGO));
    assert_eq!((told_of_it[1].as_str(), unknown.len()), ("RecordingsFound", 0));
}

fn hold_on_removed_camera() -> IncidentHold {
    hold(&["gesloopt"], Some("08:00:00"))
}

#[test]
fn window_before_site_creation_suggests_checking_the_utc_offset() {
    let hold = with_sources(hold(&[], Some("08:00:00")), &[], Some("08:00:00"));
    let (told, message, _) = covers_and_ready(&hold, &hold_references(&["entree"], "2026-11-28T08:10:00Z"));
    assert_eq!(told, ["False", "NoRecordingsFound", "False"]);
    for part in
        ["from 2026-11-28T07:00:00Z to 2026-11-28T08:00:00Z", "before the Site was made", "offset from UTC"]
    {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn nothing_found_is_reported_only_once_known() {
    let site = hold_references(&["entree"], LONG_AGO);
    let none = [("entree", 0)];
    for (until, known, expected) in [
        (Some("09:55:00"), Some("09:54:00"), ["Unknown", "UploadsPending", "Unknown"]),
        (Some("09:48:00"), Some("09:48:00"), ["False", "NoRecordingsFound", "False"]),
        (None, None, ["Unknown", "UploadsPending", "Unknown"]),
        (None, Some("07:30:00"), ["False", "NoRecordingsFound", "False"]),
        // It goes on until tonight.
        (Some("22:00:00"), Some("07:30:00"), ["False", "NoRecordingsFound", "False"]),
    ] {
        let hold = with_sources(hold(&["entree"], until), &none, known);
        let (told, message, _) = covers_and_ready(&hold, &site);
        assert_eq!(told, expected, "until {until:?}, known until {known:?}: {message}");
    }
    // Not of what it was before it was changed.
    let mut changed = with_sources(hold(&["entree"], Some("08:00:00")), &none, Some("08:00:00"));
    changed.metadata.generation = Some(6);
    assert_eq!(covers_and_ready(&changed, &site).0[1], "UploadsPending");
    assert_eq!(covers_and_ready(&hold(&["entree"], None), &site).0[1], "UploadsPending");
    let mut refused = hold(&["entree"], None);
    refused.spec.purpose = "Curiosity".into();
    assert_eq!(covers_and_ready(&refused, &site).0, ["Unknown", "DependencyNotReady", "False"]);
}

#[test]
fn nothing_found_produces_one_warning() {
    let site = hold_references(&["entree"], LONG_AGO);
    let conditions_of =
        |hold: &IncidentHold| hold_status(hold, &validate(&hold.spec, &site, now()), now()).0.conditions;
    let before = hold(&["entree"], Some("08:00:00"));
    let after = with_sources(before.clone(), &[("entree", 0)], Some("08:00:00"));
    let (before, after) = (conditions_of(&before), conditions_of(&after));
    let events = event::condition_changes(&before, &after);
    let warnings: Vec<_> = events
        .iter()
        .filter(|event| event.type_ == kube::runtime::events::EventType::Warning)
        .map(|event| (event.action.as_str(), event.reason.as_str()))
        .collect();
    assert_eq!(warnings, [("RecordingsFound", "NoRecordingsFound")]);
    assert!(event::condition_changes(&after, &after).is_empty());
}

#[test]
fn messages_do_not_mention_zero_segments() {
    let hold = with_sources(hold(&["entree"], Some("08:00:00")), &[("entree", 0)], Some("08:00:00"));
    let (status, _) =
        hold_status(&hold, &validate(&hold.spec, &hold_references(&["entree"], LONG_AGO), now()), now());
    for condition in &status.conditions {
        assert!(!condition.message.contains("0 segments"), "{}: {}", condition.type_, condition.message);
        assert!(!condition.message.contains("each"), "{}: {}", condition.type_, condition.message);
    }
}
