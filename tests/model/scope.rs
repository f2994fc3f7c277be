//! How much there is in one exploration. All that may happen does, in every order; but everything at once is more than
//! can be gone through, so each scope has some of it whole. docs/model.md says what each one is for.

use super::facts::Beginning::{self, Old, Young};
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
    /// How often somebody becomes the leader: the operators that there are, or the same one started anew.
    pub terms: u8,
    /// The cluster may lose the second hold.
    pub may_lose: bool,
    /// The instants that there are.
    pub clock: &'static [Instant],
}

/// One operator that lives; a recorder that fails once.
pub const UPLOADS: Scope = Scope {
    name: "uploads",
    beginning: Young,
    has_recorder: true,
    failures: 1,
    terms: 1,
    may_lose: false,
    clock: &[0, 1],
};
/// Two operators; what is held is over its ceiling.
pub const TAKEOVER: Scope = Scope {
    name: "takeover",
    beginning: Old,
    has_recorder: false,
    failures: 0,
    terms: 3,
    may_lose: false,
    clock: &[0, 1, 2],
};
/// All of the clock, and lifecycle; a cluster that is lost.
pub const AGEING: Scope = Scope {
    name: "ageing",
    beginning: Young,
    has_recorder: false,
    failures: 0,
    terms: 1,
    may_lose: true,
    clock: &[0, 1, 2, 3, 4],
};
