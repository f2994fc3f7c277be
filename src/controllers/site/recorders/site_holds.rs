//! Holds that the recorders of a Site follow: those of the bucket's ledger, and those that are accepted but not in it yet. Pure.
//!
//! A hold is declared after an incident, perhaps while the store is away. The operator then cannot write its ledger, but a full spool
//! would evict what the hold covers. So its recorders follow an accepted hold before the ledger has it.

use jiff::Timestamp;
use kube::ResourceExt;

use crate::api::{IncidentHold, RecordingPolicySpec};
use crate::controllers::handoff::HoldScopes;
use crate::rules::HoldScope;
use crate::rules::hold::accept::evaluate_acceptance;
use crate::rules::hold::entry::union_of_scopes;
use crate::rules::hold::resolution::is_resolved;

/// Hold of the API server whose incident is not resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeclaredHold {
    pub uid: String,
    pub scope: HoldScope,
    /// Whether it may enter the ledger now.
    pub is_accepted: bool,
}

/// Open holds of a Site.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SiteHolds {
    /// Those of the bucket's ledger; `None`: not read since the start.
    pub ledger: Option<HoldScopes>,
    pub declared: Vec<DeclaredHold>,
}

impl SiteHolds {
    /// Selects the open ones of `holds`. Without a policy, nobody can say that it would reject a hold.
    pub fn new<'a>(
        ledger: Option<HoldScopes>,
        holds: impl IntoIterator<Item = &'a IncidentHold>,
        policy: Option<&RecordingPolicySpec>,
        now: Timestamp,
    ) -> Self {
        let is_accepted = |hold: &IncidentHold| {
            // The cameras change only the message, so none are needed here.
            policy.is_none_or(|policy| evaluate_acceptance(&hold.spec, policy, &[], now).is_true())
        };
        let open = holds.into_iter().filter(|hold| !is_resolved(hold, now));
        let declared = open.filter_map(|hold| {
            Some(DeclaredHold {
                uid: hold.uid()?,
                scope: (&hold.spec).into(),
                is_accepted: is_accepted(hold),
            })
        });
        Self { ledger, declared: declared.collect() }
    }

    /// Returns the scopes that recorders follow after `previous`, the scopes of their present configuration.
    pub fn recorder_scopes(&self, previous: Option<&HoldScopes>) -> HoldScopes {
        // Before the ledger is read, the recorders keep the holds that they have: they must not unseal a held segment.
        let mut scopes = self.ledger.as_ref().or(previous).cloned().unwrap_or_default();
        for DeclaredHold { uid, scope, is_accepted } in &self.declared {
            match scopes.get_mut(uid) {
                // A hold in effect may have grown since, and no policy can reject that.
                Some(known) => *known = union_of_scopes(known, scope),
                None if *is_accepted => {
                    scopes.insert(uid.clone(), scope.clone());
                }
                None => {}
            }
        }
        scopes
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use proptest::prelude::*;

    use super::*;
    use crate::api::condition::{ConditionFinding, ConditionType, Reason, merge};
    use crate::api::{HoldState, IncidentHoldStatus, TimeWindow};
    use crate::controllers::handoff::HoldAck;
    use crate::controllers::hold::fixtures;
    use crate::controllers::retention::plan::plan_holds;
    use crate::controllers::testing;
    use crate::rules::hold::scope::tests::any_scope;
    use crate::rules::{Class, LedgerEntry, Recording};

    fn hold(uid: &str, purpose: &str) -> IncidentHold {
        let mut hold = testing::hold(uid);
        hold.metadata.uid = Some(uid.to_owned());
        hold.spec.purpose = purpose.into();
        hold
    }

    fn follow(
        ledger: Option<HoldScopes>,
        previous: Option<&HoldScopes>,
        holds: &[IncidentHold],
    ) -> Vec<String> {
        let policy = testing::policy().spec;
        let holds = SiteHolds::new(ledger, holds, Some(&policy), fixtures::now());
        holds.recorder_scopes(previous).into_keys().collect()
    }

    #[test]
    fn recorders_follow_accepted_hold_before_the_ledger_has_it() {
        let (a, b) = (hold("a", "Theft"), hold("b", "Theft"));
        let in_effect: HoldScopes = [("a".to_owned(), (&a.spec).into())].into();
        for (ledger, previous, expected) in [
            // The store was never reached.
            (None, None, vec!["a", "b"]),
            (Some(HoldScopes::new()), None, vec!["a", "b"]),
            // It was, before it went away.
            (Some(in_effect.clone()), None, vec!["a", "b"]),
            // Another operator runs since.
            (None, Some(&in_effect), vec!["a", "b"]),
        ] {
            assert_eq!(follow(ledger, previous, &[a.clone(), b.clone()]), expected);
        }
        // Only the ledger has it: the resource is lost.
        assert_eq!(follow(Some(in_effect.clone()), None, std::slice::from_ref(&b)), ["a", "b"]);
    }

    #[test]
    fn recorders_follow_no_hold_that_is_rejected_or_resolved() {
        let known: HoldScopes = [("b".to_owned(), (&hold("b", "Theft").spec).into())].into();
        let mut ahead = hold("a", "Theft");
        ahead.spec.window.from.0 = fixtures::after_seconds(60);
        let resolved = fixtures::resolved(hold("b", "Theft"));
        for rejected in [hold("a", "Curiosity"), ahead, fixtures::resolved(hold("a", "Theft"))] {
            assert!(follow(Some(HoldScopes::new()), None, &[rejected]).is_empty());
        }
        // The ledger never had it, so nothing of it stays.
        assert!(follow(Some(HoldScopes::new()), Some(&known), std::slice::from_ref(&resolved)).is_empty());
        // The ledger may have it. A release decides, once the ledger is read.
        assert_eq!(follow(None, Some(&known), &[resolved]), ["b"]);
        // It is in effect, and no policy takes that back.
        assert_eq!(follow(Some(known), None, &[hold("b", "Curiosity")]), ["b"]);
        // Nobody can say that the missing policy rejects it.
        let holds = SiteHolds::new(None, &[hold("a", "Curiosity")], None, fixtures::now());
        assert_eq!(holds.recorder_scopes(None).len(), 1);
    }

    /// A resolution that may still be withdrawn is none.
    #[test]
    fn recorders_follow_hold_whose_resolution_may_be_withdrawn() {
        let mut hold = hold("a", "Theft");
        hold.spec.state = HoldState::Resolved;
        hold.spec.resolution = Some(fixtures::resolution(fixtures::now()));
        let finding = ConditionFinding::new(ConditionType::Released, false, Reason::ResolutionInFuture, "m");
        let conditions = merge(&[], &[finding], None, fixtures::now());
        hold.status = Some(IncidentHoldStatus { conditions, ..IncidentHoldStatus::default() });
        assert_eq!(follow(Some(HoldScopes::new()), None, &[hold]), ["a"]);
    }

    prop_compose! {
        fn any_hold()(
            uid in "[a-d]", scope in any_scope(), is_accepted: bool, is_resolved: bool,
        ) -> IncidentHold {
            let mut hold = hold(&uid, if is_accepted { "Theft" } else { "Curiosity" });
            hold.spec.cameras = BTreeSet::from(scope.cameras).into_iter().collect();
            hold.spec.include_calls = scope.calls;
            hold.spec.window = TimeWindow {
                from: Time(scope.window.from),
                until: scope.window.until.map(Time),
            };
            if is_resolved { fixtures::resolved(hold) } else { hold }
        }
    }

    fn by_uid(holds: Vec<IncidentHold>) -> Vec<IncidentHold> {
        let holds: BTreeMap<_, _> = holds.into_iter().map(|hold| (hold.uid(), hold)).collect();
        holds.into_values().collect()
    }

    proptest! {
        /// The ledger is read, written by the retention controller's own plan, and read again.
        #[test]
        fn recorders_need_no_other_scopes_once_the_ledger_is_written(
            earlier in proptest::collection::vec(any_hold(), 0..4),
            holds in proptest::collection::vec(any_hold(), 0..4),
            previous in proptest::option::of(proptest::collection::btree_map("[a-d]", any_scope(), 0..3)),
            source in "[a-c]", start in 0_i64..300_000,
        ) {
            let (now, policy) = (fixtures::now(), testing::policy().spec);
            let holds = by_uid(holds);
            let entries: BTreeMap<String, LedgerEntry> = by_uid(earlier)
                .iter()
                .map(|hold| {
                    let uid = hold.uid().unwrap();
                    let name = hold.name_any();
                    (uid.clone(), LedgerEntry::new(uid, "heusden".into(), name, &hold.spec, now))
                })
                .collect();
            let in_effect: HoldScopes =
                entries.iter().map(|(uid, entry)| (uid.clone(), entry.scope.clone())).collect();
            let plan = plan_holds(&entries, &holds, Some(&policy), now);
            let scopes = |ledger| SiteHolds::new(ledger, &holds, Some(&policy), now).recorder_scopes(previous.as_ref());
            let at = |second| Timestamp::from_second(second).unwrap();
            let recording = Recording { class: Class::Video, source: &source, start: at(start), end: at(start + 60) };
            let is_held = |scopes: &HoldScopes| scopes.values().any(|scope| scope.covers(&recording));

            // Before the write: everything that the plan opens is covered.
            let before = scopes(Some(in_effect));
            prop_assert!(is_held(&before) || !is_held(&plan.recorder_scopes()), "{before:?} for {plan:?}");
            // Without the ledger, nothing is dropped that recorders had.
            let unread = scopes(None);
            prop_assert!(previous.iter().flatten().all(|(uid, _)| unread.contains_key(uid)));
            prop_assert!(is_held(&unread) || !previous.as_ref().is_some_and(&is_held));
            // After the write: exactly the open holds, so nothing stays behind.
            let after = scopes(Some(plan.recorder_scopes()));
            prop_assert_eq!(&after, &plan.recorder_scopes());
            let closing = plan.closing.iter().map(|entry| entry.uid.as_str()).collect();
            prop_assert!(HoldAck::Acknowledged(after).has_acknowledged(&plan.recorder_scopes(), &closing));
            // An acknowledgement of the scopes before the write proves the holds too, unless one is being released.
            let is_releasing = before.keys().any(|uid| closing.contains(uid.as_str()));
            let has_acknowledged = HoldAck::Acknowledged(before).has_acknowledged(&plan.recorder_scopes(), &closing);
            prop_assert_eq!(has_acknowledged, !is_releasing);
        }
    }

    #[test]
    fn grown_hold_is_followed_before_the_ledger_has_its_growth() {
        let mut a = hold("a", "Theft");
        a.spec.cameras = vec!["hal".into()];
        let in_effect: HoldScopes = [("a".to_owned(), (&a.spec).into())].into();
        a.spec.cameras.push("kassa".into());
        let holds = SiteHolds::new(Some(in_effect), &[a.clone()], None, fixtures::now());
        let scopes = holds.recorder_scopes(None);
        let start = a.spec.window.from.0;
        let recording = Recording { class: Class::Video, source: "kassa", start, end: fixtures::now() };
        assert!(scopes["a"].covers(&recording));
    }
}
