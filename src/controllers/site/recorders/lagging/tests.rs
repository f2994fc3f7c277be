use proptest::prelude::*;

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

fn lagging(pod: &str, revision: Option<&str>, cameras: Option<&[&str]>, second: i64) -> LaggingRecorder {
    LaggingRecorder {
        pod_uid: pod.to_owned(),
        pod_name: pod.to_owned(),
        lag: if revision.is_some() { Lag::OtherRevision } else { Lag::Silent },
        revision: revision.map(str::to_owned),
        cameras: cameras.map(|names| names.iter().map(|name| (*name).to_owned()).collect()),
        since: at(second),
    }
}

/// Each row: time of an observation, the revision that the recorder reports, and the beginning of its lag.
#[test]
fn lag_lasts_until_the_recorder_follows_or_takes_another_configuration() {
    let recorders = LaggingRecorders::default();
    for (second, revision, since) in [
        (0, Some("r1"), 0),
        (30, Some("r1"), 0),
        (40, None, 0),
        (50, Some("r1"), 0),
        // It took a configuration, and there is a newer one.
        (60, Some("r2"), 60),
        (90, None, 60),
        (900, None, 60),
        // The clock was set back.
        (20, None, 20),
    ] {
        let found = recorders.note("site", vec![lagging("a", revision, None, second)], at(second));
        assert_eq!(found[0].since, at(since), "at {second}");
    }
    assert_eq!(recorders.note("another", vec![lagging("a", None, None, 900)], at(900))[0].since, at(900));
    assert_eq!(recorders.note("site", vec![lagging("b", None, None, 910)], at(910))[0].since, at(910));
    assert_eq!(
        recorders.note("site", vec![lagging("a", None, None, 920)], at(920))[0].since,
        at(920),
        "it followed"
    );
    recorders.forget("site");
    assert_eq!(recorders.note("site", vec![lagging("a", None, None, 930)], at(930))[0].since, at(930));
}

#[test]
fn overdue_recorder_is_named_for_the_cameras_that_it_had() {
    let recorders = LaggingRecorders::default();
    let note = |found: Vec<LaggingRecorder>, second| recorders.note("site", found, at(second));
    let name = |camera: &str| recorders.name_overdue("site", camera);
    note(vec![lagging("a", None, Some(&["hal"]), 0)], 0);
    note(vec![lagging("a", None, Some(&["hal"]), 59)], 59);
    assert_eq!(name("hal"), None, "it may have followed since, and the Site waits for its turn");
    note(vec![lagging("a", None, Some(&["hal"]), 60)], 60);
    assert_eq!((name("hal"), name("kassa")), (Some("a".to_owned()), None));
    // Its camera moved, and it got another, which it may have heard of.
    note(vec![lagging("a", None, Some(&["kassa"]), 61)], 61);
    assert_eq!((name("hal"), name("kassa")), (Some("a".to_owned()), Some("a".to_owned())));
    assert_eq!(name("deur"), None);
    // Those of a recorder that is to be removed are not known.
    note(vec![lagging("a", None, None, 70), lagging("b", None, None, 70)], 70);
    assert_eq!(name("deur"), Some("a".to_owned()));
    note(vec![lagging("a", None, None, 130), lagging("b", None, None, 130)], 130);
    assert_eq!(name("deur"), Some("a, b".to_owned()));
    note(Vec::new(), 140);
    assert_eq!(name("hal"), None);
}

proptest! {
    /// Whatever the clock does, a recorder that never follows and takes nothing is overdue within the grace after each observation.
    #[test]
    fn recorder_that_never_follows_is_overdue(seconds in proptest::collection::vec(0_i64..500, 1..20)) {
        let recorders = LaggingRecorders::default();
        for second in seconds {
            recorders.note("site", vec![lagging("a", Some("r1"), None, second)], at(second));
            let later = at(second) + GRACE;
            let mut again = lagging("a", Some("r1"), None, 0);
            again.since = later;
            recorders.note("site", vec![again], later);
            prop_assert_eq!(recorders.name_overdue("site", "hal"), Some("a".to_owned()));
        }
    }
}
