//! Proving the principals of people (auditor, managers, officers) before a policy names them: a name that a store takes
//! for more than one identity would exempt everybody from what everyone else is denied, or stop everybody.
//!
//! Nobody has their credentials. So the operator and the recorders try as strangers: a Deny that names people must stop
//! neither, and "everyone but these people" must stop both. Names that the store knows no identity of are found too.

use std::collections::BTreeSet;

use serde_json::Value;

use super::machines::{restorable_statements, without_everyone_else};
use super::policy::{PolicyEffect, ProofPolicy};
use crate::storage::bucket::drift::DesiredBucket;
use crate::storage::bucket::error::EnforceError;
use crate::storage::bucket::observe;
use crate::storage::bucket::policy::actions::{allow, aws_principal, deny};
use crate::storage::bucket::policy::dialect::{Dialect, EveryoneExcept};
use crate::storage::bucket::policy::document::{MAX_POLICY_BYTES, PROOF_SID_PREFIX};
use crate::storage::bucket::policy::statements::deny_everyone_except;
use crate::storage::bucket::probe::canary;
use crate::storage::bucket::probe::canary::{Canary, random_name};
use crate::storage::bucket::spec::BucketSpec;
use crate::storage::s3::client::BucketClient;
use crate::storage::s3::error::StoreError;

const GET: [&str; 1] = ["s3:GetObject"];
const PUT: [&str; 1] = ["s3:PutObject"];

/// Principals of the people that a bucket's policy names.
pub(crate) fn principals_of(spec: &BucketSpec) -> BTreeSet<String> {
    spec.auditor.iter().chain(&spec.readers).cloned().collect()
}

/// `spec` without these people.
pub(crate) fn without_principals(spec: &BucketSpec, left_out: &BTreeSet<String>) -> BucketSpec {
    let mut spec = spec.clone();
    spec.auditor = spec.auditor.filter(|auditor| !left_out.contains(auditor));
    spec.readers.retain(|reader| !left_out.contains(reader));
    spec
}

/// Proves that each of the people is one identity, or none: those of which the store knows none. Whatever comes of it,
/// the policy that was there is there again, and the canaries are gone.
pub(crate) async fn find_unknown_people(
    operator: &BucketClient,
    recorder: Option<&BucketClient>,
    spec: &BucketSpec,
    dialect: &Dialect,
    existing: &[Value],
) -> Result<BTreeSet<String>, EnforceError> {
    let people: Vec<String> = principals_of(spec).into_iter().collect();
    if people.is_empty() {
        return Ok(BTreeSet::new());
    }
    let base = format!("probe/proof/{}/", random_name());
    let before = restorable_statements(existing);
    let beside = without_everyone_else(&before);
    let proof = PeopleProof {
        trial: ProofPolicy::new(operator, &spec.operator_principal, &base, &beside),
        recorder: recorder.map(|recorder| (recorder, spec.recorder_principal.as_str())),
        operator: &spec.operator_principal,
        others: dialect.others,
    };
    let unknown = proof.prove_in_halves(&people).await;
    let restored = proof.trial.restore(&before).await;
    canary::remove_canaries(operator, &base).await;
    let unknown = unknown?;
    restored?;
    Ok(unknown)
}

pub(crate) struct PeopleProver<'a> {
    pub(crate) operator: &'a BucketClient,
    pub(crate) recorder: Option<&'a BucketClient>,
    pub(crate) spec: &'a BucketSpec,
}

impl PeopleProver<'_> {
    /// Proves the people's principals, beside the policy that is there.
    pub(crate) async fn prove_people(
        &self,
        dialect: &mut Dialect,
        statements: &[Value],
    ) -> Result<(), EnforceError> {
        dialect.left_out = if dialect.heeds_policies {
            find_unknown_people(self.operator, self.recorder, self.spec, dialect, statements).await?
        } else {
            BTreeSet::new()
        };
        dialect.people = principals_of(self.spec);
        Ok(())
    }

    /// The bucket that must be: without those whom the store does not know, and with a policy that it takes.
    pub(crate) fn desired_bucket(&self, dialect: &Dialect) -> Result<DesiredBucket, EnforceError> {
        let place = self.operator.into();
        let spec = without_principals(self.spec, &dialect.left_out);
        let desired = DesiredBucket::for_spec(place, &spec, dialect, self.operator.is_tls)?;
        crate::storage::bucket::policy::size::check_policy_size(place, &spec, dialect, self.operator.is_tls)?;
        Ok(desired)
    }
}

struct PeopleProof<'a> {
    trial: ProofPolicy<'a>,
    /// With its principal; `None`: there are no credentials to try with.
    recorder: Option<(&'a BucketClient, &'a str)>,
    operator: &'a str,
    others: EveryoneExcept,
}

/// What came of a policy that names some people.
enum ProofOutcome {
    /// Each is one identity, and no machine.
    Proved,
    /// The store does not know one of them.
    UnknownIdentity,
    /// One of them is more than one identity: how it shows.
    Ambiguous(&'static str),
}

impl PeopleProof<'_> {
    /// Those whom the store does not know. Tried together, and in halves where something is wrong with some, or where a
    /// policy that names them all would be too long.
    async fn prove_in_halves(&self, people: &[String]) -> Result<BTreeSet<String>, EnforceError> {
        let mut unknown = BTreeSet::new();
        let mut left = vec![people];
        let mut number = 0;
        while let Some(some) = left.pop() {
            number += 1;
            let name = format!("people-{number}");
            let halves = some.split_at(some.len() / 2);
            let is_long = self.trial.policy_bytes(&self.statements(&name, some)) > MAX_POLICY_BYTES;
            if is_long && some.len() > 1 {
                left.extend([halves.0, halves.1]);
                continue;
            }
            match (self.try_policy(&name, some).await?, some) {
                (ProofOutcome::Proved, _) => (),
                (ProofOutcome::UnknownIdentity, [one]) => {
                    unknown.insert(one.clone());
                }
                (ProofOutcome::Ambiguous(how), [one]) => {
                    let principal = one.clone();
                    return Err(EnforceError::AmbiguousPrincipal { principal, evidence: how });
                }
                (ProofOutcome::UnknownIdentity | ProofOutcome::Ambiguous(_), _) => {
                    left.extend([halves.0, halves.1]);
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
                    remedy: "look at the store; the operator tries again".into(),
                });
            }
        }
        // A store that knows an identity no longer shows it by another name.
        let kept = observe::read_policy(trial.operator).await?.unwrap_or_default();
        if people.iter().any(|person| !kept.contains(&format!("\"{person}\""))) {
            return Ok(ProofOutcome::UnknownIdentity);
        }
        if !trial.can_read(&canary("named")).await? {
            return Ok(ProofOutcome::Ambiguous("a Deny that names it stops the operator"));
        }
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

    /// `None`: there is nobody to try.
    async fn recorder_can_put(&self, name: &str) -> Result<Option<bool>, StoreError> {
        let Some((recorder, _)) = self.recorder else {
            return Ok(None);
        };
        let canary = Canary::new(self.trial.key(name), None);
        Ok(Some(canary.write_and_find(recorder, self.trial.operator).await?))
    }

    fn statements<'b>(&'b self, name: &str, people: &'b [String]) -> Vec<Value> {
        let at = |part: &str| self.trial.resource(&format!("{name}-{part}"));
        let sid = |part: &str| format!("{PROOF_SID_PREFIX}{part}");
        let people: Vec<&str> = people.iter().map(String::as_str).collect();
        let named = serde_json::json!({ "AWS": people });
        let (us, them) = (self.operator, self.recorder.map(|(_, principal)| principal));
        let exempt =
            |other: Option<&'b str>| -> Vec<&'b str> { people.iter().copied().chain(other).collect() };
        let mut all = vec![deny(&sid("Named"), &named, &GET, &at("named"))];
        let all_but = |part: &str, exempt: &[&str], action: &[&str], place: &str| {
            let elements = self.others.statement_elements(exempt)?;
            Some(deny_everyone_except(&sid(part), elements, action, &at(place)))
        };
        all.extend(all_but("Exempt", &exempt(them), &GET, "exempt"));
        if let Some(them) = them {
            all.push(allow(&sid("Put"), &aws_principal(them), &PUT, &at("put/*")));
            all.push(deny(&sid("PutNamed"), &named, &PUT, &at("put/named")));
            all.extend(all_but("PutExempt", &exempt(Some(us)), &PUT, "put/exempt"));
        }
        all
    }
}
