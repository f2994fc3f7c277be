//! What is in the way of adopting a bucket that nobody claimed: pure. Each obstacle has its own words and its own
//! remedy, and nothing of the bucket is changed before there is none, or a decision to take it over.

use std::fmt;

use super::bucket::{BucketSpec, BucketState, Extra, Kept, Retention, Setting};
use super::desired::{self, CeilingTooLow};
use super::drift;
use super::statements::Place;

/// Something that a bucket has, or hides, and that a site's bucket may not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// No Object Lock.
    NoObjectLock,
    /// A default retention. `above`: what it keeps outlives a ceiling.
    DefaultRetention {
        /// Mode and period.
        retention: Retention,
        /// It is longer than the lower of the ceilings.
        above: bool,
    },
    /// Lifecycle rules of somebody's.
    Lifecycle,
    /// A bucket policy of somebody's.
    Policy,
    /// Other configuration of somebody's.
    Configured(Extra),
    /// A setting that somebody made otherwise.
    Set(Setting),
    /// It cannot be told whether there is something that would copy recordings, or tell of them.
    Hidden(Extra),
    /// Objects that are no recordings of ours.
    Objects,
}

impl Obstacle {
    /// Whether a decision to take the bucket over removes it. What cannot be seen cannot be replaced; without Object
    /// Lock nothing is held; and a replication that nobody sees would copy every recording.
    pub fn yields_to_take_over(&self) -> bool {
        !matches!(self, Self::NoObjectLock | Self::Hidden(Extra::Replication))
    }

    /// What a person can do about it, but for deciding to take the bucket over.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::NoObjectLock => {
                "make a new bucket with Object Lock (without default retention) and name that, or let the operator \
                 make it"
            }
            Self::DefaultRetention { above: true, .. } => {
                "remove it; what it keeps already cannot be deleted before its date, so take another bucket if \
                 anything is in this one"
            }
            Self::Hidden(Extra::Replication) => {
                "give the operator the right to read it (docs/storage.md lists all), or let it make the bucket"
            }
            Self::Hidden(_) => {
                "give the operator the right to read it (docs/storage.md lists all), or let it make the bucket, where \
                 only a bucket's owner may"
            }
            Self::Objects => "move them elsewhere",
            Self::DefaultRetention { .. }
            | Self::Lifecycle
            | Self::Policy
            | Self::Configured(_)
            | Self::Set(_) => "remove it",
        }
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoObjectLock => f.write_str("has no Object Lock, which legal holds need"),
            Self::DefaultRetention { retention, above } => {
                let beyond = if *above { ", longer than a ceiling" } else { "" };
                write!(f, "already has a default retention ({retention}{beyond})")
            }
            Self::Lifecycle => f.write_str("already has lifecycle rules"),
            Self::Policy => f.write_str("already has a bucket policy"),
            Self::Configured(extra) => write!(f, "already has {extra}"),
            Self::Set(setting) => write!(f, "already has a {setting} of its own"),
            Self::Hidden(extra) => write!(f, "does not show whether it has {extra}"),
            Self::Objects => f.write_str("already has objects that are no recordings of this Site"),
        }
    }
}

/// All in one text: what is there, and what to do about each.
pub(crate) fn told(obstacles: &[Obstacle]) -> String {
    let each: Vec<String> =
        obstacles.iter().map(|obstacle| format!("it {obstacle}: {}", obstacle.remedy())).collect();
    let mut text = format!("the bucket cannot be adopted as it is: {}", each.join("; "));
    if obstacles.iter().all(Obstacle::yields_to_take_over) {
        text.push_str("; or take another bucket, or decide on adoptionPolicy: TakeOver (objects stay)");
    }
    text
}

/// What is in the way, the gravest first; empty: the bucket is bare, or a part of what it must be (as Terraform may
/// have made it), so nobody else's work is undone.
pub(crate) fn obstacles(
    place: Place<'_>,
    spec: &BucketSpec,
    state: &BucketState,
    unreadable_policy: bool,
    foreign_objects: bool,
) -> Result<Vec<Obstacle>, CeilingTooLow> {
    let ours = desired::lifecycle_set(spec)?;
    let mut found = Vec::new();
    if let Some(retention) = &state.default_retention {
        let lowest = spec.video_ceiling.0.min(spec.calls_ceiling.0);
        let above = retention.days > i64::from(lowest);
        found.push(Obstacle::DefaultRetention { retention: retention.clone(), above });
    }
    for extra in [Extra::Replication, Extra::Notifications] {
        if state.hides(extra) {
            found.push(Obstacle::Hidden(extra));
        }
    }
    // `Extra` is in no order of gravity: what copies comes first.
    let (copies, others): (Vec<Extra>, Vec<Extra>) =
        state.foreign.iter().partition(|extra| **extra == Extra::Replication);
    found.extend(copies.into_iter().chain(others).map(Obstacle::Configured));
    if foreign_objects {
        found.push(Obstacle::Objects);
    }
    if state.lifecycle.as_ref().is_some_and(|rules| !rules.is_subset(&ours)) {
        found.push(Obstacle::Lifecycle);
    }
    let policy_is_ours =
        state.policy.as_ref().is_none_or(|policy| policy.is_within(&drift::sayable(place, spec)));
    if unreadable_policy || !policy_is_ours {
        found.push(Obstacle::Policy);
    }
    // Others have public access blocked in part, or ownership as older buckets have it: that is stricter made, and
    // nobody's work. A key of somebody's is.
    let encryption = state.settings.get(&Setting::Encryption);
    if matches!(encryption, Some(Kept::Otherwise(how)) if how != super::parts::NOTHING) {
        found.push(Obstacle::Set(Setting::Encryption));
    }
    Ok(found)
}

#[cfg(test)]
#[path = "adoption_tests.rs"]
mod tests;
