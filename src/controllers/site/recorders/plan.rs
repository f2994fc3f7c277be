//! Step four: what should be there. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Secret, Service, ServiceAccount};
use kube::Resource;
use sha2::{Digest, Sha256};

use super::identity::StatusApiIdentity;
use super::pod::RecorderPods;
use super::{hold_widening, objects, shard};
use crate::api::{Days, Site};
use crate::controllers::config::OperatorConfig;
use crate::controllers::handoff::HoldScopes;
use crate::controllers::site::bucket::evaluation::BucketEvaluation;
use crate::controllers::site::bucket::target;
use crate::controllers::site::dereference::ObservedSite;
use crate::controllers::site::recorders::workload::ExpectedRecorders;
use crate::controllers::site::validate::ValidSite;
use crate::rules::Windows;
use crate::wire::{CameraConfig, FORMAT, RecorderConfig};

/// Of the spool's volume, what segments may take: the kubelet evicts a pod that fills its volume to the brim.
const USABLE_SPOOL_PERCENT: u64 = 90;
/// More than a revision and the name of the holds' field add to a configuration.
const RESERVED_BYTES: usize = 128;
const REVISION_LENGTH: usize = 16;
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

#[derive(Clone, Debug, PartialEq)]
pub struct SitePlan {
    /// The recorders; `None`: nothing has to be recorded yet, and nothing was.
    pub recorders: Option<RecorderPlan>,
}

/// The recorders that should be there.
#[derive(Clone, Debug, PartialEq)]
pub struct RecorderPlan {
    /// Who they are to the cluster: nobody.
    pub service_account: ServiceAccount,
    pub service: Service,
    pub config_secret: Secret,
    pub workload: StatefulSet,
    /// What they should say of themselves.
    pub expected: ExpectedRecorders,
}

/// What follows from all that was found.
///
/// Recorders come to be once the bucket was read back as it must be. Where they are there already and must
/// not record, they stay without a window in which they may, so that what waits in a spool is uploaded.
pub fn plan(
    site: &Site,
    observed: &ObservedSite,
    valid: &ValidSite,
    bucket: &BucketEvaluation,
    identity: &StatusApiIdentity,
    held: Option<HoldScopes>,
    config: &OperatorConfig,
) -> SitePlan {
    let may_record = valid.accepted.is_true() && bucket.may_record();
    if !may_record && observed.replicas.is_none() {
        return SitePlan { recorders: None };
    }
    // Until the ledger has been read, what recorders know of holds stays.
    let held = held.or_else(|| Some(observed.recorder_config.as_ref()?.holds.clone()));
    let held = held.unwrap_or_default();
    let Some(document) = build_config(site, observed, valid, identity, &held, may_record) else {
        return SitePlan { recorders: None };
    };
    let owner = site.controller_owner_ref(&()).into_iter().collect::<Vec<_>>();
    let pods = shard::pod_count(
        &document.cameras.iter().map(|camera| (camera.name.clone(), camera.shard)).collect(),
    );
    let settings = &site.spec.recorder;
    let recorders = RecorderPlan {
        service_account: objects::service_account(&valid.names, &owner),
        service: objects::service(&valid.names, &owner),
        workload: objects::stateful_set(
            &valid.names,
            &owner,
            &RecorderPods {
                count: pods,
                settings,
                config,
                has_workload_identity: site.spec.storage.recorder.workload_identity,
            },
        ),
        expected: ExpectedRecorders {
            pods,
            revision: document.revision.clone(),
            api: document.status_api.clone(),
            holds: held,
            widening: hold_widening::detect_widening(&document.holds),
        },
        config_secret: objects::config_secret(&valid.names, &owner, &document),
    };
    SitePlan { recorders: Some(recorders) }
}

/// The recorders' configuration; `None` where nothing is known to configure them with.
fn build_config(
    site: &Site,
    observed: &ObservedSite,
    valid: &ValidSite,
    identity: &StatusApiIdentity,
    held: &HoldScopes,
    may_record: bool,
) -> Option<RecorderConfig> {
    let previous = observed.recorder_config.as_ref();
    // Without credentials the recorders keep those they have, for what still waits in their spools.
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
        spool_bytes: valid.spool_bytes / 100 * USABLE_SPOOL_PERCENT,
        cameras: camera_configs(site, previous, observed.replicas.unwrap_or_default(), valid, may_record),
        holds: HoldScopes::new(),
        status_api: identity.api.clone(),
    };
    document.holds = hold_widening::fit_to_size(
        held,
        hold_widening::MAX_CONFIG_BYTES.saturating_sub(to_json(&document).len() + RESERVED_BYTES),
    );
    Some(with_revision(document, previous))
}

fn camera_configs(
    site: &Site,
    previous: Option<&RecorderConfig>,
    current_pods: u32,
    valid: &ValidSite,
    may_record: bool,
) -> Vec<CameraConfig> {
    let permitted = if may_record { valid.permission.windows.clone() } else { Windows::empty() };
    let assigned: BTreeMap<String, u32> = previous
        .iter()
        .flat_map(|config| &config.cameras)
        .map(|camera| (camera.name.clone(), camera.shard))
        .collect();
    let names: Vec<String> = valid.cameras.iter().map(|camera| camera.name.clone()).collect();
    let shards =
        shard::assign_cameras(&assigned, current_pods, &names, site.spec.recorder.max_cameras_per_pod);
    let config = |camera: &crate::controllers::site::validate::ValidCamera| {
        Some(CameraConfig {
            name: camera.name.clone(),
            shard: *shards.get(&camera.name)?,
            source: camera.source.clone(),
            permitted: permitted.clone().into_vec(),
            suspended: camera.suspended.clone().into_vec(),
        })
    };
    valid.cameras.iter().filter_map(config).collect()
}

/// The same for recorders that are to go: nothing may be recorded any more, and what waits is uploaded.
pub fn closing_config(document: &RecorderConfig) -> RecorderConfig {
    let mut closed = document.clone();
    for camera in &mut closed.cameras {
        camera.permitted.clear();
    }
    with_revision(closed, Some(document))
}

/// `document` with its revision, whatever stands there: that of `previous` if nothing else differs, else one that no
/// configuration had before.
///
/// A configuration that returns to an earlier one does not get the earlier one's revision: its hash includes the revision of
/// `previous`. Otherwise a recorder's earlier answer would acknowledge it, while the recorder follows the configuration in
/// between, or is about to read it. Without `previous` the certificate and the token are new, so the hash is too.
fn with_revision(mut document: RecorderConfig, previous: Option<&RecorderConfig>) -> RecorderConfig {
    document.revision = previous.map_or_else(String::new, |previous| previous.revision.clone());
    if previous != Some(&document) || !is_valid_revision(&document.revision) {
        let hash = Sha256::digest(to_json(&document));
        document.revision = hex::encode(hash).chars().take(REVISION_LENGTH).collect();
    }
    document
}

/// Whether it can be one of ours: who may write Secrets in the namespace could put anything there.
fn is_valid_revision(text: &str) -> bool {
    text.len() == REVISION_LENGTH && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// As the Secret has it. A document is plain data with texts as keys, which can always be written.
fn to_json(document: &RecorderConfig) -> Vec<u8> {
    serde_json::to_vec(document).unwrap_or_default()
}

fn days_to_ms(days: Days) -> u64 {
    u64::from(days.0).saturating_mul(DAY_MS)
}

#[cfg(test)]
mod tests;
