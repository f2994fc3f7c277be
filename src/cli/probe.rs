//! `toezicht probe`: conformance test of an S3 store before first use.

use std::fmt::Write as _;
use std::io::Write as _;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::output::OutputFormat;
use super::target::{TargetArgs, TargetArgsError};
use crate::api::ConformanceSeverity;
use crate::storage::bucket::probe::request::{ProbeError, ProbeRequest};
use crate::storage::bucket::probe::standalone::ProbeReport;
use crate::storage::bucket::probe::{Row, Verdict, standalone};

const LINE_WIDTH: usize = 100;

/// Tests on an empty bucket whether a store gives the guarantees that Toezicht needs.
///
/// The bucket must be empty and have Object Lock, or use --create-bucket. The probe applies a site's lifecycle rules and
/// bucket policy, writes canaries under probe/, tries each guarantee and judges it by its effect. It removes all of this
/// afterwards.
///
/// Credentials of the operator come from `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN`, or from a
/// profile (`AWS_PROFILE`, `~/.aws`). Credentials of the recorders are optional and come from
/// `TOEZICHT_RECORDER_ACCESS_KEY_ID`, `TOEZICHT_RECORDER_SECRET_ACCESS_KEY` and `TOEZICHT_RECORDER_SESSION_TOKEN`.
///
/// Exit status: 0, no fatal failure; 4, a fatal check failed or gave no clear result; 1, the probe could not
/// be completed.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ProbeArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Operator's name in the store's policies, an ARN or a bare name. Without it, the probe tries no bucket policy.
    #[arg(long, value_name = "PRINCIPAL")]
    operator_principal: Option<String>,
    /// Recorders' name in the store's policies, an ARN or a bare name.
    #[arg(long, value_name = "PRINCIPAL")]
    recorder_principal: Option<String>,
    /// Create the bucket with Object Lock, and delete it afterwards.
    #[arg(long)]
    create_bucket: bool,
    /// Format of the result.
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ProbeCommandError {
    #[error(transparent)]
    Target(#[from] TargetArgsError),
    #[error(transparent)]
    Probe(#[from] ProbeError),
    #[error("cannot print the result: {0}")]
    Print(#[source] std::io::Error),
    #[error("cannot remove these objects or settings from the bucket: {0}; remove them as its administrator")]
    NotCleanedUp(String),
}

/// Probes the store and prints the result. Returns whether no row is fatal.
pub(crate) async fn run(args: ProbeArgs, stop: CancellationToken) -> Result<bool, ProbeCommandError> {
    let request = ProbeRequest {
        operator: args.target.connection()?,
        recorder: args.target.recorder_connection()?,
        operator_principal: args.operator_principal,
        recorder_principal: args.recorder_principal,
        create: args.create_bucket,
    };
    let report = standalone::probe(&request, &stop).await?;
    let text = match args.output {
        OutputFormat::Table => render_table(&report),
        OutputFormat::Json => format!("{:#}\n", to_json(&report, &request)),
    };
    std::io::stdout().write_all(text.as_bytes()).map_err(ProbeCommandError::Print)?;
    // After the result, which is valid even if something is left behind.
    if !report.leftovers.is_empty() {
        return Err(ProbeCommandError::NotCleanedUp(report.leftovers.join(", ")));
    }
    Ok(!report.conformance.rows().iter().any(Row::is_fatal))
}

fn render_table(report: &ProbeReport) -> String {
    let rows = report.conformance.rows();
    let widest = rows.iter().map(|row| row.check.as_str().len()).max().unwrap_or_default();
    let mut text = format!("{:<widest$}  RESULT  SEVERITY  AS\n", "CHECK");
    for row in rows {
        let about = row.check.about();
        let (severity, principal) = (<&str>::from(about.severity), <&str>::from(about.principal));
        let _ = writeln!(
            text,
            "{:<widest$}  {:<7}  {severity:<8}  {}",
            row.check.as_str(),
            row.verdict.as_str(),
            principal.to_lowercase(),
        );
    }
    for (title, severity, has_failed) in [
        ("Fatal: this store is not fit for Toezicht", ConformanceSeverity::Fatal, true),
        ("Weaker protection", ConformanceSeverity::Warning, true),
        ("Unknown", ConformanceSeverity::Fatal, false),
        ("Unknown, weaker protection", ConformanceSeverity::Warning, false),
    ] {
        let is_in = |row: &&Row| {
            row.verdict != Verdict::Passed
                && (row.verdict == Verdict::Failed) == has_failed
                && row.check.about().severity == severity
        };
        let rows: Vec<_> = rows.iter().filter(is_in).collect();
        if !rows.is_empty() {
            let _ = writeln!(text, "\n{title}:");
        }
        for row in rows {
            text.push_str(&describe_row(row));
        }
    }
    for remark in &report.remarks {
        let _ = writeln!(text, "\nRemark: {remark}");
    }
    let count = |wanted: &str| {
        let rows = rows.iter().filter(|row| row.verdict.as_str() == wanted);
        rows.count()
    };
    let _ = writeln!(
        text,
        "\n{} passed, {} failed, {} unknown.",
        count("Passed"),
        count("Failed"),
        count("Unknown"),
    );
    text
}

fn describe_row(row: &Row) -> String {
    let label = match row.verdict {
        Verdict::Unknown(_) => "Reason",
        _ => "Consequence",
    };
    format!(
        "  {}\n{}{}",
        row.check.as_str(),
        wrap(&format!("Expected: {}.", row.check.about().expected)),
        wrap(&format!("{label}: {}.", row.message())),
    )
}

fn wrap(prose: &str) -> String {
    let (mut text, mut line) = (String::new(), String::from("   "));
    for word in prose.split_whitespace() {
        if line.chars().count() + word.chars().count() >= LINE_WIDTH {
            let _ = writeln!(text, "{line}");
            line = String::from("   ");
        }
        line.push(' ');
        line.push_str(word);
    }
    let _ = writeln!(text, "{line}");
    text
}

fn to_json(report: &ProbeReport, request: &ProbeRequest) -> Value {
    let row = |row: &Row| {
        let about = row.check.about();
        json!({
            "name": row.check.as_str(),
            "identity": <&str>::from(about.principal),
            "severity": <&str>::from(about.severity),
            "result": row.verdict.as_str(),
            "expected": about.expected,
            "message": row.message(),
        })
    };
    let rows = report.conformance.rows();
    json!({
        "endpoint": request.operator.target().endpoint,
        "bucket": request.operator.target().bucket,
        "conformant": !rows.iter().any(Row::is_fatal),
        "checks": rows.iter().map(row).collect::<Vec<_>>(),
        "remarks": report.remarks,
        "leftovers": report.leftovers,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::BucketConnection;
    use crate::storage::Conformance;
    use crate::storage::bucket::probe::{Check, UnknownReason};
    use crate::wire::{Credentials, StorageTarget};

    fn report() -> ProbeReport {
        let mut found: Vec<_> = Check::ALL.iter().map(|check| (*check, Verdict::Passed)).collect();
        found[1].1 = Verdict::Failed;
        found.retain(|(check, _)| *check != Check::AnonymousCannotGet);
        found.push((Check::AnonymousCannotGet, Verdict::Unknown(UnknownReason::NotTried("nobody asked"))));
        ProbeReport {
            conformance: Conformance::from_verdicts(&found),
            remarks: vec!["the recorders were tried without a bucket policy: x".into()],
            leftovers: vec![],
        }
    }

    #[test]
    fn table_explains_consequences() {
        let text = render_table(&report());
        for row in ["HeldSurvivesDelete Failed Fatal operator", "AnonymousCannotGet Unknown Fatal anonymous"]
        {
            let is_row = |line: &str| line.split_whitespace().eq(row.split(' '));
            assert!(text.lines().any(is_row), "{row} is not in {text}");
        }
        for part in [
            "Fatal: this store is not fit for Toezicht:\n  HeldSurvivesDelete\n    Expected: a version under",
            "Unknown:\n  AnonymousCannotGet\n    Expected: without credentials, nothing can be read.\n    Reason: nobody asked.\n",
            "Remark: the recorders were tried without",
            " passed, 1 failed, 1 unknown.\n",
        ] {
            assert!(text.contains(part), "{part:?} is not in {text}");
        }
        assert!(text.lines().all(|line| line.chars().count() <= LINE_WIDTH), "{text}");
    }

    #[test]
    fn json_has_every_row_and_no_secret() {
        let target = StorageTarget {
            endpoint: Some("https://s3.example.nl".into()),
            region: "r".into(),
            bucket: "tz-one".into(),
            path_style: true,
            ca_pem: None,
            credentials: Credentials::access_key("id", "hunter2"),
            proxy: None,
        };
        let request = ProbeRequest {
            operator: BucketConnection::new(&target).unwrap(),
            recorder: None,
            operator_principal: None,
            recorder_principal: None,
            create: false,
        };
        let value = to_json(&report(), &request);
        assert_eq!(value["conformant"], false);
        assert_eq!(value["checks"].as_array().unwrap().len(), Check::ALL.len());
        assert_eq!(value["checks"][1]["result"], "Failed");
        assert_eq!(value["checks"][1]["identity"], "Operator");
        assert!(!value.to_string().contains("hunter2"));
    }
}
