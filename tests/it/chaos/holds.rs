//! The holds of a run: declared while it is disturbed, resolved when it is over.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use kube::api::PostParams;
use serde_json::json;
use toezicht::api::IncidentHold;

use super::bucket_watch::{BucketWatch, DeclaredHold, Version};
use super::run::REST;
use super::watchdog::Shared;
use super::world::{SITES, World, until_done};
use crate::operator::process::{release_lease, wait_for_leader};

/// Declares the first hold over half of the cameras of the first site, without an end, or the second over the whole other site,
/// with a window that ends during the run.
pub async fn declare(world: &World, shared: &Shared, number: u32, run_seconds: u32) {
    let cameras =
        world.cameras.iter().filter(|camera| camera.site == number).map(|camera| camera.name.clone());
    // The client sends whole seconds.
    let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap();
    let hold = if number == 0 {
        let half = cameras.enumerate().filter(|(index, _)| index % 2 == 0).map(|(_, name)| name).collect();
        let from = now - SignedDuration::from_secs(20);
        DeclaredHold { name: "ongoing".into(), site: 0, cameras: half, from, until: None }
    } else {
        let (from, length) = (now - SignedDuration::from_secs(30), i64::from(run_seconds / 2));
        let until = Some(now + SignedDuration::from_secs(length));
        DeclaredHold { name: "evening".into(), site: 1, cameras: vec![], from, until }
    };
    let mut window = json!({"from": hold.from});
    if let Some(until) = hold.until {
        window["until"] = json!(until);
    }
    let object = json!({
        "apiVersion": "toezicht.dev/v1alpha1", "kind": "IncidentHold", "metadata": {"name": hold.name},
        "spec": {
            "siteRef": {"name": SITES[number as usize]}, "cameras": hold.cameras, "window": window,
            "purpose": "Theft", "reference": "2026-0412",
        },
    });
    let object: IncidentHold = serde_json::from_value(object).unwrap();
    let api = world.scene.namespace.api::<IncidentHold>();
    let params = PostParams::default();
    until_done("declare a hold", || api.create(&params, &object)).await;
    println!("{} declared {}", Timestamp::now(), hold.name);
    shared.holds.lock().unwrap().push(hold);
}

/// Checks that all versions under a hold are there with their legal hold, whatever was claimed.
pub async fn check_at_end(shared: &Shared, buckets: &[BucketWatch]) {
    let holds = shared.holds.lock().unwrap().clone();
    for hold in &holds {
        let bucket = &buckets[hold.site as usize];
        let covered = bucket.versions.iter().filter(|(_, version)| hold.covers(&version.key));
        let (mut count, mut young) = (0, 0);
        for ((key, id), version) in covered {
            count += 1;
            // Its pass may still come.
            if Timestamp::now().duration_since(version.seen) < SignedDuration::from_secs(90) {
                young += 1;
                continue;
            }
            if !version.is_gone && !bucket.protection(key, id).await.0 {
                shared.report(format!("{}: {key} {id} has no legal hold at the end", hold.name)).await;
            }
        }
        println!("{}: {count} versions, {young} of them young", hold.name);
        if count == 0 {
            shared.report(format!("{}: nothing is held", hold.name)).await;
        }
    }
}

/// Resolves the holds, and checks that they hold nothing any more.
pub async fn release(world: &mut World, shared: &Shared, buckets: &mut [BucketWatch]) {
    // After a killed operator, releases wait a quarter of an hour. The requests of all can land no more: the proxies forward
    // at once.
    world.stop_operators().await;
    release_lease(&world.scene.namespace).await;
    world.start_operator();
    let instance = world.operators.running[0].instance.clone();
    wait_for_leader(&world.scene.namespace, &instance).await;
    let holds = shared.holds.lock().unwrap().clone();
    for hold in &holds {
        world.scene.resolve(&hold.name).await;
    }
    let start = Instant::now();
    loop {
        let open: Vec<String> = {
            let reports = shared.chronicle.reports();
            let latest =
                holds.iter().map(|hold| (hold, reports.latest("IncidentHold", &hold.name, "Released")));
            let open = latest.filter(|(_, change)| !change.is_some_and(|change| change.status == "True"));
            open.map(|(hold, change)| format!("{}: {change:?}", hold.name)).collect()
        };
        if open.is_empty() {
            break;
        }
        if start.elapsed() > REST {
            shared.report(format!("not released {REST:?} after the resolution: {open:#?}")).await;
            return;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    for bucket in buckets {
        bucket.poll(&[]).await;
        let site = bucket.site;
        let covered = |hold: &DeclaredHold, version: &Version| {
            hold.site == site && hold.covers(&version.key) && !version.is_gone
        };
        for ((key, id), version) in &bucket.versions {
            if holds.iter().any(|hold| covered(hold, version)) {
                let (is_held, tag) = bucket.protection(key, id).await;
                if is_held || tag != "video" {
                    shared
                        .report(format!("Released=True, and {key} {id} has hold {is_held}, tag {tag}"))
                        .await;
                }
            }
        }
    }
}
