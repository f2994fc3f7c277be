//! Live viewing and the embargo (article 4.2).

use jiff::{SignedDuration, Timestamp};

use crate::api::{LiveView, RecordingPolicySpec};

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "spec.liveView: article 4.2: the RecordingPolicy does not list {site:?} in spec.liveView.sites; set spec.liveView of \
     the Site to false, or add the site to the policy"
)]
pub struct LiveViewNotAllowed {
    pub site: String,
}

/// Embargo of a policy without `spec.liveView`.
const DEFAULT_EMBARGO: SignedDuration = SignedDuration::from_hours(1);

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

/// Returns the embargo on the recordings of a site. Live viewing needs a policy that allows it.
pub fn effective_embargo(site: &str, live_view: bool, policy: Option<&RecordingPolicySpec>) -> Embargo {
    if live_view && policy.is_some_and(|policy| check(site, live_view, policy).is_ok()) {
        return Embargo::LiveView;
    }
    // Without a policy, the default applies: its deletion must not make recordings readable at once.
    let embargo = policy.and_then(|policy| policy.live_view.as_ref()).map(|allowed| allowed.embargo.0);
    // An embargo that does not fit never ends, so no recording becomes readable by an overflow.
    Embargo::After(
        embargo.map_or(DEFAULT_EMBARGO, |embargo| {
            SignedDuration::try_from(embargo).unwrap_or(SignedDuration::MAX)
        }),
    )
}

/// Rejects live viewing at a site that the policy does not list.
pub fn check(site: &str, live_view: bool, policy: &RecordingPolicySpec) -> Result<(), LiveViewNotAllowed> {
    let lists = |allowed: &LiveView| allowed.sites.iter().any(|name| name == site);
    if live_view && !policy.live_view.as_ref().is_some_and(lists) {
        return Err(LiveViewNotAllowed { site: site.to_owned() });
    }
    Ok(())
}
