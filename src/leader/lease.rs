//! The Lease: its times, its content, and access to it in the API server.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client};

// The times of Kubernetes' own components.
/// Time that candidates wait after the leader's last renewal before they take over.
pub const LEASE_DURATION: Duration = Duration::from_secs(15);
/// Time after its last answered renewal at which the leader stops writing.
pub const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// Interval between renewals of the leader, and between attempts of a candidate.
const RETRY_PERIOD: Duration = Duration::from_secs(2);
/// Time for one attempt. On a connection that falls silent, it must leave time for another attempt, which opens a new one.
pub const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(4);
/// Largest part by which the retry period is lengthened, so that candidates do not all try at once.
const MAX_JITTER: f64 = 0.2;

const _: () = {
    // A fraction of a second is lost in the Lease, and others would take over early.
    assert!(LEASE_DURATION.subsec_nanos() == 0);
    // Else the leader would still write when another has taken over.
    assert!(RENEW_DEADLINE.as_millis() < LEASE_DURATION.as_millis());
    // Else the leader would give up before its second attempt, at 1.2 periods each.
    assert!(
        RETRY_PERIOD.as_millis() * 12 * 2 < (RENEW_DEADLINE.as_millis() - ATTEMPT_TIMEOUT.as_millis()) * 10
    );
};

/// Returns the retry period, lengthened by `chance` (0 to 1) times the largest jitter.
pub fn retry_delay(chance: f64) -> Duration {
    RETRY_PERIOD.mul_f64(1.0 + MAX_JITTER * chance.clamp(0.0, 1.0))
}

/// Returns the leader that the Lease names; `None`: its last leader released it.
pub fn holder(lease: &Lease) -> Option<&str> {
    lease.spec.as_ref()?.holder_identity.as_deref().filter(|holder| !holder.is_empty())
}

/// Returns how long candidates wait after a renewal, as the leader wrote it.
pub fn duration(lease: &Lease) -> Duration {
    let seconds = lease.spec.as_ref().and_then(|spec| spec.lease_duration_seconds);
    Duration::from_secs(seconds.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or_default())
}

/// Returns the content by which `identity` takes over the Lease `before`, or renews it. The wall clock is for people:
/// no decision reads it.
pub fn taken_by(identity: &str, before: Option<&Lease>, wall: Timestamp) -> LeaseSpec {
    let previous = before.and_then(|lease| lease.spec.clone()).unwrap_or_default();
    let (acquired, transitions) = match before {
        Some(lease) if holder(lease) == Some(identity) => (previous.acquire_time, previous.lease_transitions),
        Some(_) => {
            let transitions = previous.lease_transitions.unwrap_or_default().saturating_add(1);
            (Some(MicroTime(wall)), Some(transitions))
        }
        None => (Some(MicroTime(wall)), Some(0)),
    };
    LeaseSpec {
        holder_identity: Some(identity.to_owned()),
        lease_duration_seconds: i32::try_from(LEASE_DURATION.as_secs()).ok(),
        acquire_time: acquired,
        renew_time: Some(MicroTime(wall)),
        lease_transitions: transitions,
        ..LeaseSpec::default()
    }
}

/// Returns the content by which the leader releases the Lease: no holder, for one second, the shortest that the API
/// accepts.
pub fn released(lease: &Lease, wall: Timestamp) -> LeaseSpec {
    LeaseSpec {
        holder_identity: Some(String::new()),
        lease_duration_seconds: Some(1),
        renew_time: Some(MicroTime(wall)),
        ..lease.spec.clone().unwrap_or_default()
    }
}

#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process wrote, created or deleted the Lease after it was read.
    #[error("another process changed the Lease")]
    Conflict,
    /// The API server did not answer, or refused. A write may have taken effect.
    #[error("the Lease is not accessible: {0}")]
    Unreachable(String),
}

/// Access to one Lease: of two writers that replace the same version, one fails.
pub trait ResourceLock: Send + Sync {
    /// Reads the Lease; `None`: it does not exist.
    fn get(&self) -> impl Future<Output = Result<Option<Lease>, LockError>> + Send;
    /// Creates the Lease; [`LockError::Conflict`] if it exists.
    fn create(&self, spec: LeaseSpec) -> impl Future<Output = Result<Lease, LockError>> + Send;
    /// Replaces the content of `before`; [`LockError::Conflict`] if the Lease is no longer of that version.
    fn replace(
        &self,
        before: &Lease,
        spec: LeaseSpec,
    ) -> impl Future<Output = Result<Lease, LockError>> + Send;
}

/// A Lease of the API server.
#[derive(Clone)]
pub struct LeaseLock {
    api: Api<Lease>,
    name: String,
}

impl LeaseLock {
    /// Accesses the Lease `namespace/name`. `client` is not fenced: a candidate has no leadership that a fence could
    /// check, and the resource version guards every write here.
    pub fn new(client: Client, namespace: &str, name: &str) -> Self {
        Self { api: Api::namespaced(client, namespace), name: name.to_owned() }
    }
}

impl ResourceLock for LeaseLock {
    async fn get(&self) -> Result<Option<Lease>, LockError> {
        self.api.get_opt(&self.name).await.map_err(|error| lock_error(&error))
    }

    async fn create(&self, spec: LeaseSpec) -> Result<Lease, LockError> {
        let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
        let lease = Lease { metadata, spec: Some(spec) };
        self.api.create(&PostParams::default(), &lease).await.map_err(|error| match error {
            // Not a lost race: the namespace is missing, so another attempt fails too and must be reported.
            kube::Error::Api(status) if status.code == 404 => LockError::Unreachable(status.message.clone()),
            error => lock_error(&error),
        })
    }

    async fn replace(&self, before: &Lease, spec: LeaseSpec) -> Result<Lease, LockError> {
        if before.metadata.resource_version.is_none() {
            // Without a version the API server would overwrite any content.
            return Err(LockError::Conflict);
        }
        // The other metadata goes back unchanged, so labels that others set stay.
        let metadata = ObjectMeta { managed_fields: None, ..before.metadata.clone() };
        let lease = Lease { metadata, spec: Some(spec) };
        #[expect(clippy::disallowed_methods, reason = "the resourceVersion makes it a compare-and-swap")]
        let answer = self.api.replace(&self.name, &PostParams::default(), &lease).await;
        answer.map_err(|error| lock_error(&error))
    }
}

/// Distinguishes a Lease that was changed or deleted from an API server that gave no usable answer.
fn lock_error(error: &kube::Error) -> LockError {
    match error {
        kube::Error::Api(status) if matches!(status.code, 404 | 409) => LockError::Conflict,
        kube::Error::Api(status) => LockError::Unreachable(format!("{} {}", status.code, status.reason)),
        other => LockError::Unreachable(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_period_is_jittered_by_up_to_a_fifth() {
        assert_eq!(retry_delay(0.0), Duration::from_secs(2));
        assert_eq!(retry_delay(1.0), Duration::from_millis(2400));
        assert_eq!(retry_delay(9.0), Duration::from_millis(2400));
    }

    #[test]
    fn takeover_counts_a_transition_and_renewal_does_not() {
        let (t0, t1) = (Timestamp::UNIX_EPOCH, Timestamp::from_second(60).unwrap());
        let lease = |spec| Lease { spec: Some(spec), ..Lease::default() };
        let times = |spec: &LeaseSpec| {
            let time = |at: &Option<MicroTime>| at.as_ref().map(|at| at.0);
            (spec.lease_transitions, time(&spec.acquire_time), time(&spec.renew_time))
        };
        let first = taken_by("a", None, t0);
        assert_eq!(times(&first), (Some(0), Some(t0), Some(t0)));
        let renewed = taken_by("a", Some(&lease(first)), t1);
        assert_eq!(times(&renewed), (Some(0), Some(t0), Some(t1)));
        let released = lease(released(&lease(renewed), t1));
        assert_eq!((holder(&released), duration(&released)), (None, Duration::from_secs(1)));
        let taken = taken_by("b", Some(&released), t1);
        assert_eq!(times(&taken), (Some(1), Some(t1), Some(t1)));
        assert_eq!((holder(&lease(taken.clone())), duration(&lease(taken))), (Some("b"), LEASE_DURATION));
    }
}
