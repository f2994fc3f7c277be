//! Cameras that a fault adds: each is recorded soon, or something kept it from that.

use super::footage::Run;
use super::plan::Kind;
use super::spans::{Span, span, time, undisturbed, widened};
use super::world::{ChaosCamera, SITES};

/// Longest undisturbed time from the creation of a Camera to its first frame in the bucket.
const MAX_START: f64 = 40.0;
/// Longest time after an operator is back in which the Camera still waits for it.
const TAKEOVER: f64 = 30.0;
/// Longest pause between two attempts to connect, and the attempt.
const RECONNECTION: f64 = 75.0;
/// Longest outage of a pod that is not gone permanently, and its first connections.
const MAX_OUTAGE: f64 = 120.0;
const CONNECTION: f64 = 20.0;

impl Run<'_> {
    /// Returns that a camera that existed in a period was recorded late, or never. `first`: its first frame.
    pub fn late_start(
        &self,
        camera: &ChaosCamera,
        [from, until]: Span,
        first: Option<f64>,
    ) -> Option<String> {
        let waited = [from, first.unwrap_or(until)];
        let seconds = undisturbed(waited, &self.start_delays(camera));
        let found = if first.is_some() { "its first frame" } else { "no frame" };
        (seconds > MAX_START).then(|| {
            format!("{}: {found} in {:.0} s, {seconds:.0} of them undisturbed", camera.name, waited[1] - from)
        })
    }

    /// Returns the periods in which a new camera need not begin to be recorded.
    fn start_delays(&self, camera: &ChaosCamera) -> Vec<Span> {
        let effects = |is_of: fn(Kind) -> bool, after: f64| {
            self.effects(camera, is_of).into_iter().map(move |effect| widened(effect, 1.0, after))
        };
        let is_of_camera = |kind: Kind| {
            matches!(
                kind,
                Kind::CamerasOff
                    | Kind::CamerasHang
                    | Kind::CameraPasswordWrong
                    | Kind::CameraSecretRecreated
            )
        };
        let is_of_node = |kind: Kind| matches!(kind, Kind::NodeKilled | Kind::NodeCut);
        let prefix = format!("{}-recorder-", SITES[camera.site as usize]);
        let end = time(self.period[1], self.epoch);
        let pods = self.reports.pods.keys().filter(|pod| pod.starts_with(&prefix));
        let outages = pods.flat_map(|pod| self.reports.pod_outages(pod, end)).map(|times| {
            let [from, until] = span(times, self.epoch);
            [from - 1.0, until.min(from + MAX_OUTAGE) + CONNECTION]
        });
        effects(Kind::stops_operator, TAKEOVER)
            .chain(effects(is_of_camera, RECONNECTION))
            .chain(effects(is_of_node, RECONNECTION))
            .chain(outages)
            .collect()
    }
}

/// The check can fail.
#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::super::chronicle::Reports;
    use super::super::inject::Fault;
    use super::super::plan::Planned;
    use super::*;

    #[test]
    fn added_camera_that_is_not_recorded_is_a_problem() {
        let epoch = Timestamp::from_second(1_800_000_000).unwrap();
        let camera = ChaosCamera { name: "added-1".into(), site: 1, group: 1, path: "h264/1".into() };
        let fault = |kind: Kind, target: u32, period: Span| {
            let planned = Planned { at: 0, lasts: 1, kind, target, choice: 0 };
            let mut fault = Fault::at(planned, period.map(|second| time(second, epoch)));
            fault.cameras = vec![camera.clone()];
            fault
        };
        let added = fault(Kind::CameraAdded, 1, [100.0, 190.0]);
        let is_late = |first: Option<f64>, more: &[Fault]| {
            let faults = [std::slice::from_ref(&added), more].concat();
            let reports = Reports::default();
            let (segment_seconds, period) = (6, [0.0, 600.0]);
            let run = Run { epoch, reports: &reports, faults: &faults, segment_seconds, period };
            run.late_start(&camera, [100.0, 190.0], first).is_some()
        };
        assert!(is_late(None, &[]), "never");
        assert!(is_late(Some(150.0), &[]));
        assert!(!is_late(Some(110.0), &[]));
        assert!(!is_late(None, &[fault(Kind::CamerasOff, 1, [90.0, 140.0])]));
        assert!(is_late(None, &[fault(Kind::CamerasOff, 0, [90.0, 140.0])]), "other cameras");
        assert!(!is_late(None, &[fault(Kind::OperatorKilled, 0, [105.0, 125.0])]));
        assert!(is_late(None, &[fault(Kind::StoreAway, 1, [90.0, 190.0])]), "the spool has room");
    }
}
