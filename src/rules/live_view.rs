//! Live viewing and the embargo (article 4.2).

use jiff::{SignedDuration, Timestamp};

use crate::api::{Duration, LiveView, RecordingPolicySpec};

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "spec.liveView: article 4.2: the RecordingPolicy does not list {site:?} in spec.liveView.sites; set spec.liveView of \
     the Site to false, or add the site to the policy"
)]
pub struct LiveViewNotAllowed {
    pub site: String,
}

/// Embargo of a policy without `spec.liveView`.
const DEFAULT_EMBARGO: Duration = Duration(std::time::Duration::from_hours(1));

/// Minimum age at which a recording can be read, even if it is held (article 4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Embargo {
    /// The site has live viewing and its policy allows it: recordings can be read at once.
    LiveView,
    After(SignedDuration),
}

impl Embargo {
    /// Returns the instant from which a recording that ends at `end` can be read.
    pub fn end_for(self, end: Timestamp) -> Timestamp {
        match self {
            Self::LiveView => Timestamp::MIN,
            // An embargo that ends after the last representable time never ends.
            Self::After(age) => end.saturating_add(age).unwrap_or(Timestamp::MAX),
        }
    }

    pub fn age(self) -> SignedDuration {
        match self {
            Self::LiveView => SignedDuration::ZERO,
            Self::After(age) => age,
        }
    }
}

/// Returns the embargo that a policy sets for sites without live viewing.
pub fn policy_embargo(policy: &RecordingPolicySpec) -> Duration {
    policy.live_view.as_ref().map_or(DEFAULT_EMBARGO, |allowed| allowed.embargo)
}

/// Returns the embargo on the recordings of a site. Live viewing needs a policy that allows it. `last` is the last embargo
/// of a policy of this site.
pub fn effective_embargo(
    site: &str,
    live_view: bool,
    policy: Option<&RecordingPolicySpec>,
    last: Option<Duration>,
) -> Embargo {
    if live_view && policy.is_some_and(|policy| check(site, live_view, policy).is_ok()) {
        return Embargo::LiveView;
    }
    // Without a policy, its last embargo applies: a deletion must not make recordings readable earlier.
    let embargo = policy.map(policy_embargo).or(last).unwrap_or(DEFAULT_EMBARGO);
    // An embargo that does not fit never ends, so no recording becomes readable by an overflow.
    Embargo::After(SignedDuration::try_from(embargo.0).unwrap_or(SignedDuration::MAX))
}

/// Rejects live viewing at a site that the policy does not list.
pub fn check(site: &str, live_view: bool, policy: &RecordingPolicySpec) -> Result<(), LiveViewNotAllowed> {
    let lists = |allowed: &LiveView| allowed.sites.iter().any(|name| name == site);
    if live_view && !policy.live_view.as_ref().is_some_and(lists) {
        return Err(LiveViewNotAllowed { site: site.to_owned() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::testing;

    #[test]
    fn embargo_outlives_its_policy() {
        let hours = |hours| Duration(std::time::Duration::from_hours(hours));
        let allowed = |embargo| Some(LiveView { sites: vec!["zwembad".into()], embargo });
        let policy = |live_view| RecordingPolicySpec { live_view, ..testing::policy().spec };
        let day = policy(allowed(hours(24)));
        let default = policy(None);
        for (live_view, policy, last, expected) in [
            (false, Some(&day), None, Embargo::After(SignedDuration::from_hours(24))),
            (false, Some(&day), Some(hours(2)), Embargo::After(SignedDuration::from_hours(24))),
            (false, Some(&default), Some(hours(24)), Embargo::After(SignedDuration::from_hours(1))),
            (false, None, Some(hours(24)), Embargo::After(SignedDuration::from_hours(24))),
            (false, None, None, Embargo::After(SignedDuration::from_hours(1))),
            (true, Some(&day), None, Embargo::LiveView),
            // Nobody allows it any more.
            (true, None, Some(hours(24)), Embargo::After(SignedDuration::from_hours(24))),
            (true, Some(&default), None, Embargo::After(SignedDuration::from_hours(1))),
        ] {
            assert_eq!(
                effective_embargo("zwembad", live_view, policy, last),
                expected,
                "{live_view} {last:?}"
            );
        }
    }
}
