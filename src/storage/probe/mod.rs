//! The conformance probe: whether a store keeps what the promises rest on. Everything is tried on canaries
//! under `probe/` and judged by the effect that the operator reads back, never by the status of an answer:
//! stores accept a lock and delete anyway, and refuse with any status. What must have no effect is also tried
//! by somebody who may; only where it has an effect then, the row holds. What cannot be tried is unknown.
//!
//! [`run`] fills the table of a Site's bucket, under the policy that is there; [`standalone`] that of an empty
//! bucket at any store.

mod anonymous;
mod attempts;
pub(super) mod canary;
mod checks;
#[cfg(test)]
mod files;
mod ground;
#[cfg(test)]
mod impostors;
mod operator;
mod recorder;
pub mod standalone;
mod stranger;
mod table;
mod tagged;

use serde_json::Value;

pub use checks::{About, Check, Exception, Principal, Severity};
pub use table::{Conformance, Row, Verdict, Why};

use self::attempts::Tries;
use self::canary::{random_name, sweep};
use self::table::Findings;
use self::tagged::Added;
use super::client::Store;
use super::dialect::Others;
use super::error::StoreError;
use super::statements::{CANARIES, Place, Resources};

/// Who is tried, and what is known already.
#[derive(Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) operator: &'a Store,
    /// `None`: their credentials were not given.
    pub(crate) recorder: Option<&'a Store>,
    pub(crate) anonymous: &'a Store,
    /// The policy that is there. An error: why no statement can be tried.
    pub(crate) policy: Result<Standing<'a>, &'a Why>,
    /// Whether lifecycle rules read back as they were written: whoever wrote them has seen.
    pub(crate) lifecycle: &'a Verdict,
}

/// A policy that is there.
#[derive(Clone, Copy)]
pub(crate) struct Standing<'a> {
    pub(crate) statements: &'a [Value],
    /// The operator as the store's policies name it.
    pub(crate) operator: &'a str,
    /// Whom its Deny for everyone else exempts beside the operator. An error: why that is not tried.
    pub(crate) exempt: Result<Exempt<'a>, &'static str>,
}

/// Whom a policy exempts from what everyone else is denied, beside the operator.
#[derive(Clone, Copy)]
pub(crate) struct Exempt<'a> {
    /// How it says "everyone but".
    pub(crate) others: Others,
    pub(crate) recorder: &'a str,
    pub(crate) auditor: Option<&'a str>,
    pub(crate) readers: &'a [String],
}

/// Tries everything, and removes what that left. Beside the table: whether the policy is again what it was.
pub(crate) async fn run(subject: Subject<'_>) -> (Conformance, Result<(), StoreError>) {
    // What another run was stopped before it could remove goes too.
    sweep(subject.operator, "probe/").await;
    let mut findings = Findings::default();
    let restored = fill(subject, &mut findings).await;
    sweep(subject.operator, "probe/").await;
    let conformance = findings.complete("the recorders' credentials were not given");
    (conformance, restored)
}

async fn fill(subject: Subject<'_>, findings: &mut Findings) -> Result<(), StoreError> {
    let name = random_name();
    let by = |actor| Tries { actor, operator: subject.operator };
    let operator = by(subject.operator);
    let ours = |stage: &str| format!("probe/operator/{name}/{stage}/");
    findings.set(Check::LifecycleIsKept, Ok(subject.lifecycle.clone()));
    let store = operator::Stage { operator, folder: ours("store") };
    let recorder = subject.recorder.map(|recorder| recorder::Stage {
        recorder: by(recorder),
        operator,
        theirs: format!("{CANARIES}{name}/"),
        ours: ours("recorder"),
        elsewhere: format!("probe/elsewhere/{name}/"),
    });
    let anonymous =
        anonymous::Stage { anonymous: by(subject.anonymous), operator, folder: ours("anonymous") };
    // Each has canaries of its own.
    let mut found = [Findings::default(), Findings::default(), Findings::default()];
    let [of_store, of_recorder, of_anonymous] = &mut found;
    tokio::join!(
        Box::pin(store.run(of_store)),
        Box::pin(async {
            if let Some(stage) = &recorder {
                stage.run(of_recorder).await;
            }
        }),
        Box::pin(anonymous.run(of_anonymous)),
    );
    for found in found {
        findings.add(found);
    }
    let standing = match subject.policy {
        Ok(standing) => standing,
        Err(why) => {
            tagged::fail(findings, why);
            findings.set(Check::EveryoneElseIsDenied, Err(why.clone()));
            return Ok(());
        }
    };
    let resources = || Resources::of(Place::from(subject.operator), standing.operator);
    let added = Added {
        operator,
        policy: standing.statements,
        principal: standing.operator,
        resources: &resources(),
    };
    let folder = format!("probe/tagged/{name}/");
    tagged::Stage { added, folder }.run(findings).await?;
    let exempt = match standing.exempt {
        Ok(exempt) => exempt,
        Err(why) => {
            findings.set(Check::EveryoneElseIsDenied, Err(Why::NotTried(why)));
            return Ok(());
        }
    };
    let stage = stranger::Stage {
        operator,
        recorder: subject.recorder.map(by),
        ours: format!("probe/tagged/{name}/stranger/"),
        theirs: format!("{CANARIES}{name}/stranger/"),
        policy: standing.statements,
        others: exempt.others,
        operator_principal: standing.operator,
        recorder_principal: exempt.recorder,
        people: exempt.auditor.into_iter().chain(exempt.readers.iter().map(String::as_str)).collect(),
        resources: resources(),
    };
    stage.run(findings).await
}
