//! A server that answers as a test tells it, and remembers what was asked.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use axum::body::Bytes;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::IntoResponse;

use super::client::{Purpose, Store};
use super::listing::Listed;
use super::sweep::{HoldsUnknown, OpenHolds};
use crate::contract::{Credentials, StorageTarget};
use crate::protocol::cover::Cover;

/// A request that came.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// A parameter of the query; empty if it has no value.
    pub(crate) fn parameter(&self, name: &str) -> Option<String> {
        let mut all = url::form_urlencoded::parse(self.query.as_bytes());
        all.find(|(given, _)| given == name).map(|(_, value)| value.into_owned())
    }
}

/// Instead of a status: the answer never comes.
pub(crate) const SILENCE: u16 = 0;

/// The server; it lasts as long as the test.
pub(crate) struct Stub {
    pub(crate) endpoint: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Stub {
    /// Listens on a free port.
    pub(crate) async fn start(
        answer: impl Fn(&Asked) -> (u16, String) + Clone + Send + Sync + 'static,
    ) -> Self {
        let asked = Arc::<Mutex<Vec<Asked>>>::default();
        let seen = Arc::clone(&asked);
        let app =
            axum::Router::new().fallback(move |method: Method, uri: Uri, headers: HeaderMap, body: Bytes| {
                let request = Asked {
                    method,
                    path: uri.path().to_owned(),
                    query: uri.query().unwrap_or_default().to_owned(),
                    headers,
                    body,
                };
                let (status, text) = answer(&request);
                seen.lock().unwrap().push(request);
                async move {
                    if status == SILENCE {
                        std::future::pending::<()>().await;
                    }
                    (StatusCode::from_u16(status).unwrap(), [("etag", "\"stub\"")], text).into_response()
                }
            });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { endpoint, asked }
    }

    /// A bucket of it.
    pub(crate) fn target(&self) -> StorageTarget {
        StorageTarget {
            endpoint: Some(self.endpoint.clone()),
            region: "us-east-1".into(),
            bucket: "tz-stub".into(),
            path_style: true,
            ca_pem: None,
            credentials: Credentials::keys("id", "secret"),
            proxy: None,
        }
    }

    pub(crate) fn store(&self) -> Store {
        Store::new(&self.target(), Purpose::Configure).unwrap()
    }

    /// What was asked since this was last called.
    pub(crate) fn take(&self) -> Vec<Asked> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

/// Nothing is declared at the API server.
pub(crate) struct NothingDeclared;

#[async_trait]
impl OpenHolds for NothingDeclared {
    async fn covers(&self) -> Result<Vec<Cover>, HoldsUnknown> {
        Ok(Vec::new())
    }
}

/// An S3 error.
pub(crate) fn error(status: u16, code: &str) -> (u16, String) {
    (status, format!("<Error><Code>{code}</Code></Error>"))
}

/// The answer to `ListObjectVersions` of a bucket that has these, in the order of their keys.
pub(crate) fn versions(asked: &Asked, all: &[Listed]) -> (u16, String) {
    let prefix = asked.parameter("prefix").unwrap_or_default();
    let by_folder = asked.parameter("delimiter").is_some();
    let (mut versions, mut folders) = (String::new(), BTreeSet::new());
    for listed in all {
        let Some(rest) = listed.key.strip_prefix(&prefix) else {
            continue;
        };
        if let Some((folder, _)) = rest.split_once('/').filter(|_| by_folder) {
            folders.insert(format!("<CommonPrefixes><Prefix>{prefix}{folder}/</Prefix></CommonPrefixes>"));
            continue;
        }
        let Listed { key, id, is_latest, modified, size, etag, .. } = listed;
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
