//! Object storage, in three rooms: [`s3`] speaks to a store; [`bucket`] gives a Site's bucket the configuration it must have, and
//! proves that the store keeps it; [`recordings`] protects, deletes and audits what is in it. Only this module uses the AWS SDK.

pub mod bucket;
pub mod recordings;
pub mod s3;

pub use self::bucket::adoption::AdoptionConflict;
pub use self::bucket::enforce::{EnforceFailure, Probe, enforce};
pub use self::bucket::error::EnforceError;
pub use self::bucket::owner::Claim;
pub use self::bucket::probe::Conformance;
pub use self::bucket::spec::{
    BucketDefaultRetention, BucketSpec, BucketState, EnforceReport, ForbiddenSubresource,
    RequiredSubresource, StoreChange, Subresource, SubresourceState, UnreadableReason,
};
pub use self::s3::connection::{BucketConnection, validate_target};
pub use self::s3::store_clock::DecisionTime;
pub use self::s3::target::TargetError;
