//! Who may look at what an incident holds, as the store names them (article 4.1). Pure.

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

/// Principals of a Site by field: machines first, then the auditor, the managers and the policy's officers.
fn principals_by_field(site: &Site, policy: Option<&RecordingPolicy>) -> Vec<(String, String)> {
    let storage = &site.spec.storage;
    let of =
        |field: String, principal: &Option<String>| principal.clone().map(|principal| (field, principal));
    let machines = [("operator", &storage.operator.principal), ("recorder", &storage.recorder.principal)];
    let machines = machines.map(|(whose, principal)| {
        let field = format!("spec.storage.{whose}.principal");
        Some((field, principal.clone()))
    });
    let auditor = storage.auditor.as_ref().map(|auditor| auditor.principal.clone());
    let auditor = of("spec.storage.auditor.principal".to_owned(), &auditor);
    let managers = site.spec.managers.iter().enumerate();
    let managers =
        managers.map(|(n, manager)| of(format!("spec.managers[{n}].principal"), &manager.principal));
    let officers = policy.into_iter().flat_map(|policy| &policy.spec.incident_officers).enumerate();
    let officers = officers.map(|(n, officer)| {
        let field = format!("spec.policyRef: spec.incidentOfficers[{n}].principal of the policy");
        of(field, &officer.principal)
    });
    machines.into_iter().chain([auditor]).chain(managers).chain(officers).flatten().collect()
}

/// Returns the path of each field whose principal is `principal`, joined; for messages.
pub fn fields_naming(site: &Site, policy: Option<&RecordingPolicy>, principal: &str) -> String {
    let fields = principals_by_field(site, policy).into_iter();
    let named: Vec<String> = fields.filter(|(_, named)| named == principal).map(|(field, _)| field).collect();
    named.join(", ")
}

/// Principals that do not name one identity, in the order of their fields. What admission refuses may have been
/// admitted before it did.
pub fn ambiguous_principals(site: &Site, policy: Option<&RecordingPolicy>) -> Vec<AmbiguousPrincipal> {
    let fields = principals_by_field(site, policy).into_iter();
    fields
        .filter(|(_, principal)| !is_one_identity(principal))
        .map(|(field, principal)| AmbiguousPrincipal { field, principal })
        .collect()
}

/// The principals of the site's managers and the policy's incident officers, each once; none of them that does not name
/// one identity.
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

/// Each machine is an identity of its own: what recorders and readers are denied would lock the operator out. Of
/// the managers the schema sees what is the same text; the officers are seen only here.
pub fn check_machine_principals(
    site: &Site,
    policy: Option<&RecordingPolicy>,
) -> Result<(), (Reason, String)> {
    let storage = &site.spec.storage;
    if may_be_same_identity(&storage.operator.principal, &storage.recorder.principal) {
        let message = "spec.storage.recorder.principal: article 3.2: operator and recorders are two identities, by name \
                       too: what the one is denied would stop the other";
        return Err((Reason::InvalidField, message.to_owned()));
    }
    let machines = [&storage.operator.principal, &storage.recorder.principal];
    let is_machine = |person: &Option<String>| {
        let person = person.as_deref();
        machines.iter().any(|machine| person.is_some_and(|person| may_be_same_identity(person, machine)))
    };
    let remedy =
        "article 3.2: no machine may watch; the operator's and the recorders' principals are theirs alone";
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

/// Whether an auditor is one of the others too, by name at least.
fn is_shared(auditor: &str, machines: [&String; 2], readers: &[String]) -> bool {
    let mut others = machines.into_iter().chain(readers);
    others.any(|other| may_be_same_identity(other, auditor))
}

/// An auditor is denied what each of the others needs.
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
        let message = "spec.storage.auditor.principal: article 3: an auditor may read no recording and change nothing: give it \
                       a principal of its own, not a machine's, a manager's or an incident officer's";
        return Err((Reason::InvalidField, message.to_owned()));
    }
    Ok(())
}

/// What one identity is denied would stop the other, were they one under two names: the operator's own among them would
/// lock it out.
pub(crate) fn check_distinct_principals(spec: &BucketSpec) -> Result<(), EnforceError> {
    check_unambiguous_principals(spec)?;
    let rejected = |what: String, remedy: &str| {
        let remedy = format!("article 3.2: {remedy}");
        Err(EnforceError::Rejected { reason: what, remedy })
    };
    let machines = [("operator", &spec.operator_principal), ("recorders", &spec.recorder_principal)];
    if may_be_same_identity(machines[0].1, machines[1].1) {
        return rejected(
            "the operator's and the recorders' principals name one identity".to_owned(),
            "they are two: give the recorders a principal of their own",
        );
    }
    for (machine, principal) in machines {
        if spec.readers.iter().any(|reader| may_be_same_identity(reader, principal)) {
            return rejected(
                format!("the {machine} and somebody who may read what is held are one identity: {principal}"),
                "no machine may watch: give managers and incident officers principals of their own",
            );
        }
    }
    let Some(auditor) = &spec.auditor else {
        return Ok(());
    };
    if is_shared(auditor, machines.map(|(_, machine)| machine), &spec.readers) {
        return rejected(
            format!("the auditor is somebody else too: {auditor}"),
            "an auditor reads no recording and changes nothing: give it a principal of its own",
        );
    }
    Ok(())
}

/// What stands in a statement names one identity, or no statement is written: a variable or a wildcard in an exemption
/// exempts everybody, and in a Deny it stops everybody.
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
    match all.find(|(_, principal)| !is_one_identity(principal)) {
        None => Ok(()),
        Some((field, principal)) => {
            let (field, principal) = (field.to_owned(), principal.clone());
            let what = AmbiguousPrincipal { field, principal }.to_string();
            let remedy = "nothing is written before".to_owned();
            Err(EnforceError::Rejected { reason: what, remedy })
        }
    }
}
