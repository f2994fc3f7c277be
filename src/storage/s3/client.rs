//! S3 client for one pass over a bucket.

use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::Builder as ConfigBuilder;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;

use super::advice::{ConnectionSettings, StaticKeys};
use super::content_md5::ContentMd5;
use super::entry_cache::EntryCache;
use super::error::{StoreError, TOKEN_EXCHANGE};
use super::request_counts::RequestCounter;
use super::response_limit::ResponseLimit;
use super::simulation::LocalClock;
use super::store_clock::StoreClock;
use super::truncation::TruncationGuard;
use crate::wire::StorageTarget;

/// Longest duration of an operation with its retries, except listings. Shorter than the lease: a leader that cannot
/// renew has no request under way when another takes over.
const OPERATION_DEADLINE: Duration = Duration::from_secs(10);
const ATTEMPT_DEADLINE: Duration = Duration::from_secs(5);
const CONNECT_DEADLINE: Duration = Duration::from_secs(3);

/// Use of a client: how long it waits and how often it retries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Small requests of the operator within ten seconds, and listings.
    Configure,
    /// Segments. One attempt for as long as the caller waits: the spool schedules its own retries.
    Upload,
}

/// One bucket as one identity, for one pass.
#[derive(Clone, Debug)]
pub(crate) struct BucketClient {
    pub(crate) client: Client,
    pub(crate) bucket: String,
    pub(crate) region: String,
    pub(crate) is_tls: bool,
    pub(crate) is_aws: bool,
    pub(crate) connection: ConnectionSettings,
    /// Time of the store's last answer.
    pub(crate) clock: StoreClock,
    /// Ledger entries that were read in this pass.
    pub(crate) ledger_cache: EntryCache,
}

impl BucketClient {
    /// Completes `config`, which has connections and credentials.
    pub(crate) fn new(target: &StorageTarget, is_tls: bool, purpose: Purpose, config: ConfigBuilder) -> Self {
        let local_clock = LocalClock::current();
        let clock = StoreClock::new(local_clock.clone());
        let connection = ConnectionSettings::from_target(target);
        let config = config
            .time_source(local_clock)
            .timeout_config(purpose.timeouts())
            .retry_config(purpose.retries())
            .interceptor(clock.clone())
            .interceptor(RequestCounter)
            .interceptor(ContentMd5)
            .interceptor(ResponseLimit)
            .interceptor(TruncationGuard)
            .interceptor(connection.named_region.clone());
        Self {
            client: Client::from_conf(config.build()),
            bucket: target.bucket.clone(),
            region: target.region.clone(),
            is_tls,
            is_aws: target.endpoint.is_none(),
            connection,
            clock,
            ledger_cache: EntryCache::default(),
        }
    }

    /// Returns advice to the Site's author. `None`: the storage fields are not the cause.
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
                "the connection uses the proxy of the operator's configuration; check that the proxy is up and allows the endpoint, or \
                 add the endpoint to proxy.noProxy"
                    .to_owned(),
            ),
            "NoConnection" | "Timeout" if self.connection.is_path_style && !self.is_aws => {
                Some("check spec.storage.endpoint, and that this cluster reaches it".to_owned())
            }
            _ if error.operation == TOKEN_EXCHANGE => None,
            // AWS distinguishes wrong keys from missing rights.
            "AccessDenied" if self.connection.keys != StaticKeys::None && !self.is_aws => Some(
                "check the permissions of spec.storage.operator.principal, and the keys in spec.storage.operator.credentialsRef: a Ceph \
                 gateway with an STS gives the same answer to wrong keys"
                    .to_owned(),
            ),
            "InvalidAccessKeyId" if self.connection.keys == StaticKeys::WithoutToken => Some(
                "the access key has no session token: if it is a temporary one, add its sessionToken to the Secret".to_owned(),
            ),
            "InvalidAccessKeyId" | "SignatureDoesNotMatch" if self.connection.keys != StaticKeys::None => {
                Some("correct the keys in the Secret of spec.storage.operator.credentialsRef".to_owned())
            }
            "NoConnection" | "NoSuchBucket" | "UntrustedCertificate" if !self.connection.is_path_style && !self.is_aws => Some(
                "spec.storage.pathStyle is false, so the bucket's name is part of the host name: set spec.storage.pathStyle \
                 to true unless the store's DNS and certificate cover such names"
                    .to_owned(),
            ),
            _ => None,
        }
    }
}

/// Returns the timeouts for one page of a listing, longer than [`OPERATION_DEADLINE`] since a listing changes nothing.
///
/// A busy store needs long to find a thousand keys, and longer if a retry adds load. One retry remains: an answer that
/// never comes would otherwise end a pass over a whole bucket.
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
                // Half of the operation for each attempt, so that one without an answer leaves time for another.
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
