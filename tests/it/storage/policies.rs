//! Stores with different bucket policies, imitated by a proxy in front of SeaweedFS: another partition, a size limit,
//! another format, no effect, and unknown identities.

use std::sync::{Arc, Mutex};

use axum::http::Method;
use toezicht::storage::bucket::probe::{Check, Verdict};
use toezicht::storage::{EnforceError, EnforceReport, Probe, Subresource};
use toezicht::wire::Credentials;

use super::access::{keep_response, scene_with_policy_proxy};
use super::rewriting_proxy::{InterceptedRequest, ProxyAction, RewritingProxy, error_response};
use super::scene::Scene;

/// A store in another partition rejects ARNs of the partition `aws`.
#[tokio::test]
async fn seaweedfs_policy_uses_the_principals_partition() {
    let before = |request: &InterceptedRequest| match request.policy() {
        Some(policy) if policy.contains("arn:aws:") => error_response(400, "MalformedPolicy"),
        Some(policy) => ProxyAction::ReplacePolicy(policy.replace("arn:aws-eusc:", "arn:aws:")),
        None => ProxyAction::Forward,
    };
    let after = |request: &InterceptedRequest, text: String| {
        if request.is_for_subresource("policy") { text.replace("arn:aws:", "arn:aws-eusc:") } else { text }
    };
    let (mut scene, _proxy) = scene_with_policy_proxy("eusc", before, after).await;
    let error = scene.enforce(Probe::Run).await.unwrap_err();
    assert!(error.to_string().contains("the partition aws)"), "{error}");
    for name in [&mut scene.spec.operator_principal, &mut scene.spec.recorder_principal] {
        *name = name.replace("arn:aws:", "arn:aws-eusc:");
    }
    scene.spec.readers[0] = scene.spec.readers[0].replace("arn:aws:", "arn:aws-eusc:");
    let enforced = scene.enforce(Probe::Run).await.unwrap();
    let table = enforced.conformance.unwrap();
    assert_eq!(table.verdict(Check::EveryoneElseIsDenied), &Verdict::Passed);
    assert!(scene.enforce(Probe::Skip).await.unwrap().changes.is_empty());
}

/// A policy within the store's size limit is put. A larger one is rejected before it is sent.
#[tokio::test]
async fn seaweedfs_oversized_policy_is_rejected_before_put() {
    let before = |request: &InterceptedRequest| match request.policy() {
        Some(policy) if policy.len() > 20_480 => error_response(400, "PolicyTooLarge"),
        _ => ProxyAction::Forward,
    };
    let (mut scene, proxy) = scene_with_policy_proxy("limit", before, keep_response).await;
    let role = |number: usize, length: usize| {
        let begin = format!("arn:aws:iam::123456789012:role/manager-{number}-");
        let fill = "x".repeat(length - begin.len());
        format!("{begin}{fill}")
    };
    let others = scene.spec.readers.clone();
    scene.spec.readers.extend((0..15).map(|number| role(number, 80)));
    let enforced = scene.enforce(Probe::Run).await.unwrap();
    assert_eq!(enforced.unknown_principals, Vec::<String>::new());
    let table = enforced.conformance.unwrap();
    assert_eq!(table.verdict(Check::EveryoneElseIsDenied), &Verdict::Passed);
    assert_eq!(table.verdict(Check::VideoIsUnreadable), &Verdict::Passed);
    let longest = proxy.take_policies().iter().map(String::len).max();
    assert!(longest.is_some_and(|longest| longest <= 20_480), "{longest:?}");

    let policy = scene.policy().await;
    scene.spec.readers = others;
    scene.spec.readers.extend((0..31).map(|number| role(number, 256)));
    let error = scene.enforce(Probe::Skip).await.unwrap_err();
    let EnforceError::PolicyTooLong { people, bytes, fits, .. } = error else { panic!("{error:?}") };
    assert!(people == 32 && bytes > 20_480 && fits > 8, "{people} {bytes} {fits}");
    assert!(error.to_string().contains("spec.managers"), "{error}");
    assert_eq!(scene.policy().await, policy, "the policy is unchanged");
    scene.spec.readers.truncate(fits);
    scene.enforce(Probe::Skip).await.unwrap();
}

/// A store with its own policy format (Scaleway) is rejected for the format, not for a principal.
#[tokio::test]
async fn seaweedfs_unsupported_policy_format_is_reported() {
    let before = |request: &InterceptedRequest| match request.policy() {
        Some(policy) if policy.contains("\"2012-10-17\"") => error_response(400, "MalformedPolicy"),
        _ => ProxyAction::Forward,
    };
    let (scene, _proxy) = scene_with_policy_proxy("scw", before, keep_response).await;
    let error = scene.enforce(Probe::Run).await.unwrap_err();
    assert!(matches!(error, EnforceError::StoreUnsupported { .. }), "{error:?}");
    let message = error.to_string();
    for part in ["rejects bucket policies in S3's form", "MalformedPolicy (HTTP 400)", "Scaleway"] {
        assert!(message.contains(part), "{message}");
    }
}

/// Returns a scene with a store that stores policies without effect, or does not support them.
async fn scene_with_ignored_policies(prefix: &str, has_policies: bool) -> (Scene, RewritingProxy) {
    let stored_policy: Arc<Mutex<Option<String>>> = Arc::default();
    let before = move |request: &InterceptedRequest| {
        if !request.is_for_subresource("policy") {
            return ProxyAction::Forward;
        }
        if !has_policies {
            return error_response(501, "NotImplemented");
        }
        let mut stored_policy = stored_policy.lock().unwrap();
        match request.method {
            Method::PUT => *stored_policy = Some(request.text()),
            Method::DELETE => *stored_policy = None,
            _ => {
                return stored_policy.clone().map_or(error_response(404, "NoSuchBucketPolicy"), |policy| {
                    ProxyAction::Respond(200, policy)
                });
            }
        }
        ProxyAction::Respond(204, String::new())
    };
    scene_with_policy_proxy(prefix, before, keep_response).await
}

/// Checks that bucket policies have no effect, and the operator reports that with the remedy: identity policies. To
/// check the remedy, the test puts an equivalent bucket policy past the proxy.
async fn ignored_policies_are_reported(has_policies: bool) {
    let (scene, _proxy) = scene_with_ignored_policies("heedless", has_policies).await;
    // Case 1: the recorder has no permissions.
    let error = scene.enforce(Probe::Run).await.unwrap_err();
    let message = error.to_string();
    for part in [
        "no effect on this store's identities",
        "RecorderCanPut",
        "toezicht iam",
        "--store identity-policies",
    ] {
        assert!(message.contains(part), "{message}");
    }
    // Case 2: the recorder has all permissions.
    let mut open = scene.clone();
    let admin = scene.server.identity("operator-admin").clone();
    open.recorder.credentials = Credentials::access_key(&admin.access_key, &admin.secret_key);
    open.spec.recorder_principal.clone_from(&admin.principal);
    let message = open.enforce(Probe::Run).await.unwrap_err().to_string();
    assert!(message.contains("OperatorCannotGet fails: The operator's credentials can read"), "{message}");

    // Case 3: the recorder has the permissions that `toezicht iam` prints.
    let mut direct = scene.clone();
    direct.operator.endpoint = Some(scene.server.endpoint.clone());
    direct.recorder.endpoint = Some(scene.server.endpoint.clone());
    direct.enforce(Probe::Skip).await.unwrap();
    direct.remove("ledger/dialect.json").await;
    let EnforceReport { limitations, conformance, .. } = scene.enforce(Probe::Run).await.unwrap();
    assert!(
        limitations.iter().any(|limitation| limitation.contains("--store identity-policies")),
        "{limitations:?}"
    );
    let table = conformance.unwrap();
    assert_eq!(table.verdict(Check::RecorderCannotGet), &Verdict::Passed);
    assert_eq!(table.verdict(Check::EveryoneElseIsDenied).as_str(), "Unknown");
    let again = scene.enforce(Probe::Skip).await.unwrap();
    assert!(again.changes.is_empty(), "{:?}", again.changes);
}

#[tokio::test]
async fn seaweedfs_ignored_policies_are_reported() {
    ignored_policies_are_reported(true).await;
}

#[tokio::test]
async fn seaweedfs_missing_policy_support_is_reported() {
    ignored_policies_are_reported(false).await;
}

/// Returns a scene with a store that rejects policies with unknown identities. As at AWS, a policy shows the id of a
/// deleted identity instead of its name.
async fn scene_with_deleted_reader(prefix: &str, is_gone: Arc<Mutex<bool>>) -> (Scene, RewritingProxy) {
    const DELETED_READER: &str = "arn:aws:iam::1:user/gone";
    const DELETED_READER_ID: &str = "AIDAJQABLZS4A3QDU576Q";
    let is_deleted = Arc::clone(&is_gone);
    let before = move |request: &InterceptedRequest| match request.policy() {
        // Conditions are plain text: only principals are checked.
        Some(policy)
            if *is_deleted.lock().unwrap()
                && (policy.contains(&format!("[\"{DELETED_READER}\""))
                    || policy.contains(&format!(",\"{DELETED_READER}\""))
                    || policy.contains(DELETED_READER_ID)) =>
        {
            error_response(400, "MalformedPolicy")
        }
        _ => ProxyAction::Forward,
    };
    let after = move |request: &InterceptedRequest, text: String| {
        if request.is_for_subresource("policy") && *is_gone.lock().unwrap() {
            text.replace(DELETED_READER, DELETED_READER_ID)
        } else {
            text
        }
    };
    let (mut scene, proxy) = scene_with_policy_proxy(prefix, before, after).await;
    scene.spec.readers.push(DELETED_READER.into());
    scene.spec.readers.sort();
    (scene, proxy)
}

fn assert_unknown_reader_is_left_out(scene: &Scene, enforced: &EnforceReport) {
    assert_eq!(enforced.unknown_principals, ["arn:aws:iam::1:user/gone"]);
    let manager = &scene.server.identity("manager").principal;
    assert!(scene.spec.readers.contains(manager));
}

/// If one of the readers is unknown to the store, the policy names all others.
#[tokio::test]
async fn seaweedfs_unknown_reader_is_left_out() {
    let (scene, proxy) = scene_with_deleted_reader("unknown", Arc::new(Mutex::new(true))).await;
    let enforced = scene.enforce(Probe::Run).await.unwrap();
    assert_unknown_reader_is_left_out(&scene, &enforced);
    let policy = scene.policy().await.unwrap();
    assert!(policy.contains(&scene.server.identity("manager").principal), "{policy}");
    assert!(!policy.contains("gone") && !policy.contains("AIDA"), "{policy}");
    proxy.take_policies();
    let again = scene.enforce(Probe::Skip).await.unwrap();
    assert_unknown_reader_is_left_out(&scene, &again);
    assert!(again.changes.is_empty() && proxy.take_policies().is_empty(), "{:?}", again.changes);
}

/// If a reader is deleted later, the policy shows an id instead of the name and cannot be put again.
#[tokio::test]
async fn seaweedfs_deleted_reader_is_left_out_until_recreated() {
    let is_gone = Arc::new(Mutex::new(false));
    let (scene, proxy) = scene_with_deleted_reader("deleted", Arc::clone(&is_gone)).await;
    assert!(scene.enforce(Probe::Run).await.unwrap().unknown_principals.is_empty());
    *is_gone.lock().unwrap() = true;
    let enforced = scene.enforce(Probe::Skip).await.unwrap();
    assert_unknown_reader_is_left_out(&scene, &enforced);
    let what: Vec<Subresource> = enforced.changes.iter().map(|change| change.subresource).collect();
    assert_eq!(what, [Subresource::Policy]);
    proxy.take_policies();
    for _ in 0..2 {
        let again = scene.enforce(Probe::Skip).await.unwrap();
        assert!(again.changes.is_empty() && proxy.take_policies().is_empty(), "{:?}", again.changes);
    }
    // The daily probe detects that the identity exists again.
    *is_gone.lock().unwrap() = false;
    let back = scene.enforce(Probe::Run).await.unwrap();
    assert!(back.unknown_principals.is_empty());
    assert!(scene.policy().await.unwrap().contains("arn:aws:iam::1:user/gone"));
}
