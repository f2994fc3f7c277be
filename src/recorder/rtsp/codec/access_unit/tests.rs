use std::collections::BTreeSet;

use proptest::prelude::*;

use super::super::nal::{NalHeader, NalKind};
use super::*;
use crate::recorder::frame::Arrival;
use crate::recorder::rtsp::oddity::Oddity;
use crate::recorder::rtsp::rtp::RtpPacket;
use crate::recorder::rtsp::rtp::order::{PacketOrder, ReorderWindow};

/// A clip of 18 pictures as a byte stream, and in packets of at most 400 bytes that ffmpeg wrote (`-f rtp`), each after its
/// length in two bytes. A byte stream has no times, so pictures with B-frames have the stamps of the order in which ffprobe
/// shows them.
struct Clip {
    name: &'static str,
    codec: Codec,
    stream: &'static [u8],
    packets: &'static [u8],
}

/// Three slices a picture, B-frames, access unit delimiters (libx264 `slices=3:bframes=2:aud=1:keyint=8`).
const SLICES: Clip = Clip {
    name: "slices",
    codec: Codec::H264,
    stream: include_bytes!("fixtures/slices.h264"),
    packets: include_bytes!("fixtures/slices.h264.rtp"),
};
/// Recovery points instead of IDR pictures (libx264 `intra-refresh=1:keyint=8`).
const REFRESH: Clip = Clip {
    name: "refresh",
    codec: Codec::H264,
    stream: include_bytes!("fixtures/refresh.h264"),
    packets: include_bytes!("fixtures/refresh.h264.rtp"),
};
/// CRA pictures with RASL pictures, two slices a picture, delimiters (libx265 `open-gop=1:slices=2:aud=1:keyint=8`).
const OPEN_GOP: Clip = Clip {
    name: "open GOP",
    codec: Codec::H265,
    stream: include_bytes!("fixtures/open_gop.h265"),
    packets: include_bytes!("fixtures/open_gop.h265.rtp"),
};
const CLIPS: [&Clip; 3] = [&SLICES, &REFRESH, &OPEN_GOP];
const PICTURES: usize = 18;

/// A packet in order.
#[derive(Clone, Debug)]
struct Packet {
    stamp: u32,
    has_marker: bool,
    lost_before: u16,
    payload: Vec<u8>,
    at_us: i64,
    /// Number of its picture in the clip, by the markers of ffmpeg.
    picture: usize,
}

impl Packet {
    fn new(stamp: u32, has_marker: bool, payload: &[u8]) -> Self {
        let at_us = i64::from(stamp) * 100 / 9;
        Self { stamp, has_marker, lost_before: 0, payload: payload.to_vec(), at_us, picture: 0 }
    }
}

impl Clip {
    /// Returns the NAL units between the start codes.
    fn nals(&self) -> Vec<Vec<u8>> {
        let mut nals = Vec::new();
        let mut rest = self.stream;
        while let Some(begin) = rest.windows(3).position(|window| window == [0, 0, 1]) {
            rest = &rest[begin + 3..];
            let end = rest.windows(3).position(|window| window == [0, 0, 1]).unwrap_or(rest.len());
            let mut nal = rest[..end].to_vec();
            while nal.last() == Some(&0) {
                nal.pop();
            }
            nals.push(nal);
        }
        nals
    }

    fn packets(&self) -> Vec<Packet> {
        let mut order = PacketOrder::new(ReorderWindow::TCP, [96].into_iter().collect());
        let mut odd = OddityCounts::default();
        let mut packets = Vec::new();
        let mut rest = self.packets;
        while let Some((length, after)) = rest.split_first_chunk() {
            let (packet, after) = after.split_at(u16::from_be_bytes(*length).into());
            rest = after;
            let mut packet = packet.to_vec();
            let packet = RtpPacket::parse(&mut packet, &mut odd).unwrap();
            let at = Arrival { monotonic_us: 0, wall_us: 0 };
            order.push(&packet, at, &mut odd, &mut |packet| {
                packets.push(Packet::new(packet.stamp, packet.has_marker, packet.payload));
            });
        }
        assert_eq!(odd, OddityCounts::default());
        let first = packets[0].stamp;
        let mut picture = 0;
        for packet in &mut packets {
            packet.stamp = packet.stamp.wrapping_sub(first);
            packet.at_us = i64::from(packet.stamp) * 100 / 9;
            packet.picture = picture;
            picture += usize::from(packet.has_marker);
        }
        assert_eq!(picture, PICTURES);
        packets
    }

    /// Returns the units of the packets. There is no oddity.
    fn units(&self, packets: &[Packet]) -> Vec<AccessUnit> {
        let (units, odd) = assemble(self.codec, packets);
        assert_eq!(odd.iter().collect::<Vec<_>>(), [], "{}", self.name);
        units
    }

    fn is_slice(&self, nal: &[u8]) -> bool {
        NalHeader::read(self.codec, nal).unwrap().is_slice()
    }

    /// Returns whether a payload has the end of a slice, by the bits of its headers.
    fn ends_slice(&self, payload: &[u8]) -> bool {
        let h264 = self.codec == Codec::H264;
        let kind = if h264 { payload[0] & 0x1f } else { payload[0] >> 1 & 0x3f };
        let is_slice = |kind: u8| if h264 { matches!(kind, 1 | 5) } else { kind < 32 };
        match (h264, kind) {
            (true, 28) => is_slice(payload[1] & 0x1f) && payload[1] & 0x40 != 0,
            (false, 49) => is_slice(payload[2] & 0x3f) && payload[2] & 0x40 != 0,
            // Only parameter sets come in short ones.
            (true, 24) | (false, 48) => payload.len() > 100,
            _ => is_slice(kind),
        }
    }

    fn slices(&self, unit: &AccessUnit) -> Vec<Vec<u8>> {
        nals(unit).into_iter().filter(|nal| self.is_slice(nal)).collect()
    }
}

fn assembler(codec: Codec) -> AccessUnitAssembler {
    AccessUnitAssembler::new(codec, &FormatParameters::default(), &mut OddityCounts::default())
}

fn assemble(codec: Codec, packets: &[Packet]) -> (Vec<AccessUnit>, OddityCounts) {
    let mut odd = OddityCounts::default();
    let mut assembler = assembler(codec);
    let mut units = Vec::new();
    for (index, packet) in packets.iter().enumerate() {
        let packet = Ordered {
            stamp: packet.stamp,
            has_marker: packet.has_marker,
            lost_before: packet.lost_before,
            is_restart: index == 0,
            payload: &packet.payload,
            at: Arrival { monotonic_us: packet.at_us, wall_us: packet.at_us },
        };
        units.extend(assembler.push(packet, &mut odd));
        units.extend(std::iter::from_fn(|| assembler.next_unit()));
        assert!(assembler.held() <= 24 << 20);
    }
    units.extend(assembler.finish(&mut odd));
    units.extend(std::iter::from_fn(|| assembler.next_unit()));
    for unit in &units {
        assert_well_formed(codec, unit);
    }
    (units, odd)
}

fn nals(unit: &AccessUnit) -> Vec<Vec<u8>> {
    let mut nals = Vec::new();
    let mut rest = unit.data.as_slice();
    while !rest.is_empty() {
        let (length, after) = rest.split_first_chunk().unwrap();
        let (nal, after) = after.split_at(u32::from_be_bytes(*length).try_into().unwrap());
        nals.push(nal.to_vec());
        rest = after;
    }
    nals
}

fn assert_well_formed(codec: Codec, unit: &AccessUnit) {
    assert!(unit.data.len() <= 16 << 20);
    assert!(unit.first_at.monotonic_us <= unit.last_at.monotonic_us);
    let headers: Vec<_> = nals(unit).iter().map(|nal| NalHeader::read(codec, nal).unwrap()).collect();
    assert!(headers.iter().any(|header| header.is_slice()), "no slice in {headers:?}");
    for header in headers {
        assert!(!matches!(header.kind(), NalKind::Invalid | NalKind::Filler), "{header:?}");
        assert!(!header.is_marked_damaged, "{header:?}");
    }
}

/// Returns packets with one NAL unit each.
fn singles(packets: &[(u32, bool, &[u8])]) -> Vec<Packet> {
    packets.iter().map(|(stamp, has_marker, nal)| Packet::new(*stamp, *has_marker, nal)).collect()
}

#[test]
fn clips_return_each_nal_unit() {
    for clip in CLIPS {
        let packets = clip.packets();
        let units = clip.units(&packets);
        assert_eq!(units.iter().flat_map(nals).collect::<Vec<_>>(), clip.nals(), "{}", clip.name);
        assert_eq!(units.len(), PICTURES, "{}", clip.name);
        let stamps: BTreeSet<_> = packets.iter().map(|packet| packet.stamp).collect();
        let unit_stamps: BTreeSet<_> = units.iter().map(|unit| unit.stamp).collect();
        assert_eq!(unit_stamps, stamps, "{}", clip.name);
        for (index, unit) in units.iter().enumerate() {
            assert_eq!(unit.is_contiguous, index > 0);
            assert_eq!(unit.lost_packets, 0);
            assert_eq!(unit.first_at.monotonic_us, i64::from(unit.stamp) * 100 / 9);
            assert!(unit.parameters.is_some());
        }
    }
}

#[test]
fn random_access_follows_nal_units_and_recovery_points() {
    use RandomAccess::{Idr, OpenGop};

    let random_access = |clip: &Clip| {
        let units = clip.units(&clip.packets());
        let list = units.iter().enumerate().map(|(index, unit)| (index, unit.random_access));
        list.filter(|(_, random_access)| *random_access != RandomAccess::None).collect::<Vec<_>>()
    };
    assert_eq!(random_access(&SLICES), [(0, Idr), (8, Idr), (16, Idr)]);
    let [(0, Idr), (8, first), (16, second)] = random_access(&REFRESH)[..] else {
        panic!("{:?}", random_access(&REFRESH));
    };
    assert_eq!(first, second);
    assert!(matches!(first, RandomAccess::RecoveryPoint { frames: 1.. }), "{first:?}");
    let open_gop: Vec<_> =
        random_access(&OPEN_GOP).into_iter().map(|(_, random_access)| random_access).collect();
    assert_eq!(open_gop, [Idr, OpenGop, OpenGop]);
}

#[test]
fn markers_and_stamps_do_not_change_units() {
    for clip in CLIPS {
        let packets = clip.packets();
        let expected: Vec<_> = clip.units(&packets).into_iter().map(|unit| unit.data).collect();
        for markers in [None, Some(false), Some(true)] {
            for has_one_stamp in [false, true] {
                let mut packets = packets.clone();
                for packet in &mut packets {
                    packet.has_marker = markers.unwrap_or(packet.has_marker);
                    packet.stamp = if has_one_stamp { 7 } else { packet.stamp };
                }
                let units = clip.units(&packets);
                assert_eq!(units.len(), PICTURES, "{} {markers:?} {has_one_stamp}", clip.name);
                let data: Vec<_> = units.into_iter().map(|unit| unit.data).collect();
                assert_eq!(data, expected, "{} {markers:?} {has_one_stamp}", clip.name);
            }
        }
    }
}

/// How a camera uses stamps and markers.
#[derive(Clone, Copy, Debug)]
struct Habit {
    has_one_stamp: bool,
    markers: Markers,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Markers {
    EndOfPicture,
    Never,
    EachPacket,
    /// Packets with the end of a slice have it.
    EachSlice,
    /// A NAL unit of filler data after each picture has it.
    Filler,
}

impl Habit {
    fn all() -> impl Iterator<Item = Self> {
        use Markers::{EachPacket, EachSlice, EndOfPicture, Filler, Never};

        let markers = [EndOfPicture, Never, EachPacket, EachSlice, Filler];
        markers
            .into_iter()
            .flat_map(|markers| [false, true].map(|has_one_stamp| Self { has_one_stamp, markers }))
    }

    fn packets(self, clip: &Clip) -> Vec<Packet> {
        let mut packets = Vec::new();
        for mut packet in clip.packets() {
            let is_end = packet.has_marker;
            packet.has_marker = match self.markers {
                Markers::EndOfPicture => is_end,
                Markers::Never | Markers::Filler => false,
                Markers::EachPacket => true,
                Markers::EachSlice => clip.ends_slice(&packet.payload),
            };
            if self.has_one_stamp {
                packet.stamp = 7;
            }
            packets.push(packet.clone());
            if is_end && self.markers == Markers::Filler {
                packet.payload = match clip.codec {
                    Codec::H264 => vec![0x0c, 0xff, 0x80],
                    Codec::H265 => vec![0x4c, 1, 0xff, 0x80],
                };
                packets.push(Packet { has_marker: true, ..packet });
            }
        }
        packets
    }

    /// Returns whether markers or stamps say which picture the packets after a loss belong to.
    fn is_clear(self) -> bool {
        match self.markers {
            Markers::EndOfPicture => true,
            Markers::Filler => false,
            _ => !self.has_one_stamp,
        }
    }

    /// Returns whether the first pictures teach what the markers mean, or how many slices a picture has. A loss within them can
    /// cost another picture, or let a picture count as whole after the marker of its first slice.
    fn is_learned(self) -> bool {
        match self.markers {
            Markers::EndOfPicture => self.has_one_stamp,
            Markers::Filler => false,
            Markers::Never | Markers::EachPacket | Markers::EachSlice => true,
        }
    }
}

/// Loses packets of a clip. Each unit is a whole picture, and counts the packets that are missing since the previous one. A
/// loss costs its own picture. If nothing says which one that is, it costs the neighbours at most.
fn assert_losses(clip: &Clip, habit: Habit, lost: &BTreeSet<usize>) {
    let expected: Vec<_> = clip.units(&clip.packets()).iter().map(|unit| clip.slices(unit)).collect();
    let all = habit.packets(clip);
    let mut packets = Vec::new();
    let mut missing = 0;
    for (index, packet) in all.iter().enumerate() {
        if lost.contains(&index) {
            missing += 1;
        } else {
            packets.push(Packet { lost_before: std::mem::take(&mut missing), ..packet.clone() });
        }
    }
    let context = format!("{} {habit:?} {lost:?}", clip.name);
    let lost: Vec<_> = lost.iter().filter_map(|index| all.get(*index)).map(|packet| packet.picture).collect();
    let (units, _) = assemble(clip.codec, &packets);
    let mut found: Vec<usize> = Vec::new();
    for unit in &units {
        let picture = expected.iter().position(|slices| *slices == clip.slices(unit));
        let picture = picture.unwrap_or_else(|| panic!("{context}: a unit is no whole picture"));
        let next = found.last().map_or(0, |last| last + 1);
        assert!(picture >= next, "{context}: {picture} comes again");
        let count = lost.iter().filter(|lost| (next..=picture).contains(lost)).count();
        assert_eq!(usize::from(unit.lost_packets), count, "{context}: {picture}");
        let is_contiguous = !found.is_empty() && picture == next && count == 0;
        assert_eq!(unit.is_contiguous, is_contiguous, "{context}: {picture}");
        found.push(picture);
    }
    let reach = usize::from(!habit.is_clear());
    for picture in (0..PICTURES).filter(|picture| !found.contains(picture)) {
        let is_hit = lost.iter().any(|lost| lost.abs_diff(picture) <= reach);
        assert!(is_hit, "{context}: {picture} is missing");
    }
}

/// Returns the first packet that may be lost: the first one has no packets before it, and the first pictures teach.
fn first_loss(clip: &Clip, habit: Habit) -> usize {
    let taught = if habit.is_learned() { 2 } else { 0 };
    habit.packets(clip).iter().position(|packet| packet.picture == taught).unwrap().max(1)
}

#[test]
fn lost_packets_cost_only_their_units() {
    for clip in CLIPS {
        for habit in Habit::all() {
            let end = habit.packets(clip).len();
            for first in first_loss(clip, habit)..end {
                assert_losses(clip, habit, &[first].into());
                assert_losses(clip, habit, &[first, first + 1].into());
            }
        }
    }
}

#[test]
fn loss_before_the_second_picture_does_not_change_what_markers_mean() {
    // With one stamp, nothing says that the second slice of picture 1 is not one of picture 0.
    let habit = Habit { has_one_stamp: true, markers: Markers::EndOfPicture };
    let mut packets = habit.packets(&OPEN_GOP);
    for picture in [4, 1] {
        let first = packets.iter().position(|packet| packet.picture == picture).unwrap();
        packets.remove(first);
        packets[first].lost_before = 1;
    }
    let expected: Vec<_> =
        OPEN_GOP.units(&OPEN_GOP.packets()).iter().map(|unit| OPEN_GOP.slices(unit)).collect();
    let (units, _) = assemble(Codec::H265, &packets);
    let found: Vec<_> = units.iter().map(|unit| OPEN_GOP.slices(unit)).collect();
    assert_eq!(found, [&expected[2..4], &expected[5..]].concat());
}

#[test]
fn damaged_packet_costs_only_its_unit() {
    for clip in CLIPS {
        let packets = clip.packets();
        for (index, packet) in packets.iter().enumerate().skip(1) {
            let half = &packet.payload[..packet.payload.len() / 2];
            // An aggregate with lost lengths, an interleaved payload, an unknown one, and nothing.
            let payloads: [&[u8]; 6] = match clip.codec {
                Codec::H264 => [half, &[], &[0x78, 9], &[0x79, 0, 0, 1], &[0x7f, 1, 2], &[0; 50]],
                Codec::H265 => [half, &[], &[0x60, 1, 9], &[0x64, 1, 0, 0], &[0x7e, 1, 2], &[0; 50]],
            };
            for payload in payloads {
                let mut packets = packets.clone();
                packets[index].payload = payload.to_vec();
                let (units, _) = assemble(clip.codec, &packets);
                let key = |unit: &AccessUnit| (unit.stamp, clip.slices(unit));
                let found: BTreeSet<_> = units.iter().map(key).collect();
                let expected = clip.units(&clip.packets());
                let missing = expected.iter().filter(|unit| !found.contains(&key(unit)));
                let missing: Vec<_> = missing.map(|unit| unit.stamp).collect();
                assert!(
                    missing.iter().all(|stamp| *stamp == packet.stamp),
                    "{} {index} {payload:x?}: {missing:?}",
                    clip.name
                );
            }
        }
    }
}

#[test]
fn sei_with_marker_after_each_picture_joins_the_next_one() {
    let sei: &[u8] = &[0x4e, 1, 5, 1, 9, 0x80];
    let mut packets = Vec::new();
    for packet in OPEN_GOP.packets() {
        let ends = packet.has_marker;
        packets.push(Packet { has_marker: false, ..packet.clone() });
        if ends {
            packets.push(Packet { has_marker: true, payload: sei.to_vec(), ..packet });
        }
    }
    let units = OPEN_GOP.units(&packets);
    assert_eq!(units.len(), PICTURES);
    for (index, unit) in units.iter().enumerate() {
        assert_eq!(nals(unit).iter().filter(|nal| *nal == sei).count(), usize::from(index > 0));
    }
    assert_eq!(units[0].random_access, RandomAccess::Idr);
}

#[test]
fn sets_with_marker_and_stamp_of_the_previous_picture_join_the_next_one() {
    let packets = SLICES.packets();
    let expected = SLICES.units(&packets);
    let mut sent = Vec::new();
    for unit in &expected {
        let before = unit.stamp.saturating_sub(9000);
        for nal in nals(unit) {
            let is_slice = SLICES.is_slice(&nal);
            sent.push(Packet::new(if is_slice { unit.stamp } else { before }, !is_slice, &nal));
        }
        sent.last_mut().unwrap().has_marker = true;
    }
    let units = SLICES.units(&sent);
    let of = |units: &[AccessUnit]| {
        units.iter().map(|unit| (unit.stamp, unit.data.clone(), unit.random_access)).collect::<Vec<_>>()
    };
    assert_eq!(of(&units), of(&expected));
}

#[test]
fn byte_streams_in_fragments_return_each_nal_unit() {
    let expected = SLICES.units(&SLICES.packets());
    for size in [1, 2, 7, 1000] {
        let mut packets = Vec::new();
        for unit in &expected {
            let stream: Vec<u8> =
                nals(unit).iter().flat_map(|nal| [&[0, 0, 0, 1][..], nal.as_slice()].concat()).collect();
            let count = stream[1..].chunks(size).count();
            for (index, part) in stream[1..].chunks(size).enumerate() {
                let (is_start, is_end) = (index == 0, index + 1 == count);
                let fu = u8::from(is_start) << 7 | u8::from(is_end) << 6;
                packets.push(Packet::new(unit.stamp, is_end, &[&[0x1c, fu], part].concat()));
            }
        }
        let (units, odd) = assemble(Codec::H264, &packets);
        assert!(units.iter().map(|unit| &unit.data).eq(expected.iter().map(|unit| &unit.data)), "{size}");
        assert_eq!(odd.get(Oddity::StartCode), 18);
    }
}

#[test]
fn several_pictures_in_one_packet_are_several_units() {
    let sent = &SLICES.nals()[..19];
    let stream: Vec<u8> = sent.iter().flat_map(|nal| [&[0, 0, 0, 1][..], nal.as_slice()].concat()).collect();
    let (units, odd) = assemble(SLICES.codec, &[Packet::new(0, true, &stream)]);
    assert_eq!(units.len(), 4);
    assert_eq!(units.iter().flat_map(nals).collect::<Vec<_>>(), sent);
    assert_eq!(odd.iter().collect::<Vec<_>>(), [(Oddity::StartCode, 1)]);
}

#[test]
fn unit_ends_half_a_second_after_its_marker() {
    let packets = SLICES.packets();
    let mut assembler = assembler(SLICES.codec);
    let mut odd = OddityCounts::default();
    for (index, packet) in packets.iter().enumerate() {
        let at = Arrival { monotonic_us: 1_000, wall_us: 0 };
        let ordered = Ordered {
            stamp: packet.stamp,
            has_marker: packet.has_marker,
            lost_before: 0,
            is_restart: index == 0,
            payload: &packet.payload,
            at,
        };
        assert_eq!(assembler.push(ordered, &mut odd), None);
        if packet.has_marker {
            break;
        }
        assert_eq!(assembler.deadline(), None);
        assert_eq!(assembler.flush(i64::MAX, &mut odd), None);
    }
    assert_eq!(assembler.deadline(), Some(501_000));
    assert_eq!(assembler.flush(500_999, &mut odd), None);
    let unit = assembler.flush(501_000, &mut odd).unwrap();
    assert_eq!(unit.random_access, RandomAccess::Idr);
    assert_eq!(assembler.deadline(), None);
    assert_eq!(assembler.finish(&mut odd), None);
}

#[test]
fn markers_within_pictures_end_no_unit_in_silence() {
    let habit = Habit { has_one_stamp: false, markers: Markers::EachSlice };
    for clip in [&SLICES, &OPEN_GOP] {
        let packets = habit.packets(clip);
        let mut assembler = assembler(clip.codec);
        let mut odd = OddityCounts::default();
        let mut slices = 0;
        for packet in &packets {
            slices += usize::from(packet.has_marker);
            let ordered = Ordered {
                stamp: packet.stamp,
                has_marker: packet.has_marker,
                lost_before: 0,
                is_restart: false,
                payload: &packet.payload,
                at: Arrival { monotonic_us: packet.at_us, wall_us: 0 },
            };
            assembler.push(ordered, &mut odd);
            if slices > 1 {
                assert_eq!(assembler.deadline(), None);
                assert_eq!(assembler.flush(i64::MAX, &mut odd), None);
            }
        }
    }
}

#[test]
fn aggregate_that_ends_after_a_length_drops_its_unit() {
    for clip in [&SLICES, &OPEN_GOP] {
        let mut packets = clip.packets();
        let units = clip.units(&packets);
        let last_slice = clip.slices(&units[3]).pop().unwrap();
        let packet = packets.iter_mut().find(|packet| packet.picture == 3).unwrap();
        let position =
            packet.payload.windows(last_slice.len()).position(|bytes| bytes == last_slice).unwrap();
        packet.payload.truncate(position);
        let (found, odd) = assemble(clip.codec, &packets);
        assert_eq!(odd.get(Oddity::AggregateLength), 1);
        assert_eq!(found.len(), PICTURES - 1);
        assert_eq!(clip.slices(&found[3]), clip.slices(&units[4]));
        assert_eq!((found[3].lost_packets, found[3].is_contiguous), (1, false));
    }
}

/// Sets of an interlaced stream (libx264 `tff=1`): `frame_num` and `pic_order_cnt_lsb` have four bits each.
const FIELD_SPS: &[u8] = &[
    0x67, 0x4d, 0x40, 0x15, 0xf2, 0x08, 0x9b, 0x01, 0x10, 0x00, 0x00, 0x03, 0x00, 0x10, 0x00, 0x00, 0x03,
    0x01, 0x41, 0xf1, 0x42, 0xa4, 0x80,
];
const FIELD_PPS: &[u8] = &[0x68, 0xdb, 0x83, 0xcb, 0x20];

/// Writes a slice of one macroblock row of a field: I slices in IDR pictures, else P slices.
fn field(nal_unit_type: u8, first_macroblock: &str, frame_num: u8, is_bottom: bool, order: u8) -> Vec<u8> {
    let is_idr = nal_unit_type == 5;
    let slice_type = if is_idr { "0001000" } else { "00110" };
    let idr_pic_id = if is_idr { "1" } else { "" };
    let bits = format!(
        "{first_macroblock}{slice_type}1{frame_num:04b}1{}{idr_pic_id}{order:04b}1111111111111111",
        u8::from(is_bottom)
    );
    let bytes = bits.as_bytes().chunks_exact(8);
    let mut nal = vec![0x60 | nal_unit_type];
    nal.extend(bytes.map(|byte| byte.iter().fold(0, |byte, bit| byte << 1 | (bit - b'0'))));
    nal
}

#[test]
fn both_fields_of_a_frame_are_one_unit() {
    let delimiter: &[u8] = &[0x09, 0xf0];
    let fields = [
        field(5, "1", 0, false, 0),
        field(1, "1", 0, true, 1),
        field(1, "1", 1, false, 2),
        field(1, "1", 1, true, 3),
        // A field without its pair, and a pair that begins with the bottom field.
        field(1, "1", 2, false, 4),
        field(1, "1", 3, true, 6),
        field(1, "1", 3, false, 7),
    ];
    for stamp_of_fields in [0, 1800] {
        let mut packets = singles(&[(0, false, FIELD_SPS), (0, false, FIELD_PPS)]);
        for (index, field) in fields.iter().enumerate() {
            let frame = [0, 0, 1, 1, 2, 3, 3][index];
            let second = u32::from([1, 3, 6].contains(&index));
            let stamp = frame * 3600 + second * stamp_of_fields;
            packets.push(Packet::new(stamp, false, delimiter));
            packets.push(Packet::new(stamp, true, field));
        }
        let (units, odd) = assemble(Codec::H264, &packets);
        assert_eq!(odd, OddityCounts::default());
        let slices: Vec<_> = units.iter().map(|unit| SLICES.slices(unit)).collect();
        assert_eq!(slices, [&fields[0..2], &fields[2..4], &fields[4..5], &fields[5..7]]);
        assert_eq!(units[0].random_access, RandomAccess::Idr);
        assert_eq!(units.iter().map(|unit| unit.stamp).collect::<Vec<_>>(), [0, 3600, 7200, 10800]);
    }
}

#[test]
fn lost_field_drops_its_frame() {
    let mut packets = singles(&[
        (0, false, FIELD_SPS),
        (0, false, FIELD_PPS),
        (0, false, &field(5, "1", 0, false, 0)),
        (0, true, &field(1, "1", 0, true, 1)),
        (3600, false, &field(1, "1", 1, false, 2)),
        // The first slice of the bottom field is missing.
        (3600, true, &field(1, "011", 1, true, 3)),
        (7200, false, &field(1, "1", 2, false, 4)),
        (7200, true, &field(1, "1", 2, true, 5)),
    ]);
    packets[5].lost_before = 1;
    let (units, _) = assemble(Codec::H264, &packets);
    assert_eq!(units.iter().map(|unit| unit.stamp).collect::<Vec<_>>(), [0, 7200]);
    assert_eq!(units[1].lost_packets, 1);
}

#[test]
fn picture_that_the_camera_cut_off_begins_no_other_one() {
    // The first slice of the second picture is missing, but no packet is.
    let packets = singles(&[
        (0, false, FIELD_SPS),
        (0, false, FIELD_PPS),
        (0, true, &field(5, "1", 0, false, 0)),
        (3600, true, &field(1, "011", 1, false, 2)),
        (7200, true, &field(1, "1", 2, false, 4)),
    ]);
    let (units, _) = assemble(Codec::H264, &packets);
    assert_eq!(units.iter().map(|unit| unit.stamp).collect::<Vec<_>>(), [0, 7200]);
    assert_eq!(units[1].lost_packets, 1);
    assert!(!units[1].is_contiguous);
}

#[test]
fn sets_of_a_dropped_unit_join_the_next_one() {
    let mut packets = singles(&[
        (0, false, FIELD_SPS),
        (0, false, FIELD_PPS),
        (0, false, &[0x7c, 0x85, 0x88, 0x80]),
        (3600, false, &[0x09, 0xf0]),
        (3600, true, &field(1, "1", 1, false, 2)),
        (7200, true, &field(1, "1", 2, false, 4)),
    ]);
    packets[3].lost_before = 1;
    let (units, _) = assemble(Codec::H264, &packets);
    let slice = field(1, "1", 1, false, 2);
    assert_eq!(nals(&units[0]), [&[0x09, 0xf0][..], FIELD_SPS, FIELD_PPS, slice.as_slice()]);
    assert!(units[0].parameters.is_some());
    assert_eq!((units[0].lost_packets, units[0].is_contiguous), (1, false));
    assert_eq!(nals(&units[1]), [field(1, "1", 2, false, 4)]);
    assert_eq!((units[1].lost_packets, units[1].is_contiguous), (0, true));
}

#[test]
fn recovery_point_of_a_lost_picture_marks_no_other_one() {
    let mut packets = singles(&[
        (0, false, FIELD_SPS),
        (0, false, FIELD_PPS),
        (0, false, &[0x06, 0x06, 0x01, 0xc4, 0x80]),
        (3600, true, &field(1, "1", 1, false, 2)),
    ]);
    let (units, _) = assemble(Codec::H264, &packets);
    assert_eq!(units[0].random_access, RandomAccess::RecoveryPoint { frames: 0 });
    packets[3].lost_before = 1;
    let (units, _) = assemble(Codec::H264, &packets);
    assert_eq!(units[0].random_access, RandomAccess::None);
}

#[test]
fn filler_unknown_and_empty_nal_units_are_dropped() {
    let slice = field(1, "1", 1, false, 2);
    let mut marked = slice.clone();
    marked[0] |= 0x80;
    let packets = singles(&[
        (0, false, &[0x0c, 0xff, 0xff, 0x80]),
        (0, false, &[0x18, 0x00, 0x02, 0x1e, 0x07]),
        (0, false, &[0x65]),
        (0, true, &marked),
        (0, false, &[0x0b]),
    ]);
    let (units, odd) = assemble(Codec::H264, &packets);
    assert_eq!(units.len(), 1);
    assert_eq!(nals(&units[0]), [slice, vec![0x0b]]);
    assert_eq!(units[0].parameters, None);
    let oddities = [(Oddity::NalForbiddenBit, 1), (Oddity::NalUnknown, 1), (Oddity::NalMalformed, 1)];
    assert_eq!(odd.iter().collect::<Vec<_>>(), oddities);
}

#[test]
fn unit_without_a_slice_is_not_emitted() {
    let (units, _) = assemble(Codec::H264, &singles(&[(0, true, FIELD_SPS), (0, true, FIELD_PPS)]));
    assert_eq!(units, []);
    assert_eq!(assemble(Codec::H264, &[]).0, []);
}

#[test]
fn units_are_bounded() {
    let part = [&[0x7c, 0x05][..], &vec![7; 60_000]].concat();
    let mut packets = singles(&[(0, false, &[0x7c, 0x85, 0x88, 0x84, 1])]);
    packets.extend((0..400).map(|_| Packet::new(0, false, &part)));
    packets.push(Packet::new(0, true, &[0x7c, 0x45, 9]));
    packets.push(Packet::new(3600, true, &[0x65, 0x88, 0x84, 1]));
    let (units, odd) = assemble(Codec::H264, &packets);
    assert_eq!(units.iter().map(|unit| (unit.stamp, unit.lost_packets)).collect::<Vec<_>>(), [(3600, 1)]);
    assert_eq!(odd.get(Oddity::UnitTooLarge), 1);

    // Parameter sets of a dropped unit leave no room for so large a unit.
    let sets = [&[0x67][..], &vec![7; 60_000]].concat();
    let mut packets = singles(&[(0, false, &sets), (0, false, &[0x7c, 0x85, 0x88, 0x84, 1])]);
    packets.push(Packet::new(3600, false, &[0x7c, 0x85, 0x88, 0x84, 1]));
    packets.extend((0..279).map(|_| Packet::new(3600, false, &part)));
    packets.push(Packet::new(3600, true, &[0x7c, 0x45, 9]));
    packets.push(Packet::new(7200, true, &[0x65, 0x88, 0x84, 1]));
    packets[2].lost_before = 1;
    let (units, _) = assemble(Codec::H264, &packets);
    assert_eq!(units.iter().map(|unit| (unit.stamp, unit.lost_packets)).collect::<Vec<_>>(), [(7200, 2)]);

    // SEI messages without pictures.
    let sei = [&[0x06, 0x05, 0xff][..], &vec![7; 60_000]].concat();
    let packets: Vec<_> = (0..500).map(|_| Packet::new(0, true, &sei)).collect();
    let (units, odd) = assemble(Codec::H264, &packets);
    assert_eq!(units, []);
    assert!(odd.get(Oddity::UnitTooLarge) > 3);
}

/// A packet of fragments, aggregates, single NAL units and noise.
fn any_packet() -> impl Strategy<Value = Packet> {
    let first = prop_oneof![
        Just(vec![0x7c, 0x85]),
        Just(vec![0x7c, 0x05]),
        Just(vec![0x7c, 0x45]),
        Just(vec![0x1c, 0x80, 0, 0, 1]),
        Just(vec![0x78, 0, 3]),
        Just(vec![0x65, 0x88]),
        Just(vec![0x41, 0x9a]),
        Just(vec![0x67, 0x4d]),
        Just(vec![0x06, 0x06]),
        Just(vec![0x62, 1, 0x93]),
        Just(vec![0x62, 1, 0x41]),
        Just(vec![0x60, 1, 0, 3]),
        Just(vec![0x26, 1, 0xaf]),
        Just(vec![0x02, 1]),
        Just(vec![0x4e, 1]),
        Just(vec![]),
    ];
    let rest = proptest::collection::vec(prop_oneof![0_u8..4, any::<u8>()], 0..90);
    (first, rest, 0_u32..3, any::<bool>(), prop_oneof![9 => Just(0_u16), 1 => any::<u16>()]).prop_map(
        |(first, rest, stamp, has_marker, lost_before)| Packet {
            stamp,
            has_marker,
            lost_before,
            payload: [first, rest].concat(),
            at_us: 0,
            picture: 0,
        },
    )
}

proptest! {
    #[test]
    fn any_packets_give_well_formed_units(
        is_h265 in any::<bool>(),
        packets in proptest::collection::vec(any_packet(), 0..60),
    ) {
        assemble(if is_h265 { Codec::H265 } else { Codec::H264 }, &packets);
    }

    #[test]
    fn changed_clips_give_well_formed_units(
        clip in 0_usize..3,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), 0_u8..6, any::<u8>()), 0..9),
    ) {
        let clip = CLIPS[clip];
        let mut packets = clip.packets();
        for (index, change, value) in changes {
            let index = index.index(packets.len());
            match change {
                0 => packets[index].payload = vec![value],
                1 => packets[index].payload.truncate(value.into()),
                2 => packets[index].lost_before = value.into(),
                3 => packets[index].stamp = value.into(),
                4 => packets.swap(0, index),
                _ => packets[index].payload[0] = value,
            }
            if packets[index].payload.is_empty() {
                packets[index].payload.push(value);
            }
        }
        for (packet, at_us) in packets.iter_mut().zip(0..) {
            packet.at_us = at_us;
        }
        assemble(clip.codec, &packets);
    }

    #[test]
    fn several_losses_cost_only_their_units(
        clip in 0_usize..3,
        habit in prop::sample::select(Habit::all().collect::<Vec<_>>()),
        lost in proptest::collection::btree_set(0_usize..70, 0..12),
    ) {
        let clip = CLIPS[clip];
        let first = first_loss(clip, habit);
        assert_losses(clip, habit, &lost.into_iter().map(|lost| lost + first).collect());
    }
}
