//! Releases while somebody goes on to put, and of what the store does not give up.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use jiff::SignedDuration;

use super::*;
use crate::api::Days;
use crate::protocol::recording::Class;
use crate::storage::key::Key;
use crate::storage::stub::{Stub, error, versions};
use crate::storage::sweep::HoldsUnknown;
use crate::storage::tag::TAG_KEY;

const CEILINGS: Ceilings = Ceilings {
    video: Days(28),
    calls: Days(7),
};

struct Nobody;

#[async_trait]
impl OpenHolds for Nobody {
    async fn covers(&self) -> Result<Vec<Cover>, HoldsUnknown> {
        Ok(Vec::new())
    }
}

/// The ledger's entry of a hold over `hal`, that is resolved.
fn entry(now: jiff::Timestamp) -> Entry {
    let spec = serde_json::from_value(serde_json::json!({
        "siteRef": {"name": "s"}, "cameras": ["hal"], "purpose": "Theft", "reference": "1",
        "window": {"from": now - SignedDuration::from_hours(24 * 40), "until": now},
    }));
    Entry::of("1".into(), "n".into(), "h".into(), &spec.unwrap(), now).resolved(now)
}

/// A recording that ended so long ago.
fn recording(now: jiff::Timestamp, ago: SignedDuration, number: usize) -> Listed {
    let start = now - ago - SignedDuration::from_secs(6);
    let key = Key::new(
        Class::Video,
        "hal",
        start,
        6000,
        &[u8::try_from(number).unwrap(); 32],
    )
    .unwrap();
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

/// Whoever has a recorder's credentials puts one more before each listing, with the tag that no lifecycle expires.
#[tokio::test]
async fn who_goes_on_to_put_puts_off_no_release() {
    let now = jiff::Timestamp::now();
    let listings = Arc::new(AtomicUsize::new(0));
    let stub = Stub::start(move |asked| {
        let asks = |what| asked.parameter(what).is_some();
        match asked.method.as_str() {
            "GET" if asks("versions") => {
                let is_day = asked
                    .parameter("prefix")
                    .is_some_and(|prefix| prefix.matches('/').count() == 5);
                let count = listings.fetch_add(usize::from(is_day), Ordering::SeqCst) + 1;
                let all: Vec<Listed> = (0..count)
                    .map(|number| recording(now, SignedDuration::from_hours(30), number))
                    .collect();
                versions(asked, &all)
            }
            "GET" if asks("tagging") => (
                200,
                format!(
                    "<Tagging><TagSet><Tag><Key>{TAG_KEY}</Key><Value>sealed</Value></Tag></TagSet></Tagging>"
                ),
            ),
            "GET" => error(404, "NoSuchKey"),
            _ => (200, String::new()),
        }
    })
    .await;
    let (closing, memory) = ([entry(now)], Memory::default());
    let release = Release::new(&closing, &Nobody, &CEILINGS, &memory);
    let first = release.pass(&stub.target(), Time::of(now)).await.unwrap();
    assert!(first.released == 1 && !first.is_proved(), "{first:?}");
    // The tags are not changed at this store: what the first pass found stays to be done.
    let second = release.pass(&stub.target(), Time::of(now)).await.unwrap();
    assert_eq!((second.released, second.left), (2, 1), "{second:?}");
}

/// Some stores let a recorder put what is under a retention.
#[tokio::test]
async fn what_the_store_does_not_give_up_keeps_no_hold_from_its_release() {
    let now = jiff::Timestamp::now();
    let all = [recording(now, SignedDuration::from_hours(24 * 30), 1)];
    let stub = Stub::start(move |asked| {
        let asks = |what| asked.parameter(what).is_some();
        match asked.method.as_str() {
            "GET" if asks("versions") => versions(asked, &all),
            "GET" if asks("tagging") => (
                200,
                format!(
                    "<Tagging><TagSet><Tag><Key>{TAG_KEY}</Key><Value>video</Value></Tag></TagSet></Tagging>"
                ),
            ),
            "GET" => error(404, "NoSuchKey"),
            "DELETE" => error(403, "AccessDenied"),
            _ => (200, String::new()),
        }
    })
    .await;
    let (closing, memory) = ([entry(now)], Memory::default());
    let release = Release::new(&closing, &Nobody, &CEILINGS, &memory);
    let done = release.pass(&stub.target(), Time::of(now)).await.unwrap();
    assert!(done.resisted == 1 && done.is_proved(), "{done:?}");
}
