//! A store in memory, as a real HTTP server.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};

use super::canary;

/// Serves every request with `answer`; where.
pub(crate) async fn serve<F>(answer: F) -> String
where
    F: Fn(FakeRequest) -> Response + Clone + Send + Sync + 'static,
{
    let app =
        axum::Router::new().fallback(move |method: Method, uri: Uri, headers: HeaderMap, body: Bytes| {
            let response = answer(FakeRequest {
                method,
                path: uri.path().to_owned(),
                query: url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes())
                    .into_owned()
                    .collect(),
                headers,
                body,
            });
            async move { response }
        });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    endpoint
}

pub(crate) struct FakeRequest {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: BTreeMap<String, String>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

pub(crate) struct MemoryStore {
    enforces_holds: bool,
    rejects_anonymous: bool,
    objects: Mutex<Vec<MemoryObject>>,
}

#[derive(Clone)]
struct MemoryObject {
    key: String,
    id: String,
    bytes: Bytes,
    tag: Option<String>,
    is_held: bool,
    is_retained: bool,
    is_marker: bool,
    last_modified: jiff::Timestamp,
}

impl MemoryStore {
    pub(crate) async fn serve(keeps_held: bool, knows_nobody: bool) -> String {
        Self::serve_with_overrides(keeps_held, knows_nobody, |_| None).await
    }

    /// The same, but that some requests get another answer.
    pub(crate) async fn serve_with_overrides(
        keeps_held: bool,
        knows_nobody: bool,
        but: impl Fn(&FakeRequest) -> Option<Response> + Clone + Send + Sync + 'static,
    ) -> String {
        let files = Arc::new(Self {
            enforces_holds: keeps_held,
            rejects_anonymous: knows_nobody,
            objects: Mutex::default(),
        });
        serve(move |request| but(&request).unwrap_or_else(|| files.answer(&request))).await
    }

    fn answer(&self, request: &FakeRequest) -> Response {
        if self.rejects_anonymous && !request.headers.contains_key(header::AUTHORIZATION) {
            return (StatusCode::FORBIDDEN, "<Error><Code>AccessDenied</Code></Error>").into_response();
        }
        let asks = |part: &str| request.query.contains_key(part);
        let key = request.path.splitn(3, '/').nth(2).unwrap_or_default().to_owned();
        let mut files = self.objects.lock().unwrap();
        let body = String::from_utf8_lossy(&request.body).into_owned();
        let wanted = request.query.get("versionId");
        let is_it = |file: &&mut MemoryObject| file.key == key && wanted.is_none_or(|id| *id == file.id);
        match (request.method.as_str(), key.is_empty()) {
            ("PUT", true) if asks("policy") => StatusCode::NO_CONTENT.into_response(),
            ("GET" | "DELETE", true) if asks("policy") => StatusCode::NOT_FOUND.into_response(),
            ("GET", true) if asks("versions") || asks("list-type") => listing(&files, request),
            ("POST", true) => {
                let (key, id) = (element_text(&body, "Key"), element_text(&body, "VersionId"));
                files.retain(|file| file.key != key || file.id != id || self.is_protected(file));
                "<DeleteResult/>".into_response()
            }
            ("PUT" | "GET" | "DELETE", false)
                if asks("tagging") || asks("legal-hold") || asks("retention") =>
            {
                let Some(file) = files.iter_mut().rev().find(is_it) else {
                    return StatusCode::NOT_FOUND.into_response();
                };
                answer_object_subresource(file, request, &body)
            }
            ("PUT", false) => {
                files.push(MemoryObject::put(key, request));
                StatusCode::OK.into_response()
            }
            ("GET", false) => match files.iter_mut().rev().find(is_it) {
                Some(file) if !file.is_marker => file.bytes.clone().into_response(),
                _ => StatusCode::NOT_FOUND.into_response(),
            },
            ("DELETE", false) => {
                match wanted {
                    Some(id) => {
                        files.retain(|file| file.key != key || file.id != *id || self.is_protected(file));
                    }
                    None => files.push(MemoryObject { is_marker: true, ..MemoryObject::put(key, request) }),
                }
                StatusCode::NO_CONTENT.into_response()
            }
            _ => StatusCode::NOT_IMPLEMENTED.into_response(),
        }
    }

    fn is_protected(&self, file: &MemoryObject) -> bool {
        self.enforces_holds && file.is_held
    }
}

impl MemoryObject {
    fn put(key: String, request: &FakeRequest) -> Self {
        let header = |name: &str| request.headers.get(name).map(|it| it.to_str().unwrap().to_owned());
        Self {
            key,
            id: canary::random_name(),
            bytes: request.body.clone(),
            tag: header("x-amz-tagging").map(|tag| tag.split_once('=').unwrap().1.to_owned()),
            is_held: header("x-amz-object-lock-legal-hold").is_some(),
            is_retained: header("x-amz-object-lock-mode").is_some(),
            is_marker: false,
            last_modified: jiff::Timestamp::now(),
        }
    }
}

/// Tag, legal hold and retention of a version.
fn answer_object_subresource(file: &mut MemoryObject, request: &FakeRequest, body: &str) -> Response {
    let asks = |part: &str| request.query.contains_key(part);
    match (request.method.as_str(), asks("tagging"), asks("legal-hold")) {
        ("PUT", true, _) => file.tag = Some(element_text(body, "Value")),
        ("DELETE", true, _) => file.tag = None,
        ("PUT", _, true) => file.is_held = element_text(body, "Status") == "ON",
        ("PUT", ..) => file.is_retained = true,
        ("GET", true, _) => {
            let tag = file.tag.as_ref().map_or(String::new(), |tag| {
                format!("<Tag><Key>toezicht-retention</Key><Value>{tag}</Value></Tag>")
            });
            return format!("<Tagging><TagSet>{tag}</TagSet></Tagging>").into_response();
        }
        ("GET", _, true) => {
            let status = if file.is_held { "ON" } else { "OFF" };
            return format!("<LegalHold><Status>{status}</Status></LegalHold>").into_response();
        }
        _ if file.is_retained => {
            let until = "<RetainUntilDate>2040-01-01T00:00:00Z</RetainUntilDate>";
            return format!("<Retention><Mode>GOVERNANCE</Mode>{until}</Retention>").into_response();
        }
        _ => return StatusCode::NOT_FOUND.into_response(),
    }
    StatusCode::OK.into_response()
}

fn listing(files: &[MemoryObject], request: &FakeRequest) -> Response {
    let prefix = request.query.get("prefix").cloned().unwrap_or_default();
    let mut listed = String::new();
    // By key, newest first within a key.
    let mut found: Vec<&MemoryObject> =
        files.iter().rev().filter(|file| file.key.starts_with(&prefix)).collect();
    found.sort_by(|one, other| one.key.cmp(&other.key));
    for file in found {
        let tag = match (request.query.contains_key("versions"), file.is_marker) {
            (true, true) => "DeleteMarker",
            (true, false) => "Version",
            (false, true) => continue,
            (false, false) => "Contents",
        };
        let MemoryObject { key, id, last_modified: at, .. } = file;
        let _ = write!(
            listed,
            "<{tag}><Key>{key}</Key><VersionId>{id}</VersionId><LastModified>{at:.3}</LastModified></{tag}>"
        );
    }
    let name = if request.query.contains_key("versions") { "ListVersionsResult" } else { "ListBucketResult" };
    format!("<{name}><IsTruncated>false</IsTruncated>{listed}</{name}>").into_response()
}

fn element_text(body: &str, name: &str) -> String {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let rest = body.split_once(&open).map_or("", |(_, rest)| rest);
    rest.split_once(&close).map_or("", |(text, _)| text).to_owned()
}
