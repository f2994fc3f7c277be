//! What the recorders say of themselves, and what follows for the Site.

use futures::{StreamExt, stream};
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::apply::AppliedRecorders;
use super::names::Names;
use super::plan::Expected;
use super::validate::Valid;
use crate::api::condition::{ConditionType, Finding, Reason, Truth};
use crate::contract::RecorderStatus;
use crate::controllers::recorders::{self, RecorderError, Recorders, verdict};

/// At most so many cameras are named in a message.
const MOST_NAMED: usize = 10;
/// Recorders that are asked at once.
const AT_ONCE: usize = 16;

/// What one recorder says, by its ordinal.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// Ordinal of the pod.
    pub shard: u32,
    /// What it says.
    pub status: Result<RecorderStatus, RecorderError>,
}

/// Asks every recorder that should be there.
pub async fn ask(recorders: &Recorders, names: &Names, applied: &AppliedRecorders) -> Vec<Answer> {
    let ask = |shard: u32| async move {
        let name = format!("{}-{shard}", names.recorder);
        let pod = applied.pods.iter().find(|pod| pod.name_any() == name);
        let status = match pod.ok_or(RecorderError::NoAddress).and_then(|pod: &Pod| recorders::address(pod)) {
            Ok(address) => {
                let Expected { api, revision, .. } = &applied.expected;
                recorders.status_at(address, api, revision).await
            }
            Err(error) => Err(error),
        };
        Answer { shard, status }
    };
    stream::iter((0..applied.expected.pods).map(ask)).buffered(AT_ONCE).collect().await
}

/// Whether every recorder answers and follows the configuration that it should; why not otherwise.
pub fn lagging(answers: &[Answer], revision: &str) -> Option<String> {
    let of = |answer: &Answer| match &answer.status {
        Err(error) => Some(format!("recorder {}: {error}", answer.shard)),
        Ok(status) if status.revision == revision => None,
        Ok(status) => Some(match &status.refused {
            Some(refused) if refused.revision.as_deref() == Some(revision) => {
                format!("recorder {} refuses its configuration: {}", answer.shard, refused.message)
            }
            _ => format!("recorder {} does not follow the newest configuration yet", answer.shard),
        }),
    };
    let lagging: Vec<String> = answers.iter().filter_map(of).collect();
    (!lagging.is_empty()).then(|| lagging.join("; "))
}

/// `Recording` of the Site, and how many of its cameras record.
pub fn finding(
    valid: &Valid,
    may_record: bool,
    answers: &[Answer],
    segment: SignedDuration,
) -> (Finding, usize) {
    let total = valid.cameras.len() + valid.left_out.len();
    let not = |truth, reason, message: &str| Finding::new(ConditionType::Recording, truth, reason, message);
    if total == 0 {
        return (not(Truth::False, Reason::NoCameras, "no Camera names this site in spec.siteRef"), 0);
    }
    if !may_record {
        return (
            not(Truth::False, Reason::DependsOn, "nothing is recorded: see Accepted and StorageEnforced"),
            0,
        );
    }
    if !valid.permission.finding.is_true() {
        let reason = match valid.permission.finding.reason {
            Reason::Suspended => Reason::Suspended,
            _ => Reason::DependsOn,
        };
        return (not(Truth::False, reason, "nothing is recorded now: see Permitted"), 0);
    }
    let verdicts: Vec<(&str, Finding)> = valid
        .cameras
        .iter()
        .map(|camera| (camera.name.as_str(), of_camera(&camera.name, answers, segment)))
        .collect();
    let recording = verdicts.iter().filter(|(_, verdict)| verdict.is_true()).count();
    if recording == total {
        return (
            not(Truth::True, Reason::Recording, "all cameras record and the store confirms their segments"),
            recording,
        );
    }
    let left_out = valid.left_out.iter().map(|name| format!("{name} (not accepted)"));
    let silent = verdicts.iter().filter(|(_, verdict)| !verdict.is_true());
    let silent =
        silent.map(|(name, verdict)| format!("{name} ({})", <&str>::from(verdict.reason))).chain(left_out);
    (partly(recording, total, silent.collect(), &verdicts), recording)
}

/// Some cameras do not record: which, and why.
fn partly(recording: usize, total: usize, silent: Vec<String>, verdicts: &[(&str, Finding)]) -> Finding {
    let covered = verdicts.iter().filter(|(_, verdict)| verdict.reason == Reason::Suspended).count();
    let is_planned = covered == silent.len();
    let more = silent.len().saturating_sub(MOST_NAMED);
    let mut named = silent.into_iter().take(MOST_NAMED).collect::<Vec<_>>().join(", ");
    if more > 0 {
        named = format!("{named} and {more} more");
    }
    let is_unknown =
        verdicts.iter().all(|(_, verdict)| verdict.truth == Truth::Unknown) && !verdicts.is_empty();
    let (truth, reason) = match verdicts.first() {
        // The recorders cannot be asked.
        Some((_, first)) if is_unknown => (Truth::Unknown, first.reason),
        // All for the same reason: that is the site's reason too.
        Some((_, first))
            if recording == 0 && verdicts.iter().all(|(_, verdict)| verdict.reason == first.reason) =>
        {
            (Truth::False, first.reason)
        }
        // Only those that somebody covered: nothing to be warned of.
        _ if is_planned => (Truth::False, Reason::Suspended),
        _ => (Truth::False, Reason::SomeSilent),
    };
    Finding::new(
        ConditionType::Recording,
        truth,
        reason,
        format!("{recording} of {total} cameras record; not: {named}"),
    )
}

/// `Recording` of one camera, from what the recorder that carries it says.
fn of_camera(name: &str, answers: &[Answer], segment: SignedDuration) -> Finding {
    let statuses = answers.iter().filter_map(|answer| answer.status.as_ref().ok());
    let mut reports =
        statuses.flat_map(|status| status.cameras.iter().map(move |report| (report, status.now)));
    match reports.find(|(report, _)| report.name == name) {
        Some((report, now)) => verdict::camera(report, segment, now),
        None if answers.iter().any(|answer| answer.status.is_err()) => Finding::new(
            ConditionType::Recording,
            Truth::Unknown,
            Reason::RecorderNotReady,
            "its recorder does not answer",
        ),
        None => Finding::new(
            ConditionType::Recording,
            false,
            Reason::Connecting,
            "its recorder does not know it yet",
        ),
    }
}

#[cfg(test)]
#[path = "recording_tests.rs"]
mod tests;
