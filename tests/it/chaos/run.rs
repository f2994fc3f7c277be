//! A run: faults by the schedule, then rest, then the judgement.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

use super::bucket_watch::{BucketWatch, DeclaredHold};
use super::chronicle::{Change, Chronicle, Reports};
use super::configuration::unreported_drift;
use super::footage::{Footage, Run, footage};
use super::holds;
use super::inject::{Fault, begin, end, unnoticed_keys};
use super::plan::{Kind, Object, Planned, READ_BACK_SECONDS};
use super::spans::{Span, outside, seconds, span, undisturbed, widened, within};
use super::watchdog::{Shared, Watchdog, read};
use super::world::{ChaosCamera, SITES, World, second_node};
use crate::support::cluster::TestNamespace;
use crate::support::pod;
use crate::support::recorded::{Segment, segments};

/// Longest time in which everything is well again after the last fault.
pub const REST: Duration = Duration::from_secs(300);
/// Longest time in seconds to wait for the operator to revert a change of a bucket.
const MAX_DRIFT: u32 = READ_BACK_SECONDS + 300;
/// Longest time for the begin or the end of a fault.
const STEP_TIMEOUT: Duration = Duration::from_mins(5);
/// Longest time in which a fault of a pod may stay unnoticed in the Site's `Ready`.
const READY_DELAY: f64 = 45.0;
/// Longest time after a suspension's edge in which `Permitted` may be as before.
const PERMITTED_DELAY: f64 = 10.0;

pub struct RunSettings {
    pub seed: u64,
    pub plan: Vec<Planned>,
    pub seconds: u32,
    pub groups: u32,
    pub cameras_per_codec: u32,
    pub segment_seconds: u32,
    /// The second site is on a node of its own.
    pub has_second_node: bool,
    pub folder: PathBuf,
}

/// Runs the schedule, and panics with everything that is wrong.
pub async fn run(namespace: TestNamespace, settings: RunSettings) {
    let RunSettings { seed, plan, seconds, folder, .. } = &settings;
    let _ = std::fs::remove_dir_all(folder);
    std::fs::create_dir_all(folder).unwrap();
    let lines: Vec<String> = plan.iter().map(ToString::to_string).collect();
    println!("seed {seed}, {seconds} s, {} faults:\n{}", plan.len(), lines.join("\n"));
    std::fs::write(folder.join("schedule"), lines.join("\n")).unwrap();

    let chronicle = Chronicle::start(&namespace, folder);
    let shared = Shared::new(chronicle, &namespace.name, folder);
    let began = Instant::now();
    let mut world = World::new(
        namespace,
        folder,
        settings.groups,
        settings.cameras_per_codec,
        settings.segment_seconds,
        settings.has_second_node,
    )
    .await;
    println!("{} cameras record after {:?}", world.cameras.len(), began.elapsed());
    let buckets = (0..2).map(|site| BucketWatch::new(site, &world.sites[site as usize].bucket)).collect();
    let watchdog = Watchdog::start(Arc::clone(&shared), buckets);
    let from = Timestamp::now();
    disturb(&mut world, &shared, &settings).await;
    let disturbed_until = Timestamp::now();
    rest(&mut world, &shared).await;
    let until = Timestamp::now();
    wait_for_uploads(&world, &shared, until).await;
    let mut buckets = watchdog.stop().await;
    for bucket in &mut buckets {
        read(&shared, bucket).await;
    }
    holds::check_at_end(&shared, &buckets).await;
    shared.copy_objects("end").await;
    holds::release(&mut world, &shared, &mut buckets).await;
    check_configurations_at_end(&world, &shared, &buckets).await;
    world.stop_operators().await;
    for process in &world.operators.ended {
        let _ = std::fs::copy(&process.log, folder.join(format!("operator-{}.log", process.instance)));
    }
    println!("{} faults until {disturbed_until}; judging", plan.len());
    judge(&world, &shared, [from, until]).await;
    let problems = shared.problems();
    std::fs::write(folder.join("problems"), problems.join("\n")).unwrap();
    assert!(
        problems.is_empty(),
        "seed {seed}: {} problems; the schedule and the evidence are in {}:\n{}",
        problems.len(),
        folder.display(),
        problems.join("\n")
    );
    world.volumes.delete().await;
    if settings.has_second_node {
        second_node("down").await;
    }
}

/// Begins and ends the faults, declares two holds, and prints a line each minute.
async fn disturb(world: &mut World, shared: &Shared, settings: &RunSettings) {
    let start = Instant::now();
    let elapsed = || u32::try_from(start.elapsed().as_secs()).unwrap();
    let mut pending = settings.plan.iter().copied().peekable();
    let (mut minute, mut declared) = (0, 0);
    loop {
        let now = elapsed();
        // Nothing else can begin or end meanwhile: it would wait for the API server, and the end of this fault for it.
        let stops_api = |fault: &Fault| fault.planned.kind == Kind::ApiRestarted && fault.ended.is_none();
        let is_api_stopped = shared.faults().iter().any(stops_api);
        let over: Vec<usize> = {
            let faults = shared.faults();
            let is_over = |fault: &Fault| {
                // The operator ends it, and the watchdog notes that.
                let is_drift = fault.planned.kind.is_drift();
                let end = fault.planned.at + if is_drift { MAX_DRIFT } else { fault.planned.lasts };
                fault.ended.is_none() && end <= if is_drift { now } else { now.min(settings.seconds) }
            };
            let over = |fault: &Fault| is_over(fault) && (!is_api_stopped || stops_api(fault));
            faults.iter().enumerate().filter(|(_, fault)| over(fault)).map(|(index, _)| index).collect()
        };
        for index in over {
            let mut fault = shared.faults()[index].clone();
            let planned = fault.planned;
            in_time(&planned, end(world, &mut fault)).await;
            println!("{} ends   {} {}", Timestamp::now(), fault.planned, fault.note);
            if fault.planned.kind.is_drift() {
                shared.report(format!("nobody reverted {}", fault.planned)).await;
            }
            shared.faults()[index] = fault;
        }
        if is_api_stopped {
            tokio::time::sleep(Duration::from_millis(200)).await;
            continue;
        }
        if let Some(planned) = pending.next_if(|planned| planned.at <= now) {
            println!("{} begins {planned}", Timestamp::now());
            let fault = in_time(&planned, begin(world, planned)).await;
            println!("{} began  {planned} {}", Timestamp::now(), fault.note);
            shared.faults().push(fault);
            continue;
        }
        world.replace_exited_operators();
        if declared < 2 && now >= (declared + 1) * settings.seconds / 8 {
            holds::declare(world, shared, declared, settings.seconds).await;
            declared += 1;
        }
        if now / 60 > minute {
            minute = now / 60;
            println!("{} minute {minute}: {}", Timestamp::now(), summary(world, shared));
        }
        let is_quiet = shared.faults().iter().all(|fault| fault.ended.is_some());
        if now >= settings.seconds && pending.peek().is_none() && is_quiet {
            return;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Waits for the begin or the end of a fault. One that hangs would hang the run.
async fn in_time<T>(planned: &Planned, step: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(STEP_TIMEOUT, step).await;
    done.unwrap_or_else(|_| panic!("{planned}: neither begun nor ended after {STEP_TIMEOUT:?}"))
}

/// Describes what the objects claim now.
fn summary(world: &World, shared: &Shared) -> String {
    let reports = shared.chronicle.reports();
    let is_true = |kind, name: &str, type_: &str| {
        reports.latest(kind, name, type_).is_some_and(|change| change.status == "True")
    };
    let recording =
        world.cameras.iter().filter(|camera| is_true("Camera", &camera.name, "Recording")).count();
    let sites = SITES.map(|site| {
        let ready = reports.latest("Site", site, "Ready");
        ready.map_or_else(String::new, |ready| format!("{site} Ready={} {}", ready.status, ready.reason))
    });
    let holds = shared.holds.lock().unwrap();
    let placed: Vec<String> = holds
        .iter()
        .map(|hold| format!("{} Placed={}", hold.name, is_true("IncidentHold", &hold.name, "Placed")))
        .collect();
    let faults = shared.faults();
    let active: Vec<&str> =
        faults.iter().filter(|f| f.ended.is_none()).map(|f| f.planned.kind.into()).collect();
    format!(
        "{recording}/{} record; {}; {}; faults {active:?}",
        world.cameras.len(),
        sites.join("; "),
        placed.join("; ")
    )
}

/// Returns everything that is not well.
fn unwell(world: &World, shared: &Shared) -> Vec<String> {
    let reports = shared.chronicle.reports();
    let cameras = world.cameras.iter().map(|camera| ("Camera", camera.name.clone(), "Ready"));
    let recording = world.cameras.iter().map(|camera| ("Camera", camera.name.clone(), "Recording"));
    let sites = SITES.iter().map(|site| ("Site", (*site).to_owned(), "Ready"));
    let holds = shared.holds.lock().unwrap().clone();
    let holds = holds.into_iter().map(|hold| ("IncidentHold", hold.name, "Placed"));
    let all = cameras.chain(recording).chain(sites).chain(holds);
    let bad = all.filter_map(|(kind, name, type_)| match reports.latest(kind, &name, type_) {
        Some(change) if change.status == "True" => None,
        found => Some(format!("{kind} {name} {type_}: {found:?}")),
    });
    bad.collect()
}

/// Waits until everything is well.
async fn rest(world: &mut World, shared: &Shared) {
    let start = Instant::now();
    loop {
        world.replace_exited_operators();
        let unwell = unwell(world, shared);
        // A state before the last fault may still be shown.
        if unwell.is_empty() && start.elapsed() > Duration::from_secs(20) {
            println!("all is well {:?} after the last fault", start.elapsed());
            return;
        }
        if start.elapsed() > REST {
            shared.report(format!("not well {REST:?} after the last fault: {unwell:#?}")).await;
            return;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Waits until the recorders have uploaded everything up to `until`.
async fn wait_for_uploads(world: &World, shared: &Shared, until: Timestamp) {
    let start = Instant::now();
    let segment = Duration::from_secs(u64::from(world.segment_seconds));
    // The open segments are complete then.
    while Timestamp::now() < until + SignedDuration::try_from(2 * segment).unwrap() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    loop {
        let mut waiting = Vec::new();
        for site in SITES {
            for pod in world.pods(site).await {
                let name = pod.metadata.name.unwrap();
                let segments =
                    pod::metric_of(&world.scene.namespace, &name, "toezicht_recorder_spool_segments").await;
                if !segments.as_ref().is_ok_and(|segments| *segments <= 1) {
                    waiting.push(format!("{name}: {segments:?}"));
                }
            }
        }
        if waiting.is_empty() {
            return;
        }
        if start.elapsed() > REST {
            shared.report(format!("segments still wait in spools: {waiting:?}")).await;
            return;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Checks that the buckets keep the policy in force, whatever was claimed and whatever happened before.
async fn check_configurations_at_end(world: &World, shared: &Shared, buckets: &[BucketWatch]) {
    for bucket in buckets {
        let found = bucket.configuration().await;
        let problems = [found.lifecycle_problem(&[world.ceiling]), found.policy_problem()];
        for problem in problems.into_iter().flatten() {
            shared.report(format!("{} at the end: {problem}", SITES[bucket.site as usize])).await;
        }
    }
}

/// Judges footage and conditions of all cameras and sites.
async fn judge(world: &World, shared: &Shared, period: [Timestamp; 2]) {
    let (faults, holds) = (shared.faults().clone(), shared.holds.lock().unwrap().clone());
    let added = faults.iter().filter(|fault| fault.planned.kind == Kind::CameraAdded);
    let added: Vec<(ChaosCamera, [Timestamp; 2])> = added
        .filter_map(|fault| Some((fault.cameras.first()?.clone(), [fault.began, fault.ended?])))
        .collect();
    let permanent = world.cameras.iter().map(|camera| (camera.clone(), period));
    for (camera, period) in permanent.chain(added) {
        let recorded = segments(&world.sites[camera.site as usize].bucket, &camera.name).await;
        let problems =
            camera_problems(world, &shared.chronicle.reports(), &faults, &holds, &camera, period, &recorded);
        for problem in problems {
            shared.report(problem).await;
        }
    }
    let problems: Vec<String> = {
        let reports = shared.chronicle.reports();
        let run = run_of(world, &reports, &faults, span(period, world.epoch));
        let judged = undisturbed(run.period, &run.operator_outages());
        println!(
            "conditions are judged in {judged:.0} of {:.0} s: in the others no operator can work",
            run.period[1] - run.period[0]
        );
        let ready = SITES.iter().flat_map(|site| ready_problems(&run, &reports, site));
        let drift = (0..2).flat_map(|site| unreported_drift(&reports, &faults, site, period[1]));
        let steady = steady_problems(&run, &reports, &world.cameras);
        ready.chain(drift).chain(steady).chain(unnoticed_keys(&faults, period[1])).collect()
    };
    for problem in problems {
        shared.report(problem).await;
    }
}

fn run_of<'a>(world: &World, reports: &'a Reports, faults: &'a [Fault], period: Span) -> Run<'a> {
    Run { epoch: world.epoch, reports, faults, segment_seconds: world.segment_seconds, period }
}

fn camera_problems(
    world: &World,
    reports: &Reports,
    faults: &[Fault],
    holds: &[DeclaredHold],
    camera: &ChaosCamera,
    period: [Timestamp; 2],
    recorded: &[Segment],
) -> Vec<String> {
    let is_added = camera.name.starts_with("added");
    let mut period = span(period, world.epoch);
    let mut problems = Vec::new();
    if is_added {
        // From its first frame, as long as its status can have its gaps.
        let first = recorded.first().map(|segment| seconds(segment.key.start(), world.epoch));
        problems.extend(run_of(world, reports, faults, period).late_start(camera, period, first));
        let first = first.unwrap_or(period[1]);
        period = [first, last_reported(faults, camera, period[1], world.epoch).max(first)];
    }
    let found: Footage = footage(&camera.name, recorded, period);
    let held = holds.iter().filter(|hold| hold.covers_camera(camera));
    let held: Vec<Span> =
        held.map(|hold| span([hold.from, hold.until.unwrap_or(Timestamp::MAX)], world.epoch)).collect();
    let held_seconds = |hole: &Span| within(*hole, &held).iter().map(|part| part[1] - part[0]).sum::<f64>();
    println!(
        "{}: {} segments, {:.1} of {:.0} s missing in {} holes, {:.1} s of them under a hold",
        camera.name,
        found.segments,
        Run::missing_seconds(&found),
        period[1] - period[0],
        found.missing.len(),
        found.missing.iter().map(held_seconds).sum::<f64>()
    );
    let run = run_of(world, reports, faults, period);
    problems.extend(run.problems(camera, &found));
    problems.extend(run.recording_problems(camera, &found));
    if !is_added {
        problems.extend(permitted_problems(&run, camera));
    }
    let keys: Vec<String> = recorded.iter().map(|segment| segment.key.to_string()).collect();
    let confirmed = reports.confirmed.get(&camera.name).into_iter().flatten();
    let lost = confirmed.filter(|key| !keys.contains(key));
    problems.extend(lost.map(|key| format!("{key} was confirmed and is not there")));
    problems
}

/// Returns the time before the deletion of a camera from which on its status may lack a gap: a query may not have come since.
fn last_reported(faults: &[Fault], camera: &ChaosCamera, deleted: f64, epoch: Timestamp) -> f64 {
    let is_late = |fault: &&Fault| {
        let planned = fault.planned;
        let object = planned.kind.object(planned.target);
        let is_of_store = matches!(object, Object::Store(_) | Object::Policy | Object::Bucket(_));
        let is_recent = fault.ended.is_none_or(|ended| seconds(ended, epoch) > deleted - 60.0);
        is_recent && !is_of_store && planned.kind != Kind::CameraAdded && fault.touches(camera)
    };
    let late = faults.iter().filter(is_late);
    late.map(|fault| seconds(fault.began, epoch)).fold(deleted, f64::min) - 2.0
}

/// Returns the claims of a Site that it is `Ready` while a pod of it was away.
fn ready_problems(run: &Run<'_>, reports: &Reports, site: &str) -> Vec<String> {
    let end = super::spans::time(run.period[1], run.epoch);
    let ready = reports.periods("Site", site, "Ready", end, |change| change.status == "True");
    let ready: Vec<Span> = ready.into_iter().map(|times| span(times, run.epoch)).collect();
    let operator = run.operator_outages();
    let prefix = format!("{site}-recorder-");
    let mut problems = Vec::new();
    for pod in reports.pods.keys().filter(|pod| pod.starts_with(&prefix)) {
        // A recorder that the Site needs no more goes once its spool is empty.
        let needed: Vec<Span> =
            reports.pod_of.values().flat_map(|pods| assignments(pods, pod, end, run.epoch)).collect();
        for outage in reports.pod_outages(pod, end) {
            let outage = span(outage, run.epoch);
            let claimed = within([outage[0] + READY_DELAY, outage[1]], &ready);
            let claimed = claimed.into_iter().flat_map(|part| within(part, &needed));
            let wrong: Vec<Span> = claimed.flat_map(|part| outside(part, &operator)).collect();
            if !wrong.is_empty() {
                problems.push(format!("{site}: Ready=True while {pod} was away: {wrong:?}"));
            }
        }
    }
    problems
}

/// Returns the periods in which a camera is recorded by `pod`, by its recorders in order.
fn assignments(pods: &[(Timestamp, String)], pod: &str, end: Timestamp, epoch: Timestamp) -> Vec<Span> {
    let ends = pods.iter().skip(1).map(|(at, _)| *at).chain([end]);
    let periods = pods.iter().zip(ends).filter(|((_, name), _)| name == pod);
    periods.map(|((from, _), until)| span([*from, until], epoch)).collect()
}

/// Returns where a condition changed that no fault may change. A Secret that is re-created is not found for a moment, and
/// keys may be such that no request can have them.
fn steady_problems(run: &Run<'_>, reports: &Reports, cameras: &[ChaosCamera]) -> Vec<String> {
    let is_rejected = |change: &Change| change.status == "False" && change.reason != "ReferenceNotFound";
    let sites = SITES.map(|site| ("Site", site)).into_iter();
    let accepted = sites.chain(cameras.iter().map(|camera| ("Camera", camera.name.as_str())));
    let excused = |name: &str| -> Vec<Span> {
        let is_key = |kind| matches!(kind, Kind::RecorderKeyWrong | Kind::OperatorKeyWrong);
        let is_here = |fault: &&Fault| SITES[fault.planned.target as usize] == name;
        let wrong_keys = run.faults.iter().filter(|fault| is_key(fault.planned.kind)).filter(is_here);
        let wrong_keys = wrong_keys.map(|fault| widened(run.effect(fault), 0.0, READY_DELAY));
        wrong_keys.chain(run.operator_outages()).collect()
    };
    let mut problems = Vec::new();
    let mut check = |kind, name: &str, type_: &str, is_wrong: &dyn Fn(&Change) -> bool| {
        let end = super::spans::time(run.period[1], run.epoch);
        let wrong = reports.periods(kind, name, type_, end, is_wrong);
        let wrong: Vec<Span> = wrong.into_iter().map(|times| span(times, run.epoch)).collect();
        let wrong = within(run.period, &wrong).into_iter().flat_map(|part| outside(part, &excused(name)));
        let wrong: Vec<Span> = wrong.collect();
        if !wrong.is_empty() {
            problems.push(format!("{kind} {name}: {type_} is wrong at {wrong:?}"));
        }
    };
    accepted.for_each(|(kind, name)| check(kind, name, "Accepted", &is_rejected));
    // The spools of the first are volume claims.
    for (site, expected) in SITES.iter().zip(["True", "False"]) {
        check("Site", site, "SpoolPersistent", &|change| change.status != expected);
    }
    problems
}

/// Returns where `Permitted` of a camera is not as its suspensions say.
fn permitted_problems(run: &Run<'_>, camera: &ChaosCamera) -> Vec<String> {
    let end = super::spans::time(run.period[1], run.epoch);
    let suspended =
        run.reports.periods("Camera", &camera.name, "Permitted", end, |change| change.reason == "Suspended");
    let suspended: Vec<Span> = suspended.into_iter().map(|times| span(times, run.epoch)).collect();
    let windows =
        run.faults.iter().filter(|fault| fault.planned.kind == Kind::Suspended && fault.touches(camera));
    let windows: Vec<Span> = windows.filter_map(|fault| Some(span(fault.window?, run.epoch))).collect();
    let operator = run.operator_outages();
    let mut problems = Vec::new();
    for window in &windows {
        let inside = [window[0] + PERMITTED_DELAY, window[1].min(run.period[1])];
        let missing = outside(inside, &suspended).into_iter().flat_map(|part| outside(part, &operator));
        for part in missing.filter(|part| part[1] - part[0] > 1.0) {
            problems.push(format!("{}: Permitted does not say Suspended at {part:?}", camera.name));
        }
    }
    let windows: Vec<Span> =
        windows.iter().map(|window| [window[0] - 2.0, window[1] + PERMITTED_DELAY]).collect();
    for part in suspended {
        let wrong = outside(part, &windows).into_iter().flat_map(|part| outside(part, &operator));
        for part in wrong.filter(|part| part[1] - part[0] > 1.0) {
            problems.push(format!("{}: Permitted says Suspended at {part:?}", camera.name));
        }
    }
    problems
}
