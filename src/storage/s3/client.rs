//! The S3 client: one bucket at one endpoint, as one identity.
//!
//! It connects to the endpoint that it was given, directly or through the proxy that it was given, and to no other. It
//! follows no redirect: the SDK returns a 3xx as an error. It reads nothing from the environment or from a metadata
//! service. It refuses a bucket's name that would make the SDK choose another host (an ARN, an S3 Express bucket).

use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::{RetryConfig, RetryPartition};
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Builder as ConfigBuilder, Region, RequestChecksumCalculation,
    ResponseChecksumValidation, SharedHttpClient,
};
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_http_client::{Builder, Connector};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::advice::StaticKeys;
use super::error::{StoreError, TOKEN_EXCHANGE};
use crate::storage::s3::advice::ConnectionSettings;
use crate::storage::s3::content_md5::ContentMd5;
use crate::storage::s3::entry_cache::EntryCache;
use crate::storage::s3::in_doubt_requests::InDoubtRequests;
use crate::storage::s3::request_counts::RequestCounter;
use crate::storage::s3::response_limit::ResponseLimit;
use crate::storage::s3::simulation::LocalClock;
use crate::storage::s3::store_clock::StoreClock;
use crate::storage::s3::target::{TargetError, is_tls, is_valid_bucket, is_valid_region};
use crate::storage::s3::truncation::TruncationGuard;
use crate::storage::s3::{credentials, proxy, simulation};
use crate::wire::StorageTarget;

impl BucketClient {
    /// Advice to the Site's author; `None`: the error comes from elsewhere.
    pub(crate) fn advice(&self, error: &StoreError) -> Option<String> {
        let is_elsewhere = matches!(error.status, Some(301 | 307))
            || matches!(
                error.code.as_str(),
                "AuthorizationHeaderMalformed" | "PermanentRedirect" | "IllegalLocationConstraintException"
            );
        match error.code.as_str() {
            _ if is_elsewhere => Some(match self.connection.named_region.get().filter(|named| *named != self.region) {
                Some(named) => format!(
                    "spec.storage.region is {}, and the store names the region {named}: set spec.storage.region to {named}",
                    self.region
                ),
                None => format!(
                    "spec.storage.region is {}: set it to the region that the store's operator names",
                    self.region
                ),
            }),
            "NoConnection" | "Timeout" if self.connection.is_proxied => Some(
                "the connection goes through the proxy of the operator's configuration: check that the proxy is up and lets \
                 the endpoint through, or add the endpoint to proxy.noProxy"
                    .to_owned(),
            ),
            _ if error.operation == TOKEN_EXCHANGE => None,
            // AWS tells them apart.
            "AccessDenied" if self.connection.keys != StaticKeys::None && !self.is_aws => Some(
                "check what spec.storage.operator.principal may do, and the keys in spec.storage.operator.credentialsRef: a gateway of \
                 Ceph that has an STS answers alike where these are wrong"
                    .to_owned(),
            ),
            "InvalidAccessKeyId" if self.connection.keys == StaticKeys::WithoutToken => Some(
                "the access key has no session token: if it is a temporary one, add its sessionToken to the Secret".to_owned(),
            ),
            "NoConnection" | "NoSuchBucket" | "UntrustedCertificate" if !self.connection.is_path_style && !self.is_aws => Some(
                "spec.storage.pathStyle is false, so the bucket's name is part of the host name: set spec.storage.pathStyle \
                 to true unless the store's DNS and certificate cover such names"
                    .to_owned(),
            ),
            _ => None,
        }
    }
}

/// The longest that one operation of the operator takes, retries included, but for listings: within the lease, so that a
/// leader that cannot renew has nothing under way when another takes over.
const OPERATION_DEADLINE: Duration = Duration::from_secs(10);
const ATTEMPT_DEADLINE: Duration = Duration::from_secs(5);
const CONNECT_DEADLINE: Duration = Duration::from_secs(3);

/// What the client is for: how long it waits and how often it tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Small requests of the operator, each within ten seconds, and listings.
    Configure,
    /// Segments. One attempt, for as long as the caller waits: the spool knows how long a recording is worth,
    /// and has its own order of trying again.
    Upload,
}

/// One bucket, as one identity.
#[derive(Clone, Debug)]
pub(crate) struct BucketClient {
    pub(crate) client: Client,
    pub(crate) bucket: String,
    pub(crate) region: String,
    pub(crate) is_tls: bool,
    pub(crate) is_aws: bool,
    /// How the Site reaches the store, for advice on errors.
    pub(crate) connection: ConnectionSettings,
    /// What time it is there, as the last answer said.
    pub(crate) clock: StoreClock,
    /// Entries of the ledger that were read.
    pub(crate) ledger_cache: EntryCache,
}

impl BucketClient {
    /// A client for `target`. Makes no connection.
    pub(crate) fn new(target: &StorageTarget, purpose: Purpose) -> Result<Self, TargetError> {
        Self::build(target, purpose, true, None)
    }

    /// A client of the operator's that notes in `under_way` which changes of marks got no answer.
    pub(crate) fn tracking_in_doubt(
        target: &StorageTarget,
        under_way: &InDoubtRequests,
    ) -> Result<Self, TargetError> {
        Self::build(target, Purpose::Configure, true, Some(under_way))
    }

    /// The same without credentials: its requests are not signed.
    pub(crate) fn anonymous(target: &StorageTarget) -> Result<Self, TargetError> {
        Self::build(target, Purpose::Configure, false, None)
    }

    fn build(
        target: &StorageTarget,
        purpose: Purpose,
        is_signed: bool,
        under_way: Option<&InDoubtRequests>,
    ) -> Result<Self, TargetError> {
        let tls = match &target.endpoint {
            Some(endpoint) => is_tls(endpoint)?,
            None => true,
        };
        if !is_valid_bucket(&target.bucket) {
            return Err(TargetError::Bucket);
        }
        if !is_valid_region(&target.region) {
            return Err(TargetError::Region);
        }
        let http_client = match simulation::current() {
            Some(simulated) => simulated.http,
            None => http_client(tls, target)?,
        };
        let ours = LocalClock::current();
        let mut config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(http_client.clone())
            .time_source(ours.clone())
            .region(Region::new(target.region.clone()))
            .force_path_style(target.path_style)
            .use_arn_region(false)
            .disable_multi_region_access_points(true)
            .disable_s3_express_session_auth(true)
            // Checksums are given where they matter. What newer SDKs add by themselves comes in a transfer
            // encoding that older stores write into the object.
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .timeout_config(purpose.timeouts())
            .retry_config(purpose.retries())
            // How often a store may be asked again is its own: by default all clients of a region's name share it, so that
            // one store that fails would leave none for the others.
            .retry_partition(RetryPartition::custom("store").build());
        let clock = StoreClock::new(ours);
        let connection = ConnectionSettings::from_target(target);
        config = config
            .interceptor(clock.clone())
            .interceptor(RequestCounter)
            .interceptor(ContentMd5)
            .interceptor(ResponseLimit)
            .interceptor(TruncationGuard)
            .interceptor(connection.named_region.clone());
        if let Some(under_way) = under_way {
            config = config.interceptor(under_way.clone());
        }
        if let Some(endpoint) = &target.endpoint {
            config = config.endpoint_url(endpoint.trim_end_matches('/'));
        }
        // Whoever shows no keys is told nothing of them.
        if let Some(doubt) = credentials::KeyEviction::for_target(target).filter(|_| is_signed) {
            config = config.interceptor(doubt);
        }
        config = if is_signed {
            config.credentials_provider(credentials::provider(target, &http_client)?)
        } else {
            config.allow_no_auth()
        };
        Ok(Self {
            client: Client::from_conf(config.build()),
            bucket: target.bucket.clone(),
            region: target.region.clone(),
            is_tls: tls,
            is_aws: target.endpoint.is_none(),
            connection,
            clock,
            ledger_cache: EntryCache::default(),
        })
    }
}

/// Whether a target can be used. Makes no connection.
pub fn validate_target(target: &StorageTarget) -> Result<(), TargetError> {
    BucketClient::new(target, Purpose::Configure).map(|_| ())
}

/// For a page of a listing: a store that is busy takes long to find a thousand keys, and longer if it is asked again meanwhile.
/// It is asked twice: an answer that never comes would end what reads a whole bucket. Nothing is changed by it, so that it
/// may take longer than [`OPERATION_DEADLINE`].
pub(crate) fn listing_timeouts() -> ConfigBuilder {
    let timeouts = TimeoutConfig::builder()
        .operation_timeout(OPERATION_DEADLINE * 5 / 2)
        .operation_attempt_timeout(OPERATION_DEADLINE);
    ConfigBuilder::new().timeout_config(timeouts.build())
}

impl Purpose {
    fn timeouts(self) -> TimeoutConfig {
        let common = TimeoutConfig::builder().connect_timeout(CONNECT_DEADLINE);
        match self {
            Self::Configure => {
                common.operation_timeout(OPERATION_DEADLINE).operation_attempt_timeout(ATTEMPT_DEADLINE)
            }
            Self::Upload => common,
        }
        .build()
    }

    fn retries(self) -> RetryConfig {
        match self {
            Self::Configure => RetryConfig::standard()
                .with_max_attempts(3)
                .with_initial_backoff(Duration::from_millis(200))
                .with_max_backoff(Duration::from_secs(2)),
            Self::Upload => RetryConfig::disabled(),
        }
    }
}

/// The connector: TLS by rustls, trusting the platform's roots, or the private CA and nothing else.
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
            .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
            .tls_context(context)
            .build_https());
    };
    let proxy = proxy::connector_config(proxy, tls)?;
    Ok(Builder::new().build_with_connector_fn(move |settings, components| {
        let mut builder = Connector::builder().proxy_config(proxy.clone());
        builder.set_connector_settings(settings.cloned());
        builder.set_sleep_impl(components.and_then(RuntimeComponents::sleep_impl));
        builder.tls_provider(Provider::Rustls(CryptoMode::AwsLc)).tls_context(context.clone()).build()
    }))
}

/// The connector would panic over what is no certificate.
fn verify_ca(pem: &str) -> Result<(), TargetError> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        roots.add(certificate.map_err(|_| TargetError::Ca)?).map_err(|_| TargetError::Ca)?;
    }
    if roots.is_empty() { Err(TargetError::Ca) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
