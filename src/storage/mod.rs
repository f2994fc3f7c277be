//! S3, where the promises are kept: keys, the bucket that a site must have, reading it back, segments in.
//!
//! [`enforce`] is the operator's side, in the order of its modules: `observe` what is there (`parts`: what else
//! a bucket can have), `owner`: whose it is, `adoption`: what is in the way of making it ours, `principal`:
//! whether we are who we think, `desired` and `statements`: what must be, `drift`: what differs, `apply` that,
//! and `probe`: whether it holds. [`segments`] is the recorder's side; [`iam`] is for who gives out rights.

mod adoption;
mod advice;
pub(crate) mod aging;
mod apply;
pub mod audit;
mod bounded;
mod bucket;
mod client;
mod content_md5;
mod credentials;
mod date;
pub mod desired;
pub mod dialect;
mod drift;
mod each;
mod enforce;
pub mod error;
#[cfg(test)]
mod failing_tests;
mod fitness;
mod foreign;
mod gaps;
pub mod hold;
pub mod iam;
pub mod key;
mod layout;
pub mod ledger;
pub mod lifecycle;
pub(crate) mod listing;
pub(crate) mod marks;
mod objects;
mod observe;
mod owner;
mod partition;
mod parts;
mod people;
pub mod policy;
mod principal;
pub mod probe;
pub mod proxy;
pub mod readers;
mod refusal;
pub mod requests;
mod rules;
pub mod segments;
#[doc(hidden)]
pub mod simulated;
mod sources;
pub mod statements;
#[cfg(test)]
pub(crate) mod stub;
pub mod sweep;
mod sync;
pub mod tag;
mod trial;
pub mod under_way;
pub(crate) mod walk;
mod whole;

pub use adoption::AdoptionConflict;
pub use bucket::{
    BucketDefaultRetention, BucketSpec, BucketState, EnforceReport, ForbiddenSubresource,
    RequiredSubresource, StoreChange, Subresource, SubresourceState, UnreadableReason,
};
pub use client::{TargetError, validate_target};
pub use date::DecisionTime;
pub use enforce::{EnforceFailure, Probe, enforce};
pub use owner::Claim;
pub use probe::Conformance;
pub use refusal::EnforceError;
