//! The manifests of holds, written when a pass over everything is reported.

use super::error::RetentionPassError;
use super::outcome::PassOutcome;
use super::pass::RetentionPass;
use crate::storage::recordings::error::PassErrors;
use crate::storage::recordings::hold::coverage::Coverage;
use crate::storage::recordings::hold::manifest;
use crate::storage::recordings::hold::manifest::ManifestContent;
use crate::storage::recordings::hold::memory_budget::VersionSet;

impl RetentionPass<'_> {
    /// Writes what is kept for each hold, for those who may read it. After the report: a loss is told before the manifest
    /// forgets what was lost; which versions were found is not known any more then. Gives how many losses are not found again, and
    /// whether all was written.
    pub async fn write_manifests(&self, outcome: &mut PassOutcome) -> (u64, Result<(), RetentionPassError>) {
        let (mut forgotten, mut unwritten) = (0, Ok(()));
        let mut all = std::mem::take(&mut outcome.coverage);
        for (entry, (uid, coverage)) in self.plan.open.values().zip(&mut all) {
            if outcome.unreadable_manifests.contains_key(uid) {
                continue;
            }
            let lost = outcome.lost.get(uid).copied().unwrap_or_default();
            // A manifest that says less than there is would not do, nor one that says more than is kept.
            if !is_complete(coverage) {
                // What they lost was told, and counts now: whatever keeps their manifests from being written, it is told no more.
                self.protection_cache.forget_lost(uid, coverage);
                forgotten += lost;
                continue;
            }
            let kept = ManifestContent {
                entry,
                coverage,
                missing: &outcome.missing(coverage, entry.accepted_at),
                terms: &self.bucket.terms,
            };
            let work = manifest::write(&self.bucket.operator, kept, self.protection_cache, self.now);
            match self.fence.guard(work).await {
                Ok(Ok(())) => forgotten += lost,
                Ok(Err(error)) => unwritten = unwritten.and(Err(error.into())),
                Err(not_leader) => return (forgotten, Err(not_leader.into())),
            }
            // What the manifest lists takes its room.
            coverage.present = VersionSet::default();
        }
        outcome.coverage = all;
        (forgotten, unwritten)
    }
}

/// Whether a manifest of what was found says neither less than there is, nor more than is kept.
fn is_complete(coverage: &Coverage) -> bool {
    let is_refused = coverage.errors.as_ref().is_some_and(PassErrors::has_versions);
    !is_refused
        && !coverage.present.is_over_budget()
        && coverage.incomplete_listings.is_empty()
        && coverage.unconfirmed == 0
}
