//! A Site that is being deleted: its recorders close, upload what they have while the store takes it, and go;
//! then the Site may go. Its bucket keeps all its rules. Needs neither the store nor the policy nor a Secret, nor may it create
//! anything: all of them may be gone already, and the namespace may be going.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};

use super::drain::{DrainStatus, drain};
use super::names::{ChildNames, SITE_LABEL};
use super::workload::delete_workload;
use crate::api::condition::ConditionFinding;
use crate::api::{IncidentHold, Site};
use crate::controllers::hold;
use crate::controllers::kubernetes::apply::ApplyError;
use crate::controllers::kubernetes::error::ApiError;
use crate::controllers::kubernetes::meta;
use crate::controllers::recorder_client::RecorderClient;
use crate::controllers::site::recorders::workload::{is_recorder, is_terminated};

/// While pods are going, they are looked at this often, should a watch miss that they went.
pub const POD_POLL_INTERVAL: Duration = Duration::from_secs(5);

/// How far a deletion has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeletionPhase {
    /// It waits until so many segments in the recorders' spools are uploaded, as far as they say.
    Draining(u64),
    /// The recorders are told to go, with so many segments in their spools that the store did not take.
    Terminating(u64),
    /// It waits for these pods to go.
    WaitingForPods(Vec<String>),
    Done,
}

/// The holds that a deletion waits for, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockingHolds {
    /// Those that are open: each waits for a person.
    pub open: Vec<String>,
    /// Those whose incident is resolved, and that are not released yet.
    pub releasing: Vec<String>,
    /// Why the bucket cannot be used, so that nothing can be released.
    pub bucket_unusable: Option<ConditionFinding>,
}

impl BlockingHolds {
    /// Those of `holds` that something may be kept for.
    pub fn from_holds(holds: &[IncidentHold], now: Timestamp) -> Self {
        let kept = holds.iter().filter(|hold| hold::may_protect_recordings(hold, now));
        let (releasing, open) =
            kept.partition::<Vec<_>, _>(|hold| crate::rules::hold::resolution::is_resolved(hold, now));
        let names = |holds: Vec<&IncidentHold>| holds.into_iter().map(ResourceExt::name_any).collect();
        Self { open: names(open), releasing: names(releasing), bucket_unusable: None }
    }

    pub fn has_holds(&self) -> bool {
        !self.open.is_empty() || !self.releasing.is_empty()
    }
}

impl fmt::Display for BlockingHolds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let open = format!(
            "these holds are open: {}; resolve their incidents (spec.state, spec.resolution)",
            self.open.join(", ")
        );
        let releasing = format!("these holds are being released: {}", self.releasing.join(", "));
        let parts = [
            (!self.open.is_empty()).then_some(open),
            (!self.releasing.is_empty()).then_some(releasing),
            Some("the bucket and its rules stay".to_owned()),
        ];
        f.write_str(&parts.into_iter().flatten().collect::<Vec<_>>().join("; "))
    }
}

/// Takes the next step of deleting `site`.
pub async fn delete(
    client: &Client,
    recorders: &RecorderClient,
    site: &Site,
    now: Timestamp,
) -> Result<DeletionPhase, ApplyError> {
    let names = ChildNames::of(site);
    let workloads = Api::<StatefulSet>::namespaced(client.clone(), &names.namespace);
    let live = workloads.get_opt(&names.recorder).await.map_err(ApiError::from)?;
    if let Some(live) = live.filter(|live| is_own_workload(live, &names) && !meta::is_deleting(live)) {
        return match drain(client, recorders, site, &live, now).await? {
            DrainStatus::Pending(segments) => Ok(DeletionPhase::Draining(segments)),
            DrainStatus::Done(lost) => {
                delete_workload(&workloads, &live).await?;
                Ok(DeletionPhase::Terminating(lost))
            }
        };
    }
    let pods = Api::<Pod>::namespaced(client.clone(), &names.namespace);
    let labelled = pods
        .list(&ListParams::default().labels(&format!("{SITE_LABEL}={}", names.site)))
        .await
        .map_err(ApiError::from)?;
    let remaining: Vec<String> = labelled
        .items
        .iter()
        .filter(|pod| is_recorder(pod, &names) && !is_terminated(pod))
        .map(ResourceExt::name_any)
        .collect();
    if remaining.is_empty() {
        return Ok(DeletionPhase::Done);
    }
    Ok(DeletionPhase::WaitingForPods(remaining))
}

/// Whether `live` is the recorders' StatefulSet: also one that lost its owner, as `kubectl delete
/// --cascade=orphan` has it, and would go on recording.
fn is_own_workload(live: &StatefulSet, names: &ChildNames) -> bool {
    let is_orphan = live.owner_references().iter().all(|owner| owner.controller != Some(true))
        && live.labels().get(SITE_LABEL) == Some(&names.site);
    is_orphan || meta::is_controlled_by(live, &names.uid)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn blocking_holds_separate_open_from_releasing() {
        let now: Timestamp = "2026-07-01T00:00:00Z".parse().unwrap();
        let hold = |name: &str,
                    resolved: Option<&str>,
                    finalizers: &[&str],
                    released: Option<&str>|
         -> IncidentHold {
            let state = if resolved.is_some() { "Resolved" } else { "Open" };
            let resolution = resolved.map(|at| json!({"time": at, "by": "CISO", "outcome": "Closed"}));
            let placement = json!({
                "observedGeneration": 1, "acceptanceTime": "2026-05-01T10:00:00Z", "verified": true, "segments": 4,
                "size": "1 MiB", "sealedSegments": 0, "releaseTime": released,
            });
            let placement = (!finalizers.is_empty()).then_some(placement);
            serde_json::from_value(json!({
                "metadata": {"name": name, "namespace": "n", "finalizers": finalizers},
                "spec": {
                    "siteRef": {"name": "s"}, "window": {"from": "2026-05-01T10:00:00Z"}, "purpose": "Theft",
                    "reference": "2026-77", "state": state, "resolution": resolution,
                },
                "status": {"placement": placement},
            }))
            .unwrap()
        };
        let counted = ["toezicht.dev/hold"];
        let (past, ahead) = ("2026-06-01T00:00:00Z", "2026-08-01T00:00:00Z");
        let holds = [
            hold("inbraak", None, &counted, None),
            hold("vernieling", Some(past), &counted, None),
            hold("volgende-maand", Some(ahead), &counted, None),
            hold("voorbij", Some(past), &counted, Some(past)),
            hold("geweigerd", None, &[], None),
        ];
        let kept = BlockingHolds::from_holds(&holds, now);
        assert_eq!(kept.open, ["inbraak", "volgende-maand"]);
        assert_eq!(kept.releasing, ["vernieling"]);
        let said = kept.to_string();
        assert!(said.starts_with("these holds are open: inbraak, volgende-maand; resolve"), "{said}");
        assert!(said.contains("; these holds are being released: vernieling; "), "{said}");
        assert!(!BlockingHolds::from_holds(&holds[3..], now).has_holds());
    }

    #[test]
    fn own_and_orphaned_workloads_are_stopped() {
        let names = ChildNames::of(&crate::controllers::site::fixtures::fixture().site);
        let owned_by = |uid: &str| json!([{"apiVersion": "v1", "kind": "Site", "name": "x", "uid": uid, "controller": true}]);
        let ours = json!({SITE_LABEL: names.site});
        let another = json!({SITE_LABEL: "another"});
        for (labels, owners, expected) in [
            (&ours, owned_by(&names.uid), true),
            (&ours, json!([]), true),
            (&ours, owned_by("another"), false),
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
