//! A sweep under way.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use crate::api::Ceilings;
use crate::rules::hold::scope::HoldScope;
use crate::storage::recordings::hold::protection_cache::{ManifestVersions, ProtectionCache};
use crate::storage::recordings::open_holds::{OpenHolds, OpenHoldsError};
use crate::storage::s3::client::BucketClient;
use crate::storage::s3::error::StoreError;
use crate::storage::s3::store_clock::{ClockSkew, DecisionTime};

/// Requests of one page at once, while the store keeps up: all of it, right after the holds were asked.
pub(crate) const MAX_CONCURRENT_REQUESTS: usize = 10;

/// How much of the bucket is gone through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScanRange {
    /// The days at or past the ceiling, and those to come: where something may be due that has a true key.
    Boundary,
    /// Everything: keys that cannot be true are found wherever they are.
    All,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SweepReport {
    /// Versions, and markers, that went.
    pub deleted: u64,
    pub bytes: u64,
    /// Over their ceiling, and kept for an open hold.
    pub held: u64,
    /// Over their ceiling, covered by no open hold, and not given up by the store: under a legal hold that nothing
    /// explains, or a retention.
    pub undeletable: u64,
    /// Tags that no open hold explained, and that were put back.
    pub retagged: u64,
    /// Versions whose tags may be wrong still: the store did not tell their marks, or did not take or keep the tag. They have their
    /// next turn within four weeks. Where the store fails at many after one another, those after these are not counted.
    pub retag_failures: u64,
    /// What the store answered, at the first of these.
    pub retag_error: Option<StoreError>,
    pub aborted_uploads: u64,
    /// Unfinished uploads that are left: the store did not abort them, or there are more than one sweep aborts.
    pub incomplete_uploads: u64,
    /// Days of sources in which the store hides a key: whether it is over its ceiling cannot be told.
    pub days_with_unlisted_keys: u64,
    /// Days of sources in which nothing is expected, and whose turn is another sweep's; of a year or a month of them, one.
    pub deferred_days: u64,
}

/// Why a sweep ended early. What was deleted before is gone rightly.
#[derive(Clone, Debug, PartialEq, Eq, strum::IntoStaticStr, thiserror::Error)]
#[strum(serialize_all = "snake_case")]
pub enum SweepError {
    /// The clocks are too far apart.
    #[error(transparent)]
    Clock(#[from] ClockSkew),
    /// Which holds are open is not known.
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
    /// What the manifests of open holds list.
    pub(crate) manifests: Vec<Arc<ManifestVersions>>,
    pub(crate) time: DecisionTime,
    pub(crate) range: ScanRange,
    /// The holds that were open at any time of the sweep.
    pub(crate) observed_holds: Mutex<Vec<HoldScope>>,
    pub(crate) unlisted_days: Mutex<BTreeSet<String>>,
    /// The store failed at so many that no more tags are looked at.
    pub(crate) is_retagging_stopped: AtomicBool,
    pub(crate) report: SweepReport,
}
