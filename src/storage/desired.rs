//! The bucket that a site must have: pure, from its spec.

use std::collections::{BTreeMap, BTreeSet};

use super::bucket::BucketSpec;
use super::key::Class;
use super::lifecycle::Rule;
use super::tag::{RetentionTag, TAG_KEY};
use crate::api::Days;

/// Days from the upload to the end of the bytes that S3's rounding costs beside `Expiration.Days`: two
/// midnights, one noncurrent day, and one for a store that runs late. For a ceiling of C days lifecycle says
/// C − 4, and the ceiling holds with the operator dead.
const LIFECYCLE_MARGIN: u32 = 4;
/// The lowest ceiling for which that leaves a day.
pub const LOWEST_CEILING: Days = Days(LIFECYCLE_MARGIN + 1);

/// A ceiling for which lifecycle has no day left; the API refuses it at admission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a ceiling of {0} cannot be kept by lifecycle: it must be at least {LOWEST_CEILING}")]
pub struct CeilingTooLow(pub Days);

/// The lifecycle rules for these ceilings, by name.
pub fn lifecycle(spec: &BucketSpec) -> Result<BTreeMap<&'static str, Rule>, CeilingTooLow> {
    let expire = |class: Class, ceiling: Days| {
        let days = ceiling.0.checked_sub(LIFECYCLE_MARGIN).filter(|days| *days > 0);
        let days = days
            .and_then(|days| i32::try_from(days).ok())
            .ok_or(CeilingTooLow(ceiling))?;
        Ok(Rule {
            enabled: true,
            prefix: class.prefix().to_owned(),
            // Only what no hold covers: an object with another tag is never even hidden.
            tags: BTreeMap::from([(TAG_KEY.to_owned(), RetentionTag::unheld(class).to_string())]),
            expire_after: Some(days),
            noncurrent_after: Some(1),
            ..Rule::default()
        })
    };
    // Each in a rule of its own and without a tag: S3 refuses them beside one.
    let all = || Rule {
        enabled: true,
        ..Rule::default()
    };
    Ok(BTreeMap::from([
        ("toezicht-calls", expire(Class::Calls, spec.calls_ceiling)?),
        (
            "toezicht-markers",
            Rule {
                expired_markers: true,
                ..all()
            },
        ),
        (
            "toezicht-uploads",
            Rule {
                abort_after: Some(1),
                ..all()
            },
        ),
        ("toezicht-video", expire(Class::Video, spec.video_ceiling)?),
    ]))
}

/// The same, as it is compared.
pub(crate) fn lifecycle_set(spec: &BucketSpec) -> Result<BTreeSet<Rule>, CeilingTooLow> {
    Ok(lifecycle(spec)?.into_values().collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn spec(video: u32, calls: u32) -> BucketSpec {
        BucketSpec {
            video_ceiling: Days(video),
            calls_ceiling: Days(calls),
            operator_principal: "operator".into(),
            recorder_principal: "recorder".into(),
            readers: vec![],
            take_over: false,
            operator_only: false,
            allow_unprotected: false,
        }
    }

    #[test]
    fn heusden() {
        let rules = lifecycle(&spec(28, 7)).unwrap();
        assert_eq!(rules["toezicht-video"].expire_after, Some(24));
        assert_eq!(rules["toezicht-calls"].expire_after, Some(3));
    }

    #[test]
    fn ceilings_that_lifecycle_cannot_keep_are_refused() {
        assert_eq!(lifecycle(&spec(4, 7)), Err(CeilingTooLow(Days(4))));
        assert_eq!(lifecycle(&spec(28, 0)), Err(CeilingTooLow(Days(0))));
        assert!(lifecycle(&spec(5, 5)).is_ok());
    }

    /// S3's arithmetic: rounded up to the next midnight, twice.
    fn gone_at(uploaded: u64, expire: u64, noncurrent: u64) -> u64 {
        const DAY: u64 = 86_400;
        let midnight = |at: u64| at.div_ceil(DAY) * DAY;
        let hidden = midnight(uploaded + expire * DAY);
        midnight(hidden + noncurrent * DAY)
    }

    proptest! {
        #[test]
        fn the_ceiling_holds_with_the_operator_dead(
            ceiling in 5_u32..400,
            recorded in 0_u64..10_000_000,
            upload_delay in 0_u64..3 * 3600,
            store_lag in 0_u64..20 * 3600,
        ) {
            let rules = lifecycle(&spec(ceiling, ceiling)).unwrap();
            let rule = &rules["toezicht-video"];
            let expire = u64::try_from(rule.expire_after.unwrap()).unwrap();
            let noncurrent = u64::try_from(rule.noncurrent_after.unwrap()).unwrap();
            let gone = gone_at(recorded + upload_delay, expire, noncurrent) + store_lag;
            prop_assert!(gone <= recorded + u64::from(ceiling) * 86_400, "{gone}");
        }
    }
}
