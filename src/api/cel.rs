//! Rules in CEL, which the API server enforces at admission. Each message has the problem and the remedy. Checks that
//! need a second object, a time zone or the operator's configuration become conditions instead.
//!
//! Transition rules (`oldSelf`) are set on a required part, never on an optional field: the API server skips them when
//! that field is added or removed.

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

#[derive(Debug)]
pub struct CelRule {
    /// Field in the rejection, relative to the part with the rule. Empty: that part itself.
    pub field: &'static str,
    pub cel: &'static str,
    /// Problem and remedy. The API server adds the path of the field.
    pub message: &'static str,
}

/// Returns the rules in the form of `x-kubernetes-validations`.
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
