//! Restarts of recorders that a fault of the schedule explains, with their longest duration and what they may lose.
//!
//! A recorder that ends for any other reason explains nothing: an operator that restarts recorders without a reason loses frames
//! here without a cause.

use std::collections::BTreeSet;

use super::footage::Run;
use super::inject::Fault;
use super::plan::{Ending, Kind};
use super::spans::{Span, end_of, is_overlapping, seconds, span, time, undisturbed, widened};
use super::world::{ChaosCamera, SITES};

/// Longest time from a fault to the end of its recorders, as the watch of the pods shows it.
const NOTICE: f64 = 30.0;
/// Longest outage of a pod: its grace period of a minute, and the start of the next one.
const MAX_OUTAGE: f64 = 120.0;
/// Longest time after which a camera moves that must move.
const MAX_MOVE: f64 = 180.0;
/// Time between two queries of a recorder by the operator. It reports a move no sooner.
const QUERY: f64 = 16.0;
/// Grace period of a pod.
const GRACE: f64 = 60.0;
/// Longest time after a fault of the store in which segments still wait: a rejected one waits a minute.
const BACKLOG: f64 = 60.0;

/// A period in which a fault explains that a camera has no recorder.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Restart {
    pub span: Span,
    /// Seconds of recordings before it that may be lost with the disk of the pod.
    pub loss: f64,
}

impl Run<'_> {
    /// Returns the restarts of a camera's recorders that faults explain.
    pub fn restarts(&self, camera: &ChaosCamera) -> Vec<Restart> {
        let pods = self.reports.pod_of.get(&camera.name).map(Vec::as_slice).unwrap_or_default();
        let mut restarts = Vec::new();
        for pod in pods.iter().map(|(_, pod)| pod).collect::<BTreeSet<_>>() {
            for outage in self.outages(pod) {
                restarts.extend(self.endings(camera).filter_map(|(fault, ending)| {
                    let span = self.explained(camera, pod, outage, fault, ending)?;
                    Some(Restart { span, loss: self.loss(camera, ending, span[0]) })
                }));
            }
        }
        for (at, _) in pods.iter().skip(1) {
            let at = seconds(*at, self.epoch);
            let is_caused = self.endings(camera).any(|(fault, ending)| {
                let is_move = matches!(ending, Ending::Moved | Ending::NodeLost);
                is_move && self.follows(camera, fault, at, MAX_MOVE, &self.delays(camera, true, true))
            });
            if is_caused {
                restarts.push(Restart { span: [at - 2.0 * QUERY, at + QUERY], loss: 0.0 });
            }
        }
        // A node may come back before Kubernetes notices its loss.
        let lost = self.effects(camera, |kind| kind == Kind::NodeKilled);
        restarts.extend(lost.into_iter().map(|span| Restart { span, loss: 0.0 }));
        restarts
    }

    /// Returns the periods in which a pod was away, each as a whole.
    fn outages(&self, pod: &str) -> Vec<Span> {
        let states = self.reports.pod_outages(pod, time(self.period[1], self.epoch));
        let mut outages: Vec<Span> = Vec::new();
        for state in states.into_iter().map(|times| span(times, self.epoch)) {
            match outages.last_mut().filter(|last| state[0] <= last[1] + 1.0) {
                Some(last) => last[1] = last[1].max(state[1]),
                None => outages.push(state),
            }
        }
        outages
    }

    /// Returns whether a pod of a camera's site went in `period`. Which one recorded the camera may be in no status.
    pub fn is_pod_lost(&self, camera: &ChaosCamera, period: Span) -> bool {
        let prefix = format!("{}-recorder-", SITES[camera.site as usize]);
        let mut pods = self.reports.pods.keys().filter(|pod| pod.starts_with(&prefix));
        pods.any(|pod| {
            self.outages(pod).iter().any(|outage| is_overlapping([outage[0], outage[0] + 0.1], period))
        })
    }

    fn endings(&self, camera: &ChaosCamera) -> impl Iterator<Item = (&Fault, Ending)> {
        let of_camera = self.faults.iter().filter(|fault| fault.touches(camera));
        of_camera.filter_map(|fault| Some((fault, fault.planned.kind.ending()?)))
    }

    /// Returns the part of a pod's outage that a fault explains.
    fn explained(
        &self,
        camera: &ChaosCamera,
        pod: &str,
        outage: Span,
        fault: &Fault,
        ending: Ending,
    ) -> Option<Span> {
        let from = outage[0].max(self.effect(fault)[0] - 2.0);
        let is_of_pod = || fault.note.split(':').next() == Some(pod);
        let is_soon = || self.follows(camera, fault, from, NOTICE, &self.delays(camera, false, false));
        let (is_caused, needs_operator) = match ending {
            Ending::Killed | Ending::PodTerminated | Ending::PodRemoved => (is_of_pod() && is_soon(), false),
            Ending::AllTerminated => (is_soon(), true),
            Ending::Replaced => {
                let times = [outage[0] - 1.0, outage[1] + 1.0].map(|second| time(second, self.epoch));
                (self.reports.has_other_template(pod, times), false)
            }
            Ending::NodeLost => (is_soon(), false),
            Ending::Moved => (false, false),
        };
        let until = end_of(from, MAX_OUTAGE, &self.delays(camera, needs_operator, false)).min(outage[1]);
        (is_caused && from < until).then_some([from, until])
    }

    /// Returns whether `at` is during a fault, or within `limit` after it. Delays do not count.
    fn follows(&self, camera: &ChaosCamera, fault: &Fault, at: f64, limit: f64, delays: &[Span]) -> bool {
        let [began, ended] = self.effect(fault);
        debug_assert!(fault.touches(camera));
        at >= began - 2.0 && undisturbed([ended, at], delays) <= limit
    }

    /// Returns the periods in which a replacement of a camera's pod cannot proceed.
    fn delays(&self, camera: &ChaosCamera, needs_operator: bool, needs_store: bool) -> Vec<Span> {
        let of = |kinds: &[Kind], after: f64| {
            let effects = self.effects(camera, |kind| kinds.contains(&kind));
            effects.into_iter().map(move |effect| widened(effect, 1.0, after))
        };
        let mut delays: Vec<Span> =
            of(&[Kind::ApiRestarted], 30.0).chain(of(&[Kind::NodeKilled, Kind::NodeCut], 60.0)).collect();
        if needs_operator {
            delays.extend(self.operator_outages());
        }
        if needs_store {
            let waiting = self.effects(camera, Kind::stops_uploads);
            delays.extend(waiting.into_iter().map(|effect| widened(effect, 0.0, BACKLOG)));
        }
        delays
    }

    /// Returns the seconds of recordings that a restart at `at` may cost: nothing on a volume, or if the disk of the pod stays.
    /// Otherwise the store may have no copy of them, by docs/concepts/recording.md. A hold changes nothing about that.
    fn loss(&self, camera: &ChaosCamera, ending: Ending, at: f64) -> f64 {
        let has_volume = camera.site == 0;
        let is_uploading = !self
            .effects(camera, |kind| kind.stops_uploads() || kind == Kind::NodeKilled)
            .into_iter()
            .any(|effect| is_overlapping(widened(effect, 0.0, BACKLOG), [at, at + GRACE]));
        match ending {
            _ if has_volume => 0.0,
            Ending::PodRemoved => self.waiting(camera, [at, at]),
            Ending::PodTerminated | Ending::AllTerminated if !is_uploading => self.waiting(camera, [at, at]),
            Ending::Replaced if !is_uploading => self.open(),
            _ => 0.0,
        }
    }

    /// Returns the seconds that an open segment has, and one whose upload just began.
    fn open(&self) -> f64 {
        f64::from(self.segment_seconds) + 10.0
    }

    /// Returns the seconds of recordings without a copy at the store: the open segment, and all that wait while the store takes
    /// none.
    pub fn waiting(&self, camera: &ChaosCamera, at: Span) -> f64 {
        let near = widened(at, 0.001, 0.001);
        let waiting = self.effects(camera, Kind::stops_uploads);
        let longest = waiting.iter().filter(|effect| is_overlapping(widened(**effect, 0.0, BACKLOG), near));
        self.open() + longest.map(|effect| effect[1] - effect[0] + BACKLOG).sum::<f64>()
    }
}
