//! The clock that leadership is measured with.

use std::time::Duration;

use async_trait::async_trait;

/// A moment on the machine's own clock: time since boot, time asleep included. It is comparable only within
/// one machine's uptime, and is never written anywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootInstant(Duration);

impl BootInstant {
    /// The moment this long after boot.
    pub const fn since_boot(elapsed: Duration) -> Self {
        Self(elapsed)
    }

    /// The moment `after` this one.
    #[must_use]
    pub const fn plus(self, after: Duration) -> Self {
        Self(self.0.saturating_add(after))
    }

    /// How long it is from this moment until `later`; zero when that is past.
    pub const fn until(self, later: Self) -> Duration {
        later.0.saturating_sub(self.0)
    }
}

#[async_trait]
pub trait Clock: Send + Sync + 'static {
    /// Now. Never goes back, and goes on while the process is stopped or the machine asleep.
    fn now(&self) -> BootInstant;
    /// Waits. May take longer than asked for: whoever acts on time passed asks [`Clock::now`].
    async fn sleep(&self, pause: Duration);
}

/// The kernel's clock.
///
/// `std::time::Instant` is `CLOCK_MONOTONIC` on Linux, which stands still while the machine is suspended: a
/// leader on a virtual machine that was paused for an hour would take itself for the leader still. This is
/// `CLOCK_BOOTTIME`, which does not.
#[derive(Clone, Copy, Debug, Default)]
pub struct BootClock;

#[async_trait]
impl Clock for BootClock {
    fn now(&self) -> BootInstant {
        #[cfg(target_os = "linux")]
        let id = rustix::time::ClockId::Boottime;
        #[cfg(not(target_os = "linux"))]
        let id = rustix::time::ClockId::Monotonic;
        let time = rustix::time::clock_gettime(id);
        // Since boot: neither part is negative, and nanoseconds are below 10^9.
        let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
        let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or_default();
        BootInstant(Duration::new(seconds, nanoseconds))
    }

    async fn sleep(&self, pause: Duration) {
        tokio::time::sleep(pause).await;
    }
}

#[cfg(test)]
pub(crate) mod mock {
    //! A clock that tests turn by hand.

    use std::sync::Mutex;

    use super::{BootInstant, Clock, Duration, async_trait};

    /// Goes on only by [`MockClock::advance`] and by sleeping, which takes no real time.
    pub(crate) struct MockClock(Mutex<Duration>);

    impl MockClock {
        pub(crate) fn at(seconds: u64) -> Self {
            Self(Mutex::new(Duration::from_secs(seconds)))
        }
        pub(crate) fn advance(&self, by: Duration) {
            *self.0.lock().unwrap() += by;
        }
    }

    #[async_trait]
    impl Clock for MockClock {
        fn now(&self) -> BootInstant {
            BootInstant::since_boot(*self.0.lock().unwrap())
        }
        async fn sleep(&self, pause: Duration) {
            self.advance(pause);
            tokio::task::yield_now().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{BootClock, BootInstant, Clock, Duration};

    #[test]
    fn boot_clock_advances() {
        let first = BootClock.now();
        std::thread::sleep(Duration::from_millis(2));
        assert!(first.until(BootClock.now()) >= Duration::from_millis(2));
    }

    #[test]
    fn time_until_past_instant_is_zero() {
        let noon = BootInstant::since_boot(Duration::from_secs(12));
        assert_eq!(noon.plus(Duration::from_secs(3)).until(noon), Duration::ZERO);
        assert_eq!(noon.until(noon.plus(Duration::from_secs(3))), Duration::from_secs(3));
    }
}
