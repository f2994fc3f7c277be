use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::*;
use crate::api::{AuditFinding, AuditStatus, Ceilings, Days, DeadlineReason, RetentionStatus};
use crate::controllers::grant::Grants;
use crate::controllers::kubernetes::ApiError;
use crate::controllers::rollout_turns::TurnDenied;
use crate::controllers::site::bucket::evaluation::{evaluate_bucket, unobserved};
use crate::controllers::site::fixtures::{Fixture, compliant_bucket, fixture};
use crate::controllers::site::recorders::plan::may_record;
use crate::controllers::site::recorders::rollout::Rollout;
use crate::controllers::site::recorders::workload::AppliedRecorders;
use crate::storage::bucket::probe::{Check, Verdict};
use crate::storage::{
    BucketState, Claimant, Conformance, EnforceError, EnforceReport, StoreChange, StoreError, Subresource,
};

/// Returns the status without recorders.
fn site_status(fixture: &Fixture, bucket: &BucketEvaluation) -> SiteStatus {
    applied_status(fixture, bucket, Ok(AppliedPlan::default()))
}

/// Returns the status with a compliant bucket and without recorders.
fn compliant_status(fixture: &Fixture) -> SiteStatus {
    site_status(fixture, &compliant_bucket(fixture.now))
}

fn applied_status(
    fixture: &Fixture,
    bucket: &BucketEvaluation,
    applied: Result<AppliedPlan, ApplyError>,
) -> SiteStatus {
    let may_record = may_record(&fixture.observed, &fixture.valid(), bucket);
    let inputs = StatusInputs {
        has_claims: None,
        valid: &fixture.valid(),
        may_record,
        bucket,
        applied: &applied,
        replies: &[],
        lagging: &[],
        lost_recorders: Vec::new(),
        failed_watch: None,
    };
    status(&fixture.site, &inputs, fixture.now).0
}

fn condition<'a>(status: &'a SiteStatus, type_: &str) -> (&'a str, &'a str, &'a str) {
    let found = status.conditions.iter().find(|condition| condition.type_ == type_).unwrap();
    (&found.status, &found.reason, &found.message)
}

#[test]
fn status_always_has_every_condition() {
    let fixture = fixture();
    let status = compliant_status(&fixture);
    let types: Vec<&str> = status.conditions.iter().map(|condition| condition.type_.as_str()).collect();
    let expected = "Ready Accepted Permitted StorageEnforced AccessRestricted Recording Compliant Intact \
                    AdministratorsExcluded SpoolPersistent Stalled";
    assert_eq!(types.join(" "), expected);
    assert_eq!((condition(&status, "Ready").0, condition(&status, "Stalled").0), ("True", "False"));
    assert_eq!(condition(&status, "AdministratorsExcluded").1, "NotEncrypted");
    let (truth, reason, _) = condition(&status, "AccessRestricted");
    assert_eq!((truth, reason), ("Unknown", "NotProbed"), "this bucket was never probed");
    assert_eq!(
        (status.observed_generation, status.cameras, status.recording_cameras),
        (Some(3), Some(2), Some(0))
    );
    assert_eq!(status.ceilings.unwrap().video.to_string(), "28d");
}

/// A probe of access is not a read-back, so no other condition may mention it.
#[test]
fn failed_access_checks_only_affect_access_restricted() {
    let fixture = fixture();
    let with = |failed: &[Check], limitations: Vec<&'static str>| {
        let verdict = |check: &Check| {
            if failed.contains(check) { Verdict::Failed } else { Verdict::Passed }
        };
        let rows: Vec<_> = Check::ALL.iter().map(|check| (*check, verdict(check))).collect();
        let report = EnforceReport {
            observed: BucketState {
                lifecycle: Some(std::collections::BTreeSet::new()),
                ..BucketState::default()
            },
            changes: vec![],
            conformance: Some(Conformance::from_verdicts(&rows)),
            limitations,
            unknown_principals: vec![],
        };
        site_status(&fixture, &evaluate_bucket(Ok(report), None, fixture.now))
    };
    let good = with(&[], vec![]);
    assert_eq!(condition(&good, "AccessRestricted").0, "True");

    let weak = with(
        &[Check::RecorderCannotOverwrite, Check::HeldIsReadable, Check::LastModifiedIsStable],
        vec!["a limit of the policy"],
    );
    let (truth, reason, message) = condition(&weak, "AccessRestricted");
    assert_eq!((truth, reason), ("False", "AccessMismatch"));
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
    assert_eq!(weak.storage.unwrap().limitations[0], "a limit of the policy");
}

#[test]
fn ready_names_the_annotation_that_gives_up_spools() {
    let mut fixture = fixture();
    let unchanged = compliant_status(&fixture);
    assert!(!condition(&unchanged, "Ready").2.contains("discard-spools"));
    let annotation = ("toezicht.dev/discard-spools".to_owned(), "the disk is broken".to_owned());
    fixture.site.metadata.annotations = Some([annotation].into());
    let status = compliant_status(&fixture);
    let (truth, reason, message) = condition(&status, "Ready");
    assert_eq!((truth, reason), ("True", "AsRequired"));
    assert!(message.contains("discard-spools is set (the disk is broken)"), "{message}");
    assert!(message.contains("remove the annotation"), "{message}");
    // Also while the Site is not ready.
    fixture.config.grants = Grants::default();
    let status = compliant_status(&fixture);
    assert!(condition(&status, "Ready").2.contains("discard-spools"));
    assert_eq!(condition(&status, "Ready").0, "False");
}

#[test]
fn site_that_waits_for_its_turn_says_so_and_does_not_stall() {
    let mut fixture = fixture();
    let created = Time(fixture.now - SignedDuration::from_hours(48));
    fixture.site.metadata.creation_timestamp = Some(created);
    let mut first = None;
    for hours in [0, 3] {
        fixture.now += SignedDuration::from_hours(hours);
        let rollout = Rollout::denied(&[0], TurnDenied::OtherSites);
        let applied = AppliedPlan { rollout, ..AppliedPlan::default() };
        let status = applied_status(&fixture, &compliant_bucket(fixture.now), Ok(applied));
        let (truth, reason, message) = condition(&status, "Ready");
        assert_eq!((truth, reason), ("False", "RecorderNotReady"));
        assert!(message.contains("turn"), "{message}");
        assert_eq!(condition(&status, "Stalled").0, "False", "after {hours} hours");
        assert_eq!(first.get_or_insert(message.to_owned()), message, "another write");
        fixture.site.status = Some(status);
    }
}

#[test]
fn unpermitted_site_is_ready_with_its_reason() {
    let mut fixture = fixture();
    fixture.observed.policies.policy.as_mut().unwrap().spec.works_council_consent = None;
    let status = compliant_status(&fixture);
    let (truth, reason, message) = condition(&status, "Ready");
    assert_eq!((truth, reason), ("True", "NoConsent"));
    assert!(message.contains("article 8"), "{message}");
    assert_eq!(condition(&status, "Permitted").0, "False");
}

#[test]
fn terminal_errors_stall_the_site() {
    let mut fixture = fixture();
    let claimed =
        evaluate_bucket(Err(EnforceError::ClaimedByOther(Claimant::SameCluster)), None, fixture.now);
    let status = site_status(&fixture, &claimed);
    assert_eq!((condition(&status, "Stalled").0, condition(&status, "Ready").1), ("True", "BucketClaimed"));

    let foreign = ApplyError::ForeignObject { kind: "Service".into(), name: "zwembad-recorder".into() };
    let status = applied_status(&fixture, &compliant_bucket(fixture.now), Err(foreign));
    let reasons = (condition(&status, "Stalled").1, condition(&status, "Ready").1);
    assert_eq!(reasons, ("ForeignObject", "ForeignObject"));

    for (kind, name, start) in [
        ("StatefulSet", "zwembad-recorder", "spec.recorder: "),
        (
            "Secret",
            "zwembad-recorder-config",
            "the API server answered 422 Invalid for the Secret \"zwembad-recorder-config\", so no recorder follows",
        ),
        ("Service", "zwembad-recorder", "the API server answered 422 Invalid for the Service"),
    ] {
        let invalid =
            kube::core::Status::failure("spec.template.spec.nodeSelector: no", "Invalid").with_code(422);
        let error = ApiError(kube::Error::Api(Box::new(invalid)));
        let invalid = ApplyError::Invalid { kind: kind.into(), name: name.into(), error };
        let status = applied_status(&fixture, &compliant_bucket(fixture.now), Err(invalid));
        let (truth, reason, message) = condition(&status, "Stalled");
        assert_eq!((truth, reason), ("True", "InvalidField"));
        assert!(message.starts_with(start), "{message}");
        assert_eq!(message.contains("nodeSelector"), kind == "StatefulSet", "{message}");
    }

    fixture.config.grants = Grants::default();
    let status = compliant_status(&fixture);
    assert_eq!((condition(&status, "Stalled").0, condition(&status, "Ready").1), ("True", "NotGranted"));
}

/// Asserts `Stalled` at each of these seconds after the creation of the Site, each time from the previous status.
fn assert_stalled(fixture: &mut Fixture, bucket: &BucketEvaluation, expected: &[(i64, &str)]) {
    let created = fixture.now;
    fixture.site.metadata.creation_timestamp = Some(Time(created));
    for (second, expected) in expected {
        fixture.now = created + SignedDuration::from_secs(*second);
        let next = site_status(fixture, bucket);
        let (truth, reason, message) = condition(&next, "Stalled");
        assert_eq!(format!("{truth} {reason}"), *expected, "after {second} s: {message}");
        let before = fixture.site.status.take().unwrap_or_default();
        fixture.site.status = Some(SiteStatus { retention: before.retention, ..next });
    }
}

#[test]
fn missing_reference_stalls_site_after_one_minute() {
    let mut fixture = fixture();
    fixture.observed.policies.policy = None;
    let bucket = unobserved(None);
    let (quiet, stalled) = ("False AsRequired", "True ReferenceNotFound");
    let expected = [(2, quiet), (31, quiet), (61, quiet), (62, stalled), (400, stalled)];
    assert_stalled(&mut fixture, &bucket, &expected);
    let inputs = StatusInputs {
        has_claims: None,
        valid: &fixture.valid(),
        may_record: false,
        bucket: &bucket,
        applied: &Ok(AppliedPlan::default()),
        replies: &[],
        lagging: &[],
        lost_recorders: Vec::new(),
        failed_watch: None,
    };
    fixture.site.status = None;
    let (_, stalls_at) = status(&fixture.site, &inputs, fixture.now);
    assert_eq!(stalls_at, Some(fixture.now + SignedDuration::from_secs(60)));
}

#[test]
fn lost_recorder_is_named_and_may_still_record() {
    let mut fixture = fixture();
    let entry = serde_json::json!({
        "podName": "zwembad-recorder-0", "podUid": "u", "nodeName": "second", "since": "2026-11-24T11:58:00Z",
    });
    let lost: LostRecorder = serde_json::from_value(entry).unwrap();
    let status_with = |fixture: &Fixture, lost_recorders: &[LostRecorder]| {
        let (bucket, valid) = (compliant_bucket(fixture.now), fixture.valid());
        let inputs = StatusInputs {
            has_claims: None,
            valid: &valid,
            may_record: may_record(&fixture.observed, &valid, &bucket),
            bucket: &bucket,
            applied: &Ok(AppliedPlan::default()),
            replies: &[],
            lagging: &[],
            lost_recorders: lost_recorders.to_vec(),
            failed_watch: None,
        };
        status(&fixture.site, &inputs, fixture.now).0
    };
    let after = status_with(&fixture, std::slice::from_ref(&lost));
    let (truth, reason, message) = condition(&after, "Ready");
    assert_eq!((truth, reason), ("False", "RecorderNotReady"));
    assert!(message.starts_with("zwembad-recorder-0 on the node second does not answer"), "{message}");
    assert_eq!(after.lost_recorders, std::slice::from_ref(&lost));
    let suspension = serde_json::json!([{"reason": "Verkiezing", "from": "2026-11-24T06:00:00Z", "until": "2026-11-24T22:00:00Z"}]);
    fixture.site.spec.suspensions = serde_json::from_value(suspension).unwrap();
    let quiet = status_with(&fixture, &[]);
    assert_eq!(condition(&quiet, "Recording").1, "Suspended");
    let after = status_with(&fixture, &[lost]);
    let (truth, reason, _) = condition(&after, "Recording");
    assert_eq!((truth, reason), ("Unknown", "RecorderNotReady"));
}

#[test]
fn store_outage_stalls_site_after_fifteen_minutes() {
    let mut fixture = fixture();
    let outage = StoreError::without_status("GetBucketVersioning", "NoConnection");
    let bucket = evaluate_bucket(Err(EnforceError::Storage(outage)), None, fixture.now);
    let quiet = "False AsRequired";
    let expected = [(5, quiet), (14 * 60, quiet), (15 * 60 + 5, "True StorageError")];
    assert_stalled(&mut fixture, &bucket, &expected);
}

#[test]
fn orphaned_hold_stalls_site_after_one_minute() {
    let mut fixture = fixture();
    let orphaned_holds = vec!["vechtpartij-7".into()];
    let retention = RetentionStatus { orphaned_holds, ..RetentionStatus::default() };
    fixture.site.status = Some(SiteStatus { retention: Some(retention), ..SiteStatus::default() });
    let bucket = compliant_bucket(fixture.now);
    assert_stalled(&mut fixture, &bucket, &[(59, "False AsRequired"), (60, "True OrphanedHold")]);
    let status = site_status(&fixture, &bucket);
    let (_, _, message) = condition(&status, "Stalled");
    assert!(message.contains("vechtpartij-7") && message.contains("holds restore"), "{message}");
}

/// Returns a bucket whose subresource another party had changed to `theirs`.
fn drifted_bucket(fixture: &Fixture, subresource: Subresource) -> BucketEvaluation {
    let change = StoreChange { subresource, from: "theirs".into(), to: "ours".into() };
    BucketEvaluation { is_drift: true, changes: vec![change], ..compliant_bucket(fixture.now) }
}

#[test]
fn drift_is_reported_for_one_day() {
    let mut fixture = fixture();
    let reported = site_status(&fixture, &drifted_bucket(&fixture, Subresource::Policy));
    let (truth, reason, message) = condition(&reported, "Intact");
    assert_eq!((truth, reason), ("False", "DriftCorrected"));
    assert!(message.contains("the bucket at ") && message.contains("policy: theirs → ours"), "{message}");

    // The next reconcile finds nothing, and reports the same.
    let held = DriftStatus {
        last_detection_time: Time(fixture.now + SignedDuration::from_hours(23)),
        message: "tag of 3 held versions".into(),
        count: 1,
    };
    fixture.site.status = Some(SiteStatus {
        retention: Some(RetentionStatus { drift: Some(held), ..RetentionStatus::default() }),
        ..reported
    });
    for (hours, parts) in [(1, &["policy", "tag"][..]), (25, &["tag"]), (48, &[])] {
        let mut later = fixture.clone();
        later.now += SignedDuration::from_hours(hours);
        let status = compliant_status(&later);
        let (truth, _, message) = condition(&status, "Intact");
        assert_eq!(truth == "True", parts.is_empty(), "{message}");
        for part in ["policy", "tag"] {
            assert_eq!(message.contains(part), parts.contains(&part), "after {hours} h: {message}");
        }
    }
}

#[test]
fn repeated_drift_is_reported_as_contended() {
    let mut fixture = fixture();
    for round in 1..=4 {
        let status = site_status(&fixture, &drifted_bucket(&fixture, Subresource::Lifecycle));
        let (truth, reason, message) = condition(&status, "Intact");
        let expected = if round < 3 { "DriftCorrected" } else { "Contended" };
        assert_eq!((truth, reason), ("False", expected), "{message}");
        assert_eq!(message.contains(&format!("{round} times")), round >= 3, "{message}");
        fixture.site.status = Some(status);
        fixture.now += SignedDuration::from_hours(20);
    }
    fixture.now += SignedDuration::from_hours(5);
    let status = compliant_status(&fixture);
    assert_eq!(condition(&status, "Intact").0, "True");
}

/// Returns the time this many hours before now.
fn hours_ago(fixture: &Fixture, hours: i64) -> Time {
    Time(fixture.now - SignedDuration::from_hours(hours))
}

fn audit(fixture: &Fixture, oldest_video_hours: i64) -> AuditStatus {
    AuditStatus {
        last_full_audit_time: hours_ago(fixture, 1),
        last_boundary_audit_time: hours_ago(fixture, 1),
        versions: 1,
        bytes: 1,
        held_versions: 0,
        inspected_versions: 0,
        sample_one_in: 100,
        oldest_unheld_video_time: Some(hours_ago(fixture, oldest_video_hours)),
        oldest_unheld_calls_time: None,
        lifecycle_lag_seconds: 0,
        findings: Vec::new(),
    }
}

#[test]
fn compliant_message_has_audit_counts_and_ceilings() {
    let mut fixture = fixture();
    let age = 1 + 24 * 20 + 3;
    let full_audit = hours_ago(&fixture, 2);
    let audit = AuditStatus {
        last_full_audit_time: full_audit.clone(),
        versions: 5,
        bytes: 3 << 20,
        held_versions: 1,
        inspected_versions: 2,
        lifecycle_lag_seconds: 60,
        ..audit(&fixture, age)
    };
    fixture.site.status = Some(SiteStatus { audit: Some(audit), ..SiteStatus::default() });
    let status = compliant_status(&fixture);
    let (truth, _, message) = condition(&status, "Compliant");
    let expected = format!(
        "audited at {}, the days at the ceiling at {}; the next full audit follows within 24 h; 5 versions of 3.0 MiB, 1 of them \
         held, 2 inspected; the oldest video that no hold covers began at {} and expires by {}; the store's lifecycle was 60 s late",
        full_audit.0,
        hours_ago(&fixture, 1).0,
        hours_ago(&fixture, age).0,
        hours_ago(&fixture, age - 28 * 24).0,
    );
    assert_eq!((truth, message), ("True", expected.as_str()));
}

#[test]
fn next_deadline_is_the_oldest_recordings_ceiling_or_a_suspension() {
    let mut fixture = fixture();
    fixture.site.status = Some(SiteStatus { audit: Some(audit(&fixture, 5)), ..SiteStatus::default() });
    let status = compliant_status(&fixture);
    assert_eq!(status.suspensions, None, "the suspension of the fixture is over");
    let deadline = status.next_deadline.unwrap();
    let expected = (hours_ago(&fixture, 5 - 28 * 24), DeadlineReason::RecordingExpires);
    assert_eq!((deadline.time, deadline.reason), expected);

    let (from, until) = (hours_ago(&fixture, -1), hours_ago(&fixture, -2));
    fixture.site.spec.suspensions[0].from = from.clone();
    fixture.site.spec.suspensions[0].until = until.clone();
    let status = compliant_status(&fixture);
    let next = status.suspensions.unwrap().next.unwrap();
    assert_eq!((next.from_time, next.until_time, next.cameras), (from.clone(), until, Some(1)));
    let deadline = status.next_deadline.unwrap();
    assert_eq!((deadline.time, deadline.reason), (from, DeadlineReason::SuspensionBegins));
}

#[test]
fn compliant_message_begins_with_violations() {
    let mut fixture = fixture();
    let finding = |type_: &str, violation| AuditFinding {
        type_: type_.to_owned(),
        count: 3,
        violation,
        examples: Vec::new(),
    };
    let findings = vec![finding("LateUpload", false), finding("HeldUnprotected", true)];
    let audit = AuditStatus { findings, ..audit(&fixture, 1) };
    fixture.site.status = Some(SiteStatus { audit: Some(audit), ..SiteStatus::default() });
    let status = compliant_status(&fixture);
    let (_, reason, message) = condition(&status, "Compliant");
    assert_eq!(reason, "ViolationsFound");
    assert!(message.starts_with("3 HeldUnprotected; docs/how-to/audit-a-bucket.md"), "{message}");
    assert!(message.ends_with("; also reported: 3 LateUpload"), "{message}");
}

#[test]
fn widened_hold_scopes_make_site_not_ready() {
    let fixture = fixture();
    for (widening, part) in [
        (None, ""),
        (Some(Widening::EveryCamera), "all cameras in the windows"),
        (Some(Widening::Everything), "everything from the start"),
    ] {
        let mut expected = fixture.plan().expected;
        expected.widening = widening;
        let applied = AppliedPlan {
            recorders: Some(AppliedRecorders { expected, pods: Vec::new(), terminating: Vec::new() }),
            ..AppliedPlan::default()
        };
        let status = applied_status(&fixture, &compliant_bucket(fixture.now), Ok(applied));
        let (truth, reason, message) = condition(&status, "Ready");
        assert_eq!(reason == "TooManyHolds", widening.is_some(), "{message}");
        assert_eq!(truth == "True", widening.is_none(), "{message}");
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn omitted_cameras_make_site_not_ready_and_stall_it_at_once() {
    let fixture = fixture();
    let mut expected = fixture.plan().expected;
    expected.omitted_cameras = (10..30).map(|number| format!("camera-{number}")).collect();
    let applied = AppliedPlan {
        recorders: Some(AppliedRecorders { expected, pods: Vec::new(), terminating: Vec::new() }),
        ..AppliedPlan::default()
    };
    let status = applied_status(&fixture, &compliant_bucket(fixture.now), Ok(applied));
    for type_ in ["Ready", "Stalled"] {
        let (_, reason, message) = condition(&status, type_);
        assert_eq!(reason, "TooManyCameras", "{message}");
        assert!(message.starts_with("these cameras do not fit"), "{message}");
        assert!(message.contains("camera-10, ") && message.contains("camera-19 and 10 more"), "{message}");
    }
    assert_eq!((condition(&status, "Ready").0, condition(&status, "Stalled").0), ("False", "True"));
}

/// Returns a Site with a ceiling of 28 days, whose last audit found a video this old, in hours.
fn audited_with_video_age(hours: i64) -> Fixture {
    let mut fixture = fixture();
    fixture.site.status = Some(SiteStatus {
        ceilings: Some(Ceilings { video: Days(28), calls: Days(7) }),
        audit: Some(audit(&fixture, hours)),
        ..SiteStatus::default()
    });
    fixture
}

#[test]
fn recordings_past_lowered_cluster_ceiling_are_not_compliant() {
    for (hours, expected) in [
        (13 * 24, ("True", "AuditPassed")),
        (14 * 24 + 1, ("False", "CeilingLowered")),
        (27 * 24, ("False", "CeilingLowered")),
    ] {
        let mut fixture = audited_with_video_age(hours);
        fixture.config.ceilings.video = Days(14);
        let status = compliant_status(&fixture);
        let (truth, reason, message) = condition(&status, "Compliant");
        assert_eq!((truth, reason), expected, "{message}");
        assert!(message.contains("14d"), "{message}");
        // The operator deletes only by a number that a policy has or had.
        assert_eq!(status.ceilings.unwrap().video, Days(28));
        assert_eq!(fixture.valid().access.unwrap().spec.video_ceiling, Days(28));
    }
}

#[test]
fn audit_before_lowered_policy_ceiling_is_unknown() {
    let mut fixture = audited_with_video_age(20 * 24);
    let policy = fixture.observed.policies.policy.as_mut().unwrap();
    policy.spec.retention.video = Days(14);
    let status = compliant_status(&fixture);
    let (truth, reason, message) = condition(&status, "Compliant");
    assert_eq!((truth, reason), ("Unknown", "NotAudited"), "{message}");
}

#[test]
fn paused_or_deleting_site_has_no_true_conditions() {
    let fixture = fixture();
    let before = compliant_status(&fixture).conditions;
    for (after, reason) in [
        (kube_status::paused_conditions(&before, Some(3), fixture.now), "Paused"),
        (deleting_conditions(&before, Some(3), "waits", None, fixture.now), "Deleting"),
    ] {
        assert_eq!((after.len(), after[0].reason.as_str()), (before.len(), reason));
        for found in &before[1..] {
            let now = after.iter().find(|now| now.type_ == found.type_).unwrap();
            assert!(now.status != "True" && now.message.ends_with(&found.message), "{now:?}");
        }
        let again = kube_status::mark_unobserved(after.clone(), &after, Reason::Paused, "", Timestamp::MAX);
        assert_eq!(again, after, "transition times stay");
    }
}

#[test]
fn deleting_site_with_unusable_bucket_explains_hold_release() {
    let mut fixture = fixture();
    let before = compliant_status(&fixture);
    fixture.observed.store_secrets.clear();
    let accepted = fixture.valid().accepted;
    let conditions = deleting_conditions(&before.conditions, Some(3), "waits", Some(&accepted), fixture.now);
    let status = SiteStatus { conditions, ..before };
    assert_eq!(status.conditions[0].type_, "Ready");
    let (truth, reason, message) = condition(&status, "Stalled");
    assert_eq!((truth, reason), ("True", "ReferenceNotFound"));
    for part in [
        "spec.storage.operator.credentialsRef",
        "docs/how-to/delete-a-site.md#a-namespace-that-stays-terminating",
    ] {
        assert!(message.contains(part), "{message}");
    }
    let (truth, reason, message) = condition(&status, "StorageEnforced");
    assert_eq!((truth, reason), ("Unknown", "DependencyNotReady"));
    assert!(message.contains("s3-operator"), "{message}");
}
