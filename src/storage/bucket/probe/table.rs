//! The conformance table: a verdict for every check, and `Unknown` for whatever was not shown to be so.

use super::checks::{Check, Severity};
use crate::storage::s3::error::StoreError;

/// After so many requests in a row that got no answer, or "later", the rest is not tried: a store that is
/// away is not asked for minutes.
const MAX_UNANSWERED: u32 = 3;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is so: it was tried, and the same by somebody who may showed that trying it means something.
    Passed,
    /// It is not so.
    Failed,
    /// It cannot be told.
    Unknown(UnknownReason),
}

impl Verdict {
    /// Of something that must have no effect. `control`: the same, by somebody who may, had one; without it
    /// "no effect" says nothing.
    pub(crate) const fn from_attempt(had_effect: bool, control: bool) -> Self {
        match (had_effect, control) {
            (true, _) => Self::Failed,
            (false, true) => Self::Passed,
            (false, false) => Self::Unknown(UnknownReason::Inconclusive(NO_CONTROL)),
        }
    }

    /// Of something that must be so.
    pub(crate) const fn from_expectation(so: bool) -> Self {
        if so { Self::Passed } else { Self::Failed }
    }

    /// `Passed`, `Failed` or `Unknown`.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Passed => "Passed",
            Self::Failed => "Failed",
            Self::Unknown(_) => "Unknown",
        }
    }
}

/// It had no effect, and neither had the same by the operator.
pub(crate) const NO_CONTROL: &str =
    "it had no effect, but neither had the same by the operator, who may: so nothing is shown";
/// What it is tried on is not there.
pub(crate) const NO_CANARY: &str = "the object that it is tried on could not be written, or is not listed";

/// A batch deletion is answered with success and deletes nothing, though a single deletion does.
pub(crate) const BATCHES_IGNORED: &str = "the store accepts batch deletions and deletes nothing by them";

/// Why something cannot be told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnknownReason {
    /// It was not tried, because something was not given.
    #[error("{0}")]
    NotTried(&'static str),
    /// It was tried, and shows nothing.
    #[error("{0}")]
    Inconclusive(&'static str),
    /// The store answered with an error where an effect had to be read back, or not at all.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A verdict, or why there is none.
pub(crate) type VerdictResult = Result<Verdict, UnknownReason>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub check: Check,
    pub verdict: Verdict,
}

impl Row {
    /// What follows where it fails, why where it cannot be told; empty where it holds.
    pub fn message(&self) -> String {
        match &self.verdict {
            Verdict::Passed => String::new(),
            Verdict::Failed => self.check.about().consequence.to_owned(),
            Verdict::Unknown(why) => why.to_string(),
        }
    }

    /// Whether a fatal row fails, or was tried and could not be told: the store is not shown to be fit.
    pub fn is_fatal(&self) -> bool {
        let is_fit = match &self.verdict {
            Verdict::Passed | Verdict::Unknown(UnknownReason::NotTried(_)) => true,
            // What deletes nothing at all, for want of a right, deletes nothing that is held. But by batches that are
            // ignored the sweep would delete nothing.
            Verdict::Unknown(UnknownReason::Inconclusive(why)) if *why != BATCHES_IGNORED => {
                matches!(self.check, Check::HeldSurvivesBatchDelete | Check::HeldSurvivesBypass)
            }
            Verdict::Failed | Verdict::Unknown(UnknownReason::Store(_) | UnknownReason::Inconclusive(_)) => {
                false
            }
        };
        self.check.about().severity == Severity::Fatal && !is_fit
    }
}

/// A store's conformance: a row for every check, in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conformance(Vec<Row>);

impl Conformance {
    pub fn rows(&self) -> &[Row] {
        &self.0
    }

    /// What was found for one check.
    pub fn verdict(&self, check: Check) -> &Verdict {
        const MISSING: &Verdict = &Verdict::Unknown(UnknownReason::NotTried("it was not tried"));
        let row = self.0.iter().find(|row| row.check == check);
        row.map_or(MISSING, |row| &row.verdict)
    }

    /// Of verdicts; what has none was not tried.
    pub fn from_verdicts(found: &[(Check, Verdict)]) -> Self {
        let mut findings = ConformanceFindings::default();
        for (check, verdict) in found {
            findings.verdicts.push((*check, verdict.clone()));
        }
        findings.into_conformance("it was not tried")
    }
}

/// The table while it is being filled.
#[derive(Debug, Default)]
pub(crate) struct ConformanceFindings {
    verdicts: Vec<(Check, Verdict)>,
    /// How many attempts in a row the store did not answer, and how the last ended.
    unanswered: u32,
    last_error: Option<StoreError>,
}

impl ConformanceFindings {
    /// Enters what an attempt tells. It is not begun when the store has not answered for too long.
    pub(crate) fn record<'a>(
        &'a mut self,
        check: Check,
        attempt: impl Future<Output = VerdictResult> + Send + 'a,
    ) -> impl Future<Output = ()> + Send + 'a {
        let attempt = Box::pin(attempt);
        async move {
            let told = self.run_attempt(attempt).await;
            self.set(check, told);
        }
    }

    /// The outcome of an attempt that decides more than one row.
    pub(crate) fn run_attempt<'a, T: Send + 'a>(
        &'a mut self,
        attempt: impl Future<Output = Result<T, UnknownReason>> + Send + 'a,
    ) -> impl Future<Output = Result<T, UnknownReason>> + Send + 'a {
        // An attempt is many requests: it is kept off the caller's future.
        let attempt = Box::pin(attempt);
        async move {
            if let Some(error) = self.last_error.as_ref().filter(|_| self.unanswered >= MAX_UNANSWERED) {
                return Err(error.clone().into());
            }
            let told = attempt.await;
            match &told {
                Err(UnknownReason::Store(error)) if !error.is_rejection() => {
                    self.unanswered += 1;
                    self.last_error = Some(error.clone());
                }
                _ => self.unanswered = 0,
            }
            told
        }
    }

    /// Takes over what was found beside.
    pub(crate) fn merge(&mut self, other: Self) {
        self.verdicts.extend(other.verdicts);
    }

    pub(crate) fn set(&mut self, check: Check, told: VerdictResult) {
        self.verdicts.push((check, told.unwrap_or_else(Verdict::Unknown)));
    }

    /// The table, with a row for everything. `untried`: why what has no verdict has none.
    pub(crate) fn into_conformance(self, untried: &'static str) -> Conformance {
        let verdict = |check: Check| {
            let found = self.verdicts.iter().find(|(found, _)| *found == check);
            found.map_or(Verdict::Unknown(UnknownReason::NotTried(untried)), |(_, verdict)| verdict.clone())
        };
        Conformance(Check::ALL.iter().map(|check| Row { check: *check, verdict: verdict(*check) }).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(status: Option<u16>) -> UnknownReason {
        UnknownReason::Store(StoreError { operation: "GetObject", code: "Timeout".into(), status })
    }

    #[test]
    fn missing_control_is_inconclusive() {
        assert_eq!(Verdict::from_attempt(true, true), Verdict::Failed);
        assert_eq!(Verdict::from_attempt(true, false), Verdict::Failed);
        assert_eq!(Verdict::from_attempt(false, true), Verdict::Passed);
        assert_eq!(Verdict::from_attempt(false, false).as_str(), "Unknown");
    }

    #[test]
    fn missing_verdict_is_unknown() {
        let table = Conformance::from_verdicts(&[(Check::LifecycleReadsBack, Verdict::Passed)]);
        assert_eq!(table.rows().len(), Check::ALL.len());
        let holds = table.rows().iter().filter(|row| row.verdict == Verdict::Passed);
        assert_eq!(holds.count(), 1);
        assert_eq!(table.verdict(Check::LegalHoldReadsBack).as_str(), "Unknown");
    }

    #[test]
    fn fatal_rows_depend_on_severity_and_verdict() {
        let fatal = |check, verdict| Row { check, verdict }.is_fatal();
        let (hold, overwrite) = (Check::LegalHoldReadsBack, Check::RecorderCannotOverwrite);
        assert!(fatal(hold, Verdict::Failed));
        assert!(fatal(hold, Verdict::Unknown(error(Some(403)))));
        assert!(fatal(hold, Verdict::Unknown(UnknownReason::Inconclusive(NO_CONTROL))));
        assert!(!fatal(hold, Verdict::Unknown(UnknownReason::NotTried("no credentials"))));
        assert!(!fatal(hold, Verdict::Passed));
        let batch = Check::HeldSurvivesBatchDelete;
        assert!(!fatal(batch, Verdict::Unknown(UnknownReason::Inconclusive(NO_CONTROL))));
        assert!(fatal(batch, Verdict::Unknown(UnknownReason::Inconclusive(BATCHES_IGNORED))));
        assert!(fatal(batch, Verdict::Failed));
        assert!(!fatal(overwrite, Verdict::Failed));
    }

    #[tokio::test]
    async fn probe_stops_after_unanswered_requests() {
        let (mut findings, mut asked) = (ConformanceFindings::default(), 0);
        for check in Check::ALL {
            findings
                .record(*check, async {
                    asked += 1;
                    Err(error(None))
                })
                .await;
        }
        assert_eq!(asked, 3);
        let table = findings.into_conformance("");
        let unknown = |row: &Row| row.verdict == Verdict::Unknown(error(None));
        assert!(table.rows().iter().all(unknown));
    }

    #[tokio::test]
    async fn answer_resets_the_unanswered_count() {
        let (mut findings, mut asked) = (ConformanceFindings::default(), 0);
        for check in Check::ALL {
            findings
                .record(*check, async {
                    asked += 1;
                    if asked % 3 == 0 { Ok(Verdict::Passed) } else { Err(error(None)) }
                })
                .await;
        }
        assert_eq!(asked, Check::ALL.len());
    }
}
