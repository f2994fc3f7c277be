//! What the API server lets in and what it refuses, on the default version and on the newest: the definitions
//! as they are committed, and the files under `examples/`.
//!
//! On the default server the definitions are installed under a group of the test's own, since there the
//! chart owns the real ones.

mod case;
mod mutants;
mod server;

use futures::StreamExt;
use serde_json::{Value, json};
use toezicht::api::{Camera, IncidentHold, RecordingPolicy, Site};

use case::{Case, examples};
use server::{Server, Verdict};

/// How many requests are under way at once.
const AT_ONCE: usize = 8;

async fn invalid_cases_are_rejected(server: Server) {
    let cases = Case::all();
    assert!(cases.len() >= 100, "only {} cases were found", cases.len());
    let wrong: Vec<String> = futures::stream::iter(&cases)
        .map(async |case| match server.try_case(case).await {
            Verdict::Refused(said) if said.iter().any(|one| case.expects(one)) => None,
            Verdict::Refused(said) => Some(format!("{case}: refused by another rule: {said:#?}")),
            Verdict::Admitted => Some(format!("{case}: let in")),
        })
        .buffer_unordered(AT_ONCE)
        .filter_map(async |wrong| wrong)
        .collect()
        .await;
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    server.clean().await;
}

async fn examples_are_admitted(server: Server) {
    let objects = examples();
    assert!(objects.len() >= 20, "only {} objects were found under examples/", objects.len());
    for (file, object) in &objects {
        let made = match server.dry_run_apply(object).await {
            Ok(made) => made,
            Err(refusal) => panic!("{file}: {refusal}"),
        };
        // What the API server lets in, with its defaults, the operator can read.
        let read = match object["kind"].as_str().unwrap() {
            "RecordingPolicy" => serde_json::from_value::<RecordingPolicy>(made).err(),
            "Site" => serde_json::from_value::<Site>(made).err(),
            "Camera" => serde_json::from_value::<Camera>(made).err(),
            "IncidentHold" => serde_json::from_value::<IncidentHold>(made).err(),
            _ => None,
        };
        assert!(read.is_none(), "{file}: the operator cannot read it: {read:?}");
    }
    server.clean().await;
}

async fn new_object_has_pending_conditions(server: Server) {
    let (_, policy) =
        examples().into_iter().find(|(_, object)| object["kind"] == "RecordingPolicy").expect("a policy");
    server.create(&policy).await;
    let read = server.get("recordingpolicy", "heusden-2020").await;
    let conditions = read["status"]["conditions"].as_array().expect("conditions").clone();
    let types: Vec<&Value> = conditions.iter().map(|condition| &condition["type"]).collect();
    assert_eq!(types, ["Accepted", "InForce", "Ready"]);
    for condition in conditions {
        assert_eq!(condition["status"], "Unknown");
        assert_eq!(condition["reason"], "Pending");
    }
    server.clean().await;
}

/// The ledger may have one that is accepted, before its status says so.
async fn accepted_hold_rejects_site_change(server: &Server, hold: Value) {
    let kind = "incidenthold";
    server.create(&hold).await;
    for (status, site, expected) in [("False", "other", None), ("True", "third", Some("spec.siteRef"))] {
        let condition = json!({
            "type": "Accepted", "status": status, "reason": "Valid", "message": "", "lastTransitionTime": "2026-04-12T22:20:00Z",
        });
        let says = json!({"conditions": [condition]});
        server.reported(kind, "accepted", &says).await;
        let spec = json!({"siteRef": {"name": site}});
        let refused = match server.change(kind, "accepted", &spec).await {
            Verdict::Refused(causes) => causes.first().map(|cause| cause.field.clone()),
            Verdict::Admitted => None,
        };
        assert_eq!(refused.as_deref(), expected);
    }
    let verdict = server.change(kind, "accepted", &json!({"reference": "2026-0413"})).await;
    assert!(matches!(verdict, Verdict::Admitted), "{verdict:?}");
}

/// A hold that keeps nothing yet can be corrected in every field; one that counts only where nothing is released by it.
async fn hold_accepts_corrections_that_release_nothing(server: Server) {
    let (_, hold) =
        examples().into_iter().find(|(_, object)| object["kind"] == "IncidentHold").expect("a hold");
    let kind = "incidenthold";
    let named = |name: &str| {
        let mut hold = hold.clone();
        hold["metadata"]["name"] = name.into();
        hold
    };
    let is_let_in = async |name: &str, spec: Value| {
        let verdict = server.change(kind, name, &spec).await;
        assert!(matches!(verdict, Verdict::Admitted), "{spec}: {verdict:?}");
    };
    let is_refused = async |name: &str, field: &str, spec: Value| match server.change(kind, name, &spec).await
    {
        Verdict::Refused(causes) => assert!(causes.iter().any(|cause| cause.field == field), "{causes:?}"),
        Verdict::Admitted => panic!("{spec} is let in"),
    };

    server.create(&named("typo")).await;
    let resolved = |at: &str| json!({"time": at, "by": "Gemeentesecretaris", "outcome": "Closed"});
    for spec in [
        json!({"window": {"from": "2027-04-12T21:30:00+02:00", "until": "2027-04-12T22:15:00+02:00"}}),
        json!({"window": {"from": "2026-04-12T21:40:00+02:00", "until": "2026-04-12T21:50:00+02:00"}}),
        json!({"siteRef": {"name": "dillenburcht"}, "reference": "2026-0413", "cameras": ["entree"]}),
        json!({"includeCalls": true}),
        json!({"includeCalls": false}),
        json!({"state": "Resolved", "resolution": resolved("2026-05-20T10:00:00Z")}),
        json!({"state": "Open", "resolution": null}),
    ] {
        is_let_in("typo", spec).await;
    }

    accepted_hold_rejects_site_change(&server, named("accepted")).await;

    let placement = json!({
        "observedGeneration": 1, "acceptanceTime": "2026-04-12T22:20:00Z", "verified": true, "segments": 3, "size": "9 MiB",
        "sealedSegments": 0,
    });
    let says = |type_: &str, reason: &str| {
        json!([{
            "type": type_, "status": "False", "reason": reason, "message": "",
            "lastTransitionTime": "2026-04-12T22:20:00Z",
        }])
    };
    server.create(&named("counts")).await;
    let status = json!({"placement": placement, "unknownCameras": ["die-heijgrave-parkeerterrein"]});
    server.reported(kind, "counts", &status).await;
    is_refused("counts", "spec.reference", json!({"reference": "2026-0413"})).await;
    is_let_in("counts", json!({"cameras": ["die-heijgrave-receptie", "die-heijgrave-zwembad"]})).await;
    // A year that was mistyped: as long as the operator says that it lies ahead.
    let ahead = json!({"state": "Resolved", "resolution": resolved("2062-05-20T10:00:00Z")});
    is_let_in("counts", ahead.clone()).await;
    is_refused("counts", "spec", json!({"resolution": {"time": "2026-05-20T10:00:00Z"}})).await;
    let said = json!({"conditions": says("Released", "ResolutionInFuture")});
    server.reported(kind, "counts", &said).await;
    is_let_in("counts", json!({"resolution": {"time": "2031-05-20T10:00:00Z"}})).await;
    is_let_in("counts", json!({"state": "Open", "resolution": null})).await;
    is_let_in("counts", ahead).await;
    is_refused("counts", "spec.reference", json!({"reference": "2026-0413"})).await;
    let said = json!({"conditions": says("Released", "Releasing")});
    server.reported(kind, "counts", &said).await;
    is_refused("counts", "spec.state", json!({"state": "Open", "resolution": null})).await;

    server.create(&named("reviewed")).await;
    server.reported(kind, "reviewed", &json!({"placement": placement})).await;
    let review = |at: &str| json!({"review": {"time": at, "by": "Team"}});
    is_let_in("reviewed", review("2062-05-20T10:00:00Z")).await;
    is_refused("reviewed", "spec.review.time", review("2026-05-20T10:00:00Z")).await;
    let said = json!({"conditions": says("ReviewDue", "ReviewInFuture")});
    server.reported(kind, "reviewed", &said).await;
    is_let_in("reviewed", review("2026-05-20T10:00:00Z")).await;
    server.clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn default_server_accepts_hold_corrections() {
    hold_accepts_corrections_that_release_nothing(Server::default_version("corrected").await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn newest_server_accepts_hold_corrections() {
    hold_accepts_corrections_that_release_nothing(Server::newest_version("corrected").await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn default_server_rejects_invalid_cases() {
    invalid_cases_are_rejected(Server::default_version("refuses").await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn newest_server_rejects_invalid_cases() {
    invalid_cases_are_rejected(Server::newest_version("refuses").await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn default_server_admits_examples() {
    examples_are_admitted(Server::default_version("lets-in").await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn newest_server_admits_examples() {
    examples_are_admitted(Server::newest_version("lets-in").await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn new_object_reports_pending_conditions() {
    new_object_has_pending_conditions(Server::default_version("pending").await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn removing_any_cel_rule_admits_an_invalid_case() {
    mutants::each_rule_rejects_some_case().await;
}
