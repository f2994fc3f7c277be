use super::*;
use crate::controllers::recorder_client::RecorderStatusError;
use crate::controllers::site::fixtures::{Fixture, fixture};
use crate::controllers::testing;
use crate::wire::{CameraReport, CameraState, SegmentReport};

const SEGMENT: SignedDuration = SignedDuration::from_secs(60);
const BOTH: [&str; 2] = ["hal", "kassa"];

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

fn silent() -> ShardReply {
    ShardReply { shard: 0, status: Err(RecorderStatusError::Unreachable) }
}

/// Returns `Recording` of a Site whose recorders do what the latest configuration says.
fn evaluate(
    fixture: &Fixture,
    may_record: bool,
    replies: &[ShardReply],
    omitted: &[String],
) -> (ConditionFinding, usize) {
    evaluate_recording(&RecordingInputs {
        valid: &fixture.valid(),
        may_record,
        replies,
        lagging: &[],
        omitted,
        segment: SEGMENT,
        was_silent: false,
        now: fixture.now,
    })
}

#[test]
fn recording_reports_all_some_or_no_cameras() {
    use CameraState::{Disconnected, Recording as Records, Suspended};
    let fixture = fixture();
    let evaluate =
        |cameras: &[(&str, CameraState)]| evaluate(&fixture, true, &[reply(&fixture, cameras)], &[]);
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
    let (finding, count) = evaluate(&fixture, true, &replies, &["kassa".to_owned()]);
    assert_eq!((finding.reason, count), (Reason::SomeCamerasNotRecording, 1));
    assert_eq!(finding.message, "1 of 2 cameras record; not: kassa (TooManyCameras)");
}

#[test]
fn recorder_with_wrong_clock_is_named() {
    let fixture = fixture();
    let records = [("hal", CameraState::Recording), ("kassa", CameraState::Recording)];
    let mut reply = reply(&fixture, &records);
    reply.status.as_mut().unwrap().clock_ahead_ms = Some(-86_400_000);
    let (finding, _) = evaluate(&fixture, true, &[reply], &[]);
    assert!(
        finding.is_true() && finding.message.contains("; recorder 0: the recorder's clock"),
        "{finding:?}"
    );
}

#[test]
fn unreachable_recorder_makes_recording_unknown() {
    let (unknown, count) = evaluate(&fixture(), true, &[silent()], &[]);
    let expected = (ConditionStatus::Unknown, Reason::RecorderNotReady, 0);
    assert_eq!((unknown.status, unknown.reason, count), expected);
}

#[test]
fn recording_states_reason_when_nothing_records() {
    let mut fixture = fixture();
    let reason = |fixture: &Fixture, may_record| evaluate(fixture, may_record, &[], &[]).0.reason;
    assert_eq!(reason(&fixture, false), Reason::DependencyNotReady);
    fixture.site.spec.notices = None;
    assert_eq!(reason(&fixture, true), Reason::DependencyNotReady);
    fixture.observed.cameras.clear();
    assert_eq!(reason(&fixture, true), Reason::NoCameras);
}

fn suspended() -> Fixture {
    let mut fixture = fixture();
    let suspension = serde_json::json!([
        {"reason": "Verkiezing", "from": "2026-11-24T06:00:00Z", "until": "2026-11-24T22:00:00Z"},
    ]);
    fixture.site.spec.suspensions = serde_json::from_value(suspension).unwrap();
    fixture
}

/// Returns recorder 0, which lags for so many seconds.
fn lagging(fixture: &Fixture, lag: Lag, seconds: i64) -> LaggingRecorder {
    LaggingRecorder {
        pod_uid: "u".into(),
        pod_name: fixture.valid().names.pod(0),
        lag,
        revision: None,
        cameras: Some(BOTH.map(str::to_owned).into()),
        since: fixture.now - SignedDuration::from_secs(seconds),
    }
}

/// Each row: reply of the only recorder, its lag and for how long, whether the status says that nothing is recorded, and `Recording`.
#[test]
fn suspended_site_claims_silence_only_with_evidence() {
    use CameraState::{Connecting, Disconnected, NotPermitted, Recording as Records, Suspended};
    use Lag::{OtherRevision, Silent, StillRecords};
    let fixture = suspended();
    let report = |states: [CameraState; 2]| {
        let cameras: Vec<(&str, CameraState)> = BOTH.into_iter().zip(states).collect();
        Some(reply(&fixture, &cameras))
    };
    let silence = "False Suspended";
    let unknown = "Unknown RecorderNotReady";
    for (number, (reply, lag, was_silent, expected)) in [
        // No recorder, or one whose pod never started.
        (None, None, false, silence),
        (Some(silent()), None, false, silence),
        // It follows the configuration.
        (report([Suspended, Suspended]), None, false, silence),
        (report([NotPermitted, Suspended]), None, true, silence),
        (report([Records, Records]), Some((StillRecords, 0)), false, silence),
        (report([Records, Records]), Some((StillRecords, 60)), true, "True Recording"),
        (report([Records, Suspended]), Some((StillRecords, 60)), true, "False SomeCamerasNotRecording"),
        // It has not taken it yet: what it reports counts at once.
        (report([Records, Records]), Some((OtherRevision, 0)), false, "True Recording"),
        (report([Records, Suspended]), Some((OtherRevision, 0)), false, "False SomeCamerasNotRecording"),
        (report([Connecting, Connecting]), Some((OtherRevision, 0)), false, "False Connecting"),
        (
            report([Disconnected, Suspended]),
            Some((OtherRevision, 90)),
            false,
            "False SomeCamerasNotRecording",
        ),
        (report([Suspended, Suspended]), Some((OtherRevision, 59)), false, silence),
        (report([Suspended, Suspended]), Some((OtherRevision, 60)), true, unknown),
        // It does not answer.
        (Some(silent()), Some((Silent, 0)), true, silence),
        (Some(silent()), Some((Silent, 59)), true, silence),
        (Some(silent()), Some((Silent, 60)), true, unknown),
        (Some(silent()), Some((Silent, 0)), false, unknown),
        // One that is to be removed.
        (None, Some((Silent, 60)), true, unknown),
    ]
    .into_iter()
    .enumerate()
    {
        let replies: Vec<ShardReply> = reply.into_iter().collect();
        let lagging: Vec<_> = lag.map(|(lag, seconds)| lagging(&fixture, lag, seconds)).into_iter().collect();
        let inputs = RecordingInputs {
            valid: &fixture.valid(),
            may_record: true,
            replies: &replies,
            lagging: &lagging,
            omitted: &[],
            segment: SEGMENT,
            was_silent,
            now: fixture.now,
        };
        let (finding, _) = evaluate_recording(&inputs);
        let found = format!("{} {}", <&str>::from(finding.status), <&str>::from(finding.reason));
        assert_eq!(found, expected, "row {number}: {finding:?}");
        // The same if the bucket forbids it.
        let (finding, _) = evaluate_recording(&RecordingInputs { may_record: false, ..inputs });
        let found = format!("{} {}", <&str>::from(finding.status), <&str>::from(finding.reason));
        assert_eq!(found, expected.replace(silence, "False DependencyNotReady"), "row {number}: {finding:?}");
    }
}

/// Its own cameras are silent, and another recorder is behind.
#[test]
fn partly_suspended_site_names_recorders_that_may_record_the_covered_camera() {
    let fixture = fixture();
    let replies = [reply(&fixture, &[("hal", CameraState::Recording), ("kassa", CameraState::Suspended)])];
    for (cameras, expected) in [
        (Some(vec!["hal"]), Reason::Suspended),
        (Some(vec!["kassa"]), Reason::RecorderNotReady),
        (None, Reason::RecorderNotReady),
    ] {
        let cameras = cameras.map(|names| names.into_iter().map(str::to_owned).collect());
        let recorder = LaggingRecorder { cameras, ..lagging(&fixture, Lag::OtherRevision, 60) };
        let (finding, count) = evaluate_recording(&RecordingInputs {
            valid: &fixture.valid(),
            may_record: true,
            replies: &replies,
            lagging: &[recorder],
            omitted: &[],
            segment: SEGMENT,
            was_silent: false,
            now: fixture.now,
        });
        assert_eq!((finding.reason, count), (expected, 1), "{finding:?}");
    }
}
