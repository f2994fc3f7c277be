//! The proof of people's principals (auditor, managers, officers), before a policy names them. A store may take a name for several
//! identities. Such a name would exempt everybody from the Denies for everyone else, or stop everybody.
//!
//! Nobody has the people's credentials. So the operator and the recorders try in their place: a Deny that names people must stop
//! neither, and "everyone but these people" must stop both. The proof also finds names that the store does not know.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::machines::without_everyone_else;
use super::policy::{PolicyEffect, ProofPolicy, restorable_statements};
use crate::storage::bucket::drift::DesiredBucket;
use crate::storage::bucket::error::EnforceError;
use crate::storage::bucket::observe;
use crate::storage::bucket::policy::actions::{BucketRef, allow, aws_principal, deny};
use crate::storage::bucket::policy::dialect::{Dialect, EveryoneExcept};
use crate::storage::bucket::policy::document::{
    MAX_POLICY_BYTES, RESERVED_POLICY_BYTES, document_bytes, proof_sid,
};
use crate::storage::bucket::policy::statements::{deny_everyone_except, policy_statements};
use crate::storage::bucket::probe::actor::Actor;
use crate::storage::bucket::probe::canary::{Canary, random_name, remove_canaries};
use crate::storage::bucket::spec::BucketSpec;
use crate::storage::s3::{BucketClient, StoreError};

const GET: [&str; 1] = ["s3:GetObject"];
const PUT: [&str; 1] = ["s3:PutObject"];

/// Returns the principals of the people that a bucket's policy names.
pub(crate) fn principals_of(spec: &BucketSpec) -> BTreeSet<String> {
    spec.auditor.iter().chain(&spec.readers).cloned().collect()
}

/// Returns `spec` without these people.
pub(crate) fn without_principals(spec: &BucketSpec, omitted: &BTreeSet<String>) -> BucketSpec {
    let mut spec = spec.clone();
    spec.auditor = spec.auditor.filter(|auditor| !omitted.contains(auditor));
    spec.readers.retain(|reader| !omitted.contains(reader));
    spec
}

pub(crate) struct PeopleProver<'a> {
    pub(crate) operator: &'a BucketClient,
    pub(crate) recorder: Option<&'a BucketClient>,
    pub(crate) spec: &'a BucketSpec,
}

impl PeopleProver<'_> {
    /// Proves the people's principals beside the present policy, and enters the result in `dialect`.
    pub(crate) async fn prove_people(
        &self,
        dialect: &mut Dialect,
        existing: &[Value],
    ) -> Result<(), EnforceError> {
        let people = principals_of(self.spec);
        dialect.left_out = if dialect.heeds_policies && !people.is_empty() {
            self.find_unknown_people(people.iter().cloned().collect(), dialect, existing).await?
        } else {
            BTreeSet::new()
        };
        dialect.people = people;
        Ok(())
    }

    /// Proves that each principal is one identity, or none. Returns those that the store does not know. Restores the policy and
    /// removes the canaries, even after an error.
    async fn find_unknown_people(
        &self,
        people: Vec<String>,
        dialect: &Dialect,
        existing: &[Value],
    ) -> Result<BTreeSet<String>, EnforceError> {
        let folder = format!("probe/proof/{}/", random_name());
        let before = restorable_statements(existing);
        let beside = without_everyone_else(&before);
        let proof = PeopleProof {
            trial: ProofPolicy::new(self.operator, &self.spec.operator_principal, &folder, &beside),
            recorder: self.recorder.map(|recorder| (recorder, self.spec.recorder_principal.as_str())),
            others: dialect.others,
        };
        let unknown = proof.prove_in_halves(&people).await;
        let restored = proof.trial.restore(&before).await;
        remove_canaries(self.operator, &folder).await;
        let unknown = unknown?;
        restored?;
        Ok(unknown)
    }

    /// Returns the desired bucket, without unknown people, and with a policy that fits.
    pub(crate) fn desired_bucket(&self, dialect: &Dialect) -> Result<DesiredBucket, EnforceError> {
        let (place, tls) = (self.operator.into(), self.operator.is_tls);
        let spec = without_principals(self.spec, &dialect.left_out);
        let desired = DesiredBucket::for_spec(place, &spec, dialect, tls)?;
        check_policy_size(place, &spec, dialect, tls)?;
        Ok(desired)
    }
}

/// Checks that stores accept the policy, with the statements of a probe. The error says how many of the readers fit.
pub(crate) fn check_policy_size(
    bucket: BucketRef<'_>,
    spec: &BucketSpec,
    dialect: &Dialect,
    tls: bool,
) -> Result<(), EnforceError> {
    const LIMIT: usize = MAX_POLICY_BYTES - RESERVED_POLICY_BYTES;
    let bytes = |spec: &BucketSpec| document_bytes(&policy_statements(bucket, spec, dialect, tls));
    let whole = bytes(spec);
    if whole <= LIMIT {
        return Ok(());
    }
    let mut fewer = spec.clone();
    // One by one from the end, because principals differ in length.
    while bytes(&fewer) > LIMIT && fewer.readers.pop().is_some() {}
    Err(EnforceError::PolicyTooLong {
        people: spec.readers.len(),
        bytes: whole,
        limit: LIMIT,
        fits: fewer.readers.len(),
    })
}

struct PeopleProof<'a> {
    trial: ProofPolicy<'a>,
    /// With its principal; `None`: there are no credentials.
    recorder: Option<(&'a BucketClient, &'a str)>,
    others: EveryoneExcept,
}

/// Result of a policy that names some people.
enum ProofOutcome {
    /// Each is one identity, and no machine.
    Proved,
    /// The store does not know one of them.
    UnknownIdentity,
    /// One of them is more than one identity; the evidence.
    Ambiguous(&'static str),
}

impl PeopleProof<'_> {
    /// Returns the principals that the store does not know. Tries all together, and halves them after a failure, or if the policy
    /// would be too long.
    async fn prove_in_halves(&self, people: &[String]) -> Result<BTreeSet<String>, EnforceError> {
        let mut unknown = BTreeSet::new();
        let mut remaining = vec![people];
        let mut number = 0;
        while let Some(some) = remaining.pop() {
            number += 1;
            let name = format!("people-{number}");
            let (first, second) = some.split_at(some.len() / 2);
            let is_long = self.trial.policy_bytes(&self.statements(&name, some)) > MAX_POLICY_BYTES;
            if is_long && some.len() > 1 {
                remaining.extend([first, second]);
                continue;
            }
            match (self.try_policy(&name, some).await?, some) {
                (ProofOutcome::Proved, _) => (),
                (ProofOutcome::UnknownIdentity, [one]) => {
                    unknown.insert(one.clone());
                }
                (ProofOutcome::Ambiguous(evidence), [one]) => {
                    return Err(EnforceError::AmbiguousPrincipal { principal: one.clone(), evidence });
                }
                (ProofOutcome::UnknownIdentity | ProofOutcome::Ambiguous(_), _) => {
                    remaining.extend([first, second]);
                }
            }
        }
        Ok(unknown)
    }

    async fn try_policy(&self, name: &str, people: &[String]) -> Result<ProofOutcome, EnforceError> {
        let trial = &self.trial;
        let canary = |part: &str| format!("{name}-{part}");
        for part in ["named", "exempt"] {
            trial.write_canary(&canary(part)).await?;
        }
        match trial.put_statements(name, self.statements(name, people)).await? {
            PolicyEffect::Effective => (),
            PolicyEffect::Rejected(_) => return Ok(ProofOutcome::UnknownIdentity),
            PolicyEffect::Ineffective => {
                return Err(EnforceError::StoreUnsupported {
                    reason: "a bucket policy that names managers and officers did not come into force".into(),
                    remedy: "check the store; the operator tries again".into(),
                });
            }
        }
        // A store shows a deleted identity by another name.
        let stored = observe::read_policy(trial.operator).await?.unwrap_or_default();
        if people.iter().any(|person| !stored.contains(&format!("\"{person}\""))) {
            return Ok(ProofOutcome::UnknownIdentity);
        }
        if !trial.can_read(&canary("named")).await? {
            return Ok(ProofOutcome::Ambiguous("a Deny that names it stops the operator"));
        }
        // The recorders, too: a name like `${aws:username}` may stand for any identity that is not the operator.
        if self.recorder_can_put(&canary("put/named")).await? == Some(false) {
            return Ok(ProofOutcome::Ambiguous("a Deny that names it stops the recorders"));
        }
        if self.others == EveryoneExcept::Unsaid {
            return Ok(ProofOutcome::Proved);
        }
        if trial.can_read(&canary("exempt")).await?
            || self.recorder_can_put(&canary("put/exempt")).await? == Some(true)
        {
            return Ok(ProofOutcome::Ambiguous("an exemption of it exempts everybody"));
        }
        Ok(ProofOutcome::Proved)
    }

    /// Returns `None` without recorder credentials.
    async fn recorder_can_put(&self, name: &str) -> Result<Option<bool>, StoreError> {
        let Some((store, _)) = self.recorder else {
            return Ok(None);
        };
        let recorder = Actor { store, observer: self.trial.operator };
        Ok(Some(recorder.can_put(&Canary::new(self.trial.key(name), None)).await?))
    }

    fn statements(&self, name: &str, people: &[String]) -> Vec<Value> {
        let at = |part: &str| self.trial.resource(&format!("{name}-{part}"));
        let named = json!({ "AWS": people });
        let recorder = self.recorder.map(|(_, principal)| principal);
        // Each machine is exempt from the Deny that the other one tries.
        let all_but = |part: &str, machine: Option<&str>, action: &[&str], canary: &str| {
            let exempt: Vec<&str> = people.iter().map(String::as_str).chain(machine).collect();
            let elements = self.others.statement_elements(&exempt)?;
            Some(deny_everyone_except(&proof_sid(part), elements, action, &at(canary)))
        };
        let mut all = vec![deny(&proof_sid("Named"), &named, &GET, &at("named"))];
        all.extend(all_but("Exempt", recorder, &GET, "exempt"));
        if let Some(recorder) = recorder {
            let operator = self.trial.operator_principal;
            all.push(allow(&proof_sid("Put"), &aws_principal(recorder), &PUT, &at("put/*")));
            all.push(deny(&proof_sid("PutNamed"), &named, &PUT, &at("put/named")));
            all.extend(all_but("PutExempt", Some(operator), &PUT, "put/exempt"));
        }
        all
    }
}
