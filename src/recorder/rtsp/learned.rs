//! Knowledge about a camera that outlives its connections.

use std::time::Duration;

use super::auth::KnownChallenge;
use super::headers::LowerTransport;
use super::message::Method;

/// Limit for one answer of a camera that was never slower, in microseconds.
const ANSWER_LIMIT: i64 = 30_000_000;
/// Longest limit for one answer, in microseconds.
const MAX_ANSWER_LIMIT: i64 = 120_000_000;
/// Limit without a packet for a camera that never paused longer, in microseconds.
const PACKET_LIMIT: i64 = 60_000_000;
/// Longest limit without a packet, in microseconds.
const MAX_PACKET_LIMIT: i64 = 600_000_000;
/// Time that live555 keeps a dead session and sends its data on new connections.
const STALE_SESSION: Duration = Duration::from_secs(65);
/// Number of sessions in a row that end right after a keepalive method, after which it is avoided.
const FATAL_SESSIONS: u8 = 2;
/// Shortest session that counts for a constant length, in microseconds.
const MIN_CONSTANT_LENGTH: i64 = 10_000_000;

/// Facts about one attempt.
#[derive(Clone, Debug, Default)]
pub struct AttemptFacts {
    pub challenge: Option<KnownChallenge>,
    /// In microseconds.
    pub slowest_answer_us: i64,
    /// Longest time without a packet in a session that went on, in microseconds.
    pub longest_interval_us: i64,
    /// Transport on which packets came.
    pub delivered_over: Option<LowerTransport>,
    /// Transport on which no packet came.
    pub silent_over: Option<LowerTransport>,
    /// Length of a session that the camera ended, in microseconds.
    pub ended_after_us: Option<i64>,
    pub has_played: bool,
    /// Keepalive methods after which the session went on.
    pub survived: Vec<Method>,
    /// Keepalive method within two seconds of which the camera closed the connection.
    pub fatal: Option<Method>,
    /// The camera serves no further client.
    pub is_busy: bool,
    /// An old live555 sent data of a dead session.
    pub has_stale_session: bool,
}

/// Knowledge about one camera. The caller keeps it over the attempts at the same address.
#[derive(Clone, Debug, Default)]
pub struct Learned {
    challenge: Option<KnownChallenge>,
    slowest_answer_us: i64,
    longest_interval_us: i64,
    transport: Option<LowerTransport>,
    /// Number of sessions in a row that ended right after the method.
    fatal: Vec<(Method, u8)>,
    ended_after_us: Option<i64>,
    has_constant_length: bool,
    busy_attempts: u32,
    has_stale_sessions: bool,
}

impl Learned {
    /// Adds the facts about an attempt.
    pub fn note(&mut self, facts: AttemptFacts) {
        self.challenge = facts.challenge;
        self.slowest_answer_us = self.slowest_answer_us.max(facts.slowest_answer_us);
        self.longest_interval_us = self.longest_interval_us.max(facts.longest_interval_us);
        self.transport =
            facts.delivered_over.or(self.transport.filter(|_| facts.silent_over != self.transport));
        self.fatal.retain(|(method, _)| !facts.survived.contains(method));
        if let Some(method) = facts.fatal {
            match self.fatal.iter_mut().find(|(known, _)| *known == method) {
                Some((_, sessions)) => *sessions = sessions.saturating_add(1),
                None => self.fatal.push((method, 1)),
            }
        }
        self.busy_attempts = if facts.is_busy { self.busy_attempts.saturating_add(1) } else { 0 };
        self.has_stale_sessions |= facts.has_stale_session;
        if facts.has_played {
            self.note_length(facts.ended_after_us);
        }
    }

    fn note_length(&mut self, ended_after_us: Option<i64>) {
        let before = self.ended_after_us;
        self.ended_after_us = ended_after_us.filter(|length| *length >= MIN_CONSTANT_LENGTH);
        self.has_constant_length = before.zip(self.ended_after_us).is_some_and(|(before, now)| {
            let tolerance = (before / 20).max(1_000_000);
            before.abs_diff(now) <= tolerance.unsigned_abs()
        });
    }

    /// Returns the challenge for the first request of the next attempt.
    pub fn challenge(&self) -> Option<&KnownChallenge> {
        self.challenge.as_ref()
    }

    /// Returns the limit for one answer in microseconds: 30 s, or three times the slowest answer.
    pub fn answer_limit_us(&self) -> i64 {
        self.slowest_answer_us.saturating_mul(3).clamp(ANSWER_LIMIT, MAX_ANSWER_LIMIT)
    }

    /// Returns the limit without a packet in microseconds: 60 s, or four times the longest interval.
    pub fn packet_limit_us(&self, longest_interval_us: i64) -> i64 {
        let longest = self.longest_interval_us.max(longest_interval_us);
        longest.saturating_mul(4).clamp(PACKET_LIMIT, MAX_PACKET_LIMIT)
    }

    /// Returns the transport on which packets came.
    pub fn transport(&self) -> Option<LowerTransport> {
        self.transport
    }

    /// Returns whether a keepalive must not use the method: two sessions in a row ended right after it.
    pub fn avoids(&self, method: Method) -> bool {
        self.fatal.iter().any(|(known, sessions)| *known == method && *sessions >= FATAL_SESSIONS)
    }

    /// Returns the wait before the next attempt, beside the backoff of the caller. An old live555 sends data of a dead
    /// session for 65 s. A camera that is busy gets 1, 2, 4 and then 8 s to free its place.
    pub fn wait_before_attempt(&self) -> Duration {
        let busy = match self.busy_attempts {
            0 => Duration::ZERO,
            attempts => Duration::from_secs(1 << attempts.saturating_sub(1).min(3)),
        };
        if self.has_stale_sessions { STALE_SESSION } else { busy }
    }

    /// Returns whether the camera ends sessions at a constant age. The next attempt then needs no backoff.
    pub fn has_constant_length(&self) -> bool {
        self.has_constant_length
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_camera_gets_three_times_its_slowest_answer() {
        let mut learned = Learned::default();
        assert_eq!(learned.answer_limit_us(), 30_000_000);
        for (slowest, limit) in [(9, 30), (29, 87), (1, 87), (80, 120)] {
            learned.note(AttemptFacts { slowest_answer_us: slowest * 1_000_000, ..AttemptFacts::default() });
            assert_eq!(learned.answer_limit_us(), limit * 1_000_000, "{slowest}");
        }
    }

    #[test]
    fn rare_pictures_extend_the_limit_without_a_packet() {
        let mut learned = Learned::default();
        assert_eq!(learned.packet_limit_us(12_000_000), 60_000_000);
        learned.note(AttemptFacts { longest_interval_us: 30_000_000, ..AttemptFacts::default() });
        assert_eq!(learned.packet_limit_us(0), 120_000_000);
        assert_eq!(learned.packet_limit_us(i64::MAX), 600_000_000);
    }

    #[test]
    fn method_is_avoided_after_two_sessions_in_a_row_that_ended_at_it() {
        let fatal = || AttemptFacts { fatal: Some(Method::GetParameter), ..AttemptFacts::default() };
        let mut learned = Learned::default();
        learned.note(fatal());
        assert!(!learned.avoids(Method::GetParameter));
        learned.note(AttemptFacts { survived: vec![Method::GetParameter], ..AttemptFacts::default() });
        learned.note(fatal());
        assert!(!learned.avoids(Method::GetParameter));
        learned.note(AttemptFacts::default());
        learned.note(fatal());
        assert!(learned.avoids(Method::GetParameter) && !learned.avoids(Method::Options));
    }

    #[test]
    fn busy_camera_gets_1_2_4_and_8_seconds() {
        let busy = || AttemptFacts { is_busy: true, ..AttemptFacts::default() };
        let mut learned = Learned::default();
        for seconds in [1, 2, 4, 8, 8, 8] {
            learned.note(busy());
            assert_eq!(learned.wait_before_attempt(), Duration::from_secs(seconds));
        }
        learned.note(AttemptFacts { has_played: true, ..AttemptFacts::default() });
        assert_eq!(learned.wait_before_attempt(), Duration::ZERO);
        for _ in 0..100 {
            learned.note(busy());
        }
        assert_eq!(learned.wait_before_attempt(), Duration::from_secs(8));
    }

    #[test]
    fn old_live555_gets_65_seconds_before_each_attempt() {
        let mut learned = Learned::default();
        learned.note(AttemptFacts { has_stale_session: true, ..AttemptFacts::default() });
        learned.note(AttemptFacts { is_busy: true, ..AttemptFacts::default() });
        assert_eq!(learned.wait_before_attempt(), Duration::from_secs(65));
    }

    #[test]
    fn transport_that_worked_is_kept_until_it_fails() {
        let mut learned = Learned::default();
        let delivered = |transport| AttemptFacts { delivered_over: transport, ..AttemptFacts::default() };
        learned.note(delivered(Some(LowerTransport::Udp)));
        learned.note(delivered(None));
        assert_eq!(learned.transport(), Some(LowerTransport::Udp));
        learned.note(AttemptFacts { silent_over: Some(LowerTransport::Udp), ..AttemptFacts::default() });
        assert_eq!(learned.transport(), None);
    }

    #[test]
    fn sessions_of_constant_length_are_recognized() {
        let mut learned = Learned::default();
        let mut ended = |seconds: Option<i64>| {
            let ended_after_us = seconds.map(|seconds| seconds * 1_000_000);
            learned.note(AttemptFacts { has_played: true, ended_after_us, ..AttemptFacts::default() });
            learned.has_constant_length()
        };
        assert_eq!([210, 211, 209, 60].map(|seconds| ended(Some(seconds))), [false, true, true, false]);
        assert_eq!([5, 5].map(|seconds| ended(Some(seconds))), [false, false]);
        assert_eq!([Some(60), None, Some(60)].map(&mut ended), [false, false, false]);
    }
}
