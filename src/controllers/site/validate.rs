//! Step two: from what was fetched to types that cannot be wrong. Pure; decides whether the site may store
//! where it says, before any connection is made.

use jiff::Timestamp;
use kube::ResourceExt;

use super::bucket::BucketAccess;
use super::bucket::target::TargetBuilder;
use super::compliance::SiteCeilings;
use super::dereference::ObservedSite;
use super::recorders::names::ChildNames;
use crate::api::condition::{ConditionFinding, ConditionType, Reason};
use crate::api::{
    AdoptionPolicy, Ceilings, RecordingPolicy, RetentionEnforcement, SECRET_TYPE_CA, Site, SiteSpec,
    is_one_identity,
};
use crate::controllers::camera_source;
use crate::controllers::config::OperatorConfig;
use crate::controllers::grant::{Endpoint, Exception, GrantRequest};
use crate::controllers::kubernetes::secret_ref::MissingSecret;
use crate::controllers::kubernetes::{quantity, secret_ref};
use crate::rules::permission::Prerequisites;
use crate::rules::{Windows, live_view, policy, retention, suspension};
use crate::storage::bucket::policy::principals;
use crate::storage::{BucketSpec, Claim};
use crate::wire::CameraSource;

/// A smaller spool cannot hold a few segments of a camera.
const MIN_SPOOL_BYTES: u64 = 64 << 20;

/// A Site as far as it can be followed.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidSite {
    pub names: ChildNames,
    /// `Accepted`.
    pub accepted: ConditionFinding,
    pub permission: SitePermission,
    /// The ceilings that are in force here: the policy's, or the last that were.
    pub ceilings: Option<Ceilings>,
    /// What the cluster allows at most.
    pub cluster_ceilings: Ceilings,
    /// The bucket; `None`: it may not or cannot be used.
    pub access: Option<BucketAccess>,
    /// The cameras that can be recorded.
    pub cameras: Vec<ValidCamera>,
    /// Names of the cameras that cannot; each says why in its own status.
    pub unusable_cameras: Vec<String>,
    /// How much the spool holds, in bytes.
    pub spool_bytes: u64,
}

/// When the protocol allows recording at a site.
#[derive(Clone, Debug, PartialEq)]
pub struct SitePermission {
    /// `Permitted`.
    pub finding: ConditionFinding,
    /// When; suspensions are not in it.
    pub windows: Windows,
    /// When the finding changes by itself.
    pub next_change: Option<Timestamp>,
}

/// A camera that can be recorded.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidCamera {
    pub name: String,
    pub source: CameraSource,
    pub suspended: Windows,
}

/// Something that only a person can put right.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Problem {
    reason: Reason,
    message: String,
}

impl Problem {
    fn new(reason: Reason, message: impl ToString) -> Self {
        Self { reason, message: message.to_string() }
    }
}

impl From<MissingSecret> for Problem {
    fn from(missing: MissingSecret) -> Self {
        let reason = match missing {
            MissingSecret::NotFound { .. } => Reason::ReferenceNotFound,
            MissingSecret::NoKey { .. } => Reason::ReferenceInvalid,
        };
        Self::new(reason, missing)
    }
}

impl ValidSite {
    /// The ceilings by which `Compliant` is judged; `None`: none was ever in force.
    pub fn site_ceilings(&self) -> Option<SiteCeilings> {
        Some(SiteCeilings { effective: self.ceilings.clone()?, cluster: self.cluster_ceilings.clone() })
    }
}

/// Checks `site` with what it names, at the instant `now`.
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
    // Where the cluster's ceilings were lowered below the policy's, the policy is refused, and the last that could be followed
    // go on to rule lifecycle and sweep: deleting cannot be undone, a number in the operator's configuration may be a slip,
    // and no policy is clamped. Nothing new is recorded, and `Compliant` is judged by the lower number, so a person is told.
    let ceilings = policy
        .and_then(|policy| retention::validate_ceilings(&policy.spec.retention, &config.ceilings).ok())
        .or_else(|| site.status.as_ref()?.ceilings.clone());
    let permission = evaluate_permission(site, policy, observed, now);
    let access = bucket_access(site, observed, config, &names, cluster_id, ceilings.as_ref(), &mut problems);
    let access = access.unwrap_or_else(|problem| {
        problems.push(problem);
        None
    });
    let spool_bytes = parse_spool_size(&site.spec).unwrap_or_else(|problem| {
        problems.push(problem);
        MIN_SPOOL_BYTES
    });
    let (cameras, unusable_cameras) = validate_cameras(&site.spec, observed);
    ValidSite {
        names,
        accepted: accepted_finding(&problems),
        permission,
        ceilings,
        cluster_ceilings: config.ceilings.clone(),
        access,
        cameras,
        unusable_cameras,
        spool_bytes,
    }
}

fn accepted_finding(problems: &[Problem]) -> ConditionFinding {
    match problems.first() {
        None => ConditionFinding::new(
            ConditionType::Accepted,
            true,
            Reason::Valid,
            "the spec is valid and what it names may be used",
        ),
        Some(first) => {
            let all: Vec<&str> = problems.iter().map(|problem| problem.message.as_str()).collect();
            ConditionFinding::new(ConditionType::Accepted, false, first.reason, all.join("; "))
        }
    }
}

/// The policy, where there is one that can be followed at this site.
fn resolve_policy<'a>(
    site: &Site,
    observed: &'a ObservedSite,
    config: &OperatorConfig,
    problems: &mut Vec<Problem>,
) -> Option<&'a RecordingPolicy> {
    let name = &site.spec.policy_ref.name;
    let Some(policy) = &observed.policy else {
        let message = format!(
            "spec.policyRef: there is no RecordingPolicy named {name:?} that can be read: create it in this namespace"
        );
        problems.push(Problem::new(Reason::ReferenceNotFound, message));
        return None;
    };
    let verdict = policy::evaluate_acceptance(&policy.spec, &config.ceilings);
    if !verdict.is_true() {
        let message =
            format!("spec.policyRef: the RecordingPolicy {name:?} cannot be followed: {}", verdict.message);
        problems.push(Problem::new(Reason::ReferenceInvalid, message));
        return None;
    }
    if let Err(error) = live_view::check(&site.name_any(), site.spec.live_view, &policy.spec) {
        problems.push(Problem::new(Reason::InvalidField, error.to_string()));
    }
    Some(policy)
}

/// When recording is allowed. Without a policy that can be followed: never.
fn evaluate_permission(
    site: &Site,
    policy: Option<&RecordingPolicy>,
    observed: &ObservedSite,
    now: Timestamp,
) -> SitePermission {
    let never = |reason, message: String| SitePermission {
        finding: ConditionFinding::new(ConditionType::Permitted, false, reason, message),
        windows: Windows::empty(),
        next_change: None,
    };
    let Some(policy) = policy else {
        return never(
            Reason::DependencyNotReady,
            "there is no policy that can be followed: see Accepted".to_owned(),
        );
    };
    match Prerequisites::from_policy(&policy.spec, site.spec.notices.as_ref()) {
        Err(error) => never(Reason::InvalidField, error.to_string()),
        Ok(gates) => {
            let names: Vec<String> = observed.cameras.iter().map(ResourceExt::name_any).collect();
            let covered = suspension::site_suspensions(&site.spec.suspensions, &names);
            SitePermission {
                finding: gates.evaluate(&covered, now),
                windows: gates.permitted_windows(),
                next_change: gates.next_change(&covered, now),
            }
        }
    }
}

/// The bucket, if a grant allows it and the operator's Secrets are there. `None` without a problem: there are no ceilings
/// yet to set it up with. Without the recorders' Secret, what is in it is looked after all the same (article 6).
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
    let endpoint = Endpoint::parse(storage.endpoint.as_deref())
        .map_err(|error| Problem::new(Reason::InvalidField, format!("spec.storage.endpoint: {error}")))?;
    let exceptions = requested_exceptions(&site.spec);
    let identities_in_use = [&storage.operator, &storage.recorder].into_iter();
    let ambient = identities_in_use.filter(|identity| identity.workload_identity);
    let roles: Vec<&str> = ambient.map(|identity| identity.principal.as_str()).collect();
    let request = GrantRequest {
        namespace: &names.namespace,
        endpoint: &endpoint,
        bucket: &storage.bucket,
        roles: &roles,
        exceptions: &exceptions,
    };
    config.grants.check(&request).map_err(|refusal| Problem::new(Reason::NotGranted, refusal))?;
    if !exceptions.is_empty() && storage.decision.is_none() {
        let message = "spec.storage.decision: article 9: an exception needs a decision: say who decided, when, and where it can be found";
        return Err(Problem::new(Reason::InvalidField, message));
    }
    check_identities(site, observed, problems)?;
    principals::check_machine_principals(site, observed.policy.as_ref())
        .map_err(|(reason, message)| Problem::new(reason, message))?;
    let ca_pem = storage.ca_ref.as_ref().map(|reference| {
        let authorities = &observed.camera_secrets.ca_certificates;
        secret_ref::require_text(authorities, SECRET_TYPE_CA, &reference.name, "ca.crt", "spec.storage.caRef")
    });
    let ca_pem = ca_pem.transpose()?.map(|pem| pem.reveal().to_owned());
    let targets = TargetBuilder {
        storage,
        endpoint: &endpoint,
        ca_pem,
        secrets: &observed.store_secrets,
        egress: &config.egress,
    };
    let operator = targets.operator_target()?;
    let recorder = targets.recorder_target();
    let recorder = recorder.map_err(|missing| problems.push(missing.into())).ok();
    let claim = Claim {
        cluster_id: cluster_id.to_owned(),
        namespace: names.namespace.clone(),
        site: names.site.clone(),
        uid: names.uid.clone(),
    };
    // One that is somebody else too is left out of the bucket's policy, which goes on as it must.
    let auditor = match principals::check_auditor_principal(site, observed.policy.as_ref()) {
        Ok(()) => {
            let auditor = storage.auditor.as_ref().map(|auditor| auditor.principal.clone());
            auditor.filter(|auditor| is_one_identity(auditor))
        }
        Err((reason, message)) => {
            problems.push(Problem::new(reason, message));
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

/// Each principal names one identity. A person's that does not is left out of the bucket's policy, which goes on as it
/// must; with a machine's no policy can be written.
fn check_identities(
    site: &Site,
    observed: &ObservedSite,
    problems: &mut Vec<Problem>,
) -> Result<(), Problem> {
    let storage = &site.spec.storage;
    let machines = [&storage.operator.principal, &storage.recorder.principal];
    for wrong in principals::ambiguous_principals(site, observed.policy.as_ref()) {
        let is_machine = machines.contains(&&wrong.principal);
        let reason = if wrong.field.starts_with("spec.policyRef") {
            Reason::ReferenceInvalid
        } else {
            Reason::InvalidField
        };
        let problem = Problem::new(reason, wrong);
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
        readers: principals::reader_principals(site, observed.policy.as_ref()),
        take_over: exceptions.contains(&Exception::TakeOver),
        operator_only: exceptions.contains(&Exception::OperatorOnly),
        allow_unprotected: exceptions.contains(&Exception::AllowUnprotected),
    }
}

/// The exceptions that a Site makes use of.
fn requested_exceptions(spec: &SiteSpec) -> Vec<Exception> {
    let storage = &spec.storage;
    [
        (storage.adoption_policy == AdoptionPolicy::TakeOver).then_some(Exception::TakeOver),
        (storage.retention_enforcement == RetentionEnforcement::OperatorOnly)
            .then_some(Exception::OperatorOnly),
        storage.allow_unprotected.then_some(Exception::AllowUnprotected),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn parse_spool_size(spec: &SiteSpec) -> Result<u64, Problem> {
    let bytes = quantity::parse_bytes(&spec.recorder.spool.size).filter(|bytes| *bytes >= MIN_SPOOL_BYTES);
    bytes.ok_or_else(|| {
        Problem::new(
            Reason::InvalidField,
            "spec.recorder.spool.size: write a quantity of at least 64Mi, such as 20Gi",
        )
    })
}

/// The cameras that can be recorded, and the names of those that cannot.
fn validate_cameras(spec: &SiteSpec, observed: &ObservedSite) -> (Vec<ValidCamera>, Vec<String>) {
    let (mut valid, mut left_out) = (Vec::new(), Vec::new());
    for camera in &observed.cameras {
        let name = camera.name_any();
        match camera_source::resolve(&camera.spec, &observed.camera_secrets) {
            Ok(source) => {
                let suspended = suspension::camera_suspensions(&spec.suspensions, &name);
                valid.push(ValidCamera { name, source, suspended });
            }
            Err(_) => left_out.push(name),
        }
    }
    (valid, left_out)
}

#[cfg(test)]
mod tests;
