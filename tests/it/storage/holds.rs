//! Holds, sweep and audit on real stores: held recordings stay, others are deleted, and an audit of the bucket alone
//! confirms it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

use jiff::{SignedDuration, Timestamp, ToSpan};
use toezicht::rules::Window;
use toezicht::rules::hold::entry::LedgerEntry;
use toezicht::rules::hold::scope::{CameraSelector, HoldScope};
use toezicht::rules::retention::{PROTOCOL_CEILINGS, RetentionTerms};
use toezicht::storage::recordings::audit::{AuditOptions, FindingKind, Tally, audit};
use toezicht::storage::recordings::hold::protection_cache::ProtectionCache;
use toezicht::storage::recordings::hold::{PlaceInput, PlaceReport, Release, place};
use toezicht::storage::recordings::ledger;
use toezicht::storage::recordings::open_holds::{OpenHolds, OpenHoldsError};
use toezicht::storage::recordings::sweep::state::{ScanRange, SweepReport};
use toezicht::storage::recordings::sweep::sweep;
use toezicht::storage::{DecisionTime, Probe, Subresource};
use toezicht::wire::StorageTarget;

use super::scene::Scene;
use crate::storage::scene::connect;
use crate::support::settings::S3Server;
use crate::support::wait::wait_until_past;

pub const TERMS: RetentionTerms = RetentionTerms::with_live_view(PROTOCOL_CEILINGS);

pub struct FixedHolds(pub Vec<HoldScope>);

#[async_trait::async_trait]
impl OpenHolds for FixedHolds {
    async fn scopes(&self) -> Result<Vec<HoldScope>, OpenHoldsError> {
        Ok(self.0.clone())
    }
}

struct UnknownHolds;

#[async_trait::async_trait]
impl OpenHolds for UnknownHolds {
    async fn scopes(&self) -> Result<Vec<HoldScope>, OpenHoldsError> {
        Err(OpenHoldsError("the API server does not answer".into()))
    }
}

pub async fn prepared_bucket(server: S3Server) -> Scene {
    let scene = Scene::new(server, "holds");
    scene.enforce(Probe::Skip).await.unwrap();
    scene
}

pub fn hold_scope(cameras: &[&str], from: Timestamp, until: Option<Timestamp>) -> HoldScope {
    let names = cameras.iter().map(|name| (*name).to_owned()).collect();
    HoldScope {
        cameras: if cameras.is_empty() { CameraSelector::All } else { CameraSelector::Named(names) },
        calls: false,
        window: Window::new(from, until),
    }
}

/// Records thirty minutes of two cameras up to a few minutes ago, one minute in every two. Returns the start and the
/// keys.
pub async fn record_half_an_hour(scene: &Scene) -> (Timestamp, Vec<String>) {
    let start = Timestamp::from_second(Timestamp::now().as_second()).unwrap() - 35.minutes();
    let mut keys = Vec::new();
    for camera in ["receptie", "deur"] {
        for minute in 0..15 {
            keys.push(scene.record(camera, start + (2 * minute).minutes()).await);
        }
    }
    (start, keys)
}

static NO_CAMERAS: BTreeMap<String, Timestamp> = BTreeMap::new();
static SHARED_CACHE: LazyLock<ProtectionCache> = LazyLock::new(ProtectionCache::default);

/// Returns a decision time with `now` in place of the store's clock.
pub fn at_time(now: Timestamp) -> DecisionTime {
    DecisionTime { clock_reading: Timestamp::now(), now }
}

pub fn place_input(scopes: &[HoldScope]) -> PlaceInput<'_> {
    PlaceInput {
        scopes,
        cameras: &NO_CAMERAS,
        terms: &TERMS,
        since: None,
        is_every_day: false,
        verified_at: &[],
        manifests: &[],
        closing_scopes: &[],
        cache: &SHARED_CACHE,
        trusted_since: None,
        is_verifying: false,
    }
}

pub async fn place_until_confirmed(operator: &StorageTarget, scopes: &[HoldScope]) -> PlaceReport {
    let mut last = None;
    // Retry as a controller does.
    for _ in 0..40 {
        match place(&connect(operator), &place_input(scopes), Timestamp::now()).await {
            Ok(placed) if placed.is_confirmed() && placed.errors.is_none() => return placed,
            other => last = Some(other.map(|placed| placed.examples)),
        }
    }
    panic!("not proved: {last:?}");
}

/// Releases these entries, with no hold open, and retries as a controller does.
pub async fn release_until_verified(operator: &StorageTarget, closing: &[LedgerEntry], now: Timestamp) {
    let mut last = None;
    let (no_holds, cache) = (FixedHolds(vec![]), ProtectionCache::default());
    let mut release = Release::new(closing, &no_holds, &PROTOCOL_CEILINGS, &cache);
    for _ in 0..40 {
        match release.run_pass(&connect(operator), at_time(now)).await {
            Ok(released) if released.is_verified() => return,
            other => last = Some(other),
        }
    }
    panic!("not released: {last:?}");
}

pub async fn sweep_until_done(operator: &StorageTarget, holds: &[HoldScope], now: Timestamp) -> SweepReport {
    let mut last = None;
    let mut all = SweepReport::default();
    for _ in 0..40 {
        match sweep(
            &connect(operator),
            &PROTOCOL_CEILINGS,
            &FixedHolds(holds.to_vec()),
            &ProtectionCache::default(),
            ScanRange::Boundary,
            at_time(now),
        )
        .await
        {
            Ok(swept) if swept.deleted == 0 => {
                return SweepReport { deleted: all.deleted, bytes: all.bytes, ..swept };
            }
            Ok(swept) => {
                all.deleted += swept.deleted;
                all.bytes += swept.bytes;
            }
            Err(error) => last = Some(error),
        }
    }
    panic!("not swept: {last:?}");
}

/// Returns options to audit a whole bucket and read the protection of every version.
pub fn audit_options() -> AuditOptions {
    AuditOptions {
        terms: TERMS,
        range: ScanRange::All,
        sample_one_in: 1,
        known_holds: None,
        cache: Arc::default(),
    }
}

/// Writes a ledger in which exactly these holds are open, and audits by it.
pub async fn audit_with_holds(scene: &Scene, holds: &[HoldScope], now: Timestamp) -> Tally {
    let accepted_at = Timestamp::now() - SignedDuration::from_hours(1);
    let mut entries = Vec::new();
    for number in 0..2 {
        let uid = format!("{number}");
        let cover = holds.get(number);
        let entry = ledger_entry(uid, cover.unwrap_or(&empty_scope()), accepted_at);
        // Entries that an earlier audit of this test opened are closed.
        entries.push(if cover.is_some() { entry } else { entry.closed(accepted_at) });
    }
    ledger::write_all(&connect(&scene.operator), &entries).await.unwrap();
    let scope = audit_options();
    let mut last = None;
    // Retry as a controller does.
    for _ in 0..5 {
        match audit(&connect(&scene.operator), &scope, now).await {
            Ok(tally) => return tally,
            Err(error) => last = Some(error),
        }
    }
    panic!("not audited: {last:?}");
}

fn empty_scope() -> HoldScope {
    hold_scope(&["nobody"], Timestamp::UNIX_EPOCH, Some(Timestamp::UNIX_EPOCH + SignedDuration::from_secs(1)))
}

/// Holds recordings, passes their ceiling, sweeps and releases.
async fn held_recordings_stay_until_resolution(server: S3Server) {
    let scene = prepared_bucket(server).await;
    let (start, keys) = record_half_an_hour(&scene).await;
    let incident = hold_scope(&["receptie"], start + 10.minutes(), Some(start + 20.minutes()));
    let (held, free): (Vec<_>, Vec<_>) = keys.iter().enumerate().partition(|(n, _)| (5..10).contains(n));
    scene.add_delete_marker(&keys[7]).await;

    let proved = place_until_confirmed(&scene.operator, std::slice::from_ref(&incident)).await;
    assert_eq!(proved.coverage[0].segments, 5);
    for (_, key) in &held {
        assert_eq!(scene.protection(key).await, Some((true, "held".into())), "{key}");
        assert_eq!(scene.versions(key).await.len(), 1, "the delete marker is removed: {key}");
    }
    for (_, key) in &free {
        assert_eq!(scene.protection(key).await, Some((false, "video".into())), "{key}");
    }
    let tally = audit_with_holds(&scene, std::slice::from_ref(&incident), Timestamp::now()).await;
    assert!(tally.is_compliant(), "{:?}", tally.findings);
    assert_eq!((tally.versions, tally.held_versions, tally.inspected_versions), (30, 5, 30));

    // While the open holds are unknown, nothing is deleted.
    let later = Timestamp::now() + SignedDuration::from_hours(28 * 24);
    let refused = sweep(
        &connect(&scene.operator),
        &PROTOCOL_CEILINGS,
        &UnknownHolds,
        &ProtectionCache::default(),
        ScanRange::Boundary,
        at_time(later),
    )
    .await;
    assert!(refused.is_err(), "{refused:?}");
    assert_eq!(audit_with_holds(&scene, &[], later).await.count(FindingKind::Overdue), 30);

    let swept = sweep_until_done(&scene.operator, std::slice::from_ref(&incident), later).await;
    assert_eq!((swept.deleted, swept.held, swept.undeletable), (25, 5, 0), "{swept:?}");
    let tally = audit_with_holds(&scene, std::slice::from_ref(&incident), later).await;
    assert_eq!((tally.versions, tally.held_versions, tally.count(FindingKind::Overdue)), (5, 5, 0));

    // A second hold overlaps. Resolving the first does not release the versions of the second.
    let entry = ledger_entry("0".into(), &incident, Timestamp::now());
    let other = hold_scope(&[], start + 14.minutes(), None);
    let others = FixedHolds(vec![other]);
    let (closing, cache) = ([entry], ProtectionCache::default());
    let mut release = Release::new(&closing, &others, &PROTOCOL_CEILINGS, &cache);
    let done = release.run_pass(&connect(&scene.operator), at_time(later)).await.unwrap();
    // The second hold is not in the ledger yet, so its versions cannot be released finally.
    assert_eq!((done.deleted, done.waiting_for_ledger.len()), (2, 1), "{done:?}");
    assert!(!done.is_verified(), "{done:?}");
    let (no_holds, cache) = (FixedHolds(vec![]), ProtectionCache::default());
    let mut release = Release::new(&closing, &no_holds, &PROTOCOL_CEILINGS, &cache);
    let done = release.run_pass(&connect(&scene.operator), at_time(Timestamp::now())).await.unwrap();
    assert_eq!((done.deleted, done.released), (0, 3), "versions below the ceiling stay: {done:?}");
    for (_, key) in held.iter().skip(2) {
        assert_eq!(scene.protection(key).await, Some((false, "video".into())), "{key}");
    }
}

pub fn ledger_entry(uid: String, cover: &HoldScope, accepted_at: Timestamp) -> LedgerEntry {
    let cameras: Vec<String> = match &cover.cameras {
        CameraSelector::All => vec![],
        CameraSelector::Named(names) => names.iter().cloned().collect(),
    };
    let spec = serde_json::json!({
        "siteRef": {"name": "site"}, "purpose": "Theft", "reference": "2026-1", "cameras": cameras, "window": cover.window,
    });
    let spec = serde_json::from_value(spec).unwrap();
    LedgerEntry::new(uid, "heusden".into(), "incident".into(), &spec, accepted_at)
}

/// Checks that tampering with held versions is detected, reported and reverted.
async fn tampering_is_found_and_reverted(server: S3Server) {
    let scene = prepared_bucket(server).await;
    let (start, keys) = record_half_an_hour(&scene).await;
    let incident = [hold_scope(&[], start, Some(start + 60.minutes()))];
    place_until_confirmed(&scene.operator, &incident).await;

    // Stores report times in whole seconds.
    let proved_at = Timestamp::now() + 1.seconds();
    wait_until_past(proved_at + 1.seconds()).await;
    scene.set_hold(&keys[0], false).await;
    scene.tag(&keys[1], "video").await;
    scene.add_delete_marker(&keys[2]).await;
    scene.put_foreign_object("notes.txt").await;
    // The audit allows for recordings of the last minutes that are not protected yet.
    let soon = Timestamp::now() + 10.minutes();
    let tally = audit_with_holds(&scene, &incident, soon).await;
    for found in [
        FindingKind::HeldUnprotected,
        FindingKind::HeldMistagged,
        FindingKind::HeldHidden,
        FindingKind::UnexpectedObject,
    ] {
        assert_eq!(tally.count(found), 1, "{found:?} in {:?}", tally.findings);
    }
    assert!(!tally.is_compliant());
    let restored = run_command(&scene, &["holds", "restore"]).await;
    assert!(restored.1.contains("kind: IncidentHold"), "{restored:?}");

    let proved = PlaceInput { verified_at: &[Some(proved_at)], ..place_input(&incident) };
    let again = place(&connect(&scene.operator), &proved, Timestamp::now()).await.unwrap();
    let drifted = [Subresource::LegalHold, Subresource::Tag, Subresource::DeleteMarker].map(|what| (what, 1));
    assert_eq!(again.drifted, drifted.into());
    assert_eq!((again.legal_holds_set, again.tagged, again.markers_removed), (1, 1, 1));
    let named: BTreeSet<_> = again.examples.iter().collect();
    assert_eq!(named, keys[..3].iter().collect());
    place_until_confirmed(&scene.operator, &incident).await;

    // Once the hold's ledger entry is closed, remaining legal holds are unexplained.
    let tally = audit_with_holds(&scene, &[], soon).await;
    assert_eq!(tally.count(FindingKind::UnexplainedHold), 30);
    let audited = run_command(&scene, &["audit", "--sample-one-in", "1"]).await;
    assert_eq!(audited.0, Some(4), "{audited:?}");
    assert!(audited.1.contains("VIOLATION  UnexplainedHold     30\n"), "{audited:?}");
}

/// Runs a `toezicht` command and returns its exit code and output.
async fn run_command(scene: &Scene, arguments: &[&str]) -> (Option<i32>, String) {
    let target = &scene.operator;
    let endpoint = target.endpoint.as_deref().unwrap();
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_toezicht"))
        .args(arguments)
        .args([
            "--endpoint",
            endpoint,
            "--region",
            &target.region,
            "--bucket",
            &target.bucket,
            "--path-style",
        ])
        .env("AWS_ACCESS_KEY_ID", scene.keys().access_key_id.reveal())
        .env("AWS_SECRET_ACCESS_KEY", scene.keys().secret_access_key.reveal())
        .output()
        .await
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    (output.status.code(), text)
}

#[tokio::test]
async fn seaweedfs_held_recordings_stay_until_resolution() {
    held_recordings_stay_until_resolution(S3Server::primary()).await;
}

#[tokio::test]
async fn ceph_held_recordings_stay_until_resolution() {
    held_recordings_stay_until_resolution(S3Server::secondary()).await;
}

#[tokio::test]
async fn seaweedfs_tampering_is_found_and_reverted() {
    tampering_is_found_and_reverted(S3Server::primary()).await;
}

#[tokio::test]
async fn ceph_tampering_is_found_and_reverted() {
    tampering_is_found_and_reverted(S3Server::secondary()).await;
}
