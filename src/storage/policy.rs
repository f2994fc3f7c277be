//! Bucket policies in one form. Servers keep the text, or not: order, single values for lists, `"*"` for
//! `{"AWS": "*"}`, booleans for strings. Two policies are compared as sets of canonical statements.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

/// Names of statements that are only there while a principal is being proved.
pub(crate) const PROOF: &str = "ToezichtProof";

/// The longest bucket policy that S3 takes, in bytes.
pub const LONGEST: usize = 20_480;
/// Bytes of it that are left for what is added while the policy is tried.
pub const ROOM: usize = 1_536;

/// A bucket policy as a set of canonical statements, without their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    statements: BTreeSet<String>,
}

/// A text is no policy document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a policy document")]
pub struct NoPolicy;

impl Policy {
    /// From a policy document.
    pub fn parse(text: &str) -> Result<Self, NoPolicy> {
        let document: Value = serde_json::from_str(text).map_err(|_| NoPolicy)?;
        Self::of(&statements(&document)?)
    }

    /// Of these statements.
    pub fn of(statements: &[Value]) -> Result<Self, NoPolicy> {
        let canonical = |statement| canonical(statement).map(|statement| statement.to_string());
        Ok(Self { statements: statements.iter().map(canonical).collect::<Option<_>>().ok_or(NoPolicy)? })
    }

    /// How many statements it has.
    pub fn len(&self) -> usize {
        self.statements.len()
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.statements.is_empty()
    }

    /// Whether it says nothing that `other` does not say.
    pub fn is_within(&self, other: &Self) -> bool {
        self.statements.is_subset(&other.statements)
    }
}

/// The statements of a document, as they are written there.
pub(crate) fn statements(document: &Value) -> Result<Vec<Value>, NoPolicy> {
    match document.get("Statement") {
        Some(Value::Array(statements)) => Ok(statements.clone()),
        Some(statement @ Value::Object(_)) => Ok(vec![statement.clone()]),
        _ => Err(NoPolicy),
    }
}

/// A document of these statements.
pub fn document(statements: &[Value]) -> Value {
    json!({ "Version": "2012-10-17", "Statement": statements })
}

/// The bytes of a document of these statements, as it is sent.
pub fn size(statements: &[Value]) -> usize {
    document(statements).to_string().len()
}

/// A statement without the principals that the store shows as ids of identities that were deleted (AWS: `AIDA…`,
/// `AROA…`); `None`: it names nobody else. Put back as they are, such ids are refused.
pub(crate) fn without_deleted(statement: &Value) -> Option<Value> {
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

/// Whether a statement is only there to prove something.
pub(crate) fn is_proof(statement: &Value) -> bool {
    statement.get("Sid").and_then(Value::as_str).is_some_and(|sid| sid.starts_with(PROOF))
}

/// One form of a statement: every list sorted, every single value a list, without its name.
fn canonical(statement: &Value) -> Option<Value> {
    let mut canonical = Map::new();
    for (element, value) in statement.as_object()? {
        let value = match element.as_str() {
            "Sid" => continue,
            "Principal" | "NotPrincipal" => principals(value)?,
            "Action" | "NotAction" => actions(value)?,
            "Condition" => {
                let condition = conditions(value)?;
                if condition.as_object().is_some_and(Map::is_empty) {
                    continue;
                }
                condition
            }
            "Effect" => value.clone(),
            _ => list(value)?,
        };
        canonical.insert(element.clone(), value);
    }
    Some(Value::Object(canonical))
}

fn principals(value: &Value) -> Option<Value> {
    match value {
        Value::String(_) => Some(json!({ "AWS": list(value)? })),
        Value::Object(kinds) => each(kinds, list),
        _ => None,
    }
}

/// Actions are compared as S3 does, without regard to case.
fn actions(value: &Value) -> Option<Value> {
    let texts = texts(value)?.into_iter().map(|text| text.to_ascii_lowercase());
    Some(json!(texts.collect::<BTreeSet<_>>()))
}

fn conditions(value: &Value) -> Option<Value> {
    each(value.as_object()?, |keys| each(keys.as_object()?, list))
}

fn each(map: &Map<String, Value>, form: impl Fn(&Value) -> Option<Value>) -> Option<Value> {
    map.iter()
        .map(|(key, value)| Some((key.clone(), form(value)?)))
        .collect::<Option<Map<_, _>>>()
        .map(Value::Object)
}

fn list(value: &Value) -> Option<Value> {
    Some(json!(texts(value)?))
}

fn texts(value: &Value) -> Option<BTreeSet<String>> {
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
    fn forms_of_the_same_policy_are_equal() {
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
            one.is_within(&other) && Policy::default().is_within(&one) && !one.is_within(&Policy::default())
        );
    }

    #[test]
    fn a_difference_in_meaning_is_one() {
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
    fn what_is_no_policy_is_refused() {
        for text in ["", "{}", "[]", "null", "{\"Statement\": [1]}", "{\"Statement\": [{\"Principal\": 1}]}"]
        {
            assert_eq!(Policy::parse(text), Err(NoPolicy), "{text}");
        }
    }

    #[test]
    fn ids_of_deleted_identities_are_not_put_back() {
        let of = |principal: Value| without_deleted(&json!({"Effect": "Allow", "Principal": principal}));
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
        fn order_says_nothing(names in proptest::collection::vec("[a-z]{1,4}", 1..5), seed: u64) {
            let mut other = names.clone();
            let turn = usize::try_from(seed % 5).unwrap() % other.len();
            other.rotate_left(turn);
            let of = |names: &[String]| policy(json!(names.iter().map(|n| json!({
                "Effect": "Deny", "Principal": {"AWS": names}, "Action": names, "Resource": n,
            })).collect::<Vec<_>>()));
            // The lists are turned, the statements too.
            let (one, other) = (of(&names), of(&other));
            prop_assert_eq!(one, other);
        }

        #[test]
        fn arbitrary_texts_do_no_harm(text in "\\PC*") {
            let _ = Policy::parse(&text);
        }
    }
}
