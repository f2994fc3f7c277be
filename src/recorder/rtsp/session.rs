//! An attempt at a camera: from the connection to the end of its session (RFC 2326). It has no sockets and no clock.
//!
//! The caller feeds events and carries out the outputs. It calls [`Session::handle`] with [`SessionInput::Timer`] at
//! [`Session::next_timer`]. Until [`SessionOutput::Failed`] or [`SessionOutput::Finished`] there always is such a time, once
//! the first connection is open. Each input has a bounded number of outputs.
//!
//! One track is set up, and never one of audio. One request is under way at a time, because cameras mix up sequence numbers.

mod description;
mod dialogue;
mod error;
mod interface;
mod keepalive;
mod liveness;
mod negotiation;
mod playing;
mod request;
mod setup;

use self::dialogue::Reply;
pub use self::error::{RedirectRefusal, RefusedTransport, SessionEnd, SessionError};
pub use self::interface::{
    AttemptRandom, ConnectPlan, MediaSink, ReconnectReason, SessionInput, SessionIo, SessionOutput,
    TransportPlan,
};
use self::negotiation::{Negotiation, Progress};
use self::playing::{Playing, Task, TimedEnd};
use self::request::RequestAnswer;
use self::setup::PacketKind;
use super::super::frame::Arrival;
use super::auth::LoginRefusal;
use super::headers::{LowerTransport, RtpPair};
use super::learned::{AttemptFacts, Learned};
use super::message::{Channels, Message, MessageError, Method, Request};
use super::oddity::Oddity;

/// Time for TEARDOWN in microseconds.
const TEARDOWN_LIMIT: i64 = 2_000_000;

/// State of an attempt.
#[derive(Debug)]
enum Phase {
    /// Waits for a connection.
    Connecting,
    /// A request up to PLAY is under way.
    Negotiating,
    /// Waits for the ports of UDP.
    Binding,
    Playing(Box<Playing>),
    /// Waits for the answer to TEARDOWN, or to the SETUP before it.
    Closing {
        deadline: i64,
    },
    Failed,
    Finished,
}

/// State of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    Down,
    Up,
    /// Only requests can be sent.
    Unreadable,
}

/// An attempt at a camera.
#[derive(Debug)]
pub struct Session {
    learned: Learned,
    facts: AttemptFacts,
    negotiation: Negotiation,
    phase: Phase,
    link: Link,
    /// Time at which all requests up to PLAY must be answered, in microseconds.
    deadline: Option<i64>,
    /// Data came on a channel that nobody set up.
    has_strays: bool,
}

impl Session {
    /// Prepares an attempt. `learned` is what earlier attempts at the same camera left.
    pub fn new(plan: ConnectPlan, learned: &Learned) -> Self {
        Self {
            learned: learned.clone(),
            facts: AttemptFacts::default(),
            negotiation: Negotiation::new(plan, learned),
            phase: Phase::Connecting,
            link: Link::Down,
            deadline: None,
            has_strays: false,
        }
    }

    /// Returns the channels for the reader of messages. They may change with each input.
    pub fn channels(&self) -> &Channels {
        self.negotiation.routes().channels()
    }

    /// Takes an event. Packets go to the sink, requests to the connection into the outputs.
    pub fn handle(&mut self, input: SessionInput<'_>, io: &mut SessionIo<'_>) {
        let result = match input {
            SessionInput::Connected => self.on_connected(io),
            SessionInput::Message(message) => self.on_message(message, io),
            SessionInput::Datagram { is_rtcp, data } => {
                self.on_datagram(is_rtcp, data, io);
                Ok(())
            }
            SessionInput::UdpBound(ports) => self.on_udp_bound(ports, io),
            SessionInput::Unreadable(error) => self.on_unreadable(error),
            SessionInput::Timer => self.on_timer(io),
            SessionInput::Closed => self.on_closed(io),
        };
        if let Err(error) = result {
            self.fail(error, io);
        }
    }

    /// Returns when the next [`SessionInput::Timer`] is due, in microseconds of the monotonic clock.
    pub fn next_timer(&self) -> Option<i64> {
        match &self.phase {
            Phase::Connecting | Phase::Binding => self.deadline,
            Phase::Negotiating => {
                let answer = self.answer_deadline().map(|(_, deadline)| deadline);
                self.deadline.into_iter().chain(answer).min()
            }
            Phase::Playing(playing) => Some(playing.next_timer()),
            Phase::Closing { deadline } => Some(*deadline),
            Phase::Failed | Phase::Finished => None,
        }
    }

    /// Ends the session, so that the camera frees its place. [`SessionOutput::Finished`] follows within two seconds.
    pub fn teardown(&mut self, at: Arrival, out: &mut Vec<SessionOutput>) {
        if matches!(self.phase, Phase::Closing { .. } | Phase::Finished) {
            return;
        }
        self.leave_play(false, at.monotonic_us);
        self.phase = Phase::Closing { deadline: at.monotonic_us.saturating_add(TEARDOWN_LIMIT) };
        let is_sent = self.link != Link::Down
            && self.negotiation.is_set_up()
            && self.negotiation.send_in_session(Method::Teardown, at, out).is_ok();
        // Its answer names the session that TEARDOWN ends.
        let is_setup_asked =
            self.negotiation.outstanding().is_some_and(|(method, _)| method == Method::Setup);
        if self.link != Link::Up || !(is_sent || is_setup_asked) {
            self.finish(out);
        }
    }

    /// Ends the attempt, and adds what it learned.
    pub fn into_learned(mut self, at: Arrival, learned: &mut Learned) {
        self.leave_play(false, at.monotonic_us);
        self.facts.has_stale_session = self.has_strays && self.negotiation.is_old_live555();
        let dialogue = self.negotiation.into_dialogue();
        self.facts.slowest_answer_us = dialogue.slowest_answer_us();
        self.facts.challenge = dialogue.into_known_challenge();
        learned.note(self.facts);
    }

    /// Returns the request under way and the time by which its answer must come.
    fn answer_deadline(&self) -> Option<(Method, i64)> {
        let (method, sent_at) = self.negotiation.outstanding()?;
        Some((method, sent_at.saturating_add(self.learned.answer_limit_us())))
    }

    /// Returns the time by which all requests must be answered.
    fn begin_deadline(&mut self, at: Arrival) {
        let limit_us = self.learned.answer_limit_us().saturating_mul(2);
        self.deadline.get_or_insert(at.monotonic_us.saturating_add(limit_us));
    }

    fn fail(&mut self, error: SessionError, io: &mut SessionIo<'_>) {
        match self.phase {
            Phase::Failed | Phase::Finished => return,
            Phase::Closing { .. } => return self.finish(io.out),
            _ => {}
        }
        let ends = [SessionEnd::ConnectionClosed, SessionEnd::TornDown];
        let is_ended = ends.map(SessionError::Ended).contains(&error);
        self.leave_play(is_ended, io.at.monotonic_us);
        self.facts.is_busy = matches!(
            error,
            SessionError::Status { code: 453 | 503, .. }
                | SessionError::Login { refusal: LoginRefusal::ClosesConnections, .. }
        );
        self.phase = Phase::Failed;
        io.out.push(SessionOutput::Failed(error));
    }

    fn finish(&mut self, out: &mut Vec<SessionOutput>) {
        self.phase = Phase::Finished;
        out.push(SessionOutput::Finished);
    }

    /// Notes the facts of a session that played. `is_ended`: by the camera. The caller sets the next phase.
    fn leave_play(&mut self, is_ended: bool, now_us: i64) {
        if let Phase::Playing(playing) = std::mem::replace(&mut self.phase, Phase::Failed) {
            playing.finish(is_ended, now_us, &mut self.facts);
        }
    }

    fn proceed(&mut self, progress: Progress, io: &mut SessionIo<'_>) {
        match progress {
            Progress::Waits => self.phase = Phase::Negotiating,
            Progress::Binds => self.phase = Phase::Binding,
            Progress::Plays => self.begin_play(io),
            Progress::Reconnects(why) => {
                self.phase = Phase::Connecting;
                self.link = Link::Down;
                self.negotiation.drop_session();
                self.begin_deadline(io.at);
                let to = self.negotiation.url().origin().clone();
                io.out.push(SessionOutput::Reconnect { to, why });
            }
        }
    }

    fn begin_play(&mut self, io: &mut SessionIo<'_>) {
        let Some((start, public)) = self.negotiation.play_start(io.at.monotonic_us) else { return };
        let playing = Playing::new(start, self.learned.clone(), public);
        self.phase = Phase::Playing(Box::new(playing));
        self.deadline = None;
        io.out.push(SessionOutput::Playing);
    }

    fn on_connected(&mut self, io: &mut SessionIo<'_>) -> Result<(), SessionError> {
        if matches!(self.phase, Phase::Connecting) {
            self.link = Link::Up;
            self.begin_deadline(io.at);
            let progress = self.negotiation.begin(io)?;
            self.proceed(progress, io);
        }
        Ok(())
    }

    fn on_message(&mut self, message: Message<'_>, io: &mut SessionIo<'_>) -> Result<(), SessionError> {
        match &mut self.phase {
            Phase::Connecting | Phase::Failed | Phase::Finished => return Ok(()),
            Phase::Playing(playing) => playing.on_heard(io.at.monotonic_us),
            Phase::Negotiating | Phase::Binding | Phase::Closing { .. } => {}
        }
        match message {
            Message::Response(response) => {
                let reply = self.negotiation.dialogue().on_response(response, io.at.monotonic_us, io.odd);
                self.on_reply(reply, io)
            }
            Message::Request(request) => self.on_request(&request, io),
            Message::Interleaved { channel, data } => {
                match self.negotiation.routes().kind(channel) {
                    Some(kind) => self.on_packet(kind, data, io),
                    None => self.has_strays = true,
                }
                Ok(())
            }
        }
    }

    fn on_reply(&mut self, reply: Reply, io: &mut SessionIo<'_>) -> Result<(), SessionError> {
        match (&mut self.phase, reply) {
            (_, Reply::Nothing) => Ok(()),
            (Phase::Closing { .. }, reply) => self.on_closing_reply(reply, io),
            (Phase::Playing(_), Reply::Repeat(question)) => {
                self.negotiation.dialogue().send(question, io.at.monotonic_us, io.out)
            }
            (Phase::Playing(playing), Reply::NewConnection { method }) => {
                playing.on_keepalive_answer(method, false, None);
                Ok(())
            }
            (Phase::Playing(playing), Reply::Refused { method, .. }) => {
                // Each further login might extend the camera's lockout. The next attempt finds out.
                self.negotiation.dialogue().withhold_login();
                playing.on_keepalive_answer(method, false, None);
                Ok(())
            }
            (Phase::Playing(playing), Reply::Answer { method, response, .. }) => {
                playing.on_keepalive_answer(method, response.is_success(), response.headers.get("Public"));
                Ok(())
            }
            (_, reply) => {
                let progress = self.negotiation.on_reply(reply, io)?;
                self.proceed(progress, io);
                Ok(())
            }
        }
    }

    fn on_closing_reply(&mut self, reply: Reply, io: &mut SessionIo<'_>) -> Result<(), SessionError> {
        match reply {
            Reply::Repeat(question) if question.method == Method::Teardown => {
                self.negotiation.dialogue().send(question, io.at.monotonic_us, io.out)
            }
            Reply::Answer { method: Method::Setup, response, .. } if response.is_success() => {
                self.negotiation.adopt_session(&response, io.odd);
                self.negotiation.send_in_session(Method::Teardown, io.at, io.out)
            }
            _ => {
                self.finish(io.out);
                Ok(())
            }
        }
    }

    fn on_request(&mut self, request: &Request, io: &mut SessionIo<'_>) -> Result<(), SessionError> {
        let answer = RequestAnswer::new(request, self.negotiation.dialogue().session(), io.odd);
        io.out.push(SessionOutput::Send(answer.bytes));
        if answer.ends_session && self.negotiation.drop_session() {
            return Err(SessionError::Ended(SessionEnd::TornDown));
        }
        Ok(())
    }

    fn on_datagram(&mut self, is_rtcp: bool, data: &mut [u8], io: &mut SessionIo<'_>) {
        if self.negotiation.transport() == LowerTransport::Udp {
            let kind = if is_rtcp { PacketKind::Rtcp } else { PacketKind::Rtp };
            self.on_packet(kind, data, io);
        }
    }

    /// Takes a packet of the track. Some cameras send packets before they answer PLAY or SETUP.
    fn on_packet(&mut self, kind: PacketKind, data: &mut [u8], io: &mut SessionIo<'_>) {
        match &mut self.phase {
            Phase::Playing(playing) => {
                playing.on_heard(io.at.monotonic_us);
                if kind == PacketKind::Rtp {
                    playing.on_packet(io.at.monotonic_us);
                }
            }
            Phase::Negotiating if kind == PacketKind::Rtp => self.negotiation.on_packet(),
            Phase::Negotiating => {}
            _ => return,
        }
        match kind {
            PacketKind::Rtp => io.media.rtp(data, io.at, io.odd),
            PacketKind::Rtcp => io.media.rtcp(data, io.at, io.odd),
        }
    }

    fn on_udp_bound(
        &mut self,
        ports: Option<RtpPair<u16>>,
        io: &mut SessionIo<'_>,
    ) -> Result<(), SessionError> {
        if matches!(self.phase, Phase::Binding) {
            let progress = self.negotiation.on_udp_bound(ports, io)?;
            self.proceed(progress, io);
        }
        Ok(())
    }

    fn on_timer(&mut self, io: &mut SessionIo<'_>) -> Result<(), SessionError> {
        let now_us = io.at.monotonic_us;
        if self.next_timer().is_none_or(|due| now_us < due) {
            return Ok(());
        }
        match &mut self.phase {
            Phase::Playing(playing) => match playing.on_timer(now_us) {
                Ok(tasks) => tasks.into_iter().try_for_each(|task| self.perform(task, io)),
                Err(TimedEnd::Session(end)) => Err(SessionError::Ended(end)),
                Err(TimedEnd::NoDatagrams) => self.fall_back(io),
            },
            Phase::Closing { .. } => {
                self.finish(io.out);
                Ok(())
            }
            _ => match self.answer_deadline().filter(|(_, deadline)| now_us >= *deadline) {
                Some((Method::Play, _)) if self.negotiation.has_packet() => {
                    io.odd.note(Oddity::PlayUnanswered);
                    self.negotiation.dialogue().abandon();
                    self.begin_play(io);
                    Ok(())
                }
                Some((method, _)) => Err(SessionError::NoAnswer { method }),
                None => Err(SessionError::TooSlow),
            },
        }
    }

    fn perform(&mut self, task: Task, io: &mut SessionIo<'_>) -> Result<(), SessionError> {
        match task {
            Task::Keepalive(method) => return self.negotiation.send_in_session(method, io.at, io.out),
            Task::Punch(peer) => io.out.push(SessionOutput::PunchUdp { peer }),
            Task::Report => {
                let Some(report) = io.media.receiver_report(io.at) else { return Ok(()) };
                io.out.extend(match self.negotiation.transport() {
                    LowerTransport::Udp => Some(SessionOutput::SendRtcp(report)),
                    LowerTransport::Tcp => {
                        self.negotiation.routes().frame_rtcp(&report).map(SessionOutput::Send)
                    }
                });
            }
        }
        Ok(())
    }

    /// No packet came over UDP: tries TCP on a new connection.
    fn fall_back(&mut self, io: &mut SessionIo<'_>) -> Result<(), SessionError> {
        self.facts.silent_over = Some(LowerTransport::Udp);
        if !self.negotiation.refuse_udp() {
            return Err(SessionError::NoDatagrams);
        }
        self.leave_play(false, io.at.monotonic_us);
        self.negotiation.send_in_session(Method::Teardown, io.at, io.out)?;
        self.proceed(Progress::Reconnects(ReconnectReason::NoDatagrams), io);
        Ok(())
    }

    fn on_closed(&mut self, io: &mut SessionIo<'_>) -> Result<(), SessionError> {
        self.link = Link::Down;
        match self.phase {
            Phase::Connecting | Phase::Failed | Phase::Finished => {}
            Phase::Closing { .. } => self.finish(io.out),
            Phase::Playing(_) => return Err(SessionError::Ended(SessionEnd::ConnectionClosed)),
            Phase::Negotiating | Phase::Binding => {
                let progress = self.negotiation.on_closed(io.odd)?;
                self.proceed(progress, io);
            }
        }
        Ok(())
    }

    fn on_unreadable(&mut self, error: MessageError) -> Result<(), SessionError> {
        if self.link != Link::Up {
            return Ok(());
        }
        self.link = Link::Unreadable;
        let method = self.negotiation.outstanding().map(|(method, _)| method);
        Err(match error {
            MessageError::NotRtsp => SessionError::NotRtsp,
            error => SessionError::Unreadable { method, error },
        })
    }
}

#[cfg(test)]
mod tests;
