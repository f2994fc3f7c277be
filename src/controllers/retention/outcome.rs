//! What came of a pass: what was found and done, and when to look again.

use std::collections::BTreeMap;
use std::fmt;

use jiff::{SignedDuration, Timestamp};

use crate::contract::Gap;
use crate::storage::Aspect;
use crate::storage::hold::Placed;
use crate::storage::hold::coverage::Coverage;
use crate::storage::hold::manifest::Missing;
use crate::storage::sweep::Swept;

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// What there is of each open hold, by UID, where everything was looked at.
    pub coverage: Vec<(String, Coverage)>,
    /// What the last pass that placed saw and did.
    pub placed: Option<Placed>,
    /// What somebody else had changed.
    pub drift: Option<Drift>,
    /// Every recorder has the holds, and a pass after that found all that they cover as it must be.
    pub proved: bool,
    /// When everything was looked at, in this pass or an earlier one.
    pub verified_at: Option<Timestamp>,
    /// How often everything is looked at.
    pub verify_every: Option<SignedDuration>,
    /// UIDs of holds that nothing is kept for any more.
    pub released: Vec<String>,
    /// What the sweep did, where it was due.
    pub swept: Option<Swept>,
    /// Recorders have to follow, or another pass has to prove.
    pub is_pending: bool,
    /// When to verify again.
    pub verify_at: Option<Timestamp>,
    /// When the first sealed segment may be read.
    pub next_opening: Option<Timestamp>,
    /// From when on this process may release.
    pub release_from: Option<Timestamp>,
    /// When to sweep again.
    pub sweep_at: Timestamp,
    /// What recorders said of their gaps, by camera.
    pub gaps: BTreeMap<String, Vec<Gap>>,
    /// What is older than this when a hold is declared may be gone already.
    pub kept_for: SignedDuration,
    /// What was changed in the bucket, by kind.
    pub changes: BTreeMap<&'static str, u64>,
}

impl Outcome {
    /// Why there is nothing of `camera` from `from` to `until`.
    pub fn cause(
        &self,
        camera: &str,
        from: Timestamp,
        until: Timestamp,
        accepted_at: Timestamp,
    ) -> &'static str {
        let told = self.gaps.get(camera).into_iter().flatten().find(|gap| {
            gap.from.is_none_or(|begun| begun < until) && gap.until.is_none_or(|ended| ended > from)
        });
        match told.map(|gap| gap.cause) {
            Some(cause) => cause.into(),
            None if accepted_at.duration_since(from) >= self.kept_for => "GoneBefore",
            None => "NotThere",
        }
    }

    /// What is missing of a hold's window, in no more stretches than are told.
    pub fn missing(&self, coverage: &Coverage, accepted_at: Timestamp) -> Vec<Missing> {
        let stretches = coverage
            .sources
            .iter()
            .flat_map(|((_, source), covered)| covered.gaps.iter().map(move |gap| (source, gap)));
        stretches
            .map(|(source, gap)| {
                let until = gap.until.unwrap_or(gap.from);
                Missing {
                    source: source.clone(),
                    from: gap.from,
                    until,
                    cause: self.cause(source, gap.from, until, accepted_at).to_owned(),
                }
            })
            .collect()
    }

    /// Whether anything was written to the bucket.
    pub fn is_changed(&self) -> bool {
        self.changes.values().any(|count| *count > 0) || !self.released.is_empty()
    }

    /// Counts what was changed in the bucket.
    pub fn count(&mut self, kind: &'static str, count: u64) {
        *self.changes.entry(kind).or_default() += count;
    }
}

/// What somebody else had changed of held versions that had been proved.
#[derive(Clone, Debug, Default)]
pub struct Drift {
    /// How many versions, by what it was.
    pub counts: BTreeMap<Aspect, u64>,
    /// Some of their keys.
    pub examples: Vec<String>,
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = self
            .counts
            .iter()
            .map(|(what, count)| format!("{what} of {count}"));
        let counts: Vec<String> = counts.collect();
        let (counts, keys) = (counts.join(", "), self.examples.join(", "));
        write!(f, "{counts} held versions; among others {keys}")
    }
}
