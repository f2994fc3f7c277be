//! Where live viewing is allowed (article 4.2).

use crate::api::{LiveView, RecordingPolicySpec};

/// A site has live viewing that its policy does not allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "spec.liveView: article 4.2 allows live viewing only where the policy says so, and RecordingPolicy \
     spec.liveView.sites does not list {site:?}; set spec.liveView to false, or have the policy list the site"
)]
pub struct LiveViewNotAllowed {
    /// Name of the Site.
    pub site: String,
}

impl LiveViewNotAllowed {
    /// What kind of error it is, for metrics.
    pub const fn category(&self) -> &'static str {
        "live-view"
    }

    /// The error for people; it names the site only.
    pub fn safe_message(&self) -> String {
        self.to_string()
    }
}

/// Whether a site may be as it is: without live viewing everywhere, with it where the policy lists the site.
pub fn check(site: &str, live_view: bool, policy: &RecordingPolicySpec) -> Result<(), LiveViewNotAllowed> {
    let lists = |allowed: &LiveView| allowed.sites.iter().any(|name| name == site);
    if live_view && !policy.live_view.as_ref().is_some_and(lists) {
        return Err(LiveViewNotAllowed {
            site: site.to_owned(),
        });
    }
    Ok(())
}
