//! The state of the model. It is small and finite, because the checker compares, hashes and copies it millions of
//! times.

use toezicht::rules::hold::steps::ProtectionStep;
use toezicht::rules::recording::tag::RetentionTag;

/// Number of versions, and of holds.
pub const N: usize = 2;
/// A subset of the versions or of the holds, one bit each.
pub type Set = u8;
/// An instant, as an index into [`super::values::INSTANTS`].
pub type Instant = u8;

/// Returns the members of a set.
pub fn members(set: Set) -> impl Iterator<Item = usize> {
    (0..N).filter(move |n| set >> n & 1 == 1)
}

/// Returns the set with only this member.
pub fn singleton(n: usize) -> Set {
    1 << n
}

/// A version in the bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    Absent,
    Stored(Object),
    Deleted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Object {
    pub legal_hold: bool,
    pub tag: RetentionTag,
    /// Time of the delete marker that hides it.
    pub hidden: Option<Instant>,
    /// Upload time by the store.
    pub uploaded_at: Instant,
}

impl Object {
    /// Returns whether the store's lifecycle would delete it.
    pub fn is_left_to_lifecycle(self) -> bool {
        !self.legal_hold && self.tag == RetentionTag::Video
    }
}

/// An entry of the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Entry {
    Absent,
    Open,
    Closed,
}

/// State of an incident as declared by people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Declared {
    NotYet,
    Open,
    Resolved,
    /// Open, and lost when the cluster was restored from an older backup.
    Lost,
}

/// Placement in the hold's status, written by the retention controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Placement {
    Absent,
    Placing,
    Proved,
    Released,
}

/// An IncidentHold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Hold {
    pub declared: Declared,
    /// Whether it was declared before the current instant.
    pub is_settled: bool,
    /// Whether it has the finalizer.
    pub has_finalizer: bool,
    pub placement: Placement,
}

/// The recorders' last known acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RecorderAck {
    Unknown,
    Holds(Set),
}

/// Holds that an upload of unknown outcome applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum InDoubt {
    Of(Set),
    BeforeRestart,
}

/// The recorder, with the second version in its spool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Recorder {
    pub applied: Set,
    pub is_confirmed: bool,
    /// Tag of the running upload, and the holds that it applied.
    pub upload: Option<(RetentionTag, Set)>,
    pub in_doubt: Option<InDoubt>,
    /// Tag of an abandoned upload that may still arrive.
    pub stray: Option<RetentionTag>,
    /// Number of failures that are still allowed.
    pub failures: u8,
}

/// A request of an operator to the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Request {
    Ledger(usize, Entry),
    SetProtection(usize, ProtectionStep),
    /// Removes the delete marker of this time.
    Unhide(usize, Instant),
    /// Deletes these versions. For those in `unlawful`, a hold was declared before the request was sent.
    Delete {
        versions: Set,
        unlawful: Set,
    },
}

/// A request of an operator that was stopped while sending it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LateRequest {
    pub request: Request,
    pub signed: Instant,
}

/// Work to do for the holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Plan {
    pub write: Set,
    pub open: Set,
    pub closing: Set,
    pub closed: Set,
}

/// Open holds, as last read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct OpenHolds {
    pub ledger: Set,
    pub declared: Set,
}

/// Stage of a pass at one version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Lists the page, reads the open holds, then the version's protection. An event in between changes at most one
    /// of them, so it is equivalent to an event before or after all three.
    Read,
    Write {
        steps: [Option<ProtectionStep>; 3],
        hidden: Option<Instant>,
        is_past_ceiling: bool,
    },
    /// Reads the open holds again before the deletion.
    SecondRead,
    Delete,
}

/// A pass over the versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pass {
    pub at: Instant,
    pub version: usize,
    pub stage: Stage,
    pub has_written: bool,
    pub is_undecided: bool,
}

/// Step of a reconcile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Writes these ledger entries first.
    Ledger(Set),
    Place(Pass),
    /// The placing pass wrote something.
    Placed,
    Release(Pass),
    /// The releasing pass wrote something, or left something undecided.
    Released,
    /// Closes these ledger entries.
    Close(Set),
    Sweep,
    /// Deletes these versions; the open holds have been read.
    SweepDelete(Set),
    Report,
    Done,
}

/// A running reconcile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ActiveReconcile {
    /// Start time.
    pub now: Instant,
    pub plan: Plan,
    /// Whether recorders had acknowledged the open holds before the first page was listed.
    pub is_followed: bool,
    pub is_placed: bool,
    pub released: Set,
    pub step: Step,
}

/// State of the retention controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReconcileState {
    Idle,
    Running(ActiveReconcile),
}

/// The leading operator with its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Leader {
    /// Time of the takeover from a leader that had not released its lease. Cleared once this leader may release
    /// holds.
    pub took_over_at: Option<Instant>,
    pub held: Option<Set>,
    pub ack: RecorderAck,
    pub reconcile: ReconcileState,
}

/// The whole state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct State {
    pub clock: Instant,
    pub versions: [Version; N],
    pub ledger: [Entry; N],
    pub holds: [Hold; N],
    /// Holds in the recorders' configuration.
    pub config: Set,
    pub recorder: Recorder,
    pub leader: Option<Leader>,
    /// Number of leader terms so far.
    pub terms: u8,
    /// Whether the last leader stopped before this instant, if it did not release its lease.
    pub stopped: Option<bool>,
    pub late: [Option<LateRequest>; N],
    /// A stopped leader that continues where it was, only with a broken fence.
    pub thawed: Option<Leader>,
    /// Whether a late request cleared a version's protection.
    pub is_disturbed: bool,
    /// Whether a held version was lost.
    pub is_lost: bool,
    /// Whether a release was claimed while a released version was still protected or past its ceiling.
    pub has_false_claim: bool,
}

impl State {
    pub fn declared(&self) -> [Declared; N] {
        self.holds.map(|hold| hold.declared)
    }

    pub fn object(&self, version: usize) -> Option<Object> {
        match self.versions[version] {
            Version::Stored(object) => Some(object),
            _ => None,
        }
    }

    /// Returns the holds that are open by the API server, or by the ledger if the API server lost them.
    pub fn open(&self) -> Set {
        let is_open = |n: &usize| match self.holds[*n].declared {
            Declared::Open => true,
            Declared::Lost => self.ledger[*n] == Entry::Open,
            Declared::NotYet | Declared::Resolved => false,
        };
        (0..N).filter(is_open).map(singleton).sum()
    }

    /// Returns the holds that explain a protection: those that are open or not yet released.
    pub fn unreleased(&self) -> Set {
        let in_ledger = (0..N).filter(|n| self.ledger[*n] == Entry::Open);
        self.open() | in_ledger.map(singleton).sum::<Set>()
    }
}
