//! Converts a camera's timestamps to capture times.
//!
//! A camera's clock starts at any value, and may run a little fast or slow. A frame arrives after a delay that varies, but
//! is never negative. So the best estimate of the offset between the clocks is the smallest difference between arrival and
//! timestamp over the last minute. Bursts and stalls only increase the difference, and a minute is short enough to follow
//! the drift. The wall clock is added last, as an offset to the monotonic clock, so that a step of it moves no frame
//! within a file.

use std::collections::VecDeque;

use jiff::Timestamp;

use crate::recorder::frame::{Arrival, TICKS_PER_SECOND};

/// Period of the smallest difference.
const WINDOW_US: i64 = 60_000_000;
/// Deviation of a camera's timestamps from the elapsed time that counts as a new start of its clock.
const JUMP_US: i64 = 2_000_000;
/// Deviation of the wall clock between two frames that counts as a step, not as a slew.
const STEP_US: i64 = 200_000;

/// Continuity of the clocks from the previous frame to this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Continuity {
    Steady,
    /// The camera's clock restarted: earlier offsets are invalid.
    Jumped,
    /// The wall clock of this machine was set.
    Stepped,
}

#[derive(Debug, Default)]
pub struct StreamClock {
    /// Arrival and offset in microseconds of the monotonic clock. Offsets ascend, so the first is the smallest.
    offsets: VecDeque<(i64, i64)>,
    /// Timestamp in microseconds, and arrival, of the newest frame.
    newest: Option<(i64, Arrival)>,
}

impl StreamClock {
    /// Adds the timestamp and arrival of a frame.
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

    /// Returns the capture time of the frame with this timestamp; before the first frame: 1970.
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
    // No frame is captured after its arrival, so timestamps that gain on the monotonic clock are a jump. Timestamps that
    // lose are a delay, or frames that the camera dropped.
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
        // The camera first sends a buffer of four seconds, then continues in real time.
        for n in 0..40 {
            clock.observe(n * 9000, arrival(4_000_000 + n * 1000));
        }
        for n in 40..100 {
            let taken = n * 100_000;
            // From 6 s to 9 s no frame arrives, then all do.
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
