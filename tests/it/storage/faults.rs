//! Faults of the store change no outcome. One request in five gets `SlowDown`, a closed connection, a truncated
//! response, a lost response, or no response.

use jiff::{SignedDuration, Timestamp, ToSpan};
use toezicht::storage::Probe;
use toezicht::storage::recordings::audit::{FindingKind, audit};
use toezicht::storage::recordings::ledger;
use toezicht::wire::StorageTarget;

use super::holds::{
    audit_options, audit_with_holds, hold_scope, ledger_entry, place_until_confirmed, record_half_an_hour,
    release_until_verified, sweep_until_done,
};
use super::scene::Scene;
use crate::storage::scene::connect;
use crate::support::proxy::Proxy;
use crate::support::settings::S3Server;

/// Retries an operation, as controllers do.
async fn retry<T, E: std::fmt::Debug>(description: &str, operation: impl AsyncFn() -> Result<T, E>) -> T {
    let mut last = None;
    for _ in 0..40 {
        match operation().await {
            Ok(done) => return done,
            Err(error) => last = Some(error),
        }
    }
    panic!("{description}: {last:?}");
}

async fn faulty_store_changes_no_outcome(server: S3Server, port: u16) {
    let proxy = Proxy::start(&server.endpoint, port).await;
    let scene = Scene::new(server, "stumbles");
    let faulty = StorageTarget { endpoint: Some(proxy.endpoint.clone()), ..scene.operator.clone() };
    proxy.set_faulty(true);
    let via_proxy = Scene { operator: faulty.clone(), ..scene.clone() };
    retry("enforce", async || via_proxy.enforce(Probe::Skip).await).await;
    let changed = scene.enforce(Probe::Skip).await.unwrap().changes;
    assert!(changed.is_empty(), "{changed:?}");

    let (start, _) = record_half_an_hour(&scene).await;
    let incident = hold_scope(&[], start + 10.minutes(), Some(start + 20.minutes()));
    let held = std::slice::from_ref(&incident);
    place_until_confirmed(&faulty, held).await;
    let later = Timestamp::now() + SignedDuration::from_hours(28 * 24);
    let swept = sweep_until_done(&faulty, held, later).await;
    assert_eq!((swept.held, swept.undeletable), (10, 0), "{swept:?}");
    let tally = audit_with_holds(&scene, held, later).await;
    assert_eq!((tally.versions, tally.held_versions, tally.count(FindingKind::Overdue)), (10, 10, 0));
    assert!(tally.is_compliant(), "{:?}", tally.findings);
    let scope = audit_options();
    let via_proxy = retry("audit", async || audit(&connect(&faulty), &scope, later).await).await;
    assert_eq!(via_proxy, tally);

    let entry = ledger_entry("0".into(), &incident, Timestamp::now());
    let entries = std::slice::from_ref(&entry);
    release_until_verified(&faulty, entries, later).await;
    let closed = [entry.closed(later)];
    retry("ledger", async || ledger::write_all(&connect(&faulty), &closed).await).await;
    assert!(proxy.fault_count() > 50, "{}", proxy.fault_count());
    let tally = audit_with_holds(&scene, &[], later).await;
    assert_eq!(
        (tally.versions, tally.delete_markers),
        (0, 0),
        "all recordings are past their ceiling: {tally:?}"
    );
}

#[tokio::test]
async fn seaweedfs_faults_change_no_outcome() {
    faulty_store_changes_no_outcome(S3Server::primary(), 28334).await;
}

#[tokio::test]
async fn ceph_faults_change_no_outcome() {
    faulty_store_changes_no_outcome(S3Server::secondary(), 28335).await;
}
