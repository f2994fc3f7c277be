//! Where live viewing is allowed (article 4.2).

use jiff::{SignedDuration, Timestamp};

use crate::api::{LiveView, RecordingPolicySpec};

/// A site has live viewing that its policy does not allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "spec.liveView: article 4.2 allows live viewing only where the policy says so, and RecordingPolicy \
     spec.liveView.sites does not list {site:?}; set spec.liveView to false, or have the policy list the site"
)]
pub struct LiveViewNotAllowed {
    pub site: String,
}

/// What a protocol that allows live viewing nowhere asks for: as if it had said so.
const DEFAULT_EMBARGO: SignedDuration = SignedDuration::from_hours(1);

/// Age from which a recording may be read, even if it is held (article 4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Embargo {
    /// The site has live viewing, and its policy allows it: recordings may be read at once.
    LiveView,
    After(SignedDuration),
}

impl Embargo {
    /// Returns the instant from which a recording that ends at `end` may be read.
    pub fn end_for(self, end: Timestamp) -> Timestamp {
        match self {
            Self::LiveView => Timestamp::MIN,
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
    let embargo = policy.and_then(|policy| policy.live_view.as_ref()).map(|allowed| allowed.embargo.0);
    Embargo::After(
        embargo.map_or(DEFAULT_EMBARGO, |embargo| {
            SignedDuration::try_from(embargo).unwrap_or(SignedDuration::MAX)
        }),
    )
}

/// Whether a site may be as it is: without live viewing everywhere, with it where the policy lists the site.
pub fn check(site: &str, live_view: bool, policy: &RecordingPolicySpec) -> Result<(), LiveViewNotAllowed> {
    let lists = |allowed: &LiveView| allowed.sites.iter().any(|name| name == site);
    if live_view && !policy.live_view.as_ref().is_some_and(lists) {
        return Err(LiveViewNotAllowed { site: site.to_owned() });
    }
    Ok(())
}
