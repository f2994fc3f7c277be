//! The reasons that a bucket is not compliant.

use super::adoption::{AdoptionConflict, describe};
use super::desired::CeilingTooLow;
use super::owner::Claimant;
use crate::storage::s3::{StoreError, TargetError};

/// Reason that a bucket is not compliant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnforceError {
    /// Another Site claimed the bucket first. The operator wrote nothing.
    #[error("{}", describe_claim(.0))]
    ClaimedByOther(Claimant),
    /// The bucket is unclaimed and cannot be adopted. The operator wrote nothing.
    #[error("{}", describe(.conflicts))]
    Unadoptable {
        /// The gravest first; not empty.
        conflicts: Vec<AdoptionConflict>,
    },
    /// The Site's fields or the bucket's configuration prevent enforcement.
    #[error("{reason}; {remedy}")]
    Rejected { reason: String, remedy: String },
    /// The store, or this bucket of it, cannot keep the promises.
    #[error("{reason}; {remedy}")]
    StoreUnsupported { reason: String, remedy: String },
    /// A principal does not name the identity of the credentials. The bucket's policy is unchanged.
    #[error(
        "spec.storage.{identity}.principal is not how the store names the identity in spec.storage.{identity}.credentialsRef: \
         correct one of the two"
    )]
    WrongPrincipal {
        /// `operator` or `recorder`.
        identity: &'static str,
    },
    /// The recorders' credentials cannot put, though their principal was proved. The bucket is compliant.
    #[error(
        "spec.storage.recorder.credentialsRef: these credentials cannot put an object: correct the keys in that Secret{}",
        if *.has_customer_key {
            ", or let the recorders use the key of the bucket's default encryption (kms:GenerateDataKey)"
        } else {
            ""
        }
    )]
    RecorderCannotPut {
        /// The bucket's default encryption uses a key of the organisation.
        has_customer_key: bool,
    },
    /// A person's principal names more than one identity at this store. The bucket's policy is unchanged.
    #[error(
        "article 4.1: {principal:?}, named in spec.managers, spec.storage.auditor or the policy's incidentOfficers, stands for \
         more than one identity at this store: {evidence}; name one user or role"
    )]
    AmbiguousPrincipal { principal: String, evidence: &'static str },
    /// The bucket policy would be longer than stores accept. The present one is unchanged.
    #[error(
        "spec.managers, and incidentOfficers of the policy: their {people} principals make the bucket policy {bytes} bytes \
         long, and the limit is {limit}: {fits} of them fit; name fewer, or give several people one role"
    )]
    PolicyTooLong {
        /// Number of people with a principal.
        people: usize,
        bytes: usize,
        /// Maximum number of bytes.
        limit: usize,
        /// Number of people that fit, in their order.
        fits: usize,
    },
    /// There are no credentials to probe with as a recorder. Everything that can be restored without them is restored.
    #[error(
        "spec.storage.recorder.credentialsRef or caRef: names no usable Secret, so the operator cannot probe the recorders' rights; \
         create or correct that Secret: see Accepted"
    )]
    NoRecorderCredentials {
        /// Everything else reads back as compliant.
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
    /// The same, with a field of the Site that may be wrong.
    #[error("{error}; {advice}")]
    Advised { error: StoreError, advice: String },
}

fn describe_claim(claimant: &Claimant) -> String {
    const CORRECT: &str =
        "the field is immutable, so delete this Site and create it again with another bucket";
    match claimant {
        Claimant::SameNamespace { site } => {
            format!("spec.storage.bucket: claimed by Site {site:?} of this namespace; {CORRECT}")
        }
        Claimant::SameCluster => {
            format!("spec.storage.bucket: claimed by a Site of another namespace of this cluster; {CORRECT}")
        }
        Claimant::OtherCluster => format!(
            "spec.storage.bucket: claimed by a Site of another cluster; {CORRECT}. If this cluster replaces that one, give the operator \
             the clusterId of that cluster"
        ),
        Claimant::Unknown => format!(
            "spec.storage.bucket: claimed by another Site, and this operator cannot read its claim in ledger/owner.json; {CORRECT}"
        ),
    }
}

impl EnforceError {
    /// Returns whether the recorders' credentials are the only problem: everything else was read back as compliant.
    pub const fn is_about_recorder_credentials(&self) -> bool {
        matches!(self, Self::NoRecorderCredentials { is_in_sync: true } | Self::RecorderCannotPut { .. })
    }

    /// Returns whether the error can pass without a change of the Site: the store recovers, or grants a right.
    pub fn is_retryable(&self) -> bool {
        self.store_error().is_some()
    }

    /// Returns whether the operator has learned nothing about the bucket: the store failed, or the operator's key or the certificate
    /// authority cannot be used.
    pub const fn is_inconclusive(&self) -> bool {
        self.store_error().is_some()
            || matches!(self, Self::Target(TargetError::Ca | TargetError::Credentials | TargetError::Proxy))
    }

    /// Returns the store's error, if it is all that is known of the bucket.
    pub const fn store_error(&self) -> Option<&StoreError> {
        match self {
            Self::Storage(error) | Self::Advised { error, .. } => Some(error),
            _ => None,
        }
    }

    /// Adds advice to a store's error. An operation that the store does not support, and every Site needs, makes it unfit.
    pub(crate) fn with_advice(self, advice: impl FnOnce(&StoreError) -> Option<String>) -> Self {
        let Self::Storage(error) = self else {
            return self;
        };
        if error.is_unsupported() {
            return Self::StoreUnsupported {
                reason: format!("the store does not support an operation that every Site needs: {error}"),
                remedy: "use a store with versioning, Object Lock and object tags".into(),
            };
        }
        match advice(&error) {
            Some(advice) => Self::Advised { error, advice },
            None => Self::Storage(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_claim_of_another_cluster_mentions_the_cluster_id() {
        let site = "hall".to_owned();
        for (claimant, is_of_other_cluster) in [
            (Claimant::SameNamespace { site }, false),
            (Claimant::SameCluster, false),
            (Claimant::Unknown, false),
            (Claimant::OtherCluster, true),
        ] {
            let message = EnforceError::ClaimedByOther(claimant.clone()).to_string();
            assert_eq!(message.contains("clusterId"), is_of_other_cluster, "{message}");
            assert_eq!(
                message.contains("\"hall\""),
                matches!(claimant, Claimant::SameNamespace { .. }),
                "{message}"
            );
        }
    }
}
