//! Credentials and proxies from the environment variables that other S3 tools use.

use std::path::{Path, PathBuf};

use percent_encoding::percent_decode_str;
use url::Url;

use crate::wire::{AccessKey, Credentials, Login, Proxy, Secret, WebIdentity};

#[derive(Clone, Copy, Debug)]
pub struct CredentialsVariables {
    key: &'static str,
    secret: &'static str,
    token: &'static str,
    /// Without keys, a profile or workload identity is used.
    has_fallbacks: bool,
}

pub const AWS_VARIABLES: CredentialsVariables = CredentialsVariables {
    key: "AWS_ACCESS_KEY_ID",
    secret: "AWS_SECRET_ACCESS_KEY",
    token: "AWS_SESSION_TOKEN",
    has_fallbacks: true,
};

/// Variables of the recorders' identity, for the probe.
pub const RECORDER_VARIABLES: CredentialsVariables = CredentialsVariables {
    key: "TOEZICHT_RECORDER_ACCESS_KEY_ID",
    secret: "TOEZICHT_RECORDER_SECRET_ACCESS_KEY",
    token: "TOEZICHT_RECORDER_SESSION_TOKEN",
    // A profile would be that of the operator, and the probe would try the wrong identity.
    has_fallbacks: false,
};

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvironmentError {
    #[error("{0} is not set; set it, or select a profile with AWS_PROFILE")]
    NoCredentials(&'static str),
    /// The message omits the value, since it can contain a password.
    #[error("{0}: not a valid proxy; write http://[user:password@]host[:port]")]
    Proxy(&'static str),
}

/// Returns whether the key, the secret, or both are set.
pub fn has_keys(names: &CredentialsVariables, variable: impl Fn(&str) -> Option<String>) -> bool {
    [names.key, names.secret].iter().any(|name| variable(name).is_some_and(|value| !value.is_empty()))
}

/// Returns the credentials: keys, or a named profile, or workload identity, or the default profile, in this order.
pub fn read_credentials(
    names: &CredentialsVariables,
    variable: impl Fn(&str) -> Option<String>,
    is_file: impl Fn(&Path) -> bool,
) -> Result<Credentials, EnvironmentError> {
    let given = |name: &str| variable(name).filter(|value| !value.is_empty());
    let key = |name: &'static str| given(name).map(Secret::new).ok_or(EnvironmentError::NoCredentials(name));
    if !names.has_fallbacks || has_keys(names, &variable) {
        return Ok(Credentials::AccessKey(AccessKey {
            access_key_id: key(names.key)?,
            secret_access_key: key(names.secret)?,
            session_token: given(names.token).map(Secret::new),
        }));
    }
    if let Some(profile) = given("AWS_PROFILE") {
        return Ok(Credentials::Profile(Some(profile)));
    }
    if let (Some(role_arn), Some(file)) = (given("AWS_ROLE_ARN"), given("AWS_WEB_IDENTITY_TOKEN_FILE")) {
        let token_file = PathBuf::from(file);
        return Ok(Credentials::WebIdentity { web_identity: WebIdentity { role_arn, token_file } });
    }
    let home = given("HOME").map(PathBuf::from).unwrap_or_default();
    let file = |name: &str, default: &str| {
        let given = given(name).map(PathBuf::from);
        is_file(&given.unwrap_or_else(|| home.join(".aws").join(default)))
    };
    if file("AWS_SHARED_CREDENTIALS_FILE", "credentials") || file("AWS_CONFIG_FILE", "config") {
        return Ok(Credentials::Profile(None));
    }
    Err(EnvironmentError::NoCredentials(names.key))
}

/// Returns the proxy for an endpoint, with the variables of curl. Also accepts `HTTP_PROXY`: curl ignores it because CGI clients
/// could set it, which does not apply to this command.
pub fn read_proxy(
    is_plain_http: bool,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Option<Proxy>, EnvironmentError> {
    let (upper, lower) =
        if is_plain_http { ("HTTP_PROXY", "http_proxy") } else { ("HTTPS_PROXY", "https_proxy") };
    let given = |one: &str, other: &str| {
        // As with curl, an empty lower-case variable switches the upper-case one off.
        let value = variable(one).or_else(|| variable(other));
        value.filter(|value| !value.is_empty())
    };
    let Some(text) = given(lower, upper) else {
        return Ok(None);
    };
    // curl accepts a proxy without a scheme.
    let text = if text.contains("://") { text } else { format!("http://{text}") };
    let invalid = || EnvironmentError::Proxy(upper);
    let mut url = Url::parse(&text).map_err(|_| invalid())?;
    let decoded =
        |text: &str| percent_decode_str(text).decode_utf8().map(String::from).map_err(|_| invalid());
    let login = (!url.username().is_empty())
        .then(|| {
            Ok(Login {
                username: decoded(url.username())?,
                password: Secret::new(decoded(url.password().unwrap_or_default())?),
            })
        })
        .transpose()?;
    url.set_username("").map_err(|()| invalid())?;
    url.set_password(None).map_err(|()| invalid())?;
    Ok(Some(Proxy {
        url: url.as_str().trim_end_matches('/').to_owned(),
        no_proxy: given("no_proxy", "NO_PROXY").unwrap_or_default(),
        login,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variable<'a>(given: &'a [(&str, &str)]) -> impl Fn(&str) -> Option<String> + 'a {
        |name| {
            let found = given.iter().find(|(other, _)| *other == name);
            found.map(|(_, value)| (*value).to_owned())
        }
    }

    fn read_with(given: &[(&str, &str)], file: &str) -> Result<Credentials, EnvironmentError> {
        read_credentials(&AWS_VARIABLES, variable(given), |path| path == Path::new(file))
    }

    const KEYS: [(&str, &str); 2] = [("AWS_ACCESS_KEY_ID", "k"), ("AWS_SECRET_ACCESS_KEY", "s")];

    #[test]
    fn keys_take_precedence_and_include_the_session_token() {
        let all = [&KEYS[..], &[("AWS_SESSION_TOKEN", "t"), ("AWS_PROFILE", "p")]].concat();
        let Credentials::AccessKey(keys) = read_with(&all, "").unwrap() else { panic!() };
        assert_eq!(keys.session_token.unwrap().reveal(), "t");
        assert_eq!(read_with(&KEYS, "").unwrap(), Credentials::access_key("k", "s"));
        assert_eq!(
            read_with(&KEYS[..1], "/home/j/.aws/config"),
            Err(EnvironmentError::NoCredentials("AWS_SECRET_ACCESS_KEY"))
        );
    }

    #[test]
    fn profile_and_workload_identity_are_fallbacks() {
        let identity = [("AWS_ROLE_ARN", "arn:aws:iam::1:role/r"), ("AWS_WEB_IDENTITY_TOKEN_FILE", "/t")];
        let named = [&identity[..], &[("AWS_PROFILE", "audit")]].concat();
        assert_eq!(read_with(&named, "").unwrap(), Credentials::Profile(Some("audit".into())));
        assert!(matches!(read_with(&identity, "").unwrap(), Credentials::WebIdentity { .. }));
        let home = [("HOME", "/home/j")];
        for file in ["/home/j/.aws/credentials", "/home/j/.aws/config"] {
            assert_eq!(read_with(&home, file).unwrap(), Credentials::Profile(None), "{file}");
        }
        let elsewhere = [("HOME", "/home/j"), ("AWS_CONFIG_FILE", "/etc/aws")];
        assert_eq!(read_with(&elsewhere, "/etc/aws").unwrap(), Credentials::Profile(None));
        for file in ["/home/j/.aws/config", ""] {
            assert_eq!(
                read_with(&elsewhere, file),
                Err(EnvironmentError::NoCredentials("AWS_ACCESS_KEY_ID"))
            );
        }
    }

    #[test]
    fn recorder_variables_accept_keys_only() {
        let given = [("AWS_PROFILE", "p"), ("TOEZICHT_RECORDER_ACCESS_KEY_ID", "r")];
        assert!(
            has_keys(&RECORDER_VARIABLES, variable(&given)) && !has_keys(&AWS_VARIABLES, variable(&given))
        );
        let result = read_credentials(&RECORDER_VARIABLES, variable(&given), |_| true);
        assert_eq!(result, Err(EnvironmentError::NoCredentials("TOEZICHT_RECORDER_SECRET_ACCESS_KEY")));
    }

    #[test]
    fn proxy_variables_follow_curl() {
        let given = [
            ("https_proxy", "proxy.example.nl:3128"),
            ("HTTPS_PROXY", "http://another"),
            ("HTTP_PROXY", "http://j:%2Fa%3Ab@10.1.1.1/"),
            ("NO_PROXY", ".example.nl,10.0.0.0/8"),
        ];
        let https = read_proxy(false, variable(&given)).unwrap().unwrap();
        assert_eq!((https.url.as_str(), https.login), ("http://proxy.example.nl:3128", None));
        assert_eq!(https.no_proxy, ".example.nl,10.0.0.0/8");
        let http = read_proxy(true, variable(&given)).unwrap().unwrap();
        let login = http.login.unwrap();
        assert_eq!((http.url.as_str(), login.username.as_str()), ("http://10.1.1.1", "j"));
        assert_eq!(login.password.reveal(), "/a:b");
        assert_eq!(read_proxy(false, variable(&[("HTTPS_PROXY", "")])), Ok(None));
        let message =
            read_proxy(false, variable(&[("HTTPS_PROXY", "http://j:hunter2@")])).unwrap_err().to_string();
        assert!(message.starts_with("HTTPS_PROXY: ") && !message.contains("hunter2"), "{message}");
    }
}
