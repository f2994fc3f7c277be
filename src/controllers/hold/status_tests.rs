use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use serde_json::json;

use super::super::dereference::Named;
use super::super::validate::validate;
use super::*;
use crate::controllers::hold::FINALIZER;
use crate::controllers::kit::event;

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
        scope: String::new(),
        acknowledged: true,
        observed_generation: 2,
        accepted_at: Time(now()),
        proved: true,
        verified_at: Some(Time(now())),
        segments: 12,
        size: "3.0 MiB".into(),
        known_until: Some(Time(now())),
        coverage: Some("98%".into()),
        sealed: 0,
        refused: None,
        sources: vec![],
        released_at: None,
        problem: None,
    }
}

pub fn with(mut hold: IncidentHold, placement: Placement) -> IncidentHold {
    hold.status = Some(IncidentHoldStatus { placement: Some(placement), ..IncidentHoldStatus::default() });
    hold
}

pub fn named() -> Named {
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
            "title": "t", "timeZone": "Europe/Amsterdam", "adopted": {"by": "c", "date": "2020-05-04"},
            "inForce": {"from": "2020-05-06"}, "purposes": ["Theft"],
            "retention": {"video": "28d", "calls": "7d"}, "holds": {"reviewEvery": "28d"},
        },
    }));
    Named { site: Some(site.unwrap()), policy: Some(policy.unwrap()), cameras: vec!["c".into()] }
}

fn found(
    hold: &IncidentHold,
    named: &Named,
    at: Timestamp,
    type_: ConditionType,
) -> (String, String, String) {
    let (status, _) = status(hold, &validate(&hold.spec, named, at), at);
    let type_: &str = type_.into();
    let condition = status.conditions.into_iter().find(|c| c.type_ == type_);
    let condition = condition.unwrap_or_else(|| panic!("{type_} is not said of {hold:?}"));
    (condition.status, condition.reason, condition.message)
}

pub fn later(seconds: i64) -> Timestamp {
    now() + SignedDuration::from_secs(seconds)
}

/// Which conditions there are.
fn said(hold: &IncidentHold, at: Timestamp) -> Vec<String> {
    let (status, _) = status(hold, &validate(&hold.spec, &named(), at), at);
    status.conditions.into_iter().map(|condition| condition.type_).collect()
}

fn assert_found(hold: &IncidentHold, type_: ConditionType, truth: &str, reason: Reason) {
    let (status, found, message) = found(hold, &named(), now(), type_);
    let reason: &str = reason.into();
    assert_eq!((status.as_str(), found.as_str()), (truth, reason), "{message}");
}

#[test]
fn placed_is_said_only_of_what_was_proved_as_the_hold_is_now() {
    assert_found(&hold("Theft"), ConditionType::Placed, "False", Reason::Placing);
    assert_found(&with(hold("Theft"), placement()), ConditionType::Placed, "True", Reason::ReadBack);
    assert_found(&with(hold("Theft"), placement()), ConditionType::Ready, "True", Reason::ReadBack);
    for unproved in
        [Placement { proved: false, ..placement() }, Placement { observed_generation: 1, ..placement() }]
    {
        assert_found(&with(hold("Theft"), unproved), ConditionType::Placed, "False", Reason::Placing);
    }
    let problem = Placement { problem: Some("no answer".into()), ..placement() };
    assert_found(&with(hold("Theft"), problem), ConditionType::Placed, "Unknown", Reason::Retrying);
    let resolved = resolved(with(hold("Theft"), placement()));
    assert!(!said(&resolved, now()).contains(&"Placed".to_owned()), "nothing is to be kept for it");
}

#[test]
fn released_is_said_only_of_what_was_read_back() {
    let open = with(hold("Theft"), placement());
    assert!(!said(&open, now()).contains(&"Released".to_owned()), "nobody asked for it");
    assert_found(
        &resolved(with(hold("Theft"), placement())),
        ConditionType::Released,
        "False",
        Reason::Releasing,
    );
    let released = Placement { released_at: Some(Time(now())), ..placement() };
    assert_found(&resolved(with(hold("Theft"), released)), ConditionType::Released, "True", Reason::ReadBack);
    // Its predecessor may be in the ledger.
    for condition in [ConditionType::Released, ConditionType::Ready] {
        assert_found(&resolved(hold("Theft")), condition, "Unknown", Reason::Pending);
    }
    // The operator was killed after it had held something, and before it could write so.
    let mut counted = resolved(hold("Theft"));
    counted.metadata.finalizers = Some(vec![FINALIZER.to_owned()]);
    assert_found(&counted, ConditionType::Released, "False", Reason::Releasing);
    assert!(!may_go(&counted, None, true) && may_go(&resolved(hold("Theft")), None, true));
}

#[test]
fn what_is_not_accepted_says_why_and_what_the_ledger_has_counts_on() {
    let nowhere = Named::default();
    let unruled = Named { policy: None, ..named() };
    for (named, purpose, reason) in [
        (&nowhere, "Theft", Reason::ReferenceNotFound),
        (&unruled, "Theft", Reason::ReferenceNotFound),
        (&named(), "Curiosity", Reason::InvalidField),
    ] {
        let reason: &str = reason.into();
        for type_ in [ConditionType::Accepted, ConditionType::Ready] {
            let (truth, found, _) = found(&hold(purpose), named, now(), type_);
            assert_eq!((truth.as_str(), found.as_str()), ("False", reason));
        }
        let counts = with(hold(purpose), placement());
        assert_eq!(found(&counts, named, now(), ConditionType::Accepted).0, "True");
        assert_eq!(found(&counts, named, now(), ConditionType::Placed).0, "True");
    }
}

#[test]
fn a_review_is_due_and_done_and_releases_nothing() {
    let at = |day: &str| format!("{day}T12:00:00Z").parse::<Timestamp>().unwrap();
    let due = |hold: &IncidentHold, day| found(hold, &named(), at(day), ConditionType::ReviewDue).0;
    let mut hold = with(hold("Theft"), placement());
    assert_eq!(due(&hold, "2026-01-28"), "False");
    assert_eq!(due(&hold, "2026-01-29"), "True");
    assert_eq!(found(&hold, &named(), at("2026-01-29"), ConditionType::Placed).0, "True");
    hold.spec.review = Some(crate::api::Review { at: Time(at("2026-01-20")), by: "Team".into() });
    assert_eq!(due(&hold, "2026-01-29"), "False");
}

#[test]
fn an_open_hold_that_is_being_deleted_says_what_it_waits_for() {
    let mut hold = with(hold("Theft"), placement());
    hold.metadata.deletion_timestamp = Some(Time(now()));
    let (truth, reason, message) = found(&hold, &named(), now(), ConditionType::Ready);
    assert_eq!((truth.as_str(), reason.as_str()), ("False", "Deleting"));
    assert!(message.contains("spec.resolution"), "{message}");
}

#[test]
fn people_are_told_when_it_is_placed() {
    let hold = hold("Theft");
    let (before, _) = status(&hold, &validate(&hold.spec, &named(), now()), now());
    let placed = with(hold, placement());
    let (after, _) = status(&placed, &validate(&placed.spec, &named(), now()), now());
    let (before, after) = (before.conditions, after.conditions);
    let events = event::changes(&before, &after);
    assert!(events.iter().any(|event| event.action == "Placed"));
}

#[test]
fn coverage_is_not_told_before_it_is_known() {
    let mut hold = hold("Theft");
    hold.spec.window.until = Some(Time(later(-100)));
    let unknown = Placement { coverage: None, known_until: Some(Time(later(-160))), ..placement() };
    let (truth, _, message) = found(&with(hold.clone(), unknown), &named(), now(), ConditionType::Placed);
    assert_eq!(truth, "True");
    let at = later(720 - 100);
    assert!(message.contains(&format!("is not known before {at}")) && !message.contains('%'), "{message}");
    let known =
        Placement { coverage: Some("61%".into()), known_until: Some(Time(later(-100))), ..placement() };
    let (_, _, message) = found(&with(hold, known), &named(), now(), ConditionType::Placed);
    assert!(message.contains("there are recordings of 61% of the window;"), "{message}");
}

/// Nobody looks at the bucket then, and what was placed may be so no more.
#[test]
fn a_hold_of_a_paused_site_is_not_said_to_be_placed() {
    let mut named = named();
    let hold = with(hold("Theft"), placement());
    let found = |named: &Named, hold: &IncidentHold, now| {
        let (status, _) = status(hold, &validate(&hold.spec, named, now), now);
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
    annotations.insert(meta::PAUSED.to_owned(), "true".to_owned());
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
    own.annotations_mut().insert(meta::PAUSED.to_owned(), "true".to_owned());
    assert_eq!(of(&found(&named, &own, later), "Placed").status, "True");
}
