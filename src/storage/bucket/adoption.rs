//! The obstacles to the adoption of an unclaimed bucket: pure. The operator changes nothing in such a bucket until there is no
//! obstacle, or a decision to take it over.

use std::fmt;

use super::desired::CeilingTooLow;
use super::policy::actions::BucketRef;
use super::policy::document::Policy;
use super::spec::BucketSpec;
use super::state::{BucketDefaultRetention, BucketState};
use super::subresources::{ForbiddenSubresource, RequiredSubresource, SubresourceState, UNSET};
use super::{desired, drift};

/// An obstacle to the adoption of a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdoptionConflict {
    NoObjectLock,
    DefaultRetention {
        retention: BucketDefaultRetention,
        /// It is longer than the lower of the ceilings.
        exceeds_ceiling: bool,
    },
    Lifecycle,
    Policy,
    Forbidden(ForbiddenSubresource),
    /// A value that somebody set on purpose.
    Differs(RequiredSubresource),
    /// Possibly configured: it would copy recordings, or report them to others.
    Unreadable(ForbiddenSubresource),
    /// Objects that are no recordings of this Site.
    ForeignObjects,
}

impl AdoptionConflict {
    /// Returns whether a decision to take the bucket over removes the obstacle. The operator cannot replace what it cannot
    /// see, and an invisible replication would copy every recording. Without Object Lock there are no legal holds.
    pub fn is_resolved_by_take_over(&self) -> bool {
        !matches!(self, Self::NoObjectLock | Self::Unreadable(ForbiddenSubresource::Replication))
    }

    /// Returns the remedy, except for a decision to take the bucket over.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::NoObjectLock => {
                "delete the Site and create it again with another spec.storage.bucket, which the operator then creates; or replace this \
                 bucket with a new bucket of the same name that has Object Lock and no default retention"
            }
            Self::DefaultRetention { exceeds_ceiling: true, .. } => {
                "remove it; objects that it already protects cannot be deleted before their date, so unless this bucket is empty, \
                 delete the Site and create it again with another spec.storage.bucket"
            }
            Self::Unreadable(ForbiddenSubresource::Replication) => {
                "give the operator the right to read it (docs/reference/stores.md lists all), or let it make the bucket"
            }
            Self::Unreadable(_) => {
                "give the operator the right to read it (docs/reference/stores.md lists all), or let it make the bucket, if \
                 only a bucket's owner has that right"
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
            Self::DefaultRetention { retention, exceeds_ceiling } => {
                let excess = if *exceeds_ceiling { ", longer than a ceiling" } else { "" };
                write!(f, "already has a default retention ({}{excess})", retention.description)
            }
            Self::Lifecycle => f.write_str("already has lifecycle rules"),
            Self::Policy => f.write_str("already has a bucket policy"),
            Self::Forbidden(forbidden) => write!(f, "already has {forbidden}"),
            Self::Differs(required) => write!(f, "already has a {required} of its own"),
            Self::Unreadable(forbidden) => write!(f, "does not show whether it has {forbidden}"),
            Self::ForeignObjects => f.write_str("already has objects that are no recordings of this Site"),
        }
    }
}

/// Returns all obstacles in one text, each with its remedy.
pub(crate) fn describe(conflicts: &[AdoptionConflict]) -> String {
    let each: Vec<String> =
        conflicts.iter().map(|conflict| format!("it {conflict}: {}", conflict.remedy())).collect();
    let mut text = format!("the bucket cannot be adopted as it is: {}", each.join("; "));
    if conflicts.iter().all(AdoptionConflict::is_resolved_by_take_over) {
        text.push_str("; or decide on adoptionPolicy: TakeOver (objects stay), or delete the Site and create it again with another \
                       spec.storage.bucket, which is immutable");
    }
    text
}

/// Returns the obstacles, the gravest first. A bucket without configuration, or with a part of the desired one (as Terraform may
/// have made it), has none: its adoption undoes nobody's work.
pub(crate) fn find_conflicts(
    place: BucketRef<'_>,
    spec: &BucketSpec,
    state: &BucketState,
    unreadable_policy: bool,
    foreign_objects: bool,
) -> Result<Vec<AdoptionConflict>, CeilingTooLow> {
    let ours = desired::lifecycle_rules(spec)?.into_values().collect();
    let mut conflicts = Vec::new();
    if let Some(retention) = &state.default_retention {
        let lowest = spec.video_ceiling.0.min(spec.calls_ceiling.0);
        let exceeds_ceiling = retention.days > i64::from(lowest);
        conflicts.push(AdoptionConflict::DefaultRetention { retention: retention.clone(), exceeds_ceiling });
    }
    for forbidden in [ForbiddenSubresource::Replication, ForbiddenSubresource::Notifications] {
        if state.is_unreadable(forbidden) {
            conflicts.push(AdoptionConflict::Unreadable(forbidden));
        }
    }
    // `ForbiddenSubresource` has no order of gravity, and the first obstacle gives the condition its reason.
    let (copies, others): (Vec<ForbiddenSubresource>, Vec<ForbiddenSubresource>) =
        state.forbidden.iter().partition(|it| **it == ForbiddenSubresource::Replication);
    conflicts.extend(copies.into_iter().chain(others).map(AdoptionConflict::Forbidden));
    if foreign_objects {
        conflicts.push(AdoptionConflict::ForeignObjects);
    }
    if state.lifecycle.as_ref().is_some_and(|rules| !rules.is_subset(&ours)) {
        conflicts.push(AdoptionConflict::Lifecycle);
    }
    let is_foreign = |policy: &Policy| !policy.is_subset_of(&drift::any_dialect_policy(place, spec));
    if unreadable_policy || state.policy.as_ref().is_some_and(is_foreign) {
        conflicts.push(AdoptionConflict::Policy);
    }
    // Only a key is somebody's work. A partial public access block and the ownership of older buckets are defaults, and the
    // operator only makes them stricter.
    let encryption = state.required.get(&RequiredSubresource::Encryption);
    if matches!(encryption, Some(SubresourceState::Differs(value)) if value != UNSET) {
        conflicts.push(AdoptionConflict::Differs(RequiredSubresource::Encryption));
    }
    Ok(conflicts)
}

#[cfg(test)]
mod tests;
