//! Every second of a camera: in a playable segment, or in a gap with the cause of a fault that was there.

use std::collections::BTreeSet;

use jiff::Timestamp;
use toezicht::api::CameraGap;

use super::chronicle::Reports;
use super::inject::Fault;
use super::plan::Kind;
use super::restarts::Restart;
use super::spans::{Span, is_overlapping, joined, outside, seconds, span, widened, within};
use super::world::{ChaosCamera, FPS};
use crate::support::recorded::{Segment, validate};

/// Statuses have whole seconds, and keys are exact within half a second.
const SLACK: f64 = 2.0;
/// Longest hole without a gap, by docs/concepts/recording.md.
const MAX_HOLE: f64 = 2.0 + 0.5;
/// Frames that a recorder has received and not written when it is killed, with a margin.
const UNWRITTEN: f64 = 5.0;
/// Longest time by which a recorder notices a camera that sends nothing.
const FROZEN: f64 = 12.0;
/// Longest time from the end of a fault to the first frame: the longest pause between two attempts, and the attempt.
const RECONNECTION: f64 = 75.0;
/// Time between two queries of a recorder by the operator. It knows the end of a lost recording no better.
const QUERY: f64 = 16.0;
/// Longest time from the end of a fault of the operator to true statuses: another one gets the Lease after its 15 s, reads all
/// objects, and queries the recorders.
const RECOVERY: f64 = 35.0;

/// A camera's frames.
pub struct Footage {
    /// Periods without frames.
    pub missing: Vec<Span>,
    pub problems: Vec<String>,
    /// Segments with frames of another one.
    pub doubled: Vec<(Span, String)>,
    pub segments: usize,
}

/// Everything by which footage is judged.
pub struct Run<'a> {
    pub epoch: Timestamp,
    pub reports: &'a Reports,
    pub faults: &'a [Fault],
    pub segment_seconds: u32,
    /// Beginning and end of the judged period.
    pub period: Span,
}

/// Returns what is missing in a period of the frames that are numbered since the epoch.
pub fn footage(camera: &str, segments: &[Segment], [from, until]: Span) -> Footage {
    let problems = segments.iter().filter_map(|segment| validate(camera, segment).err()).collect();
    let rate = f64::from(FPS);
    #[expect(clippy::cast_precision_loss, reason = "small")]
    let second = |number: u64| number as f64 / rate;
    let (mut numbers, mut doubled) = (BTreeSet::new(), Vec::new());
    for segment in segments {
        let twice: Vec<u64> = segment
            .frames
            .iter()
            .map(|frame| frame.number)
            .filter(|number| !numbers.insert(*number))
            .collect();
        if let (Some(first), Some(last)) = (twice.first(), twice.last()) {
            let text = format!("{camera} {}: {} frames are in another segment too", segment.key, twice.len());
            doubled.push(([second(*first), second(*last)], text));
        }
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small and positive")]
    let [first, last] = [(from * rate).ceil() as u64, (until * rate).floor() as u64];
    let (mut missing, mut previous) = (Vec::new(), first);
    let last = last.max(first);
    for number in numbers.range(first..=last).copied().chain([last + 1]) {
        if number > previous + 1 {
            missing.push([second(previous), second(number)]);
        }
        previous = number;
    }
    Footage { missing, problems, doubled, segments: segments.len() }
}

impl Run<'_> {
    /// Returns the gaps of a camera in the period, with their reasons. One without a beginning begins with the footage that is
    /// missing before its end.
    fn gaps(&self, camera: &str, missing: &[Span]) -> Vec<(Span, &CameraGap)> {
        let gaps = self.reports.gaps.get(camera).map(Vec::as_slice).unwrap_or_default();
        let spans = gaps.iter().map(|gap| {
            let until = gap.until.as_ref().map_or(self.period[1], |until| seconds(until.0, self.epoch));
            let before = missing.iter().rev().find(|hole| hole[0] < until && until <= hole[1] + SLACK);
            let unknown = before.map_or(until, |hole| hole[0]);
            let from = gap.from.as_ref().map_or(unknown, |from| seconds(from.0, self.epoch));
            ([from, until], gap)
        });
        spans.filter(|(span, _)| is_overlapping(*span, self.period)).collect()
    }

    /// Returns everything that is wrong with a camera's footage.
    pub fn problems(&self, camera: &ChaosCamera, footage: &Footage) -> Vec<String> {
        let mut problems = footage.problems.clone();
        let cut = self.effects(camera, |kind| kind == Kind::NodeCut);
        let is_alone = |(span, _): &&(Span, String)| {
            // A recorder that is cut off records on beside its replacement, until it hears of that.
            !cut.iter().any(|effect| is_overlapping(widened(*effect, 0.0, QUERY), *span))
        };
        problems.extend(footage.doubled.iter().filter(is_alone).map(|(_, text)| text.clone()));
        let gaps = self.gaps(&camera.name, &footage.missing);
        for hole in &footage.missing {
            let claim = |(span, gap): &(Span, &CameraGap)| {
                widened(*span, SLACK + self.unknown_start(camera, *span, gap), SLACK)
            };
            let claimed: Vec<Span> = gaps.iter().map(claim).collect();
            let unclaimed = outside(*hole, &claimed);
            let length = hole[1] - hole[0];
            if length <= MAX_HOLE {
                if !self.is_disturbed(camera, *hole) {
                    problems.push(self.problem(camera, "frames are lost without a fault", *hole));
                }
            } else if !unclaimed.is_empty() && !self.is_unheard(camera, *hole) {
                let text = format!("{unclaimed:?} are in no segment and in no gap");
                problems.push(self.problem(camera, &text, *hole));
            }
            for (span, gap) in
                gaps.iter().filter(|(span, _)| is_overlapping(*span, widened(*hole, -SLACK, -SLACK)))
            {
                if let Some(problem) = self.wrong_cause(camera, *hole, *span, gap) {
                    problems.push(self.problem(camera, &problem, *hole));
                }
            }
        }
        for (span, gap) in &gaps {
            let missing: Vec<Span> =
                footage.missing.iter().map(|hole| widened(*hole, SLACK, SLACK)).collect();
            let span = [span[0].max(self.period[0]), span[1].min(self.period[1])];
            let recorded: f64 = outside(span, &missing).iter().map(|part| part[1] - part[0]).sum();
            if recorded > QUERY + self.doubtful(camera, span) {
                let text = format!("a gap {} claims {recorded:.1} s that are recorded", gap.reason);
                problems.push(self.problem(camera, &text, span));
            }
        }
        problems.extend(self.uncovered(camera, footage));
        problems
    }

    /// Returns whether a gap ended while nobody could ask its recorder, and may be lost with the disk of the pod since: the node was
    /// cut off, or no operator could work until the pod went.
    fn is_unheard(&self, camera: &ChaosCamera, hole: Span) -> bool {
        let has_volume = camera.site == 0;
        let cut = self.effects(camera, |kind| kind == Kind::NodeCut);
        let cut: Vec<Span> = cut.into_iter().map(|effect| widened(effect, QUERY, QUERY)).collect();
        let is_end_in = |period: &Span| period[0] < hole[1] && hole[1] < period[1];
        let unheard = joined(cut.iter().copied().chain(self.operator_outages()));
        let is_lost = |period: &Span| is_end_in(period) && self.is_pod_lost(camera, [hole[1], period[1]]);
        !has_volume && (cut.iter().any(is_end_in) || unheard.iter().any(is_lost))
    }

    fn problem(&self, camera: &ChaosCamera, text: &str, at: Span) -> String {
        let [from, until] = at.map(|second| super::spans::time(second, self.epoch));
        format!("{} from {from} to {until} ({:.1} s): {text}", camera.name, at[1] - at[0])
    }

    /// Returns the periods of the effects of faults that touch a camera.
    pub fn effects(&self, camera: &ChaosCamera, is_of: impl Fn(Kind) -> bool) -> Vec<Span> {
        let of_camera = self.faults.iter().filter(|fault| is_of(fault.planned.kind) && fault.touches(camera));
        of_camera.map(|fault| self.effect(fault)).collect()
    }

    pub fn effect(&self, fault: &Fault) -> Span {
        let ended = fault.ended.map_or(self.period[1], |ended| seconds(ended, self.epoch));
        let whole = [seconds(fault.began, self.epoch), ended];
        fault.window.map_or(whole, |window| span(window, self.epoch))
    }

    /// Returns whether a fault explains a short hole.
    fn is_disturbed(&self, camera: &ChaosCamera, hole: Span) -> bool {
        let of_camera = self.effects(camera, is_camera_fault);
        let suspensions = self.effects(camera, |kind| kind == Kind::Suspended);
        let restarts = self.restarts(camera).into_iter().map(|restart| restart.span);
        let all = restarts.chain(of_camera).chain(suspensions);
        all.into_iter().any(|effect| is_overlapping(widened(effect, FROZEN, RECONNECTION), hole))
    }

    /// Returns why a gap's reason does not fit the faults.
    fn wrong_cause(&self, camera: &ChaosCamera, hole: Span, gap: Span, status: &CameraGap) -> Option<String> {
        let start = gap[0] - self.unknown_start(camera, gap, status);
        let is_within =
            |effects: &[Span]| outside([start.max(hole[0]), gap[1].min(hole[1])], effects).is_empty();
        let is_explained = |effects: &[Span], before: f64, after: f64| {
            is_within(&effects.iter().map(|effect| widened(*effect, before, after)).collect::<Vec<_>>())
        };
        let problem = |text: &str| Some(format!("its gap {} {gap:?} {text}", status.reason));
        match status.reason.as_str() {
            "Disconnected" => {
                let effects = self.effects(camera, is_camera_fault);
                if is_explained(&effects, FROZEN, RECONNECTION) {
                    None
                } else {
                    problem("has no camera fault")
                }
            }
            "Suspended" => {
                let effects = self.effects(camera, |kind| kind == Kind::Suspended);
                if is_explained(&effects, SLACK, RECONNECTION) { None } else { problem("has no suspension") }
            }
            "RecorderRestarted" => {
                let restarts = self.restarts(camera);
                let cost = |restart: &Restart| widened(restart.span, UNWRITTEN + restart.loss, RECONNECTION);
                if !is_within(&restarts.iter().map(cost).collect::<Vec<_>>()) {
                    return problem(&format!("has no fault that may cost it: {restarts:?}"));
                }
                // Frames that the camera did not send cannot be lost with a recorder.
                let near: Vec<Span> =
                    restarts.iter().map(|restart| widened(restart.span, QUERY, RECONNECTION)).collect();
                let faults = self.effects(camera, is_camera_fault);
                let wrong: Vec<Span> =
                    outside(gap, &near).into_iter().flat_map(|part| within(part, &faults)).collect();
                if wrong.is_empty() { None } else { problem(&format!("is the camera's: {wrong:?}")) }
            }
            _ => problem("has a reason without any fault"),
        }
    }

    /// Returns the seconds before a gap that may be missing too. If the disk of a pod is lost, nobody knows whether the segment that
    /// was open was still uploaded.
    fn unknown_start(&self, camera: &ChaosCamera, gap: Span, status: &CameraGap) -> f64 {
        let is_lost = |restart: &Restart| {
            restart.loss > 0.0 && is_overlapping(widened(restart.span, restart.loss, RECONNECTION), gap)
        };
        let is_open_lost = status.reason == "RecorderRestarted" && self.restarts(camera).iter().any(is_lost);
        if is_open_lost { f64::from(self.segment_seconds) } else { 0.0 }
    }

    /// Returns the seconds of a gap that may be recorded: segments that waited in a lost spool, some of which the store had taken.
    fn doubtful(&self, camera: &ChaosCamera, gap: Span) -> f64 {
        let has_volume = camera.site == 0;
        let waiting = self.effects(camera, Kind::stops_uploads);
        let is_near = waiting.iter().any(|effect| is_overlapping(widened(*effect, 0.0, 60.0), gap));
        if is_near && !has_volume { self.waiting(camera, gap) } else { 0.0 }
    }

    /// Returns frames of the camera from within a suspension that its recorder could know.
    fn uncovered(&self, camera: &ChaosCamera, footage: &Footage) -> Vec<String> {
        let mut problems = Vec::new();
        for fault in
            self.faults.iter().filter(|fault| fault.planned.kind == Kind::Suspended && fault.touches(camera))
        {
            let window = self.effect(fault);
            let known = self.faults.iter().filter(|other| other.planned.kind.stops_operator());
            let unknown: Vec<Span> = known.map(|other| widened(self.effect(other), 15.0, 60.0)).collect();
            let inside = widened(window, -0.5, -0.5);
            for part in outside(inside, &unknown) {
                let covered: Vec<Span> = footage.missing.clone();
                let recorded: f64 = outside(part, &covered).iter().map(|part| part[1] - part[0]).sum();
                if recorded > 0.5 {
                    problems.push(self.problem(
                        camera,
                        &format!("{recorded:.1} s of a suspension are recorded"),
                        part,
                    ));
                }
            }
        }
        problems
    }

    /// Returns the seconds that are missing in all.
    pub fn missing_seconds(footage: &Footage) -> f64 {
        footage.missing.iter().map(|hole| hole[1] - hole[0]).sum()
    }

    /// Returns the parts of a period in which the operator cannot be expected to have written a status.
    pub fn operator_outages(&self) -> Vec<Span> {
        let of_operator = self.faults.iter().filter(|fault| fault.planned.kind.stops_operator());
        of_operator.map(|fault| widened(self.effect(fault), 1.0, RECOVERY)).collect()
    }

    /// Returns claims of `Recording` that the footage refutes, and denials without a disturbance.
    pub fn recording_problems(&self, camera: &ChaosCamera, footage: &Footage) -> Vec<String> {
        /// Time to notice that a camera sends nothing, to the next query, and to the write of the status.
        const LATE: f64 = FROZEN + QUERY + 12.0;
        /// The silence of a recorder is news after half a minute. With its node, an emptyDir takes what it recorded last.
        const SILENT: f64 = 30.0 + 2.0 * QUERY;
        let mut problems = Vec::new();
        let end = super::spans::time(self.period[1], self.epoch);
        let periods = |is_true: bool| -> Vec<Span> {
            let is_as = |change: &super::chronicle::Change| {
                (change.status == "True") == is_true && !change.status.is_empty()
            };
            let all = self.reports.periods("Camera", &camera.name, "Recording", end, is_as);
            all.into_iter().map(|times| span(times, self.epoch)).collect()
        };
        let operator = self.operator_outages();
        let killed = self.effects(camera, |kind| kind == Kind::NodeKilled);
        for hole in &footage.missing {
            let lost = killed.iter().filter(|effect| is_overlapping(**effect, *hole));
            let noticed = lost.map(|effect| effect[0] + SILENT).fold(hole[0] + LATE, f64::max);
            let claimed = within([noticed, hole[1]], &periods(true));
            let wrong: Vec<Span> = claimed.into_iter().flat_map(|part| outside(part, &operator)).collect();
            if wrong.iter().any(|part| part[1] - part[0] > 1.0) {
                problems.push(self.problem(
                    camera,
                    &format!("Recording=True without frames at {wrong:?}"),
                    *hole,
                ));
            }
        }
        let upload = 3.0 * f64::from(self.segment_seconds) + 60.0 + QUERY;
        let quiet = |effects: Vec<Span>| effects.into_iter().map(move |effect| widened(effect, 2.0, upload));
        let is_disturbing = |kind: Kind| {
            is_camera_fault(kind)
                || kind.stops_uploads()
                || matches!(kind, Kind::Suspended | Kind::NodeCut | Kind::NodeKilled)
        };
        let restarts = self.restarts(camera).into_iter().map(|restart| restart.span).collect();
        let disturbed: Vec<Span> = quiet(restarts)
            .chain(quiet(self.effects(camera, is_disturbing)))
            .chain(operator.iter().map(|outage| widened(*outage, 0.0, QUERY)))
            .collect();
        for denied in periods(false) {
            let part = [denied[0].max(self.period[0]), denied[1].min(self.period[1])];
            let wrong: Vec<Span> = outside(part, &disturbed);
            if wrong.iter().any(|part| part[1] - part[0] > 5.0) {
                problems.push(self.problem(
                    camera,
                    "Recording is not True, and nothing disturbs the camera",
                    part,
                ));
            }
        }
        problems
    }
}

const fn is_camera_fault(kind: Kind) -> bool {
    matches!(kind, Kind::CamerasOff | Kind::CamerasHang | Kind::CameraPasswordWrong | Kind::CameraAdded)
}

/// Each check can fail.
#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::super::chronicle::PodState;
    use super::super::plan::Planned;
    use super::super::spans::time;
    use super::*;

    fn epoch() -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap()
    }

    fn camera(site: u32) -> ChaosCamera {
        ChaosCamera { name: "hal".into(), site, group: site, path: "h264/0".into() }
    }

    fn fault(kind: Kind, [from, until]: Span) -> Fault {
        let planned = Planned { at: 0, lasts: 1, kind, target: 0, choice: 0 };
        Fault::at(planned, [from, until].map(|second| time(second, epoch())))
    }

    fn gap(reason: &str, from: Option<f64>, until: f64) -> CameraGap {
        let at = |second| Time(time(second, epoch()));
        CameraGap { reason: reason.into(), from: from.map(at), until: Some(at(until)) }
    }

    /// Reports of a camera whose pod was away in these periods.
    fn reports(gaps: Vec<CameraGap>, outages: &[Span]) -> Reports {
        let mut reports = Reports::default();
        reports.gaps.insert("hal".into(), gaps);
        reports.pod_of.insert("hal".into(), vec![(epoch(), "pod-0".into())]);
        let state = |started: f64, is_ready| PodState {
            uid: format!("{started}"),
            is_ready,
            started: is_ready.then(|| time(started, epoch())),
            is_ending: false,
            is_gone: false,
            template: "image-1".into(),
        };
        let mut states = vec![(epoch(), state(0.0, true))];
        for [from, until] in outages {
            states.push((time(*from, epoch()), state(*from, false)));
            states.push((time(*until, epoch()), state(*until, true)));
        }
        reports.pods.insert("pod-0".into(), states);
        reports
    }

    /// Returns a fault of the camera's pod, or of all pods of its site.
    fn restart(kind: Kind, site: u32, at: f64) -> Fault {
        let mut fault = fault(kind, [at, at]);
        fault.planned.target = site;
        fault.note = "pod-0".into();
        fault
    }

    fn problems(
        site: u32,
        missing: &[Span],
        gaps: Vec<CameraGap>,
        outages: &[Span],
        faults: &[Fault],
    ) -> usize {
        let reports = reports(gaps, outages);
        let run = Run { epoch: epoch(), reports: &reports, faults, segment_seconds: 6, period: [0.0, 600.0] };
        let footage = Footage { missing: missing.to_vec(), problems: vec![], doubled: vec![], segments: 1 };
        run.problems(&camera(site), &footage).len()
    }

    #[test]
    fn missing_seconds_need_a_gap_with_the_cause_of_a_fault() {
        let off = [fault(Kind::CamerasOff, [100.0, 120.0])];
        let disconnected = || vec![gap("Disconnected", Some(100.0), 125.0)];
        let hole = [[100.2, 125.4]];
        assert_eq!(problems(0, &hole, disconnected(), &[], &off), 0);
        assert_eq!(problems(0, &hole, vec![], &[], &off), 1, "no gap");
        assert_eq!(problems(0, &[[90.0, 125.4]], disconnected(), &[], &off), 1, "an unclaimed part");
        assert_eq!(problems(0, &hole, disconnected(), &[], &[]), 1, "no fault");
        assert_eq!(problems(0, &hole, vec![gap("NotPermitted", Some(100.0), 125.0)], &[], &off), 1);
        assert_eq!(problems(0, &[], disconnected(), &[], &off), 1, "the claimed seconds are recorded");
        assert_eq!(problems(0, &[[300.0, 301.0]], vec![], &[], &off), 1, "a short loss without a fault");
    }

    #[test]
    fn only_a_fault_of_the_pod_explains_that_it_was_away() {
        let restarted = || vec![gap("RecorderRestarted", Some(99.0), 110.0)];
        let (hole, outage) = ([[99.0, 110.0]], [[100.0, 108.0]]);
        let count = |outages: &[Span], faults: &[Fault]| problems(0, &hole, restarted(), outages, faults);
        for kind in [Kind::RecorderKilled, Kind::PodDeleted, Kind::PodForceDeleted, Kind::PodEvicted] {
            assert_eq!(count(&outage, &[restart(kind, 0, 99.0)]), 0, "{kind:?}");
            assert_eq!(count(&outage, &[restart(kind, 0, 60.0)]), 1, "{kind:?}, too early");
            assert_eq!(count(&outage, &[restart(kind, 0, 130.0)]), 1, "{kind:?}, too late");
            assert_eq!(count(&outage, &[restart(kind, 1, 99.0)]), 1, "{kind:?} of another site");
            let mut other = restart(kind, 0, 99.0);
            other.note = "pod-1".into();
            assert_eq!(count(&outage, &[other]), 1, "{kind:?} of another pod");
        }
        assert_eq!(count(&outage, &[]), 1, "a restart without a reason");
        assert_eq!(count(&[], &[restart(Kind::PodDeleted, 0, 99.0)]), 1, "no pod was away");
        let other_kinds = [Kind::StoreAway, Kind::PolicyEdited, Kind::OperatorKilled, Kind::TemplateChanged];
        let others = other_kinds.map(|kind| restart(kind, 0, 99.0));
        assert_eq!(count(&outage, &others), 1, "none of them restarts a recorder with the same template");
        assert_eq!(problems(0, &[[100.0, 101.0]], vec![], &[[100.0, 101.0]], &[]), 1, "nor a short one");
    }

    #[test]
    fn pod_that_stays_away_for_minutes_is_not_explained() {
        let deleted = [restart(Kind::PodDeleted, 0, 100.0)];
        let until = |end: f64| {
            let gaps = vec![gap("RecorderRestarted", Some(100.0), end)];
            problems(0, &[[100.0, end]], gaps, &[[100.0, end]], &deleted)
        };
        assert_eq!([until(190.0), until(330.0)], [0, 1]);
        // Only the operator restores a StatefulSet.
        let stopped = |kind: Kind| {
            let faults = [restart(kind, 0, 100.0), restart(Kind::OperatorKilled, 0, 110.0)];
            let gaps = vec![gap("RecorderRestarted", Some(100.0), 340.0)];
            let mut faults = faults;
            faults[1].ended = Some(time(150.0, epoch()));
            problems(0, &[[100.0, 340.0]], gaps, &[[100.0, 340.0]], &faults)
        };
        assert_eq!([stopped(Kind::WorkloadDeleted), stopped(Kind::PodDeleted)], [0, 1]);
    }

    #[test]
    fn replaced_pod_needs_another_template() {
        let mut reports = reports(vec![gap("RecorderRestarted", Some(99.0), 110.0)], &[[100.0, 108.0]]);
        let faults = [restart(Kind::TemplateChanged, 0, 20.0)];
        let footage =
            Footage { missing: vec![[99.0, 110.0]], problems: vec![], doubled: vec![], segments: 1 };
        let count = |reports: &Reports, faults: &[Fault]| {
            let run = Run { epoch: epoch(), reports, faults, segment_seconds: 6, period: [0.0, 600.0] };
            run.problems(&camera(0), &footage).len()
        };
        assert_eq!(count(&reports, &faults), 1, "restarted with the same template");
        reports.pods.get_mut("pod-0").unwrap()[2].1.template = "image-2".into();
        assert_eq!(count(&reports, &faults), 0);
        assert_eq!(count(&reports, &[]), 1, "nobody asked for another template");
    }

    #[test]
    fn only_a_disk_that_goes_at_once_loses_recordings() {
        let outage = [[100.0, 108.0]];
        let count = |site: u32, from: f64, faults: &[Fault]| {
            let gaps = vec![gap("RecorderRestarted", Some(from), 110.0)];
            problems(site, &[[from, 110.0]], gaps, &outage, faults)
        };
        // The open segment of six seconds, and then one more.
        let removed = restart(Kind::PodForceDeleted, 1, 100.0);
        assert_eq!(count(1, 86.0, std::slice::from_ref(&removed)), 0);
        assert_eq!(count(1, 70.0, std::slice::from_ref(&removed)), 1, "more than the open segment");
        assert_eq!(count(0, 86.0, &[restart(Kind::PodForceDeleted, 0, 100.0)]), 1, "a volume stays");
        for kind in [Kind::RecorderKilled, Kind::PodDeleted, Kind::PodEvicted, Kind::WorkloadScaled] {
            assert_eq!(count(1, 96.0, &[restart(kind, 1, 100.0)]), 0, "{kind:?}");
            assert_eq!(count(1, 86.0, &[restart(kind, 1, 100.0)]), 1, "{kind:?}");
        }
        // The store takes nothing while the pod ends.
        let away = |target: u32| {
            let mut away = fault(Kind::StoreAway, [60.0, 170.0]);
            away.planned.target = target;
            away
        };
        assert_eq!(count(1, 70.0, &[restart(Kind::PodDeleted, 1, 100.0), away(1)]), 0);
        assert_eq!(count(1, 70.0, &[restart(Kind::PodDeleted, 1, 100.0), away(0)]), 1, "another store");
        assert_eq!(count(1, 70.0, &[restart(Kind::RecorderKilled, 1, 100.0), away(1)]), 1, "its disk stays");
        assert_eq!(count(0, 70.0, &[restart(Kind::PodDeleted, 0, 100.0), away(0)]), 1, "a volume stays");
        let mut off = fault(Kind::CamerasOff, [70.0, 95.0]);
        off.planned.target = 1;
        assert_eq!(count(1, 80.0, &[removed, off]), 1, "the camera was off");
    }

    #[test]
    fn suspensions_are_neither_recorded_nor_longer() {
        let mut suspended = fault(Kind::Suspended, [90.0, 130.0]);
        suspended.cameras = vec![camera(0)];
        suspended.window = Some([100.0, 130.0].map(|second| time(second, epoch())));
        let (faults, gaps) = ([suspended], || vec![gap("Suspended", Some(100.0), 131.0)]);
        assert_eq!(problems(0, &[[100.0, 131.0]], gaps(), &[], &faults), 0);
        assert_eq!(problems(0, &[[104.0, 131.0]], gaps(), &[], &faults), 1, "four seconds are recorded");
        let early = vec![gap("Suspended", Some(80.0), 131.0)];
        assert_eq!(problems(0, &[[80.0, 131.0]], early, &[], &faults), 1);
    }
}
