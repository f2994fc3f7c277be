//! Step six: say what is so: from what was applied and read back, never from what was meant. Pure up to the
//! patch itself.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::bucket::access;
use super::bucket::evaluation::BucketEvaluation;
use super::compliance::evaluate_compliance;
use super::recorders::apply::AppliedPlan;
use super::recorders::hold_widening::Widening;
use super::recorders::query;
use super::recorders::query::ShardReply;
use super::validate::ValidSite;
use crate::api::condition::{ConditionFinding, ConditionStatus, ConditionType, Reason, merge};
use crate::api::{DriftStatus, Site, SiteStatus};
use crate::controllers::kubernetes::apply::ApplyError;
use crate::controllers::kubernetes::error::{ApiError, KubeErrorExt};
use crate::controllers::kubernetes::status as kit_status;
use crate::controllers::runner::Watched;
use crate::controllers::stall;
use crate::controllers::stall::{StallCause, condition_since};
use crate::storage::bucket::policy::principals;

/// Whoever undoes something so often does it by rule.
const CONTENTION_THRESHOLD: i64 = 3;
/// What `Ready` says nothing about.
const SEE_OTHER_CONDITIONS: &str = "AccessRestricted says who can read and write recordings, Recording says which cameras record, \
                           Compliant says what the last audit found";

/// All that a Site's status is made of.
#[derive(Debug)]
pub struct StatusInputs<'a> {
    pub valid: &'a ValidSite,
    /// What was read back of the bucket.
    pub bucket: &'a BucketEvaluation,
    pub applied: &'a Result<AppliedPlan, ApplyError>,
    pub replies: &'a [ShardReply],
}

/// The status of `site`, and when it stalls though nothing happens.
pub fn status(site: &Site, inputs: &StatusInputs<'_>, now: Timestamp) -> (SiteStatus, Option<Timestamp>) {
    let StatusInputs { valid, bucket, applied, replies } = inputs;
    let before = site.status.clone().unwrap_or_default();
    let may_record = valid.accepted.is_true() && bucket.may_record();
    let segment =
        SignedDuration::try_from(site.spec.recorder.segment_duration.0).unwrap_or(SignedDuration::MAX);
    let (recording, count) = query::evaluate_recording(valid, may_record, replies, segment);
    let drift = bucket.drift(before.drift.as_ref(), now);
    let ready = evaluate_ready(valid, bucket, applied, replies);
    let (stalled, stalls_at) = stall::evaluate(&stall_causes(site, inputs, &ready, now), now);
    let findings = [
        ready,
        valid.accepted.clone(),
        valid.permission.finding.clone(),
        bucket.finding.clone(),
        access::evaluate_access(&bucket.probe_results, &unknown_principals(site, bucket), now),
        recording,
        evaluate_compliance(before.audit.as_ref(), valid.site_ceilings().as_ref(), now),
        evaluate_intact(
            bucket.status.is_some(),
            drift.as_ref(),
            before.retention.as_ref().and_then(|retention| retention.drift.as_ref()),
            now,
        ),
        administrators_excluded(),
        stalled,
    ];
    let status = SiteStatus {
        observed_generation: site.metadata.generation,
        conditions: merge(&before.conditions, &findings, site.metadata.generation, now),
        ceilings: valid.ceilings.clone(),
        storage: bucket.status.clone(),
        drift,
        // Those of other controllers, who write them as other managers.
        retention: None,
        audit: None,
        cameras: i32::try_from(valid.cameras.len() + valid.unusable_cameras.len()).ok(),
        recording_cameras: i32::try_from(count).ok(),
    };
    (status, stalls_at)
}

/// The fields whose principal the store does not know. Only the Site's own are told by their path.
fn unknown_principals(site: &Site, bucket: &BucketEvaluation) -> Vec<String> {
    let status = bucket.status.as_ref();
    let principals = status.map(|status| status.unknown_principals.as_slice());
    let named = |principal: &String| match principals::fields_naming(site, None, principal) {
        field if field.is_empty() => {
            format!("spec.policyRef: incidentOfficers of the policy: principal {principal:?}")
        }
        field => format!("{field} {principal:?}"),
    };
    principals.unwrap_or_default().iter().map(named).collect()
}

/// The conditions of a Site that is being deleted: what was found before, and what it waits for. `unusable`: why holds that
/// it waits for cannot be released.
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
        kit_status::replace_condition(&conditions, finding, generation, now)
    };
    // The first of them stands first.
    let conditions = findings.iter().rev().fold(before.to_vec(), replace);
    kit_status::mark_unobserved(conditions, before, Reason::Deleting, "it is being deleted", now)
}

/// In a namespace that is being deleted nobody can make again what is missing.
fn release_blocked_finding(accepted: &ConditionFinding) -> ConditionFinding {
    let message = format!(
        "the bucket cannot be used, so no hold can be released: {}; in a namespace that is being deleted that cannot be put right: \
         see docs/how-to/delete-a-site.md#a-namespace-that-cannot-go",
        accepted.message
    );
    ConditionFinding::new(ConditionType::Stalled, true, accepted.reason, message)
}

/// Whether storage and recorders are as the protocol now demands, read back. A site that must not record
/// now is ready, with that reason.
fn evaluate_ready(
    valid: &ValidSite,
    bucket: &BucketEvaluation,
    applied: &Result<AppliedPlan, ApplyError>,
    replies: &[ShardReply],
) -> ConditionFinding {
    let not_ready =
        |reason, message: String| ConditionFinding::new(ConditionType::Ready, false, reason, message);
    for finding in [&valid.accepted, &bucket.finding] {
        if !finding.is_true() {
            return not_ready(finding.reason, finding.message.clone());
        }
    }
    let recorders = match applied {
        Err(error) => {
            let (reason, message) = terminal_error(error).unwrap_or((Reason::Retrying, error.to_string()));
            return not_ready(reason, message);
        }
        Ok(applied) => applied.recorders.as_ref(),
    };
    if let Ok(AppliedPlan { pending_segments: 1.., .. }) = applied {
        return not_ready(
            Reason::RecorderNotReady,
            "recorders that are to go stay until what is in their spools is uploaded".to_owned(),
        );
    }
    let lagging =
        recorders.and_then(|recorders| query::describe_lagging(replies, &recorders.expected.revision));
    if let Some(lagging) = lagging {
        return not_ready(Reason::RecorderNotReady, lagging);
    }
    if let Some(widened) = recorders.and_then(|recorders| recorders.expected.widening) {
        return not_ready(Reason::TooManyHolds, describe_widening(widened));
    }
    let permitted = &valid.permission.finding;
    if permitted.is_true() {
        ConditionFinding::new(
            ConditionType::Ready,
            true,
            Reason::AsRequired,
            format!(
                "the bucket's configuration and the recorders match the protocol, as read back; {SEE_OTHER_CONDITIONS}"
            ),
        )
    } else {
        ConditionFinding::new(
            ConditionType::Ready,
            true,
            permitted.reason,
            format!(
                "the bucket's configuration matches the protocol, as read back; it allows no recording now: {}; {SEE_OTHER_CONDITIONS}",
                permitted.message
            ),
        )
    }
}

/// Recorders seal more than is held: nothing held is lost by it, but what they seal beyond that waits for the daily sweep.
fn describe_widening(widened: Widening) -> String {
    let sealed = match widened {
        Widening::EveryCamera => "all cameras in the windows of the open holds",
        Widening::Everything => "everything from the start of the earliest open hold to the end of the last",
    };
    format!(
        "the recorders' Secret has no room for what the open holds name, so recorders seal {sealed}; the daily sweep puts back \
         the tags of what no hold covers: resolve holds whose incident is over, or give those that name most cameras an empty spec.cameras"
    )
}

/// Why a Site may need a person, the gravest first.
fn stall_causes(
    site: &Site,
    inputs: &StatusInputs<'_>,
    ready: &ConditionFinding,
    now: Timestamp,
) -> Vec<StallCause> {
    let StatusInputs { valid, bucket, applied, replies: _ } = inputs;
    let status = site.status.as_ref();
    let (before, made) = (site.conditions(), site.metadata.creation_timestamp.as_ref());
    let after = |finding: &ConditionFinding, patience| {
        StallCause::after_grace(finding.clone(), condition_since(before, finding, made, now), patience)
    };
    if !valid.accepted.is_true() {
        return vec![match valid.accepted.reason {
            Reason::ReferenceNotFound => after(&valid.accepted, stall::REFERENCE_GRACE),
            _ => StallCause::immediate(valid.accepted.clone()),
        }];
    }
    let mut causes = Vec::new();
    if bucket.is_stalled {
        causes.push(StallCause::immediate(bucket.finding.clone()));
    } else if !bucket.finding.is_true() {
        causes.push(after(&bucket.finding, stall::STORE_GRACE));
    }
    if let Some((reason, message)) = applied.as_ref().err().and_then(terminal_error) {
        causes.push(StallCause::immediate(ConditionFinding::new(
            ConditionType::Stalled,
            true,
            reason,
            message,
        )));
    } else if !ready.is_true() {
        causes.push(after(ready, stall::WORK_GRACE));
    }
    let retention = status.and_then(|status| status.retention.as_ref());
    let orphaned = retention.map_or(&[][..], |retention| &retention.orphaned_holds);
    if !orphaned.is_empty() {
        let message = format!(
            "the bucket's ledger has open holds that this cluster does not have: {}. Make them again with `toezicht holds restore`, \
             then resolve those whose incident is resolved",
            orphaned.join(", ")
        );
        let finding = ConditionFinding::new(ConditionType::Stalled, true, Reason::OrphanedHold, message);
        // Where everything is applied at once, the holds come after their Site.
        let made = made.map_or(Timestamp::MIN, |made| made.0);
        causes.push(StallCause::after_grace(finding, made, stall::REFERENCE_GRACE));
    }
    causes
}

/// What trying again does not help against, and what to do.
fn terminal_error(error: &ApplyError) -> Option<(Reason, String)> {
    match error {
        ApplyError::ForeignObject { .. } => Some((Reason::ForeignObject, error.to_string())),
        ApplyError::Api(ApiError(api)) if api.is_invalid() => Some((
            Reason::InvalidField,
            format!("spec.recorder: {error}: correct resources, nodeSelector, tolerations or spool"),
        )),
        ApplyError::Api(_) | ApplyError::NotSerializable(_) => None,
    }
}

/// Whether somebody else changed the bucket's configuration, or what is held in it, in the last day. It was put back; who
/// that was, and with whose credentials, is for a person to find out.
fn evaluate_intact(
    is_read: bool,
    bucket: Option<&DriftStatus>,
    held: Option<&DriftStatus>,
    now: Timestamp,
) -> ConditionFinding {
    let lately = |drift: &&DriftStatus| drift.is_recent(now);
    let sources = [("the bucket", bucket), ("what is held", held)];
    let lately: Vec<(&str, &DriftStatus)> =
        sources.into_iter().filter_map(|(whose, drift)| Some((whose, drift.filter(lately)?))).collect();
    if lately.is_empty() && !is_read {
        let message = "the bucket was not read back yet: see StorageEnforced";
        return ConditionFinding::new(
            ConditionType::Intact,
            ConditionStatus::Unknown,
            Reason::DependencyNotReady,
            message,
        );
    }
    if lately.is_empty() {
        let message = "nobody else was found to have changed the bucket or what is held, in the last day";
        return ConditionFinding::new(ConditionType::Intact, true, Reason::AsRequired, message);
    }
    let changes: Vec<String> = lately
        .iter()
        .map(|(whose, drift)| format!("{whose} at {}: {}", drift.last_detection_time.0, drift.message))
        .collect();
    let changes = changes.join("; ");
    let times = lately.iter().map(|(_, drift)| drift.count).max().unwrap_or_default();
    if times >= CONTENTION_THRESHOLD {
        let message = format!(
            "another party changes what the operator puts back, {times} times so far: exempt this bucket from automatic \
             remediation, Terraform or the like; the last was {changes}; the store's access log names the identity: \
             docs/reference/alerts.md#toezichtdriftdetected"
        );
        return ConditionFinding::new(ConditionType::Intact, false, Reason::Contended, message);
    }
    let message = format!(
        "changed by another party, and put back as far as possible: {changes}; the store's access log names the identity: \
         docs/reference/alerts.md#toezichtdriftdetected"
    );
    ConditionFinding::new(ConditionType::Intact, false, Reason::DriftCorrected, message)
}

/// Without encryption to the managers' keys, who administers the cluster can reach credentials and pods.
fn administrators_excluded() -> ConditionFinding {
    let message = "article 3.2: recordings are not encrypted for the managers alone, so who administers the cluster or the store could watch them";
    ConditionFinding::new(ConditionType::AdministratorsExcluded, false, Reason::NotEncrypted, message)
}

#[cfg(test)]
mod tests;
