//! Assignment of cameras to recorder pods.

use std::collections::BTreeMap;

/// Assigns `cameras` to pods, at most `per_pod` to each (0 counts as 1).
///
/// A camera that moves has a gap in its recordings. A camera therefore stays in its pod. Only a lower `per_pod` moves
/// cameras: as few as possible, the last by name. A new camera goes to the lowest pod with room, so that pods fill up first.
/// Of `previous`, only pods below `existing_pods` count: a tenant can edit that configuration, and must not add pods.
pub fn assign_cameras(
    previous: &BTreeMap<String, u32>,
    existing_pods: u32,
    cameras: &[String],
    per_pod: u32,
) -> BTreeMap<String, u32> {
    let per_pod = per_pod.max(1);
    let mut sorted: Vec<&String> = cameras.iter().collect();
    sorted.sort_unstable();
    sorted.dedup();

    let mut load: BTreeMap<u32, u32> = BTreeMap::new();
    let mut assigned = BTreeMap::new();
    let mut unassigned = Vec::new();
    for camera in sorted {
        match previous.get(camera) {
            Some(&pod) if pod < existing_pods && has_capacity(&load, pod, per_pod) => {
                assign_to_pod(&mut load, &mut assigned, camera, pod);
            }
            _ => unassigned.push(camera),
        }
    }
    let mut pod = 0;
    for camera in unassigned {
        while !has_capacity(&load, pod, per_pod) {
            pod += 1;
        }
        assign_to_pod(&mut load, &mut assigned, camera, pod);
    }
    assigned
}

/// Returns the number of pods that an assignment needs. A StatefulSet numbers its pods from 0 without holes, so an unused pod
/// stays below a used one.
pub fn pod_count(assignment: &BTreeMap<String, u32>) -> u32 {
    assignment.values().max().map_or(0, |highest| highest.saturating_add(1))
}

fn has_capacity(load: &BTreeMap<u32, u32>, pod: u32, per_pod: u32) -> bool {
    load.get(&pod).is_none_or(|carried| *carried < per_pod)
}

fn assign_to_pod(
    load: &mut BTreeMap<u32, u32>,
    assigned: &mut BTreeMap<String, u32>,
    camera: &str,
    pod: u32,
) {
    *load.entry(pod).or_default() += 1;
    assigned.insert(camera.to_owned(), pod);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cameras() -> impl Strategy<Value = Vec<String>> {
        proptest::collection::vec("[a-e][0-9]", 0..30)
    }

    fn loads(assignment: &BTreeMap<String, u32>) -> BTreeMap<u32, u32> {
        let mut loads = BTreeMap::new();
        for pod in assignment.values() {
            *loads.entry(*pod).or_default() += 1;
        }
        loads
    }

    proptest! {
        #[test]
        fn each_camera_has_one_pod_within_capacity(
            previous in proptest::collection::btree_map("[a-e][0-9]", 0_u32..5, 0..30),
            cameras in cameras(),
            per_pod in 0_u32..6,
            there in 0_u32..6,
        ) {
            let assigned = assign_cameras(&previous, there, &cameras, per_pod);
            prop_assert!(cameras.iter().all(|camera| assigned.contains_key(camera)));
            prop_assert!(assigned.keys().all(|camera| cameras.contains(camera)));
            prop_assert!(loads(&assigned).values().all(|load| *load <= per_pod.max(1)));
            prop_assert_eq!(assign_cameras(&assigned, pod_count(&assigned), &cameras, per_pod), assigned.clone(), "settled");
            // No more new pods than the cameras need.
            let needed = u32::try_from(assigned.len()).unwrap().div_ceil(per_pod.max(1));
            prop_assert!(pod_count(&assigned) <= there.max(needed));
            let mut reversed = cameras.clone();
            reversed.reverse();
            prop_assert_eq!(assign_cameras(&previous, there, &reversed, per_pod), assigned, "order does not matter");
        }

        #[test]
        fn assigned_cameras_do_not_move(first in cameras(), second in cameras(), per_pod in 1_u32..6) {
            let before = assign_cameras(&BTreeMap::new(), 0, &first, per_pod);
            let after = assign_cameras(&before, pod_count(&before), &second, per_pod);
            for (camera, pod) in &after {
                prop_assert!(before.get(camera).is_none_or(|was| was == pod), "{camera} moved");
            }
        }

        #[test]
        fn new_cameras_fill_pods_up(cameras in cameras(), per_pod in 1_u32..6) {
            let assigned = assign_cameras(&BTreeMap::new(), 0, &cameras, per_pod);
            let count = u32::try_from(assigned.len()).unwrap();
            prop_assert_eq!(pod_count(&assigned), count.div_ceil(per_pod));
        }

        #[test]
        fn lowered_capacity_moves_as_few_cameras_as_possible(cameras in cameras(), per_pod in 2_u32..6) {
            let before = assign_cameras(&BTreeMap::new(), 0, &cameras, per_pod);
            let after = assign_cameras(&before, pod_count(&before), &cameras, per_pod - 1);
            let stayed = after.iter().filter(|(camera, pod)| before.get(*camera) == Some(pod)).count();
            let room: u32 = loads(&before).values().map(|load| *load.min(&(per_pod - 1))).sum();
            prop_assert!(stayed >= usize::try_from(room).unwrap());
        }
    }
}
