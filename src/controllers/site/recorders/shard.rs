//! Assignment of cameras to recorder pods.

use std::collections::{BTreeMap, BTreeSet};

/// States of a Site's pods that move cameras.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShardStates {
    /// Pods whose nodes are unreachable. They get no cameras.
    pub lost: BTreeSet<u32>,
    /// Pods that no node has room or a volume for.
    pub unscheduled: BTreeSet<u32>,
    pub ready: BTreeSet<u32>,
}

/// Assigns `cameras` to pods, at most `per_pod` to each (0 counts as 1).
///
/// A camera that moves has a gap in its recordings. A camera therefore stays in its pod. Only these move cameras:
/// * A lower `per_pod`: as few as possible, the last by name.
/// * A lost pod: all of its cameras.
/// * A pod that cannot be scheduled, if a ready one has room. The ready one may have been lost for a while.
///
/// A new camera goes to the lowest pod with room, so that pods fill up first. Of `previous`, only pods below `existing_pods`
/// count: a tenant can edit that configuration, and must not add pods.
pub fn assign_cameras(
    previous: &BTreeMap<String, u32>,
    existing_pods: u32,
    cameras: &[String],
    per_pod: u32,
    states: &ShardStates,
) -> BTreeMap<String, u32> {
    let per_pod = per_pod.max(1);
    let mut sorted: Vec<&String> = cameras.iter().collect();
    sorted.sort_unstable();
    sorted.dedup();

    let mut load: BTreeMap<u32, u32> = BTreeMap::new();
    let mut assigned = BTreeMap::new();
    let (mut waiting, mut unassigned) = (Vec::new(), Vec::new());
    for camera in sorted {
        match previous.get(camera) {
            Some(&pod) if pod >= existing_pods || states.lost.contains(&pod) => unassigned.push(camera),
            Some(&pod) if states.unscheduled.contains(&pod) => waiting.push((camera, pod)),
            Some(&pod) if has_capacity(&load, pod, per_pod) => {
                assign_to_pod(&mut load, &mut assigned, camera, pod);
            }
            _ => unassigned.push(camera),
        }
    }
    for (camera, pod) in waiting {
        let is_usable = |ready: &&u32| **ready < existing_pods && !states.lost.contains(ready);
        let has_room = |ready: &&u32| has_capacity(&load, **ready, per_pod);
        let ready = states.ready.iter().filter(is_usable).find(has_room).copied();
        match ready.or_else(|| has_capacity(&load, pod, per_pod).then_some(pod)) {
            Some(pod) => assign_to_pod(&mut load, &mut assigned, camera, pod),
            None => unassigned.push(camera),
        }
    }
    let mut pod = 0;
    for camera in unassigned {
        while states.lost.contains(&pod) || !has_capacity(&load, pod, per_pod) {
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

    fn assign_cameras(
        previous: &BTreeMap<String, u32>,
        existing_pods: u32,
        cameras: &[String],
        per_pod: u32,
    ) -> BTreeMap<String, u32> {
        super::assign_cameras(previous, existing_pods, cameras, per_pod, &ShardStates::default())
    }

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

        #[test]
        fn lost_pods_get_no_cameras_and_no_other_camera_moves(
            cameras in cameras(),
            per_pod in 1_u32..6,
            lost in proptest::collection::btree_set(0_u32..6, 0..4),
        ) {
            let before = assign_cameras(&BTreeMap::new(), 0, &cameras, per_pod);
            let states = ShardStates { lost, ..ShardStates::default() };
            let pods = pod_count(&before);
            let after = super::assign_cameras(&before, pods, &cameras, per_pod, &states);
            prop_assert_eq!(after.len(), before.len());
            prop_assert!(after.values().all(|pod| !states.lost.contains(pod)), "{after:?}");
            prop_assert!(loads(&after).values().all(|load| *load <= per_pod));
            for (camera, pod) in &before {
                prop_assert!(states.lost.contains(pod) || after.get(camera) == Some(pod), "{camera} moved");
            }
            let returned = ShardStates::default();
            let again = super::assign_cameras(&after, pod_count(&after), &cameras, per_pod, &returned);
            prop_assert_eq!(again, after, "a pod that returns moves no camera");
        }

        #[test]
        fn cameras_of_unscheduled_pods_add_no_pods(
            cameras in cameras(),
            per_pod in 1_u32..6,
            unscheduled in proptest::collection::btree_set(0_u32..6, 0..4),
            ready in proptest::collection::btree_set(0_u32..6, 0..4),
        ) {
            let before = assign_cameras(&BTreeMap::new(), 0, &cameras, per_pod);
            let ready = &ready - &unscheduled;
            let states = ShardStates { unscheduled, ready, ..ShardStates::default() };
            let after = super::assign_cameras(&before, pod_count(&before), &cameras, per_pod, &states);
            prop_assert_eq!(after.len(), before.len());
            prop_assert!(pod_count(&after) <= pod_count(&before));
            for (camera, pod) in &after {
                let is_moved = before.get(camera) != Some(pod);
                prop_assert!(!is_moved || states.ready.contains(pod) && states.unscheduled.contains(&before[camera]));
            }
        }
    }

    #[test]
    fn camera_returns_to_a_ready_pod_if_its_new_one_has_no_node() {
        let previous = BTreeMap::from([("hal".to_owned(), 1)]);
        let cameras = ["hal".to_owned()];
        let assign = |states: &ShardStates| super::assign_cameras(&previous, 2, &cameras, 32, states)["hal"];
        let mut states = ShardStates { lost: [0].into(), unscheduled: [1].into(), ready: BTreeSet::new() };
        assert_eq!(assign(&states), 1, "the first is still lost");
        states.lost.clear();
        assert_eq!(assign(&states), 1, "the first does not run yet");
        states.ready.insert(0);
        assert_eq!(assign(&states), 0);
    }
}
