//! The proof of the machines' principals, before explicit Denies depend on them: a typing error must not lock the operator out.
//!
//! The proof *adds* statements to the present policy, each about a canary of its own, and judges them by the rights that the two
//! identities then have. Nobody loses a needed right. For these seconds, only the Denies for everyone else are lifted. The operator
//! writes the real policy only if a Deny that names it stops it, and a Deny for everyone but it does not. The proof also finds the
//! store's [`Dialect`].

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::policy::{PolicyEffect, ProofPolicy, restorable_statements};
use crate::rules::RetentionTag;
use crate::storage::bucket::error::EnforceError;
use crate::storage::bucket::policy::actions::{
    BucketRef, MORE_SETTINGS, NEWER_SETTINGS, allow, any_principal, aws_principal, deny, with_condition,
};
use crate::storage::bucket::policy::dialect::{Dialect, EveryoneExcept};
use crate::storage::bucket::policy::document::{MAX_POLICY_BYTES, document_bytes, proof_sid};
use crate::storage::bucket::policy::partition;
use crate::storage::bucket::policy::statements::{
    deny_everyone_except, is_everyone_else_statement, plain_http_condition, request_tag_key,
};
use crate::storage::bucket::probe::actor::Actor;
use crate::storage::bucket::probe::canary::{Canary, random_name, remove_canaries};
use crate::storage::s3::{BucketClient, StoreError};

/// Maximum size of a proof's statements, in bytes.
const PROOF_BYTES: usize = 2_800;

/// Proves both principals and finds the dialect. Restores the policy and removes the canaries, even after an error.
pub(crate) async fn prove_machines(
    operator: &BucketClient,
    recorder: &BucketClient,
    principals: (&str, &str),
    existing: &[Value],
) -> Result<Dialect, EnforceError> {
    let folder = format!("probe/proof/{}/", random_name());
    let before = restorable_statements(existing);
    let beside = without_everyone_else(&before);
    let bytes = document_bytes(&beside);
    if bytes + PROOF_BYTES > MAX_POLICY_BYTES {
        return Err(EnforceError::Rejected {
            reason: format!(
                "the bucket's policy has {bytes} bytes, which leaves no room to prove principals"
            ),
            remedy: "remove that policy as the store's administrator: the operator writes its own".into(),
        });
    }
    let trial = ProofPolicy::new(operator, principals.0, &folder, &beside);
    let proof = MachineProof { trial, recorder, principals };
    // No `?` before the policy is restored: its statements would stay.
    let proved = proof.run().await;
    let restored = proof.trial.restore(&before).await;
    remove_canaries(operator, &folder).await;
    let dialect = proved?;
    // A store without policies has nothing to restore, and rejects the request.
    if dialect.heeds_policies {
        restored?;
    }
    Ok(dialect)
}

/// Returns the statements beside which a proof runs. "Everyone but" names the previous principals, and would stop new ones before
/// their proof.
pub(crate) fn without_everyone_else(statements: &[Value]) -> Vec<Value> {
    statements.iter().filter(|statement| !is_everyone_else_statement(statement)).cloned().collect()
}

struct MachineProof<'a> {
    trial: ProofPolicy<'a>,
    recorder: &'a BucketClient,
    /// The operator's and the recorders'.
    principals: (&'a str, &'a str),
}

impl MachineProof<'_> {
    async fn run(&self) -> Result<Dialect, EnforceError> {
        let (trial, (operator, recorder)) = (&self.trial, self.principals);
        for name in ["open", "tls"] {
            trial.write_canary(name).await?;
        }
        // Each result is a lost right, so the operator must have the right without the statements.
        if !trial.can_read("open").await? {
            return Err(EnforceError::Rejected {
                reason: "the operator's identity cannot read the object that it put under probe/".into(),
                remedy: "give it the rights that docs/reference/stores.md lists".into(),
            });
        }
        if !self.policies_take_effect().await? {
            return Ok(Dialect { heeds_policies: false, ..Dialect::unproved(operator, recorder) });
        }
        match trial.put_statements("rights", self.recorder_statements()).await? {
            PolicyEffect::Effective => (),
            PolicyEffect::Ineffective => return Err(EnforceError::WrongPrincipal { identity: "operator" }),
            PolicyEffect::Rejected(_) => return Err(self.wrong_principal_error().await?),
        }
        // Over plain HTTP the Deny would apply, and the desired policy omits it anyway.
        let deny_plain_http = !trial.operator.is_tls || trial.can_read("tls").await?;
        if !self.can_put("put/x", None).await? || self.can_put("put/not/x", None).await? {
            return Err(EnforceError::WrongPrincipal { identity: "recorder" });
        }
        Ok(Dialect {
            request_tag: self.can_put("tagged/x", Some(RetentionTag::Video)).await?,
            deny_tagging: self.can_put("retag/x", Some(RetentionTag::Video)).await?,
            more_settings: self.accepts_actions(&MORE_SETTINGS).await?,
            newer_settings: self.accepted_newer_settings().await?,
            others: self.find_everyone_except().await?,
            deny_plain_http,
            ..Dialect::unproved(operator, recorder)
        })
    }

    /// Returns whether policies have an effect at all: tries a Deny for everybody, which depends on no principal.
    async fn policies_take_effect(&self) -> Result<bool, EnforceError> {
        let trial = &self.trial;
        trial.write_canary("form").await?;
        let form = deny(&proof_sid("Form"), &any_principal(), &["s3:GetObject"], &trial.resource("form"));
        match trial.put_and_wait("form", vec![form]).await {
            Ok(PolicyEffect::Effective) => Ok(true),
            Ok(PolicyEffect::Ineffective) => Ok(false),
            Ok(PolicyEffect::Rejected(error)) => {
                Err(unsupported_policy_error(&error, trial, self.principals.0))
            }
            Err(error) if error.is_unsupported() => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns the principal that the store rejects: it accepts a policy that names nobody, and rejects one that names both.
    async fn wrong_principal_error(&self) -> Result<EnforceError, StoreError> {
        let identity = match self.trial.put_statements("operator", vec![]).await? {
            PolicyEffect::Rejected(_) => "operator",
            PolicyEffect::Effective | PolicyEffect::Ineffective => "recorder",
        };
        Ok(EnforceError::WrongPrincipal { identity })
    }

    /// Returns statements about the recorder's rights, and about TLS.
    fn recorder_statements(&self) -> Vec<Value> {
        let trial = &self.trial;
        let recorder = aws_principal(self.principals.1);
        let put = ["s3:PutObject"];
        // At AWS, a put with a tag needs the right to tag, too.
        let put_tagged = ["s3:PutObject", "s3:PutObjectTagging"];
        let tagged = allow(&proof_sid("Tagged"), &recorder, &put_tagged, &trial.resource("tagged/*"));
        let has_tag = json!({ "StringEquals": { request_tag_key(): ["sealed", "video"] } });
        let mut all = vec![
            allow(&proof_sid("Put"), &recorder, &put, &trial.resource("put/*")),
            deny(&proof_sid("NoPut"), &recorder, &put, &trial.resource("put/not/*")),
            with_condition(tagged, has_tag),
            allow(&proof_sid("Retag"), &recorder, &put, &trial.resource("retag/*")),
            deny(&proof_sid("NoRetag"), &recorder, &["s3:PutObjectTagging"], &trial.resource("retag/*")),
        ];
        if trial.operator.is_tls {
            let plain = deny(&proof_sid("Tls"), &any_principal(), &["s3:GetObject"], &trial.resource("tls"));
            all.push(with_condition(plain, plain_http_condition()));
        }
        all
    }

    /// Returns whether the recorder can put an object with this tag.
    async fn can_put(&self, name: &str, tag: Option<RetentionTag>) -> Result<bool, StoreError> {
        let recorder = Actor { store: self.recorder, observer: self.trial.operator };
        recorder.can_put(&Canary::new(self.trial.key(name), tag)).await
    }

    /// Returns whether the store accepts a policy with these actions.
    async fn accepts_actions(&self, actions: &[&str]) -> Result<bool, StoreError> {
        let bucket = self.trial.resources.bucket();
        let operator = aws_principal(self.principals.0);
        let statement = allow(&proof_sid("Settings"), &operator, actions, &[bucket]);
        self.trial.accepts_statements(&[statement]).await
    }

    /// Returns the actions that the store's policies know. Tries each of them only if the store rejects them together.
    async fn accepted_newer_settings(&self) -> Result<BTreeSet<String>, StoreError> {
        let mut known = BTreeSet::new();
        let all = self.accepts_actions(&NEWER_SETTINGS).await?;
        for action in NEWER_SETTINGS {
            if all || self.accepts_actions(&[action]).await? {
                known.insert(action.to_owned());
            }
        }
        Ok(known)
    }

    /// Returns the best form of "everyone but": one that exempts the operator if it is named, and stops it if another is.
    async fn find_everyone_except(&self) -> Result<EveryoneExcept, EnforceError> {
        let trial = &self.trial;
        for others in EveryoneExcept::CANDIDATES {
            let name = format!("{others:?}");
            let (ours, theirs) = (format!("{name}-us"), format!("{name}-them"));
            for name in [&ours, &theirs] {
                trial.write_canary(name).await?;
            }
            // A Deny that exempts only nobody must stop the operator: otherwise the store ignores the exemption's form.
            let nobody = nonexistent_principal(self.principals.0);
            let exempt = [(ours.as_str(), self.principals.0), (theirs.as_str(), nobody.as_str())];
            let statements = exempt.into_iter().filter_map(|(name, principal)| {
                let elements = others.statement_elements(&[principal])?;
                Some(self.deny_get_except(name, elements))
            });
            let effect = trial.put_statements(&name, statements.collect()).await?;
            // A rejection means that the store does not know the form: the next one is tried.
            if effect == PolicyEffect::Effective
                && trial.can_read(&ours).await?
                && !trial.can_read(&theirs).await?
            {
                return Ok(others);
            }
        }
        Ok(EveryoneExcept::Unsaid)
    }

    fn deny_get_except(&self, name: &str, elements: Map<String, Value>) -> Value {
        // A Sid has letters and digits only.
        let letters: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
        let sid = proof_sid(&format!("Others{letters}"));
        deny_everyone_except(&sid, elements, &["s3:GetObject"], &self.trial.resource(name))
    }
}

/// Returns the error for a store that rejects even a policy that names nobody.
fn unsupported_policy_error(error: &StoreError, trial: &ProofPolicy<'_>, principal: &str) -> EnforceError {
    let partition = partition::of(principal, BucketRef::from(trial.operator).region);
    EnforceError::StoreUnsupported {
        reason: format!(
            "the store rejects bucket policies in S3's form (version 2012-10-17, ARNs of the partition {partition}): {error}"
        ),
        remedy: "use a store that accepts such policies (Scaleway has a form of its own, which is not supported); if only the \
                 partition is wrong, write the ARN of the right one in spec.storage.operator.principal"
            .into(),
    }
}

/// Returns a principal of the same form that names nobody.
fn nonexistent_principal(principal: &str) -> String {
    let name = format!("toezicht-nobody-{}", random_name());
    match principal.rsplit_once('/') {
        Some((path, _)) => format!("{path}/{name}"),
        None => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonexistent_principal_keeps_the_form() {
        assert!(
            nonexistent_principal("arn:aws:iam::1:user/a/b")
                .starts_with("arn:aws:iam::1:user/a/toezicht-nobody-")
        );
        assert!(nonexistent_principal("operator").starts_with("toezicht-nobody-"));
        assert_ne!(nonexistent_principal("x"), nonexistent_principal("x"));
    }
}
