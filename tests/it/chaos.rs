//! Faults at random: pods, stores, API server, operators, Secrets, cameras, upgrades and scale. At the end every second of every
//! camera is in a playable segment or in a gap with the right cause, nothing held is lost, and every condition was true.
//!
//! `make chaos` runs it with `SEED`, `MINUTES` and `CAMERAS`. A short form runs with all other tests.

mod added;
mod bucket_watch;
mod chronicle;
mod configuration;
mod footage;
mod holds;
mod inject;
mod plan;
mod restarts;
mod run;
mod spans;
mod watchdog;
mod world;

use std::path::PathBuf;

use strum::VariantArray;

use self::plan::{Kind, Size, plan};
use self::run::{RunSettings, run};
use crate::operator::process::with_chart_scaled_down;
use crate::support::settings::root;

/// Faults of the short form: one of each object, and those that recover fast.
const SHORT_KINDS: [Kind; 12] = [
    Kind::RecorderKilled,
    Kind::PodForceDeleted,
    Kind::TemplateChanged,
    Kind::StoreUnavailable,
    Kind::StoreResponsesLost,
    Kind::OperatorKilled,
    Kind::ApiAway,
    Kind::RecorderKeyWrong,
    Kind::CameraSecretRecreated,
    Kind::CamerasOff,
    Kind::CameraAdded,
    Kind::Suspended,
];

#[tokio::test(flavor = "multi_thread")]
async fn short_chaos_loses_nothing() {
    let size = Size { seconds: 110, pace: (6, 12), sites: 2, groups: 2 };
    let settings = RunSettings {
        seed: 16,
        plan: plan(16, size, &SHORT_KINDS),
        seconds: size.seconds,
        groups: size.groups,
        cameras_per_codec: 1,
        segment_seconds: 6,
        has_second_node: false,
        folder: folder("short"),
    };
    with_chart_scaled_down("chaos-short", |namespace| run(namespace, settings)).await;
}

/// `make chaos`: it needs the bed alone.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes half an hour: make chaos"]
async fn long_chaos_loses_nothing() {
    let seed = number("TOEZICHT_CHAOS_SEED").unwrap_or_else(|| fastrand::u64(1..1_000_000));
    let seconds = u32::try_from(number("TOEZICHT_CHAOS_MINUTES").unwrap_or(30) * 60).unwrap();
    let cameras = u32::try_from(number("TOEZICHT_CHAOS_CAMERAS").unwrap_or(20)).unwrap();
    // Four cameras for each server, as behind one switch.
    let groups = cameras.div_ceil(4).max(2);
    let size = Size { seconds, pace: (6, 22), sites: 2, groups };
    let settings = RunSettings {
        seed,
        plan: plan(seed, size, Kind::VARIANTS),
        seconds,
        groups,
        cameras_per_codec: 2,
        segment_seconds: 12,
        has_second_node: true,
        folder: folder(&format!("seed-{seed}")),
    };
    with_chart_scaled_down("chaos-long", |namespace| run(namespace, settings)).await;
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text}: a number")))
}

/// Returns the folder with the evidence of a run.
fn folder(name: &str) -> PathBuf {
    root().join("target/chaos").join(name)
}
