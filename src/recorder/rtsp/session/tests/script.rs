//! Dialogue with a camera, without sockets: the test expects requests, and answers with bytes.

use std::collections::VecDeque;

use super::super::super::control::VideoTrack;
use super::super::super::message::{MessageLimits, MessageReader};
use super::super::super::oddity::OddityCounts;
use super::super::super::rtsp_url::RtspUrl;
use super::super::*;
use crate::recorder::rtsp::auth::BasicPolicy;
use crate::wire::{Login, Secret};

pub const URL: &str = "rtsp://10.0.0.9:554/live";
pub const SECOND: i64 = 1_000_000;
pub const OK: &str = "RTSP/1.0 200 OK\r\nCSeq: {cseq}\r\n\r\n";
pub const SETUP_OK: &str = "RTSP/1.0 200 OK\r\nCSeq: {cseq}\r\nSession: 4711;timeout=60\r\n\
                            Transport: RTP/AVP/TCP;unicast;interleaved=0-1;ssrc=5EED0001\r\n\r\n";
pub const SDP: &str = "v=0\r\no=- 1 1 IN IP4 10.0.0.9\r\ns=x\r\nt=0 0\r\na=control:*\r\n\
                       m=audio 0 RTP/AVP 0\r\na=control:audio\r\n\
                       m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:trackID=1\r\n\
                       m=audio 0 RTP/AVP 8\r\na=sendonly\r\na=control:audioback\r\n";
/// RTP of sequence number 1, without a payload.
pub const RTP: [u8; 12] = [0x80, 96, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3];

pub fn plan() -> ConnectPlan {
    ConnectPlan {
        url: RtspUrl::parse(URL).unwrap(),
        login: None,
        basic: BasicPolicy::OverTls,
        transport: TransportPlan::Auto,
        track: None,
        random: AttemptRandom([7; 32]),
    }
}

pub fn login() -> Login {
    Login { username: "camera".into(), password: Secret::new("Cam-Pass:1") }
}

pub fn plan_with_login() -> ConnectPlan {
    ConnectPlan { login: Some(login()), ..plan() }
}

pub fn status(code: u16) -> String {
    format!("RTSP/1.0 {code} No\r\nCSeq: {{cseq}}\r\n\r\n")
}

pub fn described(sdp: &str) -> String {
    format!(
        "RTSP/1.0 200 OK\r\nCSeq: {{cseq}}\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}",
        sdp.len()
    )
}

pub fn frame(channel: u8, data: &[u8]) -> Vec<u8> {
    let len = u16::try_from(data.len()).unwrap().to_be_bytes();
    [&[b'$', channel, len[0], len[1]], data].concat()
}

/// What the sink got.
#[derive(Default)]
pub struct Sink {
    pub begun: Vec<LowerTransport>,
    pub rtp: usize,
    pub rtcp: usize,
}

impl MediaSink for Sink {
    fn begin(&mut self, _: &VideoTrack, transport: LowerTransport) {
        self.begun.push(transport);
    }

    fn rtp(&mut self, _: &mut [u8], _: Arrival, _: &mut OddityCounts) {
        assert!(!self.begun.is_empty());
        self.rtp += 1;
    }

    fn rtcp(&mut self, _: &mut [u8], _: Arrival, _: &mut OddityCounts) {
        assert!(!self.begun.is_empty());
        self.rtcp += 1;
    }

    fn receiver_report(&mut self, _: Arrival) -> Option<Vec<u8>> {
        Some(vec![0x80, 201, 0, 1, 0, 0, 0, 9])
    }
}

/// Request of the client.
#[derive(Clone)]
pub struct Sent(pub String);

impl Sent {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.0.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(found, _)| *found == name).map(|(_, value)| value)
    }

    pub fn line(&self) -> &str {
        self.0.lines().next().unwrap()
    }
}

/// The connection and the camera.
pub struct Script {
    pub session: Session,
    pub reader: MessageReader<Arrival>,
    pub odd: OddityCounts,
    pub sink: Sink,
    pub now_us: i64,
    /// Requests that the test has not expected yet.
    pub requests: VecDeque<Sent>,
    /// Other outputs, as text.
    pub events: VecDeque<String>,
    /// Receiver reports, over any transport.
    pub reports: Vec<Vec<u8>>,
    /// Number of SETUP requests.
    pub setups: usize,
    cseq: String,
}

impl Script {
    /// Begins an attempt, with an open connection.
    pub fn connect(plan: ConnectPlan, learned: &Learned) -> Self {
        let mut script = Self {
            session: Session::new(plan, learned),
            reader: MessageReader::new(MessageLimits::default()),
            odd: OddityCounts::default(),
            sink: Sink::default(),
            now_us: 1_000 * SECOND,
            requests: VecDeque::new(),
            events: VecDeque::new(),
            reports: Vec::new(),
            setups: 0,
            cseq: String::new(),
        };
        script.reconnected();
        script
    }

    pub fn new(plan: ConnectPlan) -> Self {
        Self::connect(plan, &Learned::default())
    }

    /// Begins a session that plays.
    pub fn playing(plan: ConnectPlan, setup: &str) -> Self {
        let mut script = Self::new(plan);
        script.play(setup);
        script
    }

    pub fn play(&mut self, setup: &str) {
        self.expect("DESCRIBE");
        self.answer(&described(SDP));
        self.expect("SETUP");
        self.answer(setup);
        self.expect("PLAY");
        self.answer(OK);
        self.expect_event("Playing");
    }

    pub fn at(&self) -> Arrival {
        Arrival { monotonic_us: self.now_us, wall_us: self.now_us }
    }

    pub fn reconnected(&mut self) {
        self.reader = MessageReader::new(MessageLimits::default());
        self.input(SessionInput::Connected);
    }

    pub fn input(&mut self, input: SessionInput<'_>) {
        let mut out = Vec::new();
        let at = self.at();
        let mut io = SessionIo { at, media: &mut self.sink, odd: &mut self.odd, out: &mut out };
        self.session.handle(input, &mut io);
        self.perform(out);
    }

    pub fn teardown(&mut self) {
        let mut out = Vec::new();
        self.session.teardown(self.at(), &mut out);
        self.perform(out);
    }

    fn perform(&mut self, out: Vec<SessionOutput>) {
        assert!(out.len() <= 4, "{out:?}");
        for output in out {
            match output {
                SessionOutput::ExpectDescription => self.reader.expect_description(),
                SessionOutput::Send(bytes) if bytes.starts_with(b"$") => self.reports.push(bytes),
                SessionOutput::SendRtcp(bytes) => self.reports.push(bytes),
                SessionOutput::Send(bytes) => self.note_sent(String::from_utf8_lossy(&bytes).into_owned()),
                other => self.events.push_back(format!("{other:?}")),
            }
        }
    }

    fn note_sent(&mut self, text: String) {
        let sent = Sent(text);
        assert!(sent.0.lines().nth(1).unwrap().starts_with("CSeq: "), "{}", sent.0);
        self.setups += usize::from(sent.0.starts_with("SETUP "));
        assert!(!sent.line().contains("audio"), "{}", sent.line());
        self.requests.push_back(sent);
    }

    /// Returns the next request, which begins with this text.
    #[track_caller]
    pub fn expect(&mut self, start: &str) -> Sent {
        let Some(sent) = self.requests.pop_front() else { panic!("no {start}; {:?}", self.events) };
        assert!(sent.0.starts_with(start), "{start}: {}", sent.0);
        self.cseq = sent.header("CSeq").unwrap_or_default().to_owned();
        sent
    }

    #[track_caller]
    pub fn expect_nothing(&self) {
        let lines: Vec<_> = self.requests.iter().map(Sent::line).collect();
        assert!(lines.is_empty() && self.events.is_empty(), "{lines:?} {:?}", self.events);
    }

    #[track_caller]
    pub fn expect_event(&mut self, event: &str) {
        assert_eq!(
            self.events.pop_front().as_deref(),
            Some(event),
            "{:?}",
            self.requests.front().map(Sent::line)
        );
    }

    #[track_caller]
    pub fn expect_failure(&mut self, error: SessionError) {
        self.expect_event(&format!("Failed({error:?})"));
        self.expect_nothing();
    }

    /// Answers the expected request. `{cseq}` is its sequence number.
    pub fn answer(&mut self, text: &str) {
        let text = text.replace("{cseq}", &self.cseq);
        self.bytes(text.as_bytes());
    }

    /// Feeds bytes of the camera.
    pub fn bytes(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let space = self.reader.space();
            let (now, later) = bytes.split_at(bytes.len().min(space.len()));
            space[..now.len()].copy_from_slice(now);
            bytes = later;
            self.reader.filled(now.len(), Arrival { monotonic_us: self.now_us, wall_us: self.now_us });
            if !self.read() {
                return;
            }
        }
    }

    /// Ends a description without a length, as 500 ms of silence do.
    pub fn end_body(&mut self) {
        self.reader.end_body();
        self.read();
    }

    /// Hands the messages over. Returns whether the connection is still read.
    fn read(&mut self) -> bool {
        loop {
            let mut out = Vec::new();
            let at = Arrival { monotonic_us: self.now_us, wall_us: self.now_us };
            let next = self.reader.next(self.session.channels(), &mut self.odd);
            let mut io = SessionIo { at, media: &mut self.sink, odd: &mut self.odd, out: &mut out };
            let is_over = match next {
                Ok(None) => return true,
                Ok(Some((message, _))) => {
                    self.session.handle(SessionInput::Message(message), &mut io);
                    false
                }
                Err(error) => {
                    self.session.handle(SessionInput::Unreadable(error), &mut io);
                    true
                }
            };
            let is_reconnect = out.iter().any(|output| matches!(output, SessionOutput::Reconnect { .. }));
            self.perform(out);
            if is_over || is_reconnect {
                return false;
            }
        }
    }

    /// Passes time, with a packet each second if `has_pictures`.
    pub fn pass(&mut self, seconds: i64, has_pictures: bool) {
        for _ in 0..seconds {
            let until = self.now_us + SECOND;
            while let Some(due) = self.session.next_timer().filter(|due| *due <= until) {
                self.now_us = self.now_us.max(due);
                self.input(SessionInput::Timer);
                assert!(self.session.next_timer().is_none_or(|due| due > self.now_us));
            }
            self.now_us = until;
            if has_pictures {
                self.bytes(&frame(0, &RTP));
            }
        }
    }

    /// Ends the attempt, and returns what is known then.
    pub fn learned(self, before: &Learned) -> Learned {
        let mut learned = before.clone();
        let at = self.at();
        self.session.into_learned(at, &mut learned);
        learned
    }
}
