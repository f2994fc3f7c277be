use serde_json::json;

use super::*;
use crate::controllers::handoff::HoldAck;
use crate::controllers::retention::report::placement_status;
use crate::controllers::testing;
use crate::rules::{PROTOCOL_CEILINGS, RetentionTerms};
use crate::storage::s3::stub::{FakeBucket, FixedHolds, ReceivedRequest, error_answer, target};
use crate::storage::{BucketConnection, OpenHoldsError};

pub(crate) fn hold(uid: &str, status: &serde_json::Value) -> IncidentHold {
    serde_json::from_value(json!({
        "metadata": {"name": uid, "namespace": "n", "uid": uid, "generation": 1},
        "spec": {"siteRef": {"name": "s"}, "window": {"from": "2026-01-01T10:00:00Z"}, "purpose": "Theft", "reference": "1"},
        "status": status,
    }))
    .unwrap()
}

/// Ledger entry of a hold over the camera `hal`.
pub(crate) fn hal_entry(uid: &str, now: Timestamp) -> LedgerEntry {
    let mut spec = hold(uid, &json!(null)).spec;
    spec.cameras = vec!["hal".to_owned()];
    LedgerEntry::new(uid.into(), "n".into(), uid.into(), &spec, now)
}

/// Inputs of a pass for a Site without a status.
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
            site: testing::site(),
            bucket: SiteBucket {
                operator,
                terms: RetentionTerms::with_live_view(PROTOCOL_CEILINGS),
                hold_ack: HoldAck::NoRecorders,
                cameras: BTreeMap::new(),
                gaps: BTreeMap::new(),
            },
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
    BucketConnection::new(&target()).unwrap()
}

/// A lost leader's release may still arrive.
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
        let scene = PassFixture::new(connection(), Vec::new());
        let holds = [open.clone(), hold("other", &of_other)];
        let pass = RetentionPass { release_from: now + left, ..scene.pass(&holds, &plan, now) };
        let uncertain = pass.holds_in_doubt(&[proved_at]);
        let found = uncertain.get("open").copied();
        assert_eq!(found, expected.then_some(left), "{number}");
        assert!(pass.schedule().is_full_pass_due(&uncertain), "a new hold needs a full pass even then");
    }
}

/// Each error is reported on the holds that it concerns.
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
        let is_failing = move |asked: &ReceivedRequest| {
            if asked.method == "PUT" {
                return fails == "release";
            }
            let prefix = asked.query_parameter("prefix").unwrap_or_default();
            fails == "place" && prefix.starts_with("video/hal/")
        };
        let denied = || error_answer(403, "AccessDenied");
        let (stub, _) = FakeBucket::default().start(move |asked, _| is_failing(asked).then(denied)).await;
        let open = [("open".to_owned(), entry("open"))];
        let closing = entry("closing").resolved(now);
        let plan = HoldPlan { open: open.into(), closing: vec![closing], ..HoldPlan::default() };
        let declared = FixedHolds(match fails {
            "sweep" => Err(OpenHoldsError("a".into())),
            _ => Ok(Vec::new()),
        });
        let scene = PassFixture { api_holds: declared, ..PassFixture::new(stub.connection(), Vec::new()) };
        let mut pass = scene.pass(&holds, &plan, now);
        if fails != "release" {
            // A release that may not run yet reports no error.
            pass.release_from = now + SignedDuration::from_hours(1);
        }
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

/// An unknown manifest prevents neither holding nor the verification of another hold.
#[tokio::test]
async fn unreadable_manifest_affects_only_its_hold() {
    let now = Timestamp::now();
    let entry = |uid| hal_entry(uid, now);
    let holds = ["one", "other"].map(|uid| hold(uid, &json!(null)));
    let is_denied =
        |asked: &ReceivedRequest| asked.method == "GET" && asked.path.contains("/ledger/manifests/one/");
    let denied = || error_answer(403, "AccessDenied");
    let (stub, _) = FakeBucket::default().start(move |asked, _| is_denied(asked).then(denied)).await;
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

/// After a restore from a backup, or the deletion of its entry, a hold's status may be older than a release. Recorders
/// may have dropped the hold since.
#[test]
fn acknowledgement_expires_when_hold_takes_effect_again() {
    let before: Timestamp = "2026-03-01T12:00:00.75Z".parse().unwrap();
    let now = before + SignedDuration::from_mins(1);
    let known = hal_entry("1", before);
    let placed = |entry: &LedgerEntry, at: Timestamp| {
        // The API server drops the fraction.
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
        let scene = PassFixture::new(connection(), Vec::new());
        let pass = scene.pass(&holds, &plan, now);
        assert_eq!(pass.schedule().was_acknowledged(&entry), is_of_now, "{entry:?}");
        assert_eq!(pass.schedule().proved_at()[0].is_some(), is_of_now, "{entry:?}");
        let next = placement_status(&holds[0], &plan, &PassOutcome::default(), now).unwrap();
        assert_eq!((next.acknowledged, next.verified), (is_of_now, is_of_now), "{entry:?}");
        let since = if is_of_now { before } else { now };
        assert_eq!(next.acceptance_time.0.as_second(), since.as_second(), "{entry:?}");
    }
}
