//! Periods in which cameras are covered (article 5).

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::{CameraSuspensions, SiteSuspensions, Suspension, SuspensionPeriod};

use super::window::{Window, Windows};

/// Returns the suspensions of one camera: those that name it, and those without names, which apply to all cameras.
pub fn camera_suspensions(suspensions: &[Suspension], camera: &str) -> Windows {
    matching_windows(suspensions, |cameras| covers_camera(cameras, camera))
}

/// Returns the periods in which all of `cameras` are suspended. For a site without cameras, returns the suspensions that apply
/// to all cameras.
pub fn site_suspensions(suspensions: &[Suspension], cameras: &[String]) -> Windows {
    cameras
        .iter()
        .map(|camera| camera_suspensions(suspensions, camera))
        .reduce(|all, one| all.intersect(&one))
        .unwrap_or_else(|| matching_windows(suspensions, <[String]>::is_empty))
}

/// Suspensions that a site's status has.
const MAX_CURRENT: usize = 8;

/// Returns the suspensions of a site at `now`, whichever cameras they cover; `None`: there are none now or later.
pub fn site_outlook(suspensions: &[Suspension], now: Timestamp) -> Option<SiteSuspensions> {
    let is_valid = |suspension: &&Suspension| suspension.from.0 < suspension.until.0;
    let valid = || suspensions.iter().filter(is_valid);
    let mut current: Vec<&Suspension> =
        valid().filter(|suspension| suspension.from.0 <= now && now < suspension.until.0).collect();
    current.sort_by_key(|suspension| suspension.until.0);
    let next =
        valid().filter(|suspension| suspension.from.0 > now).min_by_key(|suspension| suspension.from.0);
    let found = SiteSuspensions {
        current: current.into_iter().take(MAX_CURRENT).map(period).collect(),
        next: next.map(period),
    };
    (found != SiteSuspensions::default()).then_some(found)
}

/// Returns the suspensions of a camera at `now`. Those that overlap or touch count as one.
pub fn camera_outlook(suspensions: &[Suspension], camera: &str, now: Timestamp) -> Option<CameraSuspensions> {
    let windows = camera_suspensions(suspensions, camera);
    let describe = |window: &Window, at: Timestamp| {
        let covers = |suspension: &&Suspension| {
            covers_camera(&suspension.cameras, camera) && suspension.from.0 <= at && at < suspension.until.0
        };
        Some(SuspensionPeriod {
            reason: suspensions.iter().find(covers)?.reason.clone(),
            from_time: Time(window.from),
            until_time: Time(window.until?),
            cameras: None,
        })
    };
    let next = windows.as_slice().iter().find(|window| window.from > now);
    let found = CameraSuspensions {
        current: windows.window_at(now).and_then(|window| describe(window, now)),
        next: next.and_then(|window| describe(window, window.from)),
    };
    (found != CameraSuspensions::default()).then_some(found)
}

/// Returns the first time after `now` at which a suspension of a site begins or ends.
pub fn next_boundary(suspensions: &[Suspension], now: Timestamp) -> Option<Timestamp> {
    let boundaries = suspensions.iter().flat_map(|suspension| [suspension.from.0, suspension.until.0]);
    boundaries.filter(|boundary| *boundary > now).min()
}

fn period(suspension: &Suspension) -> SuspensionPeriod {
    let cameras = i32::try_from(suspension.cameras.len()).unwrap_or(i32::MAX);
    SuspensionPeriod {
        reason: suspension.reason.clone(),
        from_time: suspension.from.clone(),
        until_time: suspension.until.clone(),
        cameras: (cameras > 0).then_some(cameras),
    }
}

fn covers_camera(cameras: &[String], camera: &str) -> bool {
    cameras.is_empty() || cameras.iter().any(|name| name == camera)
}

fn matching_windows(suspensions: &[Suspension], applies: impl Fn(&[String]) -> bool) -> Windows {
    suspensions
        .iter()
        .filter(|suspension| applies(&suspension.cameras))
        .map(|suspension| Window::new(suspension.from.0, Some(suspension.until.0)))
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rules::window::tests::instant;

    const NAMES: [&str; 3] = ["balie", "gang", "hal"];

    fn any_suspensions() -> impl Strategy<Value = Vec<Suspension>> {
        let one = (instant(), instant(), proptest::sample::subsequence(NAMES.to_vec(), 0..=3)).prop_map(
            |(from, until, cameras)| Suspension {
                reason: "Gemeenteraadsverkiezing".into(),
                from: Time(from),
                until: Time(until),
                cameras: cameras.into_iter().map(str::to_owned).collect(),
            },
        );
        proptest::collection::vec(one, 0..5)
    }

    proptest! {
        #[test]
        fn camera_is_suspended_when_a_suspension_names_it_or_all(
            suspensions in any_suspensions(), camera in proptest::sample::select(NAMES.to_vec()), at in instant(),
        ) {
            let means_it = suspensions.iter().any(|suspension| {
                let named = suspension.cameras.is_empty() || suspension.cameras.iter().any(|name| name == camera);
                named && suspension.from.0 <= at && at < suspension.until.0
            });
            prop_assert_eq!(camera_suspensions(&suspensions, camera).contains(at), means_it);
        }

        #[test]
        fn camera_outlook_agrees_with_its_windows(
            suspensions in any_suspensions(), camera in proptest::sample::select(NAMES.to_vec()), now in instant(),
        ) {
            let windows = camera_suspensions(&suspensions, camera);
            let found = camera_outlook(&suspensions, camera, now).unwrap_or_default();
            prop_assert_eq!(found.current.is_some(), windows.contains(now));
            let current = found.current.as_ref().map(|period| (period.from_time.0, Some(period.until_time.0)));
            prop_assert_eq!(current, windows.window_at(now).map(|window| (window.from, window.until)));
            let next = windows.as_slice().iter().map(|window| window.from).find(|from| *from > now);
            prop_assert_eq!(found.next.map(|period| period.from_time.0), next);
        }

        #[test]
        fn site_outlook_is_constant_until_the_next_boundary(
            suspensions in any_suspensions(), now in instant(), later in instant(),
        ) {
            let found = site_outlook(&suspensions, now);
            let boundary = next_boundary(&suspensions, now);
            prop_assert!(boundary.is_none_or(|boundary| boundary > now));
            if later > now && boundary.is_none_or(|boundary| later < boundary) {
                prop_assert_eq!(site_outlook(&suspensions, later), found.clone());
            }
            let found = found.unwrap_or_default();
            let is_any = NAMES.iter().any(|name| camera_suspensions(&suspensions, name).contains(now));
            prop_assert_eq!(!found.current.is_empty(), is_any);
            prop_assert!(found.next.is_none_or(|next| next.from_time.0 > now));
        }

        #[test]
        fn site_is_suspended_when_all_its_cameras_are(suspensions in any_suspensions(), at in instant()) {
            let cameras: Vec<String> = NAMES.iter().map(|name| (*name).to_owned()).collect();
            let all = cameras.iter().all(|camera| camera_suspensions(&suspensions, camera).contains(at));
            prop_assert_eq!(site_suspensions(&suspensions, &cameras).contains(at), all);
            let empty = site_suspensions(&suspensions, &[]);
            prop_assert!(!empty.contains(at) || all, "a suspension of all cameras suspends each");
        }
    }
}
