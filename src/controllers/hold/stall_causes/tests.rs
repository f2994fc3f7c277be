use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;

use crate::api::{HoldPhase, IncidentHold, IncidentHoldStatus, Placement};
use crate::controllers::hold::dereference::HoldReferences;
use crate::controllers::hold::status::hold_status;
use crate::controllers::hold::status::tests::{
    after_seconds, hold, hold_references, now, placement, resolved, with_placement,
};
use crate::controllers::hold::validate::validate;
use crate::rules::hold::resolution::is_resolved;

/// Looks again and again, each time from what the last look said; the last status.
fn status_after(hold: &mut IncidentHold, named: &HoldReferences, at: &[i64]) -> IncidentHoldStatus {
    let mut last = IncidentHoldStatus::default();
    for seconds in at {
        let kept = hold.status.clone().unwrap_or_default();
        let (next, _) =
            hold_status(hold, &validate(&hold.spec, named, after_seconds(*seconds)), after_seconds(*seconds));
        last = next.clone();
        hold.status = Some(IncidentHoldStatus {
            placement: kept.placement,
            never_held_time: kept.never_held_time,
            ..next
        });
    }
    last
}

fn condition_row(status: &IncidentHoldStatus, type_: &str) -> (String, String) {
    let mut conditions = status.conditions.iter();
    let found = conditions.find(|condition| condition.type_ == type_).unwrap();
    (found.status.clone(), found.reason.clone())
}

#[test]
fn release_is_overdue_and_stalled_after_an_hour() {
    let mut hold = resolved(with_placement(hold("Theft"), placement()));
    let at = Time(after_seconds(-864_000));
    hold.spec.resolution = Some(crate::api::Resolution {
        time: at,
        by: "CISO".into(),
        outcome: crate::api::ResolutionOutcome::HandedOver,
    });
    let of_time = |hold: &mut IncidentHold, looks: &[i64]| {
        let status = status_after(hold, &hold_references(), looks);
        (condition_row(&status, "Released").1, condition_row(&status, "Stalled").0, status.state)
    };
    let releasing = Some(HoldPhase::Releasing);
    // By when the operator saw it, not by when it was written to be.
    assert_eq!(of_time(&mut hold, &[10, 3_609]), ("Releasing".into(), "False".into(), releasing));
    assert_eq!(of_time(&mut hold, &[3_610]), ("Overdue".into(), "True".into(), releasing));
    let (_, next) =
        hold_status(&hold, &validate(&hold.spec, &hold_references(), after_seconds(20)), after_seconds(20));
    assert_eq!(next, Some(after_seconds(3_610)));
    let released = Placement { release_time: Some(Time(after_seconds(3_700))), ..placement() };
    hold = with_placement(hold, released);
    let status = status_after(&mut hold, &hold_references(), &[3_701]);
    assert_eq!(condition_row(&status, "Released").0, "True");
    assert_eq!(
        (condition_row(&status, "Stalled").0.as_str(), status.state),
        ("False", Some(HoldPhase::Released))
    );
}

#[test]
fn future_resolution_keeps_hold_open_and_can_be_withdrawn() {
    let mut hold = resolved(with_placement(hold("Theft"), placement()));
    let resolution = |at: Timestamp| {
        Some(crate::api::Resolution {
            time: Time(at),
            by: "CISO".into(),
            outcome: crate::api::ResolutionOutcome::Closed,
        })
    };
    hold.spec.resolution = resolution("2062-01-01T00:00:00Z".parse().unwrap());
    let said = status_after(&mut hold, &hold_references(), &[1]);
    assert_eq!(condition_row(&said, "Released"), ("False".into(), "ResolutionInFuture".into()));
    assert_eq!(condition_row(&said, "Stalled"), ("True".into(), "ResolutionInFuture".into()));
    assert_eq!((condition_row(&said, "Placed").0.as_str(), said.state), ("True", Some(HoldPhase::Open)));
    // Within a day nobody is called, and the instant itself is waited for.
    hold.spec.resolution = resolution(after_seconds(86_000));
    let said = status_after(&mut hold, &hold_references(), &[2]);
    assert_eq!(condition_row(&said, "Stalled").0, "False");
    let (_, next) =
        hold_status(&hold, &validate(&hold.spec, &hold_references(), after_seconds(3)), after_seconds(3));
    assert_eq!(next, Some(after_seconds(86_000)));

    // While the API server lets people withdraw it, nothing is released.
    assert!(!is_resolved(&hold, after_seconds(86_001)));
    let said = status_after(&mut hold, &hold_references(), &[86_001]);
    assert_eq!(condition_row(&said, "Released"), ("False".into(), "Releasing".into()));
    assert!(is_resolved(&hold, after_seconds(86_001)));
}

#[test]
fn future_review_date_does_not_count() {
    let mut hold = with_placement(hold("Theft"), placement());
    hold.spec.review =
        Some(crate::api::Review { time: Time("2062-05-01T00:00:00Z".parse().unwrap()), by: "Team".into() });
    let said = status_after(&mut hold, &hold_references(), &[5]);
    assert_eq!(condition_row(&said, "ReviewDue"), ("True".into(), "ReviewInFuture".into()));
}

#[test]
fn state_reports_observed_progress() {
    let state = |hold: &IncidentHold, at| {
        hold_status(hold, &validate(&hold.spec, &hold_references(), at), at).0.state
    };
    assert_eq!(state(&hold("Theft"), now()), Some(HoldPhase::Open));
    assert_eq!(state(&hold("Curiosity"), now()), Some(HoldPhase::Rejected));
    let before: Timestamp = "2026-01-01T09:00:00Z".parse().unwrap();
    assert_eq!(state(&hold("Theft"), before), Some(HoldPhase::Scheduled));
    // Whether the ledger has something of a predecessor nobody has read yet.
    let unread = resolved(hold("Curiosity"));
    assert_eq!(state(&unread, now()), Some(HoldPhase::Releasing));
    let mut never = unread;
    never.status.get_or_insert_default().never_held_time = Some(Time(now()));
    assert_eq!(state(&never, now()), Some(HoldPhase::Released));
    let said = status_after(&mut never, &hold_references(), &[5]);
    assert_eq!(condition_row(&said, "Released"), ("True".into(), "Verified".into()));
    assert_eq!(condition_row(&said, "Ready"), ("True".into(), "Verified".into()));
    // Nobody has to do anything about one that never counted and whose Site is not there.
    let mut nowhere = resolved(hold("Theft"));
    let said = status_after(&mut nowhere, &HoldReferences::default(), &[5, 90_000]);
    assert_eq!(condition_row(&said, "Stalled").0, "False");
}

#[test]
fn hold_stalls_only_when_a_person_must_act() {
    let nowhere = HoldReferences::default();
    let stalled = |hold: &IncidentHold, named: &HoldReferences, looks: &[i64]| {
        condition_row(&status_after(&mut hold.clone(), named, looks), "Stalled")
    };
    let no = || ("False".to_owned(), "AsRequired".to_owned());
    let yes = |reason: &str| ("True".to_owned(), reason.to_owned());
    // What may still come is waited for; what is wrong is not.
    assert_eq!(stalled(&hold("Theft"), &nowhere, &[0, 59]), no());
    assert_eq!(stalled(&hold("Theft"), &nowhere, &[0, 60]), yes("ReferenceNotFound"));
    assert_eq!(stalled(&hold("Curiosity"), &hold_references(), &[0]), yes("InvalidField"));
    // A hold that nobody can place.
    assert_eq!(stalled(&hold("Theft"), &hold_references(), &[0, 3_599]), no());
    assert_eq!(stalled(&hold("Theft"), &hold_references(), &[0, 3_600]), yes("Placing"));
    // Its Site cannot go on by itself.
    let mut stuck = hold_references();
    let condition = json!([{
        "type": "Stalled", "status": "True", "reason": "StorageError", "lastTransitionTime": "2026-01-01T00:00:00Z",
        "message": "GetBucketVersioning got no answer: NoConnection",
    }]);
    let site = stuck.site.as_mut().unwrap();
    site.status.get_or_insert_default().conditions = serde_json::from_value(condition).unwrap();
    assert_eq!(stalled(&hold("Theft"), &stuck, &[0]), yes("DependencyNotReady"));
    let releasing = resolved(with_placement(hold("Theft"), placement()));
    assert_eq!(stalled(&releasing, &stuck, &[0]), yes("DependencyNotReady"));
    assert_eq!(stalled(&with_placement(hold("Theft"), placement()), &stuck, &[0]), no(), "it is placed");
    // An orphan of another name keeps nothing from this one.
    let conditions = &mut stuck.site.as_mut().unwrap().status.as_mut().unwrap().conditions;
    conditions[0].reason = "OrphanedHold".into();
    assert_eq!(stalled(&releasing, &stuck, &[0]), no());
    // The Site was taken away by force.
    assert_eq!(stalled(&releasing, &nowhere, &[0]), yes("ReferenceNotFound"));
}
