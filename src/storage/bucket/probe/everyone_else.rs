//! Whether the final policy denies everyone else. Its Deny exempts the operator and the recorders by name. So the probe adds the
//! same Deny about a canary without the name of one of them, and tries as that one: if the other exemptions let it through, they
//! let anybody through.

use serde_json::Value;

use super::actor::{Actor, WrittenCanary};
use super::canary::Canary;
use super::checks::Check;
use super::table::{ConformanceFindings, UnknownReason, Verdict, VerdictResult};
use super::tag_conditions::{UNREADABLE, add_statements};
use crate::rules::RetentionTag;
use crate::storage::bucket::policy::dialect::EveryoneExcept;
use crate::storage::bucket::policy::document::{MAX_POLICY_BYTES, proof_sid};
use crate::storage::bucket::policy::statements::deny_everyone_except;
use crate::storage::bucket::proof::policy::ProofPolicy;
use crate::storage::s3::StoreError;

const NO_EVERYONE_EXCEPT: &str = "policies of this store cannot say \"everyone but\": other identities have the rights that the store's \
                      administrators gave them";
const NO_ROOM: &str = "the bucket's policy is so long that the probe cannot add a statement to it";

pub(crate) struct EveryoneElseStage<'a> {
    pub(crate) operator: Actor<'a>,
    /// `None`: there are no credentials.
    pub(crate) recorder: Option<Actor<'a>>,
    pub(crate) recorder_folder: String,
    pub(crate) policy: &'a ProofPolicy<'a>,
    pub(crate) others: EveryoneExcept,
    pub(crate) recorder_principal: &'a str,
    /// The other principals that the Deny exempts.
    pub(crate) people: Vec<&'a str>,
}

impl EveryoneElseStage<'_> {
    /// Fills the row. An error: the policy could not be restored.
    pub(crate) async fn run(&self, findings: &mut ConformanceFindings) -> Result<(), StoreError> {
        let check = Check::EveryoneElseIsDenied;
        if self.others == EveryoneExcept::Unsaid {
            findings.set(check, Err(UnknownReason::NotTried(NO_EVERYONE_EXCEPT)));
            return Ok(());
        }
        findings.record(check, self.check_exemptions()).await;
        self.policy.restore(self.policy.existing).await
    }

    /// Tries the exemptions of as many people at a time as the policy has room for. A name that exempts everybody does so in any
    /// group.
    async fn check_exemptions(&self) -> VerdictResult {
        let canary = Canary::new(self.policy.key("stranger"), Some(RetentionTag::Video));
        let ours = self.operator.create_canary(canary).await?;
        if !self.operator.can_read(&ours.canary, None).await? {
            return Err(UnknownReason::Inconclusive(UNREADABLE));
        }
        let mut remaining = vec![&self.people[..]];
        let mut number = 0;
        while let Some(people) = remaining.pop() {
            number += 1;
            let name = number.to_string();
            let statements = self.statements(&name, &ours, people);
            if self.policy.policy_bytes(&statements) > MAX_POLICY_BYTES {
                if people.len() < 2 {
                    return Err(UnknownReason::Inconclusive(NO_ROOM));
                }
                let (first, second) = people.split_at(people.len() / 2);
                remaining.extend([first, second]);
                continue;
            }
            add_statements(self.policy, &name, statements).await?;
            if self.operator.can_read(&ours.canary, None).await? {
                return Ok(Verdict::Failed);
            }
            if let Some(recorder) = &self.recorder {
                if recorder.can_put(&self.recorder_canary(&format!("{name}/exempt"))).await? {
                    return Ok(Verdict::Failed);
                }
                // Outside the folder of the statement: a recorder that can put nothing at all proves nothing about the
                // exemptions.
                if !recorder.can_put(&self.recorder_canary(&format!("{name}-control"))).await? {
                    return Err(UnknownReason::RecorderCannotPut);
                }
            }
        }
        Ok(Verdict::Passed)
    }

    fn recorder_canary(&self, name: &str) -> Canary {
        Canary::new(format!("{}{name}", self.recorder_folder), Some(RetentionTag::Video))
    }

    fn statements(&self, name: &str, ours: &WrittenCanary, people: &[&str]) -> Vec<Value> {
        let deny_except = |sid: &str, exempt: &str, action: &str, key: &str| {
            let elements = self.others.statement_elements(&[people, &[exempt]].concat())?;
            let resources = [self.policy.resources.key(key)];
            Some(deny_everyone_except(&proof_sid(sid), elements, &[action], &resources))
        };
        let reads = deny_except("Stranger", self.recorder_principal, "s3:GetObject", &ours.canary.key);
        let folder = format!("{}{name}/*", self.recorder_folder);
        let puts = deny_except("StrangerPuts", self.policy.operator_principal, "s3:PutObject", &folder);
        let puts = puts.filter(|_| self.recorder.is_some());
        reads.into_iter().chain(puts).collect()
    }
}
