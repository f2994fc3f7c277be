//! Login at a camera: answers the challenges of its 401 answers.
//!
//! A wrong login is expensive, because cameras lock addresses out. So each challenge is answered once, and a refusal says
//! whether the login was wrong. The password leaves in clear only if [`BasicPolicy`] allows it.

mod challenge;
mod digest;

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

pub use self::challenge::{Challenge, DigestChallenge, read_challenges};
pub use self::digest::{Algorithm, DigestInput, response};
use super::oddity::{Oddity, OddityCounts};
use crate::wire::Login;

/// Limit of new connections to the camera that one authenticator asks for.
const MAX_NEW_CONNECTIONS: u8 = 2;

/// Whether a basic challenge may be answered, which sends the password in clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BasicPolicy {
    Allowed,
    Forbidden,
}

impl BasicPolicy {
    /// Allows it over TLS, and where the Camera's `spec.stream.allowBasicAuth` does.
    pub const fn new(is_tls: bool, allow_basic_auth: bool) -> Self {
        if is_tls || allow_basic_auth { Self::Allowed } else { Self::Forbidden }
    }
}

/// State of the connection after a 401.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterUnauthorized {
    KeepsConnection,
    /// The answer says `Connection: close`, or the connection ended.
    ClosesConnection,
}

/// How to repeat the request of a 401.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    SameConnection,
    /// With the same [`Authenticator`], which knows the challenge.
    NewConnection,
}

/// Reason why a 401 cannot be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr, thiserror::Error)]
#[strum(serialize_all = "snake_case")]
pub enum LoginRefusal {
    #[error("the camera asks for a user and password (401), and none is configured")]
    NoLogin,
    /// The camera refused a login on a fresh challenge. Only this reason counts for [`super::lockout::Lockout`].
    #[error("the camera refused the user or password (401)")]
    WrongLogin,
    #[error(
        "the camera asks for the password in clear (basic authentication over rtsp://): use rtsps://, or set allowBasicAuth"
    )]
    BasicNotAllowed,
    #[error(
        "the camera offers no authentication that the recorder supports (401): enable digest with MD5 or SHA-256"
    )]
    NoSupportedScheme,
    #[error("the user name contains a control character, such as a line end: remove it")]
    UnusableUser,
}

/// Value of an `Authorization` header. It need not be UTF-8, because it repeats the camera's realm. It has no line ends.
#[derive(Clone, PartialEq, Eq)]
pub struct Authorization(Vec<u8>);

impl Authorization {
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authorization(…)")
    }
}

/// A challenge with the state of its nonce. A later attempt at the same camera continues with it, which saves the refusal of
/// the first request. Some cameras count that refusal as a wrong login.
#[derive(Clone, Debug)]
pub struct KnownChallenge {
    challenge: Challenge,
    /// Number of answers with this nonce.
    nonce_count: u32,
    /// Client nonce of the first answer. The key of a session algorithm contains it (RFC 2617 section 3.2.2.2).
    session_cnonce: Option<SessionNonce>,
}

#[derive(Clone)]
struct SessionNonce(String);

impl fmt::Debug for SessionNonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionNonce(…)")
    }
}

impl KnownChallenge {
    /// Returns the header for a request. The nonce count increases with each call.
    fn authorization(&mut self, login: &Login, method: &str, uri: &str, cnonce: &str) -> Authorization {
        let digest = match &self.challenge {
            Challenge::Basic => return basic(login),
            Challenge::Digest(digest) => digest,
        };
        self.nonce_count = self.nonce_count.saturating_add(1);
        let cnonce = if digest.algorithm.is_session() {
            &self.session_cnonce.get_or_insert_with(|| SessionNonce(cnonce.to_owned())).0
        } else {
            cnonce
        };
        let count = format!("{:08x}", self.nonce_count);
        let input = DigestInput {
            algorithm: digest.algorithm,
            username: &login.username,
            password: login.password.reveal(),
            realm: &digest.realm,
            nonce: &digest.nonce,
            method,
            uri,
            cnonce,
            nonce_count: digest.has_qop.then_some(count.as_str()),
        };
        let response = response(&input);
        let mut header = b"Digest ".to_vec();
        push_quoted(&mut header, "username=", login.username.as_bytes());
        push_quoted(&mut header, ", realm=", &digest.realm);
        push_quoted(&mut header, ", nonce=", &digest.nonce);
        push_quoted(&mut header, ", uri=", uri.as_bytes());
        push_quoted(&mut header, ", response=", response.as_bytes());
        if let Some(opaque) = &digest.opaque {
            push_quoted(&mut header, ", opaque=", opaque);
        }
        // Old firmware knows only the fields of RFC 2069. It needs no algorithm to see that MD5 was used. A camera that
        // wants another algorithm without qop takes the answer for MD5 if it does not name it.
        let is_rfc_2069 = !digest.has_qop && digest.algorithm == Algorithm::Md5;
        if let Some(name) = digest.algorithm_name.as_ref().filter(|_| !is_rfc_2069) {
            header.extend_from_slice(b", algorithm=");
            header.extend_from_slice(name.as_bytes());
        }
        if digest.has_qop {
            header.extend_from_slice(b", qop=auth, nc=");
            header.extend_from_slice(count.as_bytes());
        }
        if digest.has_qop || digest.algorithm.is_session() {
            push_quoted(&mut header, ", cnonce=", cnonce.as_bytes());
        }
        Authorization(header)
    }

    /// Returns whether the answer to the other challenge would repeat the answer to this one.
    fn has_same_answer_as(&self, other: &Challenge) -> bool {
        match (&self.challenge, other) {
            (Challenge::Basic, Challenge::Basic) => true,
            // The nonce count makes each answer different.
            (Challenge::Digest(known), Challenge::Digest(other)) => {
                !known.has_qop && DigestChallenge { is_stale: known.is_stale, ..other.clone() } == *known
            }
            _ => false,
        }
    }

    fn has_nonce_of(&self, other: &Challenge) -> bool {
        matches!((&self.challenge, other), (Challenge::Digest(known), Challenge::Digest(other)) if known.nonce == other.nonce)
    }
}

/// Credibility of the known challenge.
#[derive(Clone, Debug)]
enum Standing {
    /// The camera accepted a login on it, or an earlier attempt left it. Its nonce may have expired.
    Used,
    /// From a 401 to this method. A refusal on it means that the login is wrong.
    Fresh {
        method: String,
        /// Whether it replaced a nonce that the camera refused.
        is_renewal: bool,
    },
}

/// The login of one attempt at a camera. It serves the attempt's connections, one request at a time. It has no clock and
/// no source of randomness.
pub struct Authenticator {
    login: Option<Login>,
    basic: BasicPolicy,
    known: Option<(KnownChallenge, Standing)>,
    /// Whether the request under way has a login.
    has_sent_login: bool,
    new_connections: u8,
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Authenticator");
        debug
            .field("has_login", &self.login.is_some())
            .field("basic", &self.basic)
            .field("known", &self.known);
        debug.finish_non_exhaustive()
    }
}

impl Authenticator {
    /// Begins an attempt, with the challenge that an earlier attempt at the same camera left.
    pub fn new(login: Option<Login>, basic: BasicPolicy, kept: Option<KnownChallenge>) -> Self {
        let known = kept.map(|kept| (kept, Standing::Used));
        Self { login, basic, known, has_sent_login: false, new_connections: 0 }
    }

    /// Returns the `Authorization` header of a request, or `None` before a challenge. Call it once for each request that is
    /// sent, with the URI exactly as in the request line. The client nonce is random text of the caller. It must be new for
    /// each call, and have at most 64 bytes.
    pub fn authorization(&mut self, method: &str, uri: &str, cnonce: &str) -> Option<Authorization> {
        self.has_sent_login = false;
        let login = self.login.as_ref().filter(|login| is_sendable(&login.username))?;
        let (known, _) = self.known.as_mut()?;
        // The policy is asked here too: a challenge may have been kept from a connection with TLS.
        if known.challenge == Challenge::Basic && self.basic == BasicPolicy::Forbidden {
            return None;
        }
        self.has_sent_login = true;
        Some(known.authorization(login, method, uri, cnonce))
    }

    /// Reads a 401 to the request under way: the values of all its `WWW-Authenticate` headers. Returns how to repeat the
    /// request, which then has another [`Self::authorization`].
    ///
    /// A request is repeated once for its first challenge, and once for a new nonce.
    pub fn on_unauthorized<'a>(
        &mut self,
        method: &str,
        values: impl IntoIterator<Item = &'a [u8]>,
        connection: AfterUnauthorized,
        odd: &mut OddityCounts,
    ) -> Result<Retry, LoginRefusal> {
        let result = self.answer(method, &read_challenges(values, odd), connection, odd);
        if result.is_err() {
            // The next attempt asks for a new challenge.
            self.known = None;
        }
        self.has_sent_login = false;
        result
    }

    fn answer(
        &mut self,
        method: &str,
        offered: &[Challenge],
        connection: AfterUnauthorized,
        odd: &mut OddityCounts,
    ) -> Result<Retry, LoginRefusal> {
        let login = self.login.as_ref().ok_or(LoginRefusal::NoLogin)?;
        if !is_sendable(&login.username) {
            return Err(LoginRefusal::UnusableUser);
        }
        let refused = self.known.take().filter(|_| self.has_sent_login);
        let chosen = choose(offered, self.basic);
        let (nonce_count, is_renewal) = match (&refused, &chosen) {
            (None, _) => (0, false),
            // An answer to any further challenge would cost another attempt of the camera's lockout.
            (Some((known, Standing::Fresh { is_renewal, .. })), chosen) => {
                let renewed = chosen.as_ref().is_ok_and(|new| is_stale(new) && !known.has_nonce_of(new));
                if *is_renewal || !renewed {
                    return Err(LoginRefusal::WrongLogin);
                }
                (0, true)
            }
            (Some((known, Standing::Used)), Ok(new)) if known.has_same_answer_as(new) => {
                return Err(LoginRefusal::WrongLogin);
            }
            (Some((known, Standing::Used)), Ok(new)) if known.has_nonce_of(new) => (known.nonce_count, true),
            (Some((_, Standing::Used)), _) => (0, true),
        };
        let challenge = chosen?;
        let retry = match connection {
            AfterUnauthorized::KeepsConnection => Retry::SameConnection,
            AfterUnauthorized::ClosesConnection if self.count_new_connection(odd) => Retry::NewConnection,
            // It refused a login on each connection.
            AfterUnauthorized::ClosesConnection => return Err(LoginRefusal::WrongLogin),
        };
        let known = KnownChallenge { challenge, nonce_count, session_cnonce: None };
        self.known = Some((known, Standing::Fresh { method: method.to_owned(), is_renewal }));
        Ok(retry)
    }

    /// Reports an answer other than 401 to the request under way.
    pub fn on_accepted(&mut self, method: &str) {
        let Some((_, standing)) = self.known.as_mut().filter(|_| self.has_sent_login) else {
            return;
        };
        self.has_sent_login = false;
        // Many cameras answer OPTIONS whatever its login is. That proves nothing, unless OPTIONS was challenged.
        if matches!(standing, Standing::Fresh { method: challenged, .. } if method != "OPTIONS" || challenged == method)
        {
            *standing = Standing::Used;
        }
    }

    /// Reports that the camera ended the connection, unless a 401 has announced it. Returns [`Retry::NewConnection`] if no
    /// answer has come since a fresh challenge. Some cameras close after a 401 without a `Connection` header.
    pub fn on_closed(&mut self, odd: &mut OddityCounts) -> Option<Retry> {
        self.has_sent_login = false;
        let is_fresh = matches!(self.known, Some((_, Standing::Fresh { .. })));
        (is_fresh && self.count_new_connection(odd)).then_some(Retry::NewConnection)
    }

    fn count_new_connection(&mut self, odd: &mut OddityCounts) -> bool {
        odd.note(Oddity::ClosedAfterChallenge);
        let is_allowed = self.new_connections < MAX_NEW_CONNECTIONS;
        self.new_connections = self.new_connections.saturating_add(1);
        is_allowed
    }

    /// Returns the challenge for the next attempt at the same camera. Another camera would refuse its nonce, and may count
    /// that as a wrong login.
    pub fn into_known_challenge(self) -> Option<KnownChallenge> {
        self.known.map(|(known, _)| known)
    }
}

/// Returns the first digest challenge, or else a basic challenge if the policy allows it. A camera that offers both never
/// gets the password in clear.
fn choose(offered: &[Challenge], basic: BasicPolicy) -> Result<Challenge, LoginRefusal> {
    let digest = offered.iter().find(|challenge| matches!(challenge, Challenge::Digest(_)));
    match (digest, offered.first(), basic) {
        (Some(digest), ..) => Ok(digest.clone()),
        (None, Some(_), BasicPolicy::Allowed) => Ok(Challenge::Basic),
        (None, Some(_), BasicPolicy::Forbidden) => Err(LoginRefusal::BasicNotAllowed),
        (None, None, _) => Err(LoginRefusal::NoSupportedScheme),
    }
}

const fn is_stale(challenge: &Challenge) -> bool {
    matches!(challenge, Challenge::Digest(digest) if digest.is_stale)
}

fn is_sendable(username: &str) -> bool {
    !username.bytes().any(|byte| byte.is_ascii_control())
}

/// RFC 7617 section 2, in UTF-8.
fn basic(login: &Login) -> Authorization {
    let pair = format!("{}:{}", login.username, login.password.reveal());
    Authorization(format!("Basic {}", STANDARD.encode(pair)).into_bytes())
}

/// Appends a quoted string (RFC 7230 section 3.2.6). Bytes outside ASCII stay as they are: cameras compare bytes, and few
/// know the `username*` of RFC 7616. Control characters cannot be sent. They would end the header.
fn push_quoted(header: &mut Vec<u8>, name: &str, value: &[u8]) {
    header.extend_from_slice(name.as_bytes());
    header.push(b'"');
    for byte in value.iter().filter(|byte| !byte.is_ascii_control()) {
        if matches!(byte, b'"' | b'\\') {
            header.push(b'\\');
        }
        header.push(*byte);
    }
    header.push(b'"');
}

#[cfg(test)]
mod tests;
