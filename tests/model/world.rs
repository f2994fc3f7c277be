//! What does not change: two recordings, two incidents, a policy, five instants; and what the code's own functions say of
//! them. These are asked once for each combination that there can be, and looked up from then on.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::Rule;
use super::state::{Declared, Entry, Follow, Instant, N, OpenHolds, Placement, Plan, Set, each, one};
use crate::api::{Ceilings, Days, IncidentHold, RecordingPolicySpec};
use crate::contract::{RecorderStatus, SpoolStatus};
use crate::controllers::buckets::{self, Coverings};
use crate::controllers::hold::{FINALIZER, is_resolved, status};
use crate::controllers::retention::plan::plan;
use crate::controllers::retention::rules::open_covers;
use crate::protocol::cover::Cover;
use crate::protocol::retention::{Hidden, lifecycle_due};
use crate::recorder::upload;
use crate::storage::aging::{self, Fate, KeptBy, Stored, fate};
use crate::storage::key::{Class, Key};
use crate::storage::ledger;
use crate::storage::listing::Listed;
use crate::storage::tag::RetentionTag;

/// The instants of the clock. Lifecycle hides the first recording, where it is young, at the midnight between the first
/// two; a leader that stopped is followed within a minute, its requests land within fifteen; at the fourth the bytes of
/// the first go and the second is hidden; at the fifth everything is over its ceiling.
pub const INSTANTS: [&str; 5] = [
    "2026-03-02T23:59:30Z",
    "2026-03-03T00:00:30Z",
    "2026-03-03T00:20:30Z",
    "2026-03-05T00:30:00Z",
    "2026-03-08T00:30:00Z",
];
/// When the store took the first recording: before all of these.
pub const BEFORE: Instant = INSTANTS.len() as Instant;
/// No connection is kept open until then.
pub const DAYS_LATER: Instant = 3;

const LENGTH: u64 = 60_000;
const CEILINGS: Ceilings = Ceilings {
    video: Days(5),
    calls: Days(5),
};
const EMBARGO: SignedDuration = SignedDuration::from_hours(1);

/// How it all begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// Nothing is held; lifecycle is about to hide the first recording.
    Young,
    /// The first recording is over its ceiling, held for the first incident and proved.
    Old,
}

/// See the module.
pub struct World {
    pub broken: Option<Rule>,
    pub beginning: Beginning,
    instants: Vec<Timestamp>,
    keys: [Key; N],
    covers: Vec<Vec<Cover>>,
    plans: BTreeMap<([u8; N], [u8; N], Instant), Plan>,
    declared: BTreeMap<([u8; N], Instant), Set>,
    tags: BTreeMap<(usize, Instant, Set, Instant), Option<RetentionTag>>,
    claims: BTreeMap<(u8, bool, u8), (bool, bool)>,
    follows: BTreeMap<(Follow_, Set), bool>,
}

type Follow_ = Option<Set>;
