use super::*;
use crate::controllers::site::fixtures::{Fixture, fixture};
use crate::wire::{CameraReport, CameraState, FORMAT, RejectedConfig, SegmentReport, SpoolStatus};

const SEGMENT: SignedDuration = SignedDuration::from_secs(60);

fn reply(fixture: &Fixture, cameras: &[(&str, CameraState)]) -> ShardReply {
    let report = |(name, state): &(&str, CameraState)| CameraReport {
        name: (*name).to_owned(),
        state: *state,
        since: fixture.now,
        codec: None,
        last_frame: Some(fixture.now),
        last_segment: Some(SegmentReport { key: "k".into(), start: fixture.now, duration_ms: 1, bytes: 1 }),
        uploaded: 1,
        waiting: 0,
        last_error: None,
        gaps: vec![],
    };
    let status = RecorderStatus {
        format: FORMAT,
        version: "1".into(),
        shard: 0,
        revision: "new".into(),
        uploads_follow: None,
        refused: None,
        started: fixture.now,
        now: fixture.now,
        clock_ahead_ms: None,
        spool: SpoolStatus::default(),
        cameras: cameras.iter().map(report).collect(),
    };
    ShardReply { shard: 0, status: Ok(status) }
}

#[test]
fn recording_reports_all_some_or_no_cameras() {
    use CameraState::{Disconnected, Recording as Records, Suspended};
    let fixture = fixture();
    let valid = fixture.valid();
    let of = |cameras: &[(&str, CameraState)]| {
        evaluate_recording(&valid, true, &[reply(&fixture, cameras)], SEGMENT)
    };
    let (all, count) = of(&[("hal", Records), ("kassa", Records)]);
    assert!(all.is_true() && count == 2);
    let (some, count) = of(&[("hal", Records), ("kassa", Disconnected)]);
    assert_eq!((some.reason, count), (Reason::SomeCamerasNotRecording, 1));
    assert_eq!(some.message, "1 of 2 cameras record; not: kassa (Disconnected)");
    let (covered, count) = of(&[("hal", Records), ("kassa", Suspended)]);
    assert_eq!((covered.reason, count), (Reason::Suspended, 1));
    let (both, _) = of(&[("hal", Disconnected), ("kassa", Suspended)]);
    assert_eq!(both.reason, Reason::SomeCamerasNotRecording);
    let (none, count) = of(&[("hal", Disconnected), ("kassa", Disconnected)]);
    assert_eq!((none.reason, none.status, count), (Reason::Disconnected, ConditionStatus::False, 0));
}

#[test]
fn unreachable_recorder_makes_recording_unknown() {
    let valid = fixture().valid();
    let silent = ShardReply { shard: 0, status: Err(RecorderStatusError::Unreachable) };
    let (unknown, count) = evaluate_recording(&valid, true, &[silent], SEGMENT);
    assert_eq!(
        (unknown.status, unknown.reason, count),
        (ConditionStatus::Unknown, Reason::RecorderNotReady, 0)
    );
}

#[test]
fn recording_states_reason_when_nothing_records() {
    let mut fixture = fixture();
    assert_eq!(
        evaluate_recording(&fixture.valid(), false, &[], SEGMENT).0.reason,
        Reason::DependencyNotReady
    );
    fixture.site.spec.notices = None;
    assert_eq!(evaluate_recording(&fixture.valid(), true, &[], SEGMENT).0.reason, Reason::DependencyNotReady);
    fixture.observed.cameras.clear();
    assert_eq!(evaluate_recording(&fixture.valid(), true, &[], SEGMENT).0.reason, Reason::NoCameras);
}

#[test]
fn recorder_lags_until_it_loads_the_latest_config() {
    let fixture = fixture();
    let good = reply(&fixture, &[]);
    assert_eq!(describe_lagging(std::slice::from_ref(&good), "new"), None);
    assert!(describe_lagging(std::slice::from_ref(&good), "newer").unwrap().contains("does not follow"));
    let refusing = ShardReply {
        status: good.status.map(|status| RecorderStatus {
            refused: Some(RejectedConfig { revision: Some("newer".into()), message: "too new".into() }),
            ..status
        }),
        shard: 1,
    };
    assert_eq!(
        describe_lagging(&[refusing], "newer").unwrap(),
        "recorder 1 refuses its configuration: too new"
    );
    assert!(
        describe_lagging(&[ShardReply { shard: 0, status: Err(RecorderStatusError::NoAddress) }], "new")
            .is_some()
    );
}
