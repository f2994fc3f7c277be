//! Releases while somebody goes on to put, and of what the store does not give up.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use jiff::SignedDuration;

use super::*;
use crate::api::Days;
use crate::protocol::recording::Class;
use crate::storage::key::Key;
use crate::storage::stub::{Asked, NothingDeclared, Stub, error, versions};
use crate::storage::tag::TAG_KEY;

const CEILINGS: Ceilings = Ceilings { video: Days(28), calls: Days(7) };

/// The ledger's entry of a hold over `hal`, that is resolved.
fn entry(now: jiff::Timestamp) -> Entry {
    entry_over("1", &["hal"], now)
}

/// The same of a hold over some cameras.
fn entry_over(uid: &str, cameras: &[&str], now: jiff::Timestamp) -> Entry {
    let spec = serde_json::from_value(serde_json::json!({
        "siteRef": {"name": "s"}, "cameras": cameras, "purpose": "Theft", "reference": "1",
        "window": {"from": now - SignedDuration::from_hours(24 * 40), "until": now},
    }));
    Entry::of(uid.into(), "n".into(), "h".into(), &spec.unwrap(), now).resolved(now)
}

/// A recording of `hal` that ended so long ago.
fn recording(now: jiff::Timestamp, ago: SignedDuration, number: usize) -> Listed {
    recording_of("hal", now, ago, number)
}

/// The same of a camera.
fn recording_of(camera: &str, now: jiff::Timestamp, ago: SignedDuration, number: usize) -> Listed {
    let start = now - ago - SignedDuration::from_secs(6);
    let key = Key::new(Class::Video, camera, start, 6000, &[u8::try_from(number).unwrap(); 32]).unwrap();
    Listed {
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
struct Bucket {
    all: Vec<Listed>,
    tags: BTreeMap<String, String>,
    holds: BTreeMap<String, bool>,
    /// Keeps nothing of what is written.
    is_deaf: bool,
    /// Whether nothing is deleted.
    resists: bool,
    /// A version of which nothing is changed, and the status of the answer; 200: it is said to be.
    refuses: Option<(&'static str, u16)>,
    /// One more is there before each listing of the day.
    grows: Option<Box<dyn Fn(usize) -> Listed + Send>>,
}

impl Bucket {
    fn of(all: Vec<Listed>, tag: &str) -> Self {
        Self {
            tags: all.iter().map(|listed| (listed.id.clone(), tag.to_owned())).collect(),
            all,
            holds: BTreeMap::new(),
            is_deaf: false,
            resists: false,
            refuses: None,
            grows: None,
        }
    }

    fn answer(&mut self, asked: &Asked) -> (u16, String) {
        let asks = |what| asked.parameter(what).is_some();
        let id = asked.parameter("versionId").unwrap_or_default();
        match asked.method.as_str() {
            "GET" if asks("versions") => {
                let is_day = asked.parameter("prefix").is_some_and(|prefix| prefix.matches('/').count() == 5);
                if let Some(grows) = self.grows.as_ref().filter(|_| is_day) {
                    let next = grows(self.all.len());
                    self.tags.insert(next.id.clone(), "sealed".to_owned());
                    self.all.push(next);
                }
                versions(asked, &self.all)
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
            "GET" if asks("legal-hold") => error(404, "NoSuchObjectLockConfiguration"),
            "GET" => error(404, "NoSuchKey"),
            "DELETE" if self.resists => error(403, "AccessDenied"),
            "DELETE" => {
                self.all.retain(|listed| listed.id != id);
                (204, String::new())
            }
            _ if self.refuses == Some((&id, 200)) => (200, String::new()),
            _ if self.refuses.is_some_and(|(refused, _)| refused == id) => {
                error(self.refuses.unwrap().1, "Trouble")
            }
            _ if self.is_deaf => (200, String::new()),
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
async fn puts_without_end_put_off_no_release() {
    let now = jiff::Timestamp::now();
    let stub = Bucket {
        grows: Some(Box::new(move |number| recording(now, SignedDuration::from_hours(30), number))),
        ..Bucket::of(vec![recording(now, SignedDuration::from_hours(30), 0)], "sealed")
    };
    let stub = stub.start().await;
    let (closing, memory) = ([entry(now)], Memory::default());
    let mut release = Release::new(&closing, &NothingDeclared, &CEILINGS, &memory);
    let first = release.pass(&stub.target(), Time::of(now)).await.unwrap();
    assert!(first.released == 2 && !first.is_proved(), "{first:?}");
    let second = release.pass(&stub.target(), Time::of(now)).await.unwrap();
    assert!(second.released == 1 && second.is_proved(), "{second:?}");
}

/// A store that answers, and keeps nothing of it.
#[tokio::test]
async fn a_version_of_the_first_pass_that_is_as_it_was_is_not_released() {
    let now = jiff::Timestamp::now();
    let stub = Bucket {
        is_deaf: true,
        ..Bucket::of(vec![recording(now, SignedDuration::from_hours(30), 1)], "sealed")
    };
    let stub = stub.start().await;
    let (closing, memory) = ([entry(now)], Memory::default());
    let mut release = Release::new(&closing, &NothingDeclared, &CEILINGS, &memory);
    for _ in 0..3 {
        let pass = release.pass(&stub.target(), Time::of(now)).await.unwrap();
        assert!(pass.released == 1 && !pass.is_proved(), "{pass:?}");
    }
}

/// Some stores let a recorder put what is under a retention. Where the legal hold was still on, it has to be read that it is off.
#[tokio::test]
async fn a_retention_keeps_no_hold_from_its_release_once_the_marks_were_read() {
    let now = jiff::Timestamp::now();
    let old = || vec![recording(now, SignedDuration::from_hours(24 * 30), 1)];
    for (is_held, is_deaf, proved) in
        [(false, false, [true, true]), (true, false, [false, true]), (true, true, [false, false])]
    {
        let stub = Bucket {
            holds: [("1".to_owned(), is_held)].into(),
            is_deaf,
            resists: true,
            ..Bucket::of(old(), "video")
        };
        let stub = stub.start().await;
        let (closing, memory) = ([entry(now)], Memory::default());
        let mut release = Release::new(&closing, &NothingDeclared, &CEILINGS, &memory);
        for expected in proved {
            let done = release.pass(&stub.target(), Time::of(now)).await.unwrap();
            assert_eq!(done.is_proved(), expected, "{is_held} {is_deaf} {done:?}");
            assert_eq!(done.resisted, u64::from(expected), "{done:?}");
        }
    }
}

/// One version that the store does not let go of, whatever it says of it, is a matter of the holds that covered it: all others
/// are released.
#[tokio::test]
async fn what_stays_of_one_hold_keeps_no_other_from_its_release() {
    let now = jiff::Timestamp::now();
    for status in [403, 500, 200] {
        let recordings = ["hal", "deur", "gang"].into_iter().enumerate();
        let recordings = recordings
            .map(|(number, camera)| recording_of(camera, now, SignedDuration::from_hours(30), number));
        let stub = Bucket { refuses: Some(("1", status)), ..Bucket::of(recordings.collect(), "held") };
        let stub = stub.start().await;
        let closing = [
            entry_over("of-hal", &["hal"], now),
            entry_over("of-deur", &["deur"], now),
            entry_over("of-both", &["deur", "hal"], now),
            entry_over("of-gang", &["gang"], now),
        ];
        let memory = Memory::default();
        let mut release = Release::new(&closing, &NothingDeclared, &CEILINGS, &memory);
        let mut proved = Vec::new();
        for _ in 0..2 {
            let done = release.pass(&stub.target(), Time::of(now)).await.unwrap();
            assert!(!done.is_proved(), "{status} {done:?}");
            let refused = done.refused.iter();
            let refused: Vec<_> = refused.map(|(uid, refused)| (uid.as_str(), refused.versions)).collect();
            let expected = [("of-both", 1), ("of-deur", 1)];
            assert_eq!(refused, if status == 200 { &[][..] } else { &expected }, "{status}");
            proved = closing.iter().map(|entry| done.is_proved_of(entry)).collect();
        }
        assert_eq!(proved, [true, false, false, true], "{status}");
    }
}

/// Calls that were not visited are a matter of the holds with calls.
#[test]
fn what_was_not_visited_proves_nothing_of_those_that_are_about_it_alone() {
    let now = jiff::Timestamp::now();
    let of_video = entry_over("1", &["hal"], now);
    let mut of_calls = of_video.clone();
    (of_calls.uid, of_calls.calls) = ("2".into(), true);
    let unvisited = Released { unseen: Unseen { calls: true, ..Unseen::default() }, ..Released::default() };
    for (released, proved) in [
        (Released::default(), [true, true]),
        (unvisited.clone(), [true, false]),
        (Released { unsettled: ["1".to_owned()].into(), ..unvisited }, [false, false]),
    ] {
        let done = [&of_video, &of_calls].map(|entry| released.is_proved_of(entry));
        assert_eq!(done, proved, "{released:?}");
    }
}
