//! What a standalone probe is given, and why it fails.

use crate::storage::bucket::policy::principals::AmbiguousPrincipal;
use crate::storage::s3::connection::BucketConnection;
use crate::storage::s3::error::StoreError;

/// What to probe, and as whom.
#[derive(Clone, Debug)]
pub struct ProbeRequest {
    pub operator: BucketConnection,
    /// The bucket as the recorders; `None`: what they can do is not told.
    pub recorder: Option<BucketConnection>,
    /// The operator as the store's policies name it; `None`: no statement is tried.
    pub operator_principal: Option<String>,
    /// The recorders as the store's policies name them; with the operator's, a Site's policy is put.
    pub recorder_principal: Option<String>,
    /// Make the bucket, and delete it afterwards.
    pub create: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    /// A principal may be more than one identity. No connection was made.
    #[error(transparent)]
    Principal(#[from] AmbiguousPrincipal),
    #[error("there is no such bucket: make one with Object Lock, or pass --create-bucket")]
    NoBucket,
    /// There is such a bucket, and it was to be made.
    #[error("the bucket is there already: without --create-bucket it is probed if it is empty")]
    BucketExists,
    /// The bucket is not one that was made for this. Nothing was written.
    #[error("the bucket has {0}: name an empty one without configuration, made for this")]
    InUse(String),
    /// It was told to stop. What it had written is removed, but for this.
    #[error("stopped; {}", if .leftovers.is_empty() { "what was written is removed".to_owned() } else { format!("left behind in the bucket: {}", .leftovers.join(", ")) })]
    Stopped {
        /// What could not be removed.
        leftovers: Vec<String>,
    },
    /// The store answered with an error, or not at all.
    #[error(transparent)]
    Storage(#[from] StoreError),
}
