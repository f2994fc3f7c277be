//! A hold over many cameras that goes on: all along segments arrive, several while a pass goes over what it covers. It is
//! `Placed` by a bound in time, and stays so.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use toezicht::api::Placement;
use toezicht::rules::hold::proof::open_scopes;
use toezicht::rules::hold::scope::HoldScope;
use toezicht::rules::recording::key::Key;
use tokio::time::sleep;

use super::day::{Operator, Scenario, WARM_UP, cameras, midnight};
use super::desk::{Shared, lock};
use super::furnished::{SEGMENT, UPLOAD_DELAY, put, recorded};
use super::over;
use crate::say;
use crate::store::Version;

/// Recorders follow a hold this long after it is declared.
const ACK_DELAY: SignedDuration = SignedDuration::from_secs(30);
/// What came is held this long after it came, at most.
const MAX_HOLD_DELAY: SignedDuration = SignedDuration::from_mins(1);
/// How long it is watched once it is placed.
const ON: SignedDuration = SignedDuration::from_mins(17);

/// What came of it.
#[derive(Default)]
struct Story {
    /// How long after it was declared the hold was `Placed`.
    placed_after: SignedDuration,
    /// When it was not `Placed` any more.
    lost_at: Vec<Timestamp>,
    /// What had no legal hold more than a minute after it came, and when that was seen.
    unheld: Vec<(String, Timestamp)>,
    /// Segments, as the status has them at the end.
    segments: u64,
    /// Segments that are covered at the end, and those that the manifest lists.
    covered: u64,
    listed: u64,
}

impl Operator {
    fn placement(&self) -> Option<&Placement> {
        let mut holds = self.api.holds.values();
        holds.find_map(|hold| hold.status.as_ref()?.placement.as_ref())
    }

    /// Whether the only hold is proved.
    pub fn is_proved(&self) -> bool {
        self.placement().is_some_and(|placement| placement.verified)
    }

    /// How many segments it has, as its status says.
    pub fn segments(&self) -> u64 {
        let segments = self.placement().map(|placement| placement.segments);
        segments.unwrap_or_default().try_into().unwrap()
    }

    /// Recordings that it covers, when they came, and whether they have a legal hold.
    fn covered(&self) -> Vec<(String, Timestamp, bool)> {
        let covers: Vec<HoldScope> = open_scopes(&self.api.all(), self.now());
        let desk = lock(&self.desk);
        // Most came long before.
        let is_late = |version: &&Version| covers.iter().any(|cover| version.modified >= cover.window.from);
        let all = desk.store.keys.iter();
        let late = all.filter_map(|(key, versions)| Some((key, versions.first().filter(is_late)?)));
        let keys = late.filter_map(|(key, version)| Some((key.parse::<Key>().ok()?, key, version)));
        let covered =
            keys.filter(|(parsed, ..)| covers.iter().any(|cover| cover.covers(&parsed.recording())));
        covered
            .map(|(_, key, version)| (key.clone(), version.modified, version.legal_hold == Some(true)))
            .collect()
    }

    /// Of those that came before `at`, the ones without a legal hold.
    pub fn unheld_before(&self, at: Timestamp) -> Vec<String> {
        let unheld = self.covered().into_iter().filter(|(_, came, is_held)| !is_held && *came < at);
        unheld.map(|(key, ..)| key).collect()
    }

    /// How many it covers, and how many lines its manifest has.
    pub fn covered_and_listed(&self) -> (u64, u64) {
        let covered = self.covered().len() as u64;
        let desk = lock(&self.desk);
        let parts = desk.store.keys.iter().filter(|(key, _)| key.starts_with("ledger/manifests/"));
        let lines = parts.map(|(_, versions)| {
            let part = String::from_utf8_lossy(&versions[0].body);
            part.matches("\"versionId\"").count()
        });
        (covered, lines.sum::<usize>() as u64)
    }
}

/// Recorders go on, whatever the operator does: one camera after the other.
async fn record(desk: Shared, cameras: Vec<String>, from: Timestamp) {
    let (mut end, pause) = (from, SEGMENT / i32::try_from(cameras.len()).unwrap());
    for camera in cameras.into_iter().cycle() {
        end += pause;
        let pause = (end + UPLOAD_DELAY).duration_since(lock(&desk).now());
        sleep(Duration::try_from(pause).unwrap_or_default()).await;
        let mut desk = lock(&desk);
        let now = desk.now();
        let tag = if now > from + ACK_DELAY { "sealed" } else { "video" };
        let keys = recorded(&[camera], end).into_iter();
        for key in keys.filter(|key| key.source() != "balie") {
            put(&mut desk, &key, tag, now);
        }
    }
}

/// A hold that began `hours` before it was declared, at a store that takes `latency` for a request.
fn held(cameras: &[String], hours: i64, latency: Duration) -> Story {
    let situation = Scenario {
        cameras: cameras.to_vec(),
        holds: vec![over("ongoing", cameras, hours + 1, None)],
        are_uploads_real: false,
        backlog: 1,
        hours: 0,
    };
    Operator::run(situation, async move |mut operator| {
        let base = midnight() - WARM_UP;
        lock(&operator.desk).latency = latency;
        operator.reconcile_holds_only();
        let recorders = record(operator.desk.clone(), cameras.to_vec(), base);
        let looks = async move {
            while !operator.is_proved() && operator.now() < base + SignedDuration::from_hours(1) {
                operator.until(operator.now() + SignedDuration::from_secs(5)).await;
            }
            let mut story = Story { placed_after: operator.now().duration_since(base), ..Story::default() };
            let end = operator.now() + ON;
            while operator.now() < end {
                operator.until(operator.now() + SignedDuration::from_secs(5)).await;
                let now = operator.now();
                story.lost_at.extend(Some(now).filter(|_| !operator.is_proved()));
                let unheld = operator.unheld_before(now - MAX_HOLD_DELAY);
                story.unheld.extend(unheld.into_iter().map(|key| (key, now)));
            }
            story.segments = operator.segments();
            (story.covered, story.listed) = operator.covered_and_listed();
            story
        };
        tokio::select! {
            story = looks => story,
            () = recorders => unreachable!("recorders go on"),
        }
    })
}

/// Two passes: the first needs three answers in turn for each version, the one that proves it one; 48 versions are under way at once.
/// Returns how many segments the status has that came since the hold was declared.
fn assert_placed_and_stays_placed(count: usize, hours: i64, latency: Duration) -> u64 {
    let story = held(&cameras(count), hours, latency);
    let versions = u32::try_from(hours).unwrap() * 60 * u32::try_from(count).unwrap();
    let passes = latency * 4 * versions / 48;
    let Story { placed_after, segments, covered, listed, .. } = story;
    say(&format!(
        "arriving: {versions} segments, of which two passes take {passes:?}: Placed after {placed_after:?}; then {segments} in the \
         status, {listed} in the manifest, {covered} in the bucket"
    ));
    assert!(passes > Duration::from_secs(9), "several segments arrive in each");
    // Listing and the manifest come on top, recorders, and the Site's first look at its bucket, a request after the other.
    let bound = SignedDuration::try_from(passes * 2 + latency * 400).unwrap() + ACK_DELAY;
    assert!(placed_after <= bound, "{placed_after:?}, not {bound:?}");
    assert_eq!(story.lost_at, [], "it stays so");
    assert_eq!(story.unheld, [], "what came is held within a minute");
    // What came since everything was verified is held, and counted when it is verified again.
    let came = segments.checked_sub(u64::from(versions)).unwrap();
    assert!(segments <= covered && came > 0, "{segments} of {covered}");
    assert_eq!(listed, segments, "in the manifest");
    came
}

#[test]
#[ignore = "`make test-requests`: some minutes"]
fn day_of_twenty_cameras_is_placed_while_segments_arrive() {
    let _ = assert_placed_and_stays_placed(20, 24, Duration::from_millis(20));
}

/// The same in short, with every test run: fewer cameras, and a slower store.
#[test]
fn five_cameras_are_placed_while_segments_arrive() {
    let came = assert_placed_and_stays_placed(5, 1, Duration::from_millis(400));
    // Everything was verified once more, after a quarter of an hour.
    assert!(came > 60, "{came}");
}
