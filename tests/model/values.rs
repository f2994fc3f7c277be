//! The two recordings, the two incidents, the policy and the instants, as values of the code's own types.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use toezicht::api::{Ceilings, Days, IncidentHold, Placement as Status, RecordingPolicySpec};
use toezicht::controllers::handoff::HoldScopes;
use toezicht::controllers::hold::FINALIZER;
use toezicht::rules::hold::scope::HoldScope;
use toezicht::rules::recording::key::{Class, Key};
use toezicht::rules::recording::version::ListedVersion;
use toezicht::wire::{RecorderStatus, SpoolStatus};

use super::exact::parse;
use super::state::{Declared, Entry, Hold, Instant, N, Placement, Set, members};

/// Instants of the clock. The lifecycle hides the first recording, if it is young, at the midnight between the first
/// two. A stopped leader is replaced within a minute, and its requests arrive within fifteen. At the fourth instant
/// the bytes of the first recording are due and the second is to be hidden. At the fifth everything is past its
/// ceiling.
pub const INSTANTS: [&str; 5] = [
    "2026-03-02T23:59:30Z",
    "2026-03-03T00:00:30Z",
    "2026-03-03T00:20:30Z",
    "2026-03-05T00:30:00Z",
    "2026-03-08T00:30:00Z",
];
/// Last instant: everything is past its ceiling.
pub const LAST: Instant = 4;
/// Upload time of the first recording, before all instants of the clock.
pub const BEFORE_CLOCK: Instant = 5;
/// Uploads and delete markers up to this instant have their next lifecycle step at the same instant.
pub const SAME_DAY: Instant = 2;
/// No connection stays open until this instant.
pub const DAYS_LATER: Instant = 3;

pub const CEILINGS: Ceilings = Ceilings { video: Days(5), calls: Days(5) };
pub const EMBARGO: SignedDuration = SignedDuration::from_hours(1);
const LENGTH_MS: u64 = 60_000;

/// Initial situation of a scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// Nothing is held, and the lifecycle is about to hide the first recording.
    Young,
    /// The first recording is past its ceiling and held for the first incident, whose placement is verified.
    Old,
}

/// The values of a scope.
pub struct Values {
    /// Instants of the clock, and [`BEFORE_CLOCK`].
    pub instants: Vec<Timestamp>,
    pub keys: [Key; N],
    pub policy: RecordingPolicySpec,
    entries: [toezicht::rules::hold::entry::LedgerEntry; N],
}

impl Values {
    pub fn of(beginning: Beginning) -> Self {
        let before = match beginning {
            Beginning::Young => "2026-03-01T12:00:00Z",
            Beginning::Old => "2026-02-20T12:00:00Z",
        };
        let instants: Vec<Timestamp> =
            INSTANTS.iter().chain([&before]).map(|at| at.parse().unwrap()).collect();
        let minute = SignedDuration::from_secs(60);
        let starts = [instants[5] - minute, instants[0] - minute - minute / 2];
        let key = |n: usize| Key::new(Class::Video, "receptie", starts[n], LENGTH_MS, &[0; 32]).unwrap();
        // The first incident covers the first recording, the second covers both.
        let windows = [(starts[0], starts[0] + minute), (starts[0], starts[1] + minute)];
        let entry = |n: usize| {
            let hold = incident(n, windows[n], false);
            toezicht::rules::hold::entry::LedgerEntry::new(
                uid(n),
                "n".into(),
                uid(n),
                &hold.spec,
                instants[0],
            )
        };
        let policy = json!({
            "title": "t", "timeZone": "Europe/Amsterdam", "adoption": {"by": "c", "date": "2020-05-04"},
            "inForce": {"from": "2020-05-06"}, "purposes": ["Theft"],
            "retention": {"video": "5d", "calls": "5d"}, "holds": {"reviewInterval": "28d"},
        });
        Self { keys: [key(0), key(1)], policy: parse(policy), entries: [entry(0), entry(1)], instants }
    }

    /// Returns a version as a listing returns it.
    pub fn listed(&self, version: usize, uploaded_at: usize) -> ListedVersion {
        ListedVersion {
            key: self.keys[version].to_string(),
            id: "1".into(),
            is_marker: false,
            is_latest: true,
            modified: self.instants[uploaded_at],
            size: 1,
            etag: String::new(),
        }
    }

    /// Returns the resource of a hold, if it exists.
    pub fn resource(&self, hold: usize, declared: Declared) -> Option<IncidentHold> {
        let window = self.entries[hold].scope.window;
        let with_state = |is_resolved| incident(hold, (window.from, window.until.unwrap()), is_resolved);
        match declared {
            Declared::NotYet | Declared::Lost => None,
            Declared::Open => Some(with_state(false)),
            Declared::Resolved => Some(with_state(true)),
        }
    }

    pub fn resources(&self, declared: [Declared; N]) -> Vec<IncidentHold> {
        (0..N).filter_map(|n| self.resource(n, declared[n])).collect()
    }

    /// Returns the ledger's entries by UID.
    pub fn ledger(&self, entries: [Entry; N]) -> BTreeMap<String, toezicht::rules::hold::entry::LedgerEntry> {
        let entry = |n: usize| match entries[n] {
            Entry::Absent => None,
            Entry::Open => Some(self.entries[n].clone()),
            Entry::Closed => Some(self.entries[n].closed(self.instants[0])),
        };
        (0..N).filter_map(|n| Some((uid(n), entry(n)?))).collect()
    }

    pub fn scopes(&self, holds: Set) -> Vec<HoldScope> {
        members(holds).map(|n| self.entries[n].scope.clone()).collect()
    }

    pub fn scope_configs(&self, holds: Set) -> HoldScopes {
        members(holds).map(|n| (uid(n), self.entries[n].scope.clone())).collect()
    }

    /// Returns a hold's resource with its finalizer, and its placement status.
    pub fn with_placement(&self, hold: Hold) -> Option<(IncidentHold, Option<Status>)> {
        let mut resource = self.resource(0, hold.declared)?;
        resource.metadata.generation = Some(1);
        if hold.has_finalizer {
            resource.metadata.finalizers = Some(vec![FINALIZER.into()]);
        }
        let status = json!({
            "observedGeneration": 1, "acceptanceTime": self.instants[0], "verified": hold.placement == Placement::Proved,
            "segments": 1, "size": "1 B", "coverage": "100%", "sealedSegments": 0,
            "releaseTime": (hold.placement == Placement::Released).then_some(self.instants[0]),
        });
        let status = (hold.placement != Placement::Absent).then(|| parse(status));
        Some((resource, status))
    }

    /// Returns a recorder's status report.
    pub fn recorder_status(&self, follows: Set, uploads_follow: Option<Set>) -> RecorderStatus {
        RecorderStatus {
            format: 1,
            version: "0".into(),
            shard: 0,
            revision: revision(follows),
            uploads_follow: uploads_follow.map(revision),
            refused: None,
            storage_problem: None,
            started: self.instants[0],
            now: self.instants[0],
            clock_ahead_ms: None,
            spool: SpoolStatus::default(),
            cameras: Vec::new(),
        }
    }
}

/// Returns the revision of a configuration with these holds.
pub fn revision(holds: Set) -> String {
    holds.to_string()
}

fn uid(hold: usize) -> String {
    hold.to_string()
}

fn incident(n: usize, window: (Timestamp, Timestamp), is_resolved: bool) -> IncidentHold {
    let mut spec = json!({
        "siteRef": {"name": "s"}, "purpose": "Theft", "reference": format!("2026-{n}"),
        "window": {"from": window.0, "until": window.1},
    });
    if is_resolved {
        spec["state"] = json!("Resolved");
        spec["resolution"] = json!({"time": window.1, "by": "G", "outcome": "Closed"});
    }
    let metadata = json!({"name": uid(n), "namespace": "n", "uid": uid(n)});
    parse(json!({"metadata": metadata, "spec": spec}))
}
