//! Volume claims of the recorders' spools. A claim outlives its pod and its StatefulSet. The operator alone deletes it.
//!
//! Anybody may scale or delete a StatefulSet, and the operator may stop between any two requests. Therefore a claim itself has
//! the evidence that nothing is in it:
//! * A claim without evidence may have content. While its shard has no pod, the operator brings the pod back, so that its
//!   recorder uploads the content.
//! * The operator writes the evidence while the recorder answers that its spool is empty, and that it follows a configuration in
//!   which its cameras may not record. Only after that the operator lowers the replicas or deletes the StatefulSet.
//! * The operator removes the evidence before it applies a configuration in which cameras of the shard may record.
//! * The operator deletes a claim only with evidence, without a pod, and if its shard is not wanted.
//!
//! After a stop between any two of these steps, the claim either has evidence that is true, or none.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, Preconditions};
use kube::{Api, ResourceExt};
use serde_json::json;

use super::names::{ChildNames, FIELD_MANAGER, SITE_LABEL};
use super::query::ShardReply;
use super::site_pods::known_pods;
pub use super::spool_claim::{
    CLAIM_FINALIZER, ClaimContent, ClaimStorage, SPOOL_EMPTY_ANNOTATION, SPOOL_GIVEN_UP_ANNOTATION,
    SpoolClaim, is_own,
};
use super::workload::{has_user, replicas};
use crate::controllers::context::Context;
use crate::controllers::kubernetes::ApiError;
use crate::controllers::kubernetes::cached::Cached;
use crate::controllers::kubernetes::meta::{ObservedMeta, patch_finalizers};
use crate::wire::{RecorderConfig, RecorderStatus};

/// Whether the spools of `workload` are volume claims.
pub fn has_claims(workload: &StatefulSet) -> bool {
    let claims = workload.spec.as_ref().and_then(|spec| spec.volume_claim_templates.as_ref());
    claims.is_some_and(|claims| !claims.is_empty())
}

/// Whether a pod of `shard` exists, in any phase. `pods` are all pods of the Site.
pub fn has_pod(names: &ChildNames, pods: &[Pod], shard: u32) -> bool {
    let name = names.pod(shard);
    pods.iter().any(|pod| pod.name_any() == name)
}

/// Whether cameras of `shard` may record with this configuration, now or later.
fn may_record(config: &RecorderConfig, shard: u32) -> bool {
    config.cameras.iter().any(|camera| camera.shard == shard && !camera.permitted.is_empty())
}

/// Whether a recorder reports content in its spool.
fn has_content(status: &RecorderStatus) -> bool {
    status.spool.segments > 0 || status.spool.unrecovered > 0 || status.spool.bytes > 0
}

/// Returns the number of pods without which a claim that may have content has no pod.
pub fn needed_pods(claims: &[SpoolClaim]) -> u32 {
    let unknown = claims.iter().filter(|claim| claim.content == ClaimContent::Unknown);
    unknown.map(|claim| claim.shard.saturating_add(1)).max().unwrap_or_default()
}

/// Spools as the Site wants them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedSpools {
    pub pods: u32,
    /// Storage of each claim; `None`: the spools are no claims.
    pub storage: Option<ClaimStorage>,
}

impl WantedSpools {
    pub fn of(workload: &StatefulSet) -> Self {
        Self { pods: replicas(workload), storage: ClaimStorage::of_template(workload) }
    }

    fn fits(&self, claim: &SpoolClaim) -> bool {
        self.storage.as_ref().is_some_and(|storage| claim.storage.fits(storage))
    }

    /// Whether a claim is to be deleted once no pod uses it. `live_pods`: replicas of the StatefulSet, if there is one.
    ///
    /// Without a StatefulSet, also a claim of another storage class or size goes: a new StatefulSet would use it again.
    fn is_leaving(&self, claim: &SpoolClaim, live_pods: Option<u32>) -> bool {
        let is_wanted = claim.shard < self.pods.max(live_pods.unwrap_or_default());
        let is_usable = live_pods.is_some() || self.fits(claim);
        claim.may_go() && (claim.is_deleting || !is_wanted || !is_usable)
    }

    /// Whether a new StatefulSet must wait for the end of this claim.
    ///
    /// It must not use the claim. And nobody would look for the rest of the claims once the spools are no claims any more.
    fn blocks_creation(&self, claim: &SpoolClaim) -> bool {
        let must_be_let_go = self.storage.is_none() && (!claim.is_deleting || claim.is_protected());
        self.is_leaving(claim, None) && (claim.shard < self.pods && self.storage.is_some() || must_be_let_go)
    }

    /// Whether somebody deleted a claim that is wanted. No new pod can use it, so all recorders stop, upload and get new claims
    /// while its pod still runs.
    fn must_recreate(&self, claims: &[SpoolClaim], names: &ChildNames, pods: &[Pod]) -> bool {
        let is_finished = |claim: &SpoolClaim| claim.may_go() && !has_user(names, pods, claim.shard);
        claims.iter().any(|claim| claim.is_deleting && claim.shard < self.pods && !is_finished(claim))
    }

    /// Returns the storage with which a missing StatefulSet is created again, because claims with content need another than the
    /// wanted one. Its pods upload the content, and then the StatefulSet is replaced.
    fn storage_to_adopt(&self, claims: &[SpoolClaim]) -> Option<ClaimStorage> {
        let is_unusable = |claim: &&SpoolClaim| claim.content == ClaimContent::Unknown && !self.fits(claim);
        let unusable = claims.iter().filter(is_unusable);
        unusable.max_by_key(|claim| claim.shard).map(|claim| claim.storage.clone())
    }
}

/// Returns the shards whose claims lose their evidence before `config` is applied.
///
/// Not a claim that is being deleted and has no pod: no pod can ever use it again.
fn shards_to_reopen(
    claims: &[SpoolClaim],
    config: &RecorderConfig,
    names: &ChildNames,
    pods: &[Pod],
) -> Vec<u32> {
    let has_evidence =
        |claim: &&SpoolClaim| matches!(claim.content, ClaimContent::Empty | ClaimContent::GivenUp);
    let can_be_used = |claim: &&SpoolClaim| !claim.is_deleting || has_user(names, pods, claim.shard);
    let reopened = claims.iter().filter(has_evidence).filter(can_be_used).map(|claim| claim.shard);
    reopened.filter(|shard| may_record(config, *shard)).collect()
}

/// Returns the shards whose recorders prove their spools empty, for good: with `config` they record nothing.
fn proved_shards(
    claims: &[SpoolClaim],
    replies: &[ShardReply],
    config: &RecorderConfig,
    is_empty: impl Fn(&RecorderStatus) -> bool,
) -> Vec<u32> {
    let proves = |reply: &&ShardReply| reply.status.as_ref().is_ok_and(&is_empty);
    let is_unknown = |shard: &u32| claims.iter().any(|claim| claim.shard == *shard && !claim.may_go());
    let shards = replies.iter().filter(proves).map(|reply| reply.shard);
    shards.filter(is_unknown).filter(|shard| !may_record(config, *shard)).collect()
}

/// Returns the shards whose recorders report content in spools that their claims say are empty. Another party wrote that evidence.
fn contradicted_shards(claims: &[SpoolClaim], replies: &[ShardReply]) -> Vec<u32> {
    let contradicts = |reply: &&ShardReply| reply.status.as_ref().is_ok_and(has_content);
    let is_empty = |shard: &u32| {
        claims.iter().any(|claim| claim.shard == *shard && claim.content == ClaimContent::Empty)
    };
    replies.iter().filter(contradicts).map(|reply| reply.shard).filter(is_empty).collect()
}

/// Claims of a Site, and the requests that change them.
pub struct Spools {
    api: Api<PersistentVolumeClaim>,
    cached: Cached<PersistentVolumeClaim>,
    names: ChildNames,
    claims: Vec<SpoolClaim>,
    is_changed: bool,
}

impl Spools {
    /// Lists the claims of a Site by their names, unless the spools of its StatefulSet are no claims. Without a StatefulSet, those of an earlier
    /// one may have content.
    pub async fn list(
        context: &Context,
        names: &ChildNames,
        live: Option<&StatefulSet>,
    ) -> Result<Self, ApiError> {
        let api = Api::<PersistentVolumeClaim>::namespaced(context.client.clone(), &names.namespace);
        // Not by their labels, which anybody may remove.
        let mut listed = if live.is_none_or(has_claims) {
            api.list(&ListParams::default()).await?.items
        } else {
            Vec::new()
        };
        let used = live.map(replicas).unwrap_or_default().max(known_pods(&context.cache, names));
        listed.retain(|claim| is_own(claim, names, used));
        Ok(Self::new(context, names, &listed))
    }

    /// Returns the claims of `live` in the watch cache.
    pub fn cached(context: &Context, names: &ChildNames, live: &StatefulSet) -> Self {
        let cached = &context.cache.claims;
        let found = if has_claims(live) { cached.of_site(&names.namespace, &names.site) } else { Vec::new() };
        Self::new(context, names, found.iter().map(|claim| &**claim))
    }

    fn new<'a>(
        context: &Context,
        names: &ChildNames,
        found: impl IntoIterator<Item = &'a PersistentVolumeClaim>,
    ) -> Self {
        let found = found.into_iter();
        let mut claims: Vec<_> = found.filter_map(|claim| SpoolClaim::new(claim, names)).collect();
        claims.sort_by_key(|claim| claim.shard);
        let api = Api::namespaced(context.client.clone(), &names.namespace);
        let cached = context.cache.claims.clone();
        Self { api, cached, names: names.clone(), claims, is_changed: false }
    }

    /// Returns the number of shards that include each claim.
    pub fn shards_end(&self) -> u32 {
        self.claims.iter().map(|claim| claim.shard.saturating_add(1)).max().unwrap_or_default()
    }

    /// Whether each wanted pod has a claim, and every claim is used by a pod that is wanted, so that nothing is to be done to any.
    pub fn are_in_use(&self, wanted: &WantedSpools) -> bool {
        let is_in_use = |claim: &SpoolClaim| {
            claim.content == ClaimContent::Unknown
                && claim.is_protected()
                && !claim.is_deleting
                && claim.shard < wanted.pods
                && self.cached.has_own_changes(&self.names.namespace, &claim.name)
        };
        let has_claim = |shard: u32| self.claims.iter().any(|claim| claim.shard == shard);
        // A claim may have lost the label that the watch selects it by.
        let is_complete = wanted.storage.is_none() || (0..wanted.pods).all(has_claim);
        is_complete && self.claims.iter().all(is_in_use)
    }

    pub fn claims(&self) -> &[SpoolClaim] {
        &self.claims
    }

    pub fn claim_names(&self) -> Vec<String> {
        self.claims.iter().map(|claim| claim.name.clone()).collect()
    }

    /// Deletes the claims of a deleted Site that may go. Returns the names of all claims that the operator has not let go.
    pub async fn remove_all(&mut self, pods: &[Pod]) -> Result<Vec<String>, ApiError> {
        let all: Vec<u32> = self.claims.iter().map(|claim| claim.shard).collect();
        self.remove(&all, pods).await?;
        let kept = self.claims.iter().filter(|claim| !claim.is_deleting || claim.is_protected());
        Ok(kept.map(|claim| claim.name.clone()).collect())
    }

    /// Whether any request changed a claim.
    pub fn is_changed(&self) -> bool {
        self.is_changed
    }

    /// Returns whether a shard's claim has evidence.
    pub fn may_go(&self, shard: u32) -> bool {
        self.claims.iter().any(|claim| claim.shard == shard && claim.may_go())
    }

    /// Adds the finalizer and the label to claims without: an earlier operator created them, or another party removed it.
    pub async fn protect(&mut self) -> Result<(), ApiError> {
        for claim in self.claims.iter_mut().filter(|claim| claim.needs_finalizer() || !claim.is_labelled) {
            let own = claim.needs_finalizer().then(|| CLAIM_FINALIZER.to_owned());
            let finalizers: Vec<String> = claim.finalizers.iter().cloned().chain(own).collect();
            let patch = json!({"metadata": {
                "finalizers": finalizers, "labels": {SITE_LABEL: self.names.site},
                "resourceVersion": claim.resource_version, "uid": claim.uid,
            }});
            let patched =
                self.api.patch_metadata(&claim.name, &patch_params(), &Patch::Merge(&patch)).await?;
            self.cached.note_written(&patched);
            claim.resource_version = patched.metadata.resource_version;
            claim.finalizers = finalizers;
            claim.is_labelled = true;
            self.is_changed = true;
        }
        Ok(())
    }

    /// Deletes the claims that are not wanted any more and that no pod uses.
    pub async fn remove_leaving(
        &mut self,
        wanted: &WantedSpools,
        live: Option<&StatefulSet>,
        pods: &[Pod],
    ) -> Result<(), ApiError> {
        let live_pods = live.map(replicas);
        let leaving = self.claims.iter().filter(|claim| wanted.is_leaving(claim, live_pods));
        let leaving: Vec<u32> = leaving.map(|claim| claim.shard).collect();
        self.remove(&leaving, pods).await
    }

    /// Returns the claims for whose end the creation of a StatefulSet waits.
    pub fn blocking_creation(&self, wanted: &WantedSpools) -> Vec<String> {
        let blocking = self.claims.iter().filter(|claim| wanted.blocks_creation(claim));
        blocking.map(|claim| claim.name.clone()).collect()
    }

    pub fn must_recreate(&self, wanted: &WantedSpools, pods: &[Pod]) -> bool {
        wanted.must_recreate(&self.claims, &self.names, pods)
    }

    pub fn storage_to_adopt(&self, wanted: &WantedSpools) -> Option<ClaimStorage> {
        wanted.storage_to_adopt(&self.claims)
    }

    /// Removes the evidence of claims whose cameras may record with `config`. To be called before `config` is applied.
    pub async fn reopen(&mut self, config: &RecorderConfig, pods: &[Pod]) -> Result<(), ApiError> {
        let shards = shards_to_reopen(&self.claims, config, &self.names, pods);
        self.set_content(&shards, ClaimContent::Unknown, None).await
    }

    /// Writes the evidence of claims whose recorders prove them empty, and removes evidence that is wrong. `config` is the applied
    /// configuration.
    pub async fn record_proofs(
        &mut self,
        replies: &[ShardReply],
        config: &RecorderConfig,
        is_empty: impl Fn(&RecorderStatus) -> bool,
    ) -> Result<(), ApiError> {
        let contradicted = contradicted_shards(&self.claims, replies);
        self.set_content(&contradicted, ClaimContent::Unknown, None).await?;
        let shards = proved_shards(&self.claims, replies, config, is_empty);
        self.set_content(&shards, ClaimContent::Empty, Some(&config.revision)).await
    }

    /// Gives up the content of the claims of these shards.
    pub async fn give_up(&mut self, is_given_up: impl Fn(u32) -> bool) -> Result<(), ApiError> {
        let unknown = self.claims.iter().filter(|claim| is_given_up(claim.shard) && !claim.may_go());
        let shards: Vec<u32> = unknown.map(|claim| claim.shard).collect();
        self.set_content(&shards, ClaimContent::GivenUp, Some("true")).await
    }

    async fn set_content(
        &mut self,
        shards: &[u32],
        content: ClaimContent,
        value: Option<&str>,
    ) -> Result<(), ApiError> {
        let value_of = |kind| value.filter(|_| content == kind);
        for claim in self.claims.iter_mut().filter(|claim| shards.contains(&claim.shard)) {
            // With the resourceVersion, the server answers 409 if anything about the claim changed since it was read.
            let patch = json!({"metadata": {
                "annotations": {
                    SPOOL_EMPTY_ANNOTATION: value_of(ClaimContent::Empty),
                    SPOOL_GIVEN_UP_ANNOTATION: value_of(ClaimContent::GivenUp),
                },
                "resourceVersion": claim.resource_version, "uid": claim.uid,
            }});
            let patched =
                self.api.patch_metadata(&claim.name, &patch_params(), &Patch::Merge(&patch)).await?;
            self.cached.note_written(&patched);
            let (namespace, site, claim_name) = (&self.names.namespace, &self.names.site, &claim.name);
            tracing::info!(namespace, site, claim = claim_name, ?content, "content of a spool's claim");
            claim.resource_version = patched.metadata.resource_version;
            claim.content = content;
            self.is_changed = true;
        }
        Ok(())
    }

    /// Deletes the claims of these shards that may go and that no pod can use. Kubernetes keeps a claim that a pod uses.
    pub async fn remove(&mut self, shards: &[u32], pods: &[Pod]) -> Result<(), ApiError> {
        for claim in &mut self.claims {
            if !shards.contains(&claim.shard)
                || !claim.may_go()
                || has_user(&self.names, pods, claim.shard)
                || claim.is_deleting && !claim.is_protected()
            {
                continue;
            }
            let (namespace, site, claim_name) = (&self.names.namespace, &self.names.site, &claim.name);
            tracing::info!(namespace, site, claim = claim_name, content = ?claim.content, "deleting a spool's claim");
            delete_claim(&self.api, &self.cached, claim).await?;
            self.is_changed = true;
        }
        Ok(())
    }
}

/// Deletes a claim that did not change since it was read, and then removes the finalizer.
async fn delete_claim(
    api: &Api<PersistentVolumeClaim>,
    cached: &Cached<PersistentVolumeClaim>,
    claim: &mut SpoolClaim,
) -> Result<(), ApiError> {
    if !claim.is_deleting {
        let version = claim.resource_version.clone();
        let preconditions = Preconditions { uid: claim.uid.clone(), resource_version: version };
        let params = DeleteParams::default().preconditions(preconditions);
        match api.delete(&claim.name, &params).await.map_err(ApiError) {
            Ok(answer) => {
                claim.is_deleting = true;
                // Without an object in the answer, the claim is gone.
                let Some(left) = answer.left() else { return Ok(()) };
                cached.note_written(&left);
                claim.resource_version = left.resource_version();
                claim.finalizers = left.finalizers().to_vec();
            }
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    let rest: Vec<String> =
        claim.finalizers.iter().filter(|finalizer| *finalizer != CLAIM_FINALIZER).cloned().collect();
    let observed = ObservedMeta {
        name: &claim.name,
        uid: claim.uid.as_deref(),
        resource_version: claim.resource_version.as_deref(),
    };
    patch_finalizers(api, observed, &rest, FIELD_MANAGER).await?;
    claim.finalizers = rest;
    Ok(())
}

fn patch_params() -> PatchParams {
    PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() }
}

#[cfg(test)]
mod tests;
