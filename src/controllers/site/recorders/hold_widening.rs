//! Hold scopes in the recorders' configuration, widened until they fit into its Secret. Pure.
//!
//! A Secret has at most 1 MiB, and nothing limits the number of open holds and of cameras that each names. If the API server
//! rejected the Secret, every recorder would keep its last configuration, and none would follow a new hold. Scopes that do
//! not fit are therefore widened: recorders seal more than is held, never less. Recordings that no hold covers then have the
//! tag `sealed` until the daily sweep restores it. The Site's `Ready` reports it.

use crate::controllers::handoff::HoldScopes;
use crate::rules::{CameraSelector, HoldScope};
use crate::wire::Window;

/// Largest configuration. The API server accepts 1 MiB in all values of a Secret.
pub const MAX_CONFIG_BYTES: usize = 1_000_000;
/// Prefix of the names of widened scopes. No UID of a hold has a slash.
const EVERY_CAMERA_PREFIX: &str = "every-camera/";
/// Name of the scope with everything since the earliest window.
const EVERYTHING_NAME: &str = "everything/";

/// Surplus that recorders seal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Widening {
    /// Every camera, in the windows of the holds.
    EveryCamera,
    /// Every camera, from the earliest window to the end of the last.
    Everything,
}

/// Returns scopes that cover all of `held` in at most `max_bytes` of JSON.
pub fn fit_to_size(held: &HoldScopes, max_bytes: usize) -> HoldScopes {
    if json_bytes(held) <= max_bytes {
        return held.clone();
    }
    let every_camera = widen_to_every_camera(held);
    if json_bytes(&every_camera) <= max_bytes {
        return every_camera;
    }
    widen_to_everything(held)
}

/// Returns the widening of `scopes`; `None`: they are as held.
pub fn detect_widening(scopes: &HoldScopes) -> Option<Widening> {
    // Beside UIDs: before the ledger is read, a new hold joins the widened scopes of the present configuration.
    let has = |prefix: &str| scopes.keys().any(|name| name.starts_with(prefix));
    if has(EVERYTHING_NAME) {
        Some(Widening::Everything)
    } else if has(EVERY_CAMERA_PREFIX) {
        Some(Widening::EveryCamera)
    } else {
        None
    }
}

fn json_bytes(scopes: &HoldScopes) -> usize {
    serde_json::to_vec(scopes).map_or(usize::MAX, |bytes| bytes.len())
}

/// Returns the windows of `held`, each with every camera. Windows that touch become one.
fn widen_to_every_camera(held: &HoldScopes) -> HoldScopes {
    let calls = held.values().any(|scope| scope.calls);
    let mut windows: Vec<Window> = held.values().map(|scope| scope.window).collect();
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

/// Returns one scope of everything since the earliest window.
fn widen_to_everything(held: &HoldScopes) -> HoldScopes {
    let windows = || held.values().map(|scope| scope.window);
    let Some(from) = windows().map(|window| window.from).min() else {
        return HoldScopes::new();
    };
    let calls = held.values().any(|scope| scope.calls);
    let until = windows().map(|window| window.until).reduce(later_end).flatten();
    let window = Window::new(from, until);
    [(EVERYTHING_NAME.to_owned(), unrestricted_scope(calls, window))].into()
}

fn unrestricted_scope(calls: bool, window: Window) -> HoldScope {
    HoldScope { cameras: CameraSelector::All, calls, window }
}

/// Returns the later of two ends. `None`: no end.
fn later_end(one: Option<jiff::Timestamp>, other: Option<jiff::Timestamp>) -> Option<jiff::Timestamp> {
    Some(one?.max(other?))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use jiff::{SignedDuration, Timestamp};
    use proptest::prelude::*;

    use super::*;
    use crate::rules::{Class, Recording};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    prop_compose! {
        fn covering()(
            cameras in proptest::collection::btree_set("[a-d]", 0..4),
            calls in any::<bool>(),
            from in 0_i64..200,
            length in proptest::option::of(0_i64..60),
        ) -> HoldScope {
            let window = Window::new(at(from), length.map(|length| at(from + length)));
            HoldScope { cameras: cameras.into(), calls, window }
        }
    }

    proptest! {
        #[test]
        fn fitted_scopes_cover_every_hold(
            held in proptest::collection::btree_map("[0-9a-f]{8}", covering(), 0..12),
            max_bytes in 0_usize..2000,
            source in "[a-d]", calls in any::<bool>(), start in 0_i64..300, duration in 0_i64..90,
        ) {
            let fitted = fit_to_size(&held, max_bytes);
            let recording = Recording {
                class: if calls { Class::Calls } else { Class::Video },
                source: &source,
                start: at(start),
                end: at(start + duration),
            };
            let covers = |scopes: &HoldScopes| scopes.values().any(|one| one.covers(&recording));
            prop_assert!(covers(&fitted) || !covers(&held), "{held:?} as {fitted:?}");
            prop_assert!(json_bytes(&fitted) <= max_bytes.max(160), "{fitted:?} in {max_bytes}");
            prop_assert_eq!(detect_widening(&fitted).is_none(), fitted == held);
            prop_assert_eq!(fit_to_size(&fitted, max_bytes), fitted, "fitted scopes stay");
        }
    }

    #[test]
    fn scopes_are_widened_only_as_far_as_needed() {
        let one = |name: &str, from: i64| {
            let cameras: BTreeSet<String> = (0..50).map(|number| format!("{name}-{number}")).collect();
            let window = Window::new(at(from), Some(at(from) + SignedDuration::from_secs(10)));
            (name.to_owned(), HoldScope { cameras: cameras.into(), calls: false, window })
        };
        let held: HoldScopes = [one("a", 0), one("b", 5), one("c", 100)].into();
        assert_eq!(fit_to_size(&held, json_bytes(&held)), held);
        assert_eq!(detect_widening(&held), None);
        for max_bytes in [json_bytes(&held) - 1, 100] {
            let mut joined = fit_to_size(&held, max_bytes);
            let widening = detect_widening(&joined);
            joined.extend([one("f", 200)]);
            assert_eq!(detect_widening(&joined), widening, "a hold that joins later");
        }
        let window = |from, until| Window::new(at(from), Some(at(until)));
        for (max_bytes, widening, windows) in [
            (json_bytes(&held) - 1, Widening::EveryCamera, vec![window(0, 15), window(100, 110)]),
            (100, Widening::Everything, vec![window(0, 110)]),
        ] {
            let fitted = fit_to_size(&held, max_bytes);
            assert_eq!(detect_widening(&fitted), Some(widening));
            assert_eq!(fitted.values().map(|scope| scope.window).collect::<Vec<_>>(), windows);
        }
    }
}
