//! Objects from JSON, of which no field is ignored.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Parses `value`. Panics if a field in it has no counterpart in the type: a test would otherwise go on without what that field
/// was to say.
pub fn parse<T: DeserializeOwned + Serialize>(value: Value) -> T {
    let parsed: T = serde_json::from_value(value.clone()).unwrap();
    assert_kept("", &value, &serde_json::to_value(&parsed).unwrap());
    parsed
}

fn assert_kept(path: &str, given: &Value, kept: &Value) {
    let Value::Object(fields) = given else { return };
    for (name, value) in fields {
        let path = format!("{path}.{name}");
        match kept.get(name) {
            Some(kept) => assert_kept(&path, value, kept),
            // Types leave out what is absent or empty.
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
