use proptest::prelude::*;

use super::*;

const KNOWN: u32 = 0xa0;
const OTHER: u32 = 0xb0;

/// A delivered packet. Its stamp is the number that the test gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Delivered {
    number: u32,
    lost_before: u16,
    is_restart: bool,
}

fn delivered(number: u32, lost_before: u16) -> Delivered {
    Delivered { number, lost_before, is_restart: false }
}

fn restart(number: u32) -> Delivered {
    Delivered { number, lost_before: 0, is_restart: true }
}

fn at(milliseconds: i64) -> Arrival {
    Arrival { monotonic_us: milliseconds * 1000, wall_us: 0 }
}

struct Harness {
    order: PacketOrder,
    odd: OddityCounts,
    delivered: Vec<Delivered>,
}

impl Harness {
    fn new(window: ReorderWindow) -> Self {
        let order = PacketOrder::new(window, [96].into_iter().collect());
        Self { order, odd: OddityCounts::default(), delivered: Vec::new() }
    }

    fn tcp() -> Self {
        Self::new(ReorderWindow::TCP)
    }

    fn udp() -> Self {
        Self::new(ReorderWindow::UDP)
    }

    fn header(ssrc: u32, sequence: u16, number: u32) -> RtpHeader {
        RtpHeader { payload_type: 96, has_marker: false, sequence, stamp: number, ssrc }
    }

    fn push_header(&mut self, header: RtpHeader, time: Arrival) {
        let payload = header.stamp.to_be_bytes();
        let packet = RtpPacket { header, payload: &payload };
        let list = &mut self.delivered;
        self.order.push(&packet, time, &mut self.odd, &mut |packet| list.push(Self::note(packet)));
    }

    fn note(packet: Ordered<'_>) -> Delivered {
        assert_eq!(packet.payload, packet.stamp.to_be_bytes());
        Delivered { number: packet.stamp, lost_before: packet.lost_before, is_restart: packet.is_restart }
    }

    /// Pushes a packet whose number is its sequence number.
    fn push(&mut self, ssrc: u32, sequence: u16, milliseconds: i64) {
        self.push_header(Self::header(ssrc, sequence, sequence.into()), at(milliseconds));
    }

    fn expire(&mut self, milliseconds: i64) {
        let list = &mut self.delivered;
        self.order.expire(at(milliseconds), &mut |packet| list.push(Self::note(packet)));
    }

    fn flush(&mut self) {
        let list = &mut self.delivered;
        self.order.flush(&mut |packet| list.push(Self::note(packet)));
    }

    fn take(&mut self) -> Vec<Delivered> {
        std::mem::take(&mut self.delivered)
    }

    fn oddities(&self) -> Vec<(Oddity, u64)> {
        self.odd.iter().collect()
    }

    fn waiting(&self) -> usize {
        self.order.known.as_ref().map_or(0, |known| known.waiting.len())
    }

    /// Returns a harness that has delivered `sequence` at 0 ms.
    fn started(window: ReorderWindow, sequence: u16) -> Self {
        let mut harness = Self::new(window);
        harness.push(KNOWN, sequence, 0);
        harness.flush();
        assert_eq!(harness.take(), [restart(sequence.into())]);
        harness
    }
}

#[test]
fn sequence_numbers_wrap() {
    for mut harness in
        [Harness::started(ReorderWindow::TCP, 65534), Harness::started(ReorderWindow::UDP, 65534)]
    {
        for sequence in [65535, 0, 1] {
            harness.push(KNOWN, sequence, 1);
        }
        assert_eq!(harness.take(), [delivered(65535, 0), delivered(0, 0), delivered(1, 0)]);
        let reception = Reception { ssrc: KNOWN, highest_sequence: 0x1_0001, expected: 4, received: 4 };
        assert_eq!(harness.order.reception(), Some(reception));
        assert_eq!(harness.oddities(), []);
    }
}

#[test]
fn tcp_delivers_at_once_and_counts_loss() {
    let mut harness = Harness::started(ReorderWindow::TCP, 65533);
    harness.push(KNOWN, 2, 1);
    assert_eq!(harness.take(), [delivered(2, 4)]);
    // A repeat, and a packet that was given up.
    harness.push(KNOWN, 2, 1);
    harness.push(KNOWN, 65533, 1);
    harness.push(KNOWN, 1, 1);
    harness.push(KNOWN, 3, 1);
    assert_eq!(harness.take(), [delivered(3, 0)]);
    assert_eq!(harness.oddities(), [(Oddity::RtpRepeated, 2), (Oddity::RtpLate, 1)]);
    assert_eq!(harness.waiting(), 0);
}

#[test]
fn udp_waits_for_a_late_packet() {
    let mut harness = Harness::started(ReorderWindow::UDP, 10);
    for sequence in [13, 12, 13] {
        harness.push(KNOWN, sequence, 5);
    }
    assert_eq!(harness.take(), []);
    harness.push(KNOWN, 11, 204);
    assert_eq!(harness.take(), [delivered(11, 0), delivered(12, 0), delivered(13, 0)]);
    assert_eq!(harness.oddities(), [(Oddity::RtpRepeated, 1)]);
}

#[test]
fn udp_gives_up_after_200_milliseconds() {
    let mut harness = Harness::started(ReorderWindow::UDP, 10);
    assert_eq!(harness.order.deadline(), None);
    harness.push(KNOWN, 14, 5);
    harness.push(KNOWN, 12, 100);
    assert_eq!(harness.order.deadline(), Some(205_000));
    harness.expire(204);
    assert_eq!(harness.take(), []);
    harness.expire(205);
    assert_eq!(harness.take(), [delivered(12, 1), delivered(14, 1)]);
    assert_eq!(harness.order.deadline(), None);
    // A later arrival shows the time too.
    harness.push(KNOWN, 16, 300);
    harness.push(KNOWN, 17, 500);
    assert_eq!(harness.take(), [delivered(16, 1), delivered(17, 0)]);
}

#[test]
fn udp_gives_up_after_64_packets() {
    let mut harness = Harness::started(ReorderWindow::UDP, 0);
    for sequence in 2..=65 {
        harness.push(KNOWN, sequence, 1);
    }
    assert_eq!((harness.take(), harness.waiting()), (vec![], 64));
    harness.push(KNOWN, 66, 1);
    let taken = harness.take();
    assert_eq!((taken[0], taken.len(), harness.waiting()), (delivered(2, 1), 65, 0));
}

#[test]
fn udp_puts_the_first_packets_in_order() {
    let mut harness = Harness::udp();
    for sequence in [1, 0, 65535] {
        harness.push(KNOWN, sequence, 0);
    }
    assert_eq!(harness.take(), []);
    harness.expire(200);
    assert_eq!(harness.take(), [restart(65535), delivered(0, 0), delivered(1, 0)]);
    let reception = Reception { ssrc: KNOWN, highest_sequence: 1, expected: 3, received: 3 };
    assert_eq!(harness.order.reception(), Some(reception));
}

#[test]
fn payload_type_of_nobody_is_dropped() {
    let mut harness = Harness::tcp();
    for payload_type in [50, 0, 127, 255] {
        harness.push_header(RtpHeader { payload_type, ..Harness::header(KNOWN, 1, 1) }, at(0));
    }
    assert_eq!((harness.take(), harness.order.reception()), (vec![], None));
    // The last one waits for another.
    assert_eq!(harness.oddities(), [(Oddity::RtpPayloadType, 3)]);
    let types: PayloadTypes = [0, 96, 127, 128, 255].into_iter().collect();
    let contained: Vec<u8> = (0..=255).filter(|payload_type| types.contains(*payload_type)).collect();
    assert_eq!(contained, [0, 96, 127]);
}

impl Harness {
    fn push_type(&mut self, payload_type: u8, sequence: u16) {
        let header = Self::header(KNOWN, sequence, sequence.into());
        self.push_header(RtpHeader { payload_type, ..header }, at(0));
    }
}

#[test]
fn unnamed_payload_type_is_adopted_over_tcp() {
    let mut harness = Harness::tcp();
    harness.push_type(97, 1);
    assert_eq!(harness.take(), []);
    for (payload_type, sequence) in [(97, 2), (98, 3), (97, 4)] {
        harness.push_type(payload_type, sequence);
    }
    assert_eq!(harness.take(), [restart(1), delivered(2, 0), delivered(4, 1)]);
    assert_eq!(harness.oddities(), [(Oddity::RtpPayloadType, 1), (Oddity::RtpPayloadTypeAdopted, 1)]);
    // The named type ends it.
    harness.push_type(96, 5);
    harness.push_type(97, 6);
    harness.push_type(97, 7);
    harness.push_type(96, 8);
    assert_eq!(harness.take(), [restart(5), delivered(8, 2)]);
    assert_eq!(harness.oddities(), [(Oddity::RtpPayloadType, 3), (Oddity::RtpPayloadTypeAdopted, 1)]);
}

#[test]
fn unnamed_payload_type_is_not_adopted_without_need() {
    // Beside the named one.
    let mut harness = Harness::tcp();
    for (payload_type, sequence) in [(50, 1), (96, 2), (50, 3), (50, 4), (96, 5)] {
        harness.push_type(payload_type, sequence);
    }
    assert_eq!(harness.take(), [restart(2), delivered(5, 2)]);
    assert_eq!(harness.oddities(), [(Oddity::RtpPayloadType, 3)]);
    // Over UDP, and with two formats.
    let two = PacketOrder::new(ReorderWindow::TCP, [96, 99].into_iter().collect());
    for mut harness in [Harness::udp(), Harness { order: two, ..Harness::tcp() }] {
        harness.push_type(97, 1);
        harness.push_type(97, 2);
        harness.flush();
        assert_eq!(harness.take(), []);
        assert_eq!(harness.oddities(), [(Oddity::RtpPayloadType, 2)]);
    }
}

#[test]
fn another_ssrc_continues_the_sequence() {
    for window in [ReorderWindow::TCP, ReorderWindow::UDP] {
        let mut harness = Harness::started(window, 10);
        for (ssrc, sequence) in [(OTHER, 11), (OTHER, 12), (KNOWN, 13), (0xc0, 14)] {
            harness.push(ssrc, sequence, 1);
        }
        let numbers: Vec<u32> = harness.take().iter().map(|packet| packet.number).collect();
        assert_eq!(numbers, [11, 12, 13, 14]);
        assert_eq!(harness.oddities(), [(Oddity::RtpSsrcChanged, 3)]);
        assert_eq!(harness.order.reception().unwrap().ssrc, 0xc0);
    }
    // Loss at the change.
    let mut harness = Harness::started(ReorderWindow::TCP, 10);
    harness.push(OTHER, 20, 1);
    assert_eq!(harness.take(), [delivered(20, 9)]);
}

#[test]
fn stranger_beside_the_known_sequence_is_dropped() {
    for window in [ReorderWindow::TCP, ReorderWindow::UDP] {
        let mut harness = Harness::started(window, 10);
        harness.push(KNOWN, 11, 0);
        for frame in 0..50_u16 {
            for packet in 0..10 {
                harness.push(OTHER, 30_000 + frame * 10 + packet, i64::from(frame) * 40);
            }
            harness.push(KNOWN, 12 + frame, i64::from(frame) * 40 + 20);
        }
        let numbers: Vec<u32> = harness.take().iter().map(|packet| packet.number).collect();
        assert_eq!(numbers, (11..62).collect::<Vec<u32>>());
        // The last one waits for another.
        assert_eq!(harness.oddities(), [(Oddity::RtpStranger, 499)]);
    }
}

#[test]
fn another_ssrc_replaces_a_silent_one() {
    let mut harness = Harness::started(ReorderWindow::TCP, 10);
    harness.push(KNOWN, 11, 0);
    harness.take();
    for (sequence, time) in [(30_500, 900), (30_501, 999), (30_502, 1000), (30_503, 1001)] {
        harness.push(OTHER, sequence, time);
    }
    assert_eq!(harness.take(), [restart(30_501), delivered(30_502, 0), delivered(30_503, 0)]);
    assert_eq!(harness.oddities(), [(Oddity::RtpStranger, 1), (Oddity::RtpRestart, 1)]);
    // The old one is the stranger now.
    harness.push(KNOWN, 12, 1002);
    harness.push(KNOWN, 13, 1003);
    assert_eq!(harness.take(), []);
}

#[test]
fn another_ssrc_replaces_one_that_said_goodbye() {
    let mut harness = Harness::started(ReorderWindow::TCP, 10);
    harness.push(KNOWN, 11, 0);
    harness.take();
    harness.order.source_ended(OTHER);
    harness.push(OTHER, 30_500, 1);
    harness.push(OTHER, 30_501, 1);
    assert_eq!(harness.take(), []);
    harness.order.source_ended(KNOWN);
    harness.push(OTHER, 30_502, 2);
    assert_eq!(harness.take(), [restart(30_501), delivered(30_502, 0)]);
    // One that goes on after its goodbye stays.
    harness.order.source_ended(OTHER);
    harness.push(OTHER, 30_503, 3);
    harness.push(KNOWN, 12, 3);
    harness.push(KNOWN, 13, 3);
    assert_eq!(harness.take(), [delivered(30_503, 0)]);
}

#[test]
fn other_ssrc_continues_after_a_long_loss() {
    for window in [ReorderWindow::TCP, ReorderWindow::UDP] {
        let mut harness = Harness::started(window, 65_500);
        for (ssrc, sequence) in [(KNOWN, 65_501), (OTHER, 364), (OTHER, 365), (OTHER, 366)] {
            harness.push(ssrc, sequence, 1);
        }
        harness.flush();
        let expected = [delivered(65_501, 0), delivered(364, 398), delivered(365, 0), delivered(366, 0)];
        assert_eq!(harness.take(), expected);
        assert_eq!(harness.oddities(), [(Oddity::RtpSsrcChanged, 1)]);
    }
    // A packet of the known sequence between the two: it lives.
    let mut harness = Harness::started(ReorderWindow::TCP, 10);
    for (ssrc, sequence) in [(KNOWN, 11), (OTHER, 400), (KNOWN, 12), (OTHER, 401), (KNOWN, 13)] {
        harness.push(ssrc, sequence, 1);
    }
    assert_eq!(harness.take(), [delivered(11, 0), delivered(12, 0), delivered(13, 0)]);
    // Behind, or too far ahead.
    for sequence in [9, 3100, 60_000] {
        let mut harness = Harness::started(ReorderWindow::TCP, 10);
        harness.push(KNOWN, 11, 1);
        harness.take();
        harness.push(OTHER, sequence, 1);
        harness.push(OTHER, sequence + 1, 1);
        assert_eq!(harness.take(), [], "{sequence}");
    }
}

#[test]
fn packet_off_a_living_sequence_expires() {
    let mut harness = Harness::started(ReorderWindow::TCP, 10);
    harness.push(KNOWN, 11, 0);
    harness.push(OTHER, 30_000, 1);
    harness.push(KNOWN, 12, 2);
    harness.take();
    // The known sequence ended. Its stranger sends one packet, not two in sequence.
    harness.push(OTHER, 30_001, 1002);
    assert_eq!(harness.take(), []);
    assert_eq!(harness.oddities(), [(Oddity::RtpStranger, 1)]);
    harness.push(OTHER, 30_002, 1003);
    assert_eq!(harness.take(), [restart(30_001), delivered(30_002, 0)]);
}

#[test]
fn slow_camera_may_restart() {
    for ssrc in [KNOWN, OTHER] {
        let mut harness = Harness::started(ReorderWindow::TCP, 10);
        harness.push(KNOWN, 11, 12_000);
        harness.take();
        harness.push(ssrc, 30_000, 24_000);
        harness.push(ssrc, 30_001, 36_000);
        assert_eq!(harness.take(), [restart(30_000), delivered(30_001, 0)]);
    }
}

#[test]
fn single_packet_of_a_dead_session_keeps_nobody_out() {
    let mut harness = Harness::started(ReorderWindow::TCP, 10);
    harness.push(OTHER, 500, 1);
    harness.push(OTHER, 501, 1);
    assert_eq!(harness.take(), [restart(500), delivered(501, 0)]);
}

#[test]
fn restart_of_the_sequence_loses_nothing() {
    for window in [ReorderWindow::TCP, ReorderWindow::UDP] {
        let mut harness = Harness::started(window, 40_000);
        // One waits for an earlier one that never comes.
        harness.push(KNOWN, 40_002, 0);
        harness.push(KNOWN, 0, 1);
        harness.push(KNOWN, 1, 2);
        harness.push(KNOWN, 2, 3);
        harness.flush();
        let expected = [delivered(40_002, 1), restart(0), delivered(1, 0), delivered(2, 0)];
        assert_eq!(harness.take(), expected);
        assert_eq!(harness.oddities(), [(Oddity::RtpRestart, 1)]);
        let reception = Reception { ssrc: KNOWN, highest_sequence: 2, expected: 3, received: 3 };
        assert_eq!(harness.order.reception(), Some(reception));
    }
}

#[test]
fn udp_restart_may_be_out_of_order() {
    let mut harness = Harness::started(ReorderWindow::UDP, 40_000);
    for (sequence, time) in [(1, 1), (40_001, 2), (0, 3), (2, 4)] {
        harness.push(KNOWN, sequence, time);
    }
    harness.flush();
    assert_eq!(harness.take(), [delivered(40_001, 0), restart(0), delivered(1, 0), delivered(2, 0)]);
}

#[test]
fn single_packet_far_away_is_dropped() {
    let mut harness = Harness::started(ReorderWindow::TCP, 10);
    harness.push(KNOWN, 30_000, 1);
    harness.push(KNOWN, 11, 1);
    harness.push(KNOWN, 50_000, 1);
    harness.push(KNOWN, 12, 1);
    assert_eq!(harness.take(), [delivered(11, 0), delivered(12, 0)]);
    assert_eq!(harness.oddities(), [(Oddity::RtpStranger, 1)]);
}

/// Packets with loss, repeats and a bounded disorder.
#[derive(Debug)]
struct Run {
    first: u16,
    /// Numbers in the order of their arrival.
    arrivals: Vec<u32>,
}

impl Run {
    /// At most `disorder` packets overtake another.
    fn strategy(disorder: u32) -> impl Strategy<Value = Self> {
        let fate = (0_u8..10, 0..=disorder, 0..=disorder);
        (any::<u16>(), proptest::collection::vec(fate, 1..400)).prop_map(|(first, fates)| {
            let mut arrivals = Vec::new();
            for (number, (fate, delay, delay_of_repeat)) in (0_u32..).zip(fates) {
                if fate > 0 {
                    arrivals.push((number + delay, number));
                }
                if fate == 9 {
                    arrivals.push((number + delay_of_repeat, number));
                }
            }
            arrivals.sort_by_key(|(time, _)| *time);
            Self { first, arrivals: arrivals.into_iter().map(|(_, number)| number).collect() }
        })
    }

    fn sequence(&self, number: u32) -> u16 {
        self.first.wrapping_add(u16::try_from(number).unwrap())
    }

    /// Returns the numbers that arrived, ascending.
    fn arrived(&self) -> Vec<u32> {
        let mut numbers = self.arrivals.clone();
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    }

    fn repeats(&self) -> u64 {
        u64::try_from(self.arrivals.len() - self.arrived().len()).unwrap()
    }

    /// Pushes all, one each millisecond.
    fn push_to(&self, harness: &mut Harness) {
        for (time, number) in (0..).zip(&self.arrivals) {
            harness.push_header(Harness::header(KNOWN, self.sequence(*number), *number), at(time));
            assert!(harness.waiting() <= harness.order.window.packets.into());
        }
        harness.flush();
    }
}

/// Asserts that packets ascend, and that their losses are the numbers between them.
fn assert_losses_add_up(delivered: &[Delivered]) {
    for pair in delivered.windows(2) {
        assert!(!pair[1].is_restart);
        assert_eq!(pair[0].number + u32::from(pair[1].lost_before) + 1, pair[1].number);
    }
    assert!(delivered.first().is_none_or(|first| *first == restart(first.number)));
}

proptest! {
    #[test]
    fn udp_delivers_all_that_arrive_within_the_window(run in Run::strategy(32)) {
        let mut harness = Harness::udp();
        run.push_to(&mut harness);
        let delivered = harness.take();
        assert_losses_add_up(&delivered);
        let numbers: Vec<u32> = delivered.iter().map(|packet| packet.number).collect();
        prop_assert_eq!(&numbers, &run.arrived());
        prop_assert_eq!(harness.odd.get(Oddity::RtpRepeated), run.repeats());
        prop_assert_eq!(harness.odd.iter().count(), usize::from(run.repeats() > 0));
        if let Some(reception) = harness.order.reception() {
            let range = numbers.last().unwrap() - numbers[0] + 1;
            prop_assert_eq!(reception.expected, u64::from(range));
            prop_assert_eq!(reception.received, u64::try_from(run.arrivals.len()).unwrap());
        }
    }

    #[test]
    fn any_disorder_is_delivered_ascending_at_most_once(
        run in prop_oneof![Run::strategy(0), Run::strategy(32), Run::strategy(90)],
        is_udp in any::<bool>(),
    ) {
        let mut harness = if is_udp { Harness::udp() } else { Harness::tcp() };
        run.push_to(&mut harness);
        let delivered = harness.take();
        assert_losses_add_up(&delivered);
        // Each that is not delivered is counted.
        let dropped: u64 = harness.odd.iter().map(|(_, count)| count).sum();
        let arrived = run.arrivals.len();
        prop_assert_eq!(delivered.len() + usize::try_from(dropped).unwrap(), arrived);
        prop_assert_eq!(harness.odd.get(Oddity::RtpRestart) + harness.odd.get(Oddity::RtpStranger), 0);
    }

    /// Headers of nobody in particular.
    #[test]
    fn any_packets_are_bounded(
        packets in proptest::collection::vec(
            (0_u32..3, prop_oneof![0_u16..200, any::<u16>()], 95_u8..98, any::<bool>(), prop_oneof![0_i64..3_000_000, any::<i64>()]),
            0..400,
        ),
        is_udp in any::<bool>(),
    ) {
        let mut harness = if is_udp { Harness::udp() } else { Harness::tcp() };
        let arrived = packets.len();
        for (ssrc, sequence, payload_type, has_goodbye, monotonic_us) in packets {
            let time = Arrival { monotonic_us, wall_us: 0 };
            if has_goodbye {
                harness.order.source_ended(ssrc);
                let list = &mut harness.delivered;
                harness.order.expire(time, &mut |packet| list.push(Harness::note(packet)));
            }
            harness.push_header(RtpHeader { payload_type, ..Harness::header(ssrc, sequence, 7) }, time);
            prop_assert!(harness.waiting() <= harness.order.window.packets.into());
            prop_assert!(harness.order.reception().is_none_or(|reception| reception.expected > 0));
        }
        harness.flush();
        // Each packet is delivered, dropped and counted, or the one candidate.
        let oddities = [Oddity::RtpPayloadType, Oddity::RtpStranger, Oddity::RtpRepeated, Oddity::RtpLate];
        let dropped: u64 = oddities.iter().map(|oddity| harness.odd.get(*oddity)).sum();
        let accounted = harness.delivered.len()
            + usize::try_from(dropped).unwrap()
            + usize::from(harness.order.candidate.is_some());
        prop_assert_eq!(accounted, arrived);
    }
}
