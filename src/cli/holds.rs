//! `toezicht holds`: reads holds from the ledger in a bucket, even if the cluster is lost.

use std::collections::BTreeSet;
use std::fmt::Write;

use jiff::Timestamp;
use serde_json::json;

use super::output::OutputFormat;
use super::target::{TargetArgs, TargetArgsError};
use crate::api::{Duration, GROUP, VERSION};
use crate::rules::{CameraSelector, LedgerEntry};
use crate::storage::HoldError;
use crate::storage::recordings::hold::manifest;
use crate::storage::recordings::hold::manifest::{HoldLinks, NO_MANIFEST, SegmentLink};
use crate::storage::recordings::ledger;

#[derive(Clone, Debug, PartialEq, Eq, clap::Subcommand)]
pub(crate) enum HoldsCommand {
    /// Prints the open `IncidentHold`s of the bucket's ledger as YAML for `kubectl apply -f -`.
    Restore {
        #[command(flatten)]
        target: TargetArgs,
    },
    /// Prints a link to each segment that a hold keeps, based on its manifest in the bucket.
    ///
    /// The links are signed with your credentials and open only segments that you can read. Anyone who has a link can use it
    /// until it expires.
    Links {
        /// Name of the hold.
        name: String,
        #[command(flatten)]
        target: TargetArgs,
        /// Lifetime of the links, at most `15m`.
        #[arg(long, value_name = "DURATION", default_value = "15m")]
        expires_in: Duration,
        /// Format of the links.
        #[arg(long, short, value_enum, default_value_t)]
        output: OutputFormat,
    },
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum HoldsCommandError {
    #[error(transparent)]
    Target(#[from] TargetArgsError),
    #[error(transparent)]
    Ledger(#[from] HoldError),
    /// The manifest does not exist, or the store denies access. To a caller without permission to list, S3 answers both alike
    /// (`GetObject`, S3 API reference).
    #[error(
        "cannot read the manifest of the hold {name:?} ({answer}): the hold does not exist, keeps nothing or is released, your \
         credentials belong to no manager or incident officer of its Site, or --bucket is wrong"
    )]
    NoManifest { name: String, answer: String },
    #[error("--expires-in: longer than 15m; set a shorter lifetime")]
    LinkTooLong,
    #[error("cannot write the result: {0}")]
    Json(#[from] serde_json::Error),
    #[error("cannot write the result: {0}")]
    Yaml(#[from] serde_saphyr::SerializeError),
}

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
        HoldsCommand::Links { name, target, expires_in, output } => {
            if expires_in.0 > manifest::MAX_LINK_LIFETIME {
                return Err(HoldsCommandError::LinkTooLong);
            }
            let target = target.connection()?;
            let links = manifest::links(&target, &name, expires_in.0, Timestamp::now()).await;
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
        // Without the right to list the bucket, S3 answers 403 even for an object that does not exist.
        HoldError::Storage(error) if error.is_denied() || error.code == NO_MANIFEST => {
            HoldsCommandError::NoManifest { name: name.to_owned(), answer: error.to_string() }
        }
        error => error.into(),
    }
}

fn render_table(links: &HoldLinks) -> String {
    let mut text = String::new();
    for SegmentLink { segment, url } in &links.segments {
        let _ = match (url, segment.sealed_until) {
            (Some(url), _) => writeln!(text, "{}\t{url}", segment.key),
            (None, Some(until)) => writeln!(text, "{}\tsealed until {until} (article 4.2)", segment.key),
            (None, None) => Ok(()),
        };
    }
    for missing in &links.missing {
        let (source, from, until) = (&missing.source, missing.from, missing.until);
        let _ = writeln!(text, "{source}\tmissing from {from} until {until}: {}", missing.cause);
    }
    text
}

/// Renders the resource of an entry, so that users can re-create it.
fn render_hold(entry: &LedgerEntry) -> Result<String, serde_saphyr::SerializeError> {
    let mut spec = json!({
        "siteRef": {"name": entry.site},
        "includeCalls": entry.scope.calls,
        "window": entry.scope.window,
        "purpose": entry.purpose,
        "reference": entry.reference,
    });
    if let (CameraSelector::Named(cameras), Some(fields)) = (&entry.scope.cameras, spec.as_object_mut()) {
        fields.insert("cameras".to_owned(), json!(cameras));
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
    use crate::api::{IncidentHold, IncidentHoldSpec};
    use crate::storage::StoreError;

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
            assert_eq!(text.contains("is released"), lists_causes, "{text}");
            assert!(text.contains(&error.to_string()), "{text}");
        }
    }

    #[test]
    fn restored_yaml_is_the_original_hold() {
        let spec = json!({
            "siteRef": {"name": "hal"}, "cameras": ["a", "b"], "includeCalls": true,
            "window": {"from": "2026-04-12T19:30:00Z", "until": "2026-04-12T20:00:00Z"},
            "purpose": "Theft", "reference": "2026-0412",
        });
        let spec: IncidentHoldSpec = serde_json::from_value(spec).unwrap();
        assert!(spec.include_calls);
        let at = jiff::Timestamp::UNIX_EPOCH;
        let entry = LedgerEntry::new("1".into(), "heusden".into(), "incident".into(), &spec, at);
        let printed = render_hold(&entry).unwrap();
        let hold: IncidentHold = serde_saphyr::from_str(&printed).unwrap();
        assert_eq!(hold.spec, spec, "{printed}");
        assert_eq!(hold.metadata.namespace.as_deref(), Some("heusden"));
    }
}
