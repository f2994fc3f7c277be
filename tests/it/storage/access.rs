//! Access control: principals that match several identities, and stores that interpret policies differently. A proxy
//! in front of SeaweedFS imitates other stores.

use toezicht::storage::bucket::probe::{Check, Verdict};
use toezicht::storage::{EnforceError, Probe, RequiredSubresource, SubresourceState};

use super::rewriting_proxy::{InterceptedRequest, ProxyAction, RewritingProxy};
use super::scene::{Scene, client};
use super::subresources::scene_with_overrides;
use crate::support::settings::S3Server;

const POLICY_VARIABLE: &str = "${aws:username}";
const ARN: &str = "arn:aws:iam::000000000000:user/";

/// Returns a scene whose operator and recorder reach the server through a proxy with these rules.
pub async fn scene_with_policy_proxy(
    prefix: &str,
    before: impl Fn(&InterceptedRequest) -> ProxyAction + Send + Sync + 'static,
    after: impl Fn(&InterceptedRequest, String) -> String + Send + Sync + 'static,
) -> (Scene, RewritingProxy) {
    let server = S3Server::primary();
    let proxy = RewritingProxy::start(&server, before, after).await;
    let mut scene = Scene::new(server, prefix);
    scene.operator.endpoint = Some(proxy.endpoint.clone());
    scene.recorder.endpoint = Some(proxy.endpoint.clone());
    (scene, proxy)
}

/// Returns a scene in which the proxy replaces a word in stored policies and restores it in returned ones.
async fn scene_with_replaced_policy_text(
    prefix: &str,
    word: &'static str,
    other: &'static str,
    applies_to: impl Fn(&str) -> bool + Send + Sync + 'static,
) -> (Scene, RewritingProxy) {
    let before = move |request: &InterceptedRequest| match request.policy() {
        Some(policy) if applies_to(&policy) => ProxyAction::ReplacePolicy(policy.replace(word, other)),
        _ => ProxyAction::Forward,
    };
    let after = move |request: &InterceptedRequest, text: String| {
        if request.is_for_subresource("policy") { text.replace(other, word) } else { text }
    };
    scene_with_policy_proxy(prefix, before, after).await
}

pub fn keep_response(_: &InterceptedRequest, text: String) -> String {
    text
}

/// A principal with a wildcard, a policy variable or a line break is rejected before any connection, in every role.
#[tokio::test]
async fn seaweedfs_policy_variable_as_principal_is_rejected() {
    let mut right = Scene::new(S3Server::primary(), "variable");
    right.operator.endpoint = Some("http://127.0.0.1:1".into());
    for wrong in [POLICY_VARIABLE.to_owned(), format!("{ARN}{POLICY_VARIABLE}"), "*".into(), "a\nb".into()] {
        for role in 0..4 {
            let mut scene = right.clone();
            match role {
                0 => scene.spec.operator_principal.clone_from(&wrong),
                1 => scene.spec.recorder_principal.clone_from(&wrong),
                2 => scene.spec.auditor = Some(wrong.clone()),
                _ => scene.spec.readers.push(wrong.clone()),
            }
            let error = scene.enforce(Probe::Skip).await.unwrap_err();
            assert!(
                matches!(error, EnforceError::Rejected { .. } | EnforceError::Unadoptable { .. }),
                "{error:?}"
            );
            assert!(error.to_string().contains("article 4.1"), "{error}");
        }
    }
}

/// The store expands a reader's name to every caller. An exemption would then exempt everyone, and a Deny would deny
/// everyone. The operator detects that before it puts a policy with the name.
#[tokio::test]
async fn seaweedfs_principal_matching_everyone_is_rejected() {
    for (word, other, expected_evidence) in [
        ("\"manager\"", "\"${aws:username}\"", "exempts everybody"),
        (":user/manager\"", ":user/${aws:username}\"", "stops the"),
    ] {
        let (scene, _proxy) = scene_with_replaced_policy_text("crowd", word, other, |_| true).await;
        let error = scene.enforce(Probe::Run).await.unwrap_err();
        let EnforceError::AmbiguousPrincipal { principal, evidence } = &error else {
            panic!("{other}: {error:?}")
        };
        assert_eq!(*principal, scene.spec.readers[0]);
        assert!(evidence.contains(expected_evidence), "{other}: {evidence}");
        assert!(error.to_string().contains("spec.managers"), "{error}");
        assert_eq!(scene.policy().await, None, "the policy of the proof is removed");
        assert!(scene.versions("probe/").await.is_empty(), "canaries are deleted");
        // Without the manager, the bucket becomes compliant.
        let mut without = scene.clone();
        without.spec.readers.clear();
        without.enforce(Probe::Run).await.unwrap();
    }
}

/// If the store expands the name only in the final policy, the conformance table detects that.
#[tokio::test]
async fn seaweedfs_policy_exempting_everyone_is_unfit() {
    let is_final = |policy: &str| policy.contains("\"OthersRead\"");
    let (scene, _proxy) =
        scene_with_replaced_policy_text("strange", "\"manager\"", "\"${aws:username}\"", is_final).await;
    let error = scene.enforce(Probe::Run).await.unwrap_err();
    let EnforceError::StoreUnsupported { reason, remedy } = &error else { panic!("{error:?}") };
    assert!(reason.starts_with("EveryoneElseIsDenied: "), "{reason}");
    assert!(remedy.contains("spec.managers"), "{remedy}");
}

/// Checks that the bucket policy denies the store's administrators and all other identities.
async fn admins_are_denied(server: S3Server, admins: &[&str]) {
    let mut scene = Scene::new(server, "admins");
    let enforced = scene.enforce(Probe::Run).await.unwrap();
    let table = enforced.conformance.unwrap();
    assert_eq!(table.verdict(Check::EveryoneElseIsDenied), &Verdict::Passed);
    let keys = ["ledger/owner.json", "ledger/manifests/x.json", "ledger/holds/x.json"];
    for key in &keys[1..] {
        scene.put_foreign_object(key).await;
    }
    let held = scene.record("hal", jiff::Timestamp::now()).await;
    scene.set_hold(&held, true).await;
    scene.tag(&held, "held").await;
    let unheld = scene.record("gang", jiff::Timestamp::now()).await;
    let mut before = scene.versions("").await;
    before.sort();
    for identity in admins.iter().chain(&["other", "manager", "recorder"]) {
        let (client_of_identity, bucket) =
            (client(&scene.server, scene.server.identity(identity)), scene.bucket());
        for key in keys.iter().copied().chain([held.as_str(), unheld.as_str()]) {
            let is_allowed_reader = *identity == "manager" && (key == keys[1] || key == held);
            let get = client_of_identity.get_object().bucket(bucket).key(key).send().await;
            assert!(get.is_err() || is_allowed_reader, "{identity} reads {key}");
            let put = client_of_identity.put_object().bucket(bucket).key(key).body(b"y".to_vec().into());
            let is_allowed_recorder = *identity == "recorder" && key.starts_with("video/");
            assert!(is_allowed_recorder || put.send().await.is_err(), "{identity} writes {key}");
            let _ = client_of_identity.delete_object().bucket(bucket).key(key).send().await;
        }
        assert!(
            client_of_identity.list_object_versions().bucket(bucket).send().await.is_err(),
            "{identity} lists"
        );
    }
    let mut after = scene.versions("").await;
    after.sort();
    assert_eq!(before, after, "nothing was written or deleted");
    // An added reader is proved before the policy names it. The others keep their access.
    scene.spec.readers.push(scene.server.identity("other").principal.clone());
    let changed = scene.enforce(Probe::Skip).await.unwrap().changes;
    assert_eq!(changed.len(), 1, "{changed:?}");
    let client_of_identity = client(&scene.server, scene.server.identity("other"));
    let get = client_of_identity.get_object().bucket(scene.bucket()).key(&unheld).send().await;
    assert!(get.is_err(), "a reader reads a recording without a hold");
}

#[tokio::test]
async fn seaweedfs_admins_are_denied() {
    admins_are_denied(S3Server::primary(), &["admin", "operator-admin"]).await;
}

#[tokio::test]
async fn ceph_admins_are_denied() {
    admins_are_denied(S3Server::secondary(), &["admin"]).await;
}

/// A default encryption with the organisation's own key is stronger than required: it does not block adoption, is no
/// drift, and is reported as a limitation.
#[tokio::test]
async fn seaweedfs_stronger_encryption_is_kept() {
    for algorithm in ["aws:kms", "aws:kms:dsse"] {
        let rules = format!(
            "<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>{algorithm}</SSEAlgorithm>\
             <KMSMasterKeyID>k</KMSMasterKeyID></ApplyServerSideEncryptionByDefault></Rule></ServerSideEncryptionConfiguration>"
        );
        let (scene, overrides) = scene_with_overrides(S3Server::primary(), "kms").await;
        let create = scene.operator_client().create_bucket().bucket(scene.bucket());
        create.object_lock_enabled_for_bucket(true).send().await.unwrap();
        overrides.set_override("encryption", (200, &rules), 200);
        let enforced = scene.enforce(Probe::Run).await.unwrap();
        let encryption = &enforced.observed.required[&RequiredSubresource::Encryption];
        assert!(matches!(encryption, SubresourceState::Stronger(how) if *how == algorithm), "{encryption:?}");
        assert!(enforced.observed.limitations().join("; ").contains(algorithm));
        for round in 0..3 {
            let writes = overrides.take_writes();
            assert!(!writes.iter().any(|write| write.contains("encryption")), "{round}: {writes:?}");
            let again = scene.enforce(Probe::Skip).await.unwrap();
            assert!(again.changes.is_empty(), "{:?}", again.changes);
        }
    }
}

/// A store without ACLs returns a dummy ACL. A single grant without a grantee is no grant.
#[tokio::test]
async fn seaweedfs_acl_granting_nobody_is_adopted() {
    let acl = |grants: &str| {
        format!(
            "<AccessControlPolicy><Owner><ID>o</ID></Owner><AccessControlList>{grants}</AccessControlList></AccessControlPolicy>"
        )
    };
    let grant = |grantee: &str| {
        format!("<Grant><Grantee>{grantee}</Grantee><Permission>FULL_CONTROL</Permission></Grant>")
    };
    let everybody = grant("<URI>http://acs.amazonaws.com/groups/global/AllUsers</URI>");
    for (grants, is_adopted) in [
        (grant("<DisplayName>x</DisplayName>"), true),
        (grant("<ID>other</ID>"), false),
        (everybody.clone(), false),
        (grant("<ID>o</ID>") + &everybody, false),
        (grant("") + &grant(""), false),
    ] {
        let (scene, overrides) = scene_with_overrides(S3Server::primary(), "acl").await;
        let create = scene.operator_client().create_bucket().bucket(scene.bucket());
        create.object_lock_enabled_for_bucket(true).send().await.unwrap();
        overrides.set_override("acl", (200, &acl(&grants)), 200);
        let outcome = scene.enforce(Probe::Skip).await;
        assert_eq!(outcome.is_ok(), is_adopted, "{grants}: {outcome:?}");
    }
}
