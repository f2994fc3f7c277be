//! Proxy to a store.

use aws_smithy_http_client::proxy::ProxyConfig;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use url::Url;

use super::target::{TargetError, is_bare_origin};
use crate::wire::Proxy;

/// Returns the connector's proxy configuration. With `tls`, the proxy makes a tunnel.
pub(crate) fn connector_config(proxy: &Proxy, tls: bool) -> Result<ProxyConfig, TargetError> {
    let url = parse_proxy_url(&proxy.url).ok_or(TargetError::Proxy)?;
    let config = if tls { ProxyConfig::https(url.as_str()) } else { ProxyConfig::http(url.as_str()) };
    let config = config.map_err(|_| TargetError::Proxy)?.no_proxy(&proxy.no_proxy);
    Ok(match &proxy.login {
        Some(login) => {
            config.with_basic_auth(percent_encode(&login.username), percent_encode(login.password.reveal()))
        }
        None => config,
    })
}

/// The connector writes user and password into the URL unchanged. With an `@` or `/`, the URL would be invalid and the
/// connection would bypass the proxy.
fn percent_encode(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// Parses the URL of a proxy. `None`: not an HTTP origin.
pub fn parse_proxy_url(url: &str) -> Option<Url> {
    let url = Url::parse(url).ok()?;
    (url.scheme() == "http" && is_bare_origin(&url)).then_some(url)
}

#[cfg(test)]
mod tests;
