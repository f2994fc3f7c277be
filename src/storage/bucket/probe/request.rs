//! The request and the errors of a standalone probe.

use crate::storage::bucket::policy::principals::AmbiguousPrincipal;
use crate::storage::s3::{BucketConnection, StoreError};

/// The bucket to probe, and the identities to probe with.
#[derive(Clone, Debug)]
pub struct ProbeRequest {
    pub operator: BucketConnection,
    /// The bucket with the recorders' credentials; `None`: their rights are not tried.
    pub recorder: Option<BucketConnection>,
    /// The operator, as the store's policies name it; `None`: no statement is tried.
    pub operator_principal: Option<String>,
    /// The recorders, as the store's policies name them. With both principals, the probe puts a Site's policy.
    pub recorder_principal: Option<String>,
    /// Create the bucket, and delete it afterwards.
    pub create: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    /// A principal may be more than one identity. No connection was made.
    #[error(transparent)]
    Principal(#[from] AmbiguousPrincipal),
    #[error("there is no such bucket: create one with Object Lock, or pass --create-bucket")]
    NoBucket,
    #[error("the bucket is there already: without --create-bucket, the probe uses it if it is empty")]
    BucketExists,
    /// The bucket is in use. Nothing was written.
    #[error("the bucket has {0}: name an empty one without configuration")]
    InUse(String),
    /// The probe was stopped, and removed everything that it wrote, except the leftovers.
    #[error(
        "stopped; {}",
        if .leftovers.is_empty() {
            "everything that the probe wrote is removed".to_owned()
        } else {
            format!("left behind in the bucket: {}", .leftovers.join(", "))
        }
    )]
    Stopped { leftovers: Vec<String> },
    /// The store answered with an error, or not at all.
    #[error(transparent)]
    Storage(#[from] StoreError),
}
