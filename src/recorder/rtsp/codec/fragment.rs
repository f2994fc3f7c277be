//! NAL units in fragmentation units: FU-A of H.264 (RFC 6184, section 5.8), FU of H.265 (RFC 7798, section 4.4.3).

use super::super::oddity::Oddity;
use super::annex_b::{NalSink, StartCodeSplitter};

/// Header for a lost part of a payload whose NAL units are unknown: type 0, which is unspecified in H.264, and a slice in H.265.
const ANY_HEADER: [u8; 2] = [0, 0];

/// Facts about a packet that all its NAL units share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketFacts {
    pub stamp: u32,
    pub has_marker: bool,
    /// Packets are missing just before this one.
    pub follows_loss: bool,
}

/// A part of a NAL unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment<'a> {
    /// Header of the NAL unit, made of the packet's two headers: one byte, or two for H.265.
    pub header: &'a [u8],
    pub is_start: bool,
    pub is_end: bool,
    pub data: &'a [u8],
}

/// Joins the fragments of a NAL unit. The bits of a camera alone prove nothing:
/// - Fragments join only without a loss between them, and with the same stamp.
/// - A start within a NAL unit, or a packet with another one, drops the unfinished NAL unit.
/// - If its last fragment had the marker, it was only the end bit that was missing. Before a loss, this counts only with a
///   camera that sets no end bit, and no marker within NAL units.
/// - A fragment without a NAL unit to continue is lost.
#[derive(Debug, Default)]
pub struct Reassembly {
    open: Option<OpenNal>,
    /// The camera sets end bits, or the marker within NAL units.
    needs_end_bit: bool,
}

#[derive(Debug)]
struct OpenNal {
    splitter: StartCodeSplitter,
    stamp: u32,
    has_marker: bool,
    header: [u8; 2],
}

impl Reassembly {
    /// Takes the fragment of a packet.
    pub fn push(&mut self, fragment: Fragment<'_>, packet: PacketFacts, sink: &mut impl NalSink) {
        if !fragment.is_start && self.continues(packet) {
            self.append(fragment, packet, sink);
            return;
        }
        self.interrupt(packet, sink);
        if !fragment.is_start {
            // After a loss, this is no deviation.
            if !packet.follows_loss {
                sink.note(Oddity::FragmentWithoutStart);
            }
            sink.lose(fragment.header);
            return;
        }
        let mut splitter = StartCodeSplitter::default();
        splitter.push(fragment.header, sink);
        self.open = Some(OpenNal {
            splitter,
            stamp: packet.stamp,
            has_marker: false,
            header: short_header(fragment.header),
        });
        if fragment.is_end {
            sink.note(Oddity::FragmentWhole);
        }
        self.append(fragment, packet, sink);
    }

    /// Ends or drops the unfinished NAL unit, because this packet does not continue it.
    pub fn interrupt(&mut self, packet: PacketFacts, sink: &mut impl NalSink) {
        let Some(mut open) = self.open.take() else {
            return;
        };
        // A loss may have had the rest.
        let may_lack_rest = packet.follows_loss && (packet.stamp == open.stamp || self.needs_end_bit);
        let is_whole = open.has_marker && !may_lack_rest;
        if is_whole {
            sink.note(Oddity::FragmentWithoutEnd);
            open.splitter.finish(sink);
        } else {
            if !packet.follows_loss {
                sink.note(Oddity::FragmentUnfinished);
            }
            abandon(open, sink);
        }
    }

    /// Ends or drops the unfinished NAL unit at the end of the stream.
    pub fn flush(&mut self, sink: &mut impl NalSink) {
        let Some(mut open) = self.open.take() else {
            return;
        };
        if open.has_marker && !self.needs_end_bit {
            sink.note(Oddity::FragmentWithoutEnd);
            open.splitter.finish(sink);
        } else {
            abandon(open, sink);
        }
    }

    /// Ends the unfinished NAL unit if its last fragment had the marker.
    pub fn end_marked(&mut self, sink: &mut impl NalSink) {
        if let Some(mut open) = self.open.take_if(|open| open.has_marker) {
            sink.note(Oddity::FragmentWithoutEnd);
            open.splitter.finish(sink);
        }
    }

    fn continues(&self, packet: PacketFacts) -> bool {
        !packet.follows_loss && self.open.as_ref().is_some_and(|open| open.stamp == packet.stamp)
    }

    fn append(&mut self, fragment: Fragment<'_>, packet: PacketFacts, sink: &mut impl NalSink) {
        let Some(open) = &mut self.open else {
            return;
        };
        if open.header != short_header(fragment.header) {
            sink.note(Oddity::FragmentOtherHeader);
        }
        open.splitter.push(fragment.data, sink);
        self.needs_end_bit |= open.has_marker || fragment.is_end && !fragment.is_start;
        open.has_marker = packet.has_marker;
        if fragment.is_end {
            open.splitter.finish(sink);
            self.open = None;
        }
    }
}

fn abandon(mut open: OpenNal, sink: &mut impl NalSink) {
    // With start codes in it, NAL units of any kind are missing.
    let is_any_missing = open.splitter.has_split() || !open.splitter.is_open();
    open.splitter.abandon(sink);
    if is_any_missing {
        sink.lose(&ANY_HEADER);
    }
}

/// Returns the first two bytes of a header. Shorter ones are followed by zeros.
fn short_header(header: &[u8]) -> [u8; 2] {
    let mut bytes = header.iter().copied();
    [bytes.next().unwrap_or_default(), bytes.next().unwrap_or_default()]
}
