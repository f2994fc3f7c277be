//! The store's own lifecycle, on a store where it really runs: Ceph's bed has days of ten seconds.

mod expiry;
mod incident;

use std::time::Duration;

/// A day of the store's.
const DAY: Duration = Duration::from_secs(10);
/// The lowest ceiling, five days. A day to expire, one to be noncurrent and one for the marker are less.
const CEILING: Duration = Duration::from_secs(50);
/// The same on a loaded machine, on which the store goes through the buckets of all other tests too.
const GONE: Duration = Duration::from_secs(300);
