//! Input of a place pass.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::protection_cache::{ManifestVersions, ProtectionCache};
use crate::rules::{HoldScope, RetentionTerms};

#[derive(Clone, Debug)]
pub struct PlaceInput<'a> {
    pub scopes: &'a [HoldScope],
    /// Creation time of each camera. A hold over all cameras expects recordings of each.
    pub cameras: &'a BTreeMap<String, Timestamp>,
    pub terms: &'a RetentionTerms,
    /// Earliest start of a recording. `None`: all, from the first day of each window.
    pub since: Option<Timestamp>,
    /// Visits every day of the sources, because implausible keys were found.
    pub is_every_day: bool,
    /// Start of the last complete verification of each scope, in order. `None`: never.
    pub verified_at: &'a [Option<Timestamp>],
    /// Versions in the manifest of each scope, in order. A held version stays held, even if its key is now interpreted
    /// differently. Some stores update the modification time when the legal hold changes.
    pub manifests: &'a [Arc<ManifestVersions>],
    /// Scopes under release. A version that they cover by key is not offered to another hold because of its
    /// modification time.
    pub closing_scopes: &'a [HoldScope],
    pub cache: &'a ProtectionCache,
    /// Protections read since then are not read again. `None`: all are.
    pub trusted_since: Option<Timestamp>,
    /// All holds are verified: hidden versions need no pass of their own, and delete markers count as drift.
    pub is_verifying: bool,
}
