//! What the run's objects reported, and when: conditions, gaps and pods, by watches of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::Api;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use toezicht::api::{Camera, CameraGap, CameraStatus, IncidentHold, Site};
use tokio::process::Command;
use tokio::task::JoinSet;

use crate::support::cluster::TestNamespace;

/// Gaps in a Camera's status. Older ones leave it.
const MAX_GAPS: usize = 10;

/// A new state of a condition, from the time at which the watch had it.
#[derive(Clone, Debug)]
pub struct Change {
    pub at: Timestamp,
    pub status: String,
    pub reason: String,
    pub message: String,
}

/// A state of a recorder's pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodState {
    pub uid: String,
    pub is_ready: bool,
    /// Start of the running container.
    pub started: Option<Timestamp>,
    pub is_ending: bool,
    pub is_gone: bool,
    /// Everything of its template that a fault changes.
    pub template: String,
}

/// Everything that was reported.
#[derive(Debug, Default)]
pub struct Reports {
    /// By kind, name and type.
    pub conditions: BTreeMap<(&'static str, String, String), Vec<Change>>,
    /// Gaps of each Camera, also those that left its status.
    pub gaps: BTreeMap<String, Vec<CameraGap>>,
    /// Recorder pod of each Camera.
    pub pod_of: BTreeMap<String, Vec<(Timestamp, String)>>,
    /// Keys of segments that the recorders called confirmed.
    pub confirmed: BTreeMap<String, BTreeSet<String>>,
    pub pods: BTreeMap<String, Vec<(Timestamp, PodState)>>,
}

/// Watches the objects of a namespace until it is dropped.
pub struct Chronicle {
    reports: Arc<Mutex<Reports>>,
    _watches: JoinSet<()>,
}

impl Chronicle {
    /// Starts watches, and copies of the recorders' logs to `folder`.
    pub fn start(namespace: &TestNamespace, folder: &Path) -> Self {
        let reports = Arc::new(Mutex::new(Reports::default()));
        let mut watches = JoinSet::new();
        let note = |reports: &mut Reports, kind, name: &str, value: &Value| {
            reports.note_conditions(kind, name, &value["status"]["conditions"], Timestamp::now());
        };
        for_each::<Site>(&mut watches, &reports, namespace.api(), move |reports, site, _| {
            note(reports, "Site", &site.name_any(), &serde_json::to_value(site).unwrap());
        });
        for_each::<IncidentHold>(&mut watches, &reports, namespace.api(), move |reports, hold, _| {
            note(reports, "IncidentHold", &hold.name_any(), &serde_json::to_value(hold).unwrap());
        });
        for_each::<Camera>(&mut watches, &reports, namespace.api(), move |reports, camera, is_gone| {
            let name = camera.name_any();
            if is_gone {
                reports.end_conditions("Camera", &name);
                return;
            }
            note(reports, "Camera", &name, &serde_json::to_value(camera).unwrap());
            if let Some(status) = &camera.status {
                reports.note_camera(&name, status);
            }
        });
        let (namespace_name, folder) = (namespace.name.clone(), folder.to_owned());
        let mut logged = BTreeSet::new();
        for_each::<Pod>(&mut watches, &reports, namespace.api(), move |reports, pod, is_gone| {
            let state = pod_state(pod, is_gone);
            if let Some(started) = state.started
                && logged.insert((state.uid.clone(), started))
            {
                copy_log(&namespace_name, &pod.name_any(), started, &folder);
            }
            let states = reports.pods.entry(pod.name_any()).or_default();
            if states.last().is_none_or(|(_, last)| *last != state) {
                states.push((Timestamp::now(), state));
            }
        });
        Self { reports, _watches: watches }
    }

    pub fn reports(&self) -> MutexGuard<'_, Reports> {
        self.reports.lock().unwrap()
    }
}

/// Watches all objects of a kind.
fn for_each<K>(
    watches: &mut JoinSet<()>,
    reports: &Arc<Mutex<Reports>>,
    api: Api<K>,
    mut note: impl FnMut(&mut Reports, &K, bool) + Send + 'static,
) where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Serialize + std::fmt::Debug + Send + 'static,
{
    let reports = Arc::clone(reports);
    watches.spawn(async move {
        let mut events = watch(api, watcher::Config::default()).default_backoff().boxed();
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Apply(object) | Event::InitApply(object)) => {
                    note(&mut reports.lock().unwrap(), &object, false);
                }
                Ok(Event::Delete(object)) => note(&mut reports.lock().unwrap(), &object, true),
                Ok(Event::Init | Event::InitDone) | Err(_) => {}
            }
        }
    });
}

impl Reports {
    fn note_conditions(&mut self, kind: &'static str, name: &str, conditions: &Value, at: Timestamp) {
        for condition in conditions.as_array().into_iter().flatten() {
            let text = |field: &str| condition[field].as_str().unwrap_or_default().to_owned();
            let changes = self.conditions.entry((kind, name.to_owned(), text("type"))).or_default();
            let change =
                Change { at, status: text("status"), reason: text("reason"), message: text("message") };
            let is_same = |last: &Change| {
                (&last.status, &last.reason, &last.message)
                    == (&change.status, &change.reason, &change.message)
            };
            if !changes.last().is_some_and(is_same) {
                changes.push(change);
            }
        }
    }

    /// Notes that an object is deleted: its conditions claim nothing any more.
    fn end_conditions(&mut self, kind: &'static str, name: &str) {
        let at = Timestamp::now();
        for ((of, object, _), changes) in &mut self.conditions {
            if *of == kind && object == name {
                let [status, reason, message] = ["", "", ""].map(str::to_owned);
                changes.push(Change { at, status, reason, message });
            }
        }
    }

    fn note_camera(&mut self, name: &str, status: &CameraStatus) {
        let known = self.gaps.entry(name.to_owned()).or_default();
        let end = |gap: &CameraGap| gap.until.as_ref().or(gap.from.as_ref()).map(|time| time.0);
        let oldest = status.gaps.first().filter(|_| status.gaps.len() >= MAX_GAPS).and_then(end);
        // A gap that is missing in a status with room for it was withdrawn.
        known.retain(|gap| oldest.is_some_and(|oldest| end(gap) < Some(oldest)));
        known.extend(status.gaps.iter().cloned());
        if let Some(pod) = &status.recorder_pod_name {
            let pods = self.pod_of.entry(name.to_owned()).or_default();
            if pods.last().is_none_or(|(_, last)| last != pod) {
                pods.push((Timestamp::now(), pod.clone()));
            }
        }
        if let Some(last) = &status.last_segment {
            self.confirmed.entry(name.to_owned()).or_default().insert(last.key.clone());
        }
    }

    /// Returns the newest state of a condition.
    pub fn latest(&self, kind: &'static str, name: &str, type_: &str) -> Option<&Change> {
        self.conditions.get(&(kind, name.to_owned(), type_.to_owned()))?.last()
    }

    /// Returns the periods in which a condition was as `is_as` says, up to `end`.
    pub fn periods(
        &self,
        kind: &'static str,
        name: &str,
        type_: &str,
        end: Timestamp,
        is_as: impl Fn(&Change) -> bool,
    ) -> Vec<[Timestamp; 2]> {
        let changes = self.conditions.get(&(kind, name.to_owned(), type_.to_owned()));
        let changes = changes.map(Vec::as_slice).unwrap_or_default();
        let ends = changes.iter().skip(1).map(|next| next.at).chain([end]);
        let mut periods: Vec<[Timestamp; 2]> = Vec::new();
        for (change, until) in changes.iter().zip(ends).filter(|(change, _)| is_as(change)) {
            match periods.last_mut().filter(|last| last[1] == change.at) {
                Some(last) => last[1] = until,
                None => periods.push([change.at, until]),
            }
        }
        periods
    }

    /// Returns whether a pod of this name was replaced by one with another template in a period.
    pub fn has_other_template(&self, pod: &str, [from, until]: [Timestamp; 2]) -> bool {
        let states = self.pods.get(pod).map(Vec::as_slice).unwrap_or_default();
        // The state at the beginning of the period too.
        let first = states.iter().rposition(|(at, _)| *at < from).unwrap_or(0);
        let seen = states.iter().skip(first).take_while(|(at, _)| *at <= until);
        seen.map(|(_, state)| &state.template).collect::<BTreeSet<_>>().len() > 1
    }

    /// Returns the periods in which no container of a pod ran ready, up to `end`.
    pub fn pod_outages(&self, pod: &str, end: Timestamp) -> Vec<[Timestamp; 2]> {
        let states = self.pods.get(pod).map(Vec::as_slice).unwrap_or_default();
        let mut outages: Vec<[Timestamp; 2]> = Vec::new();
        let mut previous: Option<&PodState> = None;
        for (index, (at, state)) in states.iter().enumerate() {
            let until = states.get(index + 1).map_or(end, |(next, _)| *next);
            // A container that started again was away, even if no state between was seen.
            let is_restarted = previous.is_some_and(|before| before.started != state.started);
            let from = if is_restarted { states[index - 1].0 } else { *at };
            if !state.is_ready || state.is_ending || state.is_gone {
                outages.push([*at, until]);
            } else if is_restarted {
                outages.push([from.max(*at - jiff::SignedDuration::from_secs(5)), *at]);
            }
            previous = Some(state);
        }
        outages
    }
}

fn pod_state(pod: &Pod, is_gone: bool) -> PodState {
    let status = pod.status.clone().unwrap_or_default();
    let is_ready = status.conditions.iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True");
    let containers = status.container_statuses.unwrap_or_default();
    let running = containers.first().and_then(|container| container.state.clone()?.running);
    PodState {
        uid: pod.uid().unwrap_or_default(),
        is_ready,
        started: running.and_then(|running| running.started_at).map(|time| time.0),
        is_ending: pod.metadata.deletion_timestamp.is_some(),
        is_gone,
        template: template(pod),
    }
}

/// Describes image, CPU request and requested restart of a pod.
fn template(pod: &Pod) -> String {
    let container = pod.spec.as_ref().and_then(|spec| spec.containers.first());
    let image = container.and_then(|container| container.image.as_deref());
    let requests = container.and_then(|container| container.resources.as_ref()?.requests.as_ref());
    let cpu = requests.and_then(|requests| requests.get("cpu")).map(|cpu| cpu.0.as_str());
    let restarted = pod.annotations().get("kubectl.kubernetes.io/restartedAt");
    format!("{image:?} {cpu:?} {restarted:?}")
}

/// Copies the log of a container to a file until it ends: it goes with the pod.
fn copy_log(namespace: &str, pod: &str, started: Timestamp, folder: &Path) {
    let file = folder.join(format!("{pod}-{}.log", started.as_second()));
    let (namespace, pod) = (namespace.to_owned(), pod.to_owned());
    tokio::spawn(async move {
        // An API server that restarts ends the copy, which then goes on where it was.
        for since in std::iter::once("1h").chain(std::iter::repeat_n("5s", 20)) {
            let Ok(log) = std::fs::File::options().create(true).append(true).open(&file) else { return };
            let copied = Command::new("kubectl")
                .args(["-n", &namespace, "logs", "--follow", "--since", since, &pod])
                .stdin(Stdio::null())
                .stdout(log)
                .stderr(Stdio::null())
                .status()
                .await;
            if copied.is_ok_and(|status| status.success()) {
                return;
            }
            tokio::time::sleep(Duration::from_secs(3)).await;
        }
    });
}
