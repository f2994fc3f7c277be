//! The desired lifecycle rules of a Site's bucket: pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::lifecycle::BucketLifecycleRule;
use super::spec::BucketSpec;
use crate::api::Days;
use crate::rules::retention::{MIN_CEILING, lifecycle_expiration_days};
use crate::rules::{Class, RetentionTag, TAG_KEY};

/// A ceiling that leaves lifecycle no day. The API rejects it at admission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a ceiling of {0} cannot be kept by lifecycle: it must be at least {MIN_CEILING}")]
pub struct CeilingTooLow(pub Days);

/// A lifecycle rule that a store may lack: without it, the operator's sweep does the same work later.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, strum::VariantArray,
)]
#[serde(rename_all = "camelCase")]
pub enum OptionalRule {
    /// Ends unfinished uploads after a day. Recorders begin none.
    UnfinishedUploads,
    /// Removes delete markers without versions. They hold no bytes.
    ExpiredMarkers,
}

impl OptionalRule {
    /// Returns the rule's id in [`lifecycle_rules`].
    pub(crate) const fn id(self) -> &'static str {
        match self {
            Self::UnfinishedUploads => "toezicht-uploads",
            Self::ExpiredMarkers => "toezicht-markers",
        }
    }
}

/// Returns the lifecycle rules for these ceilings, by id.
pub fn lifecycle_rules(
    spec: &BucketSpec,
) -> Result<BTreeMap<&'static str, BucketLifecycleRule>, CeilingTooLow> {
    let expiry_rule = |class: Class, ceiling: Days| {
        let days = lifecycle_expiration_days(ceiling)
            .and_then(|days| i32::try_from(days).ok())
            .ok_or(CeilingTooLow(ceiling))?;
        Ok(BucketLifecycleRule {
            enabled: true,
            prefix: class.prefix().to_owned(),
            // A held object has another tag, so lifecycle does not even hide it.
            tags: BTreeMap::from([(TAG_KEY.to_owned(), RetentionTag::default_for(class).to_string())]),
            expire_after: Some(days),
            // The least that S3 allows. `LIFECYCLE_MARGIN` counts on it.
            noncurrent_after: Some(1),
            ..BucketLifecycleRule::default()
        })
    };
    // Separate rules without a tag: S3 rejects these two actions in a rule that has one.
    let untagged_rule = || BucketLifecycleRule { enabled: true, ..BucketLifecycleRule::default() };
    let (uploads, markers) = (OptionalRule::UnfinishedUploads.id(), OptionalRule::ExpiredMarkers.id());
    Ok(BTreeMap::from([
        ("toezicht-calls", expiry_rule(Class::Calls, spec.calls_ceiling)?),
        (markers, BucketLifecycleRule { expired_markers: true, ..untagged_rule() }),
        (uploads, BucketLifecycleRule { abort_after: Some(1), ..untagged_rule() }),
        ("toezicht-video", expiry_rule(Class::Video, spec.video_ceiling)?),
    ]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(video: u32, calls: u32) -> BucketSpec {
        BucketSpec { video_ceiling: Days(video), calls_ceiling: Days(calls), ..BucketSpec::example() }
    }

    #[test]
    fn rules_expire_four_days_before_the_ceiling() {
        let rules = lifecycle_rules(&spec(28, 7)).unwrap();
        assert_eq!(rules["toezicht-video"].expire_after, Some(24));
        assert_eq!(rules["toezicht-calls"].expire_after, Some(3));
    }

    #[test]
    fn ceiling_below_minimum_is_rejected() {
        assert_eq!(lifecycle_rules(&spec(4, 7)), Err(CeilingTooLow(Days(4))));
        assert_eq!(lifecycle_rules(&spec(28, 0)), Err(CeilingTooLow(Days(0))));
        assert!(lifecycle_rules(&spec(5, 5)).is_ok());
    }
}
