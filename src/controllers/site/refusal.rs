//! Reasons of `StorageEnforced` for a bucket that is not what it must be.

use crate::api::condition::Reason;
use crate::storage::{EnforceError, Extra, Obstacle};

/// The reason of an error; of several obstacles that of the gravest.
pub fn reason(error: &EnforceError) -> Reason {
    match error {
        EnforceError::Claimed => Reason::BucketClaimed,
        EnforceError::Unadoptable { obstacles } => obstacles.first().map_or(Reason::BucketRefused, obstacle),
        EnforceError::Refused { .. } => Reason::BucketRefused,
        EnforceError::StoreUnfit { .. } => Reason::StoreUnfit,
        EnforceError::WrongPrincipal { .. }
        | EnforceError::RecorderCannotPut { .. }
        | EnforceError::Crowd { .. }
        | EnforceError::PolicyTooLong { .. }
        | EnforceError::Target(_)
        | EnforceError::Ceiling(_) => Reason::InvalidField,
        EnforceError::NoRecorder { .. } => Reason::DependsOn,
        EnforceError::Storage(_) | EnforceError::Advised { .. } => Reason::StorageError,
    }
}

fn obstacle(obstacle: &Obstacle) -> Reason {
    match obstacle {
        Obstacle::NoObjectLock => Reason::NoObjectLock,
        Obstacle::DefaultRetention { .. } => Reason::DefaultRetention,
        Obstacle::Lifecycle => Reason::ForeignLifecycle,
        Obstacle::Configured(Extra::Replication) => Reason::ForeignReplication,
        Obstacle::Configured(Extra::Notifications) => Reason::ForeignNotifications,
        Obstacle::Objects => Reason::ForeignObjects,
        Obstacle::Policy | Obstacle::Configured(_) | Obstacle::Set(_) => Reason::ForeignConfiguration,
        Obstacle::Hidden(_) => Reason::ConfigurationHidden,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::site::found;

    /// Each has a row in `docs/conditions.md`: building a status with it checks that.
    #[test]
    fn every_obstacle_has_a_documented_reason_and_a_remedy() {
        let retention = crate::storage::Retention { words: "GOVERNANCE 400 days".into(), days: 400 };
        for (obstacle, reason, remedy) in [
            (Obstacle::NoObjectLock, "NoObjectLock", "make a new bucket"),
            (
                Obstacle::DefaultRetention { retention, above: true },
                "DefaultRetention",
                "longer than a ceiling",
            ),
            (Obstacle::Lifecycle, "ForeignLifecycle", "TakeOver"),
            (Obstacle::Configured(Extra::Replication), "ForeignReplication", "TakeOver"),
            (Obstacle::Configured(Extra::Notifications), "ForeignNotifications", "TakeOver"),
            (Obstacle::Configured(Extra::Website), "ForeignConfiguration", "a web site"),
            (Obstacle::Policy, "ForeignConfiguration", "TakeOver"),
            (Obstacle::Objects, "ForeignObjects", "move them elsewhere"),
            (Obstacle::Hidden(Extra::Replication), "ConfigurationHidden", "give the operator the right"),
        ] {
            let error = EnforceError::Unadoptable { obstacles: vec![obstacle] };
            let found = found::judge(Err(error), None, jiff::Timestamp::UNIX_EPOCH);
            assert!(!found.may_record() && found.is_stalled);
            assert_eq!(<&str>::from(found.finding.reason), reason);
            assert!(found.finding.message.contains(remedy), "{}", found.finding.message);
            let told = crate::api::condition::merge(&[], &[found.finding], None, jiff::Timestamp::UNIX_EPOCH);
            assert_eq!(told.len(), 1);
        }
    }
}
