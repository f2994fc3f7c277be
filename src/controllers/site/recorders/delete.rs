//! Deletion of a Site. Its recorders stop, upload while the store accepts segments, and terminate. The bucket keeps its rules.
//!
//! These steps need neither the store, the policy nor a Secret: all of them may be deleted already, and the namespace may be in
//! deletion. They create nothing but a StatefulSet that another party deleted: see [`super::missing_workload`].

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Resource, ResourceExt};

use super::claims::Spools;
use super::drain::{DrainStatus, drain, is_given_up, is_settled, stop_recording};
use super::missing_workload::{missing_pods, recreate, report_left, report_unproved};
use super::names::ChildNames;
use super::site_holds::SiteHolds;
use super::site_pods::{configured_pods, list_site_pods};
use super::spool_report::{SpoolReport, discard_reason, report_deleted_workload, report_loss};
use super::workload::{delete_workload, is_orphan, is_recorder, is_terminated, replicas, touch_pods};
use crate::api::condition::ConditionFinding;
use crate::api::{IncidentHold, RetentionStatus, Site};
use crate::controllers::context::Context;
use crate::controllers::hold;
use crate::controllers::kubernetes::{ApiError, ApplyError, meta};
use crate::rules::hold::resolution::is_resolved;

/// Interval between two reconciles while pods terminate: a watch can miss the end of one.
pub const POD_POLL_INTERVAL: Duration = Duration::from_secs(5);

/// Phase of a deletion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeletionPhase {
    /// Waiting until these spools are empty.
    Draining(SpoolReport),
    /// Every spool is proved empty or reported as lost. Only once the status says so, the StatefulSet is deleted: afterwards, one that is
    /// gone was deleted by another party.
    Drained,
    /// The StatefulSet is deleted, or the last spools are given up.
    Terminating,
    /// Waiting until the StatefulSet belongs to the Site again. Its remedy.
    Foreign(String),
    /// Waiting for these pods to terminate.
    WaitingForPods(Vec<String>),
    /// Waiting for the end of these volume claims.
    WaitingForClaims(Vec<String>),
    Done,
}

/// Holds that a deletion waits for, by their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockingHolds {
    /// Open holds in effect. Each waits for a person.
    pub open: Vec<String>,
    /// Open holds that are not in effect: they are rejected, or their store is away. Each waits for a person or for the store.
    pub not_in_effect: Vec<String>,
    /// Resolved holds that are not released yet.
    pub releasing: Vec<String>,
    /// Holds that this version cannot deserialize.
    pub unreadable: Vec<String>,
    /// Open holds that only the bucket's ledger has. The Site does not wait for them, but spools do.
    pub orphaned: Vec<String>,
    /// The bucket's ledger was never read, and may have open holds. The Site does not wait for it, but spools do.
    pub is_ledger_unread: bool,
    /// `Accepted` of the Site, if the bucket cannot be used and therefore nothing released.
    pub bucket_unusable: Option<ConditionFinding>,
}

impl BlockingHolds {
    /// Selects the holds of the API server that may need recordings: also those that do not keep any yet. `Err`: the name of one that
    /// cannot be deserialized. `retention`: what the last pass found. `is_ledger_read`: this process read the ledger.
    pub fn new(
        declared: &[Result<IncidentHold, String>],
        retention: Option<&RetentionStatus>,
        is_ledger_read: bool,
        now: Timestamp,
    ) -> Self {
        let readable = declared.iter().filter_map(|hold| hold.as_ref().ok());
        let blocking = readable.filter(|hold| hold::may_need_recordings(hold, now));
        let (releasing, open): (Vec<_>, Vec<_>) = blocking.partition(|hold| is_resolved(hold, now));
        let (open, not_in_effect): (Vec<_>, Vec<_>) =
            open.into_iter().partition(|hold| hold::may_protect_recordings(hold, now));
        let names = |holds: Vec<&IncidentHold>| holds.into_iter().map(ResourceExt::name_any).collect();
        Self {
            open: names(open),
            not_in_effect: names(not_in_effect),
            releasing: names(releasing),
            unreadable: declared.iter().filter_map(|hold| hold.as_ref().err().cloned()).collect(),
            orphaned: retention.map(|retention| retention.orphaned_holds.clone()).unwrap_or_default(),
            is_ledger_unread: !is_ledger_read && !retention.is_some_and(has_read_ledger),
            bucket_unusable: None,
        }
    }

    /// Returns whether the Site must stay.
    pub fn has_holds(&self) -> bool {
        [&self.open, &self.not_in_effect, &self.releasing, &self.unreadable]
            .iter()
            .any(|names| !names.is_empty())
    }

    /// Returns whether a hold may cover what is in the spools.
    pub fn may_need_spools(&self) -> bool {
        self.has_holds() || !self.orphaned.is_empty() || self.is_ledger_unread
    }

    /// Describes how long the Site waits for its spools.
    pub fn spool_wait(&self) -> String {
        if !self.may_need_spools() {
            return "what they still have after ten minutes is lost".to_owned();
        }
        let holds = [&self.open, &self.not_in_effect, &self.releasing, &self.unreadable, &self.orphaned];
        let holds: Vec<&str> = holds.into_iter().flatten().map(String::as_str).collect();
        let holds = (!holds.is_empty())
            .then(|| format!("these holds may cover what they have: {}", holds.join(", ")));
        let unread = self
            .is_ledger_unread
            .then(|| "the bucket's ledger was never read, and may have holds".to_owned());
        let causes: Vec<String> = holds.into_iter().chain(unread).collect();
        format!("this wait has no end, because {}", causes.join(", and "))
    }
}

/// Returns whether a pass over the bucket was ever possible, so that the status has the holds that only its ledger has.
fn has_read_ledger(retention: &RetentionStatus) -> bool {
    // Without a pass, the status has nothing but an error.
    retention.last_error.is_none()
        || retention.last_sweep_time.is_some()
        || retention.last_verification_time.is_some()
}

impl fmt::Display for BlockingHolds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let resolve = "resolve their incidents (spec.state, spec.resolution)";
        for (names, state, remedy) in [
            (&self.open, "open", format!("; {resolve}")),
            (&self.not_in_effect, "open and not in effect", format!("; {resolve}, or delete them")),
            (&self.unreadable, "in a form that this operator does not know", "; apply them again".to_owned()),
            (&self.releasing, "being released", String::new()),
        ] {
            if !names.is_empty() {
                write!(f, "these holds are {state}: {}{remedy}; ", names.join(", "))?;
            }
        }
        f.write_str("the bucket and its rules stay")
    }
}

/// Takes the next step of deleting `site`. `is_held`: an open hold may cover what is in its spools. `holds`: those that its
/// recorders follow.
pub async fn delete(
    context: &Context,
    site: &Site,
    is_held: bool,
    holds: &SiteHolds,
    now: Timestamp,
) -> Result<DeletionPhase, ApplyError> {
    let (client, names) = (&context.client, ChildNames::of(site));
    let workloads = Api::<StatefulSet>::namespaced(client.clone(), &names.namespace);
    let live = workloads.get_opt(&names.recorder).await.map_err(ApiError::from)?;
    let own = live.as_ref().filter(|live| names.owns(&live.metadata));
    if let Some(live) = own.filter(|live| !meta::is_deleting(*live)) {
        return match drain(context, site, live, is_held, holds, now).await? {
            DrainStatus::Pending(report) => Ok(DeletionPhase::Draining(report)),
            DrainStatus::Done if !is_settled(site) => Ok(DeletionPhase::Drained),
            DrainStatus::Done => {
                delete_workload(&workloads, live).await?;
                Ok(DeletionPhase::Terminating)
            }
        };
    }
    if let Some(foreign) = live.as_ref().filter(|_| own.is_none()) {
        let pods = list_site_pods(context, &names, replicas(foreign)).await?;
        if waits_for_owner(site, &names, foreign, &pods) {
            if let Some(closed) = stop_recording(context, &names, holds).await? {
                let recorders: Vec<Pod> = pods.into_iter().filter(|pod| is_recorder(pod, &names)).collect();
                touch_pods(&Api::namespaced(client.clone(), &names.namespace), &recorders, &closed.revision)
                    .await?;
            }
            let (kind, name) = (StatefulSet::kind(&()).into_owned(), names.recorder);
            return Ok(DeletionPhase::Foreign(ApplyError::ForeignObject { kind, name }.to_string()));
        }
    }
    if let Some(live) = own {
        // Until it is gone, it does not say whether its pods go with it.
        let pods = list_site_pods(context, &names, replicas(live)).await?;
        return Ok(waiting_for_pods(&names, &pods).unwrap_or(DeletionPhase::Terminating));
    }
    let mut spools = Spools::list(context, &names, None).await?;
    spools.protect().await?;
    let is_done = is_settled(site) && spools.claims().is_empty();
    let config = if is_done { None } else { stop_recording(context, &names, holds).await? };
    let pods =
        list_site_pods(context, &names, spools.shards_end().max(configured_pods(config.as_ref()))).await?;
    let lost = report_unproved(&names, config.as_ref(), &pods, &spools);
    if !lost.is_empty() && !is_settled(site) {
        report_deleted_workload(context, site, &lost, now).await;
        return Ok(DeletionPhase::Drained);
    }
    let is_given_up = is_given_up(site, is_held, now);
    let missing = missing_pods(&names, &pods, &spools, config.is_some() && !is_given_up);
    if live.is_none() && missing > 0 && Box::pin(recreate(context, site, &names, &spools, missing)).await? {
        return Ok(DeletionPhase::Draining(report_left(&names, &pods, &spools)));
    }
    if let Some(waiting) = waiting_for_pods(&names, &pods) {
        return Ok(waiting);
    }
    let report = report_left(&names, &pods, &spools);
    if !report.is_empty() && is_given_up {
        report_loss(context, site, &report, now).await;
        spools.give_up(|_| true).await?;
        return Ok(DeletionPhase::Terminating);
    }
    let remaining = spools.remove_all(&pods).await?;
    Ok(if !report.is_empty() {
        DeletionPhase::Draining(report)
    } else if remaining.is_empty() {
        DeletionPhase::Done
    } else {
        DeletionPhase::WaitingForClaims(remaining)
    })
}

/// Whether `foreign`, a StatefulSet that another party controls, has the recorders of `site`: nothing is lost, and the deletion waits for a
/// person. A StatefulSet that never was the Site's own does not delay it.
fn waits_for_owner(site: &Site, names: &ChildNames, foreign: &StatefulSet, pods: &[Pod]) -> bool {
    let is_running = pods.iter().any(|pod| is_recorder(pod, names) && !is_terminated(pod));
    is_running || names.has_marks(&foreign.metadata) && discard_reason(site).is_none()
}

/// Returns the wait for the recorders in `pods` that have not terminated, with their nodes: on one that is off permanently, a pod stays
/// until somebody deletes the Node. `None`: all have terminated.
fn waiting_for_pods(names: &ChildNames, pods: &[Pod]) -> Option<DeletionPhase> {
    let is_left = |pod: &&Pod| is_recorder(pod, names) && !is_terminated(pod) || is_orphan(pod, names);
    let node = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    let name = |pod: &Pod| match node(pod) {
        Some(node) => format!("{} on the node {node}", pod.name_any()),
        None => pod.name_any(),
    };
    let remaining: Vec<String> = pods.iter().filter(is_left).map(name).collect();
    (!remaining.is_empty()).then_some(DeletionPhase::WaitingForPods(remaining))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;
    use crate::api::condition::{ConditionType, Reason, merge};
    use crate::api::{HoldState, IncidentHoldStatus, Placement};
    use crate::controllers::hold::fixtures;
    use crate::controllers::testing;

    /// Returns a hold that took effect, resolved and released at these times.
    fn hold(name: &str, resolved: Option<&str>, released: Option<&str>) -> IncidentHold {
        let mut hold = testing::hold(name);
        if let Some(at) = resolved {
            hold.spec.state = HoldState::Resolved;
            hold.spec.resolution = Some(fixtures::resolution(at.parse().unwrap()));
        }
        hold.metadata.finalizers = Some(vec![hold::FINALIZER.to_owned()]);
        let release_time = released.map(|at| Time(at.parse().unwrap()));
        fixtures::with_placement(hold, Placement { release_time, ..fixtures::placement() })
    }

    fn now() -> Timestamp {
        "2026-07-01T00:00:00Z".parse().unwrap()
    }

    /// Returns what the deletion waits for after a pass that found nothing else.
    fn blocking(holds: &[Result<IncidentHold, String>]) -> BlockingHolds {
        BlockingHolds::new(holds, Some(&RetentionStatus::default()), false, now())
    }

    #[test]
    fn blocking_holds_separate_open_from_releasing() {
        let (past, ahead) = ("2026-06-01T00:00:00Z", "2026-08-01T00:00:00Z");
        let holds = [
            Ok(hold("inbraak", None, None)),
            Ok(hold("vernieling", Some(past), None)),
            Ok(hold("volgende-maand", Some(ahead), None)),
            Ok(hold("voorbij", Some(past), Some(past))),
            Err("later".to_owned()),
        ];
        let found = blocking(&holds);
        assert_eq!(found.open, ["inbraak", "volgende-maand"]);
        assert_eq!(found.releasing, ["vernieling"]);
        let message = found.to_string();
        assert!(message.starts_with("these holds are open: inbraak, volgende-maand; resolve"), "{message}");
        assert!(message.contains("; these holds are being released: vernieling; "), "{message}");
        assert!(message.contains("does not know: later; "), "{message}");
        assert!(!blocking(&holds[3..4]).has_holds());
        assert!(blocking(&holds[4..]).has_holds() && blocking(&holds[4..]).may_need_spools());
    }

    /// A hold gets its finalizer and its placement only after the ledger was written, for which the store must answer.
    #[test]
    fn hold_that_the_ledger_does_not_have_yet_keeps_spools_and_site() {
        let declared = testing::hold("inbraak");
        let mut accepted = declared.clone();
        let finding = ConditionFinding::new(ConditionType::Accepted, true, Reason::Valid, "valid");
        let conditions = merge(&[], &[finding], None, now());
        accepted.status = Some(IncidentHoldStatus { conditions, ..IncidentHoldStatus::default() });
        let mut resolved = declared.clone();
        resolved.spec.state = HoldState::Resolved;
        resolved.spec.resolution = Some(fixtures::resolution(now()));
        for (hold, is_blocking) in [(declared, true), (accepted, true), (resolved, false)] {
            let found = blocking(&[Ok(hold)]);
            assert_eq!((found.has_holds(), found.may_need_spools()), (is_blocking, is_blocking));
            assert_eq!(found.to_string().contains("not in effect: inbraak; resolve"), is_blocking, "{found}");
            assert_eq!(found.spool_wait().contains("no end, because these holds"), is_blocking);
        }
    }

    #[test]
    fn spools_wait_for_holds_that_only_the_ledger_has_or_may_have() {
        let failed =
            || RetentionStatus { last_error: Some("no answer".into()), ..RetentionStatus::default() };
        let swept = RetentionStatus { last_sweep_time: Some(Time(now())), ..failed() };
        let orphaned = RetentionStatus { orphaned_holds: vec!["oud".into()], ..RetentionStatus::default() };
        for (retention, is_ledger_read, may_need) in [
            (None, false, true),
            // The store never answered, and the status says so.
            (Some(failed()), false, true),
            (Some(failed()), true, false),
            (Some(RetentionStatus::default()), false, false),
            (Some(swept), false, false),
            (Some(orphaned), true, true),
        ] {
            let found = BlockingHolds::new(&[], retention.as_ref(), is_ledger_read, now());
            assert_eq!(found.may_need_spools(), may_need, "{retention:?}");
            assert!(!found.has_holds(), "a Site whose spools are empty can go");
            assert_eq!(found.spool_wait().contains("no end"), may_need, "{}", found.spool_wait());
        }
    }
}
