//! Template of the recorder pods. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::api::RecorderSettings;
use crate::controllers::config::OperatorConfig;
use crate::controllers::egress::{TOKEN_DIR, TOKEN_FILE_NAME};
use crate::controllers::kubernetes::quantity;
use crate::controllers::site::recorders::names::{ChildNames, SPOOL_VOLUME};
use crate::wire::{HEALTH_PORT, STATUS_PORT};

/// Settings of the recorder pods.
#[derive(Clone, Copy, Debug)]
pub struct RecorderPods<'a> {
    pub count: u32,
    pub settings: &'a RecorderSettings,
    pub config: &'a OperatorConfig,
    /// Whether they use workload identity at the store.
    pub has_workload_identity: bool,
}

/// Taints of a node that Kubernetes does not reach.
const UNREACHABLE_TAINTS: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];
const CONTAINER_NAME: &str = "recorder";
/// Port of the status API.
pub const STATUS_PORT_NAME: &str = "status";
/// Port of probes and metrics.
pub const HEALTH_PORT_NAME: &str = "health";
const CONFIG_DIR: &str = "/etc/toezicht";
const SPOOL_DIR: &str = "/var/spool/toezicht";
const CONFIG_VOLUME: &str = "config";
/// Volume with the token for the store's STS.
const STORE_TOKEN_VOLUME: &str = "store-token";
/// Lifetime of that token. The kubelet renews it after four fifths.
const TOKEN_SECONDS: i64 = 3600;
/// User and group of the recorder, without rights on any node.
const RUN_AS_ID: i64 = 65532;
/// Time to complete and upload open files.
const TERMINATION_GRACE_SECONDS: i64 = 60;
/// Part of [`TERMINATION_GRACE_SECONDS`] for the end of the process.
const SHUTDOWN_RESERVE_SECONDS: i64 = 5;
/// Resource of the node's disk, which emptyDir volumes and logs use.
const EPHEMERAL_STORAGE: &str = "ephemeral-storage";
/// Bytes of a pod's ephemeral storage beside its spool: its logs and the files with its gaps.
const EPHEMERAL_STORAGE_MARGIN: u64 = 256 << 20;
/// Variable with the bytes that segments may use of the spool. It changes only with the pod, as the volume does. No argument: a
/// recorder of an earlier version would not start with it.
const SPOOL_BYTES_VARIABLE: &str = "TOEZICHT_SPOOL_BYTES";
/// Part of the spool's volume that segments may use: the kubelet evicts a pod that fills its volume.
const USABLE_SPOOL_PERCENT: u64 = 90;
/// Mode of the configuration: readable by the recorder's group only.
const CONFIG_MODE: i32 = 0o440;

/// Returns the template of the recorder pods. It does not depend on the cameras: a new camera must not restart recorders.
pub fn pod_template(names: &ChildNames, pods: &RecorderPods<'_>) -> core::PodTemplateSpec {
    let settings = pods.settings;
    core::PodTemplateSpec {
        metadata: Some(ObjectMeta { labels: Some(names.labels()), ..ObjectMeta::default() }),
        spec: Some(core::PodSpec {
            service_account_name: Some(names.recorder.clone()),
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            host_network: Some(false),
            host_pid: Some(false),
            host_ipc: Some(false),
            share_process_namespace: Some(false),
            security_context: Some(pod_security_context()),
            containers: vec![container(pods)],
            volumes: Some(volumes(names, pods)),
            termination_grace_period_seconds: Some(TERMINATION_GRACE_SECONDS),
            restart_policy: Some("Always".to_owned()),
            node_selector: Some(settings.node_selector.clone()).filter(|selector| !selector.is_empty()),
            tolerations: Some(tolerations(settings)),
            ..core::PodSpec::default()
        }),
    }
}

/// Returns the tolerations of the Site, and those with which a pod stays on a node that Kubernetes does not reach. Without them,
/// Kubernetes evicts it after five minutes, and an `emptyDir` spool is lost although the node comes back.
fn tolerations(settings: &RecorderSettings) -> Vec<core::Toleration> {
    // One with another effect tolerates nothing here: Kubernetes then adds its own, of five minutes.
    let is_evicting =
        |set: &core::Toleration| set.effect.as_deref().is_none_or(|it| it.is_empty() || it == "NoExecute");
    let is_set = |key: &str| {
        settings.tolerations.iter().any(|set| set.key.as_deref() == Some(key) && is_evicting(set))
    };
    let stays = UNREACHABLE_TAINTS.into_iter().filter(|key| !is_set(key)).map(|key| core::Toleration {
        key: Some(key.to_owned()),
        operator: Some("Exists".to_owned()),
        effect: Some("NoExecute".to_owned()),
        ..core::Toleration::default()
    });
    settings.tolerations.iter().cloned().chain(stays).collect()
}

/// Returns the bytes that segments may use of a volume with `bytes`.
pub const fn usable_bytes(bytes: u64) -> u64 {
    // Divided first: multiplied first, a large quantity would overflow.
    bytes / 100 * USABLE_SPOOL_PERCENT
}

/// Sets the size of the claims that the pods use.
pub fn set_claim_size(pod: &mut core::PodSpec, size: &str) {
    for container in pod.containers.iter_mut().filter(|container| container.name == CONTAINER_NAME) {
        let variables = container.env.get_or_insert_default();
        variables.retain(|variable| variable.name != SPOOL_BYTES_VARIABLE);
        variables.extend(quantity::parse_bytes(size).map(spool_bytes_variable));
    }
}

fn spool_bytes_variable(volume_bytes: u64) -> core::EnvVar {
    core::EnvVar {
        name: SPOOL_BYTES_VARIABLE.to_owned(),
        value: Some(usable_bytes(volume_bytes).to_string()),
        value_from: None,
    }
}

/// Returns the bytes of a spool with these settings; `None`: its size is invalid. An emptyDir has no more than the pod's limit.
fn volume_bytes(settings: &RecorderSettings, resources: &core::ResourceRequirements) -> Option<u64> {
    let bytes = quantity::parse_bytes(&settings.spool.size)?;
    let limit = resources.limits.as_ref().and_then(|limits| limits.get(EPHEMERAL_STORAGE));
    let limit = limit.filter(|_| settings.spool.storage_class_name.is_none());
    Some(limit.and_then(|limit| quantity::parse_bytes(&limit.0)).map_or(bytes, |limit| bytes.min(limit)))
}

fn container(pods: &RecorderPods<'_>) -> core::Container {
    let resources = resources(pods.settings);
    let text = |text: &str| text.to_owned();
    let port = |name: &str, port: u16| core::ContainerPort {
        name: Some(text(name)),
        container_port: i32::from(port),
        protocol: Some(text("TCP")),
        ..core::ContainerPort::default()
    };
    let mount = |name: &str, path: &str, read_only| core::VolumeMount {
        name: text(name),
        mount_path: text(path),
        read_only: Some(read_only),
        ..core::VolumeMount::default()
    };
    core::Container {
        name: text(CONTAINER_NAME),
        image: Some(pods.config.recorder_image.clone()),
        image_pull_policy: pods.config.image_pull_policy.clone(),
        args: Some(
            ["recorder", "--config-dir", CONFIG_DIR, "--spool-dir", SPOOL_DIR]
                .map(text)
                .into_iter()
                .chain([format!(
                    "--grace-period-seconds={}",
                    TERMINATION_GRACE_SECONDS - SHUTDOWN_RESERVE_SECONDS
                )])
                .chain(pods.settings.spool.storage_class_name.as_ref().map(|_| text("--persistent-spool")))
                .collect(),
        ),
        env: Some(
            [shard_env()]
                .into_iter()
                .chain(volume_bytes(pods.settings, &resources).map(spool_bytes_variable))
                .collect(),
        ),
        ports: Some(vec![port(STATUS_PORT_NAME, STATUS_PORT), port(HEALTH_PORT_NAME, HEALTH_PORT)]),
        volume_mounts: Some(
            [mount(CONFIG_VOLUME, CONFIG_DIR, true), mount(SPOOL_VOLUME, SPOOL_DIR, false)]
                .into_iter()
                .chain(pods.has_workload_identity.then(|| mount(STORE_TOKEN_VOLUME, TOKEN_DIR, true)))
                .collect(),
        ),
        resources: Some(resources),
        security_context: Some(container_security_context()),
        // Up to a minute: a recorder reads its whole spool before it starts.
        startup_probe: Some(http_probe("/livez", 1, 60)),
        liveness_probe: Some(http_probe("/livez", 10, 3)),
        readiness_probe: Some(http_probe("/readyz", 5, 3)),
        ..core::Container::default()
    }
}

/// Returns the variable with the pod's shard: the ordinal that the StatefulSet gave it.
fn shard_env() -> core::EnvVar {
    core::EnvVar {
        name: "TOEZICHT_SHARD".to_owned(),
        value: None,
        value_from: Some(core::EnvVarSource {
            field_ref: Some(core::ObjectFieldSelector {
                api_version: Some("v1".to_owned()),
                field_path: "metadata.labels['apps.kubernetes.io/pod-index']".to_owned(),
            }),
            ..core::EnvVarSource::default()
        }),
    }
}

/// Returns the volume with the service account token for the store's STS. The Kubernetes API rejects it, since its audience
/// is another.
fn store_token_volume(pods: &RecorderPods<'_>) -> core::Volume {
    let token = core::ServiceAccountTokenProjection {
        audience: Some(pods.config.egress.audience.clone()),
        expiration_seconds: Some(TOKEN_SECONDS),
        path: TOKEN_FILE_NAME.to_owned(),
    };
    core::Volume {
        name: STORE_TOKEN_VOLUME.to_owned(),
        projected: Some(core::ProjectedVolumeSource {
            default_mode: Some(CONFIG_MODE),
            sources: Some(vec![core::VolumeProjection {
                service_account_token: Some(token),
                ..core::VolumeProjection::default()
            }]),
        }),
        ..core::Volume::default()
    }
}

fn volumes(names: &ChildNames, pods: &RecorderPods<'_>) -> Vec<core::Volume> {
    let mut volumes = vec![config_volume(names)];
    let spool = &pods.settings.spool;
    // With a storage class, the StatefulSet adds the volume of its claim.
    if spool.storage_class_name.is_none() {
        volumes.push(core::Volume {
            name: SPOOL_VOLUME.to_owned(),
            empty_dir: Some(core::EmptyDirVolumeSource {
                medium: None,
                size_limit: Some(Quantity(spool.size.clone())),
            }),
            ..core::Volume::default()
        });
    }
    volumes.extend(pods.has_workload_identity.then(|| store_token_volume(pods)));
    volumes
}

fn config_volume(names: &ChildNames) -> core::Volume {
    core::Volume {
        name: CONFIG_VOLUME.to_owned(),
        secret: Some(core::SecretVolumeSource {
            secret_name: Some(names.config.clone()),
            default_mode: Some(CONFIG_MODE),
            ..core::SecretVolumeSource::default()
        }),
        ..core::Volume::default()
    }
}

fn resources(settings: &RecorderSettings) -> core::ResourceRequirements {
    let mut resources = settings.resources.clone().unwrap_or_else(default_resources);
    let spool = &settings.spool;
    // A claim is not on the node's disk.
    if spool.storage_class_name.is_none()
        && let Some(bytes) = quantity::parse_bytes(&spool.size)
    {
        reserve_spool(&mut resources, bytes.saturating_add(EPHEMERAL_STORAGE_MARGIN));
    }
    resources
}

/// Requests `bytes` of the node's disk and allows as much, unless users set these amounts. All spools fill in the same outage of a
/// store. Without a request, the scheduler puts more of them on a node than its disk has room for, and the node evicts their pods
/// first. Without a limit, the default of a `LimitRange` evicts a pod long before its spool is full.
fn reserve_spool(resources: &mut core::ResourceRequirements, bytes: u64) {
    let by_user =
        |amounts: &Option<BTreeMap<String, Quantity>>| amounts.as_ref()?.get(EPHEMERAL_STORAGE).cloned();
    let parse = |amount: &Quantity| quantity::parse_bytes(&amount.0).unwrap_or(bytes);
    let (request, limit) = (by_user(&resources.requests), by_user(&resources.limits));
    // The API server rejects a request above its limit.
    let own_request = limit.as_ref().map_or(bytes, |limit| parse(limit).min(bytes));
    let own_limit = request.as_ref().map_or(bytes, |request| parse(request).max(bytes));
    for (amounts, own) in [(&mut resources.requests, own_request), (&mut resources.limits, own_limit)] {
        let amounts = amounts.get_or_insert_default();
        amounts.entry(EPHEMERAL_STORAGE.to_owned()).or_insert_with(|| Quantity(own.to_string()));
    }
}

/// Returns the resources for 32 cameras. Without a CPU limit: throttling loses frames.
fn default_resources() -> core::ResourceRequirements {
    let amounts = |pairs: &[(&str, &str)]| {
        Some(
            pairs.iter().map(|(name, amount)| ((*name).to_owned(), Quantity((*amount).to_owned()))).collect(),
        )
    };
    core::ResourceRequirements {
        requests: amounts(&[("cpu", "100m"), ("memory", "128Mi")]),
        limits: amounts(&[("memory", "1Gi")]),
        claims: None,
    }
}

fn pod_security_context() -> core::PodSecurityContext {
    core::PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(RUN_AS_ID),
        run_as_group: Some(RUN_AS_ID),
        fs_group: Some(RUN_AS_ID),
        // Otherwise the kubelet changes the owner of every file of a full spool before each start.
        fs_group_change_policy: Some("OnRootMismatch".to_owned()),
        seccomp_profile: Some(core::SeccompProfile {
            type_: "RuntimeDefault".to_owned(),
            localhost_profile: None,
        }),
        ..core::PodSecurityContext::default()
    }
}

fn container_security_context() -> core::SecurityContext {
    core::SecurityContext {
        allow_privilege_escalation: Some(false),
        privileged: Some(false),
        read_only_root_filesystem: Some(true),
        run_as_non_root: Some(true),
        capabilities: Some(core::Capabilities { add: None, drop: Some(vec!["ALL".to_owned()]) }),
        ..core::SecurityContext::default()
    }
}

fn http_probe(path: &str, period_seconds: i32, failure_threshold: i32) -> core::Probe {
    core::Probe {
        http_get: Some(core::HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String(HEALTH_PORT_NAME.to_owned()),
            ..core::HTTPGetAction::default()
        }),
        period_seconds: Some(period_seconds),
        timeout_seconds: Some(5),
        failure_threshold: Some(failure_threshold),
        ..core::Probe::default()
    }
}
