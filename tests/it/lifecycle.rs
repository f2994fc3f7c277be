//! The store's own lifecycle rules, on Ceph, where the test bed shortens a day to ten seconds.

mod expiry;
mod incident;

use std::time::Duration;

/// Lowest ceiling: five of the store's days. Expiration, noncurrent expiration and delete marker removal take three.
const CEILING: Duration = Duration::from_secs(50);
