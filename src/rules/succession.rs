//! Succession of policies (article 10). A policy that names another in `spec.replaces` governs that policy's sites from its
//! entry into force on.
//!
//! A succession is permanent, as the protocol withdraws its predecessor: neither the end nor the deletion of one of the two
//! policies undoes it. Only an edit does that, such as one of `spec.replaces`.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::hold::expiry::whole_days;
use super::{calendar, permission, policy};
use crate::api::condition::{ConditionFinding, ConditionType, Reason};
use crate::api::{Ceilings, Days, RecordingPolicySpec};

/// Names that a message lists.
const MAX_NAMES: usize = 5;

/// Policies of one namespace, and which replaces which.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyLinks {
    links: BTreeMap<String, Link>,
    /// Accepted policies outside of cycles, by the policy that they replace.
    replacing: BTreeMap<String, Vec<String>>,
    /// Policies that replace each other.
    cyclic: BTreeSet<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Link {
    replaces: Option<String>,
    /// Entry into force of a policy that replaces another; `None`: it is not accepted, and replaces nothing.
    from: Option<Timestamp>,
}

/// Time from which a policy governs a site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyPeriod {
    pub policy: String,
    pub from: Timestamp,
}

/// Reason that a policy takes over no site.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SuccessionError {
    #[error(
        "spec.replaces: article 10: {} replace each other, so none takes over: remove spec.replaces from one of them",
        list_names(.policies)
    )]
    Cycle { policies: Vec<String> },
    #[error(
        "spec.replaces: article 10: {} all replace {replaced:?}, so none takes over: keep spec.replaces in one of them",
        list_names(.rivals)
    )]
    Rivals { replaced: String, rivals: Vec<String> },
}

fn list_names(names: &[String]) -> String {
    let shown: Vec<String> = names.iter().take(MAX_NAMES).map(|name| format!("{name:?}")).collect();
    match names.len().saturating_sub(MAX_NAMES) {
        0 => shown.join(", "),
        others => format!("{} and {others} others", shown.join(", ")),
    }
}

impl PolicyLinks {
    /// Returns the links of these policies. `cluster`: the cluster's ceilings.
    pub fn new<'a>(
        policies: impl IntoIterator<Item = (&'a str, &'a RecordingPolicySpec)>,
        cluster: &Ceilings,
    ) -> Self {
        let link = |(name, spec): (&str, &RecordingPolicySpec)| {
            let from = accepted_takeover_time(spec, cluster);
            (name.to_owned(), Link { replaces: spec.replaces.clone(), from })
        };
        Self::from_links(policies.into_iter().map(link).collect())
    }

    fn from_links(links: BTreeMap<String, Link>) -> Self {
        let cyclic = cyclic_policies(&links);
        let mut replacing: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, link) in &links {
            if let (Some(replaced), Some(_), false) = (&link.replaces, link.from, cyclic.contains(name)) {
                replacing.entry(replaced.clone()).or_default().push(name.clone());
            }
        }
        Self { links, replacing, cyclic }
    }

    /// Returns why the policy `name` takes over no site, although it names a policy to replace.
    pub fn error(&self, name: &str) -> Option<SuccessionError> {
        if self.cyclic.contains(name) {
            return Some(SuccessionError::Cycle { policies: self.cycle_of(name) });
        }
        let replaced = self.links.get(name)?.replaces.as_ref()?;
        self.rivals(replaced)
            .filter(|_| self.replacing.get(replaced).is_some_and(|all| all.iter().any(|one| one == name)))
    }

    /// Returns the error of the policies that all replace `name`.
    pub fn rivals(&self, name: &str) -> Option<SuccessionError> {
        let rivals = self.replacing.get(name).filter(|rivals| rivals.len() > 1)?;
        Some(SuccessionError::Rivals { replaced: name.to_owned(), rivals: rivals.clone() })
    }

    /// Returns the policy that replaces `name`, and its entry into force.
    pub fn successor(&self, name: &str) -> Option<PolicyPeriod> {
        match self.replacing.get(name)?.as_slice() {
            [only] => Some(PolicyPeriod { policy: only.clone(), from: self.links.get(only)?.from? }),
            _ => None,
        }
    }

    /// Returns the policies that govern a site, ascending. The first governs from the beginning. `policy_ref`: the policy that the
    /// site names. `governing`: the one that governed it at last, which may be deleted or rejected now.
    pub fn periods(&self, policy_ref: &str, governing: Option<&str>) -> Vec<PolicyPeriod> {
        let named = self.chain(policy_ref);
        match governing {
            Some(last)
                if named.iter().all(|period| period.policy != last) && !self.is_undone(policy_ref, last) =>
            {
                self.chain(last)
            }
            _ => named,
        }
    }

    /// Returns `first` and the policies that replace it, one after the other.
    fn chain(&self, first: &str) -> Vec<PolicyPeriod> {
        let mut periods = vec![PolicyPeriod { policy: first.to_owned(), from: Timestamp::MIN }];
        // Without cycles, no policy comes twice.
        while let Some(last) = periods.last()
            && let Some(next) = self.successor(&last.policy)
        {
            // A policy replaces its predecessor once that governs, even if it was in force before.
            let from = next.from.max(last.from);
            periods.push(PolicyPeriod { from, ..next });
        }
        periods
    }

    /// Returns whether the policies say that `governing` does not replace `policy_ref`, directly or by others. A missing policy says
    /// nothing.
    fn is_undone(&self, policy_ref: &str, governing: &str) -> bool {
        let mut at = governing;
        // Bounded, since there may be a cycle.
        for _ in 0..=self.links.len() {
            let Some(link) = self.links.get(at) else { return false };
            match &link.replaces {
                None => return true,
                Some(replaced) if replaced == policy_ref => return false,
                Some(replaced) => at = replaced,
            }
        }
        true
    }

    /// Returns the cycle that contains `name`, in order.
    fn cycle_of(&self, name: &str) -> Vec<String> {
        let mut policies = vec![name.to_owned()];
        while let Some(replaced) = policies.last().and_then(|last| self.links.get(last)?.replaces.as_ref())
            && replaced != name
        {
            policies.push(replaced.clone());
        }
        policies
    }
}

fn accepted_takeover_time(spec: &RecordingPolicySpec, cluster: &Ceilings) -> Option<Timestamp> {
    // First: most policies replace none.
    takeover_time(spec).filter(|_| policy::evaluate_acceptance(spec, cluster).is_true())
}

/// Returns the entry into force of a policy that replaces another; `None`: it replaces none, or its date is invalid.
pub fn takeover_time(spec: &RecordingPolicySpec) -> Option<Timestamp> {
    spec.replaces.as_ref()?;
    let zone = calendar::parse_zone(&spec.time_zone, "spec.timeZone").ok()?;
    Some(permission::in_force_window(spec, &zone).ok()?.from)
}

/// Returns the policies that replace each other. Removes those that no other replaces, until only cycles are left.
fn cyclic_policies(links: &BTreeMap<String, Link>) -> BTreeSet<String> {
    let mut replaced_by: BTreeMap<&str, usize> = BTreeMap::new();
    for replaced in links.values().filter_map(|link| link.replaces.as_deref()) {
        *replaced_by.entry(replaced).or_default() += 1;
    }
    let mut cyclic: BTreeSet<&str> = links.keys().map(String::as_str).collect();
    let mut ends: Vec<&str> = cyclic.iter().copied().filter(|name| !replaced_by.contains_key(name)).collect();
    while let Some(end) = ends.pop() {
        cyclic.remove(end);
        let replaced = links.get(end).and_then(|link| link.replaces.as_deref());
        if let Some(replaced) = replaced
            && let Some(count) = replaced_by.get_mut(replaced)
        {
            *count -= 1;
            if *count == 0 {
                ends.push(replaced);
            }
        }
    }
    cyclic.into_iter().map(str::to_owned).collect()
}

/// Returns `InForce` of a policy, which `replaced_by` replaces. From then on, the policy is withdrawn.
pub fn evaluate_replaced(
    in_force: ConditionFinding,
    replaced_by: Option<&PolicyPeriod>,
    now: Timestamp,
) -> ConditionFinding {
    let Some(PolicyPeriod { policy, from }) = replaced_by else { return in_force };
    if *from > now {
        let message = format!(
            "{}; article 10: from {from} on, RecordingPolicy {policy:?} replaces it",
            in_force.message
        );
        return ConditionFinding { message, ..in_force };
    }
    let message =
        format!("article 10: RecordingPolicy {policy:?} replaced it at {from}, and governs its sites");
    ConditionFinding::new(ConditionType::InForce, false, Reason::Withdrawn, message)
}

/// Returns the policy of `periods` that governs at `now`, and those that follow.
pub fn split_at(periods: Vec<PolicyPeriod>, now: Timestamp) -> (Option<PolicyPeriod>, Vec<PolicyPeriod>) {
    let (mut begun, following): (Vec<_>, Vec<_>) = periods.into_iter().partition(|period| period.from <= now);
    (begun.pop(), following)
}

/// Ceilings after a succession, and the next time at which they change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SuccessionCeilings {
    pub effective: Ceilings,
    pub next_change: Option<Timestamp>,
}

/// Returns the ceilings at `now` of a site whose policy, with `ceilings`, replaced another at `since`. `before`: the last
/// effective ceilings.
///
/// The stricter ones apply until every recording of the earlier policy has reached the ceiling under which it was made: people
/// were informed of that one (article 7).
pub fn succession_ceilings(
    ceilings: &Ceilings,
    since: Timestamp,
    before: &Ceilings,
    now: Timestamp,
) -> SuccessionCeilings {
    let class = |own: Days, earlier: Days| {
        let last = since.saturating_add(whole_days(earlier)).unwrap_or(Timestamp::MAX);
        if earlier < own && now < last { (earlier, Some(last)) } else { (own, None) }
    };
    let (video, video_change) = class(ceilings.video, before.video);
    let (calls, calls_change) = class(ceilings.calls, before.calls);
    SuccessionCeilings {
        effective: Ceilings { video, calls },
        next_change: [video_change, calls_change].into_iter().flatten().min(),
    }
}

#[cfg(test)]
mod tests;
