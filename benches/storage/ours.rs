//! Toezicht itself: the functions that the controllers call.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use toezicht::rules::Window;
use toezicht::rules::hold::entry::LedgerEntry;
use toezicht::rules::hold::scope::{CameraSelector, HoldScope};
use toezicht::rules::retention::{PROTOCOL_CEILINGS, RetentionTerms};
use toezicht::storage::BucketConnection;
use toezicht::storage::DecisionTime;
use toezicht::storage::recordings::audit::{AuditOptions, audit};
use toezicht::storage::recordings::hold::protection_cache::ProtectionCache;
use toezicht::storage::recordings::hold::{PlaceInput, Release, place};
use toezicht::storage::recordings::ledger;
use toezicht::storage::recordings::open_holds::{OpenHolds, OpenHoldsError};
use toezicht::storage::recordings::sweep::state::ScanRange;
use toezicht::storage::recordings::sweep::sweep;
use toezicht::wire::StorageTarget;

use crate::Measurement;
use crate::bed::{HELD_CAMERA, measure};

const TERMS: RetentionTerms = RetentionTerms::with_live_view(PROTOCOL_CEILINGS);
/// Longer than all the benchmarks' segments together.
const WINDOW: SignedDuration = SignedDuration::from_hours(24 * 27);

struct NoHolds;

#[async_trait]
impl OpenHolds for NoHolds {
    async fn scopes(&self) -> Result<Vec<HoldScope>, OpenHoldsError> {
        Ok(Vec::new())
    }
}

fn connect(target: &StorageTarget) -> BucketConnection {
    BucketConnection::new(target).unwrap()
}

fn window() -> Window {
    Window::new(Timestamp::now() - WINDOW, None)
}

fn hold_scope(sources: CameraSelector) -> HoldScope {
    HoldScope { cameras: sources, calls: false, window: window() }
}

/// All is over its ceiling, and goes.
pub async fn sweep_all(target: &StorageTarget) -> Measurement {
    let read = Timestamp::now();
    let time = DecisionTime { clock_reading: read, now: read + SignedDuration::from_hours(24 * 28) };
    measure(async {
        let memory = ProtectionCache::default();
        let operator = connect(target);
        let swept = sweep(&operator, &PROTOCOL_CEILINGS, &NoHolds, &memory, ScanRange::Boundary, time);
        usize::try_from(swept.await.unwrap().deleted).unwrap()
    })
    .await
}

/// Lists all, and reads the marks of what one hold covers.
pub async fn audit_all(target: &StorageTarget) -> Measurement {
    let scope = AuditOptions {
        terms: TERMS,
        range: ScanRange::All,
        // Of the rest: next to none, as of the peer's.
        sample_one_in: u32::MAX,
        known_holds: None,
        cache: Arc::default(),
    };
    measure(async {
        let tally = audit(&connect(target), &scope, Timestamp::now()).await.unwrap();
        assert!(tally.is_compliant(), "{:?}", tally.findings);
        assert!(tally.inspected_versions >= tally.held_versions && tally.held_versions > 0);
        usize::try_from(tally.versions).unwrap()
    })
    .await
}

/// Every segment gets its legal hold and its tag.
pub async fn place_all(target: &StorageTarget) -> Measurement {
    place_sources(target, CameraSelector::All).await
}

/// The segments of one camera do, for a hold that the ledger has.
pub async fn place_held_camera(target: &StorageTarget) -> Measurement {
    ledger::write_all(&connect(target), &[ledger_entry(&[HELD_CAMERA])]).await.unwrap();
    place_sources(target, CameraSelector::Named([HELD_CAMERA.to_owned()].into())).await
}

async fn place_sources(target: &StorageTarget, sources: CameraSelector) -> Measurement {
    let covers = [hold_scope(sources)];
    let task = PlaceInput {
        scopes: &covers,
        cameras: &BTreeMap::new(),
        terms: &TERMS,
        since: None,
        verified_at: &[],
        is_every_day: false,
        manifests: &[],
        closing_scopes: &[],
        cache: &ProtectionCache::default(),
        trusted_since: None,
        is_verifying: false,
    };
    measure(async {
        let placed = place(&connect(target), &task, Timestamp::now()).await.unwrap();
        assert_eq!(placed.legal_holds_set, placed.tagged);
        usize::try_from(placed.legal_holds_set).unwrap()
    })
    .await
}

/// Every segment gets its tag back, and its legal hold goes.
pub async fn release_all(target: &StorageTarget) -> Measurement {
    release_cameras(target, &[]).await
}

/// The segments of one camera do.
pub async fn release_held_camera(target: &StorageTarget) -> Measurement {
    release_cameras(target, &[HELD_CAMERA]).await
}

async fn release_cameras(target: &StorageTarget, cameras: &[&str]) -> Measurement {
    let (closing, memory) = ([ledger_entry(cameras)], ProtectionCache::default());
    let time = DecisionTime::at(Timestamp::now());
    measure(async {
        let mut release = Release::new(&closing, &NoHolds, &PROTOCOL_CEILINGS, &memory);
        let done = release.run_pass(&connect(target), time).await.unwrap();
        usize::try_from(done.released).unwrap()
    })
    .await
}

fn ledger_entry(cameras: &[&str]) -> LedgerEntry {
    let spec = json!({
        "siteRef": {"name": "bench"}, "purpose": "Theft", "reference": "2026-1", "cameras": cameras, "window": window(),
    });
    let spec = serde_json::from_value(spec).unwrap();
    let text = |text: &str| text.to_owned();
    LedgerEntry::new(text("11"), text("bench"), text("bench"), &spec, Timestamp::now())
}
