//! What the recorders' credentials can do. Everything that must be refused is tried by the operator, too, on a
//! canary of its own: only where it then has an effect does "no effect" mean that it was refused.

use std::time::Duration;

use super::attempts::{By, There, Tries};
use super::canary::{Canary, Lock};
use super::checks::Check;
use super::table::{Findings, NO_CANARY, Verdict, Why};
use crate::storage::error::StoreError;
use crate::storage::tag::RetentionTag;

/// How often a first write is tried: a policy that was just put may not count at once.
const FIRST_WRITES: u32 = 10;
const PAUSE: Duration = Duration::from_millis(500);

/// Both who are tried, and where.
pub(super) struct Stage<'a> {
    pub(super) recorder: Tries<'a>,
    /// The operator in the recorder's place: the control.
    pub(super) operator: Tries<'a>,
    /// Folder of the recorder's canaries, under the same statements as recordings.
    pub(super) theirs: String,
    /// Folder of the operator's.
    pub(super) ours: String,
    /// A key where a recorder has nothing to write.
    pub(super) elsewhere: String,
}

impl Stage<'_> {
    pub(super) async fn run(&self, findings: &mut Findings) {
        match findings.ask(self.writes()).await {
            Ok(true) => findings.set(Check::RecorderCanPut, Ok(Verdict::Holds)),
            told => {
                findings.set(Check::RecorderCanPut, told.map(Verdict::is_so));
                // What it cannot do with an object of its own shows nothing when it can have none.
                for check in Check::ALL {
                    let is_recorders = check.as_str().starts_with("RecorderCannot");
                    if is_recorders || matches!(check, Check::OperatorCannotGet | Check::RecorderCanPutSealed)
                    {
                        findings.set(*check, Err(Why::Untold(NO_CANARY)));
                    }
                }
                return;
            }
        }
        self.looks(findings).await;
        self.changes(findings).await;
        self.protects(findings).await;
        self.puts(findings).await;
        self.removes(findings).await;
    }

    /// Whether the recorder can write, waiting for a policy that was just put.
    async fn writes(&self) -> Result<bool, Why> {
        for attempt in 0..FIRST_WRITES {
            let first = canary(&self.theirs, &format!("first-{attempt}"));
            if self.recorder.puts(&first).await? {
                return Ok(true);
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(false)
    }

    /// The same on a canary of the recorder by the recorder, and on one of the operator by the operator.
    async fn both<'s, F, E>(&'s self, name: &str, attempt: F) -> Result<Verdict, Why>
    where
        F: Fn(Tries<'s>, There) -> E,
        E: Future<Output = Result<bool, StoreError>>,
    {
        let theirs = self.recorder.leaves(canary(&self.theirs, name)).await?;
        let had_effect = attempt(self.recorder, theirs).await?;
        let ours = self.operator.leaves(canary(&self.ours, name)).await?;
        let control = attempt(self.operator, ours).await?;
        Ok(Verdict::refused(had_effect, control))
    }

    async fn looks(&self, findings: &mut Findings) {
        let get = self.both("get", |by, it| async move { by.reads(&it.canary, None).await });
        findings.enter(Check::RecorderCannotGet, get).await;
        let get = self
            .both("get-version", |by, it| async move { by.reads(&it.canary, Some(&it.version.id)).await });
        findings.enter(Check::RecorderCannotGetVersion, get).await;
        let list = self.both("list", |by, it| async move { by.lists(&it.canary.key).await });
        findings.enter(Check::RecorderCannotList, list).await;
        let list =
            self.both("list-versions", |by, it| async move { by.lists_versions(&it.canary.key).await });
        findings.enter(Check::RecorderCannotListVersions, list).await;
        findings
            .enter(Check::OperatorCannotGet, async {
                let theirs = self.recorder.leaves(canary(&self.theirs, "watched")).await?;
                let had_effect = self.operator.reads(&theirs.canary, None).await?
                    || self.operator.reads(&theirs.canary, Some(&theirs.version.id)).await?;
                let ours = self.operator.leaves(canary(&self.ours, "watched")).await?;
                let control = self.operator.reads(&ours.canary, None).await?
                    && self.operator.reads(&ours.canary, Some(&ours.version.id)).await?;
                Ok(Verdict::refused(had_effect, control))
            })
            .await;
    }

    async fn changes(&self, findings: &mut Findings) {
        let retag = self.both("retag", |by, it| async move { by.retags(&it.version, false).await });
        findings.enter(Check::RecorderCannotRetag, retag).await;
        let retag = self.both("retag-version", |by, it| async move { by.retags(&it.version, true).await });
        findings.enter(Check::RecorderCannotRetagVersion, retag).await;
        let untag = self.both("untag", |by, it| async move { by.untags(&it.version).await });
        findings.enter(Check::RecorderCannotUntag, untag).await;
    }

    async fn protects(&self, findings: &mut Findings) {
        let hold = self.both("hold", |by, it| async move { by.holds(&it.version).await });
        findings.enter(Check::RecorderCannotSetLegalHold, hold).await;
        let unhold = self.both("unhold", |by, it| async move { by.unholds(&it.version).await });
        findings.enter(Check::RecorderCannotClearLegalHold, unhold).await;
        let retain = self.both("retain", |by, it| async move { by.retains(&it.version).await });
        findings.enter(Check::RecorderCannotSetRetention, retain).await;
        let born = |folder: &str, name: &str, lock| canary(folder, name).with(lock);
        findings
            .enter(Check::RecorderCannotPutWithLegalHold, async {
                let theirs = born(&self.theirs, "put-held", Lock::LegalHold);
                let ours = born(&self.ours, "put-held", Lock::LegalHold);
                let had_effect = self.recorder.puts_held(&theirs).await?;
                Ok(Verdict::refused(had_effect, self.operator.puts_held(&ours).await?))
            })
            .await;
        findings
            .enter(Check::RecorderCannotPutWithRetention, async {
                let theirs = born(&self.theirs, "put-retained", Lock::Retention);
                let ours = born(&self.ours, "put-retained", Lock::Retention);
                let had_effect = self.recorder.puts_retained(&theirs).await?;
                Ok(Verdict::refused(had_effect, self.operator.puts_retained(&ours).await?))
            })
            .await;
    }

    async fn puts(&self, findings: &mut Findings) {
        let tagged = |name: &str, tag| Canary::new(format!("{}{name}", self.theirs), tag);
        findings
            .enter(Check::RecorderCanPutSealed, async {
                let sealed = tagged("tagged-sealed", Some(RetentionTag::Sealed));
                Ok(Verdict::is_so(self.recorder.puts(&sealed).await?))
            })
            .await;
        for (check, name, tag) in [
            (Check::RecorderCannotPutHeld, "tagged-held", Some(RetentionTag::Held)),
            (Check::RecorderCannotPutOtherTag, "tagged-calls", Some(RetentionTag::Calls)),
            (Check::RecorderCannotPutUntagged, "untagged", None),
        ] {
            let other = tagged(name, tag);
            // That its own tag arrives there was shown by RecorderCanPut.
            let put = async { Ok(Verdict::refused(self.recorder.puts(&other).await?, true)) };
            findings.enter(check, put).await;
        }
        let again =
            self.both("again", |by, it| async move { by.puts_again(&it.canary.unconditional()).await });
        findings.enter(Check::RecorderCannotOverwrite, again).await;
        findings
            .enter(Check::RecorderCannotPutElsewhere, async {
                let had_effect = self.recorder.puts(&canary(&self.elsewhere, "theirs")).await?;
                let control = self.operator.puts(&canary(&self.elsewhere, "ours")).await?;
                Ok(Verdict::refused(had_effect, control))
            })
            .await;
    }

    async fn removes(&self, findings: &mut Findings) {
        let delete = self.both("delete", |by, it| async move { by.deletes(&it.canary).await });
        findings.enter(Check::RecorderCannotDelete, delete).await;
        for (check, by) in
            [(Check::RecorderCannotDeleteVersion, By::Id), (Check::RecorderCannotBatchDelete, By::Batch)]
        {
            let delete = self
                .both(check.as_str(), |who, it| async move { who.deletes_version(&it.version, by).await });
            findings.enter(check, delete).await;
        }
    }
}

fn canary(folder: &str, name: &str) -> Canary {
    Canary::new(format!("{folder}{name}"), Some(RetentionTag::Video))
}
