//! What differs between the bucket that must be and the one that is: pure. Nothing differs, nothing is
//! written.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::bucket::{BucketSpec, BucketState, Extra};
use super::desired::{self, CeilingTooLow};
use super::dialect::{Dialect, Others};
use super::lifecycle::Rule;
use super::policy::Policy;
use super::statements;

/// The bucket that must be.
#[derive(Clone, Debug)]
pub(crate) struct Desired {
    pub(crate) lifecycle: BTreeMap<&'static str, Rule>,
    pub(crate) statements: Vec<Value>,
    pub(crate) policy: Policy,
}

impl Desired {
    pub(crate) fn of(
        bucket: &str,
        spec: &BucketSpec,
        dialect: &Dialect,
        tls: bool,
    ) -> Result<Self, CeilingTooLow> {
        let statements = statements::policy(bucket, spec, dialect, tls);
        let policy = Policy::of(&statements).unwrap_or_default();
        Ok(Self {
            lifecycle: desired::lifecycle(spec)?,
            statements,
            policy,
        })
    }
}

/// One idempotent write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Versioning on.
    Versioning,
    /// No default retention.
    ClearRetention,
    /// All lifecycle rules.
    Lifecycle,
    /// Something that must not be there goes.
    Remove(Extra),
    /// All public access blocked.
    BlockPublicAccess,
    /// The whole policy.
    Policy,
}

/// What to write, in order. The policy is last: only then may anybody record, and by then all rules hold.
pub(crate) fn plan(desired: &Desired, state: &BucketState) -> Vec<Operation> {
    let rules: BTreeSet<Rule> = desired.lifecycle.values().cloned().collect();
    let mut operations = Vec::new();
    let mut when = |differs: bool, operation| {
        if differs {
            operations.push(operation);
        }
    };
    when(!state.versioning, Operation::Versioning);
    when(state.default_retention.is_some(), Operation::ClearRetention);
    when(
        state.lifecycle.as_ref().is_some_and(|there| *there != rules),
        Operation::Lifecycle,
    );
    state
        .foreign
        .iter()
        .for_each(|extra| when(true, Operation::Remove(*extra)));
    when(
        state.public_access_blocked == Some(false),
        Operation::BlockPublicAccess,
    );
    when(state.policy.as_ref() != Some(&desired.policy), Operation::Policy);
    operations
}

/// What a bucket that nobody claimed has of its own, in words; empty: it is bare, or a part of what it must
/// be (as Terraform may have made it), so nobody else's work is undone.
pub(crate) fn own_configuration(
    bucket: &str,
    spec: &BucketSpec,
    state: &BucketState,
    unreadable_policy: bool,
) -> Result<Vec<String>, CeilingTooLow> {
    let ours = desired::lifecycle_set(spec)?;
    let mut found = Vec::new();
    if let Some(retention) = &state.default_retention {
        found.push(format!("a default retention ({retention})"));
    }
    if state
        .lifecycle
        .as_ref()
        .is_some_and(|rules| !rules.is_subset(&ours))
    {
        found.push("lifecycle rules".to_owned());
    }
    let policy_is_ours = state
        .policy
        .as_ref()
        .is_none_or(|policy| policy.is_within(&sayable(bucket, spec)));
    if unreadable_policy || !policy_is_ours {
        found.push("a bucket policy".to_owned());
    }
    found.extend(state.foreign.iter().map(ToString::to_string));
    Ok(found)
}

/// Everything that the policy could say, in the words of any store.
fn sayable(bucket: &str, spec: &BucketSpec) -> Policy {
    let both = [false, true];
    let mut all = Vec::new();
    for others in Others::SAYABLE.into_iter().chain([Others::Unsaid]) {
        for (request_tag, deny_tagging) in both.into_iter().flat_map(|a| both.map(|b| (a, b))) {
            let (operator, recorder) = (spec.operator_principal.clone(), spec.recorder_principal.clone());
            let dialect = Dialect {
                operator,
                recorder,
                others,
                request_tag,
                deny_tagging,
                deny_plain_http: true,
            };
            all.extend(statements::policy(bucket, spec, &dialect, true));
        }
    }
    Policy::of(&all).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::api::Days;

    fn spec() -> BucketSpec {
        BucketSpec {
            video_ceiling: Days(28),
            calls_ceiling: Days(7),
            operator_principal: "arn:aws:iam:::user/operator".into(),
            recorder_principal: "arn:aws:iam:::user/recorder".into(),
            readers: vec!["arn:aws:iam:::user/manager".into()],
            take_over: false,
            operator_only: false,
            allow_unprotected: false,
        }
    }

    fn dialects() -> impl Strategy<Value = Dialect> {
        let others = prop_oneof![
            Just(Others::PrincipalArn),
            Just(Others::NotPrincipal),
            Just(Others::Username),
            Just(Others::Unsaid)
        ];
        (others, any::<[bool; 3]>()).prop_map(|(others, [request_tag, deny_tagging, deny_plain_http])| {
            Dialect {
                operator: spec().operator_principal,
                recorder: spec().recorder_principal,
                others,
                request_tag,
                deny_tagging,
                deny_plain_http,
            }
        })
    }

    fn in_sync(desired: &Desired) -> BucketState {
        BucketState {
            object_lock: true,
            default_retention: None,
            versioning: true,
            lifecycle: Some(desired.lifecycle.values().cloned().collect()),
            policy: Some(desired.policy.clone()),
            foreign: BTreeSet::new(),
            public_access_blocked: Some(true),
        }
    }

    proptest! {
        #[test]
        fn in_sync_means_nothing_to_write(dialect in dialects(), tls: bool) {
            let desired = Desired::of("bucket", &spec(), &dialect, tls).unwrap();
            prop_assert_eq!(plan(&desired, &in_sync(&desired)), vec![]);
        }

        #[test]
        fn one_difference_is_one_write(dialect in dialects(), which in 0..6) {
            let desired = Desired::of("bucket", &spec(), &dialect, true).unwrap();
            let mut state = in_sync(&desired);
            let expected = match which {
                0 => { state.versioning = false; Operation::Versioning }
                1 => { state.default_retention = Some("GOVERNANCE 1 days".into()); Operation::ClearRetention }
                2 => { state.lifecycle = Some(BTreeSet::new()); Operation::Lifecycle }
                3 => { state.foreign.insert(Extra::Replication); Operation::Remove(Extra::Replication) }
                4 => { state.public_access_blocked = Some(false); Operation::BlockPublicAccess }
                _ => { state.policy = None; Operation::Policy }
            };
            prop_assert_eq!(plan(&desired, &state), vec![expected]);
        }

        #[test]
        fn what_we_wrote_is_nobody_elses(dialect in dialects(), tls: bool) {
            let desired = Desired::of("bucket", &spec(), &dialect, tls).unwrap();
            prop_assert_eq!(own_configuration("bucket", &spec(), &in_sync(&desired), false), Ok(vec![]));
        }
    }

    #[test]
    fn bare_and_bootstrapped_buckets_are_adopted_and_others_are_not() {
        let bare = BucketState {
            object_lock: true,
            versioning: true,
            lifecycle: Some(BTreeSet::new()),
            ..BucketState::default()
        };
        let own = |state: &BucketState| own_configuration("bucket", &spec(), state, false).unwrap();
        assert!(own(&bare).is_empty());
        let bootstrap = statements::bootstrap("bucket", &spec().operator_principal);
        let policy = Some(Policy::of(&bootstrap).unwrap());
        assert!(
            own(&BucketState {
                policy,
                ..bare.clone()
            })
            .is_empty()
        );
        let other = statements::bootstrap("bucket", "arn:aws:iam:::user/somebody");
        let policy = Some(Policy::of(&other).unwrap());
        assert_eq!(
            own(&BucketState {
                policy,
                ..bare.clone()
            }),
            ["a bucket policy"]
        );
        let rule = Rule {
            enabled: true,
            expire_after: Some(1),
            ..Rule::default()
        };
        let lifecycle = Some(BTreeSet::from([rule]));
        assert_eq!(
            own(&BucketState {
                lifecycle,
                ..bare.clone()
            }),
            ["lifecycle rules"]
        );
        let state = BucketState {
            default_retention: Some("COMPLIANCE 1 years".into()),
            ..bare
        };
        assert_eq!(own(&state), ["a default retention (COMPLIANCE 1 years)"]);
    }
}
