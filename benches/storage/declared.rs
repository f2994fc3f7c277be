//! From the declaration of a hold to `Placed=True`, on a cluster: the operator of the chart, and recorders that record.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use toezicht::api::IncidentHold;

use crate::Measurement;
use crate::bed::TestBed;
use crate::report::{Line, Section};
use crate::support::scene::{SITE, Scene, has};
use crate::support::settings::S3Server;
use crate::support::tools::run;
use crate::support::{cluster, operator};

/// Cameras that the incident is about, each with a segment a minute.
const CAMERAS: usize = 5;
const MINUTES: usize = 60;
/// The goal.
const GOAL_SECONDS: f64 = 5.0;
const TIMEOUT: Duration = Duration::from_mins(2);
/// How exactly the time is told.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// An hour of five cameras, declared and resolved so many times.
pub async fn bench_placement_latency(bed: &TestBed, rounds: usize) -> Section {
    let _operator = operator::shared().await;
    let scene = Scene::new(&cluster::client().await, "bench", S3Server::primary(), |_, _| ()).await;
    let cameras: Vec<String> = (0..CAMERAS).map(|n| format!("camera-{n:02}")).collect();
    for (n, camera) in cameras.iter().enumerate() {
        scene.camera(camera, &format!("h264/{n}")).await;
    }
    for camera in &cameras {
        scene.wait_for_camera(camera, "Recording", "True", TIMEOUT).await;
    }
    scene.wait_until_settled(TIMEOUT).await;
    let end = bed.fill(&scene.bucket.name, CAMERAS * MINUTES, CAMERAS).await;
    let from = end - SignedDuration::from_mins(i64::try_from(MINUTES).unwrap());
    let mut took = Vec::new();
    for round in 0..rounds {
        let name = format!("incident-{round}");
        let seconds = seconds_to_placed(&scene, &name, &cameras, (from, end)).await;
        println!("{seconds:>10.2} s  from kubectl apply to Placed=True");
        took.push(Measurement { seconds, versions: CAMERAS * MINUTES, peak_kib: 0 });
        scene.resolve(&name).await;
        scene.wait_for_hold(&name, "Released", "True", TIMEOUT).await;
    }
    scene.delete().await;
    let line = Line::from_runs("kubectl apply to Placed=True", 0.0, &took);
    let mut section = Section::new("A hold over one hour of five cameras (300 segments), on a cluster");
    section.add_limit("seconds at the median", line.seconds.1, GOAL_SECONDS);
    section.lines.push(line);
    section
}

async fn seconds_to_placed(
    scene: &Scene,
    name: &str,
    cameras: &[String],
    (from, until): (Timestamp, Timestamp),
) -> f64 {
    let hold = json!({
        "apiVersion": "toezicht.dev/v1alpha1", "kind": "IncidentHold", "metadata": {"name": name},
        "spec": {
            "siteRef": {"name": SITE}, "cameras": cameras, "window": {"from": from, "until": until},
            "purpose": "Theft", "reference": "2026-0412",
        },
    });
    let namespace = scene.namespace.name.as_str();
    let begun = Instant::now();
    let apply = ["-n", namespace, "apply", "-f", "-"];
    run("kubectl", &apply, Some(hold.to_string().as_bytes())).await;
    let api = scene.namespace.api::<IncidentHold>();
    loop {
        let status = api.get(name).await.unwrap().status.unwrap_or_default();
        let placed = has(&status.conditions, "Placed", "True");
        if placed.is_ok() {
            let seconds = begun.elapsed().as_secs_f64();
            let segments = status.placement.map(|placement| placement.segments);
            assert_eq!(segments, Some(i64::try_from(CAMERAS * MINUTES).unwrap()));
            return seconds;
        }
        assert!(begun.elapsed() < TIMEOUT, "{placed:?}");
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}
