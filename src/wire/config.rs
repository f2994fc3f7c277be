//! The recorder's configuration.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::rules::{HoldScope, Window};
use crate::wire::GapCause;

/// A confidential text. Its `Debug` does not show it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
    /// Returns the text, for its user.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Configuration of the recorders of one Site. All pods of a Site get the same document. Each records the cameras of its
/// own `shard`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecorderConfig {
    /// See [`super::FORMAT`].
    pub format: u32,
    /// Identifier of the content below. The recorder's status reports the revision in use.
    pub revision: String,
    /// Namespace of the Site.
    pub namespace: String,
    /// Name of the Site.
    pub site: String,
    /// Bucket for segments.
    pub storage: StorageTarget,
    /// Duration after which a segment ends at the next keyframe, in milliseconds.
    pub segment_duration_ms: u64,
    /// Age in milliseconds past which the recorder purges a segment from the spool and never uploads it.
    pub video_ceiling_ms: u64,
    /// Capacity of the spool in bytes, for recorders that do not know the one of their pods: those of earlier versions.
    pub spool_bytes: u64,
    /// The cameras of all shards.
    pub cameras: Vec<CameraConfig>,
    /// Number of cameras of the Site that do not fit into the Secret with this document. No recorder records them. For the
    /// operator: recorders ignore it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub omitted_cameras: u32,
    /// Scopes of open holds, by the UID of the hold. The recorder uploads segments in a scope with the tag `sealed`. If the
    /// scopes do not fit into a Secret, the operator replaces them by wider ones under other names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub holds: BTreeMap<String, HoldScope>,
    /// Server of `/v1/status`.
    pub status_api: StatusApi,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// A bucket, and access to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StorageTarget {
    /// URL of the S3 endpoint; absent: AWS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Region in signatures.
    pub region: String,
    /// The site's bucket.
    pub bucket: String,
    /// Whether the bucket is in the path instead of the host name.
    pub path_style: bool,
    /// Private certificate authority, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_pem: Option<String>,
    /// Credentials of the identity.
    #[serde(flatten)]
    pub credentials: Credentials,
    /// Proxy to the endpoint; absent: a direct connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<Proxy>,
}

/// Credentials of an identity at a store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Credentials {
    /// A static or temporary access key.
    AccessKey(AccessKey),
    /// A token that the STS exchanges for a temporary key.
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
    /// Makes a static access key.
    pub fn access_key(access_key_id: impl Into<String>, secret_access_key: impl Into<String>) -> Self {
        Self::AccessKey(AccessKey {
            access_key_id: Secret::new(access_key_id),
            secret_access_key: Secret::new(secret_access_key),
            session_token: None,
        })
    }

    /// Returns the access key, if it is known without a request.
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
    /// Access key ID.
    pub access_key_id: Secret,
    /// Secret access key.
    pub secret_access_key: Secret,
    /// Session token of a temporary key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_token: Option<Secret>,
}

/// A pod's workload identity: its service account token, for a role at the store's STS (`AssumeRoleWithWebIdentity`).
/// The STS is at the endpoint, or without an endpoint the one of AWS in the region.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WebIdentity {
    /// Role to assume.
    pub role_arn: String,
    /// File with the token, which the kubelet renews.
    pub token_file: PathBuf,
}

/// An HTTP proxy. It tunnels `https://` (CONNECT) and forwards `http://`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Proxy {
    /// `http://host[:port]`, without user or password.
    pub url: String,
    /// Hosts, domains and networks that are reached without the proxy, separated by commas.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub no_proxy: String,
    /// Login at the proxy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<Login>,
}

/// One camera.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CameraConfig {
    /// Name of the Camera: `source` in the object key.
    pub name: String,
    /// Ordinal of the pod that records it.
    pub shard: u32,
    /// Stream of the camera.
    #[serde(flatten)]
    pub source: CameraSource,
    /// Windows in which recording is permitted, ascending and disjoint. Outside of them nothing is recorded.
    pub permitted: Vec<Window>,
    /// Cause of a gap outside of these windows, while the camera is not covered. Absent: the protocol permits no recording.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denial: Option<GapCause>,
    /// Windows in which the camera is covered: nothing is recorded, even in a permitted window.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub suspended: Vec<Window>,
    /// Whether the recorder rejected this camera's part of the document and knows no permitted window. For the recorder: not in the
    /// document.
    #[serde(skip)]
    pub is_rejected: bool,
}

/// Stream of a camera. While it does not change, the recorder keeps its connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CameraSource {
    /// `rtsp://` or `rtsps://` URL without user or password.
    pub url: Secret,
    /// Login, if the camera requires one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<Login>,
    /// Whether to answer a basic challenge over plain `rtsp://` too.
    #[serde(default)]
    pub allow_basic_auth: bool,
    /// Private certificate authority for `rtsps://`, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_pem: Option<String>,
}

/// Login at a camera or a proxy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    /// User name.
    pub username: String,
    /// Password.
    pub password: Secret,
}

/// Server of `/v1/status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusApi {
    /// Certificate for [`super::STATUS_SERVER_NAME`], PEM. The operator trusts no other.
    pub cert_pem: String,
    /// Key of the certificate, PEM (PKCS #8).
    pub key_pem: Secret,
    /// Bearer token that the operator sends.
    pub token: Secret,
    /// Certificate and token before these, while that certificate is valid. Recorders that have not read this document, or reject
    /// it, use them. For the operator: recorders ignore it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<PreviousStatusApi>,
}

/// Certificate and token that the operator replaced.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PreviousStatusApi {
    /// Certificate, PEM.
    pub cert_pem: String,
    /// Bearer token.
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
