//! What there is, all of it small and countable: a state is compared, hashed and copied a million times.

use toezicht::rules::hold::steps::ProtectionStep;
use toezicht::rules::recording::tag::RetentionTag;

/// How many versions and how many holds there are.
pub const N: usize = 2;
/// Some of the versions, or some of the holds: a bit each.
pub type Set = u8;
/// An instant, by its place in [`super::world::INSTANTS`].
pub type Instant = u8;

/// The members of a set.
pub fn each(set: Set) -> impl Iterator<Item = usize> {
    (0..N).filter(move |n| set >> n & 1 == 1)
}

/// The set of this one.
pub fn one(n: usize) -> Set {
    1 << n
}

/// A version in the bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    Absent,
    Stored(Object),
    Gone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Object {
    pub legal_hold: bool,
    pub tag: RetentionTag,
    /// Behind a delete marker, since when.
    pub hidden: Option<Instant>,
    /// When the store took it.
    pub taken: Instant,
}

impl Object {
    /// Whether the store's lifecycle would take it.
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

/// What people said of an incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Declared {
    NotYet,
    Open,
    Resolved,
    /// It was open, and the cluster was restored from a backup that does not have it.
    Lost,
}

/// What the retention controller wrote into the hold's status.
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
    /// It has been declared since an earlier instant.
    pub is_settled: bool,
    /// It has the finalizer.
    pub has_counted: bool,
    pub placement: Placement,
}

/// What recorders were found to follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Follow {
    Unknown,
    Holds(Set),
}

/// What an upload of unknown outcome followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unsure {
    Of(Set),
    BeforeRestart,
}

/// The recorder, with the second version in its spool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Recorder {
    pub follows: Set,
    pub is_confirmed: bool,
    /// What is being uploaded: its tag, and what that followed.
    pub upload: Option<(RetentionTag, Set)>,
    pub unsure: Option<Unsure>,
    /// An upload that nobody waits for any more, and that may still arrive.
    pub stray: Option<RetentionTag>,
    /// It may still fail so often.
    pub failures: u8,
}

/// A request that an operator sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Request {
    Ledger(usize, Entry),
    Mark(usize, ProtectionStep),
    /// Of the marker that hides it since then.
    Unhide(usize, Instant),
    /// Of these versions; of those in `unlawful`, it was sent though a hold on them had been declared before.
    Delete {
        versions: Set,
        unlawful: Set,
    },
}

/// A request of an operator that was stopped while it sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Late {
    pub request: Request,
    pub signed: Instant,
}

/// What is to be done about the holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Plan {
    pub write: Set,
    pub open: Set,
    pub closing: Set,
    pub closed: Set,
}

/// What others hold, as last read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct OpenHolds {
    pub ledger: Set,
    pub declared: Set,
}

/// Where a pass is with one version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// The page with it is listed, the open holds are read, then its marks. What happens between these changes one of
    /// them at most, so it is as if it had happened before or after all three.
    Read,
    Write {
        todo: [Option<ProtectionStep>; 3],
        hidden: Option<Instant>,
        is_over: bool,
    },
    /// Before it is deleted, the open holds are read again.
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

/// Where a look is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Entries to write first.
    Ledger(Set),
    Place(Pass),
    /// It wrote something.
    Placed,
    Release(Pass),
    /// It wrote something, or left something undecided.
    Released,
    /// Entries to close.
    Close(Set),
    Sweep,
    /// The open holds are read.
    SweepDelete(Set),
    Report,
    Done,
}

/// A look under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Busy {
    /// When it began.
    pub now: Instant,
    pub plan: Plan,
    /// Whether recorders were known to follow what is open, before its first page was listed.
    pub is_followed: bool,
    pub is_placed: bool,
    pub released: Set,
    pub step: Step,
}

/// What the retention controller is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Look {
    Idle,
    Busy(Busy),
}

/// The operator that leads, and what it has in its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Leader {
    /// When it took over from one that had not let go; forgotten once it may release.
    pub took_over: Option<Instant>,
    pub held: Option<Set>,
    pub follow: Follow,
    pub look: Look,
}

/// All of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct State {
    pub clock: Instant,
    pub versions: [Version; N],
    pub ledger: [Entry; N],
    pub holds: [Hold; N],
    /// What the recorders' configuration says is held.
    pub config: Set,
    pub recorder: Recorder,
    pub leader: Option<Leader>,
    /// How often somebody has become the leader.
    pub terms: u8,
    /// Whether the last leader, where it did not let go, stopped before this instant.
    pub stopped: Option<bool>,
    pub late: [Option<Late>; N],
    /// A leader that was stopped, and goes on where it was: only where the fence is broken.
    pub thawed: Option<Leader>,
    /// A late request took marks from a version.
    pub is_disturbed: bool,
    /// What must never be: a held version was lost; a release was claimed of what is still there over its ceiling.
    pub is_lost: bool,
    pub has_lied: bool,
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

    /// The holds of which nobody has said that their incident is resolved, by the API server or by the ledger.
    pub fn open(&self) -> Set {
        let is_open = |n: &usize| match self.holds[*n].declared {
            Declared::Open => true,
            Declared::Lost => self.ledger[*n] == Entry::Open,
            Declared::NotYet | Declared::Resolved => false,
        };
        (0..N).filter(is_open).map(one).sum()
    }

    /// The holds that explain why something is kept: those that are open, or not yet released.
    pub fn unreleased(&self) -> Set {
        let of_ledger = (0..N).filter(|n| self.ledger[*n] == Entry::Open);
        self.open() | of_ledger.map(one).sum::<Set>()
    }
}
