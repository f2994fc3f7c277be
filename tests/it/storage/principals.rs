//! Mistyped and changed principals.

use toezicht::storage::{EnforceError, Probe, Subresource};

use super::scene::Scene;
use crate::support::settings::S3Server;

async fn mistyped_principal_locks_nobody_out(server: S3Server) {
    let right = Scene::new(server, "typo");
    // A mistyped principal in a new bucket.
    let mut operator = right.clone();
    operator.spec.operator_principal = format!("{}x", right.spec.operator_principal);
    let error = operator.enforce(Probe::Run).await.unwrap_err();
    assert_eq!(error, EnforceError::WrongPrincipal { identity: "operator" });
    assert!(error.to_string().contains("storage.operator.principal"));
    assert_eq!(right.policy().await, None, "the policy of the proof is removed");
    let mut recorder = right.clone();
    recorder.spec.recorder_principal = format!("{}x", right.spec.recorder_principal);
    let error = recorder.enforce(Probe::Run).await.unwrap_err();
    assert_eq!(error, EnforceError::WrongPrincipal { identity: "recorder" });

    // With the correct principal the bucket becomes compliant. In a compliant bucket the same error changes nothing.
    right.enforce(Probe::Run).await.unwrap();
    let policy = right.policy().await.unwrap();
    for wrong in [&operator, &recorder] {
        let error = wrong.enforce(Probe::Skip).await.unwrap_err();
        assert!(matches!(error, EnforceError::WrongPrincipal { .. }), "{error:?}");
    }
    let changed = right.enforce(Probe::Skip).await.unwrap().changes;
    assert!(changed.is_empty(), "{changed:?}");
    let same = |a: &str, b: &str| {
        use toezicht::storage::bucket::policy::document::Policy;
        Policy::parse(a).unwrap() == Policy::parse(b).unwrap()
    };
    assert!(same(&policy, &right.policy().await.unwrap()));
    assert!(right.versions("probe/").await.is_empty(), "canaries are deleted");
}

#[tokio::test]
async fn seaweedfs_mistyped_principal_locks_nobody_out() {
    mistyped_principal_locks_nobody_out(S3Server::primary()).await;
}

#[tokio::test]
async fn ceph_mistyped_principal_locks_nobody_out() {
    mistyped_principal_locks_nobody_out(S3Server::secondary()).await;
}

/// Checks that a new recorder principal is proved although the current policy exempts only the old one.
async fn recorder_principal_can_change(server: S3Server) {
    let before = Scene::new(server, "rotate");
    before.enforce(Probe::Skip).await.unwrap();
    let mut after = before.clone();
    let other = before.server.identity("other").clone();
    after.recorder = super::scene::target(&before.server, &other, before.bucket());
    after.spec.recorder_principal = other.principal;
    let enforced = after.enforce(Probe::Run).await.unwrap();
    assert_eq!(
        enforced.changes.iter().map(|change| change.subresource).collect::<Vec<_>>(),
        [Subresource::Policy]
    );
    assert!(after.enforce(Probe::Skip).await.unwrap().changes.is_empty());
}

#[tokio::test]
async fn seaweedfs_recorder_principal_can_change() {
    recorder_principal_can_change(S3Server::primary()).await;
}

#[tokio::test]
async fn ceph_recorder_principal_can_change() {
    recorder_principal_can_change(S3Server::secondary()).await;
}
