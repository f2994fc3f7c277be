//! More recordings in a held window than there is room for: whoever may put can make them up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use serde_json::json;

use super::tests::{Scene, hold, of_hal};
use super::*;
use crate::controllers::retention::report::placement;
use crate::protocol::recording::Class;
use crate::storage::hold::room::Budget;
use crate::storage::key::Key;
use crate::storage::listing::Listed;
use crate::storage::stub::{Stub, error, versions};
use crate::storage::under_way::UnderWay;

pub(super) const MANY: u8 = 200;

/// What a store was given: by path and mark, or path alone.
pub(super) type Given = Arc<Mutex<BTreeMap<String, String>>>;

/// A store with many recordings of `hal`, that keeps what it is given.
pub(super) async fn crowded(now: Timestamp) -> (Stub, Given) {
    let begun = now - SignedDuration::from_mins(100);
    let recorded = (0..MANY).map(|number| {
        let start = begun + SignedDuration::from_millis(i64::from(number));
        let key = Key::new(Class::Video, "hal", start, 60_000, &[number; 32]).unwrap();
        Listed {
            key: key.to_string(),
            id: "1".into(),
            is_marker: false,
            is_latest: true,
            modified: begun + SignedDuration::from_mins(2),
            size: 1,
            etag: "e".into(),
        }
    });
    let recorded: Vec<Listed> = recorded.collect();
    let given = Given::default();
    let kept = given.clone();
    let stub = Stub::start(move |asked| {
        let mut kept = kept.lock().unwrap();
        let mut marks = ["legal-hold", "tagging", "uploads"].into_iter();
        let mark = marks.find(|mark| asked.parameter(mark).is_some());
        let place = format!("{} {}", asked.path, mark.unwrap_or_default());
        if asked.method == "PUT" {
            kept.insert(place, String::from_utf8(asked.body.to_vec()).unwrap());
            return (200, String::new());
        }
        match (kept.get(&place), mark, asked.parameter("prefix")) {
            (Some(kept), ..) => (200, kept.clone()),
            (_, Some("uploads"), _) => {
                (200, "<ListMultipartUploadsResult></ListMultipartUploadsResult>".to_owned())
            }
            (_, Some("legal-hold"), _) => error(404, "NoSuchObjectLockConfiguration"),
            (_, Some(_), _) => (200, "<Tagging><TagSet></TagSet></Tagging>".to_owned()),
            (_, None, Some(prefix)) if prefix.starts_with("video/") => versions(asked, &recorded),
            (_, None, Some(_)) => versions(asked, &[]),
            _ => error(404, "NoSuchKey"),
        }
    })
    .await;
    (stub, given)
}

/// How many recordings were given a legal hold, and how many objects are of manifests.
pub(super) fn counts(given: &Given) -> (usize, usize) {
    let given = given.lock().unwrap();
    let held = given.iter().filter(|(place, body)| {
        place.contains("/video/") && place.ends_with(" legal-hold") && body.contains("ON")
    });
    let manifests = given.keys().filter(|place| place.contains("/ledger/manifests/"));
    (held.count(), manifests.count())
}

/// What a pass goes by in a process that may have so many bytes.
fn within(bytes: u64, stub: &Stub, plan: &Plan) -> Scene {
    Scene {
        memory: Memory::of_process(UnderWay::default(), &Budget::of_process(bytes)),
        ..Scene::new(stub.target(), plan.covers())
    }
}

/// Each is held; and nothing is claimed of a hold, nothing said to be lost, and no manifest written that lacks some.
#[tokio::test]
async fn what_there_is_no_room_for_is_held_and_nothing_is_claimed_of_it() {
    let now = Timestamp::now();
    let (stub, given) = crowded(now).await;
    let entry = of_hal("hal", now);
    let plan = Plan { open: [(entry.uid.clone(), entry)].into(), ..Plan::default() };
    let look = async |bytes: u64, status: serde_json::Value| {
        let scene = within(bytes, &stub, &plan);
        let holds = [hold("hal", &status)];
        let pass = scene.pass(&holds, &plan, now);
        let (mut outcome, failed) = pass.run().await;
        assert!(failed.is_none(), "{failed:?}");
        let (lost, written) = pass.write_manifests(&mut outcome).await;
        assert_eq!((lost, outcome.drift.is_none()), (0, true), "{:?}", outcome.drift);
        let placed = placement(&holds[0], &plan, &outcome, now).unwrap();
        (placed, written.is_ok(), BTreeSet::from_iter(outcome.proved))
    };
    // Enough for some of the first listing.
    let (placed, _, proved) = look(20_000, json!(null)).await;
    assert_eq!(counts(&given), (usize::from(MANY), 0));
    assert!(proved.is_empty(), "{proved:?}");
    assert_eq!(placed.segments, i64::from(MANY));
    let told = placed.refused.clone().unwrap().to_string();
    assert!(told.starts_with("TooManyVersions: 200 recordings"), "{told}");
    assert!(told.contains("resources.limits.memory"), "{told}");

    // However much there is: what is proved has a manifest, what has none says why.
    let mut proved_from = None;
    for bytes in (10_000..200_000).step_by(2_500) {
        let (placed, is_written, proved) = look(bytes, json!(null)).await;
        let is_proved = proved.contains("hal");
        assert!(is_written, "{bytes}");
        assert_eq!(placed.refused.is_none(), is_proved, "{bytes}: {placed:?}");
        assert_eq!(counts(&given).1 > 0, proved_from.is_some() || is_proved, "{bytes}");
        proved_from = proved_from.or(is_proved.then_some(bytes));
    }
    assert!(proved_from.is_some_and(|bytes| bytes > 50_000), "{proved_from:?}");

    // With more of it, all is well.
    let (placed, is_written, proved) = look(10_000_000, json!({"placement": placed})).await;
    assert!(is_written && placed.refused.is_none() && proved.contains("hal"), "{placed:?}");
    let (_, manifests) = counts(&given);
    assert_eq!(manifests, 2, "an index and a part");

    // What a manifest lists is more than there is room for after the next start: what it lost is not known then.
    let (placed, _, proved) = look(10_000, json!({"placement": placed})).await;
    assert!(proved.is_empty() && placed.proved, "{placed:?}");
    let told = placed.refused.unwrap().to_string();
    assert!(told.starts_with("TooManyVersions"), "{told}");
}

/// Nothing is let go of by a manifest that there is no room for.
#[tokio::test]
async fn a_hold_is_not_released_by_a_part_of_its_manifest() {
    let now = Timestamp::now();
    let (stub, _) = crowded(now).await;
    let entry = of_hal("hal", now);
    let look = async |bytes: u64, plan: Plan, status: serde_json::Value| {
        let scene = within(bytes, &stub, &plan);
        let holds = [hold("hal", &status)];
        let pass = scene.pass(&holds, &plan, now);
        let (mut outcome, failed) = pass.run().await;
        assert!(failed.is_none(), "{failed:?}");
        pass.write_manifests(&mut outcome).await.1.unwrap();
        placement(&holds[0], &plan, &outcome, now).unwrap()
    };
    let plenty = 10_000_000;
    let open = Plan { open: [(entry.uid.clone(), entry.clone())].into(), ..Plan::default() };
    let placed = look(plenty, open, json!(null)).await;
    assert!(placed.proved, "{placed:?}");
    let closing = || Plan { closing: vec![entry.resolved(now)], ..Plan::default() };
    let kept = look(10_000, closing(), json!({"placement": placed.clone()})).await;
    assert!(kept.released_at.is_none(), "{kept:?}");
    let told = kept.refused.unwrap().to_string();
    assert!(told.starts_with("TooManyVersions: 200 recordings"), "{told}");
    let released = look(plenty, closing(), json!({"placement": placed})).await;
    assert!(released.released_at.is_some(), "{released:?}");
}
