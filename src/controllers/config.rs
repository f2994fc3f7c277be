//! The operator's configuration file, which the cluster's administrators write.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::egress::{Egress, ProxyError, ProxySpec, WorkloadIdentitySpec};
use super::grant::{GrantSpec, Grants, GrantsError};
use crate::api::{Ceilings, Days};

/// Valid configuration of the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorConfig {
    /// Namespaces that the operator watches; empty: all.
    pub watch_namespaces: Vec<String>,
    pub recorder_image: String,
    /// `Always`, `IfNotPresent` or `Never`; `None`: the default of Kubernetes.
    pub image_pull_policy: Option<String>,
    pub ceilings: Ceilings,
    /// Identity of this cluster in a bucket's ledger; `None`: the UID of the namespace kube-system.
    pub cluster_id: Option<String>,
    pub grants: Grants,
    pub egress: Egress,
}

/// Ceilings as the file has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct ConfigFileCeilings {
    video: Days,
    calls: Days,
}

impl Default for ConfigFileCeilings {
    /// Returns the ceilings of the protocol: four weeks and one week (article 6).
    fn default() -> Self {
        Self { video: Days(28), calls: Days(7) }
    }
}

// An unknown field is an error: a typo must not silently remove a limit.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct ConfigFile {
    watch_namespaces: Vec<String>,
    recorder_image: String,
    image_pull_policy: String,
    ceilings: ConfigFileCeilings,
    cluster_id: String,
    grants: Vec<GrantSpec>,
    proxy: ProxySpec,
    workload_identity: WorkloadIdentitySpec,
}

/// The configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OperatorConfigError {
    #[error("{} cannot be read: {error}", path.display())]
    Unreadable { path: PathBuf, error: std::io::Error },
    #[error("the configuration cannot be parsed: {0}")]
    Syntax(String),
    #[error("recorderImage: missing; name the image that recorders run")]
    MissingImage,
    #[error("imagePullPolicy: {0:?} is invalid; write Always, IfNotPresent or Never")]
    PullPolicy(String),
    #[error(transparent)]
    Grants(#[from] GrantsError),
    #[error(transparent)]
    Proxy(#[from] ProxyError),
}

impl OperatorConfig {
    /// Reads the file at `path` and the environment.
    pub fn load(path: &Path) -> Result<Self, OperatorConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| OperatorConfigError::Unreadable { path: path.to_owned(), error })?;
        Self::parse_with(&text, |name| std::env::var(name).ok())
    }

    /// Parses a configuration without the environment.
    pub fn parse(text: &str) -> Result<Self, OperatorConfigError> {
        Self::parse_with(text, |_| None)
    }

    fn parse_with(
        text: &str,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, OperatorConfigError> {
        let file: ConfigFile =
            serde_saphyr::from_str(text).map_err(|error| OperatorConfigError::Syntax(error.to_string()))?;
        if file.recorder_image.is_empty() {
            return Err(OperatorConfigError::MissingImage);
        }
        if !matches!(file.image_pull_policy.as_str(), "" | "Always" | "IfNotPresent" | "Never") {
            return Err(OperatorConfigError::PullPolicy(file.image_pull_policy));
        }
        Ok(Self {
            watch_namespaces: file.watch_namespaces,
            recorder_image: file.recorder_image,
            image_pull_policy: Some(file.image_pull_policy).filter(|policy| !policy.is_empty()),
            ceilings: Ceilings { video: file.ceilings.video, calls: file.ceilings.calls },
            cluster_id: Some(file.cluster_id).filter(|id| !id.is_empty()),
            grants: Grants::new(file.grants)?,
            egress: Egress::new(&file.proxy, &file.workload_identity, variable)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minimal_config_grants_nothing() {
        let config = OperatorConfig::parse("recorderImage: toezicht:1").unwrap();
        assert_eq!(config.ceilings, Ceilings { video: Days(28), calls: Days(7) });
        assert_eq!(config.grants, Grants::default());
        assert_eq!((config.cluster_id, config.image_pull_policy), (None, None));
    }

    #[test]
    fn complete_config_is_parsed() {
        let config = OperatorConfig::parse(
            r#"
            watchNamespaces: [heusden]
            recorderImage: toezicht:1
            imagePullPolicy: Never
            ceilings: {video: 14d, calls: 7d}
            clusterId: here
            grants:
              - namespaces: [heusden]
                endpoints: ["https://s3.example.nl", aws]
                buckets: ["heusden-*"]
                plainHttp: false
                roles: []
                exceptions: [TakeOver]
            proxy: {https: "http://proxy.example.nl:3128", http: "", noProxy: "s3.example.nl"}
            workloadIdentity: {audience: rgw}
            "#,
        )
        .unwrap();
        assert_eq!(config.ceilings.video, Days(14));
        assert_eq!(config.cluster_id.as_deref(), Some("here"));
        assert_eq!(config.egress.proxy(false).unwrap().no_proxy, "s3.example.nl");
        assert_eq!(config.egress.audience, "rgw");
        assert_ne!(config.grants, Grants::default());
    }

    #[test]
    fn unknown_or_malformed_fields_are_rejected() {
        for text in [
            "recorderImage: a\nceiling: {video: 1d}",
            "recorderImage: a\nceilings: {video: 28}",
            "recorderImage: a\nimagePullPolicy: Sometimes",
            "recorderImage: a\ngrants: [{namespaces: [a], endpoints: [https://a/path], buckets: [a]}]",
            "recorderImage: a\ngrants: [{namespaces: [a], endpoints: [aws], buckets: [a], exceptions: [Anything]}]",
            "recorderImage: a\nproxy: {https: \"http://u:p@proxy\"}",
            "recorderImage: a\nproxy: {httpsProxy: \"http://proxy\"}",
            "ceilings: {}",
            "[",
        ] {
            assert!(OperatorConfig::parse(text).is_err(), "{text}");
        }
    }
}
