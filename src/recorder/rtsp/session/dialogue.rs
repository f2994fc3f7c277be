//! Requests to the camera, one at a time, and their answers. It adds sequence number, session and login to a request, and
//! repeats one that the camera refused for want of a login.

use sha2::{Digest as _, Sha256};

use super::super::auth::{AfterUnauthorized, Authenticator, KnownChallenge, LoginProof, LoginRefusal, Retry};
use super::super::hidden_text::HiddenText;
use super::super::message::{Method, Response, write_request};
use super::super::oddity::{Oddity, OddityCounts};
use super::super::rtsp_url::{RtspOrigin, RtspUrl};
use super::super::text;
use super::error::SessionError;
use super::interface::{AttemptRandom, SessionOutput};

const USER_AGENT: &str = concat!("toezicht/", env!("CARGO_PKG_VERSION"));

/// Request without the headers that [`Dialogue`] adds.
#[derive(Clone, Debug)]
pub struct Question {
    pub method: Method,
    pub url: RtspUrl,
    pub headers: Vec<(&'static str, String)>,
}

impl Question {
    pub fn new(method: Method, url: RtspUrl) -> Self {
        Self { method, url, headers: Vec::new() }
    }

    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// Meaning of an answer.
#[derive(Debug)]
pub enum Reply {
    /// It answers nothing, or is provisional.
    Nothing,
    /// The request is to be sent again, with a login or another one.
    Repeat(Question),
    /// The same, on a new connection.
    NewConnection {
        method: Method,
    },
    Refused {
        method: Method,
        refusal: LoginRefusal,
    },
    Answer {
        method: Method,
        response: Response,
        proof: Option<LoginProof>,
    },
}

#[derive(Debug)]
struct Outstanding {
    question: Question,
    cseq: u32,
    /// In microseconds of the monotonic clock.
    sent_at: i64,
}

/// The requests of one attempt, over all its connections.
#[derive(Debug)]
pub struct Dialogue {
    login: Authenticator,
    /// No further login is sent: the camera refused one while it played.
    is_login_withheld: bool,
    random: AttemptRandom,
    nonces: u64,
    cseq: u32,
    session: Option<HiddenText>,
    outstanding: Option<Outstanding>,
    /// Request whose answer may still come.
    abandoned: Option<u32>,
    slowest_answer_us: i64,
}

impl Dialogue {
    pub fn new(login: Authenticator, random: AttemptRandom) -> Self {
        Self {
            login,
            is_login_withheld: false,
            random,
            nonces: 0,
            cseq: 0,
            session: None,
            outstanding: None,
            abandoned: None,
            slowest_answer_us: 0,
        }
    }

    /// Begins a connection.
    pub fn on_connected(&mut self, origin: RtspOrigin) {
        self.login.on_connected(origin);
        self.session = None;
        self.outstanding = None;
        self.abandoned = None;
    }

    /// Notes the session, which all further requests name.
    pub fn on_session(&mut self, id: Option<HiddenText>) {
        self.session = id;
    }

    pub fn session(&self) -> Option<&HiddenText> {
        self.session.as_ref()
    }

    /// Sends a request. One that has no answer yet is abandoned.
    pub fn send(
        &mut self,
        question: Question,
        now_us: i64,
        out: &mut Vec<SessionOutput>,
    ) -> Result<(), SessionError> {
        self.abandon();
        self.cseq = self.cseq.wrapping_add(1);
        let Question { method, url, headers } = &question;
        let unwritable = SessionError::Unwritable { method: *method };
        let cnonce = self.next_nonce();
        let authorization = if self.is_login_withheld {
            None
        } else {
            self.login.authorization(*method, url.as_str(), &cnonce)
        };
        let session = self.session.as_ref().map(|id| text::encode(id.as_str()));
        let mut all: Vec<(&str, &[u8])> = vec![("User-Agent", USER_AGENT.as_bytes())];
        all.extend(authorization.as_ref().map(|value| ("Authorization", value.as_bytes())));
        all.extend(session.as_ref().map(|id| ("Session", id.as_slice())));
        all.extend(headers.iter().map(|(name, value)| (*name, value.as_bytes())));
        let mut bytes = Vec::new();
        write_request(&mut bytes, *method, url.as_str(), self.cseq, &all).map_err(|_| unwritable)?;
        if *method == Method::Describe {
            out.push(SessionOutput::ExpectDescription);
        }
        out.push(SessionOutput::Send(bytes));
        self.outstanding = Some(Outstanding { question, cseq: self.cseq, sent_at: now_us });
        Ok(())
    }

    /// Returns a client nonce that no other request has.
    fn next_nonce(&mut self) -> String {
        self.nonces = self.nonces.wrapping_add(1);
        let hash =
            Sha256::new().chain_update(self.random.0).chain_update(self.nonces.to_be_bytes()).finalize();
        hex::encode(hash.get(..16).unwrap_or_default())
    }

    /// Waits no longer for an answer.
    pub fn abandon(&mut self) {
        self.abandoned = self.outstanding.take().map(|outstanding| outstanding.cseq).or(self.abandoned);
    }

    /// Sends no further login on this connection.
    pub fn withhold_login(&mut self) {
        self.is_login_withheld = true;
    }

    /// Returns the request under way, and the time in microseconds when it was sent.
    pub fn outstanding(&self) -> Option<(Method, i64)> {
        self.outstanding.as_ref().map(|outstanding| (outstanding.question.method, outstanding.sent_at))
    }

    /// Reads an answer. It belongs to the request under way, whatever its `CSeq`, unless that is the one of the abandoned
    /// request.
    pub fn on_response(&mut self, response: Response, now_us: i64, odd: &mut OddityCounts) -> Reply {
        // 100 Continue: another answer follows.
        if response.status < 200 {
            return Reply::Nothing;
        }
        let sequence = response.headers.get("CSeq").and_then(|value| value.parse::<u32>().ok());
        let is_late = sequence.is_some() && sequence == self.abandoned;
        let Some(outstanding) = self.outstanding.take_if(|_| !is_late) else {
            self.abandoned = None;
            odd.note(if is_late { Oddity::LateAnswer } else { Oddity::UnexpectedAnswer });
            return Reply::Nothing;
        };
        response.note_sequence(outstanding.cseq, odd);
        let waited_us = now_us.saturating_sub(outstanding.sent_at);
        self.slowest_answer_us = self.slowest_answer_us.max(waited_us);
        let method = outstanding.question.method;
        if response.status != 401 {
            let proof = self.login.on_answered(method, response.status);
            return Reply::Answer { method, response, proof };
        }
        if self.is_login_withheld {
            return Reply::Answer { method, response, proof: None };
        }
        let connection = if response.headers.closes_connection() {
            AfterUnauthorized::ClosesConnection
        } else {
            AfterUnauthorized::KeepsConnection
        };
        let challenges = response.headers.get_all_bytes("WWW-Authenticate");
        match self.login.on_unauthorized(method, challenges, connection, odd) {
            Ok(Retry::SameConnection) => Reply::Repeat(outstanding.question),
            Ok(Retry::NewConnection) => Reply::NewConnection { method },
            Err(refusal) => Reply::Refused { method, refusal },
        }
    }

    /// Reports that the camera closed the connection before the session played. Returns whether a new connection may
    /// help.
    pub fn on_closed(&mut self, odd: &mut OddityCounts) -> Result<bool, LoginRefusal> {
        Ok(self.login.on_closed(odd)?.is_some())
    }

    /// Returns the longest wait for an answer in microseconds.
    pub fn slowest_answer_us(&self) -> i64 {
        self.slowest_answer_us
    }

    /// Returns the challenge for the next attempt.
    pub fn into_known_challenge(self) -> Option<KnownChallenge> {
        self.login.into_known_challenge()
    }
}
