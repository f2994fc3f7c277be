//! Whether everyone else is denied what the final policy says, tried as a stranger. The operator and the recorders are
//! exempt from that Deny by name; so each is tried against the same Deny without its own name, about a canary: whoever
//! else the exemptions let through would let it through too.

use serde_json::Value;

use super::actor::{Actor, WrittenCanary};
use super::canary::Canary;
use super::checks::Check;
use super::table::{ConformanceFindings, UnknownReason, Verdict, VerdictResult};
use super::tag_conditions::{NO_EFFECT, ProbePolicy, UNREADABLE};
use crate::rules::recording::tag::RetentionTag;
use crate::storage::bucket::policy::actions::ResourceArns;
use crate::storage::bucket::policy::dialect::EveryoneExcept;
use crate::storage::bucket::policy::document::{MAX_POLICY_BYTES, PROOF_SID_PREFIX, document_bytes};
use crate::storage::bucket::policy::statements::deny_everyone_except;
use crate::storage::s3::error::StoreError;

const NO_EVERYONE_EXCEPT: &str = "policies of this store cannot say \"everyone but\": other identities have the rights that the store's \
                      administrators gave them";
const NO_ROOM: &str = "the bucket's policy is so long that no statement can be added to try it";
const NO_PUT: &str = "the recorder could not write even without the statement: so nothing is shown";

pub(crate) struct EveryoneElseStage<'a> {
    pub(crate) operator: Actor<'a>,
    /// `None`: their credentials were not given.
    pub(crate) recorder: Option<Actor<'a>>,
    pub(crate) operator_folder: String,
    pub(crate) recorder_folder: String,
    pub(crate) policy: &'a [Value],
    pub(crate) others: EveryoneExcept,
    /// The operator, the recorders, and all others whom it exempts.
    pub(crate) operator_principal: &'a str,
    pub(crate) recorder_principal: &'a str,
    pub(crate) people: Vec<&'a str>,
    pub(crate) resources: ResourceArns<'a>,
}

impl EveryoneElseStage<'_> {
    /// An error: the policy that was there could not be put back.
    pub(crate) async fn run(&self, findings: &mut ConformanceFindings) -> Result<(), StoreError> {
        let check = Check::EveryoneElseIsDenied;
        if self.others == EveryoneExcept::Unsaid {
            findings.set(check, Err(UnknownReason::NotTried(NO_EVERYONE_EXCEPT)));
            return Ok(());
        }
        let added = ProbePolicy {
            operator: self.operator,
            statements: self.policy,
            principal: self.operator_principal,
            resources: &self.resources,
        };
        findings.record(check, self.check_exemptions(&added)).await;
        added.restore().await
    }

    /// The people are exempted a few at a time, as many as a policy has room for: a name that exempts everybody does so
    /// among few as among many.
    async fn check_exemptions(&self, added: &ProbePolicy<'_>) -> VerdictResult {
        let ours = self.operator.create_canary(Self::canary(&self.operator_folder, "stranger")).await?;
        if !self.operator.can_read(&ours.canary, None).await? {
            return Err(UnknownReason::Inconclusive(UNREADABLE));
        }
        let mut left = vec![&self.people[..]];
        let mut number = 0;
        while let Some(some) = left.pop() {
            number += 1;
            let name = format!("{number}");
            let statements = self.statements(&name, &ours, some);
            if added.policy_bytes(&statements) > MAX_POLICY_BYTES {
                let halves = some.split_at(some.len() / 2);
                if some.len() < 2 {
                    return Err(UnknownReason::Inconclusive(NO_ROOM));
                }
                left.extend([halves.0, halves.1]);
                continue;
            }
            let sentinel = Self::canary(&self.operator_folder, &format!("sentinel-{name}"));
            if !added.put_statements(sentinel, statements).await? {
                return Err(UnknownReason::Inconclusive(NO_EFFECT));
            }
            if self.operator.can_read(&ours.canary, None).await? {
                return Ok(Verdict::Failed);
            }
            if let Some(recorder) = &self.recorder {
                if recorder.can_put(&Self::canary(&self.recorder_folder, &format!("{name}/exempt"))).await? {
                    return Ok(Verdict::Failed);
                }
                if !recorder.can_put(&Self::canary(&self.recorder_folder, &format!("{name}-control"))).await?
                {
                    return Err(UnknownReason::Inconclusive(NO_PUT));
                }
            }
        }
        Ok(Verdict::Passed)
    }

    fn canary(folder: &str, name: &str) -> Canary {
        Canary::new(format!("{folder}{name}"), Some(RetentionTag::Video))
    }

    fn statements(&self, name: &str, ours: &WrittenCanary, people: &[&str]) -> Vec<Value> {
        let all_but = |part: &str, exempt: &str, action: &str, key: &str| {
            let elements = self.others.statement_elements(&[people, &[exempt]].concat())?;
            let sid = format!("{PROOF_SID_PREFIX}{part}");
            Some(deny_everyone_except(&sid, elements, &[action], &[self.resources.key(key)]))
        };
        let reads = all_but("Stranger", self.recorder_principal, "s3:GetObject", &ours.canary.key);
        let place = format!("{}{name}/*", self.recorder_folder);
        let puts = all_but("StrangerPuts", self.operator_principal, "s3:PutObject", &place);
        let puts = puts.filter(|_| self.recorder.is_some());
        reads.into_iter().chain(puts).collect()
    }
}

impl ProbePolicy<'_> {
    fn policy_bytes(&self, statements: &[Value]) -> usize {
        document_bytes(&self.policy_with("", statements))
    }
}
