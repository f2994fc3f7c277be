//! What the recorders' credentials can do. Everything that must be refused is tried by the operator, too, on a
//! canary of its own: only where it then has an effect does "no effect" mean that it was refused.

use std::time::Duration;

use super::actor::{Actor, DeleteMethod, WrittenCanary};
use super::canary::{Canary, CanaryLock};
use super::checks::Check;
use super::table::{ConformanceFindings, NO_CANARY, UnknownReason, Verdict};
use crate::rules::recording::tag::RetentionTag;
use crate::storage::s3::error::StoreError;

/// How often a first write is tried: a policy that was just put may not count at once.
const FIRST_PUT_ATTEMPTS: u32 = 10;
const PAUSE: Duration = Duration::from_millis(500);

/// Both who are tried, and where.
pub(crate) struct RecorderStage<'a> {
    pub(crate) recorder: Actor<'a>,
    /// The operator in the recorder's place: the control.
    pub(crate) operator: Actor<'a>,
    /// Folder of the recorder's canaries, under the same statements as recordings.
    pub(crate) recorder_folder: String,
    pub(crate) operator_folder: String,
    /// A key where a recorder has nothing to write.
    pub(crate) forbidden_folder: String,
}

impl RecorderStage<'_> {
    pub(crate) async fn run(&self, findings: &mut ConformanceFindings) {
        match findings.run_attempt(self.wait_for_first_put()).await {
            Ok(true) => findings.set(Check::RecorderCanPut, Ok(Verdict::Passed)),
            told => {
                findings.set(Check::RecorderCanPut, told.map(Verdict::from_expectation));
                // What it cannot do with an object of its own shows nothing when it can have none.
                for check in Check::ALL {
                    let is_recorders = check.as_str().starts_with("RecorderCannot");
                    if is_recorders || matches!(check, Check::OperatorCannotGet | Check::RecorderCanPutSealed)
                    {
                        findings.set(*check, Err(UnknownReason::Inconclusive(NO_CANARY)));
                    }
                }
                return;
            }
        }
        self.check_reads(findings).await;
        self.check_retagging(findings).await;
        self.check_locking(findings).await;
        self.check_puts(findings).await;
        self.check_deletes(findings).await;
    }

    /// Whether the recorder can write, waiting for a policy that was just put.
    async fn wait_for_first_put(&self) -> Result<bool, UnknownReason> {
        for attempt in 0..FIRST_PUT_ATTEMPTS {
            let first = canary(&self.recorder_folder, &format!("first-{attempt}"));
            if self.recorder.can_put(&first).await? {
                return Ok(true);
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(false)
    }

    /// The same on a canary of the recorder by the recorder, and on one of the operator by the operator.
    async fn compare_with_operator<'s, F, E>(
        &'s self,
        name: &str,
        attempt: F,
    ) -> Result<Verdict, UnknownReason>
    where
        F: Fn(Actor<'s>, WrittenCanary) -> E,
        E: Future<Output = Result<bool, StoreError>>,
    {
        let theirs = self.recorder.create_canary(canary(&self.recorder_folder, name)).await?;
        let had_effect = attempt(self.recorder, theirs).await?;
        let ours = self.operator.create_canary(canary(&self.operator_folder, name)).await?;
        let control = attempt(self.operator, ours).await?;
        Ok(Verdict::from_attempt(had_effect, control))
    }

    async fn check_reads(&self, findings: &mut ConformanceFindings) {
        let get =
            self.compare_with_operator("get", |by, it| async move { by.can_read(&it.canary, None).await });
        findings.record(Check::RecorderCannotGet, get).await;
        let get = self.compare_with_operator("get-version", |by, it| async move {
            by.can_read(&it.canary, Some(&it.version.id)).await
        });
        findings.record(Check::RecorderCannotGetVersion, get).await;
        let list =
            self.compare_with_operator("list", |by, it| async move { by.can_list(&it.canary.key).await });
        findings.record(Check::RecorderCannotList, list).await;
        let list = self.compare_with_operator("list-versions", |by, it| async move {
            by.can_list_versions(&it.canary.key).await
        });
        findings.record(Check::RecorderCannotListVersions, list).await;
        findings
            .record(Check::OperatorCannotGet, async {
                let theirs = self.recorder.create_canary(canary(&self.recorder_folder, "watched")).await?;
                let had_effect = self.operator.can_read(&theirs.canary, None).await?
                    || self.operator.can_read(&theirs.canary, Some(&theirs.version.id)).await?;
                let ours = self.operator.create_canary(canary(&self.operator_folder, "watched")).await?;
                let control = self.operator.can_read(&ours.canary, None).await?
                    && self.operator.can_read(&ours.canary, Some(&ours.version.id)).await?;
                Ok(Verdict::from_attempt(had_effect, control))
            })
            .await;
    }

    async fn check_retagging(&self, findings: &mut ConformanceFindings) {
        let retag = self
            .compare_with_operator("retag", |by, it| async move { by.can_retag(&it.version, false).await });
        findings.record(Check::RecorderCannotRetag, retag).await;
        let retag = self.compare_with_operator("retag-version", |by, it| async move {
            by.can_retag(&it.version, true).await
        });
        findings.record(Check::RecorderCannotRetagVersion, retag).await;
        let untag =
            self.compare_with_operator("untag", |by, it| async move { by.can_untag(&it.version).await });
        findings.record(Check::RecorderCannotUntag, untag).await;
    }

    async fn check_locking(&self, findings: &mut ConformanceFindings) {
        let hold =
            self.compare_with_operator("hold", |by, it| async move { by.can_set_hold(&it.version).await });
        findings.record(Check::RecorderCannotSetLegalHold, hold).await;
        let unhold = self
            .compare_with_operator("unhold", |by, it| async move { by.can_clear_hold(&it.version).await });
        findings.record(Check::RecorderCannotClearLegalHold, unhold).await;
        let retain = self
            .compare_with_operator("retain", |by, it| async move { by.can_set_retention(&it.version).await });
        findings.record(Check::RecorderCannotSetRetention, retain).await;
        let born = |folder: &str, name: &str, lock| canary(folder, name).with_lock(lock);
        findings
            .record(Check::RecorderCannotPutWithLegalHold, async {
                let theirs = born(&self.recorder_folder, "put-held", CanaryLock::LegalHold);
                let ours = born(&self.operator_folder, "put-held", CanaryLock::LegalHold);
                let had_effect = self.recorder.can_put_held(&theirs).await?;
                Ok(Verdict::from_attempt(had_effect, self.operator.can_put_held(&ours).await?))
            })
            .await;
        findings
            .record(Check::RecorderCannotPutWithRetention, async {
                let theirs = born(&self.recorder_folder, "put-retained", CanaryLock::Retention);
                let ours = born(&self.operator_folder, "put-retained", CanaryLock::Retention);
                let had_effect = self.recorder.can_put_retained(&theirs).await?;
                Ok(Verdict::from_attempt(had_effect, self.operator.can_put_retained(&ours).await?))
            })
            .await;
    }

    async fn check_puts(&self, findings: &mut ConformanceFindings) {
        let tagged = |name: &str, tag| Canary::new(format!("{}{name}", self.recorder_folder), tag);
        findings
            .record(Check::RecorderCanPutSealed, async {
                let sealed = tagged("tagged-sealed", Some(RetentionTag::Sealed));
                Ok(Verdict::from_expectation(self.recorder.can_put(&sealed).await?))
            })
            .await;
        for (check, name, tag) in [
            (Check::RecorderCannotPutHeld, "tagged-held", Some(RetentionTag::Held)),
            (Check::RecorderCannotPutOtherTag, "tagged-calls", Some(RetentionTag::Calls)),
            (Check::RecorderCannotPutUntagged, "untagged", None),
        ] {
            let other = tagged(name, tag);
            // That its own tag arrives there was shown by RecorderCanPut.
            let put = async { Ok(Verdict::from_attempt(self.recorder.can_put(&other).await?, true)) };
            findings.record(check, put).await;
        }
        let again = self.compare_with_operator("again", |by, it| async move {
            by.can_overwrite(&it.canary.unconditional()).await
        });
        findings.record(Check::RecorderCannotOverwrite, again).await;
        findings
            .record(Check::RecorderCannotPutElsewhere, async {
                let had_effect = self.recorder.can_put(&canary(&self.forbidden_folder, "theirs")).await?;
                let control = self.operator.can_put(&canary(&self.forbidden_folder, "ours")).await?;
                Ok(Verdict::from_attempt(had_effect, control))
            })
            .await;
    }

    async fn check_deletes(&self, findings: &mut ConformanceFindings) {
        let delete =
            self.compare_with_operator("delete", |by, it| async move { by.can_delete(&it.canary).await });
        findings.record(Check::RecorderCannotDelete, delete).await;
        for (check, by) in [
            (Check::RecorderCannotDeleteVersion, DeleteMethod::Id),
            (Check::RecorderCannotBatchDelete, DeleteMethod::Batch),
        ] {
            let delete = self.compare_with_operator(check.as_str(), |who, it| async move {
                who.can_delete_version(&it.version, by).await
            });
            findings.record(check, delete).await;
        }
    }
}

fn canary(folder: &str, name: &str) -> Canary {
    Canary::new(format!("{folder}{name}"), Some(RetentionTag::Video))
}
