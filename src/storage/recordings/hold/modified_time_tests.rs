//! Versions at a store that tells the time of the last change of a legal hold as the time at which it took the version.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};

use super::manifest_format::ManifestSegment;
use super::memory_budget::MemoryBudget;
use super::protection_cache::{ManifestVersions, ProtectionCache};
use super::{PlaceInput, PlaceReport, Release, ReleaseReport, place};
use crate::rules::Window;
use crate::rules::hold::entry::LedgerEntry;
use crate::rules::hold::scope::{CameraSelector, HoldScope};
use crate::rules::recording::key::{Class, Key};
use crate::rules::recording::tag::TAG_KEY;
use crate::rules::recording::version::ListedVersion;
use crate::rules::retention::{PROTOCOL_CEILINGS, RetentionTerms};
use crate::storage::DecisionTime;
use crate::storage::recordings::error::{HoldError, SourceDay};
use crate::storage::recordings::open_holds::{OpenHolds, OpenHoldsError};
use crate::storage::s3::in_doubt_requests::InDoubtRequests;
use crate::storage::s3::stub::{ReceivedRequest, Stub, error_answer, versions_answer};

const TERMS: RetentionTerms = RetentionTerms::with_live_view(PROTOCOL_CEILINGS);

const fn days(count: i64) -> SignedDuration {
    SignedDuration::from_hours(24 * count)
}

/// A version that was recorded so long ago, and of which the legal hold was changed a moment ago.
fn recording_with_recent_hold_change(now: Timestamp, recorded: SignedDuration) -> ListedVersion {
    let key = Key::new(Class::Video, "hal", now - recorded, 60_000, &[7; 32]).unwrap();
    ListedVersion {
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
async fn start_bucket(listed: &ListedVersion) -> Stub {
    let all = [listed.clone()];
    Stub::start(move |asked| {
        let asks = |what| asked.query_parameter(what).is_some();
        let tag = format!("<Tag><Key>{TAG_KEY}</Key><Value>held</Value></Tag>");
        match asked.method.as_str() {
            "GET" if asks("versions") => versions_answer(asked, &all),
            "GET" if asks("tagging") => (200, format!("<Tagging><TagSet>{tag}</TagSet></Tagging>")),
            "GET" if asks("legal-hold") => (200, "<LegalHold><Status>ON</Status></LegalHold>".to_owned()),
            "GET" => error_answer(404, "NoSuchKey"),
            "DELETE" => (204, String::new()),
            _ => (200, String::new()),
        }
    })
    .await
}

/// What a hold over `hal` covers, from so long ago until so long ago.
fn scope(now: Timestamp, from: SignedDuration, until: Option<SignedDuration>) -> HoldScope {
    HoldScope {
        cameras: CameraSelector::Named(["hal".to_owned()].into()),
        calls: false,
        window: Window::new(now - from, until.map(|until| now - until)),
    }
}

/// The ledger's entry of a hold that is resolved.
fn resolved_entry(now: Timestamp, from: SignedDuration, until: SignedDuration) -> LedgerEntry {
    let spec = serde_json::from_value(serde_json::json!({
        "siteRef": {"name": "s"}, "cameras": ["hal"], "purpose": "Theft", "reference": "1",
        "window": {"from": now - from, "until": now - until},
    }));
    LedgerEntry::new("1".into(), "n".into(), "h".into(), &spec.unwrap(), now).resolved(now)
}

/// What a manifest lists that has this one version.
fn manifest_listing(memory: &ProtectionCache, listed: &ListedVersion) -> ManifestVersions {
    let mut told = ManifestVersions::new(memory, &[], 0);
    let line = ManifestSegment {
        key: listed.key.clone(),
        version_id: listed.id.clone(),
        bytes: listed.size,
        sealed_until: None,
    };
    told.add(memory, &line);
    told
}

struct FixedOpenHolds(Vec<HoldScope>);

#[async_trait]
impl OpenHolds for FixedOpenHolds {
    async fn scopes(&self) -> Result<Vec<HoldScope>, OpenHoldsError> {
        Ok(self.0.clone())
    }
}

async fn run_release(
    stub: &Stub,
    closing: &LedgerEntry,
    open: Vec<HoldScope>,
    memory: &ProtectionCache,
    now: Timestamp,
) -> ReleaseReport {
    let closing = std::slice::from_ref(closing);
    Release::new(closing, &FixedOpenHolds(open), &PROTOCOL_CEILINGS, memory)
        .run_pass(&stub.connection(), DecisionTime::at(now))
        .await
        .unwrap()
}

/// Places holds. Days on which keys cannot be true are looked at where some are `closing`.
async fn run_place(
    stub: &Stub,
    open: &[HoldScope],
    closing: Option<&[HoldScope]>,
    told: Option<ManifestVersions>,
    proved_at: &[Option<Timestamp>],
    memory: &ProtectionCache,
    now: Timestamp,
) -> PlaceReport {
    let cameras = BTreeMap::new();
    let told: Vec<_> = told.into_iter().map(Into::into).collect();
    let task = PlaceInput {
        scopes: open,
        cameras: &cameras,
        terms: &TERMS,
        since: None,
        is_every_day: closing.is_some(),
        verified_at: proved_at,
        manifests: &told,
        closing_scopes: closing.unwrap_or_default(),
        cache: memory,
        trusted_since: None,
        is_verifying: false,
    };
    place(&stub.connection(), &task, now).await.unwrap()
}

fn count_writes(asked: &[ReceivedRequest]) -> usize {
    asked.iter().filter(|asked| asked.method != "GET").count()
}

/// The release was broken off when it had taken the legal hold off: the version goes, and is not taken for one of the hold
/// that is open now.
#[tokio::test]
async fn interrupted_release_resumes_by_key() {
    let now = Timestamp::now();
    let listed = recording_with_recent_hold_change(now, days(100));
    let closing = resolved_entry(now, days(101), days(99));
    let ongoing = scope(now, SignedDuration::from_hours(1), None);
    let memory = ProtectionCache::default();
    let stub = start_bucket(&listed).await;
    let expected = ReleaseReport { deleted: 1, changed: ["1".to_owned()].into(), ..ReleaseReport::default() };
    let done = run_release(&stub, &closing, vec![ongoing], &memory, now).await;
    assert_eq!(done, expected);
    // A hold that covers it by its key keeps it.
    let same = scope(now, days(101), Some(days(99)));
    let kept = run_release(&stub, &closing, vec![same], &memory, now).await;
    assert_eq!((kept.waiting_for_ledger.len(), kept.deleted), (1, 0));
}

#[tokio::test]
async fn version_under_release_is_not_held_by_modified_time() {
    let now = Timestamp::now();
    let listed = recording_with_recent_hold_change(now, days(100));
    let (closing, other) = (scope(now, days(101), Some(days(99))), scope(now, days(90), Some(days(89))));
    let ongoing = scope(now, SignedDuration::from_hours(1), None);
    for (closing, segments) in [(&closing, 0), (&other, 1)] {
        let stub = start_bucket(&listed).await;
        let memory = ProtectionCache::default();
        let closing = Some(std::slice::from_ref(closing));
        let placed = run_place(&stub, std::slice::from_ref(&ongoing), closing, None, &[], &memory, now).await;
        assert_eq!(placed.coverage[0].segments, segments, "{closing:?}");
        assert_eq!(count_writes(&stub.take_requests()) > 0, segments > 0, "{closing:?}");
    }
    // One that covers it by its key keeps it.
    let (stub, memory) = (start_bucket(&listed).await, ProtectionCache::default());
    let same = std::slice::from_ref(&closing);
    let placed = run_place(&stub, same, Some(same), None, &[], &memory, now).await;
    assert_eq!(placed.coverage[0].segments, 1);
}

/// The key could not be true when the version was held for what happened five days ago. Now it can be true, and no hold is
/// about it.
#[tokio::test]
async fn version_in_manifest_stays_held_after_key_becomes_plausible() {
    let now = Timestamp::now();
    let listed = recording_with_recent_hold_change(now, days(2));
    let hold = scope(now, days(5), Some(days(5) - SignedDuration::from_hours(1)));
    for is_told in [true, false] {
        let (stub, memory) = (start_bucket(&listed).await, ProtectionCache::default());
        let told = is_told.then(|| manifest_listing(&memory, &listed));
        let placed = run_place(&stub, std::slice::from_ref(&hold), None, told, &[], &memory, now).await;
        assert_eq!(placed.coverage[0].segments, u64::from(is_told));
    }
}

#[tokio::test]
async fn version_in_manifest_is_released_after_key_becomes_plausible() {
    let now = Timestamp::now();
    let listed = recording_with_recent_hold_change(now, days(2));
    let closing = resolved_entry(now, days(5), days(5) - SignedDuration::from_hours(1));
    for is_told in [true, false] {
        let (stub, memory) = (start_bucket(&listed).await, ProtectionCache::default());
        if is_told {
            memory.put_manifest(&closing.uid, manifest_listing(&memory, &listed));
        }
        let expected = ReleaseReport {
            released: u64::from(is_told),
            changed: is_told.then(|| "1".to_owned()).into_iter().collect(),
            ..ReleaseReport::default()
        };
        let done = run_release(&stub, &closing, Vec::new(), &memory, now).await;
        assert_eq!(done, expected);
        assert_eq!(count_writes(&stub.take_requests()), if is_told { 2 } else { 0 });
    }
}

/// What one hold had by its key is not taken for what goes on now, only since its legal hold was changed.
#[tokio::test]
async fn version_in_manifest_is_not_held_by_modified_time() {
    let now = Timestamp::now();
    let listed = recording_with_recent_hold_change(now, days(100));
    let by_key = scope(now, days(101), Some(days(99)));
    let ongoing = scope(now, SignedDuration::from_hours(1), None);
    for (is_told, expected) in [(true, [1, 0]), (false, [1, 1])] {
        let (stub, memory) = (start_bucket(&listed).await, ProtectionCache::default());
        let told = is_told.then(|| manifest_listing(&memory, &listed));
        let covers = [by_key.clone(), ongoing.clone()];
        let placed = run_place(&stub, &covers, Some(&[]), told, &[], &memory, now).await;
        let segments: Vec<u64> = placed.coverage.iter().map(|coverage| coverage.segments).collect();
        assert_eq!(segments, expected, "{is_told}");
    }
}

/// It was not known whose it is, so it is kept for both: the release of one takes it from neither.
#[tokio::test]
async fn release_keeps_versions_in_other_manifests() {
    let now = Timestamp::now();
    let listed = recording_with_recent_hold_change(now, days(100));
    let closing = resolved_entry(now, days(101), days(99));
    let spec = serde_json::from_value(serde_json::json!({
        "siteRef": {"name": "s"}, "cameras": ["hal"], "purpose": "Theft", "reference": "2", "window": {"from": now},
    }));
    let open = LedgerEntry::new("2".into(), "n".into(), "other".into(), &spec.unwrap(), now);
    // Where there is no room for that manifest, it may be in it: the hold that is released waits, and nothing is deleted.
    for (is_told, has_room) in [(true, true), (false, true), (true, false)] {
        let bytes = if has_room { u64::MAX } else { 100 };
        let memory =
            ProtectionCache::with_budget(InDoubtRequests::default(), &MemoryBudget::of_process(bytes));
        if is_told {
            memory.put_manifest(&open.uid, manifest_listing(&memory, &listed));
        }
        let (all, entry) = ([listed.clone()], serde_json::to_string(&open).unwrap());
        let stub = Stub::start(move |asked| {
            let asks = |what| asked.query_parameter(what).is_some();
            let in_ledger =
                asked.query_parameter("prefix").is_some_and(|prefix| prefix.starts_with("ledger/holds/"));
            match asked.method.as_str() {
                "GET" if asks("versions") && in_ledger => {
                    let key = "ledger/holds/2.json".to_owned();
                    versions_answer(asked, &[ListedVersion { key, ..all[0].clone() }])
                }
                "GET" if asks("versions") => versions_answer(asked, &all),
                "GET" if asked.path.ends_with("/ledger/holds/2.json") => (200, entry.clone()),
                "GET" if asks("tagging") => (200, "<Tagging><TagSet></TagSet></Tagging>".to_owned()),
                "GET" if asks("legal-hold") => error_answer(404, "NoSuchObjectLockConfiguration"),
                "GET" => error_answer(404, "NoSuchKey"),
                "DELETE" => (204, String::new()),
                _ => (200, String::new()),
            }
        })
        .await;
        let done = run_release(&stub, &closing, Vec::new(), &memory, now).await;
        let expected = match (is_told, has_room) {
            (true, true) => (1, 0, true),
            (true, false) => (0, 0, false),
            (false, _) => (0, 1, false),
        };
        assert_eq!((done.still_held, done.deleted, done.is_verified()), expected, "{done:?}");
        assert_eq!(done.waiting_for_manifest.len(), usize::from(!has_room));
        let why = done.manifest_error.map(|why| why.to_string()).unwrap_or_default();
        let told = why.contains("hold \"other\"") && why.contains("TooManyVersions");
        assert_eq!(told, !has_room, "{why}");
    }
}

/// A store whose policies do not know the tag of a put lets whoever has a recorder's credentials put what seems to be held, and to
/// have lost its legal hold.
#[tokio::test]
async fn new_version_with_held_tag_is_not_drift() {
    let now = Timestamp::now();
    let listed = recording_with_recent_hold_change(now, SignedDuration::from_mins(2));
    let hold = scope(now, SignedDuration::from_hours(1), None);
    let proved_at = [Some(now - SignedDuration::from_mins(1))];
    for is_told in [false, true] {
        let memory = ProtectionCache::default();
        let all = [listed.clone()];
        let is_written = Arc::new(AtomicBool::new(false));
        let stub = Stub::start(move |asked| {
            let asks = |what| asked.query_parameter(what).is_some();
            let tag = format!("<Tag><Key>{TAG_KEY}</Key><Value>held</Value></Tag>");
            match asked.method.as_str() {
                "GET" if asks("versions") => versions_answer(asked, &all),
                "GET" if asks("tagging") => (200, format!("<Tagging><TagSet>{tag}</TagSet></Tagging>")),
                "GET" if asks("legal-hold") && is_written.load(Ordering::SeqCst) => {
                    (200, "<LegalHold><Status>ON</Status></LegalHold>".to_owned())
                }
                "GET" => error_answer(404, "NoSuchObjectLockConfiguration"),
                _ => {
                    is_written.store(true, Ordering::SeqCst);
                    (200, String::new())
                }
            }
        })
        .await;
        let told = is_told.then(|| manifest_listing(&memory, &listed));
        let covers = std::slice::from_ref(&hold);
        let placed = run_place(&stub, covers, None, told, &proved_at, &memory, now).await;
        assert_eq!(placed.legal_holds_set, 1);
        assert_eq!(placed.drifted.is_empty(), !is_told, "{:?}", placed.drifted);
    }
}

/// Whatever takes so long on one day, what later days have is not put off by it.
#[tokio::test]
async fn pass_after_timeout_starts_with_later_days() {
    let now = Timestamp::now();
    let all: Vec<ListedVersion> =
        [5, 3, 1].map(|day| recording_with_recent_hold_change(now, days(day))).into();
    let of_day = |listed: &ListedVersion| SourceDay::of(&listed.key.parse().unwrap()).day;
    let (listed, keys) = (all.clone(), all.iter().map(|listed| listed.key.clone()));
    let stub = Stub::start(move |asked| match asked.query_parameter("versions") {
        Some(_) => versions_answer(asked, &listed),
        None if asked.method == "GET" => error_answer(404, "NoSuchObjectLockConfiguration"),
        None => (200, String::new()),
    })
    .await;
    let keys: Vec<String> = keys.collect();
    let window = scope(now, days(6), None);
    let covers = std::slice::from_ref(&window);
    for (reached, first) in [(None, 0), (Some(0), 1), (Some(1), 2), (Some(2), 0)] {
        let memory = ProtectionCache::default();
        if let Some(number) = reached {
            let over = HoldError::PassTimeout { day: of_day(&all[number]) };
            memory.place_deadline.note_result(&Err(over), now);
        }
        stub.take_requests();
        let placed = run_place(&stub, covers, None, None, &[None], &memory, now).await;
        assert_eq!(placed.coverage[0].segments, 3);
        let asked = stub.take_requests();
        let written = asked.iter().find(|asked| asked.method == "PUT").unwrap();
        assert!(written.path.contains(&keys[first]), "{reached:?}: {}", written.path);
        assert_eq!(memory.place_deadline.reached_day(), None, "it came to its end");
    }
}

/// Whoever has a recorder's credentials puts something into each day, and makes no verification rarer by it.
#[tokio::test]
async fn days_outside_windows_do_not_count_as_listed() {
    let now = Timestamp::now();
    let window = scope(now, days(3), Some(days(2)));
    let all: Vec<ListedVersion> =
        (0..40).map(|day| recording_with_recent_hold_change(now, days(day))).collect();
    let stub = Stub::start(move |asked| match asked.query_parameter("versions") {
        Some(_) => versions_answer(asked, &all),
        None => (200, "<LegalHold><Status>ON</Status></LegalHold>".to_owned()),
    })
    .await;
    let (window, memory) = (std::slice::from_ref(&window), ProtectionCache::default());
    let placed = run_place(&stub, window, Some(&[]), None, &[], &memory, now).await;
    let is_of_day = |asked: &&ReceivedRequest| {
        let prefix = asked.query_parameter("prefix").unwrap_or_default();
        prefix.matches('/').count() == 5
    };
    let listed = stub.take_requests().iter().filter(is_of_day).count();
    assert!(listed >= 40, "{listed}");
    // The window's own, one before since a recording may begin in it, and one after since clocks differ.
    assert!((2..=4).contains(&placed.listed_days), "{}", placed.listed_days);
}

/// A key that cannot be true may be on a day that had not its turn when the hold was proved: nobody has tampered with it.
#[tokio::test]
async fn implausible_key_found_late_is_not_drift() {
    let now = Timestamp::now();
    let minutes = SignedDuration::from_mins;
    let ongoing = scope(now, SignedDuration::from_hours(1), None);
    for (recorded, is_drift) in [(days(100), false), (-days(100), false), (minutes(30), true)] {
        let listed =
            ListedVersion { modified: now - minutes(20), ..recording_with_recent_hold_change(now, recorded) };
        let (all, is_held) = ([listed], Arc::new(Mutex::new(false)));
        let stub = Stub::start(move |asked| {
            let asks = |what| asked.query_parameter(what).is_some();
            let mut is_held = is_held.lock().unwrap();
            let tag = if *is_held { "held" } else { "video" };
            let tag = format!("<Tag><Key>{TAG_KEY}</Key><Value>{tag}</Value></Tag>");
            let hold = if *is_held { "ON" } else { "OFF" };
            match asked.method.as_str() {
                "GET" if asks("versions") => versions_answer(asked, &all),
                "GET" if asks("tagging") => (200, format!("<Tagging><TagSet>{tag}</TagSet></Tagging>")),
                "GET" if asks("legal-hold") => {
                    (200, format!("<LegalHold><Status>{hold}</Status></LegalHold>"))
                }
                "GET" => error_answer(404, "NoSuchKey"),
                _ => {
                    *is_held = true;
                    (200, String::new())
                }
            }
        })
        .await;
        let (open, memory) = (std::slice::from_ref(&ongoing), ProtectionCache::default());
        let proved_at = [Some(now - minutes(1))];
        let placed = run_place(&stub, open, Some(&[]), None, &proved_at, &memory, now).await;
        assert_eq!((placed.legal_holds_set, placed.coverage[0].segments), (1, 1), "{recorded:?}");
        assert_eq!(!placed.drifted.is_empty(), is_drift, "{recorded:?}: {:?}", placed.drifted);
    }
}
