use super::*;
use crate::api::{AuditStatus, Ceilings, Days, RetentionStatus};
use crate::controllers::site::apply::AppliedRecorders;
use crate::controllers::site::fixtures::{Fixture, fixture, good_bucket};
use crate::controllers::site::found::judge;
use crate::storage::probe::{Check, Verdict};
use crate::storage::{Aspect, BucketState, Change, Conformance, EnforceError, Enforced};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// The status, with nothing running yet.
fn of(fixture: &Fixture, bucket: &Bucket, applied: Result<Applied, ApplyError>) -> SiteStatus {
    let observed = Observed { valid: &fixture.valid(), bucket, applied: &applied, answers: &[] };
    status(&fixture.site, &observed, fixture.now).0
}

fn condition<'a>(status: &'a SiteStatus, type_: &str) -> (&'a str, &'a str, &'a str) {
    let found = status.conditions.iter().find(|condition| condition.type_ == type_).unwrap();
    (&found.status, &found.reason, &found.message)
}

#[test]
fn every_condition_is_always_there() {
    let fixture = fixture();
    let status = of(&fixture, &good_bucket(fixture.now), Ok(Applied::default()));
    let types: Vec<&str> = status.conditions.iter().map(|condition| condition.type_.as_str()).collect();
    assert_eq!(
        types,
        [
            "Ready",
            "Accepted",
            "Permitted",
            "StorageEnforced",
            "AccessRestricted",
            "Recording",
            "Compliant",
            "Intact",
            "AdministratorsExcluded",
            "Stalled"
        ]
    );
    assert_eq!((condition(&status, "Ready").0, condition(&status, "Stalled").0), ("True", "False"));
    assert_eq!(condition(&status, "AdministratorsExcluded").1, "NotEncrypted");
    let (truth, reason, _) = condition(&status, "AccessRestricted");
    assert_eq!((truth, reason), ("Unknown", "NotTried"), "this bucket was never tried");
    assert_eq!((status.observed_generation, status.cameras, status.recording), (Some(3), Some(2), Some(0)));
    assert_eq!(status.ceilings.unwrap().video.to_string(), "28d");
}

/// What a store lets an identity do is no part of what was read back, and does not stand behind a `True`.
#[test]
fn a_promise_that_the_store_does_not_keep_is_a_condition_of_its_own() {
    let fixture = fixture();
    let with = |fails: &[Check], gaps: Vec<&'static str>| {
        let verdict = |check: &Check| {
            if fails.contains(check) { Verdict::Fails } else { Verdict::Holds }
        };
        let rows: Vec<_> = Check::ALL.iter().map(|check| (*check, verdict(check))).collect();
        let enforced = Enforced {
            read_back: BucketState {
                lifecycle: Some(std::collections::BTreeSet::new()),
                ..BucketState::default()
            },
            changed: vec![],
            conformance: Some(Conformance::of(&rows)),
            gaps,
            left_out: vec![],
        };
        of(&fixture, &judge(Ok(enforced), None, fixture.now), Ok(Applied::default()))
    };
    let good = with(&[], vec![]);
    assert_eq!(condition(&good, "AccessRestricted").0, "True");

    let weak = with(
        &[Check::RecorderCannotOverwrite, Check::HeldIsReadable, Check::LastModifiedStays],
        vec!["a gap of the policy"],
    );
    let (truth, reason, message) = condition(&weak, "AccessRestricted");
    assert_eq!((truth, reason), ("False", "AccessDiffers"));
    for part in ["A recorder can overwrite", "Managers and officers cannot read held", "toezicht iam"] {
        assert!(message.contains(part), "{message}");
    }
    assert!(!message.contains("LastModified"), "{message}");
    for (type_, words) in [("StorageEnforced", 100), ("Ready", 300)] {
        let (truth, _, message) = condition(&weak, type_);
        assert_eq!((truth, message), ("True", condition(&good, type_).2), "{type_} is about something else");
        assert!(message.len() < words && !message.contains(" but"), "{message}");
    }
    assert!(condition(&weak, "Ready").2.contains("AccessRestricted says"));
    assert_eq!(weak.storage.unwrap().gaps[0], "a gap of the policy");
}

#[test]
fn a_site_that_must_not_record_is_ready_with_that_reason() {
    let mut fixture = fixture();
    fixture.found.policy.as_mut().unwrap().spec.works_council_consent = None;
    let status = of(&fixture, &good_bucket(fixture.now), Ok(Applied::default()));
    let (truth, reason, message) = condition(&status, "Ready");
    assert_eq!((truth, reason), ("True", "NoConsent"));
    assert!(message.contains("article 8"), "{message}");
    assert_eq!(condition(&status, "Permitted").0, "False");
}

#[test]
fn what_only_a_person_can_solve_is_stalled() {
    let mut fixture = fixture();
    let claimed = judge(Err(EnforceError::Claimed), None, fixture.now);
    let status = of(&fixture, &claimed, Ok(Applied::default()));
    assert_eq!((condition(&status, "Stalled").0, condition(&status, "Ready").1), ("True", "BucketClaimed"));

    let foreign = ApplyError::ForeignObject { kind: "Service".into(), name: "zwembad-recorder".into() };
    let status = of(&fixture, &good_bucket(fixture.now), Err(foreign));
    assert_eq!(
        (condition(&status, "Stalled").1, condition(&status, "Ready").1),
        ("ForeignObject", "ForeignObject")
    );

    let refused =
        kube::core::Status::failure("spec.template.spec.nodeSelector: no", "Invalid").with_code(422);
    let refused = ApplyError::Api(ApiError(kube::Error::Api(Box::new(refused))));
    let status = of(&fixture, &good_bucket(fixture.now), Err(refused));
    let (truth, reason, message) = condition(&status, "Stalled");
    assert_eq!((truth, reason), ("True", "InvalidField"));
    assert!(message.starts_with("spec.recorder: "), "{message}");

    fixture.config.grants = crate::controllers::grant::Grants::default();
    let status = of(&fixture, &good_bucket(fixture.now), Ok(Applied::default()));
    assert_eq!((condition(&status, "Stalled").0, condition(&status, "Ready").1), ("True", "NotGranted"));
}

/// The status each so many seconds after the Site was made, carried on from one to the next.
fn stalled_after(fixture: &mut Fixture, bucket: &Bucket, seconds: &[(i64, &str, &str)]) {
    let made = fixture.now;
    fixture.site.metadata.creation_timestamp = Some(Time(made));
    for (after, truth, reason) in seconds {
        fixture.now = made + SignedDuration::from_secs(*after);
        let next = of(fixture, bucket, Ok(Applied::default()));
        let (is, why, message) = condition(&next, "Stalled");
        assert_eq!((is, why), (*truth, *reason), "after {after} s: {message}");
        let kept = fixture.site.status.take().unwrap_or_default();
        fixture.site.status = Some(SiteStatus { retention: kept.retention, ..next });
    }
}

#[test]
fn a_reference_that_may_still_come_stalls_a_site_after_a_minute() {
    let mut fixture = fixture();
    fixture.found.policy = None;
    let bucket = crate::controllers::site::found::unknown(None);
    let (quiet, stalled) = (("False", "AsRequired"), ("True", "ReferenceNotFound"));
    let looks = [(2, quiet), (31, quiet), (61, quiet), (62, stalled), (400, stalled)];
    let looks = looks.map(|(after, (truth, reason))| (after, truth, reason));
    stalled_after(&mut fixture, &bucket, &looks);
    let observed =
        Observed { valid: &fixture.valid(), bucket: &bucket, applied: &Ok(Applied::default()), answers: &[] };
    fixture.site.status = None;
    let (_, stalls_at) = status(&fixture.site, &observed, fixture.now);
    assert_eq!(stalls_at, Some(fixture.now + SignedDuration::from_secs(60)));
}

#[test]
fn a_store_that_stays_away_stalls_a_site_after_a_quarter_of_an_hour() {
    let mut fixture = fixture();
    let away = crate::storage::error::StoreError {
        operation: "GetBucketVersioning",
        code: "NoConnection".into(),
        status: None,
    };
    let bucket = judge(Err(EnforceError::Storage(away)), None, fixture.now);
    let minutes = 60;
    let looks = [
        (5, "False", "AsRequired"),
        (14 * minutes, "False", "AsRequired"),
        (15 * minutes + 5, "True", "StorageError"),
    ];
    stalled_after(&mut fixture, &bucket, &looks);
}

#[test]
fn an_orphaned_hold_waits_for_a_person() {
    let mut fixture = fixture();
    fixture.site.status = Some(SiteStatus {
        retention: Some(RetentionStatus {
            orphaned_holds: vec!["vechtpartij-7".into()],
            ..RetentionStatus::default()
        }),
        ..SiteStatus::default()
    });
    let bucket = good_bucket(fixture.now);
    let looks = [(59, "False", "AsRequired"), (60, "True", "OrphanedHold")];
    stalled_after(&mut fixture, &bucket, &looks);
    let status = of(&fixture, &bucket, Ok(Applied::default()));
    let (_, _, message) = condition(&status, "Stalled");
    assert!(message.contains("vechtpartij-7") && message.contains("holds restore"), "{message}");
}

#[test]
fn what_somebody_else_changed_is_told_for_a_day() {
    let mut fixture = fixture();
    let mut drifted = good_bucket(fixture.now);
    drifted.is_drift = true;
    drifted.changes = vec![Change { what: Aspect::Policy, from: "none".into(), to: "ours".into() }];
    let told = of(&fixture, &drifted, Ok(Applied::default()));
    let (truth, reason, message) = condition(&told, "Intact");
    assert_eq!((truth, reason), ("False", "PutBack"));
    assert!(message.contains("the bucket at ") && message.contains("policy: none → ours"), "{message}");

    // The next look finds nothing, and says the same.
    let held = Drift {
        at: Time(fixture.now + SignedDuration::from_hours(23)),
        what: "tag of 3 held versions".into(),
        times: 1,
    };
    fixture.site.status = Some(SiteStatus {
        retention: Some(RetentionStatus { drift: Some(held), ..RetentionStatus::default() }),
        ..told
    });
    for (hours, parts) in [(1, &["policy", "tag"][..]), (25, &["tag"]), (48, &[])] {
        let mut later = fixture.clone();
        later.now += SignedDuration::from_hours(hours);
        let status = of(&later, &good_bucket(later.now), Ok(Applied::default()));
        let (truth, _, message) = condition(&status, "Intact");
        assert_eq!(truth == "True", parts.is_empty(), "{message}");
        for part in ["policy", "tag"] {
            assert_eq!(message.contains(part), parts.contains(&part), "after {hours} h: {message}");
        }
    }
}

/// Two parties that undo each other are told of as such, and not as one more change.
#[test]
fn parties_that_undo_each_other_are_told() {
    let mut fixture = fixture();
    for round in 1..=4 {
        let mut drifted = good_bucket(fixture.now);
        drifted.is_drift = true;
        drifted.changes = vec![Change { what: Aspect::Lifecycle, from: "theirs".into(), to: "ours".into() }];
        let status = of(&fixture, &drifted, Ok(Applied::default()));
        let (truth, reason, message) = condition(&status, "Intact");
        assert_eq!((truth, reason), ("False", if round < 3 { "PutBack" } else { "Contended" }), "{message}");
        assert_eq!(message.contains(&format!("{round} times")), round >= 3, "{message}");
        fixture.site.status = Some(status);
        fixture.now += SignedDuration::from_hours(20);
    }
    fixture.now += SignedDuration::from_hours(5);
    let status = of(&fixture, &good_bucket(fixture.now), Ok(Applied::default()));
    assert_eq!(condition(&status, "Intact").0, "True");
}

#[test]
fn what_an_audit_found_is_told_with_ages_and_ceilings() {
    let mut fixture = fixture();
    let at = |hours| Time(fixture.now - SignedDuration::from_hours(hours));
    let audit = AuditStatus {
        audited_at: at(2),
        boundary_at: at(1),
        versions: 5,
        bytes: 3 << 20,
        held: 1,
        inspected: 2,
        sample_one_in: 100,
        oldest_unheld_video: Some(at(1 + 24 * 20 + 3)),
        oldest_unheld_calls: None,
        store_lag_seconds: 60,
        findings: Vec::new(),
    };
    fixture.site.status = Some(SiteStatus { audit: Some(audit), ..SiteStatus::default() });
    let status = of(&fixture, &good_bucket(fixture.now), Ok(Applied::default()));
    let (truth, _, message) = condition(&status, "Compliant");
    let (from, until) = (at(1 + 24 * 20 + 3).0, at(1 + 24 * 20 + 3 - 28 * 24).0);
    let expected = format!(
        "audited at {}, the days at the ceiling at {}; all is audited again within 24 h. There were 5 versions of 3.0 MiB, 1 of them \
         held, 2 inspected; the oldest video that no hold covered was of {from}, and goes by {until}; the store's lifecycle was 60 s late",
        at(2).0,
        at(1).0,
    );
    assert_eq!((truth, message), ("True", expected.as_str()));
}

#[test]
fn recorders_that_seal_more_than_is_held_are_told() {
    let fixture = fixture();
    for (widened, told) in [
        (None, ""),
        (Some(Widened::EveryCamera), "all cameras in the windows"),
        (Some(Widened::Everything), "everything from the start"),
    ] {
        let mut expected = fixture.plan().recorders.unwrap().expected;
        expected.widened = widened;
        let applied = Applied {
            recorders: Some(AppliedRecorders { expected, pods: Vec::new() }),
            ..Applied::default()
        };
        let status = of(&fixture, &good_bucket(fixture.now), Ok(applied));
        let (truth, reason, message) = condition(&status, "Ready");
        assert_eq!(reason == "TooManyHolds", widened.is_some(), "{message}");
        assert_eq!(truth == "True", widened.is_none(), "{message}");
        assert!(message.contains(told), "{message}");
    }
}

/// The Site of a policy of 28 days, of which the last audit found a video this old, in hours.
fn audited_with_a_video_of(hours: i64) -> Fixture {
    let mut fixture = fixture();
    let at = |hours| Time(fixture.now - SignedDuration::from_hours(hours));
    let audit = AuditStatus {
        audited_at: at(1),
        boundary_at: at(1),
        versions: 1,
        bytes: 1,
        held: 0,
        inspected: 0,
        sample_one_in: 100,
        oldest_unheld_video: Some(at(hours)),
        oldest_unheld_calls: None,
        store_lag_seconds: 0,
        findings: Vec::new(),
    };
    fixture.site.status = Some(SiteStatus {
        ceilings: Some(Ceilings { video: Days(28), calls: Days(7) }),
        audit: Some(audit),
        ..SiteStatus::default()
    });
    fixture
}

#[test]
fn nothing_is_compliant_by_a_ceiling_that_the_cluster_no_longer_allows() {
    for (hours, expected) in [
        (13 * 24, ("True", "Audited")),
        (14 * 24 + 1, ("False", "CeilingLowered")),
        (27 * 24, ("False", "CeilingLowered")),
    ] {
        let mut fixture = audited_with_a_video_of(hours);
        fixture.config.ceilings.video = Days(14);
        let status = of(&fixture, &good_bucket(fixture.now), Ok(Applied::default()));
        let (truth, reason, message) = condition(&status, "Compliant");
        assert_eq!((truth, reason), expected, "{message}");
        assert!(message.contains("14d"), "{message}");
        // What a policy once allowed is not deleted by another number than a policy's.
        assert_eq!(status.ceilings.unwrap().video, Days(28));
        assert_eq!(fixture.valid().access.unwrap().spec.video_ceiling, Days(28));
    }
}

#[test]
fn an_audit_by_longer_ceilings_says_nothing_of_shorter_ones() {
    let mut fixture = audited_with_a_video_of(20 * 24);
    let policy = fixture.found.policy.as_mut().unwrap();
    policy.spec.retention.video = Days(14);
    let status = of(&fixture, &good_bucket(fixture.now), Ok(Applied::default()));
    let (truth, reason, message) = condition(&status, "Compliant");
    assert_eq!((truth, reason), ("Unknown", "NotAudited"), "{message}");
}

#[test]
fn of_a_paused_or_deleted_site_nothing_is_well_that_nobody_looks_at() {
    let fixture = fixture();
    let before = of(&fixture, &good_bucket(fixture.now), Ok(Applied::default())).conditions;
    for (after, reason) in [
        (kit_status::paused(&before, Some(3), fixture.now), "Paused"),
        (deleting(&before, Some(3), "waits", None, fixture.now), "Deleting"),
    ] {
        assert_eq!((after.len(), after[0].reason.as_str()), (before.len(), reason));
        for found in &before[1..] {
            let now = after.iter().find(|now| now.type_ == found.type_).unwrap();
            let said = format!("{now:?}");
            assert!(now.status != "True" && now.message.ends_with(&found.message), "{said}");
        }
        let again = kit_status::unlooked(after.clone(), &after, Reason::Paused, "", Timestamp::MAX);
        assert_eq!(again, after, "since then");
    }
}

#[test]
fn a_deleted_site_whose_bucket_cannot_be_used_says_what_to_do_for_its_holds() {
    let mut fixture = fixture();
    let before = of(&fixture, &good_bucket(fixture.now), Ok(Applied::default()));
    fixture.found.store_secrets.clear();
    let accepted = fixture.valid().accepted;
    let conditions = deleting(&before.conditions, Some(3), "waits", Some(&accepted), fixture.now);
    let status = SiteStatus { conditions, ..before };
    assert_eq!(status.conditions[0].type_, "Ready");
    let (truth, reason, message) = condition(&status, "Stalled");
    assert_eq!((truth, reason), ("True", "ReferenceNotFound"));
    for part in ["spec.storage.operator.credentialsRef", "docs/operations.md#a-namespace-that-cannot-go"] {
        assert!(message.contains(part), "{message}");
    }
    let (truth, reason, message) = condition(&status, "StorageEnforced");
    assert_eq!((truth, reason), ("Unknown", "DependsOn"));
    assert!(message.contains("s3-operator"), "{message}");
}
