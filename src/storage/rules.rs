//! Writing the lifecycle rules, and as many of them as the store takes.

use super::apply;
use super::bucket::{BucketState, Change};
use super::client::Store;
use super::desired::OptionalRule;
use super::desired::OptionalRule::{ExpiredMarkers, UnfinishedUploads};
use super::drift::{Desired, Operation};
use super::error::StoreError;
use super::refusal::EnforceError;

/// Rules to leave out, in this order: a store refuses all rules for one that it does not know.
const WITHOUT: [&[OptionalRule]; 4] =
    [&[], &[UnfinishedUploads], &[ExpiredMarkers], &[UnfinishedUploads, ExpiredMarkers]];

/// Writes the rules, without the optional ones that the store refuses; `desired` then lacks them, too. `None`: the rules
/// that the store takes are there already.
pub(crate) async fn write(
    store: &Store,
    desired: &mut Desired,
    state: &BucketState,
) -> Result<Option<Change>, StoreError> {
    let mut refused = None;
    for without in WITHOUT {
        let fewer = desired.without(without);
        let rules = fewer.lifecycle.values().cloned().collect();
        if refused.is_some() && state.lifecycle.as_ref() == Some(&rules) {
            *desired = fewer;
            return Ok(None);
        }
        match apply::apply(store, &Operation::Lifecycle, &fewer, state).await {
            Ok(change) => {
                *desired = fewer;
                return Ok(Some(change));
            }
            // The first refusal is of all rules, and says most.
            Err(error) if error.refuses_form() => refused = refused.or(Some(error)),
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
pub(crate) fn needed(error: StoreError) -> EnforceError {
    if !error.refuses_form() {
        return error.into();
    }
    EnforceError::StoreUnfit {
        what: format!("the store refuses the lifecycle rules of a Site: {}", error.safe_message()),
        remedy: "use a store whose lifecycle knows tags and noncurrent versions".into(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use strum::VariantArray;

    use super::*;
    use crate::api::Days;
    use crate::storage::bucket::BucketSpec;
    use crate::storage::desired;
    use crate::storage::stub::{Stub, error};

    fn desired() -> Desired {
        let spec = BucketSpec {
            video_ceiling: Days(19),
            calls_ceiling: Days(6),
            operator_principal: "o".into(),
            recorder_principal: "r".into(),
            auditor: None,
            readers: vec![],
            take_over: false,
            operator_only: false,
            allow_unprotected: false,
        };
        Desired {
            lifecycle: desired::lifecycle(&spec).unwrap(),
            statements: vec![],
            policy: None,
            given_up: BTreeSet::new(),
        }
    }

    /// A store that refuses rules with one of these elements.
    async fn refusing(elements: &'static [&'static str]) -> Stub {
        Stub::start(move |asked| {
            let body = String::from_utf8_lossy(&asked.body).into_owned();
            if elements.iter().any(|element| body.contains(element)) {
                error(400, "MalformedXML")
            } else {
                (200, String::new())
            }
        })
        .await
    }

    #[tokio::test]
    async fn rules_that_a_store_refuses_are_left_out() {
        for (elements, without) in [
            (&[][..], &[][..]),
            (&["AbortIncomplete"], &[UnfinishedUploads]),
            (&["ExpiredObjectDeleteMarker"], &[ExpiredMarkers]),
            (&["AbortIncomplete", "ExpiredObjectDeleteMarker"], OptionalRule::VARIANTS),
        ] {
            let stub = refusing(elements).await;
            let mut wanted = desired();
            let change = write(&stub.store(), &mut wanted, &BucketState::default()).await.unwrap();
            let expected = desired().without(without);
            assert_eq!(wanted.lifecycle, expected.lifecycle, "{elements:?}");
            assert_eq!(wanted.given_up, expected.given_up, "{elements:?}");
            assert!(change.unwrap().to.contains("video/ toezicht-retention=video expire 15d"));

            // Tried again, and nothing new is there: no change.
            let state = BucketState {
                lifecycle: Some(expected.lifecycle.values().cloned().collect()),
                ..BucketState::default()
            };
            let mut again = desired();
            let change = write(&stub.store(), &mut again, &state).await.unwrap();
            assert_eq!(change.is_none(), !without.is_empty(), "{elements:?}");
            assert_eq!(again.given_up, expected.given_up);
        }
    }

    #[tokio::test]
    async fn rules_that_a_ceiling_needs_are_not_left_out() {
        let stub = refusing(&["NoncurrentDays"]).await;
        let mut wanted = desired();
        let refused = write(&stub.store(), &mut wanted, &BucketState::default()).await;
        assert_eq!(refused.unwrap_err().code, "MalformedXML");
        assert_eq!(wanted.lifecycle, desired().lifecycle);
        assert_eq!(stub.take().len(), 4);
    }

    #[tokio::test]
    async fn a_denied_write_is_not_tried_in_other_forms() {
        let stub = Stub::start(|_| error(403, "AccessDenied")).await;
        let refused = write(&stub.store(), &mut desired(), &BucketState::default()).await;
        assert_eq!(refused.unwrap_err().code, "AccessDenied");
        assert_eq!(stub.take().len(), 1);
    }
}
