//! The protection of a version: its legal hold and its tag.

use super::tag::RetentionTag;

/// What a version is marked with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protection {
    pub legal_hold: bool,
    /// Value of the one tag that it must have; `None`: it has none, or others beside it.
    pub tag: Option<RetentionTag>,
}

impl Protection {
    pub(crate) const NONE: Self = Self { legal_hold: false, tag: None };
}
