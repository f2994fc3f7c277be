//! What a recording is to the protocol: of what kind, from where, and from when to when.

pub(crate) mod days;
pub mod key;
pub(crate) mod key_format;
pub(crate) mod protection;
pub mod tag;
pub(crate) mod version;

use std::fmt;

use jiff::Timestamp;
use serde::Serialize;

/// What kind of recording it is: the two that the protocol tells apart (article 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Camera pictures: at most four weeks.
    Video,
    /// Telephone calls and conversations: at most one week.
    Calls,
}

impl Class {
    pub const ALL: [Self; 2] = [Self::Video, Self::Calls];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Video => "video",
            Self::Calls => "calls",
        }
    }

    /// The prefix that all keys of the class have, and no other.
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Video => "video/",
            Self::Calls => "calls/",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One recording, as far as the protocol asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recording<'a> {
    pub class: Class,
    /// Which camera or telephone made it.
    pub source: &'a str,
    pub start: Timestamp,
    /// The first instant that is not in it.
    pub end: Timestamp,
}
