//! Step two: from the fetched objects to types that are valid by construction. Pure. It decides whether the Site may use its
//! store, before any connection.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::ResourceExt;

use super::bucket::BucketAccess;
use super::bucket::target::TargetBuilder;
use super::compliance::SiteCeilings;
use super::dereference::ObservedSite;
use super::missing_reference;
use super::problem::{Effect, Problem};
use super::recorders::names::ChildNames;
use super::spool_persistence;
use crate::api::condition::{ConditionFinding, ConditionType, Reason};
use crate::api::{
    AdoptionPolicy, Camera, Ceilings, Duration, GoverningPolicy, RecordingPolicy, RetentionEnforcement,
    SECRET_TYPE_CA, Site, SiteSpec, Storage, is_one_identity,
};
use crate::controllers::camera_source::{self, CameraSourceError};
use crate::controllers::config::OperatorConfig;
use crate::controllers::grant::{Endpoint, Exception, GrantRequest};
use crate::controllers::kubernetes::quantity;
use crate::controllers::kubernetes::secret_ref::{MissingSecret, check_length, require_text};
use crate::controllers::site_policies::{SitePermission, effective_ceilings, governed_since};
use crate::rules::{Windows, live_view, policy, suspension};
use crate::storage::bucket::policy::principals;
use crate::storage::{BucketSpec, Claim, TargetError, check_credentials, verify_ca};
use crate::wire::{CameraSource, Secret, StorageTarget};

/// Smallest spool: a few segments of one camera.
const MIN_SPOOL_BYTES: u64 = 64 << 20;

/// Valid part of a Site.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidSite {
    pub names: ChildNames,
    /// `Accepted`.
    pub accepted: ConditionFinding,
    pub recording: RecordingVerdict,
    /// End of the grace for the missing references; `None`: none is missing.
    pub grace_end: Option<Timestamp>,
    /// There is an accepted policy.
    pub has_policy: bool,
    pub permission: SitePermission,
    /// Policy that governs.
    pub policy: GoverningPolicy,
    /// Effective ceilings: those of the policy, or the last valid ones.
    pub ceilings: Option<Ceilings>,
    /// Next time at which they change.
    pub ceilings_change: Option<Timestamp>,
    /// Embargo of the policy, or its last one.
    pub embargo: Option<Duration>,
    pub cluster_ceilings: Ceilings,
    /// Access to the bucket; `None`: the Site may not use it, or cannot.
    pub access: Option<BucketAccess>,
    pub cameras: Vec<ValidCamera>,
    /// Cameras among the unusable ones that the recorders have. They record nothing.
    pub denied_cameras: Vec<ValidCamera>,
    /// Names of cameras that cannot be recorded. Their own status has the cause.
    pub unusable_cameras: Vec<String>,
    pub spool_bytes: u64,
}

/// Camera that can be recorded.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidCamera {
    pub name: String,
    pub source: CameraSource,
    /// Suspensions, without those that ended long ago.
    pub suspended: Windows,
    pub created: Option<Timestamp>,
}

/// Whether the Site's spec and references let cameras record. The bucket and the policy must permit it too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordingVerdict {
    Allowed,
    /// A reference is missing, perhaps for a moment. Cameras that recorded go on until then.
    AllowedUntil(Timestamp),
    Stopped,
}

/// Time after its end for which recorders know a suspension: their clocks may be behind. Without a limit, each past suspension
/// would take room in their Secret, once for each camera.
const PAST_SUSPENSION_KEPT: SignedDuration = SignedDuration::from_hours(7 * 24);

impl ValidSite {
    /// Returns the ceilings for `Compliant`; `None`: none was ever effective.
    pub fn site_ceilings(&self) -> Option<SiteCeilings> {
        Some(SiteCeilings { effective: self.ceilings.clone()?, cluster: self.cluster_ceilings.clone() })
    }
}

/// Validates `site` with its references at `now`.
pub fn validate(
    site: &Site,
    observed: &ObservedSite,
    config: &OperatorConfig,
    cluster_id: &str,
    now: Timestamp,
) -> ValidSite {
    let names = ChildNames::of(site);
    let mut problems = Vec::new();
    let policy = resolve_policy(site, observed, config, &mut problems);
    // If the cluster's ceilings are lowered below the policy's, the policy is rejected. Lifecycle and sweep then keep the last
    // valid ceilings: a deletion cannot be undone, the lower number may be a slip, and no policy is clamped. The operator
    // records nothing new, and `Compliant` uses the lower number, so a person learns of it.
    let ceilings = effective_ceilings(site, policy, &config.ceilings, now);
    let has_policy = policy.is_some();
    let embargo = observed.policies.policy.as_ref().map(|policy| live_view::policy_embargo(&policy.spec));
    let embargo = embargo.or_else(|| site.status.as_ref()?.embargo);
    let permission = evaluate_permission(site, policy, observed, now);
    let access = bucket_access(
        site,
        observed,
        config,
        &names,
        cluster_id,
        ceilings.as_ref().map(|ceilings| &ceilings.effective),
        &mut problems,
    );
    let access = access.unwrap_or_else(|problem| {
        problems.push(problem);
        None
    });
    let spool_bytes = parse_spool_size(&site.spec).unwrap_or_else(|problem| {
        problems.push(problem);
        MIN_SPOOL_BYTES
    });
    let excess = spool_persistence::excess_loss(&site.spec.recorder);
    problems.extend(excess.map(|message| Problem::new(Reason::InvalidField, message)));
    let (cameras, denied_cameras, unusable_cameras) = validate_cameras(&site.spec, observed, now);
    let grace_end = reference_grace_end(site, &problems, now);
    let recording = recording_verdict(&problems, grace_end, now);
    ValidSite {
        names,
        accepted: accepted_finding(&problems, recording, observed.recorder_config.is_some()),
        recording,
        grace_end,
        has_policy,
        permission,
        policy: GoverningPolicy {
            name: observed.policies.name.clone(),
            policy_ref: site.spec.policy_ref.name.clone(),
            since_time: Time(governed_since(site, &observed.policies.name, now)),
        },
        ceilings_change: ceilings.as_ref().and_then(|ceilings| ceilings.next_change),
        ceilings: ceilings.map(|ceilings| ceilings.effective),
        embargo,
        cluster_ceilings: config.ceilings.clone(),
        access,
        cameras,
        denied_cameras,
        unusable_cameras,
        spool_bytes,
    }
}

fn recording_verdict(problems: &[Problem], grace_end: Option<Timestamp>, now: Timestamp) -> RecordingVerdict {
    if problems.iter().any(|problem| problem.effect == Effect::StopsRecording) {
        return RecordingVerdict::Stopped;
    }
    match grace_end {
        None => RecordingVerdict::Allowed,
        Some(until) if now < until => RecordingVerdict::AllowedUntil(until),
        Some(_) => RecordingVerdict::Stopped,
    }
}

/// Returns the end of the grace for missing references of the Site; `None`: none is missing.
fn reference_grace_end(site: &Site, problems: &[Problem], now: Timestamp) -> Option<Timestamp> {
    let is_missing = problems.iter().any(|problem| problem.effect == Effect::StopsLater);
    let reported = site.status.as_ref().and_then(|status| status.missing_reference_grace_end_time.as_ref());
    is_missing.then(|| missing_reference::site_grace_end(reported, now))
}

fn accepted_finding(
    problems: &[Problem],
    recording: RecordingVerdict,
    has_recorders: bool,
) -> ConditionFinding {
    let Some(first) = problems.first() else {
        let message = "the spec is valid and its references may be used";
        return ConditionFinding::new(ConditionType::Accepted, true, Reason::Valid, message);
    };
    let messages: Vec<&str> = problems.iter().map(|problem| problem.message.as_str()).collect();
    let is_upload_delayed = problems.iter().any(|problem| problem.effect == Effect::DelaysUploads);
    let consequence = match recording {
        RecordingVerdict::Allowed if has_recorders && is_upload_delayed => {
            "; cameras that recorded go on, and segments wait in the recorders' spools".to_owned()
        }
        RecordingVerdict::Allowed if has_recorders => {
            "; cameras that recorded go on, and recorders upload with what they have".to_owned()
        }
        RecordingVerdict::AllowedUntil(until) if has_recorders => {
            format!("; cameras that recorded go on until {until}")
        }
        _ => String::new(),
    };
    let message = format!("{}{consequence}", messages.join("; "));
    ConditionFinding::new(ConditionType::Accepted, false, first.reason, message)
}

/// Returns the policy if it is accepted.
fn resolve_policy<'a>(
    site: &Site,
    observed: &'a ObservedSite,
    config: &OperatorConfig,
    problems: &mut Vec<Problem>,
) -> Option<&'a RecordingPolicy> {
    let name = &observed.policies.name;
    let Some(policy) = &observed.policies.policy else {
        let replaced = &site.spec.policy_ref.name;
        let succession =
            if name == replaced { String::new() } else { format!(", which replaced {replaced:?}") };
        let message = format!(
            "spec.policyRef.name: this namespace has no RecordingPolicy {name:?}{succession}, or it has a form that this version cannot read; \
             create it, or correct the name"
        );
        problems.push(Problem::new(Reason::ReferenceNotFound, message).with_effect(Effect::StopsLater));
        return None;
    };
    let accepted = policy::evaluate_acceptance(&policy.spec, &config.ceilings);
    if !accepted.is_true() {
        let message = format!(
            "spec.policyRef.name: the RecordingPolicy {name:?} is not accepted; correct it there: {}",
            accepted.message
        );
        problems.push(Problem::new(Reason::ReferenceInvalid, message));
        return None;
    }
    // The policy still counts: its ceilings are valid, and its embargo then applies.
    if let Err(error) = live_view::check(&site.name_any(), site.spec.live_view, &policy.spec) {
        problems.push(Problem::new(Reason::InvalidField, error));
    }
    Some(policy)
}

fn evaluate_permission(
    site: &Site,
    policy: Option<&RecordingPolicy>,
    observed: &ObservedSite,
    now: Timestamp,
) -> SitePermission {
    let Some(policy) = policy else {
        let message = "the Site has no accepted policy: see Accepted".to_owned();
        return SitePermission::never(Reason::DependencyNotReady, message);
    };
    // Also those that go on although they cannot be read: else the Site would be silent while they record.
    let unreadable = observed.unreadable_recorded_cameras().map(|(_, camera)| camera.name.clone());
    let names: Vec<String> = observed.cameras.iter().map(ResourceExt::name_any).chain(unreadable).collect();
    let suspensions = suspension::site_suspensions(&site.spec.suspensions, &names);
    let permission = observed.policies.permission(policy, site.spec.notices.as_ref(), &suspensions, now);
    permission.unwrap_or_else(|error| SitePermission::never(Reason::InvalidField, error.to_string()))
}

/// Returns access to the bucket. `None` without a problem: no ceilings are known yet to configure it with. Without the
/// recorders' Secret, holds, sweep and audit continue (article 6).
fn bucket_access(
    site: &Site,
    observed: &ObservedSite,
    config: &OperatorConfig,
    names: &ChildNames,
    cluster_id: &str,
    ceilings: Option<&Ceilings>,
    problems: &mut Vec<Problem>,
) -> Result<Option<BucketAccess>, Problem> {
    let storage = &site.spec.storage;
    let (endpoint, exceptions) = check_grant(&site.spec, config, names)?;
    check_identities(site, observed, problems)?;
    principals::check_machine_principals(site, observed.policies.policy.as_ref())?;
    let ca_pem = storage.ca_ref.as_ref().map(|reference| {
        let authorities = &observed.camera_secrets.ca_certificates;
        require_text(authorities, SECRET_TYPE_CA, &reference.name, "ca.crt", "spec.storage.caRef")
    });
    let ca_pem = ca_pem.transpose()?;
    let ca_problem = ca_pem.as_ref().and_then(|pem| check_store_ca(storage, pem).err());
    let targets = TargetBuilder {
        storage,
        endpoint: &endpoint,
        ca_pem: ca_pem.map(|pem| pem.reveal().to_owned()),
        secrets: &observed.store_secrets,
        egress: &config.egress,
    };
    let operator = targets.operator_target()?;
    // Like a key that the store rejects: it says nothing about the bucket.
    let operator_problem = check_credentials(&operator.credentials).err();
    problems.extend(operator_problem.map(|error| {
        unusable_key("spec.storage.operator.credentialsRef", error).with_effect(Effect::StopsNothing)
    }));
    // Recorders keep a certificate authority that they can use.
    let recorder = ca_problem.map_or_else(|| recorder_target(&targets), Err);
    let recorder = recorder.map_err(|problem| problems.push(problem)).ok();
    let claim = Claim {
        cluster_id: cluster_id.to_owned(),
        namespace: names.namespace.clone(),
        site: names.site.clone(),
        uid: names.uid.clone(),
    };
    // The bucket's policy omits an auditor with another role: the rest of the policy must stay in force.
    let auditor = match principals::check_auditor_principal(site, observed.policies.policy.as_ref()) {
        Ok(()) => {
            let auditor = storage.auditor.as_ref().map(|auditor| auditor.principal.clone());
            auditor.filter(|auditor| is_one_identity(auditor))
        }
        Err(problem) => {
            problems.push(problem.into());
            None
        }
    };
    Ok(ceilings.map(|ceilings| BucketAccess {
        operator,
        recorder,
        spec: bucket_spec(site, observed, ceilings, &exceptions, auditor),
        claim,
    }))
}

/// Returns the recorders' target. Without it, the bucket is still configured, and segments wait in the spools.
fn recorder_target(targets: &TargetBuilder<'_>) -> Result<StorageTarget, Problem> {
    let target = targets.recorder_target().map_err(Problem::from);
    let checked = target.and_then(|target| match check_credentials(&target.credentials) {
        Ok(()) => Ok(target),
        Err(error) => Err(unusable_key("spec.storage.recorder.credentialsRef", error)),
    });
    checked.map_err(|problem| problem.with_effect(Effect::DelaysUploads))
}

fn unusable_key(field: &str, error: TargetError) -> Problem {
    Problem::new(Reason::InvalidField, format!("{field}: {error}"))
}

/// Checks the certificate authority of the store, as far as that needs no request.
fn check_store_ca(storage: &Storage, pem: &Secret) -> Result<(), Problem> {
    let name = storage.ca_ref.as_ref().map_or("", |reference| reference.name.as_str());
    let length = check_length(pem, name, "ca.crt", "spec.storage.caRef").map_err(Problem::from);
    let checked = length
        .and_then(|()| verify_ca(pem.reveal()).map_err(|error| Problem::new(Reason::InvalidField, error)));
    checked.map_err(|problem| problem.with_effect(Effect::StopsNothing))
}

/// Checks that a grant allows the store, and that a decision covers the exceptions. Returns both.
fn check_grant(
    spec: &SiteSpec,
    config: &OperatorConfig,
    names: &ChildNames,
) -> Result<(Endpoint, Vec<Exception>), Problem> {
    let storage = &spec.storage;
    let endpoint = Endpoint::parse(storage.endpoint.as_deref())
        .map_err(|error| Problem::new(Reason::InvalidField, format!("spec.storage.endpoint: {error}")))?;
    let exceptions = requested_exceptions(spec);
    let identities = [&storage.operator, &storage.recorder].into_iter();
    let with_roles = identities.filter(|identity| identity.workload_identity);
    let request = GrantRequest {
        namespace: &names.namespace,
        endpoint: &endpoint,
        bucket: &storage.bucket,
        roles: &with_roles.map(|identity| identity.principal.as_str()).collect::<Vec<_>>(),
        exceptions: &exceptions,
    };
    config.grants.check(&request).map_err(|denied| Problem::new(Reason::NotGranted, denied))?;
    if !exceptions.is_empty() && storage.decision.is_none() {
        let message = "spec.storage.decision: article 9: an exception needs a decision: set its by, date and reference, or remove the exception";
        return Err(Problem::new(Reason::InvalidField, message));
    }
    Ok((endpoint, exceptions))
}

/// Checks that each principal names one identity. The bucket's policy omits a person's principal that does not, so that the
/// rest stays in force. Without a machine's principal no policy can be written.
fn check_identities(
    site: &Site,
    observed: &ObservedSite,
    problems: &mut Vec<Problem>,
) -> Result<(), Problem> {
    let storage = &site.spec.storage;
    let machines = [&storage.operator.principal, &storage.recorder.principal];
    for ambiguous in principals::ambiguous_principals(site, observed.policies.policy.as_ref()) {
        let is_machine = machines.contains(&&ambiguous.principal);
        let is_of_policy = ambiguous.field.starts_with("spec.policyRef");
        let reason = if is_of_policy { Reason::ReferenceInvalid } else { Reason::InvalidField };
        let problem = Problem::new(reason, ambiguous);
        if is_machine {
            return Err(problem);
        }
        problems.push(problem);
    }
    Ok(())
}

fn bucket_spec(
    site: &Site,
    observed: &ObservedSite,
    ceilings: &Ceilings,
    exceptions: &[Exception],
    auditor: Option<String>,
) -> BucketSpec {
    BucketSpec {
        video_ceiling: ceilings.video,
        calls_ceiling: ceilings.calls,
        operator_principal: site.spec.storage.operator.principal.clone(),
        recorder_principal: site.spec.storage.recorder.principal.clone(),
        auditor,
        readers: principals::reader_principals(site, observed.policies.policy.as_ref()),
        take_over: exceptions.contains(&Exception::TakeOver),
        operator_only: exceptions.contains(&Exception::OperatorOnly),
        allow_unprotected: exceptions.contains(&Exception::AllowUnprotected),
    }
}

fn requested_exceptions(spec: &SiteSpec) -> Vec<Exception> {
    let storage = &spec.storage;
    let exceptions = [
        (storage.adoption_policy == AdoptionPolicy::TakeOver, Exception::TakeOver),
        (storage.retention_enforcement == RetentionEnforcement::OperatorOnly, Exception::OperatorOnly),
        (storage.allow_unprotected, Exception::AllowUnprotected),
    ];
    exceptions.into_iter().filter(|(is_requested, _)| *is_requested).map(|(_, exception)| exception).collect()
}

fn parse_spool_size(spec: &SiteSpec) -> Result<u64, Problem> {
    let bytes = quantity::parse_bytes(&spec.recorder.spool.size).filter(|bytes| *bytes >= MIN_SPOOL_BYTES);
    bytes.ok_or_else(|| {
        let size = &spec.recorder.spool.size;
        let message = format!(
            "spec.recorder.spool.size: {size:?} is not a quantity of at least 64Mi; write one such as 20Gi"
        );
        Problem::new(Reason::InvalidField, message)
    })
}

/// Returns the cameras that can be recorded, those that the recorders have and that may not record, and the names of all that
/// cannot be recorded.
///
/// A camera that the recorders have keeps its place: without it, its recorder would forget its gaps. One that cannot be read goes
/// on as the recorders have it: its suspensions are the Site's, and nobody withdrew it.
fn validate_cameras(
    spec: &SiteSpec,
    observed: &ObservedSite,
    now: Timestamp,
) -> (Vec<ValidCamera>, Vec<ValidCamera>, Vec<String>) {
    let (mut valid, mut denied, mut unusable) = (Vec::new(), Vec::new(), Vec::new());
    let known = |name: &str| observed.recorded_camera(name).map(|camera| camera.source.clone());
    let past = now.saturating_sub(PAST_SUSPENSION_KEPT).unwrap_or(Timestamp::MIN);
    let camera_of = |meta: &ObjectMeta, source| {
        let name = meta.name.clone().unwrap_or_default();
        let suspended = suspension::camera_suspensions(&spec.suspensions, &name).ending_after(past);
        let created = meta.creation_timestamp.as_ref().map(|created| created.0);
        ValidCamera { name, source, suspended, created }
    };
    for camera in &observed.cameras {
        let name = camera.name_any();
        let valid_camera = |source| camera_of(&camera.metadata, source);
        match camera_source::resolve(&camera.spec, &observed.camera_secrets) {
            Ok(source) => valid.push(valid_camera(source)),
            Err(error) => match known(&name) {
                Some(source) if keeps_source(&error, camera, now) => valid.push(valid_camera(source)),
                Some(source) => {
                    denied.push(valid_camera(source));
                    unusable.push(name);
                }
                None => unusable.push(name),
            },
        }
    }
    let unreadable = observed.unreadable_recorded_cameras();
    valid.extend(unreadable.map(|(meta, camera)| camera_of(meta, camera.source.clone())));
    (valid, denied, unusable)
}

/// Returns whether a camera is recorded with the source that the recorders have.
fn keeps_source(error: &CameraSourceError, camera: &Camera, now: Timestamp) -> bool {
    match error {
        // A text that was short enough was replaced: nobody withdrew the camera.
        CameraSourceError::Secret(MissingSecret::TooLong { .. }) => true,
        // Its Secret is missing, perhaps for a moment.
        CameraSourceError::Secret(_) => missing_reference::is_camera_in_grace(camera, now),
        CameraSourceError::NotVisible | CameraSourceError::InvalidUrl => false,
    }
}

#[cfg(test)]
mod tests;
