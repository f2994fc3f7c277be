//! Client of the recorders' status API, `GET /v1/status`. It trusts only the certificate that the operator issued for them,
//! and sends the token that the operator gave them.

pub mod camera_recording;
mod reply_limits;

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use rustls::client::Resumption;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use sha2::{Digest, Sha256};

use crate::controllers::site::recorders::workload::pod_condition;
use crate::controllers::slots::Slots;
use crate::wire::{RecorderStatus, STATUS_PORT, STATUS_SERVER_NAME, Secret, StatusApi, TIME_HEADER};

/// Deadline of a request.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Age up to which an answer is used, so that one request serves a site and all its cameras.
const CACHE_TTL: Duration = Duration::from_secs(5);
/// Time after which an idle connection is closed: it takes 45 KiB. Queries that wait for an acknowledgement follow within it. The next
/// connection resumes the TLS session, so that no certificate is verified again.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);
/// Age at which an answer is dropped, with its client. Longer than the interval between two queries.
const IDLE_AGE: Duration = Duration::from_secs(50);
/// Longest answer. A recorder of 256 cameras with 20 gaps each stays far below it.
const MAX_RESPONSE_BYTES: usize = 4 << 20;

/// Time after the grace period within which a pod on a node that works is gone.
const MAX_TERMINATION_DELAY: SignedDuration = SignedDuration::from_mins(2);
/// Remedy for a pod on a node that Kubernetes does not reach. Not `--force`: the name of a pod that may still run would be free.
pub const LOST_NODE_REMEDY: &str = "bring the node back, or if it is off permanently, delete the Node or taint it with \
                                    node.kubernetes.io/out-of-service=nodeshutdown:NoExecute";
/// Longest part of the scheduler's message.
const MAX_SCHEDULER_CHARS: usize = 200;

/// The status of a recorder is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecorderStatusError {
    #[error("its pod does not exist or has no address yet")]
    NoAddress,
    /// Its pod does not run, with the reason that Kubernetes gives.
    #[error("its pod {0}")]
    NotRunning(String),
    #[error("its certificate or token cannot be used")]
    InvalidCredentials,
    /// No answer, or an answer from another certificate.
    #[error("it does not answer")]
    Unreachable,
    #[error("it answers with status {0}")]
    ErrorStatus(u16),
    #[error("its answer cannot be read")]
    InvalidResponse,
}

type StatusResult = Result<RecorderStatus, RecorderStatusError>;

/// Client with a cache of recent answers. Cheap to clone.
#[derive(Clone, Debug)]
pub struct RecorderClient {
    answers: Arc<Slots<[u8; 32], Answer>>,
    port: u16,
    idle_timeout: Duration,
}

/// Answer of a recorder.
#[derive(Clone, Debug)]
struct Answer {
    status: StatusResult,
    /// Client for the next query, with the connection of this one, or its TLS session.
    client: Option<reqwest::Client>,
}

impl Default for RecorderClient {
    fn default() -> Self {
        let answers = Arc::new(Slots::new(CACHE_TTL, IDLE_AGE));
        Self { answers, port: STATUS_PORT, idle_timeout: IDLE_TIMEOUT }
    }
}

impl RecorderClient {
    /// Returns the status of the recorder at `address`, at most five seconds old. Concurrent callers wait for the same
    /// request.
    pub async fn status(&self, address: IpAddr, api: &StatusApi) -> StatusResult {
        self.cached_or_query(address, api, |_| false).await
    }

    /// Returns the status like [`Self::status`], but uses a cached answer only if it acknowledges `revision` or is an error.
    /// All configurations of a Site have different revisions, so such an answer is newer than that configuration.
    pub async fn status_for_revision(
        &self,
        address: IpAddr,
        api: &StatusApi,
        revision: &str,
    ) -> StatusResult {
        let lags =
            |answer: &StatusResult| answer.as_ref().is_ok_and(|status| !status.has_acknowledged(revision));
        self.cached_or_query(address, api, lags).await
    }

    async fn cached_or_query(
        &self,
        address: IpAddr,
        api: &StatusApi,
        is_outdated: impl Fn(&StatusResult) -> bool,
    ) -> StatusResult {
        // Errors too: a recorder that is down costs one timeout, not one for each of its cameras.
        let query = async |before: Option<Answer>| {
            let address = SocketAddr::new(address, self.port);
            let known = before.and_then(|answer| answer.client);
            let client = known.or_else(|| http_client(address, api, self.idle_timeout));
            Ok::<_, Infallible>(query(address, api, client).await)
        };
        let is_usable = |answer: &Answer| !is_outdated(&answer.status);
        let Ok((answer, _)) = self.answers.get_or_fetch(cache_key(address, api), is_usable, query).await;
        answer.status
    }
}

/// Returns the cause of `error` that the status of the recorder's pod shows, or `error`.
pub fn explain(error: RecorderStatusError, pod: Option<&Pod>) -> RecorderStatusError {
    pod.and_then(pod_problem).map_or(error, RecorderStatusError::NotRunning)
}

/// Describes why `pod` does not run; `None`: its status shows no cause.
fn pod_problem(pod: &Pod) -> Option<String> {
    let node = || pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or("an unknown node");
    // Includes the grace period, in which the recorder uploads.
    if let Some(since) = &pod.metadata.deletion_timestamp {
        if Timestamp::now().duration_since(since.0) < MAX_TERMINATION_DELAY {
            return Some("is terminating".to_owned());
        }
        return Some(format!(
            "has been terminating since {} on {}; if Kubernetes does not reach that node: {LOST_NODE_REMEDY}",
            since.0,
            node()
        ));
    }
    let status = pod.status.as_ref()?;
    let unscheduled = pod_condition(pod, "PodScheduled").filter(|scheduled| scheduled.status == "False");
    if let Some(unscheduled) = unscheduled {
        let message = unscheduled.message.as_deref().unwrap_or_default();
        let is_plain = |c: &char| c.is_ascii_graphic() || *c == ' ';
        let message: String = message.chars().filter(is_plain).take(MAX_SCHEDULER_CHARS).collect();
        return Some(format!("is not scheduled: {message}"));
    }
    let containers = status.container_statuses.iter().flatten();
    containers.into_iter().find_map(|container| {
        // The same while it waits for a restart and while it starts: otherwise each crash would change the status.
        if let Some(ended) = container.last_state.as_ref().and_then(|last| last.terminated.as_ref()) {
            let reason = ended.reason.as_deref().and_then(plain_reason).unwrap_or("Error");
            return Some(format!("ended with {reason}, exit code {}, and is started again", ended.exit_code));
        }
        let waiting = container.state.as_ref()?.waiting.as_ref()?.reason.as_deref()?;
        Some(format!("waits: {}", plain_reason(waiting)?))
    })
}

/// Returns a reason of Kubernetes: one word. A tenant who may patch the status of pods could write anything.
fn plain_reason(reason: &str) -> Option<&str> {
    let is_word = (1..=64).contains(&reason.len()) && reason.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_word.then_some(reason)
}

/// Returns the pod's own address. The status of a pod could name any address: on the host network it is that of a node, and
/// a local address would send the token to another process of the operator's own pod or node.
pub fn pod_address(pod: Option<&Pod>) -> Result<IpAddr, RecorderStatusError> {
    let own_address = |pod: &Pod| {
        let has_host_network = pod.spec.as_ref().is_none_or(|spec| spec.host_network == Some(true));
        let address = pod.status.as_ref()?.pod_ip.as_ref()?.parse().ok()?;
        (!has_host_network && is_pod_address(&address)).then_some(address)
    };
    pod.and_then(own_address).ok_or(RecorderStatusError::NoAddress)
}

fn is_pod_address(address: &IpAddr) -> bool {
    let special = address.is_loopback() || address.is_unspecified() || address.is_multicast();
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
        // A mapped address hides a loopback or link-local one from the checks above.
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.to_ipv4_mapped().is_some(),
    };
    !special && !link_local
}

/// Returns the identity of a recorder. An address is not enough: pods reuse addresses, and a cached answer must not count
/// for a recorder with another certificate or token.
fn cache_key(address: IpAddr, api: &StatusApi) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(address.to_string());
    hash.update([0]);
    hash.update(&api.cert_pem);
    hash.update([0]);
    hash.update(api.token.reveal());
    hash.finalize().into()
}

/// Queries a recorder. `None`: no client can be made for it.
async fn query(address: SocketAddr, api: &StatusApi, client: Option<reqwest::Client>) -> Answer {
    let Some(client) = client else {
        return Answer { status: Err(RecorderStatusError::InvalidCredentials), client: None };
    };
    let mut status = query_with_token(&client, address.port(), &api.token).await;
    // The recorder has not read the latest configuration, or rejects it.
    if let (Err(RecorderStatusError::ErrorStatus(401)), Some(previous)) = (&status, &api.previous) {
        status = query_with_token(&client, address.port(), &previous.token).await;
    }
    Answer { status, client: Some(client) }
}

async fn query_with_token(client: &reqwest::Client, port: u16, token: &Secret) -> StatusResult {
    let query = || try_query(status_request(client, port, token));
    let result = match query().await {
        // The recorder closes every connection after a minute, perhaps at this moment.
        Err(error) if !error.is_connect() && !error.is_timeout() => query().await,
        result => result,
    };
    result.unwrap_or(Err(RecorderStatusError::Unreachable))
}

async fn try_query(request: reqwest::RequestBuilder) -> Result<StatusResult, reqwest::Error> {
    let mut response = request.send().await?;
    if !response.status().is_success() {
        return Ok(Err(RecorderStatusError::ErrorStatus(response.status().as_u16())));
    }
    // By chunks, so that a recorder that a tenant replaced cannot fill the operator's memory.
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > MAX_RESPONSE_BYTES {
            return Ok(Err(RecorderStatusError::InvalidResponse));
        }
        body.extend_from_slice(&chunk);
    }
    let status = serde_json::from_slice(&body).map_err(|_| RecorderStatusError::InvalidResponse);
    Ok(status.map(reply_limits::limit_texts))
}

fn status_request(client: &reqwest::Client, port: u16, token: &Secret) -> reqwest::RequestBuilder {
    client
        .get(format!("https://{STATUS_SERVER_NAME}:{port}/v1/status"))
        .bearer_auth(token.reveal())
        // A recorder deletes nothing by its own clock alone. While the store is away, the operator's confirms it.
        .header(TIME_HEADER, Timestamp::now().to_string())
}

fn http_client(address: SocketAddr, api: &StatusApi, idle_timeout: Duration) -> Option<reqwest::Client> {
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(tls_config(api)?)
        .https_only(true)
        .no_proxy()
        // A redirect would send the token elsewhere.
        .redirect(reqwest::redirect::Policy::none())
        .resolve(STATUS_SERVER_NAME, address)
        .timeout(TIMEOUT)
        .pool_idle_timeout(idle_timeout)
        .build();
    client.ok()
}

/// Returns a configuration that trusts the present certificate and the previous one. `None`: the present one cannot be used.
fn tls_config(api: &StatusApi) -> Option<ClientConfig> {
    let mut trusted = RootCertStore::empty();
    trusted.add(CertificateDer::from_pem_slice(api.cert_pem.as_bytes()).ok()?).ok()?;
    if let Some(previous) = &api.previous
        && let Ok(previous) = CertificateDer::from_pem_slice(previous.cert_pem.as_bytes())
    {
        // Without it, recorders that still show it do not answer.
        let _ = trusted.add(previous);
    }
    let mut config = ClientConfig::builder().with_root_certificates(trusted).with_no_client_auth();
    // Room for one server. By default there is room for 32, which takes 20 KiB for each recorder.
    config.resumption = Resumption::in_memory_sessions(1);
    Some(config)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};

    use rustls::{HandshakeKind, ServerConfig};
    use rustls_pki_types::PrivateKeyDer;
    use serde_json::{Value, json};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio_rustls::TlsAcceptor;

    use super::*;
    use crate::controllers::site::recorders::identity::ensure_identity;
    use crate::controllers::testing;

    fn problem(metadata: Value, status: Value) -> String {
        let pod =
            json!({"metadata": metadata, "spec": {"nodeName": "node-3", "containers": []}, "status": status});
        let pod: Pod = serde_json::from_value(pod).unwrap();
        explain(RecorderStatusError::Unreachable, Some(&pod)).to_string()
    }

    fn container(state: Value, last: Value) -> Value {
        json!({"containerStatuses": [{
            "name": "recorder", "image": "i", "imageID": "", "ready": false, "restartCount": 1, "state": state, "lastState": last,
        }]})
    }

    #[test]
    fn unreachable_recorder_is_explained_by_its_pod() {
        let waiting = |reason: &str| json!({"waiting": {"reason": reason, "message": "secret"}});
        let killed = json!({"terminated": {"reason": "OOMKilled", "exitCode": 137}});
        let unscheduled =
            json!({"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"});
        for (status, expected) in [
            (json!({"conditions": [unscheduled]}), "its pod is not scheduled: 0/3 nodes are available"),
            (container(waiting("ImagePullBackOff"), json!({})), "its pod waits: ImagePullBackOff"),
            (
                container(waiting("CrashLoopBackOff"), killed),
                "its pod ended with OOMKilled, exit code 137, and is started again",
            ),
            (container(waiting("two words"), json!({})), "it does not answer"),
            (container(json!({"running": {}}), json!({})), "it does not answer"),
            (json!({}), "it does not answer"),
        ] {
            assert_eq!(problem(json!({}), status.clone()), expected, "{status}");
        }
        let deleted = problem(json!({"deletionTimestamp": "2026-11-30T01:00:00Z"}), json!({}));
        assert!(
            deleted.starts_with("its pod has been terminating since 2026-11-30T01:00:00Z on node-3"),
            "{deleted}"
        );
        assert!(deleted.contains("delete the Node or taint it") && !deleted.contains("--force"), "{deleted}");
        let none = explain(RecorderStatusError::NoAddress, None);
        assert_eq!(none, RecorderStatusError::NoAddress);
    }

    #[test]
    fn request_has_token_and_time() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let api: StatusApi =
            serde_json::from_value(json!({"certPem": "", "keyPem": "", "token": "t"})).unwrap();
        let before = Timestamp::now();
        let request = status_request(&reqwest::Client::new(), STATUS_PORT, &api.token).build().unwrap();
        let header = |name: &str| request.headers().get(name).unwrap().to_str().unwrap();
        assert_eq!(header("authorization"), "Bearer t");
        let time: Timestamp = header(TIME_HEADER).parse().unwrap();
        assert!(time >= before && time <= Timestamp::now());
    }

    const LOCALHOST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    /// Recorder that counts connections.
    struct FakeRecorder {
        port: u16,
        connections: Arc<AtomicUsize>,
        /// Connections that resumed the TLS session of another.
        resumptions: Arc<AtomicUsize>,
        /// Requests that it answers over one connection.
        requests_per_connection: Arc<AtomicU16>,
    }

    impl FakeRecorder {
        async fn start(api: &StatusApi) -> Self {
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let chain = vec![CertificateDer::from_pem_slice(api.cert_pem.as_bytes()).unwrap()];
            let key = PrivateKeyDer::from_pem_slice(api.key_pem.reveal().as_bytes()).unwrap();
            let tls = ServerConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(chain, key)
                .unwrap();
            let acceptor = TlsAcceptor::from(Arc::new(tls));
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let connections = Arc::new(AtomicUsize::new(0));
            let resumptions = Arc::new(AtomicUsize::new(0));
            let requests_per_connection = Arc::new(AtomicU16::new(u16::MAX));
            let (counted, limit) = (Arc::clone(&connections), Arc::clone(&requests_per_connection));
            let resumed = Arc::clone(&resumptions);
            let token = api.token.clone();
            tokio::spawn(async move {
                while let Ok((connection, _)) = listener.accept().await {
                    counted.fetch_add(1, Ordering::SeqCst);
                    let limit = limit.load(Ordering::SeqCst);
                    let resumed = Arc::clone(&resumed);
                    tokio::spawn(answer(acceptor.clone(), connection, token.clone(), limit, resumed));
                }
            });
            Self { port, connections, resumptions, requests_per_connection }
        }

        fn client(&self) -> RecorderClient {
            RecorderClient { port: self.port, ..RecorderClient::default() }
        }

        fn connections(&self) -> usize {
            self.connections.load(Ordering::SeqCst)
        }
    }

    /// Answers requests with the token, and closes the connection without an answer to the request after the last.
    async fn answer(
        acceptor: TlsAcceptor,
        connection: TcpStream,
        token: Secret,
        requests: u16,
        resumptions: Arc<AtomicUsize>,
    ) {
        let Ok(mut stream) = acceptor.accept(connection).await else { return };
        if stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed) {
            resumptions.fetch_add(1, Ordering::SeqCst);
        }
        let status = testing::recorder_status("r1", Timestamp::now(), Vec::new());
        for number in 0..=requests {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let Ok(byte) = stream.read_u8().await else { return };
                head.push(byte);
            }
            if number == requests {
                return;
            }
            let is_authorized =
                String::from_utf8(head).unwrap().contains(&format!("Bearer {}\r\n", token.reveal()));
            let (code, body) = if is_authorized {
                ("200 OK", serde_json::to_string(&status).unwrap())
            } else {
                ("401 No", String::new())
            };
            let text = format!("HTTP/1.1 {code}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            if stream.write_all(text.as_bytes()).await.is_err() {
                return;
            }
        }
    }

    fn issue(existing: Option<&StatusApi>, days: i64) -> StatusApi {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let now = Timestamp::now() + SignedDuration::from_hours(24 * days);
        ensure_identity(existing, now).unwrap().api
    }

    /// Queries past the cache.
    async fn query_again(client: &RecorderClient, api: &StatusApi) -> StatusResult {
        client.status_for_revision(LOCALHOST, api, "a revision that it does not follow").await
    }

    #[tokio::test]
    async fn queries_of_a_recorder_share_a_connection() {
        let api = issue(None, 0);
        let recorder = FakeRecorder::start(&api).await;
        let client = recorder.client();
        for _ in 0..5 {
            assert_eq!(query_again(&client, &api).await.unwrap().revision, "r1");
        }
        assert_eq!(recorder.connections(), 1);
        // Another certificate is another recorder.
        let other = issue(None, 0);
        assert_eq!(query_again(&client, &other).await, Err(RecorderStatusError::Unreachable));
        assert_eq!(query_again(&client, &api).await.unwrap().revision, "r1");
    }

    #[tokio::test]
    async fn idle_connection_is_closed_and_its_session_resumed() {
        let api = issue(None, 0);
        let recorder = FakeRecorder::start(&api).await;
        let client = RecorderClient { idle_timeout: Duration::from_millis(50), ..recorder.client() };
        assert_eq!(query_again(&client, &api).await.unwrap().revision, "r1");
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(query_again(&client, &api).await.unwrap().revision, "r1");
        assert_eq!((recorder.connections(), recorder.resumptions.load(Ordering::SeqCst)), (2, 1));
    }

    #[tokio::test]
    async fn connection_that_the_recorder_closed_costs_no_answer() {
        let api = issue(None, 0);
        let recorder = FakeRecorder::start(&api).await;
        recorder.requests_per_connection.store(1, Ordering::SeqCst);
        let client = recorder.client();
        for connections in 1..4 {
            assert_eq!(query_again(&client, &api).await.unwrap().revision, "r1");
            assert_eq!(recorder.connections(), connections);
        }
    }

    #[tokio::test]
    async fn recorder_with_the_previous_certificate_and_token_answers() {
        let previous = issue(None, -250);
        let renewed = issue(Some(&previous), 0);
        assert_ne!(renewed.cert_pem, previous.cert_pem);
        for serving in [&previous, &renewed] {
            let recorder = FakeRecorder::start(serving).await;
            assert_eq!(query_again(&recorder.client(), &renewed).await.unwrap().revision, "r1");
        }
        // Its certificate is trusted, but its token is another.
        let stranger = FakeRecorder::start(&StatusApi { token: Secret::new("other"), ..previous }).await;
        let refused = query_again(&stranger.client(), &renewed).await;
        assert_eq!(refused, Err(RecorderStatusError::ErrorStatus(401)));
    }
}
