//! Counting what an audit sees: pure, one version at a time.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::api::Ceilings;
use crate::protocol::cover::Cover;
use crate::protocol::retention::{Hidden, lifecycle_due};
use crate::storage::aging::{Stored, ceiling};
use crate::storage::hold::memory::{Memory, Told};
use crate::storage::key::Class;
use crate::storage::listing::Listed;
use crate::storage::marks::Marks;
use crate::storage::tag::RetentionTag;
use crate::storage::walk::Foreign;

/// The lifecycle's arithmetic leaves about a day for uploads; what came later than this is worth a look.
const LATE: SignedDuration = SignedDuration::from_hours(6);
/// A legal hold follows within a minute; a pass may be under way.
const ARRIVING: SignedDuration = SignedDuration::from_mins(5);
/// Keys that are told of each finding.
const EXAMPLES: usize = 5;

/// Something that an audit found, of which there should be none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, strum::IntoStaticStr)]
pub enum Found {
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
    ForeignKey,
    /// Where recordings are, under a key that is none.
    UnparsableKey,
    /// A source that nobody declared, among so many that its turn is another audit's: somebody else made them.
    UnvisitedSource,
    /// A day in which nothing is expected, among so many that its turn is another audit's.
    UnvisitedDay,
    /// A key with thousands of versions, where a recorder writes one.
    CrowdedKey,
    /// A key of a recording that is there and that the store does not list: nobody can tell what it has.
    HiddenKey,
    /// A version whose legal hold or tag the store did not tell, asked again where that may help: nobody knows whether it is as it must be.
    UnreadMarks,
    /// A recording whose key cannot be true: from after the store took it, or older than a spool can be.
    ImplausibleKey,
    /// A second version of a recording with another content: somebody wrote over it.
    UnexplainedVersion,
    /// A recording that came more than six hours after it ended.
    LateUpload,
    /// A hold that the ledger has open, and the cluster does not know.
    OrphanedHold,
}

impl Found {
    /// Whether a promise is broken, or may be: not all that is worth telling is.
    pub const fn is_violation(self) -> bool {
        !matches!(self, Self::LateUpload | Self::ImplausibleKey | Self::OrphanedHold)
    }
}

/// How many, and the first few.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Findings {
    /// How many.
    pub count: u64,
    /// The first keys, or names.
    pub examples: Vec<String>,
}

/// What an audit counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Tally {
    /// Versions of recordings.
    pub versions: u64,
    /// Delete markers.
    pub markers: u64,
    /// Bytes of all recordings.
    pub bytes: u64,
    /// Versions that an open hold covers.
    pub held: u64,
    /// Versions whose legal hold and tag were read.
    pub inspected: u64,
    /// From when the oldest recording of each class is that no hold covers.
    pub oldest_unheld: BTreeMap<Class, Timestamp>,
    /// How far the store's own lifecycle is behind what S3 documents.
    #[serde(serialize_with = "in_seconds")]
    pub store_lag: SignedDuration,
    /// What there should be none of.
    pub found: BTreeMap<Found, Findings>,
}

fn in_seconds<S: serde::Serializer>(lag: &SignedDuration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_i64(lag.as_secs())
}

impl Tally {
    /// Whether nothing was found that breaks a promise, or may.
    pub fn is_compliant(&self) -> bool {
        !self.found.keys().any(|found| found.is_violation())
    }

    /// How many of something were found.
    pub fn count(&self, found: Found) -> u64 {
        self.found.get(&found).map_or(0, |findings| findings.count)
    }

    /// Counts keys that somebody else put where recordings are.
    pub(super) fn add_foreign(&mut self, found: Found, foreign: &Foreign) {
        if foreign.seen == 0 {
            return;
        }
        let findings = self.found.entry(found).or_default();
        findings.count += foreign.seen;
        let room = EXAMPLES.saturating_sub(findings.examples.len());
        findings.examples.extend(foreign.examples.iter().take(room).cloned());
    }

    /// Counts something that should not be.
    pub fn add(&mut self, found: Found, what: &str) {
        let findings = self.found.entry(found).or_default();
        findings.count += 1;
        if findings.examples.len() < EXAMPLES {
            findings.examples.push(what.to_owned());
        }
    }
}

/// What the ledger has open.
#[derive(Clone, Debug, Default)]
pub(crate) struct Holds {
    /// All of it.
    pub(crate) open: Vec<Cover>,
    /// That of incidents that are not resolved.
    pub(crate) unresolved: Vec<Cover>,
    /// What is neither being placed nor being released: there the marks must be right.
    pub(crate) settled: Vec<Cover>,
    /// What the manifests of all of it list.
    pub(crate) told: Vec<Arc<Told>>,
    /// What those list of incidents that are not resolved.
    pub(crate) unresolved_told: Vec<Arc<Told>>,
    /// By what versions are told apart there.
    pub(crate) memory: Arc<Memory>,
}

/// By what an audit judges.
#[derive(Clone, Debug)]
pub(crate) struct Rules<'a> {
    pub(crate) ceilings: &'a Ceilings,
    pub(crate) holds: &'a Holds,
    /// How old a recording must be to be readable; `None`: the site has live viewing.
    pub(crate) embargo: Option<SignedDuration>,
    pub(crate) now: Timestamp,
}

impl Rules<'_> {
    /// Whether the marks of something that is held must be right by now: the hold is settled, and the version was there
    /// before the last minutes.
    fn is_settled(&self, stored: &Stored<'_>) -> bool {
        self.now.duration_since(stored.listed.modified) > ARRIVING && stored.is_covered(&self.holds.settled)
    }
}

/// The version before, of the same key, which is newer.
#[derive(Clone, Debug)]
pub(crate) struct Newer {
    key: String,
    modified: Timestamp,
    is_marker: bool,
    size: u64,
    etag: String,
}

impl Newer {
    pub(crate) fn of(listed: &Listed) -> Self {
        Self {
            key: listed.key.clone(),
            modified: listed.modified,
            is_marker: listed.is_marker,
            size: listed.size,
            etag: listed.etag.clone(),
        }
    }

    /// Whether it has the same content, as far as a listing tells.
    fn is_like(&self, listed: &Listed) -> bool {
        self.size == listed.size && self.etag == listed.etag
    }
}

/// Counts what a listing tells of one version. `newer`: what was listed before it. Gives back the recording, if its
/// marks are to be read wherever a hold covers it.
pub(crate) fn listed<'l>(
    tally: &mut Tally,
    rules: &Rules<'_>,
    listed: &'l Listed,
    newer: Option<&Newer>,
) -> Option<(Stored<'l>, bool)> {
    let stored = Stored::of(listed, rules.ceilings)?;
    if listed.is_marker {
        tally.markers += 1;
        return None;
    }
    tally.versions += 1;
    tally.bytes += listed.size;
    let newer = newer.filter(|newer| newer.key == listed.key);
    if newer.is_some_and(|newer| !newer.is_marker && !newer.is_like(listed)) {
        tally.add(Found::UnexplainedVersion, &listed.key);
    }
    let holds = rules.holds;
    let is_held = stored.is_covered(&holds.open) || holds.memory.is_told(&holds.told, &stored);
    if is_held {
        tally.held += 1;
        let is_unresolved =
            || stored.is_covered(&holds.unresolved) || holds.memory.is_told(&holds.unresolved_told, &stored);
        if stored.due_by_key() <= rules.now && !is_unresolved() {
            tally.add(Found::ReleaseOverdue, &listed.key);
        }
        if newer.is_some_and(|newer| newer.is_marker) && rules.is_settled(&stored) {
            tally.add(Found::HeldHidden, &listed.key);
        }
    } else {
        unheld(tally, rules, &stored, newer);
    }
    Some((stored, is_held))
}

fn unheld(tally: &mut Tally, rules: &Rules<'_>, stored: &Stored<'_>, newer: Option<&Newer>) {
    // Not of what is held: some stores move the time of a version when its legal hold changes.
    if !stored.is_plausible() {
        tally.add(Found::ImplausibleKey, &stored.listed.key);
    } else if stored.upload_delay() > LATE {
        tally.add(Found::LateUpload, &stored.listed.key);
    }
    let from = stored.counts_from();
    let oldest = tally.oldest_unheld.entry(stored.key.class()).or_insert(from);
    *oldest = from.min(*oldest);
    if stored.due_at() <= rules.now {
        tally.add(Found::Overdue, &stored.listed.key);
    }
    let hidden = match newer {
        None => Hidden::NotYet(stored.listed.modified),
        Some(newer) => Hidden::Since(newer.modified),
    };
    let due = lifecycle_due(ceiling(stored.key.class(), rules.ceilings), hidden);
    let lag = due.map_or(SignedDuration::ZERO, |due| rules.now.duration_since(due));
    tally.store_lag = tally.store_lag.max(lag);
}

/// Counts what the marks of a recording tell.
pub(crate) fn inspected(
    tally: &mut Tally,
    rules: &Rules<'_>,
    stored: &Stored<'_>,
    is_held: bool,
    marks: &Marks,
) {
    tally.inspected += 1;
    let key = &stored.listed.key;
    if !is_held {
        if marks.legal_hold || matches!(marks.tag, Some(RetentionTag::Held)) {
            tally.add(Found::UnexplainedHold, key);
        } else if marks.tag != Some(RetentionTag::unheld(stored.key.class())) {
            tally.add(Found::Mistagged, key);
        }
        return;
    }
    if !rules.is_settled(stored) {
        return;
    }
    if !marks.legal_hold {
        tally.add(Found::HeldUnprotected, key);
    }
    if !is_tagged_as_held(rules, stored, marks.tag) {
        tally.add(Found::HeldMistagged, key);
    }
}

/// `sealed` is right a while longer than it must be, since somebody has to change it; `held` is never right too early.
fn is_tagged_as_held(rules: &Rules<'_>, stored: &Stored<'_>, tag: Option<RetentionTag>) -> bool {
    let must = |now| stored.held_tag(&rules.holds.open, rules.embargo, now);
    let earlier = rules.now.saturating_sub(LATE).unwrap_or(Timestamp::MIN);
    tag.is_some() && (tag == must(rules.now) || tag == Some(RetentionTag::Sealed) && tag == must(earlier))
}

#[cfg(test)]
#[path = "tally_tests.rs"]
mod tests;
