//! Counting what an audit sees: pure, one version at a time.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::rules::hold::expiry::{StoredRecording, ceiling};
use crate::rules::hold::scope::HoldScope;
use crate::rules::recording::key::Class;
use crate::rules::recording::protection::Protection;
use crate::rules::recording::tag::RetentionTag;
use crate::rules::recording::version::ListedVersion;
use crate::rules::retention::{RetentionTerms, VersionState, lifecycle_deadline};
use crate::storage::recordings::day_filter::ForeignKeys;
use crate::storage::recordings::hold::protection_cache::{ManifestVersions, ProtectionCache};

/// The lifecycle's arithmetic leaves about a day for uploads; what came later than this is worth a look.
const LATE_UPLOAD: SignedDuration = SignedDuration::from_hours(6);
/// A legal hold follows within a minute; a pass may be under way.
const PROTECTION_GRACE: SignedDuration = SignedDuration::from_mins(5);
/// Keys that are told of each finding.
const MAX_EXAMPLES: usize = 5;

/// Something that an audit found, of which there should be none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, strum::IntoStaticStr)]
pub enum FindingKind {
    /// Over its ceiling, covered by no open hold, and its bytes still there (article 6).
    Overdue,
    /// Over its ceiling, and covered only by holds whose incident is resolved: it should have gone with them (article 6).
    ReleaseOverdue,
    /// Covered by an open hold, without legal hold.
    HeldUnprotected,
    /// Covered by an open hold, with another tag than it must have.
    HeldMistagged,
    /// Covered by an open hold, and behind a delete marker.
    HeldHidden,
    /// With a legal hold, or tagged as held, and covered by no open hold.
    UnexplainedHold,
    /// Covered by no hold, and with another tag than that of its class: the store's lifecycle passes it by.
    Mistagged,
    /// An object that is none of a recording, of the ledger or of the probe.
    UnexpectedObject,
    /// Where recordings are, under a key that is none.
    UnparsableKey,
    /// A source that nobody declared, among so many that its turn is another audit's: somebody else made them.
    UnvisitedSource,
    /// A day in which nothing is expected, among so many that its turn is another audit's.
    UnvisitedDay,
    /// A key with thousands of versions, where a recorder writes one.
    CrowdedKey,
    /// A key of a recording that is there and that the store does not list: nobody can tell what it has.
    UnlistedKey,
    /// A version whose legal hold or tag the store did not tell, asked again where that may help: nobody knows whether it is as it must be.
    UnreadProtection,
    /// A recording whose key cannot be true: from after the store took it, or older than a spool can be.
    ImplausibleKey,
    /// A second version of a recording with another content: somebody wrote over it.
    UnexplainedVersion,
    /// A recording that came more than six hours after it ended.
    LateUpload,
    /// A hold that the ledger has open, and the cluster does not know.
    OrphanedHold,
}

impl FindingKind {
    /// Whether a promise is broken, or may be: not all that is worth telling is.
    pub const fn is_violation(self) -> bool {
        !matches!(self, Self::LateUpload | Self::ImplausibleKey | Self::OrphanedHold)
    }
}

/// How many, and the first few.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FindingSummary {
    pub count: u64,
    /// The first keys, or names.
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
    /// From when the oldest recording of each class is that no hold covers.
    pub oldest_unheld: BTreeMap<Class, Timestamp>,
    /// How far the store's own lifecycle is behind what S3 documents.
    #[serde(serialize_with = "in_seconds")]
    pub lifecycle_lag_seconds: SignedDuration,
    /// What there should be none of.
    pub findings: BTreeMap<FindingKind, FindingSummary>,
}

fn in_seconds<S: serde::Serializer>(lag: &SignedDuration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_i64(lag.as_secs())
}

impl Tally {
    /// Whether nothing was found that breaks a promise, or may.
    pub fn is_compliant(&self) -> bool {
        !self.findings.keys().any(|found| found.is_violation())
    }

    /// How many of something were found.
    pub fn count(&self, found: FindingKind) -> u64 {
        self.findings.get(&found).map_or(0, |findings| findings.count)
    }

    /// Counts keys that somebody else put where recordings are.
    pub(crate) fn add_foreign(&mut self, found: FindingKind, foreign: &ForeignKeys) {
        if foreign.count == 0 {
            return;
        }
        let findings = self.findings.entry(found).or_default();
        findings.count += foreign.count;
        let room = MAX_EXAMPLES.saturating_sub(findings.examples.len());
        findings.examples.extend(foreign.examples.iter().take(room).cloned());
    }

    /// Counts something that should not be.
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
    /// That of incidents that are not resolved.
    pub(crate) unresolved: Vec<HoldScope>,
    /// What is neither being placed nor being released: there the marks must be right.
    pub(crate) settled: Vec<HoldScope>,
    /// What the manifests of all of it list.
    pub(crate) manifests: Vec<Arc<ManifestVersions>>,
    /// What those list of incidents that are not resolved.
    pub(crate) unresolved_manifests: Vec<Arc<ManifestVersions>>,
    /// By what versions are told apart there.
    pub(crate) cache: Arc<ProtectionCache>,
}

#[derive(Clone, Debug)]
pub(crate) struct AuditRules<'a> {
    pub(crate) terms: &'a RetentionTerms,
    pub(crate) holds: &'a AuditedHolds,
    pub(crate) now: Timestamp,
}

impl AuditRules<'_> {
    /// Whether the marks of something that is held must be right by now: the hold is settled, and the version was there
    /// before the last minutes.
    fn is_settled(&self, stored: &StoredRecording<'_>) -> bool {
        self.now.duration_since(stored.listed.modified) > PROTECTION_GRACE
            && stored.is_in_scope(&self.holds.settled)
    }
}

/// The version before, of the same key, which is newer.
#[derive(Clone, Debug)]
pub(crate) struct NewerVersion {
    key: String,
    modified: Timestamp,
    is_marker: bool,
    size: u64,
    etag: String,
}

impl NewerVersion {
    pub(crate) fn new(listed: &ListedVersion) -> Self {
        Self {
            key: listed.key.clone(),
            modified: listed.modified,
            is_marker: listed.is_marker,
            size: listed.size,
            etag: listed.etag.clone(),
        }
    }

    /// Whether it has the same content, as far as a listing tells.
    fn has_same_content(&self, listed: &ListedVersion) -> bool {
        self.size == listed.size && self.etag == listed.etag
    }
}

/// Counts what a listing tells of one version. `newer`: what was listed before it. Gives back the recording, if its
/// marks are to be read wherever a hold covers it.
pub(crate) fn tally_listed<'l>(
    tally: &mut Tally,
    rules: &AuditRules<'_>,
    listed: &'l ListedVersion,
    newer: Option<&NewerVersion>,
) -> Option<(StoredRecording<'l>, bool)> {
    let stored = StoredRecording::of(listed, &rules.terms.ceilings)?;
    if listed.is_marker {
        tally.delete_markers += 1;
        return None;
    }
    tally.versions += 1;
    tally.bytes += listed.size;
    let newer = newer.filter(|newer| newer.key == listed.key);
    if newer.is_some_and(|newer| !newer.is_marker && !newer.has_same_content(listed)) {
        tally.add(FindingKind::UnexplainedVersion, &listed.key);
    }
    let holds = rules.holds;
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
    newer: Option<&NewerVersion>,
) {
    // Not of what is held: some stores move the time of a version when its legal hold changes.
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

/// Counts what the marks of a recording tell.
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

/// `sealed` is right a while longer than it must be, since somebody has to change it; `held` is never right too early.
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
