//! What a pass that places goes by.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::protection_cache::{ManifestVersions, ProtectionCache};
use crate::rules::hold::scope::HoldScope;
use crate::rules::retention::RetentionTerms;

#[derive(Clone, Debug)]
pub struct PlaceInput<'a> {
    pub scopes: &'a [HoldScope],
    /// The cameras that there are, and when each was declared: what a hold over all of them should have.
    pub cameras: &'a BTreeMap<String, Timestamp>,
    pub terms: &'a RetentionTerms,
    /// Only recordings that begin from then on; `None`: all, from the first day of each window.
    pub since: Option<Timestamp>,
    /// Keys that cannot be true were found: look at all that the sources have.
    pub is_every_day: bool,
    /// When all that was there then of each of `covers`, in turn, was proved to be as it must be; `None`: never.
    pub verified_at: &'a [Option<Timestamp>],
    /// What the manifest of each of `covers` lists, in turn: a version that was held once stays so, even if its key is taken
    /// for something else since. Some stores move the time of a version when its legal hold changes.
    pub manifests: &'a [Arc<ManifestVersions>],
    /// What resolved holds cover that are being released. A version that is theirs by its key is not offered to another hold
    /// because its key cannot be true.
    pub closing_scopes: &'a [HoldScope],
    /// What is known of held versions.
    pub cache: &'a ProtectionCache,
    /// Marks that were read from then on are not read again; `None`: all are.
    pub trusted_since: Option<Timestamp>,
    /// Nothing hides behind a delete marker first: markers count as any other change.
    pub is_verifying: bool,
}
