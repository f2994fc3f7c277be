//! Schemas of Kubernetes' own types with the bounds that theirs lack, and what the API server needs that a
//! derived schema does not have.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps,
};
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use super::cel;
use super::cel::CelRule;
use super::condition::{ConditionStatus, ConditionType, Reason};

/// An instant, strictly RFC 3339, of the years 1900 to 2199: what passes here, every client can parse, and one
/// object cannot stall a watch.
pub(crate) fn instant(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "format": "date-time",
        "pattern":
            "^(19|20|21)[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]{1,9})?(Z|[+-](0[0-9]|1[0-4]):[0-5][0-9])$",
    })
}

/// A list without duplicates.
fn set_of(max_items: u32, items: &Value) -> Schema {
    json_schema!({ "type": "array", "maxItems": max_items, "x-kubernetes-list-type": "set", "items": items })
}

/// Names of Cameras.
pub(crate) fn camera_names(_: &mut SchemaGenerator) -> Schema {
    let name = json!({
        "type": "string", "minLength": 1, "maxLength": 63,
        "x-kubernetes-validations": cel::to_json(cel::CAMERA_NAME),
    });
    set_of(256, &name)
}

/// Names of Sites.
pub(crate) fn site_names(_: &mut SchemaGenerator) -> Schema {
    let name = json!({
        "type": "string", "minLength": 1, "maxLength": 40,
        "x-kubernetes-validations": cel::to_json(cel::SITE_NAME),
    });
    set_of(256, &name)
}

/// A policy's purposes.
pub(crate) fn purposes(_: &mut SchemaGenerator) -> Schema {
    let purpose = json!({
        "type": "string", "minLength": 1, "maxLength": 63,
        "x-kubernetes-validations": cel::to_json(cel::PURPOSE),
    });
    let mut schema = set_of(32, &purpose);
    schema.insert("minItems".to_owned(), json!(1));
    schema
}

/// Labels that a node must have.
pub(crate) fn node_selector(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 16,
        "additionalProperties": { "type": "string", "maxLength": 63 },
    })
}

/// Conditions of `metav1`, each type once.
pub(crate) fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 16,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["lastTransitionTime", "message", "reason", "status", "type"],
            "properties": {
                "type": {
                    "description": "Which condition; docs/reference/conditions.md lists them.",
                    "type": "string", "minLength": 1, "maxLength": 64,
                },
                "status": {
                    "description": "Whether it is so: True, False, or Unknown where it could not be found out.",
                    "type": "string", "enum": ["True", "False", "Unknown"],
                },
                "reason": {
                    "description": "Why, in one word for machines; docs/reference/conditions.md lists them with the remedy.",
                    "type": "string", "minLength": 1, "maxLength": 64, "pattern": "^[A-Z][A-Za-z0-9]*$",
                },
                "message": {
                    "description":
                        "Why, for people; with the path of the field and the remedy where something is wrong.",
                    "type": "string", "maxLength": 32768,
                },
                "lastTransitionTime": {
                    "description": "When status last changed.",
                    "type": "string", "format": "date-time",
                },
                "observedGeneration": {
                    "description": "Which metadata.generation it speaks of.",
                    "type": "integer", "format": "int64", "minimum": 0,
                },
            },
        },
    })
}

/// Kubernetes' tolerations.
pub(crate) fn tolerations(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 16,
        "items": {
            "type": "object",
            "properties": {
                "key": {
                    "description": "The taint's key; absent, with operator Exists: every taint.",
                    "type": "string", "maxLength": 317,
                },
                "operator": {
                    "description": "Exists, or Equal (the default) with a value.",
                    "type": "string", "enum": ["Exists", "Equal"],
                },
                "value": {
                    "description": "The taint's value, with operator Equal.",
                    "type": "string", "maxLength": 63,
                },
                "effect": {
                    "description": "The taint's effect; absent: every effect.",
                    "type": "string", "enum": ["NoSchedule", "PreferNoSchedule", "NoExecute"],
                },
                "tolerationSeconds": {
                    "description": "With effect NoExecute: how many seconds it is tolerated; absent: for ever.",
                    "type": "integer", "format": "int64",
                },
            },
        },
    })
}

/// Kubernetes' resource requirements, without claims.
pub(crate) fn resources(_: &mut SchemaGenerator) -> Schema {
    let quantities = |description: &str| {
        json!({
            "description": description,
            "type": "object",
            "maxProperties": 8,
            "additionalProperties": {
                "x-kubernetes-int-or-string": true,
                "anyOf": [{ "type": "integer" }, { "type": "string" }],
                "maxLength": 32,
                "pattern": "^[0-9]+([.][0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$",
            },
        })
    };
    json_schema!({
        "type": "object",
        "properties": {
            "requests": quantities("What is set aside: cpu (500m is half a core), memory (256Mi)."),
            "limits": quantities("What it gets at most: cpu, memory."),
        },
    })
}

/// A status that nobody has written yet: each condition is `Unknown`, so that an operator that is not there
/// can be seen.
fn pending_status(types: &[ConditionType]) -> Value {
    let conditions: Vec<Value> = types
        .iter()
        .map(|type_| {
            json!({
                "type": <&str>::from(type_),
                "status": <&str>::from(ConditionStatus::Unknown),
                "reason": <&str>::from(Reason::Pending),
                "message": "the operator has not looked yet",
                "lastTransitionTime": "1970-01-01T00:00:00Z",
            })
        })
        .collect();
    json!({ "conditions": conditions })
}

/// Completes a derived definition: rules that need the object's name, the status that a new object has, and
/// no formats that Kubernetes does not know.
pub(crate) fn complete_definition(
    mut definition: CustomResourceDefinition,
    root: &[CelRule],
    conditions: &[ConditionType],
) -> CustomResourceDefinition {
    for version in &mut definition.spec.versions {
        let Some(schema) = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut())
        else {
            continue;
        };
        if !root.is_empty() {
            schema.x_kubernetes_validations = serde_json::from_value(cel::to_json(root)).ok();
        }
        if let Some(status) = schema.properties.as_mut().and_then(|all| all.get_mut("status")) {
            status.default = serde_json::from_value(pending_status(conditions)).ok();
        }
        visit_schemas(schema, &mut remove_unsupported_keywords);
    }
    definition
}

/// Kubernetes has no unsigned integers: the bounds say it, the format would only warn. And where nothing may
/// be null, the API server takes a null for an absent field, so that rules need not tell them apart.
fn remove_unsupported_keywords(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    if schema.format.as_deref().is_some_and(|format| format.starts_with("uint")) {
        schema.format = None;
    }
}

/// Calls `change` on a schema and all within it.
fn visit_schemas(schema: &mut JSONSchemaProps, change: &mut impl FnMut(&mut JSONSchemaProps)) {
    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
        JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
    };
    change(schema);
    for property in schema.properties.iter_mut().flat_map(|all| all.values_mut()) {
        visit_schemas(property, change);
    }
    match &mut schema.items {
        Some(JSONSchemaPropsOrArray::Schema(item)) => visit_schemas(item, change),
        Some(JSONSchemaPropsOrArray::Schemas(items)) => {
            for item in items {
                visit_schemas(item, change);
            }
        }
        None => {}
    }
    if let Some(JSONSchemaPropsOrBool::Schema(value)) = &mut schema.additional_properties {
        visit_schemas(value, change);
    }
}
