//! What follows from the probe's table for a Site: pure.

use super::error::EnforceError;
use super::probe::{Check, Conformance, Principal, ProbeException, Row, UnknownReason, Verdict};
use super::spec::{BucketSpec, BucketState};

/// The conclusions that cannot wait: a store that breaks a promise by itself is none, unless it was decided.
///
/// Where the store heeds no bucket policy, nothing that the operator writes restricts anybody: there every row about access
/// must hold by the identities' own policies.
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
    for row in conformance.rows().iter().filter(|row| row.is_fatal()) {
        let is_decided = match row.check.exception() {
            Some(ProbeException::AllowUnprotected) => spec.allow_unprotected,
            Some(ProbeException::OperatorOnly) => spec.operator_only,
            None => false,
        };
        match &row.verdict {
            _ if is_decided => (),
            // Nothing was learnt: it is asked again.
            Verdict::Unknown(UnknownReason::Store(error)) => return Err(error.clone().into()),
            // It could when it was proved: its credentials are others now, or no longer valid.
            Verdict::Failed if row.check == Check::RecorderCanPut => {
                let own_key = state.has_customer_key();
                return Err(EnforceError::RecorderCannotPut { has_customer_key: own_key });
            }
            _ => return Err(store_unfit_error(row)),
        }
    }
    Ok(())
}

/// Whether a row is about what an identity may do to recordings that are there, or whether it may record. With what a
/// recorder puts, good stores differ too.
fn depends_on_policies(check: Check) -> bool {
    let name = check.as_str();
    let is_put = name.starts_with("RecorderCannotPut") || check == Check::RecorderCannotOverwrite;
    match check.about().principal {
        Principal::Recorder => !is_put,
        Principal::Operator => check == Check::OperatorCannotGet,
        Principal::Anonymous => false,
    }
}

fn store_unfit_error(row: &Row) -> EnforceError {
    let remedy = match row.check.exception() {
        Some(ProbeException::AllowUnprotected) => {
            "use a store that keeps legal holds, or decide on allowUnprotected"
        }
        Some(ProbeException::OperatorOnly) => {
            "use a store with a lifecycle, or decide on retentionEnforcement: OperatorOnly"
        }
        None if row.check == Check::EveryoneElseIsDenied => {
            "correct the principals in spec.storage, spec.managers and the policy's incidentOfficers, so that each names one \
             identity, or use another store"
        }
        None => "look who gave that right at the store, or use another store",
    };
    let outcome = match row.verdict {
        Verdict::Unknown(_) => "it cannot be told",
        _ => "this does not hold",
    };
    let (check, expected) = (row.check.as_str(), row.check.about().expected);
    EnforceError::StoreUnsupported {
        reason: format!("{check}: {expected}: {outcome}: {}", row.message()),
        remedy: remedy.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::bucket::probe::Severity;
    use crate::storage::s3::error::StoreError;

    fn evaluate_one(
        check: Check,
        verdict: Verdict,
        decide: impl FnOnce(&mut BucketSpec),
    ) -> Result<(), EnforceError> {
        let mut spec = BucketSpec::example();
        decide(&mut spec);
        let mut found: Vec<_> = Check::ALL.iter().map(|check| (*check, Verdict::Passed)).collect();
        found.retain(|(other, _)| *other != check);
        found.push((check, verdict));
        super::evaluate(&Conformance::from_verdicts(&found), &spec, true, &BucketState::default())
    }

    fn no_exception(_: &mut BucketSpec) {}

    #[test]
    fn store_without_legal_holds_needs_allow_unprotected() {
        for check in [
            Check::LegalHoldReadsBack,
            Check::HeldSurvivesDelete,
            Check::HeldSurvivesBatchDelete,
            Check::HeldSurvivesBypass,
        ] {
            let refused = evaluate_one(check, Verdict::Failed, no_exception).unwrap_err();
            assert!(refused.to_string().contains("allowUnprotected"), "{refused}");
            assert!(refused.to_string().starts_with(check.as_str()), "{refused}");
            let other = evaluate_one(check, Verdict::Failed, |spec| spec.operator_only = true);
            assert!(matches!(other, Err(EnforceError::StoreUnsupported { .. })), "{other:?}");
            assert_eq!(evaluate_one(check, Verdict::Failed, |spec| spec.allow_unprotected = true), Ok(()));
        }
    }

    #[test]
    fn store_without_lifecycle_needs_operator_only() {
        for check in [Check::LifecycleReadsBack, Check::PutStoresTag] {
            let refused = evaluate_one(check, Verdict::Failed, no_exception).unwrap_err();
            assert!(refused.to_string().contains("OperatorOnly"), "{refused}");
            assert_eq!(evaluate_one(check, Verdict::Failed, |spec| spec.operator_only = true), Ok(()));
        }
    }

    #[test]
    fn no_exception_allows_anonymous_access() {
        let refused = evaluate_one(Check::AnonymousCannotGet, Verdict::Failed, |spec| {
            spec.allow_unprotected = true;
            spec.operator_only = true;
        });
        assert!(matches!(refused, Err(EnforceError::StoreUnsupported { .. })), "{refused:?}");
    }

    #[test]
    fn inconclusive_fatal_checks_are_errors() {
        let untold = Verdict::Unknown(UnknownReason::Inconclusive("x"));
        let refused = evaluate_one(Check::HeldSurvivesDelete, untold.clone(), no_exception).unwrap_err();
        assert!(refused.to_string().contains("it cannot be told: x"), "{refused}");
        assert_eq!(evaluate_one(Check::HeldSurvivesBypass, untold.clone(), no_exception), Ok(()));
        assert_eq!(evaluate_one(Check::RecorderCannotGet, untold, no_exception), Ok(()));
        let away = StoreError { operation: "GetObjectLegalHold", code: "Timeout".into(), status: None };
        let asked_again = evaluate_one(
            Check::HeldSurvivesDelete,
            Verdict::Unknown(UnknownReason::Store(away.clone())),
            no_exception,
        );
        assert_eq!(asked_again, Err(EnforceError::Storage(away)));
    }

    #[test]
    fn failed_recorder_put_reports_its_credentials() {
        let refused = evaluate_one(Check::RecorderCanPut, Verdict::Failed, no_exception);
        assert_eq!(refused, Err(EnforceError::RecorderCannotPut { has_customer_key: false }));
        let told = refused.unwrap_err().to_string();
        assert!(told.starts_with("spec.storage.recorder.credentialsRef: "), "{told}");
    }

    /// What the operator writes restricts nobody there: what the identities' own policies leave open is fatal.
    #[test]
    fn access_rows_must_hold_without_effective_bucket_policies() {
        for check in Check::ALL {
            let verdict = |other: &Check| {
                if other == check { Verdict::Failed } else { Verdict::Passed }
            };
            let found: Vec<_> = Check::ALL.iter().map(|other| (*other, verdict(other))).collect();
            let judged = |heeds| {
                let spec =
                    BucketSpec { operator_only: true, allow_unprotected: true, ..BucketSpec::example() };
                super::evaluate(&Conformance::from_verdicts(&found), &spec, heeds, &BucketState::default())
            };
            let name = check.as_str();
            if depends_on_policies(*check) {
                let told = judged(false).unwrap_err().to_string();
                assert!(told.contains(name) && told.contains("--store identity-policies"), "{told}");
            }
            let is_weak = check.about().severity == Severity::Warning;
            assert!(!is_weak || judged(true).is_ok(), "{name} is weak elsewhere");
        }
    }

    #[test]
    fn weak_rows_do_not_fail_evaluation() {
        for check in Check::ALL.iter().filter(|check| check.as_str().starts_with("RecorderCannot")) {
            assert_eq!(evaluate_one(*check, Verdict::Failed, no_exception), Ok(()), "{check:?}");
        }
    }
}
