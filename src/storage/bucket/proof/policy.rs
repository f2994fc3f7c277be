//! Trying statements: each is added to a policy, concerns a canary of its own, and is judged by the rights that the identities then
//! have.

use std::time::Duration;

use serde_json::Value;

use crate::storage::bucket::apply::{put_policy, restore_policy};
use crate::storage::bucket::policy::actions::{BucketRef, ResourceArns, aws_principal, deny};
use crate::storage::bucket::policy::document::{
    document_bytes, is_proof_statement, proof_sid, without_deleted_principals,
};
use crate::storage::s3::{BucketClient, StoreError, objects};

/// Interval and maximum number of reads of a policy's effect: stores are eventually consistent.
const PAUSE: Duration = Duration::from_millis(500);
const MAX_READS: u32 = 20;
const CANARY_BYTES: &[u8] = b"toezicht: may this be read?";

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PolicyEffect {
    Effective,
    /// The store accepted the statements, and they have no effect.
    Ineffective,
    /// The store rejects the statements.
    Rejected(StoreError),
}

/// Returns the statements to put back after a trial. Omits those of an aborted trial, and principals of deleted identities: a store
/// rejects a policy that names one.
pub(crate) fn restorable_statements(existing: &[Value]) -> Vec<Value> {
    let own = existing.iter().filter(|statement| !is_proof_statement(statement));
    own.filter_map(without_deleted_principals).collect()
}

/// A policy to which statements are added, and the folder of their canaries.
pub(crate) struct ProofPolicy<'a> {
    pub(crate) operator: &'a BucketClient,
    pub(crate) resources: ResourceArns<'a>,
    /// The operator, as the store's policies name it.
    pub(crate) operator_principal: &'a str,
    folder: &'a str,
    /// The statements beside which others are tried.
    pub(crate) existing: &'a [Value],
}

impl<'a> ProofPolicy<'a> {
    pub(crate) fn new(
        operator: &'a BucketClient,
        operator_principal: &'a str,
        folder: &'a str,
        existing: &'a [Value],
    ) -> Self {
        let resources = ResourceArns::new(BucketRef::from(operator), operator_principal);
        Self { operator, resources, operator_principal, folder, existing }
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

    /// Returns whether the operator can read a canary that it wrote.
    pub(crate) async fn can_read(&self, name: &str) -> Result<bool, StoreError> {
        objects::can_read(self.operator, &self.key(name), None, CANARY_BYTES).await
    }

    /// Returns the bytes of the policy with these statements and the Deny about a sentinel.
    pub(crate) fn policy_bytes(&self, statements: &[Value]) -> usize {
        document_bytes(&[self.existing, &[self.sentinel_deny("sentinel")], statements].concat())
    }

    /// Returns a Deny that names the operator, about the sentinel alone.
    fn sentinel_deny(&self, sentinel: &str) -> Value {
        let operator = aws_principal(self.operator_principal);
        deny(&proof_sid("Sentinel"), &operator, &["s3:GetObject"], &self.resource(sentinel))
    }

    /// Adds statements to the policy and waits until they are in force.
    pub(crate) async fn put_statements(
        &self,
        name: &str,
        statements: Vec<Value>,
    ) -> Result<PolicyEffect, StoreError> {
        let sentinel = self.write_sentinel(name).await?;
        self.put_with_sentinel(&sentinel, statements).await
    }

    /// Writes the canary of a sentinel, and returns its name.
    pub(crate) async fn write_sentinel(&self, name: &str) -> Result<String, StoreError> {
        let sentinel = format!("sentinel-{name}");
        self.write_canary(&sentinel).await?;
        Ok(sentinel)
    }

    /// Adds statements, with a Deny on the operator by name about the sentinel: once that is in force, all are.
    pub(crate) async fn put_with_sentinel(
        &self,
        sentinel: &str,
        statements: Vec<Value>,
    ) -> Result<PolicyEffect, StoreError> {
        self.put_and_wait(sentinel, [vec![self.sentinel_deny(sentinel)], statements].concat()).await
    }

    /// Adds statements that deny the operator to read the canary `name`, and waits for that.
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

    /// Returns whether the store accepts a policy with these statements.
    pub(crate) async fn accepts_statements(&self, statements: &[Value]) -> Result<bool, StoreError> {
        Ok(self.try_put(statements).await?.is_ok())
    }

    /// Puts the policy. The inner error: the store rejects its content.
    async fn try_put(&self, statements: &[Value]) -> Result<Result<(), StoreError>, StoreError> {
        match put_policy(self.operator, &[self.existing, statements].concat()).await {
            Ok(()) => Ok(Ok(())),
            // Only 400 is about the content. Any other answer, such as 403 or 503, proves nothing about a principal.
            Err(error) if error.has_status(400) => Ok(Err(error)),
            Err(error) => Err(error),
        }
    }

    /// Replaces the policy with the previous one.
    pub(crate) async fn restore(&self, before: &[Value]) -> Result<(), StoreError> {
        restore_policy(self.operator, before).await
    }
}
