//! What is written to a version, and in which order: pure. Whatever happens between two writes, or instead of the rest,
//! what was protected stays so.

use crate::rules::recording::protection::Protection;
use crate::rules::recording::tag::RetentionTag;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProtectionStep {
    /// Its legal hold, on or off.
    LegalHold(bool),
    Tag(RetentionTag),
    /// The delete markers that hide it go.
    Unhide,
}

/// What it takes that a version which was found like this is held with `tag`. The legal hold first: from then on nobody
/// deletes it, not even by a request that was sent before; what says `held`, and can be read, is protected.
pub fn steps_to_place(found: &Protection, tag: RetentionTag, is_hidden: bool) -> Vec<ProtectionStep> {
    let writes = [
        (!found.legal_hold).then_some(ProtectionStep::LegalHold(true)),
        (found.tag != Some(tag)).then_some(ProtectionStep::Tag(tag)),
        is_hidden.then_some(ProtectionStep::Unhide),
    ];
    writes.into_iter().flatten().collect()
}

/// What it takes that a version which was found like this is as if no hold had ever been, `tag` being what it has then.
/// The tag first: once the legal hold is off, the store's lifecycle sees to the rest, be the operator dead.
pub fn steps_to_release(found: &Protection, tag: RetentionTag) -> Vec<ProtectionStep> {
    let writes = [
        (found.tag != Some(tag)).then_some(ProtectionStep::Tag(tag)),
        found.legal_hold.then_some(ProtectionStep::LegalHold(false)),
    ];
    writes.into_iter().flatten().collect()
}
