//! Periods in which cameras are covered (article 5).

use crate::api::Suspension;

use super::window::{Window, Windows};

/// Returns the suspensions of one camera: those that name it, and those without names, which apply to all cameras.
pub fn camera_suspensions(suspensions: &[Suspension], camera: &str) -> Windows {
    matching_windows(suspensions, |cameras| cameras.is_empty() || cameras.iter().any(|name| name == camera))
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

fn matching_windows(suspensions: &[Suspension], applies: impl Fn(&[String]) -> bool) -> Windows {
    suspensions
        .iter()
        .filter(|suspension| applies(&suspension.cameras))
        .map(|suspension| Window::new(suspension.from.0, Some(suspension.until.0)))
        .collect()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
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
        fn site_is_suspended_when_all_its_cameras_are(suspensions in any_suspensions(), at in instant()) {
            let cameras: Vec<String> = NAMES.iter().map(|name| (*name).to_owned()).collect();
            let all = cameras.iter().all(|camera| camera_suspensions(&suspensions, camera).contains(at));
            prop_assert_eq!(site_suspensions(&suspensions, &cameras).contains(at), all);
            let empty = site_suspensions(&suspensions, &[]);
            prop_assert!(!empty.contains(at) || all, "a suspension of all cameras suspends each");
        }
    }
}
