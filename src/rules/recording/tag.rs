//! Retention tag of an object. It selects the store's lifecycle rules and access rules.

use strum::{Display, EnumString, IntoStaticStr};

use super::key::Class;

pub const TAG_KEY: &str = "toezicht-retention";

/// Values of the tag. Lifecycle rules match `video` and `calls` only, so an object with another value never expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Display, EnumString, IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub enum RetentionTag {
    Video,
    Calls,
    /// Held and unreadable: the embargo has not ended (article 4.2).
    Sealed,
    /// Held and readable by managers and incident officers. Only the operator writes it.
    Held,
}

impl RetentionTag {
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Returns the tag of a recording of this class that no hold covers.
    pub const fn default_for(class: Class) -> Self {
        match class {
            Class::Video => Self::Video,
            Class::Calls => Self::Calls,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tag_round_trips() {
        for (tag, text) in [
            (RetentionTag::Video, "video"),
            (RetentionTag::Calls, "calls"),
            (RetentionTag::Sealed, "sealed"),
            (RetentionTag::Held, "held"),
        ] {
            assert_eq!((tag.to_string().as_str(), text.parse()), (text, Ok(tag)));
        }
        assert!("HELD".parse::<RetentionTag>().is_err());
    }
}
