//! The specification of a Site's bucket, and the report of its enforcement.

use std::fmt;

use serde::Serialize;

use super::probe::Conformance;
use super::state::BucketState;
use super::subresources::Subresource;
use crate::api::Days;

/// Specification of a Site's bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BucketSpec {
    /// Maximum age of video, in days; at least five (article 6).
    pub video_ceiling: Days,
    /// Maximum age of calls, in days; at least five (article 6).
    pub calls_ceiling: Days,
    /// The operator, as the store's policies name it.
    pub operator_principal: String,
    /// The recorders, as the store's policies name them.
    pub recorder_principal: String,
    /// The identity that may audit the bucket; `None`: the operator alone.
    pub auditor: Option<String>,
    /// The identities that may read held recordings (articles 3.1 and 4.1).
    pub readers: Vec<String>,
    /// Replace a configuration that the bucket already had (needs a decision, article 9). Objects stay.
    pub take_over: bool,
    /// Accept a store without lifecycle, where only the operator deletes (needs a decision).
    pub operator_only: bool,
    /// Accept a store that does not enforce legal holds (needs a decision).
    pub allow_unprotected: bool,
}

impl BucketSpec {
    /// Returns the specification of a bucket without people and without exceptions.
    pub(crate) fn for_machines(
        (video_ceiling, calls_ceiling): (Days, Days),
        operator_principal: &str,
        recorder_principal: &str,
    ) -> Self {
        Self {
            video_ceiling,
            calls_ceiling,
            operator_principal: operator_principal.to_owned(),
            recorder_principal: recorder_principal.to_owned(),
            auditor: None,
            readers: Vec::new(),
            take_over: false,
            operator_only: false,
            allow_unprotected: false,
        }
    }

    /// Returns a Site's bucket with one reader and without exceptions, for tests.
    #[cfg(test)]
    pub(crate) fn example() -> Self {
        let [operator, recorder] = ["operator", "recorder"].map(|name| format!("arn:aws:iam:::user/{name}"));
        Self {
            readers: vec!["arn:aws:iam:::user/manager".into()],
            ..Self::for_machines((Days(28), Days(7)), &operator, &recorder)
        }
    }
}

/// A change that the operator made at the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreChange {
    pub subresource: Subresource,
    /// The previous value, in words.
    pub from: String,
    /// The new value, in words.
    pub to: String,
}

impl StoreChange {
    pub(crate) fn new(subresource: Subresource, from: impl Into<String>, to: impl Into<String>) -> Self {
        Self { subresource, from: from.into(), to: to.into() }
    }
}

impl fmt::Display for StoreChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} → {}", self.subresource, self.from, self.to)
    }
}

/// Report of a successful [`enforce`](super::enforce).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EnforceReport {
    /// The bucket, read back after the last change.
    pub observed: BucketState,
    /// The changes, in order; empty: the bucket was in sync, and the operator wrote nothing but canaries.
    pub changes: Vec<StoreChange>,
    /// Results of the probe; `None`: it did not run.
    pub conformance: Option<Conformance>,
    /// Rules that this store's policies cannot express, each with its consequence.
    pub limitations: Vec<&'static str>,
    /// Principals of people whom the store does not know. The policy does not name them.
    pub unknown_principals: Vec<String>,
}
