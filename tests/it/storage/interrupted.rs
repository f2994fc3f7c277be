//! The next run repairs the state that an interrupted run left behind.

use std::time::Duration;

use toezicht::storage::Probe;

use super::scene::Scene;
use crate::support::settings::S3Server;
use crate::support::wait::{HANG, next_stop};

async fn next_run_repairs_interrupted_run(server: S3Server, step: Duration) {
    let scene = Scene::new(server, "stopped");
    let mut limit = Duration::ZERO;
    let mut stopped = 0;
    // Each run starts from the state that the previous one left, and is stopped a little later.
    while tokio::time::timeout(limit, scene.enforce(Probe::Run)).await.map(Result::unwrap).is_err() {
        stopped += 1;
        limit = next_stop(limit, step);
        assert!(limit < HANG, "enforce never finishes");
    }
    assert!(stopped > 2, "stopped only {stopped} times");
    let again = scene.enforce(Probe::Skip).await.unwrap();
    assert!(again.changes.is_empty(), "{:?}", again.changes);
    assert!(scene.versions("probe/").await.is_empty(), "canaries are deleted");
    assert!(!scene.policy().await.unwrap().contains("ToezichtProof"));

    // The same for a compliant bucket with a new recorder, which is proved again.
    let mut other = scene.clone();
    let identity = scene.server.identity("other").clone();
    other.recorder = super::scene::target(&scene.server, &identity, scene.bucket());
    other.spec.recorder_principal = identity.principal;
    let mut limit = step;
    while tokio::time::timeout(limit, other.enforce(Probe::Skip)).await.map(Result::unwrap).is_err() {
        limit = next_stop(limit, step);
        assert!(limit < HANG, "enforce never finishes");
    }
    assert!(other.enforce(Probe::Run).await.unwrap().changes.is_empty());
    assert!(scene.versions("probe/").await.is_empty(), "canaries are deleted");
}

#[tokio::test]
async fn seaweedfs_next_run_repairs_interrupted_run() {
    next_run_repairs_interrupted_run(S3Server::primary(), Duration::from_millis(25)).await;
}

#[tokio::test]
async fn ceph_next_run_repairs_interrupted_run() {
    next_run_repairs_interrupted_run(S3Server::secondary(), Duration::from_millis(200)).await;
}
