//! Keys that stores list in different orders, and forged keys put with stolen recorder credentials. Every recording
//! of a real camera is still held, released, swept and audited.

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
    FixedHolds, at_time, audit_with_holds, hold_scope, ledger_entry, place_input, place_until_confirmed,
    prepared_bucket, release_until_verified, sweep_until_done,
};
use super::scene::Scene;
use crate::storage::scene::connect;
use crate::support::settings::S3Server;

/// Camera names that are prefixes of others, which continue with a character that sorts before or after `/`, or with
/// a digit.
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
const MAX_CONCURRENT_PUTS: usize = 16;
/// Maximum number of passes over a faulty store.
const ATTEMPTS: usize = 40;

/// Returns a fixed time, seven minutes past an hour, of the day before yesterday.
fn recording_day() -> Timestamp {
    // Computed once: an hour may end while a test runs.
    static THAT_DAY: LazyLock<Timestamp> = LazyLock::new(|| {
        let at = Timestamp::now() - SignedDuration::from_hours(48);
        let hour = at.as_second() / 3600 * 3600;
        Timestamp::from_second(hour).unwrap() + 7.minutes()
    });
    *THAT_DAY
}

async fn record_all_cameras(scene: &Scene) -> Vec<String> {
    let mut keys = Vec::new();
    for camera in CAMERAS {
        for minute in 0..3 {
            keys.push(scene.record(camera, recording_day() + minute.minutes()).await);
        }
    }
    keys
}

/// Puts a key with the recorder's credentials.
async fn put_as_recorder(scene: &Scene, key: &str) {
    let request = scene.client("recorder").put_object().bucket(scene.bucket()).key(key);
    let request = request.tagging("toezicht-retention=sealed").body(ByteStream::from_static(b"x"));
    request.send().await.unwrap();
}

/// Runs one complete placing pass, retrying after errors of the store.
async fn place_once(scene: &Scene, scopes: &[HoldScope]) -> PlaceReport {
    let mut last = None;
    for _ in 0..ATTEMPTS {
        match place(&connect(&scene.operator), &place_input(scopes), Timestamp::now()).await {
            Ok(placed) => return placed,
            Err(incomplete) => last = Some(incomplete.error),
        }
    }
    panic!("not placed: {last:?}");
}

/// Runs one complete releasing pass, retrying after errors. The report includes deletions of incomplete passes.
async fn release_once(scene: &Scene, closing: &[LedgerEntry], time: DecisionTime) -> ReleaseReport {
    let (no_holds, cache) = (FixedHolds(vec![]), ProtectionCache::default());
    let (mut deleted, mut last) = (0, None);
    let mut release = Release::new(closing, &no_holds, &PROTOCOL_CEILINGS, &cache);
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
    let scene = prepared_bucket(server).await;
    let keys = record_all_cameras(&scene).await;
    for camera in CAMERAS {
        let incident = [hold_scope(&[camera], recording_day(), Some(recording_day() + 10.minutes()))];
        let found = place_until_confirmed(&scene.operator, &incident).await;
        assert_eq!(found.coverage[0].segments, 3, "{camera}");
    }
    for key in &keys {
        assert_eq!(scene.protection(key).await, Some((true, "held".into())), "{key}");
    }
    let all = [hold_scope(&[], recording_day(), Some(recording_day() + 10.minutes()))];
    let tally = audit_with_holds(&scene, &all, Timestamp::now()).await;
    assert_eq!((tally.versions, tally.held_versions), (24, 24));
    assert!(tally.is_compliant(), "{:?}", tally.findings);
    // Close all entries in the ledger.
    audit_with_holds(&scene, &[], Timestamp::now()).await;
    let entry = [ledger_entry("0".into(), &all[0], Timestamp::now())];
    release_until_verified(&scene.operator, &entry, Timestamp::now()).await;
    for key in &keys {
        assert_eq!(scene.protection(key).await, Some((false, "video".into())), "{key}");
    }
    let later = Timestamp::now() + SignedDuration::from_hours(29 * 24);
    assert_eq!(sweep_until_done(&scene.operator, &[], later).await.deleted, 24);
}

/// Checks that forged keys include control characters, keys that extend a segment's key by more than a page, dozens
/// of sources, and impossible times.
async fn stolen_credentials_hide_nothing(server: S3Server) {
    let scene = prepared_bucket(server).await;
    let keys = record_all_cameras(&scene).await;
    // Register the cameras, as the operator does.
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
        // The recorder may write here for its probe. A store that walks folders lists the first key before the
        // second.
        "probe/recorder/a/1".to_owned(),
        "probe/recorder/a-1".to_owned(),
        "probe/recorder/\u{1}".to_owned(),
    ];
    // A store that walks folders lists these before the segment of that second, although they sort after it.
    forged.extend((0..1100).map(|number| format!("{day}/{second}/{number:04}")));
    forged.extend((0..90).map(|number| format!("video/s{number:04}/x")));
    stream::iter(&forged)
        .for_each_concurrent(MAX_CONCURRENT_PUTS, async |key| put_as_recorder(&scene, key).await)
        .await;

    let incident = [
        hold_scope(&["hal"], recording_day(), Some(recording_day() + 10.minutes())),
        hold_scope(&[], recording_day(), Some(recording_day() + 10.minutes())),
    ];
    let found = place_until_confirmed(&scene.operator, &incident).await;
    assert_eq!(found.coverage.iter().map(|coverage| coverage.segments).collect::<Vec<_>>(), [3, 24]);
    for key in &keys {
        assert_eq!(scene.protection(key).await, Some((true, "held".into())), "{key}");
    }
    let again = place_once(&scene, &incident).await;
    assert!(again.is_confirmed(), "{again:?}");

    let tally = audit_with_holds(&scene, &incident, Timestamp::now()).await;
    assert_eq!(tally.held_versions, 24);
    for found in [FindingKind::UnparsableKey, FindingKind::UnvisitedSource] {
        assert!(tally.count(found) > 5, "{found:?} in {:?}", tally.findings);
    }
    assert_eq!(tally.count(FindingKind::UnexpectedObject), 3, "{:?}", tally.findings);
    assert!(!tally.is_compliant());

    audit_with_holds(&scene, &[], Timestamp::now()).await;
    let entry = [ledger_entry("0".into(), &incident[1], Timestamp::now())];
    let later = Timestamp::now() + SignedDuration::from_hours(29 * 24);
    let done = release_once(&scene, &entry, at_time(later)).await;
    assert_eq!((done.deleted, done.errors.len()), (24, 0));
    for key in &keys {
        let found = scene.versions(key).await;
        assert!(found.iter().all(|(found, _)| found != key), "{key}");
    }
}

/// Calls of an undeclared telephone are held behind more than a page of folders whose invalid names extend its own.
/// SeaweedFS omits such calls from listings after a page boundary.
async fn calls_behind_many_folders_are_held(server: S3Server) {
    let scene = prepared_bucket(server).await;
    let call = Key::new(Class::Calls, "balie", recording_day(), 60_000, &[7; 32]).unwrap();
    let mut forged = vec![call.to_string()];
    forged.extend((0..1000).map(|number| format!("calls/balie-A{number:04}/x")));
    stream::iter(&forged)
        .for_each_concurrent(MAX_CONCURRENT_PUTS, async |key| put_as_recorder(&scene, key).await)
        .await;
    let incident = [HoldScope {
        calls: true,
        ..hold_scope(&["hal"], recording_day(), Some(recording_day() + 10.minutes()))
    }];
    let found = place_until_confirmed(&scene.operator, &incident).await;
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

/// Puts more than a page of versions of a key that extends a segment's key. A store that keeps versions in folders
/// lists these first and omits the segment. The operator reports that and claims nothing about holds on this camera;
/// other holds are unaffected. Returns the errors of placing two holds, whether each release was verified, and the
/// number of unlisted keys that an audit finds.
async fn hold_key_among_many_versions(
    server: S3Server,
    is_behind_two_keys: bool,
) -> ([Option<String>; 2], [bool; 2], u64) {
    let scene = prepared_bucket(server).await;
    let key = scene.record("hal", recording_day()).await;
    let other = scene.record("deur", recording_day()).await;
    let cameras = ["hal", "deur"].map(str::to_owned).into();
    ledger::register(&connect(&scene.operator), &cameras).await.unwrap();
    let crowded_key = format!("{key}-x");
    // This key sorts first and is no recording: the listing skips it by the possible continuations of a key.
    let before = format!("{}-z", key.strip_suffix('4').unwrap());
    let crowded_keys = [&before, &crowded_key].into_iter().skip(usize::from(!is_behind_two_keys));
    for crowded_key in crowded_keys {
        stream::iter(0..1100)
            .for_each_concurrent(MAX_CONCURRENT_PUTS, async |_| put_as_recorder(&scene, crowded_key).await)
            .await;
    }
    let until = recording_day() + 10.minutes();
    let scopes = ["hal", "deur"].map(|camera| hold_scope(&[camera], recording_day(), Some(until)));
    let found = place_once(&scene, &scopes).await;
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

    let entries = [0, 1].map(|number| ledger_entry(number.to_string(), &scopes[number], Timestamp::now()));
    let mut is_verified = [false; 2];
    for _ in 0..3 {
        let done = release_once(&scene, &entries, at_time(Timestamp::now())).await;
        is_verified = entries.each_ref().map(|entry| done.is_verified_for(entry));
    }
    assert_eq!(scene.protection(&other).await, Some((false, "video".into())));
    let tally = audit_with_holds(&scene, &[], Timestamp::now()).await;
    assert!(!tally.is_compliant());
    (refused.try_into().unwrap(), is_verified, tally.count(FindingKind::UnlistedKey))
}

#[tokio::test]
async fn seaweedfs_reports_key_missing_from_listing() {
    for is_behind_two_keys in [false, true] {
        let ([hal_error, deur_error], is_verified, hidden) =
            hold_key_among_many_versions(S3Server::primary(), is_behind_two_keys).await;
        assert!(hal_error.as_ref().unwrap().contains("ListingOmitsKey"), "{hal_error:?}");
        assert_eq!((deur_error, is_verified, hidden), (None, [false, true], 1));
    }
}

#[tokio::test]
async fn ceph_lists_key_before_many_versions() {
    for is_behind_two_keys in [false, true] {
        assert_eq!(
            hold_key_among_many_versions(S3Server::secondary(), is_behind_two_keys).await,
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
