//! The protection of a version: its legal hold and its tag.

use super::tag::RetentionTag;

/// What a version is marked with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protection {
    /// Its legal hold is on.
    pub legal_hold: bool,
    /// Value of the one tag that it must have; `None`: it has none, or others beside it.
    pub tag: Option<RetentionTag>,
}

impl Protection {
    /// Neither.
    pub(crate) const NONE: Self = Self { legal_hold: false, tag: None };
}
