//! `toezicht holds`: what the ledger in a bucket knows of holds, for when the cluster does not.

use std::collections::BTreeSet;
use std::fmt::Write;

use jiff::Timestamp;
use serde_json::json;

use super::output::OutputFormat;
use super::target::{TargetArgs, TargetArgsError};
use crate::api::{Duration, GROUP, VERSION};
use crate::rules::hold::entry::LedgerEntry;
use crate::storage::recordings::error::HoldError;
use crate::storage::recordings::hold::manifest;
use crate::storage::recordings::hold::manifest::{HoldLinks, NO_MANIFEST, SegmentLink};
use crate::storage::recordings::ledger;

/// What the command line says.
#[derive(Clone, Debug, PartialEq, Eq, clap::Subcommand)]
pub(crate) enum HoldsCommand {
    /// Prints the `IncidentHold`s that the bucket's ledger has open, as `kubectl apply -f -` takes them.
    Restore {
        #[command(flatten)]
        target: TargetArgs,
    },
    /// Prints a link to each segment that is kept for a hold, from its manifest in the bucket, signed with your own
    /// credentials: what you may not read, the link does not open. Whoever has a link can use it as long as it lives.
    Links {
        /// The hold's name.
        name: String,
        #[command(flatten)]
        target: TargetArgs,
        /// How long the links live: at most `15m`.
        #[arg(long, value_name = "DURATION", default_value = "15m")]
        expires_in: Duration,
        /// How they are written.
        #[arg(long, short, value_enum, default_value_t)]
        output: OutputFormat,
    },
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HoldsCommandError {
    /// The bucket is not named well.
    #[error(transparent)]
    Target(#[from] TargetArgsError),
    /// The ledger cannot be read.
    #[error(transparent)]
    Ledger(#[from] HoldError),
    /// There is no manifest, or it may not be read. Who may not list is not told which (`GetObject`, S3 API reference).
    #[error(
        "the manifest of the hold {name:?} cannot be read ({answer}): nothing was placed for a hold of that name, or it is released, or \
         your credentials are those of no manager of its Site and no incident officer, or the bucket is another"
    )]
    NoManifest {
        /// The hold's name.
        name: String,
        /// What the store answered.
        answer: String,
    },
    /// Links would live too long.
    #[error("--expires-in: a link lives 15 minutes at most")]
    LinkTooLong,
    /// The result cannot be written.
    #[error("the result cannot be written: {0}")]
    Json(#[from] serde_json::Error),
    /// The result cannot be written.
    #[error("the result cannot be written: {0}")]
    Yaml(#[from] serde_saphyr::SerializeError),
}

/// Reads the ledger and prints.
pub(crate) async fn run(command: HoldsCommand) -> Result<(), HoldsCommandError> {
    match command {
        HoldsCommand::Restore { target } => {
            let target = target.connection()?;
            let entries = ledger::read_all(&target, &BTreeSet::new()).await?;
            for entry in entries.values().filter(|entry| entry.is_open()) {
                print!("---\n{}", render_hold(entry)?);
            }
            Ok(())
        }
        HoldsCommand::Links { name, target, expires_in: lives, output } => {
            if lives.0 > manifest::MAX_LINK_LIFETIME {
                return Err(HoldsCommandError::LinkTooLong);
            }
            let target = target.connection()?;
            let links = manifest::links(&target, &name, lives.0, Timestamp::now()).await;
            let links = links.map_err(|error| manifest_error(&name, error))?;
            match output {
                OutputFormat::Json => println!("{}", serde_json::to_string_pretty(&links)?),
                OutputFormat::Table => print!("{}", render_table(&links)),
            }
            Ok(())
        }
    }
}

fn manifest_error(name: &str, error: HoldError) -> HoldsCommandError {
    match error {
        HoldError::Storage(error) if error.is_denied() || error.code == NO_MANIFEST => {
            HoldsCommandError::NoManifest { name: name.to_owned(), answer: error.to_string() }
        }
        error => error.into(),
    }
}

fn render_table(links: &HoldLinks) -> String {
    let mut text = String::new();
    for SegmentLink { segment: line, url } in &links.segments {
        let _ = match (url, line.sealed_until) {
            (Some(url), _) => writeln!(text, "{}\t{url}", line.key),
            (None, Some(until)) => writeln!(text, "{}\tsealed until {until} (article 4.2)", line.key),
            (None, None) => Ok(()),
        };
    }
    for missing in &links.missing {
        let (source, from, until) = (&missing.source, missing.from, missing.until);
        let _ = writeln!(text, "{source}\tmissing from {from} until {until}: {}", missing.cause);
    }
    text
}

/// The resource that an entry was written for, as it can be made anew.
fn render_hold(entry: &LedgerEntry) -> Result<String, serde_saphyr::SerializeError> {
    let mut spec = json!({
        "siteRef": {"name": entry.site},
        "calls": entry.calls,
        "window": entry.window,
        "purpose": entry.purpose,
        "reference": entry.reference,
    });
    if let Some(fields) = spec.as_object_mut().filter(|_| !entry.cameras.is_empty()) {
        fields.insert("cameras".to_owned(), json!(entry.cameras));
    }
    serde_saphyr::to_string(&json!({
        "apiVersion": format!("{GROUP}/{VERSION}"),
        "kind": "IncidentHold",
        "metadata": {"name": entry.name, "namespace": entry.namespace},
        "spec": spec,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::IncidentHold;
    use crate::storage::s3::error::StoreError;

    #[test]
    fn unreadable_manifest_error_lists_possible_causes() {
        let answered = |code: &str, status| {
            HoldError::Storage(StoreError { operation: "GetObject", code: code.into(), status })
        };
        for (error, lists_causes) in [
            (answered("AccessDenied", Some(403)), true),
            (answered(NO_MANIFEST, None), true),
            (answered("SlowDown", Some(503)), false),
            (answered("UnreadableManifest", None), false),
        ] {
            let text = manifest_error("incident", error.clone()).to_string();
            assert_eq!(text.contains("or it is released"), lists_causes, "{text}");
            assert!(text.contains(&error.to_string()), "{text}");
        }
    }

    #[test]
    fn restored_yaml_is_the_original_hold() {
        let spec = json!({
            "siteRef": {"name": "hal"}, "cameras": ["a", "b"], "calls": true,
            "window": {"from": "2026-04-12T19:30:00Z", "until": "2026-04-12T20:00:00Z"},
            "purpose": "Theft", "reference": "2026-0412",
        });
        let spec = serde_json::from_value(spec).unwrap();
        let at = jiff::Timestamp::UNIX_EPOCH;
        let entry = LedgerEntry::new("1".into(), "heusden".into(), "incident".into(), &spec, at);
        let printed = render_hold(&entry).unwrap();
        let hold: IncidentHold = serde_saphyr::from_str(&printed).unwrap();
        assert_eq!(hold.spec, spec, "{printed}");
        assert_eq!(hold.metadata.namespace.as_deref(), Some("heusden"));
    }
}
