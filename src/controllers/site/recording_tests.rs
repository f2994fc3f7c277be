use super::*;
use crate::contract::{CameraReport, CameraState, FORMAT, RefusedConfig, SegmentReport, SpoolStatus};
use crate::controllers::site::fixtures::{Fixture, fixture};

const SEGMENT: SignedDuration = SignedDuration::from_secs(60);

fn answer(fixture: &Fixture, cameras: &[(&str, CameraState)]) -> Answer {
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
    Answer { shard: 0, status: Ok(status) }
}

#[test]
fn all_some_or_none_record() {
    use CameraState::{Disconnected, Recording as Records, Suspended};
    let fixture = fixture();
    let valid = fixture.valid();
    let of = |cameras: &[(&str, CameraState)]| finding(&valid, true, &[answer(&fixture, cameras)], SEGMENT);
    let (all, count) = of(&[("hal", Records), ("kassa", Records)]);
    assert!(all.is_true() && count == 2);
    let (some, count) = of(&[("hal", Records), ("kassa", Disconnected)]);
    assert_eq!((some.reason, count), (Reason::SomeSilent, 1));
    assert_eq!(some.message, "1 of 2 cameras record; not: kassa (Disconnected)");
    let (covered, count) = of(&[("hal", Records), ("kassa", Suspended)]);
    assert_eq!((covered.reason, count), (Reason::Suspended, 1));
    let (both, _) = of(&[("hal", Disconnected), ("kassa", Suspended)]);
    assert_eq!(both.reason, Reason::SomeSilent);
    let (none, count) = of(&[("hal", Disconnected), ("kassa", Disconnected)]);
    assert_eq!((none.reason, none.truth, count), (Reason::Disconnected, Truth::False, 0));
}

#[test]
fn what_cannot_be_asked_is_unknown() {
    let valid = fixture().valid();
    let silent = Answer { shard: 0, status: Err(RecorderError::Unreachable) };
    let (unknown, count) = finding(&valid, true, &[silent], SEGMENT);
    assert_eq!((unknown.truth, unknown.reason, count), (Truth::Unknown, Reason::RecorderNotReady, 0));
}

#[test]
fn why_nothing_is_recorded_is_said() {
    let mut fixture = fixture();
    assert_eq!(finding(&fixture.valid(), false, &[], SEGMENT).0.reason, Reason::DependsOn);
    fixture.site.spec.notices = None;
    assert_eq!(finding(&fixture.valid(), true, &[], SEGMENT).0.reason, Reason::DependsOn);
    fixture.found.cameras.clear();
    assert_eq!(finding(&fixture.valid(), true, &[], SEGMENT).0.reason, Reason::NoCameras);
}

#[test]
fn a_recorder_lags_until_it_follows_the_newest_configuration() {
    let fixture = fixture();
    let good = answer(&fixture, &[]);
    assert_eq!(lagging(std::slice::from_ref(&good), "new"), None);
    assert!(lagging(std::slice::from_ref(&good), "newer").unwrap().contains("does not follow"));
    let refusing = Answer {
        status: good.status.map(|status| RecorderStatus {
            refused: Some(RefusedConfig { revision: Some("newer".into()), message: "too new".into() }),
            ..status
        }),
        shard: 1,
    };
    assert_eq!(lagging(&[refusing], "newer").unwrap(), "recorder 1 refuses its configuration: too new");
    assert!(lagging(&[Answer { shard: 0, status: Err(RecorderError::NoAddress) }], "new").is_some());
}
