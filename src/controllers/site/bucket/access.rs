//! `AccessRestricted`: which identity can read and write what, as the probe tried it. Pure; built from the rows of the
//! table and nothing else.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::condition::{ConditionFinding, ConditionStatus, ConditionType, Reason};
use crate::api::{ConformanceResult, ConformanceRow, StorageStatus, reject_future};
use crate::storage::bucket::probe::Check;

/// The probe runs daily. Two days later its table says nothing of now.
const MAX_PROBE_AGE: SignedDuration = SignedDuration::from_hours(48);
const REMEDY: &str = "correct the rights of these identities at the store (toezicht iam prints what each needs), or use a \
                      store that restricts them: docs/reference/stores.md#what-does-a-failed-check-mean";

/// Rows of the conformance table, and when they were tried.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProbeResults {
    /// All rows, also those that are not about access.
    pub rows: Vec<ConformanceRow>,
    /// When (UTC); `None`: never.
    pub probed_at: Option<Time>,
}

impl ProbeResults {
    /// The rows that a status has.
    pub fn from_status(status: Option<&StorageStatus>) -> Self {
        status.map_or_else(Self::default, |status| Self {
            rows: status.conformance.clone(),
            probed_at: status.last_probe_time.clone(),
        })
    }
}

/// `AccessRestricted`. `True` only if every row about access holds, and the store knows everybody who may read.
/// `unknown`: fields with a principal that it does not know.
pub fn evaluate_access(results: &ProbeResults, unknown: &[String], now: Timestamp) -> ConditionFinding {
    let new_finding = |truth, reason, message: String| {
        ConditionFinding::new(ConditionType::AccessRestricted, truth, reason, message)
    };
    if !unknown.is_empty() {
        let mut message = format!(
            "{}: the store knows no such identity, so the bucket policy does not name it: correct or remove the principal",
            unknown.join(", ")
        );
        for sentence in messages(&results.rows, ConformanceResult::Failed) {
            message.push_str(". ");
            message.push_str(&sentence);
        }
        return new_finding(ConditionStatus::False, Reason::UnknownPrincipal, message);
    }
    let untried =
        |message: &str| new_finding(ConditionStatus::Unknown, Reason::NotProbed, message.to_owned());
    let Some(Time(at)) = &results.probed_at else {
        return untried(
            "access was not tried yet: the operator tries it once the bucket is read back, see StorageEnforced",
        );
    };
    // A status keeps whole seconds: what is told now and what is told by the next operator must be one text.
    let at = &Timestamp::from_second(at.as_second()).unwrap_or(*at);
    let rows = |verdict| messages(&results.rows, verdict);
    let fails = rows(ConformanceResult::Failed);
    if !fails.is_empty() {
        let message = format!("{}; {REMEDY}; tried at {at}", fails.join(". "));
        return new_finding(ConditionStatus::False, Reason::AccessMismatch, message);
    }
    if reject_future(*at, now).is_none_or(|at| now.duration_since(at) > MAX_PROBE_AGE) {
        let message = format!("access was last tried at {at}: see StorageEnforced for why not since");
        return new_finding(ConditionStatus::Unknown, Reason::NotProbed, message);
    }
    let missing = Check::ALL.iter().filter(|check| {
        check.is_access_check() && !results.rows.iter().any(|row| row.name == check.as_str())
    });
    let missing = missing.map(|check| format!("{}: this row was not tried", check.as_str()));
    let unknown: Vec<String> = rows(ConformanceResult::Unknown).into_iter().chain(missing).collect();
    if !unknown.is_empty() {
        let message =
            format!("{}; the operator tries again within the hour; tried at {at}", unknown.join("; "));
        return new_finding(ConditionStatus::Unknown, Reason::NotProbed, message);
    }
    let message = format!(
        "tried at {at} as the operator, as a recorder, as anyone else and without credentials: each can read and write what \
         it may, and nothing else"
    );
    new_finding(ConditionStatus::True, Reason::AccessVerified, message)
}

/// What rows of this verdict say, each sentence once; of rows about access only.
fn messages(rows: &[ConformanceRow], verdict: ConformanceResult) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for row in rows.iter().filter(|row| row.result == verdict) {
        let check = Check::ALL.iter().find(|check| check.as_str() == row.name);
        let Some(check) = check.filter(|check| check.is_access_check()) else {
            continue;
        };
        let message = match verdict {
            ConformanceResult::Unknown => format!("{}: {}", row.name, row.message),
            // Of this version's words, whichever version tried.
            _ => check.about().consequence.to_owned(),
        };
        if !all.contains(&message) {
            all.push(message);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::site::bucket::conformance;
    use crate::storage::Conformance;
    use crate::storage::bucket::probe::{UnknownReason, Verdict};

    fn at(hour: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + hour * 3600).unwrap()
    }

    fn probe_results(verdict: impl Fn(Check) -> Verdict) -> ProbeResults {
        let found: Vec<_> = Check::ALL.iter().map(|check| (*check, verdict(*check))).collect();
        ProbeResults {
            rows: conformance::rows(&Conformance::from_verdicts(&found)),
            probed_at: Some(Time(at(0))),
        }
    }

    #[test]
    fn access_restricted_requires_every_access_row() {
        let all = probe_results(|_| Verdict::Passed);
        let found = evaluate_access(&all, &[], at(1));
        assert_eq!((found.status, found.reason), (ConditionStatus::True, Reason::AccessVerified));
        for check in Check::ALL {
            let one = |verdict: Verdict| {
                evaluate_access(
                    &probe_results(|other| if other == *check { verdict.clone() } else { Verdict::Passed }),
                    &[],
                    at(1),
                )
            };
            let (fails, unknown) =
                (one(Verdict::Failed), one(Verdict::Unknown(UnknownReason::Inconclusive("why"))));
            if check.is_access_check() {
                assert_eq!((fails.status, fails.reason), (ConditionStatus::False, Reason::AccessMismatch));
                assert!(fails.message.starts_with(check.about().consequence), "{}", fails.message);
                assert_eq!((unknown.status, unknown.reason), (ConditionStatus::Unknown, Reason::NotProbed));
                let told = format!("{}: why", check.as_str());
                assert!(unknown.message.starts_with(&told), "{}", unknown.message);
            } else {
                assert_eq!(fails, found, "{check:?} is about something else");
                assert_eq!(unknown, found, "{check:?} is about something else");
            }
        }
    }

    #[test]
    fn missing_access_row_is_unknown() {
        let mut one_less = probe_results(|_| Verdict::Passed);
        one_less.rows.retain(|row| row.name != "RecorderCannotGet");
        let found = evaluate_access(&one_less, &[], at(1));
        assert_eq!(found.status, ConditionStatus::Unknown);
        assert!(found.message.contains("RecorderCannotGet"), "{}", found.message);
        assert_eq!(evaluate_access(&ProbeResults::default(), &[], at(1)).status, ConditionStatus::Unknown);
    }

    #[test]
    fn outdated_probe_results_are_never_true() {
        let all = probe_results(|_| Verdict::Passed);
        assert_eq!(evaluate_access(&all, &[], at(48)).status, ConditionStatus::True);
        assert_eq!(evaluate_access(&all, &[], at(49)).status, ConditionStatus::Unknown);
        let open =
            probe_results(
                |check| if check == Check::OperatorCannotGet { Verdict::Failed } else { Verdict::Passed },
            );
        assert_eq!(evaluate_access(&open, &[], at(49)).status, ConditionStatus::False);
    }

    #[test]
    fn rows_with_the_same_consequence_are_merged() {
        let both = probe_results(|check| match check {
            Check::RecorderCannotGet | Check::RecorderCannotGetVersion => Verdict::Failed,
            _ => Verdict::Passed,
        });
        let message = evaluate_access(&both, &[], at(1)).message;
        assert_eq!(message.matches("A recorder can read recordings").count(), 1, "{message}");
    }

    #[test]
    fn unknown_principal_is_named_in_message() {
        let unknown = ["spec.managers[1].principal \"gone\"".to_owned()];
        let found = evaluate_access(&probe_results(|_| Verdict::Passed), &unknown, at(1));
        assert_eq!((found.status, found.reason), (ConditionStatus::False, Reason::UnknownPrincipal));
        assert!(found.message.starts_with("spec.managers[1].principal \"gone\": "), "{}", found.message);
    }

    /// What a row says stands in the condition as it is.
    #[test]
    fn access_consequences_name_the_identity() {
        for check in Check::ALL.iter().filter(|check| check.is_access_check()) {
            let said = check.about().consequence;
            let who = ["A recorder can", "Anyone ", "Managers and officers can", "The operator"];
            assert!(who.iter().any(|who| said.starts_with(who)), "{check:?}: {said}");
        }
    }
}
