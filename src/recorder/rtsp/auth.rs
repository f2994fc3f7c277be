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
use super::message::Method;
use super::oddity::{Oddity, OddityCounts};
use super::rtsp_url::RtspOrigin;
use super::text;
use crate::wire::Login;

/// Limit of new connections that one authenticator asks for because the camera closes with its challenges. PLAY resets it.
const MAX_NEW_CONNECTIONS: u8 = 2;
/// Limit of the logins that the camera refuses, and of those at which it closes, without one that it accepts.
const MAX_LOST_LOGINS: u8 = 2;

/// Where a basic challenge may be answered, which sends the password in clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BasicPolicy {
    /// The Camera's `spec.stream.allowBasicAuth` is set.
    Anywhere,
    OverTls,
}

impl BasicPolicy {
    const fn allows(self, origin: &RtspOrigin) -> bool {
        matches!(self, Self::Anywhere) || origin.is_tls
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
    /// With the same [`Authenticator`], which knows the challenge. [`Authenticator::on_connected`] comes first.
    NewConnection,
}

/// Reason why a challenge cannot be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr, thiserror::Error)]
#[strum(serialize_all = "snake_case")]
pub enum LoginRefusal {
    #[error("the camera asks for a user and password (401): set spec.stream.credentialsRef")]
    NoLogin,
    /// The camera refused a login on a fresh challenge, or closed at two. Only this reason counts for
    /// [`super::lockout::Lockout`].
    #[error("the camera refused the user or password (401)")]
    WrongLogin,
    #[error(
        "the camera asks for the password in clear (basic authentication over rtsp://): use rtsps://, or set spec.stream.allowBasicAuth"
    )]
    BasicNotAllowed,
    #[error(
        "the camera offers no authentication that the recorder supports (401): enable digest with MD5 or SHA-256"
    )]
    NoSupportedScheme,
    #[error("the user name contains a control character, such as a line end: remove it")]
    UnusableUser,
    /// This proves nothing about the login.
    #[error(
        "the camera closes each connection on which it asks for a login (401): restart or update the camera"
    )]
    ClosesConnections,
}

/// Evidence that the camera accepted a login. Only [`Authenticator::on_answered`] makes it.
#[derive(Debug)]
pub struct LoginProof(());

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
    /// Server that sent it.
    /// Server that the client speaks to. Its challenges are answered nowhere else.
    origin: RtspOrigin,
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
    fn authorization(&mut self, login: &Login, method: &str, uri: &[u8], cnonce: &str) -> Authorization {
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
        push_quoted(&mut header, ", uri=", uri);
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// An earlier attempt left it. Its nonce may have expired, and the login may have changed.
    Kept,
    /// From a 401 to this method. A refusal on it means that the login is wrong.
    Fresh(Method),
    /// The camera accepted a login on it in this attempt. Its nonce may have expired.
    Accepted,
}

/// The login of one attempt at a camera. It serves the attempt's connections, one request at a time. It has no clock and
/// no source of randomness.
pub struct Authenticator {
    login: Option<Login>,
    basic: BasicPolicy,
    /// Server of the current connection.
    origin: RtspOrigin,
    known: Option<(KnownChallenge, Standing)>,
    /// Whether the request under way has a login.
    has_sent_login: bool,
    /// Logins since the last accepted one that the camera refused.
    refused_logins: u8,
    /// Logins since the last accepted one at which the camera closed.
    closed_logins: u8,
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
    /// Begins an attempt at this server, with the challenge that an earlier attempt left.
    pub fn new(
        login: Option<Login>,
        basic: BasicPolicy,
        origin: RtspOrigin,
        kept: Option<KnownChallenge>,
    ) -> Self {
        let known = kept.map(|kept| (kept, Standing::Kept));
        let mut begun = Self {
            login,
            basic,
            origin,
            known,
            has_sent_login: false,
            refused_logins: 0,
            closed_logins: 0,
            new_connections: 0,
        };
        begun.forget_other_origins();
        begun
    }

    /// Reports a further connection, after a redirect perhaps to another server. Another server would refuse the known
    /// nonce, and must not get a password for which it did not ask.
    pub fn on_connected(&mut self, origin: RtspOrigin) {
        self.origin = origin;
        self.has_sent_login = false;
        self.forget_other_origins();
    }

    fn forget_other_origins(&mut self) {
        let origin = &self.origin;
        self.known.take_if(|(known, _)| known.origin != *origin);
    }

    /// Returns the `Authorization` header of a request, or `None` before a challenge. Call it once for each request that is
    /// sent, with the URI exactly as for [`super::message::write_request`]. The client nonce is random text of the caller.
    /// It must be new for each call, and have at most 64 bytes.
    pub fn authorization(&mut self, method: Method, uri: &str, cnonce: &str) -> Option<Authorization> {
        self.has_sent_login = false;
        let login = self.login.as_ref().filter(|login| text::is_sendable(login.username.as_bytes()))?;
        let (known, _) = self.known.as_mut()?;
        // The policy is asked here too: the Camera may have changed since the challenge.
        if known.challenge == Challenge::Basic && !self.basic.allows(&self.origin) {
            return None;
        }
        self.has_sent_login = true;
        Some(known.authorization(login, method.name(), &text::encode(uri), cnonce))
    }

    /// Reads a 401 to the request under way: the bytes of all its `WWW-Authenticate` headers. Returns how to repeat the
    /// request, which then has another [`Self::authorization`].
    ///
    /// A request is repeated once for its first challenge, and once for a new nonce.
    pub fn on_unauthorized(
        &mut self,
        method: Method,
        values: impl IntoIterator<Item = impl AsRef<[u8]>>,
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
        method: Method,
        offered: &[Challenge],
        connection: AfterUnauthorized,
        odd: &mut OddityCounts,
    ) -> Result<Retry, LoginRefusal> {
        let login = self.login.as_ref().ok_or(LoginRefusal::NoLogin)?;
        if !text::is_sendable(login.username.as_bytes()) {
            return Err(LoginRefusal::UnusableUser);
        }
        let chosen = choose(offered, self.basic.allows(&self.origin));
        let mut nonce_count = 0;
        if let Some((known, standing)) = self.known.take().filter(|_| self.has_sent_login) {
            let has_nonce = chosen.as_ref().is_ok_and(|new| known.has_nonce_of(new));
            let is_wrong = match standing {
                // An answer to any further challenge would cost another attempt of the camera's lockout.
                Standing::Fresh(_) => has_nonce || !chosen.as_ref().is_ok_and(is_stale),
                Standing::Kept | Standing::Accepted => {
                    chosen.as_ref().is_ok_and(|new| known.has_same_answer_as(new))
                }
            };
            if is_wrong || is_last(&mut self.refused_logins) {
                return Err(LoginRefusal::WrongLogin);
            }
            if has_nonce {
                nonce_count = known.nonce_count;
            }
        }
        let challenge = chosen?;
        let retry = match connection {
            AfterUnauthorized::KeepsConnection => Retry::SameConnection,
            AfterUnauthorized::ClosesConnection if self.count_new_connection(odd) => Retry::NewConnection,
            AfterUnauthorized::ClosesConnection => return Err(LoginRefusal::ClosesConnections),
        };
        let origin = self.origin.clone();
        let known = KnownChallenge { origin, challenge, nonce_count, session_cnonce: None };
        self.known = Some((known, Standing::Fresh(method)));
        Ok(retry)
    }

    /// Reports an answer other than 401 to the request under way. Returns the proof if it shows that the camera accepted
    /// the login.
    pub fn on_answered(&mut self, method: Method, status: u16) -> Option<LoginProof> {
        // A provisional answer is followed by another.
        if status < 200 {
            return None;
        }
        let has_sent_login = std::mem::take(&mut self.has_sent_login);
        let (_, standing) = self.known.as_mut().filter(|_| has_sent_login)?;
        // Many cameras answer OPTIONS with any login. That proves nothing, unless OPTIONS was challenged. A camera
        // that is busy, or has locked the address out, answers the others before it reads the login.
        let is_unchecked = method == Method::Options && *standing != Standing::Fresh(method);
        if is_unchecked || matches!(status, 401 | 403 | 453 | 500 | 503) {
            return None;
        }
        *standing = Standing::Accepted;
        (self.refused_logins, self.closed_logins) = (0, 0);
        // An earlier request may be accepted on each of endless connections.
        if method == Method::Play {
            self.new_connections = 0;
        }
        Some(LoginProof(()))
    }

    /// Reports that the camera ended the connection, unless a 401 has announced it. Returns [`Retry::NewConnection`] if the
    /// camera may accept the next login: some close after a 401 without a `Connection` header. Others close at a wrong
    /// login without a 401. So the second close is a refusal.
    pub fn on_closed(&mut self, odd: &mut OddityCounts) -> Result<Option<Retry>, LoginRefusal> {
        let has_sent_login = std::mem::take(&mut self.has_sent_login);
        let Some(standing) = self.known.as_ref().map(|(_, standing)| *standing) else {
            return Ok(None);
        };
        match (standing, has_sent_login) {
            (Standing::Accepted, _) | (Standing::Kept, false) => Ok(None),
            (Standing::Fresh(_), false) => Ok(self.count_new_connection(odd).then_some(Retry::NewConnection)),
            (Standing::Kept | Standing::Fresh(_), true) => {
                odd.note(Oddity::ClosedAfterChallenge);
                let is_wrong = is_last(&mut self.closed_logins);
                if is_wrong || standing == Standing::Kept {
                    self.known = None;
                }
                if is_wrong { Err(LoginRefusal::WrongLogin) } else { Ok(Some(Retry::NewConnection)) }
            }
        }
    }

    /// Returns whether the connection is allowed.
    fn count_new_connection(&mut self, odd: &mut OddityCounts) -> bool {
        odd.note(Oddity::ClosedAfterChallenge);
        let is_allowed = self.new_connections < MAX_NEW_CONNECTIONS;
        self.new_connections = self.new_connections.saturating_add(1);
        is_allowed
    }

    /// Returns the challenge for the next attempt at the same camera.
    pub fn into_known_challenge(self) -> Option<KnownChallenge> {
        self.known.map(|(known, _)| known)
    }
}

/// Counts a lost login. Returns whether the camera gets no other.
const fn is_last(lost_logins: &mut u8) -> bool {
    *lost_logins = lost_logins.saturating_add(1);
    *lost_logins >= MAX_LOST_LOGINS
}

/// Returns the first digest challenge, or else a basic challenge if that is allowed. A camera that offers both never
/// gets the password in clear.
fn choose(offered: &[Challenge], is_basic_allowed: bool) -> Result<Challenge, LoginRefusal> {
    let digest = offered.iter().find(|challenge| matches!(challenge, Challenge::Digest(_)));
    match (digest, offered.first()) {
        (Some(digest), _) => Ok(digest.clone()),
        (None, Some(_)) if is_basic_allowed => Ok(Challenge::Basic),
        (None, Some(_)) => Err(LoginRefusal::BasicNotAllowed),
        (None, None) => Err(LoginRefusal::NoSupportedScheme),
    }
}

const fn is_stale(challenge: &Challenge) -> bool {
    matches!(challenge, Challenge::Digest(digest) if digest.is_stale)
}

/// RFC 7617 section 2, in UTF-8.
fn basic(login: &Login) -> Authorization {
    let pair = format!("{}:{}", login.username, login.password.reveal());
    Authorization(format!("Basic {}", STANDARD.encode(pair)).into_bytes())
}

/// Appends a quoted string (RFC 7230 section 3.2.6). Bytes outside ASCII stay as they are: cameras compare bytes, and few
/// know the `username*` of RFC 7616. Bytes that cannot be sent are left out: they would end the header.
fn push_quoted(header: &mut Vec<u8>, name: &str, value: &[u8]) {
    header.extend_from_slice(name.as_bytes());
    header.push(b'"');
    for byte in value.iter().filter(|byte| text::is_sendable_byte(**byte)) {
        if matches!(byte, b'"' | b'\\') {
            header.push(b'\\');
        }
        header.push(*byte);
    }
    header.push(b'"');
}

#[cfg(test)]
mod tests;
