//! Where live viewing is allowed (article 4.2).

use jiff::SignedDuration;

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

/// How old a recording must be before anybody may look, even when it is held; `None`: the site has live viewing, and
/// its policy allows it. Without a policy to allow it there is none.
pub fn effective_embargo(
    site: &str,
    live_view: bool,
    policy: Option<&RecordingPolicySpec>,
) -> Option<SignedDuration> {
    if live_view && policy.is_some_and(|policy| check(site, live_view, policy).is_ok()) {
        return None;
    }
    let embargo = policy.and_then(|policy| policy.live_view.as_ref()).map(|allowed| allowed.embargo.0);
    Some(
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
