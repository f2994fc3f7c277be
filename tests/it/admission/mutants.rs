//! Every CEL rule is needed: without it, the definition admits a case that the full definition rejects.

use futures::StreamExt;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::Value;
use toezicht::cli::crds;

use super::case::Case;
use super::server::{AdmissionResult, Server, newest_client};

/// A definition without one of its CEL rules.
struct Mutant {
    definition: CustomResourceDefinition,
    kind: String,
    /// Field that the rule's rejection names, without indices.
    field: String,
    rule: String,
    message: String,
}

/// Checks for every rule of every kind that removing it admits at least one of its cases.
pub async fn each_rule_rejects_some_case() {
    let cases = Case::load_all();
    let mutants: Vec<Mutant> = crds::definitions().iter().flat_map(mutants_of).collect();
    assert!(mutants.len() >= 60, "only {} rules were found", mutants.len());
    let client = newest_client().await;
    let unneeded: Vec<String> = futures::stream::iter(mutants.iter().enumerate())
        .map(async |(number, mutant)| {
            let targeted: Vec<&Case> = cases.iter().filter(|case| mutant.is_targeted_by(case)).collect();
            if targeted.is_empty() {
                return Some(format!(
                    "{} {}: no case names the rule {}",
                    mutant.kind, mutant.field, mutant.rule
                ));
            }
            let group = format!("mutant{number}.toezicht.dev");
            let server =
                Server::with_definitions(client.clone(), "mutant", &group, vec![mutant.definition.clone()])
                    .await;
            let mut is_admitted = false;
            for case in targeted {
                is_admitted = is_admitted || matches!(server.try_case(case).await, AdmissionResult::Admitted);
            }
            server.clean_up().await;
            (!is_admitted).then(|| {
                format!(
                    "{} {}: without {} every case is still rejected",
                    mutant.kind, mutant.field, mutant.rule
                )
            })
        })
        .buffer_unordered(4)
        .filter_map(async |unneeded| unneeded)
        .collect()
        .await;
    assert!(unneeded.is_empty(), "{} of {} rules:\n{}", unneeded.len(), mutants.len(), unneeded.join("\n"));
}

impl Mutant {
    fn is_targeted_by(&self, case: &Case) -> bool {
        let field: String =
            case.expect.field.split('[').map(|part| part.split_once(']').map_or(part, |p| p.1)).collect();
        case.kind == self.kind && field == self.field && self.message.contains(&case.expect.message)
    }
}

fn mutants_of(definition: &CustomResourceDefinition) -> Vec<Mutant> {
    let mut whole = serde_json::to_value(definition).unwrap();
    // Printer columns do not affect validation and would cost the server time.
    whole["spec"]["versions"][0].as_object_mut().unwrap().remove("additionalPrinterColumns");
    let schema = &whole["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let mut locations = Vec::new();
    collect_rule_locations(schema, "/spec/versions/0/schema/openAPIV3Schema", "", &mut locations);
    locations
        .into_iter()
        .map(|RuleLocation { pointer, index, field }| {
            let mut without = whole.clone();
            let part = without.pointer_mut(&pointer).and_then(Value::as_object_mut).unwrap();
            let list = part["x-kubernetes-validations"].as_array_mut().unwrap();
            let rule = list.remove(index);
            if list.is_empty() {
                part.remove("x-kubernetes-validations");
            }
            let text = |key: &str| rule[key].as_str().unwrap_or_default().to_owned();
            let field = format!("{field}{}", text("fieldPath"));
            Mutant {
                definition: serde_json::from_value(without).unwrap(),
                kind: definition.spec.names.singular.clone().unwrap(),
                field: if field.is_empty() {
                    "<nil>".to_owned()
                } else {
                    field.trim_start_matches('.').to_owned()
                },
                rule: text("rule"),
                message: text("message"),
            }
        })
        .collect()
}

/// Location of a rule in the schema.
struct RuleLocation {
    pointer: String,
    index: usize,
    field: String,
}

fn collect_rule_locations(schema: &Value, pointer: &str, field: &str, locations: &mut Vec<RuleLocation>) {
    let count = schema["x-kubernetes-validations"].as_array().map_or(0, Vec::len);
    locations.extend((0..count).map(|index| RuleLocation {
        pointer: pointer.to_owned(),
        index,
        field: field.to_owned(),
    }));
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        collect_rule_locations(
            property,
            &format!("{pointer}/properties/{name}"),
            &format!("{field}.{name}"),
            locations,
        );
    }
    if schema["items"].is_object() {
        collect_rule_locations(&schema["items"], &format!("{pointer}/items"), field, locations);
    }
}
