//! RTP payloads of H.264 (RFC 6184), in the single and the non-interleaved mode.

use super::super::oddity::Oddity;
use super::annex_b::{NalSink, split_whole};
use super::fragment::{Fragment, PacketFacts, Reassembly};

const STAP_A: u8 = 24;
const STAP_B: u8 = 25;
const MTAP24: u8 = 27;
const FU_A: u8 = 28;
const FU_B: u8 = 29;
/// Bits of a header except the type.
const NOT_TYPE: u8 = 0xe0;
const TYPE: u8 = 0x1f;
const START: u8 = 0x80;
const END: u8 = 0x40;

/// Passes the NAL units of a payload, and joins those in fragments.
pub fn depacketize(
    payload: &[u8],
    packet: PacketFacts,
    reassembly: &mut Reassembly,
    sink: &mut impl NalSink,
) {
    let Some((first, rest)) = payload.split_first() else {
        sink.note(Oddity::PayloadMalformed);
        return;
    };
    match first & TYPE {
        // Type 0 is unspecified, but also the first byte of a start code.
        0..STAP_A => {
            reassembly.interrupt(packet, sink);
            split_whole(payload, sink);
        }
        STAP_A => {
            reassembly.interrupt(packet, sink);
            read_aggregate(rest, sink);
        }
        FU_A => {
            let Some((fu, data)) = rest.split_first() else {
                sink.note(Oddity::PayloadMalformed);
                reassembly.interrupt(packet, sink);
                sink.lose(&[]);
                return;
            };
            let fragment = Fragment {
                header: &[first & NOT_TYPE | fu & TYPE],
                is_start: fu & START != 0,
                is_end: fu & END != 0,
                data,
            };
            reassembly.push(fragment, packet, sink);
        }
        STAP_B..=MTAP24 | FU_B => {
            sink.note(Oddity::PayloadInterleaved);
            reassembly.interrupt(packet, sink);
            sink.lose(&[0]);
        }
        _ => sink.note(Oddity::PayloadUnknown),
    }
}

/// Reads NAL units, each after its length in two bytes (RFC 6184, section 5.7.1).
fn read_aggregate(mut rest: &[u8], sink: &mut impl NalSink) {
    while !rest.is_empty() {
        let Some((length, after)) = rest.split_first_chunk() else {
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

    fn packet(stamp: u32, has_marker: bool) -> PacketFacts {
        PacketFacts { stamp, has_marker, follows_loss: false }
    }

    /// Returns the result of payloads with one stamp and no marker.
    fn read(payloads: &[&[u8]]) -> (Vec<Event>, OddityCounts) {
        let packets: Vec<_> = payloads.iter().map(|payload| (packet(0, false), *payload)).collect();
        read_packets(&packets)
    }

    fn read_packets(packets: &[(PacketFacts, &[u8])]) -> (Vec<Event>, OddityCounts) {
        let mut sink = Collected::default();
        let mut reassembly = Reassembly::default();
        for (packet, payload) in packets {
            depacketize(payload, *packet, &mut reassembly, &mut sink);
        }
        reassembly.flush(&mut sink);
        let odd = sink.odd.clone();
        (sink.events(), odd)
    }

    fn nal(bytes: &[u8]) -> Event {
        Event::Nal(bytes.to_vec())
    }

    fn lost(header: &[u8]) -> Event {
        Event::Lost(header.to_vec())
    }

    fn assert_read(payloads: &[&[u8]], events: &[Event], oddities: &[(Oddity, u64)]) {
        let (read, odd) = read(payloads);
        assert_eq!(read, events, "{payloads:x?}");
        assert_eq!(odd.iter().collect::<Vec<_>>(), oddities, "{payloads:x?}");
    }

    #[test]
    fn single_nal_unit_is_passed() {
        assert_read(&[&[0x65, 0x88, 1], &[0x41, 0x9a]], &[nal(&[0x65, 0x88, 1]), nal(&[0x41, 0x9a])], &[]);
    }

    #[test]
    fn aggregate_is_divided() {
        let payload = [0x78, 0, 2, 0x67, 0x42, 0, 3, 0x68, 0xce, 0x3c];
        assert_read(&[&payload], &[nal(&[0x67, 0x42]), nal(&[0x68, 0xce, 0x3c])], &[]);
    }

    #[test]
    fn aggregate_with_wrong_lengths_keeps_whole_nal_units() {
        let payload = [0x78, 0, 0, 0, 2, 0x67, 0x42, 0, 9, 0x68, 0xce];
        let events = [nal(&[0x67, 0x42]), lost(&[0x68, 0xce])];
        assert_read(&[&payload], &events, &[(Oddity::AggregateLength, 2)]);
        assert_read(&[&[0x78, 0, 2, 0x67, 0x42, 0]], &[nal(&[0x67, 0x42])], &[(Oddity::AggregateLength, 1)]);
        assert_read(&[&[0x78]], &[], &[]);
    }

    #[test]
    fn fragments_join() {
        let payloads: [&[u8]; 3] = [&[0x7c, 0x85, 1, 2], &[0x7c, 0x05, 3], &[0x7c, 0x45, 4]];
        assert_read(&payloads, &[nal(&[0x65, 1, 2, 3, 4])], &[]);
    }

    #[test]
    fn fragment_with_start_and_end_is_whole() {
        assert_read(&[&[0x7c, 0xc5, 1, 2]], &[nal(&[0x65, 1, 2])], &[(Oddity::FragmentWhole, 1)]);
    }

    #[test]
    fn empty_fragments_join() {
        assert_read(&[&[0x7c, 0x85], &[0x7c, 0x05, 1], &[0x7c, 0x45]], &[nal(&[0x65, 1])], &[]);
    }

    #[test]
    fn start_within_a_nal_unit_drops_the_unfinished_one() {
        let payloads: [&[u8]; 3] = [&[0x7c, 0x85, 1], &[0x7c, 0x85, 2], &[0x7c, 0x45, 3]];
        let events = [Event::Abandoned(vec![0x65, 1]), nal(&[0x65, 2, 3])];
        assert_read(&payloads, &events, &[(Oddity::FragmentUnfinished, 1)]);
    }

    #[test]
    fn other_payload_drops_an_unfinished_nal_unit() {
        let events = [Event::Abandoned(vec![0x65, 1]), nal(&[0x41, 2])];
        assert_read(&[&[0x7c, 0x85, 1], &[0x41, 2]], &events, &[(Oddity::FragmentUnfinished, 1)]);
        assert_read(&[&[0x7c, 0x85, 1], &[0x78, 0, 2, 0x41, 2]], &events, &[(Oddity::FragmentUnfinished, 1)]);
    }

    #[test]
    fn fragment_without_start_is_lost() {
        let events = [lost(&[0x65]), lost(&[0x65]), nal(&[0x41, 2])];
        let odd = [(Oddity::FragmentWithoutStart, 2)];
        assert_read(&[&[0x7c, 0x05, 1], &[0x7c, 0x45, 1], &[0x41, 2]], &events, &odd);
    }

    #[test]
    fn loss_ends_a_nal_unit() {
        let after_loss = PacketFacts { stamp: 0, has_marker: false, follows_loss: true };
        let (events, odd) = read_packets(&[
            (packet(0, false), &[0x7c, 0x85, 1]),
            (after_loss, &[0x7c, 0x05, 2]),
            (packet(0, false), &[0x7c, 0x45, 3]),
        ]);
        assert_eq!(events, [Event::Abandoned(vec![0x65, 1]), lost(&[0x65]), lost(&[0x65])]);
        assert_eq!(odd.get(Oddity::FragmentUnfinished), 0);
    }

    #[test]
    fn fragments_with_other_stamps_do_not_join() {
        let (events, _) =
            read_packets(&[(packet(0, false), &[0x7c, 0x85, 1]), (packet(3000, false), &[0x7c, 0x45, 2])]);
        assert_eq!(events, [Event::Abandoned(vec![0x65, 1]), lost(&[0x65])]);
    }

    #[test]
    fn marker_without_end_bit_ends_a_nal_unit_that_does_not_continue() {
        for next in [&[0x5c, 0x81, 7][..], &[0x41, 7]] {
            let (events, odd) = read_packets(&[
                (packet(0, false), &[0x7c, 0x85, 1]),
                (packet(0, true), &[0x7c, 0x05, 2]),
                (packet(3000, true), next),
            ]);
            assert_eq!(events, [nal(&[0x65, 1, 2]), nal(&[0x41, 7])]);
            assert!(odd.get(Oddity::FragmentWithoutEnd) > 0);
        }
    }

    #[test]
    fn marker_on_each_fragment_ends_nothing() {
        let (events, odd) = read_packets(&[
            (packet(0, true), &[0x7c, 0x85, 1]),
            (packet(0, true), &[0x7c, 0x05, 2]),
            (packet(0, true), &[0x7c, 0x45, 3]),
        ]);
        assert_eq!(events, [nal(&[0x65, 1, 2, 3])]);
        assert_eq!(odd, OddityCounts::default());
    }

    #[test]
    fn marker_before_a_loss_ends_a_nal_unit_only_before_another_stamp() {
        for (stamp, is_whole) in [(0, false), (3000, true)] {
            let after_loss = PacketFacts { stamp, has_marker: false, follows_loss: true };
            let (events, _) = read_packets(&[(packet(0, true), &[0x7c, 0x85, 1]), (after_loss, &[0x41, 2])]);
            let first = if is_whole { nal(&[0x65, 1]) } else { Event::Abandoned(vec![0x65, 1]) };
            assert_eq!(events, [first, nal(&[0x41, 2])]);
        }
    }

    #[test]
    fn fragments_with_another_type_join_and_are_counted() {
        let odd = [(Oddity::FragmentOtherHeader, 1)];
        assert_read(&[&[0x7c, 0x85, 1], &[0x5c, 0x41, 2]], &[nal(&[0x65, 1, 2])], &odd);
    }

    #[test]
    fn byte_stream_in_fragments_of_type_zero_is_divided() {
        let stream = [0, 0, 0, 1, 0x67, 0x42, 0, 0, 0, 1, 0x68, 0xce, 0, 0, 0, 1, 0x65, 0x88, 9];
        for first in 1..stream.len() {
            for second in first..stream.len() {
                let parts = [&stream[1..first], &stream[first..second], &stream[second..]];
                let payloads: Vec<_> = parts
                    .iter()
                    .zip([0x80, 0, 0x40])
                    .map(|(part, fu)| [&[0x1c, fu], *part].concat())
                    .collect();
                let payloads: Vec<_> = payloads.iter().map(Vec::as_slice).collect();
                let events = [nal(&[0x67, 0x42]), nal(&[0x68, 0xce]), nal(&[0x65, 0x88, 9])];
                assert_read(&payloads, &events, &[(Oddity::StartCode, 1)]);
            }
        }
    }

    #[test]
    fn loss_within_a_byte_stream_loses_nal_units_of_any_kind() {
        let events = [nal(&[0x67, 1]), Event::Abandoned(vec![0x06, 5]), lost(&[0, 0]), nal(&[0x41, 1])];
        let odd = [(Oddity::FragmentUnfinished, 1)];
        assert_read(&[&[0x1c, 0x80, 0, 0, 1, 0x67, 1, 0, 0, 1, 6, 5], &[0x41, 1]], &events, &odd);
    }

    #[test]
    fn byte_stream_in_one_payload_is_divided() {
        let events = [nal(&[0x67, 1]), nal(&[0x65, 2])];
        assert_read(&[&[0, 0, 0, 1, 0x67, 1, 0, 0, 1, 0x65, 2]], &events, &[(Oddity::StartCode, 1)]);
        assert_read(&[&[0x67, 1, 0, 0, 1, 0x65, 2, 0]], &events, &[(Oddity::StartCode, 1)]);
        let aggregate = [0x78, 0, 8, 0x67, 1, 0, 0, 0, 1, 0x65, 2];
        assert_read(&[&aggregate], &events, &[(Oddity::StartCode, 1)]);
    }

    #[test]
    fn interleaved_payloads_are_lost() {
        for first in [0x79, 0x7a, 0x7b, 0x7d] {
            assert_read(&[&[first, 0x85, 0, 1, 0x65]], &[lost(&[0])], &[(Oddity::PayloadInterleaved, 1)]);
        }
    }

    #[test]
    fn unknown_and_malformed_payloads_are_counted() {
        assert_read(&[&[0x7e, 1], &[0x7f]], &[], &[(Oddity::PayloadUnknown, 2)]);
        assert_read(&[&[], &[0x7c]], &[lost(&[])], &[(Oddity::PayloadMalformed, 2)]);
    }

    #[test]
    fn fragment_without_its_header_cuts_a_nal_unit() {
        let events = [Event::Abandoned(vec![0x65, 1]), lost(&[]), lost(&[0x65])];
        let odd = [Oddity::PayloadMalformed, Oddity::FragmentUnfinished, Oddity::FragmentWithoutStart]
            .map(|o| (o, 1));
        let (read, counts) = read(&[&[0x7c, 0x85, 1], &[0x7c], &[0x7c, 0x45, 3]]);
        assert_eq!(read, events);
        assert!(odd.iter().all(|(oddity, count)| counts.get(*oddity) == *count));
    }

    #[test]
    fn marker_before_a_loss_ends_no_nal_unit_of_a_camera_with_end_bits() {
        let after_loss = PacketFacts { stamp: 3000, has_marker: true, follows_loss: true };
        let whole = [(packet(0, true), &[0x7c, 0x85, 1][..]), (packet(0, true), &[0x7c, 0x45, 2])];
        let inside = [(packet(0, true), &[0x7c, 0x85, 1][..]), (packet(0, true), &[0x7c, 0x05, 2])];
        for first in [whole, inside] {
            let last = [(packet(0, true), &[0x7c, 0x85, 3][..]), (after_loss, &[0x41, 7])];
            let (events, _) = read_packets(&[first, last].concat());
            assert_eq!(events[1..], [Event::Abandoned(vec![0x65, 3]), nal(&[0x41, 7])]);
        }
    }
}
