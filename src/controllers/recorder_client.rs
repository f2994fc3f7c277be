//! Client of the recorders' status API, `GET /v1/status`. It trusts only the certificate that the operator issued for them,
//! and sends the token that the operator gave them.

pub mod camera_recording;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use sha2::{Digest, Sha256};

use crate::sync::lock;
use crate::wire::{RecorderStatus, STATUS_PORT, STATUS_SERVER_NAME, StatusApi};

/// Deadline of a request.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Age up to which an answer is used, so that one request serves a site and all its cameras.
const CACHE_TTL: Duration = Duration::from_secs(5);
/// Longest answer. A recorder of 256 cameras with 20 gaps each stays far below it.
const MAX_RESPONSE_BYTES: usize = 4 << 20;
/// Number of answers at which all are dropped, so that those of deleted pods do not pile up.
const MAX_CACHED_STATUSES: usize = 4096;

/// The status of a recorder is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecorderStatusError {
    #[error("its pod does not exist or has no address yet")]
    NoAddress,
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
type StatusSlot = Arc<tokio::sync::Mutex<Option<(Instant, StatusResult)>>>;

/// Client with a cache of recent answers. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct RecorderClient {
    slots: Arc<Mutex<HashMap<[u8; 32], StatusSlot>>>,
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
        let slot = self.slot(cache_key(address, api));
        let mut slot = slot.lock().await;
        if let Some((queried_at, answer)) = &*slot
            && queried_at.elapsed() < CACHE_TTL
            && !is_outdated(answer)
        {
            return answer.clone();
        }
        let answer = query(SocketAddr::new(address, STATUS_PORT), api).await;
        // Errors too: a recorder that is down costs one timeout, not one for each of its cameras.
        *slot = Some((Instant::now(), answer.clone()));
        answer
    }

    fn slot(&self, key: [u8; 32]) -> StatusSlot {
        let mut slots = lock(&self.slots);
        if slots.len() >= MAX_CACHED_STATUSES {
            slots.clear();
        }
        slots.entry(key).or_default().clone()
    }
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
    let url = format!("https://{STATUS_SERVER_NAME}:{}/v1/status", address.port());
    let request = client.get(url).bearer_auth(api.token.reveal());
    let mut response = request.send().await.map_err(|_| RecorderStatusError::Unreachable)?;
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
