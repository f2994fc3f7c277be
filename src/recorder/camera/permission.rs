//! When a camera may record (articles 1, 5, 7, 8 and 11). Pure: it uses the windows in the configuration and an instant,
//! so the recorder obeys them even if the operator is down.

use std::time::Duration;

use jiff::Timestamp;

use crate::wire::{CameraConfig, GapCause, Window};

/// Longest wait for a change. The wall clock may be set during a wait, so waiting tasks check it this often.
const MAX_CHECK_INTERVAL: Duration = Duration::from_secs(10);

/// Whether a camera may record, and for how long that holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordingPermission {
    /// Reason of a denial; `None`: the camera may record.
    pub denial: Option<GapCause>,
    /// Time of the next change; `None`: no change.
    pub until: Option<Timestamp>,
}

impl RecordingPermission {
    /// Returns when to check again: a millisecond after the next change, so that it is in effect then.
    pub fn recheck_in(&self, now: Timestamp) -> Duration {
        let until = |until: Timestamp| {
            let ms = until.as_millisecond().saturating_sub(now.as_millisecond()).saturating_add(1);
            Duration::from_millis(u64::try_from(ms).unwrap_or(0))
        };
        self.until.map_or(MAX_CHECK_INTERVAL, until).min(MAX_CHECK_INTERVAL)
    }
}

pub fn recording_window(camera: &CameraConfig, now: Timestamp) -> RecordingPermission {
    let denial = denial_at(camera, now);
    let mut changes: Vec<Timestamp> = camera
        .permitted
        .iter()
        .chain(&camera.suspended)
        .flat_map(|window| [Some(window.from), window.until])
        .flatten()
        .filter(|change| *change > now)
        .collect();
    changes.sort_unstable();
    // The edge of two adjacent windows changes nothing, and must not cut a recording.
    RecordingPermission {
        denial,
        until: changes.into_iter().find(|change| denial_at(camera, *change) != denial),
    }
}

/// Returns why the camera may not record at an instant; `None`: it may.
pub fn denial_at(camera: &CameraConfig, now: Timestamp) -> Option<GapCause> {
    let is_permitted = is_within_any(&camera.permitted, now);
    match camera.denial {
        None if !is_permitted => Some(GapCause::NotPermitted),
        // Nobody misses this recording, even if the Site is not ready or the recorder is replaced.
        _ if is_within_any(&camera.suspended, now) => Some(GapCause::Suspended),
        denial => denial.filter(|_| !is_permitted),
    }
}

fn is_within_any(windows: &[Window], now: Timestamp) -> bool {
    windows.iter().any(|window| window.contains(now))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::{CameraSource, Secret};

    fn second(n: i64) -> Timestamp {
        Timestamp::from_second(n).unwrap()
    }

    fn camera(permitted: Vec<Window>, suspended: Vec<Window>) -> CameraConfig {
        CameraConfig {
            name: "receptie".into(),
            shard: 0,
            source: CameraSource {
                url: Secret::new("rtsp://192.0.2.1/"),
                login: None,
                allow_basic_auth: false,
                ca_pem: None,
            },
            permitted,
            denial: None,
            suspended,
            is_rejected: false,
        }
    }

    fn window(from: i64, until: Option<i64>) -> Window {
        Window { from: second(from), until: until.map(second) }
    }

    #[test]
    fn permission_changes_at_window_edges() {
        let camera = camera(vec![window(10, Some(20)), window(20, None)], vec![window(30, Some(40))]);
        let denied = |cause, until| RecordingPermission { denial: Some(cause), until: Some(second(until)) };
        assert_eq!(recording_window(&camera, second(9)), denied(GapCause::NotPermitted, 10));
        assert_eq!(
            recording_window(&camera, second(10)),
            RecordingPermission { denial: None, until: Some(second(30)) }
        );
        assert_eq!(recording_window(&camera, second(30)), denied(GapCause::Suspended, 40));
        assert_eq!(recording_window(&camera, second(40)), RecordingPermission { denial: None, until: None });
    }

    #[test]
    fn camera_without_permitted_windows_never_records() {
        let permission = recording_window(&camera(vec![], vec![]), second(0));
        assert_eq!(permission, RecordingPermission { denial: Some(GapCause::NotPermitted), until: None });
    }

    #[test]
    fn suspension_is_the_cause_unless_the_protocol_permits_nothing() {
        use GapCause::{NotPermitted, RecorderRestarted, SiteNotReady, Suspended};
        let (always, covered) = (vec![window(0, None)], vec![window(10, Some(20))]);
        for (permitted, denial, at, expected) in [
            (&always, None, 5, None),
            (&always, None, 15, Some(Suspended)),
            (&vec![], None, 15, Some(NotPermitted)),
            (&vec![], Some(SiteNotReady), 5, Some(SiteNotReady)),
            (&vec![], Some(SiteNotReady), 15, Some(Suspended)),
            (&vec![], Some(RecorderRestarted), 15, Some(Suspended)),
            (&vec![], Some(SiteNotReady), 20, Some(SiteNotReady)),
        ] {
            let camera = CameraConfig { denial, ..camera(permitted.clone(), covered.clone()) };
            assert_eq!(denial_at(&camera, second(at)), expected, "{denial:?} at {at}");
        }
    }

    fn windows() -> impl Strategy<Value = Vec<Window>> {
        proptest::collection::vec((0_i64..60, proptest::option::of(0_i64..60)), 0..5)
            .prop_map(|all| all.into_iter().map(|(from, until)| window(from, until)).collect())
    }

    proptest! {
        #[test]
        fn permission_holds_exactly_until_its_end(
            permitted in windows(), suspended in windows(), now in 0_i64..60,
            denial in proptest::option::of(Just(GapCause::SiteNotReady)),
        ) {
            let camera = CameraConfig { denial, ..camera(permitted, suspended) };
            let permission = recording_window(&camera, second(now));
            for later in now..70 {
                let same = denial_at(&camera, second(later)) == permission.denial;
                match permission.until {
                    Some(until) if second(later) == until => { prop_assert!(!same); break; }
                    _ => prop_assert!(same),
                }
            }
        }
    }
}
