//! A proxy that makes a store behave like others. One rule answers requests or replaces policies in them, another
//! changes responses. A replaced policy is signed again as the same identity.

use std::sync::{Arc, Mutex};

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use super::scene;
use crate::support::settings::S3Server;

/// Maximum size of a body in bytes.
const MAX_BODY_BYTES: usize = 4 << 20;

/// A request as rules see it.
pub struct InterceptedRequest {
    pub method: Method,
    /// Names of subresources and parameters in the query.
    pub names: Vec<String>,
    pub body: Bytes,
}

impl InterceptedRequest {
    pub fn is_for_subresource(&self, name: &str) -> bool {
        self.names.iter().any(|other| other == name)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Returns the policy of a `PutBucketPolicy` request.
    pub fn policy(&self) -> Option<String> {
        (self.method == Method::PUT && self.is_for_subresource("policy")).then(|| self.text())
    }
}

/// How the proxy handles a request.
pub enum ProxyAction {
    Forward,
    /// Puts this policy instead.
    ReplacePolicy(String),
    /// Answers with this status and body, without the store.
    Respond(u16, String),
}

/// Returns an S3 error response.
pub fn error_response(status: u16, code: &str) -> ProxyAction {
    ProxyAction::Respond(status, format!("<Error><Code>{code}</Code></Error>"))
}

type Before = Box<dyn Fn(&InterceptedRequest) -> ProxyAction + Send + Sync>;
type After = Box<dyn Fn(&InterceptedRequest, String) -> String + Send + Sync>;

/// A running proxy, stopped when dropped.
pub struct RewritingProxy {
    pub endpoint: String,
    shared: Arc<Shared>,
    task: tokio::task::JoinHandle<()>,
}

struct Shared {
    server: S3Server,
    target: String,
    client: Client<HttpConnector, Body>,
    before: Before,
    after: After,
    /// Policies that were put, before replacement.
    policies: Mutex<Vec<String>>,
}

impl RewritingProxy {
    /// Starts a proxy on a free port of this machine.
    pub async fn start(
        server: &S3Server,
        before: impl Fn(&InterceptedRequest) -> ProxyAction + Send + Sync + 'static,
        after: impl Fn(&InterceptedRequest, String) -> String + Send + Sync + 'static,
    ) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared {
            target: server.endpoint.trim_end_matches('/').to_owned(),
            server: server.clone(),
            client: Client::builder(TokioExecutor::new()).build_http(),
            before: Box::new(before),
            after: Box::new(after),
            policies: Mutex::default(),
        });
        let app = axum::Router::new().fallback(forward).with_state(Arc::clone(&shared));
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { endpoint, shared, task }
    }

    /// Returns the policies that were put since the last call.
    pub fn take_policies(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.policies.lock().unwrap())
    }
}

impl Drop for RewritingProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn forward(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let path_and_query = request.uri().path_and_query().map_or("/".to_owned(), ToString::to_string);
    let query = request.uri().query().unwrap_or_default();
    let names = query.split('&').map(|part| part.split('=').next().unwrap_or_default().to_owned());
    let names = names.collect();
    let (mut parts, body) = request.into_parts();
    let intercepted = InterceptedRequest {
        method: parts.method.clone(),
        names,
        body: to_bytes(body, MAX_BODY_BYTES).await.unwrap(),
    };
    shared.policies.lock().unwrap().extend(intercepted.policy());
    match (shared.before)(&intercepted) {
        ProxyAction::Respond(status, body) => {
            return (StatusCode::from_u16(status).unwrap(), body).into_response();
        }
        ProxyAction::ReplacePolicy(policy) => return put_policy(&shared.server, &parts, policy).await,
        ProxyAction::Forward => (),
    }
    // The Host header stays: it is part of what was signed.
    parts.uri = format!("{}{path_and_query}", shared.target).parse::<Uri>().unwrap();
    let Ok(response) =
        shared.client.request(Request::from_parts(parts, Body::from(intercepted.body.clone()))).await
    else {
        return StatusCode::BAD_GATEWAY.into_response();
    };
    if intercepted.method == Method::HEAD {
        return response.map(Body::new).into_response();
    }
    let (mut parts, body) = response.into_parts();
    let body = to_bytes(Body::new(body), MAX_BODY_BYTES).await.unwrap_or_default();
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.remove(header::TRANSFER_ENCODING);
    let body = match std::str::from_utf8(&body) {
        Ok(text) => Bytes::from((shared.after)(&intercepted, text.to_owned())),
        Err(_) => body,
    };
    Response::from_parts(parts, Body::from(body))
}

/// Puts a policy as the identity of the original request: the store verifies the signature of the body.
async fn put_policy(server: &S3Server, parts: &Parts, policy: String) -> Response {
    let authorization = parts.headers[header::AUTHORIZATION].to_str().unwrap();
    let (_, credential) = authorization.split_once("Credential=").unwrap();
    let access_key = credential.split('/').next().unwrap();
    let mut identities = server.identities.values();
    let identity = identities.find(|identity| identity.access_key == access_key).unwrap();
    let bucket = parts.uri.path().trim_matches('/');
    let request = scene::client(server, identity).put_bucket_policy().bucket(bucket);
    match request.policy(policy).send().await {
        Ok(_) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => {
            let response = error.raw_response().expect("a response of the store");
            let status = StatusCode::from_u16(response.status().as_u16()).unwrap();
            let body = response.body().bytes().unwrap_or_default().to_vec();
            (status, body).into_response()
        }
    }
}
