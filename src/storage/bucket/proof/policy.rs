//! Trying statements: they are added to a policy, each about a canary of its own, and judged by what somebody can then
//! do.

use std::time::Duration;

use serde_json::Value;

use crate::storage::bucket::apply::put_policy;
use crate::storage::bucket::policy::actions::{BucketRef, ResourceArns, aws_principal, deny};
use crate::storage::bucket::policy::document::{PROOF_SID_PREFIX, document_bytes};
use crate::storage::s3::client::BucketClient;
use crate::storage::s3::error::StoreError;
use crate::storage::s3::objects;

/// How often, and how many times, a policy is asked for its effect: stores are not at once consistent.
const PAUSE: Duration = Duration::from_millis(500);
const MAX_READS: u32 = 20;
pub(crate) const CANARY_BYTES: &[u8] = b"toezicht: may this be read?";

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PolicyEffect {
    Effective,
    /// The store took them, and they have no effect.
    Ineffective,
    /// The store does not take them.
    Rejected(StoreError),
}

/// A policy that statements are added to, and where their canaries are.
pub(crate) struct ProofPolicy<'a> {
    pub(crate) operator: &'a BucketClient,
    pub(crate) resources: ResourceArns<'a>,
    /// The operator, as the store's policies name it.
    operator_principal: &'a str,
    folder: &'a str,
    existing: &'a [Value],
}

impl<'a> ProofPolicy<'a> {
    pub(crate) fn new(operator: &'a BucketClient, us: &'a str, base: &'a str, beside: &'a [Value]) -> Self {
        Self {
            operator,
            resources: ResourceArns::new(BucketRef::from(operator), us),
            operator_principal: us,
            folder: base,
            existing: beside,
        }
    }

    pub(crate) fn key(&self, name: &str) -> String {
        format!("{}{name}", self.folder)
    }

    pub(crate) fn resource(&self, name: &str) -> [String; 1] {
        [self.resources.key(&self.key(name))]
    }

    /// Writes a canary as the operator.
    pub(crate) async fn write_canary(&self, name: &str) -> Result<(), StoreError> {
        objects::put(self.operator, &self.key(name), CANARY_BYTES.to_vec()).await
    }

    /// Whether the operator can read a canary that it wrote.
    pub(crate) async fn can_read(&self, name: &str) -> Result<bool, StoreError> {
        objects::can_read(self.operator, &self.key(name), None, CANARY_BYTES).await
    }

    /// The bytes of the policy with these statements, with what shows that they are in force.
    pub(crate) fn policy_bytes(&self, statements: &[Value]) -> usize {
        document_bytes(&[self.existing, &[self.sentinel_deny("sentinel")], statements].concat())
    }

    /// A Deny on the operator by name.
    fn sentinel_deny(&self, name: &str) -> Value {
        let sid = format!("{PROOF_SID_PREFIX}Sentinel");
        deny(&sid, &aws_principal(self.operator_principal), &["s3:GetObject"], &self.resource(name))
    }

    /// Adds statements to the policy and waits until they count, which a Deny on the operator by name shows.
    pub(crate) async fn put_statements(
        &self,
        name: &str,
        statements: Vec<Value>,
    ) -> Result<PolicyEffect, StoreError> {
        let sentinel = format!("sentinel-{name}");
        self.write_canary(&sentinel).await?;
        let statements = [&[self.sentinel_deny(&sentinel)], &statements[..]].concat();
        self.put_and_wait(&sentinel, statements).await
    }

    /// The same, where the statements themselves stop the operator at the canary `name`.
    pub(crate) async fn put_and_wait(
        &self,
        name: &str,
        statements: Vec<Value>,
    ) -> Result<PolicyEffect, StoreError> {
        if let Err(error) = self.try_put(&statements).await? {
            return Ok(PolicyEffect::Rejected(error));
        }
        for _ in 0..MAX_READS {
            if !self.can_read(name).await? {
                return Ok(PolicyEffect::Effective);
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(PolicyEffect::Ineffective)
    }

    /// Whether the store takes a policy with these statements.
    pub(crate) async fn accepts_statements(&self, statements: &[Value]) -> Result<bool, StoreError> {
        Ok(self.try_put(statements).await?.is_ok())
    }

    /// The inner error: the store refuses the policy for what it says.
    async fn try_put(&self, statements: &[Value]) -> Result<Result<(), StoreError>, StoreError> {
        match put_policy(self.operator, &[self.existing, statements].concat()).await {
            Ok(()) => Ok(Ok(())),
            Err(error) if error.has_status(400) => Ok(Err(error)),
            Err(error) => Err(error),
        }
    }

    /// Puts a policy in place of what was tried.
    pub(crate) async fn restore(&self, before: &[Value]) -> Result<(), StoreError> {
        match put_policy(self.operator, before).await {
            Err(error) if before.is_empty() && error.is_not_found() => Ok(()),
            restored => restored,
        }
    }
}
