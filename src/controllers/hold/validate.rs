//! Step two: whether a hold is accepted. Pure.

use jiff::Timestamp;
use kube::Resource;

use super::dereference::HoldReferences;
use crate::api::condition::{ConditionFinding, ConditionType, Reason};
use crate::api::{Days, IncidentHoldSpec, Site};
use crate::controllers::kubernetes::meta;
use crate::controllers::runner::Watched;
use crate::controllers::site::recorders::lost;
use crate::rules::hold::accept;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoldValidation {
    /// `Accepted`.
    pub accepted: ConditionFinding,
    /// Review interval of the policy (article 6); `None`: there is no policy.
    pub review_every: Option<Days>,
    /// Next time at which `accepted` can change.
    pub next_change: Option<Timestamp>,
    /// The hold's Site; `None`: it does not exist.
    pub site: Option<SiteFacts>,
    /// Names in `spec.cameras` without a Camera of the Site.
    pub cameras_without_resource: Vec<String>,
}

/// Facts about the Site of a hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteFacts {
    /// Creation of the Site in this cluster.
    pub created_at: Option<Timestamp>,
    /// Message of the Site's `Stalled`, if that stops the use of its bucket.
    pub stalled: Option<String>,
    pub is_paused: bool,
    /// Names of its recorders that are lost, with their nodes.
    pub lost_recorders: Option<String>,
}

pub fn validate(spec: &IncidentHoldSpec, references: &HoldReferences, now: Timestamp) -> HoldValidation {
    let HoldReferences { site, policy, policy_name, cameras } = references;
    let name = &spec.site_ref.name;
    let accepted = match (site, policy) {
        (None, _) => reference_not_found(format!(
            "spec.siteRef.name: this namespace has no Site {name:?}; correct the name, or create the Site"
        )),
        (Some(_), None) => reference_not_found(format!(
            "spec.policyRef.name of the Site {name:?}: this namespace has no RecordingPolicy {policy_name:?}; correct the name, \
             or create the RecordingPolicy"
        )),
        (Some(_), Some(policy)) => accept::evaluate_acceptance(spec, &policy.spec, cameras, now),
    };
    let without_resource = spec.cameras.iter().filter(|name| !cameras.contains(name));
    HoldValidation {
        accepted,
        review_every: policy.as_ref().map(|policy| policy.spec.holds.review_interval),
        next_change: accept::next_change(spec, now),
        site: site.as_ref().map(site_facts),
        cameras_without_resource: without_resource.cloned().collect(),
    }
}

fn site_facts(site: &Site) -> SiteFacts {
    let (type_, orphaned): (&str, &str) = (ConditionType::Stalled.into(), Reason::OrphanedHold.into());
    let mut conditions = site.conditions().iter();
    let stalled = conditions.find(|condition| {
        // An orphaned hold does not stop the operator from placing or releasing another.
        condition.type_ == type_ && condition.status == "True" && condition.reason != orphaned
    });
    let lost = site.status.as_ref().map(|status| status.lost_recorders.as_slice()).unwrap_or_default();
    SiteFacts {
        created_at: site.meta().creation_timestamp.as_ref().map(|created| created.0),
        stalled: stalled.map(|condition| condition.message.clone()),
        is_paused: meta::is_paused(site),
        lost_recorders: lost::name_all(lost, None),
    }
}

fn reference_not_found(message: String) -> ConditionFinding {
    ConditionFinding::new(ConditionType::Accepted, false, Reason::ReferenceNotFound, message)
}
