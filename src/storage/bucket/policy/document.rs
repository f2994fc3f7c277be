//! Bucket policies in one form. Stores change the text: the order, single values for lists, `"*"` for `{"AWS": "*"}`, booleans for
//! strings. So the operator compares two policies as sets of canonical statements.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

/// Prefix of the Sids of statements that are there only during a proof or a probe.
const PROOF_SID_PREFIX: &str = "ToezichtProof";

/// Maximum size of a bucket policy at S3, in bytes.
pub const MAX_POLICY_BYTES: usize = 20_480;
/// Bytes of it that stay free for the statements of a probe.
pub const RESERVED_POLICY_BYTES: usize = 1_536;

/// A bucket policy as a set of canonical statements, without their Sids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    statements: BTreeSet<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a policy document")]
pub struct InvalidPolicy;

impl Policy {
    pub fn parse(text: &str) -> Result<Self, InvalidPolicy> {
        let document: Value = serde_json::from_str(text).map_err(|_| InvalidPolicy)?;
        Self::from_statements(&parse_statements(&document)?)
    }

    pub fn from_statements(statements: &[Value]) -> Result<Self, InvalidPolicy> {
        let canonical = |statement| canonical_statement(statement).map(|statement| statement.to_string());
        Ok(Self { statements: statements.iter().map(canonical).collect::<Option<_>>().ok_or(InvalidPolicy)? })
    }

    pub fn len(&self) -> usize {
        self.statements.len()
    }

    pub fn is_empty(&self) -> bool {
        self.statements.is_empty()
    }

    /// Returns whether `other` has all its statements.
    pub fn is_subset_of(&self, other: &Self) -> bool {
        self.statements.is_subset(&other.statements)
    }
}

/// Returns the statements of a document, as they are written there.
pub(crate) fn parse_statements(document: &Value) -> Result<Vec<Value>, InvalidPolicy> {
    match document.get("Statement") {
        Some(Value::Array(statements)) => Ok(statements.clone()),
        Some(statement @ Value::Object(_)) => Ok(vec![statement.clone()]),
        _ => Err(InvalidPolicy),
    }
}

pub fn document(statements: &[Value]) -> Value {
    json!({ "Version": "2012-10-17", "Statement": statements })
}

/// Returns the size of a policy of these statements in a request, in bytes.
pub fn document_bytes(statements: &[Value]) -> usize {
    document(statements).to_string().len()
}

/// Returns a statement without the principals of deleted identities, which AWS shows by id (`AIDA…`, `AROA…`). Returns `None` if
/// it names nobody else. AWS rejects a policy with such an id.
pub(crate) fn without_deleted_principals(statement: &Value) -> Option<Value> {
    let is_id = |value: &Value| {
        let id = value.as_str().unwrap_or_default();
        let is_plain = id.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
        id.len() >= 16 && is_plain && (id.starts_with("AIDA") || id.starts_with("AROA"))
    };
    let mut statement = statement.clone();
    match statement.pointer_mut("/Principal/AWS") {
        Some(Value::Array(names)) => {
            names.retain(|name| !is_id(name));
            if names.is_empty() {
                return None;
            }
        }
        Some(name) if is_id(name) => return None,
        _ => (),
    }
    Some(statement)
}

/// Returns the Sid of a statement of a proof or a probe.
pub(crate) fn proof_sid(name: &str) -> String {
    format!("{PROOF_SID_PREFIX}{name}")
}

/// Returns whether a statement belongs to a proof or a probe.
pub(crate) fn is_proof_statement(statement: &Value) -> bool {
    statement.get("Sid").and_then(Value::as_str).is_some_and(|sid| sid.starts_with(PROOF_SID_PREFIX))
}

/// Returns the canonical form of a statement: every list sorted, every single value a list, without its Sid.
fn canonical_statement(statement: &Value) -> Option<Value> {
    let mut canonical = Map::new();
    for (element, value) in statement.as_object()? {
        let value = match element.as_str() {
            "Sid" => continue,
            "Principal" | "NotPrincipal" => canonical_principals(value)?,
            "Action" | "NotAction" => canonical_actions(value)?,
            "Condition" => {
                let condition = canonical_conditions(value)?;
                // Some stores add an empty condition.
                if condition.as_object().is_some_and(Map::is_empty) {
                    continue;
                }
                condition
            }
            "Effect" => value.clone(),
            _ => string_array(value)?,
        };
        canonical.insert(element.clone(), value);
    }
    Some(Value::Object(canonical))
}

fn canonical_principals(value: &Value) -> Option<Value> {
    match value {
        Value::String(_) => Some(json!({ "AWS": string_array(value)? })),
        Value::Object(kinds) => map_values(kinds, string_array),
        _ => None,
    }
}

/// Returns the actions in lower case, because S3 ignores their case.
fn canonical_actions(value: &Value) -> Option<Value> {
    let texts = string_set(value)?.into_iter().map(|text| text.to_ascii_lowercase());
    Some(json!(texts.collect::<BTreeSet<_>>()))
}

fn canonical_conditions(value: &Value) -> Option<Value> {
    map_values(value.as_object()?, |keys| map_values(keys.as_object()?, string_array))
}

fn map_values(map: &Map<String, Value>, form: impl Fn(&Value) -> Option<Value>) -> Option<Value> {
    map.iter()
        .map(|(key, value)| Some((key.clone(), form(value)?)))
        .collect::<Option<Map<_, _>>>()
        .map(Value::Object)
}

fn string_array(value: &Value) -> Option<Value> {
    Some(json!(string_set(value)?))
}

fn string_set(value: &Value) -> Option<BTreeSet<String>> {
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    match value {
        Value::Array(values) => values.iter().map(text).collect(),
        single => Some(BTreeSet::from([text(single)?])),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn policy(statements: Value) -> Policy {
        Policy::parse(&json!({ "Version": "2012-10-17", "Statement": statements }).to_string()).unwrap()
    }

    #[test]
    fn equivalent_documents_are_equal() {
        let one = policy(json!([
            {"Sid": "A", "Effect": "Deny", "Principal": "*", "Action": "s3:GetObject", "Resource": "r",
             "Condition": {"Bool": {"aws:SecureTransport": "false"}}},
            {"Effect": "Allow", "Principal": {"AWS": ["b", "a"]}, "Action": ["s3:PutObject"], "Resource": ["x", "y"]},
        ]));
        let other = policy(json!([
            {"Effect": "Allow", "Principal": {"AWS": ["a", "b"]}, "Action": "S3:PUTOBJECT", "Resource": ["y", "x"], "Condition": {}},
            {"Sid": "B", "Effect": "Deny", "Principal": {"AWS": "*"}, "Action": ["s3:GetObject"], "Resource": ["r"],
             "Condition": {"Bool": {"aws:SecureTransport": [false]}}},
        ]));
        assert_eq!(one, other);
        assert!(
            one.is_subset_of(&other)
                && Policy::default().is_subset_of(&one)
                && !one.is_subset_of(&Policy::default())
        );
    }

    #[test]
    fn different_statements_are_unequal() {
        let base =
            json!({"Effect": "Deny", "Principal": {"AWS": "a"}, "Action": "s3:GetObject", "Resource": "r"});
        for (element, value) in [
            ("Effect", json!("Allow")),
            ("Principal", json!({"AWS": "b"})),
            ("Action", json!(["s3:GetObject", "s3:PutObject"])),
            ("Resource", json!("R")),
            ("Condition", json!({"Null": {"k": true}})),
            ("NotResource", json!("q")),
        ] {
            let mut changed = base.clone();
            changed[element] = value;
            assert_ne!(policy(base.clone()), policy(changed), "{element}");
        }
    }

    #[test]
    fn invalid_documents_are_rejected() {
        for text in ["", "{}", "[]", "null", "{\"Statement\": [1]}", "{\"Statement\": [{\"Principal\": 1}]}"]
        {
            assert_eq!(Policy::parse(text), Err(InvalidPolicy), "{text}");
        }
    }

    #[test]
    fn ids_of_deleted_principals_are_removed() {
        let of = |principal: Value| {
            without_deleted_principals(&json!({"Effect": "Allow", "Principal": principal}))
        };
        let named = of(json!({"AWS": ["AIDAJQABLZS4A3QDU576Q", "arn:aws:iam::1:user/x"]})).unwrap();
        assert_eq!(named["Principal"]["AWS"], json!(["arn:aws:iam::1:user/x"]));
        assert_eq!(of(json!({"AWS": ["AIDAJQABLZS4A3QDU576Q"]})), None);
        assert_eq!(of(json!({"AWS": "AROAJQABLZS4A3QDU576Q"})), None);
        for principal in [json!("*"), json!({"AWS": "*"}), json!({"AWS": ["AIDA", "aidajqablzs4a3qdu576q"]})]
        {
            assert_eq!(of(principal.clone()).unwrap()["Principal"], principal);
        }
    }

    proptest! {
        #[test]
        fn order_is_ignored(names in proptest::collection::vec("[a-z]{1,4}", 1..5), seed: u64) {
            let mut other = names.clone();
            let turn = usize::try_from(seed % 5).unwrap() % other.len();
            other.rotate_left(turn);
            let of = |names: &[String]| policy(json!(names.iter().map(|n| json!({
                "Effect": "Deny", "Principal": {"AWS": names}, "Action": names, "Resource": n,
            })).collect::<Vec<_>>()));
            // Both the lists and the statements are rotated.
            let (one, other) = (of(&names), of(&other));
            prop_assert_eq!(one, other);
        }

        #[test]
        fn parse_never_panics(text in "\\PC*") {
            let _ = Policy::parse(&text);
        }
    }
}
