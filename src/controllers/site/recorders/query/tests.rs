use super::*;
use crate::controllers::site::fixtures::{Fixture, fixture};
use crate::controllers::testing;
use crate::wire::{CameraReport, CameraState, RejectedConfig, SegmentReport};

const SEGMENT: SignedDuration = SignedDuration::from_secs(60);

fn reply(fixture: &Fixture, cameras: &[(&str, CameraState)]) -> ShardReply {
    let now = fixture.now;
    let last_segment = Some(SegmentReport { key: "k".into(), start: now, duration_ms: 1, bytes: 1 });
    let report = |(name, state): &(&str, CameraState)| CameraReport {
        last_segment: last_segment.clone(),
        ..CameraReport::new(name, *state, now)
    };
    let cameras = cameras.iter().map(report).collect();
    ShardReply { shard: 0, status: Ok(testing::recorder_status("new", now, cameras)) }
}

#[test]
fn recording_reports_all_some_or_no_cameras() {
    use CameraState::{Disconnected, Recording as Records, Suspended};
    let fixture = fixture();
    let valid = fixture.valid();
    let evaluate = |cameras: &[(&str, CameraState)]| {
        evaluate_recording(&valid, true, &[reply(&fixture, cameras)], &[], SEGMENT)
    };
    let (all, count) = evaluate(&[("hal", Records), ("kassa", Records)]);
    assert!(all.is_true() && count == 2);
    let (some, count) = evaluate(&[("hal", Records), ("kassa", Disconnected)]);
    assert_eq!((some.reason, count), (Reason::SomeCamerasNotRecording, 1));
    assert_eq!(some.message, "1 of 2 cameras record; not: kassa (Disconnected)");
    let (covered, count) = evaluate(&[("hal", Records), ("kassa", Suspended)]);
    assert_eq!((covered.reason, count), (Reason::Suspended, 1));
    let (both, _) = evaluate(&[("hal", Disconnected), ("kassa", Suspended)]);
    assert_eq!(both.reason, Reason::SomeCamerasNotRecording);
    let (none, count) = evaluate(&[("hal", Disconnected), ("kassa", Disconnected)]);
    assert_eq!((none.reason, none.status, count), (Reason::Disconnected, ConditionStatus::False, 0));
}

#[test]
fn omitted_camera_does_not_record_whatever_its_recorder_says() {
    let fixture = fixture();
    let records = [("hal", CameraState::Recording), ("kassa", CameraState::Recording)];
    let replies = [reply(&fixture, &records)];
    let (finding, count) =
        evaluate_recording(&fixture.valid(), true, &replies, &["kassa".to_owned()], SEGMENT);
    assert_eq!((finding.reason, count), (Reason::SomeCamerasNotRecording, 1));
    assert_eq!(finding.message, "1 of 2 cameras record; not: kassa (TooManyCameras)");
}

#[test]
fn recorder_with_wrong_clock_is_named() {
    let fixture = fixture();
    let records = [("hal", CameraState::Recording), ("kassa", CameraState::Recording)];
    let mut reply = reply(&fixture, &records);
    reply.status.as_mut().unwrap().clock_ahead_ms = Some(-86_400_000);
    let (finding, _) = evaluate_recording(&fixture.valid(), true, &[reply], &[], SEGMENT);
    assert!(
        finding.is_true() && finding.message.contains("; recorder 0: the recorder's clock"),
        "{finding:?}"
    );
}

#[test]
fn unreachable_recorder_makes_recording_unknown() {
    let silent = ShardReply { shard: 0, status: Err(RecorderStatusError::Unreachable) };
    let (unknown, count) = evaluate_recording(&fixture().valid(), true, &[silent], &[], SEGMENT);
    let expected = (ConditionStatus::Unknown, Reason::RecorderNotReady, 0);
    assert_eq!((unknown.status, unknown.reason, count), expected);
}

#[test]
fn recording_states_reason_when_nothing_records() {
    let mut fixture = fixture();
    let reason = |fixture: &Fixture, may_record| {
        evaluate_recording(&fixture.valid(), may_record, &[], &[], SEGMENT).0.reason
    };
    assert_eq!(reason(&fixture, false), Reason::DependencyNotReady);
    fixture.site.spec.notices = None;
    assert_eq!(reason(&fixture, true), Reason::DependencyNotReady);
    fixture.observed.cameras.clear();
    assert_eq!(reason(&fixture, true), Reason::NoCameras);
}

#[test]
fn recorder_lags_until_it_loads_the_latest_config() {
    let fixture = fixture();
    let good = reply(&fixture, &[]);
    assert_eq!(describe_lagging(std::slice::from_ref(&good), "new"), None);
    assert!(describe_lagging(std::slice::from_ref(&good), "newer").unwrap().contains("does not follow"));
    let rejecting = ShardReply {
        status: good.status.map(|status| RecorderStatus {
            refused: Some(RejectedConfig { revision: Some("newer".into()), message: "too new".into() }),
            ..status
        }),
        shard: 1,
    };
    let message = describe_lagging(&[rejecting], "newer").unwrap();
    assert_eq!(message, "recorder 1 rejects its configuration: too new");
    let without_address = ShardReply { shard: 0, status: Err(RecorderStatusError::NoAddress) };
    assert!(describe_lagging(&[without_address], "new").is_some());
}
