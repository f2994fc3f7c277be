//! RTP packets of one track in the order of their sequence numbers, each at most once.

use std::collections::BTreeMap;
use std::ops::RangeBounds;

use super::super::super::frame::Arrival;
use super::super::oddity::{Oddity, OddityCounts};
use super::{RtpHeader, RtpPacket};

/// Steps forward that count as loss (RFC 3550, appendix A.1, `MAX_DROPOUT`). A longer step is a new sequence.
const MAX_DROPOUT: i64 = 3000;
/// Steps back that count as a late packet (RFC 3550, appendix A.1, `MAX_MISORDER`). A longer step is a new sequence.
const MAX_MISORDER: i64 = 100;
/// Packets that may be lost while the SSRC changes. Few, so that another stream does not fit in by chance.
const MAX_SSRC_GAP: i64 = 32;
/// Distance of two packets off the known sequence that begin a new one.
const MAX_NEW_GAP: u16 = 64;
/// Silence of the known sequence after which another SSRC replaces it, and age of a packet off a living sequence that begins
/// no new one any more, in microseconds.
const SILENCE_US: i64 = 1_000_000;
/// Position of sequence number 0, so that no position is negative.
const ORIGIN: i64 = 1 << 16;

/// How long packets wait for an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReorderWindow {
    packets: u16,
    microseconds: i64,
}

impl ReorderWindow {
    /// RTP in TCP: nothing waits.
    pub const TCP: Self = Self { packets: 0, microseconds: 0 };
    /// RTP in UDP: at most 64 packets wait, each at most 200 ms.
    pub const UDP: Self = Self { packets: 64, microseconds: 200_000 };
}

/// Payload types of a track (0 to 127). Larger numbers are ignored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PayloadTypes(u128);

impl PayloadTypes {
    pub fn contains(self, payload_type: u8) -> bool {
        self.0 & bit(payload_type) != 0
    }

    fn is_single(self) -> bool {
        self.0.is_power_of_two()
    }
}

impl FromIterator<u8> for PayloadTypes {
    fn from_iter<I: IntoIterator<Item = u8>>(payload_types: I) -> Self {
        Self(payload_types.into_iter().fold(0, |set, payload_type| set | bit(payload_type)))
    }
}

fn bit(number: u8) -> u128 {
    1_u128.checked_shl(number.into()).unwrap_or_default()
}

/// A packet in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ordered<'a> {
    pub stamp: u32,
    pub has_marker: bool,
    /// Packets that are missing just before this one. 0 with `is_restart`.
    pub lost_before: u16,
    /// First packet of a sequence: nobody knows what is missing before it.
    pub is_restart: bool,
    pub payload: &'a [u8],
    pub at: Arrival,
}

/// Counts of the current sequence, for receiver reports (RFC 3550, section 6.4.1 and appendix A.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reception {
    pub ssrc: u32,
    /// Number of wraps, and highest sequence number.
    pub highest_sequence: u32,
    /// Packets from the first to the highest.
    pub expected: u64,
    /// Packets that arrived, with repeats and late ones.
    pub received: u64,
}

/// Puts the packets of a track in order.
///
/// The channel or port says which track it is, not the SSRC: a packet with another SSRC is taken if it continues the
/// sequence. A packet off the sequence is held back until another of its SSRC follows it:
/// - If the SSRC is the known one, or the known sequence is silent, both begin a new sequence.
/// - If the known sequence sent nothing between the two, and both lie ahead within [`MAX_DROPOUT`], they continue it after
///   a loss.
///
/// So packets of a dead session do not disturb a living one.
///
/// Over TCP, a track of one format may send a payload type that the description does not name, if it sends no other. Two
/// packets in sequence prove it. The named payload type ends this.
///
/// Holds at most one packet over TCP and 66 over UDP.
#[derive(Debug)]
pub struct PacketOrder {
    window: ReorderWindow,
    payload_types: PayloadTypes,
    /// Payload type that the track sends instead of the named one.
    adopted_type: Option<u8>,
    known: Option<Sequence>,
    /// Last packet off the known sequence.
    candidate: Option<Candidate>,
}

impl PacketOrder {
    pub fn new(window: ReorderWindow, payload_types: PayloadTypes) -> Self {
        Self { window, payload_types, adopted_type: None, known: None, candidate: None }
    }

    /// Takes a packet that arrived, and delivers those whose turn it is.
    pub fn push(
        &mut self,
        packet: &RtpPacket<'_>,
        at: Arrival,
        odd: &mut OddityCounts,
        deliver: &mut dyn FnMut(Ordered<'_>),
    ) {
        if !self.accepts_type(packet, at, odd, deliver) {
            return;
        }
        let Some(known) = &mut self.known else {
            self.known = Some(Sequence::begin(packet, at, self.window, odd, deliver));
            return;
        };
        if let Some(position) = known.position(&packet.header) {
            known.push(position, packet, at, odd, deliver);
            return;
        }
        let candidate = self.candidate.take().filter(|candidate| {
            let is_usable = !candidate.is_expired(known, at) && candidate.held.precedes(&packet.header);
            if !is_usable {
                odd.note(Oddity::RtpStranger);
            }
            is_usable
        });
        let Some(candidate) = candidate else {
            self.candidate = Some(Candidate::new(packet, at, known.received));
            return;
        };
        let held = &candidate.held;
        if known.may_end(&packet.header, at) {
            odd.note(Oddity::RtpRestart);
            known.flush(deliver);
            *known = Sequence::begin(&held.packet(), held.at, self.window, odd, deliver);
            match known.position(&packet.header) {
                Some(position) => known.push(position, packet, at, odd, deliver),
                None => odd.note(Oddity::RtpStranger),
            }
        } else if let Some((first, second)) = candidate.continuation(known, &packet.header) {
            known.push(first, &held.packet(), held.at, odd, deliver);
            known.push(second, packet, at, odd, deliver);
        } else {
            odd.note(Oddity::RtpStranger);
            self.candidate = Some(Candidate::new(packet, at, known.received));
        }
    }

    /// Returns whether the packet belongs to the track by its payload type. Counts it if it is dropped.
    fn accepts_type(
        &mut self,
        packet: &RtpPacket<'_>,
        at: Arrival,
        odd: &mut OddityCounts,
        deliver: &mut dyn FnMut(Ordered<'_>),
    ) -> bool {
        let payload_type = packet.header.payload_type;
        let is_named = self.payload_types.contains(payload_type);
        if is_named && self.adopted_type.take().is_some() {
            self.known = None;
        }
        if is_named || self.adopted_type == Some(payload_type) {
            // Before the first sequence, only packets of other types are held.
            if self.known.is_none() && self.candidate.take().is_some() {
                odd.note(Oddity::RtpPayloadType);
            }
            return true;
        }
        if self.known.is_some() || !self.payload_types.is_single() || self.window != ReorderWindow::TCP {
            odd.note(Oddity::RtpPayloadType);
            return false;
        }
        let Some(candidate) = self.candidate.replace(Candidate::new(packet, at, 0)) else {
            return false;
        };
        if candidate.held.header.payload_type != payload_type || !candidate.held.precedes(&packet.header) {
            odd.note(Oddity::RtpPayloadType);
            return false;
        }
        odd.note(Oddity::RtpPayloadTypeAdopted);
        self.adopted_type = Some(payload_type);
        self.candidate = None;
        let held = &candidate.held;
        self.known = Some(Sequence::begin(&held.packet(), held.at, self.window, odd, deliver));
        true
    }

    /// Returns when [`Self::expire`] is due, in microseconds of the monotonic clock of the arrivals.
    pub fn deadline(&self) -> Option<i64> {
        self.known.as_ref()?.deadline()
    }

    /// Delivers packets that waited long enough for an earlier one.
    pub fn expire(&mut self, now: Arrival, deliver: &mut dyn FnMut(Ordered<'_>)) {
        if let Some(known) = &mut self.known {
            known.release(now, deliver);
        }
    }

    /// Delivers all packets that wait, at the end of a connection.
    pub fn flush(&mut self, deliver: &mut dyn FnMut(Ordered<'_>)) {
        if let Some(known) = &mut self.known {
            known.flush(deliver);
        }
    }

    /// Notes that a source said goodbye (RTCP BYE): another may follow without the silence.
    pub fn source_ended(&mut self, ssrc: u32) {
        if let Some(known) = &mut self.known
            && known.ssrc == ssrc
        {
            known.has_ended = true;
        }
    }

    /// Returns the counts of the current sequence, or `None` before the first packet.
    pub fn reception(&self) -> Option<Reception> {
        self.known.as_ref().map(Sequence::reception)
    }
}

/// A packet that waits.
#[derive(Debug)]
struct Held {
    header: RtpHeader,
    payload: Box<[u8]>,
    at: Arrival,
}

impl Held {
    fn new(packet: &RtpPacket<'_>, at: Arrival) -> Self {
        Self { header: packet.header, payload: packet.payload.into(), at }
    }

    fn packet(&self) -> RtpPacket<'_> {
        RtpPacket { header: self.header, payload: &self.payload }
    }

    /// Returns whether the two begin a new sequence. Over UDP, the second may have overtaken the first.
    fn precedes(&self, second: &RtpHeader) -> bool {
        let step = second.sequence.wrapping_sub(self.header.sequence);
        self.header.ssrc == second.ssrc && step != 0 && step.min(step.wrapping_neg()) <= MAX_NEW_GAP
    }
}

/// A packet off the known sequence.
#[derive(Debug)]
struct Candidate {
    held: Held,
    /// Packets of the known sequence that had arrived before it.
    known_received: u64,
}

impl Candidate {
    fn new(packet: &RtpPacket<'_>, at: Arrival, known_received: u64) -> Self {
        Self { held: Held::new(packet, at), known_received }
    }

    /// Returns whether the known sequence outlived the packet. Without a living sequence, a packet does not expire: a still
    /// scene may send one in ten seconds.
    fn is_expired(&self, known: &Sequence, now: Arrival) -> bool {
        let age = now.monotonic_us.saturating_sub(self.held.at.monotonic_us);
        known.received != self.known_received && age >= SILENCE_US
    }

    /// Returns the positions of this packet and the next one if both continue the known sequence after a loss.
    fn continuation(&self, known: &Sequence, next: &RtpHeader) -> Option<(i64, i64)> {
        let is_next = known.received == self.known_received;
        Some((known.position_ahead(&self.held.header)?, known.position_ahead(next)?)).filter(|_| is_next)
    }
}

/// A run of sequence numbers. Positions are sequence numbers that do not wrap.
#[derive(Debug)]
struct Sequence {
    window: ReorderWindow,
    ssrc: u32,
    first: i64,
    /// All before it are delivered or lost. Before the first delivery, it lies a window before the first arrival: that one
    /// may have overtaken others.
    next: i64,
    is_started: bool,
    highest: i64,
    received: u64,
    /// Bit 0 is the position before `next`, and bit n the n-th before that. Set if that packet was delivered.
    delivered: u128,
    waiting: BTreeMap<i64, Held>,
    last_at: Arrival,
    has_ended: bool,
}

impl Sequence {
    fn new(first: &RtpHeader, window: ReorderWindow) -> Self {
        let position = ORIGIN.saturating_add(first.sequence.into());
        Self {
            window,
            ssrc: first.ssrc,
            first: position,
            next: position.saturating_sub(window.packets.into()),
            is_started: false,
            highest: position,
            received: 0,
            delivered: 0,
            waiting: BTreeMap::new(),
            last_at: Arrival { monotonic_us: 0, wall_us: 0 },
            has_ended: false,
        }
    }

    /// Returns the sequence that a packet begins.
    fn begin(
        packet: &RtpPacket<'_>,
        at: Arrival,
        window: ReorderWindow,
        odd: &mut OddityCounts,
        deliver: &mut dyn FnMut(Ordered<'_>),
    ) -> Self {
        let mut sequence = Self::new(&packet.header, window);
        sequence.push(sequence.highest, packet, at, odd, deliver);
        sequence
    }

    /// Returns the position of a packet, or `None` if it does not continue this sequence.
    fn position(&self, header: &RtpHeader) -> Option<i64> {
        if header.ssrc == self.ssrc {
            self.position_within(header, -MAX_MISORDER..MAX_DROPOUT)
        } else {
            self.position_within(header, 0..=MAX_SSRC_GAP.saturating_add(self.window.packets.into()))
        }
    }

    /// Returns the position of a packet that comes after a loss, with any SSRC.
    fn position_ahead(&self, header: &RtpHeader) -> Option<i64> {
        self.position_within(header, 0..MAX_DROPOUT)
    }

    fn position_within(&self, header: &RtpHeader, steps: impl RangeBounds<i64>) -> Option<i64> {
        let next = u16::try_from(self.next.rem_euclid(1 << 16)).ok()?;
        let step = i64::from(header.sequence.wrapping_sub(next).cast_signed());
        steps.contains(&step).then(|| self.next.saturating_add(step))
    }

    /// Returns whether a packet off this sequence may end it.
    fn may_end(&self, other: &RtpHeader, at: Arrival) -> bool {
        other.ssrc == self.ssrc
            || self.has_ended
            // One packet is no sequence yet (RFC 3550, appendix A.1): it may be the last of a dead session.
            || self.received < 2
            || at.monotonic_us.saturating_sub(self.last_at.monotonic_us) >= SILENCE_US
    }

    fn push(
        &mut self,
        position: i64,
        packet: &RtpPacket<'_>,
        at: Arrival,
        odd: &mut OddityCounts,
        deliver: &mut dyn FnMut(Ordered<'_>),
    ) {
        self.received = self.received.saturating_add(1);
        self.last_at = at;
        self.has_ended = false;
        if position < self.next {
            odd.note(if self.was_delivered(position) { Oddity::RtpRepeated } else { Oddity::RtpLate });
        } else if self.waiting.contains_key(&position) {
            odd.note(Oddity::RtpRepeated);
        } else {
            if packet.header.ssrc != self.ssrc {
                odd.note(Oddity::RtpSsrcChanged);
                self.ssrc = packet.header.ssrc;
            }
            self.highest = self.highest.max(position);
            if !self.is_started {
                self.first = self.first.min(position);
            }
            if self.window.packets == 0 || self.is_started && position == self.next {
                self.deliver(position, packet, at, deliver);
            } else {
                self.waiting.insert(position, Held::new(packet, at));
            }
        }
        self.release(at, deliver);
    }

    /// Delivers packets that wait for nothing any more.
    fn release(&mut self, now: Arrival, deliver: &mut dyn FnMut(Ordered<'_>)) {
        while let Some((&position, _)) = self.waiting.first_key_value() {
            let is_due = self.is_started && position == self.next
                || self.waiting.len() > self.window.packets.into()
                || self.deadline().is_some_and(|deadline| deadline <= now.monotonic_us);
            if !is_due {
                break;
            }
            self.deliver_first(deliver);
        }
    }

    fn flush(&mut self, deliver: &mut dyn FnMut(Ordered<'_>)) {
        while !self.waiting.is_empty() {
            self.deliver_first(deliver);
        }
    }

    /// Counts from the earliest arrival of all that wait: since then, packets before it are missing.
    fn deadline(&self) -> Option<i64> {
        let earliest = self.waiting.values().map(|held| held.at.monotonic_us).min()?;
        Some(earliest.saturating_add(self.window.microseconds))
    }

    fn deliver_first(&mut self, deliver: &mut dyn FnMut(Ordered<'_>)) {
        if let Some((position, held)) = self.waiting.pop_first() {
            self.deliver(position, &held.packet(), held.at, deliver);
        }
    }

    fn deliver(
        &mut self,
        position: i64,
        packet: &RtpPacket<'_>,
        at: Arrival,
        deliver: &mut dyn FnMut(Ordered<'_>),
    ) {
        let missing = position.saturating_sub(self.next);
        let shift = u32::try_from(missing.saturating_add(1)).unwrap_or(u32::MAX);
        self.delivered = self.delivered.checked_shl(shift).unwrap_or_default() | 1;
        self.next = position.saturating_add(1);
        let is_restart = !std::mem::replace(&mut self.is_started, true);
        deliver(Ordered {
            stamp: packet.header.stamp,
            has_marker: packet.header.has_marker,
            lost_before: if is_restart { 0 } else { u16::try_from(missing).unwrap_or(u16::MAX) },
            is_restart,
            payload: packet.payload,
            at,
        });
    }

    fn was_delivered(&self, position: i64) -> bool {
        let before = self.next.saturating_sub(position).saturating_sub(1);
        let shifted = u32::try_from(before).ok().and_then(|before| self.delivered.checked_shr(before));
        shifted.is_some_and(|delivered| delivered & 1 == 1)
    }

    fn reception(&self) -> Reception {
        let highest = self.highest.saturating_sub(ORIGIN).rem_euclid(1 << 32);
        Reception {
            ssrc: self.ssrc,
            highest_sequence: u32::try_from(highest).unwrap_or_default(),
            expected: self.highest.abs_diff(self.first).saturating_add(1),
            received: self.received,
        }
    }
}

#[cfg(test)]
mod tests;
