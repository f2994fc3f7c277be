//! Combines the holds of the API server and of the bucket's ledger into a plan. Pure.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use kube::ResourceExt;

use crate::api::{IncidentHold, RecordingPolicySpec};
use crate::controllers::handoff::HoldScopes;
use crate::controllers::hold::status::has_taken_effect;
use crate::rules::hold::accept::evaluate_acceptance;
use crate::rules::hold::resolution::is_resolved;
use crate::rules::{HoldScope, LedgerEntry};

/// Plan for a site's holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HoldPlan {
    /// Entries to write to the ledger before anything else, in order.
    pub to_write: Vec<LedgerEntry>,
    /// Open holds by UID, including those that only the ledger has.
    pub open: BTreeMap<String, LedgerEntry>,
    /// Resolved holds that may still have held versions.
    pub closing: Vec<LedgerEntry>,
    /// Resolved holds that are released.
    pub closed: Vec<LedgerEntry>,
    /// UIDs of holds that were resolved before they took effect and that the ledger does not have.
    pub report_never_held: Vec<String>,
    /// Names of open holds that only the ledger has.
    pub orphaned: Vec<String>,
}

/// Plans the site's `holds` against the ledger's `entries`.
///
/// A hold takes effect when the ledger has it, even if the policy changes later. To get into the ledger, it must be
/// acceptable now.
pub fn plan_holds(
    entries: &BTreeMap<String, LedgerEntry>,
    holds: &[IncidentHold],
    policy: Option<&RecordingPolicySpec>,
    now: Timestamp,
) -> HoldPlan {
    let mut plan = HoldPlan::default();
    let known: BTreeSet<String> = holds.iter().filter_map(ResourceExt::uid).collect();
    let mut orphans: BTreeMap<&str, &LedgerEntry> = entries
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
                // Completes a succession that was interrupted between its two writes.
                let before = take_predecessor(&mut orphans, hold);
                let joined = before.as_ref().map_or_else(|| entry.clone(), |before| entry.merged(before));
                let next = if is_resolved {
                    joined.resolved(now)
                } else {
                    // A closed entry of an open hold comes from a backup older than the resolution. In doubt, the
                    // operator holds.
                    joined.extended(&hold.spec, now).reopened(now)
                };
                if next != *entry {
                    plan.to_write.push(next.clone());
                }
                plan.to_write.extend(before.map(|before| before.closed(now)));
                if is_resolved {
                    plan.closing.push(next);
                } else {
                    plan.open.insert(uid, next);
                }
            }
            // Its status says that it is released, and the ledger has no open entry.
            None if !needs_ledger_lookup(hold, now) => (),
            None if is_resolved => plan_new_hold(&mut plan, &mut orphans, hold, &uid, now, true),
            None => {
                // The cameras change only the message, so none are needed here.
                let is_accepted =
                    policy.is_some_and(|policy| evaluate_acceptance(&hold.spec, policy, &[], now).is_true());
                if is_accepted {
                    plan_new_hold(&mut plan, &mut orphans, hold, &uid, now, false);
                }
            }
        }
    }
    for (uid, entry) in orphans {
        plan.orphaned.push(entry.name.clone());
        let believed = entry.with_clamped_accepted_at(now);
        if believed != *entry {
            plan.to_write.push(believed.clone());
        }
        plan.open.insert(uid.to_owned(), believed);
    }
    plan
}

/// Plans a hold whose UID the ledger does not have.
///
/// A hold that was re-created, from a backup or from the ledger, takes over the scope of its predecessor with the same
/// name and reference. If the new hold is resolved, it resolves the predecessor.
fn plan_new_hold(
    plan: &mut HoldPlan,
    orphans: &mut BTreeMap<&str, &LedgerEntry>,
    hold: &IncidentHold,
    uid: &str,
    now: Timestamp,
    is_resolved: bool,
) {
    let before = take_predecessor(orphans, hold);
    let mut entry = LedgerEntry::new(
        uid.to_owned(),
        hold.namespace().unwrap_or_default(),
        hold.name_any(),
        &hold.spec,
        now,
    );
    if let Some(before) = &before {
        entry = LedgerEntry { uid: uid.to_owned(), ..before.extended(&hold.spec, now) };
    } else if is_resolved && !has_taken_effect(hold) {
        // Nothing was ever held. A hold that took effect before is released instead: its entry may have been deleted.
        plan.report_never_held.push(uid.to_owned());
        return;
    }
    if is_resolved {
        entry = entry.resolved(now);
    }
    // The new entry first: if the operator stops between the two writes, both are open and nothing is released.
    plan.to_write.push(entry.clone());
    plan.to_write.extend(before.map(|before| before.closed(now)));
    if is_resolved {
        plan.closing.push(entry);
    } else {
        plan.open.insert(uid.to_owned(), entry);
    }
}

/// Removes and returns the predecessor of a hold: the orphan with the same name and reference.
fn take_predecessor(orphans: &mut BTreeMap<&str, &LedgerEntry>, hold: &IncidentHold) -> Option<LedgerEntry> {
    let namespace = hold.namespace().unwrap_or_default();
    let is_predecessor = |entry: &&LedgerEntry| {
        entry.namespace == namespace
            && entry.name == hold.name_any()
            && entry.reference == hold.spec.reference
    };
    let before = orphans.values().copied().find(is_predecessor)?;
    orphans.remove(before.uid.as_str());
    Some(before.clone())
}

/// Returns whether the ledger must be read to learn whether a hold is closed.
pub fn needs_ledger_lookup(hold: &IncidentHold, now: Timestamp) -> bool {
    let placement = hold.status.as_ref().and_then(|status| status.placement.as_ref());
    let is_released = placement.is_some_and(|placement| placement.release_time.is_some());
    !(is_released && is_resolved(hold, now))
}

impl HoldPlan {
    /// Returns the open scopes in the form that recorders acknowledge.
    pub fn recorder_scopes(&self) -> HoldScopes {
        let open = self.open.iter();
        open.map(|(uid, entry)| (uid.clone(), entry.scope.clone())).collect()
    }

    /// Returns whether versions may be held for the hold with this UID: it is open or not yet released.
    pub fn is_in_effect(&self, uid: &str) -> bool {
        self.open.contains_key(uid) || self.closing.iter().any(|entry| entry.uid == uid)
    }

    /// Returns whether a hold of this name is open, under any UID.
    pub fn is_open(&self, name: &str) -> bool {
        self.open.values().any(|entry| entry.name == name)
    }

    pub fn scopes(&self) -> Vec<HoldScope> {
        self.open.values().map(|entry| entry.scope.clone()).collect()
    }
}

#[cfg(test)]
mod tests;
