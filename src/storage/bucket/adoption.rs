//! What is in the way of adopting a bucket that nobody claimed: pure. Each obstacle has its own words and its own
//! remedy, and nothing of the bucket is changed before there is none, or a decision to take it over.

use std::fmt;

use super::desired::CeilingTooLow;
use super::policy::actions::BucketRef;
use super::spec::{
    BucketDefaultRetention, BucketSpec, BucketState, ForbiddenSubresource, RequiredSubresource,
    SubresourceState,
};
use super::{desired, drift};

/// Something that a bucket has, or hides, and that a site's bucket may not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdoptionConflict {
    NoObjectLock,
    /// A default retention. `above`: what it keeps outlives a ceiling.
    DefaultRetention {
        retention: BucketDefaultRetention,
        /// It is longer than the lower of the ceilings.
        exceeds_ceiling: bool,
    },
    Lifecycle,
    Policy,
    Forbidden(ForbiddenSubresource),
    /// A setting that somebody made otherwise.
    Differs(RequiredSubresource),
    /// It cannot be told whether there is something that would copy recordings, or tell of them.
    Unreadable(ForbiddenSubresource),
    /// Objects that are no recordings of ours.
    ForeignObjects,
}

impl AdoptionConflict {
    /// Whether a decision to take the bucket over removes it. What cannot be seen cannot be replaced; without Object
    /// Lock nothing is held; and a replication that nobody sees would copy every recording.
    pub fn is_resolved_by_take_over(&self) -> bool {
        !matches!(self, Self::NoObjectLock | Self::Unreadable(ForbiddenSubresource::Replication))
    }

    /// What a person can do about it, but for deciding to take the bucket over.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::NoObjectLock => {
                "make a new bucket with Object Lock (without default retention) and name that, or let the operator \
                 make it"
            }
            Self::DefaultRetention { exceeds_ceiling: true, .. } => {
                "remove it; what it keeps already cannot be deleted before its date, so take another bucket if \
                 anything is in this one"
            }
            Self::Unreadable(ForbiddenSubresource::Replication) => {
                "give the operator the right to read it (docs/reference/stores.md lists all), or let it make the bucket"
            }
            Self::Unreadable(_) => {
                "give the operator the right to read it (docs/reference/stores.md lists all), or let it make the bucket, where \
                 only a bucket's owner may"
            }
            Self::ForeignObjects => "move them elsewhere",
            Self::DefaultRetention { .. }
            | Self::Lifecycle
            | Self::Policy
            | Self::Forbidden(_)
            | Self::Differs(_) => "remove it",
        }
    }
}

impl fmt::Display for AdoptionConflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoObjectLock => f.write_str("has no Object Lock, which legal holds need"),
            Self::DefaultRetention { retention, exceeds_ceiling: above } => {
                let beyond = if *above { ", longer than a ceiling" } else { "" };
                write!(f, "already has a default retention ({retention}{beyond})")
            }
            Self::Lifecycle => f.write_str("already has lifecycle rules"),
            Self::Policy => f.write_str("already has a bucket policy"),
            Self::Forbidden(extra) => write!(f, "already has {extra}"),
            Self::Differs(setting) => write!(f, "already has a {setting} of its own"),
            Self::Unreadable(extra) => write!(f, "does not show whether it has {extra}"),
            Self::ForeignObjects => f.write_str("already has objects that are no recordings of this Site"),
        }
    }
}

/// All in one text: what is there, and what to do about each.
pub(crate) fn describe(conflicts: &[AdoptionConflict]) -> String {
    let each: Vec<String> =
        conflicts.iter().map(|obstacle| format!("it {obstacle}: {}", obstacle.remedy())).collect();
    let mut text = format!("the bucket cannot be adopted as it is: {}", each.join("; "));
    if conflicts.iter().all(AdoptionConflict::is_resolved_by_take_over) {
        text.push_str("; or take another bucket, or decide on adoptionPolicy: TakeOver (objects stay)");
    }
    text
}

/// What is in the way, the gravest first; empty: the bucket is bare, or a part of what it must be (as Terraform may
/// have made it), so nobody else's work is undone.
pub(crate) fn find_conflicts(
    place: BucketRef<'_>,
    spec: &BucketSpec,
    state: &BucketState,
    unreadable_policy: bool,
    foreign_objects: bool,
) -> Result<Vec<AdoptionConflict>, CeilingTooLow> {
    let ours = desired::lifecycle_rule_set(spec)?;
    let mut conflicts = Vec::new();
    if let Some(retention) = &state.default_retention {
        let lowest = spec.video_ceiling.0.min(spec.calls_ceiling.0);
        let above = retention.days > i64::from(lowest);
        conflicts.push(AdoptionConflict::DefaultRetention {
            retention: retention.clone(),
            exceeds_ceiling: above,
        });
    }
    for extra in [ForbiddenSubresource::Replication, ForbiddenSubresource::Notifications] {
        if state.is_unreadable(extra) {
            conflicts.push(AdoptionConflict::Unreadable(extra));
        }
    }
    // `ForbiddenSubresource` is in no order of gravity: what copies comes first.
    let (copies, others): (Vec<ForbiddenSubresource>, Vec<ForbiddenSubresource>) =
        state.forbidden.iter().partition(|extra| **extra == ForbiddenSubresource::Replication);
    conflicts.extend(copies.into_iter().chain(others).map(AdoptionConflict::Forbidden));
    if foreign_objects {
        conflicts.push(AdoptionConflict::ForeignObjects);
    }
    if state.lifecycle.as_ref().is_some_and(|rules| !rules.is_subset(&ours)) {
        conflicts.push(AdoptionConflict::Lifecycle);
    }
    let policy_is_ours = state
        .policy
        .as_ref()
        .is_none_or(|policy| policy.is_subset_of(&drift::any_dialect_policy(place, spec)));
    if unreadable_policy || !policy_is_ours {
        conflicts.push(AdoptionConflict::Policy);
    }
    // Others have public access blocked in part, or ownership as older buckets have it: that is stricter made, and
    // nobody's work. A key of somebody's is.
    let encryption = state.required.get(&RequiredSubresource::Encryption);
    if matches!(encryption, Some(SubresourceState::Differs(how)) if how != super::subresources::UNSET) {
        conflicts.push(AdoptionConflict::Differs(RequiredSubresource::Encryption));
    }
    Ok(conflicts)
}

#[cfg(test)]
mod tests;
