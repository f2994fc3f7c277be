//! An ongoing hold over many cameras. Segments arrive all the time, several during each pass. The hold is `Placed`
//! within a bound and stays so.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use toezicht::api::Placement;
use toezicht::rules::hold::proof::open_scopes;
use toezicht::rules::hold::scope::HoldScope;
use toezicht::rules::recording::key::Key;
use tokio::time::sleep;

use super::counting_store::{Shared, lock};
use super::day::{Operator, Scenario, WARM_UP, cameras, midnight};
use super::incident;
use super::site_setup::{SEGMENT, UPLOAD_DELAY, put, recordings_ending_at};
use crate::print_line;
use crate::store::Version;

/// Delay until recorders apply a declared hold.
const ACK_DELAY: SignedDuration = SignedDuration::from_secs(30);
/// Maximum delay between an upload and its legal hold.
const MAX_HOLD_DELAY: SignedDuration = SignedDuration::from_mins(1);
/// Observation time after the hold is placed.
const OBSERVATION: SignedDuration = SignedDuration::from_mins(17);

/// Observations of a hold.
#[derive(Default)]
struct HoldObservation {
    /// Time from the declaration to `Placed`.
    placed_after: SignedDuration,
    /// Times at which it was no longer `Placed`.
    lost_at: Vec<Timestamp>,
    /// Versions without a legal hold after [`MAX_HOLD_DELAY`], with the time of the observation.
    unheld: Vec<(String, Timestamp)>,
    /// Number of segments in the final status.
    segments: u64,
    /// Number of covered segments at the end.
    covered: u64,
    /// Number of segments in the manifest at the end.
    listed: u64,
}

impl Operator {
    fn placement(&self) -> Option<&Placement> {
        let mut holds = self.api.holds.values();
        holds.find_map(|hold| hold.status.as_ref()?.placement.as_ref())
    }

    /// Returns whether the only hold is verified.
    pub fn is_proved(&self) -> bool {
        self.placement().is_some_and(|placement| placement.verified)
    }

    /// Returns the number of segments in its status.
    pub fn segments(&self) -> u64 {
        let segments = self.placement().map(|placement| placement.segments);
        segments.unwrap_or_default().try_into().unwrap()
    }

    /// Returns the covered recordings with upload time and whether they have a legal hold.
    fn covered(&self) -> Vec<(String, Timestamp, bool)> {
        let covers: Vec<HoldScope> = open_scopes(&self.api.all(), self.now());
        let counting_store = lock(&self.counting_store);
        // Skip the backlog.
        let is_late = |version: &&Version| covers.iter().any(|cover| version.modified >= cover.window.from);
        let all = counting_store.store.keys.iter();
        let late = all.filter_map(|(key, versions)| Some((key, versions.first().filter(is_late)?)));
        let keys = late.filter_map(|(key, version)| Some((key.parse::<Key>().ok()?, key, version)));
        let covered =
            keys.filter(|(parsed, ..)| covers.iter().any(|cover| cover.covers(&parsed.recording())));
        covered
            .map(|(_, key, version)| (key.clone(), version.modified, version.legal_hold == Some(true)))
            .collect()
    }

    /// Returns covered recordings uploaded before `at` without a legal hold.
    pub fn unheld_before(&self, at: Timestamp) -> Vec<String> {
        let unheld = self.covered().into_iter().filter(|(_, uploaded, is_held)| !is_held && *uploaded < at);
        unheld.map(|(key, ..)| key).collect()
    }

    /// Returns the number of covered recordings and of lines in the manifest.
    pub fn covered_and_listed(&self) -> (u64, u64) {
        let covered = self.covered().len() as u64;
        let counting_store = lock(&self.counting_store);
        let parts = counting_store.store.keys.iter().filter(|(key, _)| key.starts_with("ledger/manifests/"));
        let lines = parts.map(|(_, versions)| {
            let part = String::from_utf8_lossy(&versions[0].body);
            part.matches("\"versionId\"").count()
        });
        (covered, lines.sum::<usize>() as u64)
    }
}

/// Uploads segments of one camera after the other, independent of the operator.
async fn record(counting_store: Shared, cameras: Vec<String>, from: Timestamp) {
    let (mut end, pause) = (from, SEGMENT / i32::try_from(cameras.len()).unwrap());
    for camera in cameras.into_iter().cycle() {
        end += pause;
        let pause = (end + UPLOAD_DELAY).duration_since(lock(&counting_store).now());
        sleep(Duration::try_from(pause).unwrap_or_default()).await;
        let mut counting_store = lock(&counting_store);
        let now = counting_store.now();
        let tag = if now > from + ACK_DELAY { "sealed" } else { "video" };
        let keys = recordings_ending_at(&[camera], end).into_iter();
        for key in keys.filter(|key| key.source() != "balie") {
            put(&mut counting_store, &key, tag, now);
        }
    }
}

/// Observes a hold that starts `hours` before its declaration, on a store with this latency.
fn observe_hold(cameras: &[String], hours: i64, latency: Duration) -> HoldObservation {
    let scenario = Scenario {
        cameras: cameras.to_vec(),
        holds: vec![incident("ongoing", cameras, hours + 1, None)],
        are_uploads_real: false,
        backlog: 1,
        hours: 0,
    };
    Operator::run(scenario, async move |mut operator| {
        let base = midnight() - WARM_UP;
        lock(&operator.counting_store).latency = latency;
        operator.reconcile_holds_only();
        let recorders = record(operator.counting_store.clone(), cameras.to_vec(), base);
        let reconciles = async move {
            while !operator.is_proved() && operator.now() < base + SignedDuration::from_hours(1) {
                operator.run_until(operator.now() + SignedDuration::from_secs(5)).await;
            }
            let mut observation = HoldObservation {
                placed_after: operator.now().duration_since(base),
                ..HoldObservation::default()
            };
            let end = operator.now() + OBSERVATION;
            while operator.now() < end {
                operator.run_until(operator.now() + SignedDuration::from_secs(5)).await;
                let now = operator.now();
                observation.lost_at.extend(Some(now).filter(|_| !operator.is_proved()));
                let unheld = operator.unheld_before(now - MAX_HOLD_DELAY);
                observation.unheld.extend(unheld.into_iter().map(|key| (key, now)));
            }
            observation.segments = operator.segments();
            (observation.covered, observation.listed) = operator.covered_and_listed();
            observation
        };
        tokio::select! {
            observation = reconciles => observation,
            () = recorders => unreachable!("recorders never stop"),
        }
    })
}

/// Asserts that the hold is placed within the time of two passes and stays placed. The first pass needs three
/// sequential requests per version, the verifying one needs one; 48 versions run concurrently. Returns the number of
/// segments in the status that were uploaded after the declaration.
fn assert_placed_and_stays_placed(count: usize, hours: i64, latency: Duration) -> u64 {
    let observation = observe_hold(&cameras(count), hours, latency);
    let versions = u32::try_from(hours).unwrap() * 60 * u32::try_from(count).unwrap();
    let passes = latency * 4 * versions / 48;
    let HoldObservation { placed_after, segments, covered, listed, .. } = observation;
    print_line(&format!(
        "arriving: {versions} segments, two passes over which take {passes:?}: Placed after {placed_after:?}; then {segments} in the \
         status, {listed} in the manifest, {covered} in the bucket"
    ));
    assert!(passes > Duration::from_secs(9), "several segments arrive during each pass");
    // Add listings, the manifest, recorders, and the first reconcile of the bucket with its sequential requests.
    let bound = SignedDuration::try_from(passes * 2 + latency * 400).unwrap() + ACK_DELAY;
    assert!(placed_after <= bound, "{placed_after:?}, not {bound:?}");
    assert_eq!(observation.lost_at, [], "it stays placed");
    assert_eq!(observation.unheld, [], "new segments are held within a minute");
    // Segments uploaded since the last verification are held, and counted at the next one.
    let uploaded = segments.checked_sub(u64::from(versions)).unwrap();
    assert!(segments <= covered && uploaded > 0, "{segments} of {covered}");
    assert_eq!(listed, segments, "in the manifest");
    uploaded
}

#[test]
#[ignore = "`make test-requests`: some minutes"]
fn day_of_twenty_cameras_is_placed_while_segments_arrive() {
    let _ = assert_placed_and_stays_placed(20, 24, Duration::from_millis(20));
}

/// A short variant with fewer cameras and a slower store, which runs with every test run.
#[test]
fn five_cameras_are_placed_while_segments_arrive() {
    let uploaded = assert_placed_and_stays_placed(5, 1, Duration::from_millis(400));
    // Everything was verified once more after 15 minutes.
    assert!(uploaded > 60, "{uploaded}");
}
