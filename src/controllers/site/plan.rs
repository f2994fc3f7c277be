//! Step four: what should be there. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Secret, Service, ServiceAccount};
use kube::Resource;
use sha2::{Digest, Sha256};

use super::dereference::Dereferenced;
use super::found::Bucket;
use super::identity::Identity;
use super::objects::{self, Pods};
use super::target;
use super::told::{self, Widened};
use super::validate::Valid;
use crate::api::{Days, Site};
use crate::contract::{CameraConfig, FORMAT, RecorderConfig, StatusApi};
use crate::controllers::buckets::Coverings;
use crate::controllers::config::OperatorConfig;
use crate::protocol::{Windows, shard};

/// Of the spool's volume, what segments may take: the kubelet evicts a pod that fills its volume to the brim.
const SPOOL_PERCENT: u64 = 90;
/// More than a revision and the name of the holds' field add to a configuration.
const ENVELOPE: usize = 128;
/// Letters of a revision.
const REVISION: usize = 16;
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// What should be there.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The recorders; `None`: nothing has to be recorded yet, and nothing was.
    pub recorders: Option<RecorderPlan>,
}

/// The recorders that should be there.
#[derive(Clone, Debug, PartialEq)]
pub struct RecorderPlan {
    /// Who they are to the cluster: nobody.
    pub account: ServiceAccount,
    /// Their names in DNS.
    pub service: Service,
    /// What they know.
    pub config: Secret,
    /// Themselves.
    pub workload: StatefulSet,
    /// What they should say of themselves.
    pub expected: Expected,
}

/// What the recorders should say of themselves.
#[derive(Clone, Debug, PartialEq)]
pub struct Expected {
    /// How many pods there should be.
    pub pods: u32,
    /// Which configuration they should follow.
    pub revision: String,
    /// How they are asked.
    pub api: StatusApi,
    /// The holds that they follow when they follow this configuration: all that these cover they seal.
    pub holds: Coverings,
    /// How much more than that they seal; `None`: nothing more.
    pub widened: Option<Widened>,
}

/// What follows from all that was found.
///
/// Recorders come to be once the bucket was read back as it must be. Where they are there already and must
/// not record, they stay without a window in which they may, so that what waits in a spool is uploaded.
pub fn plan(
    site: &Site,
    found: &Dereferenced,
    valid: &Valid,
    bucket: &Bucket,
    identity: &Identity,
    held: Option<Coverings>,
    config: &OperatorConfig,
) -> Plan {
    let may_record = valid.accepted.is_true() && bucket.may_record();
    if !may_record && found.pods.is_none() {
        return Plan { recorders: None };
    }
    // Until the ledger has been read, what recorders know of holds stays.
    let held = held.or_else(|| Some(found.config.as_ref()?.holds.clone()));
    let held = held.unwrap_or_default();
    let Some(document) = document(site, found, valid, identity, &held, may_record) else {
        return Plan { recorders: None };
    };
    let owner = site.controller_owner_ref(&()).into_iter().collect::<Vec<_>>();
    let pods =
        shard::pods(&document.cameras.iter().map(|camera| (camera.name.clone(), camera.shard)).collect());
    let settings = &site.spec.recorder;
    let recorders = RecorderPlan {
        account: objects::account(&valid.names, &owner),
        service: objects::service(&valid.names, &owner),
        workload: objects::workload(
            &valid.names,
            &owner,
            &Pods { count: pods, settings, config, is_ambient: site.spec.storage.recorder.ambient },
        ),
        expected: Expected {
            pods,
            revision: document.revision.clone(),
            api: document.status_api.clone(),
            holds: held,
            widened: told::widened(&document.holds),
        },
        config: objects::config(&valid.names, &owner, &document),
    };
    Plan { recorders: Some(recorders) }
}

/// The recorders' configuration; `None` where nothing is known to configure them with.
fn document(
    site: &Site,
    found: &Dereferenced,
    valid: &Valid,
    identity: &Identity,
    held: &Coverings,
    may_record: bool,
) -> Option<RecorderConfig> {
    let previous = found.config.as_ref();
    // Without credentials the recorders keep those they have, for what still waits in their spools.
    let access = valid.access.as_ref();
    let storage = access
        .and_then(|access| access.recorder.clone())
        .map(target::for_pods)
        .or_else(|| previous.map(|config| config.storage.clone()))?;
    let ceiling = valid.ceilings.as_ref().map(|ceilings| milliseconds(ceilings.video));
    let segment = site.spec.recorder.segment_duration.0.as_millis();
    let mut document = RecorderConfig {
        format: FORMAT,
        revision: String::new(),
        namespace: valid.names.namespace.clone(),
        site: valid.names.site.clone(),
        storage,
        segment_duration_ms: u64::try_from(segment).unwrap_or(u64::MAX),
        video_ceiling_ms: ceiling.or_else(|| previous.map(|config| config.video_ceiling_ms))?,
        spool_bytes: valid.spool_bytes / 100 * SPOOL_PERCENT,
        cameras: cameras(site, previous, found.pods.unwrap_or_default(), valid, may_record),
        holds: Coverings::new(),
        status_api: identity.api.clone(),
    };
    document.holds = told::fit(held, told::MOST_BYTES.saturating_sub(bytes(&document).len() + ENVELOPE));
    Some(revised(document, previous))
}

fn cameras(
    site: &Site,
    previous: Option<&RecorderConfig>,
    there: u32,
    valid: &Valid,
    may_record: bool,
) -> Vec<CameraConfig> {
    let permitted = if may_record { valid.permission.windows.clone() } else { Windows::never() };
    let before: BTreeMap<String, u32> = previous
        .iter()
        .flat_map(|config| &config.cameras)
        .map(|camera| (camera.name.clone(), camera.shard))
        .collect();
    let names: Vec<String> = valid.cameras.iter().map(|camera| camera.name.clone()).collect();
    let shards = shard::assign(&before, there, &names, site.spec.recorder.cameras_per_pod);
    let config = |camera: &super::validate::ValidCamera| {
        let source = camera.source.clone();
        Some(CameraConfig {
            name: camera.name.clone(),
            shard: *shards.get(&camera.name)?,
            url: source.url,
            login: source.login,
            allow_basic: source.allow_basic,
            ca_pem: source.ca_pem,
            permitted: permitted.clone().into_vec(),
            suspended: camera.suspended.clone().into_vec(),
        })
    };
    valid.cameras.iter().filter_map(config).collect()
}

/// The same for recorders that are to go: nothing may be recorded any more, and what waits is uploaded.
pub fn closed(document: &RecorderConfig) -> RecorderConfig {
    let mut closed = document.clone();
    for camera in &mut closed.cameras {
        camera.permitted.clear();
    }
    revised(closed, Some(document))
}

/// `document` with its revision, whatever stands there: that of `previous` if nothing else differs, else one that no
/// configuration had before.
///
/// A configuration that returns to an earlier one does not get the earlier one's revision: its hash includes the revision of
/// `previous`. Otherwise a recorder's earlier answer would acknowledge it, while the recorder follows the configuration in
/// between, or is about to read it. Without `previous` the certificate and the token are new, so the hash is too.
fn revised(mut document: RecorderConfig, previous: Option<&RecorderConfig>) -> RecorderConfig {
    document.revision = previous.map_or_else(String::new, |previous| previous.revision.clone());
    if previous != Some(&document) || !is_revision(&document.revision) {
        let hash = Sha256::digest(bytes(&document));
        document.revision = hex::encode(hash).chars().take(REVISION).collect();
    }
    document
}

/// Whether it can be one of ours: who may write Secrets in the namespace could put anything there.
fn is_revision(text: &str) -> bool {
    text.len() == REVISION && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// As the Secret has it. A document is plain data with texts as keys, which can always be written.
fn bytes(document: &RecorderConfig) -> Vec<u8> {
    serde_json::to_vec(document).unwrap_or_default()
}

fn milliseconds(days: Days) -> u64 {
    u64::from(days.0).saturating_mul(DAY_MS)
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
