//! How long something may be wrong before a person has to act. Nothing is remembered for it: the conditions in the status
//! say since when they are as they are.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::api::condition::ConditionFinding;
use crate::api::reject_future;

/// What an object refers to may come this much later, as it does where everything is applied at once.
pub const REFERENCE_GRACE: SignedDuration = SignedDuration::from_secs(60);
/// A store may be away this long.
pub const STORE_GRACE: SignedDuration = SignedDuration::from_mins(15);
/// What is to be done to a bucket or to recorders may take this long.
pub const WORK_GRACE: SignedDuration = SignedDuration::from_hours(1);

/// Since when the condition that `finding` is about has been as it says, by the conditions `before`. The schema gives a
/// new object conditions from 1970, so this is never before the object was `created`; nor is it ahead.
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

/// Something that a person has to see to, and from when on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StallCause {
    pub finding: ConditionFinding,
    /// Until then it may pass without anybody.
    pub stalls_at: Timestamp,
}

impl StallCause {
    /// `finding`, that no time helps against.
    pub const fn immediate(finding: ConditionFinding) -> Self {
        Self { finding, stalls_at: Timestamp::MIN }
    }

    /// `finding`, once it has been so for `patience` since `since`.
    pub fn after_grace(finding: ConditionFinding, since: Timestamp, grace: SignedDuration) -> Self {
        Self { finding, stalls_at: since.saturating_add(grace).unwrap_or(Timestamp::MAX) }
    }
}

/// `Stalled`: `True` for the first of `causes` whose time has come. And when the next one's comes.
pub fn evaluate(causes: &[StallCause], now: Timestamp) -> (ConditionFinding, Option<Timestamp>) {
    let due = causes.iter().find(|cause| cause.stalls_at <= now);
    let next = causes.iter().map(|cause| cause.stalls_at).filter(|from| *from > now);
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
        let made = Time(at(0));
        let first = condition_since(&[], &missing(), Some(&made), at(7));
        assert_eq!(first, at(7));
        let before = merge(&[], &[missing()], None, at(7));
        let later = condition_since(&before, &missing(), Some(&made), at(50));
        assert_eq!(later, at(7), "however often it is asked");
        let cause = [StallCause::after_grace(missing(), later, REFERENCE_GRACE)];
        let (stalled_at_66, next) = evaluate(&cause, at(66));
        assert_eq!((stalled_at_66.is_true(), next), (false, Some(at(67))));
        let (stalled_at_67, next) = evaluate(&cause, at(67));
        assert_eq!((stalled_at_67.is_true(), next), (true, None));
        assert_eq!(stalled_at_67.message, missing().message);
    }

    #[test]
    fn schema_default_condition_counts_from_creation() {
        let mut before = merge(&[], &[missing()], None, at(3));
        before[0].last_transition_time = Time(Timestamp::UNIX_EPOCH);
        assert_eq!(condition_since(&before, &missing(), Some(&Time(at(2))), at(9)), at(2));
        // One by a clock that was days ahead counts from now, and is written so.
        before[0].last_transition_time = Time(at(864_000));
        assert_eq!(condition_since(&before, &missing(), Some(&Time(at(2))), at(9)), at(9));
        let next = merge(&before, &[missing()], None, at(9));
        assert_eq!(next[0].last_transition_time, Time(at(9)));
    }

    #[test]
    fn permanent_cause_stalls_immediately() {
        let refused =
            ConditionFinding::new(ConditionType::Accepted, false, Reason::NotGranted, "spec.storage");
        let causes = [
            StallCause::after_grace(missing(), at(30), REFERENCE_GRACE),
            StallCause::immediate(refused.clone()),
        ];
        let (found, next) = evaluate(&causes, at(31));
        assert_eq!((found.reason, next), (refused.reason, Some(at(90))));
    }
}
