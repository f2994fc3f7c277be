//! What recorders are told of the open holds: as much as their Secret has room for. Pure.
//!
//! A Secret holds at most 1 MiB, and nothing limits how many holds are open and how many cameras each names. A Secret that
//! the API server refuses would leave every recorder with its last configuration, and no new hold would ever be followed.
//! So what does not fit is widened: recorders then seal more than is held, never less. That costs room in the spools, and
//! recordings that no hold covers get the tag `sealed`; the daily sweep puts it back. The Site's `Ready` says it.

use crate::controllers::handoff::HoldScopes;
use crate::wire::{HoldScopeConfig, Window};

/// How many bytes the recorders' configuration may have. The API server takes 1 MiB in all values of a Secret together.
pub const MAX_CONFIG_BYTES: usize = 1_000_000;
/// Begins the names of widened coverings: no UID has a slash.
const EVERY_CAMERA_PREFIX: &str = "every-camera/";
/// Names the covering that has everything from the earliest window on.
const EVERYTHING_NAME: &str = "everything/";

/// How much more than what is held recorders seal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Widening {
    /// Every camera, in the windows of the holds.
    EveryCamera,
    /// Every camera, from the earliest window to the end of the last.
    Everything,
}

/// What of `held` recorders are told in so many bytes of JSON. It covers all that `held` covers.
pub fn fit_to_size(held: &HoldScopes, room: usize) -> HoldScopes {
    if json_bytes(held) <= room {
        return held.clone();
    }
    let every_camera = widen_to_every_camera(held);
    if json_bytes(&every_camera) <= room {
        return every_camera;
    }
    widen_to_everything(held)
}

/// How much more than what is held `told` covers; `None`: it is what is held.
pub fn detect_widening(scopes: &HoldScopes) -> Option<Widening> {
    let name = scopes.keys().next_back()?;
    if name.starts_with(EVERYTHING_NAME) {
        Some(Widening::Everything)
    } else if name.starts_with(EVERY_CAMERA_PREFIX) {
        Some(Widening::EveryCamera)
    } else {
        None
    }
}

fn json_bytes(coverings: &HoldScopes) -> usize {
    // Plain data with texts as keys, which can always be written.
    serde_json::to_vec(coverings).map_or(usize::MAX, |bytes| bytes.len())
}

/// The windows of `held`, each with every camera. Windows that touch are one.
fn widen_to_every_camera(held: &HoldScopes) -> HoldScopes {
    let calls = held.values().any(|covering| covering.calls);
    let mut windows: Vec<Window> = held.values().map(|covering| covering.window).collect();
    windows.sort_by_key(|window| window.from);
    let mut merged: Vec<Window> = Vec::new();
    for window in windows {
        match merged.last_mut() {
            Some(last) if last.until.is_none_or(|until| until >= window.from) => {
                last.until = later_end(last.until, window.until);
            }
            _ => merged.push(window),
        }
    }
    let named =
        |(number, window)| (format!("{EVERY_CAMERA_PREFIX}{number}"), unrestricted_scope(calls, window));
    merged.into_iter().enumerate().map(named).collect()
}

/// One covering of all from the earliest window on.
fn widen_to_everything(held: &HoldScopes) -> HoldScopes {
    let windows = || held.values().map(|covering| covering.window);
    let Some(from) = windows().map(|window| window.from).min() else {
        return HoldScopes::new();
    };
    let calls = held.values().any(|covering| covering.calls);
    let until = windows().map(|window| window.until).reduce(later_end).flatten();
    let window = Window::new(from, until);
    [(EVERYTHING_NAME.to_owned(), unrestricted_scope(calls, window))].into()
}

fn unrestricted_scope(calls: bool, window: Window) -> HoldScopeConfig {
    HoldScopeConfig { cameras: std::collections::BTreeSet::new(), calls, window }
}

/// The later of two ends; absent: never.
fn later_end(one: Option<jiff::Timestamp>, other: Option<jiff::Timestamp>) -> Option<jiff::Timestamp> {
    Some(one?.max(other?))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use jiff::{SignedDuration, Timestamp};
    use proptest::prelude::*;

    use super::*;
    use crate::rules::recording::{Class, Recording};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    prop_compose! {
        fn covering()(
            cameras in proptest::collection::btree_set("[a-d]", 0..4),
            calls in any::<bool>(),
            from in 0_i64..200,
            length in proptest::option::of(0_i64..60),
        ) -> HoldScopeConfig {
            let window = Window::new(at(from), length.map(|length| at(from + length)));
            HoldScopeConfig { cameras, calls, window }
        }
    }

    proptest! {
        #[test]
        fn fitted_scopes_cover_every_hold(
            held in proptest::collection::btree_map("[0-9a-f]{8}", covering(), 0..12),
            room in 0_usize..2000,
            source in "[a-d]", calls in any::<bool>(), start in 0_i64..300, duration in 0_i64..90,
        ) {
            let told = fit_to_size(&held, room);
            let it = Recording {
                class: if calls { Class::Calls } else { Class::Video },
                source: &source,
                start: at(start),
                end: at(start + duration),
            };
            let covers = |coverings: &HoldScopes| coverings.values().any(|one| one.scope().covers(&it));
            prop_assert!(covers(&told) || !covers(&held), "{held:?} as {told:?}");
            prop_assert!(json_bytes(&told) <= room.max(160), "{told:?} in {room}");
            prop_assert_eq!(detect_widening(&told).is_none(), told == held);
            // What was widened once has room as it is.
            prop_assert_eq!(fit_to_size(&told, room), told);
        }
    }

    #[test]
    fn scopes_are_widened_only_as_far_as_needed() {
        let one = |name: &str, from: i64| {
            let cameras: BTreeSet<String> = (0..50).map(|number| format!("{name}-{number}")).collect();
            let window = Window::new(at(from), Some(at(from) + SignedDuration::from_secs(10)));
            let covering = HoldScopeConfig { cameras, calls: false, window };
            (name.to_owned(), covering)
        };
        let held: HoldScopes = [one("a", 0), one("b", 5), one("c", 100)].into();
        let told = fit_to_size(&held, json_bytes(&held));
        assert_eq!((detect_widening(&told), &told), (None, &held));
        let told = fit_to_size(&held, json_bytes(&held) - 1);
        assert_eq!(detect_widening(&told), Some(Widening::EveryCamera));
        let windows: Vec<Window> = told.values().map(|covering| covering.window).collect();
        assert_eq!(windows, [Window::new(at(0), Some(at(15))), Window::new(at(100), Some(at(110)))]);
        let told = fit_to_size(&held, 100);
        assert_eq!(detect_widening(&told), Some(Widening::Everything));
        let windows: Vec<Window> = told.values().map(|covering| covering.window).collect();
        assert_eq!(windows, [Window::new(at(0), Some(at(110)))]);
    }
}
