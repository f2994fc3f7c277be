//! How much there is in one exploration. All that may happen does, in every order; but everything at once is more than
//! can be gone through, so each scope has some of it whole. docs/development/model.md says what each one is for.

use super::facts::Beginning::{self, Old, Young};
use super::promises::{
    ALL_DELETED, KEPT_BY_LEDGER, LATE_REQUEST_CLEARS_PROTECTION, ONE_RELEASED, TWO_PLACED, TWO_RELEASED,
};
use super::state::Instant;

/// See the module. Two versions and two holds are in each of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scope {
    pub name: &'static str,
    pub beginning: Beginning,
    /// The second recording is in the recorder's spool; otherwise it is in the bucket, and there is no recorder.
    pub has_recorder: bool,
    /// How often the recorder gives up an upload, or is killed.
    pub failures: u8,
    /// How often somebody becomes the leader: another operator, or the same one started anew.
    pub terms: u8,
    /// The cluster may be restored from a backup: of before the second hold, or of before it was resolved.
    pub has_backups: bool,
    /// The instants that there are.
    pub clock: &'static [Instant],
    /// What must be able to happen in it.
    pub can_happen: &'static [&'static str],
}

/// All parts, over the time in which requests of a leader that was stopped may arrive.
pub const ALL_AT_ONCE: Scope = Scope {
    name: "all at once",
    beginning: Old,
    has_recorder: true,
    failures: 1,
    terms: 2,
    has_backups: false,
    clock: &[0, 1, 2],
    can_happen: &[TWO_PLACED, ONE_RELEASED, TWO_RELEASED, LATE_REQUEST_CLEARS_PROTECTION],
};
/// Nothing is held yet: what is held first while lifecycle hides it, and while the recorder uploads.
pub const UPLOADS: Scope = Scope {
    name: "uploads",
    beginning: Young,
    has_recorder: true,
    failures: 1,
    terms: 1,
    has_backups: false,
    clock: &[0, 1],
    can_happen: &[TWO_PLACED, ONE_RELEASED, TWO_RELEASED],
};
/// One leader after the other is lost, and the cluster too.
pub const TAKEOVER: Scope = Scope {
    name: "takeover",
    beginning: Old,
    has_recorder: false,
    failures: 0,
    terms: 3,
    has_backups: true,
    clock: &[0, 1, 2],
    can_happen: &[TWO_PLACED, ONE_RELEASED, TWO_RELEASED, LATE_REQUEST_CLEARS_PROTECTION],
};
/// From the first midnight of lifecycle until everything is over its ceiling.
pub const AGEING: Scope = Scope {
    name: "ageing",
    beginning: Young,
    has_recorder: false,
    failures: 0,
    terms: 2,
    has_backups: true,
    clock: &[0, 1, 2, 3, 4],
    can_happen: &[ALL_DELETED, KEPT_BY_LEDGER],
};
