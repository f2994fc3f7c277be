//! Limits the size of answers. The SDK reads an answer completely before it parses it, so a store could exhaust the
//! memory that other tenants need.

use aws_sdk_s3::config::interceptors::BeforeDeserializationInterceptorContextMut;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_smithy_runtime_api::client::orchestrator::Metadata;
use aws_smithy_types::body::SdkBody;
use http_body_util::Limited;

/// Several times the largest page of versions, and more than a part of a manifest.
const MAX_RESPONSE_BYTES: usize = 16 * 1024 * 1024;
/// For requests about single versions, dozens at once.
const MAX_SINGLE_VERSION_BYTES: usize = 64 * 1024;
/// Operations on single versions, and the token exchange.
const SINGLE_VERSION_OPERATIONS: [&str; 8] = [
    "AssumeRoleWithWebIdentity",
    "DeleteObject",
    "GetObjectLegalHold",
    "GetObjectRetention",
    "GetObjectTagging",
    "PutObject",
    "PutObjectLegalHold",
    "PutObjectTagging",
];

#[derive(Clone, Copy, Debug)]
pub(crate) struct ResponseLimit;

impl Intercept for ResponseLimit {
    fn name(&self) -> &'static str {
        "ResponseLimit"
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let is_single_version = config
            .load::<Metadata>()
            .is_some_and(|operation| SINGLE_VERSION_OPERATIONS.contains(&operation.name()));
        let most = if is_single_version { MAX_SINGLE_VERSION_BYTES } else { MAX_RESPONSE_BYTES };
        let body = context.response_mut().body_mut();
        let whole = std::mem::replace(body, SdkBody::taken());
        *body = SdkBody::from_body_1_x(Limited::new(whole, most));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::MAX_RESPONSE_BYTES;
    use crate::rules::VersionRef;
    use crate::storage::s3::stub::Stub;
    use crate::storage::s3::{ListQuery, list_page, protection};

    const LISTING: &str = "<ListVersionsResult><IsTruncated>false</IsTruncated>PADDING</ListVersionsResult>";

    #[tokio::test]
    async fn oversized_listing_is_rejected() {
        for (length, is_read) in [(MAX_RESPONSE_BYTES - LISTING.len(), true), (MAX_RESPONSE_BYTES, false)] {
            let text = LISTING.replace("PADDING", &" ".repeat(length));
            let stub = Stub::start(move |_| (200, text.clone())).await;
            let answer = list_page(&stub.store(), ListQuery::under_prefix("ledger/")).await;
            assert_eq!(answer.is_ok(), is_read, "{length}");
            if let Err(error) = answer {
                assert!(error.to_string().contains("UnreadableAnswer"), "{error:?}");
            }
        }
    }

    #[tokio::test]
    async fn oversized_single_version_response_is_rejected() {
        let version = VersionRef { key: "video/a".into(), id: "1".into(), is_marker: false };
        for (length, is_read) in [(1000, true), (65 * 1024, false)] {
            let padding = " ".repeat(length);
            let text = format!("<LegalHold><Status>ON</Status>{padding}</LegalHold>");
            let stub = Stub::start(move |_| (200, text.clone())).await;
            let answer = protection::has_legal_hold(&stub.store(), &version).await;
            assert_eq!(answer.ok(), is_read.then_some(true), "{length}");
        }
    }
}
