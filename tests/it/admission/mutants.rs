//! Each rule in CEL is needed: a copy of its definition without it lets in a case that the whole one refuses.

use futures::StreamExt;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::Value;
use toezicht::cli::crds;

use super::case::Case;
use super::server::{Server, Verdict, newest};

/// A definition without one of its rules.
struct Mutant {
    definition: CustomResourceDefinition,
    kind: String,
    /// The field that the rule's refusal names, without indices.
    field: String,
    rule: String,
    message: String,
}

/// For every rule of every kind: without it, at least one of the cases that name it is let in.
pub async fn each_rule_rejects_some_case() {
    let cases = Case::all();
    let mutants: Vec<Mutant> = crds::definitions().iter().flat_map(mutants).collect();
    assert!(mutants.len() >= 60, "only {} rules were found", mutants.len());
    let client = newest().await;
    let unneeded: Vec<String> = futures::stream::iter(mutants.iter().enumerate())
        .map(async |(number, mutant)| {
            let meant: Vec<&Case> = cases.iter().filter(|case| mutant.is_targeted_by(case)).collect();
            if meant.is_empty() {
                return Some(format!(
                    "{} {}: no case names the rule {}",
                    mutant.kind, mutant.field, mutant.rule
                ));
            }
            let group = format!("mutant{number}.toezicht.dev");
            let server =
                Server::with(client.clone(), "mutant", &group, vec![mutant.definition.clone()]).await;
            let mut found = false;
            for case in meant {
                found = found || matches!(server.try_case(case).await, Verdict::Admitted);
            }
            server.clean().await;
            (!found).then(|| {
                format!(
                    "{} {}: without {} every case is still refused",
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

fn mutants(definition: &CustomResourceDefinition) -> Vec<Mutant> {
    let mut whole = serde_json::to_value(definition).unwrap();
    // Only what is validated counts; the rest would cost the server time.
    whole["spec"]["versions"][0].as_object_mut().unwrap().remove("additionalPrinterColumns");
    let schema = &whole["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let mut places = Vec::new();
    rules(schema, "/spec/versions/0/schema/openAPIV3Schema", "", &mut places);
    places
        .into_iter()
        .map(|Place { pointer, index, field }| {
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

/// Where a rule stands.
struct Place {
    pointer: String,
    index: usize,
    field: String,
}

fn rules(schema: &Value, pointer: &str, field: &str, found: &mut Vec<Place>) {
    let count = schema["x-kubernetes-validations"].as_array().map_or(0, Vec::len);
    found.extend((0..count).map(|index| Place {
        pointer: pointer.to_owned(),
        index,
        field: field.to_owned(),
    }));
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        rules(property, &format!("{pointer}/properties/{name}"), &format!("{field}.{name}"), found);
    }
    if schema["items"].is_object() {
        rules(&schema["items"], &format!("{pointer}/items"), field, found);
    }
}
