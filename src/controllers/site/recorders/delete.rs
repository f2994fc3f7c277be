//! Deletion of a Site. Its recorders stop, upload while the store accepts segments, and terminate. The bucket keeps its rules.
//!
//! These steps need neither the store, the policy nor a Secret, and create nothing: all of them may be deleted already, and
//! the namespace may be in deletion.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt};

use super::claims::Spools;
use super::drain::{DrainStatus, SpoolReport, drain, is_given_up, report_claims};
use super::names::{ChildNames, SITE_LABEL};
use super::workload::{delete_workload, is_recorder, is_terminated, list_site_pods};
use crate::api::condition::ConditionFinding;
use crate::api::{IncidentHold, Site};
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
    /// The StatefulSet is deleted, with what these spools still had.
    Terminating(SpoolReport),
    /// Waiting for these pods to terminate.
    WaitingForPods(Vec<String>),
    /// Waiting for the end of these volume claims.
    WaitingForClaims(Vec<String>),
    Done,
}

/// Names of the holds that a deletion waits for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockingHolds {
    /// Open holds. Each waits for a person.
    pub open: Vec<String>,
    /// Resolved holds that are not released yet.
    pub releasing: Vec<String>,
    /// `Accepted` of the Site, if the bucket cannot be used and therefore nothing released.
    pub bucket_unusable: Option<ConditionFinding>,
}

impl BlockingHolds {
    /// Selects the holds that may protect recordings.
    pub fn from_holds(holds: &[IncidentHold], now: Timestamp) -> Self {
        let blocking = holds.iter().filter(|hold| hold::may_protect_recordings(hold, now));
        let (releasing, open): (Vec<_>, Vec<_>) = blocking.partition(|hold| is_resolved(hold, now));
        let names = |holds: Vec<&IncidentHold>| holds.into_iter().map(ResourceExt::name_any).collect();
        Self { open: names(open), releasing: names(releasing), bucket_unusable: None }
    }

    pub fn has_holds(&self) -> bool {
        !self.open.is_empty() || !self.releasing.is_empty()
    }
}

impl fmt::Display for BlockingHolds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.open.is_empty() {
            let open = self.open.join(", ");
            write!(
                f,
                "these holds are open: {open}; resolve their incidents (spec.state, spec.resolution); "
            )?;
        }
        if !self.releasing.is_empty() {
            write!(f, "these holds are being released: {}; ", self.releasing.join(", "))?;
        }
        f.write_str("the bucket and its rules stay")
    }
}

/// Takes the next step of deleting `site`. `is_held`: an open hold may cover what is in its spools.
pub async fn delete(
    context: &Context,
    site: &Site,
    is_held: bool,
    now: Timestamp,
) -> Result<DeletionPhase, ApplyError> {
    let (client, names) = (&context.client, ChildNames::of(site));
    let workloads = Api::<StatefulSet>::namespaced(client.clone(), &names.namespace);
    let live = workloads.get_opt(&names.recorder).await.map_err(ApiError::from)?;
    if let Some(live) = live.filter(|live| is_own_workload(live, &names) && !meta::is_deleting(live)) {
        return match drain(context, site, &live, is_held, now).await? {
            DrainStatus::Pending(report) => Ok(DeletionPhase::Draining(report)),
            DrainStatus::Done(lost) => {
                delete_workload(&workloads, &live).await?;
                Ok(DeletionPhase::Terminating(lost))
            }
        };
    }
    let pods = list_site_pods(&Api::<Pod>::namespaced(client.clone(), &names.namespace), &names).await?;
    let remaining = pods.iter().filter(|pod| is_recorder(pod, &names) && !is_terminated(pod));
    let node = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    // With its node: on one that is off permanently, a pod stays until somebody deletes the Node.
    let name = |pod: &Pod| match node(pod) {
        Some(node) => format!("{} on the node {node}", pod.name_any()),
        None => pod.name_any(),
    };
    let remaining: Vec<String> = remaining.map(name).collect();
    if !remaining.is_empty() {
        return Ok(DeletionPhase::WaitingForPods(remaining));
    }
    delete_claims(context, site, &names, &pods, is_held, now).await
}

/// Deletes the claims of a deleted Site without recorders. The namespace may be in deletion, so that no pod can upload what is
/// in them: they then wait as spools of silent recorders do.
async fn delete_claims(
    context: &Context,
    site: &Site,
    names: &ChildNames,
    pods: &[Pod],
    is_held: bool,
    now: Timestamp,
) -> Result<DeletionPhase, ApplyError> {
    let mut spools = Spools::list(context, names, None).await?;
    let report = report_claims(names, spools.claims(), pods, 0);
    if !report.is_empty() && is_given_up(site, is_held, now) {
        spools.give_up(|_| true).await?;
        return Ok(DeletionPhase::Terminating(report));
    }
    let remaining = spools.remove_all(pods).await?;
    Ok(if !report.is_empty() {
        DeletionPhase::Draining(report)
    } else if remaining.is_empty() {
        DeletionPhase::Done
    } else {
        DeletionPhase::WaitingForClaims(remaining)
    })
}

/// Whether `live` is the recorders' StatefulSet. Includes one without an owner, as `kubectl delete --cascade=orphan` creates
/// it: it would otherwise go on recording.
fn is_own_workload(live: &StatefulSet, names: &ChildNames) -> bool {
    let is_orphan = live.owner_references().iter().all(|owner| owner.controller != Some(true))
        && live.labels().get(SITE_LABEL) == Some(&names.site);
    is_orphan || meta::is_controlled_by(live, &names.uid)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use serde_json::json;

    use super::*;
    use crate::api::{HoldState, Placement};
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

    #[test]
    fn blocking_holds_separate_open_from_releasing() {
        let now: Timestamp = "2026-07-01T00:00:00Z".parse().unwrap();
        let (past, ahead) = ("2026-06-01T00:00:00Z", "2026-08-01T00:00:00Z");
        let holds = [
            hold("inbraak", None, None),
            hold("vernieling", Some(past), None),
            hold("volgende-maand", Some(ahead), None),
            hold("voorbij", Some(past), Some(past)),
            testing::hold("geweigerd"),
        ];
        let blocking = BlockingHolds::from_holds(&holds, now);
        assert_eq!(blocking.open, ["inbraak", "volgende-maand"]);
        assert_eq!(blocking.releasing, ["vernieling"]);
        let message = blocking.to_string();
        assert!(message.starts_with("these holds are open: inbraak, volgende-maand; resolve"), "{message}");
        assert!(message.contains("; these holds are being released: vernieling; "), "{message}");
        assert!(!BlockingHolds::from_holds(&holds[3..], now).has_holds());
    }

    #[test]
    fn own_and_orphaned_workloads_are_stopped() {
        let names = ChildNames::of(&testing::site());
        let owned_by = |uid: &str| json!([{"apiVersion": "v1", "kind": "Site", "name": "x", "uid": uid, "controller": true}]);
        let own = json!({SITE_LABEL: names.site});
        let another = json!({SITE_LABEL: "another"});
        for (labels, owners, expected) in [
            (&own, owned_by(&names.uid), true),
            (&own, json!([]), true),
            (&own, owned_by("another"), false),
            (&another, json!([]), false),
            (&json!({}), json!([]), false),
        ] {
            let live =
                json!({"metadata": {"name": names.recorder, "labels": labels, "ownerReferences": owners}});
            let live: StatefulSet = serde_json::from_value(live).unwrap();
            assert_eq!(is_own_workload(&live, &names), expected, "{:?}", live.metadata);
        }
    }
}
