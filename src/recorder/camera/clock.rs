//! From the camera's clock to ours.
//!
//! A camera stamps its pictures with a clock of its own that begins anywhere and may run a little fast or
//! slow. The picture reaches us after a delay that varies but is never negative, so the smallest difference
//! between arrival and stamp over the last minute is the best guess of the offset between the clocks: bursts
//! and stalls only make differences larger, and a minute is short enough to follow a clock that drifts.
//! The wall clock enters last, as an offset to the steady one, so that somebody setting it moves no picture
//! within a file.

use std::collections::VecDeque;

use jiff::Timestamp;

use crate::recorder::frame::{Arrival, TICKS_PER_SECOND};

/// How far back the smallest delay is looked for.
const WINDOW_US: i64 = 60_000_000;
/// A camera's stamps that run ahead of, or back behind, what time allows by more than this begin anew.
const JUMP_US: i64 = 2_000_000;
/// Our wall clock was set, rather than slewed, when it moves this much between two pictures.
const STEP_US: i64 = 200_000;

/// What a picture's arrival says of the clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Continuity {
    Steady,
    /// The camera's stamps begin anew: what was measured before says nothing now.
    Jumped,
    Stepped,
}

#[derive(Debug, Default)]
pub struct StreamClock {
    /// Arrival and offset, both in steady microseconds, offsets ascending: the first is the smallest.
    offsets: VecDeque<(i64, i64)>,
    /// Stamp in microseconds, and arrival, of the newest picture.
    newest: Option<(i64, Arrival)>,
}

impl StreamClock {
    /// Learns from a picture's stamp and arrival.
    pub fn observe(&mut self, ticks: i64, arrived: Arrival) -> Continuity {
        let stamp = micros(ticks);
        let offset = arrived.monotonic_us.saturating_sub(stamp);
        let continuity = self.newest.map_or(Continuity::Steady, |last| continuity(last, stamp, arrived));
        if continuity == Continuity::Jumped {
            self.offsets.clear();
        }
        while self.offsets.back().is_some_and(|(_, newest)| *newest >= offset) {
            self.offsets.pop_back();
        }
        self.offsets.push_back((arrived.monotonic_us, offset));
        let oldest = arrived.monotonic_us.saturating_sub(WINDOW_US);
        while self.offsets.front().is_some_and(|(at, _)| *at < oldest) {
            self.offsets.pop_front();
        }
        self.newest = Some((stamp, arrived));
        continuity
    }

    /// When the picture with this stamp was taken; before the first picture: 1970.
    pub fn capture_time(&self, ticks: i64) -> Timestamp {
        let offset = self.offsets.front().map_or(0, |(_, offset)| *offset);
        let monotonic_to_wall = self.newest.map_or(0, |(_, at)| at.wall_us.saturating_sub(at.monotonic_us));
        let us = micros(ticks).saturating_add(offset).saturating_add(monotonic_to_wall);
        Timestamp::from_microsecond(us).unwrap_or_default()
    }
}

fn continuity((stamp_before, before): (i64, Arrival), stamp: i64, now: Arrival) -> Continuity {
    let stamped = stamp.saturating_sub(stamp_before);
    let passed = now.monotonic_us.saturating_sub(before.monotonic_us);
    // A picture cannot have been taken later than it arrived, so stamps that gain on the steady clock are a
    // jump; stamps that lose are a delay, or pictures that the camera did not make.
    if stamped.saturating_sub(passed) > JUMP_US || stamped < -JUMP_US {
        return Continuity::Jumped;
    }
    let read = now.wall_us.saturating_sub(before.wall_us);
    if read.saturating_sub(passed).abs() > STEP_US { Continuity::Stepped } else { Continuity::Steady }
}

fn micros(ticks: i64) -> i64 {
    ticks.saturating_mul(1_000_000) / TICKS_PER_SECOND
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: i64 = 1_780_000_000_000_000;

    fn arrival(us: i64) -> Arrival {
        Arrival { monotonic_us: us, wall_us: START + us }
    }

    fn error_ms(clock: &StreamClock, ticks: i64, taken_us: i64) -> i64 {
        (clock.capture_time(ticks).as_microsecond() - START - taken_us) / 1000
    }

    #[test]
    fn clock_follows_hours_of_camera_drift() {
        for ppm in [-300, 300] {
            let mut clock = StreamClock::default();
            let mut worst = 0;
            for n in 0..(4 * 3600 * 5) {
                let taken = n * 200_000;
                let ticks = (taken + taken * ppm / 1_000_000) * 9 / 100 + 77;
                let delay = 5_000 + (n * 7919 % 40) * 1000;
                assert_eq!(clock.observe(ticks, arrival(taken + delay)), Continuity::Steady);
                worst = worst.max(error_ms(&clock, ticks, taken).abs());
            }
            assert!(worst < 100, "{ppm} ppm: {worst} ms");
        }
    }

    #[test]
    fn burst_and_stall_do_not_shift_capture_time() {
        let mut clock = StreamClock::default();
        // A camera that first sends the four seconds it kept, then goes on in real time.
        for n in 0..40 {
            clock.observe(n * 9000, arrival(4_000_000 + n * 1000));
        }
        for n in 40..100 {
            let taken = n * 100_000;
            // Between 6 s and 9 s nothing comes through, then all at once.
            let at = if (60..90).contains(&n) { 9_000_000 } else { taken };
            clock.observe(n * 9000, arrival(at + 20_000));
        }
        assert!(error_ms(&clock, 0, 0).abs() < 50);
        assert!(error_ms(&clock, 99 * 9000, 9_900_000).abs() < 50);
    }

    #[test]
    fn camera_jump_and_wall_clock_step_are_distinguished() {
        let mut clock = StreamClock::default();
        assert_eq!(clock.observe(0, arrival(0)), Continuity::Steady);
        assert_eq!(clock.observe(9000, arrival(100_000)), Continuity::Steady);
        assert_eq!(clock.observe(9_000_000, arrival(200_000)), Continuity::Jumped);
        assert!(error_ms(&clock, 9_000_000, 200_000).abs() < 5);
        assert_eq!(clock.observe(500, arrival(300_000)), Continuity::Jumped);
        let stepped = Arrival { monotonic_us: 400_000, wall_us: START + 3_600_400_000 };
        assert_eq!(clock.observe(9500, stepped), Continuity::Stepped);
        assert!((error_ms(&clock, 9500, 400_000) - 3_600_000).abs() < 5);
    }

    proptest! {
        #[test]
        fn capture_time_is_never_after_arrival(delays in proptest::collection::vec(0_i64..1_500_000, 1..200)) {
            let mut clock = StreamClock::default();
            for (n, delay) in delays.iter().enumerate() {
                let n = i64::try_from(n).unwrap();
                let at = arrival(n * 66_667 + delay);
                clock.observe(n * 6000, at);
                prop_assert!(clock.capture_time(n * 6000).as_microsecond() <= at.wall_us + 1);
            }
        }
    }
}
