//! Tasks for people, honest and hostile, and for events of the store and the cluster.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use toezicht::api::IncidentHold;
use toezicht::rules::Window;
use toezicht::rules::recording::key::Class;
use tokio::time::sleep;

use super::api::{Incident, is_resolved, scope_of};
use super::http::{Shared, lock};
use super::profile::{AdminTampering, Attack};
use super::store::{Actor, Caller};
use super::world::World;

/// Waits for a random number of minutes. Returns whether the trouble phase is still on.
async fn wait_minutes(world: &Shared, range: std::ops::Range<u64>) -> bool {
    let seconds = {
        let mut world = lock(world);
        60 * world.rng.u64(range) / world.profile.people_speed
    };
    sleep(Duration::from_secs(seconds)).await;
    let world = lock(world);
    !world.is_calm && !world.has_violations()
}

fn hours(hours: i64) -> SignedDuration {
    SignedDuration::from_hours(hours)
}

/// Declares, widens and resolves holds.
pub async fn declare(world: Shared) {
    while wait_minutes(&world, 10..180).await {
        let world = &mut *lock(&world);
        let now = world.now();
        let open = world.api.open(now);
        let choice = world.rng.u32(0..10);
        match (open.len(), choice) {
            (0, _) | (1..4, 0..=3) => declare_incident(world, now),
            (_, 4..=6) => {
                let uid = world.rng.choice(open.iter()).unwrap().clone();
                widen(world, &uid, now);
            }
            (_, _) => {
                let uid = world.rng.choice(open.iter()).unwrap().clone();
                world.log_trace(|| format!("{uid} is resolved"));
                world.api.resolve(&uid, now);
            }
        }
    }
}

fn declare_incident(world: &mut World, now: Timestamp) {
    let cameras: Vec<String> = {
        let all = world.recorders.all.keys().filter(|(class, _)| *class == Class::Video);
        let all: Vec<String> = all.map(|(_, source)| source.clone()).collect();
        let count = world.rng.usize(0..3);
        world.rng.choose_multiple(all, count)
    };
    let from = now - SignedDuration::from_mins(world.rng.i64(1..4000));
    let until = match world.rng.u32(0..3) {
        0 => None,
        _ => Some(from + SignedDuration::from_mins(world.rng.i64(5..900))),
    };
    let incident = Incident {
        name: format!("h{}", world.rng.u32(0..1_000_000)),
        cameras,
        calls: world.rng.bool(),
        window: Window::new(from, until),
    };
    let uid = world.api.declare(&incident, now);
    world.log_trace(|| format!("{uid} is declared: {incident:?}"));
    record_declaration(world, &uid, now);
}

/// Declares a new hold over just released recordings, in one of five seeds. A protection that was read for one hold
/// must not count for another.
pub async fn redeclare(world: Shared) {
    let mut redeclared = BTreeSet::new();
    loop {
        sleep(Duration::from_secs(20)).await;
        let world = &mut *lock(&world);
        if !world.redeclares_released() || world.is_calm || world.has_violations() {
            return;
        }
        let released = |hold: &&IncidentHold| {
            let placement = hold.status.as_ref()?.placement.as_ref()?;
            placement.release_time.as_ref().map(|_| hold.metadata.uid.clone())
        };
        let mut all = world.api.holds.values();
        let Some(hold) = all.find(|hold| released(hold).flatten().is_some_and(|uid| redeclared.insert(uid)))
        else {
            continue;
        };
        let (spec, now) = (hold.spec.clone(), world.now());
        let incident = Incident {
            name: format!("h{}", world.rng.u32(0..1_000_000)),
            cameras: spec.cameras,
            calls: spec.include_calls,
            window: Window::new(spec.window.from.0, spec.window.until.map(|until| until.0)),
        };
        if spec.window.from.0 > now {
            continue;
        }
        let uid = world.api.declare(&incident, now);
        world.log_trace(|| format!("{uid} is declared over what was released: {incident:?}"));
        record_declaration(world, &uid, now);
    }
}

/// Records the scope that a hold has from now on.
fn record_declaration(world: &mut World, uid: &str, now: Timestamp) {
    let scope = scope_of(&world.api.holds[uid]);
    world.checks.record_declaration(uid, scope, &world.store, now);
}

pub fn widen(world: &mut World, uid: &str, now: Timestamp) {
    let later = now + SignedDuration::from_mins(world.rng.i64(-300..600));
    let choice = world.rng.u32(0..3);
    let mut sources: Vec<String> = world.recorders.all.keys().map(|(_, source)| source.clone()).collect();
    let another = world.rng.usize(0..sources.len());
    let another = sources.swap_remove(another);
    world.api.change(uid, |hold| {
        let spec = &mut hold.spec;
        let until = spec.window.until.as_ref().map(|until| until.0);
        match choice {
            0 => spec.include_calls = true,
            1 if !spec.cameras.is_empty() && !spec.cameras.contains(&another) => spec.cameras.push(another),
            _ => {
                let least = until.unwrap_or(spec.window.from.0 + SignedDuration::from_secs(1));
                spec.window.until = Some(Time(later.max(least)));
            }
        }
    });
    let spec = world.api.holds[uid].spec.clone();
    world.log_trace(|| {
        format!("{uid} is widened: {:?} {:?} {}", spec.cameras, spec.window, spec.include_calls)
    });
    record_declaration(world, uid, now);
}

/// Restores the cluster from a backup without some holds, which the ledger still has. Some are created again.
pub async fn restore(world: Shared) {
    while wait_minutes(&world, 100..1500).await {
        let world = &mut *lock(&world);
        let now = world.now();
        let uids: Vec<String> = super::checks::open_entries(&world.store).into_keys().collect();
        let known: Vec<String> = uids.into_iter().filter(|uid| world.api.holds.contains_key(uid)).collect();
        let Some(uid) = world.rng.choice(known.iter()).cloned() else {
            continue;
        };
        if is_resolved(&world.api.holds[&uid], now) {
            continue;
        }
        let is_recreated = world.rng.bool();
        lose_in_restore(world, &uid, is_recreated, now);
    }
}

/// Removes a hold as in a restored cluster, and may create it again.
pub fn lose_in_restore(world: &mut World, uid: &str, is_recreated: bool, now: Timestamp) {
    let Some(hold) = world.api.holds.remove(uid) else {
        return;
    };
    world.log_trace(|| format!("{uid} is lost in a restore"));
    // Its status is lost too.
    world.checks.withdraw_placed(uid);
    if is_recreated {
        let incident = Incident {
            name: hold.metadata.name.clone().unwrap(),
            cameras: hold.spec.cameras.clone(),
            calls: hold.spec.include_calls,
            window: Window::new(
                hold.spec.window.from.0,
                hold.spec.window.until.as_ref().map(|until| until.0),
            ),
        };
        let successor = world.api.declare(&incident, now);
        world.log_trace(|| format!("{successor} is created in its place"));
        record_declaration(world, &successor, now);
    }
}

/// Makes the API server unavailable for a while, and steps clocks.
pub async fn disturb_cluster(world: Shared) {
    loop {
        if !wait_minutes(&world, 40..500).await {
            let mut world = lock(&world);
            world.api.is_unavailable = false;
            world.ahead = [0, 0];
            return;
        }
        {
            let world = &mut *lock(&world);
            match world.rng.u32(0..3) {
                0 => world.api.is_unavailable = true,
                1 => {
                    let n = world.rng.usize(0..2);
                    world.ahead[n] = *world
                        .rng
                        .choice(&[30_000, -50_000, 600_000, -600_000, 7_200_000, -7_200_000, 864_000_000])
                        .unwrap();
                    let ahead = world.ahead[n];
                    world.log_trace(|| format!("the clock of operator {n} steps to {ahead} ms ahead"));
                }
                _ => {
                    world.ahead = [0, 0];
                    world.log_trace(|| "the clocks are right".to_owned());
                }
            }
        }
        wait_minutes(&world, 1..40).await;
        lock(&world).api.is_unavailable = false;
    }
}

/// Ends outages of the API server after a short time.
pub async fn end_api_outages(world: Shared) {
    while wait_minutes(&world, 1..15).await {
        lock(&world).api.is_unavailable = false;
    }
    lock(&world).api.is_unavailable = false;
}

/// Puts objects with stolen recorder credentials.
pub async fn attack(world: Shared) {
    const KEYS: [&str; 17] = [
        "video/hal-2/\u{2}/x",
        "video/hal.b/\u{1}",
        "calls/balie/\u{3}/x",
        "video/x",
        "video/\u{1}",
        "video/!",
        "video/hal",
        "video/hal-2",
        "video/\u{fffd}/a",
        "video/hal/\u{2}/x",
        "video/hal/notes.txt",
        "video/hal-2/2026/03/04/\u{7f}",
        "calls/~",
        "calls/!",
        "calls/\u{1}/x",
        "video//",
        "video/hal/2026/03/04/000000.000Z-1000-0000000000000000.mp4 ",
    ];
    while wait_minutes(&world, 60..700).await {
        let world = &mut *lock(&world);
        let (now, sealed) = (world.store_now(), world.rng.bool());
        let tag = if sealed { "sealed" } else { "video" };
        let mut keys: Vec<String> = Vec::new();
        match *world.rng.choice(world.profile.attacks.iter()).unwrap() {
            Attack::OddKeys => keys.push((*world.rng.choice(&KEYS).unwrap()).to_owned()),
            Attack::ManySources => {
                let class = if world.rng.bool() { "video" } else { "calls" };
                keys.extend((0..world.rng.u32(2..30)).map(|n| format!("{class}/a{n:04}/x")));
            }
            Attack::FarFuture => {
                let year = world.rng.u32(2020..9999);
                keys.push(format!("video/hal/{year}/01/01/000000.000Z-60000-00000000000000ff.mp4"));
            }
            Attack::ManyVersions => {
                // Repeated versions of an honest recorder's key.
                if let Some(key) = recording(world) {
                    keys.extend(std::iter::repeat_n(key, world.rng.usize(1..9)));
                }
            }
            Attack::Crowd => {
                if let Some(key) = recording(world) {
                    keys.extend(std::iter::repeat_n(format!("{key} "), world.store.kind.page + 1));
                }
            }
            Attack::EachDay => {
                let year = world.rng.u32(1..2026);
                let days = (1..13).flat_map(|month| (1..29).map(move |day| (month, day)));
                keys.extend(days.map(|(month, day)| {
                    format!("video/hal/{year:04}/{month:02}/{day:02}/000000.000Z-60000-00000000000000ff.mp4")
                }));
            }
        }
        for key in keys {
            let by = Caller { actor: Actor::Hostile, now, sent: now };
            let tags = vec![("toezicht-retention".to_owned(), tag.to_owned())];
            let _ = world.store.put(by, &key, Arc::from(b"x".as_slice()), tags, false);
        }
        world.check_effects();
    }
}

/// Draws a stored key of a camera.
fn recording(world: &mut World) -> Option<String> {
    let recordings: Vec<String> = world
        .store
        .versions()
        .filter(|(key, _)| key.starts_with("video/h"))
        .map(|(key, _)| key.clone())
        .collect();
    world.rng.choice(recordings)
}

/// Tampers with held versions and the ledger as the store's administrator.
pub async fn tamper_repeatedly(world: Shared) {
    while wait_minutes(&world, 120..1000).await {
        let world = &mut *lock(&world);
        let held: Vec<(String, String)> = {
            let held = world.store.versions().filter(|(_, version)| version.is_held());
            held.map(|(key, version)| (key.clone(), version.id.clone())).collect()
        };
        match *world.rng.choice(world.profile.tampering.iter()).unwrap() {
            AdminTampering::Marks => {
                let Some((key, id)) = world.rng.choice(held) else {
                    continue;
                };
                let is_gone = world.rng.bool();
                let tampering = if is_gone { Tampering::Destroy } else { Tampering::ClearHold };
                tamper(world, &key, &id, tampering);
            }
            AdminTampering::Hides => {
                let Some((key, id)) = world.rng.choice(held) else {
                    continue;
                };
                tamper(world, &key, &id, Tampering::Hides);
            }
            AdminTampering::TampersWithLedger => {
                let by = world.administrator();
                tamper_with_ledger(world, by);
            }
        }
        world.check_effects();
    }
}

/// Tampering with a held version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tampering {
    /// Clears its legal hold.
    ClearHold,
    Hides,
    Destroy,
}

pub fn tamper(world: &mut World, key: &str, id: &str, tampering: Tampering) {
    let by = world.administrator();
    if tampering == Tampering::Hides {
        let _ = world.store.delete(by, key, None);
        return;
    }
    let _ = world.store.set_hold(by, key, id, false);
    if tampering == Tampering::Destroy {
        let _ = world.store.delete(by, key, Some(id));
    }
}

/// Hides, rolls back or deletes a ledger entry.
fn tamper_with_ledger(world: &mut World, by: Caller) {
    let keys: Vec<String> =
        world.store.keys.keys().filter(|key| key.starts_with("ledger/holds/")).cloned().collect();
    let Some(key) = world.rng.choice(keys) else { return };
    // A hold that only the ledger knows could not be recovered.
    let uid = key.trim_start_matches("ledger/holds/").trim_end_matches(".json").to_owned();
    if !world.api.holds.contains_key(&uid) {
        return;
    }
    world.checks.ledger_disturbed = Some(by.sent);
    match world.rng.u32(0..3) {
        0 => {
            let _ = world.store.delete(by, &key, None);
        }
        1 => {
            let newest = world.store.keys[&key][0].id.clone();
            let _ = world.store.delete(by, &key, Some(&newest));
        }
        _ => {
            while let Some(id) = world.store.keys.get(&key).map(|versions| versions[0].id.clone()) {
                let _ = world.store.delete(by, &key, Some(&id));
            }
        }
    }
    world.log_trace(|| format!("{key} is tampered with"));
}

/// Runs the store's lifecycle every hour.
pub async fn expire(world: Shared) {
    loop {
        sleep(Duration::from_hours(1)).await;
        let world = &mut *lock(&world);
        if world.has_violations() {
            return;
        }
        let (now, sent) = (world.store_now() - hours(world.store.kind.lifecycle_lag), world.now());
        world.store.expire(now, sent);
        world.check_effects();
    }
}
