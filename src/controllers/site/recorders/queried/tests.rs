use serde_json::json;

use super::*;
use crate::controllers::site::fixtures::fixture;
use crate::controllers::testing;
use crate::wire::CameraReport;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

/// Returns the pod of recorder 0 in this state of its container.
fn pod(phase: &str, state: &serde_json::Value, restarts: i32) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "zwembad-recorder-0", "uid": "u"},
        "status": {"phase": phase, "containerStatuses": [{
            "name": "recorder", "image": "i", "imageID": "", "ready": false, "restartCount": restarts, "state": state,
        }]},
    }))
    .unwrap()
}

fn running() -> Pod {
    pod("Running", &json!({"running": {}}), 0)
}

// As the replies of recorders are.
#[allow(clippy::unnecessary_wraps)]
fn status(revision: &str, state: CameraState) -> Result<RecorderStatus, RecorderStatusError> {
    Ok(testing::recorder_status(revision, at(0), vec![CameraReport::new("hal", state, at(0))]))
}

fn silent() -> Result<RecorderStatus, RecorderStatusError> {
    Err(RecorderStatusError::Unreachable)
}

fn lags(queried: &QueriedRecorders, is_denied: bool) -> Vec<Lag> {
    queried.lagging(is_denied, None, &[], at(0)).into_iter().map(|recorder| recorder.lag).collect()
}

#[test]
fn recorder_lags_unless_it_shows_that_it_does_what_it_should() {
    let waiting = json!({"waiting": {"reason": "CrashLoopBackOff"}});
    let never = json!({"waiting": {"reason": "ImagePullBackOff"}});
    let ended = json!({"terminated": {"exitCode": 0}});
    for (number, (pod, status, is_denied, expected)) in vec![
        (Some(running()), status("new", CameraState::Suspended), true, None),
        (Some(running()), status("new", CameraState::NotPermitted), true, None),
        (Some(running()), status("new", CameraState::Recording), false, None),
        (Some(running()), status("new", CameraState::Recording), true, Some(Lag::StillRecords)),
        (Some(running()), status("new", CameraState::Disconnected), true, Some(Lag::StillRecords)),
        (Some(running()), status("new", CameraState::Other), true, Some(Lag::StillRecords)),
        (Some(running()), status("old", CameraState::Suspended), true, Some(Lag::OtherRevision)),
        (Some(running()), status("old", CameraState::Recording), false, Some(Lag::OtherRevision)),
        (Some(running()), silent(), true, Some(Lag::Silent)),
        (Some(running()), silent(), false, Some(Lag::Silent)),
        (Some(pod("Running", &waiting, 3)), silent(), true, Some(Lag::Silent)),
        (Some(pod("Pending", &never, 0)), silent(), true, None),
        (Some(pod("Succeeded", &ended, 0)), silent(), true, None),
        (None, Err(RecorderStatusError::NoAddress), true, None),
    ]
    .into_iter()
    .enumerate()
    {
        let queried = QueriedRecorders {
            revision: "new".into(),
            replies: vec![ShardReply { shard: 0, status: status.clone() }],
            pods: vec![pod.clone()],
            leaving: Vec::new(),
        };
        assert_eq!(lags(&queried, is_denied), expected.into_iter().collect::<Vec<_>>(), "row {number}");
        // The same of one that is to be removed, except that its cameras keep their last state.
        let Some(pod) = pod else { continue };
        let queried = QueriedRecorders {
            revision: "new".into(),
            leaving: vec![(pod, status)],
            ..QueriedRecorders::default()
        };
        let expected = expected.filter(|lag| *lag != Lag::StillRecords);
        assert_eq!(
            lags(&queried, is_denied),
            expected.into_iter().collect::<Vec<_>>(),
            "leaving, row {number}"
        );
    }
}

#[test]
fn lagging_recorder_may_record_its_cameras_and_one_that_leaves_any() {
    let config = {
        let plan = fixture().plan();
        super::super::workload::read_config(&plan.config_secret).unwrap()
    };
    let mut moved = testing::camera("kluis");
    moved.status = Some(serde_json::from_value(json!({"recorderPodName": "zwembad-recorder-0"})).unwrap());
    let cameras = [testing::camera("hal"), testing::camera("deur"), moved];
    let queried = QueriedRecorders {
        revision: "new".into(),
        replies: vec![ShardReply { shard: 0, status: silent() }],
        pods: vec![Some(running())],
        leaving: vec![(running(), silent())],
    };
    let lagging = queried.lagging(true, Some(&config), &cameras, at(0));
    let found: Vec<_> = lagging.into_iter().map(|recorder| recorder.cameras).collect();
    assert_eq!(found, [Some(["hal", "kluis"].map(str::to_owned).into()), None]);
}
