//! Connections to one bucket at one endpoint, as one identity.
//!
//! They lead to the target's endpoint, directly or through its proxy, and nowhere else. Redirects are not followed: the
//! SDK returns a 3xx as an error. Nothing is read from the environment or a metadata service. Bucket names that would
//! make the SDK choose another host (an ARN, an S3 Express bucket) are rejected.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::config::retry::RetryPartition;
use aws_sdk_s3::config::{
    BehaviorVersion, Builder as ConfigBuilder, Region, RequestChecksumCalculation,
    ResponseChecksumValidation, SharedCredentialsProvider, SharedHttpClient,
};
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_http_client::{Builder, Connector};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::client::{BucketClient, Purpose};
use super::http_clients::HttpClients;
use super::in_doubt_requests::InDoubtRequests;
use super::target::{TargetError, is_tls, is_valid_bucket, is_valid_region};
use super::{credentials, proxy, simulation};
use crate::wire::StorageTarget;

/// A load balancer may forget a connection that is idle for longer, without closing it. The outcome of a legal hold or tag that is
/// sent on such a connection would be in doubt for 16 minutes.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);

/// A bucket as one identity: credentials and a pool of HTTP connections. Clones share both.
///
/// Keep this for longer than one pass, and create a [`BucketClient`] for each pass. A client caches the store's clock
/// and the ledger's entries, which must not outlive the pass that read them.
#[derive(Clone)]
pub struct BucketConnection {
    target: StorageTarget,
    is_tls: bool,
    http: Arc<SharedHttpClient>,
    credentials: SharedCredentialsProvider,
}

impl fmt::Debug for BucketConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BucketConnection").field("target", &self.target).finish_non_exhaustive()
    }
}

/// Equal connections lead to the same bucket with the same credentials.
impl PartialEq for BucketConnection {
    fn eq(&self, other: &Self) -> bool {
        self.target == other.target
    }
}

impl BucketConnection {
    /// Checks `target` and prepares connections to it. Sends nothing.
    pub fn new(target: &StorageTarget) -> Result<Self, TargetError> {
        Self::sharing(target, &HttpClients::default())
    }

    /// Like [`Self::new`], with the HTTP client that other buckets use already.
    pub fn sharing(target: &StorageTarget, clients: &HttpClients) -> Result<Self, TargetError> {
        let is_tls = match &target.endpoint {
            Some(endpoint) => is_tls(endpoint)?,
            None => true,
        };
        if !is_valid_bucket(&target.bucket) {
            return Err(TargetError::Bucket);
        }
        if !is_valid_region(&target.region) {
            return Err(TargetError::Region);
        }
        let http = match simulation::current() {
            Some(simulated) => Arc::new(simulated.http),
            None => clients.get_or_make(target, is_tls, || http_client(is_tls, target))?,
        };
        let credentials = credentials::provider(target, &http)?;
        Ok(Self { target: target.clone(), is_tls, http, credentials })
    }

    pub fn target(&self) -> &StorageTarget {
        &self.target
    }

    /// Returns a client for one pass.
    pub(crate) fn client(&self) -> BucketClient {
        self.client_with(Purpose::Configure, self.signed_config())
    }

    /// Returns a client for one pass that records unanswered changes of protections in `requests`.
    pub(crate) fn tracking_client(&self, requests: &InDoubtRequests) -> BucketClient {
        self.client_with(Purpose::Configure, self.signed_config().interceptor(requests.clone()))
    }

    /// Returns a client for segments.
    pub(crate) fn upload_client(&self) -> BucketClient {
        self.client_with(Purpose::Upload, self.signed_config())
    }

    /// Returns a client whose requests are not signed.
    pub(crate) fn anonymous_client(&self) -> BucketClient {
        self.client_with(Purpose::Configure, self.config().allow_no_auth())
    }

    fn client_with(&self, purpose: Purpose, config: ConfigBuilder) -> BucketClient {
        BucketClient::new(&self.target, self.is_tls, purpose, config)
    }

    fn signed_config(&self) -> ConfigBuilder {
        let mut config = self.config().credentials_provider(self.credentials.clone());
        // Only requests that show temporary keys can learn that the store no longer accepts them.
        if let Some(eviction) = credentials::KeyEviction::for_target(&self.target) {
            config = config.interceptor(eviction);
        }
        config
    }

    fn config(&self) -> ConfigBuilder {
        let http = simulation::current().map_or_else(|| (*self.http).clone(), |simulated| simulated.http);
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(http)
            .region(Region::new(self.target.region.clone()))
            .force_path_style(self.target.path_style)
            .use_arn_region(false)
            .disable_multi_region_access_points(true)
            .disable_s3_express_session_auth(true)
            // Callers add checksums where needed. Newer SDKs add them to every request in a transfer encoding that
            // older stores write into the object.
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            // By default, all clients of a region share one retry budget: a failing store would leave none for the
            // others.
            .retry_partition(RetryPartition::custom("store").build());
        match &self.target.endpoint {
            Some(endpoint) => config.endpoint_url(endpoint.trim_end_matches('/')),
            None => config,
        }
    }
}

/// Returns a connector with rustls that trusts the platform's roots, or only the private CA.
fn http_client(tls: bool, target: &StorageTarget) -> Result<SharedHttpClient, TargetError> {
    let trust = match &target.ca_pem {
        Some(pem) => {
            verify_ca(pem)?;
            TrustStore::empty().with_pem_certificate(pem.as_bytes())
        }
        None => TrustStore::empty().with_native_roots(tls),
    };
    let context = TlsContext::builder().with_trust_store(trust).build().map_err(|_| TargetError::Ca)?;
    let Some(proxy) = &target.proxy else {
        return Ok(Builder::new()
            .pool_idle_timeout(IDLE_TIMEOUT)
            .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
            .tls_context(context)
            .build_https());
    };
    let proxy = proxy::connector_config(proxy, tls)?;
    Ok(Builder::new().build_with_connector_fn(move |settings, components| {
        let mut builder = Connector::builder().pool_idle_timeout(IDLE_TIMEOUT).proxy_config(proxy.clone());
        // `build_https` passes them on, but this builder does not: a dead proxy would have no connect timeout.
        builder.set_connector_settings(settings.cloned());
        builder.set_sleep_impl(components.and_then(RuntimeComponents::sleep_impl));
        builder.tls_provider(Provider::Rustls(CryptoMode::AwsLc)).tls_context(context.clone()).build()
    }))
}

/// Rejects a CA that is no certificate: the connector would panic.
pub fn verify_ca(pem: &str) -> Result<(), TargetError> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        roots.add(certificate.map_err(|_| TargetError::Ca)?).map_err(|_| TargetError::Ca)?;
    }
    if roots.is_empty() { Err(TargetError::Ca) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
