//! The S3 client: one bucket at one endpoint, as one identity.
//!
//! It connects to the endpoint that it was given, directly or through the proxy that it was given, and to no other. It
//! follows no redirect: the SDK returns a 3xx as an error. It reads nothing from the environment or from a metadata
//! service. It refuses a bucket's name that would make the SDK choose another host (an ARN, an S3 Express bucket).

use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::Builder as ConfigBuilder;
use aws_sdk_s3::config::retry::{RetryConfig, RetryPartition};
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Region, RequestChecksumCalculation, ResponseChecksumValidation, SharedHttpClient,
};
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode};
use aws_smithy_http_client::{Builder, Connector};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::advice::ConnectionSettings;
use super::bounded::ResponseLimit;
use super::content_md5::ContentMd5;
use super::credentials;
use super::date::StoreClock;
use super::ledger::EntryCache;
use super::proxy::{self, PROXY_FORM};
use super::requests::RequestCounter;
use super::simulated::{self, LocalClock};
use super::under_way::InDoubtRequests;
use super::whole::TruncationGuard;
use crate::contract::StorageTarget;

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

/// A storage target that cannot be used; found before any connection is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// The endpoint is not `http(s)://host[:port]`.
    #[error("spec.storage.endpoint must be http(s)://host[:port], without user, path or query")]
    Endpoint,
    /// The bucket's name is not one that S3 takes, or would change where requests go.
    #[error("spec.storage.bucket must be 3 to 63 of a-z, 0-9, '.' and '-', and name an ordinary bucket")]
    Bucket,
    /// The region has another form.
    #[error("spec.storage.region must be 1 to 64 of A-Z, a-z, 0-9, '-' and '_'")]
    Region,
    /// The private CA is no certificate, or none that can be used.
    #[error("spec.storage.caRef must hold PEM certificates of a certificate authority")]
    Ca,
    /// The credentials are empty or hold what no header can.
    #[error(
        "the Secret of spec.storage: accessKeyId, secretAccessKey and sessionToken must be printable ASCII and not empty"
    )]
    Credentials,
    /// The proxy is no `http://host[:port]`.
    #[error("proxy: {PROXY_FORM}")]
    Proxy,
}

impl TargetError {
    /// Bounded, for metrics.
    pub const fn category(self) -> &'static str {
        match self {
            Self::Endpoint => "endpoint",
            Self::Bucket => "bucket",
            Self::Region => "region",
            Self::Ca => "ca",
            Self::Credentials => "credentials",
            Self::Proxy => "proxy",
        }
    }
}

/// One bucket, as one identity.
#[derive(Clone, Debug)]
pub(crate) struct BucketClient {
    pub(crate) client: Client,
    pub(crate) bucket: String,
    pub(crate) region: String,
    /// Requests go over TLS.
    pub(crate) is_tls: bool,
    /// The endpoint is AWS itself.
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
        let http_client = match simulated::current() {
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

/// Whether an endpoint is over TLS.
pub(crate) fn is_tls(endpoint: &str) -> Result<bool, TargetError> {
    let url = url::Url::parse(endpoint).map_err(|_| TargetError::Endpoint)?;
    let bare = url.username().is_empty()
        && url.password().is_none()
        && url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none()
        && url.has_host();
    match url.scheme() {
        "https" if bare => Ok(true),
        "http" if bare => Ok(false),
        _ => Err(TargetError::Endpoint),
    }
}

/// Whether a text names an ordinary bucket.
pub(crate) fn is_valid_bucket(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '.' || c == '-';
    let ends = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    (3..=63).contains(&name.len())
        && name.chars().all(inner)
        && name.starts_with(ends)
        && name.ends_with(ends)
        && !name.contains("..")
        && !["--x-s3", "-s3alias", "--ol-s3", ".mrap", "--table-s3"].iter().any(|s| name.ends_with(s))
}

/// Whether a text can stand in the scope of a signature, between slashes.
pub(crate) fn is_valid_region(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
