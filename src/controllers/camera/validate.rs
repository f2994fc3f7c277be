//! Step two: whether the camera can be recorded, and whether it may be. Pure.

use jiff::Timestamp;
use kube::ResourceExt;

use super::dereference::View;
use crate::api::condition::{ConditionType, Finding, Reason, Truth};
use crate::api::{Camera, Ceilings, RecordingPolicy, Site};
use crate::controllers::kit::camera::{self, CameraProblem};
use crate::controllers::kit::reference::MissingSecret;
use crate::protocol::permission::Gates;
use crate::protocol::{policy, suspension};

/// What a camera comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Valid {
    /// Whether it can be recorded: its site exists, its Secrets are of the right type.
    pub accepted: Finding,
    /// Whether the protocol allows recording it now (articles 1, 5, 7, 8 and 11).
    pub permitted: Finding,
    /// When that changes by itself.
    pub next_change: Option<Timestamp>,
    /// How long a segment is, as the site has it.
    pub segment: jiff::SignedDuration,
}

/// Judges `camera` by its site, policy and Secrets.
pub fn validate(camera: &Camera, view: &View, ceilings: &Ceilings, now: Timestamp) -> Valid {
    let (permitted, next_change) = match (&view.site, &view.policy) {
        (None, _) => (depends("there is no site: see Accepted"), None),
        (Some(_), None) => (depends("the site's policy does not exist: see the Site's Accepted"), None),
        (Some(site), Some(policy)) => permitted(camera, site, policy, ceilings, now),
    };
    let segment = view.site.as_ref().map(|site| site.spec.recorder.segment_duration.0);
    let segment = segment.and_then(|segment| segment.try_into().ok()).unwrap_or(jiff::SignedDuration::ZERO);
    Valid { accepted: accepted(camera, view), permitted, next_change, segment }
}

fn accepted(camera: &Camera, view: &View) -> Finding {
    let not = |reason, message| Finding::new(ConditionType::Accepted, false, reason, message);
    if view.site.is_none() {
        let message =
            format!("spec.siteRef.name: there is no Site {:?} in this namespace", camera.spec.site_ref.name);
        return not(Reason::ReferenceNotFound, message);
    }
    match camera::source(&camera.spec, &view.secrets) {
        Ok(_) => {
            let message = "the site exists, and what spec.stream names may be used";
            Finding::new(ConditionType::Accepted, true, Reason::Valid, message)
        }
        Err(problem @ CameraProblem::Secret(MissingSecret::NoKey { .. })) => {
            not(Reason::ReferenceRefused, problem.to_string())
        }
        Err(problem @ CameraProblem::Secret(_)) => not(Reason::ReferenceNotFound, problem.to_string()),
        Err(problem) => not(Reason::InvalidField, problem.to_string()),
    }
}

fn permitted(
    camera: &Camera,
    site: &Site,
    policy: &RecordingPolicy,
    ceilings: &Ceilings,
    now: Timestamp,
) -> (Finding, Option<Timestamp>) {
    if !policy::accept(&policy.spec, ceilings).is_true() {
        return (depends("the policy is not accepted: see its Accepted"), None);
    }
    match Gates::of(&policy.spec, site.spec.notices.as_ref()) {
        Err(_) => (depends("a date of the policy or the site cannot be told: see their Accepted"), None),
        Ok(gates) => {
            let covered = suspension::of_camera(&site.spec.suspensions, &camera.name_any());
            (gates.verdict(&covered, now), gates.next_change(&covered, now))
        }
    }
}

/// What cannot be followed allows nothing.
fn depends(message: &str) -> Finding {
    Finding::new(ConditionType::Permitted, Truth::False, Reason::DependsOn, message)
}
