//! Whether policies heed an object's tag: tried by the operator on itself, with a statement of its own about
//! three canaries, which says what the statements for managers say. It is added to the policy that is there,
//! and taken out again.

use std::time::Duration;

use serde_json::Value;

use super::attempts::{There, Tries};
use super::canary::Canary;
use super::checks::Check;
use super::table::{Findings, Verdict, Why};
use crate::storage::apply::put_policy;
use crate::storage::error::StoreError;
use crate::storage::policy::{PROOF, is_proof};
use crate::storage::statements::{Resources, allow, by, deny, everybody, if_tagged, set};
use crate::storage::tag::RetentionTag;

const READ: [&str; 2] = ["s3:GetObject", "s3:GetObjectVersion"];
/// How often it is looked whether the statements count: stores are not at once consistent.
const LOOKS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(500);
pub(super) const NO_EFFECT: &str = "a statement that names the operator did not come into force: is the principal the operator's, and does \
     the store heed bucket policies?";
pub(super) const UNREADABLE: &str =
    "the operator cannot read its canary even without the statement: so nothing is shown";

/// Object and version of each tag.
const ROWS: [(RetentionTag, Check, Check); 3] = [
    (RetentionTag::Held, Check::HeldIsReadable, Check::HeldVersionIsReadable),
    (RetentionTag::Sealed, Check::SealedIsUnreadable, Check::SealedVersionIsUnreadable),
    (RetentionTag::Video, Check::VideoIsUnreadable, Check::VideoVersionIsUnreadable),
];

pub(super) struct Stage<'a> {
    /// The policy that is there, to which statements are added.
    pub(super) added: Added<'a>,
    /// Folder of the canaries.
    pub(super) folder: String,
}

/// A policy that is there, and to which statements are added while something is tried.
#[derive(Clone, Copy)]
pub(super) struct Added<'a> {
    pub(super) operator: Tries<'a>,
    pub(super) policy: &'a [Value],
    /// The operator, as the store's policies name it.
    pub(super) principal: &'a str,
    pub(super) resources: &'a Resources<'a>,
}

impl Added<'_> {
    /// Puts the statements, and waits until they count, which a Deny on the operator by name shows: at the sentinel.
    pub(super) async fn in_force(&self, sentinel: Canary, statements: Vec<Value>) -> Result<bool, Why> {
        let There { canary, .. } = self.operator.leaves(sentinel).await?;
        if !self.operator.reads(&canary, None).await? {
            return Err(Why::Untold(UNREADABLE));
        }
        put_policy(self.operator.operator, &self.with(&canary.key, &statements)).await?;
        for _ in 0..LOOKS {
            if !self.operator.reads(&canary, None).await? {
                return Ok(true);
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(false)
    }

    /// The whole policy, with these statements and the one about the sentinel.
    pub(super) fn with(&self, sentinel: &str, statements: &[Value]) -> Vec<Value> {
        let sid = format!("{PROOF}Sentinel");
        let stop = deny(&sid, &by(self.principal), &["s3:GetObject"], &[self.resources.key(sentinel)]);
        [&self.kept()[..], &[stop], statements].concat()
    }

    /// What an operator that died half way left there is not put back.
    fn kept(&self) -> Vec<Value> {
        self.policy.iter().filter(|it| !is_proof(it)).cloned().collect()
    }

    pub(super) async fn restore(&self) -> Result<(), StoreError> {
        let policy = self.kept();
        match put_policy(self.operator.operator, &policy).await {
            Err(error) if policy.is_empty() && error.is_absent() => Ok(()),
            restored => restored,
        }
    }
}

impl Stage<'_> {
    /// An error: the policy that was there could not be put back.
    pub(super) async fn run(&self, findings: &mut Findings) -> Result<(), StoreError> {
        let canaries = match findings.ask(self.canaries()).await {
            Ok(canaries) => canaries,
            Err(why) => {
                fail(findings, &why);
                return Ok(());
            }
        };
        let before = self.readable(findings, &canaries).await;
        let in_force = findings.ask(self.in_force()).await;
        match in_force {
            Ok(()) => {
                for ((tag, object, version), (it, before)) in
                    ROWS.into_iter().zip(canaries.iter().zip(before))
                {
                    let id = it.version.id.as_str();
                    for (check, id, before) in [(object, None, before.0), (version, Some(id), before.1)] {
                        let told = async {
                            if !before? {
                                return Err(Why::Untold(UNREADABLE));
                            }
                            let reads = self.added.operator.reads(&it.canary, id).await?;
                            Ok(Verdict::is_so(reads == (tag == RetentionTag::Held)))
                        };
                        findings.enter(check, told).await;
                    }
                }
            }
            Err(why) => fail(findings, &why),
        }
        self.added.restore().await
    }

    async fn canaries(&self) -> Result<Vec<There>, Why> {
        let mut canaries = Vec::new();
        for (tag, ..) in ROWS {
            let canary = Canary::new(format!("{}{tag}", self.folder), Some(tag));
            canaries.push(self.added.operator.leaves(canary).await?);
        }
        Ok(canaries)
    }

    /// Whether object and version can be read before the statement is there.
    async fn readable(
        &self,
        findings: &mut Findings,
        canaries: &[There],
    ) -> Vec<(Result<bool, Why>, Result<bool, Why>)> {
        let mut readable = Vec::new();
        for it in canaries {
            let object = findings.ask(async { Ok(self.added.operator.reads(&it.canary, None).await?) }).await;
            let version = async { Ok(self.added.operator.reads(&it.canary, Some(&it.version.id)).await?) };
            readable.push((object, findings.ask(version).await));
        }
        readable
    }

    async fn in_force(&self) -> Result<(), Why> {
        let sentinel = Canary::new(format!("{}sentinel", self.folder), Some(RetentionTag::Held));
        if self.added.in_force(sentinel, self.statements()).await? {
            Ok(())
        } else {
            Err(Why::Untold(NO_EFFECT))
        }
    }

    /// As the statements about readers have it: they may read what is held, and nobody anything else.
    fn statements(&self) -> Vec<Value> {
        let us = by(self.added.principal);
        let tagged = ROWS.map(|(tag, ..)| self.added.resources.key(&format!("{}{tag}", self.folder)));
        let mut may = allow(&format!("{PROOF}Held"), &us, &READ, &tagged);
        set(&mut may, "Condition", if_tagged("StringEquals"));
        let mut may_not = deny(&format!("{PROOF}NotHeld"), &everybody(), &READ, &tagged);
        set(&mut may_not, "Condition", if_tagged("StringNotEquals"));
        vec![may, may_not]
    }
}

pub(super) fn fail(findings: &mut Findings, why: &Why) {
    for (_, object, version) in ROWS {
        findings.set(object, Err(why.clone()));
        findings.set(version, Err(why.clone()));
    }
}
