//! Identities have only the permissions that they need, even if other policies grant them more.

use std::process::Stdio;

use aws_sdk_s3::types::{
    ObjectLockLegalHold, ObjectLockLegalHoldStatus, Tag, Tagging, VersioningConfiguration,
};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use toezicht::rules::Window;
use toezicht::rules::hold::scope::{CameraSelector, HoldScope};
use toezicht::storage::{EnforceError, Probe};
use toezicht::wire::{AccessKey, Credentials, Secret};
use tokio::process::Command;

use super::holds::place_until_confirmed;
use super::scene::{Scene, client};
use crate::support::settings::{S3Identity, S3Server};

/// Runs `toezicht audit` as an identity and returns exit code, standard output and standard error.
async fn audit_as(scene: &Scene, identity: &S3Identity) -> (i32, String, String) {
    let server = &scene.server;
    let output = Command::new(env!("CARGO_BIN_EXE_toezicht"))
        .args(["audit", "--endpoint", &server.endpoint, "--region", &server.region])
        .args(["--path-style", "--bucket", scene.bucket(), "--sample-one-in", "1", "-o", "json"])
        .env("AWS_ACCESS_KEY_ID", &identity.access_key)
        .env("AWS_SECRET_ACCESS_KEY", &identity.secret_key)
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// Checks that the auditor audits with its own credentials. It can neither read recordings nor change anything.
async fn auditor_can_only_audit(server: S3Server) {
    let mut scene = Scene::new(server, "auditor");
    scene.enforce(Probe::Skip).await.unwrap();
    let auditor = scene.server.identity("other").clone();
    let key = scene.record("hal", Timestamp::now()).await;
    let (code, _, error) = audit_as(&scene, &auditor).await;
    assert_eq!(code, 1, "before it is named as the auditor: {error}");

    scene.spec.auditor = Some(auditor.principal.clone());
    let changed = scene.enforce(Probe::Skip).await.unwrap().changes;
    assert_eq!(changed.len(), 1, "the policy: {changed:?}");
    assert!(scene.enforce(Probe::Skip).await.unwrap().changes.is_empty());
    let (code, report, error) = audit_as(&scene, &auditor).await;
    assert_eq!(code, 0, "{error}");
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!((&report["versions"], &report["inspectedVersions"]), (&json!(1), &json!(1)), "{report}");

    let [(_, version)] = &scene.versions(&key).await[..] else { panic!("one version") };
    let (bucket, client) = (scene.bucket(), client(&scene.server, &auditor));
    let by_version = client.get_object().bucket(bucket).key(&key).version_id(version);
    assert!(by_version.send().await.is_err(), "reads by version");
    assert!(client.get_object().bucket(bucket).key(&key).send().await.is_err(), "reads");
    for key in [key.as_str(), "video/hal/x", "ledger/holds/x.json", "probe/x", "x"] {
        let put = client.put_object().bucket(bucket).key(key).body(b"x".to_vec().into());
        assert!(put.send().await.is_err(), "puts {key}");
        let _ = client.delete_object().bucket(bucket).key(key).send().await;
    }
    let _ = client.delete_object().bucket(bucket).key(&key).version_id(version).send().await;
    let other = scene.record("gang", Timestamp::now()).await;
    scene.set_hold(&other, true).await;
    scene.tag(&other, "held").await;
    for (key, status, tag) in
        [(&key, ObjectLockLegalHoldStatus::On, "held"), (&other, ObjectLockLegalHoldStatus::Off, "video")]
    {
        let hold = ObjectLockLegalHold::builder().status(status).build();
        let put = client.put_object_legal_hold().bucket(bucket).key(key);
        assert!(put.legal_hold(hold).send().await.is_err(), "{key}: sets or clears the legal hold");
        let tag = Tag::builder().key("toezicht-retention").value(tag).build().unwrap();
        let tags = Tagging::builder().tag_set(tag).build().unwrap();
        let put = client.put_object_tagging().bucket(bucket).key(key);
        assert!(put.tagging(tags).send().await.is_err(), "{key}: tags");
    }
    let _ = client.delete_bucket_policy().bucket(bucket).send().await;
    let _ = client.delete_bucket_lifecycle().bucket(bucket).send().await;
    let none = VersioningConfiguration::builder().build();
    let _ = client.put_bucket_versioning().bucket(bucket).versioning_configuration(none).send().await;

    assert_eq!(scene.protection(&key).await, Some((false, "video".to_owned())));
    assert_eq!(scene.protection(&other).await, Some((true, "held".to_owned())));
    assert_eq!(scene.versions(&key).await.len(), 1, "no other version and no delete marker");
    assert!(scene.versions("x").await.is_empty());
    let changed = scene.enforce(Probe::Skip).await.unwrap().changes;
    assert!(changed.is_empty(), "{changed:?}");
}

#[tokio::test]
async fn seaweedfs_auditor_can_only_audit() {
    auditor_can_only_audit(S3Server::primary()).await;
}

#[tokio::test]
async fn ceph_auditor_can_only_audit() {
    auditor_can_only_audit(S3Server::secondary()).await;
}

/// The policy's Denies for the auditor would also stop another role with the same principal. That is rejected before
/// any connection.
#[tokio::test]
async fn auditor_must_be_a_separate_principal() {
    let mut scene = Scene::new(S3Server::primary(), "nobodyelse");
    scene.operator.endpoint = Some("http://127.0.0.1:1".into());
    let others = [&scene.spec.operator_principal, &scene.spec.recorder_principal, &scene.spec.readers[0]];
    for other in others.map(String::clone) {
        scene.spec.auditor = Some(other);
        let error = scene.enforce(Probe::Skip).await.unwrap_err();
        assert!(
            matches!(error, EnforceError::Rejected { .. } | EnforceError::Unadoptable { .. }),
            "{error:?}"
        );
        assert!(error.to_string().contains("auditor"), "{}", error.to_string());
    }
}

/// A recorder with further permissions, here from an added policy statement, can only put objects with its own tag.
#[tokio::test]
async fn ceph_privileged_recorder_puts_only_its_tag() {
    let scene = Scene::new(S3Server::secondary(), "onetag");
    scene.enforce(Probe::Skip).await.unwrap();
    let mut policy: Value = serde_json::from_str(&scene.policy().await.unwrap()).unwrap();
    let more = json!({
        "Sid": "More", "Effect": "Allow", "Principal": {"AWS": [scene.spec.recorder_principal]},
        "Action": ["s3:PutObject"], "Resource": [format!("arn:aws:s3:::{}/*", scene.bucket())],
    });
    policy["Statement"].as_array_mut().unwrap().push(more);
    let put = scene.operator_client().put_bucket_policy().bucket(scene.bucket());
    put.policy(policy.to_string()).send().await.unwrap();

    let put = async |key: &str, tags: Option<&str>| {
        let put = scene.client("recorder").put_object().bucket(scene.bucket()).key(key);
        let put = put.set_tagging(tags.map(str::to_owned)).body(b"x".to_vec().into());
        put.send().await.is_ok()
    };
    assert!(put("elsewhere/x", None).await, "the statement grants the permission");
    for (class, own) in [("video", "video"), ("calls", "calls")] {
        let key = |name: &str| format!("{class}/hal/{name}");
        for (name, tags) in [
            ("none", None),
            ("held", Some("toezicht-retention=held")),
            ("other", Some("toezicht-retention=other")),
            (
                "class",
                Some(if class == "video" { "toezicht-retention=calls" } else { "toezicht-retention=video" }),
            ),
            ("key", Some("something=video")),
        ] {
            assert!(!put(&key(name), tags).await, "{class} with {name}");
        }
        assert!(put(&key("own"), Some(&format!("toezicht-retention={own}"))).await, "{class}");
        assert!(put(&key("sealed"), Some("toezicht-retention=sealed")).await, "{class}");
    }
}

/// Requests temporary keys of an identity from the store's STS.
async fn session_keys(server: &S3Server, name: &str) -> AccessKey {
    let identity = server.identity(name);
    let permanent = aws_credential_types::Credentials::new(
        &identity.access_key,
        &identity.secret_key,
        None,
        None,
        "test",
    );
    let config = aws_sdk_sts::Config::builder()
        .behavior_version(aws_sdk_sts::config::BehaviorVersion::latest())
        .region(aws_sdk_sts::config::Region::new(server.region.clone()))
        .endpoint_url(&server.endpoint)
        .credentials_provider(permanent)
        .build();
    let sts = aws_sdk_sts::Client::from_conf(config);
    let response = sts.get_session_token().duration_seconds(900).send().await.unwrap();
    let keys = response.credentials.unwrap();
    AccessKey {
        access_key_id: Secret::new(keys.access_key_id),
        secret_access_key: Secret::new(keys.secret_access_key),
        session_token: Some(Secret::new(keys.session_token)),
    }
}

/// The principal of a session is its user, so temporary keys work like permanent ones.
#[tokio::test]
async fn ceph_temporary_keys_work_like_permanent_keys() {
    let mut scene = Scene::new(S3Server::secondary(), "session");
    let keys = session_keys(&scene.server, "operator").await;
    scene.operator.credentials = Credentials::AccessKey(keys.clone());
    scene.recorder.credentials = Credentials::AccessKey(session_keys(&scene.server, "recorder").await);
    scene.enforce(Probe::Run).await.unwrap();
    let start = Timestamp::now() - SignedDuration::from_mins(5);
    let key = scene.record("hal", start).await;
    let incident = [HoldScope {
        cameras: CameraSelector::All,
        calls: false,
        window: Window::new(start, Some(Timestamp::now())),
    }];
    assert_eq!(place_until_confirmed(&scene.operator, &incident).await.coverage[0].segments, 1);
    assert_eq!(scene.protection(&key).await, Some((true, "held".to_owned())));

    for (token, refused) in [
        (None, true),
        (Some("c29tZXRoaW5nIGVsc2U="), true),
        (keys.session_token.as_ref().map(Secret::reveal), false),
    ] {
        let mut operator = scene.operator.clone();
        let session_token = token.map(Secret::new);
        operator.credentials = Credentials::AccessKey(AccessKey { session_token, ..keys.clone() });
        let scene = Scene { operator, ..scene.clone() };
        let enforced = scene.enforce(Probe::Skip).await;
        match enforced {
            Ok(enforced) => assert!(!refused && enforced.changes.is_empty(), "{token:?}"),
            Err(error) => {
                let message = error.to_string();
                assert!(refused && message.contains("HTTP 4"), "{message}");
            }
        }
    }
}
