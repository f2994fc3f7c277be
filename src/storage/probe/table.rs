//! The conformance table: a verdict for every check, and `Unknown` for whatever was not shown to be so.

use super::checks::{Check, Severity};
use crate::storage::error::StoreError;

/// After so many requests in a row that got no answer, or "later", the rest is not tried: a store that is
/// away is not asked for minutes.
const PATIENCE: u32 = 3;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is so: it was tried, and the same by somebody who may showed that trying it means something.
    Holds,
    /// It is not so.
    Fails,
    /// It cannot be told.
    Unknown(Why),
}

impl Verdict {
    /// Of something that must have no effect. `control`: the same, by somebody who may, had one; without it
    /// "no effect" says nothing.
    pub(super) const fn refused(had_effect: bool, control: bool) -> Self {
        match (had_effect, control) {
            (true, _) => Self::Fails,
            (false, true) => Self::Holds,
            (false, false) => Self::Unknown(Why::Untold(NO_CONTROL)),
        }
    }

    /// Of something that must be so.
    pub(super) const fn is_so(so: bool) -> Self {
        if so { Self::Holds } else { Self::Fails }
    }

    /// `Holds`, `Fails` or `Unknown`.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Holds => "Holds",
            Self::Fails => "Fails",
            Self::Unknown(_) => "Unknown",
        }
    }
}

/// It had no effect, and neither had the same by the operator.
pub(super) const NO_CONTROL: &str =
    "it had no effect, but neither had the same by the operator, who may: so nothing is shown";
/// What it is tried on is not there.
pub(super) const NO_CANARY: &str = "the object that it is tried on could not be written, or is not listed";

/// A batch deletion is answered with success and deletes nothing, though a single deletion does.
pub(super) const BATCHES_IGNORED: &str = "the store accepts batch deletions and deletes nothing by them";

/// Why something cannot be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// It was not tried, because something was not given.
    NotTried(&'static str),
    /// It was tried, and shows nothing.
    Untold(&'static str),
    /// The store answered with an error where an effect had to be read back, or not at all.
    Store(StoreError),
}

impl Why {
    /// For status and command line. Holds no secret, and of the store's words only an error code.
    pub fn safe_message(&self) -> String {
        match self {
            Self::NotTried(why) | Self::Untold(why) => (*why).to_owned(),
            Self::Store(error) => error.safe_message(),
        }
    }
}

impl From<StoreError> for Why {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// A verdict, or why there is none.
pub(super) type Told = Result<Verdict, Why>;

/// A row of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// What was checked.
    pub check: Check,
    /// What was found.
    pub verdict: Verdict,
}

impl Row {
    /// What follows where it fails, why where it cannot be told; empty where it holds.
    pub fn message(&self) -> String {
        match &self.verdict {
            Verdict::Holds => String::new(),
            Verdict::Fails => self.check.about().consequence.to_owned(),
            Verdict::Unknown(why) => why.safe_message(),
        }
    }

    /// Whether a fatal row fails, or was tried and could not be told: the store is not shown to be fit.
    pub fn is_fatal(&self) -> bool {
        let is_fit = match &self.verdict {
            Verdict::Holds | Verdict::Unknown(Why::NotTried(_)) => true,
            // What deletes nothing at all, for want of a right, deletes nothing that is held. But by batches that are
            // ignored the sweep would delete nothing.
            Verdict::Unknown(Why::Untold(why)) if *why != BATCHES_IGNORED => {
                matches!(self.check, Check::HeldSurvivesBatchDelete | Check::HeldSurvivesBypass)
            }
            Verdict::Fails | Verdict::Unknown(Why::Store(_) | Why::Untold(_)) => false,
        };
        self.check.about().severity == Severity::Fatal && !is_fit
    }
}

/// A store's conformance: a row for every check, in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conformance(Vec<Row>);

impl Conformance {
    /// The rows.
    pub fn rows(&self) -> &[Row] {
        &self.0
    }

    /// What was found for one check.
    pub fn verdict(&self, check: Check) -> &Verdict {
        const MISSING: &Verdict = &Verdict::Unknown(Why::NotTried("it was not tried"));
        let row = self.0.iter().find(|row| row.check == check);
        row.map_or(MISSING, |row| &row.verdict)
    }

    /// Of verdicts; what has none was not tried.
    pub fn of(found: &[(Check, Verdict)]) -> Self {
        let mut findings = Findings::default();
        for (check, verdict) in found {
            findings.found.push((*check, verdict.clone()));
        }
        findings.complete("it was not tried")
    }
}

/// The table while it is being filled.
#[derive(Debug, Default)]
pub(super) struct Findings {
    found: Vec<(Check, Verdict)>,
    /// How many attempts in a row the store did not answer, and how the last ended.
    unanswered: u32,
    last: Option<StoreError>,
}

impl Findings {
    /// Enters what an attempt tells. It is not begun when the store has not answered for too long.
    pub(super) fn enter<'a>(
        &'a mut self,
        check: Check,
        attempt: impl Future<Output = Told> + Send + 'a,
    ) -> impl Future<Output = ()> + Send + 'a {
        let attempt = Box::pin(attempt);
        async move {
            let told = self.ask(attempt).await;
            self.set(check, told);
        }
    }

    /// The outcome of an attempt that decides more than one row.
    pub(super) fn ask<'a, T: Send + 'a>(
        &'a mut self,
        attempt: impl Future<Output = Result<T, Why>> + Send + 'a,
    ) -> impl Future<Output = Result<T, Why>> + Send + 'a {
        // An attempt is many requests: it is kept off the caller's future.
        let attempt = Box::pin(attempt);
        async move {
            if let Some(error) = self.last.as_ref().filter(|_| self.unanswered >= PATIENCE) {
                return Err(error.clone().into());
            }
            let told = attempt.await;
            match &told {
                Err(Why::Store(error)) if !error.is_refusal() => {
                    self.unanswered += 1;
                    self.last = Some(error.clone());
                }
                _ => self.unanswered = 0,
            }
            told
        }
    }

    /// Takes over what was found beside.
    pub(super) fn add(&mut self, other: Self) {
        self.found.extend(other.found);
    }

    pub(super) fn set(&mut self, check: Check, told: Told) {
        self.found.push((check, told.unwrap_or_else(Verdict::Unknown)));
    }

    /// The table, with a row for everything. `untried`: why what has no verdict has none.
    pub(super) fn complete(self, untried: &'static str) -> Conformance {
        let verdict = |check: Check| {
            let found = self.found.iter().find(|(found, _)| *found == check);
            found.map_or(Verdict::Unknown(Why::NotTried(untried)), |(_, verdict)| verdict.clone())
        };
        Conformance(Check::ALL.iter().map(|check| Row { check: *check, verdict: verdict(*check) }).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(status: Option<u16>) -> Why {
        Why::Store(StoreError { operation: "GetObject", code: "Timeout".into(), status })
    }

    #[test]
    fn without_a_control_nothing_is_shown() {
        assert_eq!(Verdict::refused(true, true), Verdict::Fails);
        assert_eq!(Verdict::refused(true, false), Verdict::Fails);
        assert_eq!(Verdict::refused(false, true), Verdict::Holds);
        assert_eq!(Verdict::refused(false, false).as_str(), "Unknown");
    }

    #[test]
    fn what_has_no_verdict_is_unknown() {
        let table = Conformance::of(&[(Check::LifecycleIsKept, Verdict::Holds)]);
        assert_eq!(table.rows().len(), Check::ALL.len());
        let holds = table.rows().iter().filter(|row| row.verdict == Verdict::Holds);
        assert_eq!(holds.count(), 1);
        assert_eq!(table.verdict(Check::LegalHoldIsKept).as_str(), "Unknown");
    }

    #[test]
    fn what_is_fatal() {
        let fatal = |check, verdict| Row { check, verdict }.is_fatal();
        let (hold, overwrite) = (Check::LegalHoldIsKept, Check::RecorderCannotOverwrite);
        assert!(fatal(hold, Verdict::Fails));
        assert!(fatal(hold, Verdict::Unknown(error(Some(403)))));
        assert!(fatal(hold, Verdict::Unknown(Why::Untold(NO_CONTROL))));
        assert!(!fatal(hold, Verdict::Unknown(Why::NotTried("no credentials"))));
        assert!(!fatal(hold, Verdict::Holds));
        let batch = Check::HeldSurvivesBatchDelete;
        assert!(!fatal(batch, Verdict::Unknown(Why::Untold(NO_CONTROL))));
        assert!(fatal(batch, Verdict::Unknown(Why::Untold(BATCHES_IGNORED))));
        assert!(fatal(batch, Verdict::Fails));
        assert!(!fatal(overwrite, Verdict::Fails));
    }

    #[tokio::test]
    async fn a_store_that_is_away_is_not_asked_for_ever() {
        let (mut findings, mut asked) = (Findings::default(), 0);
        for check in Check::ALL {
            findings
                .enter(*check, async {
                    asked += 1;
                    Err(error(None))
                })
                .await;
        }
        assert_eq!(asked, 3);
        let table = findings.complete("");
        let unknown = |row: &Row| row.verdict == Verdict::Unknown(error(None));
        assert!(table.rows().iter().all(unknown));
    }

    #[tokio::test]
    async fn an_answer_between_shows_that_it_is_there() {
        let (mut findings, mut asked) = (Findings::default(), 0);
        for check in Check::ALL {
            findings
                .enter(*check, async {
                    asked += 1;
                    if asked % 3 == 0 { Ok(Verdict::Holds) } else { Err(error(None)) }
                })
                .await;
        }
        assert_eq!(asked, Check::ALL.len());
    }
}
