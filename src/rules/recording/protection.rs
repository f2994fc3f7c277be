//! The protection of a version: its legal hold and its tag.

use super::tag::RetentionTag;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protection {
    pub legal_hold: bool,
    /// Value of [`super::tag::TAG_KEY`]. `None`: the version does not have this tag, or has other tags too.
    pub tag: Option<RetentionTag>,
}

impl Protection {
    pub(crate) const NONE: Self = Self { legal_hold: false, tag: None };
}
