//! Object storage, in three modules: [`s3`] is the client of a store; [`bucket`] configures a Site's bucket, and probes whether the
//! store enforces that; [`recordings`] protects, deletes and audits the recordings in it. Only this module uses the AWS SDK.

pub mod bucket;
pub mod recordings;
pub mod s3;

pub use self::bucket::adoption::AdoptionConflict;
pub use self::bucket::enforce::{EnforceFailure, Probe, enforce};
pub use self::bucket::error::EnforceError;
pub use self::bucket::owner::{Claim, Claimant};
pub use self::bucket::probe::Conformance;
pub use self::bucket::spec::{BucketSpec, EnforceReport, StoreChange};
pub use self::bucket::state::{BucketDefaultRetention, BucketState};
pub use self::bucket::subresources::{
    ForbiddenSubresource, RequiredSubresource, Subresource, SubresourceState, UnreadableReason,
};
pub use self::recordings::{HoldError, OpenHolds, OpenHoldsError, PassErrors};
pub use self::s3::credentials::check_credentials;
pub use self::s3::{BucketConnection, DecisionTime, StoreError, TargetError, verify_ca};
