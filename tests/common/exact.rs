//! Objects from JSON, without ignored fields.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Parses `value`. Panics if the type has no counterpart of a field, because a test would otherwise run without it.
pub fn parse<T: DeserializeOwned + Serialize>(value: Value) -> T {
    let parsed: T = serde_json::from_value(value.clone()).unwrap();
    assert_no_field_ignored("", &value, &serde_json::to_value(&parsed).unwrap());
    parsed
}

fn assert_no_field_ignored(path: &str, given: &Value, parsed: &Value) {
    let Value::Object(fields) = given else { return };
    for (name, value) in fields {
        let path = format!("{path}.{name}");
        match parsed.get(name) {
            Some(parsed) => assert_no_field_ignored(&path, value, parsed),
            // Types omit absent and empty fields when serialized.
            None => assert!(is_default(value), "{path} is unknown"),
        }
    }
}

fn is_default(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Number(number) => number.as_i64() == Some(0),
        Value::Bool(true) | Value::String(_) => false,
    }
}
