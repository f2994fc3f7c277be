//! Parts of the schema that a derive cannot give: bounds on Kubernetes' own types, rules on the whole object, columns,
//! and the status of a new object.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceColumnDefinition, CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray,
    JSONSchemaPropsOrBool,
};
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use super::cel;
use super::cel::CelRule;
use super::condition::{ConditionStatus, ConditionType, Reason};

/// Returns the schema of an RFC 3339 time in the years 1900 to 2199. Every client can parse each such value. A client that
/// cannot parse one object would stop its watch.
///
/// It has no `format: date-time`: the API server would accept a time without an offset as UTC, and a rule would not see the
/// difference. A `pattern` would see it, but its rejection is the regular expression.
pub(crate) fn instant(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": 35,
        "x-kubernetes-validations": cel::to_json(cel::INSTANT),
    })
}

fn set_of(max_items: u32, items: &Value) -> Schema {
    json_schema!({ "type": "array", "maxItems": max_items, "x-kubernetes-list-type": "set", "items": items })
}

pub(crate) fn camera_names(_: &mut SchemaGenerator) -> Schema {
    let name = json!({
        "type": "string", "minLength": 1, "maxLength": 63,
        "x-kubernetes-validations": cel::to_json(cel::CAMERA_NAME),
    });
    set_of(256, &name)
}

pub(crate) fn site_names(_: &mut SchemaGenerator) -> Schema {
    let name = json!({
        "type": "string", "minLength": 1, "maxLength": 40,
        "x-kubernetes-validations": cel::to_json(cel::SITE_NAME),
    });
    set_of(256, &name)
}

pub(crate) fn purposes(_: &mut SchemaGenerator) -> Schema {
    let purpose = json!({
        "type": "string", "minLength": 1, "maxLength": 63,
        "x-kubernetes-validations": cel::to_json(cel::PURPOSE),
    });
    let mut schema = set_of(32, &purpose);
    schema.insert("minItems".to_owned(), json!(1));
    schema
}

pub(crate) fn node_selector(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 16,
        "additionalProperties": { "type": "string", "maxLength": 63 },
    })
}

/// Returns the schema of `metav1` conditions, each type once.
pub(crate) fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        // Rules at admission read the conditions of objects that have none yet.
        "default": [],
        "maxItems": 16,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["lastTransitionTime", "message", "reason", "status", "type"],
            "properties": {
                "type": {
                    "description": "Type of the condition. See docs/reference/conditions.md.",
                    "type": "string", "minLength": 1, "maxLength": 64,
                },
                "status": {
                    "description": "True, False, or Unknown if the operator could not determine it.",
                    "type": "string", "enum": ["True", "False", "Unknown"],
                },
                "reason": {
                    "description": "Reason for the status, for machines. docs/reference/conditions.md lists each with its remedy.",
                    "type": "string", "minLength": 1, "maxLength": 64, "pattern": "^[A-Z][A-Za-z0-9]*$",
                },
                "message": {
                    "description": "Reason for the status, for people: the problem, the field and the remedy.",
                    "type": "string", "maxLength": 32768,
                },
                "lastTransitionTime": {
                    "description": "Time when status last changed.",
                    "type": "string", "format": "date-time",
                },
                "observedGeneration": {
                    "description": "metadata.generation that the condition describes.",
                    "type": "integer", "format": "int64", "minimum": 0,
                },
            },
        },
    })
}

pub(crate) fn tolerations(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 16,
        "items": {
            "type": "object",
            "properties": {
                "key": {
                    "description": "Key of the taint. With operator Exists, it defaults to every taint.",
                    "type": "string", "maxLength": 317,
                },
                "operator": {
                    "description": "Exists, or Equal with a value. Defaults to Equal.",
                    "type": "string", "enum": ["Exists", "Equal"],
                },
                "value": {
                    "description": "Value of the taint, with operator Equal.",
                    "type": "string", "maxLength": 63,
                },
                "effect": {
                    "description": "Effect of the taint. Defaults to every effect.",
                    "type": "string", "enum": ["NoSchedule", "PreferNoSchedule", "NoExecute"],
                },
                "tolerationSeconds": {
                    "description": "Seconds that the pod tolerates a taint with effect NoExecute. Defaults to no limit.",
                    "type": "integer", "format": "int64",
                },
            },
        },
    })
}

/// Returns the schema of Kubernetes' resource requirements, without claims.
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
            "requests": quantities(
                "Reserved amounts of cpu (500m is half a core), memory (such as 256Mi) and ephemeral-storage (the node's disk).",
            ),
            "limits": quantities("Maximum amounts of cpu, memory and ephemeral-storage."),
        },
    })
}

/// Returns the status of a new object. Each condition is `Unknown`, so that users notice a missing operator.
fn pending_status(types: &[ConditionType]) -> Value {
    let conditions: Vec<Value> = types
        .iter()
        .map(|type_| {
            json!({
                "type": <&str>::from(type_),
                "status": <&str>::from(ConditionStatus::Unknown),
                "reason": <&str>::from(Reason::Pending),
                "message": "the operator has not reconciled this object yet",
                "lastTransitionTime": "1970-01-01T00:00:00Z",
            })
        })
        .collect();
    json!({ "conditions": conditions })
}

/// Adds the columns, the rules on the whole object and the status of a new object to a derived definition, and removes
/// formats that Kubernetes does not support.
pub(crate) fn complete_definition(
    mut definition: CustomResourceDefinition,
    columns: Vec<CustomResourceColumnDefinition>,
    root: &[CelRule],
    conditions: &[ConditionType],
) -> CustomResourceDefinition {
    for version in &mut definition.spec.versions {
        version.additional_printer_columns = Some(columns.clone());
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

fn remove_unsupported_keywords(schema: &mut JSONSchemaProps) {
    // The API server drops a null for a field that is not nullable, so rules only check whether the field is present.
    schema.nullable = None;
    if let Some(values) = &mut schema.enum_ {
        values.retain(|value| !value.0.is_null());
    }
    // Kubernetes has no unsigned integers and warns about their formats. The bounds already exclude negative values.
    if schema.format.as_deref().is_some_and(|format| format.starts_with("uint")) {
        schema.format = None;
    }
}

/// Calls `change` on a schema and all its descendants.
fn visit_schemas(schema: &mut JSONSchemaProps, change: &mut impl FnMut(&mut JSONSchemaProps)) {
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
