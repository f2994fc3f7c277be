//! Outcome of a pass: its findings, its changes, and the times of the next passes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::{SignedDuration, Timestamp};

use super::missing::{self, MissingPart};
use crate::api::{CameraGap, ReleaseWait};
use crate::rules::LedgerEntry;
use crate::storage::recordings::hold::coverage::{Coverage, MAX_GAPS, SourceTimeline};
use crate::storage::recordings::hold::manifest_format::ManifestGap;
use crate::storage::recordings::hold::{PlaceReport, Unchecked};
use crate::storage::recordings::sweep::state::SweepReport;
use crate::storage::{PassErrors, Subresource};

#[derive(Clone, Debug, Default)]
pub struct PassOutcome {
    /// Coverage of each open hold, by UID. Empty unless this was a full pass.
    pub coverage: Vec<(String, Coverage)>,
    /// Requests about held versions that the store rejected in a full pass.
    pub rejection: Option<PassErrors>,
    pub drift: Option<HoldDrift>,
    /// Number of lost versions of each hold, by UID.
    pub lost: BTreeMap<String, u64>,
    /// UIDs of holds that every recorder has acknowledged and that a later full pass found completely protected.
    pub proved: Vec<String>,
    /// Start of the last full pass, which may be an earlier one.
    pub verified_at: Option<Timestamp>,
    /// Interval between full passes.
    pub verify_interval: Option<SignedDuration>,
    /// Reasons that releases did not start, by the UID of the hold.
    pub release_waits: BTreeMap<String, ReleaseWait>,
    /// UIDs of holds whose release was deferred after a recent rejection.
    pub deferred_releases: BTreeSet<String>,
    /// First retry of these releases.
    pub release_retry_at: Option<Timestamp>,
    /// A version stays held for a hold that is declared but not yet in the ledger.
    pub has_undecided_versions: bool,
    /// Requests that the store rejected in a release, by the hold's UID.
    pub release_rejections: BTreeMap<String, PassErrors>,
    /// Parts of the bucket that the release could not check.
    pub unseen: Unchecked,
    /// UIDs of holds that this pass released.
    pub released: Vec<String>,
    /// Report of the sweep, if it was due.
    pub swept: Option<SweepReport>,
    /// UIDs of open holds that every recorder has acknowledged in their present scope.
    pub acknowledged: BTreeSet<String>,
    /// Time since which an acknowledgement by the recorders is missing.
    pub unacknowledged_since: Option<Timestamp>,
    /// Error that ended the placing early.
    pub place_error: Option<String>,
    /// Error that ended the release early.
    pub release_error: Option<String>,
    /// Reasons that manifests of open holds are unknown, by UID.
    pub unreadable_manifests: BTreeMap<String, PassErrors>,
    pub needs_another_pass: bool,
    pub verify_at: Option<Timestamp>,
    /// Earliest end of an embargo.
    pub next_opening: Option<Timestamp>,
    /// Earliest time at which this process may release.
    pub release_from: Option<Timestamp>,
    pub sweep_at: Timestamp,
    /// Reported gaps, by camera.
    pub gaps: BTreeMap<String, Vec<CameraGap>>,
    /// Lifetime that the store's lifecycle rules allow. Older recordings may be gone before a hold is declared.
    pub lifecycle_period: SignedDuration,
    /// Changes to the bucket, by kind.
    pub changes: BTreeMap<&'static str, u64>,
}

impl PassOutcome {
    /// Returns at most [`MAX_GAPS`] gaps of one source. Divides them at the edges of reported gaps, and at the time before which
    /// lifecycle rules may have expired recordings.
    pub fn missing_in_source(
        &self,
        source: &str,
        covered: &SourceTimeline,
        accepted_at: Timestamp,
    ) -> Vec<ManifestGap> {
        let gone_before = accepted_at.saturating_sub(self.lifecycle_period).unwrap_or(Timestamp::MIN);
        let reported = self.gaps.get(source).map(Vec::as_slice).unwrap_or_default();
        let parts = covered.gaps.iter().flat_map(|stretch| missing::split(stretch, reported));
        let gaps = parts.flat_map(|MissingPart { from, until, reason }| {
            let middle = if reason.is_some() { from } else { gone_before.clamp(from, until) };
            [(from, middle, "ExpiredBeforeHold"), (middle, until, reason.unwrap_or("Unexplained"))]
        });
        let gaps = gaps.filter(|(from, until, _)| from < until).take(MAX_GAPS);
        let gap = |(from, until, cause): (Timestamp, Timestamp, &str)| ManifestGap {
            source: source.to_owned(),
            from,
            until,
            cause: cause.to_owned(),
        };
        gaps.map(gap).collect()
    }

    /// Returns the gaps of all sources of a hold.
    pub fn missing(&self, coverage: &Coverage, accepted_at: Timestamp) -> Vec<ManifestGap> {
        let sources = coverage.sources.iter();
        sources
            .flat_map(|((_, source), covered)| self.missing_in_source(source, covered, accepted_at))
            .collect()
    }

    /// Returns whether the pass changed the bucket.
    pub fn is_changed(&self) -> bool {
        self.changes.values().any(|count| *count > 0) || !self.released.is_empty()
    }

    /// Counts the changes of a place pass, complete or not.
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

    pub fn record_lost(&mut self, hold: &LedgerEntry, count: u64) {
        let drift = self.drift.get_or_insert_default();
        *drift.counts.entry(Subresource::HeldVersion).or_default() += count;
        drift.holds_with_losses.push(hold.name.clone());
        self.lost.insert(hold.uid.clone(), count);
    }

    pub fn count_change(&mut self, kind: &'static str, count: u64) {
        *self.changes.entry(kind).or_default() += count;
    }
}

/// Changes that somebody else made to versions that had been verified.
#[derive(Clone, Debug, Default)]
pub struct HoldDrift {
    /// Number of versions, by the changed subresource.
    pub counts: BTreeMap<Subresource, u64>,
    pub examples: Vec<String>,
    /// Names of holds with lost versions.
    pub holds_with_losses: Vec<String>,
}

impl fmt::Display for HoldDrift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told = [self.lost_message(), self.changed_message()];
        f.write_str(&told.into_iter().flatten().collect::<Vec<_>>().join("; "))
    }
}

impl HoldDrift {
    /// Describes the lost versions, which nobody can restore.
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
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;
    use crate::rules::Window;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// Returns the reported gaps of a camera with these stretches without recordings and these gaps, of a hold that is accepted at
    /// second 150 with a lifecycle of 100 s.
    fn missing(stretches: &[(i64, i64)], reported: Vec<CameraGap>) -> Vec<(i64, i64, String)> {
        let outcome = PassOutcome {
            lifecycle_period: SignedDuration::from_secs(100),
            gaps: BTreeMap::from([("gang".to_owned(), reported)]),
            ..PassOutcome::default()
        };
        let mut covered = SourceTimeline::default();
        let window = |(from, until): &(i64, i64)| Window::new(at(*from), Some(at(*until)));
        covered.gaps = stretches.iter().map(window).collect();
        let told = outcome.missing_in_source("gang", &covered, at(150));
        told.into_iter().map(|gap| (gap.from.as_second(), gap.until.as_second(), gap.cause)).collect()
    }

    fn gap(reason: &str, from: Option<i64>, until: i64) -> CameraGap {
        let time = |second| Time(at(second));
        CameraGap { reason: reason.into(), from: from.map(time), until: Some(time(until)) }
    }

    fn row(from: i64, until: i64, cause: &str) -> (i64, i64, String) {
        (from, until, cause.to_owned())
    }

    #[test]
    fn missing_stretch_is_split_at_lifecycle_expiry() {
        let expected = [
            row(10, 20, "ExpiredBeforeHold"),
            row(40, 50, "ExpiredBeforeHold"),
            row(50, 60, "Unexplained"),
            row(70, 80, "Unexplained"),
        ];
        assert_eq!(missing(&[(10, 20), (40, 60), (70, 80)], vec![]), expected);
    }

    #[test]
    fn loss_after_a_gap_is_unexplained() {
        // The camera was away for a minute. Then the recordings of two hours vanished from the bucket.
        let away = gap("Disconnected", Some(1000), 1060);
        let expected = [row(1000, 1060, "Disconnected"), row(1060, 8200, "Unexplained")];
        assert_eq!(missing(&[(1000, 8200)], vec![away.clone()]), expected);
        // Nor does a restart explain it that nobody knows the beginning of.
        let restarted = gap("RecorderRestarted", None, 9000);
        let expected = [
            row(1000, 1060, "Disconnected"),
            row(1060, 8200, "Unexplained"),
            row(8900, 9000, "RecorderRestarted"),
        ];
        assert_eq!(missing(&[(1000, 8200), (8900, 9000)], vec![away, restarted]), expected);
    }

    #[test]
    fn source_has_at_most_ten_gaps() {
        let reported: Vec<_> =
            (0..30).map(|n| gap("Disconnected", Some(100 + n * 20), 110 + n * 20)).collect();
        let found = missing(&[(100, 300), (310, 900)], reported);
        assert_eq!(found.len(), MAX_GAPS);
        assert_eq!(found.last(), Some(&row(190, 200, "Unexplained")));
    }
}
