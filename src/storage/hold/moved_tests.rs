//! Versions at a store that tells the time of the last change of a legal hold as the time at which it took the version.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};

use super::manifest::Line;
use super::memory::{Memory, Told};
use super::room::Budget;
use super::{HoldError, Place, Placed, Release, Released, Task, place};
use crate::api::{Ceilings, Days};
use crate::protocol::Window;
use crate::protocol::cover::{Cover, Sources};
use crate::storage::Time;
use crate::storage::key::{Class, Key};
use crate::storage::ledger::Entry;
use crate::storage::listing::Listed;
use crate::storage::stub::{Asked, Stub, error, versions};
use crate::storage::sweep::{HoldsUnknown, OpenHolds};
use crate::storage::tag::TAG_KEY;
use crate::storage::under_way::UnderWay;

const CEILINGS: Ceilings = Ceilings { video: Days(28), calls: Days(7) };

const fn days(count: i64) -> SignedDuration {
    SignedDuration::from_hours(24 * count)
}

/// A version that was recorded so long ago, and of which the legal hold was changed a moment ago.
fn moved(now: Timestamp, recorded: SignedDuration) -> Listed {
    let key = Key::new(Class::Video, "hal", now - recorded, 60_000, &[7; 32]).unwrap();
    Listed {
        key: key.to_string(),
        id: "1".into(),
        is_marker: false,
        is_latest: true,
        modified: now - SignedDuration::from_secs(1),
        size: 10,
        etag: "e".into(),
    }
}

/// A bucket that has this one version, held.
async fn bucket(listed: &Listed) -> Stub {
    let all = [listed.clone()];
    Stub::start(move |asked| {
        let asks = |what| asked.parameter(what).is_some();
        let tag = format!("<Tag><Key>{TAG_KEY}</Key><Value>held</Value></Tag>");
        match asked.method.as_str() {
            "GET" if asks("versions") => versions(asked, &all),
            "GET" if asks("tagging") => (200, format!("<Tagging><TagSet>{tag}</TagSet></Tagging>")),
            "GET" if asks("legal-hold") => (200, "<LegalHold><Status>ON</Status></LegalHold>".to_owned()),
            "GET" => error(404, "NoSuchKey"),
            "DELETE" => (204, String::new()),
            _ => (200, String::new()),
        }
    })
    .await
}

/// What a hold over `hal` covers, from so long ago until so long ago.
fn cover(now: Timestamp, from: SignedDuration, until: Option<SignedDuration>) -> Cover {
    Cover {
        sources: Sources::Named(["hal".to_owned()].into()),
        calls: false,
        window: Window::new(now - from, until.map(|until| now - until)),
    }
}

/// The ledger's entry of a hold that is resolved.
fn resolved(now: Timestamp, from: SignedDuration, until: SignedDuration) -> Entry {
    let spec = serde_json::from_value(serde_json::json!({
        "siteRef": {"name": "s"}, "cameras": ["hal"], "purpose": "Theft", "reference": "1",
        "window": {"from": now - from, "until": now - until},
    }));
    Entry::of("1".into(), "n".into(), "h".into(), &spec.unwrap(), now).resolved(now)
}

/// What a manifest lists that has this one version.
fn told(memory: &Memory, listed: &Listed) -> Told {
    let mut told = Told::new(memory, &[], 0);
    let line = Line {
        key: listed.key.clone(),
        version_id: listed.id.clone(),
        bytes: listed.size,
        sealed_until: None,
    };
    told.add(memory, &line);
    told
}

struct Declared(Vec<Cover>);

#[async_trait]
impl OpenHolds for Declared {
    async fn covers(&self) -> Result<Vec<Cover>, HoldsUnknown> {
        Ok(self.0.clone())
    }
}

async fn released(
    stub: &Stub,
    closing: &Entry,
    open: Vec<Cover>,
    memory: &Memory,
    now: Timestamp,
) -> Released {
    let closing = std::slice::from_ref(closing);
    Release::new(closing, &Declared(open), &CEILINGS, memory)
        .pass(&stub.target(), Time::of(now))
        .await
        .unwrap()
}

/// Places holds. Days on which keys cannot be true are looked at where some are `closing`.
async fn placed(
    stub: &Stub,
    open: &[Cover],
    closing: Option<&[Cover]>,
    told: Option<Told>,
    proved_at: &[Option<Timestamp>],
    memory: &Memory,
    now: Timestamp,
) -> Placed {
    let cameras = BTreeMap::new();
    let told: Vec<_> = told.into_iter().map(Into::into).collect();
    let task = Task {
        covers: open,
        cameras: &cameras,
        ceilings: &CEILINGS,
        embargo: None,
        since: None,
        everywhere: closing.is_some(),
        proved_at,
        told: &told,
        closing: closing.unwrap_or_default(),
        memory,
        trusted_since: None,
        is_verifying: false,
    };
    place(&stub.target(), &task, now).await.unwrap()
}

fn writes(asked: &[Asked]) -> usize {
    asked.iter().filter(|asked| asked.method != "GET").count()
}

/// The release was broken off when it had taken the legal hold off: the version goes, and is not taken for one of the hold
/// that is open now.
#[tokio::test]
async fn a_release_that_was_broken_off_goes_on_by_the_key() {
    let now = Timestamp::now();
    let listed = moved(now, days(100));
    let closing = resolved(now, days(101), days(99));
    let ongoing = cover(now, SignedDuration::from_hours(1), None);
    let memory = Memory::default();
    let stub = bucket(&listed).await;
    let expected = Released { deleted: 1, unsettled: ["1".to_owned()].into(), ..Released::default() };
    let done = released(&stub, &closing, vec![ongoing], &memory, now).await;
    assert_eq!(done, expected);
    // A hold that covers it by its key keeps it.
    let same = cover(now, days(101), Some(days(99)));
    let kept = released(&stub, &closing, vec![same], &memory, now).await;
    assert_eq!((kept.undecided.len(), kept.deleted), (1, 0));
}

#[tokio::test]
async fn a_version_that_is_being_released_is_offered_to_no_other_hold() {
    let now = Timestamp::now();
    let listed = moved(now, days(100));
    let (closing, other) = (cover(now, days(101), Some(days(99))), cover(now, days(90), Some(days(89))));
    let ongoing = cover(now, SignedDuration::from_hours(1), None);
    for (closing, segments) in [(&closing, 0), (&other, 1)] {
        let stub = bucket(&listed).await;
        let memory = Memory::default();
        let closing = Some(std::slice::from_ref(closing));
        let placed = placed(&stub, std::slice::from_ref(&ongoing), closing, None, &[], &memory, now).await;
        assert_eq!(placed.coverage[0].segments, segments, "{closing:?}");
        assert_eq!(writes(&stub.take()) > 0, segments > 0, "{closing:?}");
    }
    // One that covers it by its key keeps it.
    let (stub, memory) = (bucket(&listed).await, Memory::default());
    let same = std::slice::from_ref(&closing);
    let placed = placed(&stub, same, Some(same), None, &[], &memory, now).await;
    assert_eq!(placed.coverage[0].segments, 1);
}

/// The key could not be true when the version was held for what happened five days ago. Now it can be true, and no hold is
/// about it.
#[tokio::test]
async fn what_a_manifest_lists_stays_held_though_its_key_can_be_true_by_now() {
    let now = Timestamp::now();
    let listed = moved(now, days(2));
    let hold = cover(now, days(5), Some(days(5) - SignedDuration::from_hours(1)));
    for is_told in [true, false] {
        let (stub, memory) = (bucket(&listed).await, Memory::default());
        let told = is_told.then(|| told(&memory, &listed));
        let placed = placed(&stub, std::slice::from_ref(&hold), None, told, &[], &memory, now).await;
        assert_eq!(placed.coverage[0].segments, u64::from(is_told));
    }
}

#[tokio::test]
async fn what_a_manifest_lists_is_released_though_its_key_can_be_true_by_now() {
    let now = Timestamp::now();
    let listed = moved(now, days(2));
    let closing = resolved(now, days(5), days(5) - SignedDuration::from_hours(1));
    for is_told in [true, false] {
        let (stub, memory) = (bucket(&listed).await, Memory::default());
        if is_told {
            memory.note_told(&closing.uid, told(&memory, &listed));
        }
        let expected = Released {
            released: u64::from(is_told),
            unsettled: is_told.then(|| "1".to_owned()).into_iter().collect(),
            ..Released::default()
        };
        let done = released(&stub, &closing, Vec::new(), &memory, now).await;
        assert_eq!(done, expected);
        assert_eq!(writes(&stub.take()), if is_told { 2 } else { 0 });
    }
}

/// What one hold had by its key is not taken for what goes on now, only since its legal hold was changed.
#[tokio::test]
async fn a_version_that_one_hold_had_by_its_key_is_offered_to_no_other() {
    let now = Timestamp::now();
    let listed = moved(now, days(100));
    let by_key = cover(now, days(101), Some(days(99)));
    let ongoing = cover(now, SignedDuration::from_hours(1), None);
    for (is_told, expected) in [(true, [1, 0]), (false, [1, 1])] {
        let (stub, memory) = (bucket(&listed).await, Memory::default());
        let told = is_told.then(|| told(&memory, &listed));
        let covers = [by_key.clone(), ongoing.clone()];
        let placed = placed(&stub, &covers, Some(&[]), told, &[], &memory, now).await;
        let segments: Vec<u64> = placed.coverage.iter().map(|coverage| coverage.segments).collect();
        assert_eq!(segments, expected, "{is_told}");
    }
}

/// It was not known whose it is, so it is kept for both: the release of one takes it from neither.
#[tokio::test]
async fn a_version_that_another_manifest_lists_survives_a_release() {
    let now = Timestamp::now();
    let listed = moved(now, days(100));
    let closing = resolved(now, days(101), days(99));
    let spec = serde_json::from_value(serde_json::json!({
        "siteRef": {"name": "s"}, "cameras": ["hal"], "purpose": "Theft", "reference": "2", "window": {"from": now},
    }));
    let open = Entry::of("2".into(), "n".into(), "other".into(), &spec.unwrap(), now);
    // Where there is no room for that manifest, it may be in it: the hold that is released waits, and nothing is deleted.
    for (is_told, has_room) in [(true, true), (false, true), (true, false)] {
        let bytes = if has_room { u64::MAX } else { 100 };
        let memory = Memory::of_process(UnderWay::default(), &Budget::of_process(bytes));
        if is_told {
            memory.note_told(&open.uid, told(&memory, &listed));
        }
        let (all, entry) = ([listed.clone()], serde_json::to_string(&open).unwrap());
        let stub = Stub::start(move |asked| {
            let asks = |what| asked.parameter(what).is_some();
            let in_ledger =
                asked.parameter("prefix").is_some_and(|prefix| prefix.starts_with("ledger/holds/"));
            match asked.method.as_str() {
                "GET" if asks("versions") && in_ledger => {
                    let key = "ledger/holds/2.json".to_owned();
                    versions(asked, &[Listed { key, ..all[0].clone() }])
                }
                "GET" if asks("versions") => versions(asked, &all),
                "GET" if asked.path.ends_with("/ledger/holds/2.json") => (200, entry.clone()),
                "GET" if asks("tagging") => (200, "<Tagging><TagSet></TagSet></Tagging>".to_owned()),
                "GET" if asks("legal-hold") => error(404, "NoSuchObjectLockConfiguration"),
                "GET" => error(404, "NoSuchKey"),
                "DELETE" => (204, String::new()),
                _ => (200, String::new()),
            }
        })
        .await;
        let done = released(&stub, &closing, Vec::new(), &memory, now).await;
        let expected = match (is_told, has_room) {
            (true, true) => (1, 0, true),
            (true, false) => (0, 0, false),
            (false, _) => (0, 1, false),
        };
        assert_eq!((done.kept, done.deleted, done.is_proved()), expected, "{done:?}");
        assert_eq!(done.untold.len(), usize::from(!has_room));
        let why = done.untold_since.map(|why| why.to_string()).unwrap_or_default();
        let told = why.contains("hold \"other\"") && why.contains("TooManyVersions");
        assert_eq!(told, !has_room, "{why}");
    }
}

/// A store whose policies do not know the tag of a put lets whoever has a recorder's credentials put what seems to be held, and to
/// have lost its legal hold.
#[tokio::test]
async fn what_comes_with_the_tag_of_what_is_held_was_not_held() {
    let now = Timestamp::now();
    let listed = moved(now, SignedDuration::from_mins(2));
    let hold = cover(now, SignedDuration::from_hours(1), None);
    let proved_at = [Some(now - SignedDuration::from_mins(1))];
    for is_told in [false, true] {
        let memory = Memory::default();
        let all = [listed.clone()];
        let is_written = Arc::new(AtomicBool::new(false));
        let stub = Stub::start(move |asked| {
            let asks = |what| asked.parameter(what).is_some();
            let tag = format!("<Tag><Key>{TAG_KEY}</Key><Value>held</Value></Tag>");
            match asked.method.as_str() {
                "GET" if asks("versions") => versions(asked, &all),
                "GET" if asks("tagging") => (200, format!("<Tagging><TagSet>{tag}</TagSet></Tagging>")),
                "GET" if asks("legal-hold") && is_written.load(Ordering::SeqCst) => {
                    (200, "<LegalHold><Status>ON</Status></LegalHold>".to_owned())
                }
                "GET" => error(404, "NoSuchObjectLockConfiguration"),
                _ => {
                    is_written.store(true, Ordering::SeqCst);
                    (200, String::new())
                }
            }
        })
        .await;
        let told = is_told.then(|| told(&memory, &listed));
        let covers = std::slice::from_ref(&hold);
        let placed = placed(&stub, covers, None, told, &proved_at, &memory, now).await;
        assert_eq!(placed.protected, 1);
        assert_eq!(placed.drifted.is_empty(), !is_told, "{:?}", placed.drifted);
    }
}

/// Whatever takes so long on one day, what later days have is not put off by it.
#[tokio::test]
async fn after_a_turn_that_was_over_later_days_come_first() {
    let now = Timestamp::now();
    let all: Vec<Listed> = [5, 3, 1].map(|day| moved(now, days(day))).into();
    let of_day = |listed: &Listed| Place::of(&listed.key.parse().unwrap()).day;
    let (listed, keys) = (all.clone(), all.iter().map(|listed| listed.key.clone()));
    let stub = Stub::start(move |asked| match asked.parameter("versions") {
        Some(_) => versions(asked, &listed),
        None if asked.method == "GET" => error(404, "NoSuchObjectLockConfiguration"),
        None => (200, String::new()),
    })
    .await;
    let keys: Vec<String> = keys.collect();
    let window = cover(now, days(6), None);
    let covers = std::slice::from_ref(&window);
    for (reached, first) in [(None, 0), (Some(0), 1), (Some(1), 2), (Some(2), 0)] {
        let memory = Memory::default();
        if let Some(number) = reached {
            let over = HoldError::TurnOver { day: of_day(&all[number]) };
            memory.placing.note(&Err(over), now);
        }
        stub.take();
        let placed = placed(&stub, covers, None, None, &[None], &memory, now).await;
        assert_eq!(placed.coverage[0].segments, 3);
        let asked = stub.take();
        let written = asked.iter().find(|asked| asked.method == "PUT").unwrap();
        assert!(written.path.contains(&keys[first]), "{reached:?}: {}", written.path);
        assert_eq!(memory.placing.reached(), None, "it came to its end");
    }
}

/// Whoever has a recorder's credentials puts something into each day, and makes no verification rarer by it.
#[tokio::test]
async fn days_that_no_window_has_do_not_count_for_how_often_is_verified() {
    let now = Timestamp::now();
    let window = cover(now, days(3), Some(days(2)));
    let all: Vec<Listed> = (0..40).map(|day| moved(now, days(day))).collect();
    let stub = Stub::start(move |asked| match asked.parameter("versions") {
        Some(_) => versions(asked, &all),
        None => (200, "<LegalHold><Status>ON</Status></LegalHold>".to_owned()),
    })
    .await;
    let (window, memory) = (std::slice::from_ref(&window), Memory::default());
    let placed = placed(&stub, window, Some(&[]), None, &[], &memory, now).await;
    let is_of_day = |asked: &&Asked| {
        let prefix = asked.parameter("prefix").unwrap_or_default();
        prefix.matches('/').count() == 5
    };
    let listed = stub.take().iter().filter(is_of_day).count();
    assert!(listed >= 40, "{listed}");
    // The window's own, one before since a recording may begin in it, and one after since clocks differ.
    assert!((2..=4).contains(&placed.listed_days), "{}", placed.listed_days);
}

/// A key that cannot be true may be on a day that had not its turn when the hold was proved: nobody has tampered with it.
#[tokio::test]
async fn a_key_that_cannot_be_true_and_is_found_late_was_changed_by_nobody() {
    let now = Timestamp::now();
    let minutes = SignedDuration::from_mins;
    let ongoing = cover(now, SignedDuration::from_hours(1), None);
    for (recorded, is_drift) in [(days(100), false), (-days(100), false), (minutes(30), true)] {
        let listed = Listed { modified: now - minutes(20), ..moved(now, recorded) };
        let (all, is_held) = ([listed], Arc::new(Mutex::new(false)));
        let stub = Stub::start(move |asked| {
            let asks = |what| asked.parameter(what).is_some();
            let mut is_held = is_held.lock().unwrap();
            let tag = if *is_held { "held" } else { "video" };
            let tag = format!("<Tag><Key>{TAG_KEY}</Key><Value>{tag}</Value></Tag>");
            let hold = if *is_held { "ON" } else { "OFF" };
            match asked.method.as_str() {
                "GET" if asks("versions") => versions(asked, &all),
                "GET" if asks("tagging") => (200, format!("<Tagging><TagSet>{tag}</TagSet></Tagging>")),
                "GET" if asks("legal-hold") => {
                    (200, format!("<LegalHold><Status>{hold}</Status></LegalHold>"))
                }
                "GET" => error(404, "NoSuchKey"),
                _ => {
                    *is_held = true;
                    (200, String::new())
                }
            }
        })
        .await;
        let (open, memory) = (std::slice::from_ref(&ongoing), Memory::default());
        let proved_at = [Some(now - minutes(1))];
        let placed = placed(&stub, open, Some(&[]), None, &proved_at, &memory, now).await;
        assert_eq!((placed.protected, placed.coverage[0].segments), (1, 1), "{recorded:?}");
        assert_eq!(!placed.drifted.is_empty(), is_drift, "{recorded:?}: {:?}", placed.drifted);
    }
}
