//! Releases during continuous puts, and of versions that the store does not release.

use jiff::SignedDuration;

use super::*;
use crate::rules::{Class, Key, PROTOCOL_CEILINGS};
use crate::storage::s3::stub::{FakeBucket, NO_OPEN_HOLDS, ReceivedRequest, error_answer, listed, tagging};

/// Ledger entry of a resolved hold over `hal`.
fn entry(now: jiff::Timestamp) -> LedgerEntry {
    entry_over("1", &["hal"], now)
}

/// Ledger entry of a resolved hold over these cameras.
fn entry_over(uid: &str, cameras: &[&str], now: jiff::Timestamp) -> LedgerEntry {
    let spec = serde_json::from_value(serde_json::json!({
        "siteRef": {"name": "s"}, "cameras": cameras, "purpose": "Theft", "reference": "1",
        "window": {"from": now - SignedDuration::from_hours(24 * 40), "until": now},
    }));
    LedgerEntry::new(uid.into(), "n".into(), "h".into(), &spec.unwrap(), now).resolved(now)
}

/// A recording of `hal` that ended so long ago.
fn recording(now: jiff::Timestamp, ago: SignedDuration, number: usize) -> ListedVersion {
    recording_of("hal", now, ago, number)
}

fn recording_of(camera: &str, now: jiff::Timestamp, ago: SignedDuration, number: usize) -> ListedVersion {
    let start = now - ago - SignedDuration::from_secs(6);
    let key = Key::new(Class::Video, camera, start, 6000, &[u8::try_from(number).unwrap(); 32]).unwrap();
    listed(key, &number.to_string(), now - ago)
}

/// Anyone with a recorder's credentials can put a version before each listing, with a tag that lifecycle rules ignore.
#[tokio::test]
async fn continuous_puts_do_not_delay_release() {
    let now = jiff::Timestamp::now();
    let one = move |number| recording(now, SignedDuration::from_hours(30), number);
    let (stub, _) = FakeBucket::of([one(0)])
        .tagged("sealed")
        .start(move |asked, bucket| {
            let prefix = asked.query_parameter("prefix").unwrap_or_default();
            if asked.has_parameter("versions") && prefix.matches('/').count() == 5 {
                let next = one(bucket.versions.len());
                bucket.bodies.insert(format!("/tz-stub/{} tagging", next.key), tagging("sealed"));
                bucket.versions.push(next);
            }
            None
        })
        .await;
    let (closing, memory) = ([entry(now)], ProtectionCache::default());
    let mut release = Release::new(&closing, &NO_OPEN_HOLDS, &PROTOCOL_CEILINGS, &memory);
    let first = release.run_pass(&stub.connection(), DecisionTime::at(now)).await.unwrap();
    assert!(first.released == 2 && !first.is_verified(), "{first:?}");
    let second = release.run_pass(&stub.connection(), DecisionTime::at(now)).await.unwrap();
    assert!(second.released == 1 && second.is_verified(), "{second:?}");
}

/// The store accepts writes and does not persist them.
#[tokio::test]
async fn ignored_writes_are_not_verified_as_released() {
    let now = jiff::Timestamp::now();
    let (stub, _) = FakeBucket::of([recording(now, SignedDuration::from_hours(30), 1)])
        .tagged("sealed")
        .start(|asked, _| (asked.method == "PUT").then(|| (200, String::new())))
        .await;
    let (closing, memory) = ([entry(now)], ProtectionCache::default());
    let mut release = Release::new(&closing, &NO_OPEN_HOLDS, &PROTOCOL_CEILINGS, &memory);
    for _ in 0..3 {
        let pass = release.run_pass(&stub.connection(), DecisionTime::at(now)).await.unwrap();
        assert!(pass.released == 1 && !pass.is_verified(), "{pass:?}");
    }
}

/// Some stores let a recorder put a version with a retention period. If its legal hold was still on, another pass must
/// read that it is off.
#[tokio::test]
async fn retention_does_not_block_release_after_read_back() {
    let now = jiff::Timestamp::now();
    for (is_held, is_ignoring_writes, proved) in
        [(false, false, [true, true]), (true, false, [false, true]), (true, true, [false, false])]
    {
        let bucket = FakeBucket::of([recording(now, SignedDuration::from_hours(24 * 30), 1)]).tagged("video");
        let bucket = bucket.with_legal_hold(if is_held { "ON" } else { "OFF" });
        let (stub, _) = bucket
            .start(move |asked, _| match asked.method.as_str() {
                "PUT" if is_ignoring_writes => Some((200, String::new())),
                "DELETE" => Some(error_answer(403, "AccessDenied")),
                _ => None,
            })
            .await;
        let (closing, memory) = ([entry(now)], ProtectionCache::default());
        let mut release = Release::new(&closing, &NO_OPEN_HOLDS, &PROTOCOL_CEILINGS, &memory);
        for expected in proved {
            let done = release.run_pass(&stub.connection(), DecisionTime::at(now)).await.unwrap();
            assert_eq!(done.is_verified(), expected, "{is_held} {is_ignoring_writes} {done:?}");
            assert_eq!(done.undeletable, u64::from(expected), "{done:?}");
        }
    }
}

/// A version that the store does not release keeps its own holds from release, and no others.
#[tokio::test]
async fn rejected_version_blocks_only_its_own_holds() {
    let now = jiff::Timestamp::now();
    for status in [403, 500, 200] {
        let recordings = ["hal", "deur", "gang"].into_iter().enumerate();
        let recordings = recordings
            .map(|(number, camera)| recording_of(camera, now, SignedDuration::from_hours(30), number));
        let is_rejected = |asked: &ReceivedRequest| {
            asked.method == "PUT" && asked.query_parameter("versionId").as_deref() == Some("1")
        };
        let answer =
            move || if status == 200 { (200, String::new()) } else { error_answer(status, "Trouble") };
        let bucket = FakeBucket::of(recordings).tagged("held");
        let (stub, _) = bucket.start(move |asked, _| is_rejected(asked).then(answer)).await;
        let closing = [
            entry_over("of-hal", &["hal"], now),
            entry_over("of-deur", &["deur"], now),
            entry_over("of-both", &["deur", "hal"], now),
            entry_over("of-gang", &["gang"], now),
        ];
        let memory = ProtectionCache::default();
        let mut release = Release::new(&closing, &NO_OPEN_HOLDS, &PROTOCOL_CEILINGS, &memory);
        let mut proved = Vec::new();
        for _ in 0..2 {
            let done = release.run_pass(&stub.connection(), DecisionTime::at(now)).await.unwrap();
            assert!(!done.is_verified(), "{status} {done:?}");
            let refused = done.errors.iter();
            let refused: Vec<_> = refused.map(|(uid, refused)| (uid.as_str(), refused.versions)).collect();
            let expected = [("of-both", 1), ("of-deur", 1)];
            assert_eq!(refused, if status == 200 { &[][..] } else { &expected }, "{status}");
            proved = closing.iter().map(|entry| done.is_verified_for(entry)).collect();
        }
        assert_eq!(proved, [true, false, false, true], "{status}");
    }
}

/// Unvisited sources of calls concern only holds on calls.
#[test]
fn unvisited_calls_block_only_holds_on_calls() {
    let now = jiff::Timestamp::now();
    let of_video = entry_over("1", &["hal"], now);
    let mut of_calls = of_video.clone();
    (of_calls.uid, of_calls.scope.calls) = ("2".into(), true);
    let unvisited = ReleaseReport {
        unchecked: Unchecked { has_unvisited_calls: true, ..Unchecked::default() },
        ..ReleaseReport::default()
    };
    for (released, proved) in [
        (ReleaseReport::default(), [true, true]),
        (unvisited.clone(), [true, false]),
        (ReleaseReport { changed: ["1".to_owned()].into(), ..unvisited }, [false, false]),
    ] {
        let done = [&of_video, &of_calls].map(|entry| released.is_verified_for(entry));
        assert_eq!(done, proved, "{released:?}");
    }
}
