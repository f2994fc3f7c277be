//! Lengths of time as users write them: `28d`, `90s`, `5m`, `1h`.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A number of whole days, written as `28d`: 1 to 9999.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Days(pub u32);

/// A length of time in one unit, written as `90s`, `5m` or `1h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Duration(pub std::time::Duration);

/// Why a text is no [`Days`] or [`Duration`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is not a length of time: write a whole number and its unit, such as 28d or 60s")]
pub struct ParseDurationError(String);

impl FromStr for Days {
    type Err = ParseDurationError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.strip_suffix('d')
            .and_then(|number| number.parse().ok())
            .map(Days)
            .ok_or_else(|| ParseDurationError(text.to_owned()))
    }
}

impl fmt::Display for Days {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}d", self.0)
    }
}

impl FromStr for Duration {
    type Err = ParseDurationError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = |unit: char, seconds: u64| {
            let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
            Some(Duration(std::time::Duration::from_secs(number.checked_mul(seconds)?)))
        };
        parse('s', 1)
            .or_else(|| parse('m', 60))
            .or_else(|| parse('h', 3600))
            .ok_or_else(|| ParseDurationError(text.to_owned()))
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

/// Serde and schema of a type that is written as one string. What the pattern lets through, the parser
/// takes: a test holds them together.
macro_rules! as_string {
    ($type:ty, $name:literal, $pattern:literal) => {
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
as_string!(Days, "Days", "^[1-9][0-9]{0,3}d$");
as_string!(Duration, "Duration", "^[1-9][0-9]{0,5}(s|m|h)$");

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn values_matching_the_schema_pattern_round_trip(
            days in "[1-9][0-9]{0,3}d", length in "[1-9][0-9]{0,5}(s|m|h)",
        ) {
            prop_assert_eq!(days.parse::<Days>().unwrap().to_string(), days);
            let parsed: Duration = length.parse().unwrap();
            prop_assert_eq!(parsed.to_string().parse::<Duration>().unwrap(), parsed);
        }
    }

    #[test]
    fn values_without_unit_or_number_are_rejected() {
        for text in ["", "28", "d", "-1d", "1.5d", "4w"] {
            assert!(text.parse::<Days>().is_err(), "{text}");
            assert!(text.parse::<Duration>().is_err(), "{text}");
        }
    }
}
