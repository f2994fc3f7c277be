//! Names that a store may list in another order, and a recorder's credentials in wrong hands: every recording of a real
//! camera is held, released, swept and audited all the same.

use std::sync::LazyLock;

use aws_sdk_s3::primitives::ByteStream;
use futures::{StreamExt, stream};
use jiff::{SignedDuration, Timestamp, ToSpan};
use toezicht::rules::hold::entry::LedgerEntry;
use toezicht::rules::hold::scope::HoldScope;
use toezicht::rules::recording::key::{Class, Key};
use toezicht::rules::retention::PROTOCOL_CEILINGS;
use toezicht::storage::DecisionTime;
use toezicht::storage::recordings::audit::FindingKind;
use toezicht::storage::recordings::error::Incomplete;
use toezicht::storage::recordings::hold::protection_cache::ProtectionCache;
use toezicht::storage::recordings::hold::{PlaceReport, Release, ReleaseReport, place};
use toezicht::storage::recordings::ledger;

use super::holds::{
    Declared, at_time, audited, cover, ledger_entry, placed, prepared, released, swept, task,
};
use super::scene::Scene;
use crate::storage::scene::connect;
use crate::support::settings::S3Server;

/// Names of which one is the beginning of another, which goes on with a character before `/`, after it, or with a digit.
const CAMERAS: [&str; 8] = [
    "dillenburcht-sporthal",
    "dillenburcht-sporthal-2",
    "dillenburcht-sporthal.noord",
    "dillenburcht-sporthal2",
    "hal",
    "hal-10",
    "hal-2",
    "ha",
];
const AT_ONCE: usize = 16;
/// Passes over a busy store.
const ATTEMPTS: usize = 40;

/// Some minutes past a full hour of the day before yesterday.
fn recording_day() -> Timestamp {
    // Once: an hour may end while a test runs.
    static THAT_DAY: LazyLock<Timestamp> = LazyLock::new(|| {
        let at = Timestamp::now() - SignedDuration::from_hours(48);
        let hour = at.as_second() / 3600 * 3600;
        Timestamp::from_second(hour).unwrap() + 7.minutes()
    });
    *THAT_DAY
}

async fn recorded(scene: &Scene) -> Vec<String> {
    let mut keys = Vec::new();
    for camera in CAMERAS {
        for minute in 0..3 {
            keys.push(scene.record(camera, recording_day() + minute.minutes()).await);
        }
    }
    keys
}

/// Puts a key as whoever has the recorder's credentials.
async fn forge(scene: &Scene, key: &str) {
    let request = scene.client("recorder").put_object().bucket(scene.bucket()).key(key);
    let request = request.tagging("toezicht-retention=sealed").body(ByteStream::from_static(b"x"));
    request.send().await.unwrap();
}

/// A pass that places, to its end: one that a busy store broke off is followed by another.
async fn place_once(scene: &Scene, covers: &[HoldScope]) -> PlaceReport {
    let mut last = None;
    for _ in 0..ATTEMPTS {
        match place(&connect(&scene.operator), &task(covers), Timestamp::now()).await {
            Ok(placed) => return placed,
            Err(broken_off) => last = Some(broken_off.error),
        }
    }
    panic!("not placed: {last:?}");
}

/// A pass that releases, to its end; with what those before it deleted.
async fn release_once(scene: &Scene, closing: &[LedgerEntry], time: DecisionTime) -> ReleaseReport {
    let (nobody, memory) = (Declared(vec![]), ProtectionCache::default());
    let (mut deleted, mut last) = (0, None);
    let mut release = Release::new(closing, &nobody, &PROTOCOL_CEILINGS, &memory);
    for _ in 0..ATTEMPTS {
        let (done, ended) = Incomplete::into_parts(release.run_pass(&connect(&scene.operator), time).await);
        deleted += done.deleted;
        match ended {
            Ok(()) => return ReleaseReport { deleted, ..done },
            Err(error) => last = Some(error),
        }
    }
    panic!("not released: {last:?}");
}

async fn camera_names_with_common_prefixes_are_found(server: S3Server) {
    let scene = prepared(server).await;
    let keys = recorded(&scene).await;
    for camera in CAMERAS {
        let incident = [cover(&[camera], recording_day(), Some(recording_day() + 10.minutes()))];
        let found = placed(&scene.operator, &incident).await;
        assert_eq!(found.coverage[0].segments, 3, "{camera}");
    }
    for key in &keys {
        assert_eq!(scene.protection(key).await, Some((true, "held".into())), "{key}");
    }
    let all = [cover(&[], recording_day(), Some(recording_day() + 10.minutes()))];
    let tally = audited(&scene, &all, Timestamp::now()).await;
    assert_eq!((tally.versions, tally.held_versions), (24, 24));
    assert!(tally.is_compliant(), "{:?}", tally.findings);
    // The ledger has no hold any more.
    audited(&scene, &[], Timestamp::now()).await;
    let entry = [ledger_entry("0".into(), &all[0], Timestamp::now())];
    released(&scene.operator, &entry, Timestamp::now()).await;
    for key in &keys {
        assert_eq!(scene.protection(key).await, Some((false, "video".into())), "{key}");
    }
    let later = Timestamp::now() + SignedDuration::from_hours(29 * 24);
    assert_eq!(swept(&scene.operator, &[], later).await.deleted, 24);
}

/// Loose keys, control characters, folders where a segment's key goes on, more of them than a page, sources by the dozen,
/// times that cannot be.
async fn stolen_credentials_hide_nothing(server: S3Server) {
    let scene = prepared(server).await;
    let keys = recorded(&scene).await;
    // As the operator does for each Camera.
    let cameras = CAMERAS.map(str::to_owned).into();
    ledger::register(&connect(&scene.operator), &cameras).await.unwrap();
    let key: Key = keys.iter().find(|key| key.starts_with("video/hal/")).unwrap().parse().unwrap();
    let day = key.to_string();
    let (day, name) = day.rsplit_once('/').unwrap();
    let second = &name[..6];
    let mut forged = vec![
        "video/x".to_owned(),
        "video/\u{1}".to_owned(),
        "video/\u{1}/a/b".to_owned(),
        "video/hal-/y".to_owned(),
        "video/hal/2026-x/1".to_owned(),
        "video/hal/9999/12/31/000000.000Z-1-0123456789abcdef.mp4".to_owned(),
        format!("{day}-x/1"),
        format!("{day}/\u{1}"),
        format!("{day}/{name}-x"),
        // A recorder's probe may write here. A store that walks folders lists the first before the second.
        "probe/recorder/a/1".to_owned(),
        "probe/recorder/a-1".to_owned(),
        "probe/recorder/\u{1}".to_owned(),
    ];
    // A store that walks folders lists these before the segment of that second, though they sort after it.
    forged.extend((0..1100).map(|number| format!("{day}/{second}/{number:04}")));
    forged.extend((0..90).map(|number| format!("video/s{number:04}/x")));
    stream::iter(&forged).for_each_concurrent(AT_ONCE, async |key| forge(&scene, key).await).await;

    let incident = [
        cover(&["hal"], recording_day(), Some(recording_day() + 10.minutes())),
        cover(&[], recording_day(), Some(recording_day() + 10.minutes())),
    ];
    let found = placed(&scene.operator, &incident).await;
    assert_eq!(found.coverage.iter().map(|coverage| coverage.segments).collect::<Vec<_>>(), [3, 24]);
    for key in &keys {
        assert_eq!(scene.protection(key).await, Some((true, "held".into())), "{key}");
    }
    let again = place_once(&scene, &incident).await;
    assert!(again.is_confirmed(), "{again:?}");

    let tally = audited(&scene, &incident, Timestamp::now()).await;
    assert_eq!(tally.held_versions, 24);
    for found in [FindingKind::UnparsableKey, FindingKind::UnvisitedSource] {
        assert!(tally.count(found) > 5, "{found:?} in {:?}", tally.findings);
    }
    assert_eq!(tally.count(FindingKind::UnexpectedObject), 3, "{:?}", tally.findings);
    assert!(!tally.is_compliant());

    audited(&scene, &[], Timestamp::now()).await;
    let entry = [ledger_entry("0".into(), &incident[1], Timestamp::now())];
    let later = Timestamp::now() + SignedDuration::from_hours(29 * 24);
    let done = release_once(&scene, &entry, at_time(later)).await;
    assert_eq!((done.deleted, done.errors.len()), (24, 0));
    for key in &keys {
        let found = scene.versions(key).await;
        assert!(found.iter().all(|(found, _)| found != key), "{key}");
    }
}

/// Calls of a telephone that nobody declared, behind more than a page of folders whose names go on from its own, and of which
/// none can be a telephone's. SeaweedFS lists none of it once a page has ended before it.
async fn calls_behind_many_folders_are_held(server: S3Server) {
    let scene = prepared(server).await;
    let call = Key::new(Class::Calls, "balie", recording_day(), 60_000, &[7; 32]).unwrap();
    let mut forged = vec![call.to_string()];
    forged.extend((0..1000).map(|number| format!("calls/balie-A{number:04}/x")));
    stream::iter(&forged).for_each_concurrent(AT_ONCE, async |key| forge(&scene, key).await).await;
    let incident =
        [HoldScope { calls: true, ..cover(&["hal"], recording_day(), Some(recording_day() + 10.minutes())) }];
    let found = placed(&scene.operator, &incident).await;
    assert_eq!((found.coverage[0].segments, &found.coverage[0].errors), (1, &None));
    assert_eq!(scene.protection(&forged[0]).await, Some((true, "held".into())));
}

#[tokio::test]
async fn seaweedfs_calls_behind_many_folders_are_held() {
    calls_behind_many_folders_are_held(S3Server::primary()).await;
}

#[tokio::test]
async fn ceph_calls_behind_many_folders_are_held() {
    calls_behind_many_folders_are_held(S3Server::secondary()).await;
}

/// More versions than a page of a key that goes on after a segment's. A store that keeps versions in folders lists these
/// before the segment, and never lists the segment: that is told, and nothing is claimed of holds over that camera. What is
/// said of others is as true as ever. Gives the errors of a placing, of each of two holds, and of a release of the first; and
/// how many hidden keys an audit finds.
async fn hold_key_among_many_versions(
    server: S3Server,
    is_behind_two: bool,
) -> ([Option<String>; 2], [bool; 2], u64) {
    let scene = prepared(server).await;
    let key = scene.record("hal", recording_day()).await;
    let other = scene.record("deur", recording_day()).await;
    let cameras = ["hal", "deur"].map(str::to_owned).into();
    ledger::register(&connect(&scene.operator), &cameras).await.unwrap();
    let crowd = format!("{key}-x");
    // Before the other, and of no recording: what comes after it is gone round by the ways in which a key can go on.
    let before = format!("{}-z", key.strip_suffix('4').unwrap());
    let both = [&before, &crowd].into_iter().skip(usize::from(!is_behind_two));
    for crowd in both {
        stream::iter(0..1100).for_each_concurrent(AT_ONCE, async |_| forge(&scene, crowd).await).await;
    }
    let until = recording_day() + 10.minutes();
    let covers = ["hal", "deur"].map(|camera| cover(&[camera], recording_day(), Some(until)));
    let found = place_once(&scene, &covers).await;
    assert_eq!(scene.protection(&other).await, Some((true, "held".into())));
    assert_eq!(found.coverage[1].segments, 1);
    let refused: Vec<Option<String>> = found
        .coverage
        .iter()
        .map(|coverage| Some(coverage.errors.as_ref()?.first_error.to_string()))
        .collect();
    let is_listed = refused[0].is_none();
    assert_eq!(found.coverage[0].segments, u64::from(is_listed));
    if is_listed {
        assert_eq!(scene.protection(&key).await, Some((true, "held".into())));
    }

    let entries = [0, 1].map(|number| ledger_entry(number.to_string(), &covers[number], Timestamp::now()));
    let mut proved = [false; 2];
    for _ in 0..3 {
        let done = release_once(&scene, &entries, at_time(Timestamp::now())).await;
        proved = entries.each_ref().map(|entry| done.is_verified_for(entry));
    }
    assert_eq!(scene.protection(&other).await, Some((false, "video".into())));
    let tally = audited(&scene, &[], Timestamp::now()).await;
    assert!(!tally.is_compliant());
    (refused.try_into().unwrap(), proved, tally.count(FindingKind::UnlistedKey))
}

#[tokio::test]
async fn seaweedfs_reports_key_missing_from_listing() {
    for is_behind_two in [false, true] {
        let ([of_hal, of_deur], proved, hidden) =
            hold_key_among_many_versions(S3Server::primary(), is_behind_two).await;
        assert!(of_hal.as_ref().unwrap().contains("ListingOmitsKey"), "{of_hal:?}");
        assert_eq!((of_deur, proved, hidden), (None, [false, true], 1));
    }
}

#[tokio::test]
async fn ceph_lists_key_before_many_versions() {
    for is_behind_two in [false, true] {
        assert_eq!(
            hold_key_among_many_versions(S3Server::secondary(), is_behind_two).await,
            ([None, None], [true, true], 0)
        );
    }
}

#[tokio::test]
async fn seaweedfs_camera_names_with_common_prefixes_are_found() {
    camera_names_with_common_prefixes_are_found(S3Server::primary()).await;
}

#[tokio::test]
async fn ceph_camera_names_with_common_prefixes_are_found() {
    camera_names_with_common_prefixes_are_found(S3Server::secondary()).await;
}

#[tokio::test]
async fn seaweedfs_stolen_credentials_hide_nothing() {
    stolen_credentials_hide_nothing(S3Server::primary()).await;
}

#[tokio::test]
async fn ceph_stolen_credentials_hide_nothing() {
    stolen_credentials_hide_nothing(S3Server::secondary()).await;
}
