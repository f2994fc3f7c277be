//! Versions on a store that updates the modification time when the legal hold changes.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::manifest_format::ManifestSegment;
use super::memory_budget::MemoryBudget;
use super::protection_cache::{ManifestVersions, ProtectionCache};
use super::{PlaceInput, PlaceReport, Release, ReleaseReport, place};
use crate::rules::hold::scope::tests::video_scope;
use crate::rules::{
    Class, HoldScope, Key, LedgerEntry, ListedVersion, PROTOCOL_CEILINGS, RetentionTerms, Window,
};
use crate::storage::recordings::{HoldError, SourceDay};
use crate::storage::s3::stub::{FakeBucket, FixedHolds, ReceivedRequest, Stub, listed};
use crate::storage::s3::{DecisionTime, InDoubtRequests};

const TERMS: RetentionTerms = RetentionTerms::with_live_view(PROTOCOL_CEILINGS);

const fn days(count: i64) -> SignedDuration {
    SignedDuration::from_hours(24 * count)
}

/// A version of this age whose legal hold was changed a moment ago.
fn recording_with_recent_hold_change(now: Timestamp, recorded: SignedDuration) -> ListedVersion {
    let key = Key::new(Class::Video, "hal", now - recorded, 60_000, &[7; 32]).unwrap();
    listed(key, "1", now - SignedDuration::from_secs(1))
}

/// A bucket with this one version, held. It stays there, whatever is deleted.
async fn start_bucket(listed: &ListedVersion) -> Stub {
    let bucket = FakeBucket::of([listed.clone()]).tagged("held").with_legal_hold("ON");
    bucket.start(|asked, _| (asked.method == "DELETE").then(|| (204, String::new()))).await.0
}

/// Scope over `hal` between these ages.
fn scope(now: Timestamp, from: SignedDuration, until: Option<SignedDuration>) -> HoldScope {
    video_scope(&["hal"], Window::new(now - from, until.map(|until| now - until)))
}

/// Ledger entry of a resolved hold.
fn resolved_entry(now: Timestamp, from: SignedDuration, until: SignedDuration) -> LedgerEntry {
    let spec = serde_json::from_value(serde_json::json!({
        "siteRef": {"name": "s"}, "cameras": ["hal"], "purpose": "Theft", "reference": "1",
        "window": {"from": now - from, "until": now - until},
    }));
    LedgerEntry::new("1".into(), "n".into(), "h".into(), &spec.unwrap(), now).resolved(now)
}

/// Manifest with this one version.
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

async fn run_release(
    stub: &Stub,
    closing: &LedgerEntry,
    open: Vec<HoldScope>,
    memory: &ProtectionCache,
    now: Timestamp,
) -> ReleaseReport {
    let closing = std::slice::from_ref(closing);
    Release::new(closing, &FixedHolds(Ok(open)), &PROTOCOL_CEILINGS, memory)
        .run_pass(&stub.connection(), DecisionTime::at(now))
        .await
        .unwrap()
}

/// Places holds. With `closing`, every day is visited.
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

/// The release stopped after it had removed the legal hold. The version is deleted, and not held for the hold that is
/// open now.
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
    // A hold that covers it by key keeps it.
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
    // A hold that covers it by key keeps it.
    let (stub, memory) = (start_bucket(&listed).await, ProtectionCache::default());
    let same = std::slice::from_ref(&closing);
    let placed = run_place(&stub, same, Some(same), None, &[], &memory, now).await;
    assert_eq!(placed.coverage[0].segments, 1);
}

/// The key was implausible when the version was held for an incident five days ago. It is plausible now, and no scope
/// covers it.
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

/// A version held by its key is not held for a later incident only because its legal hold changed.
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

/// Its owner was unknown, so both holds keep it, and the release of one does not affect the other.
#[tokio::test]
async fn release_keeps_versions_in_other_manifests() {
    let now = Timestamp::now();
    let listed = recording_with_recent_hold_change(now, days(100));
    let closing = resolved_entry(now, days(101), days(99));
    let spec = serde_json::from_value(serde_json::json!({
        "siteRef": {"name": "s"}, "cameras": ["hal"], "purpose": "Theft", "reference": "2", "window": {"from": now},
    }));
    let open = LedgerEntry::new("2".into(), "n".into(), "other".into(), &spec.unwrap(), now);
    // If the other manifest exceeds the budget, it may list the version. The release waits, and nothing is deleted.
    for (is_told, has_room) in [(true, true), (false, true), (true, false)] {
        let bytes = if has_room { u64::MAX } else { 100 };
        let memory =
            ProtectionCache::with_budget(InDoubtRequests::default(), &MemoryBudget::of_process(bytes));
        if is_told {
            memory.put_manifest(&open.uid, manifest_listing(&memory, &listed));
        }
        let key = "ledger/holds/2.json";
        let entry_version = ListedVersion { key: key.to_owned(), ..listed.clone() };
        let mut bucket = FakeBucket::of([entry_version, listed.clone()]);
        bucket.put(key, serde_json::to_string(&open).unwrap());
        let (stub, _) = bucket.start(|_, _| None).await;
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

/// On a store whose policies cannot restrict tags, a recorder can put a version that looks as if it had lost its legal
/// hold.
#[tokio::test]
async fn new_version_with_held_tag_is_not_drift() {
    let now = Timestamp::now();
    let listed = recording_with_recent_hold_change(now, SignedDuration::from_mins(2));
    let hold = scope(now, SignedDuration::from_hours(1), None);
    let proved_at = [Some(now - SignedDuration::from_mins(1))];
    for is_told in [false, true] {
        let memory = ProtectionCache::default();
        let (stub, _) = FakeBucket::of([listed.clone()]).tagged("held").start(|_, _| None).await;
        let told = is_told.then(|| manifest_listing(&memory, &listed));
        let covers = std::slice::from_ref(&hold);
        let placed = run_place(&stub, covers, None, told, &proved_at, &memory, now).await;
        assert_eq!(placed.legal_holds_set, 1);
        assert_eq!(placed.drifted.is_empty(), !is_told, "{:?}", placed.drifted);
    }
}

/// However long one day takes, the next pass starts after it.
#[tokio::test]
async fn pass_after_timeout_starts_with_later_days() {
    let now = Timestamp::now();
    let all: Vec<ListedVersion> =
        [5, 3, 1].map(|day| recording_with_recent_hold_change(now, days(day))).into();
    let of_day = |listed: &ListedVersion| SourceDay::of(&listed.key.parse().unwrap()).day;
    let keys: Vec<String> = all.iter().map(|listed| listed.key.clone()).collect();
    let (stub, _) = FakeBucket::of(all.clone()).start(|_, _| None).await;
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

/// Anyone with a recorder's credentials can put a version into each day, which must not make verification rarer.
#[tokio::test]
async fn days_outside_windows_do_not_count_as_listed() {
    let now = Timestamp::now();
    let window = scope(now, days(3), Some(days(2)));
    let all: Vec<ListedVersion> =
        (0..40).map(|day| recording_with_recent_hold_change(now, days(day))).collect();
    let (stub, _) = FakeBucket::of(all).start(|_, _| None).await;
    let (window, memory) = (std::slice::from_ref(&window), ProtectionCache::default());
    let placed = run_place(&stub, window, Some(&[]), None, &[], &memory, now).await;
    let is_of_day = |asked: &&ReceivedRequest| {
        let prefix = asked.query_parameter("prefix").unwrap_or_default();
        prefix.matches('/').count() == 5
    };
    let listed = stub.take_requests().iter().filter(is_of_day).count();
    assert!(listed >= 40, "{listed}");
    // The window's days, one before it since a recording may begin there, and one after it since clocks differ.
    assert!((2..=4).contains(&placed.listed_days), "{}", placed.listed_days);
}

/// An implausible key may be on a day that was not visited before: nobody has tampered with it.
#[tokio::test]
async fn implausible_key_found_late_is_not_drift() {
    let now = Timestamp::now();
    let minutes = SignedDuration::from_mins;
    let ongoing = scope(now, SignedDuration::from_hours(1), None);
    for (recorded, is_drift) in [(days(100), false), (-days(100), false), (minutes(30), true)] {
        let listed =
            ListedVersion { modified: now - minutes(20), ..recording_with_recent_hold_change(now, recorded) };
        let bucket = FakeBucket::of([listed]).tagged("video").with_legal_hold("OFF");
        let (stub, _) = bucket.start(|_, _| None).await;
        let (open, memory) = (std::slice::from_ref(&ongoing), ProtectionCache::default());
        let proved_at = [Some(now - minutes(1))];
        let placed = run_place(&stub, open, Some(&[]), None, &proved_at, &memory, now).await;
        assert_eq!((placed.legal_holds_set, placed.coverage[0].segments), (1, 1), "{recorded:?}");
        assert_eq!(!placed.drifted.is_empty(), is_drift, "{recorded:?}: {:?}", placed.drifted);
    }
}
