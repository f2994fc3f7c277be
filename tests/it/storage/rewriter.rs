//! A proxy before an S3 store that makes the store behave as other stores do: a rule answers in its place, or changes what
//! it is asked; another changes what it answers. A policy that is put in place of another is signed anew, as whoever asked.

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

/// Nothing that is configured is longer.
const MOST: usize = 4 << 20;

/// A request, as rules see it.
pub struct Asked {
    pub method: Method,
    /// Names of the subresources and parameters.
    pub names: Vec<String>,
    pub body: Bytes,
}

impl Asked {
    pub fn asks(&self, name: &str) -> bool {
        self.names.iter().any(|other| other == name)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The policy that is put.
    pub fn policy(&self) -> Option<String> {
        (self.method == Method::PUT && self.asks("policy")).then(|| self.text())
    }
}

/// What becomes of a request.
pub enum Act {
    Pass,
    /// The store is asked to take this policy.
    Instead(String),
    /// The store is not asked.
    Answer(u16, String),
}

/// An error as S3 tells it.
pub fn refusal(status: u16, code: &str) -> Act {
    Act::Answer(status, format!("<Error><Code>{code}</Code></Error>"))
}

type Before = Box<dyn Fn(&Asked) -> Act + Send + Sync>;
type After = Box<dyn Fn(&Asked, String) -> String + Send + Sync>;

/// Stops when it is dropped.
pub struct Liar {
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
    /// Policies that were put, as they came.
    policies: Mutex<Vec<String>>,
}

impl Liar {
    /// Listens at a free port on this machine.
    pub async fn start(
        server: &S3Server,
        before: impl Fn(&Asked) -> Act + Send + Sync + 'static,
        after: impl Fn(&Asked, String) -> String + Send + Sync + 'static,
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

    /// Policies that were put since this was last asked.
    pub fn policies(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.policies.lock().unwrap())
    }
}

impl Drop for Liar {
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
    let asked = Asked { method: parts.method.clone(), names, body: to_bytes(body, MOST).await.unwrap() };
    shared.policies.lock().unwrap().extend(asked.policy());
    match (shared.before)(&asked) {
        Act::Answer(status, body) => {
            return (StatusCode::from_u16(status).unwrap(), body).into_response();
        }
        Act::Instead(policy) => return put_policy(&shared.server, &parts, policy).await,
        Act::Pass => (),
    }
    // The Host header stays: it is part of what was signed.
    parts.uri = format!("{}{path_and_query}", shared.target).parse::<Uri>().unwrap();
    let Ok(answer) = shared.client.request(Request::from_parts(parts, Body::from(asked.body.clone()))).await
    else {
        return StatusCode::BAD_GATEWAY.into_response();
    };
    if asked.method == Method::HEAD {
        return answer.map(Body::new).into_response();
    }
    let (mut parts, body) = answer.into_parts();
    let body = to_bytes(Body::new(body), MOST).await.unwrap_or_default();
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.remove(header::TRANSFER_ENCODING);
    let body = match std::str::from_utf8(&body) {
        Ok(text) => Bytes::from((shared.after)(&asked, text.to_owned())),
        Err(_) => body,
    };
    Response::from_parts(parts, Body::from(body))
}

/// Puts a policy as the identity that asked for another: a store verifies what it is sent.
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
            let answer = error.raw_response().expect("the store answers");
            let status = StatusCode::from_u16(answer.status().as_u16()).unwrap();
            let body = answer.body().bytes().unwrap_or_default().to_vec();
            (status, body).into_response()
        }
    }
}
