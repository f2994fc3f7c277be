//! Conditions: closed sets of types and reasons, so that users can build on them.
//!
//! Conditions are those of `metav1`: positive polarity, `Unknown` until the operator has looked.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use strum::{IntoStaticStr, VariantArray};

use super::reject_future;

/// Types of condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, IntoStaticStr, VariantArray)]
pub enum ConditionType {
    /// The spec is valid and what it refers to exists and may be used.
    Accepted,
    /// Everything is as the protocol now demands, read back.
    Ready,
    /// `True` when only a person can help (kstatus).
    Stalled,
    /// `RecordingPolicy`: in force now (article 11).
    InForce,
    /// Site, Camera: the protocol allows recording now (articles 1, 5, 7, 8, 11).
    Permitted,
    /// Site: the bucket, read back, is as it must be.
    StorageEnforced,
    /// Site: each identity can read and write what it may and nothing else, as tried on canaries.
    AccessRestricted,
    /// Site, Camera: pictures arrive and segments are confirmed.
    Recording,
    /// Site: administrators cannot watch (article 3.2).
    AdministratorsExcluded,
    /// `IncidentHold`: what it covers is held.
    Placed,
    /// `IncidentHold`: there are recordings of what it names.
    RecordingsFound,
    /// `IncidentHold`: resolved, and nothing is kept for it any more.
    Released,
    /// `IncidentHold`: `True` when somebody should ask whether it is still needed (article 6).
    ReviewDue,
    /// Site: the last audit found the promises kept.
    Compliant,
    /// Site: nobody else changed the bucket, or what is held in it, in the last day.
    Intact,
}

/// `status` of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr)]
pub enum ConditionStatus {
    /// It is so.
    True,
    /// It is not so.
    False,
    /// It could not be found out.
    Unknown,
}

impl From<bool> for ConditionStatus {
    fn from(value: bool) -> Self {
        if value { Self::True } else { Self::False }
    }
}

/// Reasons, over all types. Which go with which type stands in `docs/reference/conditions.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, IntoStaticStr, VariantArray)]
pub enum Reason {
    /// The operator has not looked yet.
    Pending,
    /// Nothing is wrong.
    AsRequired,
    /// The spec is valid and its references resolve.
    Valid,
    /// A field's value cannot be used.
    InvalidField,
    /// Something the spec refers to does not exist.
    ReferenceNotFound,
    /// Something the spec refers to may not be used.
    ReferenceInvalid,
    /// No grant of the cluster's administrators allows it.
    NotGranted,
    /// It follows from another condition of this object that is not `True`.
    DependencyNotReady,
    /// The operator will try again by itself.
    Retrying,
    /// The object is being deleted.
    Deleting,
    /// The object is paused by annotation.
    Paused,
    /// The policy is in force.
    InForce,
    /// The policy is not in force yet (article 11).
    NotYetInForce,
    /// The policy is no longer in force (article 11).
    Withdrawn,
    /// The works council has not consented (article 8).
    NoConsent,
    /// Staff or visitors have not been told (article 7).
    NotInformed,
    /// The cameras are covered (article 5).
    Suspended,
    /// The protocol allows it.
    Permitted,
    /// The bucket was read back and is as it must be.
    Verified,
    /// Another Site claimed the bucket first.
    BucketClaimed,
    /// What the Site asks of the bucket, or what is in it, cannot be followed.
    BucketRejected,
    /// The bucket has no Object Lock.
    NoObjectLock,
    /// A bucket that nobody claimed has a default retention.
    ForeignDefaultRetention,
    /// A bucket that nobody claimed has lifecycle rules of somebody's.
    ForeignLifecycle,
    /// A bucket that nobody claimed is replicated.
    ForeignReplication,
    /// A bucket that nobody claimed notifies somebody.
    ForeignNotifications,
    /// A bucket that nobody claimed has objects that are no recordings.
    ForeignObjects,
    /// A bucket that nobody claimed has a policy or other configuration of somebody's.
    ForeignConfiguration,
    /// Whether the bucket copies recordings, or tells of them, may not be read.
    ConfigurationUnreadable,
    /// The store does not do what is needed.
    StoreUnsupported,
    /// The store's answer was an error; the message has its code.
    StorageError,
    /// The probe tried every row about access, and all hold.
    AccessVerified,
    /// Rows about access fail: an identity can do more or less than it may.
    AccessMismatch,
    /// The store knows no identity of a principal that the Site or its policy names.
    UnknownPrincipal,
    /// Rows about access were not tried, or not lately, or show nothing.
    NotProbed,
    /// The recorder is not up yet.
    RecorderNotReady,
    /// A child object of that name is not ours.
    ForeignObject,
    /// Frames arrive and segments are confirmed.
    Recording,
    /// Connecting, or waiting for the first keyframe or segment.
    Connecting,
    /// No picture arrives.
    Disconnected,
    /// Segments cannot be uploaded.
    UploadFailing,
    /// The spool is full.
    SpoolFull,
    /// Some cameras do not record.
    SomeCamerasNotRecording,
    /// There are no cameras.
    NoCameras,
    /// Recordings are not encrypted for the managers alone.
    NotEncrypted,
    /// The hold's window begins in the future.
    NotStarted,
    /// The instant at which the hold's incident is said to be resolved lies in the future.
    ResolutionInFuture,
    /// The instant at which a hold is said to have been reviewed lies in the future.
    ReviewInFuture,
    /// Segments were found that the hold covers.
    RecordingsFound,
    /// No segment was found that the hold covers, and none can be on its way.
    NoRecordingsFound,
    /// The hold names a camera that the Site does not have, and no segment of that name was found.
    UnknownCamera,
    /// Segments may still be on their way to the store.
    UploadsPending,
    /// The bucket's ledger has an open hold that the cluster does not have.
    OrphanedHold,
    /// The hold is being placed.
    Placing,
    /// The hold is being released.
    Releasing,
    /// It should have been done before now.
    Overdue,
    /// The audit found nothing that breaks a promise.
    AuditPassed,
    /// The audit found something that breaks a promise, or may.
    ViolationsFound,
    /// There was no audit lately.
    NotAudited,
    /// Recordings are older than the cluster's ceilings, which were lowered below the policy's.
    CeilingLowered,
    /// The open holds name more than recorders can be told: they seal more than is held.
    TooManyHolds,
    /// Somebody else had changed something, and it was put back.
    DriftCorrected,
    /// Another party changes again and again what the operator puts back.
    Contended,
}

/// What the operator found, of one type of condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConditionFinding {
    /// Which condition.
    pub condition: ConditionType,
    /// Whether it is so.
    pub status: ConditionStatus,
    /// Why, for machines.
    pub reason: Reason,
    /// Why, for people: with the field's path and the remedy where something is wrong. Holds no secret.
    pub message: String,
}

impl ConditionFinding {
    /// A finding.
    pub fn new(
        condition: ConditionType,
        status: impl Into<ConditionStatus>,
        reason: Reason,
        message: impl Into<String>,
    ) -> Self {
        Self { condition, status: status.into(), reason, message: message.into() }
    }

    /// The same reason and message, told of another condition that follows from this one.
    #[must_use]
    pub fn propagate(&self, condition: ConditionType, status: impl Into<ConditionStatus>) -> Self {
        Self::new(condition, status, self.reason, self.message.clone())
    }

    /// `Stalled`: `True` for `cause`, which only a person can put right; without one, nothing waits for a person.
    pub fn stalled(cause: Option<&Self>) -> Self {
        cause.map_or_else(
            || Self::new(ConditionType::Stalled, false, Reason::AsRequired, "nothing waits for a person"),
            |cause| cause.propagate(ConditionType::Stalled, true),
        )
    }

    /// Whether it is found to be so.
    pub fn is_true(&self) -> bool {
        self.status == ConditionStatus::True
    }
}

/// The conditions that follow from `findings`: those of a type that is not among them go, and a transition
/// time changes only with its status.
pub fn merge(
    existing: &[Condition],
    findings: &[ConditionFinding],
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    findings
        .iter()
        .map(|finding| {
            let type_: &str = finding.condition.into();
            let status: &str = finding.status.into();
            let reason: &str = finding.reason.into();
            #[cfg(test)]
            tests::assert_documented(type_, status, reason);
            // A transition that lies ahead was written by a clock that was wrong.
            let is_past = |c: &Condition| reject_future(c.last_transition_time.0, now).is_some();
            let mut same = existing.iter().filter(|c| c.type_ == type_ && c.status == status);
            let since = same.find(|c| is_past(c));
            Condition {
                type_: type_.to_owned(),
                status: status.to_owned(),
                reason: reason.to_owned(),
                message: finding.message.clone(),
                observed_generation: generation,
                last_transition_time: since.map_or(Time(now), |c| c.last_transition_time.clone()),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const DOCUMENT: &str = include_str!("../../docs/reference/conditions.md");

    fn cells(line: &str) -> Vec<&str> {
        line.split('|').map(str::trim).collect()
    }

    /// Whatever any test of a status finds must be a row of the document.
    pub fn assert_documented(type_: &str, status: &str, reason: &str) {
        let (mut section, mut own, mut elsewhere) = ("", false, false);
        for line in DOCUMENT.lines() {
            section = line.strip_prefix("## ").unwrap_or(section);
            let row = cells(line);
            if row.len() == 6 && row[2] == format!("`{reason}`") {
                own |= section == type_ && row[1].split(", ").any(|listed| listed == status);
                elsewhere = true;
            }
        }
        // These have the reason of what they follow from.
        let follows = matches!(type_, "Ready" | "Stalled") && elsewhere;
        assert!(own || follows, "docs/reference/conditions.md has no row for {type_}={status} {reason}");
    }

    #[test]
    fn conditions_doc_lists_exactly_the_known_types_and_reasons() {
        for type_ in ConditionType::VARIANTS {
            let type_: &str = type_.into();
            assert!(
                DOCUMENT.contains(&format!("\n## {type_}\n")),
                "docs/reference/conditions.md has no section on {type_}"
            );
            assert!(
                DOCUMENT.contains(&format!("[`{type_}`]")),
                "docs/reference/conditions.md does not list {type_}"
            );
        }
        let documented: BTreeSet<&str> = DOCUMENT
            .lines()
            .map(cells)
            .filter(|row| row.len() == 6)
            .filter_map(|row| row[2].strip_prefix('`')?.strip_suffix('`'))
            .collect();
        let known: BTreeSet<&str> = Reason::VARIANTS.iter().map(Into::into).collect();
        assert_eq!(documented, known, "docs/reference/conditions.md and Reason differ");
    }

    #[test]
    fn every_documented_reason_has_a_remedy() {
        let truths = ["True", "False", "Unknown", "False, Unknown"];
        for row in DOCUMENT.lines().map(cells).filter(|row| row.len() == 6 && truths.contains(&row[1])) {
            assert!(row.iter().skip(1).take(4).all(|cell| !cell.is_empty()), "a cell is empty: {row:?}");
        }
    }

    #[test]
    fn transition_time_changes_only_with_status() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let finding = |truth: bool, reason| ConditionFinding::new(ConditionType::Ready, truth, reason, "");
        let first = merge(&[], &[finding(true, Reason::AsRequired)], Some(1), at(1));
        let same = merge(&first, &[finding(true, Reason::Suspended)], Some(2), at(2));
        assert_eq!(same[0].last_transition_time.0, at(1));
        assert_eq!((same[0].reason.as_str(), same[0].observed_generation), ("Suspended", Some(2)));
        let other = merge(&same, &[finding(false, Reason::Retrying)], Some(2), at(3));
        assert_eq!(other[0].last_transition_time.0, at(3));
    }
}
