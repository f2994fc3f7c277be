//! Pieces that more than one kind uses.

use std::fmt;
use std::str::FromStr;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A name of another object in the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LocalRef {
    /// The object's name.
    pub name: String,
}

/// A number of whole days, written as `28d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Days(pub u32);

/// A length of time in one unit: `90s`, `5m`, `1h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Duration(pub std::time::Duration);

/// A calendar date (`2020-05-06`) or an instant (`2020-05-06T00:00:00+02:00`). A date is the start of that
/// day in the policy's time zone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct DateOrInstant(pub String);

/// A calendar date, `2020-05-06`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Date(pub String);

/// Who somebody is in the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Subject {
    /// `User` or `Group`, as the cluster's authentication names them.
    pub kind: SubjectKind,
    /// The user's or group's name.
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
pub struct TimeWindow {
    /// When it begins.
    pub from: Time,
    /// When it ends; absent: still going on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
}

/// Who decided something the protocol does not provide for (article 9).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Decision {
    /// Who decided.
    pub by: String,
    /// When.
    pub on: Date,
    /// Where the decision can be found.
    pub reference: String,
}

/// Why a text is no [`Days`] or [`Duration`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is not a length of time: write a whole number and its unit, such as 28d or 60s")]
pub struct ParseLengthError(String);

impl FromStr for Days {
    type Err = ParseLengthError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.strip_suffix('d')
            .and_then(|number| number.parse().ok())
            .map(Days)
            .ok_or_else(|| ParseLengthError(text.to_owned()))
    }
}

impl fmt::Display for Days {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}d", self.0)
    }
}

impl FromStr for Duration {
    type Err = ParseLengthError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = |unit: char, seconds: u64| {
            let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
            Some(Duration(std::time::Duration::from_secs(
                number.checked_mul(seconds)?,
            )))
        };
        parse('s', 1)
            .or_else(|| parse('m', 60))
            .or_else(|| parse('h', 3600))
            .ok_or_else(|| ParseLengthError(text.to_owned()))
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        match seconds {
            s if s > 0 && s % 3600 == 0 => write!(f, "{}h", s / 3600),
            s if s > 0 && s % 60 == 0 => write!(f, "{}m", s / 60),
            s => write!(f, "{s}s"),
        }
    }
}

/// Serde and schema of a type that is written as one string.
macro_rules! as_string {
    ($type:ty, $name:literal, $pattern:literal, $example:literal) => {
        impl Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
        impl JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                $name.into()
            }
            fn inline_schema() -> bool {
                true
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "pattern": $pattern, "maxLength": 8 })
            }
        }
    };
}
as_string!(Days, "Days", "^[1-9][0-9]{0,3}d$", "28d");
as_string!(Duration, "Duration", "^[1-9][0-9]{0,5}(s|m|h)$", "60s");
