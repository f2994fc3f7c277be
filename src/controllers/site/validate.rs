//! Step two: from what was fetched to types that cannot be wrong. Pure; decides whether the site may store
//! where it says, before any connection is made.

use jiff::Timestamp;

use super::bucket::Access;
use super::compliance::InForce;
use super::dereference::Dereferenced;
use super::names::Names;
use super::target::Ground;
use crate::api::condition::{ConditionType, Finding, Reason};
use crate::api::{
    AdoptionPolicy, Ceilings, RecordingPolicy, RetentionEnforcement, SECRET_TYPE_CA, Site, SiteSpec,
    is_one_identity,
};
use crate::controllers::config::OperatorConfig;
use crate::controllers::grant::{Endpoint, Exception, Request};
use crate::controllers::kit::camera::{self, Source};
use crate::controllers::kit::quantity;
use crate::controllers::kit::reference::{self, MissingSecret};
use crate::protocol::permission::Gates;
use crate::protocol::{Windows, live_view, policy, retention, suspension};
use crate::storage::{BucketSpec, Claim, readers};
use kube::ResourceExt;

/// A smaller spool cannot hold a few segments of a camera.
const SMALLEST_SPOOL: u64 = 64 << 20;

/// A Site as far as it can be followed.
#[derive(Clone, Debug, PartialEq)]
pub struct Valid {
    /// Names of its children.
    pub names: Names,
    /// `Accepted`.
    pub accepted: Finding,
    /// When the protocol allows recording.
    pub permission: Permission,
    /// The ceilings that are in force here: the policy's, or the last that were.
    pub ceilings: Option<Ceilings>,
    /// What the cluster allows at most.
    pub cluster: Ceilings,
    /// The bucket; `None`: it may not or cannot be used.
    pub access: Option<Access>,
    /// The cameras that can be recorded.
    pub cameras: Vec<ValidCamera>,
    /// Names of the cameras that cannot; each says why in its own status.
    pub left_out: Vec<String>,
    /// How much the spool holds, in bytes.
    pub spool_bytes: u64,
}

/// When the protocol allows recording at a site.
#[derive(Clone, Debug, PartialEq)]
pub struct Permission {
    /// `Permitted`.
    pub finding: Finding,
    /// When; suspensions are not in it.
    pub windows: Windows,
    /// When the finding changes by itself.
    pub next_change: Option<Timestamp>,
}

/// A camera that can be recorded.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidCamera {
    /// Its name.
    pub name: String,
    /// Where its picture comes from.
    pub source: Source,
    /// When it is covered.
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
            MissingSecret::NoKey { .. } => Reason::ReferenceRefused,
        };
        Self::new(reason, missing)
    }
}

impl Valid {
    /// The ceilings by which `Compliant` is judged; `None`: none was ever in force.
    pub fn in_force(&self) -> Option<InForce> {
        Some(InForce { ruling: self.ceilings.clone()?, cluster: self.cluster.clone() })
    }
}

/// Checks `site` with what it names, at the instant `now`.
pub fn validate(
    site: &Site,
    found: &Dereferenced,
    config: &OperatorConfig,
    cluster_id: &str,
    now: Timestamp,
) -> Valid {
    let names = Names::of(site);
    let mut problems = Vec::new();
    let policy = accepted_policy(site, found, config, &mut problems);
    // Where the cluster's ceilings were lowered below the policy's, the policy is refused, and the last that could be followed
    // go on to rule lifecycle and sweep: deleting cannot be undone, a number in the operator's configuration may be a slip,
    // and no policy is clamped. Nothing new is recorded, and `Compliant` is judged by the lower number, so a person is told.
    let ceilings = policy
        .and_then(|policy| retention::ceilings(&policy.spec.retention, &config.ceilings).ok())
        .or_else(|| site.status.as_ref()?.ceilings.clone());
    let permission = permission(site, policy, found, now);
    let access = access(site, found, config, &names, cluster_id, ceilings.as_ref(), &mut problems);
    let access = access.unwrap_or_else(|problem| {
        problems.push(problem);
        None
    });
    let spool_bytes = spool(&site.spec).unwrap_or_else(|problem| {
        problems.push(problem);
        SMALLEST_SPOOL
    });
    let (cameras, left_out) = cameras(&site.spec, found);
    Valid {
        names,
        accepted: accepted(&problems),
        permission,
        ceilings,
        cluster: config.ceilings.clone(),
        access,
        cameras,
        left_out,
        spool_bytes,
    }
}

fn accepted(problems: &[Problem]) -> Finding {
    match problems.first() {
        None => Finding::new(
            ConditionType::Accepted,
            true,
            Reason::Valid,
            "the spec is valid and what it names may be used",
        ),
        Some(first) => {
            let all: Vec<&str> = problems.iter().map(|problem| problem.message.as_str()).collect();
            Finding::new(ConditionType::Accepted, false, first.reason, all.join("; "))
        }
    }
}

/// The policy, where there is one that can be followed at this site.
fn accepted_policy<'a>(
    site: &Site,
    found: &'a Dereferenced,
    config: &OperatorConfig,
    problems: &mut Vec<Problem>,
) -> Option<&'a RecordingPolicy> {
    let name = &site.spec.policy_ref.name;
    let Some(policy) = &found.policy else {
        let message = format!(
            "spec.policyRef: there is no RecordingPolicy named {name:?} that can be read: create it in this namespace"
        );
        problems.push(Problem::new(Reason::ReferenceNotFound, message));
        return None;
    };
    let verdict = policy::accept(&policy.spec, &config.ceilings);
    if !verdict.is_true() {
        let message =
            format!("spec.policyRef: the RecordingPolicy {name:?} cannot be followed: {}", verdict.message);
        problems.push(Problem::new(Reason::ReferenceRefused, message));
        return None;
    }
    if let Err(error) = live_view::check(&site.name_any(), site.spec.live_view, &policy.spec) {
        problems.push(Problem::new(Reason::InvalidField, error.safe_message()));
    }
    Some(policy)
}

/// When recording is allowed. Without a policy that can be followed: never.
fn permission(
    site: &Site,
    policy: Option<&RecordingPolicy>,
    found: &Dereferenced,
    now: Timestamp,
) -> Permission {
    let never = |reason, message: String| Permission {
        finding: Finding::new(ConditionType::Permitted, false, reason, message),
        windows: Windows::never(),
        next_change: None,
    };
    let Some(policy) = policy else {
        return never(Reason::DependsOn, "there is no policy that can be followed: see Accepted".to_owned());
    };
    match Gates::of(&policy.spec, site.spec.notices.as_ref()) {
        Err(error) => never(Reason::InvalidField, error.safe_message()),
        Ok(gates) => {
            let names: Vec<String> = found.cameras.iter().map(ResourceExt::name_any).collect();
            let covered = suspension::of_site(&site.spec.suspensions, &names);
            Permission {
                finding: gates.verdict(&covered, now),
                windows: gates.windows(),
                next_change: gates.next_change(&covered, now),
            }
        }
    }
}

/// The bucket, if a grant allows it and the operator's Secrets are there. `None` without a problem: there are no ceilings
/// yet to set it up with. Without the recorders' Secret, what is in it is looked after all the same (article 6).
fn access(
    site: &Site,
    found: &Dereferenced,
    config: &OperatorConfig,
    names: &Names,
    cluster_id: &str,
    ceilings: Option<&Ceilings>,
    problems: &mut Vec<Problem>,
) -> Result<Option<Access>, Problem> {
    let storage = &site.spec.storage;
    let endpoint = Endpoint::parse(storage.endpoint.as_deref())
        .map_err(|error| Problem::new(Reason::InvalidField, format!("spec.storage.endpoint: {error}")))?;
    let exceptions = exceptions(&site.spec);
    let identities_in_use = [&storage.operator, &storage.recorder].into_iter();
    let ambient = identities_in_use.filter(|identity| identity.ambient);
    let roles: Vec<&str> = ambient.map(|identity| identity.principal.as_str()).collect();
    let request = Request {
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
    identities(site, found, problems)?;
    readers::no_machine(site, found.policy.as_ref())
        .map_err(|(reason, message)| Problem::new(reason, message))?;
    let ca_pem = storage.ca_ref.as_ref().map(|reference| {
        let authorities = &found.camera_secrets.authorities;
        reference::text(authorities, SECRET_TYPE_CA, &reference.name, "ca.crt", "spec.storage.caRef")
    });
    let ca_pem = ca_pem.transpose()?.map(|pem| pem.reveal().to_owned());
    let ground = Ground {
        storage,
        endpoint: &endpoint,
        ca_pem,
        secrets: &found.store_secrets,
        egress: &config.egress,
    };
    let operator = ground.operator()?;
    let recorder = ground.recorder();
    let recorder = recorder.map_err(|missing| problems.push(missing.into())).ok();
    let claim = Claim {
        cluster_id: cluster_id.to_owned(),
        namespace: names.namespace.clone(),
        site: names.site.clone(),
        uid: names.uid.clone(),
    };
    // One that is somebody else too is left out of the bucket's policy, which goes on as it must.
    let auditor = match readers::auditor_apart(site, found.policy.as_ref()) {
        Ok(()) => {
            let auditor = storage.auditor.as_ref().map(|auditor| auditor.principal.clone());
            auditor.filter(|auditor| is_one_identity(auditor))
        }
        Err((reason, message)) => {
            problems.push(Problem::new(reason, message));
            None
        }
    };
    Ok(ceilings.map(|ceilings| Access {
        operator,
        recorder,
        spec: bucket_spec(site, found, ceilings, &exceptions, auditor),
        claim,
    }))
}

/// Each principal names one identity. A person's that does not is left out of the bucket's policy, which goes on as it
/// must; with a machine's no policy can be written.
fn identities(site: &Site, found: &Dereferenced, problems: &mut Vec<Problem>) -> Result<(), Problem> {
    let storage = &site.spec.storage;
    let machines = [&storage.operator.principal, &storage.recorder.principal];
    for wrong in readers::not_one_identity(site, found.policy.as_ref()) {
        let is_machine = machines.contains(&&wrong.principal);
        let reason = if wrong.field.starts_with("spec.policyRef") {
            Reason::ReferenceRefused
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
    found: &Dereferenced,
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
        readers: readers::of(site, found.policy.as_ref()),
        take_over: exceptions.contains(&Exception::TakeOver),
        operator_only: exceptions.contains(&Exception::OperatorOnly),
        allow_unprotected: exceptions.contains(&Exception::AllowUnprotected),
    }
}

/// The exceptions that a Site makes use of.
fn exceptions(spec: &SiteSpec) -> Vec<Exception> {
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

fn spool(spec: &SiteSpec) -> Result<u64, Problem> {
    let bytes = quantity::bytes(&spec.recorder.spool.size).filter(|bytes| *bytes >= SMALLEST_SPOOL);
    bytes.ok_or_else(|| {
        Problem::new(
            Reason::InvalidField,
            "spec.recorder.spool.size: write a quantity of at least 64Mi, such as 20Gi",
        )
    })
}

/// The cameras that can be recorded, and the names of those that cannot.
fn cameras(spec: &SiteSpec, found: &Dereferenced) -> (Vec<ValidCamera>, Vec<String>) {
    let (mut valid, mut left_out) = (Vec::new(), Vec::new());
    for camera in &found.cameras {
        let name = camera.name_any();
        match camera::source(&camera.spec, &found.camera_secrets) {
            Ok(source) => {
                let suspended = suspension::of_camera(&spec.suspensions, &name);
                valid.push(ValidCamera { name, source, suspended });
            }
            Err(_) => left_out.push(name),
        }
    }
    (valid, left_out)
}

#[cfg(test)]
#[path = "validate_tests.rs"]
mod tests;
