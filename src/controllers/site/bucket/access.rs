//! `AccessRestricted`: access of each identity, as probed. Pure, from the rows of the conformance table only.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::condition::{ConditionFinding, ConditionStatus, ConditionType, Reason};
use crate::api::{ConformanceResult, ConformanceRow, StorageStatus, reject_future};
use crate::storage::bucket::probe::Check;

/// Age after which probe results no longer count. The probe runs daily.
const MAX_PROBE_AGE: SignedDuration = SignedDuration::from_hours(48);
const REMEDY: &str = "correct the permissions of these identities at the store (toezicht iam prints what each needs), or use a \
                      store that restricts them: docs/reference/stores.md#what-does-a-failed-check-mean";

/// Rows of the conformance table and their time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProbeResults {
    /// All rows, including those that do not concern access.
    pub rows: Vec<ConformanceRow>,
    /// `None`: never.
    pub probed_at: Option<Time>,
}

impl ProbeResults {
    /// Returns the rows that a status has.
    pub fn from_status(status: Option<&StorageStatus>) -> Self {
        status.map_or_else(Self::default, |status| Self {
            rows: status.conformance.clone(),
            probed_at: status.last_probe_time.clone(),
        })
    }
}

/// Evaluates `AccessRestricted`. `True` only if every row about access passed and the store knows every principal.
/// `unknown` lists fields whose principal the store does not know.
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
    let not_probed =
        |message: &str| new_finding(ConditionStatus::Unknown, Reason::NotProbed, message.to_owned());
    let Some(Time(at)) = &results.probed_at else {
        return not_probed(
            "access is not probed yet; the operator probes it after the bucket is read back, see StorageEnforced",
        );
    };
    // A status has whole seconds. Without rounding, the message would change when another operator reads the status.
    let at = &Timestamp::from_second(at.as_second()).unwrap_or(*at);
    let rows = |verdict| messages(&results.rows, verdict);
    let fails = rows(ConformanceResult::Failed);
    // Before the age: only another probe can show that a failed check passes now.
    if !fails.is_empty() {
        let message = format!("{}; {REMEDY}; probed at {at}", fails.join(". "));
        return new_finding(ConditionStatus::False, Reason::AccessMismatch, message);
    }
    if reject_future(*at, now).is_none_or(|at| now.duration_since(at) > MAX_PROBE_AGE) {
        let message = format!("access was last probed at {at}; see StorageEnforced for the cause");
        return new_finding(ConditionStatus::Unknown, Reason::NotProbed, message);
    }
    let missing = Check::ALL.iter().filter(|check| {
        check.is_access_check() && !results.rows.iter().any(|row| row.name == check.as_str())
    });
    let missing = missing.map(|check| format!("{}: this check was not probed", check.as_str()));
    let unknown: Vec<String> = rows(ConformanceResult::Unknown).into_iter().chain(missing).collect();
    if !unknown.is_empty() {
        let message =
            format!("{}; the operator probes again within the hour; probed at {at}", unknown.join("; "));
        return new_finding(ConditionStatus::Unknown, Reason::NotProbed, message);
    }
    let message = format!(
        "probed at {at} as the operator, as a recorder, as a stranger (an identity that the bucket policy does not name) and \
         without credentials: each can read and write only what it may"
    );
    new_finding(ConditionStatus::True, Reason::AccessVerified, message)
}

/// Returns the messages of rows about access with this verdict, without duplicates.
fn messages(rows: &[ConformanceRow], verdict: ConformanceResult) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for row in rows.iter().filter(|row| row.result == verdict) {
        let check = Check::ALL.iter().find(|check| check.as_str() == row.name);
        let Some(check) = check.filter(|check| check.is_access_check()) else {
            continue;
        };
        let message = match verdict {
            ConformanceResult::Unknown => format!("{}: {}", row.name, row.message),
            // In the words of this version, even if another version probed.
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

    /// The condition repeats the consequence unchanged.
    #[test]
    fn access_consequences_name_the_identity() {
        for check in Check::ALL.iter().filter(|check| check.is_access_check()) {
            let said = check.about().consequence;
            let who =
                ["A recorder can", "A stranger ", "Anyone ", "Managers and officers can", "The operator"];
            assert!(who.iter().any(|who| said.starts_with(who)), "{check:?}: {said}");
        }
    }
}
