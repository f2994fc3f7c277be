//! The conformance table of each store is committed under `tests/expected/`. A Site's bucket and `toezicht probe`
//! must both match it. After an intended change, `TOEZICHT_WRITE_EXPECTED=1` rewrites it.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use toezicht::storage::bucket::probe::request::{ProbeError, ProbeRequest};
use toezicht::storage::bucket::probe::standalone;
use toezicht::storage::bucket::probe::{Check, Verdict};
use toezicht::storage::{Conformance, Probe};
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use super::scene::Scene;
use crate::storage::scene::connect;
use crate::support::settings::{S3Identity, S3Server, root};
use crate::support::tools::attempt;
use crate::support::wait::next_stop;

type VerdictTable = BTreeMap<String, String>;

fn verdicts_of(conformance: &Conformance) -> VerdictTable {
    let rows = conformance.rows().iter();
    rows.map(|row| (row.check.as_str().to_owned(), row.verdict.as_str().to_owned())).collect()
}

/// Asserts that the table of a Site's bucket equals the committed one. Returns the policy's limitations.
async fn assert_site_table_matches_committed(scene: &Scene) -> Vec<&'static str> {
    let enforced = scene.enforce(Probe::Run).await.unwrap();
    let table = verdicts_of(&enforced.conformance.unwrap());
    let file = root().join("tests/expected").join(&scene.server.name).join("conformance.json");
    if std::env::var_os("TOEZICHT_WRITE_EXPECTED").is_some() {
        std::fs::write(&file, serde_json::to_string_pretty(&table).unwrap() + "\n").unwrap();
    }
    assert_eq!(committed_table(&scene.server), table, "{}", file.display());
    assert!(scene.versions("probe/").await.is_empty(), "canaries are deleted");
    let again = scene.enforce(Probe::Skip).await.unwrap();
    assert!(again.changes.is_empty(), "the policy is unchanged: {:?}", again.changes);
    enforced.limitations
}

fn committed_table(server: &S3Server) -> VerdictTable {
    let file = root().join("tests/expected").join(&server.name).join("conformance.json");
    let text = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    serde_json::from_str(&text).unwrap()
}

#[tokio::test]
async fn seaweedfs_site_table_matches_committed() {
    let scene = Scene::new(S3Server::primary(), "table");
    let limitations = assert_site_table_matches_committed(&scene).await;
    assert_eq!(limitations.len(), 1, "{limitations:?}");
    assert!(limitations[0].contains("s3:RequestObjectTag"));
    assert_others_are_denied(&scene, &["admin", "other", "manager"]).await;
}

#[tokio::test]
async fn ceph_site_table_matches_committed() {
    let scene = Scene::new(S3Server::secondary(), "table");
    let limitations = assert_site_table_matches_committed(&scene).await;
    assert_eq!(limitations, Vec::<&str>::new());
    assert_others_are_denied(&scene, &["admin", "other", "manager"]).await;
}

/// Runs `toezicht probe` as the scene's operator and returns exit code, standard output and standard error.
async fn run_probe(scene: &Scene, recorder: Option<&S3Identity>, more: &[&str]) -> (i32, String, String) {
    let server = &scene.server;
    let mut command = Command::new(env!("CARGO_BIN_EXE_toezicht"));
    command
        .args(["probe", "--endpoint", &server.endpoint, "--region", &server.region])
        .args(["--path-style", "--bucket", scene.bucket()])
        .args(["--operator-principal", &scene.spec.operator_principal])
        .args(["--recorder-principal", &scene.spec.recorder_principal])
        .args(more)
        .env("AWS_ACCESS_KEY_ID", scene.keys().access_key_id.reveal())
        .env("AWS_SECRET_ACCESS_KEY", scene.keys().secret_access_key.reveal())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    if let Some(recorder) = recorder {
        command
            .env("TOEZICHT_RECORDER_ACCESS_KEY_ID", &recorder.access_key)
            .env("TOEZICHT_RECORDER_SECRET_ACCESS_KEY", &recorder.secret_key);
    }
    let output = command.output().await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn parse_verdicts(json: &str) -> VerdictTable {
    let document: Value = serde_json::from_str(json).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let rows = document["checks"].as_array().unwrap().iter();
    rows.map(|row| (text(&row["name"]), text(&row["result"]))).collect()
}

async fn probe_command_matches_committed_and_leaves_nothing(server: S3Server) {
    let scene = Scene::new(server, "probe");
    let recorder = scene.server.identity("recorder").clone();
    let (code, json, error) = run_probe(&scene, Some(&recorder), &["--create-bucket", "-o", "json"]).await;
    assert_eq!((code, error.as_str()), (0, ""), "{json}");
    assert_eq!(parse_verdicts(&json), committed_table(&scene.server));
    let (code, _, error) = run_probe(&scene, None, &[]).await;
    assert_eq!(code, 1);
    assert!(error.contains("there is no such bucket"), "{error}");

    // Without the recorder's credentials its checks are unknown. The others are unchanged.
    let (code, json, error) = run_probe(&scene, None, &["--create-bucket", "-o", "json"]).await;
    assert_eq!((code, error.as_str()), (0, ""), "{json}");
    let is_unknown = |name: &str| {
        name.starts_with("Recorder") || ["OperatorCannotGet", "EveryoneElseIsDenied"].contains(&name)
    };
    let expected: VerdictTable = committed_table(&scene.server)
        .into_iter()
        .map(|(name, verdict)| {
            let verdict = if is_unknown(&name) { "Unknown".into() } else { verdict };
            (name, verdict)
        })
        .collect();
    assert_eq!(parse_verdicts(&json), expected);
}

#[tokio::test]
async fn seaweedfs_probe_command_matches_committed() {
    probe_command_matches_committed_and_leaves_nothing(S3Server::primary()).await;
}

#[tokio::test]
async fn ceph_probe_command_matches_committed() {
    probe_command_matches_committed_and_leaves_nothing(S3Server::secondary()).await;
}

/// Checks that a bucket in use, by a Site or with objects, is not changed.
async fn bucket_in_use_is_not_probed(server: S3Server) {
    let scene = Scene::new(server, "used");
    scene.enforce(Probe::Skip).await.unwrap();
    let policy = scene.policy().await;
    let objects = scene.versions("").await;
    let (code, out, error) = run_probe(&scene, None, &[]).await;
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(error.contains("the bucket has objects"), "{error}");
    let (_, _, error) = run_probe(&scene, None, &["--create-bucket"]).await;
    assert!(error.contains("is there already"), "{error}");
    assert_eq!(scene.policy().await, policy);
    assert_eq!(scene.versions("").await, objects);
}

#[tokio::test]
async fn seaweedfs_bucket_in_use_is_not_probed() {
    bucket_in_use_is_not_probed(S3Server::primary()).await;
}

#[tokio::test]
async fn ceph_bucket_in_use_is_not_probed() {
    bucket_in_use_is_not_probed(S3Server::secondary()).await;
}

/// Checks that without Object Lock legal holds have no effect: the table reports that, and the command exits with 4.
async fn missing_object_lock_fails_probe(server: S3Server) {
    let scene = Scene::new(server, "unlocked");
    let client = scene.operator_client();
    client.create_bucket().bucket(scene.bucket()).send().await.unwrap();
    let (code, table, error) = run_probe(&scene, None, &[]).await;
    assert_eq!((code, error.as_str()), (4, ""), "{table}");
    assert!(table.contains("Fatal: this store is not fit for Toezicht:\n  LegalHoldReadsBack"), "{table}");
    assert!(table.contains("HeldSurvivesDelete\n    Expected:"), "{table}");
    assert!(scene.versions("").await.is_empty(), "nothing is left behind");
    assert_eq!(scene.policy().await, None);
}

#[tokio::test]
async fn seaweedfs_missing_object_lock_fails_probe() {
    missing_object_lock_fails_probe(S3Server::primary()).await;
}

#[tokio::test]
async fn ceph_missing_object_lock_fails_probe() {
    missing_object_lock_fails_probe(S3Server::secondary()).await;
}

/// Checks that a probe that is stopped at any moment leaves no bucket behind.
async fn stopped_probe_leaves_nothing(server: S3Server, step: Duration) {
    let scene = Scene::new(server, "stop");
    let request = ProbeRequest {
        operator: connect(&scene.operator),
        recorder: Some(connect(&scene.recorder)),
        operator_principal: Some(scene.spec.operator_principal.clone()),
        recorder_principal: Some(scene.spec.recorder_principal.clone()),
        create: true,
    };
    let (mut limit, mut stopped) = (step, 0);
    loop {
        let token = CancellationToken::new();
        let canceller = {
            let token = token.clone();
            tokio::spawn(async move {
                tokio::time::sleep(limit).await;
                token.cancel();
            })
        };
        let outcome = standalone::probe(&request, &token).await;
        canceller.abort();
        let head = scene.operator_client().head_bucket().bucket(scene.bucket()).send().await;
        assert!(head.is_err(), "the bucket exists after {limit:?}: {outcome:?}");
        match outcome {
            Err(ProbeError::Stopped { leftovers }) => {
                assert!(leftovers.is_empty(), "after {limit:?}: {leftovers:?}");
            }
            other => {
                let leftovers = other.unwrap().leftovers;
                assert!(leftovers.is_empty(), "{leftovers:?}");
                break;
            }
        }
        stopped += 1;
        limit = next_stop(limit, step);
    }
    assert!(stopped > 2, "stopped only {stopped} times");
}

#[tokio::test]
async fn seaweedfs_stopped_probe_leaves_nothing() {
    stopped_probe_leaves_nothing(S3Server::primary(), Duration::from_millis(200)).await;
}

#[tokio::test]
async fn ceph_stopped_probe_leaves_nothing() {
    stopped_probe_leaves_nothing(S3Server::secondary(), Duration::from_millis(500)).await;
}

/// The store's administrators gave the recorder all permissions, and its principal is mistyped, so the policy cannot
/// be put. The table reports what the recorder can do.
#[tokio::test]
async fn ceph_recorder_with_owner_rights_fails_probe() {
    let mut scene = Scene::new(S3Server::secondary(), "owner");
    scene.spec.recorder_principal = format!("{}x", scene.spec.recorder_principal);
    let owner = scene.server.bucket_maker().clone();
    let (code, json, error) = run_probe(&scene, Some(&owner), &["--create-bucket", "-o", "json"]).await;
    assert_eq!((code, error.as_str()), (0, ""), "{json}");
    let table = parse_verdicts(&json);
    for check in Check::ALL.iter().map(|check| check.as_str()) {
        if check.starts_with("RecorderCannot") || check == "OperatorCannotGet" {
            assert_eq!(table[check], Verdict::Failed.as_str(), "{check}");
        }
    }
    assert!(json.contains("--recorder-principal is not how the store names"), "{json}");
}

/// Checks with SDK clients that other identities cannot read, list or delete a recording.
async fn assert_others_are_denied(scene: &Scene, identities: &[&str]) {
    let key = "video/receptie/2026/03/07/080910.011Z-60033-abababababababab.mp4";
    let put = scene.client("recorder").put_object().bucket(scene.bucket()).key(key);
    put.tagging("toezicht-retention=video").body(b"picture".to_vec().into()).send().await.unwrap();
    let [(_, version)] = &scene.versions(key).await[..] else { panic!("one version") };
    for identity in identities.iter().chain(&["recorder"]) {
        let client = scene.client(identity);
        let get = client.get_object().bucket(scene.bucket()).key(key).send().await;
        assert!(get.is_err(), "{identity} reads");
        let get = client.get_object().bucket(scene.bucket()).key(key).version_id(version).send().await;
        assert!(get.is_err(), "{identity} reads by version");
        let list = client.list_objects_v2().bucket(scene.bucket()).send().await;
        assert!(list.is_err(), "{identity} lists");
        let _ = client.delete_object().bucket(scene.bucket()).key(key).version_id(version).send().await;
        let _ = client.delete_object().bucket(scene.bucket()).key(key).send().await;
        assert_eq!(scene.versions(key).await.len(), 1, "{identity} deletes");
    }
    let get = scene.operator_client().get_object().bucket(scene.bucket()).key(key).send().await;
    assert!(get.is_err(), "the operator reads a recording");
    // The same with boto3.
    for operation in [&["get", key][..], &["list"]] {
        let response = attempt(&scene.server, scene.bucket(), "recorder", operation).await;
        assert_eq!(response["ok"], false, "{operation:?}: {response}");
    }
}
