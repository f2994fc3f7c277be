//! Client of the recorders' status API, `GET /v1/status`. It trusts only the certificate that the operator issued for them,
//! and sends the token that the operator gave them.

pub mod camera_recording;

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use sha2::{Digest, Sha256};

use crate::controllers::site::recorders::workload::pod_condition;
use crate::controllers::slots::Slots;
use crate::wire::{RecorderStatus, STATUS_PORT, STATUS_SERVER_NAME, StatusApi, TIME_HEADER};

/// Deadline of a request.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Age up to which an answer is used, so that one request serves a site and all its cameras.
const CACHE_TTL: Duration = Duration::from_secs(5);
/// Longest answer. A recorder of 256 cameras with 20 gaps each stays far below it.
const MAX_RESPONSE_BYTES: usize = 4 << 20;

/// Time after the grace period within which a pod on a node that works is gone.
const MAX_TERMINATION_DELAY: SignedDuration = SignedDuration::from_mins(2);
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
pub struct RecorderClient(Arc<Slots<[u8; 32], StatusResult>>);

impl Default for RecorderClient {
    fn default() -> Self {
        Self(Arc::new(Slots::new(CACHE_TTL)))
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
        let query = async { Ok::<_, Infallible>(query(SocketAddr::new(address, STATUS_PORT), api).await) };
        let Ok((answer, _)) =
            self.0.get_or_fetch(cache_key(address, api), |answer| !is_outdated(answer), query).await;
        answer
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
            "has been terminating since {} on {}; if that node is gone permanently, delete the pod with --force",
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

async fn query(address: SocketAddr, api: &StatusApi) -> StatusResult {
    let client = http_client(address, api).map_err(|_| RecorderStatusError::InvalidCredentials)?;
    let mut response = status_request(&client, address.port(), api)
        .send()
        .await
        .map_err(|_| RecorderStatusError::Unreachable)?;
    if !response.status().is_success() {
        return Err(RecorderStatusError::ErrorStatus(response.status().as_u16()));
    }
    // By chunks, so that a recorder that a tenant replaced cannot fill the operator's memory.
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|_| RecorderStatusError::Unreachable)? {
        if body.len() + chunk.len() > MAX_RESPONSE_BYTES {
            return Err(RecorderStatusError::InvalidResponse);
        }
        body.extend_from_slice(&chunk);
    }
    serde_json::from_slice(&body).map_err(|_| RecorderStatusError::InvalidResponse)
}

fn status_request(client: &reqwest::Client, port: u16, api: &StatusApi) -> reqwest::RequestBuilder {
    client
        .get(format!("https://{STATUS_SERVER_NAME}:{port}/v1/status"))
        .bearer_auth(api.token.reveal())
        // A recorder deletes nothing by its own clock alone. While the store is away, the operator's confirms it.
        .header(TIME_HEADER, Timestamp::now().to_string())
}

fn http_client(address: SocketAddr, api: &StatusApi) -> Result<reqwest::Client, reqwest::Error> {
    let certificate = reqwest::Certificate::from_pem(api.cert_pem.as_bytes())?;
    reqwest::Client::builder()
        .tls_certs_only([certificate])
        .https_only(true)
        .no_proxy()
        // A redirect would send the token elsewhere.
        .redirect(reqwest::redirect::Policy::none())
        .resolve(STATUS_SERVER_NAME, address)
        .timeout(TIMEOUT)
        .build()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

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
        let none = explain(RecorderStatusError::NoAddress, None);
        assert_eq!(none, RecorderStatusError::NoAddress);
    }

    #[test]
    fn request_has_token_and_time() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let api: StatusApi =
            serde_json::from_value(json!({"certPem": "", "keyPem": "", "token": "t"})).unwrap();
        let before = Timestamp::now();
        let request = status_request(&reqwest::Client::new(), STATUS_PORT, &api).build().unwrap();
        let header = |name: &str| request.headers().get(name).unwrap().to_str().unwrap();
        assert_eq!(header("authorization"), "Bearer t");
        let time: Timestamp = header(TIME_HEADER).parse().unwrap();
        assert!(time >= before && time <= Timestamp::now());
    }
}
