//! What came of a pass: what was found and done, and when to look again.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::{SignedDuration, Timestamp};

use crate::rules::Window;
use crate::storage::Subresource;
use crate::storage::recordings::error::PassErrors;
use crate::storage::recordings::hold::coverage::{Coverage, MAX_GAPS, SourceTimeline};
use crate::storage::recordings::hold::manifest_format::ManifestGap;
use crate::storage::recordings::hold::{PlaceReport, Unchecked};
use crate::storage::recordings::sweep::state::SweepReport;
use crate::wire::Gap;

#[derive(Clone, Debug, Default)]
pub struct PassOutcome {
    /// What there is of each open hold, by UID, where everything was looked at.
    pub coverage: Vec<(String, Coverage)>,
    /// What the store refused of held versions, where everything was looked at.
    pub rejection: Option<PassErrors>,
    pub drift: Option<HoldDrift>,
    /// How many held versions are gone, of each hold, by UID.
    pub lost: BTreeMap<String, u64>,
    /// UIDs of holds that every recorder has, and of which a pass after that found all that they cover as it must be.
    pub proved: Vec<String>,
    /// When everything was looked at, in this pass or an earlier one.
    pub verified_at: Option<Timestamp>,
    /// How often everything is looked at.
    pub verify_interval: Option<SignedDuration>,
    /// UIDs of holds whose release was not tried: the store refused it lately.
    pub deferred_releases: BTreeSet<String>,
    /// When the first of these is tried again.
    pub release_retry_at: Option<Timestamp>,
    /// Something that was to be released is kept for a hold that was declared and does not count yet.
    pub has_undecided_versions: bool,
    /// What the store refused to let go of, where a release was tried: of each hold, by UID.
    pub release_rejections: BTreeMap<String, PassErrors>,
    /// What was not looked at, where a release was tried.
    pub unseen: Unchecked,
    /// UIDs of holds that nothing is kept for any more.
    pub released: Vec<String>,
    /// What the sweep did, where it was due.
    pub swept: Option<SweepReport>,
    /// UIDs of open holds that every recorder has acknowledged as they are.
    pub acknowledged: BTreeSet<String>,
    /// Since when recorders have had a hold, or its end, to acknowledge.
    pub unacknowledged_since: Option<Timestamp>,
    /// What kept the pass from placing everything that open holds cover.
    pub place_error: Option<String>,
    /// What kept the pass from releasing everything that resolved holds covered.
    pub release_error: Option<String>,
    /// Why the manifests of open holds could not be read, by UID.
    pub unreadable_manifests: BTreeMap<String, PassErrors>,
    pub needs_another_pass: bool,
    pub verify_at: Option<Timestamp>,
    /// When the first sealed segment may be read.
    pub next_opening: Option<Timestamp>,
    /// From when on this process may release.
    pub release_from: Option<Timestamp>,
    pub sweep_at: Timestamp,
    /// What recorders said of their gaps, by camera.
    pub gaps: BTreeMap<String, Vec<Gap>>,
    /// What is older than this when a hold is declared may be gone already.
    pub lifecycle_period: SignedDuration,
    /// What was changed in the bucket, by kind.
    pub changes: BTreeMap<&'static str, u64>,
}

impl PassOutcome {
    /// Why there is nothing of `camera` from `from` to `until`.
    fn gap_cause(
        &self,
        camera: &str,
        from: Timestamp,
        until: Timestamp,
        gone_before: Timestamp,
    ) -> &'static str {
        let told = self.gaps.get(camera).into_iter().flatten().find(|gap| {
            gap.from.is_none_or(|begun| begun < until) && gap.until.is_none_or(|ended| ended > from)
        });
        match told.map(|gap| gap.cause) {
            Some(cause) => cause.into(),
            None if until <= gone_before => "ExpiredBeforeHold",
            None => "Unexplained",
        }
    }

    /// What is missing of one source, in no more stretches than are told. What a store's lifecycle may have removed before
    /// the hold was declared is told apart from what it cannot have.
    pub fn missing_in_source(
        &self,
        source: &str,
        covered: &SourceTimeline,
        accepted_at: Timestamp,
    ) -> Vec<ManifestGap> {
        let gone_before = accepted_at.saturating_sub(self.lifecycle_period).unwrap_or(Timestamp::MIN);
        let halves = |gap: &Window| {
            let until = gap.until.unwrap_or(gap.from);
            let middle = gone_before.clamp(gap.from, until);
            [(gap.from, middle), (middle, until)]
        };
        let stretches = covered.gaps.iter().flat_map(halves);
        let stretches = stretches.filter(|(from, until)| from < until).take(MAX_GAPS);
        stretches
            .map(|(from, until)| ManifestGap {
                source: source.to_owned(),
                from,
                until,
                cause: self.gap_cause(source, from, until, gone_before).to_owned(),
            })
            .collect()
    }

    /// The same of a hold's whole window.
    pub fn missing(&self, coverage: &Coverage, accepted_at: Timestamp) -> Vec<ManifestGap> {
        let sources = coverage.sources.iter();
        sources
            .flat_map(|((_, source), covered)| self.missing_in_source(source, covered, accepted_at))
            .collect()
    }

    /// Whether anything was written to the bucket.
    pub fn is_changed(&self) -> bool {
        self.changes.values().any(|count| *count > 0) || !self.released.is_empty()
    }

    /// Counts what a pass that places did, be it broken off.
    pub fn record_placement(&mut self, placed: &PlaceReport) {
        self.count_change("protected", placed.legal_holds_set);
        self.count_change("tagged", placed.tagged);
        self.count_change("unhidden", placed.markers_removed);
        if !placed.drifted.is_empty() {
            let drift = self.drift.get_or_insert_default();
            for (what, count) in &placed.drifted {
                *drift.counts.entry(*what).or_default() += count;
            }
            let new = placed.examples.iter().filter(|key| !drift.examples.contains(key));
            let new: Vec<String> = new.cloned().collect();
            drift.examples.extend(new);
        }
    }

    /// Counts versions that were held for the hold `name`, and are gone.
    pub fn record_lost(&mut self, name: &str, count: u64) {
        let drift = self.drift.get_or_insert_default();
        *drift.counts.entry(Subresource::HeldVersion).or_default() += count;
        drift.holds_with_losses.push(name.to_owned());
    }

    /// Counts what was changed in the bucket.
    pub fn count_change(&mut self, kind: &'static str, count: u64) {
        *self.changes.entry(kind).or_default() += count;
    }
}

/// What somebody else had changed of held versions that had been proved.
#[derive(Clone, Debug, Default)]
pub struct HoldDrift {
    /// How many versions, by what it was.
    pub counts: BTreeMap<Subresource, u64>,
    pub examples: Vec<String>,
    /// Names of the holds of which versions are gone.
    pub holds_with_losses: Vec<String>,
}

impl fmt::Display for HoldDrift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told = [self.lost_message(), self.changed_message()];
        f.write_str(&told.into_iter().flatten().collect::<Vec<_>>().join("; "))
    }
}

impl HoldDrift {
    /// What is gone, and cannot be put back.
    pub fn lost_message(&self) -> Option<String> {
        let lost = self.counts.get(&Subresource::HeldVersion)?;
        Some(format!("{lost} held versions are gone, from {}", self.holds_with_losses.join(", ")))
    }

    pub fn changed_message(&self) -> Option<String> {
        let marks = self.counts.iter().filter(|(what, _)| **what != Subresource::HeldVersion);
        let marks: Vec<String> = marks.map(|(what, count)| format!("{what} of {count}")).collect();
        let (marks, keys) = (marks.join(", "), self.examples.join(", "));
        (!marks.is_empty()).then(|| format!("{marks} held versions, restored; for example {keys}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_stretch_is_split_at_lifecycle_expiry() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let outcome =
            PassOutcome { lifecycle_period: SignedDuration::from_secs(100), ..PassOutcome::default() };
        let mut covered = SourceTimeline::default();
        covered.gaps = vec![
            Window::new(at(10), Some(at(20))),
            Window::new(at(40), Some(at(60))),
            Window::new(at(70), Some(at(80))),
        ];
        let told = outcome.missing_in_source("gang", &covered, at(150));
        let told: Vec<_> = told
            .iter()
            .map(|gap| (gap.from.as_second(), gap.until.as_second(), gap.cause.as_str()))
            .collect();
        assert_eq!(
            told,
            [
                (10, 20, "ExpiredBeforeHold"),
                (40, 50, "ExpiredBeforeHold"),
                (50, 60, "Unexplained"),
                (70, 80, "Unexplained")
            ]
        );
    }
}
