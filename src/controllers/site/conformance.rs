//! The probe's table as a Site's status tells it.

use crate::api::{ConformancePrincipal, ConformanceRow, ConformanceSeverity, ConformanceVerdict};
use crate::storage::Conformance;
use crate::storage::probe::{Principal, Row, Severity, Verdict};

/// The rows, as the status has them.
pub fn rows(conformance: &Conformance) -> Vec<ConformanceRow> {
    conformance.rows().iter().map(row).collect()
}

fn row(row: &Row) -> ConformanceRow {
    let about = row.check.about();
    ConformanceRow {
        name: row.check.as_str().to_owned(),
        principal: match about.principal {
            Principal::Operator => ConformancePrincipal::Operator,
            Principal::Recorder => ConformancePrincipal::Recorder,
            Principal::Anonymous => ConformancePrincipal::Anonymous,
        },
        verdict: match row.verdict {
            Verdict::Holds => ConformanceVerdict::Holds,
            Verdict::Fails => ConformanceVerdict::Fails,
            Verdict::Unknown(_) => ConformanceVerdict::Unknown,
        },
        severity: match about.severity {
            Severity::Fatal => ConformanceSeverity::Fatal,
            Severity::Weak => ConformanceSeverity::Weak,
        },
        message: row.message(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::probe::Check;

    #[test]
    fn row_message_states_consequence() {
        let table = Conformance::from_verdicts(&[
            (Check::HeldSurvivesDelete, Verdict::Holds),
            (Check::RecorderCannotOverwrite, Verdict::Fails),
        ]);
        let rows = rows(&table);
        let of = |check: Check| rows.iter().find(|row| row.name == check.as_str()).unwrap();
        assert_eq!(of(Check::HeldSurvivesDelete).message, "");
        let fails = of(Check::RecorderCannotOverwrite);
        assert_eq!(
            (fails.verdict, fails.severity, fails.principal),
            (ConformanceVerdict::Fails, ConformanceSeverity::Weak, ConformancePrincipal::Recorder)
        );
        assert!(fails.message.contains("A recorder can overwrite"), "{}", fails.message);
        assert_eq!(of(Check::AnonymousCannotGet).verdict, ConformanceVerdict::Unknown);
        assert!(!of(Check::AnonymousCannotGet).message.is_empty());
    }
}
