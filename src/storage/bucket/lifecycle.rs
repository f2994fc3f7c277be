//! Lifecycle rules in one form: stores write the same rule in different ways. `rules/retention` decides their days.

use std::collections::BTreeMap;
use std::fmt;

use aws_sdk_s3::types::{
    AbortIncompleteMultipartUpload, ExpirationStatus, LifecycleExpiration, LifecycleRule,
    LifecycleRuleAndOperator, LifecycleRuleFilter, NoncurrentVersionExpiration, Tag,
};

/// A lifecycle rule, without its id: ids do not change the effect of a rule.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct BucketLifecycleRule {
    pub enabled: bool,
    /// Prefix of the keys that it applies to; empty: all.
    pub prefix: String,
    /// Tags of the objects that it applies to.
    pub tags: BTreeMap<String, String>,
    /// Days until a delete marker hides the current version.
    pub expire_after: Option<i32>,
    /// Days until a noncurrent version is deleted.
    pub noncurrent_after: Option<i32>,
    /// Removes delete markers without versions.
    pub expired_markers: bool,
    /// Days until an unfinished upload is aborted.
    pub abort_after: Option<i32>,
    /// Other elements: a transition, a date, a bound on size or number. Rules of a Site have none.
    pub has_other_elements: bool,
}

impl BucketLifecycleRule {
    /// Reads a rule of an answer. Stores put `Prefix` beside `Filter` or within it, and `Tag` within `And` or beside it.
    pub(crate) fn from_sdk(rule: &LifecycleRule) -> Self {
        let filter = rule.filter();
        let and = filter.and_then(LifecycleRuleFilter::and);
        #[allow(deprecated, reason = "Ceph answers with it")]
        let beside = rule.prefix();
        let within = filter.and_then(LifecycleRuleFilter::prefix);
        let prefixes = [beside, within, and.and_then(LifecycleRuleAndOperator::prefix)];
        let prefix = prefixes.into_iter().flatten().find(|p| !p.is_empty()).unwrap_or_default();
        let tags = filter
            .and_then(LifecycleRuleFilter::tag)
            .into_iter()
            .chain(and.map(LifecycleRuleAndOperator::tags).unwrap_or_default());
        let is_sized = filter.is_some_and(|it| {
            it.object_size_greater_than().is_some() || it.object_size_less_than().is_some()
        }) || and.is_some_and(|it| {
            it.object_size_greater_than().is_some() || it.object_size_less_than().is_some()
        });
        let expiration = rule.expiration();
        let noncurrent = rule.noncurrent_version_expiration();
        Self {
            enabled: *rule.status() == ExpirationStatus::Enabled,
            prefix: prefix.to_owned(),
            tags: tags.map(|tag| (tag.key().to_owned(), tag.value().to_owned())).collect(),
            // Some stores answer with 0 for days that are not set.
            expire_after: expiration.and_then(LifecycleExpiration::days).filter(|days| *days > 0),
            noncurrent_after: noncurrent
                .and_then(NoncurrentVersionExpiration::noncurrent_days)
                .filter(|days| *days > 0),
            expired_markers: expiration
                .and_then(LifecycleExpiration::expired_object_delete_marker)
                .unwrap_or(false),
            abort_after: rule
                .abort_incomplete_multipart_upload()
                .and_then(AbortIncompleteMultipartUpload::days_after_initiation),
            has_other_elements: is_sized
                || !rule.transitions().is_empty()
                || !rule.noncurrent_version_transitions().is_empty()
                || expiration.is_some_and(|e| e.date().is_some())
                || noncurrent.is_some_and(|n| n.newer_noncurrent_versions().is_some_and(|n| n > 0)),
        }
    }

    /// Returns the rule of a request, with this id; `None` if it has other elements.
    pub(crate) fn to_sdk(&self, id: &str) -> Option<LifecycleRule> {
        if self.has_other_elements {
            return None;
        }
        let mut tags = Vec::new();
        for (key, value) in &self.tags {
            tags.push(Tag::builder().key(key).value(value).build().ok()?);
        }
        let filter = LifecycleRuleFilter::builder();
        let filter = if tags.is_empty() {
            filter.prefix(&self.prefix)
        } else {
            filter.and(LifecycleRuleAndOperator::builder().prefix(&self.prefix).set_tags(Some(tags)).build())
        };
        let expiration = (self.expire_after.is_some() || self.expired_markers).then(|| {
            LifecycleExpiration::builder()
                .set_days(self.expire_after)
                .set_expired_object_delete_marker(self.expired_markers.then_some(true))
                .build()
        });
        let noncurrent = self
            .noncurrent_after
            .map(|days| NoncurrentVersionExpiration::builder().noncurrent_days(days).build());
        let abort = self
            .abort_after
            .map(|days| AbortIncompleteMultipartUpload::builder().days_after_initiation(days).build());
        let status = if self.enabled { ExpirationStatus::Enabled } else { ExpirationStatus::Disabled };
        LifecycleRule::builder()
            .id(id)
            .status(status)
            .filter(filter.build())
            .set_expiration(expiration)
            .set_noncurrent_version_expiration(noncurrent)
            .set_abort_incomplete_multipart_upload(abort)
            .build()
            .ok()
    }
}

impl fmt::Display for BucketLifecycleRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = if self.prefix.is_empty() { "all" } else { &self.prefix };
        f.write_str(prefix)?;
        self.tags.iter().try_for_each(|(key, value)| write!(f, " {key}={value}"))?;
        if let Some(days) = self.expire_after {
            write!(f, " expire {days}d")?;
        }
        if let Some(days) = self.noncurrent_after {
            write!(f, " noncurrent {days}d")?;
        }
        if self.expired_markers {
            f.write_str(" expired markers")?;
        }
        if let Some(days) = self.abort_after {
            write!(f, " abort uploads {days}d")?;
        }
        f.write_str(if self.has_other_elements { " and more" } else { "" })?;
        f.write_str(if self.enabled { "" } else { " (disabled)" })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    prop_compose! {
        fn any_rule()(
            enabled: bool,
            prefix in "([a-z]{1,5}/)?",
            tags in proptest::collection::btree_map("[a-z]{1,5}", "[a-z]{1,5}", 0..3),
            expire in proptest::option::of(1..3000_i32),
            noncurrent_after in proptest::option::of(1..3000_i32),
            markers: bool,
            abort_after in proptest::option::of(1..30_i32),
        ) -> BucketLifecycleRule {
            let expire_after = expire.filter(|_| !markers);
            BucketLifecycleRule { enabled, prefix, tags, expire_after, noncurrent_after, expired_markers: markers, abort_after, has_other_elements: false }
        }
    }

    proptest! {
        #[test]
        fn rule_round_trips_through_the_sdk(rule in any_rule()) {
            prop_assert_eq!(BucketLifecycleRule::from_sdk(&rule.to_sdk("x").unwrap()), rule);
        }

        #[test]
        #[allow(deprecated, reason = "Ceph answers with it")]
        fn equivalent_filters_are_the_same_rule(days in 1..99_i32) {
            let expiration = LifecycleExpiration::builder().days(days).build();
            let rule = || LifecycleRule::builder().status(ExpirationStatus::Enabled).expiration(expiration.clone());
            let tag = Tag::builder().key("k").value("v").build().unwrap();
            let and = LifecycleRuleAndOperator::builder().prefix("").tags(tag.clone()).build();
            let one = rule().filter(LifecycleRuleFilter::builder().and(and).build()).build().unwrap();
            let other = rule().filter(LifecycleRuleFilter::builder().tag(tag).build()).build().unwrap();
            prop_assert_eq!(BucketLifecycleRule::from_sdk(&one), BucketLifecycleRule::from_sdk(&other));
            let one = rule().prefix("video/").build().unwrap();
            let other = rule().filter(LifecycleRuleFilter::builder().prefix("video/").build()).build().unwrap();
            prop_assert_eq!(BucketLifecycleRule::from_sdk(&one), BucketLifecycleRule::from_sdk(&other));
        }
    }

    #[test]
    fn unknown_elements_are_detected() {
        let size = LifecycleRuleFilter::builder().object_size_less_than(10).build();
        let rule = LifecycleRule::builder().status(ExpirationStatus::Enabled).filter(size).build().unwrap();
        assert!(BucketLifecycleRule::from_sdk(&rule).has_other_elements);
        assert!(BucketLifecycleRule::from_sdk(&rule).to_sdk("x").is_none());
    }
}
