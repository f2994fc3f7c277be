//! `AccessRestricted`: which identity can read and write what, as the probe tried it. Pure; built from the rows of the
//! table and nothing else.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::condition::{ConditionType, Finding, Reason, Truth};
use crate::api::{ConformanceRow, ConformanceVerdict, StorageStatus, past};
use crate::storage::probe::Check;

/// The probe runs daily. Two days later its table says nothing of now.
const OUTDATED: SignedDuration = SignedDuration::from_hours(48);
const REMEDY: &str = "correct the rights of these identities at the store (toezicht iam prints what each needs), or use a \
                      store that restricts them: docs/storage.md#what-the-stores-keep";

/// Rows of the conformance table, and when they were tried.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tried {
    /// All rows, also those that are not about access.
    pub rows: Vec<ConformanceRow>,
    /// When (UTC); `None`: never.
    pub at: Option<Time>,
}

impl Tried {
    /// The rows that a status has.
    pub fn of(status: Option<&StorageStatus>) -> Self {
        status.map_or_else(Self::default, |status| Self {
            rows: status.conformance.clone(),
            at: status.tried_at.clone(),
        })
    }
}

/// `AccessRestricted`. `True` only if every row about access holds, and the store knows everybody who may read.
/// `unknown`: fields with a principal that it does not know.
pub fn finding(tried: &Tried, unknown: &[String], now: Timestamp) -> Finding {
    let found = |truth, reason, message: String| {
        Finding::new(ConditionType::AccessRestricted, truth, reason, message)
    };
    if !unknown.is_empty() {
        let mut message = format!(
            "{}: the store knows no such identity, so the bucket policy does not name it: correct or remove the principal",
            unknown.join(", ")
        );
        for sentence in messages(&tried.rows, ConformanceVerdict::Fails) {
            message.push_str(". ");
            message.push_str(&sentence);
        }
        return found(Truth::False, Reason::PrincipalUnknown, message);
    }
    let untried = |message: &str| found(Truth::Unknown, Reason::NotTried, message.to_owned());
    let Some(Time(at)) = &tried.at else {
        return untried(
            "access was not tried yet: the operator tries it once the bucket is read back, see StorageEnforced",
        );
    };
    // A status keeps whole seconds: what is told now and what is told by the next operator must be one text.
    let at = &Timestamp::from_second(at.as_second()).unwrap_or(*at);
    let rows = |verdict| messages(&tried.rows, verdict);
    let fails = rows(ConformanceVerdict::Fails);
    if !fails.is_empty() {
        let message = format!("{}; {REMEDY}; tried at {at}", fails.join(". "));
        return found(Truth::False, Reason::AccessDiffers, message);
    }
    if past(*at, now).is_none_or(|at| now.duration_since(at) > OUTDATED) {
        let message = format!("access was last tried at {at}: see StorageEnforced for why not since");
        return found(Truth::Unknown, Reason::NotTried, message);
    }
    let missing = Check::ALL
        .iter()
        .filter(|check| check.is_about_access() && !tried.rows.iter().any(|row| row.name == check.as_str()));
    let missing = missing.map(|check| format!("{}: this row was not tried", check.as_str()));
    let unknown: Vec<String> = rows(ConformanceVerdict::Unknown).into_iter().chain(missing).collect();
    if !unknown.is_empty() {
        let message =
            format!("{}; the operator tries again within the hour; tried at {at}", unknown.join("; "));
        return found(Truth::Unknown, Reason::NotTried, message);
    }
    let message = format!(
        "tried at {at} as the operator, as a recorder, as anyone else and without credentials: each can read and write what \
         it may, and nothing else"
    );
    found(Truth::True, Reason::Tried, message)
}

/// What rows of this verdict say, each sentence once; of rows about access only.
fn messages(rows: &[ConformanceRow], verdict: ConformanceVerdict) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for row in rows.iter().filter(|row| row.verdict == verdict) {
        let check = Check::ALL.iter().find(|check| check.as_str() == row.name);
        let Some(check) = check.filter(|check| check.is_about_access()) else {
            continue;
        };
        let message = match verdict {
            ConformanceVerdict::Unknown => format!("{}: {}", row.name, row.message),
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
    use crate::controllers::site::conformance;
    use crate::storage::Conformance;
    use crate::storage::probe::{Verdict, Why};

    fn at(hour: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + hour * 3600).unwrap()
    }

    fn tried(verdict: impl Fn(Check) -> Verdict) -> Tried {
        let found: Vec<_> = Check::ALL.iter().map(|check| (*check, verdict(*check))).collect();
        Tried { rows: conformance::rows(&Conformance::of(&found)), at: Some(Time(at(0))) }
    }

    #[test]
    fn every_row_about_access_must_hold() {
        let all = tried(|_| Verdict::Holds);
        let found = finding(&all, &[], at(1));
        assert_eq!((found.truth, found.reason), (Truth::True, Reason::Tried));
        for check in Check::ALL {
            let one = |verdict: Verdict| {
                finding(
                    &tried(|other| if other == *check { verdict.clone() } else { Verdict::Holds }),
                    &[],
                    at(1),
                )
            };
            let (fails, unknown) = (one(Verdict::Fails), one(Verdict::Unknown(Why::Untold("why"))));
            if check.is_about_access() {
                assert_eq!((fails.truth, fails.reason), (Truth::False, Reason::AccessDiffers));
                assert!(fails.message.starts_with(check.about().consequence), "{}", fails.message);
                assert_eq!((unknown.truth, unknown.reason), (Truth::Unknown, Reason::NotTried));
                let told = format!("{}: why", check.as_str());
                assert!(unknown.message.starts_with(&told), "{}", unknown.message);
            } else {
                assert_eq!(fails, found, "{check:?} is about something else");
                assert_eq!(unknown, found, "{check:?} is about something else");
            }
        }
    }

    #[test]
    fn a_row_that_is_not_in_the_table_is_not_taken_to_hold() {
        let mut one_less = tried(|_| Verdict::Holds);
        one_less.rows.retain(|row| row.name != "RecorderCannotGet");
        let found = finding(&one_less, &[], at(1));
        assert_eq!(found.truth, Truth::Unknown);
        assert!(found.message.contains("RecorderCannotGet"), "{}", found.message);
        assert_eq!(finding(&Tried::default(), &[], at(1)).truth, Truth::Unknown);
    }

    #[test]
    fn an_old_table_says_nothing_good_of_now() {
        let all = tried(|_| Verdict::Holds);
        assert_eq!(finding(&all, &[], at(48)).truth, Truth::True);
        assert_eq!(finding(&all, &[], at(49)).truth, Truth::Unknown);
        let open =
            tried(|check| if check == Check::OperatorCannotGet { Verdict::Fails } else { Verdict::Holds });
        assert_eq!(finding(&open, &[], at(49)).truth, Truth::False);
    }

    #[test]
    fn rows_of_one_consequence_are_one_sentence() {
        let both = tried(|check| match check {
            Check::RecorderCannotGet | Check::RecorderCannotGetVersion => Verdict::Fails,
            _ => Verdict::Holds,
        });
        let message = finding(&both, &[], at(1)).message;
        assert_eq!(message.matches("A recorder can read recordings").count(), 1, "{message}");
    }

    #[test]
    fn somebody_whom_the_store_does_not_know_is_named() {
        let unknown = ["spec.managers[1].principal \"gone\"".to_owned()];
        let found = finding(&tried(|_| Verdict::Holds), &unknown, at(1));
        assert_eq!((found.truth, found.reason), (Truth::False, Reason::PrincipalUnknown));
        assert!(found.message.starts_with("spec.managers[1].principal \"gone\": "), "{}", found.message);
    }

    /// What a row says stands in the condition as it is.
    #[test]
    fn consequences_are_sentences_about_somebody() {
        for check in Check::ALL.iter().filter(|check| check.is_about_access()) {
            let said = check.about().consequence;
            let who = ["A recorder can", "Anyone ", "Managers and officers can", "The operator"];
            assert!(who.iter().any(|who| said.starts_with(who)), "{check:?}: {said}");
        }
    }
}
