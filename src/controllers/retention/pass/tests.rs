use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::controllers::handoff::HoldAck;
use crate::controllers::retention::report::placement_status;
use crate::leader::clock::mock::MockClock;
use crate::rules::retention::{PROTOCOL_CEILINGS, RetentionTerms};
use crate::storage::recordings::open_holds::OpenHoldsError;
use crate::storage::s3::connection::BucketConnection;
use crate::storage::s3::stub::{Stub, error_answer, versions_answer};
use crate::wire::{Credentials, StorageTarget};

pub(crate) fn hold(uid: &str, status: &serde_json::Value) -> IncidentHold {
    serde_json::from_value(json!({
        "metadata": {"name": uid, "namespace": "n", "uid": uid, "generation": 1},
        "spec": {"siteRef": {"name": "s"}, "window": {"from": "2026-01-01T10:00:00Z"}, "purpose": "Theft", "reference": "1"},
        "status": status,
    }))
    .unwrap()
}

/// The ledger's entry of a hold over the camera `hal`.
pub(crate) fn hal_entry(uid: &str, now: Timestamp) -> LedgerEntry {
    let mut spec = hold(uid, &json!(null)).spec;
    spec.cameras = vec!["hal".to_owned()];
    LedgerEntry::new(uid.into(), "n".into(), uid.into(), &spec, now)
}

pub(crate) fn site() -> Site {
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

pub(crate) fn bucket(operator: BucketConnection) -> SiteBucket {
    SiteBucket {
        operator,
        terms: RetentionTerms::with_live_view(PROTOCOL_CEILINGS),
        hold_ack: HoldAck::NoRecorders,
        cameras: BTreeMap::new(),
        gaps: BTreeMap::new(),
    }
}

/// What a pass goes by, of a Site that says nothing yet.
pub(crate) struct PassFixture {
    pub(crate) fence: Fence,
    pub(crate) site: Site,
    pub(crate) bucket: SiteBucket,
    pub(crate) api_holds: FixedHolds,
    pub(crate) protection_cache: ProtectionCache,
}

impl PassFixture {
    pub(crate) fn new(operator: BucketConnection, declared: Vec<HoldScope>) -> Self {
        Self {
            fence: Fence::always_open(),
            site: site(),
            bucket: bucket(operator),
            api_holds: FixedHolds(Ok(declared)),
            protection_cache: ProtectionCache::default(),
        }
    }

    pub(crate) fn pass<'a>(
        &'a self,
        holds: &'a [IncidentHold],
        plan: &'a HoldPlan,
        now: Timestamp,
    ) -> RetentionPass<'a> {
        RetentionPass {
            fence: &self.fence,
            release_from: now,
            api_holds: &self.api_holds,
            clock: &Timestamp::now,
            site: &self.site,
            bucket: &self.bucket,
            holds,
            plan,
            protection_cache: &self.protection_cache,
            now,
        }
    }
}

fn connection() -> BucketConnection {
    let target = StorageTarget {
        endpoint: None,
        region: "r".into(),
        bucket: "tz-bucket".into(),
        path_style: true,
        ca_pem: None,
        credentials: Credentials::access_key("id", "secret"),
        proxy: None,
    };
    BucketConnection::new(&target).unwrap()
}

/// A leader was lost: what it was releasing just then may still be let go of.
#[test]
fn new_hold_is_not_proved_during_release_of_lost_leader() {
    let now: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
    let minutes = SignedDuration::from_mins;
    let entry = |hold: &IncidentHold, uid: &str| {
        LedgerEntry::new(uid.into(), "n".into(), uid.into(), &hold.spec, now)
    };
    let open = hold("open", &json!(null));
    let released_at = |at: Timestamp| {
        json!({"placement": {
            "observedGeneration": 1, "acceptanceTime": now, "verified": false, "segments": 0, "size": "0 B", "sealedSegments": 0,
            "releaseTime": at,
        }})
    };
    let closing = HoldPlan { closing: vec![entry(&open, "closing")], ..HoldPlan::default() };
    let none = HoldPlan::default;
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
        let bucket = bucket(connection());
        let fence = Fence::new(Arc::new(MockClock::at(7)));
        let site = site();
        let pass = RetentionPass {
            fence: &fence,
            release_from: now + left,
            api_holds: &FixedHolds(Ok(Vec::new())),
            clock: &move || now,
            site: &site,
            bucket: &bucket,
            holds: &[open.clone(), hold("other", &of_other)],
            plan: &plan,
            protection_cache: &ProtectionCache::default(),
            now,
        };
        let uncertain = pass.holds_in_doubt(&[proved_at]);
        let found = uncertain.get("open").copied();
        assert_eq!(found, expected.then_some(left), "{number}");
        assert!(pass.is_full_pass_due(&uncertain), "a new hold is looked at all the same");
    }
}

/// What the API server says of the open holds.
pub(crate) struct FixedHolds(pub(super) Result<Vec<HoldScope>, OpenHoldsError>);

#[async_trait::async_trait]
impl OpenHolds for FixedHolds {
    async fn scopes(&self) -> Result<Vec<HoldScope>, OpenHoldsError> {
        self.0.clone()
    }
}

/// Each problem is said of the holds that it is about.
#[tokio::test]
async fn errors_are_reported_only_on_affected_holds() {
    let now = Timestamp::now();
    let entry = |uid| hal_entry(uid, now);
    let holds = ["open", "closing"].map(|uid| hold(uid, &json!(null)));
    for (fails, of_open, of_closing) in [
        ("nothing", None, None),
        ("sweep", None, None),
        ("release", None, Some("PutObject")),
        ("place", Some("ListObjectVersions"), None),
    ] {
        let stub = Stub::start(move |asked| match asked.method.as_str() {
            "PUT" if fails == "release" => error_answer(403, "AccessDenied"),
            "GET" if asked.query_parameter("uploads").is_some() => {
                (200, "<ListMultipartUploadsResult></ListMultipartUploadsResult>".to_owned())
            }
            "GET" => match asked.query_parameter("prefix") {
                Some(prefix) if fails == "place" && prefix.starts_with("video/hal/") => {
                    error_answer(403, "AccessDenied")
                }
                Some(_) => versions_answer(asked, &[]),
                None => error_answer(404, "NoSuchKey"),
            },
            _ => (200, String::new()),
        })
        .await;
        let open = [("open".to_owned(), entry("open"))];
        let closing = entry("closing").resolved(now);
        let plan = HoldPlan { open: open.into(), closing: vec![closing], ..HoldPlan::default() };
        let declared = FixedHolds(match fails {
            "sweep" => Err(OpenHoldsError("a".into())),
            _ => Ok(Vec::new()),
        });
        let pass = RetentionPass {
            fence: &Fence::always_open(),
            // What may not be released yet is told of nothing else either.
            release_from: if fails == "release" { now } else { now + SignedDuration::from_hours(1) },
            api_holds: &declared,
            clock: &Timestamp::now,
            site: &site(),
            bucket: &bucket(stub.connection()),
            holds: &holds,
            plan: &plan,
            protection_cache: &ProtectionCache::default(),
            now,
        };
        let (outcome, failed) = pass.run().await;
        let is_whole = matches!(fails, "nothing" | "release");
        assert_eq!(failed.is_none(), is_whole, "{fails}: {failed:?}");
        let said = holds.each_ref().map(|hold| {
            let placement = placement_status(hold, &plan, &outcome, now)?;
            let refused = placement.store_rejection.map(|refused| refused.to_string());
            placement.last_error.or(refused)
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
async fn unreadable_manifest_affects_only_its_hold() {
    let now = Timestamp::now();
    let entry = |uid| hal_entry(uid, now);
    let holds = ["one", "other"].map(|uid| hold(uid, &json!(null)));
    let stub = Stub::start(move |asked| match asked.method.as_str() {
        "GET" if asked.path.contains("/ledger/manifests/one/") => error_answer(403, "AccessDenied"),
        "GET" if asked.query_parameter("uploads").is_some() => {
            (200, "<ListMultipartUploadsResult></ListMultipartUploadsResult>".to_owned())
        }
        "GET" => match asked.query_parameter("prefix") {
            Some(_) => versions_answer(asked, &[]),
            None => error_answer(404, "NoSuchKey"),
        },
        _ => (200, String::new()),
    })
    .await;
    let plan = HoldPlan {
        open: ["one", "other"].map(|uid| (uid.to_owned(), entry(uid))).into(),
        ..HoldPlan::default()
    };
    let scene = PassFixture::new(stub.connection(), Vec::new());
    let pass = scene.pass(&holds, &plan, now);
    let (mut outcome, failed) = pass.run().await;
    assert!(failed.is_none(), "{failed:?}");
    assert_eq!(outcome.proved, ["other"]);
    let [one, other] = holds.each_ref().map(|hold| placement_status(hold, &plan, &outcome, now).unwrap());
    let told = one.store_rejection.map(|refusal| refusal.error);
    assert!(
        told.as_ref().is_some_and(|told| told.contains("GetObject") && told.contains("AccessDenied")),
        "{told:?}"
    );
    assert!(!one.verified && other.verified && other.store_rejection.is_none());
    stub.take_requests();
    pass.write_manifests(&mut outcome).await.1.unwrap();
    let asked = stub.take_requests();
    let written = asked.iter().filter(|asked| asked.method == "PUT").map(|asked| asked.path.as_str());
    let written: Vec<&str> = written.collect();
    assert!(written.iter().all(|path| path.contains("/ledger/manifests/other/")), "{written:?}");
}

/// A cluster out of a backup has the status of a hold of before it was released, or somebody deleted its entry: recorders may
/// have let go of it since.
#[test]
fn acknowledgement_expires_when_hold_takes_effect_again() {
    let before: Timestamp = "2026-03-01T12:00:00.75Z".parse().unwrap();
    let now = before + SignedDuration::from_mins(1);
    let known = hal_entry("1", before);
    let placed = |entry: &LedgerEntry, at: Timestamp| {
        // As the API server has it: without its fraction.
        let at = Timestamp::from_second(at.as_second()).unwrap();
        json!({"placement": {
            "observedGeneration": 1, "acceptanceTime": at, "scopeHash": entry.scope_hash(), "verified": true, "acknowledged": true,
            "lastVerificationTime": at, "segments": 3, "size": "0 B", "sealedSegments": 0,
        }})
    };
    let released = known.resolved(before).closed(before);
    for (entry, is_of_now) in [
        (known.clone(), true),
        (known.clone().reopened(now), true),
        (known.resolved(before).reopened(now), false),
        (released.reopened(now), false),
        (hal_entry("1", now), false),
    ] {
        let holds = [hold("1", &placed(&entry, before))];
        let plan = HoldPlan { open: [("1".to_owned(), entry.clone())].into(), ..HoldPlan::default() };
        let (site, bucket) = (site(), bucket(connection()));
        let pass = RetentionPass {
            fence: &Fence::always_open(),
            release_from: now,
            api_holds: &FixedHolds(Ok(Vec::new())),
            clock: &move || now,
            site: &site,
            bucket: &bucket,
            holds: &holds,
            plan: &plan,
            protection_cache: &ProtectionCache::default(),
            now,
        };
        assert_eq!(pass.was_acknowledged(&entry), is_of_now, "{entry:?}");
        assert_eq!(pass.proved_at()[0].is_some(), is_of_now, "{entry:?}");
        let next = placement_status(&holds[0], &plan, &PassOutcome::default(), now).unwrap();
        assert_eq!((next.acknowledged, next.verified), (is_of_now, is_of_now), "{entry:?}");
        let since = if is_of_now { before } else { now };
        assert_eq!(next.acceptance_time.0.as_second(), since.as_second(), "{entry:?}");
    }
}
