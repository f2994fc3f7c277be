//! What the store gives to whoever has nothing else to do: requests that the SDK signed beforehand, of the kinds that
//! Toezicht sends, replayed by a bare HTTP client.

use std::sync::{Arc, Mutex};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::SharedHttpClient;
use aws_sdk_s3::types::{
    Delete, ObjectIdentifier, ObjectLockLegalHold, ObjectLockLegalHoldStatus, Tag, Tagging,
};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use axum::body::Body;
use bytes::Bytes;
use futures::{StreamExt, stream};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector as HttpConnection;
use hyper_util::rt::TokioExecutor;
use toezicht::wire::StorageTarget;

use crate::Measurement;
use crate::bed::{VersionId, list_versions, measure, sdk_client};

const MAX_CONCURRENT_GROUPS: usize = 48;
/// Versions in one `DeleteObjects` request, as in a sweep.
const BATCH_SIZE: usize = 100;
/// Versions in one page of a listing.
const PAGE_SIZE: usize = 1000;
/// Slashes of `video/CAMERA/`, and of `video/CAMERA/YYYY/MM/DD/`.
const SLASHES_TO_CAMERA: usize = 2;
const SLASHES_TO_DAY: usize = 5;
/// More than any answer has.
const MAX_ANSWER_BYTES: usize = 16 << 20;

/// Deletes all versions in batches; with `lists`, asks for the pages too in which a sweep finds them.
pub async fn replay_deletions(target: &StorageTarget, lists: bool) -> Measurement {
    let (versions, signer) = prepare(target).await;
    let (bucket, client) = (&target.bucket, &signer.client);
    if lists {
        signer.sign_listing(bucket, &versions, 1).await;
    }
    for batch in versions.chunks(BATCH_SIZE) {
        let objects = batch.iter().map(|(key, id)| {
            let one = ObjectIdentifier::builder().key(key).version_id(id);
            one.build().unwrap()
        });
        let delete = Delete::builder().set_objects(Some(objects.collect())).quiet(true);
        signer.next_group();
        let request = client.delete_objects().bucket(bucket);
        drop(request.delete(delete.build().unwrap()).send().await);
    }
    measure(async {
        signer.replay().await;
        versions.len()
    })
    .await
}

/// Reads the marks of all versions and writes them, to place or to release a hold; with `lists`, asks for the pages too in
/// which they are found. A placing looks behind all delete markers first, by day; a releasing at all that a camera has.
pub async fn replay_protection(target: &StorageTarget, place: bool, lists: bool) -> Measurement {
    let (versions, signer) = prepare(target).await;
    let (bucket, client) = (&target.bucket, &signer.client);
    let (status, tag) = if place {
        (ObjectLockLegalHoldStatus::On, "held")
    } else {
        (ObjectLockLegalHoldStatus::Off, "video")
    };
    let hold = ObjectLockLegalHold::builder().status(status).build();
    let tag = Tag::builder().key("toezicht-retention").value(tag).build().unwrap();
    let tags = Tagging::builder().tag_set(tag).build().unwrap();
    let listed: &[usize] = match (lists, place) {
        (false, _) => &[],
        (true, true) => &[SLASHES_TO_DAY, SLASHES_TO_DAY],
        (true, false) => &[SLASHES_TO_CAMERA],
    };
    for slashes in listed {
        signer.sign_listing(bucket, &versions, *slashes).await;
    }
    for (key, id) in &versions {
        signer.next_group();
        let one = client.get_object_tagging().bucket(bucket).key(key);
        drop(one.version_id(id).send().await);
        let one = client.get_object_legal_hold().bucket(bucket).key(key);
        drop(one.version_id(id).send().await);
        let one = client.put_object_legal_hold().bucket(bucket).key(key);
        drop(one.version_id(id).legal_hold(hold.clone()).send().await);
        let one = client.put_object_tagging().bucket(bucket).key(key);
        drop(one.version_id(id).tagging(tags.clone()).send().await);
    }
    measure(async {
        signer.replay().await;
        versions.len()
    })
    .await
}

async fn prepare(target: &StorageTarget) -> (Vec<VersionId>, Signer) {
    let all = list_versions(&sdk_client(target, None), &target.bucket, "video/").await;
    let kept = SignedRequests::default();
    let signer =
        Signer { client: sdk_client(target, Some(SharedHttpClient::new(kept.clone()))), signed: kept };
    (all, signer)
}

/// A client whose requests are signed, kept, and not sent.
struct Signer {
    client: Client,
    signed: SignedRequests,
}

impl Signer {
    /// What is signed from now on is sent after one another.
    fn next_group(&self) {
        self.signed.0.lock().unwrap().push(Vec::new());
    }

    /// All pages of the prefixes that end at so many slashes.
    async fn sign_listing(&self, bucket: &str, versions: &[VersionId], slashes: usize) {
        let prefix = |(key, _): &VersionId| -> String { key.split_inclusive('/').take(slashes).collect() };
        for all in versions.chunk_by(|one, next| prefix(one) == prefix(next)) {
            let mut before: Option<&VersionId> = None;
            for page in all.chunks(PAGE_SIZE) {
                let list = self.client.list_object_versions().bucket(bucket).prefix(prefix(&all[0]));
                let list = list.set_key_marker(before.map(|(key, _)| key.clone()));
                let list = list.set_version_id_marker(before.map(|(_, id)| id.clone()));
                self.next_group();
                drop(list.send().await);
                before = page.last();
            }
        }
    }

    /// Sends what is kept, one group beside the others.
    async fn replay(&self) {
        let groups = std::mem::take(&mut *self.signed.0.lock().unwrap());
        let http: legacy::Client<_, Body> = legacy::Client::builder(TokioExecutor::new()).build_http();
        let sent = stream::iter(groups).map(|group| async {
            for request in group {
                send(&http, request).await;
            }
        });
        sent.buffer_unordered(MAX_CONCURRENT_GROUPS).collect::<Vec<()>>().await;
    }
}

async fn send(http: &legacy::Client<HttpConnection, Body>, request: http::Request<Bytes>) {
    let answer = http.request(request.map(Body::from)).await.unwrap();
    let status = answer.status();
    let body = axum::body::to_bytes(Body::new(answer.into_body()), MAX_ANSWER_BYTES).await.unwrap();
    let text = String::from_utf8_lossy(&body);
    assert!(status.is_success() && !text.contains("<Error>"), "{status} {text}");
}

#[derive(Clone, Debug, Default)]
struct SignedRequests(Arc<Mutex<Vec<Vec<http::Request<Bytes>>>>>);

impl HttpConnector for SignedRequests {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let request = request.try_into_http1x().unwrap();
        let request = request.map(|body| Bytes::copy_from_slice(body.bytes().unwrap()));
        self.0.lock().unwrap().last_mut().unwrap().push(request);
        HttpConnectorFuture::ready(Err(ConnectorError::user("kept, not sent".into())))
    }
}

impl HttpClient for SignedRequests {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}
