//! `toezicht iam`: policies of each identity at the store, for the store's administrators.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::de::DeserializeOwned;

use crate::api::{GROUP, RecordingPolicy, Site};
use crate::storage::bucket::policy::iam;
use crate::storage::bucket::policy::iam::{IamError, IamFormat};

#[derive(Debug, Args)]
pub struct IamArgs {
    /// File with the Site. Other resources in it are ignored.
    #[arg(value_name = "SITE.yaml")]
    file: PathBuf,
    /// File with the `RecordingPolicy` of the Site, whose incident officers are readers too [default: the Site's file].
    #[arg(long, value_name = "POLICY.yaml")]
    policy: Option<PathBuf>,
    /// Name of the Site. Required if the file has several.
    #[arg(long, value_name = "NAME")]
    site: Option<String>,
    /// Type of store.
    #[arg(long, value_enum)]
    store: IamFormat,
}

#[derive(Debug, thiserror::Error)]
pub enum IamCommandError {
    #[error("{}: {error}", .file.display())]
    Unreadable {
        file: PathBuf,
        #[source]
        error: std::io::Error,
    },
    #[error("{}: document {number}: {error}", .file.display())]
    Syntax { file: PathBuf, number: usize, error: String },
    #[error("{}: {problem}", .file.display())]
    Content { file: PathBuf, problem: String },
    #[error("{}: {error}", .file.display())]
    Documents {
        file: PathBuf,
        #[source]
        error: IamError,
    },
    #[error("cannot write the documents: {0}")]
    Write(#[source] std::io::Error),
}

/// Prints the documents as one JSON object, by identity.
pub fn run(args: &IamArgs) -> Result<(), IamCommandError> {
    use std::io::Write as _;
    let (text, hint) = render(args)?;
    if let Some(hint) = hint {
        eprintln!("toezicht: {hint}");
    }
    writeln!(std::io::stdout().lock(), "{text}").map_err(IamCommandError::Write)
}

/// Returns the JSON for standard output, and a hint for standard error.
fn render(args: &IamArgs) -> Result<(String, Option<String>), IamCommandError> {
    let documents = read_documents(&args.file)?;
    let site = find_one::<Site>(&args.file, &documents, "Site", args.site.as_deref())?;
    let policy_name = site.spec.policy_ref.name.as_str();
    let find_policy = |file: &Path, documents: &[Document]| {
        find_one::<RecordingPolicy>(file, documents, "RecordingPolicy", Some(policy_name))
    };
    let is_policy = |document: &Document| document.matches("RecordingPolicy", Some(policy_name));
    let policy = match &args.policy {
        Some(file) => Some(find_policy(file, &read_documents(file)?)?),
        None if documents.iter().any(is_policy) => Some(find_policy(&args.file, &documents)?),
        None => None,
    };
    let file = args.file.clone();
    let documents = iam::documents(&site, policy.as_ref(), args.store)
        .map_err(|error| IamCommandError::Documents { file, error })?;
    let hint = policy.is_none().then(|| {
        format!("the output omits the incident officers of the policy {policy_name:?}; pass its file with --policy")
    });
    Ok((serde_json::to_string_pretty(&documents).unwrap_or_default(), hint))
}

struct Document {
    /// Position in the file, from 1.
    number: usize,
    value: serde_json::Value,
}

impl Document {
    fn str_at(&self, pointer: &str) -> &str {
        self.value.pointer(pointer).and_then(serde_json::Value::as_str).unwrap_or_default()
    }

    /// Returns whether the document is of this kind of our API group and has the name, if one is given.
    fn matches(&self, kind: &str, name: Option<&str>) -> bool {
        let group = self.str_at("/apiVersion").split('/').next();
        group == Some(GROUP)
            && self.str_at("/kind") == kind
            && name.is_none_or(|name| self.str_at("/metadata/name") == name)
    }
}

fn read_documents(file: &Path) -> Result<Vec<Document>, IamCommandError> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| IamCommandError::Unreadable { file: file.to_owned(), error })?;
    let values = serde_saphyr::from_multiple::<serde_json::Value>(&text).map_err(|error| {
        let problem = format!("not YAML: {error}");
        IamCommandError::Content { file: file.to_owned(), problem }
    })?;
    let numbered = values.into_iter().enumerate();
    Ok(numbered.map(|(n, value)| Document { number: n + 1, value }).collect())
}

/// Returns the only resource of a kind, and of a name if one is given.
fn find_one<T: DeserializeOwned>(
    file: &Path,
    documents: &[Document],
    kind: &str,
    name: Option<&str>,
) -> Result<T, IamCommandError> {
    let content = |problem: String| IamCommandError::Content { file: file.to_owned(), problem };
    let mut found = documents.iter().filter(|document| document.matches(kind, name));
    let qualifier = name.map(|name| format!(" named {name:?}")).unwrap_or_default();
    let document =
        found.next().ok_or_else(|| content(format!("contains no {kind}{qualifier} of {GROUP}")))?;
    if found.next().is_some() {
        return Err(content(format!(
            "contains several resources of kind {kind}{qualifier}; select one with --site"
        )));
    }
    serde_path_to_error::deserialize(&document.value).map_err(|error| IamCommandError::Syntax {
        file: file.to_owned(),
        number: document.number,
        error: format!("{kind}: {}: {}", error.path(), error.inner()),
    })
}

#[cfg(test)]
mod tests;
