//! `Content-MD5` on every request whose body is in memory.
//!
//! S3 once required it for `DeleteObjects`, lifecycle, policy, tagging, legal hold, Object Lock and puts into a bucket
//! with default retention. Newer SDKs send `x-amz-checksum-*` instead, and stores that know only the old header answer
//! 400. S3 accepts both at once (RFC 1864; S3 API reference, "Checking object integrity"). A segment that is streamed
//! from its file carries `x-amz-checksum-sha256` and a signed hash instead.

use aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextMut;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};

const HEADER: &str = "content-md5";

/// Adds `Content-MD5` to requests.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ContentMd5;

impl Intercept for ContentMd5 {
    fn name(&self) -> &'static str {
        "ContentMd5"
    }

    fn modify_before_signing(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let request = context.request_mut();
        let digest = request
            .body()
            .bytes()
            .filter(|body| !body.is_empty())
            .map(|body| STANDARD.encode(Md5::digest(body)));
        if let Some(digest) = digest {
            request.headers_mut().try_insert(HEADER, digest)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_s3::primitives::ByteStream;

    use crate::storage::s3::stub::Stub;

    #[tokio::test]
    async fn bodies_in_memory_carry_their_md5() {
        let stub = Stub::start(|_| (200, String::new())).await;
        let store = stub.store();
        let put = store.client.put_object().bucket(&store.bucket).key("ledger/odd name");
        let put = put.body(ByteStream::from_static(b"Hello, world!"));
        put.send().await.unwrap();
        let _ = store.client.get_bucket_policy().bucket(&store.bucket).send().await;
        let asked = stub.take_requests();
        assert_eq!(asked[0].header("content-md5"), Some("bNNVbesNpUvKBgtMOUeYOQ=="));
        let signed = asked[0].header("authorization").unwrap();
        assert!(signed.contains("content-md5"), "{signed}");
        assert_eq!(asked[1].header("content-md5"), None);
    }
}
