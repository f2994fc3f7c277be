//! What the API server lets in and what it refuses, on the default version and on the newest: the definitions
//! as they are committed, and the files under `examples/`.
//!
//! On the default server the definitions are installed under a group of the test's own, since there the
//! chart owns the real ones.

mod case;
mod mutants;
mod server;

use futures::StreamExt;
use serde_json::Value;
use toezicht::api::{Camera, IncidentHold, RecordingPolicy, Site};

use case::{Case, examples};
use server::{Server, Verdict};

/// How many requests are under way at once.
const AT_ONCE: usize = 8;

async fn every_case_is_refused(server: Server) {
    let cases = Case::all();
    assert!(cases.len() >= 100, "only {} cases were found", cases.len());
    let wrong: Vec<String> = futures::stream::iter(&cases)
        .map(async |case| match server.try_case(case).await {
            Verdict::Refused(said) if said.iter().any(|one| case.expects(one)) => None,
            Verdict::Refused(said) => Some(format!("{case}: refused by another rule: {said:#?}")),
            Verdict::LetIn => Some(format!("{case}: let in")),
        })
        .buffer_unordered(AT_ONCE)
        .filter_map(async |wrong| wrong)
        .collect()
        .await;
    assert!(
        wrong.is_empty(),
        "{} of {} cases:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
    server.clean().await;
}

async fn every_example_is_let_in(server: Server) {
    let objects = examples();
    assert!(
        objects.len() >= 20,
        "only {} objects were found under examples/",
        objects.len()
    );
    for (file, object) in &objects {
        let made = match server.apply_dry(object).await {
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

async fn what_nobody_looked_at_says_so(server: Server) {
    let (_, policy) = examples()
        .into_iter()
        .find(|(_, object)| object["kind"] == "RecordingPolicy")
        .expect("a policy");
    server.create(&policy).await;
    let read = server.get("recordingpolicy", "heusden-2020").await;
    let conditions = read["status"]["conditions"]
        .as_array()
        .expect("conditions")
        .clone();
    let types: Vec<&Value> = conditions.iter().map(|condition| &condition["type"]).collect();
    assert_eq!(types, ["Accepted", "InForce", "Ready"]);
    for condition in conditions {
        assert_eq!(condition["status"], "Unknown");
        assert_eq!(condition["reason"], "Pending");
    }
    server.clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn default_server_refuses_every_case() {
    every_case_is_refused(Server::default_version("refuses").await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn newest_server_refuses_every_case() {
    every_case_is_refused(Server::newest_version("refuses").await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn default_server_lets_every_example_in() {
    every_example_is_let_in(Server::default_version("lets-in").await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn newest_server_lets_every_example_in() {
    every_example_is_let_in(Server::newest_version("lets-in").await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_object_says_that_nobody_has_looked() {
    what_nobody_looked_at_says_so(Server::default_version("pending").await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_rule_a_case_is_let_in() {
    mutants::each_rule_is_needed().await;
}
