//! What differs between the bucket that must be and the one that is: pure. Nothing differs, nothing is
//! written.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use strum::VariantArray;

use super::bucket::{BucketSpec, BucketState, Extra, Kept, Setting};
use super::desired::{self, CeilingTooLow, OptionalRule};
use super::dialect::{Dialect, GivenUp, Others};
use super::lifecycle::Rule;
use super::policy::Policy;
use super::statements::{self, NEWER_SETTINGS, Place};

/// The bucket that must be.
#[derive(Clone, Debug)]
pub(crate) struct Desired {
    pub(crate) lifecycle: BTreeMap<&'static str, Rule>,
    pub(crate) statements: Vec<Value>,
    /// `None`: there must be none, as the store's identities do not heed it.
    pub(crate) policy: Option<Policy>,
    /// Configuration that the store was found not to keep: it is not written again.
    pub(crate) given_up: BTreeSet<GivenUp>,
}

impl Desired {
    pub(crate) fn of(
        place: Place<'_>,
        spec: &BucketSpec,
        dialect: &Dialect,
        tls: bool,
    ) -> Result<Self, CeilingTooLow> {
        let statements = statements::policy(place, spec, dialect, tls);
        let policy = dialect.heeds_policies.then(|| Policy::of(&statements).unwrap_or_default());
        let mut desired = Self {
            lifecycle: desired::lifecycle(spec)?,
            statements,
            policy,
            given_up: dialect.given_up.clone(),
        };
        desired.lifecycle.retain(|id, _| {
            let is_given_up = |rule: &&OptionalRule| dialect.given_up.contains(&GivenUp::Rule(**rule));
            !OptionalRule::VARIANTS.iter().filter(is_given_up).any(|rule| rule.id() == *id)
        });
        Ok(desired)
    }

    /// The same without some of the lifecycle rules.
    pub(crate) fn without(&self, rules: &[OptionalRule]) -> Self {
        let mut desired = self.clone();
        for rule in rules {
            desired.lifecycle.remove(rule.id());
            desired.given_up.insert(GivenUp::Rule(*rule));
        }
        desired
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
    /// A setting as it must be.
    Set(Setting),
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
    when(state.lifecycle.as_ref().is_some_and(|there| *there != rules), Operation::Lifecycle);
    state.foreign.iter().for_each(|extra| when(true, Operation::Remove(*extra)));
    for (setting, kept) in &state.settings {
        let differs =
            matches!(kept, Kept::Otherwise(_)) && !desired.given_up.contains(&GivenUp::Setting(*setting));
        when(differs, Operation::Set(*setting));
    }
    when(state.policy != desired.policy, Operation::Policy);
    operations
}

/// Everything that the policy could say, in the words of any store.
pub(crate) fn sayable(place: Place<'_>, spec: &BucketSpec) -> Policy {
    let words = [false, true];
    let mut all = Vec::new();
    for others in Others::SAYABLE.into_iter().chain([Others::Unsaid]) {
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
                        ..Dialect::of(&spec.operator_principal, &spec.recorder_principal)
                    };
                    all.extend(statements::policy(place, spec, &dialect, true));
                }
            }
        }
    }
    Policy::of(&all).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::api::Days;
    use crate::storage::bucket::Retention;

    fn spec() -> BucketSpec {
        BucketSpec {
            video_ceiling: Days(28),
            calls_ceiling: Days(7),
            operator_principal: "arn:aws:iam:::user/operator".into(),
            recorder_principal: "arn:aws:iam:::user/recorder".into(),
            auditor: None,
            readers: vec!["arn:aws:iam:::user/manager".into()],
            take_over: false,
            operator_only: false,
            allow_unprotected: false,
        }
    }

    const SETTINGS: [Setting; 3] = [Setting::PublicAccessBlock, Setting::Encryption, Setting::Ownership];

    fn dialects() -> impl Strategy<Value = Dialect> {
        let others = prop_oneof![
            Just(Others::PrincipalArn),
            Just(Others::NotPrincipal),
            Just(Others::Username),
            Just(Others::Unsaid)
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
                ..Dialect::of(&spec().operator_principal, &spec().recorder_principal)
            },
        )
    }

    const PLACE: Place<'static> = Place { bucket: "bucket", region: "nl-1" };

    fn in_sync(desired: &Desired) -> BucketState {
        BucketState {
            object_lock: true,
            default_retention: None,
            versioning: true,
            lifecycle: Some(desired.lifecycle.values().cloned().collect()),
            policy: desired.policy.clone(),
            foreign: BTreeSet::new(),
            unseen: BTreeMap::new(),
            settings: SETTINGS.map(|setting| (setting, Kept::AsRequired)).into(),
        }
    }

    proptest! {
        #[test]
        fn in_sync_means_nothing_to_write(dialect in dialects(), tls: bool) {
            let desired = Desired::of(PLACE, &spec(), &dialect, tls).unwrap();
            prop_assert_eq!(plan(&desired, &in_sync(&desired)), vec![]);
        }

        #[test]
        fn one_difference_is_one_write(dialect in dialects(), which in 0..8_usize) {
            let desired = Desired::of(PLACE, &spec(), &dialect, true).unwrap();
            let mut state = in_sync(&desired);
            let expected = match which {
                0 => { state.versioning = false; Operation::Versioning }
                1 => { state.default_retention = Some(Retention { words: "GOVERNANCE 1 days".into(), days: 1 }); Operation::ClearRetention }
                2 => { state.lifecycle = Some(BTreeSet::new()); Operation::Lifecycle }
                3 => { state.foreign.insert(Extra::Replication); Operation::Remove(Extra::Replication) }
                4..7 => {
                    let setting = SETTINGS[which - 4];
                    state.settings.insert(setting, Kept::Otherwise("none".into()));
                    Operation::Set(setting)
                }
                _ => { state.policy = None; Operation::Policy }
            };
            prop_assert_eq!(plan(&desired, &state), vec![expected]);
        }

        #[test]
        fn what_was_given_up_is_not_written_again(dialect in dialects(), which in 0..3_usize) {
            let dialect = Dialect { given_up: BTreeSet::from([GivenUp::Setting(SETTINGS[which])]), ..dialect };
            let desired = Desired::of(PLACE, &spec(), &dialect, true).unwrap();
            let mut state = in_sync(&desired);
            state.settings.insert(SETTINGS[which], Kept::Otherwise("none".into()));
            prop_assert_eq!(plan(&desired, &state), vec![]);
        }

        #[test]
        fn rules_that_were_given_up_are_not_written_again(dialect in dialects(), which in 0..3_usize) {
            let rules = [
                &[OptionalRule::UnfinishedUploads][..],
                &[OptionalRule::ExpiredMarkers],
                OptionalRule::VARIANTS,
            ][which];
            let all = Desired::of(PLACE, &spec(), &dialect, true).unwrap();
            let fewer = all.without(rules);
            prop_assert_eq!(all.lifecycle.len() - fewer.lifecycle.len(), rules.len());
            let given_up = fewer.given_up.clone();
            let again = Desired::of(PLACE, &spec(), &Dialect { given_up, ..dialect }, true).unwrap();
            prop_assert_eq!(plan(&again, &in_sync(&fewer)), vec![]);
            prop_assert_eq!(plan(&all, &in_sync(&fewer)), vec![Operation::Lifecycle]);
        }

        #[test]
        fn what_we_wrote_is_nobody_elses(dialect in dialects(), tls: bool) {
            let desired = Desired::of(PLACE, &spec(), &dialect, tls).unwrap();
            prop_assert!(desired.policy.unwrap().is_within(&sayable(PLACE, &spec())));
        }
    }
}
