//! The consequences of the probe's table for a Site: pure.

use super::error::EnforceError;
use super::probe::{Check, Conformance, ProbeException, Row, UnknownReason, Verdict};
use super::spec::BucketSpec;
use super::state::BucketState;
use crate::api::ConformanceIdentity;

/// Rejects a store that breaks a promise, unless the Site has an exception for it.
///
/// If the store ignores bucket policies, nothing that the operator writes restricts anybody. There, the identities' own policies
/// must make every row about access hold.
pub(crate) fn evaluate(
    conformance: &Conformance,
    spec: &BucketSpec,
    heeds_policies: bool,
    state: &BucketState,
) -> Result<(), EnforceError> {
    let is_open_access = |row: &&Row| row.verdict == Verdict::Failed && depends_on_policies(row.check);
    if let Some(row) = conformance.rows().iter().find(is_open_access).filter(|_| !heeds_policies) {
        return Err(EnforceError::StoreUnsupported {
            reason: format!(
                "bucket policies have no effect on this store's identities, and {} fails: {}",
                row.check.as_str(),
                row.message()
            ),
            remedy: "give each identity the rights that toezicht iam SITE.yaml --store identity-policies prints, or use a store \
                     whose bucket policies have an effect"
                .into(),
        });
    }
    let mut cannot_put = Ok(());
    for row in conformance.rows().iter().filter(|row| row.is_fatal()) {
        let is_excepted = match row.check.exception() {
            Some(ProbeException::AllowUnprotected) => spec.allow_unprotected,
            Some(ProbeException::OperatorOnly) => spec.operator_only,
            None => false,
        };
        match &row.verdict {
            // Also for an unknown verdict: the exception accepts the worst case.
            _ if is_excepted => (),
            // No result about the store: a retryable error, so that the operator probes again.
            Verdict::Unknown(UnknownReason::Store(error)) => return Err(error.clone().into()),
            // The proof showed that the recorder can put. Since then its credentials changed or expired, maybe during the probe.
            verdict if is_about_credentials(row.check, verdict) => {
                let has_customer_key = state.has_customer_key();
                // Last: only uploads depend on it, and it must not hide a row that recording depends on.
                cannot_put = Err(EnforceError::RecorderCannotPut { has_customer_key });
            }
            _ => return Err(store_unfit_error(row)),
        }
    }
    cannot_put
}

/// Returns whether a row shows only that the recorder can put nothing. Its wrong key restricts nothing, and says nothing about the
/// store: cameras that recorded go on.
fn is_about_credentials(check: Check, verdict: &Verdict) -> bool {
    match verdict {
        Verdict::Failed => check == Check::RecorderCanPut,
        Verdict::Unknown(reason) => *reason == UnknownReason::RecorderCannotPut,
        Verdict::Passed => false,
    }
}

/// Returns whether a row is about the rights to present recordings, or the right to record. The other rows about puts fail on
/// good stores, too.
fn depends_on_policies(check: Check) -> bool {
    let is_put = check.as_str().starts_with("RecorderCannotPut") || check == Check::RecorderCannotOverwrite;
    match check.about().principal {
        ConformanceIdentity::Recorder => !is_put,
        ConformanceIdentity::Operator => check == Check::OperatorCannotGet,
        ConformanceIdentity::Anonymous => false,
    }
}

fn store_unfit_error(row: &Row) -> EnforceError {
    let remedy = match row.check.exception() {
        Some(ProbeException::AllowUnprotected) => {
            "use a store that enforces legal holds, or decide on allowUnprotected"
        }
        Some(ProbeException::OperatorOnly) => {
            "use a store with a lifecycle, or decide on retentionEnforcement: OperatorOnly"
        }
        None if row.check == Check::EveryoneElseIsDenied => {
            "correct the principals in spec.storage, spec.managers and the policy's incidentOfficers, so that each names one \
             identity, or use another store"
        }
        None => "withdraw that right at the store, or use another store",
    };
    let outcome = match row.verdict {
        Verdict::Unknown(_) => "the probe is inconclusive",
        _ => "the probe failed",
    };
    let (check, expected) = (row.check.as_str(), row.check.about().expected);
    EnforceError::StoreUnsupported {
        reason: format!("{check}: expected: {expected}; {outcome}: {}", row.message()),
        remedy: remedy.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ConformanceSeverity;
    use crate::storage::s3::StoreError;

    type SpecChange = fn(&mut BucketSpec);

    const NO_EXCEPTION: SpecChange = |_| ();
    const ALLOW_UNPROTECTED: SpecChange = |spec| spec.allow_unprotected = true;
    const OPERATOR_ONLY: SpecChange = |spec| spec.operator_only = true;
    const EVERY_EXCEPTION: SpecChange = |spec| {
        spec.allow_unprotected = true;
        spec.operator_only = true;
    };

    /// A table in which all rows pass but one.
    fn table_with(check: Check, verdict: &Verdict) -> Conformance {
        let other = |it: &Check| if *it == check { verdict.clone() } else { Verdict::Passed };
        Conformance::from_verdicts(&Check::ALL.iter().map(|it| (*it, other(it))).collect::<Vec<_>>())
    }

    fn evaluate_one(check: Check, verdict: &Verdict, exception: SpecChange) -> Result<(), EnforceError> {
        let mut spec = BucketSpec::example();
        exception(&mut spec);
        evaluate(&table_with(check, verdict), &spec, true, &BucketState::default())
    }

    #[test]
    fn store_without_legal_holds_needs_allow_unprotected() {
        for check in [
            Check::LegalHoldReadsBack,
            Check::HeldSurvivesDelete,
            Check::HeldSurvivesBatchDelete,
            Check::HeldSurvivesBypass,
        ] {
            let refused = evaluate_one(check, &Verdict::Failed, NO_EXCEPTION).unwrap_err();
            assert!(refused.to_string().contains("allowUnprotected"), "{refused}");
            assert!(refused.to_string().starts_with(check.as_str()), "{refused}");
            let other = evaluate_one(check, &Verdict::Failed, OPERATOR_ONLY);
            assert!(matches!(other, Err(EnforceError::StoreUnsupported { .. })), "{other:?}");
            assert_eq!(evaluate_one(check, &Verdict::Failed, ALLOW_UNPROTECTED), Ok(()));
        }
    }

    #[test]
    fn store_without_lifecycle_needs_operator_only() {
        for check in [Check::LifecycleReadsBack, Check::PutStoresTag] {
            let refused = evaluate_one(check, &Verdict::Failed, NO_EXCEPTION).unwrap_err();
            assert!(refused.to_string().contains("OperatorOnly"), "{refused}");
            assert_eq!(evaluate_one(check, &Verdict::Failed, OPERATOR_ONLY), Ok(()));
        }
    }

    #[test]
    fn no_exception_allows_anonymous_access() {
        let refused = evaluate_one(Check::AnonymousCannotGet, &Verdict::Failed, EVERY_EXCEPTION);
        assert!(matches!(refused, Err(EnforceError::StoreUnsupported { .. })), "{refused:?}");
    }

    #[test]
    fn inconclusive_fatal_checks_are_errors() {
        let unknown = Verdict::Unknown(UnknownReason::Inconclusive("x"));
        let refused = evaluate_one(Check::HeldSurvivesDelete, &unknown, NO_EXCEPTION).unwrap_err();
        assert!(refused.to_string().contains("the probe is inconclusive: x"), "{refused}");
        assert_eq!(evaluate_one(Check::HeldSurvivesBypass, &unknown, NO_EXCEPTION), Ok(()));
        assert_eq!(evaluate_one(Check::RecorderCannotGet, &unknown, NO_EXCEPTION), Ok(()));
        let error = StoreError::without_status("GetObjectLegalHold", "Timeout");
        let unanswered = Verdict::Unknown(UnknownReason::Store(error.clone()));
        let retried = evaluate_one(Check::HeldSurvivesDelete, &unanswered, NO_EXCEPTION);
        assert_eq!(retried, Err(EnforceError::Storage(error)));
    }

    #[test]
    fn failed_recorder_put_reports_its_credentials() {
        let refused = evaluate_one(Check::RecorderCanPut, &Verdict::Failed, NO_EXCEPTION).unwrap_err();
        assert_eq!(refused, EnforceError::RecorderCannotPut { has_customer_key: false });
        assert!(refused.to_string().starts_with("spec.storage.recorder.credentialsRef: "), "{refused}");
    }

    /// In the order of the table, the row about everyone else comes before or after the one about puts.
    #[test]
    fn wrong_recorder_key_hides_no_row_and_is_hidden_by_none() {
        let wrong_key = |check: &Check| match check {
            Check::RecorderCanPut => Verdict::Failed,
            Check::EveryoneElseIsDenied => Verdict::Unknown(UnknownReason::RecorderCannotPut),
            _ => Verdict::Passed,
        };
        let table = |other: Option<Check>| {
            let verdict = |check: &Check| {
                if Some(*check) == other { Verdict::Failed } else { wrong_key(check) }
            };
            Conformance::from_verdicts(
                &Check::ALL.iter().map(|check| (*check, verdict(check))).collect::<Vec<_>>(),
            )
        };
        let evaluated =
            |other| evaluate(&table(other), &BucketSpec::example(), true, &BucketState::default());
        let expected = EnforceError::RecorderCannotPut { has_customer_key: false };
        assert_eq!(evaluated(None).unwrap_err(), expected);
        assert!(evaluated(None).unwrap_err().is_about_recorder_credentials());
        let open = evaluated(Some(Check::AnonymousCannotGet)).unwrap_err();
        assert!(matches!(open, EnforceError::StoreUnsupported { .. }), "{open:?}");
        // The key became wrong between two rows.
        let unknown = Verdict::Unknown(UnknownReason::RecorderCannotPut);
        assert_eq!(evaluate_one(Check::EveryoneElseIsDenied, &unknown, NO_EXCEPTION).unwrap_err(), expected);
    }

    /// Nothing that the operator writes restricts anybody there: a right that identities' own policies leave open is fatal.
    #[test]
    fn access_rows_must_hold_without_effective_bucket_policies() {
        for check in Check::ALL {
            let (table, name) = (table_with(*check, &Verdict::Failed), check.as_str());
            let evaluated = |heeds_policies| {
                let mut spec = BucketSpec::example();
                EVERY_EXCEPTION(&mut spec);
                evaluate(&table, &spec, heeds_policies, &BucketState::default())
            };
            if depends_on_policies(*check) {
                let message = evaluated(false).unwrap_err().to_string();
                assert!(message.contains(name) && message.contains("--store identity-policies"), "{message}");
            }
            let is_weak = check.about().severity == ConformanceSeverity::Warning;
            assert!(!is_weak || evaluated(true).is_ok(), "{name} is only a warning elsewhere");
        }
    }

    #[test]
    fn weak_rows_do_not_fail_evaluation() {
        for check in Check::ALL.iter().filter(|check| check.as_str().starts_with("RecorderCannot")) {
            assert_eq!(evaluate_one(*check, &Verdict::Failed, NO_EXCEPTION), Ok(()), "{check:?}");
        }
    }
}
