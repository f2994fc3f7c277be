//! The most that is read of an answer. The SDK gathers an answer whole before it parses it, so a store could fill the memory
//! of an operator that other tenants need too.

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::BeforeDeserializationInterceptorContextMut;
use aws_smithy_runtime_api::client::orchestrator::Metadata;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::config_bag::ConfigBag;
use http_body_util::Limited;

/// In bytes: several times a page of a thousand versions with the longest keys, and more than a part of a manifest.
const MOST: usize = 16 * 1024 * 1024;
/// The same of what is asked of single versions, dozens at once.
const MOST_OF_ONE: usize = 64 * 1024;
/// Operations on single versions, and the exchange of a token.
const OF_ONE: [&str; 8] = [
    "AssumeRoleWithWebIdentity",
    "DeleteObject",
    "GetObjectLegalHold",
    "GetObjectRetention",
    "GetObjectTagging",
    "PutObject",
    "PutObjectLegalHold",
    "PutObjectTagging",
];

/// Ends answers that are longer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounded;

impl Intercept for Bounded {
    fn name(&self) -> &'static str {
        "Bounded"
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let is_of_one = config.load::<Metadata>().is_some_and(|operation| OF_ONE.contains(&operation.name()));
        let most = if is_of_one { MOST_OF_ONE } else { MOST };
        let body = context.response_mut().body_mut();
        let whole = std::mem::replace(body, SdkBody::taken());
        *body = SdkBody::from_body_1_x(Limited::new(whole, most));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::MOST;
    use crate::storage::listing::{Query, page};
    use crate::storage::marks;
    use crate::storage::objects::Version;
    use crate::storage::stub::Stub;

    const LISTING: &str = "<ListVersionsResult><IsTruncated>false</IsTruncated>PADDING</ListVersionsResult>";

    #[tokio::test]
    async fn an_answer_without_end_is_none() {
        for (length, is_read) in [(MOST - LISTING.len(), true), (MOST, false)] {
            let text = LISTING.replace("PADDING", &" ".repeat(length));
            let stub = Stub::start(move |_| (200, text.clone())).await;
            let answer = page(&stub.store(), Query::under("ledger/")).await;
            assert_eq!(answer.is_ok(), is_read, "{length}");
            if let Err(error) = answer {
                assert!(error.safe_message().contains("UnreadableAnswer"), "{error:?}");
            }
        }
    }

    #[tokio::test]
    async fn nor_is_a_long_one_about_a_single_version() {
        let version = Version { key: "video/a".into(), id: "1".into(), is_marker: false };
        for (length, is_read) in [(1000, true), (65 * 1024, false)] {
            let padding = " ".repeat(length);
            let text = format!("<LegalHold><Status>ON</Status>{padding}</LegalHold>");
            let stub = Stub::start(move |_| (200, text.clone())).await;
            let answer = marks::is_held(&stub.store(), &version).await;
            assert_eq!(answer.ok(), is_read.then_some(true), "{length}");
        }
    }
}
