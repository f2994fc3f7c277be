use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::api::Ceilings;
use crate::contract::{Credentials, StorageTarget};
use crate::controllers::buckets::Follow;
use crate::controllers::kit::clock::mock::MockClock;
use crate::controllers::retention::report::placement;
use crate::storage::stub::{Stub, error, versions};
use crate::storage::sweep::HoldsUnknown;

pub(super) fn hold(uid: &str, status: &serde_json::Value) -> IncidentHold {
    serde_json::from_value(json!({
        "metadata": {"name": uid, "namespace": "n", "uid": uid, "generation": 1},
        "spec": {"siteRef": {"name": "s"}, "window": {"from": "2026-01-01T10:00:00Z"}, "purpose": "Theft", "reference": "1"},
        "status": status,
    }))
    .unwrap()
}

/// The ledger's entry of a hold over the camera `hal`.
pub(super) fn of_hal(uid: &str, now: Timestamp) -> Entry {
    let mut spec = hold(uid, &json!(null)).spec;
    spec.cameras = vec!["hal".to_owned()];
    Entry::of(uid.into(), "n".into(), uid.into(), &spec, now)
}

pub(super) fn site() -> Site {
    serde_json::from_value(json!({
        "metadata": {"name": "s", "namespace": "n"},
        "spec": {
            "displayName": "S", "address": {"street": "a", "city": "b"}, "policyRef": {"name": "p"}, "managers": [],
            "storage": {
                "bucket": "b", "region": "r",
                "operator": {"principal": "o", "credentialsRef": {"name": "o"}},
                "recorder": {"principal": "r", "credentialsRef": {"name": "r"}},
            },
        },
    }))
    .unwrap()
}

/// A bucket without recorders.
pub(super) fn bucket(operator: StorageTarget) -> OpenBucket {
    OpenBucket {
        operator,
        ceilings: Ceilings { video: Days(28), calls: Days(7) },
        embargo: None,
        recorders: Follow::NoRecorders,
        cameras: BTreeMap::new(),
        gaps: BTreeMap::new(),
    }
}

/// What a pass goes by, of a Site that says nothing yet.
pub(super) struct Scene {
    pub(super) fence: Fence,
    pub(super) site: Site,
    pub(super) bucket: OpenBucket,
    pub(super) declared: Declared,
    pub(super) memory: Memory,
}

impl Scene {
    pub(super) fn new(operator: StorageTarget, declared: Vec<Cover>) -> Self {
        Self {
            fence: Fence::open(),
            site: site(),
            bucket: bucket(operator),
            declared: Declared(Ok(declared)),
            memory: Memory::default(),
        }
    }

    pub(super) fn pass<'a>(&'a self, holds: &'a [IncidentHold], plan: &'a Plan, now: Timestamp) -> Pass<'a> {
        Pass {
            fence: &self.fence,
            release_from: now,
            declared: &self.declared,
            clock: &Timestamp::now,
            site: &self.site,
            bucket: &self.bucket,
            holds,
            plan,
            memory: &self.memory,
            now,
        }
    }
}

/// Nobody asks this one anything.
fn target() -> StorageTarget {
    StorageTarget {
        endpoint: None,
        region: "r".into(),
        bucket: "b".into(),
        path_style: true,
        ca_pem: None,
        credentials: Credentials::keys("id", "secret"),
        proxy: None,
    }
}

/// A leader was lost: what it was releasing just then may still be let go of.
#[test]
fn nothing_new_is_proved_beside_a_release_of_a_lost_leader() {
    let now: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
    let minutes = SignedDuration::from_mins;
    let entry =
        |hold: &IncidentHold, uid: &str| Entry::of(uid.into(), "n".into(), uid.into(), &hold.spec, now);
    let open = hold("open", &json!(null));
    let released_at = |at: Timestamp| {
        json!({"placement": {
            "observedGeneration": 1, "acceptedAt": now, "proved": false, "segments": 0, "size": "0 B", "sealed": 0,
            "releasedAt": at,
        }})
    };
    let closing = Plan { closing: vec![entry(&open, "closing")], ..Plan::default() };
    let none = Plan::default;
    let cases = [
        (none(), json!(null), minutes(9), None, false),
        (closing.clone(), json!(null), minutes(9), None, true),
        (closing.clone(), json!(null), minutes(-1), None, false),
        (closing, json!(null), minutes(9), Some(now), false),
        (none(), released_at(now - minutes(3)), minutes(9), None, true),
        (none(), released_at(now - minutes(17)), minutes(9), None, false),
    ];
    for (number, (mut plan, of_other, left, proved_at, expected)) in (0..).zip(cases) {
        plan.open = [("open".to_owned(), entry(&open, "open"))].into();
        let bucket = bucket(target());
        let fence = Fence::new(Arc::new(MockClock::at(7)));
        let site = site();
        let pass = Pass {
            fence: &fence,
            release_from: now + left,
            declared: &Declared(Ok(Vec::new())),
            clock: &move || now,
            site: &site,
            bucket: &bucket,
            holds: &[open.clone(), hold("other", &of_other)],
            plan: &plan,
            memory: &Memory::default(),
            now,
        };
        let uncertain = pass.uncertain(&[proved_at]);
        let found = uncertain.get("open").copied();
        assert_eq!(found, expected.then_some(left), "{number}");
        assert!(pass.is_full(&uncertain), "a new hold is looked at all the same");
    }
}

/// What the API server says of the open holds.
pub(super) struct Declared(pub(super) Result<Vec<Cover>, HoldsUnknown>);

#[async_trait::async_trait]
impl OpenHolds for Declared {
    async fn covers(&self) -> Result<Vec<Cover>, HoldsUnknown> {
        self.0.clone()
    }
}

/// Each problem is said of the holds that it is about.
#[tokio::test]
async fn a_hold_is_told_of_no_problem_of_another_or_of_the_sweep() {
    let now = Timestamp::now();
    let entry = |uid| of_hal(uid, now);
    let holds = ["open", "closing"].map(|uid| hold(uid, &json!(null)));
    for (fails, of_open, of_closing) in [
        ("nothing", None, None),
        ("sweep", None, None),
        ("release", None, Some("PutObject")),
        ("place", Some("ListObjectVersions"), None),
    ] {
        let stub = Stub::start(move |asked| match asked.method.as_str() {
            "PUT" if fails == "release" => error(403, "AccessDenied"),
            "GET" if asked.parameter("uploads").is_some() => {
                (200, "<ListMultipartUploadsResult></ListMultipartUploadsResult>".to_owned())
            }
            "GET" => match asked.parameter("prefix") {
                Some(prefix) if fails == "place" && prefix.starts_with("video/hal/") => {
                    error(403, "AccessDenied")
                }
                Some(_) => versions(asked, &[]),
                None => error(404, "NoSuchKey"),
            },
            _ => (200, String::new()),
        })
        .await;
        let open = [("open".to_owned(), entry("open"))];
        let closing = entry("closing").resolved(now);
        let plan = Plan { open: open.into(), closing: vec![closing], ..Plan::default() };
        let declared = Declared(match fails {
            "sweep" => Err(HoldsUnknown("a".into())),
            _ => Ok(Vec::new()),
        });
        let pass = Pass {
            fence: &Fence::open(),
            // What may not be released yet is told of nothing else either.
            release_from: if fails == "release" { now } else { now + SignedDuration::from_hours(1) },
            declared: &declared,
            clock: &Timestamp::now,
            site: &site(),
            bucket: &bucket(stub.target()),
            holds: &holds,
            plan: &plan,
            memory: &Memory::default(),
            now,
        };
        let (outcome, failed) = pass.run().await;
        let is_whole = matches!(fails, "nothing" | "release");
        assert_eq!(failed.is_none(), is_whole, "{fails}: {failed:?}");
        let said = holds.each_ref().map(|hold| {
            let placement = placement(hold, &plan, &outcome, now)?;
            let refused = placement.refused.map(|refused| refused.to_string());
            placement.problem.or(refused)
        });
        for (said, expected) in said.into_iter().zip([of_open, of_closing]) {
            let is_as_expected = match expected {
                Some(expected) => said.as_ref().is_some_and(|said| said.contains(expected)),
                None => said.is_none(),
            };
            assert!(is_as_expected, "{fails}: {said:?}, not {expected:?}");
        }
    }
}

/// A manifest that cannot be read keeps nothing from being held, and nothing from being claimed of another hold.
#[tokio::test]
async fn an_unreadable_manifest_is_a_matter_of_its_own_hold() {
    let now = Timestamp::now();
    let entry = |uid| of_hal(uid, now);
    let holds = ["one", "other"].map(|uid| hold(uid, &json!(null)));
    let stub = Stub::start(move |asked| match asked.method.as_str() {
        "GET" if asked.path.contains("/ledger/manifests/one/") => error(403, "AccessDenied"),
        "GET" if asked.parameter("uploads").is_some() => {
            (200, "<ListMultipartUploadsResult></ListMultipartUploadsResult>".to_owned())
        }
        "GET" => match asked.parameter("prefix") {
            Some(_) => versions(asked, &[]),
            None => error(404, "NoSuchKey"),
        },
        _ => (200, String::new()),
    })
    .await;
    let plan =
        Plan { open: ["one", "other"].map(|uid| (uid.to_owned(), entry(uid))).into(), ..Plan::default() };
    let scene = Scene::new(stub.target(), Vec::new());
    let pass = scene.pass(&holds, &plan, now);
    let (mut outcome, failed) = pass.run().await;
    assert!(failed.is_none(), "{failed:?}");
    assert_eq!(outcome.proved, ["other"]);
    let [one, other] = holds.each_ref().map(|hold| placement(hold, &plan, &outcome, now).unwrap());
    let told = one.refused.map(|refusal| refusal.answer);
    assert!(
        told.as_ref().is_some_and(|told| told.contains("GetObject") && told.contains("AccessDenied")),
        "{told:?}"
    );
    assert!(!one.proved && other.proved && other.refused.is_none());
    stub.take();
    pass.write_manifests(&mut outcome).await.1.unwrap();
    let asked = stub.take();
    let written = asked.iter().filter(|asked| asked.method == "PUT").map(|asked| asked.path.as_str());
    let written: Vec<&str> = written.collect();
    assert!(written.iter().all(|path| path.contains("/ledger/manifests/other/")), "{written:?}");
}

/// A cluster out of a backup has the status of a hold of before it was released, or somebody deleted its entry: recorders may
/// have let go of it since.
#[test]
fn what_was_acknowledged_before_a_hold_counted_anew_is_not() {
    let before: Timestamp = "2026-03-01T12:00:00.75Z".parse().unwrap();
    let now = before + SignedDuration::from_mins(1);
    let known = of_hal("1", before);
    let placed = |entry: &Entry, at: Timestamp| {
        // As the API server has it: without its fraction.
        let at = Timestamp::from_second(at.as_second()).unwrap();
        json!({"placement": {
            "observedGeneration": 1, "acceptedAt": at, "scope": entry.scope(), "proved": true, "acknowledged": true,
            "verifiedAt": at, "segments": 3, "size": "0 B", "sealed": 0,
        }})
    };
    let released = known.resolved(before).closed(before);
    for (entry, is_of_now) in [
        (known.clone(), true),
        (known.clone().reopened(now), true),
        (known.resolved(before).reopened(now), false),
        (released.reopened(now), false),
        (of_hal("1", now), false),
    ] {
        let holds = [hold("1", &placed(&entry, before))];
        let plan = Plan { open: [("1".to_owned(), entry.clone())].into(), ..Plan::default() };
        let (site, bucket) = (site(), bucket(target()));
        let pass = Pass {
            fence: &Fence::open(),
            release_from: now,
            declared: &Declared(Ok(Vec::new())),
            clock: &move || now,
            site: &site,
            bucket: &bucket,
            holds: &holds,
            plan: &plan,
            memory: &Memory::default(),
            now,
        };
        assert_eq!(pass.was_acknowledged(&entry), is_of_now, "{entry:?}");
        assert_eq!(pass.proved_at()[0].is_some(), is_of_now, "{entry:?}");
        let next = placement(&holds[0], &plan, &Outcome::default(), now).unwrap();
        assert_eq!((next.acknowledged, next.proved), (is_of_now, is_of_now), "{entry:?}");
        let since = if is_of_now { before } else { now };
        assert_eq!(next.accepted_at.0.as_second(), since.as_second(), "{entry:?}");
    }
}
