//! Step two: whether the hold can be accepted. Pure.

use jiff::Timestamp;
use kube::Resource;

use super::dereference::HoldReferences;
use crate::api::condition::{ConditionFinding, ConditionType, Reason};
use crate::api::{Days, IncidentHoldSpec, Site};
use crate::controllers::kubernetes::meta;
use crate::controllers::runner::Watched;
use crate::rules::hold::accept;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoldValidation {
    pub accepted: ConditionFinding,
    /// How often its policy wants it reviewed (article 6); `None`: there is no policy.
    pub review_every: Option<Days>,
    /// When the answer may change by itself.
    pub next_change: Option<Timestamp>,
    /// Its Site; `None`: there is none.
    pub site: Option<SiteFacts>,
    /// Names in `spec.cameras` that the Site has no Camera of.
    pub cameras_without_resource: Vec<String>,
}

/// Facts about the Site of a hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteFacts {
    /// When the Site was made in this cluster.
    pub created_at: Option<Timestamp>,
    /// Why the Site needs a person, where that keeps its bucket from being used.
    pub stalled: Option<String>,
    pub is_paused: bool,
}

/// Judges `spec` by the site and policy that it names.
pub fn validate(spec: &IncidentHoldSpec, named: &HoldReferences, now: Timestamp) -> HoldValidation {
    let HoldReferences { site, policy, cameras } = named;
    let accepted = match (site, policy) {
        (None, _) => reference_not_found(format!(
            "spec.siteRef.name: there is no Site {:?} in this namespace",
            spec.site_ref.name
        )),
        (Some(site), None) => reference_not_found(format!(
            "the Site {:?} names no RecordingPolicy that exists: put its spec.policyRef.name right ({:?} now)",
            spec.site_ref.name, site.spec.policy_ref.name
        )),
        (Some(_), Some(policy)) => accept::evaluate_acceptance(spec, &policy.spec, cameras, now),
    };
    let unnamed = spec.cameras.iter().filter(|name| !cameras.contains(name));
    HoldValidation {
        accepted,
        review_every: policy.as_ref().map(|policy| policy.spec.holds.review_interval),
        next_change: accept::next_change(spec, now),
        site: site.as_ref().map(site_facts),
        cameras_without_resource: unnamed.cloned().collect(),
    }
}

fn site_facts(site: &Site) -> SiteFacts {
    let (type_, orphaned): (&str, &str) = (ConditionType::Stalled.into(), Reason::OrphanedHold.into());
    let mut conditions = site.conditions().iter();
    let stalled = conditions.find(|condition| {
        // An orphan keeps no other hold from being placed or released.
        condition.type_ == type_ && condition.status == "True" && condition.reason != orphaned
    });
    SiteFacts {
        created_at: site.meta().creation_timestamp.as_ref().map(|made| made.0),
        stalled: stalled.map(|condition| condition.message.clone()),
        is_paused: meta::is_paused(site),
    }
}

fn reference_not_found(message: String) -> ConditionFinding {
    ConditionFinding::new(ConditionType::Accepted, false, Reason::ReferenceNotFound, message)
}
