//! The principals of a Site's identities, which must be distinct (article 4.1): pure.

use super::dialect::may_be_same_identity;
use crate::api::condition::Reason;
use crate::api::{RecordingPolicy, Site, is_one_identity};
use crate::storage::bucket::error::EnforceError;
use crate::storage::bucket::spec::BucketSpec;

/// A principal that may stand for more than one identity (article 4.1), and the field that holds it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{field}: article 4.1: {principal:?} does not name one identity: write the ARN of a user or role, or a bare name, of \
     letters, digits and +=,.@_- only"
)]
pub struct AmbiguousPrincipal {
    pub field: String,
    pub principal: String,
}

/// Returns the principals of a Site by field: the machines', then those of the auditor, the managers and the policy's officers.
fn principals_by_field(site: &Site, policy: Option<&RecordingPolicy>) -> Vec<(String, String)> {
    let storage = &site.spec.storage;
    let machines = [("operator", &storage.operator.principal), ("recorder", &storage.recorder.principal)];
    let auditor = storage.auditor.iter().map(|auditor| ("auditor", &auditor.principal));
    let storage = machines.into_iter().chain(auditor);
    let storage = storage.map(|(key, it)| (format!("spec.storage.{key}.principal"), Some(it)));
    let managers = site.spec.managers.iter().enumerate();
    let managers = managers.map(|(n, it)| (format!("spec.managers[{n}].principal"), it.principal.as_ref()));
    let officers = policy.into_iter().flat_map(|policy| &policy.spec.incident_officers).enumerate();
    let officers = officers.map(|(n, it)| {
        let field = format!("spec.policyRef: spec.incidentOfficers[{n}].principal of the policy");
        (field, it.principal.as_ref())
    });
    let all = storage.chain(managers).chain(officers);
    all.filter_map(|(field, principal)| Some((field, principal?.clone()))).collect()
}

/// Returns the fields with this principal, joined for a message.
pub fn fields_naming(site: &Site, policy: Option<&RecordingPolicy>, principal: &str) -> String {
    let fields = principals_by_field(site, policy).into_iter();
    let named: Vec<String> = fields.filter(|(_, named)| named == principal).map(|(field, _)| field).collect();
    named.join(", ")
}

/// Returns the principals that do not name one identity, in the order of their fields. A Site that is older than the admission
/// rule can have some.
pub fn ambiguous_principals(site: &Site, policy: Option<&RecordingPolicy>) -> Vec<AmbiguousPrincipal> {
    let fields = principals_by_field(site, policy).into_iter();
    fields
        .filter(|(_, principal)| !is_one_identity(principal))
        .map(|(field, principal)| AmbiguousPrincipal { field, principal })
        .collect()
}

/// Returns the principals of the Site's managers and the policy's incident officers, each once. Omits those that do not name one
/// identity.
pub fn reader_principals(site: &Site, policy: Option<&RecordingPolicy>) -> Vec<String> {
    let managers = site.spec.managers.iter().map(|manager| &manager.principal);
    let officers = policy.into_iter().flat_map(|policy| &policy.spec.incident_officers);
    let mut readers: Vec<String> = managers
        .chain(officers.map(|officer| &officer.principal))
        .flatten()
        .filter(|principal| is_one_identity(principal))
        .cloned()
        .collect();
    readers.sort_unstable();
    readers.dedup();
    readers
}

/// Checks that each machine has an identity of its own: the Denies for recorders and readers would lock the operator out. The schema
/// compares only the managers, and only as texts.
pub fn check_machine_principals(
    site: &Site,
    policy: Option<&RecordingPolicy>,
) -> Result<(), (Reason, String)> {
    let storage = &site.spec.storage;
    if may_be_same_identity(&storage.operator.principal, &storage.recorder.principal) {
        let message = "spec.storage.recorder.principal: article 3.2: the operator and the recorders need two identities with \
                       different names: a Deny for one would stop the other";
        return Err((Reason::InvalidField, message.to_owned()));
    }
    let machines = [&storage.operator.principal, &storage.recorder.principal];
    let is_machine = |person: &Option<String>| {
        let person = person.as_deref();
        machines.iter().any(|machine| person.is_some_and(|person| may_be_same_identity(person, machine)))
    };
    let remedy = "article 3.2: no machine may watch; do not name the operator's or the recorders' principal";
    if site.spec.managers.iter().any(|manager| is_machine(&manager.principal)) {
        return Err((Reason::InvalidField, format!("spec.managers: {remedy}")));
    }
    let mut officers = policy.into_iter().flat_map(|policy| &policy.spec.incident_officers);
    if officers.any(|officer| is_machine(&officer.principal)) {
        let message = format!("spec.policyRef: incidentOfficers of the policy: {remedy}");
        return Err((Reason::ReferenceInvalid, message));
    }
    Ok(())
}

/// Returns whether an auditor may be the same identity as one of the others.
fn is_shared(auditor: &str, machines: [&String; 2], readers: &[String]) -> bool {
    let mut others = machines.into_iter().chain(readers);
    others.any(|other| may_be_same_identity(other, auditor))
}

/// Checks that the auditor has an identity of its own: its Denies would stop each of the others.
pub fn check_auditor_principal(
    site: &Site,
    policy: Option<&RecordingPolicy>,
) -> Result<(), (Reason, String)> {
    let storage = &site.spec.storage;
    let Some(auditor) = &storage.auditor else {
        return Ok(());
    };
    let machines = [&storage.operator.principal, &storage.recorder.principal];
    if is_shared(&auditor.principal, machines, &reader_principals(site, policy)) {
        let message = "spec.storage.auditor.principal: article 3: an auditor may not read recordings or change anything: give it \
                       a principal of its own, not a machine's, a manager's or an incident officer's";
        return Err((Reason::InvalidField, message.to_owned()));
    }
    Ok(())
}

/// Checks that no two principals may name one identity: a Deny for one would stop the other, and could lock the operator out.
pub(crate) fn check_distinct_principals(spec: &BucketSpec) -> Result<(), EnforceError> {
    check_unambiguous_principals(spec)?;
    let rejected = |reason: String, remedy: &str| {
        Err(EnforceError::Rejected { reason, remedy: format!("article 3.2: {remedy}") })
    };
    let machines = [("operator", &spec.operator_principal), ("recorders", &spec.recorder_principal)];
    if may_be_same_identity(machines[0].1, machines[1].1) {
        return rejected(
            "the operator's and the recorders' principals name one identity".to_owned(),
            "give the recorders a principal of their own",
        );
    }
    for (machine, principal) in machines {
        if spec.readers.iter().any(|reader| may_be_same_identity(reader, principal)) {
            return rejected(
                format!(
                    "the principal of the {machine} is also one of a manager or incident officer: {principal}"
                ),
                "no machine may watch: give managers and incident officers principals of their own",
            );
        }
    }
    let Some(auditor) = &spec.auditor else {
        return Ok(());
    };
    if is_shared(auditor, machines.map(|(_, machine)| machine), &spec.readers) {
        return rejected(
            format!("the auditor's principal is also one of another identity: {auditor}"),
            "an auditor may not read recordings or change anything: give it a principal of its own",
        );
    }
    Ok(())
}

/// Checks that each principal names one identity. A variable or a wildcard would exempt everybody in an exemption, and stop everybody
/// in a Deny.
fn check_unambiguous_principals(spec: &BucketSpec) -> Result<(), EnforceError> {
    let machines = [
        ("spec.storage.operator.principal", &spec.operator_principal),
        ("spec.storage.recorder.principal", &spec.recorder_principal),
    ];
    let auditor = spec.auditor.iter();
    let auditor = auditor.map(|auditor| ("spec.storage.auditor.principal", auditor));
    let readers = spec.readers.iter();
    let readers = readers.map(|reader| ("the principal of a manager or incident officer", reader));
    let mut all = machines.into_iter().chain(auditor).chain(readers);
    let Some((field, principal)) = all.find(|(_, principal)| !is_one_identity(principal)) else {
        return Ok(());
    };
    let error = AmbiguousPrincipal { field: field.to_owned(), principal: principal.clone() };
    let remedy = "nothing is written until it does".to_owned();
    Err(EnforceError::Rejected { reason: error.to_string(), remedy })
}
