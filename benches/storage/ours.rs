//! Toezicht itself: the functions that the controllers call.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use toezicht::api::{Ceilings, Days};
use toezicht::contract::StorageTarget;
use toezicht::protocol::Window;
use toezicht::protocol::cover::{Cover, Sources};
use toezicht::storage::Time;
use toezicht::storage::audit::{Scope, audit};
use toezicht::storage::hold::memory::Memory;
use toezicht::storage::hold::{Release, Task, place};
use toezicht::storage::ledger::{self, Entry};
use toezicht::storage::sweep::{HoldsUnknown, OpenHolds, Reach, sweep};

use crate::Took;
use crate::bed::{HELD, timed};

const CEILINGS: Ceilings = Ceilings { video: Days(28), calls: Days(7) };
/// Longer than all the benchmarks' segments together.
const WINDOW: SignedDuration = SignedDuration::from_hours(24 * 27);

struct NoHolds;

#[async_trait]
impl OpenHolds for NoHolds {
    async fn covers(&self) -> Result<Vec<Cover>, HoldsUnknown> {
        Ok(Vec::new())
    }
}

fn window() -> Window {
    Window::new(Timestamp::now() - WINDOW, None)
}

fn hold(sources: Sources) -> Cover {
    Cover { sources, calls: false, window: window() }
}

/// All is over its ceiling, and goes.
pub async fn sweeps(target: &StorageTarget) -> Took {
    let read = Timestamp::now();
    let time = Time { read, now: read + SignedDuration::from_hours(24 * 28) };
    timed(async {
        let memory = Memory::default();
        let swept = sweep(target, &CEILINGS, &NoHolds, &memory, Reach::Boundary, time);
        usize::try_from(swept.await.unwrap().deleted).unwrap()
    })
    .await
}

/// Lists all, and reads the marks of what one hold covers.
pub async fn audits(target: &StorageTarget) -> Took {
    let scope = Scope {
        ceilings: CEILINGS,
        embargo: None,
        reach: Reach::All,
        // Of the rest: next to none, as of the peer's.
        one_in: u32::MAX,
        known: None,
        memory: Arc::default(),
    };
    timed(async {
        let tally = audit(target, &scope, Timestamp::now()).await.unwrap();
        assert!(tally.is_compliant(), "{:?}", tally.found);
        assert!(tally.inspected >= tally.held && tally.held > 0);
        usize::try_from(tally.versions).unwrap()
    })
    .await
}

/// Every segment gets its legal hold and its tag.
pub async fn places(target: &StorageTarget) -> Took {
    placed(target, Sources::All).await
}

/// The segments of one camera do, for a hold that the ledger has.
pub async fn places_some(target: &StorageTarget) -> Took {
    ledger::write_all(target, &[entry(&[HELD])]).await.unwrap();
    placed(target, Sources::Named([HELD.to_owned()].into())).await
}

async fn placed(target: &StorageTarget, sources: Sources) -> Took {
    let covers = [hold(sources)];
    let task = Task {
        covers: &covers,
        cameras: &BTreeMap::new(),
        ceilings: &CEILINGS,
        embargo: None,
        since: None,
        proved_at: &[],
        everywhere: false,
        told: &[],
        closing: &[],
        memory: &Memory::default(),
        trusted_since: None,
        is_verifying: false,
    };
    timed(async {
        let placed = place(target, &task, Timestamp::now()).await.unwrap();
        assert_eq!(placed.protected, placed.tagged);
        usize::try_from(placed.protected).unwrap()
    })
    .await
}

/// Every segment gets its tag back, and its legal hold goes.
pub async fn releases(target: &StorageTarget) -> Took {
    released(target, &[]).await
}

/// The segments of one camera do.
pub async fn releases_some(target: &StorageTarget) -> Took {
    released(target, &[HELD]).await
}

async fn released(target: &StorageTarget, cameras: &[&str]) -> Took {
    let (closing, memory) = ([entry(cameras)], Memory::default());
    let time = Time::of(Timestamp::now());
    timed(async {
        let mut release = Release::new(&closing, &NoHolds, &CEILINGS, &memory);
        let done = release.pass(target, time).await.unwrap();
        usize::try_from(done.released).unwrap()
    })
    .await
}

fn entry(cameras: &[&str]) -> Entry {
    let spec = json!({
        "siteRef": {"name": "bench"}, "purpose": "Theft", "reference": "2026-1", "cameras": cameras, "window": window(),
    });
    let spec = serde_json::from_value(spec).unwrap();
    let text = |text: &str| text.to_owned();
    Entry::of(text("11"), text("bench"), text("bench"), &spec, Timestamp::now())
}
