use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;

use crate::api::{HoldPhase, IncidentHold, IncidentHoldStatus, Placement, Review};
use crate::controllers::hold::dereference::HoldReferences;
use crate::controllers::hold::fixtures::{
    after_seconds, hold, hold_references, now, placement, resolution, resolved, status_at, verdict,
    with_placement,
};
use crate::rules::hold::resolution::is_resolved;

/// Reconciles at each of these seconds after [`now`], each time from the previous status. Returns the last status.
fn status_after(hold: &mut IncidentHold, references: &HoldReferences, seconds: &[i64]) -> IncidentHoldStatus {
    let mut last = IncidentHoldStatus::default();
    for second in seconds {
        let before = hold.status.clone().unwrap_or_default();
        last = status_at(hold, references, after_seconds(*second)).0;
        hold.status = Some(IncidentHoldStatus {
            placement: before.placement,
            never_held_time: before.never_held_time,
            ..last.clone()
        });
    }
    last
}

fn far_future() -> Timestamp {
    "2062-01-01T00:00:00Z".parse().unwrap()
}

#[test]
fn release_is_overdue_and_stalled_after_an_hour() {
    let references = hold_references(&["c"]);
    let mut hold = resolved(with_placement(hold("Theft"), placement()));
    hold.spec.resolution = Some(resolution(after_seconds(-864_000)));
    // The hour begins when the operator sees the resolution, not at the time that it states.
    for (seconds, released, stalled) in [
        (&[10, 3_609][..], "False Releasing", "False AsRequired"),
        (&[3_610], "False Overdue", "True Overdue"),
    ] {
        let status = status_after(&mut hold, &references, seconds);
        assert_eq!(verdict(&status.conditions, "Released"), released);
        assert_eq!(verdict(&status.conditions, "Stalled"), stalled);
        assert_eq!(status.state, Some(HoldPhase::Releasing));
    }
    assert_eq!(status_at(&hold, &references, after_seconds(20)).1, Some(after_seconds(3_610)));
    let released = Placement { release_time: Some(Time(after_seconds(3_700))), ..placement() };
    let status = status_after(&mut with_placement(hold, released), &references, &[3_701]);
    assert_eq!(verdict(&status.conditions, "Released"), "True Verified");
    assert_eq!(verdict(&status.conditions, "Stalled"), "False AsRequired");
    assert_eq!(status.state, Some(HoldPhase::Released));
}

#[test]
fn future_resolution_keeps_hold_open_and_can_be_withdrawn() {
    let references = hold_references(&["c"]);
    let mut hold = resolved(with_placement(hold("Theft"), placement()));
    hold.spec.resolution = Some(resolution(far_future()));
    let status = status_after(&mut hold, &references, &[1]);
    assert_eq!(verdict(&status.conditions, "Released"), "False ResolutionInFuture");
    assert_eq!(verdict(&status.conditions, "Stalled"), "True ResolutionInFuture");
    assert_eq!(verdict(&status.conditions, "Placed"), "True Verified");
    assert_eq!(status.state, Some(HoldPhase::Open));
    // A resolution within a day is no mistake: the operator waits for it.
    hold.spec.resolution = Some(resolution(after_seconds(86_000)));
    let status = status_after(&mut hold, &references, &[2]);
    assert_eq!(verdict(&status.conditions, "Stalled"), "False AsRequired");
    assert_eq!(status_at(&hold, &references, after_seconds(3)).1, Some(after_seconds(86_000)));

    // The operator releases nothing while the API server still allows people to withdraw the resolution.
    assert!(!is_resolved(&hold, after_seconds(86_001)));
    let status = status_after(&mut hold, &references, &[86_001]);
    assert_eq!(verdict(&status.conditions, "Released"), "False Releasing");
    assert!(is_resolved(&hold, after_seconds(86_001)));
}

#[test]
fn future_review_date_does_not_count() {
    let mut hold = with_placement(hold("Theft"), placement());
    hold.spec.review = Some(Review { time: Time(far_future()), by: "Team".into() });
    let status = status_after(&mut hold, &hold_references(&["c"]), &[5]);
    assert_eq!(verdict(&status.conditions, "ReviewDue"), "True ReviewInFuture");
}

#[test]
fn state_reports_observed_progress() {
    let references = hold_references(&["c"]);
    let state = |hold: &IncidentHold, at| status_at(hold, &references, at).0.state;
    assert_eq!(state(&hold("Theft"), now()), Some(HoldPhase::Open));
    assert_eq!(state(&hold("Curiosity"), now()), Some(HoldPhase::Rejected));
    let before_window: Timestamp = "2026-01-01T09:00:00Z".parse().unwrap();
    assert_eq!(state(&hold("Theft"), before_window), Some(HoldPhase::Scheduled));
    // The operator has not read yet whether the ledger has a predecessor.
    let unread = resolved(hold("Curiosity"));
    assert_eq!(state(&unread, now()), Some(HoldPhase::Releasing));
    let mut never_held = unread;
    never_held.status.get_or_insert_default().never_held_time = Some(Time(now()));
    assert_eq!(state(&never_held, now()), Some(HoldPhase::Released));
    let status = status_after(&mut never_held, &references, &[5]);
    assert_eq!(verdict(&status.conditions, "Released"), "True Verified");
    assert_eq!(verdict(&status.conditions, "Ready"), "True Verified");
    // Without an effect and without a Site, there is nothing for a person to do.
    let status = status_after(&mut resolved(hold("Theft")), &HoldReferences::default(), &[5, 90_000]);
    assert_eq!(verdict(&status.conditions, "Stalled"), "False AsRequired");
}

#[test]
fn hold_stalls_only_when_a_person_must_act() {
    let (complete, no_site) = (hold_references(&["c"]), HoldReferences::default());
    let stalled = |hold: &IncidentHold, references: &HoldReferences, seconds: &[i64]| {
        verdict(&status_after(&mut hold.clone(), references, seconds).conditions, "Stalled")
    };
    let no = "False AsRequired";
    // A Site can still come. An invalid purpose stays invalid.
    assert_eq!(stalled(&hold("Theft"), &no_site, &[0, 59]), no);
    assert_eq!(stalled(&hold("Theft"), &no_site, &[0, 60]), "True ReferenceNotFound");
    assert_eq!(stalled(&hold("Curiosity"), &complete, &[0]), "True InvalidField");
    // Placing takes too long.
    assert_eq!(stalled(&hold("Theft"), &complete, &[0, 3_599]), no);
    assert_eq!(stalled(&hold("Theft"), &complete, &[0, 3_600]), "True Placing");
    // The Site itself is stalled.
    let mut site_stalled = complete;
    let condition = json!([{
        "type": "Stalled", "status": "True", "reason": "StorageError", "lastTransitionTime": "2026-01-01T00:00:00Z",
        "message": "GetBucketVersioning got no answer: NoConnection",
    }]);
    let site = site_stalled.site.as_mut().unwrap();
    site.status.get_or_insert_default().conditions = serde_json::from_value(condition).unwrap();
    let placed = with_placement(hold("Theft"), placement());
    let releasing = resolved(placed.clone());
    assert_eq!(stalled(&hold("Theft"), &site_stalled, &[0]), "True DependencyNotReady");
    assert_eq!(stalled(&releasing, &site_stalled, &[0]), "True DependencyNotReady");
    assert_eq!(stalled(&placed, &site_stalled, &[0]), no, "it is placed");
    // An orphaned hold of another name does not stop this one.
    let conditions = &mut site_stalled.site.as_mut().unwrap().status.as_mut().unwrap().conditions;
    conditions[0].reason = "OrphanedHold".into();
    assert_eq!(stalled(&releasing, &site_stalled, &[0]), no);
    // Somebody removed the Site by force.
    assert_eq!(stalled(&releasing, &no_site, &[0]), "True ReferenceNotFound");
}
