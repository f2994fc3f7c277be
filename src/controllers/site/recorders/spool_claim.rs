//! Volume claim of one shard's spool, as the operator reads it. Pure.
//!
//! The StatefulSet finds a claim by its name, and so does the operator: anybody may remove a label.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimSpec};
use kube::ResourceExt;

use super::names::{ChildNames, SITE_LABEL};
use super::workload::MAX_PODS;
use crate::controllers::kubernetes::{meta, quantity};

/// Finalizer of a claim: nobody but the operator deletes it. The StatefulSet controller copies it from the claim template.
pub const CLAIM_FINALIZER: &str = "toezicht.dev/spool";
/// Evidence that a claim is empty. The value is the revision of the configuration in which its recorder stopped recording.
pub const SPOOL_EMPTY_ANNOTATION: &str = "toezicht.dev/spool-empty";
/// Decision that the content of a claim is lost. The Site has an event with the reason.
pub const SPOOL_GIVEN_UP_ANNOTATION: &str = "toezicht.dev/spool-given-up";

/// Content of a claim, as far as the claim itself says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimContent {
    /// Without evidence. It may have anything.
    Unknown,
    /// Its recorder proved it empty.
    Empty,
    /// It never had a volume.
    NeverBound,
    /// It names a volume that it was never bound to. No pod can use it before, and another party may want it.
    Unbound,
    /// Somebody scaled the StatefulSet beyond [`MAX_PODS`], where it has no cameras.
    NeverRecorded,
    /// A person gave the content up, or the time for the uploads of a deleted Site is over.
    GivenUp,
}

/// Storage of a claim, or of a claim template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimStorage {
    pub class: String,
    pub size: String,
}

impl ClaimStorage {
    fn of(spec: &PersistentVolumeClaimSpec) -> Self {
        let requests = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref());
        let size = requests.and_then(|requests| requests.get("storage"));
        Self {
            class: spec.storage_class_name.clone().unwrap_or_default(),
            size: size.map(|size| size.0.clone()).unwrap_or_default(),
        }
    }

    /// Returns the storage that `workload` has for each pod; `None`: its spools are no claims.
    pub(super) fn of_template(workload: &StatefulSet) -> Option<Self> {
        let templates = workload.spec.as_ref()?.volume_claim_templates.as_ref()?;
        templates.first().and_then(|template| template.spec.as_ref()).map(Self::of)
    }

    /// Whether a claim with this storage can be used for `desired`. A person may have expanded it.
    pub(super) fn fits(&self, desired: &Self) -> bool {
        let bytes = |storage: &Self| quantity::parse_millis(&storage.size);
        self.class == desired.class && bytes(self) >= bytes(desired)
    }
}

/// Claim of one shard, as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpoolClaim {
    pub shard: u32,
    pub name: String,
    pub content: ClaimContent,
    /// Somebody deleted it. No new pod can use it, and the deletion cannot be revoked.
    pub is_deleting: bool,
    /// It has the label of the Site, by which the watch selects it.
    pub(super) is_labelled: bool,
    pub created: Option<Timestamp>,
    pub(super) storage: ClaimStorage,
    pub(super) finalizers: Vec<String>,
    pub(super) uid: Option<String>,
    pub(super) resource_version: Option<String>,
}

impl SpoolClaim {
    /// Returns the claim of one of the Site's shards; `None`: it is another claim.
    pub(super) fn new(claim: &PersistentVolumeClaim, names: &ChildNames) -> Option<Self> {
        let name = claim.name_any();
        let shard = names.shard_of_claim(&name)?;
        let is_protected = claim.finalizers().iter().any(|finalizer| finalizer == CLAIM_FINALIZER);
        if shard >= MAX_PODS && !is_protected {
            return None;
        }
        let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
        let spec = claim.spec.clone().unwrap_or_default();
        let has = |annotation: &str| claim.annotations().contains_key(annotation);
        let content = if has(SPOOL_EMPTY_ANNOTATION) {
            ClaimContent::Empty
        } else if has(SPOOL_GIVEN_UP_ANNOTATION) {
            ClaimContent::GivenUp
        } else if spec.volume_name.as_deref().unwrap_or_default().is_empty() {
            ClaimContent::NeverBound
        } else if shard >= MAX_PODS {
            ClaimContent::NeverRecorded
        } else if phase == Some("Pending") {
            ClaimContent::Unbound
        } else {
            ClaimContent::Unknown
        };
        Some(Self {
            shard,
            name,
            content,
            is_deleting: meta::is_deleting(claim),
            is_labelled: is_labelled(claim, names),
            created: claim.metadata.creation_timestamp.as_ref().map(|time| time.0),
            storage: ClaimStorage::of(&spec),
            finalizers: claim.finalizers().to_vec(),
            uid: claim.uid(),
            resource_version: claim.resource_version(),
        })
    }

    /// Whether nothing is lost with it that is not lost already.
    pub fn may_go(&self) -> bool {
        !matches!(self.content, ClaimContent::Unknown | ClaimContent::Unbound)
    }

    /// Whether it may have content, and somebody could delete it.
    pub(super) fn needs_finalizer(&self) -> bool {
        !self.is_protected() && !self.is_deleting && self.content == ClaimContent::Unknown
    }

    pub(super) fn is_protected(&self) -> bool {
        self.finalizers.iter().any(|finalizer| finalizer == CLAIM_FINALIZER)
    }
}

/// Whether a claim is one of the Site's spools. A claim with the name of a spool that no pod uses and that has none of the operator's
/// marks is another party's. `used`: pods that the Site has or may have had.
pub fn is_own(claim: &PersistentVolumeClaim, names: &ChildNames, used: u32) -> bool {
    let has = |annotation: &str| claim.annotations().contains_key(annotation);
    let is_marked = is_labelled(claim, names)
        || claim.finalizers().iter().any(|finalizer| finalizer == CLAIM_FINALIZER)
        || has(SPOOL_EMPTY_ANNOTATION)
        || has(SPOOL_GIVEN_UP_ANNOTATION);
    names.shard_of_claim(&claim.name_any()).is_some_and(|shard| shard < used || is_marked)
}

fn is_labelled(claim: &PersistentVolumeClaim, names: &ChildNames) -> bool {
    claim.labels().get(SITE_LABEL) == Some(&names.site)
}
