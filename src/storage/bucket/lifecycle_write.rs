//! Writing the lifecycle rules, and as many of them as the store takes.

use super::apply;
use super::desired::OptionalRule;
use super::desired::OptionalRule::{ExpiredMarkers, UnfinishedUploads};
use super::drift::{BucketOperation, DesiredBucket};
use super::error::EnforceError;
use super::spec::{BucketState, StoreChange};
use crate::storage::s3::client::BucketClient;
use crate::storage::s3::error::StoreError;

/// Rules to leave out, in this order: a store refuses all rules for one that it does not know.
const OMITTABLE_RULES: [&[OptionalRule]; 4] =
    [&[], &[UnfinishedUploads], &[ExpiredMarkers], &[UnfinishedUploads, ExpiredMarkers]];

/// Writes the rules, without the optional ones that the store refuses; `desired` then lacks them, too. `None`: the rules
/// that the store takes are there already.
pub(crate) async fn write_supported(
    store: &BucketClient,
    desired: &mut DesiredBucket,
    state: &BucketState,
) -> Result<Option<StoreChange>, StoreError> {
    let mut refused = None;
    for without in OMITTABLE_RULES {
        let fewer = desired.without_rules(without);
        let rules = fewer.lifecycle.values().cloned().collect();
        if refused.is_some() && state.lifecycle.as_ref() == Some(&rules) {
            *desired = fewer;
            return Ok(None);
        }
        match apply::apply(store, &BucketOperation::PutLifecycle, &fewer, state).await {
            Ok(change) => {
                *desired = fewer;
                return Ok(Some(change));
            }
            // The first refusal is of all rules, and says most.
            Err(error) if error.rejects_form() => refused = refused.or(Some(error)),
            Err(error) => return Err(error),
        }
    }
    Err(refused.unwrap_or_else(|| StoreError {
        operation: "PutBucketLifecycleConfiguration",
        code: "InvalidRequest".into(),
        status: None,
    }))
}

/// Without the rules that remain, no ceiling is kept while the operator is down.
pub(crate) fn required_rules_error(error: StoreError) -> EnforceError {
    if !error.rejects_form() {
        return error.into();
    }
    EnforceError::StoreUnsupported {
        reason: format!("the store refuses the lifecycle rules of a Site: {error}"),
        remedy: "use a store whose lifecycle knows tags and noncurrent versions".into(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use strum::VariantArray;

    use super::*;
    use crate::api::Days;
    use crate::storage::bucket::desired;
    use crate::storage::bucket::spec::BucketSpec;
    use crate::storage::s3::stub::{Stub, error_answer};

    fn desired() -> DesiredBucket {
        let spec = BucketSpec { video_ceiling: Days(19), calls_ceiling: Days(6), ..BucketSpec::example() };
        DesiredBucket {
            lifecycle: desired::lifecycle_rules(&spec).unwrap(),
            statements: vec![],
            policy: None,
            unsupported: BTreeSet::new(),
        }
    }

    /// A store that refuses rules with one of these elements.
    async fn store_rejecting(elements: &'static [&'static str]) -> Stub {
        Stub::start(move |asked| {
            let body = String::from_utf8_lossy(&asked.body).into_owned();
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

            // Tried again, and nothing new is there: no change.
            let state = BucketState {
                lifecycle: Some(expected.lifecycle.values().cloned().collect()),
                ..BucketState::default()
            };
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
