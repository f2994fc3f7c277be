use proptest::prelude::*;

use super::*;
use crate::api::testing;
use crate::rules::PROTOCOL_CEILINGS;

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// Returns links, each as name, replaced policy and entry into force.
fn links(policies: &[(&str, Option<&str>, Option<i64>)]) -> PolicyLinks {
    let link = |(name, replaces, from): &(&str, Option<&str>, Option<i64>)| {
        ((*name).to_owned(), Link { replaces: replaces.map(str::to_owned), from: from.map(at) })
    };
    PolicyLinks::from_links(policies.iter().map(link).collect())
}

fn governing_at(links: &PolicyLinks, policy_ref: &str, last: Option<&str>, now: i64) -> String {
    split_at(links.periods(policy_ref, last), at(now)).0.unwrap().policy
}

fn any_links() -> impl Strategy<Value = PolicyLinks> {
    let name = || proptest::sample::select(NAMES.to_vec());
    let link = (proptest::option::of(name()), proptest::option::weighted(0.8, 0_i64..100));
    proptest::collection::btree_map(name(), link, 0..=5).prop_map(|all| {
        let all: Vec<_> = all.into_iter().map(|(name, (replaces, from))| (name, replaces, from)).collect();
        links(&all)
    })
}

#[test]
fn successor_governs_from_its_entry_into_force() {
    let links = links(&[("a", None, None), ("b", Some("a"), Some(10)), ("c", Some("b"), Some(20))]);
    for (now, expected) in [(9, "a"), (10, "b"), (19, "b"), (20, "c")] {
        assert_eq!(governing_at(&links, "a", None, now), expected, "{now}");
    }
    assert_eq!(governing_at(&links, "b", None, 0), "b", "a site that names the successor itself");
}

#[test]
fn successor_of_a_later_policy_waits_for_it() {
    let links = links(&[("a", None, None), ("b", Some("a"), Some(20)), ("c", Some("b"), Some(10))]);
    for (now, expected) in [(19, "a"), (20, "c")] {
        assert_eq!(governing_at(&links, "a", None, now), expected, "{now}");
    }
}

#[test]
fn deleted_and_rejected_policies_undo_no_succession() {
    // The predecessor is deleted.
    assert_eq!(governing_at(&links(&[("b", Some("a"), Some(10))]), "a", None, 10), "b");
    // The successor is deleted: a site that it governed does not fall back.
    let only_a = links(&[("a", None, None)]);
    assert_eq!(governing_at(&only_a, "a", Some("b"), 10), "b");
    assert_eq!(governing_at(&only_a, "a", None, 10), "a");
    // The successor is rejected, such as after the cluster's ceilings were lowered.
    let rejected = links(&[("a", None, None), ("b", Some("a"), None)]);
    assert_eq!(governing_at(&rejected, "a", Some("b"), 10), "b");
    // A policy between two others is deleted.
    let damaged = links(&[("a", None, None), ("c", Some("b"), Some(10))]);
    assert_eq!(governing_at(&damaged, "a", Some("c"), 20), "c");
    assert_eq!(governing_at(&damaged, "a", Some("b"), 20), "c");
}

#[test]
fn edit_undoes_a_succession() {
    let unlinked = links(&[("a", None, None), ("b", None, None)]);
    assert_eq!(governing_at(&unlinked, "a", Some("b"), 10), "a");
    let later = links(&[("a", None, None), ("b", Some("a"), Some(30))]);
    assert_eq!(governing_at(&later, "a", Some("b"), 10), "a");
    let elsewhere = links(&[("a", None, None), ("b", Some("x"), Some(0)), ("x", None, None)]);
    assert_eq!(governing_at(&elsewhere, "a", Some("b"), 10), "a");
}

#[test]
fn rivals_take_over_nothing_and_name_each_other() {
    let links = links(&[("a", None, None), ("b", Some("a"), Some(0)), ("c", Some("a"), Some(50))]);
    assert_eq!(governing_at(&links, "a", None, 60), "a");
    assert_eq!(governing_at(&links, "a", Some("b"), 60), "b", "the one that governed goes on");
    for name in ["b", "c"] {
        let error = links.error(name).unwrap().to_string();
        assert!(error.starts_with("spec.replaces: article 10: \"b\", \"c\" all replace \"a\""), "{error}");
    }
    assert_eq!(links.error("a"), None);
}

#[test]
fn cycle_takes_over_nothing_and_names_its_policies() {
    let links = links(&[
        ("a", Some("c"), Some(0)),
        ("b", Some("a"), Some(0)),
        ("c", Some("b"), Some(0)),
        ("d", Some("a"), Some(0)),
    ]);
    assert_eq!(governing_at(&links, "b", None, 10), "b");
    assert_eq!(governing_at(&links, "b", Some("c"), 10), "c");
    assert_eq!(governing_at(&links, "a", None, 10), "d", "a policy outside of the cycle replaces one in it");
    let error = links.error("b").unwrap().to_string();
    assert!(
        error.starts_with("spec.replaces: article 10: \"b\", \"a\", \"c\" replace each other"),
        "{error}"
    );
    assert_eq!(links.error("d"), None);
}

#[test]
fn long_lists_of_names_are_cut() {
    let names: Vec<String> = (0..8).map(|n| format!("p{n}")).collect();
    let error = SuccessionError::Rivals { replaced: "a".into(), rivals: names };
    assert!(error.to_string().contains("\"p4\" and 3 others all replace"), "{error}");
}

#[test]
fn rejected_policy_replaces_nothing() {
    let (first, mut second) = (testing::policy().spec, testing::policy().spec);
    second.replaces = Some("first".into());
    let links = |second: &RecordingPolicySpec| {
        PolicyLinks::new([("first", &first), ("second", second)], &PROTOCOL_CEILINGS)
    };
    assert_eq!(links(&second).successor("first").unwrap().policy, "second");
    second.retention.video = Days(29);
    assert_eq!(links(&second).successor("first"), None);
}

proptest! {
    #[test]
    fn periods_are_ascending_and_each_policy_has_one(
        links in any_links(), policy_ref in proptest::sample::select(NAMES.to_vec()),
        last in proptest::option::of(proptest::sample::select(NAMES.to_vec())),
    ) {
        let periods = links.periods(policy_ref, last);
        prop_assert!(periods.windows(2).all(|pair| pair[0].from <= pair[1].from));
        prop_assert_eq!(periods.first().unwrap().from, Timestamp::MIN, "there is no time without a policy");
        let names: BTreeSet<&str> = periods.iter().map(|period| period.policy.as_str()).collect();
        prop_assert_eq!(names.len(), periods.len());
    }

    #[test]
    fn each_period_follows_from_one_successor(links in any_links(), policy_ref in proptest::sample::select(NAMES.to_vec())) {
        for pair in links.periods(policy_ref, None).windows(2) {
            let successor = links.successor(&pair[0].policy).unwrap();
            prop_assert_eq!(&successor.policy, &pair[1].policy);
            prop_assert!(successor.from <= pair[1].from, "nothing changes before the entry into force");
            prop_assert_eq!(links.error(&pair[1].policy), None);
        }
    }

    /// Whatever is deleted: the site does not go back to an earlier policy.
    #[test]
    fn deletions_never_bring_back_an_earlier_policy(
        links in any_links(), policy_ref in proptest::sample::select(NAMES.to_vec()),
        deleted in proptest::sample::subsequence(NAMES.to_vec(), 0..=5), now in 0_i64..100,
    ) {
        let periods = links.periods(policy_ref, None);
        let before = governing_at(&links, policy_ref, None, now);
        let mut rest = links.links.clone();
        rest.retain(|name, _| !deleted.contains(&name.as_str()));
        // A rival that is deleted lets the other one take over, which is no way back either.
        let after = governing_at(&PolicyLinks::from_links(rest), policy_ref, Some(&before), now);
        let earlier: Vec<&str> =
            periods.iter().map(|period| period.policy.as_str()).take_while(|name| *name != before).collect();
        prop_assert!(!earlier.contains(&after.as_str()), "{} after {}", after, before);
    }

    #[test]
    fn errors_are_exactly_of_policies_that_should_take_over(links in any_links()) {
        for (name, link) in &links.links {
            let Some(replaced) = &link.replaces else {
                prop_assert_eq!(links.error(name), None);
                continue;
            };
            let is_successor = links.successor(replaced).is_some_and(|period| period.policy == *name);
            let is_cyclic = links.cyclic.contains(name);
            prop_assert_eq!(links.error(name).is_some(), is_cyclic || (!is_successor && link.from.is_some()));
        }
    }

    #[test]
    fn ceilings_after_a_succession_are_never_above_either_policy(
        own in (5_u32..30, 5_u32..30), earlier in (5_u32..30, 5_u32..30), day in 0_i64..40,
    ) {
        let ceilings = |(video, calls)| Ceilings { video: Days(video), calls: Days(calls) };
        let (own, earlier, now) = (ceilings(own), ceilings(earlier), at(day * 86_400));
        let found = succession_ceilings(&own, at(0), &earlier, now);
        for (effective, own, earlier) in [
            (found.effective.video, own.video, earlier.video),
            (found.effective.calls, own.calls, earlier.calls),
        ] {
            prop_assert!(effective <= own);
            let has_recordings_of_before = day < i64::from(earlier.0);
            prop_assert!(!has_recordings_of_before || effective <= earlier);
            prop_assert!(has_recordings_of_before || effective == own);
        }
        // The status has the effective ceilings, so they are what came before at the next reconcile.
        prop_assert_eq!(&succession_ceilings(&own, at(0), &found.effective, now).effective, &found.effective);
        prop_assert!(found.next_change.is_none_or(|change| change > now));
    }
}
