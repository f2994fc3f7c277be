//! Reasons of `StorageEnforced` for a bucket that is not compliant.

use crate::api::condition::Reason;
use crate::storage::{AdoptionConflict, EnforceError, ForbiddenSubresource};

/// Returns the reason of an error. Of several conflicts, the first is the gravest.
pub fn reason(error: &EnforceError) -> Reason {
    match error {
        EnforceError::ClaimedByOther(_) => Reason::BucketClaimed,
        EnforceError::Unadoptable { conflicts: obstacles } => {
            obstacles.first().map_or(Reason::BucketRejected, conflict_reason)
        }
        EnforceError::Rejected { .. } => Reason::BucketRejected,
        EnforceError::StoreUnsupported { .. } => Reason::StoreUnsupported,
        EnforceError::WrongPrincipal { .. }
        | EnforceError::RecorderCannotPut { .. }
        | EnforceError::AmbiguousPrincipal { .. }
        | EnforceError::PolicyTooLong { .. }
        | EnforceError::Target(_)
        | EnforceError::Ceiling(_) => Reason::InvalidField,
        EnforceError::NoRecorderCredentials { .. } => Reason::DependencyNotReady,
        EnforceError::Storage(_) | EnforceError::Advised { .. } => Reason::StorageError,
    }
}

fn conflict_reason(obstacle: &AdoptionConflict) -> Reason {
    match obstacle {
        AdoptionConflict::NoObjectLock => Reason::NoObjectLock,
        AdoptionConflict::DefaultRetention { .. } => Reason::ForeignDefaultRetention,
        AdoptionConflict::Lifecycle => Reason::ForeignLifecycle,
        AdoptionConflict::Forbidden(ForbiddenSubresource::Replication) => Reason::ForeignReplication,
        AdoptionConflict::Forbidden(ForbiddenSubresource::Notifications) => Reason::ForeignNotifications,
        AdoptionConflict::ForeignObjects => Reason::ForeignObjects,
        AdoptionConflict::Policy | AdoptionConflict::Forbidden(_) | AdoptionConflict::Differs(_) => {
            Reason::ForeignConfiguration
        }
        AdoptionConflict::Unreadable(_) => Reason::ConfigurationUnreadable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::site::bucket::evaluation;

    /// Each reason has a row in `docs/reference/conditions.md`: building a status checks that.
    #[test]
    fn every_adoption_conflict_has_a_documented_reason_and_remedy() {
        let retention =
            crate::storage::BucketDefaultRetention { description: "GOVERNANCE 400 days".into(), days: 400 };
        for (obstacle, reason, remedy) in [
            (AdoptionConflict::NoObjectLock, "NoObjectLock", "a new bucket"),
            (
                AdoptionConflict::DefaultRetention { retention, exceeds_ceiling: true },
                "ForeignDefaultRetention",
                "longer than a ceiling",
            ),
            (AdoptionConflict::Lifecycle, "ForeignLifecycle", "TakeOver"),
            (
                AdoptionConflict::Forbidden(ForbiddenSubresource::Replication),
                "ForeignReplication",
                "TakeOver",
            ),
            (
                AdoptionConflict::Forbidden(ForbiddenSubresource::Notifications),
                "ForeignNotifications",
                "TakeOver",
            ),
            (
                AdoptionConflict::Forbidden(ForbiddenSubresource::Website),
                "ForeignConfiguration",
                "a web site",
            ),
            (AdoptionConflict::Policy, "ForeignConfiguration", "TakeOver"),
            (AdoptionConflict::ForeignObjects, "ForeignObjects", "move them elsewhere"),
            (
                AdoptionConflict::Unreadable(ForbiddenSubresource::Replication),
                "ConfigurationUnreadable",
                "give the operator the right",
            ),
        ] {
            let error = EnforceError::Unadoptable { conflicts: vec![obstacle] };
            let found = evaluation::evaluate_bucket(Err(error), None, jiff::Timestamp::UNIX_EPOCH);
            assert!(!found.may_record() && found.is_stalled);
            assert_eq!(<&str>::from(found.finding.reason), reason);
            assert!(found.finding.message.contains(remedy), "{}", found.finding.message);
            let told = crate::api::condition::merge(&[], &[found.finding], None, jiff::Timestamp::UNIX_EPOCH);
            assert_eq!(told.len(), 1);
        }
    }
}
