//! HTTP servers for tests: one that answers by a function and records its requests, and a bucket in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use axum::body::Bytes;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::IntoResponse;
use jiff::Timestamp;

use super::client::BucketClient;
use super::error::StoreError;
use crate::rules::{HoldScope, ListedVersion, TAG_KEY};
use crate::storage::recordings::{OpenHolds, OpenHoldsError};
use crate::storage::s3::BucketConnection;
use crate::wire::{Credentials, StorageTarget};

#[derive(Clone, Debug)]
pub(crate) struct ReceivedRequest {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl ReceivedRequest {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(crate) fn has_parameter(&self, name: &str) -> bool {
        self.query_parameter(name).is_some()
    }

    /// Returns the subresource of an object that the request is about: its legal hold or its tag.
    pub(crate) fn mark(&self) -> Option<&'static str> {
        ["legal-hold", "tagging"].into_iter().find(|mark| self.has_parameter(mark))
    }

    /// Returns the path and [`Self::mark`]: the place of a body in [`FakeBucket::bodies`].
    pub(crate) fn place(&self) -> String {
        format!("{} {}", self.path, self.mark().unwrap_or_default())
    }

    /// Returns a parameter of the query; empty if it has no value.
    pub(crate) fn query_parameter(&self, name: &str) -> Option<String> {
        let mut all = url::form_urlencoded::parse(self.query.as_bytes());
        all.find(|(given, _)| given == name).map(|(_, value)| value.into_owned())
    }
}

/// Pseudo-status of an answer that never comes.
pub(crate) const NEVER_ANSWERS: u16 = 0;

/// Server that lasts as long as the test.
pub(crate) struct Stub {
    pub(crate) endpoint: String,
    requests: Arc<Mutex<Vec<ReceivedRequest>>>,
}

impl Stub {
    pub(crate) async fn start(
        answer: impl Fn(&ReceivedRequest) -> (u16, String) + Clone + Send + Sync + 'static,
    ) -> Self {
        let asked = Arc::<Mutex<Vec<ReceivedRequest>>>::default();
        let seen = Arc::clone(&asked);
        let app =
            axum::Router::new().fallback(move |method: Method, uri: Uri, headers: HeaderMap, body: Bytes| {
                let request = ReceivedRequest {
                    method,
                    path: uri.path().to_owned(),
                    query: uri.query().unwrap_or_default().to_owned(),
                    headers,
                    body,
                };
                let (status, text) = answer(&request);
                seen.lock().unwrap().push(request);
                async move {
                    if status == NEVER_ANSWERS {
                        std::future::pending::<()>().await;
                    }
                    (StatusCode::from_u16(status).unwrap(), [("etag", "\"stub\"")], text).into_response()
                }
            });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { endpoint, requests: asked }
    }

    pub(crate) fn target(&self) -> StorageTarget {
        StorageTarget { endpoint: Some(self.endpoint.clone()), ..target() }
    }

    pub(crate) fn connection(&self) -> BucketConnection {
        BucketConnection::new(&self.target()).unwrap()
    }

    pub(crate) fn store(&self) -> BucketClient {
        self.connection().client()
    }

    /// Returns the requests since the previous call.
    pub(crate) fn take_requests(&self) -> Vec<ReceivedRequest> {
        std::mem::take(&mut self.requests.lock().unwrap())
    }
}

/// Returns a target at AWS, with keys.
pub(crate) fn target() -> StorageTarget {
    StorageTarget {
        endpoint: None,
        region: "us-east-1".into(),
        bucket: "tz-stub".into(),
        path_style: true,
        ca_pem: None,
        credentials: Credentials::access_key("id", "secret"),
        proxy: None,
    }
}

/// Sends one small request.
pub(crate) async fn get_bucket_policy(target: &StorageTarget) -> Result<(), StoreError> {
    let store = BucketConnection::new(target).unwrap().client();
    let answer = store.client.get_bucket_policy().bucket(&store.bucket).send().await;
    answer.map(|_| ()).map_err(|error| StoreError::from_sdk("GetBucketPolicy", &error))
}

/// Open holds of the API server.
pub(crate) struct FixedHolds(pub(crate) Result<Vec<HoldScope>, OpenHoldsError>);

pub(crate) static NO_OPEN_HOLDS: FixedHolds = FixedHolds(Ok(Vec::new()));

#[async_trait]
impl OpenHolds for FixedHolds {
    async fn scopes(&self) -> Result<Vec<HoldScope>, OpenHoldsError> {
        self.0.clone()
    }
}

/// Returns the current version of a small object.
#[allow(clippy::needless_pass_by_value)]
pub(crate) fn listed(key: impl ToString, id: &str, modified: Timestamp) -> ListedVersion {
    ListedVersion {
        key: key.to_string(),
        id: id.to_owned(),
        is_marker: false,
        is_latest: true,
        modified,
        size: 10,
        etag: "e".into(),
    }
}

pub(crate) fn legal_hold(status: &str) -> String {
    format!("<LegalHold><Status>{status}</Status></LegalHold>")
}

pub(crate) fn tagging(value: &str) -> String {
    format!("<Tagging><TagSet><Tag><Key>{TAG_KEY}</Key><Value>{value}</Value></Tag></TagSet></Tagging>")
}

/// Bucket in memory.
#[derive(Clone, Debug, Default)]
pub(crate) struct FakeBucket {
    /// Listed versions, in order of their keys.
    pub(crate) versions: Vec<ListedVersion>,
    /// Objects, legal holds and tags, by [`ReceivedRequest::place`]: the bodies of the last puts.
    pub(crate) bodies: BTreeMap<String, String>,
    /// Ids of versions that no batch deletes.
    pub(crate) undeletable: BTreeSet<&'static str>,
}

impl FakeBucket {
    pub(crate) fn of(versions: impl IntoIterator<Item = ListedVersion>) -> Self {
        Self { versions: versions.into_iter().collect(), ..Self::default() }
    }

    /// Gives all versions this tag.
    pub(crate) fn tagged(mut self, tag: &str) -> Self {
        for listed in &self.versions {
            self.bodies.insert(format!("/tz-stub/{} tagging", listed.key), tagging(tag));
        }
        self
    }

    /// Sets the legal hold of all versions.
    pub(crate) fn with_legal_hold(mut self, status: &str) -> Self {
        for listed in &self.versions {
            self.bodies.insert(format!("/tz-stub/{} legal-hold", listed.key), legal_hold(status));
        }
        self
    }

    pub(crate) fn put(&mut self, key: &str, body: String) {
        self.bodies.insert(format!("/tz-stub/{key} "), body);
    }

    pub(crate) fn answer(&mut self, asked: &ReceivedRequest) -> (u16, String) {
        let body = String::from_utf8_lossy(&asked.body);
        match asked.method.as_str() {
            "PUT" => {
                self.bodies.insert(asked.place(), body.into_owned());
                (200, String::new())
            }
            "DELETE" => {
                let id = asked.query_parameter("versionId");
                self.versions
                    .retain(|listed| Some(&listed.id) != id.as_ref() || !asked.path.ends_with(&listed.key));
                (204, String::new())
            }
            "POST" => {
                let is_asked = |id: &str| body.contains(&format!("<VersionId>{id}</VersionId>"));
                self.versions
                    .retain(|listed| !is_asked(&listed.id) || self.undeletable.contains(listed.id.as_str()));
                let left = self.versions.iter().filter(|listed| is_asked(&listed.id));
                let left = left.map(|ListedVersion { key, id, .. }| {
                    let code = "<Code>InternalError</Code>";
                    format!("<Error><Key>{key}</Key><VersionId>{id}</VersionId>{code}</Error>")
                });
                (200, format!("<DeleteResult>{}</DeleteResult>", left.collect::<String>()))
            }
            _ if asked.has_parameter("uploads") => {
                (200, "<ListMultipartUploadsResult></ListMultipartUploadsResult>".to_owned())
            }
            _ if asked.has_parameter("versions") => versions_answer(asked, &self.versions),
            _ => match (self.bodies.get(&asked.place()), asked.mark()) {
                (Some(body), _) => (200, body.clone()),
                (None, Some("legal-hold")) => error_answer(404, "NoSuchObjectLockConfiguration"),
                (None, Some(_)) => (200, "<Tagging><TagSet></TagSet></Tagging>".to_owned()),
                (None, None) => error_answer(404, "NoSuchKey"),
            },
        }
    }

    /// Serves the bucket. `fault` may change it and answer instead.
    pub(crate) async fn start(
        self,
        fault: impl FnMut(&ReceivedRequest, &mut Self) -> Option<(u16, String)> + Send + 'static,
    ) -> (Stub, Arc<Mutex<Self>>) {
        let bucket = Arc::new(Mutex::new(self));
        let (served, fault) = (Arc::clone(&bucket), Arc::new(Mutex::new(fault)));
        let stub = Stub::start(move |asked| {
            let mut bucket = served.lock().unwrap();
            let answer = (*fault.lock().unwrap())(asked, &mut bucket);
            answer.unwrap_or_else(|| bucket.answer(asked))
        });
        (stub.await, bucket)
    }
}

/// Returns an S3 error.
pub(crate) fn error_answer(status: u16, code: &str) -> (u16, String) {
    (status, format!("<Error><Code>{code}</Code></Error>"))
}

/// Returns the answer to `ListObjectVersions` of a bucket with these versions, in order of their keys.
pub(crate) fn versions_answer(asked: &ReceivedRequest, all: &[ListedVersion]) -> (u16, String) {
    let prefix = asked.query_parameter("prefix").unwrap_or_default();
    let by_folder = asked.query_parameter("delimiter").is_some();
    let (mut versions, mut folders) = (String::new(), BTreeSet::new());
    for listed in all {
        let Some(rest) = listed.key.strip_prefix(&prefix) else {
            continue;
        };
        if let Some((folder, _)) = rest.split_once('/').filter(|_| by_folder) {
            folders.insert(format!("<CommonPrefixes><Prefix>{prefix}{folder}/</Prefix></CommonPrefixes>"));
            continue;
        }
        let ListedVersion { key, id, is_latest, modified, size, etag, .. } = listed;
        let _ = write!(
            versions,
            "<Version><Key>{key}</Key><VersionId>{id}</VersionId><IsLatest>{is_latest}</IsLatest>\
             <LastModified>{modified}</LastModified><Size>{size}</Size><ETag>{etag}</ETag></Version>"
        );
    }
    let folders: String = folders.into_iter().collect();
    let text = format!(
        "<ListVersionsResult><IsTruncated>false</IsTruncated>{versions}{folders}</ListVersionsResult>"
    );
    (200, text)
}
