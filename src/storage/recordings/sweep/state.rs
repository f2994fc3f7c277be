//! State and report of a sweep.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use crate::api::Ceilings;
use crate::rules::HoldScope;
use crate::storage::recordings::hold::protection_cache::{ManifestVersions, ProtectionCache};
use crate::storage::recordings::{OpenHolds, OpenHoldsError};
use crate::storage::s3::store_clock::ClockSkew;
use crate::storage::s3::{BucketClient, DecisionTime, StoreError};

/// Concurrent requests while the store keeps up: a whole page, right after the holds were read.
pub(crate) const MAX_CONCURRENT_REQUESTS: usize = 10;

/// Range of a sweep or audit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScanRange {
    /// Days at or past the ceiling, and future ones: every plausible key that may have expired is there.
    Boundary,
    /// Every day: implausible keys may be anywhere.
    All,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SweepReport {
    /// Deleted versions and markers.
    pub deleted: u64,
    pub bytes: u64,
    /// Versions past their ceiling that an open hold covers.
    pub held: u64,
    /// Versions past their ceiling that no open hold covers and the store does not delete: under an unexplained legal
    /// hold or a retention period.
    pub undeletable: u64,
    /// Restored tags that no open hold explained.
    pub retagged: u64,
    /// Versions whose tags may be wrong: the store did not return their protection, or did not accept or persist the
    /// tag. They are checked again within four weeks. After many consecutive failures, the rest is not counted.
    pub retag_failures: u64,
    /// First of these errors.
    pub retag_error: Option<StoreError>,
    pub aborted_uploads: u64,
    /// Remaining multipart uploads: the store did not abort them, or there are more than one sweep aborts.
    pub incomplete_uploads: u64,
    /// Source days with unlisted keys, which may have expired.
    pub days_with_unlisted_keys: u64,
    /// Unexpected days that are left to another sweep. A year or month of them counts as one.
    pub deferred_days: u64,
}

/// Reason that a sweep ended early. All deletions before were correct.
#[derive(Clone, Debug, PartialEq, Eq, strum::IntoStaticStr, thiserror::Error)]
#[strum(serialize_all = "snake_case")]
pub enum SweepError {
    /// The clocks are too far apart.
    #[error(transparent)]
    Clock(#[from] ClockSkew),
    /// The open holds are unknown.
    #[error(transparent)]
    Holds(#[from] OpenHoldsError),
    #[error(transparent)]
    #[strum(transparent)]
    Storage(#[from] StoreError),
}

pub(crate) struct Sweep<'a> {
    pub(crate) store: &'a BucketClient,
    pub(crate) ceilings: &'a Ceilings,
    pub(crate) holds: &'a dyn OpenHolds,
    pub(crate) cache: &'a ProtectionCache,
    /// Versions in the manifests of open holds.
    pub(crate) manifests: Vec<Arc<ManifestVersions>>,
    pub(crate) time: DecisionTime,
    pub(crate) range: ScanRange,
    /// Holds that were open at any time of the sweep.
    pub(crate) observed_holds: Mutex<Vec<HoldScope>>,
    pub(crate) unlisted_days: Mutex<BTreeSet<String>>,
    /// Too many tags failed, so no more are checked.
    pub(crate) is_retagging_stopped: AtomicBool,
    pub(crate) report: SweepReport,
}
