//! What differs between the bucket that must be and the one that is: pure. Nothing differs, nothing is
//! written.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use strum::VariantArray;

use super::desired;
use super::desired::{CeilingTooLow, OptionalRule};
use super::lifecycle::BucketLifecycleRule;
use super::policy::actions::{BucketRef, NEWER_SETTINGS};
use super::policy::dialect::{Dialect, EveryoneExcept, UnsupportedItem};
use super::policy::document::Policy;
use super::policy::statements;
use super::spec::{BucketSpec, BucketState, ForbiddenSubresource, RequiredSubresource, SubresourceState};

#[derive(Clone, Debug)]
pub(crate) struct DesiredBucket {
    pub(crate) lifecycle: BTreeMap<&'static str, BucketLifecycleRule>,
    pub(crate) statements: Vec<Value>,
    /// `None`: there must be none, as the store's identities do not heed it.
    pub(crate) policy: Option<Policy>,
    /// Configuration that the store was found not to keep: it is not written again.
    pub(crate) unsupported: BTreeSet<UnsupportedItem>,
}

impl DesiredBucket {
    pub(crate) fn for_spec(
        place: BucketRef<'_>,
        spec: &BucketSpec,
        dialect: &Dialect,
        tls: bool,
    ) -> Result<Self, CeilingTooLow> {
        let statements = statements::policy_statements(place, spec, dialect, tls);
        let policy = dialect.heeds_policies.then(|| Policy::from_statements(&statements).unwrap_or_default());
        let mut desired = Self {
            lifecycle: desired::lifecycle_rules(spec)?,
            statements,
            policy,
            unsupported: dialect.given_up.clone(),
        };
        desired.lifecycle.retain(|id, _| {
            let is_given_up =
                |rule: &&OptionalRule| dialect.given_up.contains(&UnsupportedItem::Rule(**rule));
            !OptionalRule::VARIANTS.iter().filter(is_given_up).any(|rule| rule.id() == *id)
        });
        Ok(desired)
    }

    /// The same without some of the lifecycle rules.
    pub(crate) fn without_rules(&self, rules: &[OptionalRule]) -> Self {
        let mut desired = self.clone();
        for rule in rules {
            desired.lifecycle.remove(rule.id());
            desired.unsupported.insert(UnsupportedItem::Rule(*rule));
        }
        desired
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BucketOperation {
    EnableVersioning,
    ClearDefaultRetention,
    PutLifecycle,
    /// Something that must not be there goes.
    Remove(ForbiddenSubresource),
    /// A setting as it must be.
    Set(RequiredSubresource),
    PutPolicy,
}

/// What to write, in order. The policy is last: only then may anybody record, and by then all rules hold.
pub(crate) fn plan(desired: &DesiredBucket, state: &BucketState) -> Vec<BucketOperation> {
    let rules: BTreeSet<BucketLifecycleRule> = desired.lifecycle.values().cloned().collect();
    let mut operations = Vec::new();
    let mut push_if = |differs: bool, operation| {
        if differs {
            operations.push(operation);
        }
    };
    push_if(!state.versioning, BucketOperation::EnableVersioning);
    push_if(state.default_retention.is_some(), BucketOperation::ClearDefaultRetention);
    push_if(state.lifecycle.as_ref().is_some_and(|there| *there != rules), BucketOperation::PutLifecycle);
    state.forbidden.iter().for_each(|extra| push_if(true, BucketOperation::Remove(*extra)));
    for (setting, kept) in &state.required {
        let differs = matches!(kept, SubresourceState::Differs(_))
            && !desired.unsupported.contains(&UnsupportedItem::Subresource(*setting));
        push_if(differs, BucketOperation::Set(*setting));
    }
    push_if(state.policy != desired.policy, BucketOperation::PutPolicy);
    operations
}

/// Everything that the policy could say, in the words of any store.
pub(crate) fn any_dialect_policy(place: BucketRef<'_>, spec: &BucketSpec) -> Policy {
    let words = [false, true];
    let mut all = Vec::new();
    for others in EveryoneExcept::CANDIDATES.into_iter().chain([EveryoneExcept::Unsaid]) {
        for (request_tag, deny_tagging) in words.into_iter().flat_map(|one| words.map(|other| (one, other))) {
            for more_settings in words {
                for newer in 0..1_u8 << NEWER_SETTINGS.len() {
                    let known = NEWER_SETTINGS.iter().enumerate();
                    let known = known.filter(|(bit, _)| newer >> bit & 1 == 1);
                    let dialect = Dialect {
                        others,
                        request_tag,
                        deny_tagging,
                        deny_plain_http: true,
                        more_settings,
                        newer_settings: known.map(|(_, word)| (*word).to_owned()).collect(),
                        ..Dialect::unproved(&spec.operator_principal, &spec.recorder_principal)
                    };
                    all.extend(statements::policy_statements(place, spec, &dialect, true));
                }
            }
        }
    }
    Policy::from_statements(&all).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::storage::bucket::spec::BucketDefaultRetention;

    fn spec() -> BucketSpec {
        BucketSpec {
            operator_principal: "arn:aws:iam:::user/operator".into(),
            recorder_principal: "arn:aws:iam:::user/recorder".into(),
            readers: vec!["arn:aws:iam:::user/manager".into()],
            ..BucketSpec::example()
        }
    }

    const SETTINGS: [RequiredSubresource; 3] = [
        RequiredSubresource::PublicAccessBlock,
        RequiredSubresource::Encryption,
        RequiredSubresource::Ownership,
    ];

    fn dialects() -> impl Strategy<Value = Dialect> {
        let others = prop_oneof![
            Just(EveryoneExcept::PrincipalArn),
            Just(EveryoneExcept::NotPrincipal),
            Just(EveryoneExcept::Username),
            Just(EveryoneExcept::Unsaid)
        ];
        let newer = proptest::sample::subsequence(NEWER_SETTINGS.to_vec(), 0..=NEWER_SETTINGS.len());
        (others, any::<[bool; 4]>(), newer).prop_map(
            |(others, [request_tag, deny_tagging, deny_plain_http, more_settings], newer)| Dialect {
                others,
                request_tag,
                deny_tagging,
                deny_plain_http,
                more_settings,
                newer_settings: newer.into_iter().map(str::to_owned).collect(),
                ..Dialect::unproved(&spec().operator_principal, &spec().recorder_principal)
            },
        )
    }

    const PLACE: BucketRef<'static> = BucketRef { name: "bucket", region: "nl-1" };

    fn in_sync(desired: &DesiredBucket) -> BucketState {
        BucketState {
            object_lock: true,
            default_retention: None,
            versioning: true,
            lifecycle: Some(desired.lifecycle.values().cloned().collect()),
            policy: desired.policy.clone(),
            forbidden: BTreeSet::new(),
            unreadable: BTreeMap::new(),
            required: SETTINGS.map(|setting| (setting, SubresourceState::Compliant)).into(),
        }
    }

    proptest! {
        #[test]
        fn plan_is_empty_in_sync(dialect in dialects(), tls: bool) {
            let desired = DesiredBucket::for_spec(PLACE, &spec(), &dialect, tls).unwrap();
            prop_assert_eq!(plan(&desired, &in_sync(&desired)), vec![]);
        }

        #[test]
        fn one_difference_plans_one_operation(dialect in dialects(), which in 0..8_usize) {
            let desired = DesiredBucket::for_spec(PLACE, &spec(), &dialect, true).unwrap();
            let mut state = in_sync(&desired);
            let expected = match which {
                0 => { state.versioning = false; BucketOperation::EnableVersioning }
                1 => { state.default_retention = Some(BucketDefaultRetention { description: "GOVERNANCE 1 days".into(), days: 1 }); BucketOperation::ClearDefaultRetention }
                2 => { state.lifecycle = Some(BTreeSet::new()); BucketOperation::PutLifecycle }
                3 => { state.forbidden.insert(ForbiddenSubresource::Replication); BucketOperation::Remove(ForbiddenSubresource::Replication) }
                4..7 => {
                    let setting = SETTINGS[which - 4];
                    state.required.insert(setting, SubresourceState::Differs("none".into()));
                    BucketOperation::Set(setting)
                }
                _ => { state.policy = None; BucketOperation::PutPolicy }
            };
            prop_assert_eq!(plan(&desired, &state), vec![expected]);
        }

        #[test]
        fn plan_skips_unsupported_subresources(dialect in dialects(), which in 0..3_usize) {
            let dialect = Dialect { given_up: BTreeSet::from([UnsupportedItem::Subresource(SETTINGS[which])]), ..dialect };
            let desired = DesiredBucket::for_spec(PLACE, &spec(), &dialect, true).unwrap();
            let mut state = in_sync(&desired);
            state.required.insert(SETTINGS[which], SubresourceState::Differs("none".into()));
            prop_assert_eq!(plan(&desired, &state), vec![]);
        }

        #[test]
        fn plan_skips_unsupported_rules(dialect in dialects(), which in 0..3_usize) {
            let rules = [
                &[OptionalRule::UnfinishedUploads][..],
                &[OptionalRule::ExpiredMarkers],
                OptionalRule::VARIANTS,
            ][which];
            let all = DesiredBucket::for_spec(PLACE, &spec(), &dialect, true).unwrap();
            let fewer = all.without_rules(rules);
            prop_assert_eq!(all.lifecycle.len() - fewer.lifecycle.len(), rules.len());
            let given_up = fewer.unsupported.clone();
            let again = DesiredBucket::for_spec(PLACE, &spec(), &Dialect { given_up, ..dialect }, true).unwrap();
            prop_assert_eq!(plan(&again, &in_sync(&fewer)), vec![]);
            prop_assert_eq!(plan(&all, &in_sync(&fewer)), vec![BucketOperation::PutLifecycle]);
        }

        #[test]
        fn own_policy_is_within_any_dialect_policy(dialect in dialects(), tls: bool) {
            let desired = DesiredBucket::for_spec(PLACE, &spec(), &dialect, tls).unwrap();
            prop_assert!(desired.policy.unwrap().is_subset_of(&any_dialect_policy(PLACE, &spec())));
        }
    }
}
