//! Whether policies heed an object's tag: tried by the operator on itself, with a statement of its own about
//! three canaries, which says what the statements for managers say. It is added to the policy that is there,
//! and taken out again.

use std::time::Duration;

use serde_json::{Value, json};

use super::attempts::{There, Tries};
use super::canary::Canary;
use super::checks::Check;
use super::table::{Findings, Verdict, Why};
use crate::storage::apply::put_policy;
use crate::storage::error::StoreError;
use crate::storage::policy::{PROOF, is_proof};
use crate::storage::statements::{allow, by, deny, set};
use crate::storage::tag::{RetentionTag, TAG_KEY};

const READ: [&str; 2] = ["s3:GetObject", "s3:GetObjectVersion"];
/// How often it is looked whether the statements count: stores are not at once consistent.
const LOOKS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(500);
const NO_EFFECT: &str = "a statement that names the operator did not come into force: is the principal the operator's, and does \
     the store heed bucket policies?";
const UNREADABLE: &str =
    "the operator cannot read its canary even without the statement: so nothing is shown";

/// Object and version of each tag.
const ROWS: [(RetentionTag, Check, Check); 3] = [
    (
        RetentionTag::Held,
        Check::HeldIsReadable,
        Check::HeldVersionIsReadable,
    ),
    (
        RetentionTag::Sealed,
        Check::SealedIsUnreadable,
        Check::SealedVersionIsUnreadable,
    ),
    (
        RetentionTag::Video,
        Check::VideoIsUnreadable,
        Check::VideoVersionIsUnreadable,
    ),
];

pub(super) struct Stage<'a> {
    pub(super) operator: Tries<'a>,
    /// Folder of the canaries.
    pub(super) folder: String,
    /// The operator, as the store's policies name it.
    pub(super) principal: &'a str,
    /// The policy that is there.
    pub(super) policy: &'a [Value],
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
                            let reads = self.operator.reads(&it.canary, id).await?;
                            Ok(Verdict::is_so(reads == (tag == RetentionTag::Held)))
                        };
                        findings.enter(check, told).await;
                    }
                }
            }
            Err(why) => fail(findings, &why),
        }
        // What an operator that died half way left there is not put back.
        let policy: Vec<Value> = self.policy.iter().filter(|it| !is_proof(it)).cloned().collect();
        match put_policy(self.operator.operator, &policy).await {
            Err(error) if policy.is_empty() && error.is_absent() => Ok(()),
            restored => restored,
        }
    }

    async fn canaries(&self) -> Result<Vec<There>, Why> {
        let mut canaries = Vec::new();
        for (tag, ..) in ROWS {
            let canary = Canary::new(format!("{}{tag}", self.folder), Some(tag));
            canaries.push(self.operator.leaves(canary).await?);
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
            let object = findings
                .ask(async { Ok(self.operator.reads(&it.canary, None).await?) })
                .await;
            let version = async { Ok(self.operator.reads(&it.canary, Some(&it.version.id)).await?) };
            readable.push((object, findings.ask(version).await));
        }
        readable
    }

    /// Puts the statements, and waits until they count, which a Deny on the operator by name shows.
    async fn in_force(&self) -> Result<(), Why> {
        let sentinel = Canary::new(format!("{}sentinel", self.folder), Some(RetentionTag::Held));
        let There { canary, .. } = self.operator.leaves(sentinel).await?;
        if !self.operator.reads(&canary, None).await? {
            return Err(Why::Untold(UNREADABLE));
        }
        put_policy(self.operator.operator, &self.statements(&canary.key)).await?;
        for _ in 0..LOOKS {
            if !self.operator.reads(&canary, None).await? {
                return Ok(());
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(Why::Untold(NO_EFFECT))
    }

    fn statements(&self, sentinel: &str) -> Vec<Value> {
        let us = by(self.principal);
        let bucket = &self.operator.operator.bucket;
        let at = |key: &str| [format!("arn:aws:s3:::{bucket}/{key}")];
        let tagged: Vec<String> = ROWS
            .iter()
            .flat_map(|(tag, ..)| at(&format!("{}{tag}", self.folder)))
            .collect();
        let when =
            |operator: &str| json!({ operator: { format!("s3:ExistingObjectTag/{TAG_KEY}"): "held" } });
        let mut may = allow(&format!("{PROOF}Held"), &us, &READ, &tagged);
        set(&mut may, "Condition", when("StringEquals"));
        let mut may_not = deny(&format!("{PROOF}NotHeld"), &us, &READ, &tagged);
        set(&mut may_not, "Condition", when("StringNotEquals"));
        let stop = deny(&format!("{PROOF}Sentinel"), &us, &["s3:GetObject"], &at(sentinel));
        let kept = self.policy.iter().filter(|it| !is_proof(it)).cloned();
        kept.chain([stop, may, may_not]).collect()
    }
}

pub(super) fn fail(findings: &mut Findings, why: &Why) {
    for (_, object, version) in ROWS {
        findings.set(object, Err(why.clone()));
        findings.set(version, Err(why.clone()));
    }
}
