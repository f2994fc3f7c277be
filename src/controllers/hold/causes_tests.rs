use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;

use super::super::dereference::Named;
use super::super::status::tests::{hold, later, named, now, placement, resolved, with};
use super::super::status::{is_resolved, status};
use super::super::validate::validate;
use crate::api::{HoldProgress, IncidentHold, IncidentHoldStatus, Placement};

/// Looks again and again, each time from what the last look said; the last status.
fn looked_at(hold: &mut IncidentHold, named: &Named, at: &[i64]) -> IncidentHoldStatus {
    let mut last = IncidentHoldStatus::default();
    for seconds in at {
        let kept = hold.status.clone().unwrap_or_default();
        let (next, _) = status(hold, &validate(&hold.spec, named, later(*seconds)), later(*seconds));
        last = next.clone();
        hold.status =
            Some(IncidentHoldStatus { placement: kept.placement, never_held_at: kept.never_held_at, ..next });
    }
    last
}

fn of(status: &IncidentHoldStatus, type_: &str) -> (String, String) {
    let mut conditions = status.conditions.iter();
    let found = conditions.find(|condition| condition.type_ == type_).unwrap();
    (found.status.clone(), found.reason.clone())
}

#[test]
fn a_release_that_takes_over_an_hour_is_overdue_and_waits_for_a_person() {
    let mut hold = resolved(with(hold("Theft"), placement()));
    let at = Time(later(-864_000));
    hold.spec.resolution =
        Some(crate::api::Resolution { at, by: "CISO".into(), outcome: crate::api::Outcome::HandedOver });
    let of_time = |hold: &mut IncidentHold, looks: &[i64]| {
        let status = looked_at(hold, &named(), looks);
        (of(&status, "Released").1, of(&status, "Stalled").0, status.state)
    };
    let releasing = Some(HoldProgress::Releasing);
    // By when the operator saw it, not by when it was written to be.
    assert_eq!(of_time(&mut hold, &[10, 3_609]), ("Releasing".into(), "False".into(), releasing));
    assert_eq!(of_time(&mut hold, &[3_610]), ("Overdue".into(), "True".into(), releasing));
    let (_, next) = status(&hold, &validate(&hold.spec, &named(), later(20)), later(20));
    assert_eq!(next, Some(later(3_610)));
    let released = Placement { released_at: Some(Time(later(3_700))), ..placement() };
    hold = with(hold, released);
    let status = looked_at(&mut hold, &named(), &[3_701]);
    assert_eq!(of(&status, "Released").0, "True");
    assert_eq!((of(&status, "Stalled").0.as_str(), status.state), ("False", Some(HoldProgress::Resolved)));
}

#[test]
fn a_resolution_in_the_future_keeps_the_hold_open_and_can_be_withdrawn() {
    let mut hold = resolved(with(hold("Theft"), placement()));
    let resolution = |at: Timestamp| {
        Some(crate::api::Resolution { at: Time(at), by: "CISO".into(), outcome: crate::api::Outcome::Closed })
    };
    hold.spec.resolution = resolution("2062-01-01T00:00:00Z".parse().unwrap());
    let said = looked_at(&mut hold, &named(), &[1]);
    assert_eq!(of(&said, "Released"), ("False".into(), "ResolutionAhead".into()));
    assert_eq!(of(&said, "Stalled"), ("True".into(), "ResolutionAhead".into()));
    assert_eq!((of(&said, "Placed").0.as_str(), said.state), ("True", Some(HoldProgress::Open)));
    // Within a day nobody is called, and the instant itself is waited for.
    hold.spec.resolution = resolution(later(86_000));
    let said = looked_at(&mut hold, &named(), &[2]);
    assert_eq!(of(&said, "Stalled").0, "False");
    let (_, next) = status(&hold, &validate(&hold.spec, &named(), later(3)), later(3));
    assert_eq!(next, Some(later(86_000)));

    // While the API server lets people withdraw it, nothing is released.
    assert!(!is_resolved(&hold, later(86_001)));
    let said = looked_at(&mut hold, &named(), &[86_001]);
    assert_eq!(of(&said, "Released"), ("False".into(), "Releasing".into()));
    assert!(is_resolved(&hold, later(86_001)));
}

#[test]
fn a_review_in_the_future_is_none_and_can_be_corrected() {
    let mut hold = with(hold("Theft"), placement());
    hold.spec.review =
        Some(crate::api::Review { at: Time("2062-05-01T00:00:00Z".parse().unwrap()), by: "Team".into() });
    let said = looked_at(&mut hold, &named(), &[5]);
    assert_eq!(of(&said, "ReviewDue"), ("True".into(), "ReviewAhead".into()));
}

#[test]
fn the_state_is_what_is_and_not_what_was_asked_for() {
    let state = |hold: &IncidentHold, at| status(hold, &validate(&hold.spec, &named(), at), at).0.state;
    assert_eq!(state(&hold("Theft"), now()), Some(HoldProgress::Open));
    assert_eq!(state(&hold("Curiosity"), now()), Some(HoldProgress::Refused));
    let before: Timestamp = "2026-01-01T09:00:00Z".parse().unwrap();
    assert_eq!(state(&hold("Theft"), before), Some(HoldProgress::NotBegun));
    // Whether the ledger has something of a predecessor nobody has read yet.
    let unread = resolved(hold("Curiosity"));
    assert_eq!(state(&unread, now()), Some(HoldProgress::Releasing));
    let mut never = unread;
    never.status.get_or_insert_default().never_held_at = Some(Time(now()));
    assert_eq!(state(&never, now()), Some(HoldProgress::Resolved));
    let said = looked_at(&mut never, &named(), &[5]);
    assert_eq!(of(&said, "Released"), ("True".into(), "ReadBack".into()));
    assert_eq!(of(&said, "Ready"), ("True".into(), "ReadBack".into()));
    // Nobody has to do anything about one that never counted and whose Site is not there.
    let mut nowhere = resolved(hold("Theft"));
    let said = looked_at(&mut nowhere, &Named::default(), &[5, 90_000]);
    assert_eq!(of(&said, "Stalled").0, "False");
}

#[test]
fn stalled_is_said_when_a_person_must_act_and_not_before() {
    let nowhere = Named::default();
    let stalled = |hold: &IncidentHold, named: &Named, looks: &[i64]| {
        of(&looked_at(&mut hold.clone(), named, looks), "Stalled")
    };
    let no = || ("False".to_owned(), "AsRequired".to_owned());
    let yes = |reason: &str| ("True".to_owned(), reason.to_owned());
    // What may still come is waited for; what is wrong is not.
    assert_eq!(stalled(&hold("Theft"), &nowhere, &[0, 59]), no());
    assert_eq!(stalled(&hold("Theft"), &nowhere, &[0, 60]), yes("ReferenceNotFound"));
    assert_eq!(stalled(&hold("Curiosity"), &named(), &[0]), yes("InvalidField"));
    // A hold that nobody can place.
    assert_eq!(stalled(&hold("Theft"), &named(), &[0, 3_599]), no());
    assert_eq!(stalled(&hold("Theft"), &named(), &[0, 3_600]), yes("Placing"));
    // Its Site cannot go on by itself.
    let mut stuck = named();
    let condition = json!([{
        "type": "Stalled", "status": "True", "reason": "StorageError", "lastTransitionTime": "2026-01-01T00:00:00Z",
        "message": "GetBucketVersioning got no answer: NoConnection",
    }]);
    let site = stuck.site.as_mut().unwrap();
    site.status.get_or_insert_default().conditions = serde_json::from_value(condition).unwrap();
    assert_eq!(stalled(&hold("Theft"), &stuck, &[0]), yes("DependsOn"));
    let releasing = resolved(with(hold("Theft"), placement()));
    assert_eq!(stalled(&releasing, &stuck, &[0]), yes("DependsOn"));
    assert_eq!(stalled(&with(hold("Theft"), placement()), &stuck, &[0]), no(), "it is placed");
    // An orphan of another name keeps nothing from this one.
    let conditions = &mut stuck.site.as_mut().unwrap().status.as_mut().unwrap().conditions;
    conditions[0].reason = "OrphanedHold".into();
    assert_eq!(stalled(&releasing, &stuck, &[0]), no());
    // The Site was taken away by force.
    assert_eq!(stalled(&releasing, &nowhere, &[0]), yes("ReferenceNotFound"));
}
