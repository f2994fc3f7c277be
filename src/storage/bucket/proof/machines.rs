//! Proving principals before explicit Denies are applied: a typing error must not lock the operator out.
//!
//! Statements are *added* to the policy that is there, each about a canary of its own, and judged by what the
//! two identities can then do: nobody loses a right that matters, and nothing that protects is lifted but, for
//! these seconds, what stops everyone else. Only when a Deny that names the operator stops the operator, and a
//! Deny for everyone but the operator does not, is the real policy written. On the way it is learnt which words
//! the store understands ([`Dialect`]).

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::policy::{PolicyEffect, ProofPolicy};
use crate::rules::recording::tag::{RetentionTag, TAG_KEY};
use crate::storage::bucket::error::EnforceError;
use crate::storage::bucket::policy::actions::{
    BucketRef, MORE_SETTINGS, NEWER_SETTINGS, allow, any_principal, aws_principal, deny, set_element,
};
use crate::storage::bucket::policy::dialect::{Dialect, EveryoneExcept};
use crate::storage::bucket::policy::document;
use crate::storage::bucket::policy::document::{PROOF_SID_PREFIX, is_proof_statement};
use crate::storage::bucket::policy::statements::{deny_everyone_except, is_everyone_else_statement};
use crate::storage::bucket::probe::canary;
use crate::storage::bucket::probe::canary::{Canary, random_name};
use crate::storage::s3::client::BucketClient;
use crate::storage::s3::error::StoreError;

/// Bytes of a policy that the statements of a proof take at most.
const PROOF_BYTES: usize = 2_800;

/// Proves both principals and learns the store's words. Whatever comes of it, the policy that was there is
/// there again, and the canaries are gone.
pub(crate) async fn prove_machines(
    operator: &BucketClient,
    recorder: &BucketClient,
    principals: (&str, &str),
    existing: &[Value],
) -> Result<Dialect, EnforceError> {
    let base = format!("probe/proof/{}/", random_name());
    let before = restorable_statements(existing);
    let beside = without_everyone_else(&before);
    let bytes = document::document_bytes(&beside);
    if bytes + PROOF_BYTES > document::MAX_POLICY_BYTES {
        return Err(EnforceError::Rejected {
            reason: format!("the bucket's policy has {bytes} bytes, which leaves no room to try principals"),
            remedy: "remove that policy as the store's administrator: the operator writes its own".into(),
        });
    }
    let proof = MachineProof {
        trial: ProofPolicy::new(operator, principals.0, &base, &beside),
        recorder,
        principals,
    };
    let proved = proof.run().await;
    // Nothing was put where the store has no policies.
    let restored = match &proved {
        Ok(dialect) if !dialect.heeds_policies => proof.trial.restore(&before).await.or(Ok(())),
        _ => proof.trial.restore(&before).await,
    };
    canary::remove_canaries(operator, &base).await;
    let dialect = proved?;
    restored?;
    Ok(dialect)
}

/// The statements of a policy that are put back after something was tried: not those of an operator that died half
/// way, and nobody whom the store no longer knows, as it would take no policy that names one.
pub(crate) fn restorable_statements(existing: &[Value]) -> Vec<Value> {
    let standing = existing.iter().filter(|statement| !is_proof_statement(statement));
    standing.filter_map(document::without_deleted_principals).collect()
}

/// Those beside which something is tried. "Everyone but" names the principals that were, and would refuse new ones before
/// they can be proved.
pub(crate) fn without_everyone_else(standing: &[Value]) -> Vec<Value> {
    let beside = standing.iter().filter(|statement| !is_everyone_else_statement(statement));
    beside.cloned().collect()
}

struct MachineProof<'a> {
    trial: ProofPolicy<'a>,
    recorder: &'a BucketClient,
    principals: (&'a str, &'a str),
}

impl MachineProof<'_> {
    async fn run(&self) -> Result<Dialect, EnforceError> {
        let (trial, (us, them)) = (&self.trial, self.principals);
        for name in ["open", "tls"] {
            trial.write_canary(name).await?;
        }
        if !trial.can_read("open").await? {
            return Err(EnforceError::Rejected {
                reason: "the operator's identity cannot read what it wrote under probe/".into(),
                remedy: "give it the rights that docs/reference/stores.md lists".into(),
            });
        }
        if !self.policies_take_effect().await? {
            return Ok(Dialect { heeds_policies: false, ..Dialect::unproved(us, them) });
        }
        match trial.put_statements("rights", self.recorder_statements()).await? {
            PolicyEffect::Effective => (),
            PolicyEffect::Ineffective => return Err(EnforceError::WrongPrincipal { identity: "operator" }),
            PolicyEffect::Rejected(_) => return Err(self.wrong_principal_error().await?),
        }
        let deny_plain_http = !trial.operator.is_tls || trial.can_read("tls").await?;
        let (recorder_named, request_tag, deny_tagging) = self.observe_recorder().await?;
        if !recorder_named {
            return Err(EnforceError::WrongPrincipal { identity: "recorder" });
        }
        Ok(Dialect {
            more_settings: self.accepts_actions(&MORE_SETTINGS).await?,
            newer_settings: self.accepted_newer_settings().await?,
            others: self.find_everyone_except().await?,
            request_tag,
            deny_tagging,
            deny_plain_http,
            ..Dialect::unproved(us, them)
        })
    }

    /// Whether a policy has an effect on the operator at all: one that denies everybody, and names nobody.
    async fn policies_take_effect(&self) -> Result<bool, EnforceError> {
        let trial = &self.trial;
        trial.write_canary("form").await?;
        let stop = deny(
            &format!("{PROOF_SID_PREFIX}Form"),
            &any_principal(),
            &["s3:GetObject"],
            &trial.resource("form"),
        );
        match trial.put_and_wait("form", vec![stop]).await {
            Ok(PolicyEffect::Effective) => Ok(true),
            Ok(PolicyEffect::Ineffective) => Ok(false),
            Ok(PolicyEffect::Rejected(error)) => {
                Err(unsupported_policy_error(&error, trial, self.principals.0))
            }
            Err(error) if error.is_unsupported() => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Of a policy that names both machines and was refused, though the store takes one that names nobody.
    async fn wrong_principal_error(&self) -> Result<EnforceError, StoreError> {
        let whose = match self.trial.put_statements("operator", vec![]).await? {
            PolicyEffect::Rejected(_) => "operator",
            PolicyEffect::Effective | PolicyEffect::Ineffective => "recorder",
        };
        Ok(EnforceError::WrongPrincipal { identity: whose })
    }

    /// Statements about what the recorder may, and about TLS.
    fn recorder_statements(&self) -> Vec<Value> {
        let trial = &self.trial;
        let recorder = aws_principal(self.principals.1);
        let put = ["s3:PutObject"];
        let named = |name: &str| format!("{PROOF_SID_PREFIX}{name}");
        // At AWS a put with a tag needs the right to tag, too.
        let put_tagged = ["s3:PutObject", "s3:PutObjectTagging"];
        let mut tagged = allow(&named("Tagged"), &recorder, &put_tagged, &trial.resource("tagged/*"));
        let tag = format!("s3:RequestObjectTag/{TAG_KEY}");
        set_element(&mut tagged, "Condition", json!({ "StringEquals": { tag: ["sealed", "video"] } }));
        let mut all = vec![
            allow(&named("Put"), &recorder, &put, &trial.resource("put/*")),
            deny(&named("NoPut"), &recorder, &put, &trial.resource("put/not/*")),
            tagged,
            allow(&named("Retag"), &recorder, &put, &trial.resource("retag/*")),
            deny(&named("NoRetag"), &recorder, &["s3:PutObjectTagging"], &trial.resource("retag/*")),
        ];
        if trial.operator.is_tls {
            let mut plain = deny(&named("Tls"), &any_principal(), &["s3:GetObject"], &trial.resource("tls"));
            set_element(&mut plain, "Condition", json!({ "Bool": { "aws:SecureTransport": "false" } }));
            all.push(plain);
        }
        all
    }

    /// Whether the recorder's name is right, and the words about tags are understood.
    async fn observe_recorder(&self) -> Result<(bool, bool, bool), StoreError> {
        let video = Some(RetentionTag::Video);
        let arrives = async |name: &str, tag| {
            let canary = Canary::new(self.trial.key(name), tag);
            canary.write_and_find(self.recorder, self.trial.operator).await
        };
        let may = arrives("put/x", None).await?;
        let may_not = arrives("put/not/x", None).await?;
        let tagged = arrives("tagged/x", video).await?;
        let retag = arrives("retag/x", video).await?;
        Ok((may && !may_not, tagged, retag))
    }

    /// Whether the store takes a policy with these rights.
    async fn accepts_actions(&self, words: &[&str]) -> Result<bool, StoreError> {
        let bucket = self.trial.resources.bucket();
        let operator = aws_principal(self.principals.0);
        let statement = allow(&format!("{PROOF_SID_PREFIX}Settings"), &operator, words, &[bucket]);
        self.trial.accepts_statements(&[statement]).await
    }

    /// Those that the store's policies know: asked one by one only where they are not taken together.
    async fn accepted_newer_settings(&self) -> Result<BTreeSet<String>, StoreError> {
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        if self.accepts_actions(&NEWER_SETTINGS).await? {
            return Ok(owned(&NEWER_SETTINGS));
        }
        let mut known = Vec::new();
        for word in NEWER_SETTINGS {
            if self.accepts_actions(&[word]).await? {
                known.push(word);
            }
        }
        Ok(owned(&known))
    }

    /// The best way to say "everyone but": one that lets the operator through where it is named, and stops it
    /// where another is.
    async fn find_everyone_except(&self) -> Result<EveryoneExcept, EnforceError> {
        let trial = &self.trial;
        for others in EveryoneExcept::CANDIDATES {
            let name = format!("{others:?}");
            let (us, them) = (format!("{name}-us"), format!("{name}-them"));
            for name in [&us, &them] {
                trial.write_canary(name).await?;
            }
            let nobody = nonexistent_principal(self.principals.0);
            let exempt = [(us.as_str(), self.principals.0), (them.as_str(), nobody.as_str())];
            let statements = exempt.into_iter().filter_map(|(name, principal)| {
                let elements = others.statement_elements(&[principal])?;
                Some(self.deny_get_except(name, elements))
            });
            let in_force = trial.put_statements(&name, statements.collect()).await?;
            // Refused: the store does not know the word at all.
            if in_force == PolicyEffect::Effective
                && trial.can_read(&us).await?
                && !trial.can_read(&them).await?
            {
                return Ok(others);
            }
        }
        Ok(EveryoneExcept::Unsaid)
    }

    fn deny_get_except(&self, name: &str, elements: Map<String, Value>) -> Value {
        let letters: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
        let sid = format!("{PROOF_SID_PREFIX}Others{letters}");
        deny_everyone_except(&sid, elements, &["s3:GetObject"], &self.trial.resource(name))
    }
}

/// A store that does not take a policy that names nobody takes none of this form.
fn unsupported_policy_error(error: &StoreError, trial: &ProofPolicy<'_>, principal: &str) -> EnforceError {
    let partition =
        crate::storage::bucket::policy::partition::of(principal, BucketRef::from(trial.operator).region);
    EnforceError::StoreUnsupported {
        reason: format!(
            "the store takes no bucket policy of S3's form (version 2012-10-17, ARNs of the partition {partition}): {error}"
        ),
        remedy: "use a store that takes such policies (Scaleway's are of a form of its own, which is not supported); where \
                 only the partition is wrong, write the ARN of the right one in spec.storage.operator.principal"
            .into(),
    }
}

/// A principal of the same form as `principal` that is nobody's.
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
