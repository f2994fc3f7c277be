use std::collections::BTreeSet;

use super::*;
use crate::api::Days;
use crate::storage::bucket::Unseen;
use crate::storage::lifecycle::Rule;
use crate::storage::policy::Policy;
use crate::storage::statements;

const PLACE: Place<'static> = Place { bucket: "bucket", region: "nl-1" };

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

fn bare() -> BucketState {
    BucketState {
        object_lock: true,
        versioning: true,
        lifecycle: Some(BTreeSet::new()),
        ..BucketState::default()
    }
}

fn found(state: &BucketState) -> Vec<Obstacle> {
    obstacles(PLACE, &spec(), state, false, false).unwrap()
}

/// A bucket that was changed in one way.
fn with(change: impl FnOnce(&mut BucketState)) -> Vec<Obstacle> {
    let mut state = bare();
    change(&mut state);
    found(&state)
}

fn retention(days: i64) -> Retention {
    Retention { words: format!("GOVERNANCE {days} days"), days }
}

#[test]
fn bare_and_bootstrapped_buckets_are_adopted() {
    assert!(found(&bare()).is_empty());
    for more in [false, true] {
        let bootstrap = statements::bootstrap(PLACE, &spec().operator_principal, more);
        assert!(with(|state| state.policy = Some(Policy::of(&bootstrap).unwrap())).is_empty());
    }
    let settings = with(|state| {
        state.settings.insert(Setting::Encryption, Kept::Otherwise("none".into()));
        state.settings.insert(Setting::Ownership, Kept::Otherwise("ObjectWriter".into()));
        state.settings.insert(Setting::PublicAccessBlock, Kept::Lacking);
    });
    assert!(settings.is_empty(), "{settings:?}");
}

#[test]
fn each_obstacle_is_its_own() {
    let theirs = Rule { enabled: true, expire_after: Some(1), ..Rule::default() };
    let policy = statements::bootstrap(PLACE, "arn:aws:iam:::user/somebody", false);
    let key = || Kept::Otherwise("with a key of its own".into());
    let hidden = |extra| with(|state| _ = state.unseen.insert(extra, Unseen::Denied));
    let configured = |extra| with(|state| _ = state.foreign.insert(extra));
    for (found, one) in [
        (
            with(|state| state.default_retention = Some(retention(8))),
            Obstacle::DefaultRetention { retention: retention(8), above: true },
        ),
        (
            with(|state| state.default_retention = Some(retention(7))),
            Obstacle::DefaultRetention { retention: retention(7), above: false },
        ),
        (with(|state| state.lifecycle = Some([theirs].into())), Obstacle::Lifecycle),
        (with(|state| state.policy = Some(Policy::of(&policy).unwrap())), Obstacle::Policy),
        (obstacles(PLACE, &spec(), &bare(), true, false).unwrap(), Obstacle::Policy),
        (obstacles(PLACE, &spec(), &bare(), false, true).unwrap(), Obstacle::Objects),
        (
            with(|state| _ = state.settings.insert(Setting::Encryption, key())),
            Obstacle::Set(Setting::Encryption),
        ),
        (configured(Extra::Replication), Obstacle::Configured(Extra::Replication)),
        (configured(Extra::Notifications), Obstacle::Configured(Extra::Notifications)),
        (configured(Extra::Logging), Obstacle::Configured(Extra::Logging)),
        (hidden(Extra::Replication), Obstacle::Hidden(Extra::Replication)),
        (hidden(Extra::Notifications), Obstacle::Hidden(Extra::Notifications)),
    ] {
        assert_eq!(found, [one]);
    }
    assert!(hidden(Extra::Cors).is_empty(), "a gap, and nothing worse");
}

#[test]
fn what_nobody_sees_or_can_replace_is_not_taken_over() {
    assert!(!Obstacle::NoObjectLock.yields_to_take_over());
    assert!(!Obstacle::Hidden(Extra::Replication).yields_to_take_over());
    let text = told(&[Obstacle::NoObjectLock, Obstacle::Lifecycle]);
    assert!(text.contains("no Object Lock") && !text.contains("TakeOver"), "{text}");
    let text = told(&[Obstacle::Objects, Obstacle::Policy]);
    assert!(text.contains("move them elsewhere") && text.contains("TakeOver"), "{text}");
}
