//! Step two: whether a camera is accepted, and whether it may record. Pure.

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use super::dereference::SiteSnapshot;
use crate::api::condition::{ConditionFinding, ConditionType, Reason};
use crate::api::{Camera, CameraSuspensions, Ceilings, RecordingPolicy, Site};
use crate::controllers::camera_source::{self, CameraSourceError};
use crate::controllers::kubernetes::meta;
use crate::controllers::kubernetes::secret_ref::MissingSecret;
use crate::controllers::site_policies::SitePolicies;
use crate::rules::{policy, suspension};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CameraValidation {
    /// `Accepted`.
    pub accepted: ConditionFinding,
    /// `Permitted` (articles 1, 5, 7, 8 and 11).
    pub permitted: ConditionFinding,
    /// Next time at which `permitted` changes.
    pub next_change: Option<Timestamp>,
    /// Suspensions of the camera.
    pub suspensions: Option<CameraSuspensions>,
    /// Segment duration of the site; zero without a site.
    pub segment_duration: SignedDuration,
}

pub fn validate(
    camera: &Camera,
    snapshot: &SiteSnapshot,
    ceilings: &Ceilings,
    now: Timestamp,
) -> CameraValidation {
    let (permitted, next_change) = match (&snapshot.site, &snapshot.policies.policy) {
        (None, _) => (not_permitted("the Site does not exist: see Accepted"), None),
        (Some(_), None) => {
            (not_permitted("the Site's policy does not exist: see Accepted of the Site"), None)
        }
        (Some(site), Some(policy)) => permitted(camera, site, &snapshot.policies, policy, ceilings, now),
    };
    let segment = snapshot.site.as_ref().map(|site| site.spec.recorder.segment_duration.0);
    CameraValidation {
        accepted: accepted(camera, snapshot),
        permitted,
        next_change,
        suspensions: snapshot
            .site
            .as_ref()
            .and_then(|site| suspension::camera_outlook(&site.spec.suspensions, &camera.name_any(), now)),
        segment_duration: segment.and_then(|segment| segment.try_into().ok()).unwrap_or_default(),
    }
}

fn accepted(camera: &Camera, snapshot: &SiteSnapshot) -> ConditionFinding {
    let finding = |is_true: bool, reason, message| {
        ConditionFinding::new(ConditionType::Accepted, is_true, reason, message)
    };
    if snapshot.site.is_none() {
        let name = &camera.spec.site_ref.name;
        let message = format!(
            "spec.siteRef.name: this namespace has no Site {name:?}; create that Site, or delete this Camera and create it again (siteRef is \
             immutable)"
        );
        return finding(false, Reason::ReferenceNotFound, message);
    }
    let Err(error) = camera_source::resolve(&camera.spec, &snapshot.secrets) else {
        let message = "the Site exists, and the references of spec.stream resolve".to_owned();
        return finding(true, Reason::Valid, message);
    };
    let reason = match &error {
        CameraSourceError::Secret(MissingSecret::NoKey { .. } | MissingSecret::TooLong { .. }) => {
            Reason::ReferenceInvalid
        }
        CameraSourceError::Secret(MissingSecret::NotFound { .. }) => Reason::ReferenceNotFound,
        CameraSourceError::NotVisible | CameraSourceError::InvalidUrl => Reason::InvalidField,
    };
    finding(false, reason, error.to_string())
}

fn permitted(
    camera: &Camera,
    site: &Site,
    policies: &SitePolicies,
    policy: &RecordingPolicy,
    ceilings: &Ceilings,
    now: Timestamp,
) -> (ConditionFinding, Option<Timestamp>) {
    if meta::is_deleting(site) {
        let message = "its Site is being deleted";
        return (ConditionFinding::new(ConditionType::Permitted, false, Reason::Deleting, message), None);
    }
    if !policy::evaluate_acceptance(&policy.spec, ceilings).is_true() {
        return (not_permitted("the policy is not accepted: see Accepted of the RecordingPolicy"), None);
    }
    let suspensions = suspension::camera_suspensions(&site.spec.suspensions, &camera.name_any());
    match policies.permission(policy, site.spec.notices.as_ref(), &suspensions, now) {
        Ok(permission) => (permission.finding, permission.next_change),
        Err(_) => (not_permitted("the policy or the Site has an invalid date: see Accepted of each"), None),
    }
}

fn not_permitted(message: &str) -> ConditionFinding {
    ConditionFinding::new(ConditionType::Permitted, false, Reason::DependencyNotReady, message)
}
