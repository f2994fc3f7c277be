use std::collections::BTreeSet;

use super::*;
use crate::storage::bucket::lifecycle::BucketLifecycleRule;
use crate::storage::bucket::policy::document::Policy;
use crate::storage::bucket::policy::statements;
use crate::storage::bucket::spec::UnreadableReason;

const PLACE: BucketRef<'static> = BucketRef { name: "bucket", region: "nl-1" };

fn spec() -> BucketSpec {
    BucketSpec {
        operator_principal: "arn:aws:iam:::user/operator".into(),
        recorder_principal: "arn:aws:iam:::user/recorder".into(),
        readers: vec!["arn:aws:iam:::user/manager".into()],
        ..BucketSpec::example()
    }
}

fn bare_bucket() -> BucketState {
    BucketState {
        object_lock: true,
        versioning: true,
        lifecycle: Some(BTreeSet::new()),
        ..BucketState::default()
    }
}

fn conflicts_of(state: &BucketState) -> Vec<AdoptionConflict> {
    find_conflicts(PLACE, &spec(), state, false, false).unwrap()
}

/// A bucket that was changed in one way.
fn conflicts_with(change: impl FnOnce(&mut BucketState)) -> Vec<AdoptionConflict> {
    let mut state = bare_bucket();
    change(&mut state);
    conflicts_of(&state)
}

fn retention(days: i64) -> BucketDefaultRetention {
    BucketDefaultRetention { description: format!("GOVERNANCE {days} days"), days }
}

#[test]
fn bare_and_bootstrapped_buckets_are_adopted() {
    assert!(conflicts_of(&bare_bucket()).is_empty());
    for more in [false, true] {
        let bootstrap = statements::bootstrap(PLACE, &spec().operator_principal, more);
        assert!(
            conflicts_with(|state| state.policy = Some(Policy::from_statements(&bootstrap).unwrap()))
                .is_empty()
        );
    }
    let settings = conflicts_with(|state| {
        state.required.insert(RequiredSubresource::Encryption, SubresourceState::Differs("none".into()));
        state
            .required
            .insert(RequiredSubresource::Ownership, SubresourceState::Differs("ObjectWriter".into()));
        state.required.insert(RequiredSubresource::PublicAccessBlock, SubresourceState::Unsupported);
    });
    assert!(settings.is_empty(), "{settings:?}");
}

#[test]
fn each_conflict_is_reported_separately() {
    let theirs =
        BucketLifecycleRule { enabled: true, expire_after: Some(1), ..BucketLifecycleRule::default() };
    let policy = statements::bootstrap(PLACE, "arn:aws:iam:::user/somebody", false);
    let key = || SubresourceState::Differs("with a key of its own".into());
    let hidden = |extra| conflicts_with(|state| _ = state.unreadable.insert(extra, UnreadableReason::Denied));
    let configured = |extra| conflicts_with(|state| _ = state.forbidden.insert(extra));
    for (found, one) in [
        (
            conflicts_with(|state| state.default_retention = Some(retention(8))),
            AdoptionConflict::DefaultRetention { retention: retention(8), exceeds_ceiling: true },
        ),
        (
            conflicts_with(|state| state.default_retention = Some(retention(7))),
            AdoptionConflict::DefaultRetention { retention: retention(7), exceeds_ceiling: false },
        ),
        (conflicts_with(|state| state.lifecycle = Some([theirs].into())), AdoptionConflict::Lifecycle),
        (
            conflicts_with(|state| state.policy = Some(Policy::from_statements(&policy).unwrap())),
            AdoptionConflict::Policy,
        ),
        (find_conflicts(PLACE, &spec(), &bare_bucket(), true, false).unwrap(), AdoptionConflict::Policy),
        (
            find_conflicts(PLACE, &spec(), &bare_bucket(), false, true).unwrap(),
            AdoptionConflict::ForeignObjects,
        ),
        (
            conflicts_with(|state| _ = state.required.insert(RequiredSubresource::Encryption, key())),
            AdoptionConflict::Differs(RequiredSubresource::Encryption),
        ),
        (
            configured(ForbiddenSubresource::Replication),
            AdoptionConflict::Forbidden(ForbiddenSubresource::Replication),
        ),
        (
            configured(ForbiddenSubresource::Notifications),
            AdoptionConflict::Forbidden(ForbiddenSubresource::Notifications),
        ),
        (
            configured(ForbiddenSubresource::Logging),
            AdoptionConflict::Forbidden(ForbiddenSubresource::Logging),
        ),
        (
            hidden(ForbiddenSubresource::Replication),
            AdoptionConflict::Unreadable(ForbiddenSubresource::Replication),
        ),
        (
            hidden(ForbiddenSubresource::Notifications),
            AdoptionConflict::Unreadable(ForbiddenSubresource::Notifications),
        ),
    ] {
        assert_eq!(found, [one]);
    }
    assert!(hidden(ForbiddenSubresource::Cors).is_empty(), "a gap, and nothing worse");
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
