//! The requests from the connection to PLAY, and the state that they leave for the session.

use super::super::super::frame::Arrival;
use super::super::auth::Authenticator;
use super::super::auth::LoginRefusal;
use super::super::headers::{
    DEFAULT_SESSION_TIMEOUT, LowerTransport, RtpPair, SessionHeader, TransportHeader,
};
use super::super::hidden_text::HiddenText;
use super::super::learned::Learned;
use super::super::message::{Method, Response};
use super::super::oddity::{Oddity, OddityCounts};
use super::super::rtsp_url::RtspUrl;
use super::description::{Description, read_redirect};
use super::dialogue::{Dialogue, Question, Reply};
use super::error::{RedirectRefusal, SessionError};
use super::interface::{ConnectPlan, ReconnectReason, SessionIo, SessionOutput};
use super::playing::PlayStart;
use super::setup::{self, Routes, TransportChoice};

/// Number of redirects that one attempt follows.
const MAX_REDIRECTS: u8 = 3;

/// Result of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// A request is under way.
    Waits,
    /// [`Negotiation::on_udp_bound`] follows.
    Binds,
    /// The camera answered PLAY.
    Plays,
    /// [`Negotiation::begin`] follows, on a new connection.
    Reconnects(ReconnectReason),
}

/// Answer to SETUP.
#[derive(Clone, Copy, Debug)]
struct SetUp {
    timeout_us: i64,
    /// Ports of the camera over UDP.
    peer: Option<RtpPair<u16>>,
}

/// What an attempt does once.
#[derive(Clone, Copy, Debug, Default)]
struct Done {
    has_asked_options: bool,
    has_dropped_range: bool,
    has_accepted_login: bool,
}

/// Negotiation of one attempt, over all its connections.
#[derive(Debug)]
pub struct Negotiation {
    plan: ConnectPlan,
    dialogue: Dialogue,
    /// URL of DESCRIBE, after redirects.
    url: RtspUrl,
    redirects: u8,
    done: Done,
    description: Option<Description>,
    transports: TransportChoice,
    transport: LowerTransport,
    routes: Routes,
    setup: Option<SetUp>,
    /// Methods that the answer to OPTIONS names.
    public: Option<HiddenText>,
    /// A packet came since PLAY was sent.
    has_packet: bool,
}

impl Negotiation {
    pub fn new(plan: ConnectPlan, learned: &Learned) -> Self {
        let origin = plan.url.origin().clone();
        let challenge = learned.challenge().cloned();
        let login = Authenticator::new(plan.login.clone(), plan.basic, origin, challenge);
        Self {
            dialogue: Dialogue::new(login, plan.random.clone()),
            url: plan.url.clone(),
            redirects: 0,
            done: Done::default(),
            description: None,
            transports: TransportChoice::new(plan.transport, learned.transport()),
            transport: LowerTransport::Tcp,
            routes: Routes::default(),
            setup: None,
            public: None,
            has_packet: false,
            plan,
        }
    }

    /// Begins on a new connection.
    pub fn begin(&mut self, io: &mut SessionIo<'_>) -> Result<Progress, SessionError> {
        self.dialogue.on_connected(self.url.origin().clone());
        self.setup = None;
        self.routes = Routes::default();
        self.send_describe(io)
    }

    /// Returns the dialogue, for requests while it plays.
    pub fn dialogue(&mut self) -> &mut Dialogue {
        &mut self.dialogue
    }

    pub fn into_dialogue(self) -> Dialogue {
        self.dialogue
    }

    /// Returns the request under way, and the time in microseconds when it was sent.
    pub fn outstanding(&self) -> Option<(Method, i64)> {
        self.dialogue.outstanding()
    }

    /// Returns the URL of the connection.
    pub fn url(&self) -> &RtspUrl {
        &self.url
    }

    pub fn routes(&self) -> &Routes {
        &self.routes
    }

    /// Returns the transport that was asked for last.
    pub fn transport(&self) -> LowerTransport {
        self.transport
    }

    pub fn is_old_live555(&self) -> bool {
        self.description.as_ref().is_some_and(|description| description.is_old_live555)
    }

    /// Returns whether the camera has a session of ours.
    pub fn is_set_up(&self) -> bool {
        self.setup.is_some()
    }

    /// Notes that the camera has ended the session. Returns whether there was one.
    pub fn drop_session(&mut self) -> bool {
        self.setup.take().is_some()
    }

    /// Notes a packet of the track before the answer to PLAY.
    pub fn on_packet(&mut self) {
        self.has_packet = true;
    }

    /// Returns whether packets have come since PLAY was sent.
    pub fn has_packet(&self) -> bool {
        self.has_packet
    }

    /// Excludes UDP. Returns whether another transport is left.
    pub fn refuse_udp(&mut self) -> bool {
        self.transports.refuse(LowerTransport::Udp);
        self.transports.current(self.is_tls()).is_some()
    }

    /// Returns what the session plays with, and the methods that the camera named.
    pub fn play_start(&self, now_us: i64) -> Option<(PlayStart, Option<&str>)> {
        let SetUp { timeout_us, peer } = self.setup?;
        let start =
            PlayStart { transport: self.transport, timeout_us, peer, has_packet: self.has_packet, now_us };
        Some((start, self.public.as_ref().map(HiddenText::as_str)))
    }

    /// Sends a request for the session.
    pub fn send_in_session(
        &mut self,
        method: Method,
        at: Arrival,
        out: &mut Vec<SessionOutput>,
    ) -> Result<(), SessionError> {
        let Some(question) = self.question(method) else { return Ok(()) };
        self.dialogue.send(question, at.monotonic_us, out)
    }

    /// Reads an answer.
    pub fn on_reply(&mut self, reply: Reply, io: &mut SessionIo<'_>) -> Result<Progress, SessionError> {
        match reply {
            Reply::Nothing => Ok(Progress::Waits),
            Reply::Repeat(question) => self.send(question, io),
            Reply::NewConnection { .. } => Ok(Progress::Reconnects(ReconnectReason::Login)),
            Reply::Refused { method, refusal } => Err(SessionError::Login { method, refusal }),
            Reply::Answer { method, response, proof } => {
                let is_first = |_: &_| !std::mem::replace(&mut self.done.has_accepted_login, true);
                io.out.extend(proof.filter(is_first).map(SessionOutput::LoginAccepted));
                self.on_answer(method, &response, io)
            }
        }
    }

    /// Reports that the camera closed the connection.
    pub fn on_closed(&mut self, odd: &mut OddityCounts) -> Result<Progress, SessionError> {
        let method = self.outstanding().map_or(Method::Setup, |(method, _)| method);
        let refused = |refusal: LoginRefusal| SessionError::Login { method, refusal };
        if self.dialogue.on_closed(odd).map_err(refused)? {
            return Ok(Progress::Reconnects(ReconnectReason::Login));
        }
        Err(SessionError::Closed { method })
    }

    fn send_describe(&mut self, io: &mut SessionIo<'_>) -> Result<Progress, SessionError> {
        self.send(Question::new(Method::Describe, self.url.clone()).with("Accept", "application/sdp"), io)
    }

    fn follow(&mut self, response: &Response, io: &mut SessionIo<'_>) -> Result<Progress, SessionError> {
        let refused = |refusal| SessionError::Redirect { code: response.status, refusal };
        if self.redirects >= MAX_REDIRECTS {
            return Err(refused(RedirectRefusal::TooMany));
        }
        self.redirects = self.redirects.saturating_add(1);
        let url = read_redirect(response, &self.url, io.odd).map_err(refused)?;
        let is_same_server = url.origin() == self.url.origin() && !response.headers.closes_connection();
        self.url = url;
        if is_same_server {
            return self.send_describe(io);
        }
        Ok(Progress::Reconnects(ReconnectReason::Redirect))
    }

    /// Asks for the track over the next transport. `exhausted` is the error if none is left.
    fn set_up(&mut self, exhausted: SessionError, io: &mut SessionIo<'_>) -> Result<Progress, SessionError> {
        let transport = self.transports.current(self.is_tls()).ok_or(exhausted)?;
        let Some(description) = &self.description else { return Ok(Progress::Waits) };
        self.transport = transport;
        io.media.begin(&description.track, transport);
        if transport == LowerTransport::Udp {
            self.routes = Routes::default();
            io.out.push(SessionOutput::BindUdp);
            return Ok(Progress::Binds);
        }
        self.routes = Routes::asked();
        let setup = Question::new(Method::Setup, description.track_url.clone());
        self.send(setup.with("Transport", setup::tcp_header()), io)
    }

    /// Asks for the track on these ports, or over TCP if there are none.
    pub fn on_udp_bound(
        &mut self,
        ports: Option<RtpPair<u16>>,
        io: &mut SessionIo<'_>,
    ) -> Result<Progress, SessionError> {
        let Some(ports) = ports else {
            self.transports.refuse(LowerTransport::Udp);
            return self.set_up(SessionError::NoPorts, io);
        };
        let Some(description) = &self.description else { return Ok(Progress::Waits) };
        let setup = Question::new(Method::Setup, description.track_url.clone());
        self.send(setup.with("Transport", setup::udp_header(ports)), io)
    }

    fn on_set_up(&mut self, response: &Response, io: &mut SessionIo<'_>) -> Result<Progress, SessionError> {
        let transport = response.headers.get("Transport").unwrap_or_default();
        let transport = TransportHeader::read(transport, io.odd);
        let timeout_us = self.adopt_session(response, io.odd);
        let is_udp = self.transport == LowerTransport::Udp;
        let peer = transport.server_ports.filter(|_| is_udp);
        if !is_udp {
            self.routes = Routes::answered(&transport);
        }
        io.out.extend(peer.map(|peer| SessionOutput::PunchUdp { peer }));
        self.setup = Some(SetUp { timeout_us, peer });
        self.send_play(io)
    }

    /// Takes the session of an answer to SETUP. Returns its timeout in microseconds.
    pub fn adopt_session(&mut self, response: &Response, odd: &mut OddityCounts) -> i64 {
        let session = response.headers.get("Session").and_then(|value| SessionHeader::read(value, odd));
        if session.is_none() {
            odd.note(Oddity::MissingSession);
        }
        let timeout = session.as_ref().map_or(DEFAULT_SESSION_TIMEOUT, |session| session.timeout);
        self.dialogue.on_session(session.map(|session| session.id));
        i64::try_from(timeout.as_micros()).unwrap_or(i64::MAX)
    }

    fn send_play(&mut self, io: &mut SessionIo<'_>) -> Result<Progress, SessionError> {
        self.has_packet = false;
        let Some(play) = self.question(Method::Play) else { return Ok(Progress::Waits) };
        let has_range = !self.done.has_dropped_range;
        self.send(if has_range { play.with("Range", "npt=0.000-") } else { play }, io)
    }

    /// Returns a request for the session.
    fn question(&self, method: Method) -> Option<Question> {
        Some(Question::new(method, self.description.as_ref()?.session_url.clone()))
    }

    fn on_answer(
        &mut self,
        method: Method,
        response: &Response,
        io: &mut SessionIo<'_>,
    ) -> Result<Progress, SessionError> {
        let code = response.status;
        match (method, code) {
            (Method::Options, _) => {
                self.public = response.headers.get("Public").map(HiddenText::new);
                self.send_describe(io)
            }
            (Method::Describe, 301 | 302 | 303 | 307 | 308) => self.follow(response, io),
            // Some servers want OPTIONS first.
            (Method::Describe, 400 | 455) if !self.done.has_asked_options => {
                self.done.has_asked_options = true;
                self.send(Question::new(Method::Options, self.url.clone()), io)
            }
            (Method::Setup, 406 | 461) => {
                self.transports.refuse(self.transport);
                let refused = self.transports.refused(self.transport, self.is_tls());
                self.set_up(SessionError::Transport { code, refused }, io)
            }
            (Method::Play, 457) if !self.done.has_dropped_range => {
                self.done.has_dropped_range = true;
                self.send_play(io)
            }
            (_, code) if !response.is_success() => Err(SessionError::Status { method, code }),
            (Method::Describe, _) => {
                self.description = Some(Description::read(response, &self.url, &self.plan, io.odd)?);
                self.set_up(SessionError::NoPorts, io)
            }
            (Method::Setup, _) => self.on_set_up(response, io),
            (Method::Play, _) => Ok(Progress::Plays),
            _ => Ok(Progress::Waits),
        }
    }

    fn is_tls(&self) -> bool {
        self.url.origin().is_tls
    }

    fn send(&mut self, question: Question, io: &mut SessionIo<'_>) -> Result<Progress, SessionError> {
        self.dialogue.send(question, io.at.monotonic_us, io.out)?;
        Ok(Progress::Waits)
    }
}
