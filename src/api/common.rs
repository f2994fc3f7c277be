//! Types that several kinds use.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{cel, schema};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LocalRef {
    /// Name of the object, in the same namespace. 1 to 253 characters.
    #[schemars(length(min = 1, max = 253), extend("x-kubernetes-validations" = cel::to_json(cel::OBJECT_NAME)))]
    pub name: String,
}

/// Calendar date (`2020-05-06`) or RFC 3339 time (`2020-05-06T00:00:00+02:00`). A date is the start of that day in the
/// policy's time zone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline, extend("maxLength" = 40, "x-kubernetes-validations" = cel::to_json(cel::DATE_OR_INSTANT)))]
pub struct DateOrInstant(pub String);

/// Calendar date, such as `2020-05-06`. With the format, the API server rejects days that do not exist, and rules in CEL
/// can compare days.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline, extend("format" = "date"))]
pub struct Date(pub String);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Subject {
    /// `User` (one person or machine) or `Group`, according to the cluster's authentication.
    pub kind: SubjectKind,
    /// Name of the user or group in the cluster's authentication. 1 to 253 characters.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SubjectKind {
    User,
    Group,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-validations" = cel::to_json(cel::TIME_WINDOW)))]
pub struct TimeWindow {
    /// Start: an RFC 3339 time with its offset, such as `2026-04-12T21:30:00+02:00`.
    #[schemars(schema_with = "schema::instant")]
    pub from: Time,
    /// End, exclusive: an RFC 3339 time with its offset. Omit it while the incident lasts.
    #[schemars(schema_with = "schema::instant")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
}

/// Decision on an exception from the protocol (article 9).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Decision {
    /// Job title of the person who decided, not a name, such as `Gemeentesecretaris`. 1 to 128 characters.
    #[schemars(length(min = 1, max = 128))]
    pub by: String,
    /// Date of the decision, such as `2026-04-12`.
    pub date: Date,
    /// Case or document number of the decision. 1 to 128 characters.
    #[schemars(length(min = 1, max = 128))]
    pub reference: String,
}
