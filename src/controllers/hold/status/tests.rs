use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::*;
use crate::api::Review;
use crate::controllers::hold::dereference::HoldReferences;
use crate::controllers::hold::fixtures::{
    after_seconds, condition, hold, hold_references, now, placement, resolved, status_at, verdict,
    with_placement,
};
use crate::controllers::kubernetes::event;

fn conditions(hold: &IncidentHold, at: Timestamp) -> Vec<Condition> {
    status_at(hold, &hold_references(&["c"]), at).0.conditions
}

fn has_condition(hold: &IncidentHold, type_: &str) -> bool {
    conditions(hold, now()).iter().any(|condition| condition.type_ == type_)
}

#[test]
fn placed_requires_proof_for_current_generation() {
    let with = |placement| with_placement(hold("Theft"), placement);
    for (hold, type_, expected) in [
        (hold("Theft"), "Placed", "False Placing"),
        (with(placement()), "Placed", "True Verified"),
        (with(placement()), "Ready", "True Verified"),
        (with(Placement { verified: false, ..placement() }), "Placed", "False Placing"),
        (with(Placement { observed_generation: 1, ..placement() }), "Placed", "False Placing"),
        (
            with(Placement { last_error: Some("no answer".into()), ..placement() }),
            "Placed",
            "Unknown Retrying",
        ),
    ] {
        assert_eq!(verdict(&conditions(&hold, now()), type_), expected, "{type_} of {:?}", hold.status);
    }
    assert!(!has_condition(&resolved(with(placement())), "Placed"), "a resolved hold keeps nothing");
}

#[test]
fn placing_names_what_it_waits_for() {
    for (acknowledged, expected) in [
        (false, "waiting until every recorder acknowledges the hold"),
        (true, "waiting until no request of an earlier release can still arrive"),
    ] {
        let placement = Placement { verified: false, acknowledged, ..placement() };
        let conditions = conditions(&with_placement(hold("Theft"), placement), now());
        let placed = condition(&conditions, "Placed");
        assert!(placed.message.contains(expected), "{}", placed.message);
    }
}

#[test]
fn hold_names_the_recorders_that_are_lost() {
    let entry = serde_json::json!({
        "podName": "zwembad-recorder-0", "podUid": "u", "nodeName": "second", "since": "2026-01-02T11:50:00Z",
    });
    let mut references = hold_references(&["c"]);
    let status = references.site.as_mut().unwrap().status.get_or_insert_default();
    status.lost_recorders = vec![serde_json::from_value(entry).unwrap()];
    let message_of = |hold: &IncidentHold, type_: &str| {
        let conditions = status_at(hold, &references, now()).0.conditions;
        condition(&conditions, type_).message.clone()
    };
    let waiting = Placement { verified: false, acknowledged: false, ..placement() };
    for (hold, type_, expected) in [
        (with_placement(hold("Theft"), waiting.clone()), "Placed", "cannot acknowledge the hold"),
        (with_placement(hold("Theft"), placement()), "Placed", "are not kept yet"),
        (resolved(with_placement(hold("Theft"), waiting)), "Released", "cannot acknowledge the release"),
    ] {
        let message = message_of(&hold, type_);
        assert!(message.contains("zwembad-recorder-0 on the node second"), "{message}");
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn releasing_names_what_it_waits_for() {
    for (release_wait, expected) in [
        (
            Some(ReleaseWait::EarlierRequests),
            "no request that protects these recordings can still take effect",
        ),
        (Some(ReleaseWait::Recorders), "every recorder acknowledges the release, at most 24 hours"),
        (None, "a pass over the bucket finds nothing left to release"),
    ] {
        let hold = resolved(with_placement(hold("Theft"), Placement { release_wait, ..placement() }));
        let conditions = conditions(&hold, now());
        let released = condition(&conditions, "Released");
        assert!(released.message.contains(expected), "{}", released.message);
    }
}

#[test]
fn released_requires_read_back() {
    let open = with_placement(hold("Theft"), placement());
    assert!(!has_condition(&open, "Released"), "nobody resolved it");
    let released = Placement { release_time: Some(Time(now())), ..placement() };
    // Killed after it placed the hold and before it wrote the status.
    let mut killed = resolved(hold("Theft"));
    killed.metadata.finalizers = Some(vec![FINALIZER.to_owned()]);
    for (hold, type_, expected) in [
        (resolved(open), "Released", "False Releasing"),
        (resolved(with_placement(hold("Theft"), released)), "Released", "True Verified"),
        // The ledger may have its predecessor.
        (resolved(hold("Theft")), "Released", "Unknown Pending"),
        (resolved(hold("Theft")), "Ready", "Unknown Pending"),
        (killed.clone(), "Released", "False Releasing"),
    ] {
        assert_eq!(verdict(&conditions(&hold, now()), type_), expected, "{type_} of {:?}", hold.status);
    }
    assert!(!is_fully_released(&killed, None, true));
    assert!(is_fully_released(&resolved(hold("Theft")), None, true));
}

#[test]
fn rejected_hold_reports_reason_and_hold_in_ledger_stays_accepted() {
    let complete = hold_references(&["c"]);
    let without_policy = HoldReferences { policy: None, ..complete.clone() };
    for (references, purpose, expected) in [
        (&HoldReferences::default(), "Theft", "False ReferenceNotFound"),
        (&without_policy, "Theft", "False ReferenceNotFound"),
        (&complete, "Curiosity", "False InvalidField"),
    ] {
        let rejected = status_at(&hold(purpose), references, now()).0.conditions;
        assert_eq!(["Accepted", "Ready"].map(|type_| verdict(&rejected, type_)), [expected; 2]);
        let in_ledger = with_placement(hold(purpose), placement());
        let accepted = status_at(&in_ledger, references, now()).0.conditions;
        assert_eq!(condition(&accepted, "Accepted").status, "True");
        assert_eq!(condition(&accepted, "Placed").status, "True");
    }
}

#[test]
fn overdue_review_does_not_release_hold() {
    let at = |day: &str| format!("{day}T12:00:00Z").parse::<Timestamp>().unwrap();
    let status =
        |hold: &IncidentHold, day, type_: &str| condition(&conditions(hold, at(day)), type_).status.clone();
    let mut hold = with_placement(hold("Theft"), placement());
    assert_eq!(status(&hold, "2026-01-28", "ReviewDue"), "False");
    assert_eq!(status(&hold, "2026-01-29", "ReviewDue"), "True");
    assert_eq!(status(&hold, "2026-01-29", "Placed"), "True");
    hold.spec.review = Some(Review { time: Time(at("2026-01-20")), by: "Team".into() });
    assert_eq!(status(&hold, "2026-01-29", "ReviewDue"), "False");
}

#[test]
fn open_hold_being_deleted_reports_required_resolution() {
    let mut hold = with_placement(hold("Theft"), placement());
    hold.metadata.deletion_timestamp = Some(Time(now()));
    let conditions = conditions(&hold, now());
    assert_eq!(verdict(&conditions, "Ready"), "False Deleting");
    assert!(condition(&conditions, "Ready").message.contains("spec.resolution"), "{conditions:?}");
}

#[test]
fn placing_hold_produces_event() {
    let hold = hold("Theft");
    let before = conditions(&hold, now());
    let after = conditions(&with_placement(hold, placement()), now());
    assert!(event::condition_changes(&before, &after).iter().any(|event| event.action == "Placed"));
}

#[test]
fn placed_message_omits_coverage_until_known() {
    let mut hold = hold("Theft");
    hold.spec.window.until = Some(Time(after_seconds(-100)));
    let placed = |coverage: Option<&str>, known_until| {
        let placement = Placement {
            coverage: coverage.map(Into::into),
            coverage_until_time: Some(Time(after_seconds(known_until))),
            ..placement()
        };
        condition(&conditions(&with_placement(hold.clone(), placement), now()), "Placed").clone()
    };
    let Condition { status, message, .. } = placed(None, -160);
    assert_eq!(status, "True");
    let at = after_seconds(720 - 100);
    assert!(
        message.contains(&format!("is not known yet, and will be at {at}")) && !message.contains('%'),
        "{message}"
    );
    let message = placed(Some("61%"), -100).message;
    assert!(message.contains("recordings cover 61% of the window;"), "{message}");
}

/// The operator does not observe the bucket of a paused Site, so a placed hold may not be placed any more.
#[test]
fn hold_of_paused_site_is_not_placed() {
    let mut references = hold_references(&["c"]);
    let hold = with_placement(hold("Theft"), placement());
    let reconciled = |references: &HoldReferences, hold: &IncidentHold, now| {
        let mut next = hold.clone();
        next.status.get_or_insert_default().conditions = status_at(hold, references, now).0.conditions;
        next
    };
    let status = |hold: &IncidentHold, type_: &str| condition(hold.conditions(), type_).status.clone();
    let before = reconciled(&references, &hold, now());
    assert_eq!(status(&before, "Placed"), "True");
    let annotations = references.site.as_mut().unwrap().annotations_mut();
    annotations.insert(meta::PAUSED_ANNOTATION.to_owned(), "true".to_owned());
    let later = after_seconds(300);
    let paused = reconciled(&references, &before, later);
    let again = reconciled(&references, &paused, after_seconds(600));
    for type_ in ["Placed", "Ready", "Accepted"] {
        let found = condition(paused.conditions(), type_);
        assert_eq!(verdict(paused.conditions(), type_), "Unknown Paused", "{type_}");
        assert!(found.message.contains("its Site is paused; last observed: "), "{}", found.message);
        assert_eq!(condition(again.conditions(), type_), found, "{type_} keeps its transition time");
    }
    references.site.as_mut().unwrap().annotations_mut().clear();
    assert_eq!(status(&reconciled(&references, &paused, later), "Placed"), "True");

    // Its own annotation pauses nothing: the operator must not stop keeping recordings.
    let mut own = before.clone();
    own.annotations_mut().insert(meta::PAUSED_ANNOTATION.to_owned(), "true".to_owned());
    assert_eq!(status(&reconciled(&references, &own, later), "Placed"), "True");
}
