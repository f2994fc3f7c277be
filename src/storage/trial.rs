//! Trying statements: they are added to a policy, each about a canary of its own, and judged by what somebody can then
//! do.

use std::time::Duration;

use serde_json::Value;

use super::apply::put_policy;
use super::client::Store;
use super::error::StoreError;
use super::objects;
use super::policy::{PROOF, size};
use super::statements::{Place, Resources, by, deny};

/// How often, and how many times, a policy is asked for its effect: stores are not at once consistent.
const PAUSE: Duration = Duration::from_millis(500);
const LOOKS: u32 = 20;
pub(super) const BYTES: &[u8] = b"toezicht: may this be read?";

/// Whether statements came into force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum InForce {
    Yes,
    /// The store took them, and they have no effect.
    No,
    /// The store does not take them.
    Refused(StoreError),
}

/// A policy that statements are added to, and where their canaries are.
pub(super) struct Trial<'a> {
    pub(super) operator: &'a Store,
    pub(super) resources: Resources<'a>,
    /// The operator, as the store's policies name it.
    us: &'a str,
    base: &'a str,
    beside: &'a [Value],
}

impl<'a> Trial<'a> {
    pub(super) fn of(operator: &'a Store, us: &'a str, base: &'a str, beside: &'a [Value]) -> Self {
        Self { operator, resources: Resources::of(Place::from(operator), us), us, base, beside }
    }

    pub(super) fn key(&self, name: &str) -> String {
        format!("{}{name}", self.base)
    }

    pub(super) fn resource(&self, name: &str) -> [String; 1] {
        [self.resources.key(&self.key(name))]
    }

    /// Writes a canary as the operator.
    pub(super) async fn write(&self, name: &str) -> Result<(), StoreError> {
        objects::put(self.operator, &self.key(name), BYTES.to_vec()).await
    }

    /// Whether the operator can read a canary that it wrote.
    pub(super) async fn can_read(&self, name: &str) -> Result<bool, StoreError> {
        objects::reads(self.operator, &self.key(name), None, BYTES).await
    }

    /// The bytes of the policy with these statements, with what shows that they are in force.
    pub(super) fn bytes(&self, statements: &[Value]) -> usize {
        size(&[self.beside, &[self.stop("sentinel")], statements].concat())
    }

    /// A Deny on the operator by name.
    fn stop(&self, name: &str) -> Value {
        let sid = format!("{PROOF}Sentinel");
        deny(&sid, &by(self.us), &["s3:GetObject"], &self.resource(name))
    }

    /// Adds statements to the policy and waits until they count, which a Deny on the operator by name shows.
    pub(super) async fn put(&self, name: &str, statements: Vec<Value>) -> Result<InForce, StoreError> {
        let sentinel = format!("sentinel-{name}");
        self.write(&sentinel).await?;
        let statements = [&[self.stop(&sentinel)], &statements[..]].concat();
        self.put_until(&sentinel, statements).await
    }

    /// The same, where the statements themselves stop the operator at the canary `name`.
    pub(super) async fn put_until(&self, name: &str, statements: Vec<Value>) -> Result<InForce, StoreError> {
        if let Err(error) = self.add(&statements).await? {
            return Ok(InForce::Refused(error));
        }
        for _ in 0..LOOKS {
            if !self.can_read(name).await? {
                return Ok(InForce::Yes);
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(InForce::No)
    }

    /// Whether the store takes a policy with these statements.
    pub(super) async fn is_taken(&self, statements: &[Value]) -> Result<bool, StoreError> {
        Ok(self.add(statements).await?.is_ok())
    }

    /// The inner error: the store refuses the policy for what it says.
    async fn add(&self, statements: &[Value]) -> Result<Result<(), StoreError>, StoreError> {
        match put_policy(self.operator, &[self.beside, statements].concat()).await {
            Ok(()) => Ok(Ok(())),
            Err(error) if error.has_status(400) => Ok(Err(error)),
            Err(error) => Err(error),
        }
    }

    /// Puts a policy in place of what was tried.
    pub(super) async fn restore(&self, before: &[Value]) -> Result<(), StoreError> {
        match put_policy(self.operator, before).await {
            Err(error) if before.is_empty() && error.is_absent() => Ok(()),
            restored => restored,
        }
    }
}
