//! The clock of leadership.

use std::time::Duration;

use async_trait::async_trait;

/// A moment on the machine's own clock: time since boot, including time asleep. It is comparable only within one
/// machine's uptime, and never stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootInstant(Duration);

impl BootInstant {
    pub const fn since_boot(elapsed: Duration) -> Self {
        Self(elapsed)
    }

    #[must_use]
    pub const fn plus(self, after: Duration) -> Self {
        Self(self.0.saturating_add(after))
    }

    /// Returns the time from this moment until `later`; zero if that is past.
    pub const fn until(self, later: Self) -> Duration {
        later.0.saturating_sub(self.0)
    }
}

#[async_trait]
pub trait Clock: Send + Sync + 'static {
    /// Returns the current moment. It never goes back, and advances while the process is stopped or the machine asleep.
    fn now(&self) -> BootInstant;
    /// Waits, perhaps longer than `pause`. To act on elapsed time, read [`Clock::now`].
    async fn sleep(&self, pause: Duration);
}

/// The kernel's `CLOCK_BOOTTIME`.
///
/// `std::time::Instant` is `CLOCK_MONOTONIC` on Linux, which stops while the machine is suspended. With it, a leader on a
/// virtual machine that was paused for an hour would believe that it still leads.
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
        // The time since boot is not negative, and its nanoseconds are below 10^9, so neither conversion fails.
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
    //! A clock that tests advance.

    use std::sync::Mutex;

    use super::{BootInstant, Clock, Duration, async_trait};

    /// Advances only by [`MockClock::advance`] and by sleeping, which takes no real time.
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
