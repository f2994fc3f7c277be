//! Compares a live object with the desired one. Every desired field must have its value. Defaults that the server filled
//! in, and fields that others added, do not count.

use serde_json::{Map, Value};

use super::quantity;

/// Keys by which the server merges lists of objects. Each list that the operator applies uses the first of these keys
/// that all its elements have.
const MERGE_KEYS: [&str; 5] = ["mountPath", "uid", "containerPort", "port", "name"];

/// Fields with quantities, in their own value or in the values below.
const QUANTITY_FIELDS: [&str; 4] = ["limits", "requests", "sizeLimit", "storage"];

/// Returns the path of the first difference of `live` from `desired`; `None` if there is none.
pub fn first_difference(desired: &Value, live: &Value) -> Option<String> {
    diff_value(desired, Some(live), false).map(|path| if path.is_empty() { "/".to_owned() } else { path })
}

fn diff_value(desired: &Value, live: Option<&Value>, is_quantity: bool) -> Option<String> {
    let same = match (desired, live) {
        // The server omits empty values: a desired `false` equals an absent field.
        (desired, None | Some(Value::Null)) => is_empty(desired),
        (Value::Object(desired), Some(Value::Object(live))) => {
            return diff_fields(desired, live, is_quantity);
        }
        (Value::Array(desired), Some(Value::Array(live))) => return diff_elements(desired, live),
        (Value::String(desired), Some(Value::String(live))) => {
            desired == live
                || is_quantity
                    && quantity::parse_millis(desired)
                        .is_some_and(|it| Some(it) == quantity::parse_millis(live))
        }
        (desired, Some(live)) => desired == live,
    };
    (!same).then(String::new)
}

fn diff_fields(desired: &Map<String, Value>, live: &Map<String, Value>, is_quantity: bool) -> Option<String> {
    desired.iter().find_map(|(name, value)| {
        let is_quantity = is_quantity || QUANTITY_FIELDS.contains(&name.as_str());
        diff_value(value, live.get(name), is_quantity).map(|path| format!("/{name}{path}"))
    })
}

fn diff_elements(desired: &[Value], live: &[Value]) -> Option<String> {
    let Some(key) = merge_key(desired) else {
        // The server replaces a list without merge keys as a whole.
        if desired.len() != live.len() {
            return Some(String::new());
        }
        let mut pairs = desired.iter().zip(live).enumerate();
        return pairs.find_map(|(at, (want, have))| {
            diff_value(want, Some(have), false).map(|path| format!("/{at}{path}"))
        });
    };
    desired.iter().find_map(|want| {
        let named = want.get(key);
        let have = live.iter().find(|have| have.get(key) == named);
        let name = named.map(ToString::to_string).unwrap_or_default();
        diff_value(want, have, false).map(|path| format!("/{}{path}", name.trim_matches('"')))
    })
}

fn merge_key(desired: &[Value]) -> Option<&'static str> {
    if desired.is_empty() {
        return None;
    }
    MERGE_KEYS.into_iter().find(|key| desired.iter().all(|element| element.get(key).is_some()))
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(_) => false,
        Value::String(value) => value.is_empty(),
        Value::Array(values) => values.is_empty(),
        Value::Object(fields) => fields.values().all(is_empty),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn server_defaults_and_foreign_fields_are_ignored() {
        let desired = json!({"spec": {"containers": [{"name": "recorder", "image": "a",
            "env": [{"name": "A", "value": "1"}],
            "resources": {"limits": {"memory": "1024Mi", "cpu": "1000m"}}}], "hostNetwork": false,
            "volumes": [{"name": "tmp", "emptyDir": {}}]}});
        let live = json!({"spec": {"containers": [{"name": "sidecar"}, {"name": "recorder", "image": "a", "tty": false,
            "env": [{"name": "Z", "value": "1"}, {"name": "A", "value": "1"}],
            "resources": {"limits": {"memory": "1Gi", "cpu": "1"}}}], "restartPolicy": "Always",
            "volumes": [{"name": "tmp", "emptyDir": {}}]}});
        assert_eq!(first_difference(&desired, &live), None);
    }

    #[test]
    fn difference_is_reported_as_path() {
        let desired = json!({"spec": {"containers": [{"name": "recorder", "image": "a", "args": ["x", "y"]}], "hostNetwork": false}});
        let with = |edit: fn(&mut Value)| {
            let mut live = desired.clone();
            edit(&mut live);
            first_difference(&desired, &live)
        };
        assert_eq!(
            with(|live| live["spec"]["containers"][0]["image"] = json!("b")),
            Some("/spec/containers/recorder/image".into())
        );
        assert_eq!(with(|live| live["spec"]["hostNetwork"] = json!(true)), Some("/spec/hostNetwork".into()));
        assert_eq!(
            with(|live| live["spec"]["containers"][0]["args"] = json!(["x"])),
            Some("/spec/containers/recorder/args".into())
        );
        assert_eq!(
            with(|live| live["spec"]["containers"] = json!([])),
            Some("/spec/containers/recorder".into())
        );
        assert_eq!(with(|_| ()), None);
    }

    #[test]
    fn quantities_are_normalized_only_in_quantity_fields() {
        assert!(
            first_difference(&json!({"labels": {"a": "1000m"}}), &json!({"labels": {"a": "1"}})).is_some()
        );
        assert!(
            first_difference(
                &json!({"emptyDir": {"sizeLimit": "20480Mi"}}),
                &json!({"emptyDir": {"sizeLimit": "20Gi"}})
            )
            .is_none()
        );
    }

    fn any_json() -> impl proptest::strategy::Strategy<Value = Value> {
        use proptest::prelude::*;
        let leaf = prop_oneof![
            Just(json!(null)),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "[a-z0-9]{0,3}".prop_map(Value::from)
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map("[a-z]{1,3}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest::proptest! {
        #[test]
        fn value_has_no_difference_to_itself(value in any_json()) {
            proptest::prop_assert_eq!(first_difference(&value, &value), None);
        }
    }
}
