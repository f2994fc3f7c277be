//! `toezicht audit`: whether a bucket keeps the promises, by what is in it alone, for who does not trust the operator.

use std::fmt::Write;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::output::Output;
use super::target::{TargetArgs, TargetArgsError};
use crate::api::{Ceilings, Days, Duration};
use crate::protocol::recording::Class;
use crate::storage::audit::{AuditError, Scope, Tally, audit};
use crate::storage::sweep::Reach;

/// What the command line says.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub(super) struct AuditArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// The longest that video may live (article 6).
    #[arg(long, value_name = "DAYS", default_value = "28d")]
    video: Days,
    /// The longest that recorded calls may live (article 6).
    #[arg(long, value_name = "DAYS", default_value = "7d")]
    calls: Days,
    /// How old a recording must be to be readable, where there is no live viewing (article 4.2) [default: the site has
    /// live viewing].
    #[arg(long, value_name = "DURATION")]
    embargo: Option<Duration>,
    /// List only the days at the ceiling: whether anything is overdue.
    #[arg(long)]
    boundary: bool,
    /// Of so many versions that no hold covers, read tag and legal hold of one; 1 reads all.
    #[arg(long, value_name = "NUMBER", default_value_t = 100)]
    one_in: u32,
    /// How the result is written.
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub(super) enum AuditCommandError {
    /// The bucket is not named well.
    #[error(transparent)]
    Target(#[from] TargetArgsError),
    /// It could not be audited.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The result cannot be written.
    #[error("the result cannot be written: {0}")]
    Json(#[from] serde_json::Error),
}

/// Audits, and prints what was found; whether no promise is broken.
pub(super) async fn run(args: AuditArgs) -> Result<bool, AuditCommandError> {
    let target = args.target.target()?;
    let embargo =
        args.embargo.map(|embargo| SignedDuration::try_from(embargo.0).unwrap_or(SignedDuration::MAX));
    let scope = Scope {
        ceilings: Ceilings { video: args.video, calls: args.calls },
        embargo,
        reach: if args.boundary { Reach::Boundary } else { Reach::All },
        one_in: args.one_in,
        known: None,
        memory: Arc::default(),
    };
    let tally = audit(&target, &scope, Timestamp::now()).await?;
    match args.output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&tally)?),
        Output::Table => print!("{}", table(&tally)),
    }
    Ok(tally.is_compliant())
}

fn table(tally: &Tally) -> String {
    let oldest = |class| {
        let oldest = tally.oldest_unheld.get(&class);
        oldest.map_or("none".to_owned(), ToString::to_string)
    };
    let mut text = format!(
        "versions        {}\nbytes           {}\ndelete markers  {}\nheld            {}\ninspected       {}\noldest video    {}\n\
         oldest call     {}\nstore lag       {} s\n\n",
        tally.versions,
        tally.bytes,
        tally.markers,
        tally.held,
        tally.inspected,
        oldest(Class::Video),
        oldest(Class::Calls),
        tally.store_lag.as_secs(),
    );
    for (found, findings) in &tally.found {
        let kind: &str = found.into();
        let weight = if found.is_violation() { "VIOLATION" } else { "note" };
        let _ = writeln!(text, "{weight:<10} {kind:<19} {}", findings.count);
        for example in &findings.examples {
            let _ = writeln!(text, "           {example}");
        }
    }
    text.push_str(if tally.is_compliant() {
        "No promise is broken by what is in the bucket.\n"
    } else {
        "A promise is broken, or may be.\n"
    });
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::audit::Found;

    #[test]
    fn what_breaks_a_promise_stands_out() {
        let mut tally = Tally::default();
        tally.add(Found::LateUpload, "video/hal/late");
        assert!(
            table(&tally).contains("note       LateUpload          1\n           video/hal/late\nNo promise")
        );
        tally.add(Found::Overdue, "video/hal/old");
        assert!(table(&tally).contains("VIOLATION  Overdue             1\n           video/hal/old\n"));
        assert!(table(&tally).ends_with("A promise is broken, or may be.\n"));
    }
}
