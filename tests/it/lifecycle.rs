//! The store's own lifecycle, on a store where it really runs: Ceph's bed has days of ten seconds.

mod expiry;
mod incident;

use std::time::Duration;

/// The lowest ceiling: five of the store's days. A day to expire, one to be noncurrent and one for the marker are less.
const CEILING: Duration = Duration::from_secs(50);
