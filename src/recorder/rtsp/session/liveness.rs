//! Whether a session that plays is alive. All times are in microseconds of the monotonic clock.

use super::error::SessionEnd;

/// Silence after which the camera is asked for a sign of life.
const PROBE_AFTER: i64 = 5_000_000;
/// Silence that ends the session.
const SILENCE_LIMIT: i64 = 10_000_000;

/// Signs of life of one session. Any message or packet is one: some cameras send a picture every 12 s, and some answer no
/// keepalive.
#[derive(Clone, Debug)]
pub struct Liveness {
    heard_at: i64,
    is_probed: bool,
    packet_at: i64,
    packet_limit_us: i64,
    longest_interval_us: i64,
    has_packet: bool,
}

impl Liveness {
    /// Begins at PLAY. `packet_limit_us` is the longest time without a packet.
    pub fn new(packet_limit_us: i64, has_packet: bool, now_us: i64) -> Self {
        Self {
            heard_at: now_us,
            is_probed: false,
            packet_at: now_us,
            packet_limit_us,
            longest_interval_us: 0,
            has_packet,
        }
    }

    /// Notes a message or packet.
    pub fn on_heard(&mut self, now_us: i64) {
        self.heard_at = self.heard_at.max(now_us);
        self.is_probed = false;
    }

    /// Notes a packet of the track.
    pub fn on_packet(&mut self, now_us: i64) {
        if self.has_packet {
            let interval_us = now_us.saturating_sub(self.packet_at);
            self.longest_interval_us = self.longest_interval_us.max(interval_us);
        }
        self.has_packet = true;
        self.packet_at = self.packet_at.max(now_us);
    }

    /// Extends the limit without a packet.
    pub fn extend_packet_limit(&mut self, packet_limit_us: i64) {
        self.packet_limit_us = self.packet_limit_us.max(packet_limit_us);
    }

    pub fn has_packet(&self) -> bool {
        self.has_packet
    }

    /// Returns the longest time between two packets.
    pub fn longest_interval_us(&self) -> i64 {
        self.longest_interval_us
    }

    /// Returns whether the camera is to be asked for a sign of life. It is asked once in a silence.
    pub fn take_probe(&mut self, now_us: i64) -> bool {
        let is_due = !self.is_probed && now_us >= self.probe_at();
        self.is_probed |= is_due;
        is_due
    }

    /// Returns the reason that the session is over.
    pub fn end(&self, now_us: i64) -> Option<SessionEnd> {
        if now_us >= self.silence_at() {
            return Some(SessionEnd::Silence);
        }
        (now_us >= self.no_packets_at()).then_some(SessionEnd::NoPackets)
    }

    /// Returns the next time at which something is due.
    pub fn next_timer(&self) -> i64 {
        let end = self.silence_at().min(self.no_packets_at());
        if self.is_probed { end } else { end.min(self.probe_at()) }
    }

    fn probe_at(&self) -> i64 {
        self.heard_at.saturating_add(PROBE_AFTER)
    }

    fn silence_at(&self) -> i64 {
        self.heard_at.saturating_add(SILENCE_LIMIT)
    }

    fn no_packets_at(&self) -> i64 {
        self.packet_at.saturating_add(self.packet_limit_us)
    }
}
