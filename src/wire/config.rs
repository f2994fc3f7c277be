//! The recorder's configuration.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::rules::Window;
use crate::rules::hold::scope::HoldScopeConfig;

/// A text that must not be seen: its `Debug` is blank.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
    /// The text itself, for where it is used.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Everything that the recorders of one site need to know. All pods of a site get the same document; each
/// records the cameras of its own `shard`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecorderConfig {
    /// See [`super::FORMAT`].
    pub format: u32,
    /// Changes whenever anything below does; the recorder's status says which it follows.
    pub revision: String,
    /// Namespace of the Site.
    pub namespace: String,
    /// Name of the Site.
    pub site: String,
    /// Where segments go.
    pub storage: StorageTarget,
    /// A segment ends at the first keyframe after this long.
    pub segment_duration_ms: u64,
    /// What is older than this in the spool is purged, never uploaded.
    pub video_ceiling_ms: u64,
    /// How many bytes the spool may hold.
    pub spool_bytes: u64,
    /// The cameras of all shards.
    pub cameras: Vec<CameraConfig>,
    /// What open holds cover, by the UID of the hold: a segment of it is put with the tag `sealed`. Where they do not all fit
    /// into a Secret, they are widened, and have names of their own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub holds: BTreeMap<String, HoldScopeConfig>,
    /// How `/v1/status` is served.
    pub status_api: StatusApi,
}

/// Where segments go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StorageTarget {
    /// S3 endpoint; absent: AWS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Region that signatures name.
    pub region: String,
    /// The site's bucket.
    pub bucket: String,
    /// Bucket in the path instead of the host name.
    pub path_style: bool,
    /// A private certificate authority, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_pem: Option<String>,
    /// The identity's credentials.
    #[serde(flatten)]
    pub credentials: Credentials,
    /// The proxy to the endpoint; absent: a direct connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<Proxy>,
}

/// How an identity proves itself to a store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Credentials {
    /// Keys.
    AccessKey(AccessKey),
    /// A token that is exchanged for temporary keys.
    WebIdentity {
        /// See [`WebIdentity`].
        #[serde(rename = "webIdentity")]
        web_identity: WebIdentity,
    },
    /// A profile of AWS's shared files on this machine. Only the command line reads them.
    #[serde(skip)]
    Profile(Option<String>),
}

impl Credentials {
    /// Keys that do not expire.
    pub fn access_key(access_key_id: impl Into<String>, secret_access_key: impl Into<String>) -> Self {
        Self::AccessKey(AccessKey {
            access_key_id: Secret::new(access_key_id),
            secret_access_key: Secret::new(secret_access_key),
            session_token: None,
        })
    }

    /// The keys, where they are known without asking anybody.
    pub const fn as_access_key(&self) -> Option<&AccessKey> {
        match self {
            Self::AccessKey(keys) => Some(keys),
            Self::WebIdentity { .. } | Self::Profile(_) => None,
        }
    }
}

/// An access key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AccessKey {
    /// Its name.
    pub access_key_id: Secret,
    /// Its secret.
    pub secret_access_key: Secret,
    /// The token that a temporary key needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_token: Option<Secret>,
}

/// A pod's workload identity: its service account token, for a role at the store's STS (`AssumeRoleWithWebIdentity`).
/// The STS is at the endpoint, or AWS's in the region.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WebIdentity {
    /// The role to assume.
    pub role_arn: String,
    /// File with the token. The kubelet renews it.
    pub token_file: PathBuf,
}

/// An HTTP proxy. `https://` goes through a tunnel (CONNECT), `http://` is forwarded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Proxy {
    /// `http://host[:port]`, without user or password.
    pub url: String,
    /// Hosts, domains and networks that need no proxy, separated by commas.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub no_proxy: String,
    /// The user and password that the proxy asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<Login>,
}

/// One camera.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CameraConfig {
    /// The Camera's name: `source` in the object key.
    pub name: String,
    /// Ordinal of the pod that records it.
    pub shard: u32,
    /// `rtsp://` or `rtsps://` URL without user or password.
    pub url: Secret,
    /// User and password, where the camera wants them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<Login>,
    /// Answer a basic challenge over plain `rtsp://` too.
    #[serde(default)]
    pub allow_basic_auth: bool,
    /// A private certificate authority for `rtsps://`, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_pem: Option<String>,
    /// When recording is permitted, ascending, not overlapping. Outside these nothing is recorded.
    pub permitted: Vec<Window>,
    /// When the camera is covered: not recorded although permitted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub suspended: Vec<Window>,
}

/// A camera's user and password.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    /// The user.
    pub username: String,
    /// The password.
    pub password: Secret,
}

/// How `/v1/status` is served.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusApi {
    /// Certificate for [`super::STATUS_SERVER_NAME`], PEM; the operator trusts exactly this one.
    pub cert_pem: String,
    /// Its key, PEM (PKCS #8).
    pub key_pem: Secret,
    /// Bearer token that the operator shows.
    pub token: Secret,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(credentials: &str) -> StorageTarget {
        let text = format!(r#"{{"region": "nl-1", "bucket": "tz-one", "pathStyle": true, {credentials}}}"#);
        let target: StorageTarget = serde_json::from_str(&text).unwrap();
        let again = serde_json::to_string(&target).unwrap();
        assert_eq!(serde_json::from_str::<StorageTarget>(&again).unwrap(), target);
        target
    }

    #[test]
    fn credentials_of_each_kind_are_read_back() {
        let keys = read(r#""accessKeyId": "id", "secretAccessKey": "secret""#);
        assert_eq!(keys.credentials, Credentials::access_key("id", "secret"));
        let temporary = read(r#""accessKeyId": "id", "secretAccessKey": "secret", "sessionToken": "token""#);
        let token = temporary.credentials.as_access_key().unwrap().session_token.as_ref();
        assert_eq!(token.unwrap().reveal(), "token");
        assert!(!format!("{temporary:?}").contains("token\""));
        let ambient = read(r#""webIdentity": {"roleArn": "arn:aws:iam::1:role/r", "tokenFile": "/t"}"#);
        assert!(matches!(ambient.credentials, Credentials::WebIdentity { .. }));
    }

    #[test]
    fn target_without_credentials_is_rejected() {
        let text = r#"{"region": "nl-1", "bucket": "tz-one", "pathStyle": true}"#;
        assert!(serde_json::from_str::<StorageTarget>(text).is_err());
    }
}
