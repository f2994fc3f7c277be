//! Conditions (`metav1`). Types and reasons are closed sets, so that users can build on them. A condition is `Unknown` until
//! the operator has reconciled the object.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use strum::{IntoStaticStr, VariantArray};

use super::{reject_future, truncate};

/// Longest message. The schema allows 32768 characters, and the API server rejects a status with a longer one.
const MAX_MESSAGE_CHARS: usize = 8192;

/// Condition types. `docs/reference/conditions.md` explains each; a test compares them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, IntoStaticStr, VariantArray)]
pub enum ConditionType {
    Accepted,
    Ready,
    Stalled,
    InForce,
    Permitted,
    StorageEnforced,
    AccessRestricted,
    Recording,
    AdministratorsExcluded,
    SpoolPersistent,
    Placed,
    RecordingsFound,
    Released,
    ReviewDue,
    Compliant,
    Intact,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr)]
pub enum ConditionStatus {
    True,
    False,
    /// The operator could not determine the status.
    Unknown,
}

impl From<bool> for ConditionStatus {
    fn from(value: bool) -> Self {
        if value { Self::True } else { Self::False }
    }
}

/// Reasons of all condition types. `docs/reference/conditions.md` explains each and lists its types; a test compares them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, IntoStaticStr, VariantArray)]
pub enum Reason {
    Pending,
    AsRequired,
    Valid,
    InvalidField,
    ReferenceNotFound,
    ReferenceInvalid,
    NotGranted,
    DependencyNotReady,
    Retrying,
    Deleting,
    Paused,
    Unreadable,
    InForce,
    NotYetInForce,
    Withdrawn,
    NoConsent,
    NotInformed,
    Suspended,
    Permitted,
    Verified,
    BucketClaimed,
    BucketRejected,
    NoObjectLock,
    ForeignDefaultRetention,
    ForeignLifecycle,
    ForeignReplication,
    ForeignNotifications,
    ForeignObjects,
    ForeignConfiguration,
    ConfigurationUnreadable,
    StoreUnsupported,
    StorageError,
    AccessVerified,
    AccessMismatch,
    UnknownPrincipal,
    NotProbed,
    RecorderNotReady,
    ForeignObject,
    Recording,
    Connecting,
    Disconnected,
    UploadFailing,
    SpoolFull,
    SomeCamerasNotRecording,
    NoCameras,
    NotEncrypted,
    VolumeClaim,
    EmptyDir,
    NotStarted,
    ResolutionInFuture,
    ReviewInFuture,
    RecordingsFound,
    NoRecordingsFound,
    UnknownCamera,
    UploadsPending,
    OrphanedHold,
    Placing,
    Releasing,
    Overdue,
    AuditPassed,
    ViolationsFound,
    NotAudited,
    CeilingLowered,
    TooManyHolds,
    TooManyCameras,
    DriftCorrected,
    Contended,
}

/// Observed status of one condition type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConditionFinding {
    pub condition: ConditionType,
    pub status: ConditionStatus,
    pub reason: Reason,
    /// Problem, field and remedy, for people. Contains no secret.
    pub message: String,
}

impl ConditionFinding {
    pub fn new(
        condition: ConditionType,
        status: impl Into<ConditionStatus>,
        reason: Reason,
        message: impl Into<String>,
    ) -> Self {
        Self { condition, status: status.into(), reason, message: message.into() }
    }

    /// Returns a finding on another condition that follows from this one, with the same reason and message.
    #[must_use]
    pub fn propagate(&self, condition: ConditionType, status: impl Into<ConditionStatus>) -> Self {
        Self::new(condition, status, self.reason, self.message.clone())
    }

    /// Returns `Stalled`: `True` with the reason of `cause`, which only a person can correct.
    pub fn stalled(cause: Option<&Self>) -> Self {
        cause.map_or_else(
            || Self::new(ConditionType::Stalled, false, Reason::AsRequired, "no problem requires a person"),
            |cause| cause.propagate(ConditionType::Stalled, true),
        )
    }

    pub fn is_true(&self) -> bool {
        self.status == ConditionStatus::True
    }
}

/// Returns one condition for each finding. Drops existing conditions of other types. Keeps the transition time of a
/// condition whose status is unchanged.
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
            // A wrong clock wrote a transition in the future. Keeping it would hide the age of the status for years.
            let is_past = |c: &Condition| reject_future(c.last_transition_time.0, now).is_some();
            let mut same = existing.iter().filter(|c| c.type_ == type_ && c.status == status);
            let since = same.find(|c| is_past(c));
            Condition {
                type_: type_.to_owned(),
                status: status.to_owned(),
                reason: reason.to_owned(),
                message: truncate(&finding.message, MAX_MESSAGE_CHARS),
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

    /// Fails unless the document has a row for a condition that any test produces.
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
        // These conditions propagate the reason of another condition.
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

    /// Such as one that lists 150 recorders.
    #[test]
    fn long_message_is_shortened() {
        let message = |text: &str| {
            let finding = ConditionFinding::new(ConditionType::Ready, true, Reason::AsRequired, text);
            merge(&[], &[finding], None, Timestamp::UNIX_EPOCH)[0].message.clone()
        };
        assert_eq!(message("kort"), "kort");
        let long = message(&"é".repeat(40_000));
        assert!(long.chars().count() == MAX_MESSAGE_CHARS && long.ends_with("é…"));
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
