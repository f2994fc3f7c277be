//! RTP packets of a camera (RFC 3550, section 5.1).

pub mod order;

use super::oddity::{Oddity, OddityCounts};

/// Padding bit in the first byte of a packet.
const PADDING: u8 = 0b0010_0000;

/// Fields of an RTP header that the client uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtpHeader {
    /// 0 to 127.
    pub payload_type: u8,
    /// With video, the last packet of a frame has it. Some cameras set it on every packet, or never.
    pub has_marker: bool,
    pub sequence: u16,
    /// RTP timestamp, in ticks of the clock rate of the track. It wraps.
    pub stamp: u32,
    pub ssrc: u32,
}

/// An RTP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtpPacket<'a> {
    pub header: RtpHeader,
    /// Bytes after the header, the contributing sources and the extension, without the padding. May be empty.
    pub payload: &'a [u8],
}

impl<'a> RtpPacket<'a> {
    /// Reads one packet. Returns `None` if the bytes are no RTP of version 2, which is counted.
    ///
    /// Clears a padding bit without valid padding: some cameras set the bit and pad nothing, so the last byte of the
    /// picture would count as a length.
    pub fn parse(data: &'a mut [u8], odd: &mut OddityCounts) -> Option<Self> {
        if rtp_types::RtpPacket::parse(data).is_err()
            && let Some(first) = data.first_mut()
            && *first & PADDING != 0
        {
            *first &= !PADDING;
            if rtp_types::RtpPacket::parse(data).is_ok() {
                odd.note(Oddity::RtpPadding);
            }
        }
        let packet = Self::parse_strictly(data);
        if packet.is_none() {
            odd.note(Oddity::RtpMalformed);
        }
        packet
    }

    fn parse_strictly(data: &'a [u8]) -> Option<Self> {
        let packet = rtp_types::RtpPacket::parse(data).ok()?;
        let begin = packet.payload_offset();
        let header = RtpHeader {
            payload_type: packet.payload_type(),
            has_marker: packet.marker_bit(),
            sequence: packet.sequence_number(),
            stamp: packet.timestamp(),
            ssrc: packet.ssrc(),
        };
        let payload = data.get(begin..begin.saturating_add(packet.payload_len()))?;
        Some(Self { header, payload })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Returns what is read, and the oddities.
    fn parse(data: &[u8]) -> (Option<(RtpHeader, Vec<u8>)>, OddityCounts) {
        let mut odd = OddityCounts::default();
        let mut data = data.to_vec();
        let packet = RtpPacket::parse(&mut data, &mut odd);
        let packet = packet.map(|packet| (packet.header, packet.payload.to_vec()));
        (packet, odd)
    }

    /// Returns a packet whose first byte is `first`, with `rest` after the twelve bytes of the header.
    fn packet(first: u8, rest: &[u8]) -> Vec<u8> {
        let mut data = vec![first, 0x80 | 0x60, 0xff, 0xfe, 0x01, 0x02, 0x03, 0x04, 0xa0, 0xb0, 0xc0, 0xd0];
        data.extend_from_slice(rest);
        data
    }

    fn payload(first: u8, rest: &[u8]) -> Option<Vec<u8>> {
        parse(&packet(first, rest)).0.map(|(_, payload)| payload)
    }

    #[test]
    fn header_is_read() {
        let (read, odd) = parse(&packet(0x80, &[0x65, 1, 2]));
        let header = RtpHeader {
            payload_type: 96,
            has_marker: true,
            sequence: 0xfffe,
            stamp: 0x0102_0304,
            ssrc: 0xa0b0_c0d0,
        };
        assert_eq!(read, Some((header, vec![0x65, 1, 2])));
        assert_eq!(odd, OddityCounts::default());
    }

    #[test]
    fn sources_extension_and_padding_are_no_payload() {
        // Two contributing sources.
        assert_eq!(payload(0x82, &[0, 0, 0, 1, 0, 0, 0, 2, 7, 8]), Some(vec![7, 8]));
        // ONVIF's extension of three words.
        let mut extended = vec![0xab, 0xac, 0, 3];
        extended.extend_from_slice(&[0; 12]);
        extended.extend_from_slice(&[7, 8]);
        assert_eq!(payload(0x90, &extended), Some(vec![7, 8]));
        // An extension of no words.
        assert_eq!(payload(0x90, &[0xbe, 0xde, 0, 0, 7]), Some(vec![7]));
        assert_eq!(payload(0xa0, &[7, 8, 0, 0, 3]), Some(vec![7, 8]));
        // Nothing but padding.
        assert_eq!(payload(0xa0, &[0, 2]), Some(vec![]));
    }

    #[test]
    fn invalid_padding_is_payload_and_counted() {
        for rest in [&[7, 8, 0][..], &[7, 8, 4], &[7, 8, 255], &[]] {
            let (read, odd) = parse(&packet(0xa0, rest));
            assert_eq!(read.unwrap().1, rest);
            assert_eq!(odd.get(Oddity::RtpPadding), 1);
            assert_eq!(odd.get(Oddity::RtpMalformed), 0);
        }
    }

    #[test]
    fn malformed_packets_are_counted() {
        let short = packet(0x80, &[]);
        for data in [
            vec![],
            vec![0xa0],
            short[..11].to_vec(),
            packet(0x40, &[1]),
            // RTSP, not RTP.
            b"RTSP/1.0 200 OK\r\n\r\n".to_vec(),
            packet(0x81, &[0, 0, 0]),
            packet(0x90, &[0xbe, 0xde, 0]),
            packet(0x90, &[0xbe, 0xde, 0, 1, 0, 0, 0]),
            packet(0xb0, &[0xbe, 0xde, 0, 1, 0, 0, 0]),
        ] {
            let (read, odd) = parse(&data);
            assert_eq!(read, None, "{data:?}");
            assert_eq!(odd.iter().collect::<Vec<_>>(), [(Oddity::RtpMalformed, 1)], "{data:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_counted(
            first in any::<u8>(),
            rest in proptest::collection::vec(any::<u8>(), 0..80),
        ) {
            let mut data = vec![first];
            data.extend_from_slice(&rest);
            let (read, odd) = parse(&data);
            prop_assert_eq!(odd.get(Oddity::RtpMalformed), u64::from(read.is_none()));
            if let Some((_, payload)) = read {
                prop_assert!(payload.len() + 12 <= data.len());
            }
        }

        #[test]
        fn written_packets_are_read_again(
            header in (0_u8..128, any::<bool>(), any::<u16>(), any::<u32>(), any::<u32>()),
            sources in proptest::collection::vec(any::<u32>(), 0..15),
            extension in proptest::option::of(proptest::collection::vec(any::<[u8; 4]>(), 0..9)),
            padding in proptest::option::of(1_u8..=255),
            payload in proptest::collection::vec(any::<u8>(), 0..99),
        ) {
            let (payload_type, has_marker, sequence, stamp, ssrc) = header;
            let extension = extension.map(|words| words.concat());
            let mut builder = rtp_types::RtpPacketBuilder::<&[u8], &[u8]>::new()
                .payload_type(payload_type)
                .marker_bit(has_marker)
                .sequence_number(sequence)
                .timestamp(stamp)
                .ssrc(ssrc)
                .payload(payload.as_slice());
            for source in sources {
                builder = builder.add_csrc(source);
            }
            if let Some(extension) = &extension {
                builder = builder.extension(0xabac, extension);
            }
            if let Some(padding) = padding {
                builder = builder.padding(padding);
            }
            let (read, odd) = parse(&builder.write_vec().unwrap());
            let header = RtpHeader { payload_type, has_marker, sequence, stamp, ssrc };
            prop_assert_eq!(read, Some((header, payload.clone())));
            prop_assert_eq!(odd, OddityCounts::default());
        }
    }
}
