//! Credentials of an identity: static keys, or a provider that renews them.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant, SystemTime};

use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_credential_types::Credentials as Temporary;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::future::ProvideCredentials as Provided;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_sdk_s3::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, ConfigBag, Intercept, Region, RuntimeComponents, SharedHttpClient,
};
use aws_sdk_s3::error::BoxError;

use super::error::{StoreError, TOKEN_EXCHANGE};
use super::response_limit::ResponseLimit;
use super::target::TargetError;
use crate::sync::lock;
use crate::wire::{AccessKey, Credentials, StorageTarget, WebIdentity};

/// Provider name in the SDK's messages.
const PROVIDER_NAME: &str = "toezicht";
/// Longest part of a key in bytes. Session tokens have a few thousand.
const MAX_KEY_BYTES: usize = 16 * 1024;
/// Session name at the STS, as in the store's access log.
const SESSION_NAME: &str = "toezicht";
/// Remaining validity at which temporary keys are renewed.
const RENEW_BEFORE_EXPIRY: Duration = Duration::from_mins(5);
/// Age at which rejected temporary keys are exchanged again, since they may have been revoked.
const DISCARD_AFTER: Duration = Duration::from_mins(5);
/// Longest duration of an exchange with its retries. The SDK waits 5 s for credentials.
const EXCHANGE_DEADLINE: Duration = Duration::from_secs(4);
/// Longest token in bytes. Those of service accounts have about a thousand.
const MAX_TOKEN_BYTES: u64 = 64 * 1024;
/// Cached temporary keys: more than the Sites of a cluster.
const MAX_CACHED: usize = 4096;

/// Returns the provider for a target's credentials.
pub(crate) fn provider(
    target: &StorageTarget,
    http_client: &SharedHttpClient,
) -> Result<SharedCredentialsProvider, TargetError> {
    Ok(match &target.credentials {
        Credentials::AccessKey(keys) => SharedCredentialsProvider::new(static_keys(keys)?),
        Credentials::WebIdentity { web_identity } => {
            SharedCredentialsProvider::new(TokenExchange::new(target, web_identity, http_client))
        }
        Credentials::Profile(name) => SharedCredentialsProvider::new(profile(name.as_deref(), http_client)),
    })
}

/// Checks credentials as far as that needs no request.
pub fn check_credentials(credentials: &Credentials) -> Result<(), TargetError> {
    match credentials {
        Credentials::AccessKey(keys) => static_keys(keys).map(drop),
        Credentials::WebIdentity { .. } | Credentials::Profile(_) => Ok(()),
    }
}

fn static_keys(keys: &AccessKey) -> Result<Temporary, TargetError> {
    let token = keys.session_token.as_ref();
    let parts = [Some(&keys.access_key_id), Some(&keys.secret_access_key), token];
    let is_printable =
        |text: &str| (1..=MAX_KEY_BYTES).contains(&text.len()) && text.chars().all(|c| c.is_ascii_graphic());
    if !parts.into_iter().flatten().all(|part| is_printable(part.reveal())) {
        return Err(TargetError::Credentials);
    }
    Ok(Temporary::new(
        keys.access_key_id.reveal(),
        keys.secret_access_key.reveal(),
        token.map(|token| token.reveal().to_owned()),
        None,
        PROVIDER_NAME,
    ))
}

/// Returns a profile of `~/.aws`, or of the files in `AWS_CONFIG_FILE` and `AWS_SHARED_CREDENTIALS_FILE`.
fn profile(name: Option<&str>, http_client: &SharedHttpClient) -> ProfileFileCredentialsProvider {
    let config = ProviderConfig::without_region().with_http_client(http_client.clone());
    let builder = ProfileFileCredentialsProvider::builder().configure(&config);
    match name {
        Some(name) => builder.profile_name(name).build(),
        None => builder.build(),
    }
}

/// Exchanges a service account token for temporary keys.
#[derive(Debug)]
struct TokenExchange {
    client: aws_sdk_sts::Client,
    identity: WebIdentity,
    cached: CachedKeys,
}

/// Temporary keys of one role, shared by all clients of the process. Otherwise each pass would need an exchange.
type CachedKeys = Arc<tokio::sync::Mutex<Option<TemporaryKeys>>>;

#[derive(Debug)]
struct TemporaryKeys {
    keys: Temporary,
    exchanged_at: Instant,
}

static CACHE: LazyLock<Mutex<HashMap<(String, WebIdentity), CachedKeys>>> = LazyLock::new(Mutex::default);

fn cached_keys(sts: String, identity: &WebIdentity) -> CachedKeys {
    let mut all = lock(&CACHE);
    if all.len() >= MAX_CACHED {
        // Without a bound, roles of deleted Sites would stay for ever. Clearing costs each other role one exchange.
        all.clear();
    }
    Arc::clone(all.entry((sts, identity.clone())).or_default())
}

/// Returns the STS endpoint. Stores other than AWS have it at their S3 endpoint.
fn sts_endpoint(target: &StorageTarget) -> String {
    target.endpoint.as_ref().unwrap_or(&target.region).clone()
}

/// Discards temporary keys that a store rejects.
///
/// AWS answers 400 (`ExpiredToken`, `InvalidToken`) or 403 (`InvalidAccessKeyId`) to invalid keys, and 403 to missing
/// rights (S3 API reference, error responses). A new exchange shows which it is.
#[derive(Debug)]
pub(crate) struct KeyEviction(CachedKeys);

impl KeyEviction {
    /// Returns the interceptor for a target with temporary keys.
    pub(crate) fn for_target(target: &StorageTarget) -> Option<Self> {
        match &target.credentials {
            Credentials::WebIdentity { web_identity } => {
                Some(Self(cached_keys(sts_endpoint(target), web_identity)))
            }
            Credentials::AccessKey(_) | Credentials::Profile(_) => None,
        }
    }

    fn discard_if_rejected(&self, status: u16, now: Instant) {
        // A locked cache is being renewed.
        let Ok(mut kept) = self.0.try_lock() else { return };
        // A 403 also means missing rights. If young keys were discarded too, each denied request would cost an
        // exchange.
        let is_old = |keys: &TemporaryKeys| now.saturating_duration_since(keys.exchanged_at) >= DISCARD_AFTER;
        if matches!(status, 400 | 403) && kept.as_ref().is_some_and(is_old) {
            *kept = None;
        }
    }
}

impl Intercept for KeyEviction {
    fn name(&self) -> &'static str {
        "KeyEviction"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.discard_if_rejected(context.response().status().as_u16(), Instant::now());
        Ok(())
    }
}

impl TokenExchange {
    fn new(target: &StorageTarget, identity: &WebIdentity, http_client: &SharedHttpClient) -> Self {
        let timeouts = TimeoutConfig::builder().operation_timeout(EXCHANGE_DEADLINE);
        let mut config = aws_sdk_sts::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(http_client.clone())
            .interceptor(ResponseLimit)
            .region(Region::new(target.region.clone()))
            .timeout_config(timeouts.build())
            .retry_config(RetryConfig::standard().with_max_attempts(2));
        if let Some(endpoint) = &target.endpoint {
            config = config.endpoint_url(endpoint.trim_end_matches('/'));
        }
        Self {
            client: aws_sdk_sts::Client::from_conf(config.build()),
            identity: identity.clone(),
            cached: cached_keys(sts_endpoint(target), identity),
        }
    }

    async fn keys(&self) -> Result<Temporary, StoreError> {
        // Locked during the exchange, so that concurrent requests do not each exchange the token.
        let mut kept = self.cached.lock().await;
        if let Some(kept) = kept.as_ref().filter(|kept| is_fresh(&kept.keys)) {
            return Ok(kept.keys.clone());
        }
        let keys = self.exchange().await?;
        *kept = Some(TemporaryKeys { keys: keys.clone(), exchanged_at: Instant::now() });
        Ok(keys)
    }

    async fn exchange(&self) -> Result<Temporary, StoreError> {
        let request = self.client.assume_role_with_web_identity();
        let answer = request
            .role_arn(&self.identity.role_arn)
            .role_session_name(SESSION_NAME)
            .web_identity_token(self.token().await?)
            .send()
            .await;
        let answer = answer.map_err(|error| StoreError::from_sdk(TOKEN_EXCHANGE, &error))?;
        let keys = answer.credentials().ok_or_else(|| exchange_error("UnreadableAnswer"))?;
        let expiry =
            SystemTime::try_from(*keys.expiration()).map_err(|_| exchange_error("UnreadableAnswer"))?;
        Ok(Temporary::new(
            keys.access_key_id(),
            keys.secret_access_key(),
            Some(keys.session_token().to_owned()),
            Some(expiry),
            PROVIDER_NAME,
        ))
    }

    /// Reads the token, which the kubelet renews.
    async fn token(&self) -> Result<String, StoreError> {
        use tokio::io::AsyncReadExt;
        let read = async {
            let mut text = String::new();
            let file = tokio::fs::File::open(&self.identity.token_file).await?;
            file.take(MAX_TOKEN_BYTES).read_to_string(&mut text).await?;
            Ok::<_, std::io::Error>(text.trim().to_owned())
        };
        match read.await {
            Ok(token) if !token.is_empty() => Ok(token),
            _ => Err(exchange_error("NoToken")),
        }
    }
}

impl ProvideCredentials for TokenExchange {
    fn provide_credentials<'a>(&'a self) -> Provided<'a>
    where
        Self: 'a,
    {
        Provided::new(async { self.keys().await.map_err(CredentialsError::provider_error) })
    }
}

fn is_fresh(keys: &Temporary) -> bool {
    let needed_until = SystemTime::now() + RENEW_BEFORE_EXPIRY;
    keys.expiry().is_some_and(|expiry| expiry > needed_until)
}

fn exchange_error(code: &str) -> StoreError {
    StoreError::without_status(TOKEN_EXCHANGE, code)
}

#[cfg(test)]
mod tests;
