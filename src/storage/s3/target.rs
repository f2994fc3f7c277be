//! Validation of a storage target before any connection.

/// Required form of a proxy URL.
pub(crate) const PROXY_FORM: &str = "write http://host[:port], without user, path or query";

/// Invalid storage target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// The endpoint is not `http(s)://host[:port]`.
    #[error("spec.storage.endpoint must be http(s)://host[:port], without user, path or query")]
    Endpoint,
    /// S3 does not allow the bucket's name, or it would redirect requests.
    #[error("spec.storage.bucket must be 3 to 63 of a-z, 0-9, '.' and '-', and name an ordinary bucket")]
    Bucket,
    #[error("spec.storage.region must be 1 to 64 of A-Z, a-z, 0-9, '-' and '_'")]
    Region,
    /// The private CA is not a usable certificate.
    #[error(
        "spec.storage.caRef must hold PEM certificates of a certificate authority: correct ca.crt of that Secret"
    )]
    Ca,
    /// The credentials are empty or too long, or contain characters that a header cannot have.
    #[error(
        "the Secret of spec.storage: accessKeyId, secretAccessKey and sessionToken must be 1 to 16384 printable ASCII characters: \
         correct the key"
    )]
    Credentials,
    /// The proxy is not `http://host[:port]`.
    #[error("proxy: {PROXY_FORM}")]
    Proxy,
}

/// Returns whether an endpoint uses TLS.
pub(crate) fn is_tls(endpoint: &str) -> Result<bool, TargetError> {
    let url = url::Url::parse(endpoint).map_err(|_| TargetError::Endpoint)?;
    match url.scheme() {
        "https" if is_bare_origin(&url) => Ok(true),
        "http" if is_bare_origin(&url) => Ok(false),
        _ => Err(TargetError::Endpoint),
    }
}

/// Returns whether the URL has only a scheme, a host and a port.
pub(crate) fn is_bare_origin(url: &url::Url) -> bool {
    url.username().is_empty()
        && url.password().is_none()
        && url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none()
        && url.host_str().is_some_and(|host| !host.is_empty())
}

/// Returns whether a name is that of an ordinary bucket.
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

/// Returns whether a name may be part of a signature's scope.
pub(crate) fn is_valid_region(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}
