//! `toezicht audit`: standalone audit of a bucket, for anyone who does not want to rely on the operator.

use std::fmt::Write;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::output::OutputFormat;
use super::target::{TargetArgs, TargetArgsError};
use crate::api::{Ceilings, Days, Duration};
use crate::rules::{Class, Embargo, RetentionTerms};
use crate::storage::recordings::audit::{AuditError, AuditOptions, Tally, audit};
use crate::storage::recordings::sweep::state::ScanRange;

#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub(crate) struct AuditArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Ceiling of video in days (article 6).
    #[arg(long, value_name = "DAYS", default_value = "28d")]
    video_ceiling: Days,
    /// Ceiling of recorded calls in days (article 6).
    #[arg(long, value_name = "DAYS", default_value = "7d")]
    calls_ceiling: Days,
    /// Minimum age at which a recording can be read, such as `1h` (article 4.2). Set it for a site without live viewing;
    /// otherwise held segments under embargo count as the violation `HeldMistagged` [default: none].
    #[arg(long, value_name = "DURATION")]
    embargo: Option<Duration>,
    /// List only the days at the ceiling, to find overdue recordings.
    #[arg(long)]
    boundary_only: bool,
    /// Read tag and legal hold of one in this number of versions that no hold covers. 1 reads all.
    #[arg(long, value_name = "NUMBER", default_value_t = 100)]
    sample_one_in: u32,
    /// Format of the result.
    #[arg(long, short, value_enum, default_value_t)]
    output: OutputFormat,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum AuditCommandError {
    #[error(transparent)]
    Target(#[from] TargetArgsError),
    #[error(transparent)]
    Audit(#[from] AuditError),
    #[error("cannot write the result: {0}")]
    Json(#[from] serde_json::Error),
}

/// Audits the bucket and prints the result. Returns whether there are no violations.
pub(crate) async fn run(args: AuditArgs) -> Result<bool, AuditCommandError> {
    let target = args.target.connection()?;
    let age = |embargo: Duration| SignedDuration::try_from(embargo.0).unwrap_or(SignedDuration::MAX);
    let scope = AuditOptions {
        terms: RetentionTerms {
            ceilings: Ceilings { video: args.video_ceiling, calls: args.calls_ceiling },
            embargo: args.embargo.map_or(Embargo::LiveView, |embargo| Embargo::After(age(embargo))),
        },
        range: if args.boundary_only { ScanRange::Boundary } else { ScanRange::All },
        sample_one_in: args.sample_one_in,
        known_holds: None,
        cache: Arc::default(),
    };
    let tally = audit(&target, &scope, Timestamp::now()).await?;
    match args.output {
        OutputFormat::Json => println!("{}", serde_json::to_string_pretty(&tally)?),
        OutputFormat::Table => print!("{}", render_table(&tally)),
    }
    Ok(tally.is_compliant())
}

fn render_table(tally: &Tally) -> String {
    let oldest = |class| {
        let oldest = tally.oldest_unheld.get(&class);
        oldest.map_or("none".to_owned(), ToString::to_string)
    };
    let mut text = format!(
        "versions        {}\nbytes           {}\ndelete markers  {}\nheld            {}\ninspected       {}\noldest video    {}\n\
         oldest call     {}\nlifecycle lag   {} s\n\n",
        tally.versions,
        tally.bytes,
        tally.delete_markers,
        tally.held_versions,
        tally.inspected_versions,
        oldest(Class::Video),
        oldest(Class::Calls),
        tally.lifecycle_lag_seconds.as_secs(),
    );
    for (found, findings) in &tally.findings {
        let kind: &str = found.into();
        let severity = if found.is_violation() { "VIOLATION" } else { "note" };
        let _ = writeln!(text, "{severity:<10} {kind:<19} {}", findings.count);
        for example in &findings.examples {
            let _ = writeln!(text, "           {example}");
        }
    }
    text.push_str(if tally.is_compliant() {
        "No violations.\n"
    } else {
        "Confirmed or possible violations.\n"
    });
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::recordings::audit::FindingKind;

    #[test]
    fn table_marks_violations() {
        let mut tally = Tally::default();
        tally.add(FindingKind::LateUpload, "video/hal/late");
        assert!(
            render_table(&tally)
                .contains("note       LateUpload          1\n           video/hal/late\nNo violations")
        );
        tally.add(FindingKind::Overdue, "video/hal/old");
        assert!(
            render_table(&tally).contains("VIOLATION  Overdue             1\n           video/hal/old\n")
        );
        assert!(render_table(&tally).ends_with("Confirmed or possible violations.\n"));
    }
}
