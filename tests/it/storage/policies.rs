//! Stores whose bucket policies differ: acted out before SeaweedFS. Another partition, a limit of bytes, another form, no
//! effect at all, and identities that the store does not know.

use std::sync::{Arc, Mutex};

use axum::http::Method;
use toezicht::storage::bucket::probe::{Check, Verdict};
use toezicht::storage::{EnforceError, EnforceReport, Probe, Subresource};
use toezicht::wire::Credentials;

use super::access::{pass, scene_with_policy_proxy};
use super::rewriter::{Act, Asked, Liar, refusal};
use super::scene::Scene;

/// A store of another partition takes no ARN of AWS's public one.
#[tokio::test]
async fn seaweedfs_policy_uses_the_principals_partition() {
    let before = |asked: &Asked| match asked.policy() {
        Some(policy) if policy.contains("arn:aws:") => refusal(400, "MalformedPolicy"),
        Some(policy) => Act::Instead(policy.replace("arn:aws-eusc:", "arn:aws:")),
        None => Act::Pass,
    };
    let after = |asked: &Asked, text: String| {
        if asked.asks("policy") { text.replace("arn:aws:", "arn:aws-eusc:") } else { text }
    };
    let (mut scene, _liar) = scene_with_policy_proxy("eusc", before, after).await;
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

/// The store's limit of a policy, and a Site that is within it and one that is not.
#[tokio::test]
async fn seaweedfs_oversized_policy_is_rejected_before_put() {
    let before = |asked: &Asked| match asked.policy() {
        Some(policy) if policy.len() > 20_480 => refusal(400, "PolicyTooLarge"),
        _ => Act::Pass,
    };
    let (mut scene, liar) = scene_with_policy_proxy("limit", before, pass).await;
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
    let longest = liar.policies().iter().map(String::len).max();
    assert!(longest.is_some_and(|longest| longest <= 20_480), "{longest:?}");

    let policy = scene.policy().await;
    scene.spec.readers = others;
    scene.spec.readers.extend((0..31).map(|number| role(number, 256)));
    let error = scene.enforce(Probe::Skip).await.unwrap_err();
    let EnforceError::PolicyTooLong { people, bytes, fits, .. } = error else { panic!("{error:?}") };
    assert!(people == 32 && bytes > 20_480 && fits > 8, "{people} {bytes} {fits}");
    assert!(error.to_string().contains("spec.managers"), "{error}");
    assert_eq!(scene.policy().await, policy, "the policy is as it was");
    scene.spec.readers.truncate(fits);
    scene.enforce(Probe::Skip).await.unwrap();
}

/// A store whose policies are of a form of its own (Scaleway) is refused for that, and not for a principal.
#[tokio::test]
async fn seaweedfs_unsupported_policy_format_is_reported() {
    let before = |asked: &Asked| match asked.policy() {
        Some(policy) if policy.contains("\"2012-10-17\"") => refusal(400, "MalformedPolicy"),
        _ => Act::Pass,
    };
    let (scene, _liar) = scene_with_policy_proxy("scw", before, pass).await;
    let error = scene.enforce(Probe::Run).await.unwrap_err();
    assert!(matches!(error, EnforceError::StoreUnsupported { .. }), "{error:?}");
    let told = error.to_string();
    for part in ["rejects bucket policies in S3's form", "MalformedPolicy (HTTP 400)", "Scaleway"] {
        assert!(told.contains(part), "{told}");
    }
}

/// A store that keeps a policy, or knows none, and heeds none.
async fn unheeded(prefix: &str, has_policies: bool) -> (Scene, Liar) {
    let kept: Arc<Mutex<Option<String>>> = Arc::default();
    let before = move |asked: &Asked| {
        if !asked.asks("policy") {
            return Act::Pass;
        }
        if !has_policies {
            return refusal(501, "NotImplemented");
        }
        let mut kept = kept.lock().unwrap();
        match asked.method {
            Method::PUT => *kept = Some(asked.text()),
            Method::DELETE => *kept = None,
            _ => {
                return kept
                    .clone()
                    .map_or(refusal(404, "NoSuchBucketPolicy"), |policy| Act::Answer(200, policy));
            }
        }
        Act::Answer(204, String::new())
    };
    scene_with_policy_proxy(prefix, before, pass).await
}

/// Nothing that the operator writes restricts anybody there. It says so and names the way out, and the way leads out: what
/// stands in for the identities' own policies is a policy that was put past the store that heeds none.
async fn ignored_policies_are_reported(has_policies: bool) {
    let (scene, _liar) = unheeded("heedless", has_policies).await;
    // The recorders have no rights at all.
    let error = scene.enforce(Probe::Run).await.unwrap_err();
    let told = error.to_string();
    for part in [
        "no effect on this store's identities",
        "RecorderCanPut",
        "toezicht iam",
        "--store identity-policies",
    ] {
        assert!(told.contains(part), "{told}");
    }
    // They have all rights.
    let mut open = scene.clone();
    let admin = scene.server.identity("operator-admin").clone();
    open.recorder.credentials = Credentials::access_key(&admin.access_key, &admin.secret_key);
    open.spec.recorder_principal.clone_from(&admin.principal);
    let told = open.enforce(Probe::Run).await.unwrap_err().to_string();
    assert!(told.contains("OperatorCannotGet fails: The operator's credentials can read"), "{told}");

    // They have what toezicht iam prints.
    let mut past = scene.clone();
    past.operator.endpoint = Some(scene.server.endpoint.clone());
    past.recorder.endpoint = Some(scene.server.endpoint.clone());
    past.enforce(Probe::Skip).await.unwrap();
    past.remove("ledger/dialect.json").await;
    let EnforceReport { limitations: gaps, conformance, .. } = scene.enforce(Probe::Run).await.unwrap();
    assert!(gaps.iter().any(|gap| gap.contains("--store identity-policies")), "{gaps:?}");
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

/// A store that takes no policy with the name of an identity that it does not know, and shows its id in place of the name
/// where a policy had it before, as AWS does of a user that was deleted.
async fn forgetful(prefix: &str, is_gone: Arc<Mutex<bool>>) -> (Scene, Liar) {
    const GONE: &str = "arn:aws:iam::1:user/gone";
    const ID: &str = "AIDAJQABLZS4A3QDU576Q";
    let gone = Arc::clone(&is_gone);
    let before = move |asked: &Asked| match asked.policy() {
        // A condition is a text and no principal.
        Some(policy)
            if *gone.lock().unwrap()
                && (policy.contains(&format!("[\"{GONE}\""))
                    || policy.contains(&format!(",\"{GONE}\""))
                    || policy.contains(ID)) =>
        {
            refusal(400, "MalformedPolicy")
        }
        _ => Act::Pass,
    };
    let after = move |asked: &Asked, text: String| {
        if asked.asks("policy") && *is_gone.lock().unwrap() { text.replace(GONE, ID) } else { text }
    };
    let (mut scene, liar) = scene_with_policy_proxy(prefix, before, after).await;
    scene.spec.readers.push(GONE.into());
    scene.spec.readers.sort();
    (scene, liar)
}

fn assert_unknown_reader_is_left_out(scene: &Scene, enforced: &EnforceReport) {
    assert_eq!(enforced.unknown_principals, ["arn:aws:iam::1:user/gone"]);
    let manager = &scene.server.identity("manager").principal;
    assert!(scene.spec.readers.contains(manager));
}

/// One of the people is nobody at the store from the beginning: the policy names all others.
#[tokio::test]
async fn seaweedfs_unknown_reader_is_left_out() {
    let (scene, liar) = forgetful("unknown", Arc::new(Mutex::new(true))).await;
    let enforced = scene.enforce(Probe::Run).await.unwrap();
    assert_unknown_reader_is_left_out(&scene, &enforced);
    let policy = scene.policy().await.unwrap();
    assert!(policy.contains(&scene.server.identity("manager").principal), "{policy}");
    assert!(!policy.contains("gone") && !policy.contains("AIDA"), "{policy}");
    liar.policies();
    let again = scene.enforce(Probe::Skip).await.unwrap();
    assert_unknown_reader_is_left_out(&scene, &again);
    assert!(again.changes.is_empty() && liar.policies().is_empty(), "{:?}", again.changes);
}

/// One is deleted later: the policy shows an id in place of the name, and could not be put again.
#[tokio::test]
async fn seaweedfs_deleted_reader_is_left_out_until_recreated() {
    let is_gone = Arc::new(Mutex::new(false));
    let (scene, liar) = forgetful("deleted", Arc::clone(&is_gone)).await;
    assert!(scene.enforce(Probe::Run).await.unwrap().unknown_principals.is_empty());
    *is_gone.lock().unwrap() = true;
    let enforced = scene.enforce(Probe::Skip).await.unwrap();
    assert_unknown_reader_is_left_out(&scene, &enforced);
    let what: Vec<Subresource> = enforced.changes.iter().map(|change| change.subresource).collect();
    assert_eq!(what, [Subresource::Policy]);
    liar.policies();
    for _ in 0..2 {
        let again = scene.enforce(Probe::Skip).await.unwrap();
        assert!(again.changes.is_empty() && liar.policies().is_empty(), "{:?}", again.changes);
    }
    // The daily trials find that it is somebody again.
    *is_gone.lock().unwrap() = false;
    let back = scene.enforce(Probe::Run).await.unwrap();
    assert!(back.unknown_principals.is_empty());
    assert!(scene.policy().await.unwrap().contains("arn:aws:iam::1:user/gone"));
}
