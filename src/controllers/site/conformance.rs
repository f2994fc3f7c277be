//! The probe's table as a Site's status tells it.

use std::fmt::Write;

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

/// What does not hold, or cannot be told, for the condition; empty where all holds.
pub fn exceptions(rows: &[ConformanceRow]) -> String {
    let named = |verdict| {
        let named = rows.iter().filter(|row| row.verdict == verdict);
        named.map(|row| row.name.as_str()).collect::<Vec<_>>().join(", ")
    };
    let mut text = String::new();
    let (fails, unknown) = (
        named(ConformanceVerdict::Fails),
        named(ConformanceVerdict::Unknown),
    );
    if !fails.is_empty() {
        let _ = write!(
            text,
            "; but tried on canaries, this does not hold: {fails} (what follows stands in status.storage.conformance)"
        );
    }
    if !unknown.is_empty() {
        let _ = write!(text, "; and cannot be told: {unknown}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::probe::{Check, Why};

    #[test]
    fn a_row_says_what_follows() {
        let table = Conformance::of(&[
            (Check::HeldSurvivesDelete, Verdict::Holds),
            (Check::RecorderCannotOverwrite, Verdict::Fails),
        ]);
        let rows = rows(&table);
        let of = |check: Check| rows.iter().find(|row| row.name == check.as_str()).unwrap();
        assert_eq!(of(Check::HeldSurvivesDelete).message, "");
        let fails = of(Check::RecorderCannotOverwrite);
        assert_eq!(
            (fails.verdict, fails.severity, fails.principal),
            (
                ConformanceVerdict::Fails,
                ConformanceSeverity::Weak,
                ConformancePrincipal::Recorder
            )
        );
        assert!(
            fails.message.contains("can push a recording behind"),
            "{}",
            fails.message
        );
        assert_eq!(of(Check::AnonymousCannotGet).verdict, ConformanceVerdict::Unknown);
        assert!(!of(Check::AnonymousCannotGet).message.is_empty());
    }

    #[test]
    fn what_does_not_hold_is_said_apart_from_what_is_not_known() {
        let all = |verdict: Verdict| -> Vec<_> {
            Check::ALL.iter().map(|check| (*check, verdict.clone())).collect()
        };
        assert_eq!(exceptions(&rows(&Conformance::of(&all(Verdict::Holds)))), "");
        let mut found = all(Verdict::Holds);
        found[0].1 = Verdict::Fails;
        found[1].1 = Verdict::Unknown(Why::Untold("x"));
        let said = exceptions(&rows(&Conformance::of(&found)));
        assert!(said.contains("does not hold: LegalHoldIsKept ("), "{said}");
        assert!(said.ends_with("cannot be told: HeldSurvivesDelete"), "{said}");
    }
}
