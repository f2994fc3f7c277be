//! The conformance probe: whether a store keeps what the promises rest on. Everything is tried on canaries
//! under `probe/` and judged by the effect that the operator reads back, never by the status of an answer:
//! stores accept a lock and delete anyway, and refuse with any status. What must have no effect is also tried
//! by somebody who may; only where it has an effect then, the row holds. What cannot be tried is unknown.
//!
//! [`run`] fills the table of a Site's bucket, under the policy that is there; [`standalone`] that of an empty
//! bucket at any store.

pub(crate) mod actor;
mod anonymous;
pub(crate) mod canary;
mod checks;
pub(crate) mod everyone_else;
#[cfg(test)]
mod fake_stores;
pub(crate) mod initial_bucket;
#[cfg(test)]
mod memory_store;
mod operator;
mod recorder;
pub mod request;
pub mod standalone;
mod table;
pub(crate) mod tag_conditions;

use serde_json::Value;

pub use self::checks::{Check, CheckInfo, Principal, ProbeException, Severity};
pub use self::table::{Conformance, Row, UnknownReason, Verdict};

use self::actor::Actor;
use self::canary::{random_name, remove_canaries};
use self::table::ConformanceFindings;
use self::tag_conditions::ProbePolicy;
use super::policy::actions::{BucketRef, CANARY_PREFIX, ResourceArns};
use super::policy::dialect::EveryoneExcept;
use crate::storage::s3::client::BucketClient;
use crate::storage::s3::error::StoreError;

/// Who is tried, and what is known already.
#[derive(Clone, Copy)]
pub(crate) struct ProbeTarget<'a> {
    pub(crate) operator: &'a BucketClient,
    /// `None`: their credentials were not given.
    pub(crate) recorder: Option<&'a BucketClient>,
    pub(crate) anonymous: &'a BucketClient,
    /// The policy that is there. An error: why no statement can be tried.
    pub(crate) policy: Result<ExistingPolicy<'a>, &'a UnknownReason>,
    /// Whether lifecycle rules read back as they were written: whoever wrote them has seen.
    pub(crate) lifecycle: &'a Verdict,
}

#[derive(Clone, Copy)]
pub(crate) struct ExistingPolicy<'a> {
    pub(crate) statements: &'a [Value],
    /// The operator as the store's policies name it.
    pub(crate) operator: &'a str,
    /// Whom its Deny for everyone else exempts beside the operator. An error: why that is not tried.
    pub(crate) exemptions: Result<Exemptions<'a>, &'static str>,
}

/// Whom a policy exempts from what everyone else is denied, beside the operator.
#[derive(Clone, Copy)]
pub(crate) struct Exemptions<'a> {
    pub(crate) others: EveryoneExcept,
    pub(crate) recorder: &'a str,
    pub(crate) auditor: Option<&'a str>,
    pub(crate) readers: &'a [String],
}

/// Tries everything, and removes what that left. Beside the table: whether the policy is again what it was.
pub(crate) async fn run(subject: ProbeTarget<'_>) -> (Conformance, Result<(), StoreError>) {
    // What another run was stopped before it could remove goes too.
    remove_canaries(subject.operator, "probe/").await;
    let mut findings = ConformanceFindings::default();
    let restored = run_stages(subject, &mut findings).await;
    remove_canaries(subject.operator, "probe/").await;
    let conformance = findings.into_conformance("the recorders' credentials were not given");
    (conformance, restored)
}

async fn run_stages(subject: ProbeTarget<'_>, findings: &mut ConformanceFindings) -> Result<(), StoreError> {
    let name = random_name();
    let actor_for = |actor| Actor { store: actor, observer: subject.operator };
    let operator = actor_for(subject.operator);
    let operator_folder = |stage: &str| format!("probe/operator/{name}/{stage}/");
    findings.set(Check::LifecycleReadsBack, Ok(subject.lifecycle.clone()));
    let store = operator::StoreStage { operator, folder: operator_folder("store") };
    let recorder = subject.recorder.map(|recorder| recorder::RecorderStage {
        recorder: actor_for(recorder),
        operator,
        recorder_folder: format!("{CANARY_PREFIX}{name}/"),
        operator_folder: operator_folder("recorder"),
        forbidden_folder: format!("probe/elsewhere/{name}/"),
    });
    let anonymous = anonymous::AnonymousStage {
        anonymous: actor_for(subject.anonymous),
        operator,
        folder: operator_folder("anonymous"),
    };
    // Each has canaries of its own.
    let mut partial =
        [ConformanceFindings::default(), ConformanceFindings::default(), ConformanceFindings::default()];
    let [of_store, of_recorder, of_anonymous] = &mut partial;
    tokio::join!(
        Box::pin(store.run(of_store)),
        Box::pin(async {
            if let Some(stage) = &recorder {
                stage.run(of_recorder).await;
            }
        }),
        Box::pin(anonymous.run(of_anonymous)),
    );
    for found in partial {
        findings.merge(found);
    }
    let standing = match subject.policy {
        Ok(standing) => standing,
        Err(why) => {
            tag_conditions::set_all_unknown(findings, why);
            findings.set(Check::EveryoneElseIsDenied, Err(why.clone()));
            return Ok(());
        }
    };
    let resources = || ResourceArns::new(BucketRef::from(subject.operator), standing.operator);
    let added = ProbePolicy {
        operator,
        statements: standing.statements,
        principal: standing.operator,
        resources: &resources(),
    };
    let folder = format!("probe/tagged/{name}/");
    tag_conditions::TagConditionStage { policy: added, folder }.run(findings).await?;
    let exempt = match standing.exemptions {
        Ok(exempt) => exempt,
        Err(why) => {
            findings.set(Check::EveryoneElseIsDenied, Err(UnknownReason::NotTried(why)));
            return Ok(());
        }
    };
    let stage = everyone_else::EveryoneElseStage {
        operator,
        recorder: subject.recorder.map(actor_for),
        operator_folder: format!("probe/tagged/{name}/stranger/"),
        recorder_folder: format!("{CANARY_PREFIX}{name}/stranger/"),
        policy: standing.statements,
        others: exempt.others,
        operator_principal: standing.operator,
        recorder_principal: exempt.recorder,
        people: exempt.auditor.into_iter().chain(exempt.readers.iter().map(String::as_str)).collect(),
        resources: resources(),
    };
    stage.run(findings).await
}
