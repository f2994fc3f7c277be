//! Asks recorders for their status: `GET /v1/status`, trusting exactly the certificate that the operator
//! made for them, with the token that it gave them.

pub mod camera_recording;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use sha2::{Digest, Sha256};

use crate::wire::{RecorderStatus, STATUS_PORT, STATUS_SERVER_NAME, StatusApi};

/// Longer a recorder may not take.
const TIMEOUT: Duration = Duration::from_secs(2);
/// An answer is used this long, so that a site and all its cameras cost one request.
const CACHE_TTL: Duration = Duration::from_secs(5);
/// A longer answer is not read: a recorder of 256 cameras with 20 gaps each stays far below.
const MAX_RESPONSE_BYTES: usize = 4 << 20;
/// Answers of pods that are gone are forgotten at this many.
const MAX_CACHED_STATUSES: usize = 4096;

/// Why a recorder's status is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecorderStatusError {
    /// The pod has no address of its own (yet).
    #[error("its pod has no address yet")]
    NoAddress,
    /// The certificate or token that the operator made cannot be used.
    #[error("its certificate or token cannot be used")]
    InvalidCredentials,
    /// No answer, or not from who has the certificate.
    #[error("it does not answer")]
    Unreachable,
    #[error("it answers with status {0}")]
    ErrorStatus(u16),
    /// Its answer is not understood.
    #[error("its answer is not understood")]
    InvalidResponse,
}

type StatusResult = Result<RecorderStatus, RecorderStatusError>;
type StatusSlot = Arc<tokio::sync::Mutex<Option<(Instant, StatusResult)>>>;

/// Asks recorders, and remembers their answers for a moment. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct RecorderClient {
    slots: Arc<Mutex<HashMap<[u8; 32], StatusSlot>>>,
}

impl RecorderClient {
    /// The status of the recorder at `address`, at most five seconds old. Who asks while another asks
    /// waits for the same answer.
    pub async fn status(&self, address: IpAddr, api: &StatusApi) -> StatusResult {
        self.cached_or_query(address, api, |_| false).await
    }

    /// The same for who waits until the recorder follows `revision`: an answer of before counts only if it says so. No two
    /// configurations of a Site have the same revision, also where one returns to an earlier one, so an answer that names
    /// `revision` was given after that configuration was written.
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

    /// Asks where there is no answer of the last seconds, or where that one is `outdated`.
    async fn cached_or_query(
        &self,
        address: IpAddr,
        api: &StatusApi,
        outdated: impl Fn(&StatusResult) -> bool,
    ) -> StatusResult {
        let slot = self.slot(cache_key(address, api));
        let mut slot = slot.lock().await;
        if let Some((at, answer)) = &*slot
            && at.elapsed() < CACHE_TTL
            && !outdated(answer)
        {
            return answer.clone();
        }
        let answer = query(SocketAddr::new(address, STATUS_PORT), api).await;
        *slot = Some((Instant::now(), answer.clone()));
        answer
    }

    fn slot(&self, key: [u8; 32]) -> StatusSlot {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= MAX_CACHED_STATUSES {
            slots.clear();
        }
        slots.entry(key).or_default().clone()
    }
}

/// Where the recorder in `pod` answers: an address of the pod's own. One that shares its node's network, or
/// an address that no pod can have, is not asked.
pub fn pod_address(pod: &Pod) -> Result<IpAddr, RecorderStatusError> {
    let shares_network = pod.spec.as_ref().is_none_or(|spec| spec.host_network == Some(true));
    let address =
        pod.status.as_ref().and_then(|status| status.pod_ip.as_deref()).and_then(|ip| ip.parse().ok());
    address.filter(|ip| !shares_network && is_pod_address(ip)).ok_or(RecorderStatusError::NoAddress)
}

fn is_pod_address(address: &IpAddr) -> bool {
    let special = address.is_loopback() || address.is_unspecified() || address.is_multicast();
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.to_ipv4_mapped().is_some(),
    };
    !special && !link_local
}

/// Whom an answer is from: another certificate or token is another recorder.
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
        .redirect(reqwest::redirect::Policy::none())
        .resolve(STATUS_SERVER_NAME, address)
        .timeout(TIMEOUT)
        .build()
}
