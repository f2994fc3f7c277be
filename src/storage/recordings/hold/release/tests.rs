//! Releases while somebody goes on to put, and of what the store does not give up.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use jiff::SignedDuration;

use super::*;
use crate::rules::recording::Class;
use crate::rules::recording::key::Key;
use crate::rules::recording::tag::TAG_KEY;
use crate::rules::retention::PROTOCOL_CEILINGS;
use crate::storage::s3::stub::{NoOpenHolds, ReceivedRequest, Stub, error_answer, versions_answer};

/// The ledger's entry of a hold over `hal`, that is resolved.
fn entry(now: jiff::Timestamp) -> LedgerEntry {
    entry_over("1", &["hal"], now)
}

/// The same of a hold over some cameras.
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
    ListedVersion {
        key: key.to_string(),
        id: number.to_string(),
        is_marker: false,
        is_latest: true,
        modified: now - ago,
        size: 10,
        etag: "e".into(),
    }
}

/// What is in the bucket: recordings of `hal`, their tags and legal holds by version id, and what is refused.
struct ReleaseBucket {
    all: Vec<ListedVersion>,
    tags: BTreeMap<String, String>,
    holds: BTreeMap<String, bool>,
    /// Keeps nothing of what is written.
    is_ignoring_writes: bool,
    is_rejecting_deletes: bool,
    /// A version of which nothing is changed, and the status of the answer; 200: it is said to be.
    rejected_version: Option<(&'static str, u16)>,
    /// One more is there before each listing of the day.
    put_before_listing: Option<Box<dyn Fn(usize) -> ListedVersion + Send>>,
}

impl ReleaseBucket {
    fn of(all: Vec<ListedVersion>, tag: &str) -> Self {
        Self {
            tags: all.iter().map(|listed| (listed.id.clone(), tag.to_owned())).collect(),
            all,
            holds: BTreeMap::new(),
            is_ignoring_writes: false,
            is_rejecting_deletes: false,
            rejected_version: None,
            put_before_listing: None,
        }
    }

    fn answer(&mut self, asked: &ReceivedRequest) -> (u16, String) {
        let asks = |what| asked.query_parameter(what).is_some();
        let id = asked.query_parameter("versionId").unwrap_or_default();
        match asked.method.as_str() {
            "GET" if asks("versions") => {
                let is_day =
                    asked.query_parameter("prefix").is_some_and(|prefix| prefix.matches('/').count() == 5);
                if let Some(grows) = self.put_before_listing.as_ref().filter(|_| is_day) {
                    let next = grows(self.all.len());
                    self.tags.insert(next.id.clone(), "sealed".to_owned());
                    self.all.push(next);
                }
                versions_answer(asked, &self.all)
            }
            "GET" if asks("tagging") => {
                let tag = self.tags.get(&id).map_or("video", String::as_str);
                (
                    200,
                    format!(
                        "<Tagging><TagSet><Tag><Key>{TAG_KEY}</Key><Value>{tag}</Value></Tag></TagSet></Tagging>"
                    ),
                )
            }
            "GET" if asks("legal-hold") && self.holds.get(&id) == Some(&true) => {
                (200, "<LegalHold><Status>ON</Status></LegalHold>".to_owned())
            }
            "GET" if asks("legal-hold") => error_answer(404, "NoSuchObjectLockConfiguration"),
            "GET" => error_answer(404, "NoSuchKey"),
            "DELETE" if self.is_rejecting_deletes => error_answer(403, "AccessDenied"),
            "DELETE" => {
                self.all.retain(|listed| listed.id != id);
                (204, String::new())
            }
            _ if self.rejected_version == Some((&id, 200)) => (200, String::new()),
            _ if self.rejected_version.is_some_and(|(refused, _)| refused == id) => {
                error_answer(self.rejected_version.unwrap().1, "Trouble")
            }
            _ if self.is_ignoring_writes => (200, String::new()),
            _ if asks("tagging") => {
                self.tags.insert(id, "video".to_owned());
                (200, String::new())
            }
            _ => {
                self.holds.insert(id, false);
                (200, String::new())
            }
        }
    }

    async fn start(self) -> Stub {
        let bucket = Arc::new(Mutex::new(self));
        Stub::start(move |asked| bucket.lock().unwrap().answer(asked)).await
    }
}

/// Whoever has a recorder's credentials puts one more before each listing, with the tag that no lifecycle expires.
#[tokio::test]
async fn continuous_puts_do_not_delay_release() {
    let now = jiff::Timestamp::now();
    let stub = ReleaseBucket {
        put_before_listing: Some(Box::new(move |number| {
            recording(now, SignedDuration::from_hours(30), number)
        })),
        ..ReleaseBucket::of(vec![recording(now, SignedDuration::from_hours(30), 0)], "sealed")
    };
    let stub = stub.start().await;
    let (closing, memory) = ([entry(now)], ProtectionCache::default());
    let mut release = Release::new(&closing, &NoOpenHolds, &PROTOCOL_CEILINGS, &memory);
    let first = release.run_pass(&stub.connection(), DecisionTime::at(now)).await.unwrap();
    assert!(first.released == 2 && !first.is_verified(), "{first:?}");
    let second = release.run_pass(&stub.connection(), DecisionTime::at(now)).await.unwrap();
    assert!(second.released == 1 && second.is_verified(), "{second:?}");
}

/// A store that answers, and keeps nothing of it.
#[tokio::test]
async fn ignored_writes_are_not_verified_as_released() {
    let now = jiff::Timestamp::now();
    let stub = ReleaseBucket {
        is_ignoring_writes: true,
        ..ReleaseBucket::of(vec![recording(now, SignedDuration::from_hours(30), 1)], "sealed")
    };
    let stub = stub.start().await;
    let (closing, memory) = ([entry(now)], ProtectionCache::default());
    let mut release = Release::new(&closing, &NoOpenHolds, &PROTOCOL_CEILINGS, &memory);
    for _ in 0..3 {
        let pass = release.run_pass(&stub.connection(), DecisionTime::at(now)).await.unwrap();
        assert!(pass.released == 1 && !pass.is_verified(), "{pass:?}");
    }
}

/// Some stores let a recorder put what is under a retention. Where the legal hold was still on, it has to be read that it is off.
#[tokio::test]
async fn retention_does_not_block_release_after_read_back() {
    let now = jiff::Timestamp::now();
    let old = || vec![recording(now, SignedDuration::from_hours(24 * 30), 1)];
    for (is_held, is_ignoring_writes, proved) in
        [(false, false, [true, true]), (true, false, [false, true]), (true, true, [false, false])]
    {
        let stub = ReleaseBucket {
            holds: [("1".to_owned(), is_held)].into(),
            is_ignoring_writes,
            is_rejecting_deletes: true,
            ..ReleaseBucket::of(old(), "video")
        };
        let stub = stub.start().await;
        let (closing, memory) = ([entry(now)], ProtectionCache::default());
        let mut release = Release::new(&closing, &NoOpenHolds, &PROTOCOL_CEILINGS, &memory);
        for expected in proved {
            let done = release.run_pass(&stub.connection(), DecisionTime::at(now)).await.unwrap();
            assert_eq!(done.is_verified(), expected, "{is_held} {is_ignoring_writes} {done:?}");
            assert_eq!(done.undeletable, u64::from(expected), "{done:?}");
        }
    }
}

/// One version that the store does not let go of, whatever it says of it, is a matter of the holds that covered it: all others
/// are released.
#[tokio::test]
async fn rejected_version_blocks_only_its_own_holds() {
    let now = jiff::Timestamp::now();
    for status in [403, 500, 200] {
        let recordings = ["hal", "deur", "gang"].into_iter().enumerate();
        let recordings = recordings
            .map(|(number, camera)| recording_of(camera, now, SignedDuration::from_hours(30), number));
        let stub = ReleaseBucket {
            rejected_version: Some(("1", status)),
            ..ReleaseBucket::of(recordings.collect(), "held")
        };
        let stub = stub.start().await;
        let closing = [
            entry_over("of-hal", &["hal"], now),
            entry_over("of-deur", &["deur"], now),
            entry_over("of-both", &["deur", "hal"], now),
            entry_over("of-gang", &["gang"], now),
        ];
        let memory = ProtectionCache::default();
        let mut release = Release::new(&closing, &NoOpenHolds, &PROTOCOL_CEILINGS, &memory);
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

/// Calls that were not visited are a matter of the holds with calls.
#[test]
fn unvisited_calls_block_only_holds_on_calls() {
    let now = jiff::Timestamp::now();
    let of_video = entry_over("1", &["hal"], now);
    let mut of_calls = of_video.clone();
    (of_calls.uid, of_calls.calls) = ("2".into(), true);
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
