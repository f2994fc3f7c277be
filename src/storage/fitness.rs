//! What follows from the probe's table for a Site: pure.

use super::bucket::{BucketSpec, BucketState};
use super::probe::{Check, Conformance, Exception, Principal, Row, Verdict, Why};
use super::refusal::EnforceError;

/// The conclusions that cannot wait: a store that breaks a promise by itself is none, unless it was decided.
///
/// Where the store heeds no bucket policy, nothing that the operator writes restricts anybody: there every row about access
/// must hold by the identities' own policies.
pub(crate) fn judge(
    conformance: &Conformance,
    spec: &BucketSpec,
    heeds_policies: bool,
    state: &BucketState,
) -> Result<(), EnforceError> {
    let is_open = |row: &&Row| row.verdict == Verdict::Fails && rests_on_policies(row.check);
    if let Some(row) = conformance.rows().iter().find(is_open).filter(|_| !heeds_policies) {
        return Err(EnforceError::StoreUnfit {
            what: format!(
                "bucket policies have no effect on this store's identities, and {} fails: {}",
                row.check.as_str(),
                row.message()
            ),
            remedy: "give each identity the rights that toezicht iam SITE.yaml --for identity-policies prints, or use a store \
                     whose bucket policies have an effect"
                .into(),
        });
    }
    for row in conformance.rows().iter().filter(|row| row.is_fatal()) {
        let is_decided = match row.check.exception() {
            Some(Exception::AllowUnprotected) => spec.allow_unprotected,
            Some(Exception::OperatorOnly) => spec.operator_only,
            None => false,
        };
        match &row.verdict {
            _ if is_decided => (),
            // Nothing was learnt: it is asked again.
            Verdict::Unknown(Why::Store(error)) => return Err(error.clone().into()),
            // It could when it was proved: its credentials are others now, or no longer valid.
            Verdict::Fails if row.check == Check::RecorderCanPut => {
                let own_key = state.has_own_key();
                return Err(EnforceError::RecorderCannotPut { own_key });
            }
            _ => return Err(unfit(row)),
        }
    }
    Ok(())
}

/// Whether a row is about what an identity may do to recordings that are there, or whether it may record. With what a
/// recorder puts, good stores differ too.
fn rests_on_policies(check: Check) -> bool {
    let name = check.as_str();
    let is_put = name.starts_with("RecorderCannotPut") || check == Check::RecorderCannotOverwrite;
    match check.about().principal {
        Principal::Recorder => !is_put,
        Principal::Operator => check == Check::OperatorCannotGet,
        Principal::Anonymous => false,
    }
}

fn unfit(row: &Row) -> EnforceError {
    let remedy = match row.check.exception() {
        Some(Exception::AllowUnprotected) => {
            "use a store that keeps legal holds, or decide on allowUnprotected"
        }
        Some(Exception::OperatorOnly) => {
            "use a store with a lifecycle, or decide on retentionEnforcement: OperatorOnly"
        }
        None if row.check == Check::EveryoneElseIsDenied => {
            "correct the principals in spec.storage, spec.managers and the policy's incidentOfficers, so that each names one \
             identity, or use another store"
        }
        None => "look who gave that right at the store, or use another store",
    };
    let found = match row.verdict {
        Verdict::Unknown(_) => "it cannot be told",
        _ => "this does not hold",
    };
    let (check, expected) = (row.check.as_str(), row.check.about().expected);
    EnforceError::StoreUnfit {
        what: format!("{check}: {expected}: {found}: {}", row.message()),
        remedy: remedy.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Days;
    use crate::storage::error::StoreError;
    use crate::storage::probe::Severity;

    fn judged(
        check: Check,
        verdict: Verdict,
        decide: impl FnOnce(&mut BucketSpec),
    ) -> Result<(), EnforceError> {
        let mut spec = BucketSpec {
            video_ceiling: Days(28),
            calls_ceiling: Days(7),
            operator_principal: "o".into(),
            recorder_principal: "r".into(),
            auditor: None,
            readers: vec![],
            take_over: false,
            operator_only: false,
            allow_unprotected: false,
        };
        decide(&mut spec);
        let mut found: Vec<_> = Check::ALL.iter().map(|check| (*check, Verdict::Holds)).collect();
        found.retain(|(other, _)| *other != check);
        found.push((check, verdict));
        super::judge(&Conformance::of(&found), &spec, true, &BucketState::default())
    }

    fn nothing(_: &mut BucketSpec) {}

    #[test]
    fn a_store_that_keeps_no_holds_is_refused_unless_it_was_decided() {
        for check in [
            Check::LegalHoldIsKept,
            Check::HeldSurvivesDelete,
            Check::HeldSurvivesBatchDelete,
            Check::HeldSurvivesBypass,
        ] {
            let refused = judged(check, Verdict::Fails, nothing).unwrap_err();
            assert!(refused.safe_message().contains("allowUnprotected"), "{refused}");
            assert!(refused.safe_message().starts_with(check.as_str()), "{refused}");
            let other = judged(check, Verdict::Fails, |spec| spec.operator_only = true);
            assert_eq!(other.unwrap_err().category(), "store_unfit");
            assert_eq!(judged(check, Verdict::Fails, |spec| spec.allow_unprotected = true), Ok(()));
        }
    }

    #[test]
    fn a_store_without_lifecycle_is_refused_unless_it_was_decided() {
        for check in [Check::LifecycleIsKept, Check::TagArrivesWithPut] {
            let refused = judged(check, Verdict::Fails, nothing).unwrap_err();
            assert!(refused.safe_message().contains("OperatorOnly"), "{refused}");
            assert_eq!(judged(check, Verdict::Fails, |spec| spec.operator_only = true), Ok(()));
        }
    }

    #[test]
    fn nothing_excuses_a_bucket_that_is_open_to_all() {
        let refused = judged(Check::AnonymousCannotGet, Verdict::Fails, |spec| {
            spec.allow_unprotected = true;
            spec.operator_only = true;
        });
        assert_eq!(refused.unwrap_err().category(), "store_unfit");
    }

    #[test]
    fn what_cannot_be_told_is_not_taken_for_granted() {
        let untold = Verdict::Unknown(Why::Untold("x"));
        let refused = judged(Check::HeldSurvivesDelete, untold.clone(), nothing).unwrap_err();
        assert!(refused.safe_message().contains("it cannot be told: x"), "{refused}");
        assert_eq!(judged(Check::HeldSurvivesBypass, untold.clone(), nothing), Ok(()));
        assert_eq!(judged(Check::RecorderCannotGet, untold, nothing), Ok(()));
        let away = StoreError { operation: "GetObjectLegalHold", code: "Timeout".into(), status: None };
        let asked_again =
            judged(Check::HeldSurvivesDelete, Verdict::Unknown(Why::Store(away.clone())), nothing);
        assert_eq!(asked_again, Err(EnforceError::Storage(away)));
    }

    #[test]
    fn a_recorder_that_cannot_write_has_other_credentials() {
        let refused = judged(Check::RecorderCanPut, Verdict::Fails, nothing);
        assert_eq!(refused, Err(EnforceError::RecorderCannotPut { own_key: false }));
        let told = refused.unwrap_err().safe_message();
        assert!(told.starts_with("spec.storage.recorder.credentialsRef: "), "{told}");
    }

    /// What the operator writes restricts nobody there: what the identities' own policies leave open is fatal.
    #[test]
    fn where_no_bucket_policy_counts_every_row_about_access_must_hold() {
        for check in Check::ALL {
            let verdict = |other: &Check| {
                if other == check { Verdict::Fails } else { Verdict::Holds }
            };
            let found: Vec<_> = Check::ALL.iter().map(|other| (*other, verdict(other))).collect();
            let judged = |heeds| {
                let spec = BucketSpec {
                    video_ceiling: Days(28),
                    calls_ceiling: Days(7),
                    operator_principal: "o".into(),
                    recorder_principal: "r".into(),
                    auditor: None,
                    readers: vec![],
                    take_over: false,
                    operator_only: true,
                    allow_unprotected: true,
                };
                super::judge(&Conformance::of(&found), &spec, heeds, &BucketState::default())
            };
            let name = check.as_str();
            if rests_on_policies(*check) {
                let told = judged(false).unwrap_err().safe_message();
                assert!(told.contains(name) && told.contains("--for identity-policies"), "{told}");
            }
            let is_weak = check.about().severity == Severity::Weak;
            assert!(!is_weak || judged(true).is_ok(), "{name} is weak elsewhere");
        }
    }

    #[test]
    fn what_is_weak_is_no_reason() {
        for check in Check::ALL.iter().filter(|check| check.as_str().starts_with("RecorderCannot")) {
            assert_eq!(judged(*check, Verdict::Fails, nothing), Ok(()), "{check:?}");
        }
    }
}
