//! Validation by the API server, in the default and in the newest version, with the committed definitions and the
//! files under `examples/`.
//!
//! On the default server the tests install the definitions under their own API group,
//! because the chart owns the real ones.

mod case;
mod mutants;
mod server;

use futures::StreamExt;
use serde_json::{Value, json};
use toezicht::api::{Camera, IncidentHold, RecordingPolicy, Site};

use case::{Case, example_objects};
use server::{AdmissionResult, Server};

/// Maximum number of concurrent requests.
const MAX_CONCURRENT_REQUESTS: usize = 8;

async fn invalid_cases_are_rejected(server: Server) {
    let cases = Case::load_all();
    assert!(cases.len() >= 100, "only {} cases were found", cases.len());
    let failures: Vec<String> = futures::stream::iter(&cases)
        .map(async |case| match server.try_case(case).await {
            AdmissionResult::Rejected(found) if found.iter().any(|cause| case.expects(cause)) => None,
            AdmissionResult::Rejected(found) => Some(format!("{case}: rejected by another rule: {found:#?}")),
            AdmissionResult::Admitted => Some(format!("{case}: admitted")),
        })
        .buffer_unordered(MAX_CONCURRENT_REQUESTS)
        .filter_map(async |failure| failure)
        .collect()
        .await;
    assert!(failures.is_empty(), "{} of {} cases:\n{}", failures.len(), cases.len(), failures.join("\n"));
    server.clean_up().await;
}

async fn examples_are_admitted(server: Server) {
    let objects = example_objects();
    assert!(objects.len() >= 20, "only {} objects were found under examples/", objects.len());
    for (file, object) in &objects {
        let applied = match server.dry_run_apply(object).await {
            Ok(applied) => applied,
            Err(rejection) => panic!("{file}: {rejection}"),
        };
        // The operator must be able to parse an admitted object with its defaults.
        let parse_error = match object["kind"].as_str().unwrap() {
            "RecordingPolicy" => serde_json::from_value::<RecordingPolicy>(applied).err(),
            "Site" => serde_json::from_value::<Site>(applied).err(),
            "Camera" => serde_json::from_value::<Camera>(applied).err(),
            "IncidentHold" => serde_json::from_value::<IncidentHold>(applied).err(),
            _ => None,
        };
        assert!(parse_error.is_none(), "{file}: the operator cannot parse it: {parse_error:?}");
    }
    server.clean_up().await;
}

async fn new_object_has_pending_conditions(server: Server) {
    let (_, policy) = example_objects()
        .into_iter()
        .find(|(_, object)| object["kind"] == "RecordingPolicy")
        .expect("a policy");
    server.create(&policy).await;
    let read = server.get("recordingpolicy", "heusden-2020").await;
    let conditions = read["status"]["conditions"].as_array().expect("conditions").clone();
    let types: Vec<&Value> = conditions.iter().map(|condition| &condition["type"]).collect();
    assert_eq!(types, ["Accepted", "InForce", "Ready"]);
    for condition in conditions {
        assert_eq!(condition["status"], "Unknown");
        assert_eq!(condition["reason"], "Pending");
    }
    server.clean_up().await;
}

/// Checks that `siteRef` is immutable once `Accepted` is true: the ledger may contain the hold before
/// `status.placement` exists.
async fn accepted_hold_rejects_site_change(server: &Server, hold: Value) {
    let kind = "incidenthold";
    server.create(&hold).await;
    for (status, site, expected) in [("False", "other", None), ("True", "third", Some("spec.siteRef"))] {
        let condition = json!({
            "type": "Accepted", "status": status, "reason": "Valid", "message": "", "lastTransitionTime": "2026-04-12T22:20:00Z",
        });
        let status_patch = json!({"conditions": [condition]});
        server.set_status(kind, "accepted", &status_patch).await;
        let spec = json!({"siteRef": {"name": site}});
        let rejected_field = match server.patch_spec(kind, "accepted", &spec).await {
            AdmissionResult::Rejected(causes) => causes.first().map(|cause| cause.field.clone()),
            AdmissionResult::Admitted => None,
        };
        assert_eq!(rejected_field.as_deref(), expected);
    }
    let result = server.patch_spec(kind, "accepted", &json!({"reference": "2026-0413"})).await;
    assert!(matches!(result, AdmissionResult::Admitted), "{result:?}");
}

/// Checks that a hold that protects nothing yet can be corrected in every field. An effective hold accepts only
/// corrections that release nothing.
async fn hold_accepts_corrections_that_release_nothing(server: Server) {
    let (_, hold) =
        example_objects().into_iter().find(|(_, object)| object["kind"] == "IncidentHold").expect("a hold");
    let kind = "incidenthold";
    let named = |name: &str| {
        let mut hold = hold.clone();
        hold["metadata"]["name"] = name.into();
        hold
    };
    let check_admitted = async |name: &str, spec: Value| {
        let result = server.patch_spec(kind, name, &spec).await;
        assert!(matches!(result, AdmissionResult::Admitted), "{spec}: {result:?}");
    };
    let check_rejected =
        async |name: &str, field: &str, spec: Value| match server.patch_spec(kind, name, &spec).await {
            AdmissionResult::Rejected(causes) => {
                assert!(causes.iter().any(|cause| cause.field == field), "{causes:?}");
            }
            AdmissionResult::Admitted => panic!("{spec} is admitted"),
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
        check_admitted("typo", spec).await;
    }

    accepted_hold_rejects_site_change(&server, named("accepted")).await;

    let placement = json!({
        "observedGeneration": 1, "acceptanceTime": "2026-04-12T22:20:00Z", "verified": true, "segments": 3, "size": "9 MiB",
        "sealedSegments": 0,
    });
    let conditions = |type_: &str, reason: &str| {
        json!([{
            "type": type_, "status": "False", "reason": reason, "message": "",
            "lastTransitionTime": "2026-04-12T22:20:00Z",
        }])
    };
    server.create(&named("counts")).await;
    let status = json!({"placement": placement, "unknownCameras": ["die-heijgrave-parkeerterrein"]});
    server.set_status(kind, "counts", &status).await;
    check_rejected("counts", "spec.reference", json!({"reference": "2026-0413"})).await;
    check_admitted("counts", json!({"cameras": ["die-heijgrave-receptie", "die-heijgrave-zwembad"]})).await;
    // A mistyped year can be corrected while the operator reports that it is in the future.
    let in_future = json!({"state": "Resolved", "resolution": resolved("2062-05-20T10:00:00Z")});
    check_admitted("counts", in_future.clone()).await;
    check_rejected("counts", "spec", json!({"resolution": {"time": "2026-05-20T10:00:00Z"}})).await;
    let status = json!({"conditions": conditions("Released", "ResolutionInFuture")});
    server.set_status(kind, "counts", &status).await;
    check_admitted("counts", json!({"resolution": {"time": "2031-05-20T10:00:00Z"}})).await;
    check_admitted("counts", json!({"state": "Open", "resolution": null})).await;
    check_admitted("counts", in_future).await;
    check_rejected("counts", "spec.reference", json!({"reference": "2026-0413"})).await;
    let status = json!({"conditions": conditions("Released", "Releasing")});
    server.set_status(kind, "counts", &status).await;
    check_rejected("counts", "spec.state", json!({"state": "Open", "resolution": null})).await;

    server.create(&named("reviewed")).await;
    server.set_status(kind, "reviewed", &json!({"placement": placement})).await;
    let review = |at: &str| json!({"review": {"time": at, "by": "Team"}});
    check_admitted("reviewed", review("2062-05-20T10:00:00Z")).await;
    check_rejected("reviewed", "spec.review.time", review("2026-05-20T10:00:00Z")).await;
    let status = json!({"conditions": conditions("ReviewDue", "ReviewInFuture")});
    server.set_status(kind, "reviewed", &status).await;
    check_admitted("reviewed", review("2026-05-20T10:00:00Z")).await;
    server.clean_up().await;
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
