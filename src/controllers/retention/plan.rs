//! Which holds count, by the API server and the bucket's ledger together: pure.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use kube::ResourceExt;

use crate::api::{IncidentHold, RecordingPolicySpec};
use crate::controllers::buckets::Coverings;
use crate::controllers::hold::{has_counted, is_resolved};
use crate::protocol::cover::Cover;
use crate::protocol::hold::accept;
use crate::storage::ledger::Entry;

/// What is to be done about a site's holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// What the ledger must say first.
    pub write: Vec<Entry>,
    /// What is to be kept, by UID: of the holds that are open, those included that only the ledger knows.
    pub open: BTreeMap<String, Entry>,
    /// Resolved, and something may still be kept for it.
    pub closing: Vec<Entry>,
    /// Resolved, and nothing is kept for it any more.
    pub closed: Vec<Entry>,
    /// UIDs of holds that were resolved before they counted, and of which the ledger has nothing.
    pub never: Vec<String>,
    /// Names of holds that only the ledger knows.
    pub orphaned: Vec<String>,
}

/// Judges the site's `holds` with what the ledger has.
///
/// A hold counts from when the ledger has it, whatever becomes of the policy afterwards; before that, it must be
/// acceptable now.
pub fn plan(
    entries: &BTreeMap<String, Entry>,
    holds: &[IncidentHold],
    policy: Option<&RecordingPolicySpec>,
    now: Timestamp,
) -> Plan {
    let mut plan = Plan::default();
    let known: BTreeSet<String> = holds.iter().filter_map(ResourceExt::uid).collect();
    let mut orphans: BTreeMap<&str, &Entry> = entries
        .iter()
        .filter(|(uid, entry)| entry.is_open() && !known.contains(*uid))
        .map(|(uid, entry)| (uid.as_str(), entry))
        .collect();
    for hold in holds {
        let Some(uid) = hold.uid() else { continue };
        let is_resolved = is_resolved(hold, now);
        match entries.get(&uid) {
            Some(entry) if !entry.is_open() && is_resolved => plan.closed.push(entry.clone()),
            Some(entry) => {
                // A succession that was broken off between its two writes is made to its end.
                let before = predecessor(&mut orphans, hold);
                let joined = before.as_ref().map_or_else(|| entry.clone(), |before| entry.joined(before));
                let next = if is_resolved {
                    joined.resolved(now)
                } else {
                    // One that is closed and open again comes from a backup of before its resolution: in doubt, it holds.
                    joined.grown(&hold.spec, now).reopened(now)
                };
                if next != *entry {
                    plan.write.push(next.clone());
                }
                plan.write.extend(before.map(|before| before.closed(now)));
                if is_resolved {
                    plan.closing.push(next);
                } else {
                    plan.open.insert(uid, next);
                }
            }
            // Its status says that it is closed, and nobody keeps anything for it in the ledger.
            None if !is_asked(hold, now) => (),
            None if is_resolved => succeed(&mut plan, &mut orphans, hold, &uid, now, true),
            None => {
                let is_accepted = policy.is_some_and(|policy| accept(&hold.spec, policy, &[], now).is_true());
                if is_accepted {
                    succeed(&mut plan, &mut orphans, hold, &uid, now, false);
                }
            }
        }
    }
    for (uid, entry) in orphans {
        plan.orphaned.push(entry.name.clone());
        let believed = entry.believed(now);
        if believed != *entry {
            plan.write.push(believed.clone());
        }
        plan.open.insert(uid.to_owned(), believed);
    }
    plan
}

/// A hold that the ledger does not have by its UID. One that was made anew, from a backup or from the ledger, takes over
/// what its predecessor of the same name and reference held; a resolved one then resolves that.
fn succeed(
    plan: &mut Plan,
    orphans: &mut BTreeMap<&str, &Entry>,
    hold: &IncidentHold,
    uid: &str,
    now: Timestamp,
    is_resolved: bool,
) {
    let before = predecessor(orphans, hold);
    let mut entry =
        Entry::of(uid.to_owned(), hold.namespace().unwrap_or_default(), hold.name_any(), &hold.spec, now);
    if let Some(before) = &before {
        entry = before.grown(&hold.spec, now).of_successor(uid.to_owned());
    } else if is_resolved && !has_counted(hold) {
        // Nothing was ever held for it. Of one that has counted, in an earlier life or by an entry that somebody deleted, that
        // is not known: it is released.
        plan.never.push(uid.to_owned());
        return;
    }
    if is_resolved {
        entry = entry.resolved(now);
    }
    // The new entry first: between the two writes both are open.
    plan.write.push(entry.clone());
    plan.write.extend(before.map(|before| before.closed(now)));
    if is_resolved {
        plan.closing.push(entry);
    } else {
        plan.open.insert(uid.to_owned(), entry);
    }
}

/// Takes the entry that a hold takes over from among the orphans: that of a resource of the same name and reference.
fn predecessor(orphans: &mut BTreeMap<&str, &Entry>, hold: &IncidentHold) -> Option<Entry> {
    let namespace = hold.namespace().unwrap_or_default();
    let is_predecessor = |entry: &&Entry| {
        entry.namespace == namespace
            && entry.name == hold.name_any()
            && entry.reference == hold.spec.reference
    };
    let before = orphans.values().copied().find(is_predecessor)?;
    orphans.remove(before.uid.as_str());
    Some(before.clone())
}

/// Whether the ledger must be asked whether a hold is closed: unless its status says so.
pub fn is_asked(hold: &IncidentHold, now: Timestamp) -> bool {
    let placement = hold.status.as_ref().and_then(|status| status.placement.as_ref());
    let is_released = placement.is_some_and(|placement| placement.released_at.is_some());
    !(is_released && is_resolved(hold, now))
}

impl Plan {
    /// What is to be kept, as recorders are told.
    pub fn coverings(&self) -> Coverings {
        let open = self.open.iter();
        open.map(|(uid, entry)| (uid.clone(), entry.covering())).collect()
    }

    /// Whether something may be kept for the hold with this UID: it is open, or not released yet.
    pub fn counts(&self, uid: &str) -> bool {
        self.open.contains_key(uid) || self.closing.iter().any(|entry| entry.uid == uid)
    }

    /// Whether a hold of this name is open, under whichever UID.
    pub fn is_open(&self, name: &str) -> bool {
        self.open.values().any(|entry| entry.name == name)
    }

    /// What is to be kept.
    pub fn covers(&self) -> Vec<Cover> {
        self.open.values().map(Entry::cover).collect()
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
