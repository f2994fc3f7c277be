//! `toezicht crds`: the custom resource definitions, which are also in `crds/`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

use crate::api::condition::ConditionType::{
    Accepted, AccessRestricted, AdministratorsExcluded, Compliant, InForce, Intact, Permitted, Placed, Ready,
    Recording, RecordingsFound, SpoolPersistent, StorageEnforced,
};
use crate::api::{Camera, IncidentHold, RecordingPolicy, Site, cel, schema};

#[derive(Debug, thiserror::Error)]
pub enum CrdsError {
    #[error("a definition cannot be written as YAML: {0}")]
    Yaml(String),
    #[error("{path}: {source}")]
    Write { path: String, source: io::Error },
}

/// Returns the definitions of the four kinds, in the order in which users create the objects.
pub fn definitions() -> Vec<CustomResourceDefinition> {
    vec![
        schema::complete_definition(
            RecordingPolicy::crd(),
            RecordingPolicy::columns(),
            cel::RECORDING_POLICY,
            &[Accepted, InForce, Ready],
        ),
        schema::complete_definition(
            Site::crd(),
            Site::columns(),
            cel::SITE,
            &[
                Accepted,
                Permitted,
                StorageEnforced,
                AccessRestricted,
                Recording,
                Compliant,
                Intact,
                AdministratorsExcluded,
                SpoolPersistent,
                Ready,
            ],
        ),
        schema::complete_definition(
            Camera::crd(),
            Camera::columns(),
            cel::CAMERA,
            &[Accepted, Permitted, Recording, Ready],
        ),
        schema::complete_definition(
            IncidentHold::crd(),
            IncidentHold::columns(),
            cel::INCIDENT_HOLD,
            &[Accepted, Placed, RecordingsFound, Ready],
        ),
    ]
}

/// Returns each definition as YAML, with its file name in `crds/`.
pub fn yaml_files() -> Result<Vec<(String, String)>, CrdsError> {
    definitions()
        .iter()
        .map(|definition| {
            let yaml =
                serde_saphyr::to_string(definition).map_err(|error| CrdsError::Yaml(error.to_string()))?;
            let plural = &definition.spec.names.plural;
            Ok((format!("{}_{plural}.yaml", definition.spec.group), format!("{}\n", yaml.trim_end())))
        })
        .collect()
}

/// Writes each definition to a file in `dir`, or all to standard output as a stream of YAML documents.
pub fn write(dir: Option<PathBuf>) -> Result<(), CrdsError> {
    let files = yaml_files()?;
    let Some(dir) = dir else {
        let stream: Vec<String> = files.into_iter().map(|(_, yaml)| format!("---\n{yaml}")).collect();
        let written = io::stdout().lock().write_all(stream.concat().as_bytes());
        return written.map_err(|source| write_error(Path::new("standard output"), source));
    };
    std::fs::create_dir_all(&dir).map_err(|source| write_error(&dir, source))?;
    for (name, yaml) in files {
        let path = dir.join(name);
        std::fs::write(&path, yaml).map_err(|source| write_error(&path, source))?;
    }
    Ok(())
}

fn write_error(path: &Path, source: io::Error) -> CrdsError {
    CrdsError::Write { path: path.display().to_string(), source }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
        JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
    };

    use super::*;

    #[test]
    fn committed_crds_match_generated_crds() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds");
        for (name, yaml) in yaml_files().unwrap() {
            let committed = std::fs::read_to_string(dir.join(&name)).unwrap_or_default();
            assert!(committed == yaml, "crds/{name} is out of date: run `make crds` and commit");
        }
        let count = std::fs::read_dir(&dir).unwrap().count();
        assert_eq!(count, definitions().len(), "crds/ has a file of no kind");
    }

    #[test]
    fn crd_yaml_round_trips() {
        for (definition, (name, yaml)) in definitions().iter().zip(yaml_files().unwrap()) {
            let read: serde_json::Value = serde_saphyr::from_str(&yaml).unwrap();
            assert_eq!(read, serde_json::to_value(definition).unwrap(), "{name}");
        }
    }

    /// Adds the path of every value without a bound and every field without a description to `found`.
    fn collect_missing_constraints(path: &str, schema: &JSONSchemaProps, found: &mut Vec<String>) {
        let bounded = schema.max_length.is_some() || schema.enum_.is_some() || schema.format.is_some();
        match schema.type_.as_deref() {
            Some("string") if !bounded => found.push(format!("{path}: maxLength")),
            Some("array") if schema.max_items.is_none() => found.push(format!("{path}: maxItems")),
            Some("integer") if schema.format.as_deref().is_some_and(|format| format.starts_with("uint")) => {
                found.push(format!("{path}: a format that Kubernetes knows"));
            }
            _ => {}
        }
        if schema.x_kubernetes_int_or_string == Some(true) && schema.max_length.is_none() {
            found.push(format!("{path}: maxLength"));
        }
        for (name, property) in schema.properties.iter().flatten() {
            let path = format!("{path}.{name}");
            if !["apiVersion", "kind", "metadata"].contains(&name.as_str())
                && property.description.as_ref().is_none_or(String::is_empty)
            {
                found.push(format!("{path}: description"));
            }
            collect_missing_constraints(&path, property, found);
        }
        if let Some(JSONSchemaPropsOrArray::Schema(item)) = &schema.items {
            collect_missing_constraints(&format!("{path}[]"), item, found);
        }
        if let Some(JSONSchemaPropsOrBool::Schema(value)) = &schema.additional_properties {
            if schema.max_properties.is_none() {
                found.push(format!("{path}: maxProperties"));
            }
            collect_missing_constraints(&format!("{path}{{}}"), value, found);
        }
        for rule in schema.x_kubernetes_validations.iter().flatten() {
            let says_remedy = rule.message.as_ref().is_some_and(|message| message.contains([';', ':']));
            if !says_remedy {
                found.push(format!("{path}: a message with the remedy for {}", rule.rule));
            }
        }
    }

    fn property_names(schema: &JSONSchemaProps, found: &mut Vec<String>) {
        for (name, property) in schema.properties.iter().flatten() {
            found.push(name.clone());
            property_names(property, found);
        }
        if let Some(JSONSchemaPropsOrArray::Schema(item)) = &schema.items {
            property_names(item, found);
        }
    }

    /// kubectl, Helm, Flux and Argo CD read YAML 1.1, where these words are booleans. Users would have to quote a field
    /// with such a name.
    #[test]
    fn no_field_name_is_a_yaml_boolean() {
        let mut names = Vec::new();
        for definition in definitions() {
            for version in &definition.spec.versions {
                let schema = version.schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
                property_names(schema, &mut names);
            }
        }
        assert!(names.iter().any(|name| name == "worksCouncilConsent"));
        let words = ["y", "n", "yes", "no", "on", "off", "true", "false"];
        names.retain(|name| words.contains(&name.to_lowercase().as_str()));
        assert!(names.is_empty(), "{names:?}");
    }

    #[test]
    fn schema_bounds_every_value_and_describes_every_field() {
        let mut found = Vec::new();
        for definition in definitions() {
            for version in &definition.spec.versions {
                let schema = version.schema.as_ref().and_then(|schema| schema.open_api_v3_schema.as_ref());
                collect_missing_constraints(&definition.spec.names.kind, schema.unwrap(), &mut found);
            }
        }
        assert!(found.is_empty(), "the schema lacks:\n{}", found.join("\n"));
    }
}
