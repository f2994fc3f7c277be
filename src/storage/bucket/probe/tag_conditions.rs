//! Whether policies honour an object's tag. The operator tries it on itself: a statement about three canaries of its own says the
//! same as the statements about readers.

use serde_json::Value;

use super::actor::{Actor, WrittenCanary};
use super::canary::Canary;
use super::checks::Check;
use super::table::{ConformanceFindings, NO_CANARY, UnknownReason, Verdict};
use crate::rules::RetentionTag;
use crate::storage::bucket::policy::actions::{
    READ, allow, any_principal, aws_principal, deny, with_condition,
};
use crate::storage::bucket::policy::document::proof_sid;
use crate::storage::bucket::policy::statements::held_tag_condition;
use crate::storage::bucket::proof::policy::{PolicyEffect, ProofPolicy};
use crate::storage::s3::StoreError;

const NO_EFFECT: &str = "a statement that names the operator did not come into force: check the operator's principal, and whether the \
     store honours bucket policies";
pub(crate) const UNREADABLE: &str =
    "the operator cannot read its canary even without the statement, which shows nothing";

/// The checks of each tag: by key, and by the id of the version.
const ROWS: [(RetentionTag, [Check; 2]); 3] = [
    (RetentionTag::Held, [Check::HeldIsReadable, Check::HeldVersionIsReadable]),
    (RetentionTag::Sealed, [Check::SealedIsUnreadable, Check::SealedVersionIsUnreadable]),
    (RetentionTag::Video, [Check::VideoIsUnreadable, Check::VideoVersionIsUnreadable]),
];

/// A canary with each tag, and whether the operator could read it before the statements: by key and by version.
type TaggedCanary = (WrittenCanary, [Result<bool, UnknownReason>; 2]);

pub(crate) struct TagConditionStage<'a> {
    pub(crate) operator: Actor<'a>,
    pub(crate) policy: &'a ProofPolicy<'a>,
}

impl TagConditionStage<'_> {
    /// Fills the rows of the tags. An error: the policy could not be restored.
    pub(crate) async fn run(&self, findings: &mut ConformanceFindings) -> Result<(), StoreError> {
        match findings.run_attempt(self.create_canaries()).await {
            Ok(canaries) => self.run_rows(canaries, findings).await,
            Err(reason) => {
                set_all_unknown(findings, &reason);
                return Ok(());
            }
        }
        self.policy.restore(self.policy.existing).await
    }

    async fn run_rows(&self, canaries: Vec<WrittenCanary>, findings: &mut ConformanceFindings) {
        let mut tried: Vec<TaggedCanary> = Vec::new();
        for it in canaries {
            let mut before = [Ok(false), Ok(false)];
            for (result, id) in before.iter_mut().zip([None, Some(it.version.id.as_str())]) {
                *result =
                    findings.run_attempt(async { Ok(self.operator.can_read(&it.canary, id).await?) }).await;
            }
            tried.push((it, before));
        }
        let added = add_statements(self.policy, "tags", self.statements());
        if let Err(reason) = findings.run_attempt(added).await {
            return set_all_unknown(findings, &reason);
        }
        for ((tag, checks), (it, before)) in ROWS.into_iter().zip(tried) {
            let ids = [None, Some(it.version.id.as_str())];
            for ((check, id), before) in checks.into_iter().zip(ids).zip(before) {
                let attempt = async {
                    if !before? {
                        return Err(UnknownReason::Inconclusive(UNREADABLE));
                    }
                    let can_read = self.operator.can_read(&it.canary, id).await?;
                    Ok(Verdict::from_expectation(can_read == (tag == RetentionTag::Held)))
                };
                findings.record(check, attempt).await;
            }
        }
    }

    async fn create_canaries(&self) -> Result<Vec<WrittenCanary>, UnknownReason> {
        let mut canaries = Vec::new();
        for (tag, _) in ROWS {
            let canary = Canary::new(self.policy.key(tag.as_str()), Some(tag));
            canaries.push(self.operator.create_canary(canary).await?);
        }
        Ok(canaries)
    }

    /// Returns statements like those about readers: the operator may read held objects, and nobody may read others.
    fn statements(&self) -> Vec<Value> {
        let operator = aws_principal(self.policy.operator_principal);
        let tagged = ROWS.map(|(tag, _)| self.policy.resources.key(&self.policy.key(tag.as_str())));
        let held = allow(&proof_sid("Held"), &operator, &READ, &tagged);
        let not_held = deny(&proof_sid("NotHeld"), &any_principal(), &READ, &tagged);
        vec![
            with_condition(held, held_tag_condition("StringEquals")),
            with_condition(not_held, held_tag_condition("StringNotEquals")),
        ]
    }
}

/// Adds statements to the policy, and waits until they are in force.
pub(crate) async fn add_statements(
    policy: &ProofPolicy<'_>,
    name: &str,
    statements: Vec<Value>,
) -> Result<(), UnknownReason> {
    // The statements count as in force once the sentinel is unreadable, so it must be readable before.
    let sentinel = match policy.write_sentinel(name).await {
        // A store that rejects it will reject it again: that is a result, not an outage.
        Err(error) if error.is_rejection() => return Err(UnknownReason::Inconclusive(NO_CANARY)),
        sentinel => sentinel?,
    };
    if !policy.can_read(&sentinel).await? {
        return Err(UnknownReason::Inconclusive(UNREADABLE));
    }
    match policy.put_with_sentinel(&sentinel, statements).await? {
        PolicyEffect::Effective => Ok(()),
        PolicyEffect::Ineffective => Err(UnknownReason::Inconclusive(NO_EFFECT)),
        PolicyEffect::Rejected(error) => Err(error.into()),
    }
}

pub(crate) fn set_all_unknown(findings: &mut ConformanceFindings, reason: &UnknownReason) {
    for check in ROWS.into_iter().flat_map(|(_, checks)| checks) {
        findings.set(check, Err(reason.clone()));
    }
}
