use serde_json::json;

use super::*;
use crate::controllers::testing;

const NOW: &str = "2026-11-30T12:00:00Z";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn names() -> ChildNames {
    ChildNames::of(&testing::site())
}

/// Returns a recorder pod on the node `second` whose `Ready` has this status since this time.
fn pod(shard: u32, uid: &str, ready: &str, since: &str) -> Pod {
    let owner = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "zwembad-recorder", "uid": "w", "controller": true});
    let ready = json!({"type": "Ready", "status": ready, "lastTransitionTime": since});
    let by_kubelet =
        json!({"type": "ContainersReady", "status": "True", "lastTransitionTime": "2026-11-30T11:00:00Z"});
    serde_json::from_value(json!({
        "metadata": {"name": names().pod(shard), "uid": uid, "ownerReferences": [owner]},
        "spec": {"nodeName": "second", "containers": [], "volumes": [{"name": "spool", "emptyDir": {}}]},
        "status": {"phase": "Running", "conditions": [ready, by_kubelet]},
    }))
    .unwrap()
}

fn with_claim(mut pod: Pod) -> Pod {
    let volume =
        json!([{"name": "spool", "persistentVolumeClaim": {"claimName": "spool-zwembad-recorder-0"}}]);
    pod.spec.as_mut().unwrap().volumes = serde_json::from_value(volume).unwrap();
    pod
}

fn lost(pod: &Pod) -> LostRecorder {
    lost_recorder(pod, "2026-11-30T11:58:00Z".parse().unwrap())
}

/// Returns a camera whose status names its recorder and its last segment.
fn camera(name: &str, recorder: &str) -> Camera {
    let mut camera = testing::camera(name);
    let status = json!({"recorderPodName": recorder, "lastSegment": {
        "key": "k", "startTime": "2026-11-30T11:55:00Z", "durationMilliseconds": 60_000,
    }});
    camera.status = Some(serde_json::from_value(status).unwrap());
    camera
}

fn known(entry: &LostRecorder, fate: Fate) -> Losses {
    Losses { known: vec![(entry.clone(), fate)], ..Losses::default() }
}

fn reasons(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| event.reason.as_str()).collect()
}

#[test]
fn node_is_not_reached_if_only_kubernetes_finds_its_pod_unready() {
    let since: Timestamp = "2026-11-30T11:58:00Z".parse().unwrap();
    for (ready, containers_ready, expected) in [
        ("True", "True", None),
        ("False", "True", Some(since)),
        ("Unknown", "True", Some(since)),
        // By the kubelet: it starts, or its probe fails.
        ("False", "False", None),
    ] {
        let mut pod = pod(0, "a", ready, "2026-11-30T11:58:00Z");
        let conditions = pod.status.as_mut().unwrap().conditions.as_mut().unwrap();
        conditions[1].status = containers_ready.to_owned();
        assert_eq!(unreached_since(&pod), expected, "{ready} {containers_ready}");
        pod.status.as_mut().unwrap().conditions.as_mut().unwrap().truncate(1);
        assert_eq!(unreached_since(&pod), None, "{ready}");
    }
}

#[test]
fn one_query_without_an_answer_moves_no_camera() {
    // Kubernetes has not reached the node for an hour.
    let silent = vec![lost_recorder(&pod(0, "a", "False", NOW), now() - SignedDuration::from_hours(1))];
    let lost_after = |seconds| {
        let first = now() - SignedDuration::from_secs(seconds);
        lost_of(silent.clone(), &[("a".to_owned(), first)].into(), now())
    };
    assert_eq!(lost_after(0), []);
    assert_eq!(lost_after(59), []);
    assert_eq!(lost_after(60), silent);
}

#[test]
fn lost_shards_are_new_and_known_ones_without_an_end() {
    let names = names();
    let pods = [
        pod(0, "a", "False", NOW),
        pod(1, "b", "False", NOW),
        pod(2, "c", "True", NOW),
        pod(3, "d", "True", NOW),
    ];
    let entries = [lost(&pods[0]), lost(&pods[2])];
    let losses = evaluate(
        &names,
        &pods,
        vec![lost(&pods[0]), lost(&pods[1])],
        vec![(entries[0].clone(), Fate::StillLost), (entries[1].clone(), Fate::Returned)],
    );
    assert_eq!(losses.shards.lost, [0, 1].into());
    assert_eq!(losses.shards.ready, [2, 3].into());
    assert_eq!(losses.new.keys().copied().collect::<Vec<_>>(), [1]);
}

#[test]
fn new_loss_has_its_cameras_even_if_they_moved_already() {
    let pod = pod(0, "a", "False", NOW);
    let losses = Losses { new: [(0, lost(&pod))].into(), ..Losses::default() };
    let cameras = [camera("deur", "zwembad-recorder-1"), camera("hal", "zwembad-recorder-0")];
    let (entries, events) = update(&losses, None, &cameras, now());
    assert_eq!(reasons(&events), ["RecorderLost"]);
    let end = Time("2026-11-30T11:56:00Z".parse().unwrap());
    let hal = LostCamera { name: "hal".to_owned(), last_segment_end_time: Some(end) };
    assert_eq!(entries, [LostRecorder { cameras: vec![hal], ..lost(&pod) }]);
}

#[test]
fn entry_stays_until_the_recorder_returns_or_its_loss_was_reported() {
    let entry = lost(&pod(0, "a", "False", NOW));
    assert_eq!(update(&known(&entry, Fate::StillLost), None, &[], now()).0, std::slice::from_ref(&entry));
    let (entries, events) = update(&known(&entry, Fate::Returned), None, &[], now());
    assert_eq!((entries.as_slice(), reasons(&events)), ([].as_slice(), vec!["RecorderReturned"]));
    let (entries, events) = update(&known(&entry, Fate::Gone), None, &[], now());
    let gone = LostRecorder { spool_lost_time: Some(Time(now())), ..entry };
    assert_eq!((entries, reasons(&events)), (vec![gone.clone()], vec!["RecordingsLost"]));
    // The pod stays away.
    for (minutes, is_kept) in [(9, true), (10, false)] {
        let later = now() + SignedDuration::from_mins(minutes);
        let (entries, events) = update(&known(&gone, Fate::Gone), None, &[], later);
        assert_eq!((entries.len(), reasons(&events)), (usize::from(is_kept), vec![]), "{minutes}");
    }
}

#[test]
fn lost_spool_stays_in_the_status_until_its_cameras_report_the_gap() {
    let hal = LostCamera { name: "hal".to_owned(), last_segment_end_time: None };
    let entry = LostRecorder {
        cameras: vec![hal],
        spool_lost_time: Some(Time(now())),
        ..lost(&pod(0, "a", "False", NOW))
    };
    let mut cameras = [camera("deur", "zwembad-recorder-1"), camera("hal", "zwembad-recorder-1")];
    let is_kept = |entry: &LostRecorder, cameras: &[Camera], hours| {
        let later = now() + SignedDuration::from_hours(hours);
        !update(&known(entry, Fate::Gone), None, cameras, later).0.is_empty()
    };
    assert!(is_kept(&entry, &cameras, 1), "the operator was down, or the Camera is paused");
    assert!(!is_kept(&entry, &cameras, 31 * 24), "but not for ever");
    assert!(!is_kept(&entry, &cameras[..1], 1), "the Camera is deleted");
    let uploaded = LostCamera { name: "hal".to_owned(), last_segment_end_time: Some(entry.since.clone()) };
    assert!(!is_kept(&LostRecorder { cameras: vec![uploaded], ..entry.clone() }, &cameras, 1));
    let gap =
        |reason: &str, until: &str| json!({"reason": reason, "from": "2026-11-30T11:00:00Z", "until": until});
    let mut set_gaps = |gaps: Vec<serde_json::Value>| {
        let status = cameras[1].status.as_mut().unwrap();
        status.gaps = serde_json::from_value(json!(gaps)).unwrap();
        is_kept(&entry, &cameras, 1)
    };
    assert!(set_gaps(vec![
        gap("SpoolLost", "2026-11-30T11:50:00Z"),
        gap("Disconnected", "2026-11-30T11:58:00Z")
    ]));
    assert!(!set_gaps(vec![gap("SpoolLost", "2026-11-30T11:58:00Z")]));
    let later =
        json!({"reason": "Disconnected", "from": "2026-11-30T11:59:00Z", "until": "2026-11-30T11:59:30Z"});
    let mut gaps = vec![later; 10];
    assert!(!set_gaps(gaps.clone()), "newer gaps pushed it out");
    gaps[0] = gap("Disconnected", "2026-11-30T11:57:00Z");
    assert!(set_gaps(gaps), "it is newer than another");
}

#[test]
fn status_has_no_more_entries_than_the_api_server_accepts() {
    let still = lost(&pod(0, "a", "False", NOW));
    let gone = |minute| {
        let time = now() + SignedDuration::from_mins(minute);
        LostRecorder { spool_lost_time: Some(Time(time)), ..still.clone() }
    };
    let kept = newest((0..300).map(gone).chain([still.clone()]).collect());
    assert_eq!(kept.len(), MAX_ENTRIES);
    assert_eq!((kept.first(), kept.last()), (Some(&gone(45)), Some(&still)));
}

#[test]
fn claim_outlives_its_pod() {
    let entry = lost(&with_claim(pod(0, "a", "False", NOW)));
    assert_eq!(entry.spool_claim_name.as_deref(), Some("spool-zwembad-recorder-0"));
    let (entries, events) = update(&known(&entry, Fate::Gone), None, &[], now());
    assert_eq!((entries.len(), events.len()), (0, 0));
    assert!(describe(&entry).contains("volume claim spool-zwembad-recorder-0"));
}

#[test]
fn message_names_node_pod_and_remedy() {
    let entry = lost(&pod(0, "a", "False", NOW));
    let message = describe_all(std::slice::from_ref(&entry)).unwrap();
    for part in
        ["zwembad-recorder-0 on the node second", "2026-11-30T11:58:00Z", "out-of-service", "delete the Node"]
    {
        assert!(message.contains(part), "{message}");
    }
    let gone = LostRecorder { spool_lost_time: Some(Time(now())), ..entry.clone() };
    assert_eq!(describe_all(&[gone]), None);
    let hal = LostCamera { name: "hal".to_owned(), last_segment_end_time: None };
    let entry = LostRecorder { cameras: vec![hal], ..entry };
    let named = |camera| name_all(std::slice::from_ref(&entry), camera);
    assert_eq!(named(Some("hal")).as_deref(), Some("zwembad-recorder-0 on the node second"));
    assert_eq!((named(Some("deur")), named(None).is_some()), (None, true));
}

#[test]
fn message_about_every_recorder_fits_into_a_condition() {
    let entries: Vec<LostRecorder> = (0..MAX_PODS)
        .map(|shard| lost(&with_claim(pod(shard, &format!("u{shard}"), "False", NOW))))
        .collect();
    let described = describe_all(&entries).unwrap();
    assert!(described.ends_with("246 more are lost: see status.lostRecorders"), "{described}");
    assert!(described.len() < 8 << 10, "{}", described.len());
    let named = name_all(&entries, None).unwrap();
    assert!(named.contains("zwembad-recorder-9 on the node second, 246 more recorders"), "{named}");
}
