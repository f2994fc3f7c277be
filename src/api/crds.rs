//! The definitions of the four kinds, as `toezicht crds` prints them and `crds/` holds them.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

use super::condition::ConditionType::{
    Accepted, AdministratorsExcluded, InForce, Permitted, Placed, Ready, Recording, StorageEnforced,
};
use super::{Camera, IncidentHold, RecordingPolicy, Site, rules, schema};

/// Why the definitions could not be written.
#[derive(Debug, thiserror::Error)]
pub enum CrdsError {
    /// A definition could not be written as YAML.
    #[error("a definition cannot be written as YAML: {0}")]
    Yaml(String),
    /// The file or the output could not be written.
    #[error("{path}: {source}")]
    Write {
        /// Which.
        path: String,
        /// Why.
        source: io::Error,
    },
}

impl CrdsError {
    /// What kind of error it is, for metrics.
    pub const fn category(&self) -> &'static str {
        match self {
            Self::Yaml(_) => "yaml",
            Self::Write { .. } => "write",
        }
    }

    /// The error for people; definitions are no secret.
    pub fn safe_message(&self) -> String {
        self.to_string()
    }
}

/// The definitions of the four kinds, in the order in which they are best read.
pub fn crds() -> Vec<CustomResourceDefinition> {
    vec![
        schema::complete(
            RecordingPolicy::crd(),
            rules::RECORDING_POLICY,
            &[Accepted, InForce, Ready],
        ),
        schema::complete(
            Site::crd(),
            rules::SITE,
            &[
                Accepted,
                Permitted,
                StorageEnforced,
                Recording,
                AdministratorsExcluded,
                Ready,
            ],
        ),
        schema::complete(
            Camera::crd(),
            rules::CAMERA,
            &[Accepted, Permitted, Recording, Ready],
        ),
        schema::complete(IncidentHold::crd(), &[], &[Accepted, Placed, Ready]),
    ]
}

/// Each definition as YAML, with the name of its file in `crds/`.
pub fn files() -> Result<Vec<(String, String)>, CrdsError> {
    crds()
        .iter()
        .map(|definition| {
            let yaml =
                serde_saphyr::to_string(definition).map_err(|error| CrdsError::Yaml(error.to_string()))?;
            let plural = &definition.spec.names.plural;
            Ok((
                format!("{}_{plural}.yaml", definition.spec.group),
                format!("{}\n", yaml.trim_end()),
            ))
        })
        .collect()
}

/// What `toezicht crds` does: prints the definitions as one stream of YAML documents, or writes a file for
/// each into `dir`.
pub fn print(dir: Option<PathBuf>) -> Result<(), CrdsError> {
    let files = files()?;
    match dir {
        Some(dir) => {
            std::fs::create_dir_all(&dir).map_err(|source| unwritable(&dir, source))?;
            for (name, yaml) in files {
                let path = dir.join(name);
                std::fs::write(&path, yaml).map_err(|source| unwritable(&path, source))?;
            }
            Ok(())
        }
        None => {
            let stream: String = files.iter().map(|(_, yaml)| format!("---\n{yaml}")).collect();
            let written = io::stdout().lock().write_all(stream.as_bytes());
            written.map_err(|source| unwritable(Path::new("standard output"), source))
        }
    }
}

fn unwritable(path: &Path, source: io::Error) -> CrdsError {
    CrdsError::Write {
        path: path.display().to_string(),
        source,
    }
}
