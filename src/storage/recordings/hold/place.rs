//! Protects versions that open holds cover: legal hold first, then the tag, then delete markers go. In this order, an
//! interruption never leaves a version with less protection than before.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::candidate_days;
use super::coverage::Coverage;
use super::memory_budget::Fingerprint;
use super::place_input::PlaceInput;
use super::protection_cache::ProtectionCache;
use super::workers::{Operation, for_each_version};
use crate::api::later;
use crate::rules::hold::expiry::days_of_window;
use crate::rules::hold::steps::{ProtectionStep, steps_to_place};
use crate::rules::{
    CameraSelector, Class, DayFilter, HoldScope, Key, ListedVersion, Protection, RetentionTag,
    StoredRecording, VersionRef, utc_date,
};
use crate::storage::Subresource;
use crate::storage::recordings::{HoldError, Incomplete, PassErrors, SourceDay};
use crate::storage::s3::{BucketClient, BucketConnection, StoreError, objects, protection};

/// Keys that are reported as examples.
const MAX_EXAMPLES: usize = 5;

/// Shortly before midnight (UTC), a partial pass also lists tomorrow: clocks differ.
const NEXT_DAY_MARGIN: SignedDuration = SignedDuration::from_mins(10);

/// Report of a place pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlaceReport {
    /// Coverage of each hold, in the given order.
    pub coverage: Vec<Coverage>,
    pub legal_holds_set: u64,
    pub tagged: u64,
    pub markers_removed: u64,
    /// Earliest end of an embargo.
    pub next_embargo_end: Option<Timestamp>,
    /// Examples of keys that were not compliant.
    pub examples: Vec<String>,
    /// Changes that somebody else made to verified versions, and delete markers over them.
    pub drifted: BTreeMap<Subresource, u64>,
    /// Requests about single versions that the store rejected or failed.
    pub errors: Option<PassErrors>,
    /// Versions that failed the read-back or have a new delete marker. Somebody else changes them, or the store does
    /// not persist its answers.
    pub unconfirmed: u64,
    /// Listed days of declared or named cameras within a hold's window. The holds bound this number, whatever others
    /// put elsewhere.
    pub listed_days: u64,
}

impl PlaceReport {
    /// Returns whether all versions without errors are compliant, as read or read back.
    pub const fn is_confirmed(&self) -> bool {
        self.unconfirmed == 0
    }

    /// Returns whether nothing had to be written.
    pub const fn is_unchanged(&self) -> bool {
        self.legal_holds_set == 0 && self.tagged == 0 && self.markers_removed == 0
    }
}

pub async fn place(
    operator: &BucketConnection,
    task: &PlaceInput<'_>,
    now: Timestamp,
) -> Result<PlaceReport, Box<Incomplete<PlaceReport>>> {
    // Hidden versions go first: a lifecycle rule may delete them at any time.
    let kinds: &[PassKind] =
        if task.is_verifying { &[PassKind::Full] } else { &[PassKind::Unhide, PassKind::Full] };
    let mut placed = run_passes(operator, task, kinds, now).await?;
    placed.coverage = placed.coverage.into_iter().map(Coverage::finish).collect();
    Ok(placed)
}

/// Versions that a pass handles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PassKind {
    Unhide,
    Full,
}

async fn run_passes(
    operator: &BucketConnection,
    task: &PlaceInput<'_>,
    kinds: &[PassKind],
    now: Timestamp,
) -> Result<PlaceReport, Box<Incomplete<PlaceReport>>> {
    let mut report = PlaceReport {
        coverage: task
            .scopes
            .iter()
            .map(|cover| {
                let mut coverage = Coverage::new(cover, task.cameras, now);
                coverage.present = task.cache.new_coverage_set();
                coverage
            })
            .collect(),
        ..PlaceReport::default()
    };
    let outcome = place_all(operator, task, kinds, now, &mut report).await;
    // A partial pass shows nothing about the days that the full one visits, so it only extends the deadline.
    if task.since.is_none() {
        task.cache.place_deadline.note_result(&outcome, now);
    } else if let Err(HoldError::PassTimeout { .. }) = outcome {
        task.cache.place_deadline.extend();
    }
    Incomplete::from_result(outcome, report)
}

/// Returns whether the window of a scope includes a source day.
fn is_in_window<'c>(
    place: &SourceDay,
    covers: impl IntoIterator<Item = &'c HoldScope>,
    now: Timestamp,
) -> bool {
    let covers = covers.into_iter();
    let mut about = covers.filter(|cover| cover.includes_source(place.class, &place.source));
    about.any(|cover| days_of_window(&cover.window, now).contains(place.day))
}

async fn place_all(
    operator: &BucketConnection,
    task: &PlaceInput<'_>,
    kinds: &[PassKind],
    now: Timestamp,
    report: &mut PlaceReport,
) -> Result<(), HoldError> {
    let store = operator.tracking_client(&task.cache.in_doubt);
    let lately = task.since.map(|since| DayFilter {
        from: Some(utc_date(since)),
        to: Some(utc_date(later(now, NEXT_DAY_MARGIN))),
    });
    let PlaceInput { scopes: covers, is_every_day: everywhere, terms, .. } = *task;
    let mut candidates = candidate_days(&store, covers, everywhere, lately, &terms.ceilings, now).await?;
    candidates.add_manifest_days(task.manifests);
    let mut places = std::mem::take(&mut candidates.days);
    places.retain(|place| lately.is_none_or(|lately| lately.contains(place.day)));
    let is_named = |cover: &HoldScope, source: &String| matches!(&cover.cameras, CameraSelector::Named(all) if all.contains(source));
    let is_known = |source: &String| {
        let is_declared = task.cameras.contains_key(source);
        is_declared || covers.iter().any(|cover| is_named(cover, source))
    };
    let is_own = |place: &&SourceDay| {
        place.class == Class::Video && is_known(&place.source) && is_in_window(place, covers, now)
    };
    report.listed_days = places.iter().filter(is_own).count() as u64;
    let until = task.cache.place_deadline.instant();
    let pass = |kind| PlaceOperation { store: &store, task, now, kind };
    // The day at which the last pass timed out may take as long again, so later days go first.
    let reached = task.cache.place_deadline.reached_day().filter(|_| task.since.is_none());
    let later = reached.map_or(places.len(), |day| places.partition_point(|place| place.day <= day));
    if let Some(later) = places.get(later..).filter(|later| !later.is_empty()) {
        // Without coverage, which needs all days in order. The passes below visit these days again.
        let note = |done| report.count_changes(&done);
        for_each_version(&store, later, None, until, &pass(PassKind::Full), &mut BTreeSet::new(), note)
            .await?;
    }
    for kind in kinds.iter().copied() {
        let pass = pass(kind);
        // Both passes include the hidden versions, which must not count twice.
        report.errors = None;
        for_each_version(
            &store,
            &places,
            task.since,
            until,
            &pass,
            &mut candidates.unchecked.incomplete_listings,
            |done| {
                report.count_changes(&done);
                if kind == PassKind::Full {
                    report.add_coverage(&done, task.cache);
                }
            },
        )
        .await?;
    }
    for (cover, coverage) in task.scopes.iter().zip(&mut report.coverage) {
        coverage.incomplete_listings = candidates.unchecked.incomplete_listings_of(cover).cloned().collect();
        let unseen = candidates.unchecked.errors_for(cover);
        let shortage = coverage.present.budget_error().map(|error| PassErrors::without_versions(&error));
        coverage.errors = coverage.errors.take().or(unseen).or(shortage);
    }
    Ok(())
}

struct PlaceOperation<'a> {
    store: &'a BucketClient,
    task: &'a PlaceInput<'a>,
    now: Timestamp,
    kind: PassKind,
}

/// Result for one version.
struct PlacedVersion {
    listed: ListedVersion,
    scopes: Vec<usize>,
    outcome: PlaceOutcome,
    error: Option<HoldError>,
}

/// Findings and corrections of one version.
#[derive(Default)]
struct PlaceOutcome {
    /// The version still exists.
    is_present: bool,
    /// Subresources that were not compliant.
    corrected: Vec<Subresource>,
    /// Those of them that somebody else had changed.
    drifted: Vec<Subresource>,
    markers_removed: u64,
    /// The version failed the read-back.
    is_unconfirmed: bool,
    embargo_end: Option<Timestamp>,
}

impl Operation for PlaceOperation<'_> {
    type Output = PlacedVersion;
    type Snapshot = ();

    // A place pass destroys no recording. With outdated holds it protects too much, and a release corrects that.
    async fn snapshot(&self) -> Result<(), HoldError> {
        Ok(())
    }

    fn applies_to(&self, listed: &ListedVersion, markers: &[VersionRef]) -> bool {
        (self.kind == PassKind::Full || !markers.is_empty()) && !self.scopes_of(listed).is_empty()
    }

    async fn apply(&self, (): &(), listed: ListedVersion, markers: Vec<VersionRef>) -> PlacedVersion {
        let (covering, mut found, mut error) = (self.scopes_of(&listed), PlaceOutcome::default(), None);
        if let Some(stored) = StoredRecording::of(&listed, &self.task.terms.ceilings) {
            let placed = self.protect_version(&listed, &stored, &covering, &markers, &mut found).await;
            error = placed.err().map(HoldError::from);
        }
        PlacedVersion { listed, scopes: covering, outcome: found, error }
    }

    fn error<'a>(&self, done: &'a PlacedVersion) -> Option<&'a HoldError> {
        done.error.as_ref()
    }
}

impl PlaceOperation<'_> {
    /// Returns the scopes that a version belongs to: by key, by modification time if the key is implausible, or because
    /// a manifest lists it.
    ///
    /// A version held by its key is offered to no other scope. On a store that updates the modification time with the
    /// legal hold, it would seem to belong to an ongoing incident.
    fn scopes_of(&self, listed: &ListedVersion) -> Vec<usize> {
        let Some(stored) = StoredRecording::of(listed, &self.task.terms.ceilings) else {
            return Vec::new();
        };
        let version = self.task.cache.fingerprint(&listed.key, &listed.id);
        let covers = (0..).zip(self.task.scopes);
        let mut known = covers.clone().filter(|(number, _)| self.is_in_manifest(*number, version));
        let is_offered = !stored.is_in_scope_by_key(self.task.closing_scopes)
            && !known.any(|(_, cover)| stored.is_in_scope_by_key(std::slice::from_ref(cover)));
        let is_theirs = |(number, cover): &(usize, &HoldScope)| {
            let cover = std::slice::from_ref(*cover);
            let is_covered =
                if is_offered { stored.is_in_scope(cover) } else { stored.is_in_scope_by_key(cover) };
            is_covered || self.is_in_manifest(*number, version)
        };
        covers.filter(is_theirs).map(|(number, _)| number).collect()
    }

    /// Returns whether the manifest of this scope lists a version.
    fn is_in_manifest(&self, number: usize, version: Fingerprint) -> bool {
        let told = self.task.manifests.get(number);
        told.is_some_and(|told| told.versions.contains(version))
    }

    async fn protect_version(
        &self,
        listed: &ListedVersion,
        stored: &StoredRecording<'_>,
        covering: &[usize],
        markers: &[VersionRef],
        found: &mut PlaceOutcome,
    ) -> Result<(), StoreError> {
        let (version, memory) = (listed.version_ref(), self.task.cache);
        // By the slower clock: a fast one must not end the embargo early.
        let now = self.store.clock.earlier(self.now);
        let tag = stored.tag_if_held(self.task.terms.embargo, now);
        let opens = || stored.embargo_end(self.task.terms.embargo);
        found.embargo_end = (tag == RetentionTag::Sealed).then(opens);
        let is_known = |since| memory.is_verified_since(listed, tag, since);
        // A cached protection does not show that the version is visible, so one behind a marker is never skipped.
        if markers.is_empty() && self.task.trusted_since.is_some_and(is_known) {
            found.is_present = true;
            return Ok(());
        }
        let proved = covering.iter().filter_map(|n| *self.task.verified_at.get(*n)?).max();
        // No hold has verified the version before: it is written without reading, and read back. This saves two
        // requests a version.
        let marks = match proved {
            Some(_) => protection::read(self.store, &version).await?,
            None => Some(Protection::NONE),
        };
        let Some(marks) = marks else {
            return Ok(());
        };
        // On a store that updates the modification time, the tag still shows a removed legal hold: it is placed first
        // and removed last. Where policies cannot restrict tags, a recorder can write that tag. Only a cached or listed
        // version was held.
        let of = memory.fingerprint(&listed.key, &listed.id);
        let is_known =
            memory.is_verified(of) || covering.iter().any(|number| self.is_in_manifest(*number, of));
        let was_held = is_known && marks.tag == Some(RetentionTag::Held) && !marks.legal_hold;
        // A version with an implausible key may be on a day that was not visited when the hold was verified.
        let proved_covers =
            covering.iter().filter(|n| self.task.verified_at.get(**n).is_some_and(Option::is_some));
        let proved_covers = proved_covers.filter_map(|n| self.task.scopes.get(*n));
        let is_expected = is_known || is_in_window(&SourceDay::of(&stored.key), proved_covers, self.now);
        let was_proved = proved.is_some_and(|proved| was_held || listed.modified < proved && is_expected);
        // The operator itself changes the tag when an embargo ends.
        let opens_now = marks.tag == Some(RetentionTag::Sealed) && tag == RetentionTag::Held;
        let writes = steps_to_place(&marks, tag, !markers.is_empty());
        if !writes.is_empty() {
            // Before the writes: if one of them fails, the cached protection would be wrong.
            memory.invalidate(listed);
        }
        for write in &writes {
            let Some(what) = self.apply_step(&version, *write, markers, found).await? else {
                return Ok(());
            };
            found.corrected.push(what);
            if was_proved && !(opens_now && what == Subresource::Tag) {
                found.drifted.push(what);
            }
        }
        if !writes.is_empty() {
            // A store may accept a write and not persist it, and others may write too. Only the read-back proves it.
            let Some(after) = protection::read(self.store, &version).await? else {
                return Ok(());
            };
            found.is_unconfirmed = !steps_to_place(&after, tag, false).is_empty();
        }
        found.is_present = true;
        // The pass for hidden versions removed older markers, so this one is new.
        found.is_unconfirmed |= self.kind == PassKind::Full && !markers.is_empty();
        if !found.is_unconfirmed {
            memory.note_verified(listed, tag, self.now);
        }
        Ok(())
    }

    /// Writes one step. `None`: the version is gone.
    async fn apply_step(
        &self,
        version: &VersionRef,
        write: ProtectionStep,
        markers: &[VersionRef],
        found: &mut PlaceOutcome,
    ) -> Result<Option<Subresource>, StoreError> {
        let (written, what) = match write {
            ProtectionStep::LegalHold(on) => {
                (protection::write_legal_hold(self.store, version, on).await, Subresource::LegalHold)
            }
            ProtectionStep::Tag(tag) => {
                (protection::write_tag(self.store, version, tag).await, Subresource::Tag)
            }
            ProtectionStep::Unhide => {
                for marker in markers {
                    objects::delete_version(self.store, marker).await?;
                    found.markers_removed += 1;
                }
                (Ok(()), Subresource::DeleteMarker)
            }
        };
        match written {
            Ok(()) => Ok(Some(what)),
            // Error codes of stores differ. Only a listing proves that a version is gone.
            Err(error) if error.is_not_found() && !protection::is_listed(self.store, version).await? => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

impl PlaceReport {
    fn count_changes(&mut self, done: &PlacedVersion) {
        let found = &done.outcome;
        let is_put_right = |what| u64::from(found.corrected.contains(&what));
        self.legal_holds_set += is_put_right(Subresource::LegalHold);
        self.tagged += is_put_right(Subresource::Tag);
        self.markers_removed += found.markers_removed;
        self.unconfirmed += u64::from(found.is_unconfirmed);
        for what in &found.drifted {
            *self.drifted.entry(*what).or_default() += 1;
        }
        if !found.corrected.is_empty() && self.examples.len() < MAX_EXAMPLES {
            self.examples.push(done.listed.key.clone());
        }
        if let Some(error) = &done.error {
            PassErrors::add_to(&mut self.errors, error);
        }
    }

    fn add_coverage(&mut self, done: &PlacedVersion, memory: &ProtectionCache) {
        let PlacedVersion { listed, scopes: covering, outcome: found, error } = done;
        // A failed request does not mean a loss. Only a version that is gone stays out of the coverage, and counts as
        // lost.
        if !found.is_present && error.is_none() {
            return;
        }
        let Ok(key) = listed.key.parse::<Key>() else {
            return;
        };
        let version = memory.fingerprint(&listed.key, &listed.id);
        for (number, coverage) in self.coverage.iter_mut().enumerate() {
            if !covering.contains(&number) {
                continue;
            }
            coverage.present.insert(version);
            coverage.days.insert(SourceDay::of(&key));
            coverage.unconfirmed += u64::from(found.is_unconfirmed);
            match error {
                Some(error) => coverage.add_failed(&key.recording(), error),
                None => coverage.add(&key.recording(), listed.size, found.embargo_end.is_some()),
            }
        }
        if let Some(opens) = found.embargo_end {
            self.next_embargo_end = Some(self.next_embargo_end.map_or(opens, |next| next.min(opens)));
        }
    }
}
