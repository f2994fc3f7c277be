//! Conformance table in the form of the Site's status.

use crate::api::ConformanceRow;
use crate::storage::Conformance;
use crate::storage::bucket::probe::Row;

pub fn rows(conformance: &Conformance) -> Vec<ConformanceRow> {
    conformance.rows().iter().map(row).collect()
}

fn row(row: &Row) -> ConformanceRow {
    let about = row.check.about();
    ConformanceRow {
        name: row.check.as_str().to_owned(),
        identity: about.principal,
        result: row.verdict.result(),
        severity: about.severity,
        message: row.message(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{ConformanceIdentity, ConformanceResult, ConformanceSeverity};
    use crate::storage::bucket::probe::{Check, Verdict};

    #[test]
    fn row_message_states_consequence() {
        let table = Conformance::from_verdicts(&[
            (Check::HeldSurvivesDelete, Verdict::Passed),
            (Check::RecorderCannotOverwrite, Verdict::Failed),
        ]);
        let rows = rows(&table);
        let of = |check: Check| rows.iter().find(|row| row.name == check.as_str()).unwrap();
        assert_eq!(of(Check::HeldSurvivesDelete).message, "");
        let fails = of(Check::RecorderCannotOverwrite);
        assert_eq!(
            (fails.result, fails.severity, fails.identity),
            (ConformanceResult::Failed, ConformanceSeverity::Warning, ConformanceIdentity::Recorder)
        );
        assert!(fails.message.contains("A recorder can overwrite"), "{}", fails.message);
        assert_eq!(of(Check::AnonymousCannotGet).result, ConformanceResult::Unknown);
        assert!(!of(Check::AnonymousCannotGet).message.is_empty());
    }
}
