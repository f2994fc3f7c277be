//! The most bytes that a policy may have.

use super::statements::policy_statements;
use crate::storage::bucket::error::EnforceError;
use crate::storage::bucket::policy::actions::BucketRef;
use crate::storage::bucket::policy::dialect::Dialect;
use crate::storage::bucket::policy::document::{MAX_POLICY_BYTES, RESERVED_POLICY_BYTES, document_bytes};
use crate::storage::bucket::spec::BucketSpec;

/// Checks that the policy is one that stores take, with room for what is added while it is tried; says how many of the
/// readers fit where it is not.
pub(crate) fn check_policy_size(
    bucket: BucketRef<'_>,
    spec: &BucketSpec,
    dialect: &Dialect,
    tls: bool,
) -> Result<(), EnforceError> {
    const LIMIT: usize = MAX_POLICY_BYTES - RESERVED_POLICY_BYTES;
    let bytes = |spec: &BucketSpec| document_bytes(&policy_statements(bucket, spec, dialect, tls));
    let whole = bytes(spec);
    if whole <= LIMIT {
        return Ok(());
    }
    let mut fewer = spec.clone();
    while bytes(&fewer) > LIMIT && fewer.readers.pop().is_some() {}
    Err(EnforceError::PolicyTooLong {
        people: spec.readers.len(),
        bytes: whole,
        limit: LIMIT,
        fits: fewer.readers.len(),
    })
}
