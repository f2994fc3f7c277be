use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::*;
use crate::api::SiteStatus;
use crate::api::condition::{ConditionFinding, ConditionType, Reason, merge};
use crate::controllers::recorder_client::RecorderStatusError;
use crate::controllers::site::recorders::spool_report::DISCARD_SPOOLS_ANNOTATION;
use crate::controllers::site::status::deleting_conditions;
use crate::controllers::testing;
use crate::wire::{CameraState, RecorderStatus, SpoolStatus};

fn names() -> ChildNames {
    ChildNames::of(&testing::site())
}

fn replying(shard: u32, revision: &str, segments: u64, bytes: u64) -> ShardReply {
    let spool = SpoolStatus { segments, unrecovered: 0, bytes, limit: 1 << 30 };
    let status = testing::recorder_status(revision, Timestamp::UNIX_EPOCH, vec![]);
    ShardReply { shard, status: Ok(RecorderStatus { spool, ..status }) }
}

fn unreachable(shard: u32) -> ShardReply {
    ShardReply { shard, status: Err(RecorderStatusError::Unreachable) }
}

fn workload(replicas: u32, has_claims: bool) -> StatefulSet {
    let claims = if has_claims { json!([{"metadata": {"name": "spool"}}]) } else { json!([]) };
    serde_json::from_value(json!({
        "metadata": {"name": "zwembad-recorder"},
        "spec": {
            "replicas": replicas, "volumeClaimTemplates": claims, "selector": {}, "template": {}, "serviceName": "zwembad-recorder",
        },
    }))
    .unwrap()
}

fn pod(shard: u32, phase: &str, container: Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": format!("zwembad-recorder-{shard}")},
        "status": {"phase": phase, "containerStatuses": [container]},
    }))
    .unwrap()
}

fn running(shard: u32) -> Pod {
    pod(shard, "Running", container(json!({"running": {}}), 0))
}

fn container(state: Value, restarts: u32) -> Value {
    json!({"name": "recorder", "image": "i", "imageID": "", "ready": false, "restartCount": restarts, "state": state})
}

#[test]
fn only_a_proof_makes_a_spool_empty() {
    let pods = [running(0), running(1)];
    for (replies, segments, filled, unknown) in [
        (vec![replying(0, "closed", 0, 0)], 0, 0, 0),
        // It still records, or completes its last file, or has not recovered the files of the previous recorder.
        (vec![replying(0, "open", 0, 0)], 0, 1, 0),
        (vec![replying(0, "closed", 0, 5)], 0, 1, 0),
        (vec![replying(0, "closed", 0, 0), replying(1, "closed", 7, 70)], 7, 1, 0),
        (vec![unreachable(0)], 0, 0, 1),
        (vec![unreachable(0), replying(1, "closed", 2, 9)], 2, 1, 1),
    ] {
        let report = report_spools(&workload(2, false), &names(), &pods, &replies, is_empty_at("closed"));
        let found = (report.segments, report.filled.len(), report.unknown.len());
        assert_eq!(found, (segments, filled, unknown), "{replies:?}");
        assert_eq!(report.is_empty(), filled + unknown == 0);
    }
}

/// A segment whose upload got no answer may have been evicted since, and still arrive.
#[test]
fn spool_is_not_empty_while_an_upload_may_still_arrive() {
    for (uploads_follow, is_empty) in [(Some("closed"), true), (Some("open"), false), (None, false)] {
        let ShardReply { shard, status } = replying(0, "closed", 0, 0);
        let uploads_follow = uploads_follow.map(str::to_owned);
        let replies =
            [ShardReply { shard, status: status.map(|status| RecorderStatus { uploads_follow, ..status }) }];
        let report =
            report_spools(&workload(1, false), &names(), &[running(0)], &replies, is_empty_at("closed"));
        assert_eq!(report.is_empty(), is_empty, "{replies:?}");
        let is_described = report.to_string().contains("uploads of zwembad-recorder-0 may still arrive");
        assert_eq!(is_described, !is_empty, "{report}");
        assert_eq!(report.lost(), SpoolReport::default(), "the spool has nothing");
    }
}

#[test]
fn silent_recorder_is_empty_only_if_its_volume_never_had_content() {
    let waiting = |restarts| container(json!({"waiting": {"reason": "ImagePullBackOff"}}), restarts);
    let ended = container(json!({"terminated": {"exitCode": 1}}), 0);
    for (has_claims, pods, is_empty) in [
        // An emptyDir has gone with its pod.
        (false, vec![], true),
        (false, vec![pod(0, "Pending", waiting(0))], true),
        (false, vec![pod(0, "Failed", ended.clone())], true),
        (false, vec![pod(0, "Running", waiting(3))], false),
        (false, vec![pod(0, "Running", ended)], false),
        (false, vec![running(0)], false),
        // A claim has what an earlier pod wrote.
        (true, vec![], false),
        (true, vec![pod(0, "Pending", waiting(0))], false),
    ] {
        let live = workload(1, has_claims);
        let report = report_spools(&live, &names(), &pods, &[unreachable(0)], is_empty_at("closed"));
        assert_eq!(report.is_empty(), is_empty, "{has_claims} {pods:?}");
        assert_eq!(
            report_silent(&live, &names(), &pods, "why").is_empty(),
            is_empty,
            "{has_claims} {pods:?}"
        );
    }
}

#[test]
fn message_names_pods_causes_and_the_way_out() {
    let pods = [running(0), running(1)];
    let replies = [replying(0, "closed", 3, 30), unreachable(1)];
    let message =
        report_spools(&workload(2, false), &names(), &pods, &replies, is_empty_at("closed")).message();
    for part in [
        "3 segments in the spools of zwembad-recorder-0",
        "zwembad-recorder-1 is unknown: it does not answer",
        DISCARD_SPOOLS_ANNOTATION,
    ] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn recorders_stop_for_their_replacement_only_while_the_store_takes_segments() {
    let at = |second| Timestamp::from_second(second).unwrap();
    let closed_since = |second, segments| {
        let camera = serde_json::from_value(json!({
            "name": "hal", "state": CameraState::NotPermitted, "since": at(second), "uploaded": 0, "waiting": segments,
        }));
        let status = testing::recorder_status("r", at(1_000), vec![camera.unwrap()]);
        let spool = SpoolStatus { segments, unrecovered: 0, bytes: segments, limit: 1 };
        ShardReply { shard: 0, status: Ok(RecorderStatus { spool, ..status }) }
    };
    let in_doubt = |reply: ShardReply| {
        let status = reply.status.map(|status| RecorderStatus { uploads_follow: None, ..status });
        ShardReply { status, ..reply }
    };
    for (replies, is_closing, expected) in [
        // An upload that got no answer may take half an hour to end.
        (vec![in_doubt(replying(0, "r", 0, 5))], false, false),
        (vec![in_doubt(closed_since(900, 0))], true, true),
        (vec![in_doubt(closed_since(800, 0))], true, false),
        (vec![replying(0, "r", 0, 5)], false, true),
        (vec![replying(0, "r", 1, 5)], false, false),
        (vec![replying(0, "r", 0, 5), unreachable(1)], false, false),
        (vec![closed_since(900, 1)], true, true),
        (vec![closed_since(800, 1)], true, false),
        (vec![closed_since(800, 0)], true, true),
        (vec![unreachable(0)], true, false),
    ] {
        assert_eq!(should_close(&replies, is_closing), expected, "{replies:?} {is_closing}");
    }
}

#[test]
fn claims_without_evidence_are_reported() {
    let claim = |shard: u32, annotations: Value| {
        let metadata = json!({"name": format!("spool-zwembad-recorder-{shard}"), "annotations": annotations});
        let object = json!({"metadata": metadata, "spec": {"volumeName": "v"}});
        SpoolClaim::new(&serde_json::from_value(object).unwrap(), &names()).unwrap()
    };
    let empty = json!({"toezicht.dev/spool-empty": "0123"});
    let mut deleted = claim(3, json!({}));
    deleted.is_deleting = true;
    let claims = [claim(0, json!({})), claim(1, json!({})), claim(2, empty), deleted];
    let report = report_claims(&names(), &claims, &[running(0)], 0);
    assert_eq!(report.filled, ["zwembad-recorder-0"]);
    let unknown: Vec<String> = report.unknown.iter().map(|(pod, why)| format!("{pod}: {why}")).collect();
    assert_eq!(
        unknown,
        [
            "zwembad-recorder-1: no pod uses its claim spool-zwembad-recorder-1",
            "zwembad-recorder-3: somebody deleted its claim spool-zwembad-recorder-3, so that no pod can use it any more",
        ]
    );
    assert!(report_claims(&names(), &claims, &[], 4).is_empty());

    // A recorder that answered is reported once, and one that did not with its reason.
    let (live, replies) = (workload(2, true), [replying(0, "r", 3, 30), unreachable(1)]);
    let mut both = report_spools(&live, &names(), &[running(0), running(1)], &replies, is_empty_at("r"));
    both.extend(report_claims(&names(), &claims, &[running(0), running(1)], 0));
    assert_eq!((both.segments, both.filled.as_slice()), (3, &["zwembad-recorder-0".to_owned()][..]));
    assert_eq!(both.unknown.keys().collect::<Vec<_>>(), ["zwembad-recorder-1", "zwembad-recorder-3"]);
}

#[test]
fn spools_are_given_up_only_for_a_reason() {
    for (value, expected) in
        [(None, None), (Some(" "), None), (Some(" the disk burned "), Some("the disk burned"))]
    {
        let mut site = testing::site();
        site.metadata.annotations =
            value.map(|value| [(DISCARD_SPOOLS_ANNOTATION.to_owned(), value.to_owned())].into());
        assert_eq!(discard_reason(&site).as_deref(), expected);
    }
}

/// As a Site's `delete` writes it.
fn after_reconcile(site: &Site, now: Timestamp) -> Site {
    let before = site.status.clone().unwrap_or_default();
    let conditions = deleting_conditions(&before.conditions, None, "m", None, now);
    let drain_start_time = Some(Time(drain_start(site, now)));
    let status = Some(SiteStatus { conditions, drain_start_time, ..before });
    Site { status, ..site.clone() }
}

/// The store is away, so the Site was not ready before, and no operator ran when it was deleted.
#[test]
fn time_to_drain_begins_when_the_operator_drains() {
    let at = |second| Timestamp::from_second(second).unwrap();
    for reason in [Reason::Retrying, Reason::Deleting] {
        let mut site = testing::site();
        let ready = [ConditionFinding::new(ConditionType::Ready, false, reason, "m")];
        let conditions = merge(&[], &ready, None, at(500));
        site.status = Some(SiteStatus { conditions, ..SiteStatus::default() });
        site.metadata.deletion_timestamp = Some(Time(at(1_000)));
        assert!(!is_given_up(&site, false, at(9_000)), "nothing was drained yet");
        site = after_reconcile(&site, at(9_000));
        for second in [9_005, 9_300, 9_599] {
            assert!(!is_given_up(&site, false, at(second)), "{second}");
            site = after_reconcile(&site, at(second));
        }
        assert!(is_given_up(&site, false, at(9_600)));
        assert!(!is_given_up(&site, true, at(9_600)), "a hold may cover it");
    }
}

#[test]
fn wrong_drain_start_neither_ends_nor_prolongs_the_wait() {
    let at = |second| Timestamp::from_second(second).unwrap();
    let mut site = testing::site();
    site.metadata.deletion_timestamp = Some(Time(at(100_000)));
    for (reported, expected) in [
        // A backup of a Site that was being deleted.
        (5, 100_000),
        (100_060, 100_060),
        // A clock that was ahead.
        (900_000, 100_100),
    ] {
        let drain_start_time = Some(Time(at(reported)));
        site.status = Some(SiteStatus { drain_start_time, ..SiteStatus::default() });
        assert_eq!(drain_start(&site, at(100_100)), at(expected));
    }
}
