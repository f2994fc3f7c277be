//! A server that answers as a test tells it, and remembers what was asked.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use axum::body::Bytes;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::IntoResponse;

use super::client::BucketClient;
use crate::rules::hold::scope::HoldScope;
use crate::rules::recording::version::ListedVersion;
use crate::storage::recordings::open_holds::{OpenHolds, OpenHoldsError};
use crate::storage::s3::connection::BucketConnection;
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

    /// A parameter of the query; empty if it has no value.
    pub(crate) fn query_parameter(&self, name: &str) -> Option<String> {
        let mut all = url::form_urlencoded::parse(self.query.as_bytes());
        all.find(|(given, _)| given == name).map(|(_, value)| value.into_owned())
    }
}

/// Instead of a status: the answer never comes.
pub(crate) const NEVER_ANSWERS: u16 = 0;

/// The server; it lasts as long as the test.
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
        StorageTarget {
            endpoint: Some(self.endpoint.clone()),
            region: "us-east-1".into(),
            bucket: "tz-stub".into(),
            path_style: true,
            ca_pem: None,
            credentials: Credentials::access_key("id", "secret"),
            proxy: None,
        }
    }

    pub(crate) fn connection(&self) -> BucketConnection {
        BucketConnection::new(&self.target()).unwrap()
    }

    pub(crate) fn store(&self) -> BucketClient {
        self.connection().client()
    }

    /// What was asked since this was last called.
    pub(crate) fn take_requests(&self) -> Vec<ReceivedRequest> {
        std::mem::take(&mut self.requests.lock().unwrap())
    }
}

/// Nothing is declared at the API server.
pub(crate) struct NoOpenHolds;

#[async_trait]
impl OpenHolds for NoOpenHolds {
    async fn scopes(&self) -> Result<Vec<HoldScope>, OpenHoldsError> {
        Ok(Vec::new())
    }
}

/// An S3 error.
pub(crate) fn error_answer(status: u16, code: &str) -> (u16, String) {
    (status, format!("<Error><Code>{code}</Code></Error>"))
}

/// The answer to `ListObjectVersions` of a bucket that has these, in the order of their keys.
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
