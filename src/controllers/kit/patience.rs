//! How long something may be wrong before a person has to act. Nothing is remembered for it: the conditions in the status
//! say since when they are as they are.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::api::condition::Finding;
use crate::api::past;

/// What an object refers to may come this much later, as it does where everything is applied at once.
pub const REFERENCE: SignedDuration = SignedDuration::from_secs(60);
/// A store may be away this long.
pub const STORE: SignedDuration = SignedDuration::from_mins(15);
/// What is to be done to a bucket or to recorders may take this long.
pub const WORK: SignedDuration = SignedDuration::from_hours(1);

/// Since when the condition that `finding` is about has been as it says, by the conditions `before`. The schema gives a
/// new object conditions from 1970, so this is never before the object was `created`; nor is it ahead.
pub fn since(before: &[Condition], finding: &Finding, created: Option<&Time>, now: Timestamp) -> Timestamp {
    let (type_, status): (&str, &str) = (finding.condition.into(), finding.truth.into());
    let found = before.iter().find(|condition| condition.type_ == type_ && condition.status == status);
    let created = created.map_or(Timestamp::MIN, |created| created.0);
    found.map_or(now, |condition| {
        past(condition.last_transition_time.0, now).map_or(now, |at| at.max(created))
    })
}

/// Something that a person has to see to, and from when on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// What it is.
    pub finding: Finding,
    /// Until then it may pass without anybody.
    pub from: Timestamp,
}

impl Cause {
    /// `finding`, that no time helps against.
    pub const fn now(finding: Finding) -> Self {
        Self { finding, from: Timestamp::MIN }
    }

    /// `finding`, once it has been so for `patience` since `since`.
    pub fn after(finding: Finding, since: Timestamp, patience: SignedDuration) -> Self {
        Self { finding, from: since.saturating_add(patience).unwrap_or(Timestamp::MAX) }
    }
}

/// `Stalled`: `True` for the first of `causes` whose time has come. And when the next one's comes.
pub fn stalled(causes: &[Cause], now: Timestamp) -> (Finding, Option<Timestamp>) {
    let due = causes.iter().find(|cause| cause.from <= now);
    let next = causes.iter().map(|cause| cause.from).filter(|from| *from > now);
    (Finding::stalled(due.map(|cause| &cause.finding)), next.min())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::condition::{ConditionType, Reason, merge};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_790_000_000 + second).unwrap()
    }

    fn missing() -> Finding {
        Finding::new(ConditionType::Accepted, false, Reason::ReferenceNotFound, "spec.siteRef.name: none")
    }

    #[test]
    fn a_reference_is_waited_for_from_when_it_was_first_missed() {
        let made = Time(at(0));
        let first = since(&[], &missing(), Some(&made), at(7));
        assert_eq!(first, at(7));
        let before = merge(&[], &[missing()], None, at(7));
        let later = since(&before, &missing(), Some(&made), at(50));
        assert_eq!(later, at(7), "however often it is asked");
        let cause = [Cause::after(missing(), later, REFERENCE)];
        let (stalled_at_66, next) = stalled(&cause, at(66));
        assert_eq!((stalled_at_66.is_true(), next), (false, Some(at(67))));
        let (stalled_at_67, next) = stalled(&cause, at(67));
        assert_eq!((stalled_at_67.is_true(), next), (true, None));
        assert_eq!(stalled_at_67.message, missing().message);
    }

    #[test]
    fn what_a_new_object_has_from_the_schema_is_not_old() {
        let mut before = merge(&[], &[missing()], None, at(3));
        before[0].last_transition_time = Time(Timestamp::UNIX_EPOCH);
        assert_eq!(since(&before, &missing(), Some(&Time(at(2))), at(9)), at(2));
        // One by a clock that was days ahead counts from now, and is written so.
        before[0].last_transition_time = Time(at(864_000));
        assert_eq!(since(&before, &missing(), Some(&Time(at(2))), at(9)), at(9));
        let next = merge(&before, &[missing()], None, at(9));
        assert_eq!(next[0].last_transition_time, Time(at(9)));
    }

    #[test]
    fn no_time_is_lost_on_what_does_not_pass() {
        let refused = Finding::new(ConditionType::Accepted, false, Reason::NotGranted, "spec.storage");
        let causes = [Cause::after(missing(), at(30), REFERENCE), Cause::now(refused.clone())];
        let (found, next) = stalled(&causes, at(31));
        assert_eq!((found.reason, next), (refused.reason, Some(at(90))));
    }
}
