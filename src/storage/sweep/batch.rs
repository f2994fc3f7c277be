//! One request that deletes many versions.

use std::collections::BTreeSet;

use aws_sdk_s3::types::{Delete, ObjectIdentifier};

use crate::storage::client::Store;
use crate::storage::error::StoreError;
use crate::storage::listing::Listed;

/// Deletes a batch by version id; the ids that the store asks to try again. Others that it refuses are seen when
/// it is read back.
pub(super) async fn delete<'b, 'l>(
    store: &Store,
    batch: &'b [&'l Listed],
) -> (&'b [&'l Listed], Result<BTreeSet<String>, StoreError>) {
    (batch, delete_all(store, batch).await)
}

async fn delete_all(store: &Store, batch: &[&Listed]) -> Result<BTreeSet<String>, StoreError> {
    let operation = "DeleteObjects";
    let objects: Option<Vec<_>> = batch
        .iter()
        .map(|listed| {
            ObjectIdentifier::builder()
                .key(&listed.key)
                .version_id(&listed.id)
                .build()
                .ok()
        })
        .collect();
    let delete = Delete::builder().set_objects(objects).quiet(true).build().ok();
    let request = store.client.delete_objects().bucket(&store.bucket);
    let answer = request.set_delete(delete).send().await;
    let answer = answer.map_err(|error| StoreError::of(operation, &error))?;
    let later = |code: &str| {
        matches!(
            code,
            "SlowDown" | "InternalError" | "ServiceUnavailable" | "OperationAborted"
        )
    };
    let failed = answer
        .errors()
        .iter()
        .filter(|error| error.code().is_some_and(later));
    Ok(failed
        .filter_map(|error| error.version_id().map(str::to_owned))
        .collect())
}
