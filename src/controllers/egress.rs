//! Routes from operator and recorders to stores: proxies, and tokens for workload identity.

use std::path::PathBuf;

use serde::Deserialize;

use crate::storage::s3::proxy::parse_proxy_url;
use crate::wire::{Login, Proxy, Secret};

/// Environment variable with the user of the proxies. The chart takes it from a Secret.
pub const PROXY_USERNAME: &str = "TOEZICHT_PROXY_USERNAME";
/// See [`PROXY_USERNAME`].
pub const PROXY_PASSWORD: &str = "TOEZICHT_PROXY_PASSWORD";
/// Environment variable that the webhook of EKS sets when it gives a pod a token.
pub const TOKEN_FILE_VARIABLE: &str = "AWS_WEB_IDENTITY_TOKEN_FILE";
/// Folder with the service account token for stores, in the pods of operator and recorders.
pub const TOKEN_DIR: &str = "/var/run/secrets/toezicht.dev/serviceaccount";
pub const TOKEN_FILE_NAME: &str = "token";
/// Audience of tokens that the STS of AWS accepts.
const AWS_AUDIENCE: &str = "sts.amazonaws.com";

/// Proxies as the configuration file has them.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ProxySpec {
    https: String,
    http: String,
    no_proxy: String,
}

/// Workload identity as the configuration file has it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct WorkloadIdentitySpec {
    audience: String,
}

/// A proxy that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "proxy.{field}: invalid; write http://host[:port] without path and query; user and password belong into the Secret that \
     proxy.credentialsSecret names"
)]
pub struct ProxyError {
    field: &'static str,
}

/// Proxies and token for stores. Requests to the Kubernetes API and to recorders never use a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Egress {
    https: Option<Proxy>,
    http: Option<Proxy>,
    pub audience: String,
    /// File with the operator's own token.
    pub token_file: PathBuf,
}

impl Egress {
    /// Validates the configuration. `variable` returns an environment variable.
    pub fn new(
        proxy: &ProxySpec,
        identity: &WorkloadIdentitySpec,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, ProxyError> {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let login = variable(PROXY_USERNAME).map(|username| Login {
            username,
            password: Secret::new(variable(PROXY_PASSWORD).unwrap_or_default()),
        });
        let parse = |field, url: &String| match url.as_str() {
            "" => Ok(None),
            url if parse_proxy_url(url).is_some() => Ok(Some(Proxy {
                url: url.to_owned(),
                no_proxy: proxy.no_proxy.clone(),
                login: login.clone(),
            })),
            _ => Err(ProxyError { field }),
        };
        let audience = Some(identity.audience.as_str()).filter(|audience| !audience.is_empty());
        let token_file = variable(TOKEN_FILE_VARIABLE)
            .map_or_else(|| PathBuf::from(TOKEN_DIR).join(TOKEN_FILE_NAME), PathBuf::from);
        Ok(Self {
            https: parse("https", &proxy.https)?,
            http: parse("http", &proxy.http)?,
            audience: audience.unwrap_or(AWS_AUDIENCE).to_owned(),
            token_file,
        })
    }

    pub const fn proxy(&self, is_plain_http: bool) -> Option<&Proxy> {
        if is_plain_http { self.http.as_ref() } else { self.https.as_ref() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn egress(https: &str, variables: &[(&str, &str)]) -> Result<Egress, ProxyError> {
        let proxy = ProxySpec { https: https.into(), http: String::new(), no_proxy: "10.0.0.0/8".into() };
        Egress::new(&proxy, &WorkloadIdentitySpec::default(), |name| {
            let found = variables.iter().find(|(other, _)| *other == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn proxy_is_chosen_by_scheme_and_login_read_from_environment() {
        let variables =
            [(PROXY_USERNAME, "tz"), (PROXY_PASSWORD, "hunter2"), (TOKEN_FILE_VARIABLE, "/eks/token")];
        let egress = egress("http://proxy.example.nl:3128", &variables).unwrap();
        assert_eq!(egress.proxy(true), None);
        let proxy = egress.proxy(false).unwrap();
        assert_eq!(
            (proxy.url.as_str(), proxy.no_proxy.as_str()),
            ("http://proxy.example.nl:3128", "10.0.0.0/8")
        );
        assert_eq!(proxy.login.as_ref().unwrap().password.reveal(), "hunter2");
        assert_eq!(egress.token_file, PathBuf::from("/eks/token"));
        assert!(!format!("{egress:?}").contains("hunter2"));
    }

    #[test]
    fn empty_egress_uses_no_proxy_and_aws_audience() {
        let egress = egress("", &[(PROXY_USERNAME, "")]).unwrap();
        assert_eq!((egress.proxy(false), egress.proxy(true)), (None, None));
        assert_eq!(egress.audience, "sts.amazonaws.com");
        assert_eq!(egress.token_file, PathBuf::from("/var/run/secrets/toezicht.dev/serviceaccount/token"));
    }

    #[test]
    fn login_in_proxy_url_is_rejected_without_echo() {
        let error = egress("http://tz:hunter2@proxy.example.nl", &[]).unwrap_err().to_string();
        assert!(error.starts_with("proxy.https: ") && !error.contains("hunter2"), "{error}");
    }
}
