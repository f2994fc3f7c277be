//! Writing the lifecycle rules, without the optional ones that the store rejects.

use super::apply;
use super::desired::OptionalRule;
use super::desired::OptionalRule::{ExpiredMarkers, UnfinishedUploads};
use super::drift::{BucketOperation, DesiredBucket};
use super::error::EnforceError;
use super::spec::StoreChange;
use super::state::BucketState;
use crate::storage::s3::send::invalid_request;
use crate::storage::s3::{BucketClient, StoreError};

/// Rules to omit, in the order of the attempts: a store rejects all rules because of one that it does not support.
const OMITTABLE_RULES: [&[OptionalRule]; 4] =
    [&[], &[UnfinishedUploads], &[ExpiredMarkers], &[UnfinishedUploads, ExpiredMarkers]];

/// Writes the rules, and removes the optional rules that the store rejects from `desired`. Returns `None` if the bucket already
/// has the remaining rules.
pub(crate) async fn write_supported(
    store: &BucketClient,
    desired: &mut DesiredBucket,
    state: &BucketState,
) -> Result<Option<StoreChange>, StoreError> {
    let mut rejected = None;
    for omitted in OMITTABLE_RULES {
        let fewer = desired.without_rules(omitted);
        // Without this, the daily retry of an optional rule would report the same rules as a change.
        if rejected.is_some() && state.lifecycle.as_ref() == Some(&fewer.rule_set()) {
            *desired = fewer;
            return Ok(None);
        }
        match apply::apply(store, BucketOperation::PutLifecycle, &fewer, state).await {
            Ok(change) => {
                *desired = fewer;
                return Ok(Some(change));
            }
            // The first rejection is about all rules, so it is the one to report.
            Err(error) if error.rejects_form() => rejected = rejected.or(Some(error)),
            Err(error) => return Err(error),
        }
    }
    Err(rejected.unwrap_or_else(|| invalid_request("PutBucketLifecycleConfiguration")))
}

/// Returns the error for a store that rejects the required rules: nothing would delete at the ceiling while the operator is down.
pub(crate) fn required_rules_error(error: StoreError) -> EnforceError {
    if !error.rejects_form() {
        return error.into();
    }
    EnforceError::StoreUnsupported {
        reason: format!("the store rejects the lifecycle rules of a Site: {error}"),
        remedy: "use a store with lifecycle rules for tags and noncurrent versions".into(),
    }
}

#[cfg(test)]
mod tests {
    use strum::VariantArray;

    use super::*;
    use crate::api::Days;
    use crate::storage::bucket::spec::BucketSpec;
    use crate::storage::s3::stub::{Stub, error_answer};

    fn desired() -> DesiredBucket {
        let spec = BucketSpec { video_ceiling: Days(19), calls_ceiling: Days(6), ..BucketSpec::example() };
        DesiredBucket::with_lifecycle_only(&spec).unwrap()
    }

    /// A store that rejects rules with one of these elements.
    async fn store_rejecting(elements: &'static [&'static str]) -> Stub {
        Stub::start(move |request| {
            let body = String::from_utf8_lossy(&request.body).into_owned();
            if elements.iter().any(|element| body.contains(element)) {
                error_answer(400, "MalformedXML")
            } else {
                (200, String::new())
            }
        })
        .await
    }

    #[tokio::test]
    async fn rejected_optional_rules_are_omitted() {
        for (elements, without) in [
            (&[][..], &[][..]),
            (&["AbortIncomplete"], &[UnfinishedUploads]),
            (&["ExpiredObjectDeleteMarker"], &[ExpiredMarkers]),
            (&["AbortIncomplete", "ExpiredObjectDeleteMarker"], OptionalRule::VARIANTS),
        ] {
            let stub = store_rejecting(elements).await;
            let mut wanted = desired();
            let change = write_supported(&stub.store(), &mut wanted, &BucketState::default()).await.unwrap();
            let expected = desired().without_rules(without);
            assert_eq!(wanted.lifecycle, expected.lifecycle, "{elements:?}");
            assert_eq!(wanted.unsupported, expected.unsupported, "{elements:?}");
            assert!(change.unwrap().to.contains("video/ toezicht-retention=video expire 15d"));

            // The same rules again are no change.
            let state = BucketState { lifecycle: Some(expected.rule_set()), ..BucketState::default() };
            let mut again = desired();
            let change = write_supported(&stub.store(), &mut again, &state).await.unwrap();
            assert_eq!(change.is_none(), !without.is_empty(), "{elements:?}");
            assert_eq!(again.unsupported, expected.unsupported);
        }
    }

    #[tokio::test]
    async fn required_rules_are_never_omitted() {
        let stub = store_rejecting(&["NoncurrentDays"]).await;
        let mut wanted = desired();
        let refused = write_supported(&stub.store(), &mut wanted, &BucketState::default()).await;
        assert_eq!(refused.unwrap_err().code, "MalformedXML");
        assert_eq!(wanted.lifecycle, desired().lifecycle);
        assert_eq!(stub.take_requests().len(), 4);
    }

    #[tokio::test]
    async fn denied_write_is_not_retried() {
        let stub = Stub::start(|_| error_answer(403, "AccessDenied")).await;
        let refused = write_supported(&stub.store(), &mut desired(), &BucketState::default()).await;
        assert_eq!(refused.unwrap_err().code, "AccessDenied");
        assert_eq!(stub.take_requests().len(), 1);
    }
}
