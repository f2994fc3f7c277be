//! Errors of the API server, and the backoff after a failed reconcile.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Mutex;
use std::time::Duration;

use kube::runtime::reflector::{Lookup, Store};

use super::prune::prune;
use crate::leader::fence::NotLeader;
use crate::sync::lock;

/// A request to the API server failed.
#[derive(Debug, thiserror::Error)]
#[error("{}", safe_message(.0))]
pub struct ApiError(#[from] pub kube::Error);

/// Returns the part of an error that contains no secret.
fn safe_message(error: &kube::Error) -> String {
    match error {
        // Not the server's own text: an admission webhook or a validation may quote the object, and for a Secret that
        // is its data. The reason is one of a closed set.
        kube::Error::Api(status) => format!("the API server answered {} {}", status.code, status.reason),
        _ if is_not_leader(error) => NotLeader.to_string(),
        kube::Error::Service(_) | kube::Error::HyperError(_) => "the API server cannot be reached".to_owned(),
        kube::Error::SerdeError(_) => "the API server's answer cannot be read".to_owned(),
        _ => "the request to the API server failed".to_owned(),
    }
}

fn is_not_leader(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Service(error) if error.is::<NotLeader>())
}

impl ApiError {
    fn has_code(&self, code: u16) -> bool {
        matches!(&self.0, kube::Error::Api(status) if status.code == code)
    }

    /// Whether the object or its namespace does not exist.
    pub fn is_not_found(&self) -> bool {
        self.has_code(404)
    }

    /// Whether the namespace is being deleted, so that nothing can be created in it.
    pub fn is_namespace_terminating(&self) -> bool {
        let kube::Error::Api(status) = &self.0 else {
            return false;
        };
        let causes = status.details.as_ref().map_or(&[][..], |details| &details.causes);
        status.code == 403 && causes.iter().any(|cause| cause.reason == "NamespaceTerminating")
    }

    /// Whether the API server rejects the request itself, so that a repetition has the same result until somebody changes
    /// the cluster.
    pub fn is_rejected(&self) -> bool {
        let is_permanent = |code| (400..500).contains(&code) && !matches!(code, 404 | 409 | 410 | 429);
        matches!(&self.0, kube::Error::Api(status) if is_permanent(status.code))
    }

    /// Whether the API server can never store the object as sent.
    pub fn is_invalid(&self) -> bool {
        self.has_code(422)
    }
}

impl From<&ApiError> for &'static str {
    fn from(error: &ApiError) -> Self {
        match &error.0 {
            kube::Error::Api(status) => match status.code {
                401 | 403 => "api_forbidden",
                404 => "api_not_found",
                409 => "api_conflict",
                422 => "api_invalid",
                _ => "api_error",
            },
            error if is_not_leader(error) => "not_leader",
            _ => "api_unreachable",
        }
    }
}

const INITIAL_BACKOFF: Duration = Duration::from_secs(1);
const MAX_BACKOFF: Duration = Duration::from_mins(5);

/// Delays after failures, for each object: doubling from one second to five minutes, reset by a success.
#[derive(Debug, Default)]
pub struct ReconcileBackoff {
    failures: Mutex<HashMap<String, u32>>,
}

impl ReconcileBackoff {
    /// Records a failure of `key`, and returns the delay before the next attempt.
    pub fn record_failure(&self, key: &str) -> Duration {
        let mut failures = lock(&self.failures);
        let count = failures.entry(key.to_owned()).or_default();
        let delay = backoff_delay(*count, rand::random::<f64>());
        *count = count.saturating_add(1);
        delay
    }

    /// Drops objects that are gone.
    pub fn prune<K>(&self, objects: &Store<K>, key: impl Fn(&K) -> String)
    where
        K: Lookup<DynamicType: Eq + Hash + Clone> + Clone + 'static,
    {
        prune(&mut lock(&self.failures), objects, key);
    }

    /// Records a success of `key`, or its deletion.
    pub fn reset(&self, key: &str) {
        lock(&self.failures).remove(key);
    }
}

/// Returns the delay after `failures` earlier failures, for a random number in `0.0..1.0`.
fn backoff_delay(failures: u32, random: f64) -> Duration {
    let doubled = INITIAL_BACKOFF.saturating_mul(2_u32.saturating_pow(failures.min(16)));
    // A fifth of jitter: objects that failed together do not retry together.
    doubled.min(MAX_BACKOFF).mul_f64(0.8 + 0.2 * random.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Failure;

    #[test]
    fn backoff_doubles_up_to_five_minutes_and_resets_on_success() {
        let waits: Vec<u64> = (0..11).map(|failures| backoff_delay(failures, 1.0).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(backoff_delay(u32::MAX, 0.0), Duration::from_mins(4));

        let backoff = ReconcileBackoff::default();
        for _ in 0..5 {
            backoff.record_failure("a/b");
        }
        assert!(backoff.record_failure("a/b") > Duration::from_secs(20));
        assert!(backoff.record_failure("a/c") <= INITIAL_BACKOFF);
        backoff.reset("a/b");
        assert!(backoff.record_failure("a/b") <= INITIAL_BACKOFF);
    }

    #[test]
    fn api_error_message_omits_server_text() {
        let mut status = kube::core::Status::failure("Secret \"x\": data: hunter2", "Invalid");
        status.code = 422;
        let error = ApiError(kube::Error::Api(status.into()));
        assert_eq!(error.category(), "api_invalid");
        assert!(!format!("{error}").contains("hunter2"));
    }
}
