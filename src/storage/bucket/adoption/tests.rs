use std::collections::BTreeSet;

use super::*;
use crate::storage::bucket::lifecycle::BucketLifecycleRule;
use crate::storage::bucket::policy::statements;
use crate::storage::bucket::subresources::UnreadableReason;

const PLACE: BucketRef<'static> = BucketRef { name: "bucket", region: "nl-1" };

fn bare_bucket() -> BucketState {
    BucketState {
        object_lock: true,
        versioning: true,
        lifecycle: Some(BTreeSet::new()),
        ..BucketState::default()
    }
}

/// The obstacles of a bare bucket with one change.
fn conflicts_with(change: impl FnOnce(&mut BucketState)) -> Vec<AdoptionConflict> {
    let mut state = bare_bucket();
    change(&mut state);
    find_conflicts(PLACE, &BucketSpec::example(), &state, false, false).unwrap()
}

fn set_differing(state: &mut BucketState, required: RequiredSubresource, value: &str) {
    state.required.insert(required, SubresourceState::Differs(value.into()));
}

#[test]
fn bare_and_bootstrapped_buckets_are_adopted() {
    assert!(conflicts_with(|_| ()).is_empty());
    for more in [false, true] {
        let bootstrap = statements::bootstrap(PLACE, &BucketSpec::example().operator_principal, more);
        let policy = Policy::from_statements(&bootstrap).unwrap();
        assert!(conflicts_with(|state| state.policy = Some(policy)).is_empty());
    }
    let found = conflicts_with(|state| {
        set_differing(state, RequiredSubresource::Encryption, "none");
        set_differing(state, RequiredSubresource::Ownership, "ObjectWriter");
        state.required.insert(RequiredSubresource::PublicAccessBlock, SubresourceState::Unsupported);
    });
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn each_conflict_is_reported_separately() {
    let theirs =
        BucketLifecycleRule { enabled: true, expire_after: Some(1), ..BucketLifecycleRule::default() };
    let policy = statements::bootstrap(PLACE, "arn:aws:iam:::user/somebody", false);
    let policy = Policy::from_statements(&policy).unwrap();
    let with = |unreadable_policy, foreign_objects| {
        find_conflicts(PLACE, &BucketSpec::example(), &bare_bucket(), unreadable_policy, foreign_objects)
            .unwrap()
    };
    let hidden = |it| conflicts_with(|state| _ = state.unreadable.insert(it, UnreadableReason::Denied));
    for (found, expected) in [
        (conflicts_with(|state| state.lifecycle = Some([theirs].into())), AdoptionConflict::Lifecycle),
        (conflicts_with(|state| state.policy = Some(policy)), AdoptionConflict::Policy),
        (with(true, false), AdoptionConflict::Policy),
        (with(false, true), AdoptionConflict::ForeignObjects),
        (
            conflicts_with(|state| set_differing(state, RequiredSubresource::Encryption, "its own key")),
            AdoptionConflict::Differs(RequiredSubresource::Encryption),
        ),
    ] {
        assert_eq!(found, [expected]);
    }
    for (days, exceeds_ceiling) in [(8, true), (7, false)] {
        let retention = BucketDefaultRetention { description: format!("GOVERNANCE {days} days"), days };
        let found = conflicts_with(|state| state.default_retention = Some(retention.clone()));
        assert_eq!(found, [AdoptionConflict::DefaultRetention { retention, exceeds_ceiling }]);
    }
    for it in [
        ForbiddenSubresource::Replication,
        ForbiddenSubresource::Notifications,
        ForbiddenSubresource::Logging,
    ] {
        let found = conflicts_with(|state| _ = state.forbidden.insert(it));
        assert_eq!(found, [AdoptionConflict::Forbidden(it)]);
    }
    for it in [ForbiddenSubresource::Replication, ForbiddenSubresource::Notifications] {
        assert_eq!(hidden(it), [AdoptionConflict::Unreadable(it)]);
    }
    assert!(hidden(ForbiddenSubresource::Cors).is_empty(), "only a limitation");
}

#[test]
fn take_over_does_not_resolve_missing_lock_or_unreadable_replication() {
    assert!(!AdoptionConflict::NoObjectLock.is_resolved_by_take_over());
    assert!(!AdoptionConflict::Unreadable(ForbiddenSubresource::Replication).is_resolved_by_take_over());
    let text = describe(&[AdoptionConflict::NoObjectLock, AdoptionConflict::Lifecycle]);
    assert!(text.contains("no Object Lock") && !text.contains("TakeOver"), "{text}");
    let text = describe(&[AdoptionConflict::ForeignObjects, AdoptionConflict::Policy]);
    assert!(text.contains("move them elsewhere") && text.contains("TakeOver"), "{text}");
}
