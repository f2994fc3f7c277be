//! Proving principals before explicit Denies are applied: a typing error must not lock the operator out.
//!
//! Statements are *added* to the policy that is there, each about a canary of its own, and judged by what the
//! two identities can then do: nobody loses a right that matters, and nothing that protects is lifted but, for
//! these seconds, what stops everyone else. Only when a Deny that names the operator stops the operator, and a
//! Deny for everyone but the operator does not, is the real policy written. On the way it is learnt which words
//! the store understands ([`Dialect`]).

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::apply::put_policy;
use super::client::Store;
use super::dialect::{Dialect, Others};
use super::error::StoreError;
use super::objects;
use super::policy::{PROOF, is_proof};
use super::probe::canary::{self, Canary, random_name};
use super::refusal::EnforceError;
use super::statements::{MORE_SETTINGS, allow, by, deny, is_others, set};
use super::tag::{RetentionTag, TAG_KEY};

/// How often, and how many times, a policy is asked for its effect: stores are not at once consistent.
const PAUSE: Duration = Duration::from_millis(500);
const LOOKS: u32 = 20;
const BYTES: &[u8] = b"toezicht: may this be read?";

/// Proves both principals and learns the store's words. Whatever comes of it, the policy that was there is
/// there again, and the canaries are gone.
pub(crate) async fn prove(
    operator: &Store,
    recorder: &Store,
    principals: (&str, &str),
    existing: &[Value],
) -> Result<Dialect, EnforceError> {
    let base = format!("probe/proof/{}/", random_name());
    // What an operator that died half way left there is not put back.
    let before: Vec<Value> = existing
        .iter()
        .filter(|statement| !is_proof(statement))
        .cloned()
        .collect();
    // "Everyone but" names the principals that were, and would refuse new ones before they can be proved.
    let beside: Vec<Value> = before
        .iter()
        .filter(|statement| !is_others(statement))
        .cloned()
        .collect();
    let proof = Proof {
        operator,
        recorder,
        principals,
        base: &base,
        existing: &beside,
    };
    let proved = proof.run().await;
    let restored = put_policy(operator, &before).await;
    canary::sweep(operator, &base).await;
    let dialect = proved?;
    restored?;
    Ok(dialect)
}

struct Proof<'a> {
    operator: &'a Store,
    recorder: &'a Store,
    /// Operator's and recorders'.
    principals: (&'a str, &'a str),
    base: &'a str,
    existing: &'a [Value],
}

impl Proof<'_> {
    async fn run(&self) -> Result<Dialect, EnforceError> {
        for name in ["open", "tls"] {
            objects::put(self.operator, &self.key(name), BYTES.to_vec()).await?;
        }
        if !self.can_read("open").await? {
            return Err(EnforceError::Refused {
                what: "the operator's identity cannot read what it wrote under probe/".into(),
                remedy: "give it the rights that docs/storage.md lists".into(),
            });
        }
        let effective = self.put("rights", self.rights()).await?;
        if !effective {
            return Err(EnforceError::WrongPrincipal { whose: "operator" });
        }
        let deny_plain_http = !self.operator.tls || self.can_read("tls").await?;
        let (recorder_named, request_tag, deny_tagging) = self.recorder_effects().await?;
        if !recorder_named {
            return Err(EnforceError::WrongPrincipal { whose: "recorder" });
        }
        let more_settings = self.more_settings().await?;
        let others = self.others().await?;
        let (operator, recorder) = (self.principals.0.to_owned(), self.principals.1.to_owned());
        Ok(Dialect {
            operator,
            recorder,
            others,
            request_tag,
            deny_tagging,
            deny_plain_http,
            more_settings,
            given_up: BTreeSet::new(),
        })
    }

    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.base)
    }

    fn resource(&self, name: &str) -> [String; 1] {
        [format!(
            "arn:aws:s3:::{}/{}{name}",
            self.operator.bucket, self.base
        )]
    }

    async fn can_read(&self, name: &str) -> Result<bool, StoreError> {
        objects::reads(self.operator, &self.key(name), None, BYTES).await
    }

    /// Statements about what the recorder may, and about TLS.
    fn rights(&self) -> Vec<Value> {
        let recorder = by(self.principals.1);
        let put = ["s3:PutObject"];
        let named = |name: &str| format!("{PROOF}{name}");
        let mut tagged = allow(&named("Tagged"), &recorder, &put, &self.resource("tagged/*"));
        let tag = format!("s3:RequestObjectTag/{TAG_KEY}");
        set(
            &mut tagged,
            "Condition",
            json!({ "StringEquals": { tag: ["sealed", "video"] } }),
        );
        let mut all = vec![
            allow(&named("Put"), &recorder, &put, &self.resource("put/*")),
            deny(&named("NoPut"), &recorder, &put, &self.resource("put/not/*")),
            tagged,
            allow(&named("Retag"), &recorder, &put, &self.resource("retag/*")),
            deny(
                &named("NoRetag"),
                &recorder,
                &["s3:PutObjectTagging"],
                &self.resource("retag/*"),
            ),
        ];
        if self.operator.tls {
            let mut plain = deny(
                &named("Tls"),
                &json!({ "AWS": ["*"] }),
                &["s3:GetObject"],
                &self.resource("tls"),
            );
            set(
                &mut plain,
                "Condition",
                json!({ "Bool": { "aws:SecureTransport": "false" } }),
            );
            all.push(plain);
        }
        all
    }

    /// Adds statements to the policy and waits until they count, which a Deny on the operator by name shows.
    /// `false`: they never did, so the name is not the operator's.
    async fn put(&self, name: &str, statements: Vec<Value>) -> Result<bool, StoreError> {
        let sentinel = format!("sentinel-{name}");
        objects::put(self.operator, &self.key(&sentinel), BYTES.to_vec()).await?;
        let stop = deny(
            &format!("{PROOF}Sentinel"),
            &by(self.principals.0),
            &["s3:GetObject"],
            &self.resource(&sentinel),
        );
        let all = [self.existing, &[stop], &statements].concat();
        put_policy(self.operator, &all).await?;
        for _ in 0..LOOKS {
            if !self.can_read(&sentinel).await? {
                return Ok(true);
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(false)
    }

    /// Whether the recorder's name is right, and the words about tags are understood.
    async fn recorder_effects(&self) -> Result<(bool, bool, bool), StoreError> {
        let video = Some(RetentionTag::Video);
        let put = |name: &str, tag| Canary::new(self.key(name), tag);
        let may = put("put/x", None).arrives(self.recorder, self.operator).await?;
        let may_not = put("put/not/x", None)
            .arrives(self.recorder, self.operator)
            .await?;
        let tagged = put("tagged/x", video)
            .arrives(self.recorder, self.operator)
            .await?;
        let retag = put("retag/x", video)
            .arrives(self.recorder, self.operator)
            .await?;
        Ok((may && !may_not, tagged, retag))
    }

    /// Whether the store takes a policy with rights that not all know.
    async fn more_settings(&self) -> Result<bool, StoreError> {
        let bucket = format!("arn:aws:s3:::{}", self.operator.bucket);
        let operator = by(self.principals.0);
        let statement = allow(&format!("{PROOF}Settings"), &operator, &MORE_SETTINGS, &[bucket]);
        match self.put("settings", vec![statement]).await {
            Ok(_) => Ok(true),
            Err(error) if error.status == Some(400) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The best way to say "everyone but": one that lets the operator through where it is named, and stops it
    /// where another is.
    async fn others(&self) -> Result<Others, EnforceError> {
        for others in Others::SAYABLE {
            let name = format!("{others:?}");
            let (us, them) = (format!("{name}-us"), format!("{name}-them"));
            for name in [&us, &them] {
                objects::put(self.operator, &self.key(name), BYTES.to_vec()).await?;
            }
            let nobody = nobody(self.principals.0);
            let exempt = [(us.as_str(), self.principals.0), (them.as_str(), nobody.as_str())];
            let statements = exempt.into_iter().filter_map(|(name, principal)| {
                let elements = others.elements(&[principal])?;
                Some(self.everyone_but(name, elements))
            });
            match self.put(&name, statements.collect()).await {
                Ok(true) if self.can_read(&us).await? && !self.can_read(&them).await? => return Ok(others),
                Ok(_) => (),
                // The store does not know the word at all.
                Err(error) if error.status == Some(400) => (),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Others::Unsaid)
    }

    fn everyone_but(&self, name: &str, elements: Map<String, Value>) -> Value {
        let mut statement = json!({
            "Sid": format!("{PROOF}Others{}", name.chars().filter(char::is_ascii_alphanumeric).collect::<String>()),
            "Effect": "Deny",
            "Action": ["s3:GetObject"],
            "Resource": self.resource(name),
        });
        elements
            .into_iter()
            .for_each(|(element, value)| set(&mut statement, &element, value));
        statement
    }
}

/// A principal of the same form as `principal` that is nobody's.
fn nobody(principal: &str) -> String {
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
    fn nobody_has_the_form_of_somebody() {
        assert!(nobody("arn:aws:iam::1:user/a/b").starts_with("arn:aws:iam::1:user/a/toezicht-nobody-"));
        assert!(nobody("operator").starts_with("toezicht-nobody-"));
        assert_ne!(nobody("x"), nobody("x"));
    }
}
