//! `toezicht iam`: the documents that each identity needs at the store, for those who give out rights there.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde::de::DeserializeOwned;

use crate::api::{GROUP, RecordingPolicy, Site};
use crate::storage::bucket::policy::iam;
use crate::storage::bucket::policy::iam::{IamError, IamFormat};

/// What `toezicht iam` is told.
#[derive(Debug, Args)]
pub struct IamArgs {
    /// File with the Site; other resources beside it are let be.
    #[arg(value_name = "SITE.yaml")]
    file: PathBuf,
    /// File with the `RecordingPolicy` that the Site names, unless it stands in the Site's file: its incident officers
    /// are readers too.
    #[arg(long, value_name = "POLICY.yaml")]
    policy: Option<PathBuf>,
    /// Name of the Site, where the file has several.
    #[arg(long, value_name = "NAME")]
    site: Option<String>,
    /// For which store.
    #[arg(long, value_enum)]
    store: StoreArg,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum StoreArg {
    /// A bucket policy to begin with, and what each identity may.
    Aws,
    /// The same, in the words that Ceph's gateway knows.
    Ceph,
    /// A bucket policy to begin with, and each identity as SeaweedFS' S3 configuration has it.
    Seaweedfs,
    /// All rights and all Denies in identity policies alone, for a store that heeds no others.
    IdentityPolicies,
}

/// Why nothing was printed.
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
    #[error("{}: {what}", .file.display())]
    Content { file: PathBuf, what: String },
    #[error("{}: {error}", .file.display())]
    Documents {
        file: PathBuf,
        #[source]
        error: IamError,
    },
    #[error("the documents cannot be written: {0}")]
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

/// What is printed, and what to tell beside it.
fn render(args: &IamArgs) -> Result<(String, Option<String>), IamCommandError> {
    let documents = read_documents(&args.file)?;
    let site = find_one::<Site>(&args.file, &documents, "Site", args.site.as_deref())?;
    let policy_name = site.spec.policy_ref.name.as_str();
    let policy = match &args.policy {
        Some(file) => Some(find_one::<RecordingPolicy>(
            file,
            &read_documents(file)?,
            "RecordingPolicy",
            Some(policy_name),
        )?),
        None if documents.iter().any(|document| document.matches("RecordingPolicy", Some(policy_name))) => {
            Some(find_one::<RecordingPolicy>(&args.file, &documents, "RecordingPolicy", Some(policy_name))?)
        }
        None => None,
    };
    let form = match args.store {
        StoreArg::Aws => IamFormat::Aws,
        StoreArg::Ceph => IamFormat::Ceph,
        StoreArg::Seaweedfs => IamFormat::SeaweedFs,
        StoreArg::IdentityPolicies => IamFormat::IdentityPolicies,
    };
    let file = args.file.clone();
    let documents = iam::documents(&site, policy.as_ref(), form)
        .map_err(|error| IamCommandError::Documents { file, error })?;
    let hint = policy.is_none().then(|| {
        format!("the incident officers of the policy {policy_name:?} are not among the readers: give its file with --policy")
    });
    Ok((serde_json::to_string_pretty(&documents).unwrap_or_default(), hint))
}

/// A resource in a file, as it was read.
struct Document {
    /// Which of the file's, from one.
    number: usize,
    value: serde_json::Value,
}

impl Document {
    fn str_at(&self, pointer: &str) -> &str {
        self.value.pointer(pointer).and_then(serde_json::Value::as_str).unwrap_or_default()
    }

    /// Whether it is of this kind of ours and, if one is given, has this name.
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
        let what = format!("not YAML: {error}");
        IamCommandError::Content { file: file.to_owned(), what }
    })?;
    let numbered = values.into_iter().enumerate();
    Ok(numbered.map(|(n, value)| Document { number: n + 1, value }).collect())
}

/// The one resource of a kind, and of a name where one is asked for.
fn find_one<T: DeserializeOwned>(
    file: &Path,
    documents: &[Document],
    kind: &str,
    name: Option<&str>,
) -> Result<T, IamCommandError> {
    let content = |what: String| IamCommandError::Content { file: file.to_owned(), what };
    let mut found = documents.iter().filter(|document| document.matches(kind, name));
    let qualifier = name.map(|name| format!(" named {name:?}")).unwrap_or_default();
    let document =
        found.next().ok_or_else(|| content(format!("there is no {kind}{qualifier} of {GROUP} in it")))?;
    if found.next().is_some() {
        return Err(content(format!("there are several of kind {kind}{qualifier}: name one with --site")));
    }
    serde_path_to_error::deserialize(&document.value).map_err(|error| IamCommandError::Syntax {
        file: file.to_owned(),
        number: document.number,
        error: format!("{kind}: {}: {}", error.path(), error.inner()),
    })
}

#[cfg(test)]
mod tests;
