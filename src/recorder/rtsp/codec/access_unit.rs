//! Access units of the packets of a track.

mod builder;
mod division;
mod marks;
mod nal_buffer;
mod picture;
mod unit;

use super::super::super::frame::Codec;
use super::super::oddity::OddityCounts;
use super::super::rtp::order::Ordered;
use super::super::sdp::FormatParameters;
use super::fragment::{PacketFacts, Reassembly};
use super::h265::DecodingOrder;
use super::parameter_sets::ParameterSets;
use super::{h264, h265};

use self::builder::UnitBuilder;
pub use self::unit::{AccessUnit, RandomAccess};

/// Silence after a marker that ends a unit, in microseconds.
const MARKER_SILENCE_US: i64 = 500_000;

/// Makes access units of the packets of a track.
///
/// A unit ends when the first slice of the next picture comes, 500 ms after a marker, or at the end of the stream. A marker
/// alone never ends it: cameras set it on each slice, on SEI messages or on parameter sets. With a camera that sets it within
/// pictures, 500 ms end no unit either. NAL units before a first slice belong to its picture. A unit has a slice, or is not
/// emitted. Both fields of a frame are one unit.
///
/// A unit with a missing or malformed part is dropped and counted as lost. Its parameter sets join the next unit. NAL units stay
/// as they come, without start codes. Only filler data, NAL units of unknown types and those without content are dropped.
///
/// A unit has at most 16 MiB, and all units together 24 MiB.
#[derive(Debug)]
pub struct AccessUnitAssembler {
    payloads: PayloadFormat,
    reassembly: Reassembly,
    builder: UnitBuilder,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PayloadFormat {
    H264,
    H265(DecodingOrder),
}

impl AccessUnitAssembler {
    /// `parameters` are those of the description.
    pub fn new(codec: Codec, parameters: &FormatParameters, odd: &mut OddityCounts) -> Self {
        let mut sets = ParameterSets::new(codec);
        sets.add_description(parameters, odd);
        let payloads = match codec {
            Codec::H264 => PayloadFormat::H264,
            Codec::H265 => PayloadFormat::H265(DecodingOrder::read(parameters.get("sprop-max-don-diff"))),
        };
        Self { payloads, reassembly: Reassembly::default(), builder: UnitBuilder::new(sets, codec) }
    }

    /// Takes the next packet. Returns the oldest unit that is complete. [`Self::next_unit`] returns further ones.
    pub fn push(&mut self, packet: Ordered<'_>, odd: &mut OddityCounts) -> Option<AccessUnit> {
        let follows_loss = packet.lost_before > 0 || packet.is_restart;
        let facts = PacketFacts { stamp: packet.stamp, has_marker: packet.has_marker, follows_loss };
        if follows_loss {
            self.builder.division.expect_loss();
            self.reassembly.interrupt(facts, &mut self.builder.sink(odd));
            self.builder.division.add_loss(packet.lost_before);
        }
        self.builder.begin_packet(packet.stamp, packet.at);
        let sink = &mut self.builder.sink(odd);
        match self.payloads {
            PayloadFormat::H264 => h264::depacketize(packet.payload, facts, &mut self.reassembly, sink),
            PayloadFormat::H265(order) => {
                h265::depacketize(packet.payload, order, facts, &mut self.reassembly, sink);
            }
        }
        if packet.has_marker {
            self.builder.division.mark();
        }
        self.builder.division.pop()
    }

    /// Returns a further unit that the last packet completed. A packet mostly completes one, but a byte stream in one packet
    /// may have several.
    pub fn next_unit(&mut self) -> Option<AccessUnit> {
        self.builder.division.pop()
    }

    /// Returns when [`Self::flush`] is due, in microseconds of the monotonic clock of the arrivals. Returns `None` without a
    /// marker, and with a camera that sets it within pictures.
    pub fn deadline(&self) -> Option<i64> {
        Some(self.builder.division.marked_at()?.monotonic_us.saturating_add(MARKER_SILENCE_US))
    }

    /// Returns the current unit if it has a marker and 500 ms have passed. `now_us` are microseconds of the monotonic clock.
    pub fn flush(&mut self, now_us: i64, odd: &mut OddityCounts) -> Option<AccessUnit> {
        if self.deadline().is_some_and(|deadline| deadline <= now_us) {
            self.reassembly.end_marked(&mut self.builder.sink(odd));
            self.builder.division.end_unit(false);
        }
        self.builder.division.pop()
    }

    /// Returns the last unit, at the end of the stream. [`Self::next_unit`] returns a further one: an unfinished NAL unit may be
    /// a unit of its own.
    pub fn finish(&mut self, odd: &mut OddityCounts) -> Option<AccessUnit> {
        self.reassembly.flush(&mut self.builder.sink(odd));
        self.builder.division.end_unit(true);
        self.builder.division.pop()
    }

    /// Returns the bytes of all units that grow or wait, at most 24 MiB.
    pub fn held(&self) -> usize {
        self.builder.division.held()
    }
}

#[cfg(test)]
mod tests;
