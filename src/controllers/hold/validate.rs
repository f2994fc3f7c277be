//! Step two: whether the hold can be accepted. Pure.

use jiff::Timestamp;

use super::dereference::Named;
use crate::api::condition::{ConditionType, Finding, Reason};
use crate::api::{Days, IncidentHoldSpec};
use crate::protocol::hold;

/// What a hold comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Valid {
    /// Whether it can be accepted.
    pub accepted: Finding,
    /// How often its policy wants it reviewed (article 6); `None`: there is no policy.
    pub review_every: Option<Days>,
    /// When the answer may change by itself.
    pub next_change: Option<Timestamp>,
}

/// Judges `spec` by the site and policy that it names.
pub fn validate(spec: &IncidentHoldSpec, named: &Named, now: Timestamp) -> Valid {
    let Named {
        site,
        policy,
        cameras,
    } = named;
    let accepted = match (site, policy) {
        (None, _) => missing(format!(
            "spec.siteRef.name: there is no Site {:?} in this namespace",
            spec.site_ref.name
        )),
        (Some(site), None) => missing(format!(
            "the Site {:?} names no RecordingPolicy that exists: put its spec.policyRef.name right ({:?} now)",
            spec.site_ref.name, site.spec.policy_ref.name
        )),
        (Some(_), Some(policy)) => hold::accept(spec, &policy.spec, cameras, now),
    };
    Valid {
        accepted,
        review_every: policy.as_ref().map(|policy| policy.spec.holds.review_every),
        next_change: hold::next_change(spec, now),
    }
}

fn missing(message: String) -> Finding {
    Finding::new(ConditionType::Accepted, false, Reason::ReferenceNotFound, message)
}
