//! Advice on errors caused by the Site's storage fields: region, addressing and keys.

use std::sync::{Arc, Mutex};

use aws_sdk_s3::config::interceptors::FinalizerInterceptorContextRef;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;

use super::target::is_valid_region;
use crate::sync::lock;
use crate::wire::StorageTarget;

/// Longest prefix of an error document that is searched for a region.
const MAX_DOCUMENT_BYTES: usize = 64 * 1024;

/// Connection settings of a Site that advice depends on.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionSettings {
    /// The path names the bucket, not the host.
    pub(crate) is_path_style: bool,
    /// Requests use a proxy, except for its exceptions.
    pub(crate) is_proxied: bool,
    /// Kind of static keys that sign requests.
    pub(crate) keys: StaticKeys,
    pub(crate) named_region: NamedRegion,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StaticKeys {
    None,
    WithoutToken,
    WithToken,
}

impl ConnectionSettings {
    pub(crate) fn from_target(target: &StorageTarget) -> Self {
        let keys = target.credentials.as_access_key();
        Self {
            is_path_style: target.path_style,
            is_proxied: target.proxy.is_some(),
            keys: keys.map_or(StaticKeys::None, |keys| match keys.session_token {
                None => StaticKeys::WithoutToken,
                Some(_) => StaticKeys::WithToken,
            }),
            named_region: NamedRegion::default(),
        }
    }
}

/// Region that the store named in its last error, in a header or the document.
#[derive(Clone, Debug, Default)]
pub(crate) struct NamedRegion(Arc<Mutex<Option<String>>>);

impl NamedRegion {
    pub(crate) fn get(&self) -> Option<String> {
        lock(&self.0).clone()
    }
}

impl Intercept for NamedRegion {
    fn name(&self) -> &'static str {
        "NamedRegion"
    }

    fn read_after_attempt(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let Some(response) =
            context.response().filter(|response| (300..500).contains(&response.status().as_u16()))
        else {
            return Ok(());
        };
        // The header first: an answer to HEAD has no document.
        let header = response.headers().get("x-amz-bucket-region");
        let named = header.or_else(|| parse_region(response.body().bytes()?));
        // Reported in a status later, so nothing but a region may get there.
        if let Some(region) = named.filter(|name| is_valid_region(name)) {
            *lock(&self.0) = Some(region.to_owned());
        }
        Ok(())
    }
}

/// Returns the content of `<Region>`.
fn parse_region(document: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(document.get(..MAX_DOCUMENT_BYTES).unwrap_or(document)).ok()?;
    let (_, rest) = text.split_once("<Region>")?;
    Some(rest.split_once("</Region>")?.0)
}

#[cfg(test)]
mod tests {
    use crate::storage::s3::stub::{Stub, error_answer};
    use crate::storage::s3::{BucketClient, BucketConnection, StoreError};

    async fn failed_request(store: &BucketClient) -> StoreError {
        let request = store.client.get_bucket_policy().bucket(&store.bucket);
        StoreError::from_sdk("GetBucketPolicy", &request.send().await.unwrap_err())
    }

    #[tokio::test]
    async fn advice_names_the_field_of_wrong_regions_and_keys() {
        let mismatch = |region: &str| {
            let code = "<Code>AuthorizationHeaderMalformed</Code>";
            (400, format!("<Error>{code}<Message>no</Message><Region>{region}</Region></Error>"))
        };
        for (answer, advised) in [
            (mismatch("RegionOne"), Some("set spec.storage.region to RegionOne")),
            (mismatch("us-east-1"), Some("set it to the region that the store's operator names")),
            (mismatch("<script>alert()</script>"), Some("set it to the region")),
            (mismatch(&"x".repeat(65)), Some("set it to the region")),
            (error_answer(400, "AuthorizationHeaderMalformed"), Some("set it to the region")),
            (error_answer(301, "PermanentRedirect"), Some("set it to the region")),
            (error_answer(403, "AccessDenied"), Some("the keys in spec.storage.operator.credentialsRef")),
            (error_answer(403, "NotSignedUp"), None),
        ] {
            let told = answer.1.clone();
            let stub = Stub::start(move |_| answer.clone()).await;
            let store = stub.store();
            let advice = store.advice(&failed_request(&store).await);
            match advised {
                Some(part) => assert!(advice.as_ref().unwrap().contains(part), "{told}: {advice:?}"),
                None => assert_eq!(advice, None),
            }
            assert!(!advice.unwrap_or_default().contains("alert"), "{told}");
        }
    }

    #[tokio::test]
    async fn advice_suggests_path_style_for_unreachable_bucket_hosts() {
        let stub = Stub::start(|_| error_answer(404, "NoSuchBucket")).await;
        for path_style in [true, false] {
            let mut target = stub.target();
            target.path_style = path_style;
            target.endpoint = target.endpoint.map(|endpoint| endpoint.replace("127.0.0.1", "localhost"));
            let store = BucketConnection::new(&target).unwrap().client();
            // `tz-stub.localhost` resolves on some machines only. Both errors have the same cause.
            let advice = store.advice(&failed_request(&store).await);
            assert_eq!(advice.is_some_and(|advice| advice.contains("spec.storage.pathStyle")), !path_style);
        }
    }
}
