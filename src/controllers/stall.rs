//! Delay after which a problem stalls an object, so that a person must act. The operator stores no times for it: it uses the
//! transition times of the conditions, which survive a restart.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::api::condition::ConditionFinding;
use crate::api::reject_future;

/// Delay for a missing reference, which can come later if everything is applied at once.
pub const REFERENCE_GRACE: SignedDuration = SignedDuration::from_secs(60);
/// Delay for a store that does not answer.
pub const STORE_GRACE: SignedDuration = SignedDuration::from_mins(15);
/// Delay for work on a bucket or on recorders.
pub const WORK_GRACE: SignedDuration = SignedDuration::from_hours(1);

/// Returns the time since which the condition of `finding` has its status, by the conditions `before`. Never before the
/// object was `created`, since the schema gives a new object conditions from 1970, and never in the future.
pub fn condition_since(
    before: &[Condition],
    finding: &ConditionFinding,
    created: Option<&Time>,
    now: Timestamp,
) -> Timestamp {
    let (type_, status): (&str, &str) = (finding.condition.into(), finding.status.into());
    let found = before.iter().find(|condition| condition.type_ == type_ && condition.status == status);
    let created = created.map_or(Timestamp::MIN, |created| created.0);
    found.map_or(now, |condition| {
        reject_future(condition.last_transition_time.0, now).map_or(now, |at| at.max(created))
    })
}

/// Problem that a person must solve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StallCause {
    pub finding: ConditionFinding,
    /// Time up to which the problem can pass on its own.
    pub stalls_at: Timestamp,
}

impl StallCause {
    /// Returns a cause that cannot pass on its own.
    pub const fn immediate(finding: ConditionFinding) -> Self {
        Self { finding, stalls_at: Timestamp::MIN }
    }

    pub fn after_grace(finding: ConditionFinding, since: Timestamp, grace: SignedDuration) -> Self {
        Self { finding, stalls_at: since.saturating_add(grace).unwrap_or(Timestamp::MAX) }
    }
}

/// Returns `Stalled`, which is `True` for the first of `causes` that is due, and the time at which the next one is due.
pub fn evaluate(causes: &[StallCause], now: Timestamp) -> (ConditionFinding, Option<Timestamp>) {
    let due = causes.iter().find(|cause| cause.stalls_at <= now);
    let next = causes.iter().map(|cause| cause.stalls_at).filter(|at| *at > now);
    (ConditionFinding::stalled(due.map(|cause| &cause.finding)), next.min())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::condition::{ConditionType, Reason, merge};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_790_000_000 + second).unwrap()
    }

    fn missing() -> ConditionFinding {
        ConditionFinding::new(
            ConditionType::Accepted,
            false,
            Reason::ReferenceNotFound,
            "spec.siteRef.name: none",
        )
    }

    #[test]
    fn missing_reference_stalls_one_grace_after_first_miss() {
        let created = Time(at(0));
        assert_eq!(condition_since(&[], &missing(), Some(&created), at(7)), at(7));
        let before = merge(&[], &[missing()], None, at(7));
        let since = condition_since(&before, &missing(), Some(&created), at(50));
        assert_eq!(since, at(7), "a later reconcile does not move it");
        let cause = [StallCause::after_grace(missing(), since, REFERENCE_GRACE)];
        for (second, is_stalled, next) in [(66, false, Some(at(67))), (67, true, None)] {
            let (stalled, found) = evaluate(&cause, at(second));
            assert_eq!((stalled.is_true(), found), (is_stalled, next));
            assert_eq!(stalled.message == missing().message, is_stalled);
        }
    }

    #[test]
    fn schema_default_condition_counts_from_creation() {
        let mut before = merge(&[], &[missing()], None, at(3));
        before[0].last_transition_time = Time(Timestamp::UNIX_EPOCH);
        assert_eq!(condition_since(&before, &missing(), Some(&Time(at(2))), at(9)), at(2));
        // A time in the future, from a clock that was ahead, counts as now. The status gets that time too.
        before[0].last_transition_time = Time(at(864_000));
        assert_eq!(condition_since(&before, &missing(), Some(&Time(at(2))), at(9)), at(9));
        let next = merge(&before, &[missing()], None, at(9));
        assert_eq!(next[0].last_transition_time, Time(at(9)));
    }

    #[test]
    fn permanent_cause_stalls_immediately() {
        let denied =
            ConditionFinding::new(ConditionType::Accepted, false, Reason::NotGranted, "spec.storage");
        let causes =
            [StallCause::after_grace(missing(), at(30), REFERENCE_GRACE), StallCause::immediate(denied)];
        let (found, next) = evaluate(&causes, at(31));
        assert_eq!((found.reason, next), (Reason::NotGranted, Some(at(90))));
    }
}
