//! Recordings: class, source and period, and the keys, tags and versions in the bucket.

pub mod days;
pub mod key;
pub(crate) mod key_format;
pub mod protection;
pub mod tag;
pub mod version;

use jiff::Timestamp;
use serde::Serialize;
use strum::{Display, EnumString, IntoStaticStr};

/// Class of a recording. Each has its own ceiling (article 6).
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Display, EnumString, IntoStaticStr,
)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Class {
    Video,
    Calls,
}

impl Class {
    pub const ALL: [Self; 2] = [Self::Video, Self::Calls];

    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Returns the prefix of all keys of the class, and of no others.
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Video => "video/",
            Self::Calls => "calls/",
        }
    }
}

/// Properties of a recording that the protocol's rules use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recording<'a> {
    pub class: Class,
    /// Camera or telephone.
    pub source: &'a str,
    pub start: Timestamp,
    /// Exclusive.
    pub end: Timestamp,
}
