//! Recorders that do not answer, on nodes that Kubernetes does not reach.
//!
//! Such a recorder may record and upload on behind a broken network, by its earlier configuration, and its spool may have
//! segments. So nothing is deleted by force. Its pod stays, and holds wait for its acknowledgement as for that of any other.
//! Its cameras move to other recorders. When the node is back, the recorder follows the configuration, in which it has no
//! cameras any more, and uploads its spool. Only the end of its pod ends the wait otherwise: Kubernetes removes the pod once
//! somebody deletes the Node or taints it as out of service.
//!
//! A pod itself shows that its node is not reached: Kubernetes then takes its condition `Ready` away, and its `ContainersReady`
//! stays as the kubelet last wrote it. So the operator needs no right to read Nodes.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use kube::runtime::events::Event;

use super::names::{ChildNames, SPOOL_VOLUME, join_first};
use super::shard::ShardStates;
use super::site_pods::list_site_pods;
use super::workload::{MAX_PODS, cached_site_pods, is_recorder, is_terminated, pod_condition};
use crate::api::{Camera, CameraGap, LostCamera, LostRecorder, Site};
use crate::controllers::camera::gaps::MAX_GAPS;
use crate::controllers::context::Context;
use crate::controllers::kubernetes::{ApiError, event, meta};
use crate::controllers::recorder_client::{self, LOST_NODE_REMEDY, RecorderClient, RecorderStatusError};
use crate::wire::{GapCause, RecorderConfig, RecorderStatus};

/// Time for which a recorder on a node that is not reached does not answer before it counts as lost. With the 50 seconds after which
/// Kubernetes notices, cameras record elsewhere within three minutes. A node that restarts faster keeps its cameras.
///
/// It counts from the first query without an answer, not from the loss of `Ready`: kubelets that lost the API server for hours have
/// recorders that work, and one timeout must not move their cameras.
const LOST_AFTER: SignedDuration = SignedDuration::from_secs(60);
/// Shortest time for which the status has a spool that is gone.
const MIN_REPORTED: SignedDuration = SignedDuration::from_mins(10);
/// Longest time for which the status has a spool that is gone while a Camera does not report the gap: the operator may have been down,
/// or a person paused the Camera.
const MAX_REPORTED: SignedDuration = SignedDuration::from_hours(30 * 24);
/// Entries that a status may have.
const MAX_ENTRIES: usize = 256;
const MAX_CONCURRENT_QUERIES: usize = 16;

/// What became of a recorder that was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    StillLost,
    /// It follows the configuration of the others.
    Returned,
    /// Its pod is gone.
    Gone,
}

/// Lost recorders, as observed before the plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Recorders that the status does not have yet, by their shards. Without their cameras.
    pub new: BTreeMap<u32, LostRecorder>,
    /// Recorders of the status.
    pub known: Vec<(LostRecorder, Fate)>,
    pub shards: ShardStates,
}

/// Reads the pods in the watch cache, or from the API server while a recorder is lost: none counts as gone by a cache.
pub async fn observe(
    context: &Context,
    site: &Site,
    config: Option<&RecorderConfig>,
    now: Timestamp,
) -> Result<Losses, ApiError> {
    let names = ChildNames::of(site);
    let known = site.status.as_ref().map(|status| status.lost_recorders.clone()).unwrap_or_default();
    let Some(config) = config else {
        let known = known.into_iter().map(|entry| (entry, Fate::StillLost)).collect();
        return Ok(Losses { known, ..Losses::default() });
    };
    let pods = if known.iter().any(may_return) {
        let shards = known.iter().filter_map(|entry| names.shard_of_pod(&entry.pod_name));
        list_site_pods(context, &names, shards.map(|shard| shard.saturating_add(1)).max().unwrap_or_default())
            .await?
    } else {
        cached_site_pods(&context.cache, &names)
    };
    let suspects = pods.iter().filter(|pod| is_recorder(pod, &names) && !is_terminated(pod));
    let queries: Vec<_> = suspects
        .filter_map(|pod| Some((pod, unreached_since(pod)?)))
        .map(|(pod, since)| async move {
            query(&context.recorders, config, pod).await.is_err().then(|| lost_recorder(pod, since))
        })
        .collect();
    let silent: Vec<Option<LostRecorder>> =
        stream::iter(queries).buffered(MAX_CONCURRENT_QUERIES).collect().await;
    let silent: Vec<LostRecorder> = silent.into_iter().flatten().collect();
    let uids: Vec<String> = silent.iter().map(|entry| entry.pod_uid.clone()).collect();
    let lost = lost_of(silent, &context.unanswered.note(&names.uid, &uids, now), now);
    let mut fates = Vec::new();
    for entry in known {
        let fate = match pods.iter().find(|pod| pod.uid().as_ref() == Some(&entry.pod_uid)) {
            None => Fate::Gone,
            Some(_) if lost.iter().any(|lost| lost.pod_uid == entry.pod_uid) => Fate::StillLost,
            Some(pod) => match query(&context.recorders, config, pod).await {
                Ok(status) if status.revision == config.revision => Fate::Returned,
                _ => Fate::StillLost,
            },
        };
        fates.push((entry, fate));
    }
    Ok(evaluate(&names, &pods, lost, fates))
}

/// Returns those of the `silent` recorders that have been silent for long enough since the first query that they did not answer.
fn lost_of(
    mut silent: Vec<LostRecorder>,
    first_unanswered: &BTreeMap<String, Timestamp>,
    now: Timestamp,
) -> Vec<LostRecorder> {
    let is_lost = |first: &Timestamp| now.duration_since(*first) >= LOST_AFTER;
    silent.retain(|entry| first_unanswered.get(&entry.pod_uid).is_some_and(is_lost));
    silent
}

async fn query(
    client: &RecorderClient,
    config: &RecorderConfig,
    pod: &Pod,
) -> Result<RecorderStatus, RecorderStatusError> {
    client.status(recorder_client::pod_address(Some(pod))?, &config.status_api).await
}

/// Returns the losses by what was read.
fn evaluate(
    names: &ChildNames,
    pods: &[Pod],
    lost: Vec<LostRecorder>,
    known: Vec<(LostRecorder, Fate)>,
) -> Losses {
    let shard_of = |name: &str| names.shard_of_pod(name).filter(|shard| *shard < MAX_PODS);
    let is_known = |lost: &LostRecorder| known.iter().any(|(entry, _)| entry.pod_uid == lost.pod_uid);
    let still = known.iter().filter(|(entry, fate)| *fate == Fate::StillLost && may_return(entry));
    let all = still.map(|(entry, _)| entry).chain(&lost);
    let shards_with = |condition: &str, status: &str| -> BTreeSet<u32> {
        let has = |pod: &&Pod| pod_condition(pod, condition).is_some_and(|found| found.status == status);
        let pods = pods.iter().filter(|pod| is_recorder(pod, names) && !meta::is_deleting(*pod)).filter(has);
        pods.filter_map(|pod| shard_of(&pod.name_any())).collect()
    };
    let shards = ShardStates {
        lost: all.filter_map(|entry| shard_of(&entry.pod_name)).collect(),
        unscheduled: shards_with("PodScheduled", "False"),
        ready: shards_with("Ready", "True"),
    };
    let new = lost.iter().filter(|lost| !is_known(lost));
    let new = new.filter_map(|lost| Some((shard_of(&lost.pod_name)?, lost.clone()))).collect();
    Losses { new, known, shards }
}

/// Returns since when Kubernetes does not reach the node of `pod`; `None`: it does, or the recorder was not ready before.
fn unreached_since(pod: &Pod) -> Option<Timestamp> {
    let ready = pod_condition(pod, "Ready").filter(|ready| ready.status != "True")?;
    let by_kubelet = pod_condition(pod, "ContainersReady")?;
    (by_kubelet.status == "True").then_some(ready.last_transition_time.as_ref()?.0)
}

fn lost_recorder(pod: &Pod, since: Timestamp) -> LostRecorder {
    let spec = pod.spec.as_ref();
    let volumes = spec.and_then(|spec| spec.volumes.as_ref()).into_iter().flatten();
    let claim = volumes
        .filter(|volume| volume.name == SPOOL_VOLUME)
        .find_map(|volume| volume.persistent_volume_claim.as_ref().map(|claim| claim.claim_name.clone()));
    LostRecorder {
        pod_name: pod.name_any(),
        pod_uid: pod.uid().unwrap_or_default(),
        node_name: spec.and_then(|spec| spec.node_name.clone()).unwrap_or_default(),
        since: Time(since),
        spool_claim_name: claim,
        cameras: Vec::new(),
        spool_lost_time: None,
    }
}

/// Whether the recorder may return with its segments, and may record up to then.
pub fn may_return(entry: &LostRecorder) -> bool {
    entry.spool_lost_time.is_none()
}

/// Returns the entries of the status after a plan was applied, and the events about their changes. `previous` is the configuration
/// before that plan.
pub fn update(
    losses: &Losses,
    previous: Option<&RecorderConfig>,
    cameras: &[Camera],
    now: Timestamp,
) -> (Vec<LostRecorder>, Vec<Event>) {
    // A status has whole seconds.
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
    let (mut entries, mut events) = (Vec::new(), Vec::new());
    for (entry, fate) in &losses.known {
        match (entry.spool_lost_time.as_ref(), fate) {
            (Some(lost), _) => {
                let elapsed = now.duration_since(lost.0);
                let is_reported = elapsed >= MIN_REPORTED && have_gap(entry, cameras);
                entries.extend((!is_reported && elapsed < MAX_REPORTED).then(|| entry.clone()));
            }
            (None, Fate::StillLost) => entries.push(entry.clone()),
            (None, Fate::Returned) => {
                let note = format!("{} answers again and uploads the segments in its spool", name(entry));
                events.push(event::normal("RecorderReturned", "Recover", &note));
            }
            (None, Fate::Gone) if entry.spool_claim_name.is_some() => {}
            (None, Fate::Gone) => {
                let note = format!(
                    "{} is gone with its spool: the segments that it had not uploaded are lost; the Cameras {} have a gap SpoolLost",
                    name(entry),
                    camera_names(entry)
                );
                events.push(event::warning("RecordingsLost", "Recover", &note));
                entries.push(LostRecorder { spool_lost_time: Some(Time(now)), ..entry.clone() });
            }
        }
    }
    for (shard, lost) in &losses.new {
        let entry =
            LostRecorder { cameras: recorded_cameras(*shard, lost, previous, cameras), ..lost.clone() };
        events.push(event::warning("RecorderLost", "Recover", &describe(&entry)));
        entries.push(entry);
    }
    (newest(entries), events)
}

/// Returns as many entries as a status may have, without the oldest whose spools are gone.
fn newest(mut entries: Vec<LostRecorder>) -> Vec<LostRecorder> {
    let lost_time = |(index, entry): (usize, &LostRecorder)| Some((entry.spool_lost_time.as_ref()?.0, index));
    while entries.len() > MAX_ENTRIES {
        let Some((_, oldest)) = entries.iter().enumerate().filter_map(lost_time).min() else { break };
        entries.remove(oldest);
    }
    entries
}

/// Whether each camera that a recorder with a lost spool recorded reports the gap, has nothing to report, or does not exist any more.
fn have_gap(entry: &LostRecorder, cameras: &[Camera]) -> bool {
    let until = Timestamp::from_second(entry.since.0.as_second()).unwrap_or(entry.since.0);
    let reason: &str = GapCause::SpoolLost.into();
    let ends = |gap: &CameraGap| gap.until.as_ref().map(|end| end.0);
    let has_gap = |camera: &Camera| {
        let gaps = camera.status.as_ref().map(|status| status.gaps.as_slice()).unwrap_or_default();
        let is_it = |gap: &CameraGap| gap.reason == reason && ends(gap).is_some_and(|end| end == until);
        // A status with as many gaps as fit, which all end later, cannot have this one.
        let is_pushed_out =
            gaps.len() >= MAX_GAPS && gaps.iter().all(|gap| ends(gap).is_none_or(|end| end > until));
        is_pushed_out || gaps.iter().any(is_it)
    };
    entry.cameras.iter().all(|lost| {
        let is_uploaded = lost.last_segment_end_time.as_ref().is_some_and(|end| end.0 >= until);
        let mut existing = cameras.iter().filter(|camera| camera.name_any() == lost.name);
        is_uploaded || existing.all(has_gap)
    })
}

/// Returns the cameras that the recorder in the pod `pod_name` of `shard` recorded, by its configuration or by their statuses: the
/// operator may have stopped after it moved them.
pub fn recorded_by<'a>(
    shard: u32,
    pod_name: &str,
    config: Option<&RecorderConfig>,
    cameras: &'a [Camera],
) -> impl Iterator<Item = &'a Camera> {
    let assigned = config.into_iter().flat_map(|config| &config.cameras);
    let assigned: BTreeSet<&str> =
        assigned.filter(|camera| camera.shard == shard).map(|camera| camera.name.as_str()).collect();
    cameras.iter().filter(move |camera| {
        let recorder = camera.status.as_ref().and_then(|status| status.recorder_pod_name.as_deref());
        assigned.contains(camera.name_any().as_str()) || recorder == Some(pod_name)
    })
}

/// Returns the cameras that a lost recorder recorded, with the ends of their last segments.
fn recorded_cameras(
    shard: u32,
    lost: &LostRecorder,
    previous: Option<&RecorderConfig>,
    cameras: &[Camera],
) -> Vec<LostCamera> {
    let end = |camera: &Camera| {
        let segment = camera.status.as_ref()?.last_segment.as_ref()?;
        let duration = SignedDuration::from_millis(segment.duration_milliseconds);
        Some(Time(segment.start_time.0.saturating_add(duration).ok()?))
    };
    recorded_by(shard, &lost.pod_name, previous, cameras)
        .map(|camera| LostCamera { name: camera.name_any(), last_segment_end_time: end(camera) })
        .collect()
}

fn name(entry: &LostRecorder) -> String {
    format!("{} on the node {}", entry.pod_name, entry.node_name)
}

fn camera_names(entry: &LostRecorder) -> String {
    entry.cameras.iter().map(|camera| camera.name.as_str()).collect::<Vec<_>>().join(", ")
}

/// Describes a lost recorder, with the remedy.
fn describe(entry: &LostRecorder) -> String {
    let consequence = match &entry.spool_claim_name {
        Some(claim) => format!("a recorder then uploads the volume claim {claim} where a node can mount it"),
        None => "the segments in its spool are then lost".to_owned(),
    };
    format!(
        "{} does not answer, and Kubernetes has not reached the node since {}: its cameras move to other recorders; it may still \
         record by an earlier configuration, and its spool may have segments; {LOST_NODE_REMEDY}: {consequence}",
        name(entry),
        entry.since.0
    )
}

/// Describes the recorders that may return; `None`: there are none. Beyond the first, it counts them: the API server rejects a status
/// with a longer message, and the Site would keep an earlier one.
pub fn describe_all(entries: &[LostRecorder]) -> Option<String> {
    let described = entries.iter().filter(|entry| may_return(entry)).map(describe);
    join_first(described.collect(), "; ", "are lost: see status.lostRecorders")
}

/// Returns the names of the recorders that may return, with their nodes, and of those that recorded `camera` only if it is given;
/// `None`: there are none. Beyond the first, it counts them.
pub fn name_all(entries: &[LostRecorder], camera: Option<&str>) -> Option<String> {
    let has_recorded = |entry: &&LostRecorder| {
        camera.is_none_or(|camera| entry.cameras.iter().any(|recorded| recorded.name == camera))
    };
    let named = entries.iter().filter(|entry| may_return(entry)).filter(has_recorded).map(name);
    join_first(named.collect(), ", ", "recorders")
}

#[cfg(test)]
mod tests;
