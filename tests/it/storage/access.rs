//! Who may access what: principals that are more than one identity, policies that do not come into force, and stores
//! whose policies differ. Other stores are acted out before SeaweedFS.

use toezicht::storage::bucket::probe::{Check, Verdict};
use toezicht::storage::{EnforceError, Probe, RequiredSubresource, SubresourceState};

use super::parts::pretended;
use super::rewriter::{Act, Asked, Liar};
use super::scene::{Scene, client};
use crate::support::settings::S3Server;

const POLICY_VARIABLE: &str = "${aws:username}";
const ARN: &str = "arn:aws:iam::000000000000:user/";

/// A scene whose machines see the server through these rules.
pub async fn scene_with_policy_proxy(
    prefix: &str,
    before: impl Fn(&Asked) -> Act + Send + Sync + 'static,
    after: impl Fn(&Asked, String) -> String + Send + Sync + 'static,
) -> (Scene, Liar) {
    let server = S3Server::primary();
    let liar = Liar::start(&server, before, after).await;
    let mut scene = Scene::new(server, prefix);
    scene.operator.endpoint = Some(liar.endpoint.clone());
    scene.recorder.endpoint = Some(liar.endpoint.clone());
    (scene, liar)
}

/// Puts another word for a word into policies that are put, and takes it out again of those that are read.
async fn renamed(
    prefix: &str,
    word: &'static str,
    other: &'static str,
    only: impl Fn(&str) -> bool + Send + Sync + 'static,
) -> (Scene, Liar) {
    let before = move |asked: &Asked| match asked.policy() {
        Some(policy) if only(&policy) => Act::Instead(policy.replace(word, other)),
        _ => Act::Pass,
    };
    let after = move |asked: &Asked, text: String| {
        if asked.asks("policy") { text.replace(other, word) } else { text }
    };
    scene_with_policy_proxy(prefix, before, after).await
}

pub fn pass(_: &Asked, text: String) -> String {
    text
}

/// What a principal must not be is refused before anything is connected to, whoever's it is.
#[tokio::test]
async fn seaweedfs_policy_variable_as_principal_is_rejected() {
    let mut right = Scene::new(S3Server::primary(), "variable");
    right.operator.endpoint = Some("http://127.0.0.1:1".into());
    for wrong in [POLICY_VARIABLE.to_owned(), format!("{ARN}{POLICY_VARIABLE}"), "*".into(), "a\nb".into()] {
        for whose in 0..4 {
            let mut scene = right.clone();
            match whose {
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

/// A name that a store takes for everybody: here the manager's, which it expands to whoever asks. In an exemption it
/// exempts everybody; in a Deny it stops everybody. It is found before any policy names it.
#[tokio::test]
async fn seaweedfs_principal_matching_everyone_is_rejected() {
    for (word, other, shown) in [
        ("\"manager\"", "\"${aws:username}\"", "exempts everybody"),
        (":user/manager\"", ":user/${aws:username}\"", "stops the"),
    ] {
        let (scene, _liar) = renamed("crowd", word, other, |_| true).await;
        let error = scene.enforce(Probe::Run).await.unwrap_err();
        let EnforceError::AmbiguousPrincipal { principal, evidence } = &error else {
            panic!("{other}: {error:?}")
        };
        assert_eq!(*principal, scene.spec.readers[0]);
        assert!(evidence.contains(shown), "{other}: {evidence}");
        assert!(error.to_string().contains("spec.managers"), "{error}");
        assert_eq!(scene.policy().await, None, "nothing stays of the proof");
        assert!(scene.versions("probe/").await.is_empty(), "canaries are gone");
        // The bucket is not lost: the manager goes, and it is as it must be.
        let mut without = scene.clone();
        without.spec.readers.clear();
        without.enforce(Probe::Run).await.unwrap();
    }
}

/// The same of a store that does so only once the name stands in the policy itself: the table shows it.
#[tokio::test]
async fn seaweedfs_policy_exempting_everyone_is_unfit() {
    let is_final = |policy: &str| policy.contains("\"OthersRead\"");
    let (scene, _liar) = renamed("strange", "\"manager\"", "\"${aws:username}\"", is_final).await;
    let error = scene.enforce(Probe::Run).await.unwrap_err();
    let EnforceError::StoreUnsupported { reason, remedy } = &error else { panic!("{error:?}") };
    assert!(reason.starts_with("EveryoneElseIsDenied: "), "{reason}");
    assert!(remedy.contains("spec.managers"), "{remedy}");
}

/// Identities of the store's own administrators, and others, against the policy as it is then.
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
    for who in admins.iter().chain(&["other", "manager", "recorder"]) {
        let (them, bucket) = (client(&scene.server, scene.server.identity(who)), scene.bucket());
        for key in keys.iter().copied().chain([held.as_str(), unheld.as_str()]) {
            let is_readers = *who == "manager" && (key == keys[1] || key == held);
            let get = them.get_object().bucket(bucket).key(key).send().await;
            assert!(get.is_err() || is_readers, "{who} reads {key}");
            let put = them.put_object().bucket(bucket).key(key).body(b"y".to_vec().into());
            let is_recorders = *who == "recorder" && key.starts_with("video/");
            assert!(is_recorders || put.send().await.is_err(), "{who} writes {key}");
            let _ = them.delete_object().bucket(bucket).key(key).send().await;
        }
        assert!(them.list_object_versions().bucket(bucket).send().await.is_err(), "{who} lists");
    }
    let mut after = scene.versions("").await;
    after.sort();
    assert_eq!(before, after, "nothing was written or deleted");
    // A reader more is proved before it is named, and changes nothing for the others.
    scene.spec.readers.push(scene.server.identity("other").principal.clone());
    let changed = scene.enforce(Probe::Skip).await.unwrap().changes;
    assert_eq!(changed.len(), 1, "{changed:?}");
    let them = client(&scene.server, scene.server.identity("other"));
    let get = them.get_object().bucket(scene.bucket()).key(&unheld).send().await;
    assert!(get.is_err(), "a reader reads what no incident holds");
}

#[tokio::test]
async fn seaweedfs_admins_are_denied() {
    admins_are_denied(S3Server::primary(), &["admin", "operator-admin"]).await;
}

#[tokio::test]
async fn ceph_admins_are_denied() {
    admins_are_denied(S3Server::secondary(), &["admin"]).await;
}

/// A default encryption with the organisation's own key is stronger than ours: no obstacle, no drift, and a gap.
#[tokio::test]
async fn seaweedfs_stronger_encryption_is_kept() {
    for algorithm in ["aws:kms", "aws:kms:dsse"] {
        let rules = format!(
            "<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>{algorithm}</SSEAlgorithm>\
             <KMSMasterKeyID>k</KMSMasterKeyID></ApplyServerSideEncryptionByDefault></Rule></ServerSideEncryptionConfiguration>"
        );
        let (scene, pretend) = pretended(S3Server::primary(), "kms").await;
        let made = scene.operator_client().create_bucket().bucket(scene.bucket());
        made.object_lock_enabled_for_bucket(true).send().await.unwrap();
        pretend.answer("encryption", (200, &rules), 200);
        let enforced = scene.enforce(Probe::Run).await.unwrap();
        let kept = &enforced.observed.required[&RequiredSubresource::Encryption];
        assert!(matches!(kept, SubresourceState::Stronger(how) if *how == algorithm), "{kept:?}");
        assert!(enforced.observed.limitations().join("; ").contains(algorithm));
        for round in 0..3 {
            let writes = pretend.writes();
            assert!(!writes.iter().any(|write| write.contains("encryption")), "{round}: {writes:?}");
            let again = scene.enforce(Probe::Skip).await.unwrap();
            assert!(again.changes.is_empty(), "{:?}", again.changes);
        }
    }
}

/// A store without ACLs answers with a dummy: one grant to nobody is no grant.
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
        let (scene, pretend) = pretended(S3Server::primary(), "acl").await;
        let made = scene.operator_client().create_bucket().bucket(scene.bucket());
        made.object_lock_enabled_for_bucket(true).send().await.unwrap();
        pretend.answer("acl", (200, &acl(&grants)), 200);
        let outcome = scene.enforce(Probe::Skip).await;
        assert_eq!(outcome.is_ok(), is_adopted, "{grants}: {outcome:?}");
    }
}
