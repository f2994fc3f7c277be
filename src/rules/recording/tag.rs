//! The one tag that an object has: which of the store's rules apply to it.

use std::fmt;
use std::str::FromStr;

use super::key::Class;

pub const TAG_KEY: &str = "toezicht-retention";

/// The tag's values. Lifecycle matches `video` and `calls` only, so that an object with any other is never
/// even expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RetentionTag {
    Video,
    Calls,
    /// Kept for an open hold, readable by nobody: the embargo on live viewing has not passed (article 4.2).
    Sealed,
    /// Kept for an open hold, readable by its readers. Only the operator writes it.
    Held,
}

impl RetentionTag {
    pub const ALL: [Self; 4] = [Self::Video, Self::Calls, Self::Sealed, Self::Held];
    /// Those that a recorder may write.
    pub const RECORDER_WRITABLE: [Self; 3] = [Self::Video, Self::Calls, Self::Sealed];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Video => "video",
            Self::Calls => "calls",
            Self::Sealed => "sealed",
            Self::Held => "held",
        }
    }

    /// The tag that a recording of this class has while no hold covers it.
    pub const fn default_for(class: Class) -> Self {
        match class {
            Class::Video => Self::Video,
            Class::Calls => Self::Calls,
        }
    }
}

impl fmt::Display for RetentionTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is none of the tag's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not one of video, calls, sealed and held")]
pub struct UnknownTag;

impl FromStr for RetentionTag {
    type Err = UnknownTag;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|tag| tag.as_str() == text).ok_or(UnknownTag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tag_round_trips() {
        for tag in RetentionTag::ALL {
            assert_eq!(tag.to_string().parse(), Ok(tag));
        }
        assert_eq!("HELD".parse::<RetentionTag>(), Err(UnknownTag));
    }

    #[test]
    fn recorders_never_write_held() {
        assert!(!RetentionTag::RECORDER_WRITABLE.contains(&RetentionTag::Held));
    }
}
