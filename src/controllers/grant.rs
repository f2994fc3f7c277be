//! Grants: the stores that Sites may use, as the cluster's administrators decide.
//!
//! A namespace is a tenant, and its authors are not the cluster's administrators. The operator runs inside the cluster's
//! network, so a Site's endpoint could direct it to a metadata address, the API server or another tenant's store. The
//! operator connects only if a single grant allows the namespace, the endpoint, the bucket and every exception. It decides
//! this before any connection.

use serde::Deserialize;
use url::Url;

use crate::storage::s3::target::is_bare_origin;

/// Grant as the configuration file has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GrantSpec {
    /// Namespaces: names, or `*` for all.
    pub namespaces: Vec<String>,
    /// Origins (`https://host[:port]`), or `aws` for the endpoints of AWS.
    pub endpoints: Vec<String>,
    /// Buckets: names, or prefixes followed by `*`.
    pub buckets: Vec<String>,
    /// Whether an origin may be `http://`. Credentials are signed then, but recordings are not encrypted in transit.
    #[serde(default)]
    pub plain_http: bool,
    /// Roles for workload identity: ARNs, or prefixes followed by `*`. The operator sends service account tokens to the STS of
    /// these endpoints. Empty: no workload identity.
    #[serde(default)]
    pub roles: Vec<String>,
    /// Exceptions that a Site may use (article 9).
    #[serde(default)]
    pub exceptions: Vec<Exception>,
}

/// Deviation from the protocol that needs a decision (article 9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, strum::IntoStaticStr)]
pub enum Exception {
    /// The operator replaces the configuration of an existing bucket.
    TakeOver,
    /// Only the operator enforces retention: the store has no lifecycle rules.
    OperatorOnly,
    /// The store has no legal holds.
    AllowUnprotected,
}

/// All grants, valid.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants(Vec<Grant>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Grant {
    namespaces: Vec<Pattern>,
    endpoints: Vec<Endpoint>,
    buckets: Vec<Pattern>,
    plain_http: bool,
    roles: Vec<Pattern>,
    exceptions: Vec<Exception>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    Exact(String),
    Prefix(String),
}

/// Address of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// Scheme, host and port.
    Origin(url::Origin),
    /// AWS, in any region.
    Aws,
}

/// A text is no [`Endpoint`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    #[error("invalid; write http:// or https://, a host, and a port unless it is the default")]
    NotAnOrigin,
    #[error("remove user, path, query and fragment")]
    NotOnlyOrigin,
}

/// The grants cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrantsError {
    #[error("grants[{grant}].endpoints: {endpoint:?}: {error}")]
    Endpoint { grant: usize, endpoint: String, error: EndpointError },
    #[error("grants[{grant}].endpoints: {endpoint:?} is not encrypted: use https, or set plainHttp")]
    PlainHttp { grant: usize, endpoint: String },
    #[error(
        "grants: grants with roles have more than one endpoint, and one store could use a service account token at another: name \
         roles for one endpoint only"
    )]
    MultipleTokenEndpoints,
    #[error("grants[{grant}]: {pattern:?} is neither a name nor a prefix followed by *")]
    Pattern { grant: usize, pattern: String },
    #[error("grants[{grant}]: namespaces, endpoints and buckets each need at least one entry")]
    Empty { grant: usize },
}

/// Store and exceptions that a Site uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantRequest<'a> {
    pub namespace: &'a str,
    pub endpoint: &'a Endpoint,
    pub bucket: &'a str,
    /// Roles for workload identity.
    pub roles: &'a [&'a str],
    pub exceptions: &'a [Exception],
}

/// No grant allows a request. The message is for the Site's author and names no other tenant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    #[error(
        "spec.storage: no grant allows this namespace to use this endpoint and bucket; ask the cluster's administrators for a grant of all \
         three"
    )]
    NotGranted,
    #[error(
        "spec.storage: the grant for this bucket does not allow {name}; ask the cluster's administrators to add {name} to its exceptions",
        name = <&str>::from(.0)
    )]
    Exception(Exception),
    #[error(
        "spec.storage.endpoint: the grant for this bucket does not allow http://; use https://, or ask the cluster's administrators \
         to set plainHttp"
    )]
    PlainHttp,
    #[error(
        "spec.storage: the grant for this bucket does not allow workload identity as {0}; set credentialsRef, or ask the cluster's \
         administrators to add the role to the grant's roles"
    )]
    Role(String),
}

impl Grants {
    /// Validates the grants of the configuration file.
    pub fn new(specs: Vec<GrantSpec>) -> Result<Self, GrantsError> {
        let all = specs.into_iter().enumerate();
        let all: Vec<Grant> = all.map(|(grant, spec)| Grant::new(grant, spec)).collect::<Result<_, _>>()?;
        // All Sites share one audience, so a store that receives a token could present it to another store.
        let with_roles = all.iter().filter(|grant| !grant.roles.is_empty());
        let mut endpoints = with_roles.flat_map(|grant| &grant.endpoints);
        let first = endpoints.next();
        if endpoints.any(|other| Some(other) != first) {
            return Err(GrantsError::MultipleTokenEndpoints);
        }
        Ok(Self(all))
    }

    /// Checks whether a single grant allows all of `request`.
    pub fn check(&self, request: &GrantRequest<'_>) -> Result<(), Denied> {
        let mut nearest = Denied::NotGranted;
        // Only grants for this target explain a denial. Others would tell an author about another tenant's grants.
        for grant in self.0.iter().filter(|grant| grant.matches_target(request)) {
            match grant.allows(request) {
                Ok(()) => return Ok(()),
                Err(denied) => nearest = denied,
            }
        }
        Err(nearest)
    }
}

impl Grant {
    fn new(grant: usize, spec: GrantSpec) -> Result<Self, GrantsError> {
        if spec.namespaces.is_empty() || spec.endpoints.is_empty() || spec.buckets.is_empty() {
            return Err(GrantsError::Empty { grant });
        }
        let endpoint = |text: String| match Endpoint::parse_granted(&text) {
            Ok(endpoint) if endpoint.is_plain_http() && !spec.plain_http => {
                Err(GrantsError::PlainHttp { grant, endpoint: text })
            }
            Ok(endpoint) => Ok(endpoint),
            Err(error) => Err(GrantsError::Endpoint { grant, endpoint: text, error }),
        };
        let patterns = |texts: Vec<String>| {
            let parse =
                |text: String| Pattern::parse(&text).ok_or(GrantsError::Pattern { grant, pattern: text });
            texts.into_iter().map(parse).collect::<Result<Vec<_>, _>>()
        };
        Ok(Self {
            endpoints: spec.endpoints.into_iter().map(endpoint).collect::<Result<_, _>>()?,
            namespaces: patterns(spec.namespaces)?,
            buckets: patterns(spec.buckets)?,
            plain_http: spec.plain_http,
            roles: patterns(spec.roles)?,
            exceptions: spec.exceptions,
        })
    }

    fn matches_target(&self, request: &GrantRequest<'_>) -> bool {
        self.namespaces.iter().any(|pattern| pattern.matches(request.namespace))
            && self.buckets.iter().any(|pattern| pattern.matches(request.bucket))
            && self.endpoints.contains(request.endpoint)
    }

    fn allows(&self, request: &GrantRequest<'_>) -> Result<(), Denied> {
        if request.endpoint.is_plain_http() && !self.plain_http {
            return Err(Denied::PlainHttp);
        }
        let is_granted = |role: &&str| self.roles.iter().any(|pattern| pattern.matches(role));
        if let Some(role) = request.roles.iter().find(|role| !is_granted(role)) {
            return Err(Denied::Role((*role).to_owned()));
        }
        match request.exceptions.iter().find(|exception| !self.exceptions.contains(exception)) {
            Some(exception) => Err(Denied::Exception(*exception)),
            None => Ok(()),
        }
    }
}

impl Pattern {
    fn parse(text: &str) -> Option<Self> {
        if text.is_empty() {
            return None;
        }
        match text.strip_suffix('*') {
            Some(prefix) if !prefix.contains('*') => Some(Self::Prefix(prefix.to_owned())),
            None if !text.contains('*') => Some(Self::Exact(text.to_owned())),
            _ => None,
        }
    }

    fn matches(&self, name: &str) -> bool {
        match self {
            Self::Exact(text) => name == text,
            Self::Prefix(text) => name.starts_with(text.as_str()),
        }
    }
}

impl Endpoint {
    /// Parses a Site's endpoint; `None` is AWS.
    pub fn parse(text: Option<&str>) -> Result<Self, EndpointError> {
        let Some(text) = text else {
            return Ok(Self::Aws);
        };
        let url = Url::parse(text).map_err(|_| EndpointError::NotAnOrigin)?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
            return Err(EndpointError::NotAnOrigin);
        }
        // A URL parser drops tabs and newlines and reads a backslash as a slash. Such a text could pass this check and still
        // mean another host to another parser.
        let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\' && byte != b'@');
        if is_bare_origin(&url) && is_plain {
            Ok(Self::Origin(url.origin()))
        } else {
            Err(EndpointError::NotOnlyOrigin)
        }
    }

    fn parse_granted(text: &str) -> Result<Self, EndpointError> {
        Self::parse(Some(text).filter(|text| *text != "aws"))
    }

    pub fn is_plain_http(&self) -> bool {
        matches!(self, Self::Origin(url::Origin::Tuple(scheme, ..)) if scheme == "http")
    }

    /// Returns the origin as a URL; `None` for AWS.
    pub fn url(&self) -> Option<String> {
        match self {
            Self::Origin(origin) => Some(origin.ascii_serialization()),
            Self::Aws => None,
        }
    }
}

#[cfg(test)]
mod tests;
