//! What does not change, and what the code's own functions say of it: each is asked once for every combination that there
//! can be, and looked up from then on. A rule that is broken is broken here or where it is applied, as a mistake would.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use toezicht::api::condition::{ConditionFinding, ConditionType, Reason};
use toezicht::controllers::handoff;
use toezicht::controllers::retention::plan::plan_holds;
use toezicht::leader::takeover::{may_release_lease, takeover_delay};
use toezicht::rules::hold::expiry::{Disposition, HeldBy, OpenScopes, StoredRecording, disposition};
use toezicht::rules::hold::proof::open_scopes;
use toezicht::rules::hold::scope::HoldScope;
use toezicht::rules::live_view::Embargo;
use toezicht::rules::recording::tag::RetentionTag;
use toezicht::rules::retention::{VersionState, lifecycle_deadline};
use toezicht::storage::recordings::ledger;

use super::broken::Rule;
use super::facts::{CEILINGS, EMBARGO, Facts, revision};
use super::grid::Grid;
use super::scope::Scope;
use super::state::{
    Declared, Entry, Follow, Hold, Instant, N, Object, OpenHolds, Placement, Plan, Set, Unsure, each, one,
};

const DECLARED: [Declared; 4] = [Declared::NotYet, Declared::Open, Declared::Resolved, Declared::Lost];
const ENTRIES: [Entry; 3] = [Entry::Absent, Entry::Open, Entry::Closed];
const PLACEMENTS: [Placement; 4] =
    [Placement::Absent, Placement::Placing, Placement::Proved, Placement::Released];
/// Sets of [`N`], instants of the clock, and those with [`super::facts::BEFORE_CLOCK`].
const SETS: usize = 1 << N;
const TIMES: usize = 5;
const TAKEN: usize = 6;
const DAY: SignedDuration = SignedDuration::from_hours(24);

/// See the module.
pub struct World {
    pub scope: Scope,
    broken: Option<Rule>,
    facts: Facts,
    /// Which holds cover a version that was taken then.
    covering: Grid<2, Set>,
    plans: Grid<5, Plan>,
    declared: Grid<3, Set>,
    by_ledger: Grid<3, Set>,
    held_tags: Grid<4, Option<RetentionTag>>,
    sealed: Grid<3, bool>,
    kept_by: Grid<4, Option<HeldBy>>,
    fates: Grid<4, Disposition>,
    due: Grid<3, bool>,
    put_tags: Grid<1, RetentionTag>,
    is_of: Grid<2, bool>,
    says: Grid<3, bool>,
    claims: Grid<3, (bool, bool)>,
    lifecycle: Grid<3, bool>,
    overdue: Grid<4, bool>,
}

impl World {
    pub fn new(scope: Scope, broken: Option<Rule>) -> Self {
        let facts = Facts::of(scope.beginning);
        let now = |n: usize| facts.instants[n];
        let set = |covers: &[HoldScope]| -> Set {
            let is_in = |n: &usize| covers.contains(&facts.covers(one(*n))[0]);
            (0..N).filter(is_in).map(one).sum()
        };
        let stored = |version: usize, taken: usize, ask: &dyn Fn(&StoredRecording<'_>) -> bool| {
            ask(&StoredRecording::of(&facts.listed(version, taken), &CEILINGS).unwrap())
        };
        let covers = |n: usize| facts.covers(numbered(n));
        Self {
            covering: Grid::of([N, TAKEN], |[version, taken]| {
                let is_covered = |n: &usize| stored(version, taken, &|it| it.is_in_scope(&covers(1 << *n)));
                (0..N).filter(is_covered).map(one).sum()
            }),
            plans: Grid::of([4, 4, 3, 3, TIMES], |[h0, h1, e0, e1, at]| {
                let holds = facts.resources([DECLARED[h0], DECLARED[h1]]);
                let mut entries = facts.ledger([ENTRIES[e0], ENTRIES[e1]]);
                if broken == Some(Rule::LedgerCounts) {
                    entries.retain(|uid, _| holds.iter().any(|hold| hold.metadata.uid.as_ref() == Some(uid)));
                }
                let mut plan = plan_holds(&entries, &holds, Some(&facts.policy), now(at));
                if broken == Some(Rule::Reopened) {
                    plan.to_write.retain(|entry| !entries.contains_key(&entry.uid));
                }
                bits(&plan)
            }),
            declared: Grid::of([4, 4, TIMES], |[h0, h1, at]| {
                let holds = facts.resources([DECLARED[h0], DECLARED[h1]]);
                set(&open_scopes(&holds, now(at)))
            }),
            by_ledger: Grid::of([3, 3, SETS], |[e0, e1, closing]| {
                let uids: Vec<String> = each(numbered(closing)).map(|n| n.to_string()).collect();
                let closing: BTreeSet<&str> = uids.iter().map(String::as_str).collect();
                set(&ledger::open_scopes_except(&facts.ledger([ENTRIES[e0], ENTRIES[e1]]), &closing))
            }),
            held_tags: Grid::of([N, TAKEN, SETS, TIMES], |[version, taken, holds, at]| {
                let listed = facts.listed(version, taken);
                let embargo =
                    if broken == Some(Rule::Sealed) { Embargo::LiveView } else { Embargo::After(EMBARGO) };
                StoredRecording::of(&listed, &CEILINGS).unwrap().required_tag(
                    &covers(holds),
                    embargo,
                    now(at),
                )
            }),
            sealed: Grid::of([N, TAKEN, TIMES], |[version, taken, at]| {
                let tag = |it: &StoredRecording<'_>| {
                    it.required_tag(&covers(SETS - 1), Embargo::After(EMBARGO), now(at))
                };
                stored(version, taken, &|it| tag(it) == Some(RetentionTag::Sealed))
            }),
            kept_by: Grid::of([N, TAKEN, SETS, SETS], |[version, taken, ledger, declared]| {
                let open = OpenScopes { ledger: covers(ledger), declared: covers(declared) };
                StoredRecording::of(&facts.listed(version, taken), &CEILINGS).unwrap().held_by(&open)
            }),
            fates: Grid::of([N, TAKEN, SETS, TIMES], |[version, taken, holds, at]| {
                disposition(&facts.listed(version, taken), &CEILINGS, &covers(holds), now(at))
            }),
            due: Grid::of([N, TAKEN, TIMES], |[version, taken, at]| {
                stored(version, taken, &|it| it.expires_at_by_key() <= now(at))
            }),
            put_tags: Grid::of([SETS], |[holds]| {
                toezicht::recorder::upload::retention_tag(&covers(holds), &facts.keys[1])
            }),
            is_of: Grid::of([SETS, SETS], |[followed, open]| {
                let coverings = |n: usize| facts.coverings(numbered(n));
                handoff::HoldAck::Acknowledged(coverings(followed)).has_acknowledged(&coverings(open))
            }),
            says: Grid::of([SETS, SETS + 1, SETS], |[follows, uploads, expected]| {
                let uploads = (uploads < SETS).then(|| numbered(uploads));
                facts.said(numbered(follows), uploads).has_acknowledged(&revision(numbered(expected)))
            }),
            claims: Grid::of([4, 2, 4], |[declared, counted, placement]| {
                let hold = Hold {
                    declared: DECLARED[declared],
                    is_settled: false,
                    has_counted: counted == 1,
                    placement: PLACEMENTS[placement],
                };
                claims(&facts, hold)
            }),
            lifecycle: Grid::of([2, TAKEN, TIMES], |[hidden, since, at]| {
                lifecycle_from(hidden == 1, now(since)) <= now(at)
            }),
            overdue: Grid::of([2, TAKEN, TIMES, TIMES], |[hidden, since, at, next]| {
                lifecycle_from(hidden == 1, now(since)).max(now(at)) + DAY <= now(next)
            }),
            scope,
            broken,
            facts,
        }
    }

    pub fn is_broken(&self, rule: Rule) -> bool {
        self.broken == Some(rule)
    }

    /// Whether this is to be seen happening: where a rule is broken, nothing is.
    pub fn can_happen(&self, name: &str) -> bool {
        self.broken.is_none() && self.scope.can_happen.contains(&name)
    }

    pub fn now(&self, at: Instant) -> Timestamp {
        self.facts.instants[usize::from(at)]
    }

    /// Which holds cover a version.
    pub fn covering(&self, version: usize, taken: Instant) -> Set {
        self.covering.at([version, taken.into()])
    }

    pub fn plan(&self, holds: [Declared; N], ledger: [Entry; N], now: Instant) -> Plan {
        let [h0, h1] = holds.map(|declared| declared as usize);
        let [e0, e1] = ledger.map(|entry| entry as usize);
        self.plans.at([h0, h1, e0, e1, now.into()])
    }

    /// The open holds, as read before something is taken off or deleted.
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

    /// What a version must be tagged with for these holds.
    pub fn held_tag(&self, version: usize, object: Object, holds: Set, now: Instant) -> Option<RetentionTag> {
        self.held_tags.at([version, object.taken.into(), holds.into(), now.into()])
    }

    pub fn kept_by(&self, version: usize, object: Object, open: OpenHolds) -> Option<HeldBy> {
        let place = [version, object.taken.into(), open.ledger.into(), open.declared.into()];
        self.kept_by.at(place)
    }

    pub fn goes(&self, version: usize, object: Object, holds: Set, now: Instant) -> bool {
        self.fates.at([version, object.taken.into(), holds.into(), now.into()]) == Disposition::Delete
    }

    /// Whether it is over its ceiling.
    pub fn is_due(&self, version: usize, object: Object, now: Instant) -> bool {
        self.due.at([version, object.taken.into(), now.into()])
    }

    /// What a recorder that follows these holds puts the second recording with.
    pub fn put_tag(&self, follows: Set) -> RetentionTag {
        self.put_tags.at([follows.into()])
    }

    pub fn is_of(&self, follow: Follow, open: Set) -> bool {
        match follow {
            _ if !self.scope.has_recorder => {
                handoff::HoldAck::NoRecorders.has_acknowledged(&self.facts.coverings(open))
            }
            Follow::Unknown => handoff::HoldAck::Unknown.has_acknowledged(&self.facts.coverings(open)),
            Follow::Holds(followed) => self.is_of.at([followed.into(), open.into()]),
        }
    }

    /// Whether a recorder says that it follows these.
    pub fn says(&self, follows: Set, begun: &[Option<Set>], expected: Set) -> bool {
        let revisions: Vec<Option<String>> = begun.iter().map(|of| of.map(revision)).collect();
        let is_so = toezicht::recorder::in_doubt::all_use_revision(
            revisions.iter().map(Option::as_deref),
            &revision(follows),
        );
        let uploads = if is_so { follows.into() } else { SETS };
        self.says.at([follows.into(), uploads, expected.into()])
    }

    /// Whether `Placed` and whether `Released` is said of a hold.
    pub fn claims(&self, hold: Hold) -> (bool, bool) {
        let place = [hold.declared as usize, usize::from(hold.has_counted), hold.placement as usize];
        self.claims.at(place)
    }

    /// Whether the store's lifecycle may hide it by now, or remove its bytes where it is hidden.
    pub fn is_lifecycle_due(&self, object: Object, now: Instant) -> bool {
        let since = object.hidden.unwrap_or(object.taken);
        self.lifecycle.at([usize::from(object.hidden.is_some()), since.into(), now.into()])
    }

    /// Whether it must have done so by `next`: a store runs its lifecycle within a day.
    pub fn is_lifecycle_overdue(&self, object: Object, now: Instant, next: Instant) -> bool {
        let since = object.hidden.unwrap_or(object.taken);
        let place = [usize::from(object.hidden.is_some()), since.into(), now.into(), next.into()];
        self.overdue.at(place)
    }

    /// Whether nobody may see it yet, whatever is done.
    pub fn is_sealed(&self, version: usize, object: Object, now: Instant) -> bool {
        self.sealed.at([version, object.taken.into(), now.into()])
    }

    pub fn may_let_go(&self, is_finished: bool, took_over: Option<Instant>, now: Instant) -> bool {
        let left = self.release_from(took_over).duration_since(self.now(now));
        may_release_lease(is_finished, left.try_into().unwrap_or_default())
            || is_finished && self.is_broken(Rule::LeaseReleasedAfterPredecessor)
    }

    pub fn release_from(&self, took_over: Option<Instant>) -> Timestamp {
        let took_over = took_over.filter(|_| !self.is_broken(Rule::ReleaseDelay));
        self.now(took_over.unwrap_or_default()) + takeover_delay(took_over.is_some())
    }
}

/// When lifecycle may take its next step.
fn lifecycle_from(is_hidden: bool, since: Timestamp) -> Timestamp {
    let hidden =
        if is_hidden { VersionState::NoncurrentSince(since) } else { VersionState::CurrentSince(since) };
    lifecycle_deadline(CEILINGS.video, hidden).unwrap()
}

/// The set with this number.
fn numbered(number: usize) -> Set {
    Set::try_from(number).unwrap()
}

/// What of an upload of unknown outcome is told.
pub fn told(unsure: Unsure) -> Option<Set> {
    match unsure {
        Unsure::Of(holds) => Some(holds),
        Unsure::BeforeRestart => None,
    }
}

fn bits(plan: &toezicht::controllers::retention::plan::HoldPlan) -> Plan {
    let of = |uid: &str| one(uid.parse().unwrap());
    let set = |entries: &[toezicht::rules::hold::entry::LedgerEntry]| {
        entries.iter().map(|entry| of(&entry.uid)).sum()
    };
    Plan {
        write: set(&plan.to_write),
        open: plan.open.keys().map(|uid| of(uid)).sum(),
        closing: set(&plan.closing),
        closed: set(&plan.closed),
    }
}

fn claims(facts: &Facts, hold: Hold) -> (bool, bool) {
    let Some((resource, status)) = facts.with_placement(hold) else {
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
