//! Whether everyone else is denied what the final policy says, tried as a stranger. The operator and the recorders are
//! exempt from that Deny by name; so each is tried against the same Deny without its own name, about a canary: whoever
//! else the exemptions let through would let it through too.

use serde_json::Value;

use super::attempts::{There, Tries};
use super::canary::Canary;
use super::checks::Check;
use super::table::{Findings, Told, Verdict, Why};
use super::tagged::{Added, NO_EFFECT, UNREADABLE};
use crate::storage::dialect::Others;
use crate::storage::error::StoreError;
use crate::storage::policy::{LONGEST, PROOF, size};
use crate::storage::statements::{Resources, everyone_but};
use crate::storage::tag::RetentionTag;

const UNSAID: &str = "policies of this store cannot say \"everyone but\": other identities have the rights that the store's \
                      administrators gave them";
const NO_ROOM: &str = "the bucket's policy is so long that no statement can be added to try it";
const NO_PUT: &str = "the recorder could not write even without the statement: so nothing is shown";

pub(super) struct Stage<'a> {
    pub(super) operator: Tries<'a>,
    /// `None`: their credentials were not given.
    pub(super) recorder: Option<Tries<'a>>,
    /// Folder of the operator's canaries.
    pub(super) ours: String,
    /// Folder of the recorder's.
    pub(super) theirs: String,
    /// The policy that is there.
    pub(super) policy: &'a [Value],
    /// How it says "everyone but".
    pub(super) others: Others,
    /// The operator, the recorders, and all others whom it exempts.
    pub(super) operator_principal: &'a str,
    pub(super) recorder_principal: &'a str,
    pub(super) people: Vec<&'a str>,
    pub(super) resources: Resources<'a>,
}

impl Stage<'_> {
    /// An error: the policy that was there could not be put back.
    pub(super) async fn run(&self, findings: &mut Findings) -> Result<(), StoreError> {
        let check = Check::EveryoneElseIsDenied;
        if self.others == Others::Unsaid {
            findings.set(check, Err(Why::NotTried(UNSAID)));
            return Ok(());
        }
        let added = Added {
            operator: self.operator,
            policy: self.policy,
            principal: self.operator_principal,
            resources: &self.resources,
        };
        findings.enter(check, self.tried(&added)).await;
        added.restore().await
    }

    /// The people are exempted a few at a time, as many as a policy has room for: a name that exempts everybody does so
    /// among few as among many.
    async fn tried(&self, added: &Added<'_>) -> Told {
        let ours = self.operator.leaves(Self::canary(&self.ours, "stranger")).await?;
        if !self.operator.reads(&ours.canary, None).await? {
            return Err(Why::Untold(UNREADABLE));
        }
        let mut left = vec![&self.people[..]];
        let mut number = 0;
        while let Some(some) = left.pop() {
            number += 1;
            let name = format!("{number}");
            let statements = self.statements(&name, &ours, some);
            if added.bytes(&statements) > LONGEST {
                let halves = some.split_at(some.len() / 2);
                if some.len() < 2 {
                    return Err(Why::Untold(NO_ROOM));
                }
                left.extend([halves.0, halves.1]);
                continue;
            }
            let sentinel = Self::canary(&self.ours, &format!("sentinel-{name}"));
            if !added.in_force(sentinel, statements).await? {
                return Err(Why::Untold(NO_EFFECT));
            }
            if self.operator.reads(&ours.canary, None).await? {
                return Ok(Verdict::Fails);
            }
            if let Some(recorder) = &self.recorder {
                if recorder.puts(&Self::canary(&self.theirs, &format!("{name}/exempt"))).await? {
                    return Ok(Verdict::Fails);
                }
                if !recorder.puts(&Self::canary(&self.theirs, &format!("{name}-control"))).await? {
                    return Err(Why::Untold(NO_PUT));
                }
            }
        }
        Ok(Verdict::Holds)
    }

    fn canary(folder: &str, name: &str) -> Canary {
        Canary::new(format!("{folder}{name}"), Some(RetentionTag::Video))
    }

    fn statements(&self, name: &str, ours: &There, people: &[&str]) -> Vec<Value> {
        let all_but = |part: &str, exempt: &str, action: &str, key: &str| {
            let elements = self.others.elements(&[people, &[exempt]].concat())?;
            let sid = format!("{PROOF}{part}");
            Some(everyone_but(&sid, elements, &[action], &[self.resources.key(key)]))
        };
        let reads = all_but("Stranger", self.recorder_principal, "s3:GetObject", &ours.canary.key);
        let place = format!("{}{name}/*", self.theirs);
        let puts = all_but("StrangerPuts", self.operator_principal, "s3:PutObject", &place);
        let puts = puts.filter(|_| self.recorder.is_some());
        reads.into_iter().chain(puts).collect()
    }
}

impl Added<'_> {
    fn bytes(&self, statements: &[Value]) -> usize {
        size(&self.with("", statements))
    }
}
