//! The differences between the desired and the observed bucket: pure. Without a difference, the operator writes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::Value;
use strum::VariantArray;

use super::desired;
use super::desired::{CeilingTooLow, OptionalRule};
use super::lifecycle::BucketLifecycleRule;
use super::policy::actions::{BucketRef, NEWER_SETTINGS};
use super::policy::dialect::{Dialect, EveryoneExcept, UnsupportedItem};
use super::policy::document::Policy;
use super::policy::statements;
use super::spec::{BucketSpec, StoreChange};
use super::state::BucketState;
use super::subresources::{ForbiddenSubresource, RequiredSubresource, Subresource, SubresourceState};

#[derive(Clone, Debug)]
pub(crate) struct DesiredBucket {
    /// The lifecycle rules, by id.
    pub(crate) lifecycle: BTreeMap<&'static str, BucketLifecycleRule>,
    pub(crate) statements: Vec<Value>,
    /// `None`: the bucket must have no policy, because policies have no effect on the store's identities.
    pub(crate) policy: Option<Policy>,
    /// Configuration that the store does not keep. The operator does not write it again.
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
        let all = Self { statements, policy, ..Self::with_lifecycle_only(spec)? };
        let is_unsupported = |rule: &&OptionalRule| dialect.given_up.contains(&UnsupportedItem::Rule(**rule));
        let rules: Vec<OptionalRule> =
            OptionalRule::VARIANTS.iter().filter(is_unsupported).copied().collect();
        Ok(Self { unsupported: dialect.given_up.clone(), ..all.without_rules(&rules) })
    }

    /// Returns a bucket with the lifecycle rules of a Site, and without a policy.
    pub(crate) fn with_lifecycle_only(spec: &BucketSpec) -> Result<Self, CeilingTooLow> {
        Ok(Self {
            lifecycle: desired::lifecycle_rules(spec)?,
            statements: Vec::new(),
            policy: None,
            unsupported: BTreeSet::new(),
        })
    }

    /// Returns the same without some of the lifecycle rules.
    pub(crate) fn without_rules(&self, rules: &[OptionalRule]) -> Self {
        let mut desired = self.clone();
        for rule in rules {
            desired.lifecycle.remove(rule.id());
            desired.unsupported.insert(UnsupportedItem::Rule(*rule));
        }
        desired
    }

    /// Returns the lifecycle rules as they are compared.
    pub(crate) fn rule_set(&self) -> BTreeSet<BucketLifecycleRule> {
        self.lifecycle.values().cloned().collect()
    }
}

/// A write to the bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BucketOperation {
    EnableVersioning,
    ClearDefaultRetention,
    PutLifecycle,
    Remove(ForbiddenSubresource),
    Set(RequiredSubresource),
    PutPolicy,
}

impl BucketOperation {
    pub(crate) fn subresource(self) -> Subresource {
        match self {
            Self::EnableVersioning => Subresource::Versioning,
            Self::ClearDefaultRetention => Subresource::DefaultRetention,
            Self::PutLifecycle => Subresource::Lifecycle,
            Self::Remove(_) => Subresource::ForeignConfiguration,
            Self::Set(required) => required.info().subresource,
            Self::PutPolicy => Subresource::Policy,
        }
    }

    /// Returns the change that this write makes, in words.
    pub(crate) fn change(self, desired: &DesiredBucket, state: &BucketState) -> StoreChange {
        let (from, to) = match self {
            Self::EnableVersioning => ("off".to_owned(), "on".to_owned()),
            Self::ClearDefaultRetention => {
                let retention = state.default_retention.as_ref();
                (retention.map(|it| it.description.clone()).unwrap_or_default(), "none".to_owned())
            }
            Self::PutLifecycle => {
                (join_rules(state.lifecycle.iter().flatten()), join_rules(desired.lifecycle.values()))
            }
            Self::Remove(forbidden) => (forbidden.to_string(), "removed".to_owned()),
            Self::Set(required) => {
                let from = match state.required.get(&required) {
                    Some(SubresourceState::Differs(value)) => value.as_str(),
                    _ => "unknown",
                };
                (from.to_owned(), required.info().value.to_owned())
            }
            Self::PutPolicy => {
                let from = state.policy.as_ref().map(|policy| match &desired.policy {
                    Some(ours) if policy.is_subset_of(ours) => format!("{} of its statements", policy.len()),
                    _ => format!("another, of {} statements", policy.len()),
                });
                let to = desired.policy.as_ref().map(|policy| format!("{} statements", policy.len()));
                [from, to].map(|it| it.unwrap_or_else(|| "none".to_owned())).into()
            }
        };
        StoreChange::new(self.subresource(), from, to)
    }
}

impl fmt::Display for BucketOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Remove(forbidden) => forbidden.fmt(f),
            other => other.subresource().fmt(f),
        }
    }
}

fn join_rules<'a>(rules: impl Iterator<Item = &'a BucketLifecycleRule>) -> String {
    let rules: Vec<String> = rules.map(ToString::to_string).collect();
    if rules.is_empty() { "none".to_owned() } else { rules.join("; ") }
}

/// Returns the writes to make, in order. The policy comes last: it lets recorders in, and by then all other rules are in force.
pub(crate) fn plan(desired: &DesiredBucket, state: &BucketState) -> Vec<BucketOperation> {
    let forbidden = state.forbidden.iter().map(|it| (true, BucketOperation::Remove(*it)));
    let required = state.required.iter().map(|(it, state)| {
        let is_unsupported = desired.unsupported.contains(&UnsupportedItem::Subresource(*it));
        let differs = matches!(state, SubresourceState::Differs(_)) && !is_unsupported;
        (differs, BucketOperation::Set(*it))
    });
    // A store without lifecycle (`None`) has nothing to write. `check_prerequisites` has asked for the exception.
    let has_other_rules = state.lifecycle.as_ref().is_some_and(|rules| *rules != desired.rule_set());
    let first = [
        (!state.versioning, BucketOperation::EnableVersioning),
        (state.default_retention.is_some(), BucketOperation::ClearDefaultRetention),
        (has_other_rules, BucketOperation::PutLifecycle),
    ];
    let policy = (state.policy != desired.policy, BucketOperation::PutPolicy);
    let all = first.into_iter().chain(forbidden).chain(required).chain([policy]);
    all.filter_map(|(differs, operation)| differs.then_some(operation)).collect()
}

/// Returns every statement of a Site's policy in any dialect: a bucket with these alone is adopted.
pub(crate) fn any_dialect_policy(place: BucketRef<'_>, spec: &BucketSpec) -> Policy {
    let mut all = Vec::new();
    for others in EveryoneExcept::CANDIDATES.into_iter().chain([EveryoneExcept::Unsaid]) {
        // Each bit is a word that the dialect has or lacks: three words of their own, then the newer settings.
        for bits in 0..1_u32 << (3 + NEWER_SETTINGS.len()) {
            let has = |bit: usize| bits >> bit & 1 == 1;
            let newer = NEWER_SETTINGS.iter().enumerate().filter(|(number, _)| has(3 + number));
            let dialect = Dialect {
                others,
                request_tag: has(0),
                deny_tagging: has(1),
                // Only adds a statement, so `true` covers both.
                deny_plain_http: true,
                more_settings: has(2),
                newer_settings: newer.map(|(_, action)| (*action).to_owned()).collect(),
                ..Dialect::unproved(&spec.operator_principal, &spec.recorder_principal)
            };
            all.extend(statements::policy_statements(place, spec, &dialect, true));
        }
    }
    Policy::from_statements(&all).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::storage::bucket::state::BucketDefaultRetention;

    fn dialects() -> impl Strategy<Value = Dialect> {
        let [arn, not_principal, username] = EveryoneExcept::CANDIDATES.map(Just);
        let others = prop_oneof![arn, not_principal, username, Just(EveryoneExcept::Unsaid)];
        let newer = proptest::sample::subsequence(NEWER_SETTINGS.to_vec(), 0..=NEWER_SETTINGS.len());
        (others, any::<[bool; 4]>(), newer).prop_map(
            |(others, [request_tag, deny_tagging, deny_plain_http, more_settings], newer)| Dialect {
                others,
                request_tag,
                deny_tagging,
                deny_plain_http,
                more_settings,
                newer_settings: newer.into_iter().map(str::to_owned).collect(),
                ..Dialect::unproved("o", "r")
            },
        )
    }

    const PLACE: BucketRef<'static> = BucketRef { name: "bucket", region: "nl-1" };

    fn desired(dialect: &Dialect, tls: bool) -> DesiredBucket {
        DesiredBucket::for_spec(PLACE, &BucketSpec::example(), dialect, tls).unwrap()
    }

    fn in_sync(desired: &DesiredBucket) -> BucketState {
        BucketState {
            object_lock: true,
            versioning: true,
            lifecycle: Some(desired.rule_set()),
            policy: desired.policy.clone(),
            required: RequiredSubresource::VARIANTS
                .iter()
                .map(|it| (*it, SubresourceState::Compliant))
                .collect(),
            ..BucketState::default()
        }
    }

    proptest! {
        #[test]
        fn plan_is_empty_in_sync(dialect in dialects(), tls: bool) {
            let wanted = desired(&dialect, tls);
            prop_assert_eq!(plan(&wanted, &in_sync(&wanted)), vec![]);
        }

        #[test]
        fn one_difference_plans_one_operation(dialect in dialects(), which in 0..8_usize) {
            let wanted = desired(&dialect, true);
            let mut state = in_sync(&wanted);
            let expected = match which {
                0 => { state.versioning = false; BucketOperation::EnableVersioning }
                1 => { state.default_retention = Some(BucketDefaultRetention { description: "GOVERNANCE 1 days".into(), days: 1 }); BucketOperation::ClearDefaultRetention }
                2 => { state.lifecycle = Some(BTreeSet::new()); BucketOperation::PutLifecycle }
                3 => { state.forbidden.insert(ForbiddenSubresource::Replication); BucketOperation::Remove(ForbiddenSubresource::Replication) }
                4..7 => {
                    let setting = RequiredSubresource::VARIANTS[which - 4];
                    state.required.insert(setting, SubresourceState::Differs("none".into()));
                    BucketOperation::Set(setting)
                }
                _ => { state.policy = None; BucketOperation::PutPolicy }
            };
            prop_assert_eq!(plan(&wanted, &state), vec![expected]);
        }

        #[test]
        fn plan_skips_unsupported_subresources(dialect in dialects(), which in 0..3_usize) {
            let dialect = Dialect { given_up: BTreeSet::from([UnsupportedItem::Subresource(RequiredSubresource::VARIANTS[which])]), ..dialect };
            let wanted = desired(&dialect, true);
            let mut state = in_sync(&wanted);
            state.required.insert(RequiredSubresource::VARIANTS[which], SubresourceState::Differs("none".into()));
            prop_assert_eq!(plan(&wanted, &state), vec![]);
        }

        #[test]
        fn plan_skips_unsupported_rules(dialect in dialects(), which in 0..3_usize) {
            let rules = [
                &[OptionalRule::UnfinishedUploads][..],
                &[OptionalRule::ExpiredMarkers],
                OptionalRule::VARIANTS,
            ][which];
            let all = desired(&dialect, true);
            let fewer = all.without_rules(rules);
            prop_assert_eq!(all.lifecycle.len() - fewer.lifecycle.len(), rules.len());
            let given_up = fewer.unsupported.clone();
            let again = desired(&Dialect { given_up, ..dialect }, true);
            prop_assert_eq!(plan(&again, &in_sync(&fewer)), vec![]);
            prop_assert_eq!(plan(&all, &in_sync(&fewer)), vec![BucketOperation::PutLifecycle]);
        }

        #[test]
        fn own_policy_is_within_any_dialect_policy(dialect in dialects(), tls: bool) {
            let wanted = desired(&dialect, tls);
            prop_assert!(wanted.policy.unwrap().is_subset_of(&any_dialect_policy(PLACE, &BucketSpec::example())));
        }
    }
}
