//! Claims: a bucket belongs to the first Site that claimed it.

use toezicht::storage::{Claim, Claimant, EnforceError, Probe};

use super::scene::Scene;
use crate::support::proxy::Proxy;
use crate::support::settings::S3Server;

async fn second_claimant_writes_nothing(server: S3Server, port: u16) {
    let first = Scene::new(server, "claim");
    first.enforce(Probe::Skip).await.unwrap();
    let policy = first.policy().await;
    let proxy = Proxy::start(&first.server.endpoint, port).await;
    let mut latecomer = first.clone();
    latecomer.operator.endpoint = Some(proxy.endpoint.clone());
    latecomer.recorder.endpoint = Some(proxy.endpoint.clone());
    latecomer.spec.take_over = true;
    let of_this_namespace = Claimant::SameNamespace { site: first.claim.site.clone() };
    for (claim, claimant) in [
        (Claim { cluster_id: "another-cluster".into(), ..first.claim.clone() }, Claimant::OtherCluster),
        (Claim { namespace: "another-namespace".into(), ..first.claim.clone() }, Claimant::SameCluster),
        (Claim { site: "another-site".into(), ..first.claim.clone() }, of_this_namespace),
    ] {
        latecomer.claim = claim;
        let error = latecomer.enforce(Probe::Run).await.unwrap_err();
        assert_eq!(error, EnforceError::ClaimedByOther(claimant));
        let message = error.to_string();
        for name in [&first.claim.cluster_id, &first.claim.namespace, &first.claim.uid] {
            assert!(!message.contains(name.as_str()), "{message} names {name}");
        }
    }
    let requests = proxy.take();
    assert!(!requests.is_empty() && !requests.iter().any(|request| request.is_write()), "{requests:?}");
    assert_eq!(first.policy().await, policy);
    assert!(first.enforce(Probe::Skip).await.unwrap().changes.is_empty(), "the owner's bucket is unchanged");
}

#[tokio::test]
async fn seaweedfs_second_claimant_writes_nothing() {
    second_claimant_writes_nothing(S3Server::primary(), 18435).await;
}

#[tokio::test]
async fn ceph_second_claimant_writes_nothing() {
    second_claimant_writes_nothing(S3Server::secondary(), 18436).await;
}

/// Checks that if two clusters claim a bucket concurrently, one wins, even if the store ignores conditional puts.
async fn concurrent_claims_have_one_winner(server: S3Server) {
    for round in 0..5 {
        let one = Scene::new(server.clone(), "race");
        let client = one.operator_client();
        client
            .create_bucket()
            .bucket(one.bucket())
            .object_lock_enabled_for_bucket(true)
            .send()
            .await
            .unwrap();
        let mut other = one.clone();
        other.claim.cluster_id = "another-cluster".into();
        let (a, b) = tokio::join!(one.enforce(Probe::Skip), other.enforce(Probe::Skip));
        let lost = |result: &Result<_, EnforceError>| matches!(result, Err(EnforceError::ClaimedByOther(_)));
        assert!(lost(&a) != lost(&b), "round {round}: {a:?} {b:?}");
        // The loser leaves no claim behind and loses again.
        assert_eq!(one.versions("ledger/owner.json").await.len(), 1, "round {round}");
        let (winner, loser) = if lost(&a) { (&other, &one) } else { (&one, &other) };
        assert!(winner.enforce(Probe::Skip).await.is_ok());
        let error = loser.enforce(Probe::Skip).await.unwrap_err();
        assert_eq!(error, EnforceError::ClaimedByOther(Claimant::OtherCluster));
    }
}

#[tokio::test]
async fn seaweedfs_concurrent_claims_have_one_winner() {
    concurrent_claims_have_one_winner(S3Server::primary()).await;
}

#[tokio::test]
async fn ceph_concurrent_claims_have_one_winner() {
    concurrent_claims_have_one_winner(S3Server::secondary()).await;
}

async fn recreated_site_keeps_its_bucket(server: S3Server) {
    let mut scene = Scene::new(server, "again");
    scene.enforce(Probe::Skip).await.unwrap();
    scene.claim.uid = "22222222-2222-2222-2222-222222222222".into();
    let again = scene.enforce(Probe::Skip).await.unwrap();
    assert!(again.changes.is_empty(), "{:?}", again.changes);
}

#[tokio::test]
async fn seaweedfs_recreated_site_keeps_its_bucket() {
    recreated_site_keeps_its_bucket(S3Server::primary()).await;
}

#[tokio::test]
async fn ceph_recreated_site_keeps_its_bucket() {
    recreated_site_keeps_its_bucket(S3Server::secondary()).await;
}

/// Checks that overwriting the claim has no effect: the oldest version counts.
async fn overwritten_claim_is_ignored(server: S3Server) {
    let scene = Scene::new(server, "newer");
    scene.enforce(Probe::Skip).await.unwrap();
    let thief = Claim { site: "thief".into(), ..scene.claim.clone() };
    let bytes = serde_json::to_vec(&thief).unwrap();
    let client = scene.operator_client();
    client
        .put_object()
        .bucket(scene.bucket())
        .key("ledger/owner.json")
        .body(bytes.into())
        .send()
        .await
        .unwrap();
    client.delete_object().bucket(scene.bucket()).key("ledger/owner.json").send().await.unwrap();
    assert!(scene.enforce(Probe::Skip).await.unwrap().changes.is_empty());
    let claimant = Claimant::SameNamespace { site: scene.claim.site.clone() };
    let stolen = Scene { claim: thief, ..scene };
    assert_eq!(stolen.enforce(Probe::Skip).await.unwrap_err(), EnforceError::ClaimedByOther(claimant));
}

#[tokio::test]
async fn seaweedfs_overwritten_claim_is_ignored() {
    overwritten_claim_is_ignored(S3Server::primary()).await;
}

#[tokio::test]
async fn ceph_overwritten_claim_is_ignored() {
    overwritten_claim_is_ignored(S3Server::secondary()).await;
}
