//! Timers of a session that plays. All times are in microseconds of the monotonic clock.

use super::super::headers::{LowerTransport, RtpPair};
use super::super::learned::{AttemptFacts, Learned};
use super::super::message::Method;
use super::error::SessionEnd;
use super::keepalive::Keepalive;
use super::liveness::Liveness;

/// Interval of receiver reports (RFC 3550, section 6.2: 5 s at least).
const REPORT_INTERVAL: i64 = 5_000_000;
/// Interval of the datagrams that keep the way through a NAT open.
const PUNCH_INTERVAL: i64 = 20_000_000;
/// Time after PLAY in which the first packet over UDP must come.
const DATAGRAM_LIMIT: i64 = 5_000_000;

/// What a timer asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    Keepalive(Method),
    Report,
    Punch(RtpPair<u16>),
}

/// Reason that a timer ends the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimedEnd {
    Session(SessionEnd),
    /// No packet over UDP.
    NoDatagrams,
}

/// What PLAY begins with.
#[derive(Clone, Copy, Debug)]
pub struct PlayStart {
    pub transport: LowerTransport,
    /// Timeout of the session.
    pub timeout_us: i64,
    /// Ports of the camera over UDP.
    pub peer: Option<RtpPair<u16>>,
    /// A packet came before the answer to PLAY.
    pub has_packet: bool,
    pub now_us: i64,
}

/// A session that plays.
#[derive(Clone, Debug)]
pub struct Playing {
    start: PlayStart,
    learned: Learned,
    keepalive: Keepalive,
    liveness: Liveness,
    report_at: i64,
    punch_at: i64,
}

impl Playing {
    pub fn new(start: PlayStart, learned: Learned, public: Option<&str>) -> Self {
        let now_us = start.now_us;
        let mut keepalive = Keepalive::new(start.timeout_us, |method| learned.avoids(method), now_us);
        keepalive.on_public(public);
        Self {
            start,
            keepalive,
            liveness: Liveness::new(learned.packet_limit_us(0), start.has_packet, now_us),
            report_at: now_us.saturating_add(REPORT_INTERVAL),
            punch_at: now_us.saturating_add(PUNCH_INTERVAL),
            learned,
        }
    }

    /// Notes a message or packet.
    pub fn on_heard(&mut self, now_us: i64) {
        self.liveness.on_heard(now_us);
    }

    /// Notes a packet of the track.
    pub fn on_packet(&mut self, now_us: i64) {
        self.liveness.on_packet(now_us);
        let limit_us = self.learned.packet_limit_us(self.liveness.longest_interval_us());
        self.liveness.extend_packet_limit(limit_us);
    }

    /// Notes the answer to a keepalive.
    pub fn on_keepalive_answer(&mut self, method: Method, is_accepted: bool, public: Option<&str>) {
        self.keepalive.on_answer(method, is_accepted, public);
    }

    /// Returns the next time at which something is due.
    pub fn next_timer(&self) -> i64 {
        let mut next = self.liveness.next_timer().min(self.keepalive.due()).min(self.report_at);
        if self.start.peer.is_some() {
            next = next.min(self.punch_at);
        }
        self.datagrams_until().map_or(next, |limit| next.min(limit))
    }

    /// Returns what is due. After it, [`Self::next_timer`] is later than now.
    pub fn on_timer(&mut self, now_us: i64) -> Result<Vec<Task>, TimedEnd> {
        if self.datagrams_until().is_some_and(|limit| now_us >= limit) {
            return Err(TimedEnd::NoDatagrams);
        }
        if let Some(end) = self.liveness.end(now_us) {
            return Err(TimedEnd::Session(end));
        }
        let mut tasks = Vec::new();
        let is_probe = self.liveness.take_probe(now_us);
        if is_probe || now_us >= self.keepalive.due() {
            tasks.push(Task::Keepalive(self.keepalive.next(now_us)));
        }
        if now_us >= self.report_at {
            self.report_at = now_us.saturating_add(REPORT_INTERVAL);
            tasks.push(Task::Report);
        }
        if let Some(peer) = self.start.peer.filter(|_| now_us >= self.punch_at) {
            self.punch_at = now_us.saturating_add(PUNCH_INTERVAL);
            tasks.push(Task::Punch(peer));
        }
        Ok(tasks)
    }

    /// Returns the time by which the first packet over UDP must have come, if it has not.
    fn datagrams_until(&self) -> Option<i64> {
        let is_awaited = self.start.transport == LowerTransport::Udp && !self.liveness.has_packet();
        is_awaited.then(|| self.start.now_us.saturating_add(DATAGRAM_LIMIT))
    }

    /// Adds the facts about the session. `is_closed`: the camera closed the connection.
    pub fn finish(self, is_closed: bool, now_us: i64, facts: &mut AttemptFacts) {
        facts.has_played = true;
        facts.longest_interval_us = self.liveness.longest_interval_us();
        if self.liveness.has_packet() {
            facts.delivered_over = Some(self.start.transport);
        }
        (facts.survived, facts.fatal) = self.keepalive.finish(is_closed, now_us);
        if is_closed {
            facts.ended_after_us = Some(now_us.saturating_sub(self.start.now_us));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    /// A second, and what happens then.
    type At<T> = (i64, T);

    fn begin(transport: LowerTransport, peer: Option<RtpPair<u16>>) -> Playing {
        let start = PlayStart { transport, timeout_us: 60 * SECOND, peer, has_packet: false, now_us: 0 };
        Playing::new(start, Learned::default(), None)
    }

    /// Runs until this second. `hear` is called each second.
    fn run(
        playing: &mut Playing,
        seconds: i64,
        mut hear: impl FnMut(&mut Playing, i64),
    ) -> (Vec<At<Task>>, Option<At<TimedEnd>>) {
        let mut done = Vec::new();
        for second in 0..=seconds {
            let now = second * SECOND;
            hear(playing, second);
            while playing.next_timer() <= now {
                match playing.on_timer(now) {
                    Ok(tasks) => done.extend(tasks.into_iter().map(|task| (second, task))),
                    Err(end) => return (done, Some((second, end))),
                }
                assert!(playing.next_timer() > now);
            }
        }
        (done, None)
    }

    fn keepalives(done: &[At<Task>]) -> Vec<i64> {
        done.iter()
            .filter(|(_, task)| matches!(task, Task::Keepalive(_)))
            .map(|(second, _)| *second)
            .collect()
    }

    #[test]
    fn silence_is_asked_once_and_ends_after_10_seconds() {
        let mut playing = begin(LowerTransport::Tcp, None);
        let (done, end) = run(&mut playing, 30, |_, _| {});
        assert_eq!(keepalives(&done), [5]);
        assert_eq!(end, Some((10, TimedEnd::Session(SessionEnd::Silence))));
    }

    #[test]
    fn rare_pictures_with_answers_live() {
        let mut playing = begin(LowerTransport::Tcp, None);
        let (_, end) = run(&mut playing, 600, |playing, second| {
            if second % 12 == 0 {
                playing.on_packet(second * SECOND);
            }
            // The answer to a keepalive.
            if second % 6 == 0 {
                playing.on_heard(second * SECOND);
            }
        });
        assert_eq!(end, None);
        let mut facts = AttemptFacts::default();
        playing.finish(false, 600 * SECOND, &mut facts);
        assert_eq!(facts.longest_interval_us, 12 * SECOND);
        assert_eq!(facts.delivered_over, Some(LowerTransport::Tcp));
    }

    #[test]
    fn answers_without_packets_end_after_a_minute_or_four_intervals() {
        let heard = |playing: &mut Playing, second: i64| playing.on_heard(second * SECOND);
        let (_, end) = run(&mut begin(LowerTransport::Tcp, None), 100, heard);
        assert_eq!(end, Some((60, TimedEnd::Session(SessionEnd::NoPackets))));
        let (_, end) = run(&mut begin(LowerTransport::Tcp, None), 300, |playing, second| {
            heard(playing, second);
            if second == 0 || second == 20 {
                playing.on_packet(second * SECOND);
            }
        });
        assert_eq!(end, Some((100, TimedEnd::Session(SessionEnd::NoPackets))));
    }

    #[test]
    fn udp_needs_a_packet_within_5_seconds_and_is_punched() {
        let peer = Some(RtpPair { rtp: 6970, rtcp: Some(6971) });
        let (_, end) = run(&mut begin(LowerTransport::Udp, peer), 10, |playing, second| {
            playing.on_heard(second * SECOND);
        });
        assert_eq!(end, Some((5, TimedEnd::NoDatagrams)));
        let mut playing = begin(LowerTransport::Udp, peer);
        let (done, end) = run(&mut playing, 50, |playing, second| {
            playing.on_heard(second * SECOND);
            playing.on_packet(second * SECOND);
        });
        assert_eq!(end, None);
        let punched = done.iter().filter(|(_, task)| matches!(task, Task::Punch(_)));
        assert_eq!(punched.map(|(second, _)| *second).collect::<Vec<_>>(), [20, 40]);
        let reports = done.iter().filter(|(_, task)| *task == Task::Report);
        assert_eq!(reports.count(), 10);
    }
}
