//! Step six: the status. It reports what was applied and read back, never what was intended. Pure.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::bucket::access;
use super::bucket::evaluation::BucketEvaluation;
use super::compliance::evaluate_compliance;
use super::recorders::apply::AppliedPlan;
use super::recorders::hold_widening::Widening;
use super::recorders::lagging::{self, LaggingRecorder};
use super::recorders::lost;
use super::recorders::query::{self, ShardReply};
use super::recorders::recording::{self, RecordingInputs};
use super::recorders::spool_report::describe_discard;
use super::spool_persistence;
use super::validate::ValidSite;
use crate::api::condition::{ConditionFinding, ConditionStatus, ConditionType, Reason, merge};
use crate::api::{AuditStatus, Deadline, DriftStatus, LostRecorder, Site, SiteStatus};
use crate::controllers::kubernetes::ApplyError;
use crate::controllers::kubernetes::status as kube_status;
use crate::controllers::recorder_client::camera_recording;
use crate::controllers::runner::Watched;
use crate::controllers::stall::{self, StallCause, condition_since};
use crate::rules::deadline::SiteTimes;
use crate::rules::{Class, deadline, suspension};
use crate::storage::bucket::policy::principals;

/// Number of reverted changes at which another party reverts them by a rule of its own.
const CONTENTION_THRESHOLD: i64 = 3;
/// Questions that `Ready` does not answer.
const SEE_OTHER_CONDITIONS: &str = "AccessRestricted says who can read and write recordings, Recording says which cameras record, \
                           Compliant says what the last audit found";

/// Results of the previous steps.
#[derive(Debug)]
pub struct StatusInputs<'a> {
    pub valid: &'a ValidSite,
    /// Whether the spools are volume claims; `None`: the Site has no recorders.
    pub has_claims: Option<bool>,
    /// Whether spec, references and bucket let cameras record.
    pub may_record: bool,
    pub bucket: &'a BucketEvaluation,
    pub applied: &'a Result<AppliedPlan, ApplyError>,
    pub replies: &'a [ShardReply],
    /// Recorders that do not do what the latest configuration says.
    pub lagging: &'a [LaggingRecorder],
    /// Recorders that are lost with their nodes.
    pub lost_recorders: Vec<LostRecorder>,
    /// Kind whose watch fails, so that the observations may be old.
    pub failed_watch: Option<String>,
}

/// Returns the status of `site`, and the time at which it stalls without an event.
pub fn status(site: &Site, inputs: &StatusInputs<'_>, now: Timestamp) -> (SiteStatus, Option<Timestamp>) {
    let StatusInputs { valid, bucket, applied, .. } = inputs;
    let before = site.status.clone().unwrap_or_default();
    let segment =
        SignedDuration::try_from(site.spec.recorder.segment_duration.0).unwrap_or(SignedDuration::MAX);
    let (finding, recording_cameras) = recording::evaluate_recording(&RecordingInputs {
        valid,
        may_record: inputs.may_record,
        replies: inputs.replies,
        lagging: inputs.lagging,
        omitted: omitted_cameras(applied),
        segment,
        was_silent: before.recording_cameras == Some(0)
            && camera_recording::have_claimed_silence(&before.conditions),
        now,
    });
    let recording = with_lost_recorders(finding, &inputs.lost_recorders);
    let drift = bucket.drift(before.drift.as_ref(), now);
    let held_drift = before.retention.as_ref().and_then(|retention| retention.drift.as_ref());
    let ready = with_discard(evaluate_ready(inputs, now), site);
    let (stalled, stalls_at) = stall::evaluate(&stall_causes(site, inputs, &ready, now), now);
    let findings = [
        ready,
        valid.accepted.clone(),
        valid.permission.finding.clone(),
        bucket.finding.clone(),
        access::evaluate_access(&bucket.probe_results, &unknown_principals(site, bucket), now),
        recording,
        evaluate_compliance(before.audit.as_ref(), valid.site_ceilings().as_ref(), now),
        evaluate_intact(bucket.status.is_some(), drift.as_ref(), held_drift, now),
        administrators_excluded(),
        spool_persistence::evaluate(&site.spec.recorder, inputs.has_claims),
        stalled,
    ];
    let status = SiteStatus {
        observed_generation: site.metadata.generation,
        conditions: merge(&before.conditions, &findings, site.metadata.generation, now),
        policy: Some(valid.policy.clone()),
        ceilings: valid.ceilings.clone(),
        embargo: valid.embargo,
        next_deadline: next_deadline(site, valid, before.audit.as_ref(), now),
        suspensions: suspension::site_outlook(&site.spec.suspensions, now),
        storage: bucket.status.clone(),
        drift,
        // Other controllers write these, as other field managers.
        retention: None,
        audit: None,
        missing_reference_grace_end_time: valid.grace_end.map(Time),
        drain_start_time: None,
        drain_end_time: None,
        lost_recorders: inputs.lost_recorders.clone(),
        cameras: i32::try_from(valid.cameras.len() + valid.unusable_cameras.len()).ok(),
        recording_cameras: i32::try_from(recording_cameras).ok(),
    };
    (status, stalls_at)
}

fn next_deadline(
    site: &Site,
    valid: &ValidSite,
    audit: Option<&AuditStatus>,
    now: Timestamp,
) -> Option<Deadline> {
    let oldest = |time: fn(&AuditStatus) -> &Option<Time>| Some(time(audit?).as_ref()?.0);
    let times = SiteTimes {
        oldest: [
            (Class::Video, oldest(|audit| &audit.oldest_unheld_video_time)),
            (Class::Calls, oldest(|audit| &audit.oldest_unheld_calls_time)),
        ],
        ceilings: valid.ceilings.as_ref(),
        ceilings_change: valid.ceilings_change,
        permitted: &valid.permission.windows,
        replaced_at: valid.permission.replaced_at,
        suspensions: &site.spec.suspensions,
    };
    deadline::next_deadline(&times, now)
}

/// Returns the names of the cameras that do not fit into the recorders' configuration.
fn omitted_cameras(applied: &Result<AppliedPlan, ApplyError>) -> &[String] {
    let recorders = applied.as_ref().ok().and_then(|applied| applied.recorders.as_ref());
    recorders.map_or(&[], |recorders| &recorders.expected.omitted_cameras)
}

/// Returns the fields whose principal the store does not know. A principal of the policy has no field of the Site.
fn unknown_principals(site: &Site, bucket: &BucketEvaluation) -> Vec<String> {
    let principals = bucket.status.as_ref().map(|status| status.unknown_principals.as_slice());
    let describe = |principal: &String| match principals::fields_naming(site, None, principal) {
        fields if fields.is_empty() => {
            format!("spec.policyRef: incidentOfficers of the policy: principal {principal:?}")
        }
        fields => format!("{fields} {principal:?}"),
    };
    principals.unwrap_or_default().iter().map(describe).collect()
}

/// Returns the conditions of a Site that is being deleted. `unusable`: `Accepted`, if the bucket cannot be used to release
/// the holds that the deletion waits for.
pub fn deleting_conditions(
    before: &[Condition],
    generation: Option<i64>,
    waits_for: &str,
    unusable: Option<&ConditionFinding>,
    now: Timestamp,
) -> Vec<Condition> {
    let ready = ConditionFinding::new(ConditionType::Ready, false, Reason::Deleting, waits_for);
    let stalled = ConditionFinding::stalled(unusable.map(release_blocked_finding).as_ref());
    let mut findings = vec![ready, stalled];
    if let Some(accepted) = unusable {
        let message = format!("the bucket is not used: {}", accepted.message);
        findings.push(accepted.clone());
        findings.push(ConditionFinding::new(
            ConditionType::StorageEnforced,
            ConditionStatus::Unknown,
            Reason::DependencyNotReady,
            message,
        ));
    }
    let replace = |conditions: Vec<Condition>, finding: &ConditionFinding| {
        kube_status::replace_condition(&conditions, finding, generation, now)
    };
    // In reverse: each replacement goes to the front, and `Ready` belongs there.
    let conditions = findings.iter().rev().fold(before.to_vec(), replace);
    kube_status::mark_unobserved(conditions, before, Reason::Deleting, "it is being deleted", now)
}

/// Returns the finding that no hold can be released. In a namespace that is being deleted, nobody can create a missing Secret.
fn release_blocked_finding(accepted: &ConditionFinding) -> ConditionFinding {
    let message = format!(
        "the bucket cannot be used, so no hold can be released: {}; in a namespace that is being deleted, follow \
         docs/how-to/delete-a-site.md#a-namespace-that-stays-terminating",
        accepted.message
    );
    ConditionFinding::new(ConditionType::Stalled, true, accepted.reason, message)
}

/// Returns `Ready`: bucket and recorders were read back as required. A Site that may not record now is ready, with that
/// reason.
fn evaluate_ready(inputs: &StatusInputs<'_>, now: Timestamp) -> ConditionFinding {
    let StatusInputs { valid, bucket, applied, replies, .. } = inputs;
    let finding = |is_ready: bool, reason, message: String| {
        ConditionFinding::new(ConditionType::Ready, is_ready, reason, message)
    };
    if let Some(kind) = &inputs.failed_watch {
        let message = format!(
            "the operator cannot watch objects of the kind {kind}, so what changed since is unknown; check its permissions and the API \
             server"
        );
        return finding(false, Reason::Retrying, message);
    }
    let not_true = [&valid.accepted, &bucket.finding].into_iter().find(|finding| !finding.is_true());
    if let Some(cause) = not_true {
        return finding(false, cause.reason, cause.message.clone());
    }
    let applied = match applied {
        Err(error) => {
            let (reason, message) = terminal_error(error).unwrap_or((Reason::Retrying, error.to_string()));
            return finding(false, reason, message);
        }
        Ok(applied) => applied,
    };
    if let Some(lost) = lost::describe_all(&inputs.lost_recorders) {
        return finding(false, Reason::RecorderNotReady, lost);
    }
    if !applied.pending.is_empty() {
        let message = format!("recorders that are to be removed stay: {}", applied.pending.message());
        return finding(false, Reason::RecorderNotReady, message);
    }
    if !applied.leaving_claims.is_empty() {
        let message = format!(
            "the recorders are created again once these volume claims of the previous ones are deleted: {}",
            applied.leaving_claims.join(", ")
        );
        return finding(false, Reason::RecorderNotReady, message);
    }
    if !applied.rollout.waiting.is_empty() {
        let message = format!(
            "the recorder pods have a new template, which waits: {}",
            applied.rollout.waiting.message()
        );
        return finding(false, Reason::RecorderNotReady, message);
    }
    if let Some(denied) = applied.rollout.turn_denied {
        return finding(false, Reason::RecorderNotReady, denied.to_string());
    }
    if let Some(expected) = applied.recorders.as_ref().map(|recorders| &recorders.expected) {
        if let Some(pod) = &applied.rollout.stopped_at {
            let lagging = query::describe_lagging(replies, &expected.revision)
                .unwrap_or_else(|| "see Recording of its Cameras".to_owned());
            let message = format!(
                "the update of the recorder pods waits until {pod} is ready and gets frames again: {lagging}"
            );
            return finding(false, Reason::RecorderNotReady, message);
        }
        if let Some(lagging) = query::describe_lagging(replies, &expected.revision) {
            return finding(false, Reason::RecorderNotReady, lagging);
        }
        if let Some(omission) = describe_omitted(&expected.omitted_cameras) {
            return finding(false, Reason::TooManyCameras, omission);
        }
        if let Some(widening) = expected.widening {
            return finding(false, Reason::TooManyHolds, describe_widening(widening));
        }
    }
    let permitted = &valid.permission.finding;
    if permitted.is_true() {
        let message = format!("bucket and recorders were read back as required; {SEE_OTHER_CONDITIONS}");
        return finding(true, Reason::AsRequired, message);
    }
    let cameras = valid.cameras.iter().map(|camera| &camera.name).chain(&valid.unusable_cameras);
    if let Some(names) = lagging::name_overdue(inputs.lagging, cameras.map(String::as_str), now) {
        let message =
            format!("recording is not permitted now, and these recorders have not stopped: {names}");
        return finding(false, Reason::RecorderNotReady, message);
    }
    let message = format!(
        "the bucket was read back as required; recording is not permitted now: {}; {SEE_OTHER_CONDITIONS}",
        permitted.message
    );
    finding(true, permitted.reason, message)
}

/// Adds the lost recorders to `Recording`: one behind a broken network may record although nothing permits it any more.
fn with_lost_recorders(finding: ConditionFinding, lost: &[LostRecorder]) -> ConditionFinding {
    match lost::name_all(lost, None) {
        Some(names) => camera_recording::with_lost_recorders(finding, &names),
        None => finding,
    }
}

/// Describes the cameras that do not fit into the recorders' Secret; `None`: all fit.
fn describe_omitted(cameras: &[String]) -> Option<String> {
    let message = || {
        format!(
            "these cameras do not fit into the recorders' Secret (about 1 MB), where the oldest come first, and are not recorded: {}; move \
             cameras to another Site, or shorten the certificates that their spec.stream.caRef and spec.storage.caRef of the Site name",
            recording::name_cameras(cameras)
        )
    };
    (!cameras.is_empty()).then(message)
}

/// Adds the annotation that gives up spools to `Ready`: until somebody removes it, it also applies to the next removal.
fn with_discard(finding: ConditionFinding, site: &Site) -> ConditionFinding {
    match describe_discard(site) {
        Some(discard) => ConditionFinding { message: format!("{}; {discard}", finding.message), ..finding },
        None => finding,
    }
}

/// Describes recorders that seal more than is held. No recording is lost, but the surplus keeps the tag `sealed` until the
/// daily sweep.
fn describe_widening(widening: Widening) -> String {
    let sealed = match widening {
        Widening::EveryCamera => "all cameras in the windows of the open holds",
        Widening::Everything => "everything from the start of the earliest open hold to the end of the last",
    };
    format!(
        "the open holds name more cameras than fit into the recorders' Secret, so recorders seal {sealed}, and the daily sweep \
         restores the tags of segments that no hold covers: resolve holds whose incident is over, or give those that name most \
         cameras an empty spec.cameras"
    )
}

/// Returns the causes for which a Site can stall, the most severe first.
fn stall_causes(
    site: &Site,
    inputs: &StatusInputs<'_>,
    ready: &ConditionFinding,
    now: Timestamp,
) -> Vec<StallCause> {
    let StatusInputs { valid, bucket, applied, .. } = inputs;
    let created = site.metadata.creation_timestamp.as_ref();
    let after_grace = |finding: &ConditionFinding, grace| {
        let since = condition_since(site.conditions(), finding, created, now);
        StallCause::after_grace(finding.clone(), since, grace)
    };
    let stalled = |reason, message| ConditionFinding::new(ConditionType::Stalled, true, reason, message);
    if !valid.accepted.is_true() {
        return vec![match valid.accepted.reason {
            Reason::ReferenceNotFound => after_grace(&valid.accepted, stall::REFERENCE_GRACE),
            _ => StallCause::immediate(valid.accepted.clone()),
        }];
    }
    let mut causes = Vec::new();
    if bucket.is_stalled {
        causes.push(StallCause::immediate(bucket.finding.clone()));
    } else if !bucket.finding.is_true() {
        causes.push(after_grace(&bucket.finding, stall::STORE_GRACE));
    }
    let omitted = omitted_cameras(applied);
    if let Some(message) = describe_omitted(omitted) {
        causes.push(StallCause::immediate(stalled(Reason::TooManyCameras, message)));
    }
    if let Some((reason, message)) = applied.as_ref().err().and_then(terminal_error) {
        causes.push(StallCause::immediate(stalled(reason, message)));
    } else if !ready.is_true() && !waits_for_other_sites(applied) {
        causes.push(after_grace(ready, stall::WORK_GRACE));
    }
    let retention = site.status.as_ref().and_then(|status| status.retention.as_ref());
    if let Some(orphaned) = retention.map(|retention| &retention.orphaned_holds).filter(|all| !all.is_empty())
    {
        let message = format!(
            "the bucket's ledger has open holds that this cluster does not have: {}: re-create them with `toezicht holds restore`, \
             then resolve those whose incident is over",
            orphaned.join(", ")
        );
        // If everything is applied at once, the holds come after their Site.
        let since = created.map_or(Timestamp::MIN, |created| created.0);
        let finding = stalled(Reason::OrphanedHold, message);
        causes.push(StallCause::after_grace(finding, since, stall::REFERENCE_GRACE));
    }
    causes
}

/// Returns whether the recorders work and wait for other Sites only, at which alone a person can do something.
fn waits_for_other_sites(applied: &Result<AppliedPlan, ApplyError>) -> bool {
    applied.as_ref().is_ok_and(|applied| applied.rollout.turn_denied.is_some())
}

/// Returns reason and remedy of an error that a retry cannot solve.
fn terminal_error(error: &ApplyError) -> Option<(Reason, String)> {
    match error {
        ApplyError::ForeignObject { .. } => Some((Reason::ForeignObject, error.to_string())),
        ApplyError::Invalid { kind, .. } => {
            let message = match kind.as_str() {
                "StatefulSet" => {
                    format!(
                        "spec.recorder: {error}; correct its resources, nodeSelector, tolerations or spool"
                    )
                }
                "Secret" => format!(
                    "{error}, so no recorder follows a change of the Site or a new hold; if somebody made that Secret immutable, delete it; \
                     otherwise it is too large: shorten the certificates that spec.storage.caRef names"
                ),
                _ => format!("{error}; delete that object, and the operator creates it again"),
            };
            Some((Reason::InvalidField, message))
        }
        ApplyError::Api(_) | ApplyError::NotSerializable(_) => None,
    }
}

/// Returns `Intact`: no other party changed the bucket or held versions in the last day. The operator reverts such a change.
/// A person must find out who made it.
fn evaluate_intact(
    is_read_back: bool,
    bucket_drift: Option<&DriftStatus>,
    held_drift: Option<&DriftStatus>,
    now: Timestamp,
) -> ConditionFinding {
    const WHO: &str =
        "the store's access log names the identity: docs/reference/alerts.md#toezichtdriftdetected";
    let finding = |status: ConditionStatus, reason, message: String| {
        ConditionFinding::new(ConditionType::Intact, status, reason, message)
    };
    let sources = [("the bucket", bucket_drift), ("held versions", held_drift)];
    let recent: Vec<(&str, &DriftStatus)> = sources
        .into_iter()
        .filter_map(|(subject, drift)| Some((subject, drift.filter(|drift| drift.is_recent(now))?)))
        .collect();
    // Known drift needs no further read: it is reported even while the bucket is unreadable.
    if recent.is_empty() && !is_read_back {
        let message = "the bucket has not been read back yet: see StorageEnforced".to_owned();
        return finding(ConditionStatus::Unknown, Reason::DependencyNotReady, message);
    }
    if recent.is_empty() {
        let message =
            "no change of the bucket or of held versions by another party in the last day".to_owned();
        return finding(ConditionStatus::True, Reason::AsRequired, message);
    }
    let changes: Vec<String> = recent
        .iter()
        .map(|(subject, drift)| format!("{subject} at {}: {}", drift.last_detection_time.0, drift.message))
        .collect();
    let changes = changes.join("; ");
    let times = recent.iter().map(|(_, drift)| drift.count).max().unwrap_or_default();
    if times >= CONTENTION_THRESHOLD {
        let message = format!(
            "another party repeats a change that the operator reverted, {times} times so far: exempt this bucket from automatic remediation, \
             Terraform or the like; the last change: {changes}; {WHO}"
        );
        return finding(ConditionStatus::False, Reason::Contended, message);
    }
    let message =
        format!("another party made changes, and the operator restored what it could: {changes}; {WHO}");
    finding(ConditionStatus::False, Reason::DriftCorrected, message)
}

/// Returns `AdministratorsExcluded`: without encryption to the managers' keys, administrators can reach credentials and pods.
fn administrators_excluded() -> ConditionFinding {
    let message = "article 3.2: recordings are not encrypted to the managers' keys, so cluster and store administrators could view them; this version cannot prevent it: see docs/threat-model.md";
    ConditionFinding::new(ConditionType::AdministratorsExcluded, false, Reason::NotEncrypted, message)
}

#[cfg(test)]
mod tests;
