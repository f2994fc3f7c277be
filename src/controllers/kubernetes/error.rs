//! Errors of the API server, and the back-off after a failed reconcile.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::leader::fence::NotLeader;

/// The API server did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.safe())]
pub struct ApiError(#[from] pub kube::Error);

/// The part of an error of the client that is safe to show.
trait SafeMessage {
    fn safe(&self) -> String;
}

impl SafeMessage for kube::Error {
    fn safe(&self) -> String {
        match self {
            // The server's own words name objects and rules, but an admission webhook or a validation may
            // quote the object: for a Secret that would be its data. The reason is of a closed set.
            Self::Api(status) => format!("the API server answered {} {}", status.code, status.reason),
            _ if self.is_not_leader() => NotLeader.to_string(),
            Self::Service(_) | Self::HyperError(_) => "the API server cannot be reached".to_owned(),
            Self::SerdeError(_) => "the API server's answer cannot be read".to_owned(),
            _ => "the request to the API server failed".to_owned(),
        }
    }
}

/// Questions about an error of the client.
pub trait KubeErrorExt {
    /// Whether the object (or its namespace) does not exist.
    fn is_not_found(&self) -> bool;
    /// Whether the namespace is going away, so that nothing can be created in it.
    fn is_namespace_terminating(&self) -> bool;
    fn is_not_leader(&self) -> bool;
    /// Whether the API server says that the object as sent can never be stored.
    fn is_invalid(&self) -> bool;
}

impl KubeErrorExt for kube::Error {
    fn is_not_found(&self) -> bool {
        matches!(self, Self::Api(status) if status.code == 404)
    }

    fn is_namespace_terminating(&self) -> bool {
        let cause = |status: &kube::core::Status| {
            let causes = status.details.as_ref().map_or(&[][..], |details| &details.causes);
            causes.iter().any(|cause| cause.reason == "NamespaceTerminating")
        };
        matches!(self, Self::Api(status) if status.code == 403 && cause(status))
    }

    fn is_not_leader(&self) -> bool {
        matches!(self, Self::Service(error) if error.is::<NotLeader>())
    }

    fn is_invalid(&self) -> bool {
        matches!(self, Self::Api(status) if status.code == 422)
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
            error if error.is_not_leader() => "not_leader",
            _ => "api_unreachable",
        }
    }
}

/// The wait after a first error.
pub const INITIAL_BACKOFF: Duration = Duration::from_secs(1);
pub const MAX_BACKOFF: Duration = Duration::from_mins(5);

/// Waits after errors, each object its own: doubling from one second to five minutes, back to the start
/// after a success.
#[derive(Debug, Default)]
pub struct ReconcileBackoff {
    failures: Mutex<HashMap<String, u32>>,
}

impl ReconcileBackoff {
    /// Notes a failure of `key` (`namespace/name`); how long to wait, with a fifth of jitter.
    pub fn record_failure(&self, key: &str) -> Duration {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failures.entry(key.to_owned()).or_default();
        let wait = backoff_delay(*count, rand::random::<f64>());
        *count = count.saturating_add(1);
        wait
    }

    /// Notes a success of `key`, or that it is gone.
    pub fn reset(&self, key: &str) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

/// The wait after so many failures before, with the chance in `0.0..1.0` passed in.
fn backoff_delay(failures: u32, chance: f64) -> Duration {
    let doubled = INITIAL_BACKOFF.saturating_mul(2_u32.saturating_pow(failures.min(16)));
    doubled.min(MAX_BACKOFF).mul_f64(0.8 + 0.2 * chance.clamp(0.0, 1.0))
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
