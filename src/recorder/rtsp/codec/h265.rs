//! RTP payloads of H.265 (RFC 7798).

use super::super::oddity::Oddity;
use super::annex_b::{NalSink, StartCodeSplitter, split_whole};
use super::fragment::{Fragment, PacketFacts, Reassembly};

const AGGREGATE: u8 = 48;
const FRAGMENT: u8 = 49;
const PACI: u8 = 50;
const TYPE: u8 = 0x7e;
const FU_TYPE: u8 = 0x3f;
const START: u8 = 0x80;
const END: u8 = 0x40;

/// Decoding order numbers in payloads (RFC 7798, section 4.4). They are skipped: the recorder takes NAL units in the order
/// of their packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodingOrder {
    /// `sprop-max-don-diff` is 0 or absent: there are none.
    Absent,
    /// `sprop-max-don-diff` is above 0: DONL and DOND precede NAL units.
    Numbered,
}

impl DecodingOrder {
    /// Reads the value of `sprop-max-don-diff`, if there is one.
    pub fn read(max_don_diff: Option<&str>) -> Self {
        match max_don_diff.and_then(|value| value.parse::<u32>().ok()) {
            None | Some(0) => Self::Absent,
            Some(_) => Self::Numbered,
        }
    }

    /// Returns the data after a number of so many bytes, or `None` if it is incomplete.
    fn skip(self, data: &[u8], len: usize) -> Option<&[u8]> {
        match self {
            Self::Absent => Some(data),
            Self::Numbered => data.get(len..),
        }
    }
}

/// Length of DONL in bytes.
const DONL: usize = 2;
/// Length of DOND in bytes.
const DOND: usize = 1;

/// Passes the NAL units of a payload, and joins those in fragments.
pub fn depacketize(
    payload: &[u8],
    decoding_order: DecodingOrder,
    packet: PacketFacts,
    reassembly: &mut Reassembly,
    sink: &mut impl NalSink,
) {
    let Some((header, rest)) = payload.split_first_chunk::<2>() else {
        sink.note(Oddity::PayloadMalformed);
        return;
    };
    let [first, second] = *header;
    match (first & TYPE) >> 1 {
        0..AGGREGATE => {
            reassembly.interrupt(packet, sink);
            read_single(*header, rest, decoding_order, sink);
        }
        AGGREGATE => {
            reassembly.interrupt(packet, sink);
            read_aggregate(rest, decoding_order, sink);
        }
        FRAGMENT => {
            let Some((fu, data)) = rest.split_first() else {
                sink.note(Oddity::PayloadMalformed);
                reassembly.interrupt(packet, sink);
                sink.lose(&[]);
                return;
            };
            let is_start = fu & START != 0;
            let header = [first & !TYPE | (fu & FU_TYPE) << 1, second];
            let Some(data) = (if is_start { decoding_order.skip(data, DONL) } else { Some(data) }) else {
                sink.note(Oddity::PayloadMalformed);
                reassembly.interrupt(packet, sink);
                sink.lose(&header);
                return;
            };
            let fragment = Fragment { header: &header, is_start, is_end: fu & END != 0, data };
            reassembly.push(fragment, packet, sink);
        }
        PACI => {
            sink.note(Oddity::PayloadInterleaved);
            reassembly.interrupt(packet, sink);
            sink.lose(&[0, 0]);
        }
        _ => sink.note(Oddity::PayloadUnknown),
    }
}

/// Reads a payload of one NAL unit (RFC 7798, section 4.4.1).
fn read_single(header: [u8; 2], rest: &[u8], decoding_order: DecodingOrder, sink: &mut impl NalSink) {
    let Some(rest) = decoding_order.skip(rest, DONL) else {
        sink.note(Oddity::PayloadMalformed);
        sink.lose(&header);
        return;
    };
    let mut splitter = StartCodeSplitter::default();
    splitter.push(&header, sink);
    splitter.push(rest, sink);
    splitter.finish(sink);
}

/// Reads NAL units, each after its length in two bytes (RFC 7798, section 4.4.2).
fn read_aggregate(mut rest: &[u8], decoding_order: DecodingOrder, sink: &mut impl NalSink) {
    let mut number = DONL;
    while !rest.is_empty() {
        let after = decoding_order.skip(rest, std::mem::replace(&mut number, DOND));
        let Some((length, after)) = after.and_then(<[u8]>::split_first_chunk) else {
            sink.note(Oddity::AggregateLength);
            return;
        };
        let length = usize::from(u16::from_be_bytes(*length));
        let Some((nal, others)) = after.split_at_checked(length) else {
            sink.note(Oddity::AggregateLength);
            sink.lose(after);
            return;
        };
        if nal.is_empty() {
            sink.note(Oddity::AggregateLength);
        } else {
            split_whole(nal, sink);
        }
        rest = others;
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::oddity::OddityCounts;
    use super::super::collected::{Collected, Event};
    use super::*;

    fn read(payloads: &[&[u8]], decoding_order: DecodingOrder) -> (Vec<Event>, OddityCounts) {
        let mut sink = Collected::default();
        let mut reassembly = Reassembly::default();
        let packet = PacketFacts { stamp: 0, has_marker: false, follows_loss: false };
        for payload in payloads {
            depacketize(payload, decoding_order, packet, &mut reassembly, &mut sink);
        }
        reassembly.flush(&mut sink);
        let odd = sink.odd.clone();
        (sink.events(), odd)
    }

    fn assert_read(
        payloads: &[&[u8]],
        decoding_order: DecodingOrder,
        events: &[Event],
        oddities: &[(Oddity, u64)],
    ) {
        let (read, odd) = read(payloads, decoding_order);
        assert_eq!(read, events, "{payloads:x?}");
        assert_eq!(odd.iter().collect::<Vec<_>>(), oddities, "{payloads:x?}");
    }

    fn nal(bytes: &[u8]) -> Event {
        Event::Nal(bytes.to_vec())
    }

    use DecodingOrder::{Absent, Numbered};

    #[test]
    fn numbers_exist_if_the_largest_difference_is_above_zero() {
        for (value, order) in [
            (None, Absent),
            (Some("0"), Absent),
            (Some("x"), Absent),
            (Some("1"), Numbered),
            (Some("32767"), Numbered),
        ] {
            assert_eq!(DecodingOrder::read(value), order);
        }
    }

    #[test]
    fn single_nal_unit_is_passed() {
        assert_read(&[&[0x26, 1, 0xaf, 9]], Absent, &[nal(&[0x26, 1, 0xaf, 9])], &[]);
        assert_read(&[&[0x26, 1, 0xaf, 9, 0xaf, 9]], Numbered, &[nal(&[0x26, 1, 0xaf, 9])], &[]);
        let lost = [Event::Lost(vec![0x26, 1])];
        assert_read(&[&[0x26, 1, 0xaf]], Numbered, &lost, &[(Oddity::PayloadMalformed, 1)]);
    }

    #[test]
    fn aggregate_is_divided() {
        let events = [nal(&[0x40, 1, 7]), nal(&[0x42, 1]), nal(&[0x44, 1, 8])];
        let payload = [0x60, 1, 0, 3, 0x40, 1, 7, 0, 2, 0x42, 1, 0, 3, 0x44, 1, 8];
        assert_read(&[&payload], Absent, &events, &[]);
        let payload = [0x60, 1, 9, 9, 0, 3, 0x40, 1, 7, 0, 0, 2, 0x42, 1, 3, 0, 3, 0x44, 1, 8];
        assert_read(&[&payload], Numbered, &events, &[]);
    }

    #[test]
    fn aggregate_with_wrong_lengths_keeps_whole_nal_units() {
        let payload = [0x60, 1, 0, 0, 0, 3, 0x40, 1, 7, 0, 4, 0x42, 1, 1];
        let events = [nal(&[0x40, 1, 7]), Event::Lost(vec![0x42, 1, 1])];
        assert_read(&[&payload], Absent, &events, &[(Oddity::AggregateLength, 2)]);
        assert_read(&[&[0x60, 1, 9]], Numbered, &[], &[(Oddity::AggregateLength, 1)]);
        assert_read(&[&[0x60, 1]], Absent, &[], &[]);
    }

    #[test]
    fn fragments_join() {
        let payloads: [&[u8]; 3] = [&[0x62, 1, 0x93, 1, 2], &[0x62, 1, 0x13, 3], &[0x62, 1, 0x53, 4]];
        assert_read(&payloads, Absent, &[nal(&[0x26, 1, 1, 2, 3, 4])], &[]);
        let payloads: [&[u8]; 3] = [&[0x62, 1, 0x93, 9, 9, 1, 2], &[0x62, 1, 0x13, 3], &[0x62, 1, 0x53, 4]];
        assert_read(&payloads, Numbered, &[nal(&[0x26, 1, 1, 2, 3, 4])], &[]);
    }

    #[test]
    fn layer_of_a_fragment_is_kept() {
        // The layer id has its highest bit in the first byte.
        assert_read(&[&[0x63, 9, 0xc1, 5]], Absent, &[nal(&[0x03, 9, 5])], &[(Oddity::FragmentWhole, 1)]);
    }

    #[test]
    fn fragment_without_start_is_lost() {
        let events = [Event::Lost(vec![0x26, 1]), nal(&[0x02, 1, 2])];
        let odd = [(Oddity::FragmentWithoutStart, 1)];
        assert_read(&[&[0x62, 1, 0x53, 1], &[0x02, 1, 2]], Absent, &events, &odd);
    }

    #[test]
    fn byte_stream_is_divided() {
        let events = [nal(&[0x40, 1, 7]), nal(&[0x26, 1, 8])];
        let stream = [0, 0, 0, 1, 0x40, 1, 7, 0, 0, 1, 0x26, 1, 8];
        assert_read(&[&stream], Absent, &events, &[(Oddity::StartCode, 1)]);
        let payloads: [&[u8]; 2] = [&[0x62, 1, 0xa0, 7, 0, 0], &[0x62, 1, 0x60, 1, 0x26, 1, 8]];
        assert_read(&payloads, Absent, &events, &[(Oddity::StartCode, 1)]);
    }

    #[test]
    fn odd_payloads_are_counted() {
        assert_read(&[&[0x64, 1, 7]], Absent, &[Event::Lost(vec![0, 0])], &[(Oddity::PayloadInterleaved, 1)]);
        assert_read(&[&[0x66, 1, 7]], Absent, &[], &[(Oddity::PayloadUnknown, 1)]);
        assert_read(
            &[&[], &[0x26], &[0x62, 1]],
            Absent,
            &[Event::Lost(vec![])],
            &[(Oddity::PayloadMalformed, 3)],
        );
        let lost = [Event::Lost(vec![0x26, 1])];
        assert_read(&[&[0x62, 1, 0x93, 9]], Numbered, &lost, &[(Oddity::PayloadMalformed, 1)]);
    }
}
