//! Requests to the bucket.

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use crate::storage::s3::StoreError;

/// Sends a request of the SDK about the store's bucket, and returns the answer or the error of this S3 operation:
/// `send!(store, "GetBucketCors", get_bucket_cors())`.
macro_rules! send {
    ($store:expr, $operation:expr, $method:ident()$(.$setter:ident($($value:expr),*))*) => {
        $store.client.$method().bucket(&$store.bucket)$(.$setter($($value),*))*.send().await
            .map_err($crate::storage::s3::send::store_error($operation))
    };
}
pub(crate) use send;

/// Returns a function for `map_err` that converts the SDK's error of this S3 operation.
pub(crate) fn store_error<E>(operation: &'static str) -> impl FnOnce(SdkError<E>) -> StoreError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    move |error| StoreError::from_sdk(operation, &error)
}

/// Returns the error of a request that the SDK cannot build.
pub(crate) fn invalid_request(operation: &'static str) -> StoreError {
    StoreError::without_status(operation, "InvalidRequest")
}
