//! Where the record is kept: a Lease of the API server.

use std::future::Future;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client};

use super::record::ElectionRecord;

/// Why the record was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody else wrote it since it was read (or made or deleted it).
    #[error("the lease was changed by somebody else")]
    Conflict,
    /// The API server did not answer, or refused. It is not known whether a write took effect.
    #[error("the lease cannot be reached: {0}")]
    Unreachable(String),
}

/// A record together with the version it was read or written at.
#[derive(Clone, Debug, PartialEq)]
pub struct Versioned<V> {
    pub record: ElectionRecord,
    /// Lets exactly this version be replaced, and no later one.
    pub version: V,
}

/// Keeps a record such that of two who replace the same version one fails.
pub trait ResourceLock: Send + Sync {
    type Version: Clone + PartialEq + Send + Sync + std::fmt::Debug;
    /// What stands there now; absent: nothing was ever written.
    fn get(&self) -> impl Future<Output = Result<Option<Versioned<Self::Version>>, LockError>> + Send;
    /// Writes the first record; [`LockError::Conflict`] where there is one already.
    fn create(
        &self,
        record: &ElectionRecord,
    ) -> impl Future<Output = Result<Versioned<Self::Version>, LockError>> + Send;
    /// Replaces the record; [`LockError::Conflict`] where it is no longer the one of `version`.
    fn replace(
        &self,
        record: &ElectionRecord,
        version: &Self::Version,
    ) -> impl Future<Output = Result<Versioned<Self::Version>, LockError>> + Send;
}

/// A Lease of the API server.
#[derive(Clone)]
pub struct LeaseLock {
    api: Api<Lease>,
    name: String,
}

impl LeaseLock {
    /// The Lease `namespace/name`. `client` is a plain one: a candidate has no leadership to be fenced by, and
    /// the resource version guards every write here.
    pub fn new(client: Client, namespace: &str, name: &str) -> Self {
        Self { api: Api::namespaced(client, namespace), name: name.to_owned() }
    }
}

impl ResourceLock for LeaseLock {
    /// The object's metadata: it is written back whole, so that labels of others stay, and holds the
    /// resource version that the API server compares.
    type Version = ObjectMeta;

    async fn get(&self) -> Result<Option<Versioned<ObjectMeta>>, LockError> {
        let lease = self.api.get_opt(&self.name).await.map_err(|error| lock_error(&error))?;
        Ok(lease.map(from_lease))
    }

    async fn create(&self, record: &ElectionRecord) -> Result<Versioned<ObjectMeta>, LockError> {
        let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
        let created = self.api.create(&PostParams::default(), &to_lease(record, metadata)).await;
        created.map(from_lease).map_err(|error| match error {
            // Not a lost race: its namespace is missing, and trying again will not help.
            kube::Error::Api(status) if status.code == 404 => LockError::Unreachable(status.message.clone()),
            error => lock_error(&error),
        })
    }

    async fn replace(
        &self,
        record: &ElectionRecord,
        version: &ObjectMeta,
    ) -> Result<Versioned<ObjectMeta>, LockError> {
        if version.resource_version.is_none() {
            // The API server takes a replace without a version as "whatever is there".
            return Err(LockError::Conflict);
        }
        let lease = to_lease(record, version.clone());
        let replaced = self.api.replace(&self.name, &PostParams::default(), &lease).await;
        replaced.map(from_lease).map_err(|error| lock_error(&error))
    }
}

/// A conflict is an answer that says that the record is another one; a deleted Lease is one too.
fn lock_error(error: &kube::Error) -> LockError {
    match error {
        kube::Error::Api(status) if matches!(status.code, 404 | 409) => LockError::Conflict,
        kube::Error::Api(status) => LockError::Unreachable(format!("{} {}", status.code, status.reason)),
        other => LockError::Unreachable(other.to_string()),
    }
}

fn from_lease(lease: Lease) -> Versioned<ObjectMeta> {
    let spec = lease.spec.unwrap_or_default();
    let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    let record = ElectionRecord {
        holder: spec.holder_identity.filter(|holder| !holder.is_empty()),
        lease_duration: Duration::from_secs(seconds.unwrap_or_default()),
        acquire_time: spec.acquire_time.map(|time| time.0),
        renew_time: spec.renew_time.map(|time| time.0),
        transitions: spec.lease_transitions.unwrap_or_default(),
    };
    Versioned { record, version: lease.metadata }
}

fn to_lease(record: &ElectionRecord, mut metadata: ObjectMeta) -> Lease {
    metadata.managed_fields = None;
    let spec = LeaseSpec {
        holder_identity: Some(record.holder.clone().unwrap_or_default()),
        lease_duration_seconds: i32::try_from(record.lease_duration.as_secs()).ok(),
        acquire_time: record.acquire_time.map(MicroTime),
        renew_time: record.renew_time.map(MicroTime),
        lease_transitions: Some(record.transitions),
        ..LeaseSpec::default()
    };
    Lease { metadata, spec: Some(spec) }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn record_round_trips_through_lease() {
        let record = ElectionRecord {
            holder: Some("pod-1_4f".into()),
            lease_duration: Duration::from_secs(15),
            acquire_time: Some(Timestamp::UNIX_EPOCH),
            renew_time: Some(Timestamp::from_second(30).unwrap()),
            transitions: 3,
        };
        let metadata = ObjectMeta { resource_version: Some("7".into()), ..ObjectMeta::default() };
        let lease = to_lease(&record, metadata.clone());
        assert_eq!(from_lease(lease), Versioned { record: record.clone(), version: metadata });
        let released = record.released(Timestamp::UNIX_EPOCH);
        assert!(from_lease(to_lease(&released, ObjectMeta::default())).record.is_free());
    }
}
