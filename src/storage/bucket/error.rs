//! Why a bucket is not what it must be.

use super::adoption::{AdoptionConflict, describe};
use super::desired::CeilingTooLow;
use crate::storage::s3::error::StoreError;
use crate::storage::s3::target::TargetError;

/// Why a bucket is not what it must be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnforceError {
    /// Somebody else claimed the bucket first. Nothing was written.
    #[error(
        "the bucket is claimed already: take another one. If this cluster replaces the one that claimed it, \
         give the operator that one's clusterId"
    )]
    ClaimedByOther,
    /// The bucket, which nobody claimed, cannot be adopted as it is. Nothing was written.
    #[error("{}", describe(.conflicts))]
    Unadoptable {
        /// What is in the way, the gravest first; not empty.
        conflicts: Vec<AdoptionConflict>,
    },
    /// What the Site asks for, or what is in the bucket, cannot be followed.
    #[error("{reason}; {remedy}")]
    Rejected { reason: String, remedy: String },
    /// The store, or this bucket of it, cannot keep the promises.
    #[error("{reason}; {remedy}")]
    StoreUnsupported {
        /// What it does not do.
        reason: String,
        remedy: String,
    },
    /// A principal is not whose credentials were given. The bucket's policy is as it was.
    #[error(
        "spec.storage.{identity}.principal is not how the store names the identity in spec.storage.{identity}.credentialsRef: \
         correct one of the two"
    )]
    WrongPrincipal {
        /// `operator` or `recorder`.
        identity: &'static str,
    },
    /// The recorders' credentials cannot put, though their principal was proved. The bucket is as it must be.
    #[error(
        "spec.storage.recorder.credentialsRef: these credentials cannot put an object: correct the keys in that Secret{}",
        if *.has_customer_key {
            ", or let the recorders use the key of the bucket's default encryption (kms:GenerateDataKey)"
        } else {
            ""
        }
    )]
    RecorderCannotPut {
        /// The bucket's default encryption is with a key of the organisation's own.
        has_customer_key: bool,
    },
    /// A principal of a person stands for more than one identity at this store. The bucket's policy is as it was.
    #[error(
        "article 4.1: {principal:?}, named in spec.managers, spec.storage.auditor or the policy's incidentOfficers, stands for \
         more than one identity at this store: {evidence}; name one user or role"
    )]
    AmbiguousPrincipal { principal: String, evidence: &'static str },
    /// The bucket's policy would be longer than a store takes. The one that is there is as it was.
    #[error(
        "spec.managers, and incidentOfficers of the policy: their {people} principals make the bucket policy {bytes} bytes \
         long, where {limit} fit: {fits} of them fit; name fewer, or give several people one role"
    )]
    PolicyTooLong {
        /// How many people have a principal.
        people: usize,
        bytes: usize,
        /// The most bytes it may have.
        limit: usize,
        /// How many of the people fit, in their order.
        fits: usize,
    },
    /// Nobody's credentials are there to try as a recorder. What could be put right without them is.
    #[error(
        "what recorders can do cannot be tried: spec.storage.recorder.credentialsRef names no Secret that can be used"
    )]
    NoRecorderCredentials {
        /// All else was read back as it must be.
        is_in_sync: bool,
    },
    /// The target cannot be used; no connection was made.
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error(transparent)]
    Ceiling(#[from] CeilingTooLow),
    /// The store answered with an error, or not at all.
    #[error(transparent)]
    Storage(#[from] StoreError),
    /// The same, where the Site may name the store otherwise.
    #[error("{}; {advice}", .error.to_string())]
    Advised { error: StoreError, advice: String },
}

impl EnforceError {
    /// Whether it may pass without a change of the Site: the store recovers, or gives a right.
    pub fn is_retryable(&self) -> bool {
        self.store_error().is_some()
    }

    /// The store's answer, where nothing is known of the bucket but that.
    pub const fn store_error(&self) -> Option<&StoreError> {
        match self {
            Self::Storage(error) | Self::Advised { error, .. } => Some(error),
            _ => None,
        }
    }

    /// The same with advice, or as the store's unfitness where it does not know an operation that every Site needs.
    pub(crate) fn with_advice(self, advice: impl FnOnce(&StoreError) -> Option<String>) -> Self {
        let Self::Storage(error) = self else {
            return self;
        };
        if error.is_unsupported() {
            return Self::StoreUnsupported {
                reason: format!("the store does not know an operation that every Site needs: {error}"),
                remedy: "use a store with versioning, Object Lock and object tags".into(),
            };
        }
        match advice(&error) {
            Some(advice) => Self::Advised { error, advice },
            None => Self::Storage(error),
        }
    }
}
