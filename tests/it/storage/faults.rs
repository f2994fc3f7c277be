//! A store that stumbles changes no outcome: one request in five is answered with `SlowDown`, broken off, cut short, done
//! without an answer, or done and never answered.

use jiff::{SignedDuration, Timestamp, ToSpan};
use toezicht::storage::Probe;
use toezicht::storage::recordings::audit::{FindingKind, audit};
use toezicht::storage::recordings::ledger;
use toezicht::wire::StorageTarget;

use super::holds::{audited, cover, ledger_entry, placed, record_half_an_hour, released, scope, swept};
use super::scene::Scene;
use crate::storage::scene::connect;
use crate::support::proxy::Proxy;
use crate::support::settings::S3Server;

/// As controllers do: what a store broke off is tried again.
async fn again<T, E: std::fmt::Debug>(what: &str, work: impl AsyncFn() -> Result<T, E>) -> T {
    let mut last = None;
    for _ in 0..40 {
        match work().await {
            Ok(done) => return done,
            Err(error) => last = Some(error),
        }
    }
    panic!("{what}: {last:?}");
}

async fn faulty_store_changes_no_outcome(server: S3Server, port: u16) {
    let proxy = Proxy::start(&server.endpoint, port).await;
    let scene = Scene::new(server, "stumbles");
    let stumbling = StorageTarget { endpoint: Some(proxy.endpoint.clone()), ..scene.operator.clone() };
    proxy.set_faulty(true);
    let through = Scene { operator: stumbling.clone(), ..scene.clone() };
    again("enforce", async || through.enforce(Probe::Skip).await).await;
    let changed = scene.enforce(Probe::Skip).await.unwrap().changes;
    assert!(changed.is_empty(), "{changed:?}");

    let (start, _) = record_half_an_hour(&scene).await;
    let incident = cover(&[], start + 10.minutes(), Some(start + 20.minutes()));
    let held = std::slice::from_ref(&incident);
    placed(&stumbling, held).await;
    let later = Timestamp::now() + SignedDuration::from_hours(28 * 24);
    let swept = swept(&stumbling, held, later).await;
    assert_eq!((swept.held, swept.undeletable), (10, 0), "{swept:?}");
    let tally = audited(&scene, held, later).await;
    assert_eq!((tally.versions, tally.held_versions, tally.count(FindingKind::Overdue)), (10, 10, 0));
    assert!(tally.is_compliant(), "{:?}", tally.findings);
    let scope = scope();
    let through = again("audit", async || audit(&connect(&stumbling), &scope, later).await).await;
    assert_eq!(through, tally);

    let entry = ledger_entry("0".into(), &incident, Timestamp::now());
    let entries = std::slice::from_ref(&entry);
    released(&stumbling, entries, later).await;
    let closed = [entry.closed(later)];
    again("ledger", async || ledger::write_all(&connect(&stumbling), &closed).await).await;
    assert!(proxy.fault_count() > 50, "{}", proxy.fault_count());
    let tally = audited(&scene, &[], later).await;
    assert_eq!((tally.versions, tally.delete_markers), (0, 0), "all was over its ceiling: {tally:?}");
}

#[tokio::test]
async fn seaweedfs_faults_change_no_outcome() {
    faulty_store_changes_no_outcome(S3Server::primary(), 28334).await;
}

#[tokio::test]
async fn ceph_faults_change_no_outcome() {
    faulty_store_changes_no_outcome(S3Server::secondary(), 28335).await;
}
