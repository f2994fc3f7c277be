//! From NAL units in pieces to access units.

use super::division::Division;
use super::nal_buffer::NalBuffer;
use super::picture::{Begin, MAX_CARRIED};
use crate::recorder::frame::{Arrival, Codec};
use crate::recorder::rtsp::codec::annex_b::NalSink;
use crate::recorder::rtsp::codec::nal::{NalHeader, NalKind};
use crate::recorder::rtsp::codec::parameter_sets::ParameterSets;
use crate::recorder::rtsp::codec::sei::RecoveryPoint;
use crate::recorder::rtsp::oddity::{Oddity, OddityCounts};

/// Most bytes of a unit, with room for the parameter sets of dropped ones.
const MAX_UNIT: usize = (16 << 20) - MAX_CARRIED;
/// Most bytes before a picture.
const MAX_PREFIX: usize = 4 << 20;
/// Most bytes of all units.
const MAX_TOTAL: usize = 24 << 20;
/// Bytes of a NAL unit that decide where it belongs.
const HEAD: usize = 64;

/// Where the current NAL unit goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Too few bytes came.
    Undecided,
    Prefix,
    Picture,
    /// Filler data, unknown units, and parts of a unit that is too large.
    Nowhere,
}

/// A NAL unit that is read.
#[derive(Debug)]
struct OpenNal {
    /// First bytes, until its place is decided.
    head: Vec<u8>,
    header: Option<NalHeader>,
    place: Place,
    /// The packet in which it begins.
    begin: Begin,
}

/// Puts the pieces of NAL units in place. The first bytes of a NAL unit decide where it belongs, so its data is copied once.
#[derive(Debug)]
pub struct UnitBuilder {
    codec: Codec,
    pub division: Division,
    open: Option<OpenNal>,
    /// The packet that is read.
    packet: Begin,
}

impl UnitBuilder {
    pub fn new(sets: ParameterSets, codec: Codec) -> Self {
        let packet = Begin { stamp: 0, at: Arrival { monotonic_us: 0, wall_us: 0 } };
        Self { codec, division: Division::new(sets, codec), open: None, packet }
    }

    /// Begins a packet.
    pub fn begin_packet(&mut self, stamp: u32, at: Arrival) {
        self.packet = Begin { stamp, at };
    }

    /// Returns the sink of a packet.
    pub fn sink<'a>(&'a mut self, odd: &'a mut OddityCounts) -> UnitSink<'a> {
        UnitSink { builder: self, odd }
    }

    /// Returns the place of a NAL unit by its first bytes.
    fn place(&mut self, open: &OpenNal, odd: &mut OddityCounts) -> Place {
        let Some(header) = open.header else {
            odd.note(Oddity::NalMalformed);
            return Place::Nowhere;
        };
        let may_join = self.division.picture.is_some() && self.division.prefix.nals.is_empty();
        match header.kind() {
            NalKind::Invalid => {
                odd.note(Oddity::NalUnknown);
                Place::Nowhere
            }
            NalKind::Filler => Place::Nowhere,
            kind if open.head.len() <= header.length()
                && !matches!(kind, NalKind::EndOfSequence | NalKind::EndOfStream) =>
            {
                odd.note(Oddity::NalMalformed);
                Place::Nowhere
            }
            NalKind::Partition => {
                self.division.add_partition(open.begin);
                Place::Picture
            }
            _ if header.is_slice() => {
                self.division.add_slice(header, &open.head, open.begin, odd);
                Place::Picture
            }
            _ if header.may_begin_unit() || !may_join => Place::Prefix,
            _ => Place::Picture,
        }
    }

    /// Returns where the bytes of a place go.
    fn buffer(&mut self, place: Place) -> Option<&mut NalBuffer> {
        match place {
            Place::Prefix => Some(&mut self.division.prefix.nals),
            Place::Picture => {
                self.division.picture.as_mut().filter(|picture| !picture.is_damaged).map(|p| &mut p.nals)
            }
            Place::Undecided | Place::Nowhere => None,
        }
    }

    /// Decides where the current NAL unit belongs, and writes its first bytes.
    fn decide(&mut self, odd: &mut OddityCounts) {
        let Some(mut open) = self.open.take() else {
            return;
        };
        open.header = NalHeader::read(self.codec, &open.head);
        if open.header.is_some_and(|header| header.is_marked_damaged) {
            odd.note(Oddity::NalForbiddenBit);
            if let Some(first) = open.head.first_mut() {
                *first &= 0x7f;
            }
        }
        open.place = self.place(&open, odd);
        let head = std::mem::take(&mut open.head);
        let place = open.place;
        self.open = Some(open);
        if let Some(nals) = self.buffer(place) {
            nals.begin();
        }
        self.write(&head, odd);
    }

    /// Writes bytes of the current NAL unit, whose place is decided.
    fn write(&mut self, bytes: &[u8], odd: &mut OddityCounts) {
        let Some(open) = &self.open else {
            return;
        };
        let (place, is_slice) = (open.place, open.header.is_some_and(NalHeader::is_slice));
        if is_slice && place == Place::Picture {
            self.division.continue_slice(self.packet.at);
        }
        let total = self.division.held().saturating_add(bytes.len());
        let limit = if place == Place::Prefix { MAX_PREFIX } else { MAX_UNIT };
        let Some(nals) = self.buffer(place) else {
            return;
        };
        let is_over = nals.len().saturating_add(bytes.len()) > limit || total > MAX_TOTAL;
        if !is_over {
            nals.append(bytes);
            return;
        }
        odd.note(Oddity::UnitTooLarge);
        if place == Place::Prefix {
            self.division.prefix.nals.abandon();
            self.division.drop_prefix();
        } else {
            self.division.drop_oversized();
        }
        if let Some(open) = &mut self.open {
            open.place = Place::Nowhere;
        }
    }

    fn append(&mut self, bytes: &[u8], odd: &mut OddityCounts) {
        let begin = self.packet;
        let open = self.open.get_or_insert_with(|| OpenNal {
            head: Vec::with_capacity(HEAD),
            header: None,
            place: Place::Undecided,
            begin,
        });
        if open.place != Place::Undecided {
            self.write(bytes, odd);
            return;
        }
        let room = HEAD.saturating_sub(open.head.len());
        let (head, rest) = bytes.split_at_checked(room).unwrap_or((bytes, &[]));
        open.head.extend_from_slice(head);
        if open.head.len() >= HEAD {
            self.decide(odd);
            if !rest.is_empty() {
                self.write(rest, odd);
            }
        }
    }

    fn end(&mut self, odd: &mut OddityCounts) {
        if self.open.as_ref().is_some_and(|open| open.place == Place::Undecided) {
            self.decide(odd);
        }
        let Some(open) = self.open.take() else {
            return;
        };
        if open.place == Place::Prefix
            && let Some(header) = open.header
        {
            self.read_prefix(header, odd);
        }
        if let Some(nals) = self.buffer(open.place) {
            nals.end();
        }
    }

    /// Reads a complete NAL unit before a picture.
    fn read_prefix(&mut self, header: NalHeader, odd: &mut OddityCounts) {
        let nal = self.division.prefix.nals.open_nal();
        match header.kind() {
            NalKind::Vps | NalKind::Sps | NalKind::Pps => {
                self.division.sets.add(nal, odd);
                self.division.prefix.has_sps |= header.kind() == NalKind::Sps;
            }
            NalKind::Sei => {
                self.division.prefix.recovery =
                    self.division.prefix.recovery.or(RecoveryPoint::read(header, nal));
            }
            _ => {}
        }
    }

    fn abandon(&mut self) {
        let Some(open) = self.open.take() else {
            return;
        };
        if let Some(nals) = self.buffer(open.place) {
            nals.abandon();
        }
        let header = open.header.or_else(|| NalHeader::read(self.codec, &open.head));
        match header {
            Some(header) if header.is_slice() && open.place != Place::Undecided => {
                self.division.cut_slice();
            }
            Some(header) => self.lose(header, open.begin),
            None => {}
        }
    }

    fn lose(&mut self, header: NalHeader, begin: Begin) {
        match header.kind() {
            // Nobody knows what an unknown unit has.
            NalKind::Invalid => self.division.lose_slice(begin),
            NalKind::Vps | NalKind::Sps | NalKind::Pps if header.layer == 0 => self.division.lose_set(),
            _ if header.is_slice() => self.division.lose_slice(begin),
            _ => {}
        }
    }
}

/// Sink of the NAL units of a packet.
#[derive(Debug)]
pub struct UnitSink<'a> {
    builder: &'a mut UnitBuilder,
    odd: &'a mut OddityCounts,
}

impl NalSink for UnitSink<'_> {
    fn append(&mut self, bytes: &[u8]) {
        self.builder.append(bytes, self.odd);
    }

    fn end(&mut self) {
        self.builder.end(self.odd);
    }

    fn abandon(&mut self) {
        self.builder.abandon();
    }

    fn lose(&mut self, header: &[u8]) {
        let begin = self.builder.packet;
        match NalHeader::read(self.builder.codec, header) {
            Some(header) => self.builder.lose(header, begin),
            // Without a header, nobody knows what is missing.
            None => self.builder.division.lose_slice(begin),
        }
    }

    fn note(&mut self, oddity: Oddity) {
        self.odd.note(oddity);
    }
}
