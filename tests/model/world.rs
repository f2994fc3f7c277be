//! The unchanging part of the model, and lookup tables of the code's own decisions for every combination of inputs. A
//! broken rule is broken here or where it is applied, like a programming mistake.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use toezicht::api::condition::{ConditionFinding, ConditionType, Reason};
use toezicht::controllers::handoff;
use toezicht::controllers::retention::plan::plan_holds;
use toezicht::leader::takeover;
use toezicht::rules::hold::expiry::{Disposition, HeldBy, OpenScopes, StoredRecording, disposition};
use toezicht::rules::hold::proof::open_scopes;
use toezicht::rules::hold::scope::HoldScope;
use toezicht::rules::live_view::Embargo;
use toezicht::rules::recording::tag::RetentionTag;
use toezicht::rules::retention::{VersionState, lifecycle_deadline};
use toezicht::storage::recordings::ledger;

use super::lookup_table::LookupTable;
use super::rules::Rule;
use super::scope::Scope;
use super::state::{
    Declared, Entry, Hold, InDoubt, Instant, N, Object, OpenHolds, Placement, Plan, RecorderAck, Set,
    members, singleton,
};
use super::values::{CEILINGS, EMBARGO, Values, revision};

const DECLARED: [Declared; 4] = [Declared::NotYet, Declared::Open, Declared::Resolved, Declared::Lost];
const ENTRIES: [Entry; 3] = [Entry::Absent, Entry::Open, Entry::Closed];
const PLACEMENTS: [Placement; 4] =
    [Placement::Absent, Placement::Placing, Placement::Proved, Placement::Released];
/// Number of subsets of [`N`], of instants of the clock, and of instants with [`super::values::BEFORE_CLOCK`].
const SETS: usize = 1 << N;
const TIMES: usize = 5;
const UPLOAD_TIMES: usize = 6;
const DAY: SignedDuration = SignedDuration::from_hours(24);

/// A scope with the decisions that apply in it.
pub struct World {
    pub scope: Scope,
    broken: Option<Rule>,
    values: Values,
    /// Holds that cover a version, by upload time.
    covering: LookupTable<2, Set>,
    plans: LookupTable<5, Plan>,
    declared: LookupTable<3, Set>,
    by_ledger: LookupTable<3, Set>,
    held_tags: LookupTable<4, Option<RetentionTag>>,
    sealed: LookupTable<3, bool>,
    kept_by: LookupTable<4, Option<HeldBy>>,
    dispositions: LookupTable<4, Disposition>,
    due: LookupTable<3, bool>,
    put_tags: LookupTable<1, RetentionTag>,
    acknowledged: LookupTable<3, bool>,
    acknowledges: LookupTable<3, bool>,
    claims: LookupTable<3, (bool, bool)>,
    lifecycle: LookupTable<3, bool>,
    overdue: LookupTable<4, bool>,
}

impl World {
    pub fn new(scope: Scope, broken: Option<Rule>) -> Self {
        let values = Values::of(scope.beginning);
        let now = |n: usize| values.instants[n];
        let set = |scopes: &[HoldScope]| -> Set {
            let is_in = |n: &usize| scopes.contains(&values.scopes(singleton(*n))[0]);
            (0..N).filter(is_in).map(singleton).sum()
        };
        let stored = |version: usize, upload: usize, question: &dyn Fn(&StoredRecording<'_>) -> bool| {
            question(&StoredRecording::of(&values.listed(version, upload), &CEILINGS).unwrap())
        };
        let scopes = |n: usize| values.scopes(subset(n));
        Self {
            covering: LookupTable::new([N, UPLOAD_TIMES], |[version, upload]| {
                let is_covered = |n: &usize| stored(version, upload, &|it| it.is_in_scope(&scopes(1 << *n)));
                (0..N).filter(is_covered).map(singleton).sum()
            }),
            plans: LookupTable::new([4, 4, 3, 3, TIMES], |[h0, h1, e0, e1, at]| {
                let holds = values.resources([DECLARED[h0], DECLARED[h1]]);
                let mut entries = values.ledger([ENTRIES[e0], ENTRIES[e1]]);
                if broken == Some(Rule::LedgerCounts) {
                    entries.retain(|uid, _| holds.iter().any(|hold| hold.metadata.uid.as_ref() == Some(uid)));
                }
                let mut plan = plan_holds(&entries, &holds, Some(&values.policy), now(at));
                if broken == Some(Rule::Reopened) {
                    plan.to_write.retain(|entry| !entries.contains_key(&entry.uid));
                }
                to_plan(&plan)
            }),
            declared: LookupTable::new([4, 4, TIMES], |[h0, h1, at]| {
                let holds = values.resources([DECLARED[h0], DECLARED[h1]]);
                set(&open_scopes(&holds, now(at)))
            }),
            by_ledger: LookupTable::new([3, 3, SETS], |[e0, e1, closing]| {
                let uids: Vec<String> = members(subset(closing)).map(|n| n.to_string()).collect();
                let closing: BTreeSet<&str> = uids.iter().map(String::as_str).collect();
                set(&ledger::open_scopes_except(&values.ledger([ENTRIES[e0], ENTRIES[e1]]), &closing))
            }),
            held_tags: LookupTable::new([N, UPLOAD_TIMES, SETS, TIMES], |[version, upload, holds, at]| {
                let listed = values.listed(version, upload);
                let embargo =
                    if broken == Some(Rule::Sealed) { Embargo::LiveView } else { Embargo::After(EMBARGO) };
                StoredRecording::of(&listed, &CEILINGS).unwrap().required_tag(
                    &scopes(holds),
                    embargo,
                    now(at),
                )
            }),
            sealed: LookupTable::new([N, UPLOAD_TIMES, TIMES], |[version, upload, at]| {
                let tag = |recording: &StoredRecording<'_>| {
                    recording.required_tag(&scopes(SETS - 1), Embargo::After(EMBARGO), now(at))
                };
                stored(version, upload, &|it| tag(it) == Some(RetentionTag::Sealed))
            }),
            kept_by: LookupTable::new(
                [N, UPLOAD_TIMES, SETS, SETS],
                |[version, upload, ledger, declared]| {
                    let open = OpenScopes { ledger: scopes(ledger), declared: scopes(declared) };
                    StoredRecording::of(&values.listed(version, upload), &CEILINGS).unwrap().held_by(&open)
                },
            ),
            dispositions: LookupTable::new([N, UPLOAD_TIMES, SETS, TIMES], |[version, upload, holds, at]| {
                disposition(&values.listed(version, upload), &CEILINGS, &scopes(holds), now(at))
            }),
            due: LookupTable::new([N, UPLOAD_TIMES, TIMES], |[version, upload, at]| {
                stored(version, upload, &|it| it.expires_at_by_key() <= now(at))
            }),
            put_tags: LookupTable::new([SETS], |[holds]| {
                toezicht::recorder::upload::retention_tag(&scopes(holds), &values.keys[1])
            }),
            acknowledged: LookupTable::new([SETS, SETS, SETS], |[applied, open, closing]| {
                let scope_configs = |n: usize| values.scope_configs(subset(n));
                let closing = scope_configs(closing);
                let closing = closing.keys().map(String::as_str).collect();
                let ack = handoff::HoldAck::Acknowledged(scope_configs(applied));
                ack.has_acknowledged(&scope_configs(open), &closing)
            }),
            acknowledges: LookupTable::new([SETS, SETS + 1, SETS], |[applied, uploads, expected]| {
                let uploads = (uploads < SETS).then(|| subset(uploads));
                values.recorder_status(subset(applied), uploads).has_acknowledged(&revision(subset(expected)))
            }),
            claims: LookupTable::new([4, 2, 4], |[declared, has_finalizer, placement]| {
                let hold = Hold {
                    declared: DECLARED[declared],
                    is_settled: false,
                    has_finalizer: has_finalizer == 1,
                    placement: PLACEMENTS[placement],
                };
                claimed_conditions(&values, hold)
            }),
            lifecycle: LookupTable::new([2, UPLOAD_TIMES, TIMES], |[hidden, since, at]| {
                lifecycle_from(hidden == 1, now(since)) <= now(at)
            }),
            overdue: LookupTable::new([2, UPLOAD_TIMES, TIMES, TIMES], |[hidden, since, at, next]| {
                lifecycle_from(hidden == 1, now(since)).max(now(at)) + DAY <= now(next)
            }),
            scope,
            broken,
            values,
        }
    }

    pub fn is_broken(&self, rule: Rule) -> bool {
        self.broken == Some(rule)
    }

    /// Returns whether the scope must reach this property. With a broken rule none must be reached.
    pub fn can_happen(&self, name: &str) -> bool {
        self.broken.is_none() && self.scope.can_happen.contains(&name)
    }

    pub fn now(&self, at: Instant) -> Timestamp {
        self.values.instants[usize::from(at)]
    }

    /// Returns the holds that cover a version.
    pub fn covering(&self, version: usize, uploaded_at: Instant) -> Set {
        self.covering.at([version, uploaded_at.into()])
    }

    pub fn plan(&self, holds: [Declared; N], ledger: [Entry; N], now: Instant) -> Plan {
        let [h0, h1] = holds.map(|declared| declared as usize);
        let [e0, e1] = ledger.map(|entry| entry as usize);
        self.plans.at([h0, h1, e0, e1, now.into()])
    }

    /// Returns the open holds, as read before a protection is cleared or a version deleted.
    pub fn read_open(
        &self,
        holds: [Declared; N],
        ledger: [Entry; N],
        closing: Set,
        now: Instant,
    ) -> OpenHolds {
        let [h0, h1] = holds.map(|declared| declared as usize);
        let [e0, e1] = ledger.map(|entry| entry as usize);
        let ledger = self.by_ledger.at([e0, e1, closing.into()]);
        OpenHolds {
            ledger: if self.is_broken(Rule::LedgerCounts) { 0 } else { ledger },
            declared: self.declared.at([h0, h1, now.into()]),
        }
    }

    /// Returns the tag that a version needs for these holds.
    pub fn held_tag(&self, version: usize, object: Object, holds: Set, now: Instant) -> Option<RetentionTag> {
        self.held_tags.at([version, object.uploaded_at.into(), holds.into(), now.into()])
    }

    pub fn held_by(&self, version: usize, object: Object, open: OpenHolds) -> Option<HeldBy> {
        let coordinates = [version, object.uploaded_at.into(), open.ledger.into(), open.declared.into()];
        self.kept_by.at(coordinates)
    }

    pub fn is_deletable(&self, version: usize, object: Object, holds: Set, now: Instant) -> bool {
        self.dispositions.at([version, object.uploaded_at.into(), holds.into(), now.into()])
            == Disposition::Delete
    }

    /// Returns whether a version is past its ceiling.
    pub fn is_due(&self, version: usize, object: Object, now: Instant) -> bool {
        self.due.at([version, object.uploaded_at.into(), now.into()])
    }

    /// Returns the tag with which a recorder that applied these holds uploads the second recording.
    pub fn put_tag(&self, applied: Set) -> RetentionTag {
        self.put_tags.at([applied.into()])
    }

    pub fn has_acknowledged(&self, ack: RecorderAck, plan: Plan) -> bool {
        let open = || self.values.scope_configs(plan.open);
        match ack {
            _ if !self.scope.has_recorder => {
                handoff::HoldAck::NoRecorders.has_acknowledged(&open(), &BTreeSet::new())
            }
            RecorderAck::Unknown => handoff::HoldAck::Unknown.has_acknowledged(&open(), &BTreeSet::new()),
            RecorderAck::Holds(applied) => {
                self.acknowledged.at([applied.into(), plan.open.into(), plan.closing.into()])
            }
        }
    }

    /// Returns whether a recorder acknowledges these holds.
    pub fn acknowledges(&self, applied: Set, pending: &[Option<Set>], expected: Set) -> bool {
        let revisions: Vec<Option<String>> = pending.iter().map(|holds| holds.map(revision)).collect();
        let all_use_revision = toezicht::recorder::in_doubt::all_use_revision(
            revisions.iter().map(Option::as_deref),
            &revision(applied),
        );
        let uploads = if all_use_revision { applied.into() } else { SETS };
        self.acknowledges.at([applied.into(), uploads, expected.into()])
    }

    /// Returns whether `Placed` and whether `Released` is claimed of a hold.
    pub fn claimed_conditions(&self, hold: Hold) -> (bool, bool) {
        let coordinates = [hold.declared as usize, usize::from(hold.has_finalizer), hold.placement as usize];
        self.claims.at(coordinates)
    }

    /// Returns whether the store's lifecycle may hide a version by now, or delete its bytes if it is hidden.
    pub fn is_lifecycle_due(&self, object: Object, now: Instant) -> bool {
        let since = object.hidden.unwrap_or(object.uploaded_at);
        self.lifecycle.at([usize::from(object.hidden.is_some()), since.into(), now.into()])
    }

    /// Returns whether the lifecycle must have acted by `next`: a store runs it within a day.
    pub fn is_lifecycle_overdue(&self, object: Object, now: Instant, next: Instant) -> bool {
        let since = object.hidden.unwrap_or(object.uploaded_at);
        let coordinates = [usize::from(object.hidden.is_some()), since.into(), now.into(), next.into()];
        self.overdue.at(coordinates)
    }

    /// Returns whether a version is under embargo.
    pub fn is_sealed(&self, version: usize, object: Object, now: Instant) -> bool {
        self.sealed.at([version, object.uploaded_at.into(), now.into()])
    }

    pub fn may_release_lease(&self, is_finished: bool, took_over_at: Option<Instant>, now: Instant) -> bool {
        let left = self.release_from(took_over_at).duration_since(self.now(now));
        takeover::may_release_lease(is_finished, left.try_into().unwrap_or_default())
            || is_finished && self.is_broken(Rule::LeaseReleasedAfterPredecessor)
    }

    pub fn release_from(&self, took_over_at: Option<Instant>) -> Timestamp {
        let took_over_at = took_over_at.filter(|_| !self.is_broken(Rule::ReleaseDelay));
        self.now(took_over_at.unwrap_or_default()) + takeover::takeover_delay(took_over_at.is_some())
    }
}

/// Returns when the lifecycle may take its next step.
fn lifecycle_from(is_hidden: bool, since: Timestamp) -> Timestamp {
    let hidden =
        if is_hidden { VersionState::NoncurrentSince(since) } else { VersionState::CurrentSince(since) };
    lifecycle_deadline(CEILINGS.video, hidden).unwrap()
}

/// Converts a number to the set with its bits.
fn subset(number: usize) -> Set {
    Set::try_from(number).unwrap()
}

/// Returns the holds that an in-doubt upload applied, or `None` if it began before a restart.
pub fn holds_of_upload(unsure: InDoubt) -> Option<Set> {
    match unsure {
        InDoubt::Of(holds) => Some(holds),
        InDoubt::BeforeRestart => None,
    }
}

fn to_plan(plan: &toezicht::controllers::retention::plan::HoldPlan) -> Plan {
    let hold = |uid: &str| singleton(uid.parse().unwrap());
    let set = |entries: &[toezicht::rules::hold::entry::LedgerEntry]| {
        entries.iter().map(|entry| hold(&entry.uid)).sum()
    };
    Plan {
        write: set(&plan.to_write),
        open: plan.open.keys().map(|uid| hold(uid)).sum(),
        closing: set(&plan.closing),
        closed: set(&plan.closed),
    }
}

fn claimed_conditions(values: &Values, hold: Hold) -> (bool, bool) {
    let Some((resource, status)) = values.with_placement(hold) else {
        return (false, false);
    };
    let is_resolved = hold.declared == Declared::Resolved;
    let accepted = ConditionFinding::new(ConditionType::Accepted, true, Reason::Valid, "");
    let placed = toezicht::controllers::hold::status::placed(
        &resource,
        &accepted,
        status.as_ref(),
        Timestamp::UNIX_EPOCH,
    );
    let released = toezicht::controllers::hold::status::released(&resource, status.as_ref(), is_resolved);
    (!is_resolved && placed.is_true(), released.is_some_and(|finding| finding.is_true()))
}
