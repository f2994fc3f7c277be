//! Counts the findings of an audit, one version at a time. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::rules::hold::expiry::ceiling;
use crate::rules::retention::{VersionState, lifecycle_deadline};
use crate::rules::{
    Class, HoldScope, ListedVersion, Protection, RetentionTag, RetentionTerms, StoredRecording,
};
use crate::storage::recordings::day_filter::ForeignKeys;
use crate::storage::recordings::hold::protection_cache::{ManifestVersions, ProtectionCache};

/// The lifecycle period leaves about a day for uploads. Later ones deserve attention.
const LATE_UPLOAD: SignedDuration = SignedDuration::from_hours(6);
/// A legal hold follows within a minute, but a pass may be in progress.
const PROTECTION_GRACE: SignedDuration = SignedDuration::from_mins(5);
/// Example keys of each finding.
const MAX_EXAMPLES: usize = 5;

/// Anomaly in a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, strum::IntoStaticStr)]
pub enum FindingKind {
    /// Version past its ceiling that no open hold covers (article 6).
    Overdue,
    /// Version past its ceiling that only resolved holds cover, so it should have been deleted (article 6).
    ReleaseOverdue,
    /// Held version without a legal hold.
    HeldUnprotected,
    /// Held version with the wrong tag.
    HeldMistagged,
    /// Held version behind a delete marker.
    HeldHidden,
    /// Version with a legal hold or a `held` tag that no open hold covers.
    UnexplainedHold,
    /// Version that no hold covers, with a tag that lifecycle rules ignore.
    Mistagged,
    /// Object outside recordings, ledger and probe.
    UnexpectedObject,
    /// Foreign key among the recordings.
    UnparsableKey,
    /// Undeclared source that is left to another audit because there are too many.
    UnvisitedSource,
    /// Unexpected day that is left to another audit because there are too many.
    UnvisitedDay,
    /// Key with thousands of versions. A recorder writes one.
    CrowdedKey,
    /// Existing key that the store does not list, so its versions are unknown.
    UnlistedKey,
    /// Version whose legal hold or tag the store did not return, despite a retry where it may help.
    UnreadProtection,
    /// Recording whose key is later than its upload, or older than a spool can be.
    ImplausibleKey,
    /// Additional version with different content: somebody overwrote the recording.
    UnexplainedVersion,
    /// Recording uploaded more than six hours after its end.
    LateUpload,
    /// Open hold in the ledger that the cluster does not have.
    OrphanedHold,
}

impl FindingKind {
    /// Returns whether this is a confirmed or possible violation. Other findings are informative.
    pub const fn is_violation(self) -> bool {
        !matches!(self, Self::LateUpload | Self::ImplausibleKey | Self::OrphanedHold)
    }
}

/// Number and examples of a finding.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FindingSummary {
    pub count: u64,
    /// Keys or names.
    pub examples: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Tally {
    pub versions: u64,
    pub delete_markers: u64,
    pub bytes: u64,
    /// Versions that an open hold covers.
    pub held_versions: u64,
    /// Versions whose legal hold and tag were read.
    pub inspected_versions: u64,
    /// Start of the oldest recording of each class that no hold covers.
    pub oldest_unheld: BTreeMap<Class, Timestamp>,
    /// Delay of the store's lifecycle rules behind the S3 documentation.
    #[serde(serialize_with = "in_seconds")]
    pub lifecycle_lag_seconds: SignedDuration,
    pub findings: BTreeMap<FindingKind, FindingSummary>,
}

fn in_seconds<S: serde::Serializer>(lag: &SignedDuration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_i64(lag.as_secs())
}

impl Tally {
    /// Returns whether there are no violations.
    pub fn is_compliant(&self) -> bool {
        !self.findings.keys().any(|found| found.is_violation())
    }

    /// Returns the number of findings of this kind.
    pub fn count(&self, found: FindingKind) -> u64 {
        self.findings.get(&found).map_or(0, |findings| findings.count)
    }

    /// Adds foreign keys as findings.
    pub(crate) fn add_foreign(&mut self, found: FindingKind, foreign: &ForeignKeys) {
        if foreign.count == 0 {
            return;
        }
        let findings = self.findings.entry(found).or_default();
        findings.count += foreign.count;
        let room = MAX_EXAMPLES.saturating_sub(findings.examples.len());
        findings.examples.extend(foreign.examples.iter().take(room).cloned());
    }

    pub fn add(&mut self, found: FindingKind, what: &str) {
        let findings = self.findings.entry(found).or_default();
        findings.count += 1;
        if findings.examples.len() < MAX_EXAMPLES {
            findings.examples.push(what.to_owned());
        }
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct AuditedHolds {
    pub(crate) open: Vec<HoldScope>,
    /// Scopes of holds that are not resolved.
    pub(crate) unresolved: Vec<HoldScope>,
    /// Scopes of holds that are neither being placed nor released. Protections must be correct there.
    pub(crate) settled: Vec<HoldScope>,
    /// Versions in the manifests of the open holds.
    pub(crate) manifests: Vec<Arc<ManifestVersions>>,
    /// Versions in the manifests of holds that are not resolved.
    pub(crate) unresolved_manifests: Vec<Arc<ManifestVersions>>,
    /// Source of the fingerprints in the manifests.
    pub(crate) cache: Arc<ProtectionCache>,
}

#[derive(Clone, Debug)]
pub(crate) struct AuditRules<'a> {
    pub(crate) terms: &'a RetentionTerms,
    pub(crate) holds: &'a AuditedHolds,
    pub(crate) now: Timestamp,
}

impl AuditRules<'_> {
    /// Returns whether the protection of a held version must be correct: the hold is settled, and the version is some
    /// minutes old.
    fn is_settled(&self, stored: &StoredRecording<'_>) -> bool {
        self.now.duration_since(stored.listed.modified) > PROTECTION_GRACE
            && stored.is_in_scope(&self.holds.settled)
    }
}

/// Counts a listed version. `newer` is the previously listed version. Returns the recording if its protection may be
/// read, and whether it is held.
pub(crate) fn tally_listed<'l>(
    tally: &mut Tally,
    rules: &AuditRules<'_>,
    listed: &'l ListedVersion,
    newer: Option<&ListedVersion>,
) -> Option<(StoredRecording<'l>, bool)> {
    let stored = StoredRecording::of(listed, &rules.terms.ceilings)?;
    if listed.is_marker {
        tally.delete_markers += 1;
        return None;
    }
    tally.versions += 1;
    tally.bytes += listed.size;
    let newer = newer.filter(|newer| newer.key == listed.key);
    // Equal content is a repeated put, at a store that ignores `If-None-Match` (Ceph 16).
    if newer.is_some_and(|newer| !newer.is_marker && (newer.size, &newer.etag) != (listed.size, &listed.etag))
    {
        tally.add(FindingKind::UnexplainedVersion, &listed.key);
    }
    let holds = rules.holds;
    // A store that moves the modification time can make a held key plausible, and then only the manifest explains the
    // hold.
    let is_held = stored.is_in_scope(&holds.open) || holds.cache.is_in_manifest(&holds.manifests, &stored);
    if is_held {
        tally.held_versions += 1;
        let is_unresolved = || {
            stored.is_in_scope(&holds.unresolved)
                || holds.cache.is_in_manifest(&holds.unresolved_manifests, &stored)
        };
        if stored.expires_at_by_key() <= rules.now && !is_unresolved() {
            tally.add(FindingKind::ReleaseOverdue, &listed.key);
        }
        if newer.is_some_and(|newer| newer.is_marker) && rules.is_settled(&stored) {
            tally.add(FindingKind::HeldHidden, &listed.key);
        }
    } else {
        tally_unheld(tally, rules, &stored, newer);
    }
    Some((stored, is_held))
}

fn tally_unheld(
    tally: &mut Tally,
    rules: &AuditRules<'_>,
    stored: &StoredRecording<'_>,
    newer: Option<&ListedVersion>,
) {
    // Not for held versions: some stores update the modification time when the legal hold changes.
    if !stored.is_plausible() {
        tally.add(FindingKind::ImplausibleKey, &stored.listed.key);
    } else if stored.upload_delay() > LATE_UPLOAD {
        tally.add(FindingKind::LateUpload, &stored.listed.key);
    }
    let from = stored.ceiling_starts_at();
    let oldest = tally.oldest_unheld.entry(stored.key.class()).or_insert(from);
    *oldest = from.min(*oldest);
    if stored.expires_at() <= rules.now {
        tally.add(FindingKind::Overdue, &stored.listed.key);
    }
    let hidden = match newer {
        None => VersionState::CurrentSince(stored.listed.modified),
        Some(newer) => VersionState::NoncurrentSince(newer.modified),
    };
    let due = lifecycle_deadline(ceiling(stored.key.class(), &rules.terms.ceilings), hidden);
    let lag = due.map_or(SignedDuration::ZERO, |due| rules.now.duration_since(due));
    tally.lifecycle_lag_seconds = tally.lifecycle_lag_seconds.max(lag);
}

/// Counts the protection of a recording.
pub(crate) fn tally_inspected(
    tally: &mut Tally,
    rules: &AuditRules<'_>,
    stored: &StoredRecording<'_>,
    is_held: bool,
    marks: &Protection,
) {
    tally.inspected_versions += 1;
    let key = &stored.listed.key;
    if !is_held {
        if marks.legal_hold || matches!(marks.tag, Some(RetentionTag::Held)) {
            tally.add(FindingKind::UnexplainedHold, key);
        } else if marks.tag != Some(RetentionTag::default_for(stored.key.class())) {
            tally.add(FindingKind::Mistagged, key);
        }
        return;
    }
    if !rules.is_settled(stored) {
        return;
    }
    if !marks.legal_hold {
        tally.add(FindingKind::HeldUnprotected, key);
    }
    if !is_tagged_as_held(rules, stored, marks.tag) {
        tally.add(FindingKind::HeldMistagged, key);
    }
}

/// Returns whether a held version has a correct tag. `sealed` may last a while beyond the embargo, since a pass must
/// change it. `held` is never correct before its end.
fn is_tagged_as_held(
    rules: &AuditRules<'_>,
    stored: &StoredRecording<'_>,
    tag: Option<RetentionTag>,
) -> bool {
    let must = |now| stored.required_tag(&rules.holds.open, rules.terms.embargo, now);
    let earlier = rules.now.saturating_sub(LATE_UPLOAD).unwrap_or(Timestamp::MIN);
    tag.is_some() && (tag == must(rules.now) || tag == Some(RetentionTag::Sealed) && tag == must(earlier))
}

#[cfg(test)]
mod tests;
