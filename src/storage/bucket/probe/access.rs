//! The rights of recorders and of requests without credentials. Each attempt must have no effect. The operator makes the same
//! attempt on a canary of its own: only if that has an effect, "no effect" means that the store denied the attempt.

use std::time::Duration;

use super::actor::Attempt::{
    ClearHold, Delete, DeleteVersion, List, ListVersions, Overwrite, Read, ReadVersion, Retag, RetagVersion,
    SetHold, SetRetention, Untag,
};
use super::actor::{Actor, Attempt, DeleteMethod};
use super::canary::{Canary, CanaryLock};
use super::checks::Check;
use super::table::{ConformanceFindings, NO_CANARY, UnknownReason, Verdict, VerdictResult};
use crate::rules::RetentionTag;

/// Attempts to put a first object: stores take a moment to apply a new policy.
const FIRST_PUT_ATTEMPTS: u32 = 10;
const PAUSE: Duration = Duration::from_millis(500);

/// Attempts of the recorder on objects that it wrote.
const RECORDER_ATTEMPTS: [(Check, Attempt); 14] = [
    (Check::RecorderCannotGet, Read),
    (Check::RecorderCannotGetVersion, ReadVersion),
    (Check::RecorderCannotList, List),
    (Check::RecorderCannotListVersions, ListVersions),
    (Check::RecorderCannotRetag, Retag),
    (Check::RecorderCannotRetagVersion, RetagVersion),
    (Check::RecorderCannotUntag, Untag),
    (Check::RecorderCannotSetLegalHold, SetHold),
    (Check::RecorderCannotClearLegalHold, ClearHold),
    (Check::RecorderCannotSetRetention, SetRetention),
    (Check::RecorderCannotOverwrite, Overwrite),
    (Check::RecorderCannotDelete, Delete),
    (Check::RecorderCannotDeleteVersion, DeleteVersion(DeleteMethod::Id)),
    (Check::RecorderCannotBatchDelete, DeleteVersion(DeleteMethod::Batch)),
];

/// Attempts without credentials on objects of the operator.
const ANONYMOUS_ATTEMPTS: [(Check, Attempt); 6] = [
    (Check::AnonymousCannotGet, Read),
    (Check::AnonymousCannotGetVersion, ReadVersion),
    (Check::AnonymousCannotList, List),
    (Check::AnonymousCannotListVersions, ListVersions),
    (Check::AnonymousCannotDelete, Delete),
    (Check::AnonymousCannotDeleteVersion, DeleteVersion(DeleteMethod::Id)),
];

/// Attempts of the recorder to put an object with a lock.
const LOCKED_PUTS: [(Check, CanaryLock); 2] = [
    (Check::RecorderCannotPutWithLegalHold, CanaryLock::LegalHold),
    (Check::RecorderCannotPutWithRetention, CanaryLock::Retention),
];

/// Attempts of the recorder to put an object with another tag than its own.
const TAGGED_PUTS: [(Check, Option<RetentionTag>); 3] = [
    (Check::RecorderCannotPutHeld, Some(RetentionTag::Held)),
    (Check::RecorderCannotPutOtherTag, Some(RetentionTag::Calls)),
    (Check::RecorderCannotPutUntagged, None),
];

/// The identity under test, and the operator as the control.
pub(crate) struct AccessStage<'a> {
    pub(crate) subject: Actor<'a>,
    pub(crate) operator: Actor<'a>,
    /// Folder of the canaries for the subject.
    pub(crate) subject_folder: String,
    pub(crate) operator_folder: String,
}

impl AccessStage<'_> {
    /// Runs the attempts of a request without credentials.
    pub(crate) async fn run_anonymous(&self, findings: &mut ConformanceFindings) {
        for (check, attempt) in ANONYMOUS_ATTEMPTS {
            // The operator writes the canary: the subject must not be able to.
            findings.record(check, self.compare(self.operator, check, attempt)).await;
        }
        let put = Check::AnonymousCannotPut;
        findings.record(put, self.compare_puts(self.canary(put), self.control_canary(put))).await;
    }

    /// Runs the attempts of a recorder. `forbidden_folder`: a folder where it has nothing to write.
    pub(crate) async fn run_recorder(&self, forbidden_folder: &str, findings: &mut ConformanceFindings) {
        let first = findings.run_attempt(self.wait_for_first_put()).await;
        let can_put = first == Ok(true);
        findings.set(Check::RecorderCanPut, first.map(Verdict::from_expectation));
        if !can_put {
            // A recorder without objects of its own has nothing to make the other attempts on.
            let needs_object = |check: &&Check| {
                check.as_str().starts_with("RecorderCannot")
                    || matches!(check, Check::OperatorCannotGet | Check::RecorderCanPutSealed)
            };
            for check in Check::ALL.iter().filter(needs_object) {
                findings.set(*check, Err(UnknownReason::Inconclusive(NO_CANARY)));
            }
            return;
        }
        for (check, attempt) in RECORDER_ATTEMPTS {
            findings.record(check, self.compare(self.subject, check, attempt)).await;
        }
        findings.record(Check::OperatorCannotGet, self.check_operator_reads()).await;
        for (check, lock) in LOCKED_PUTS {
            let canaries = [self.canary(check), self.control_canary(check)];
            let [theirs, ours] = canaries.map(|canary| canary.with_lock(lock));
            findings.record(check, self.compare_puts(theirs, ours)).await;
        }
        let sealed = self.tagged_canary("tagged-sealed", Some(RetentionTag::Sealed));
        let put = async { Ok(Verdict::from_expectation(self.subject.can_put(&sealed).await?)) };
        findings.record(Check::RecorderCanPutSealed, put).await;
        for (check, tag) in TAGGED_PUTS {
            let canary = self.tagged_canary(check.as_str(), tag);
            // The control is RecorderCanPut: an object with the recorder's own tag arrives.
            let put = async { Ok(Verdict::from_attempt(self.subject.can_put(&canary).await?, true)) };
            findings.record(check, put).await;
        }
        let [theirs, ours] = ["theirs", "ours"].map(|name| video_canary(forbidden_folder, name));
        findings.record(Check::RecorderCannotPutElsewhere, self.compare_puts(theirs, ours)).await;
    }

    fn canary(&self, check: Check) -> Canary {
        self.tagged_canary(check.as_str(), Some(RetentionTag::Video))
    }

    fn tagged_canary(&self, name: &str, tag: Option<RetentionTag>) -> Canary {
        Canary::new(format!("{}{name}", self.subject_folder), tag)
    }

    fn control_canary(&self, check: Check) -> Canary {
        video_canary(&self.operator_folder, check.as_str())
    }

    /// Makes the attempt as the subject on a canary of `writer`, then as the operator on its own.
    async fn compare(&self, writer: Actor<'_>, check: Check, attempt: Attempt) -> VerdictResult {
        let canary = writer.create_canary(self.canary(check)).await?;
        let had_effect = self.subject.attempt(attempt, &canary).await?;
        let control = self.operator.create_canary(self.control_canary(check)).await?;
        Ok(Verdict::from_attempt(had_effect, self.operator.attempt(attempt, &control).await?))
    }

    /// Puts one canary as the subject, then the other one as the operator.
    async fn compare_puts(&self, theirs: Canary, ours: Canary) -> VerdictResult {
        let had_effect = self.subject.can_put(&theirs).await?;
        Ok(Verdict::from_attempt(had_effect, self.operator.can_put(&ours).await?))
    }

    /// Returns whether the recorder can write. Waits for a policy that was just put.
    async fn wait_for_first_put(&self) -> Result<bool, UnknownReason> {
        for attempt in 0..FIRST_PUT_ATTEMPTS {
            let first = video_canary(&self.subject_folder, &format!("first-{attempt}"));
            if self.subject.can_put(&first).await? {
                return Ok(true);
            }
            // Another key for the next attempt: a put with `If-None-Match` fails if the first one arrived late.
            tokio::time::sleep(PAUSE).await;
        }
        Ok(false)
    }

    async fn check_operator_reads(&self) -> VerdictResult {
        let (check, operator) = (Check::OperatorCannotGet, self.operator);
        let theirs = self.subject.create_canary(self.canary(check)).await?;
        let had_effect =
            operator.attempt(Read, &theirs).await? || operator.attempt(ReadVersion, &theirs).await?;
        let ours = operator.create_canary(self.control_canary(check)).await?;
        let control = operator.attempt(Read, &ours).await? && operator.attempt(ReadVersion, &ours).await?;
        Ok(Verdict::from_attempt(had_effect, control))
    }
}

fn video_canary(folder: &str, name: &str) -> Canary {
    Canary::new(format!("{folder}{name}"), Some(RetentionTag::Video))
}
