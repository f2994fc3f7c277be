//! Scopes of exploration. Each explores every order of its actions. All actions together have too many states, so
//! each scope has a part of them. docs/development/model.md describes the purpose of each.

use super::properties::{
    ALL_DELETED, KEPT_BY_LEDGER, LATE_REQUEST_CLEARS_PROTECTION, ONE_RELEASED, TWO_PLACED, TWO_RELEASED,
};
use super::state::Instant;
use super::values::Beginning::{self, Old, Young};

/// A scope of exploration, with two versions and two holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scope {
    pub name: &'static str,
    pub beginning: Beginning,
    /// Whether the second recording is in a recorder's spool. Otherwise it is in the bucket, and there is no
    /// recorder.
    pub has_recorder: bool,
    /// Number of times the recorder gives up an upload or is killed.
    pub failures: u8,
    /// Number of leader terms, of another operator or of the same one restarted.
    pub terms: u8,
    /// Whether the cluster may be restored from a backup before the second hold's declaration or resolution.
    pub has_backups: bool,
    /// Instants of the clock.
    pub clock: &'static [Instant],
    /// States that must be reachable.
    pub can_happen: &'static [&'static str],
}

/// All parts, over the time in which requests of a stopped leader may arrive.
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
/// Nothing is held yet. Holds are placed while the lifecycle hides versions and the recorder uploads.
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
/// Leaders are lost repeatedly, and the cluster is restored.
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
/// From the first midnight of the lifecycle until everything is past its ceiling.
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
