//! The files under `examples/`: valid objects, and edits of them that the API server must reject.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::server::Cause;
use crate::support::settings::root;

/// One file under `examples/invalid/<kind>/`.
#[derive(Debug)]
pub struct Case {
    /// `<kind>/<file>`.
    pub name: String,
    /// The folder: a kind in lowercase.
    pub kind: String,
    /// Object to create first, or `None` if the case is about creation.
    pub before: Option<Value>,
    /// Object or change that must be rejected.
    pub after: Value,
    /// Expected cause of the rejection.
    pub expect: Expectation,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expectation {
    pub field: String,
    pub message: String,
}

type Edits = BTreeMap<String, Value>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseFile {
    from: String,
    edit: Option<Edits>,
    before: Option<Edits>,
    after: Option<Edits>,
    expect: Expectation,
}

impl Case {
    /// Reads all cases, sorted by path.
    pub fn load_all() -> Vec<Self> {
        yaml_files(&root().join("examples/invalid")).iter().map(|path| Self::read(path)).collect()
    }

    fn read(path: &Path) -> Self {
        let kind = path.parent().and_then(Path::file_name).unwrap().to_string_lossy().into_owned();
        let stem = path.file_stem().unwrap().to_string_lossy();
        let name = format!("{kind}/{stem}");
        let file: CaseFile = serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut base = read_documents(&root().join("examples").join(&file.from))
            .into_iter()
            .find(|object| object["kind"].as_str().is_some_and(|found| found.to_lowercase() == kind))
            .unwrap_or_else(|| panic!("{name}: no {kind} in {}", file.from));
        let (before, after) = match (file.edit, file.before, file.after) {
            (Some(edits), None, None) => (None, apply_edits(base, &edits, &name)),
            (None, Some(before), Some(after)) => {
                // Cases run concurrently, so each needs an object of its own.
                base["metadata"]["name"] = stem.chars().take(40).collect::<String>().into();
                let before = apply_edits(base, &before, &name);
                let after = apply_edits(before.clone(), &after, &name);
                (Some(before), after)
            }
            _ => panic!("{name}: write either edit, or before and after"),
        };
        Self { name, kind, before, after, expect: file.expect }
    }

    /// Returns whether a rejection's cause is the expected one.
    pub fn expects(&self, cause: &Cause) -> bool {
        cause.field == self.expect.field && cause.message.contains(&self.expect.message)
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// Returns every valid object under `examples/` with its file.
pub fn example_objects() -> Vec<(String, Value)> {
    let dir = root().join("examples");
    let mut objects = Vec::new();
    for path in yaml_files(&dir).into_iter().filter(|path| !path.starts_with(dir.join("invalid"))) {
        for object in read_documents(&path) {
            // Kustomizations are for kubectl, not for the API server. `make demo` applies this one.
            if object["kind"] != "Kustomization" {
                objects.push((path.strip_prefix(&dir).unwrap().display().to_string(), object));
            }
        }
    }
    objects
}

/// Returns the YAML files under a folder, sorted by path.
fn yaml_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(yaml_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn read_documents(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.split("\n---\n")
        .map(|document| {
            serde_saphyr::from_str(document).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        })
        .collect()
}

fn apply_edits(mut object: Value, edits: &Edits, case: &str) -> Value {
    for (path, value) in edits {
        let steps: Vec<&str> = path.split('.').collect();
        set_path(&mut object, &steps, value).unwrap_or_else(|| panic!("{case}: no field at {path}"));
    }
    object
}

/// Sets the field at the path `steps` to `value`, or removes it if `value` is null.
fn set_path(part: &mut Value, steps: &[&str], value: &Value) -> Option<()> {
    let (step, rest) = steps.split_first()?;
    match part {
        Value::Object(fields) if rest.is_empty() && value.is_null() => {
            fields.remove(*step)?;
        }
        Value::Object(fields) if rest.is_empty() => {
            fields.insert((*step).to_owned(), value.clone());
        }
        Value::Object(fields) => {
            let field =
                fields.entry((*step).to_owned()).or_insert_with(|| Value::Object(serde_json::Map::new()));
            set_path(field, rest, value)?;
        }
        Value::Array(items) => {
            let index: usize = step.parse().ok()?;
            if index == items.len() && rest.is_empty() {
                items.push(value.clone());
            } else if rest.is_empty() {
                *items.get_mut(index)? = value.clone();
            } else {
                set_path(items.get_mut(index)?, rest, value)?;
            }
        }
        _ => return None,
    }
    Some(())
}
