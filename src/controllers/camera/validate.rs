//! Step two: whether the camera can be recorded, and whether it may be. Pure.

use jiff::Timestamp;
use kube::ResourceExt;

use super::dereference::SiteSnapshot;
use crate::api::condition::{ConditionFinding, ConditionStatus, ConditionType, Reason};
use crate::api::{Camera, Ceilings, RecordingPolicy, Site};
use crate::controllers::camera_source;
use crate::controllers::camera_source::CameraSourceError;
use crate::controllers::kubernetes::secret_ref::MissingSecret;
use crate::rules::permission::Prerequisites;
use crate::rules::{policy, suspension};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CameraValidation {
    /// Whether it can be recorded: its site exists, its Secrets are of the right type.
    pub accepted: ConditionFinding,
    /// Whether the protocol allows recording it now (articles 1, 5, 7, 8 and 11).
    pub permitted: ConditionFinding,
    pub next_change: Option<Timestamp>,
    /// How long a segment is, as the site has it.
    pub segment_duration: jiff::SignedDuration,
}

/// Judges `camera` by its site, policy and Secrets.
pub fn validate(
    camera: &Camera,
    snapshot: &SiteSnapshot,
    ceilings: &Ceilings,
    now: Timestamp,
) -> CameraValidation {
    let (permitted, next_change) = match (&snapshot.site, &snapshot.policy) {
        (None, _) => (blocked_by_dependency("there is no site: see Accepted"), None),
        (Some(_), None) => {
            (blocked_by_dependency("the site's policy does not exist: see the Site's Accepted"), None)
        }
        (Some(site), Some(policy)) => permitted(camera, site, policy, ceilings, now),
    };
    let segment = snapshot.site.as_ref().map(|site| site.spec.recorder.segment_duration.0);
    let segment = segment.and_then(|segment| segment.try_into().ok()).unwrap_or(jiff::SignedDuration::ZERO);
    CameraValidation {
        accepted: accepted(camera, snapshot),
        permitted,
        next_change,
        segment_duration: segment,
    }
}

fn accepted(camera: &Camera, snapshot: &SiteSnapshot) -> ConditionFinding {
    let not = |reason, message| ConditionFinding::new(ConditionType::Accepted, false, reason, message);
    if snapshot.site.is_none() {
        let message =
            format!("spec.siteRef.name: there is no Site {:?} in this namespace", camera.spec.site_ref.name);
        return not(Reason::ReferenceNotFound, message);
    }
    match camera_source::resolve(&camera.spec, &snapshot.secrets) {
        Ok(_) => {
            let message = "the site exists, and what spec.stream names may be used";
            ConditionFinding::new(ConditionType::Accepted, true, Reason::Valid, message)
        }
        Err(problem @ CameraSourceError::Secret(MissingSecret::NoKey { .. })) => {
            not(Reason::ReferenceInvalid, problem.to_string())
        }
        Err(problem @ CameraSourceError::Secret(_)) => not(Reason::ReferenceNotFound, problem.to_string()),
        Err(problem) => not(Reason::InvalidField, problem.to_string()),
    }
}

fn permitted(
    camera: &Camera,
    site: &Site,
    policy: &RecordingPolicy,
    ceilings: &Ceilings,
    now: Timestamp,
) -> (ConditionFinding, Option<Timestamp>) {
    if !policy::evaluate_acceptance(&policy.spec, ceilings).is_true() {
        return (blocked_by_dependency("the policy is not accepted: see its Accepted"), None);
    }
    match Prerequisites::from_policy(&policy.spec, site.spec.notices.as_ref()) {
        Err(_) => (
            blocked_by_dependency("a date of the policy or the site cannot be told: see their Accepted"),
            None,
        ),
        Ok(gates) => {
            let suspensions = suspension::camera_suspensions(&site.spec.suspensions, &camera.name_any());
            (gates.evaluate(&suspensions, now), gates.next_change(&suspensions, now))
        }
    }
}

/// What cannot be followed allows nothing.
fn blocked_by_dependency(message: &str) -> ConditionFinding {
    ConditionFinding::new(
        ConditionType::Permitted,
        ConditionStatus::False,
        Reason::DependencyNotReady,
        message,
    )
}
