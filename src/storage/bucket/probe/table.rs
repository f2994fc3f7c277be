//! The conformance table: a verdict for every check, and `Unknown` without a result.

use super::checks::Check;
use crate::api::{ConformanceResult, ConformanceSeverity};
use crate::storage::s3::StoreError;

/// Consecutive attempts without an answer (or with one that asks to retry) after which the probe gives up: otherwise it would take
/// minutes at a store that is down.
const MAX_UNANSWERED: u32 = 3;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The expectation holds, and the control shows that the attempt is meaningful.
    Passed,
    Failed,
    Unknown(UnknownReason),
}

impl Verdict {
    /// Returns the verdict on an attempt that must have no effect. `control`: the same attempt by an identity with the right had
    /// one; otherwise "no effect" shows nothing.
    pub(crate) const fn from_attempt(had_effect: bool, control: bool) -> Self {
        match (had_effect, control) {
            (true, _) => Self::Failed,
            (false, true) => Self::Passed,
            (false, false) => Self::Unknown(UnknownReason::Inconclusive(NO_CONTROL)),
        }
    }

    pub(crate) const fn from_expectation(is_met: bool) -> Self {
        if is_met { Self::Passed } else { Self::Failed }
    }

    /// Returns the verdict without its reason.
    pub const fn result(&self) -> ConformanceResult {
        match self {
            Self::Passed => ConformanceResult::Passed,
            Self::Failed => ConformanceResult::Failed,
            Self::Unknown(_) => ConformanceResult::Unknown,
        }
    }

    /// Returns `Passed`, `Failed` or `Unknown`.
    pub fn as_str(&self) -> &'static str {
        self.result().into()
    }
}

pub(crate) const NO_CONTROL: &str =
    "the attempt had no effect, but neither had the operator's, which has the right: this shows nothing";
pub(crate) const NO_CANARY: &str = "the object for the attempt could not be written, or is not listed";

/// Unlike single deletions, batch deletions succeed and delete nothing.
pub(crate) const BATCHES_IGNORED: &str = "the store accepts batch deletions and deletes nothing by them";

/// Reason that a verdict is unknown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnknownReason {
    /// There was no attempt, because an argument is missing.
    #[error("{0}")]
    NotTried(&'static str),
    /// The attempt shows nothing.
    #[error("{0}")]
    Inconclusive(&'static str),
    /// The recorder could put nothing at all, so that nothing is known of what it must not put.
    #[error("the recorder could not write even without the statement, which shows nothing")]
    RecorderCannotPut,
    /// The store gave an error instead of the effect, or no answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

pub(crate) type VerdictResult = Result<Verdict, UnknownReason>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub check: Check,
    pub verdict: Verdict,
}

impl Row {
    /// Returns the consequence if the check failed, the reason if it is unknown, and nothing if it passed.
    pub fn message(&self) -> String {
        match &self.verdict {
            Verdict::Passed => String::new(),
            Verdict::Failed => self.check.about().consequence.to_owned(),
            Verdict::Unknown(why) => why.to_string(),
        }
    }

    /// Returns whether a fatal row failed, or had an attempt without a result: the store is not shown to be fit.
    pub fn is_fatal(&self) -> bool {
        let is_fit = match &self.verdict {
            Verdict::Passed | Verdict::Unknown(UnknownReason::NotTried(_)) => true,
            // A deletion that lacks the right cannot delete held versions. But if the store ignores batches, the sweep
            // would delete nothing.
            Verdict::Unknown(UnknownReason::Inconclusive(why)) if *why != BATCHES_IGNORED => {
                matches!(self.check, Check::HeldSurvivesBatchDelete | Check::HeldSurvivesBypass)
            }
            Verdict::Failed
            | Verdict::Unknown(
                UnknownReason::Store(_) | UnknownReason::Inconclusive(_) | UnknownReason::RecorderCannotPut,
            ) => false,
        };
        self.check.about().severity == ConformanceSeverity::Fatal && !is_fit
    }
}

/// A store's conformance: a row for every check, in the order of [`Check::ALL`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conformance(Vec<Row>);

impl Conformance {
    pub fn rows(&self) -> &[Row] {
        &self.0
    }

    pub fn verdict(&self, check: Check) -> &Verdict {
        const MISSING: &Verdict = &Verdict::Unknown(UnknownReason::NotTried(NOT_TRIED));
        let row = self.0.iter().find(|row| row.check == check);
        row.map_or(MISSING, |row| &row.verdict)
    }

    /// Returns a table of these verdicts. A check without a verdict was not tried.
    pub fn from_verdicts(found: &[(Check, Verdict)]) -> Self {
        let findings = ConformanceFindings { verdicts: found.to_vec(), ..ConformanceFindings::default() };
        findings.into_conformance(NOT_TRIED)
    }
}

const NOT_TRIED: &str = "the check did not run";

/// A table with the verdicts so far.
#[derive(Debug, Default)]
pub(crate) struct ConformanceFindings {
    verdicts: Vec<(Check, Verdict)>,
    /// Number of consecutive attempts without an answer, and the error of the last.
    unanswered: u32,
    last_error: Option<StoreError>,
}

impl ConformanceFindings {
    /// Runs an attempt and sets the verdict on it. Skips the attempt if the store is down.
    pub(crate) fn record<'a>(
        &'a mut self,
        check: Check,
        attempt: impl Future<Output = VerdictResult> + Send + 'a,
    ) -> impl Future<Output = ()> + Send + 'a {
        let attempt = Box::pin(attempt);
        async move {
            let result = self.run_attempt(attempt).await;
            self.set(check, result);
        }
    }

    /// Returns the result of an attempt that decides more than one row. Skips the attempt if the store is down.
    pub(crate) fn run_attempt<'a, T: Send + 'a>(
        &'a mut self,
        attempt: impl Future<Output = Result<T, UnknownReason>> + Send + 'a,
    ) -> impl Future<Output = Result<T, UnknownReason>> + Send + 'a {
        // On the heap: an attempt holds the futures of many requests, which would add up in the caller's future.
        let attempt = Box::pin(attempt);
        async move {
            if let Some(error) = self.last_error.as_ref().filter(|_| self.unanswered >= MAX_UNANSWERED) {
                return Err(error.clone().into());
            }
            let result = attempt.await;
            match &result {
                Err(UnknownReason::Store(error)) if !error.is_rejection() => {
                    self.unanswered += 1;
                    self.last_error = Some(error.clone());
                }
                _ => self.unanswered = 0,
            }
            result
        }
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.verdicts.extend(other.verdicts);
    }

    pub(crate) fn set(&mut self, check: Check, result: VerdictResult) {
        self.verdicts.push((check, result.unwrap_or_else(Verdict::Unknown)));
    }

    /// Returns the table with a row for every check. `untried`: the reason that a check has no verdict.
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

    /// Records an attempt for every check. Returns the number of attempts that ran, and the table.
    async fn run_attempts(result: impl Fn(usize) -> VerdictResult + Sync) -> (usize, Conformance) {
        let (mut findings, mut attempts) = (ConformanceFindings::default(), 0);
        for check in Check::ALL {
            let attempt = async {
                attempts += 1;
                result(attempts)
            };
            findings.record(*check, attempt).await;
        }
        (attempts, findings.into_conformance(""))
    }

    #[tokio::test]
    async fn probe_stops_after_unanswered_requests() {
        let (attempts, table) = run_attempts(|_| Err(error(None))).await;
        assert_eq!(attempts, 3);
        let unknown = |row: &Row| row.verdict == Verdict::Unknown(error(None));
        assert!(table.rows().iter().all(unknown));
    }

    #[tokio::test]
    async fn answer_resets_the_unanswered_count() {
        let result = |number| if number % 3 == 0 { Ok(Verdict::Passed) } else { Err(error(None)) };
        assert_eq!(run_attempts(result).await.0, Check::ALL.len());
    }
}
