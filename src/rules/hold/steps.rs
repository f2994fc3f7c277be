//! Order of the writes that protect and release a version. Pure. If the operator stops between two writes, a protected version
//! stays protected.

use crate::rules::{Protection, RetentionTag};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProtectionStep {
    LegalHold(bool),
    Tag(RetentionTag),
    /// Deletes the delete markers that hide the version.
    Unhide,
}

/// Returns the writes that protect a version with `tag`. The legal hold comes first: from then on, no request can delete the
/// version, not even one that was sent earlier. A version with the tag `held`, which readers can read, is thus protected.
pub fn steps_to_place(found: &Protection, tag: RetentionTag, is_hidden: bool) -> Vec<ProtectionStep> {
    let writes = [
        (!found.legal_hold).then_some(ProtectionStep::LegalHold(true)),
        (found.tag != Some(tag)).then_some(ProtectionStep::Tag(tag)),
        is_hidden.then_some(ProtectionStep::Unhide),
    ];
    writes.into_iter().flatten().collect()
}

/// Returns the writes that release a version and restore its original `tag`. The tag comes first: once the legal hold is off,
/// the store's lifecycle rules delete the version even if the operator is down.
pub fn steps_to_release(found: &Protection, tag: RetentionTag) -> Vec<ProtectionStep> {
    let writes = [
        (found.tag != Some(tag)).then_some(ProtectionStep::Tag(tag)),
        found.legal_hold.then_some(ProtectionStep::LegalHold(false)),
    ];
    writes.into_iter().flatten().collect()
}
