//! Cameras that fit into the recorders' configuration. Pure.
//!
//! All recorders of a Site read one Secret, which has at most 1 MiB. If the API server rejected it, no recorder would follow a
//! new hold, a suspension or a withdrawn policy. Cameras that do not fit are therefore omitted, the newest first, so that a new
//! camera stops no other. They are not recorded: the Site's `Ready` and their `Recording` report it.

use std::collections::BTreeSet;

use jiff::Timestamp;

/// Largest configuration without holds. The rest of [`super::hold_widening::MAX_CONFIG_BYTES`] is for holds.
pub const MAX_BYTES_WITHOUT_HOLDS: usize = 900_000;

/// A camera, and its size in the configuration.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CameraSize {
    /// Creation of the Camera; `None`: unknown, as of an object that the API server has not stored.
    pub created: Option<Timestamp>,
    pub name: String,
    /// Bytes of JSON.
    pub bytes: usize,
}

/// Returns the names of the cameras that do not fit into `max_bytes` of a JSON list. An older camera comes before a newer one,
/// whatever their order in `cameras`. A camera that is too large for the rest does not keep out a smaller one after it.
pub fn omitted_cameras(mut cameras: Vec<CameraSize>, max_bytes: usize) -> BTreeSet<String> {
    cameras.sort_unstable_by(|one, other| {
        let age = |camera: &CameraSize| camera.created.unwrap_or(Timestamp::MAX);
        (age(one), &one.name).cmp(&(age(other), &other.name))
    });
    let mut used = 0_usize;
    let mut fits = |camera: &CameraSize| {
        // With its comma.
        let with = used.saturating_add(camera.bytes).saturating_add(1);
        let fits = with <= max_bytes;
        used = if fits { with } else { used };
        fits
    };
    cameras.retain(|camera| !fits(camera));
    cameras.into_iter().map(|camera| camera.name).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cameras() -> impl Strategy<Value = Vec<CameraSize>> {
        let one = (proptest::option::weighted(0.9, 0_i64..5), 0_usize..50).prop_map(|(created, bytes)| {
            let created = created.map(|second| Timestamp::from_second(second).unwrap());
            CameraSize { created, name: String::new(), bytes }
        });
        proptest::collection::vec(one, 0..20).prop_map(|mut all| {
            all.iter_mut().enumerate().for_each(|(number, camera)| camera.name = format!("c{number}"));
            all
        })
    }

    proptest! {
        #[test]
        fn remaining_cameras_fit_and_a_newer_one_changes_nothing(
            cameras in cameras(), max_bytes in 0_usize..600,
        ) {
            let omitted = omitted_cameras(cameras.clone(), max_bytes);
            let bytes: usize = cameras
                .iter()
                .filter(|camera| !omitted.contains(&camera.name))
                .map(|camera| camera.bytes + 1)
                .sum();
            prop_assert!(bytes <= max_bytes);
            let all: usize = cameras.iter().map(|camera| camera.bytes + 1).sum();
            prop_assert_eq!(omitted.is_empty(), all <= max_bytes);
            let mut more = cameras.clone();
            more.insert(0, CameraSize { created: None, name: "z".into(), bytes: 20 });
            let mut with_newer = omitted_cameras(more, max_bytes);
            with_newer.remove("z");
            prop_assert_eq!(with_newer, omitted, "a newer camera stops no other");
        }
    }
}
