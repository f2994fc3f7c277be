//! The configuration of a bucket, as read back.

use std::collections::{BTreeMap, BTreeSet};

use super::lifecycle::BucketLifecycleRule;
use super::policy::document::Policy;
use super::subresources::{ForbiddenSubresource, RequiredSubresource, SubresourceState, UnreadableReason};
use crate::rules::Class;

/// Configuration of a bucket, read back and normalised.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BucketState {
    pub object_lock: bool,
    /// The retention of new objects: a minimum age that can exceed the ceiling.
    pub default_retention: Option<BucketDefaultRetention>,
    pub versioning: bool,
    /// The lifecycle rules, without their ids; `None`: the store has no lifecycle.
    pub lifecycle: Option<BTreeSet<BucketLifecycleRule>>,
    /// The bucket policy, without the Sids of its statements; `None`: there is none.
    pub policy: Option<Policy>,
    pub forbidden: BTreeSet<ForbiddenSubresource>,
    /// Forbidden subresources that the bucket may or may not have.
    pub unreadable: BTreeMap<ForbiddenSubresource, UnreadableReason>,
    pub required: BTreeMap<RequiredSubresource, SubresourceState>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketDefaultRetention {
    /// Mode and period, such as `GOVERNANCE 30 days`.
    pub description: String,
    /// The period in days; a year counts as 365.
    pub days: i64,
}

impl BucketState {
    /// Returns the days after which lifecycle hides a video; `None`: no such rule.
    pub fn video_expiration_days(&self) -> Option<i32> {
        self.expiration_days(Class::Video)
    }

    /// Returns the days after which lifecycle hides a call; `None`: no such rule.
    pub fn calls_expiration_days(&self) -> Option<i32> {
        self.expiration_days(Class::Calls)
    }

    fn expiration_days(&self, class: Class) -> Option<i32> {
        let rules = self.lifecycle.iter().flatten();
        rules.filter(|rule| rule.enabled && rule.prefix == class.prefix()).find_map(|rule| rule.expire_after)
    }

    /// Returns whether the bucket encrypts new objects with a key of the organisation.
    pub(crate) fn has_customer_key(&self) -> bool {
        matches!(self.required.get(&RequiredSubresource::Encryption), Some(SubresourceState::Stronger(_)))
    }

    /// Returns whether the operator lacks the right to read this subresource. A store that does not know the operation
    /// does not count: nobody can configure the subresource there by S3.
    pub(crate) fn is_unreadable(&self, subresource: ForbiddenSubresource) -> bool {
        self.unreadable.get(&subresource) == Some(&UnreadableReason::Denied)
    }

    /// Returns a sentence for each way in which this bucket is weaker than required, or not visible to the operator.
    pub fn limitations(&self) -> Vec<String> {
        let unreadable = |reason| {
            let matching = self.unreadable.iter().filter(move |(_, other)| **other == reason);
            matching.map(|(subresource, _)| subresource.to_string())
        };
        let hidden = self.required.iter().filter(|(_, state)| **state == SubresourceState::Denied);
        let denied: Vec<String> =
            unreadable(UnreadableReason::Denied).chain(hidden.map(|(it, _)| it.to_string())).collect();
        let unexpected: Vec<String> = unreadable(UnreadableReason::UnexpectedAnswer).collect();
        let mut sentences = Vec::new();
        if !denied.is_empty() {
            sentences.push(format!(
                "the operator may not read whether the bucket has {}: grant it the rights in docs/reference/stores.md",
                denied.join(", ")
            ));
        }
        if !unexpected.is_empty() {
            sentences.push(format!(
                "the store does not understand the question whether the bucket has {}: the operator cannot see such \
                 configuration",
                unexpected.join(", ")
            ));
        }
        let weaker = self.required.iter().filter(|(_, state)| {
            matches!(state, SubresourceState::Unsupported | SubresourceState::Differs(_))
        });
        let describe = |it: &RequiredSubresource| {
            format!("the store does not keep the desired {it}: {}", it.info().consequence)
        };
        sentences.extend(weaker.map(|(it, _)| describe(it)));
        for (required, state) in &self.required {
            if let SubresourceState::Stronger(value) = state {
                sentences.push(format!(
                    "the {required} is {value}, with a key of the organisation: anyone who withdraws or deletes that key \
                     makes all recordings unreadable, including held ones"
                ));
            }
        }
        sentences
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limitations_distinguish_denied_from_unsupported() {
        let mut state = BucketState::default();
        assert_eq!(state.limitations(), Vec::<String>::new());
        state.unreadable.insert(ForbiddenSubresource::Cors, UnreadableReason::Denied);
        state.required.insert(RequiredSubresource::Ownership, SubresourceState::Denied);
        state.unreadable.insert(ForbiddenSubresource::Inventory, UnreadableReason::UnexpectedAnswer);
        state.required.insert(RequiredSubresource::Encryption, SubresourceState::Unsupported);
        state.required.insert(RequiredSubresource::PublicAccessBlock, SubresourceState::Compliant);
        let limitations = state.limitations();
        assert_eq!(limitations.len(), 3, "{limitations:?}");
        assert!(limitations[0].contains("CORS rules, object ownership"), "{limitations:?}");
        assert!(
            limitations[1].contains("inventories") && limitations[2].contains("desired default encryption"),
            "{limitations:?}"
        );
        state.required.insert(RequiredSubresource::Encryption, SubresourceState::Stronger("aws:kms"));
        let is_about_key = |it: &String| it.contains("aws:kms") && it.contains("deletes that key");
        assert!(state.limitations().iter().any(is_about_key), "{:?}", state.limitations());
    }
}
