//! Pieces that more than one kind uses.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{cel, schema};

/// A name of another object in the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LocalRef {
    /// Name of the object, in the same namespace.
    #[schemars(length(min = 1, max = 253), extend("x-kubernetes-validations" = cel::to_json(cel::OBJECT_NAME)))]
    pub name: String,
}

/// A calendar date (`2020-05-06`) or an instant (`2020-05-06T00:00:00+02:00`). A date is the start of that
/// day in the policy's time zone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DateOrInstant(pub String);

/// A calendar date, `2020-05-06`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Date(pub String);

impl JsonSchema for Date {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Date".into()
    }
    fn inline_schema() -> bool {
        true
    }
    /// The format makes the API server refuse days that do not exist, and lets rules compare days.
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "format": "date" })
    }
}

impl JsonSchema for DateOrInstant {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "DateOrInstant".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "maxLength": 40,
            "x-kubernetes-validations": cel::to_json(cel::DATE_OR_INSTANT),
        })
    }
}

/// Who somebody is in the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Subject {
    /// `User` (one person or machine) or `Group`, as the cluster's authentication tells them apart.
    pub kind: SubjectKind,
    /// The user's or group's name, as the cluster's authentication gives it.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// Kinds of [`Subject`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SubjectKind {
    /// One person or machine.
    User,
    /// Everyone in a group.
    Group,
}

/// A stretch of time: from `from` until, but not including, `until`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-validations" = cel::to_json(cel::TIME_WINDOW)))]
pub struct TimeWindow {
    /// When it begins: an instant with its offset (RFC 3339), such as `2026-04-12T21:30:00+02:00`.
    #[schemars(schema_with = "schema::instant")]
    pub from: Time,
    /// When it ends, that instant not included; absent: still going on.
    #[schemars(schema_with = "schema::instant")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
}

/// Who decided something the protocol does not provide for (article 9).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Decision {
    /// Who decided: an office, such as `Gemeentesecretaris`.
    #[schemars(length(min = 1, max = 128))]
    pub by: String,
    /// The day of the decision, such as `2026-04-12`.
    pub date: Date,
    /// Where the decision can be found: a case or document number.
    #[schemars(length(min = 1, max = 128))]
    pub reference: String,
}
