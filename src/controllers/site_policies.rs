//! The policies that govern a Site: the one that it names, and those that replace it (article 10). Sites, cameras and holds use the
//! same.

use jiff::Timestamp;
use kube::ResourceExt;

use super::runner::{get, readable};
use super::watch_cache::WatchCache;
use crate::api::condition::{ConditionFinding, ConditionStatus, ConditionType, Reason};
use crate::api::{Ceilings, Notices, RecordingPolicy, Site};
use crate::rules::calendar::CalendarError;
use crate::rules::permission::Prerequisites;
use crate::rules::succession::{
    PolicyLinks, SuccessionCeilings, split_at, succession_ceilings, takeover_time,
};
use crate::rules::{Window, Windows, retention};

/// A policy that will govern a Site.
#[derive(Clone, Debug, PartialEq)]
pub struct FollowingPolicy {
    pub name: String,
    pub from: Timestamp,
    /// `None`: it does not exist or cannot be deserialized.
    pub policy: Option<RecordingPolicy>,
}

/// Policies that govern a Site now and later.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SitePolicies {
    /// Name of the policy that the Site names.
    pub policy_ref: String,
    /// Name of the policy that governs now, even if it does not exist.
    pub name: String,
    /// That policy; `None`: it does not exist or cannot be deserialized.
    pub policy: Option<RecordingPolicy>,
    /// Policies that take over later, ascending.
    pub following: Vec<FollowingPolicy>,
    /// Reason that no other policy takes over, although several name the governing one.
    pub problem: Option<String>,
}

/// Returns the policies of `site`. `cluster`: the cluster's ceilings.
pub fn site_policies(cache: &WatchCache, site: &Site, cluster: &Ceilings, now: Timestamp) -> SitePolicies {
    let namespace = site.namespace().unwrap_or_default();
    let links = policy_links(cache, &namespace, cluster);
    let find = |name: &str| get(&cache.policies, &namespace, name);
    let policy_ref = &site.spec.policy_ref.name;
    let (current, following) = split_at(links.periods(policy_ref, reported_policy(site)), now);
    let name = current.map_or_else(|| policy_ref.clone(), |period| period.policy);
    SitePolicies {
        policy_ref: policy_ref.clone(),
        policy: find(&name),
        following: following
            .into_iter()
            .map(|period| FollowingPolicy {
                policy: find(&period.policy),
                name: period.policy,
                from: period.from,
            })
            .collect(),
        problem: links.rivals(&name).map(|error| error.to_string()),
        name,
    }
}

/// Returns the links between the policies of a namespace.
pub fn policy_links(cache: &WatchCache, namespace: &str, cluster: &Ceilings) -> PolicyLinks {
    let policies = cache.policies.in_namespace(namespace);
    let names: Vec<(String, &RecordingPolicy)> =
        readable(&policies).map(|policy| (policy.name_any(), policy)).collect();
    PolicyLinks::new(names.iter().map(|(name, policy)| (name.as_str(), &policy.spec)), cluster)
}

/// Returns the policy that governed the site at last, if the site still names the same policy.
fn reported_policy(site: &Site) -> Option<&str> {
    let reported = site.status.as_ref()?.policy.as_ref()?;
    (reported.policy_ref == site.spec.policy_ref.name).then_some(reported.name.as_str())
}

/// Returns the name of the policy that governs the site, as its status reports it.
pub fn governing_policy(site: &Site) -> &str {
    reported_policy(site).unwrap_or(&site.spec.policy_ref.name)
}

/// Returns since when the policy `name` governs `site`. `now`, if another one, or none, governed it at last.
///
/// The entry into force that a policy states can be long past when it is created.
pub fn governed_since(site: &Site, name: &str, now: Timestamp) -> Timestamp {
    let reported = site.status.as_ref().and_then(|status| status.policy.as_ref());
    // A status has whole seconds.
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
    reported.filter(|reported| reported.name == name).map_or(now, |reported| reported.since_time.0)
}

/// Returns the ceilings of the policy, or of the one that it replaced as long as those apply, or the last valid ones.
pub fn effective_ceilings(
    site: &Site,
    policy: Option<&RecordingPolicy>,
    cluster: &Ceilings,
    now: Timestamp,
) -> Option<SuccessionCeilings> {
    let before = site.status.as_ref().and_then(|status| status.ceilings.clone());
    let own = policy.and_then(|policy| {
        let own = retention::validate_ceilings(&policy.spec.retention, cluster).ok()?;
        let since = governed_since(site, &policy.name_any(), now);
        Some((own, takeover_time(&policy.spec).map(|from| from.max(since))))
    });
    let unchanged = |effective| SuccessionCeilings { effective, next_change: None };
    match (own, before) {
        (Some((own, Some(since))), Some(before)) => Some(succession_ceilings(&own, since, &before, now)),
        (Some((own, _)), _) => Some(unchanged(own)),
        (None, before) => before.map(unchanged),
    }
}

/// Permission of the protocol to record at a site, or with a camera.
#[derive(Clone, Debug, PartialEq)]
pub struct SitePermission {
    /// `Permitted`.
    pub finding: ConditionFinding,
    /// Periods in which the protocol permits recording, without regard to suspensions.
    pub windows: Windows,
    /// Next time at which the finding changes.
    pub next_change: Option<Timestamp>,
    /// Time at which another policy takes over.
    pub replaced_at: Option<Timestamp>,
}

impl SitePermission {
    /// Returns a denial for `reason`.
    pub const fn never(reason: Reason, message: String) -> Self {
        let finding = ConditionFinding {
            condition: ConditionType::Permitted,
            status: ConditionStatus::False,
            reason,
            message,
        };
        Self { finding, windows: Windows::empty(), next_change: None, replaced_at: None }
    }
}

impl SitePolicies {
    /// Returns the permission to record under `policy`, which governs now, and under the following policies.
    ///
    /// The windows include the following policies, so that recorders go on through a succession even if the operator is down.
    pub fn permission(
        &self,
        policy: &RecordingPolicy,
        notices: Option<&Notices>,
        suspensions: &Windows,
        now: Timestamp,
    ) -> Result<SitePermission, CalendarError> {
        let prerequisites = Prerequisites::from_policy(&policy.spec, notices)?;
        let next_from = |index: usize| self.following.get(index).map(|next| next.from);
        let governed = Window::new(Timestamp::MIN, next_from(0));
        let mut windows = within(&prerequisites, governed);
        for (index, next) in self.following.iter().enumerate() {
            let period = Window::new(next.from, next_from(index + 1));
            let next = next.policy.as_ref().map(|policy| Prerequisites::from_policy(&policy.spec, notices));
            if let Some(Ok(prerequisites)) = next {
                windows.extend(within(&prerequisites, period));
            }
        }
        let changes = [prerequisites.next_change(suspensions, now), next_from(0)];
        let finding = prerequisites.evaluate(suspensions, now);
        Ok(SitePermission {
            finding: ConditionFinding { message: self.describe(finding.message), ..finding },
            windows: Windows::union(windows),
            next_change: changes.into_iter().flatten().min(),
            replaced_at: next_from(0),
        })
    }

    /// Adds the succession to a message.
    fn describe(&self, message: String) -> String {
        let (name, policy_ref) = (&self.name, &self.policy_ref);
        let current = (name != policy_ref)
            .then(|| format!("RecordingPolicy {name:?} governs, which replaced {policy_ref:?}"));
        let next = self.following.first().map(|next| {
            format!("from {} on, RecordingPolicy {:?} governs, which replaces {name:?}", next.from, next.name)
        });
        [Some(message), current, next, self.problem.clone()]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join("; ")
    }
}

/// Returns the windows in which `prerequisites` are met, within `period`.
fn within(prerequisites: &Prerequisites, period: Window) -> Vec<Window> {
    prerequisites.permitted_windows().intersect(&Windows::union([period])).into_vec()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::api::DateOrInstant;
    use crate::controllers::testing;

    fn policy(from: i64, until: Option<i64>) -> RecordingPolicy {
        let mut policy = testing::policy();
        policy.spec.in_force.from = written(from);
        policy.spec.in_force.until = until.map(written);
        policy
    }

    fn written(second: i64) -> DateOrInstant {
        DateOrInstant(instant(second).to_string())
    }

    /// Seconds from the beginning of 2026, when all other prerequisites are met.
    fn instant(second: i64) -> Timestamp {
        Timestamp::from_second(1_767_225_600 + second).unwrap()
    }

    fn policies(first: RecordingPolicy, second: RecordingPolicy, from: i64) -> SitePolicies {
        SitePolicies {
            policy_ref: "first".into(),
            name: "first".into(),
            policy: Some(first),
            following: vec![FollowingPolicy {
                name: "second".into(),
                from: instant(from),
                policy: Some(second),
            }],
            problem: None,
        }
    }

    fn permission(policies: &SitePolicies, now: i64) -> SitePermission {
        let site = testing::site();
        let policy = policies.policy.clone().unwrap();
        policies.permission(&policy, site.spec.notices.as_ref(), &Windows::empty(), instant(now)).unwrap()
    }

    #[test]
    fn recorders_know_one_window_through_a_succession() {
        let found = permission(&policies(policy(0, Some(100)), policy(100, None), 100), 50);
        assert_eq!(found.windows.as_slice(), [Window::new(instant(0), None)]);
        assert_eq!(found.next_change, Some(instant(100)));
        let expected =
            "from 2026-01-01T00:01:40Z on, RecordingPolicy \"second\" governs, which replaces \"first\"";
        assert!(found.finding.message.ends_with(expected), "{}", found.finding.message);
    }

    #[test]
    fn message_names_a_policy_that_replaced_the_named_one() {
        let all = SitePolicies { name: "second".into(), ..policies(policy(0, None), policy(100, None), 100) };
        let message = permission(&all, 50).finding.message;
        assert!(message.contains("\"second\" governs, which replaced \"first\""), "{message}");
    }

    proptest! {
        #[test]
        fn each_instant_is_permitted_by_the_policy_that_governs_it(
            first in (0_i64..50, proptest::option::of(50_i64..100)),
            second in (0_i64..100, proptest::option::of(100_i64..150)),
            from in 0_i64..120, at in 0_i64..160,
        ) {
            let from = from.max(second.0);
            let all = policies(policy(first.0, first.1), policy(second.0, second.1), from);
            let (begins, ends) = if at < from { first } else { second };
            let expected = begins <= at && ends.is_none_or(|end| at < end);
            prop_assert_eq!(permission(&all, 0).windows.contains(instant(at)), expected);
        }
    }
}
