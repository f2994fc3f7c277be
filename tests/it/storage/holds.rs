//! Holds, sweep and audit on real stores: what is held stays, what is not goes, and an audit that asks nobody but the
//! bucket says so.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

use jiff::{SignedDuration, Timestamp, ToSpan};
use toezicht::api::{Ceilings, Days};
use toezicht::contract::StorageTarget;
use toezicht::protocol::Window;
use toezicht::protocol::cover::{Cover, Sources};
use toezicht::storage::audit::{Found, Scope, Tally, audit};
use toezicht::storage::hold::memory::Memory;
use toezicht::storage::hold::{Placed, Release, Task, place};
use toezicht::storage::ledger::{self, Entry};
use toezicht::storage::sweep::{HoldsUnknown, OpenHolds, Reach, Swept, sweep};
use toezicht::storage::{Aspect, Time, Trials};

use super::scene::Scene;
use crate::support::settings::S3Server;
use crate::support::wait::past;

pub const CEILINGS: Ceilings = Ceilings { video: Days(28), calls: Days(7) };

pub struct Declared(pub Vec<Cover>);

#[async_trait::async_trait]
impl OpenHolds for Declared {
    async fn covers(&self) -> Result<Vec<Cover>, HoldsUnknown> {
        Ok(self.0.clone())
    }
}

struct Unknown;

#[async_trait::async_trait]
impl OpenHolds for Unknown {
    async fn covers(&self) -> Result<Vec<Cover>, HoldsUnknown> {
        Err(HoldsUnknown("the API server does not answer".into()))
    }
}

pub async fn prepared(server: S3Server) -> Scene {
    let scene = Scene::new(server, "holds");
    scene.enforce(Trials::Keep).await.unwrap();
    scene
}

pub fn cover(cameras: &[&str], from: Timestamp, until: Option<Timestamp>) -> Cover {
    let names = cameras.iter().map(|name| (*name).to_owned()).collect();
    Cover {
        sources: if cameras.is_empty() { Sources::All } else { Sources::Named(names) },
        calls: false,
        window: Window::new(from, until),
    }
}

/// Thirty minutes of two cameras, a minute a key, up to a few minutes ago.
pub async fn half_an_hour(scene: &Scene) -> (Timestamp, Vec<String>) {
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
static MEMORY: LazyLock<Memory> = LazyLock::new(Memory::default);

/// Decides as if it were `now`.
pub fn as_if(now: Timestamp) -> Time {
    Time { read: Timestamp::now(), now }
}

pub fn task(covers: &[Cover]) -> Task<'_> {
    Task {
        covers,
        cameras: &NO_CAMERAS,
        ceilings: &CEILINGS,
        embargo: None,
        since: None,
        everywhere: false,
        proved_at: &[],
        told: &[],
        closing: &[],
        memory: &MEMORY,
        trusted_since: None,
        is_verifying: false,
    }
}

pub async fn placed(operator: &StorageTarget, covers: &[Cover]) -> Placed {
    let mut last = None;
    // As a controller does: a pass that a store broke off is followed by another.
    for _ in 0..40 {
        match place(operator, &task(covers), Timestamp::now()).await {
            Ok(placed) if placed.is_settled() && placed.refused.is_none() => return placed,
            other => last = Some(other.map(|placed| placed.examples)),
        }
    }
    panic!("not proved: {last:?}");
}

/// By the ledger and nobody else.
pub async fn released(operator: &StorageTarget, closing: &[Entry], now: Timestamp) {
    let mut last = None;
    let (nobody, memory) = (Declared(vec![]), Memory::default());
    let mut release = Release::new(closing, &nobody, &CEILINGS, &memory);
    for _ in 0..40 {
        match release.pass(operator, as_if(now)).await {
            Ok(released) if released.is_proved() => return,
            other => last = Some(other),
        }
    }
    panic!("not released: {last:?}");
}

pub async fn swept(operator: &StorageTarget, holds: &[Cover], now: Timestamp) -> Swept {
    let mut last = None;
    let mut all = Swept::default();
    for _ in 0..40 {
        match sweep(
            operator,
            &CEILINGS,
            &Declared(holds.to_vec()),
            &Memory::default(),
            Reach::Boundary,
            as_if(now),
        )
        .await
        {
            Ok(swept) if swept.deleted == 0 => {
                return Swept { deleted: all.deleted, bytes: all.bytes, ..swept };
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

/// All of a bucket, with all marks.
pub fn scope() -> Scope {
    Scope {
        ceilings: CEILINGS,
        embargo: None,
        reach: Reach::All,
        one_in: 1,
        known: None,
        memory: Arc::default(),
    }
}

/// Audits by a ledger that has these holds open.
pub async fn audited(scene: &Scene, holds: &[Cover], now: Timestamp) -> Tally {
    let long_ago = Timestamp::now() - SignedDuration::from_hours(1);
    let mut entries = Vec::new();
    for number in 0..2 {
        let uid = format!("{number}");
        let cover = holds.get(number);
        let entry = entry_of(uid, cover.unwrap_or(&cover_of_nothing()), long_ago);
        // What another audit of this test had open is closed.
        entries.push(if cover.is_some() { entry } else { entry.closed(long_ago) });
    }
    ledger::write_all(&scene.operator, &entries).await.unwrap();
    let scope = scope();
    let mut last = None;
    // As a controller does.
    for _ in 0..5 {
        match audit(&scene.operator, &scope, now).await {
            Ok(tally) => return tally,
            Err(error) => last = Some(error),
        }
    }
    panic!("not audited: {last:?}");
}

fn cover_of_nothing() -> Cover {
    cover(&["nobody"], Timestamp::UNIX_EPOCH, Some(Timestamp::UNIX_EPOCH + SignedDuration::from_secs(1)))
}

/// Promises one and two, by hand: held, over the ceiling, swept, released.
async fn what_is_held_stays_until_it_is_resolved(server: S3Server) {
    let scene = prepared(server).await;
    let (start, keys) = half_an_hour(&scene).await;
    let incident = cover(&["receptie"], start + 10.minutes(), Some(start + 20.minutes()));
    let (held, free): (Vec<_>, Vec<_>) = keys.iter().enumerate().partition(|(n, _)| (5..10).contains(n));
    scene.hide(&keys[7]).await;

    let proved = placed(&scene.operator, std::slice::from_ref(&incident)).await;
    assert_eq!(proved.coverage[0].segments, 5);
    for (_, key) in &held {
        assert_eq!(scene.marks(key).await, Some((true, "held".into())), "{key}");
        assert_eq!(scene.versions(key).await.len(), 1, "the marker is gone: {key}");
    }
    for (_, key) in &free {
        assert_eq!(scene.marks(key).await, Some((false, "video".into())), "{key}");
    }
    let tally = audited(&scene, std::slice::from_ref(&incident), Timestamp::now()).await;
    assert!(tally.is_compliant(), "{:?}", tally.found);
    assert_eq!((tally.versions, tally.held, tally.inspected), (30, 5, 30));

    // Without knowing the holds, nothing is deleted.
    let later = Timestamp::now() + SignedDuration::from_hours(28 * 24);
    let refused =
        sweep(&scene.operator, &CEILINGS, &Unknown, &Memory::default(), Reach::Boundary, as_if(later)).await;
    assert!(refused.is_err(), "{refused:?}");
    assert_eq!(audited(&scene, &[], later).await.count(Found::Overdue), 30);

    let swept = swept(&scene.operator, std::slice::from_ref(&incident), later).await;
    assert_eq!((swept.deleted, swept.held, swept.resisted), (25, 5, 0), "{swept:?}");
    let tally = audited(&scene, std::slice::from_ref(&incident), later).await;
    assert_eq!((tally.versions, tally.held, tally.count(Found::Overdue)), (5, 5, 0));

    // Another hold over the same: one is resolved, the other keeps its own.
    let entry = entry_of("0".into(), &incident, Timestamp::now());
    let other = cover(&[], start + 14.minutes(), None);
    let others = Declared(vec![other]);
    let (closing, memory) = ([entry], Memory::default());
    let mut release = Release::new(&closing, &others, &CEILINGS, &memory);
    let done = release.pass(&scene.operator, as_if(later)).await.unwrap();
    // The ledger does not have that one yet, so what it keeps is not released for good.
    assert_eq!((done.deleted, done.undecided.len()), (2, 1), "{done:?}");
    assert!(!done.is_proved(), "{done:?}");
    let (nobody, memory) = (Declared(vec![]), Memory::default());
    let mut release = Release::new(&closing, &nobody, &CEILINGS, &memory);
    let done = release.pass(&scene.operator, as_if(Timestamp::now())).await.unwrap();
    assert_eq!((done.deleted, done.released), (0, 3), "what is younger lives on: {done:?}");
    for (_, key) in held.iter().skip(2) {
        assert_eq!(scene.marks(key).await, Some((false, "video".into())), "{key}");
    }
}

pub fn entry_of(uid: String, cover: &Cover, accepted_at: Timestamp) -> Entry {
    let cameras: Vec<String> = match &cover.sources {
        Sources::All => vec![],
        Sources::Named(names) => names.iter().cloned().collect(),
    };
    let spec = serde_json::json!({
        "siteRef": {"name": "site"}, "purpose": "Theft", "reference": "2026-1", "cameras": cameras, "window": cover.window,
    });
    let spec = serde_json::from_value(spec).unwrap();
    Entry::of(uid, "heusden".into(), "incident".into(), &spec, accepted_at)
}

/// Whatever others do to what is held is found, named and put back.
async fn what_is_tampered_with_is_found_and_put_back(server: S3Server) {
    let scene = prepared(server).await;
    let (start, keys) = half_an_hour(&scene).await;
    let incident = [cover(&[], start, Some(start + 60.minutes()))];
    placed(&scene.operator, &incident).await;

    // Stores tell whole seconds.
    let proved_at = Timestamp::now() + 1.seconds();
    past(proved_at + 1.seconds()).await;
    scene.set_hold(&keys[0], false).await;
    scene.tag(&keys[1], "video").await;
    scene.hide(&keys[2]).await;
    scene.put_as_operator("notes.txt").await;
    // What came in the last minutes may still be under way.
    let soon = Timestamp::now() + 10.minutes();
    let tally = audited(&scene, &incident, soon).await;
    for found in [Found::HeldUnprotected, Found::HeldMistagged, Found::HeldHidden, Found::ForeignKey] {
        assert_eq!(tally.count(found), 1, "{found:?} in {:?}", tally.found);
    }
    assert!(!tally.is_compliant());
    let restored = command(&scene, &["holds", "restore"]).await;
    assert!(restored.1.contains("kind: IncidentHold"), "{restored:?}");

    let proved = Task { proved_at: &[Some(proved_at)], ..task(&incident) };
    let again = place(&scene.operator, &proved, Timestamp::now()).await.unwrap();
    let drifted = [Aspect::LegalHold, Aspect::Tag, Aspect::DeleteMarker].map(|what| (what, 1));
    assert_eq!(again.drifted, drifted.into());
    assert_eq!((again.protected, again.tagged, again.rescued), (1, 1, 1));
    let named: BTreeSet<_> = again.examples.iter().collect();
    assert_eq!(named, keys[..3].iter().collect());
    placed(&scene.operator, &incident).await;

    // With the hold resolved and its ledger entry gone, what is still held explains itself to nobody.
    let tally = audited(&scene, &[], soon).await;
    assert_eq!(tally.count(Found::UnexplainedHold), 30);
    let audited = command(&scene, &["audit", "--one-in", "1"]).await;
    assert_eq!(audited.0, Some(4), "{audited:?}");
    assert!(audited.1.contains("VIOLATION  UnexplainedHold     30\n"), "{audited:?}");
}

/// What a person types: its exit code and what it prints.
async fn command(scene: &Scene, words: &[&str]) -> (Option<i32>, String) {
    let target = &scene.operator;
    let endpoint = target.endpoint.as_deref().unwrap();
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_toezicht"))
        .args(words)
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
async fn seaweedfs_keeps_what_is_held_until_it_is_resolved() {
    what_is_held_stays_until_it_is_resolved(S3Server::first()).await;
}

#[tokio::test]
async fn ceph_keeps_what_is_held_until_it_is_resolved() {
    what_is_held_stays_until_it_is_resolved(S3Server::second()).await;
}

#[tokio::test]
async fn seaweedfs_what_is_tampered_with_is_put_back() {
    what_is_tampered_with_is_found_and_put_back(S3Server::first()).await;
}

#[tokio::test]
async fn ceph_what_is_tampered_with_is_put_back() {
    what_is_tampered_with_is_found_and_put_back(S3Server::second()).await;
}
