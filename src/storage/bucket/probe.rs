//! The conformance probe: tries whether a store keeps what the promises depend on. It makes attempts on canaries under `probe/`
//! and judges them by their effect, which the operator reads back. The status of an answer does not count: stores accept a lock
//! and delete the object, and reject with any status. An attempt that must have no effect is also made by an identity that has
//! the right: only if it has an effect then, the row passes. Without a result, the row is unknown.
//!
//! [`run`] probes a Site's bucket under its present policy; [`standalone`] probes an empty bucket at any store.

mod access;
pub(crate) mod actor;
pub(crate) mod canary;
mod checks;
pub(crate) mod everyone_else;
#[cfg(test)]
mod fake_stores;
#[cfg(test)]
mod memory_store;
mod operator;
pub mod request;
pub mod standalone;
mod table;
pub(crate) mod tag_conditions;

use serde_json::Value;

pub use self::checks::{Check, CheckInfo, ProbeException};
pub use self::table::{Conformance, Row, UnknownReason, Verdict};

use self::access::AccessStage;
use self::actor::Actor;
use self::canary::{random_name, remove_canaries};
use self::everyone_else::EveryoneElseStage;
use self::operator::StoreStage;
use self::table::ConformanceFindings;
use self::tag_conditions::TagConditionStage;
use super::policy::actions::CANARY_PREFIX;
use super::policy::dialect::EveryoneExcept;
use super::proof::policy::{ProofPolicy, restorable_statements};
use crate::storage::s3::{BucketClient, StoreError};

/// The identities to try, and facts that are already known.
#[derive(Clone, Copy)]
pub(crate) struct ProbeTarget<'a> {
    pub(crate) operator: &'a BucketClient,
    /// `None`: there are no credentials.
    pub(crate) recorder: Option<&'a BucketClient>,
    pub(crate) anonymous: &'a BucketClient,
    /// The present policy. An error: the reason that no statement can be tried.
    pub(crate) policy: Result<ExistingPolicy<'a>, &'a UnknownReason>,
    /// Whether lifecycle rules read back as they were written.
    pub(crate) lifecycle: &'a Verdict,
}

#[derive(Clone, Copy)]
pub(crate) struct ExistingPolicy<'a> {
    pub(crate) statements: &'a [Value],
    /// The operator, as the store's policies name it.
    pub(crate) operator: &'a str,
    /// Identities that the Deny for everyone else exempts beside the operator. An error: the reason that it cannot be tried.
    pub(crate) exemptions: Result<Exemptions<'a>, &'static str>,
}

#[derive(Clone, Copy)]
pub(crate) struct Exemptions<'a> {
    pub(crate) others: EveryoneExcept,
    pub(crate) recorder: &'a str,
    pub(crate) auditor: Option<&'a str>,
    pub(crate) readers: &'a [String],
}

/// Runs all checks, and removes the canaries. The second value: whether the policy is restored.
pub(crate) async fn run(target: ProbeTarget<'_>) -> (Conformance, Result<(), StoreError>) {
    // An aborted run may have left canaries.
    remove_canaries(target.operator, "probe/").await;
    let mut findings = ConformanceFindings::default();
    findings.set(Check::LifecycleReadsBack, Ok(target.lifecycle.clone()));
    let name = random_name();
    run_identity_stages(target, &name, &mut findings).await;
    let restored = run_policy_stages(target, &name, &mut findings).await;
    // Also after an error: canaries may have locks, and each run would add more.
    remove_canaries(target.operator, "probe/").await;
    (findings.into_conformance("the recorders' credentials were not given"), restored)
}

/// Runs the stages that leave the policy as it is, concurrently: each has canaries of its own.
async fn run_identity_stages(target: ProbeTarget<'_>, name: &str, findings: &mut ConformanceFindings) {
    let actor_for = |store| Actor { store, observer: target.operator };
    let operator = actor_for(target.operator);
    let folder = |stage: &str| format!("probe/operator/{name}/{stage}/");
    let store = StoreStage { operator, folder: folder("store") };
    let recorder = target.recorder.map(|recorder| AccessStage {
        subject: actor_for(recorder),
        operator,
        subject_folder: format!("{CANARY_PREFIX}{name}/"),
        operator_folder: folder("recorder"),
    });
    let anonymous = AccessStage {
        subject: actor_for(target.anonymous),
        operator,
        subject_folder: folder("anonymous/theirs"),
        operator_folder: folder("anonymous/ours"),
    };
    let forbidden_folder = format!("probe/elsewhere/{name}/");
    // One table each: the stages run at the same time, and each counts its own unanswered attempts.
    let mut partial: [ConformanceFindings; 3] = Default::default();
    let [of_store, of_recorder, of_anonymous] = &mut partial;
    tokio::join!(
        Box::pin(store.run(of_store)),
        Box::pin(async {
            if let Some(stage) = &recorder {
                stage.run_recorder(&forbidden_folder, of_recorder).await;
            }
        }),
        Box::pin(anonymous.run_anonymous(of_anonymous)),
    );
    for found in partial {
        findings.merge(found);
    }
}

/// Runs the stages that add statements to the policy. An error: the policy could not be restored.
async fn run_policy_stages(
    target: ProbeTarget<'_>,
    name: &str,
    findings: &mut ConformanceFindings,
) -> Result<(), StoreError> {
    let policy = match target.policy {
        Ok(policy) => policy,
        Err(reason) => {
            tag_conditions::set_all_unknown(findings, reason);
            findings.set(Check::EveryoneElseIsDenied, Err(reason.clone()));
            return Ok(());
        }
    };
    let operator = Actor { store: target.operator, observer: target.operator };
    let statements = restorable_statements(policy.statements);
    let folder = format!("probe/tagged/{name}/");
    let trial = ProofPolicy::new(target.operator, policy.operator, &folder, &statements);
    TagConditionStage { operator, policy: &trial }.run(findings).await?;
    let exemptions = match policy.exemptions {
        Ok(exemptions) => exemptions,
        Err(reason) => {
            findings.set(Check::EveryoneElseIsDenied, Err(UnknownReason::NotTried(reason)));
            return Ok(());
        }
    };
    let folder = format!("{folder}stranger/");
    let trial = ProofPolicy::new(target.operator, policy.operator, &folder, &statements);
    let stage = EveryoneElseStage {
        operator,
        recorder: target.recorder.map(|store| Actor { store, observer: target.operator }),
        recorder_folder: format!("{CANARY_PREFIX}{name}/stranger/"),
        policy: &trial,
        others: exemptions.others,
        recorder_principal: exemptions.recorder,
        people: exemptions.auditor.into_iter().chain(exemptions.readers.iter().map(String::as_str)).collect(),
    };
    stage.run(findings).await
}
