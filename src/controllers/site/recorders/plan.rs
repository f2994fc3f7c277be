//! Step four: the desired recorders. Pure.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Secret, Service, ServiceAccount};
use kube::ResourceExt;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::identity::StatusApiIdentity;
use super::pod::RecorderPods;
use super::site_holds::SiteHolds;
use super::workload::{ExpectedRecorders, LastRecording, LastRecordings};
use super::{camera_limit, hold_widening, objects, pod, shard};
use crate::api::condition::Reason;
use crate::api::{Camera, Days, Site};
use crate::controllers::config::OperatorConfig;
use crate::controllers::handoff::HoldScopes;
use crate::controllers::site::bucket::evaluation::BucketEvaluation;
use crate::controllers::site::bucket::target;
use crate::controllers::site::dereference::ObservedSite;
use crate::controllers::site::validate::{RecordingVerdict, ValidCamera, ValidSite};
use crate::rules::Windows;
use crate::wire::{CameraConfig, FORMAT, GapCause, RecorderConfig, Window};

/// Room for the revision, the number of omitted cameras and the name of the holds' field.
const RESERVED_BYTES: usize = 256;
const REVISION_LENGTH: usize = 16;
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

#[derive(Clone, Debug, PartialEq)]
pub struct RecorderPlan {
    pub service_account: ServiceAccount,
    pub service: Service,
    pub config_secret: Secret,
    pub workload: StatefulSet,
    pub expected: ExpectedRecorders,
    pub last_recordings: LastRecordings,
}

/// Plans the recorders. New ones wait for a bucket that was read back as required. Existing ones that may not record stay
/// without permitted periods, so that they upload the segments in their spools. `None`: the Site has none, and needs none
/// yet.
pub fn plan(
    site: &Site,
    observed: &ObservedSite,
    valid: &ValidSite,
    bucket: &BucketEvaluation,
    identity: &StatusApiIdentity,
    holds: &SiteHolds,
    config: &OperatorConfig,
) -> Option<RecorderPlan> {
    let may_record = may_record(observed, valid, bucket);
    // A Site with a configuration had recorders. If somebody deleted their StatefulSet, volume claims may have segments.
    if !may_record && observed.replicas.is_none() && observed.recorder_config.is_none() {
        return None;
    }
    let held = holds.recorder_scopes(observed.recorder_config.as_ref().map(|config| &config.holds));
    let (document, omitted_cameras) = build_config(site, observed, valid, identity, &held, may_record)?;
    let shards = document.cameras.iter().map(|camera| (camera.name.clone(), camera.shard)).collect();
    let pods = RecorderPods {
        count: shard::pod_count(&shards),
        settings: &site.spec.recorder,
        config,
        has_workload_identity: site.spec.storage.recorder.workload_identity,
    };
    Some(RecorderPlan {
        service_account: objects::service_account(&valid.names),
        service: objects::service(&valid.names),
        workload: objects::stateful_set(&valid.names, &pods),
        expected: ExpectedRecorders {
            pods: pods.count,
            revision: document.revision.clone(),
            api: document.status_api.clone(),
            holds: held,
            widening: hold_widening::detect_widening(&document.holds),
            omitted_cameras,
            lost: observed.losses.shards.lost.clone(),
        },
        config_secret: objects::config_secret(&valid.names, &document),
        last_recordings: observed
            .cameras
            .iter()
            .filter_map(|camera| last_recording(camera, &shards))
            .collect(),
    })
}

fn last_recording(camera: &Camera, shards: &BTreeMap<String, u32>) -> Option<(String, LastRecording)> {
    let shard = *shards.get(&camera.name_any())?;
    let last = camera.status.as_ref()?.last_segment.as_ref()?;
    let duration = SignedDuration::from_millis(last.duration_milliseconds);
    let until = last.start_time.0.saturating_add(duration).ok()?;
    Some((camera.name_any(), LastRecording { shard, until }))
}

/// Returns whether the Site's spec, references and bucket let its cameras record.
pub fn may_record(observed: &ObservedSite, valid: &ValidSite, bucket: &BucketEvaluation) -> bool {
    match valid.recording {
        RecordingVerdict::Allowed => bucket.may_record(),
        // Without the operator's Secret nobody can read the bucket. Cameras that recorded a moment ago go on.
        RecordingVerdict::AllowedUntil(_) => {
            bucket.may_record() || valid.access.is_none() && was_permitted(observed.recorder_config.as_ref())
        }
        RecordingVerdict::Stopped => false,
    }
}

/// Returns whether the recorders' configuration permits any camera to record.
fn was_permitted(previous: Option<&RecorderConfig>) -> bool {
    previous.is_some_and(|config| config.cameras.iter().any(|camera| !camera.permitted.is_empty()))
}

/// Returns the recorders' configuration, and the names of the cameras that do not fit into it; `None` if credentials or ceilings
/// were never known.
fn build_config(
    site: &Site,
    observed: &ObservedSite,
    valid: &ValidSite,
    identity: &StatusApiIdentity,
    held: &HoldScopes,
    may_record: bool,
) -> Option<(RecorderConfig, Vec<String>)> {
    let previous = observed.recorder_config.as_ref();
    // Without new credentials the recorders keep the previous ones, to upload the segments in their spools.
    let access = valid.access.as_ref();
    let storage = access
        .and_then(|access| access.recorder.clone())
        .map(target::with_pod_token)
        .or_else(|| previous.map(|config| config.storage.clone()))?;
    let ceiling = valid.ceilings.as_ref().map(|ceilings| days_to_ms(ceilings.video));
    let segment = site.spec.recorder.segment_duration.0.as_millis();
    let mut document = RecorderConfig {
        format: FORMAT,
        revision: String::new(),
        namespace: valid.names.namespace.clone(),
        site: valid.names.site.clone(),
        storage,
        segment_duration_ms: u64::try_from(segment).unwrap_or(u64::MAX),
        video_ceiling_ms: ceiling.or_else(|| previous.map(|config| config.video_ceiling_ms))?,
        // Recorders of earlier versions apply it at once, and their volumes stay as they are. So it never changes.
        spool_bytes: previous
            .map(|config| config.spool_bytes)
            .filter(|bytes| *bytes > 0)
            .unwrap_or_else(|| pod::usable_bytes(valid.spool_bytes)),
        cameras: Vec::new(),
        omitted_cameras: 0,
        holds: HoldScopes::new(),
        status_api: identity.api.clone(),
    };
    let max_bytes =
        camera_limit::MAX_BYTES_WITHOUT_HOLDS.saturating_sub(to_json(&document).len() + RESERVED_BYTES);
    let omitted = omitted_cameras(valid, previous, max_bytes);
    document.omitted_cameras = u32::try_from(omitted.len()).unwrap_or(u32::MAX);
    document.cameras = camera_configs(site, observed, valid, may_record, &omitted);
    set_holds(&mut document, held);
    Some((with_revision(document, previous), omitted.into_iter().collect()))
}

/// Sets the holds of `document`, widened until they fit.
fn set_holds(document: &mut RecorderConfig, held: &HoldScopes) {
    document.holds = HoldScopes::new();
    let others = to_json(document).len() + RESERVED_BYTES;
    document.holds = hold_widening::fit_to_size(held, hold_widening::MAX_CONFIG_BYTES.saturating_sub(others));
}

/// Returns the names of the cameras that do not fit into `max_bytes`.
fn omitted_cameras(
    valid: &ValidSite,
    previous: Option<&RecorderConfig>,
    max_bytes: usize,
) -> BTreeSet<String> {
    // Without their policy, cameras keep the previous windows.
    let kept = previous.filter(|_| !valid.has_policy).into_iter().flat_map(|config| &config.cameras);
    let kept = kept.map(|camera| camera.permitted.len()).max().unwrap_or_default();
    // Policies in succession may have gaps, and each camera has all windows.
    let windows = valid.permission.windows.as_slice().len().max(kept).max(1);
    // The largest values: which cameras fit must not depend on when they may record, or on their shards.
    let permitted = vec![Window::new(Timestamp::MAX, Some(Timestamp::MAX)); windows];
    let size = |camera: &ValidCamera| {
        let config = CameraConfig {
            name: camera.name.clone(),
            shard: u32::MAX,
            source: camera.source.clone(),
            permitted: permitted.clone(),
            denial: Some(GapCause::ClockNotSynchronized),
            suspended: camera.suspended.clone().into_vec(),
            is_rejected: false,
        };
        let bytes = to_json(&config).len();
        camera_limit::CameraSize { created: camera.created, name: camera.name.clone(), bytes }
    };
    let all = valid.cameras.iter().chain(&valid.denied_cameras);
    camera_limit::omitted_cameras(all.map(size).collect(), max_bytes)
}

fn camera_configs(
    site: &Site,
    observed: &ObservedSite,
    valid: &ValidSite,
    may_record: bool,
    omitted: &BTreeSet<String>,
) -> Vec<CameraConfig> {
    let previous = observed.recorder_config.as_ref();
    // No window, rather than no camera: a camera that is missing here loses its pod, and its recorder reports no gap.
    let permitted = if may_record { valid.permission.windows.clone() } else { Windows::empty() };
    // The policy is missing for a moment: nobody withdrew what it permitted.
    let is_policy_missing =
        may_record && matches!(valid.recording, RecordingVerdict::AllowedUntil(_)) && !valid.has_policy;
    let before = |name: &str| {
        let mut cameras = previous.into_iter().flat_map(|config| &config.cameras);
        cameras.find(|camera| camera.name == name).map(|camera| (camera.permitted.clone(), camera.denial))
    };
    let reason = valid.permission.finding.reason;
    let assigned: BTreeMap<String, u32> = previous
        .iter()
        .flat_map(|config| &config.cameras)
        .map(|camera| (camera.name.clone(), camera.shard))
        .collect();
    let all = || {
        let denied = valid.denied_cameras.iter().map(|camera| (camera, true));
        let all = valid.cameras.iter().map(|camera| (camera, false)).chain(denied);
        all.filter(|(camera, _)| !omitted.contains(&camera.name))
    };
    let names: Vec<String> = all().map(|(camera, _)| camera.name.clone()).collect();
    let shards = shard::assign_cameras(
        &assigned,
        observed.replicas.unwrap_or_default(),
        &names,
        site.spec.recorder.max_cameras_per_pod,
        &observed.losses.shards,
    );
    let config = |(camera, is_denied): (&ValidCamera, bool)| {
        let (permitted, denial) = match before(&camera.name).filter(|_| is_policy_missing) {
            _ if is_denied => (Vec::new(), gap_cause(reason, false)),
            Some(before) => before,
            None => (permitted.clone().into_vec(), gap_cause(reason, may_record)),
        };
        Some(CameraConfig {
            name: camera.name.clone(),
            shard: *shards.get(&camera.name)?,
            source: camera.source.clone(),
            permitted,
            denial,
            suspended: camera.suspended.clone().into_vec(),
            is_rejected: false,
        })
    };
    let mut configs: Vec<CameraConfig> = all().filter_map(config).collect();
    // The revision must not depend on which camera may record.
    configs.sort_by(|one, other| one.name.cmp(&other.name));
    configs
}

/// Returns the cause of a gap outside of permitted windows; `None`: the protocol permits no recording. `permitted`: the reason of the
/// Site's `Permitted`. `is_ready`: spec, references and bucket let the camera record.
const fn gap_cause(permitted: Reason, is_ready: bool) -> Option<GapCause> {
    match permitted {
        // What the protocol says is not known.
        Reason::DependencyNotReady | Reason::InvalidField => Some(GapCause::SiteNotReady),
        Reason::Permitted | Reason::Suspended if !is_ready => Some(GapCause::SiteNotReady),
        _ => None,
    }
}

/// Returns the configuration for recorders that are to be removed: they stop recording and upload their spools. It has the
/// revision of `current` if that is this configuration already: a new revision with each reconcile would never be acknowledged.
pub fn closing_config(
    document: &RecorderConfig,
    current: Option<&RecorderConfig>,
    cause: GapCause,
) -> RecorderConfig {
    let mut closed = document.clone();
    for camera in &mut closed.cameras {
        if !camera.permitted.is_empty() {
            camera.denial = Some(cause);
        }
        camera.permitted.clear();
    }
    with_revision(closed, current.or(Some(document)))
}

/// Returns the configuration for recorders of a deleted Site after `current`: they stop recording, and follow `holds` while they
/// upload.
pub fn draining_config(current: &RecorderConfig, holds: &SiteHolds) -> RecorderConfig {
    let mut document = current.clone();
    set_holds(&mut document, &holds.recorder_scopes(Some(&current.holds)));
    closing_config(&document, Some(current), GapCause::SiteNotReady)
}

/// Sets the revision of `document`: that of `previous` if nothing else differs, else one that no configuration had before.
///
/// A configuration that returns to an earlier content gets a new revision, since its hash includes the revision of
/// `previous`. Otherwise a recorder's earlier answer would acknowledge it, although the recorder follows the configuration
/// in between, or is about to read it. Without `previous`, the certificate and the token are new, so the hash is too.
fn with_revision(mut document: RecorderConfig, previous: Option<&RecorderConfig>) -> RecorderConfig {
    document.revision = previous.map_or_else(String::new, |previous| previous.revision.clone());
    if previous != Some(&document) || !is_valid_revision(&document.revision) {
        let hash = Sha256::digest(to_json(&document));
        document.revision = hex::encode(hash).chars().take(REVISION_LENGTH).collect();
    }
    document
}

/// Whether this module could have set the revision. A tenant who may write Secrets could set any text.
fn is_valid_revision(text: &str) -> bool {
    text.len() == REVISION_LENGTH && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn to_json(document: &impl Serialize) -> Vec<u8> {
    // Never fails: the documents have no map with keys other than strings.
    serde_json::to_vec(document).unwrap_or_default()
}

fn days_to_ms(days: Days) -> u64 {
    u64::from(days.0).saturating_mul(DAY_MS)
}

#[cfg(test)]
mod tests;
