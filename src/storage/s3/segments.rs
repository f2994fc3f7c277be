//! Uploads segments: once, complete, and unchanged.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use aws_runtime::auth::PayloadSigningOverride;
use aws_sdk_s3::config::interceptors::{
    BeforeDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextMut,
};
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::ByteStream;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;

use super::client::BucketClient;
use super::error::StoreError;
use super::store_clock;
use super::target::TargetError;
use crate::rules::{Key, RetentionTag, TAG_KEY};
use crate::storage::s3::BucketConnection;
use crate::wire::StorageTarget;

/// Puts segments into the site's bucket, with the recorder's credentials.
#[derive(Clone, Debug)]
pub struct Uploader {
    store: BucketClient,
    /// The store does not support `If-None-Match` on a put.
    is_condition_unsupported: Arc<AtomicBool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PutOutcome {
    /// The store already had the segment: an earlier put succeeded without an answer.
    pub already_exists: bool,
    /// Store's clock in its answer, in whole seconds.
    pub server_date: Option<Timestamp>,
}

/// Failed put. The segment stays in the spool.
#[derive(Clone, Debug, PartialEq, Eq, strum::IntoStaticStr, thiserror::Error)]
#[strum(serialize_all = "snake_case")]
pub enum PutError {
    /// The file could not be opened.
    #[error("the segment cannot be read: {0}")]
    File(std::io::ErrorKind),
    /// A recorder may not write this key or tag, or the key does not match the content.
    #[error("rejected before sending: {0}")]
    NotAllowed(&'static str),
    /// The received bytes do not match the checksum: the file or the transfer is damaged.
    #[error("the bytes that the store received do not match the checksum")]
    Checksum,
    /// The store failed or rejected the request.
    #[error(transparent)]
    #[strum(transparent)]
    Store(#[from] StoreError),
}

impl PutError {
    /// Returns whether a retry may help without intervention. The segment is kept and retried in any case.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::File(_) | Self::NotAllowed(_) | Self::Checksum => false,
            Self::Store(error) => error.is_retryable(),
        }
    }
}

impl Uploader {
    /// Returns an uploader for `target`. Makes no connection.
    pub fn new(target: &StorageTarget) -> Result<Self, TargetError> {
        Ok(Self {
            store: BucketConnection::new(target)?.upload_client(),
            is_condition_unsupported: Arc::default(),
        })
    }

    /// Puts `file` under `key` in one streamed request. `sha256` is the hash of the whole file. It signs the body, so
    /// that even a store without checksums accepts no other content.
    ///
    /// A repeated put of the same key returns `already_exists`. On a store that ignores the condition (Ceph 16), it
    /// creates a second version with the same content. If a store rejects the condition, this and all later puts omit
    /// it.
    ///
    /// Dropping the future aborts the request. Its outcome is unknown until the next put.
    pub async fn put(
        &self,
        key: &Key,
        file: &Path,
        sha256: [u8; 32],
        tag: RetentionTag,
    ) -> Result<PutOutcome, PutError> {
        self.put_body(key, || open_body(file), sha256, tag).await
    }

    /// Puts bytes instead of a file, for the simulation: file access uses threads, whose order is not deterministic.
    #[doc(hidden)]
    pub async fn put_bytes(
        &self,
        key: &Key,
        bytes: Vec<u8>,
        sha256: [u8; 32],
        tag: RetentionTag,
    ) -> Result<PutOutcome, PutError> {
        let body = || std::future::ready(Ok(bytes.clone().into()));
        self.put_body(key, body, sha256, tag).await
    }

    async fn put_body<F>(
        &self,
        key: &Key,
        body: impl Fn() -> F,
        sha256: [u8; 32],
        tag: RetentionTag,
    ) -> Result<PutOutcome, PutError>
    where
        F: Future<Output = Result<ByteStream, PutError>>,
    {
        // The operator alone writes `held`: a recorder that could would make its recordings readable and keep them for
        // ever.
        let fits = tag == RetentionTag::default_for(key.class()) || tag == RetentionTag::Sealed;
        if !fits {
            return Err(PutError::NotAllowed("the tag is neither the class's default nor sealed"));
        }
        if !key.matches_sha256(&sha256) {
            return Err(PutError::NotAllowed("the key does not match the content"));
        }
        let is_conditional = !self.is_condition_unsupported.load(Ordering::Relaxed);
        match self.send(key, body().await?, sha256, tag, is_conditional).await {
            Err(PutError::Store(error)) if is_conditional && error.rejects_form() => {
                // The key contains the hash, so a second version under it is the same segment.
                let put = self.send(key, body().await?, sha256, tag, false).await?;
                // Only after success: an answer 400 for another reason must not cost all later puts their condition.
                self.is_condition_unsupported.store(true, Ordering::Relaxed);
                Ok(put)
            }
            put => put,
        }
    }

    async fn send(
        &self,
        key: &Key,
        body: ByteStream,
        sha256: [u8; 32],
        tag: RetentionTag,
        is_conditional: bool,
    ) -> Result<PutOutcome, PutError> {
        let exchange = PutInterceptor::new(&sha256);
        let sent = self
            .store
            .client
            .put_object()
            .bucket(&self.store.bucket)
            .key(key.to_string())
            .content_type("video/mp4")
            .checksum_sha256(STANDARD.encode(sha256))
            .tagging(format!("{TAG_KEY}={tag}"))
            // If the answer to an earlier put was lost, a repeated put must not create a second version.
            .set_if_none_match(is_conditional.then(|| "*".to_owned()))
            .body(body)
            .customize()
            .interceptor(exchange.clone())
            .send()
            .await;
        let server_date = exchange.date();
        match sent.map_err(|error| StoreError::from_sdk("PutObject", &error)) {
            Ok(_) => Ok(PutOutcome { already_exists: false, server_date }),
            Err(error) if error.has_status(412) => Ok(PutOutcome { already_exists: true, server_date }),
            Err(error) if is_checksum_mismatch(&error) => Err(PutError::Checksum),
            Err(error) => Err(error.into()),
        }
    }
}

/// Returns the file as a streamed body.
async fn open_body(file: &Path) -> Result<ByteStream, PutError> {
    // Opened first, since the SDK's error does not have the kind of failure.
    tokio::fs::File::open(file).await.map_err(|error| PutError::File(error.kind()))?;
    ByteStream::from_path(file).await.map_err(|_| PutError::File(std::io::ErrorKind::Other))
}

/// Returns whether the store reports a checksum mismatch.
fn is_checksum_mismatch(error: &StoreError) -> bool {
    matches!(
        error.code.as_str(),
        "BadDigest" | "InvalidDigest" | "XAmzContentSHA256Mismatch" | "XAmzContentChecksumMismatch"
    )
}

/// Signs the given hash instead of the body's and records the `Date` of the answer.
#[derive(Clone, Debug)]
pub(crate) struct PutInterceptor {
    sha256: String,
    date: Arc<Mutex<Option<Timestamp>>>,
}

impl PutInterceptor {
    pub(crate) fn new(sha256: &[u8; 32]) -> Self {
        Self { sha256: hex::encode(sha256), date: Arc::default() }
    }

    fn date(&self) -> Option<Timestamp> {
        self.date.lock().ok().and_then(|date| *date)
    }
}

impl Intercept for PutInterceptor {
    fn name(&self) -> &'static str {
        "PutInterceptor"
    }

    fn modify_before_signing(
        &self,
        _: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        config.interceptor_state().store_put(PayloadSigningOverride::Precomputed(self.sha256.clone()));
        Ok(())
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = store_clock::parse_date_header(context.response().headers().get("date"));
        if let Ok(mut slot) = self.date.lock() {
            *slot = date;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;
    use crate::rules::Class;
    use crate::storage::s3::stub::{Stub, error_answer};

    /// Writes a file. Returns its path, key and hash.
    fn segment(dir: &Path, bytes: &[u8]) -> (std::path::PathBuf, Key, [u8; 32]) {
        let sha256: [u8; 32] = Sha256::digest(bytes).into();
        let file = dir.join(hex::encode(sha256));
        std::fs::write(&file, bytes).unwrap();
        let start = "2026-02-28T23:59:59.5Z".parse().unwrap();
        let key = Key::new(Class::Video, "a-b", start, 4321, &sha256).unwrap();
        (file, key, sha256)
    }

    #[tokio::test]
    async fn unsupported_condition_is_dropped() {
        for (status, code) in [(501, "NotImplemented"), (400, "InvalidArgument")] {
            let stub = Stub::start(move |asked| match asked.header("if-none-match") {
                Some(_) => error_answer(status, code),
                None => (200, String::new()),
            })
            .await;
            let uploader = Uploader::new(&stub.target()).unwrap();
            let dir = tempfile::tempdir().unwrap();
            for bytes in [b"one", b"two"] {
                let (file, key, sha256) = segment(dir.path(), bytes);
                let put = uploader.put(&key, &file, sha256, RetentionTag::Video).await.unwrap();
                assert!(!put.already_exists);
            }
            let asked = stub.take_requests();
            let conditions: Vec<bool> =
                asked.iter().map(|asked| asked.header("if-none-match").is_some()).collect();
            assert_eq!(conditions, [true, false, false], "{code}");
            assert_eq!(&asked[1].body[..], b"one");
        }
    }

    #[tokio::test]
    async fn condition_is_kept_after_unrelated_errors() {
        for (status, code) in
            [(400, "BadDigest"), (400, "ExpiredToken"), (400, "RequestTimeout"), (403, "AccessDenied")]
        {
            let stub = Stub::start(move |_| error_answer(status, code)).await;
            let uploader = Uploader::new(&stub.target()).unwrap();
            let dir = tempfile::tempdir().unwrap();
            let (file, key, sha256) = segment(dir.path(), b"x");
            uploader.put(&key, &file, sha256, RetentionTag::Video).await.unwrap_err();
            assert_eq!(stub.take_requests().len(), 1, "{code}");
        }
    }
}
