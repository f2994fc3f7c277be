//! Kubernetes objects of a Site's recorders. Pure.
//!
//! Fields that an author of the namespace could loosen are set explicitly, even to their default: the operator can then
//! detect and revert a change.

use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::{
    RollingUpdateStatefulSetStrategy, StatefulSet, StatefulSetPersistentVolumeClaimRetentionPolicy,
    StatefulSetSpec, StatefulSetUpdateStrategy,
};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::claims::{CLAIM_FINALIZER, ClaimStorage};
use super::names::{CONFIG_SECRET_TYPE, ChildNames, SPOOL_VOLUME};
use super::pod::{self, RecorderPods};
use crate::controllers::kubernetes::quantity;
use crate::wire::{CONFIG_KEY, HEALTH_PORT, RecorderConfig, STATUS_PORT};

/// Returns the ServiceAccount of the recorders. It has no rights, and its pods have no token for the Kubernetes API.
pub fn service_account(names: &ChildNames) -> core::ServiceAccount {
    core::ServiceAccount {
        metadata: metadata(names, &names.recorder),
        automount_service_account_token: Some(false),
        ..core::ServiceAccount::default()
    }
}

/// Returns the headless Service that gives each recorder its DNS name.
pub fn service(names: &ChildNames) -> core::Service {
    let port = |name: &str, port: u16| core::ServicePort {
        name: Some(name.to_owned()),
        port: i32::from(port),
        protocol: Some("TCP".to_owned()),
        target_port: Some(IntOrString::String(name.to_owned())),
        ..core::ServicePort::default()
    };
    core::Service {
        metadata: metadata(names, &names.recorder),
        spec: Some(core::ServiceSpec {
            cluster_ip: Some("None".to_owned()),
            selector: Some(names.selector()),
            ports: Some(vec![
                port(pod::STATUS_PORT_NAME, STATUS_PORT),
                port(pod::HEALTH_PORT_NAME, HEALTH_PORT),
            ]),
            // Otherwise nobody could query a recorder that is not ready for the cause.
            publish_not_ready_addresses: Some(true),
            ..core::ServiceSpec::default()
        }),
        ..core::Service::default()
    }
}

pub fn config_secret(names: &ChildNames, document: &RecorderConfig) -> core::Secret {
    // Never fails: the document has no map with keys other than strings.
    let bytes = serde_json::to_vec(document).unwrap_or_default();
    core::Secret {
        metadata: metadata(names, &names.config),
        type_: Some(CONFIG_SECRET_TYPE.to_owned()),
        data: Some([(CONFIG_KEY.to_owned(), ByteString(bytes))].into()),
        ..core::Secret::default()
    }
}

pub fn stateful_set(names: &ChildNames, pods: &RecorderPods<'_>) -> StatefulSet {
    let spool = &pods.settings.spool;
    let storage = |class: &String| ClaimStorage { class: class.clone(), size: spool.size.clone() };
    let claim = spool.storage_class_name.as_ref().map(|class| spool_claim(names, &storage(class)));
    StatefulSet {
        metadata: metadata(names, &names.recorder),
        spec: Some(StatefulSetSpec {
            replicas: Some(i32::try_from(pods.count).unwrap_or(i32::MAX)),
            service_name: Some(names.recorder.clone()),
            selector: LabelSelector { match_labels: Some(names.selector()), match_expressions: None },
            template: pod::pod_template(names, pods),
            // Recorders are independent: one that fails must not delay the others.
            pod_management_policy: Some("Parallel".to_owned()),
            update_strategy: Some(StatefulSetUpdateStrategy {
                type_: Some("RollingUpdate".to_owned()),
                rolling_update: Some(RollingUpdateStatefulSetStrategy {
                    // Closed: `rollout` opens it for one pod at a time.
                    partition: i32::try_from(pods.count).ok(),
                    ..Default::default()
                }),
            }),
            revision_history_limit: Some(2),
            persistent_volume_claim_retention_policy: claim.is_some().then(claim_retention_policy),
            volume_claim_templates: claim.map(|claim| vec![claim]),
            ..StatefulSetSpec::default()
        }),
        ..StatefulSet::default()
    }
}

/// Returns the policy by which Kubernetes deletes no claim. The operator deletes them: anybody may scale or delete a StatefulSet.
fn claim_retention_policy() -> StatefulSetPersistentVolumeClaimRetentionPolicy {
    StatefulSetPersistentVolumeClaimRetentionPolicy {
        when_deleted: Some("Retain".to_owned()),
        when_scaled: Some("Retain".to_owned()),
    }
}

/// Gives the pods of `workload` claims with this storage as their spools.
pub fn set_claim_storage(workload: &mut StatefulSet, names: &ChildNames, storage: &ClaimStorage) {
    let spec = workload.spec.get_or_insert_default();
    spec.volume_claim_templates = Some(vec![spool_claim(names, storage)]);
    spec.persistent_volume_claim_retention_policy = Some(claim_retention_policy());
    let pod = spec.template.spec.get_or_insert_default();
    pod::set_claim_size(pod, &storage.size);
    // The StatefulSet adds the volume of the claim.
    pod.volumes.get_or_insert_default().retain(|volume| volume.name != SPOOL_VOLUME);
}

/// Takes over the metadata of the claim templates of `live`: it is immutable, and an earlier operator may have set another.
pub fn keep_claim_metadata(workload: &mut StatefulSet, live: &StatefulSet) {
    let live = live.spec.as_ref().and_then(|spec| spec.volume_claim_templates.as_ref());
    let templates = workload.spec.as_mut().and_then(|spec| spec.volume_claim_templates.as_mut());
    for (template, live) in templates.into_iter().flatten().zip(live.into_iter().flatten()) {
        template.metadata = live.metadata.clone();
    }
}

/// Sets the number of pods.
pub fn set_replicas(workload: &mut StatefulSet, pods: u32) {
    workload.spec.get_or_insert_default().replicas = i32::try_from(pods).ok();
}

/// Sets the first shard that Kubernetes may replace after a change of the template.
pub fn set_partition(workload: &mut StatefulSet, partition: u32) {
    let spec = workload.spec.get_or_insert_default();
    let strategy = spec.update_strategy.get_or_insert_default();
    strategy.rolling_update.get_or_insert_default().partition = i32::try_from(partition).ok();
}

/// Lets Kubernetes replace no pod after a change of the template. One that the operator deletes comes back with the new template.
pub fn replace_by_hand(workload: &mut StatefulSet) {
    let spec = workload.spec.get_or_insert_default();
    spec.update_strategy =
        Some(StatefulSetUpdateStrategy { type_: Some("OnDelete".to_owned()), rolling_update: None });
}

/// Whether `live` can be updated to `desired`: most fields of a StatefulSet are immutable.
pub fn can_be_updated(desired: &StatefulSet, live: &StatefulSet) -> bool {
    let immutable_fields = |set: &StatefulSet| {
        let spec = set.spec.clone().unwrap_or_default();
        let claims = spec.volume_claim_templates.unwrap_or_default();
        let claims: Vec<_> = claims.into_iter().map(|claim| claim.spec.map(immutable_claim_fields)).collect();
        (spec.selector, spec.service_name, spec.pod_management_policy, claims)
    };
    immutable_fields(desired) == immutable_fields(live)
}

/// Returns the fields of a claim that the operator sets, with the size as a number: the server may write it differently.
fn immutable_claim_fields(spec: core::PersistentVolumeClaimSpec) -> (Option<String>, Option<i128>) {
    let requests = spec.resources.and_then(|resources| resources.requests).unwrap_or_default();
    (spec.storage_class_name, requests.get("storage").and_then(|size| quantity::parse_millis(&size.0)))
}

fn spool_claim(names: &ChildNames, storage: &ClaimStorage) -> core::PersistentVolumeClaim {
    let size = k8s_openapi::apimachinery::pkg::api::resource::Quantity(storage.size.clone());
    core::PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(SPOOL_VOLUME.to_owned()),
            labels: Some(names.labels()),
            // On the template, so that no claim exists without it.
            finalizers: Some(vec![CLAIM_FINALIZER.to_owned()]),
            ..ObjectMeta::default()
        },
        spec: Some(core::PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
            storage_class_name: Some(storage.class.clone()),
            resources: Some(core::VolumeResourceRequirements {
                requests: Some([("storage".to_owned(), size)].into()),
                limits: None,
            }),
            ..core::PersistentVolumeClaimSpec::default()
        }),
        status: None,
    }
}

fn metadata(names: &ChildNames, name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(names.namespace.clone()),
        labels: Some(names.labels()),
        ..ObjectMeta::default()
    }
}
