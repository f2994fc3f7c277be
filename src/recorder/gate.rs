//! When a camera may record (articles 1, 5, 7, 8 and 11): a pure function of the windows in the
//! configuration and an instant, so that the recorder keeps to them with the operator dead or alive.

use jiff::Timestamp;

use crate::contract::{CameraConfig, GapCause, Window};

/// Whether a camera may record, and until when that answer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gate {
    /// Why it may not; `None`: it may.
    pub closed: Option<GapCause>,
    /// When the answer changes; `None`: never.
    pub until: Option<Timestamp>,
}

/// The gate of a camera at an instant.
pub fn at(camera: &CameraConfig, now: Timestamp) -> Gate {
    let closed = closed(camera, now);
    let mut changes: Vec<Timestamp> = camera
        .permitted
        .iter()
        .chain(&camera.suspended)
        .flat_map(|window| [Some(window.from), window.until])
        .flatten()
        .filter(|change| *change > now)
        .collect();
    changes.sort_unstable();
    // Where two windows touch nothing changes: a recording is not to be cut there.
    Gate { closed, until: changes.into_iter().find(|change| self::closed(camera, *change) != closed) }
}

/// Why the camera may not record at an instant; `None`: it may.
pub fn closed(camera: &CameraConfig, now: Timestamp) -> Option<GapCause> {
    if !any(&camera.permitted, now) {
        Some(GapCause::NotPermitted)
    } else if any(&camera.suspended, now) {
        Some(GapCause::Suspended)
    } else {
        None
    }
}

fn any(windows: &[Window], now: Timestamp) -> bool {
    windows.iter().any(|window| window.from <= now && window.until.is_none_or(|until| now < until))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::contract::Secret;

    fn second(n: i64) -> Timestamp {
        Timestamp::from_second(n).unwrap()
    }

    fn camera(permitted: Vec<Window>, suspended: Vec<Window>) -> CameraConfig {
        CameraConfig {
            name: "receptie".into(),
            shard: 0,
            url: Secret::new("rtsp://192.0.2.1/"),
            login: None,
            allow_basic: false,
            ca_pem: None,
            permitted,
            suspended,
        }
    }

    fn window(from: i64, until: Option<i64>) -> Window {
        Window { from: second(from), until: until.map(second) }
    }

    #[test]
    fn opens_and_closes_at_the_instant() {
        let camera = camera(vec![window(10, Some(20)), window(20, None)], vec![window(30, Some(40))]);
        let closed = |cause, until| Gate { closed: Some(cause), until: Some(second(until)) };
        assert_eq!(at(&camera, second(9)), closed(GapCause::NotPermitted, 10));
        assert_eq!(at(&camera, second(10)), Gate { closed: None, until: Some(second(30)) });
        assert_eq!(at(&camera, second(30)), closed(GapCause::Suspended, 40));
        assert_eq!(at(&camera, second(40)), Gate { closed: None, until: None });
    }

    #[test]
    fn nothing_permitted_is_never() {
        let gate = at(&camera(vec![], vec![]), second(0));
        assert_eq!(gate, Gate { closed: Some(GapCause::NotPermitted), until: None });
    }

    fn windows() -> impl Strategy<Value = Vec<Window>> {
        proptest::collection::vec((0_i64..60, proptest::option::of(0_i64..60)), 0..5)
            .prop_map(|all| all.into_iter().map(|(from, until)| window(from, until)).collect())
    }

    proptest! {
        #[test]
        fn the_answer_holds_exactly_until_it_says(permitted in windows(), suspended in windows(), now in 0_i64..60) {
            let camera = camera(permitted, suspended);
            let gate = at(&camera, second(now));
            for later in now..70 {
                let same = closed(&camera, second(later)) == gate.closed;
                match gate.until {
                    Some(until) if second(later) == until => { prop_assert!(!same); break; }
                    _ => prop_assert!(same),
                }
            }
        }
    }
}
