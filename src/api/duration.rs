//! Durations in the form that users write: `28d`, `90s`, `5m`, `1h`.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Number of whole days, written as `28d`. 1 to 9999.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(inline, extend("pattern" = "^[1-9][0-9]{0,3}d$", "maxLength" = 8))]
pub struct Days(pub u32);

/// Duration in one unit, written as `90s`, `5m` or `1h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(inline, extend("pattern" = "^[1-9][0-9]{0,5}(s|m|h)$", "maxLength" = 8))]
pub struct Duration(pub std::time::Duration);

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is not a duration; write a whole number and its unit, such as 28d or 60s")]
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

/// Conversions for serde. The parser accepts every value that the pattern of the schema accepts; a test checks this.
macro_rules! as_string {
    ($type:ty) => {
        impl TryFrom<String> for $type {
            type Error = ParseDurationError;
            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }
        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.to_string()
            }
        }
    };
}
as_string!(Days);
as_string!(Duration);

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
