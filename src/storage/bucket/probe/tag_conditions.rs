//! Whether policies heed an object's tag: tried by the operator on itself, with a statement of its own about
//! three canaries, which says what the statements for managers say. It is added to the policy that is there,
//! and taken out again.

use std::time::Duration;

use serde_json::Value;

use super::actor::{Actor, WrittenCanary};
use super::canary::Canary;
use super::checks::Check;
use super::table::{ConformanceFindings, UnknownReason, Verdict};
use crate::rules::recording::tag::RetentionTag;
use crate::storage::bucket::apply::put_policy;
use crate::storage::bucket::policy::actions::{
    ResourceArns, allow, any_principal, aws_principal, deny, set_element,
};
use crate::storage::bucket::policy::document::{PROOF_SID_PREFIX, is_proof_statement};
use crate::storage::bucket::policy::statements::held_tag_condition;
use crate::storage::s3::error::StoreError;

const READ: [&str; 2] = ["s3:GetObject", "s3:GetObjectVersion"];
/// How often it is looked whether the statements count: stores are not at once consistent.
const MAX_READS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(500);
pub(crate) const NO_EFFECT: &str = "a statement that names the operator did not come into force: is the principal the operator's, and does \
     the store heed bucket policies?";
pub(crate) const UNREADABLE: &str =
    "the operator cannot read its canary even without the statement: so nothing is shown";

/// Object and version of each tag.
const ROWS: [(RetentionTag, Check, Check); 3] = [
    (RetentionTag::Held, Check::HeldIsReadable, Check::HeldVersionIsReadable),
    (RetentionTag::Sealed, Check::SealedIsUnreadable, Check::SealedVersionIsUnreadable),
    (RetentionTag::Video, Check::VideoIsUnreadable, Check::VideoVersionIsUnreadable),
];

pub(crate) struct TagConditionStage<'a> {
    /// The policy that is there, to which statements are added.
    pub(crate) policy: ProbePolicy<'a>,
    pub(crate) folder: String,
}

/// A policy that is there, and to which statements are added while something is tried.
#[derive(Clone, Copy)]
pub(crate) struct ProbePolicy<'a> {
    pub(crate) operator: Actor<'a>,
    pub(crate) statements: &'a [Value],
    /// The operator, as the store's policies name it.
    pub(crate) principal: &'a str,
    pub(crate) resources: &'a ResourceArns<'a>,
}

impl ProbePolicy<'_> {
    /// Puts the statements, and waits until they count, which a Deny on the operator by name shows: at the sentinel.
    pub(crate) async fn put_statements(
        &self,
        sentinel: Canary,
        statements: Vec<Value>,
    ) -> Result<bool, UnknownReason> {
        let WrittenCanary { canary, .. } = self.operator.create_canary(sentinel).await?;
        if !self.operator.can_read(&canary, None).await? {
            return Err(UnknownReason::Inconclusive(UNREADABLE));
        }
        put_policy(self.operator.observer, &self.policy_with(&canary.key, &statements)).await?;
        for _ in 0..MAX_READS {
            if !self.operator.can_read(&canary, None).await? {
                return Ok(true);
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(false)
    }

    /// The whole policy, with these statements and the one about the sentinel.
    pub(crate) fn policy_with(&self, sentinel: &str, statements: &[Value]) -> Vec<Value> {
        let sid = format!("{PROOF_SID_PREFIX}Sentinel");
        let stop =
            deny(&sid, &aws_principal(self.principal), &["s3:GetObject"], &[self.resources.key(sentinel)]);
        [&self.restorable_statements()[..], &[stop], statements].concat()
    }

    /// What an operator that died half way left there is not put back.
    fn restorable_statements(&self) -> Vec<Value> {
        self.statements.iter().filter(|it| !is_proof_statement(it)).cloned().collect()
    }

    pub(crate) async fn restore(&self) -> Result<(), StoreError> {
        let policy = self.restorable_statements();
        match put_policy(self.operator.observer, &policy).await {
            Err(error) if policy.is_empty() && error.is_not_found() => Ok(()),
            restored => restored,
        }
    }
}

impl TagConditionStage<'_> {
    /// An error: the policy that was there could not be put back.
    pub(crate) async fn run(&self, findings: &mut ConformanceFindings) -> Result<(), StoreError> {
        let canaries = match findings.run_attempt(self.canaries()).await {
            Ok(canaries) => canaries,
            Err(why) => {
                set_all_unknown(findings, &why);
                return Ok(());
            }
        };
        let before = self.read_without_statements(findings, &canaries).await;
        let in_force = findings.run_attempt(self.put_tag_conditions()).await;
        match in_force {
            Ok(()) => {
                for ((tag, object, version), (it, before)) in
                    ROWS.into_iter().zip(canaries.iter().zip(before))
                {
                    let id = it.version.id.as_str();
                    for (check, id, before) in [(object, None, before.0), (version, Some(id), before.1)] {
                        let told = async {
                            if !before? {
                                return Err(UnknownReason::Inconclusive(UNREADABLE));
                            }
                            let reads = self.policy.operator.can_read(&it.canary, id).await?;
                            Ok(Verdict::from_expectation(reads == (tag == RetentionTag::Held)))
                        };
                        findings.record(check, told).await;
                    }
                }
            }
            Err(why) => set_all_unknown(findings, &why),
        }
        self.policy.restore().await
    }

    async fn canaries(&self) -> Result<Vec<WrittenCanary>, UnknownReason> {
        let mut canaries = Vec::new();
        for (tag, ..) in ROWS {
            let canary = Canary::new(format!("{}{tag}", self.folder), Some(tag));
            canaries.push(self.policy.operator.create_canary(canary).await?);
        }
        Ok(canaries)
    }

    /// Whether object and version can be read before the statement is there.
    async fn read_without_statements(
        &self,
        findings: &mut ConformanceFindings,
        canaries: &[WrittenCanary],
    ) -> Vec<(Result<bool, UnknownReason>, Result<bool, UnknownReason>)> {
        let mut readable = Vec::new();
        for it in canaries {
            let object = findings
                .run_attempt(async { Ok(self.policy.operator.can_read(&it.canary, None).await?) })
                .await;
            let version =
                async { Ok(self.policy.operator.can_read(&it.canary, Some(&it.version.id)).await?) };
            readable.push((object, findings.run_attempt(version).await));
        }
        readable
    }

    async fn put_tag_conditions(&self) -> Result<(), UnknownReason> {
        let sentinel = Canary::new(format!("{}sentinel", self.folder), Some(RetentionTag::Held));
        if self.policy.put_statements(sentinel, self.statements()).await? {
            Ok(())
        } else {
            Err(UnknownReason::Inconclusive(NO_EFFECT))
        }
    }

    /// As the statements about readers have it: they may read what is held, and nobody anything else.
    fn statements(&self) -> Vec<Value> {
        let us = aws_principal(self.policy.principal);
        let tagged = ROWS.map(|(tag, ..)| self.policy.resources.key(&format!("{}{tag}", self.folder)));
        let mut may = allow(&format!("{PROOF_SID_PREFIX}Held"), &us, &READ, &tagged);
        set_element(&mut may, "Condition", held_tag_condition("StringEquals"));
        let mut may_not = deny(&format!("{PROOF_SID_PREFIX}NotHeld"), &any_principal(), &READ, &tagged);
        set_element(&mut may_not, "Condition", held_tag_condition("StringNotEquals"));
        vec![may, may_not]
    }
}

pub(crate) fn set_all_unknown(findings: &mut ConformanceFindings, why: &UnknownReason) {
    for (_, object, version) in ROWS {
        findings.set(object, Err(why.clone()));
        findings.set(version, Err(why.clone()));
    }
}
