//! Where Sites may store: grants of the cluster's administrators.
//!
//! A namespace is a tenant, and its authors are not the cluster's administrators. The operator stands in
//! the cluster's network, so a Site's endpoint could point it at a metadata address, the API server or
//! another tenant's store. It connects only where one grant allows namespace, endpoint, bucket and every
//! exception together; this is decided before any connection is made.

use serde::Deserialize;
use url::Url;

/// A grant as the configuration file writes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GrantSpec {
    /// Namespaces it is for: a name, or `*` for all.
    pub namespaces: Vec<String>,
    /// Origins (`https://host[:port]`), or `aws` for the endpoints of AWS.
    pub endpoints: Vec<String>,
    /// Buckets: a name, or a beginning followed by `*`.
    pub buckets: Vec<String>,
    /// Whether an origin may be `http://`, where credentials are signed but pictures are in the clear.
    #[serde(default)]
    pub plain_http: bool,
    /// Roles that may be assumed by workload identity, in place of keys in a Secret: an ARN, or a beginning followed by `*`. Service
    /// account tokens are then shown to the STS of these endpoints. None: workload identity is not used.
    #[serde(default)]
    pub roles: Vec<String>,
    /// Exceptions that may be decided on (article 9).
    #[serde(default)]
    pub exceptions: Vec<Exception>,
}

/// Something the protocol does not provide for, that somebody decided on (article 9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, strum::IntoStaticStr)]
pub enum Exception {
    /// A bucket's own configuration is replaced.
    TakeOver,
    OperatorOnly,
    /// The store keeps no legal holds.
    AllowUnprotected,
}

/// All grants, checked.
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

/// A name, or a beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    Exact(String),
    Prefix(String),
}

/// Where a store is: an origin, or AWS in some region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// Scheme, host and port; nothing else.
    Origin(url::Origin),
    Aws,
}

/// Why a text is no [`Endpoint`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// It is no URL of `http` or `https`.
    #[error("write http:// or https://, a host, and a port where it is not the usual one")]
    NotAnOrigin,
    /// It has more than an origin.
    #[error("leave out user, path, query and fragment")]
    NotOnlyOrigin,
}

/// Why the grants cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrantsError {
    #[error("grants[{grant}].endpoints: {endpoint:?}: {error}")]
    Endpoint { grant: usize, endpoint: String, error: EndpointError },
    /// An `http://` endpoint without `plainHttp`.
    #[error("grants[{grant}].endpoints: {endpoint:?} is not encrypted: use https, or set plainHttp")]
    PlainHttp { grant: usize, endpoint: String },
    /// Workload identity at more than one endpoint.
    #[error(
        "grants: the same service account token is shown to every endpoint of grants with roles, and one store could use it at \
         another: name roles for one endpoint alone"
    )]
    MultipleTokenEndpoints,
    /// A `*` that is not at the end, or an empty text.
    #[error("grants[{grant}]: {pattern:?} is not a name, nor a beginning followed by *")]
    Pattern { grant: usize, pattern: String },
    #[error("grants[{grant}]: namespaces, endpoints and buckets each need at least one entry")]
    Empty { grant: usize },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantRequest<'a> {
    pub namespace: &'a str,
    pub endpoint: &'a Endpoint,
    pub bucket: &'a str,
    /// The roles that it has assumed by workload identity.
    pub roles: &'a [&'a str],
    /// The exceptions it makes use of.
    pub exceptions: &'a [Exception],
}

/// Why no grant allows it; the message is for the Site's author and names no other tenant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// No grant for this namespace, endpoint and bucket.
    #[error(
        "spec.storage: no grant of this cluster allows this namespace to use this endpoint and bucket: ask its administrators"
    )]
    NotGranted,
    /// There is one, without the exception.
    #[error("spec.storage: the grant for this bucket does not allow {}: ask the cluster's administrators", <&str>::from(.0))]
    Exception(Exception),
    /// There is one, without plain HTTP.
    #[error("spec.storage.endpoint: the grant for this bucket does not allow http://: use https://")]
    PlainHttp,
    /// There is one, without the role.
    #[error(
        "spec.storage: the grant for this bucket does not allow workload identity (ambient) as {0}: set credentialsRef, or ask the \
         cluster's administrators to name the role in the grant's roles"
    )]
    Role(String),
}

impl Grants {
    /// Checks grants as they are written.
    pub fn new(specs: Vec<GrantSpec>) -> Result<Self, GrantsError> {
        let all = specs.into_iter().enumerate();
        let all: Vec<Grant> = all.map(|(grant, spec)| Grant::new(grant, spec)).collect::<Result<_, _>>()?;
        let with_roles = all.iter().filter(|grant| !grant.roles.is_empty());
        let mut endpoints = with_roles.flat_map(|grant| &grant.endpoints);
        let first = endpoints.next();
        if endpoints.any(|other| Some(other) != first) {
            return Err(GrantsError::MultipleTokenEndpoints);
        }
        Ok(Self(all))
    }

    /// Whether one grant allows all of `request`.
    pub fn check(&self, request: &GrantRequest<'_>) -> Result<(), Denied> {
        let mut nearest = Denied::NotGranted;
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
        let endpoint = |written: String| match Endpoint::parse_granted(&written) {
            Ok(endpoint) if endpoint.is_plain_http() && !spec.plain_http => {
                Err(GrantsError::PlainHttp { grant, endpoint: written })
            }
            Ok(endpoint) => Ok(endpoint),
            Err(error) => Err(GrantsError::Endpoint { grant, endpoint: written, error }),
        };
        let pattern = |written: String| {
            Pattern::parse(&written).ok_or(GrantsError::Pattern { grant, pattern: written })
        };
        Ok(Self {
            endpoints: spec.endpoints.into_iter().map(endpoint).collect::<Result<_, _>>()?,
            namespaces: spec.namespaces.into_iter().map(pattern).collect::<Result<_, _>>()?,
            buckets: spec.buckets.into_iter().map(pattern).collect::<Result<_, _>>()?,
            plain_http: spec.plain_http,
            roles: spec.roles.into_iter().map(pattern).collect::<Result<_, _>>()?,
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
        let is_named = |role: &&str| self.roles.iter().any(|pattern| pattern.matches(role));
        if let Some(role) = request.roles.iter().find(|role| !is_named(role)) {
            return Err(Denied::Role((*role).to_owned()));
        }
        match request.exceptions.iter().find(|exception| !self.exceptions.contains(exception)) {
            Some(exception) => Err(Denied::Exception(*exception)),
            None => Ok(()),
        }
    }
}

impl Pattern {
    fn parse(written: &str) -> Option<Self> {
        let (text, is_prefix) = written.strip_suffix('*').map_or((written, false), |text| (text, true));
        if text.contains('*') || written.is_empty() {
            return None;
        }
        Some(if is_prefix { Self::Prefix(text.to_owned()) } else { Self::Exact(text.to_owned()) })
    }

    fn matches(&self, name: &str) -> bool {
        match self {
            Self::Exact(text) => name == text,
            Self::Prefix(text) => name.starts_with(text.as_str()),
        }
    }
}

impl Endpoint {
    /// What a Site writes: an origin, or nothing for AWS.
    pub fn parse(written: Option<&str>) -> Result<Self, EndpointError> {
        let Some(written) = written else {
            return Ok(Self::Aws);
        };
        let url = Url::parse(written).map_err(|_| EndpointError::NotAnOrigin)?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
            return Err(EndpointError::NotAnOrigin);
        }
        let only_origin = url.username().is_empty()
            && url.password().is_none()
            && matches!(url.path(), "" | "/")
            && url.query().is_none()
            && url.fragment().is_none();
        // The URL standard drops tabs and newlines, and reads a backslash as a slash; what is written and
        // what is checked must be the same text.
        let is_plain = written.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\' && byte != b'@');
        if only_origin && is_plain {
            Ok(Self::Origin(url.origin()))
        } else {
            Err(EndpointError::NotOnlyOrigin)
        }
    }

    fn parse_granted(written: &str) -> Result<Self, EndpointError> {
        Self::parse(Some(written).filter(|written| *written != "aws"))
    }

    /// Whether it is `http://`.
    pub fn is_plain_http(&self) -> bool {
        matches!(self, Self::Origin(url::Origin::Tuple(scheme, ..)) if scheme == "http")
    }

    /// The origin as a URL; `None` for AWS.
    pub fn url(&self) -> Option<String> {
        match self {
            Self::Origin(origin) => Some(origin.ascii_serialization()),
            Self::Aws => None,
        }
    }
}

#[cfg(test)]
mod tests;
