use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::*;
use crate::controllers::recorder_client::RecorderStatusError;
use crate::controllers::testing;
use crate::wire::{RecorderStatus, RejectedConfig, SpoolStatus};

fn names() -> ChildNames {
    ChildNames::of(&testing::site())
}

/// Returns a StatefulSet of three pods whose template has this image.
fn workload(image: &str, has_claims: bool) -> StatefulSet {
    let claims = if has_claims { json!([{"metadata": {"name": "spool"}}]) } else { json!([]) };
    serde_json::from_value(json!({
        "metadata": {"name": "zwembad-recorder", "uid": "w", "generation": 2},
        "spec": {
            "replicas": 3, "selector": {}, "serviceName": "zwembad-recorder", "volumeClaimTemplates": claims,
            "template": {"spec": {"containers": [{"name": "recorder", "image": image}]}},
            "updateStrategy": {"rollingUpdate": {"partition": 2}},
        },
        "status": {"replicas": 3, "observedGeneration": 2, "updateRevision": "new"},
    }))
    .unwrap()
}

fn pod(shard: u32, revision: &str, is_ready: bool) -> Pod {
    let owner = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "zwembad-recorder", "uid": "w", "controller": true});
    let ready = if is_ready { "True" } else { "False" };
    serde_json::from_value(json!({
        "metadata": {
            "name": format!("zwembad-recorder-{shard}"), "ownerReferences": [owner],
            "labels": {"controller-revision-hash": revision},
        },
        "status": {
            "phase": "Running", "startTime": "2026-01-01T00:00:00Z",
            "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": "2026-01-01T00:10:00Z"}],
            "containerStatuses": [{
                "name": "recorder", "image": "i", "imageID": "", "ready": is_ready, "restartCount": 0,
                "state": {"running": {}},
            }],
        },
    }))
    .unwrap()
}

fn reply(shard: u32, segments: Option<u64>) -> ShardReply {
    let status = segments.map(|segments| {
        let spool = SpoolStatus { segments, unrecovered: 0, bytes: 7, limit: 1 << 30 };
        RecorderStatus { spool, ..testing::recorder_status("r", Timestamp::UNIX_EPOCH, vec![]) }
    });
    ShardReply { shard, status: status.ok_or(RecorderStatusError::Unreachable) }
}

/// Returns the step that a reconcile takes.
fn step_of(
    live: &StatefulSet,
    desired: &StatefulSet,
    pods: &[Pod],
    replies: &[ShardReply],
    last_recordings: &LastRecordings,
    is_given_up: bool,
) -> Rollout {
    outdated_shards(live, desired, &names(), pods, 3).map_or_else(Rollout::default, |outdated| {
        let recorders =
            LiveRecorders { workload: live, shards: 3, names: &names(), pods, replies, last_recordings };
        next_step(&recorders, &outdated, is_given_up)
    })
}

fn step(revisions: [&str; 3], segments: [Option<u64>; 3]) -> Rollout {
    let live = workload("i", false);
    let pods: Vec<Pod> = (0..).zip(revisions).map(|(shard, revision)| pod(shard, revision, true)).collect();
    let replies: Vec<ShardReply> =
        (0..).zip(segments).map(|(shard, segments)| reply(shard, segments)).collect();
    step_of(&live, &live, &pods, &replies, &BTreeMap::new(), false)
}

#[test]
fn pods_go_one_at_a_time_from_the_last() {
    let empty = [Some(0); 3];
    assert_eq!(step(["new"; 3], empty), Rollout::default());
    for (revisions, partition) in
        [(["old", "old", "old"], 2), (["old", "old", "new"], 1), (["old", "new", "new"], 0)]
    {
        assert_eq!(
            step(revisions, empty),
            Rollout { partition: Some(partition), replaced: Some(partition), ..Rollout::default() },
            "{revisions:?}"
        );
    }
}

#[test]
fn pod_with_spooled_or_unknown_content_stays() {
    let filled = step(["old"; 3], [Some(0), Some(0), Some(4)]);
    assert_eq!((filled.partition, filled.waiting.segments), (Some(3), 4));
    assert_eq!(filled.waiting.filled, ["zwembad-recorder-2"]);
    let silent = step(["old", "old", "new"], [Some(0), None, Some(0)]);
    assert_eq!(silent.partition, Some(2));
    assert!(silent.waiting.unknown.contains_key("zwembad-recorder-1"), "{silent:?}");
    // Only the pod that is next counts.
    assert_eq!(step(["old"; 3], [Some(9), None, Some(0)]).partition, Some(2));
}

#[test]
fn pod_with_files_of_a_crashed_recorder_stays() {
    let live = workload("i", false);
    let pods = [0, 1, 2].map(|shard| pod(shard, "old", true));
    let mut replies = [0, 1, 2].map(|shard| reply(shard, Some(0)));
    replies[2].status.as_mut().unwrap().spool.unrecovered = 1;
    let step = step_of(&live, &live, &pods, &replies, &BTreeMap::new(), false);
    assert_eq!((step.partition, step.waiting.filled), (Some(3), vec!["zwembad-recorder-2".to_owned()]));
}

/// Otherwise the last pod would come back with its old template, and be replaced again and again.
#[test]
fn partition_stays_until_the_replaced_pod_is_back() {
    let mut live = workload("i", false);
    super::super::objects::set_partition(&mut live, 0);
    let pods = [pod(1, "new", true), pod(2, "new", true)];
    let replies = [0, 1, 2].map(|shard| reply(shard, Some(0)));
    assert!(outdated_shards(&live, &live, &names(), &pods, 3).is_some());
    assert_eq!(step_of(&live, &live, &pods, &replies, &BTreeMap::new(), false).partition, Some(0));
}

#[test]
fn content_that_is_given_up_is_reported() {
    let live = workload("i", false);
    let pods = [0, 1, 2].map(|shard| pod(shard, "old", true));
    let replies = [0, 1, 2].map(|shard| reply(shard, Some(4)));
    let step = step_of(&live, &live, &pods, &replies, &BTreeMap::new(), true);
    assert_eq!((step.partition, step.given_up.segments, step.waiting.is_empty()), (Some(2), 4, true));
}

#[test]
fn replaced_pod_that_does_not_come_back_stops_the_rollout() {
    let stopped = step(["old", "old", "new"], [Some(0), Some(0), None]);
    assert_eq!((stopped.partition, stopped.stopped_at.as_deref()), (Some(2), Some("zwembad-recorder-2")));
    let live = workload("i", false);
    let pods = [pod(0, "old", true), pod(1, "old", true), pod(2, "new", false)];
    let replies = [0, 1, 2].map(|shard| reply(shard, Some(0)));
    let unready = step_of(&live, &live, &pods, &replies, &BTreeMap::new(), false);
    assert_eq!(unready.stopped_at.as_deref(), Some("zwembad-recorder-2"));
    // It is gone, and not back yet.
    let gone = step_of(&live, &live, &pods[..2], &replies, &BTreeMap::new(), false);
    assert_eq!(gone.partition, Some(2));
}

#[test]
fn replaced_pod_that_gets_no_frames_stops_the_rollout() {
    let (live, at) = (workload("i", false), |text: &str| text.parse::<Timestamp>().unwrap());
    let pods = [pod(0, "old", true), pod(1, "old", true), pod(2, "new", true)];
    let hal = |shard, until: &str| -> LastRecordings {
        [("hal".to_owned(), LastRecording { shard, until: at(until) })].into()
    };
    let long_ago = hal(2, "2025-12-31T20:00:00Z");
    let recently = || hal(2, "2025-12-31T23:55:00Z");
    for (states, last_recordings, is_back) in [
        (vec![("erf", CameraState::Recording), ("hal", CameraState::Connecting)], recently(), true),
        (vec![("hal", CameraState::Connecting)], recently(), false),
        (vec![("hal", CameraState::Disconnected)], recently(), false),
        (vec![("hal", CameraState::Disconnected)], long_ago, true),
        (vec![("hal", CameraState::Connecting)], BTreeMap::new(), true),
        (vec![("hal", CameraState::Suspended)], BTreeMap::new(), true),
        (vec![], BTreeMap::new(), true),
        // It does not know its camera, or that is one of another recorder.
        (vec![], recently(), false),
        (vec![], hal(1, "2025-12-31T23:55:00Z"), true),
    ] {
        let mut replies = [0, 1, 2].map(|shard| reply(shard, Some(0)));
        let report = |(name, state): &(&str, CameraState)| {
            serde_json::from_value(json!({
                "name": name, "state": state, "since": at("2026-01-01T00:00:10Z"), "uploaded": 0, "waiting": 0,
            }))
            .unwrap()
        };
        replies[2].status.as_mut().unwrap().cameras = states.iter().map(report).collect();
        let next = step_of(&live, &live, &pods, &replies, &last_recordings, false);
        assert_eq!(next.partition, Some(if is_back { 1 } else { 2 }), "{states:?} {last_recordings:?}");
    }
}

#[test]
fn replaced_pod_that_rejects_a_part_of_its_configuration_stops_the_rollout() {
    let live = workload("i", false);
    let pods = [pod(0, "old", true), pod(1, "old", true), pod(2, "new", true)];
    for (revision, partition) in [("r", 2), ("earlier", 1)] {
        let mut replies = [0, 1, 2].map(|shard| reply(shard, Some(0)));
        replies[2].status.as_mut().unwrap().refused =
            Some(RejectedConfig { revision: Some(revision.into()), message: "cameras[0].url".into() });
        let next = step_of(&live, &live, &pods, &replies, &BTreeMap::new(), false);
        assert_eq!(next.partition, Some(partition), "{revision}");
    }
}

#[test]
fn template_that_is_about_to_change_makes_every_pod_outdated() {
    let (live, desired) = (workload("i", false), workload("j", false));
    let pods = [0, 1, 2].map(|shard| pod(shard, "new", true));
    assert_eq!(outdated_shards(&live, &live, &names(), &pods, 3), None);
    assert!(outdated_shards(&live, &desired, &names(), &pods, 3).is_some());
    let filled = [0, 1, 2].map(|shard| reply(shard, Some(1)));
    assert_eq!(step_of(&live, &desired, &pods, &filled, &BTreeMap::new(), false).partition, Some(3));
    assert_eq!(
        step_of(&live, &desired, &pods, &filled, &BTreeMap::new(), true).partition,
        Some(2),
        "given up"
    );
    let (live, desired) = (workload("i", true), workload("j", true));
    assert_eq!(
        step_of(&live, &desired, &pods, &filled, &BTreeMap::new(), false).partition,
        Some(2),
        "claims outlive their pods"
    );
}

#[test]
fn broken_template_can_be_corrected_without_giving_anything_up() {
    let (live, desired) = (workload("i", false), workload("j", false));
    let mut broken = pod(2, "new", false);
    // It was never ready, so its recorder never recorded.
    let never_ready: Value =
        json!([{"type": "Ready", "status": "False", "lastTransitionTime": "2026-01-01T00:00:01Z"}]);
    broken.status.as_mut().unwrap().conditions = serde_json::from_value(never_ready).unwrap();
    let pods = [pod(0, "old", true), pod(1, "old", true), broken];
    let replies = [reply(0, Some(0)), reply(1, Some(0)), reply(2, None)];
    assert_eq!(step_of(&live, &desired, &pods, &replies, &BTreeMap::new(), false).partition, Some(2));
}

#[test]
fn partition_stays_until_kubernetes_has_seen_the_last_change() {
    let mut live = workload("i", false);
    live.metadata.generation = Some(3);
    let pods = [0, 1, 2].map(|shard| pod(shard, "old", true));
    let replies = [0, 1, 2].map(|shard| reply(shard, Some(0)));
    assert!(outdated_shards(&live, &live, &names(), &pods, 3).is_some());
    assert_eq!(step_of(&live, &live, &pods, &replies, &BTreeMap::new(), false).partition, Some(2));
}

#[test]
fn only_a_pod_that_can_go_needs_a_turn() {
    use RolloutProgress::{CanProceed, Replacing, Waiting};
    for (revisions, segments, expected) in [
        (["old"; 3], [Some(0); 3], CanProceed),
        (["old", "old", "new"], [Some(0); 3], CanProceed),
        (["old"; 3], [Some(0), Some(0), Some(4)], Waiting),
        (["old", "old", "new"], [Some(0), Some(0), None], Replacing),
    ] {
        let outdated: Vec<u32> = (0..).zip(revisions).filter(|row| row.1 == "old").map(|row| row.0).collect();
        assert_eq!(
            step(revisions, segments).progress(&outdated, false),
            expected,
            "{revisions:?} {segments:?}"
        );
    }
    for (had_turn, expected) in [(true, Replacing), (false, Waiting)] {
        assert_eq!(Rollout::default().progress(&[], had_turn), expected);
    }
}

#[test]
fn site_without_a_turn_keeps_its_pods() {
    let denied = Rollout::denied(&[0, 1], TurnDenied::OtherSites);
    assert_eq!(denied.partition, Some(2));
    assert!(denied.given_up.is_empty() && denied.waiting.is_empty());
}

#[test]
fn last_replaced_pod_is_back_once_it_records() {
    let live = workload("i", false);
    let pods = [0, 1, 2].map(|shard| pod(shard, "new", shard != 0));
    let replies = [0, 1, 2].map(|shard| reply(shard, Some(0)));
    let first = |pods: &[Pod], replies: &[ShardReply]| {
        let last_recordings = &BTreeMap::new();
        first_not_back(
            &LiveRecorders { workload: &live, shards: 3, names: &names(), pods, replies, last_recordings },
            0,
        )
    };
    assert_eq!(first(&pods, &replies), Some(0));
    let ready = [0, 1, 2].map(|shard| pod(shard, "new", true));
    assert_eq!(first(&ready, &replies), None);
    assert_eq!(first(&ready, &[]), Some(0));
}

/// Shard 2 is to be removed, does not answer, and may have recordings: it stays, and holds up no other.
#[test]
fn silent_recorder_that_is_to_be_removed_does_not_hold_up_the_others() {
    let (live, names) = (workload("i", false), names());
    let replies = [reply(0, Some(0)), reply(1, Some(0)), reply(2, None)];
    for (revisions, expected) in
        [(["old", "old", "old"], Some(1)), (["old", "new", "old"], Some(0)), (["new", "new", "old"], None)]
    {
        let pods: Vec<Pod> =
            (0..).zip(revisions).map(|(shard, revision)| pod(shard, revision, true)).collect();
        let outdated = outdated_shards(&live, &live, &names, &pods, 2);
        assert_eq!(outdated.is_some(), expected.is_some(), "{revisions:?}");
        let last_recordings = &BTreeMap::new();
        let recorders = LiveRecorders {
            workload: &live,
            shards: 2,
            names: &names,
            pods: &pods,
            replies: &replies,
            last_recordings,
        };
        let replaced = outdated.and_then(|outdated| next_step(&recorders, &outdated, false).replaced);
        assert_eq!(replaced, expected, "{revisions:?}");
    }
}

#[test]
fn pod_that_waits_is_not_replaced_by_hand() {
    for (segments, expected) in [([Some(0), Some(0), Some(0)], Some(2)), ([Some(0), Some(0), Some(4)], None)]
    {
        assert_eq!(step(["old"; 3], segments).replaced, expected);
    }
    assert_eq!(Rollout::denied(&[0, 1], TurnDenied::OtherSites).replaced, None);
}

/// It would open the gate for every pod.
#[test]
fn workload_without_a_partition_is_closed() {
    let mut live = workload("i", false);
    live.metadata.generation = Some(3);
    super::super::objects::replace_by_hand(&mut live);
    let pods = [0, 1, 2].map(|shard| pod(shard, "old", true));
    let replies = [0, 1, 2].map(|shard| reply(shard, Some(0)));
    assert_eq!(step_of(&live, &live, &pods, &replies, &BTreeMap::new(), false), Rollout::default());
}
