//! RTCP: reads what a camera sends, and writes receiver reports (RFC 3550, section 6).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rtcp_types::{
    Bye, CompoundBuilder, ReceiverReport, ReportBlock, ReportBlockBuilder, RtcpPacket, RtcpPacketParser,
    RtcpPacketWriter, RtcpPacketWriterExt, Sdes, SdesChunk, SdesItem,
};

use super::super::frame::Arrival;
use super::oddity::{Oddity, OddityCounts};
use super::rtp::order::Reception;

/// Maximum number of items read from one compound packet. A camera sends two or three.
const MAX_ITEMS: usize = 64;
/// Largest positive number of 24 bits with a sign (RFC 3550, section 6.4.1).
const MAX_LOST: u32 = 0x7f_ffff;

/// NTP timestamp: seconds since 1900 and 32 bits of fraction. The seconds wrap on 7 February 2036 (RFC 5905, section 6).
///
/// It is never a time of day: many cameras send an hour or an era of their own. Only differences count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NtpTime(pub u64);

impl NtpTime {
    /// Returns the microseconds since an earlier time, negative if it is later. Right across the wrap of 2036, as long as
    /// the two are less than 68 years apart.
    pub fn micros_since(self, earlier: Self) -> i64 {
        let fractions = i128::from(self.0.wrapping_sub(earlier.0).cast_signed());
        i64::try_from(fractions.saturating_mul(1_000_000) >> 32).unwrap_or_default()
    }

    /// Returns the middle 32 bits, for a receiver report.
    fn middle(self) -> u32 {
        u32::try_from((self.0 >> 16) & u64::from(u32::MAX)).unwrap_or_default()
    }
}

/// Sender report (RFC 3550, section 6.4.1): the same instant on two clocks of the camera.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SenderReport {
    pub ssrc: u32,
    pub ntp: NtpTime,
    /// RTP timestamp of the instant.
    pub stamp: u32,
}

/// Part of a compound packet that the client uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RtcpItem {
    SenderReport(SenderReport),
    /// The source stops sending (RFC 3550, section 6.6).
    Bye {
        ssrc: u32,
    },
}

/// Reads a compound packet. At the first length that does not fit, counts it and returns what was before: some cameras
/// send a report that is right, and a length after it that is not. A content that does not fit is counted and skipped.
///
/// Returns at most 64 items. Reports of other receivers, descriptions and feedback are skipped unread.
pub fn read_compound(data: &[u8], odd: &mut OddityCounts) -> Vec<RtcpItem> {
    let mut items = Vec::new();
    let mut rest = data;
    while items.len() < MAX_ITEMS {
        let Some((packet, behind)) = split_packet(rest) else {
            if !rest.is_empty() || data.is_empty() {
                odd.note(Oddity::RtcpMalformed);
            }
            break;
        };
        if !read_packet(packet, &mut items) {
            odd.note(Oddity::RtcpMalformed);
        }
        rest = behind;
    }
    items.truncate(MAX_ITEMS);
    items
}

/// Splits after the first packet by its own length. Returns `None` if there is no whole packet of version 2.
fn split_packet(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let &[first, _, high, low, ..] = data else {
        return None;
    };
    let words = usize::from(u16::from_be_bytes([high, low])).saturating_add(1);
    (first >> 6 == 2).then(|| data.split_at_checked(words.saturating_mul(4)))?
}

/// Returns whether the content is well-formed.
fn read_packet(packet: &[u8], items: &mut Vec<RtcpItem>) -> bool {
    match packet.get(1) {
        Some(&rtcp_types::SenderReport::PACKET_TYPE) => {
            let Ok(report) = rtcp_types::SenderReport::parse(packet) else {
                return false;
            };
            items.push(RtcpItem::SenderReport(SenderReport {
                ssrc: report.ssrc(),
                ntp: NtpTime(report.ntp_timestamp()),
                stamp: report.rtp_timestamp(),
            }));
            true
        }
        Some(&Bye::PACKET_TYPE) => {
            let Ok(bye) = Bye::parse(packet) else {
                return false;
            };
            items.extend(bye.ssrcs().map(|ssrc| RtcpItem::Bye { ssrc }));
            true
        }
        _ => true,
    }
}

/// Writes receiver reports, with the canonical name that each compound packet must have (RFC 3550, section 6.1).
///
/// Some cameras end a session without them, and some adapt the rate of the video to the reported loss.
#[derive(Debug)]
pub struct ReceiverReporter {
    ssrc: u32,
    cname: String,
    /// Counts at the previous report.
    reported: Option<Reception>,
    /// Last sender report, and its arrival in microseconds of the monotonic clock.
    sender_report: Option<(SenderReport, i64)>,
}

impl ReceiverReporter {
    /// Takes 16 random bytes: 4 are the SSRC, 12 the canonical name. Random for each session, the name identifies neither
    /// the recorder nor its host (RFC 7022, section 4.2).
    pub fn new(random: [u8; 16]) -> Self {
        let [a, b, c, d, name @ ..] = random;
        let cname = URL_SAFE_NO_PAD.encode(name);
        Self { ssrc: u32::from_be_bytes([a, b, c, d]), cname, reported: None, sender_report: None }
    }

    /// Notes a sender report, for the next receiver report.
    pub fn note(&mut self, report: SenderReport, at: Arrival) {
        self.sender_report = Some((report, at.monotonic_us));
    }

    /// Returns a compound packet of a receiver report (section 6.4.2) and the canonical name (section 6.5), of 36 or 60
    /// bytes. The jitter is 0: over TCP it means nothing.
    pub fn write(&mut self, reception: Option<Reception>, now: Arrival) -> Vec<u8> {
        let mut report = ReceiverReport::builder(self.ssrc);
        if let Some(reception) = reception {
            report = report.add_report_block(self.block(reception, now));
        }
        self.reported = reception;
        let name = SdesChunk::builder(self.ssrc).add_item(SdesItem::builder(SdesItem::CNAME, &self.cname));
        let compound =
            CompoundBuilder::default().add_packet(report).add_packet(Sdes::builder().add_chunk(name));
        // One block with bounded numbers and a name of 16 bytes are never refused.
        let mut bytes = vec![0; compound.calculate_size().unwrap_or_default()];
        let written = compound.write_into(&mut bytes).unwrap_or_default();
        bytes.truncate(written);
        bytes
    }

    fn block(&self, reception: Reception, now: Arrival) -> ReportBlockBuilder {
        let lost = reception.expected.saturating_sub(reception.received);
        let block = ReportBlock::builder(reception.ssrc)
            .fraction_lost(fraction_lost(reception, self.reported))
            .cumulative_lost(u32::try_from(lost).unwrap_or(MAX_LOST).min(MAX_LOST))
            .extended_sequence_number(reception.highest_sequence);
        match self.sender_report {
            Some((report, at)) if report.ssrc == reception.ssrc => block
                .last_sender_report_timestamp(report.ntp.middle())
                .delay_since_last_sender_report_timestamp(delay(now.monotonic_us.saturating_sub(at))),
            _ => block,
        }
    }
}

/// Returns the share of packets lost since the previous report, in 256ths (RFC 3550, appendix A.3). After a restart of the
/// sequence, the share of all.
fn fraction_lost(now: Reception, before: Option<Reception>) -> u8 {
    let before = before.filter(|before| before.expected <= now.expected && before.received <= now.received);
    let (expected, received) = before.map_or((0, 0), |before| (before.expected, before.received));
    let expected = now.expected.saturating_sub(expected);
    let lost = expected.saturating_sub(now.received.saturating_sub(received));
    let fraction = lost.saturating_mul(256).checked_div(expected).unwrap_or_default();
    u8::try_from(fraction).unwrap_or(u8::MAX)
}

/// Returns a delay in units of 1/65536 s (RFC 3550, section 6.4.1).
fn delay(microseconds: i64) -> u32 {
    let units = microseconds.max(0).saturating_mul(1 << 16) / 1_000_000;
    u32::try_from(units).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NAME: [u8; 12] = [0xff; 12];

    fn at(monotonic_us: i64) -> Arrival {
        Arrival { monotonic_us, wall_us: 0 }
    }

    fn read(data: &[u8]) -> (Vec<RtcpItem>, u64) {
        let mut odd = OddityCounts::default();
        let items = read_compound(data, &mut odd);
        (items, odd.get(Oddity::RtcpMalformed))
    }

    /// Returns a sender report of 28 bytes.
    fn sender_report() -> Vec<u8> {
        let mut data = vec![0x80, 200, 0, 6, 0, 0, 0, 7];
        data.extend_from_slice(&0xe8_00_00_01_80_00_00_00_u64.to_be_bytes());
        data.extend_from_slice(&90_000_u32.to_be_bytes());
        data.extend_from_slice(&[0, 0, 0, 5, 0, 0, 1, 0]);
        data
    }

    const REPORT: RtcpItem = RtcpItem::SenderReport(SenderReport {
        ssrc: 7,
        ntp: NtpTime(0xe8_00_00_01_80_00_00_00),
        stamp: 90_000,
    });

    /// A canonical name, as cameras send it after each report.
    const DESCRIPTION: [u8; 16] = [0x81, 202, 0, 3, 0, 0, 0, 7, 1, 3, b'c', b'a', b'm', 0, 0, 0];
    const BYE: [u8; 8] = [0x81, 203, 0, 1, 0, 0, 0, 7];

    #[test]
    fn reports_and_goodbyes_are_read() {
        assert_eq!(read(&sender_report()), (vec![REPORT], 0));
        let data = [&sender_report()[..], &DESCRIPTION, &BYE].concat();
        assert_eq!(read(&data), (vec![REPORT, RtcpItem::Bye { ssrc: 7 }], 0));
        // Two sources, and a reason.
        let bye = [0x82, 203, 0, 3, 0, 0, 0, 1, 0, 0, 0, 2, 3, b'e', b'n', b'd'];
        assert_eq!(read(&bye), (vec![RtcpItem::Bye { ssrc: 1 }, RtcpItem::Bye { ssrc: 2 }], 0));
        // An application-defined packet before the report.
        let data = [&[0x80, 204, 0, 2, 0, 0, 0, 7, b'n', b'a', b'm', b'e'][..], &sender_report()].concat();
        assert_eq!(read(&data), (vec![REPORT], 0));
    }

    #[test]
    fn report_before_a_wrong_length_counts() {
        for fault in [
            // Longer than what follows.
            &[0x81, 202, 0, 9, 0, 0, 0, 7][..],
            // No header.
            &[0x81, 202],
            &[0],
            // Zeros, and another version.
            &[0, 0, 0, 0],
            &[0x41, 202, 0, 0],
        ] {
            let data = [&sender_report()[..], fault].concat();
            assert_eq!(read(&data), (vec![REPORT], 1), "{fault:?}");
            let data = [&BYE[..], fault, &BYE].concat();
            let (items, malformed) = read(&data);
            assert_eq!((items.first(), malformed), (Some(&RtcpItem::Bye { ssrc: 7 }), 1), "{fault:?}");
        }
    }

    #[test]
    fn content_that_does_not_fit_is_skipped() {
        // A report block that is not there, and a length in bytes instead of words.
        let mut short = sender_report();
        short[0] = 0x81;
        assert_eq!(read(&[&short[..], &BYE].concat()), (vec![RtcpItem::Bye { ssrc: 7 }], 1));
        let mut in_bytes = sender_report();
        in_bytes[3] = 28;
        assert_eq!(read(&in_bytes), (vec![], 1));
        assert_eq!(read(&[]), (vec![], 1));
    }

    #[test]
    fn items_are_bounded() {
        let many = [0x80 | 31, 203, 0, 31].into_iter().chain([0; 124]).collect::<Vec<u8>>().repeat(99);
        assert_eq!(read(&many).0.len(), 64);
    }

    #[test]
    fn time_differences_cross_the_era_of_2036() {
        let last = NtpTime(0xffff_ffff_8000_0000);
        let first = NtpTime(0x0000_0001_0000_0000);
        assert_eq!(first.micros_since(last), 1_500_000);
        assert_eq!(last.micros_since(first), -1_500_000);
        assert_eq!(first.micros_since(first), 0);
        assert_eq!(NtpTime(1 << 63).micros_since(NtpTime(0)), -(1 << 31) * 1_000_000);
    }

    #[test]
    fn report_without_reception_has_no_block() {
        let mut reporter =
            ReceiverReporter::new([[1, 2, 3, 4].as_slice(), &NAME].concat().try_into().unwrap());
        let expected = [
            &[0x80, 201, 0, 1, 1, 2, 3, 4][..],
            &[0x81, 202, 0, 6, 1, 2, 3, 4, 1, 16],
            b"________________",
            &[0, 0],
        ]
        .concat();
        assert_eq!(reporter.write(None, at(0)), expected);
    }

    #[test]
    fn report_has_reception_and_last_sender_report() {
        let mut reporter =
            ReceiverReporter::new([[1, 2, 3, 4].as_slice(), &NAME].concat().try_into().unwrap());
        let RtcpItem::SenderReport(sender_report) = REPORT else { unreachable!() };
        reporter.note(sender_report, at(1_000_000));
        let reception = Reception { ssrc: 7, highest_sequence: 0x1_0002, expected: 100, received: 75 };
        let bytes = reporter.write(Some(reception), at(3_500_000));
        let expected = [
            &[0x81, 201, 0, 7, 1, 2, 3, 4][..],
            // A quarter lost, 25 in total.
            &[0, 0, 0, 7, 64, 0, 0, 25, 0, 1, 0, 2, 0, 0, 0, 0],
            // Middle of the NTP time, and 2.5 s.
            &[0, 1, 0x80, 0, 0, 2, 0x80, 0],
        ]
        .concat();
        assert_eq!(bytes[..32], expected);
        assert_eq!(bytes.len(), 60);
        assert_eq!(read(&bytes), (vec![], 0));
        // The next one has the loss since then, and no sender report of another source.
        let reception = Reception { ssrc: 8, expected: 200, received: 175, ..reception };
        let bytes = reporter.write(Some(reception), at(8_000_000));
        assert_eq!(bytes[8..32], [&[0, 0, 0, 8, 0, 0, 0, 25, 0, 1, 0, 2][..], &[0; 12]].concat());
    }

    #[test]
    fn fraction_lost_starts_again_with_the_sequence() {
        let reception = |expected, received| Reception { ssrc: 1, highest_sequence: 0, expected, received };
        assert_eq!(fraction_lost(reception(10, 5), Some(reception(1000, 1000))), 128);
        assert_eq!(fraction_lost(reception(10, 10), Some(reception(10, 10))), 0);
        // Repeats are no negative loss.
        assert_eq!(fraction_lost(reception(10, 30), None), 0);
        assert_eq!(fraction_lost(reception(10, 0), None), u8::MAX);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(data in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&data);
        }

        /// Near to a compound packet, so that lengths and counts are hit.
        #[test]
        fn any_damage_keeps_what_is_before(
            position in 0_usize..52,
            byte in any::<u8>(),
            end in 28_usize..80,
        ) {
            let mut data = [&sender_report()[..], &DESCRIPTION, &BYE, &sender_report()].concat();
            data[position + 28] = byte;
            data.truncate(end);
            let (items, malformed) = read(&data);
            prop_assert_eq!(items.first(), Some(&REPORT));
            prop_assert!(items.len() <= 20 && malformed <= 20);
        }

        #[test]
        fn any_reception_is_written(
            random in any::<[u8; 16]>(),
            counts in any::<[(u32, u32, u64, u64); 2]>(),
            times in any::<[i64; 2]>(),
            ntp in any::<u64>(),
        ) {
            let mut reporter = ReceiverReporter::new(random);
            reporter.note(SenderReport { ssrc: counts[0].0, ntp: NtpTime(ntp), stamp: 0 }, at(times[0]));
            for (ssrc, highest_sequence, expected, received) in counts {
                let reception = Reception { ssrc, highest_sequence, expected, received };
                let bytes = reporter.write(Some(reception), at(times[1]));
                prop_assert_eq!(bytes.len(), 60);
                let mut packets = rtcp_types::Compound::parse(&bytes).unwrap();
                prop_assert!(matches!(packets.next(), Some(Ok(rtcp_types::Packet::Rr(_)))));
                prop_assert!(matches!(packets.next(), Some(Ok(rtcp_types::Packet::Sdes(_)))));
            }
        }

        #[test]
        fn time_differences_never_overflow(one in any::<u64>(), other in any::<u64>()) {
            let forward = NtpTime(one).micros_since(NtpTime(other));
            let back = NtpTime(other).micros_since(NtpTime(one));
            prop_assume!(one.wrapping_sub(other) != 1 << 63);
            prop_assert!((forward + back).abs() <= 1);
        }
    }
}
