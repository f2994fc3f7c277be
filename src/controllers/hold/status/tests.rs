use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use serde_json::json;

use super::super::dereference::HoldReferences;
use super::super::validate::validate;
use super::{FINALIZER, *};
use crate::api::HoldState;
use crate::controllers::kubernetes::event;

pub fn now() -> Timestamp {
    "2026-01-02T00:00:00Z".parse().unwrap()
}

pub fn hold(purpose: &str) -> IncidentHold {
    serde_json::from_value(json!({
        "metadata": {"name": "h", "namespace": "n", "generation": 2, "creationTimestamp": "2026-01-01T12:00:00Z"},
        "spec": {
            "siteRef": {"name": "s"},
            "window": {"from": "2026-01-01T10:00:00Z"},
            "purpose": purpose,
            "reference": "2026-1",
        },
    }))
    .unwrap()
}

pub fn resolved(mut hold: IncidentHold) -> IncidentHold {
    hold.spec.state = HoldState::Resolved;
    hold
}

pub fn placement() -> Placement {
    Placement {
        scope_hash: String::new(),
        acknowledged: true,
        observed_generation: 2,
        acceptance_time: Time(now()),
        verified: true,
        last_verification_time: Some(Time(now())),
        segments: 12,
        size: "3.0 MiB".into(),
        coverage_until_time: Some(Time(now())),
        coverage: Some("98%".into()),
        sealed_segments: 0,
        store_rejection: None,
        sources: vec![],
        release_time: None,
        last_error: None,
    }
}

pub fn with_placement(mut hold: IncidentHold, placement: Placement) -> IncidentHold {
    hold.status = Some(IncidentHoldStatus { placement: Some(placement), ..IncidentHoldStatus::default() });
    hold
}

pub fn hold_references() -> HoldReferences {
    let site = serde_json::from_value(json!({
        "metadata": {"name": "s", "namespace": "n"},
        "spec": {
            "displayName": "S", "address": {"street": "a", "city": "b"}, "policyRef": {"name": "p"},
            "managers": [],
            "storage": {
                "bucket": "bucket", "region": "r",
                "operator": {"principal": "o", "credentialsRef": {"name": "o"}},
                "recorder": {"principal": "r", "credentialsRef": {"name": "r"}},
            },
        },
    }));
    let policy = serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "n"},
        "spec": {
            "title": "t", "timeZone": "Europe/Amsterdam", "adoption": {"by": "c", "date": "2020-05-04"},
            "inForce": {"from": "2020-05-06"}, "purposes": ["Theft"],
            "retention": {"video": "28d", "calls": "7d"}, "holds": {"reviewInterval": "28d"},
        },
    }));
    HoldReferences { site: Some(site.unwrap()), policy: Some(policy.unwrap()), cameras: vec!["c".into()] }
}

fn condition_of(
    hold: &IncidentHold,
    named: &HoldReferences,
    at: Timestamp,
    type_: ConditionType,
) -> (String, String, String) {
    let (status, _) = hold_status(hold, &validate(&hold.spec, named, at), at);
    let type_: &str = type_.into();
    let condition = status.conditions.into_iter().find(|c| c.type_ == type_);
    let condition = condition.unwrap_or_else(|| panic!("{type_} is not said of {hold:?}"));
    (condition.status, condition.reason, condition.message)
}

pub fn after_seconds(seconds: i64) -> Timestamp {
    now() + SignedDuration::from_secs(seconds)
}

fn condition_types(hold: &IncidentHold, at: Timestamp) -> Vec<String> {
    let (status, _) = hold_status(hold, &validate(&hold.spec, &hold_references(), at), at);
    status.conditions.into_iter().map(|condition| condition.type_).collect()
}

fn assert_condition(hold: &IncidentHold, type_: ConditionType, truth: &str, reason: Reason) {
    let (status, found, message) = condition_of(hold, &hold_references(), now(), type_);
    let reason: &str = reason.into();
    assert_eq!((status.as_str(), found.as_str()), (truth, reason), "{message}");
}

#[test]
fn placed_requires_proof_for_current_generation() {
    assert_condition(&hold("Theft"), ConditionType::Placed, "False", Reason::Placing);
    assert_condition(
        &with_placement(hold("Theft"), placement()),
        ConditionType::Placed,
        "True",
        Reason::Verified,
    );
    assert_condition(
        &with_placement(hold("Theft"), placement()),
        ConditionType::Ready,
        "True",
        Reason::Verified,
    );
    for unproved in
        [Placement { verified: false, ..placement() }, Placement { observed_generation: 1, ..placement() }]
    {
        assert_condition(
            &with_placement(hold("Theft"), unproved),
            ConditionType::Placed,
            "False",
            Reason::Placing,
        );
    }
    let problem = Placement { last_error: Some("no answer".into()), ..placement() };
    assert_condition(
        &with_placement(hold("Theft"), problem),
        ConditionType::Placed,
        "Unknown",
        Reason::Retrying,
    );
    let resolved = resolved(with_placement(hold("Theft"), placement()));
    assert!(
        !condition_types(&resolved, now()).contains(&"Placed".to_owned()),
        "nothing is to be kept for it"
    );
}

#[test]
fn released_requires_read_back() {
    let open = with_placement(hold("Theft"), placement());
    assert!(!condition_types(&open, now()).contains(&"Released".to_owned()), "nobody asked for it");
    assert_condition(
        &resolved(with_placement(hold("Theft"), placement())),
        ConditionType::Released,
        "False",
        Reason::Releasing,
    );
    let released = Placement { release_time: Some(Time(now())), ..placement() };
    assert_condition(
        &resolved(with_placement(hold("Theft"), released)),
        ConditionType::Released,
        "True",
        Reason::Verified,
    );
    // Its predecessor may be in the ledger.
    for condition in [ConditionType::Released, ConditionType::Ready] {
        assert_condition(&resolved(hold("Theft")), condition, "Unknown", Reason::Pending);
    }
    // The operator was killed after it had held something, and before it could write so.
    let mut counted = resolved(hold("Theft"));
    counted.metadata.finalizers = Some(vec![FINALIZER.to_owned()]);
    assert_condition(&counted, ConditionType::Released, "False", Reason::Releasing);
    assert!(
        !is_fully_released(&counted, None, true) && is_fully_released(&resolved(hold("Theft")), None, true)
    );
}

#[test]
fn rejected_hold_reports_reason_and_hold_in_ledger_stays_accepted() {
    let nowhere = HoldReferences::default();
    let unruled = HoldReferences { policy: None, ..hold_references() };
    for (named, purpose, reason) in [
        (&nowhere, "Theft", Reason::ReferenceNotFound),
        (&unruled, "Theft", Reason::ReferenceNotFound),
        (&hold_references(), "Curiosity", Reason::InvalidField),
    ] {
        let reason: &str = reason.into();
        for type_ in [ConditionType::Accepted, ConditionType::Ready] {
            let (truth, found, _) = condition_of(&hold(purpose), named, now(), type_);
            assert_eq!((truth.as_str(), found.as_str()), ("False", reason));
        }
        let counts = with_placement(hold(purpose), placement());
        assert_eq!(condition_of(&counts, named, now(), ConditionType::Accepted).0, "True");
        assert_eq!(condition_of(&counts, named, now(), ConditionType::Placed).0, "True");
    }
}

#[test]
fn overdue_review_does_not_release_hold() {
    let at = |day: &str| format!("{day}T12:00:00Z").parse::<Timestamp>().unwrap();
    let due = |hold: &IncidentHold, day| {
        condition_of(hold, &hold_references(), at(day), ConditionType::ReviewDue).0
    };
    let mut hold = with_placement(hold("Theft"), placement());
    assert_eq!(due(&hold, "2026-01-28"), "False");
    assert_eq!(due(&hold, "2026-01-29"), "True");
    assert_eq!(condition_of(&hold, &hold_references(), at("2026-01-29"), ConditionType::Placed).0, "True");
    hold.spec.review = Some(crate::api::Review { time: Time(at("2026-01-20")), by: "Team".into() });
    assert_eq!(due(&hold, "2026-01-29"), "False");
}

#[test]
fn open_hold_being_deleted_reports_required_resolution() {
    let mut hold = with_placement(hold("Theft"), placement());
    hold.metadata.deletion_timestamp = Some(Time(now()));
    let (truth, reason, message) = condition_of(&hold, &hold_references(), now(), ConditionType::Ready);
    assert_eq!((truth.as_str(), reason.as_str()), ("False", "Deleting"));
    assert!(message.contains("spec.resolution"), "{message}");
}

#[test]
fn placing_hold_produces_event() {
    let hold = hold("Theft");
    let (before, _) = hold_status(&hold, &validate(&hold.spec, &hold_references(), now()), now());
    let placed = with_placement(hold, placement());
    let (after, _) = hold_status(&placed, &validate(&placed.spec, &hold_references(), now()), now());
    let (before, after) = (before.conditions, after.conditions);
    let events = event::condition_changes(&before, &after);
    assert!(events.iter().any(|event| event.action == "Placed"));
}

#[test]
fn placed_message_omits_coverage_until_known() {
    let mut hold = hold("Theft");
    hold.spec.window.until = Some(Time(after_seconds(-100)));
    let unknown =
        Placement { coverage: None, coverage_until_time: Some(Time(after_seconds(-160))), ..placement() };
    let (truth, _, message) = condition_of(
        &with_placement(hold.clone(), unknown),
        &hold_references(),
        now(),
        ConditionType::Placed,
    );
    assert_eq!(truth, "True");
    let at = after_seconds(720 - 100);
    assert!(message.contains(&format!("is not known before {at}")) && !message.contains('%'), "{message}");
    let known = Placement {
        coverage: Some("61%".into()),
        coverage_until_time: Some(Time(after_seconds(-100))),
        ..placement()
    };
    let (_, _, message) =
        condition_of(&with_placement(hold, known), &hold_references(), now(), ConditionType::Placed);
    assert!(message.contains("there are recordings of 61% of the window;"), "{message}");
}

/// Nobody looks at the bucket then, and what was placed may be so no more.
#[test]
fn hold_of_paused_site_is_not_placed() {
    let mut named = hold_references();
    let hold = with_placement(hold("Theft"), placement());
    let found = |named: &HoldReferences, hold: &IncidentHold, now| {
        let (status, _) = hold_status(hold, &validate(&hold.spec, named, now), now);
        let mut hold = hold.clone();
        hold.status.get_or_insert_default().conditions = status.conditions;
        hold
    };
    let of = |hold: &IncidentHold, type_: &str| {
        let condition = hold.conditions().iter().find(|condition| condition.type_ == type_);
        condition.unwrap().clone()
    };
    let before = found(&named, &hold, now());
    assert_eq!(of(&before, "Placed").status, "True");
    let annotations = named.site.as_mut().unwrap().annotations_mut();
    annotations.insert(meta::PAUSED_ANNOTATION.to_owned(), "true".to_owned());
    let later = now() + SignedDuration::from_mins(5);
    let paused = found(&named, &before, later);
    for type_ in ["Placed", "Ready", "Accepted"] {
        let said = of(&paused, type_);
        assert_eq!((said.status.as_str(), said.reason.as_str()), ("Unknown", "Paused"), "{type_}");
        assert!(said.message.contains("its Site is paused; the last look found"), "{}", said.message);
        let again = found(&named, &paused, later + SignedDuration::from_mins(5));
        assert_eq!(of(&again, type_), said, "{type_}: since then");
    }
    let annotations = named.site.as_mut().unwrap().annotations_mut();
    annotations.clear();
    assert_eq!(of(&found(&named, &paused, later), "Placed").status, "True");

    // Its own annotation pauses nothing: what is kept is looked after.
    let mut own = before.clone();
    own.annotations_mut().insert(meta::PAUSED_ANNOTATION.to_owned(), "true".to_owned());
    assert_eq!(of(&found(&named, &own, later), "Placed").status, "True");
}
