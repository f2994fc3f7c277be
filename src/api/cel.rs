//! What the API server refuses by itself: rules in CEL, each with a message that says the rule and the
//! remedy. What needs a second object, a time zone or the operator's configuration becomes a condition
//! instead.
//!
//! Rules about change (`oldSelf`) sit on a part that is always there, never on an optional field: there the
//! API server would skip them when the field is added or removed.

mod camera;
mod common;
mod incident_hold;
mod recording_policy;
mod site;

pub(crate) use self::camera::*;
pub(crate) use self::common::*;
pub(crate) use self::incident_hold::*;
pub(crate) use self::recording_policy::*;
pub(crate) use self::site::*;

use serde_json::{Value, json};

/// One rule of the schema.
#[derive(Debug)]
pub struct CelRule {
    /// The field that a refusal names, relative to the part that the rule sits on; empty: that part itself.
    pub field: &'static str,
    /// The expression, which must be true.
    pub cel: &'static str,
    /// The rule in words, and the remedy.
    pub message: &'static str,
}

/// Rules as the schema writes them.
pub(crate) fn to_json(rules: &[CelRule]) -> Value {
    rules
        .iter()
        .map(|rule| {
            if rule.field.is_empty() {
                json!({ "rule": rule.cel, "message": rule.message })
            } else {
                json!({ "rule": rule.cel, "message": rule.message, "fieldPath": rule.field })
            }
        })
        .collect()
}
