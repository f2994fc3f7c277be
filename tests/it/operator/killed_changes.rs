//! The operator is killed after each write to the API server, and after each write to the store, of a first apply of a Site, an
//! added camera, a changed policy and a deleted Site. The next operator arrives at the same state as one that was not killed.

use std::sync::OnceLock;

use axum::http::request::Parts;
use fastrand::Rng;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Secret, Service, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use toezicht::api::{Camera, RecordingPolicy, Site};

use super::process::{Process, config_for_store, release_lease, wait_for_leader, with_chart_scaled_down};
use crate::support::api_proxy::ApiProxy;
use crate::support::cluster::TestNamespace;
use crate::support::proxy::{Proxy, access_key};
use crate::support::scene::{POLICY, SITE, Scene};
use crate::support::settings::S3Server;
use crate::support::tools::read_back;
use crate::support::wait::{HANG, eventually};

const INSTANCE: &str = "killed-change";
const RECORDER: &str = "die-heijgrave-recorder";

/// Change of a person, in the order in which a test makes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    FirstApply,
    CameraAdded,
    PolicyChanged,
    SiteDeleted,
}

const CHANGES: [Change; 4] =
    [Change::FirstApply, Change::CameraAdded, Change::PolicyChanged, Change::SiteDeleted];

/// Server whose writes are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peer {
    ApiServer,
    Store,
}

/// Returns a number of writes that a change always causes. A deleted Site writes nothing to the store.
const fn certain_writes(peer: Peer, change: Change) -> usize {
    match (peer, change) {
        (Peer::ApiServer, Change::FirstApply) => 16,
        (Peer::ApiServer, Change::CameraAdded | Change::SiteDeleted) => 10,
        (Peer::ApiServer, Change::PolicyChanged) => 5,
        (Peer::Store, Change::FirstApply) => 30,
        (Peer::Store, Change::PolicyChanged) => 20,
        (Peer::Store, Change::CameraAdded | Change::SiteDeleted) => 1,
    }
}

struct ChangeScene {
    scene: Scene,
    api: ApiProxy,
    store: Proxy,
    operator: Option<Process>,
}

impl ChangeScene {
    async fn new(namespace: TestNamespace, port: u16) -> Self {
        let server = S3Server::primary();
        let store = Proxy::start(&server.endpoint, port).await;
        let api = ApiProxy::start(namespace.client.clone()).await;
        let scene = Scene::within(namespace, server, |_, site| {
            // The first round makes it.
            site["metadata"]["name"] = "elders".into();
            site["spec"]["policyRef"]["name"] = "elders".into();
        })
        .await;
        let mut scene = Self { scene, api, store, operator: None };
        scene.start_operator().await;
        scene
    }

    async fn start_operator(&mut self) {
        let (namespace, config) = (&self.scene.namespace, config_for_store(&self.store.endpoint));
        let process = Process::with_cluster(&self.api.kubeconfig, namespace, namespace, INSTANCE, config);
        wait_for_leader(namespace, INSTANCE).await;
        self.operator = Some(process);
    }

    /// Makes `change` in a round of its own, whose bucket has the name `bucket`.
    async fn make(&self, change: Change, bucket: &str) {
        let namespace = &self.scene.namespace;
        match change {
            Change::FirstApply => {
                self.scene.camera("deur", "h264/5").await;
                let mut site = self.scene.site();
                site["spec"]["storage"]["endpoint"] = self.store.endpoint.as_str().into();
                site["spec"]["storage"]["bucket"] = bucket.into();
                self.scene.create::<Site>(site).await;
            }
            Change::CameraAdded => self.scene.camera("hal", "h264/6").await,
            Change::PolicyChanged => self.set_retention("21d").await,
            Change::SiteDeleted => {
                namespace.api::<Site>().delete(SITE, &DeleteParams::default()).await.unwrap();
            }
        }
    }

    async fn set_retention(&self, video: &str) {
        let patch = Patch::Merge(json!({"spec": {"retention": {"video": video}}}));
        let policies = self.scene.namespace.api::<RecordingPolicy>();
        policies.patch(POLICY, &PatchParams::default(), &patch).await.unwrap();
    }

    /// Removes what the changes of a round left.
    async fn end_round(&self) {
        for camera in ["deur", "hal"] {
            let cameras = self.scene.namespace.api::<Camera>();
            cameras.delete(camera, &DeleteParams::default()).await.unwrap();
        }
        self.set_retention("28d").await;
    }

    /// Makes all changes without a kill, and returns the state after each.
    async fn make_all(&self, bucket: &str) -> Vec<Value> {
        let mut states = Vec::new();
        for change in CHANGES {
            self.make(change, bucket).await;
            states.push(self.wait_until_done(change, bucket).await);
        }
        self.end_round().await;
        states
    }

    /// Waits until a change has taken effect, and returns the state.
    async fn wait_until_done(&self, change: Change, bucket: &str) -> Value {
        if change != Change::SiteDeleted {
            for camera in ["deur", "hal"].iter().take(if change == Change::FirstApply { 1 } else { 2 }) {
                self.scene.wait_for_camera(camera, "Recording", "True", HANG).await;
            }
        }
        let ceiling_ms = if change == Change::PolicyChanged { 21 } else { 28 } * 24 * 60 * 60 * 1000_u64;
        eventually(&format!("{change:?} has taken effect"), HANG, || async {
            let state = self.cluster_state(bucket).await;
            let conditions = state["site"]["conditions"].as_array().cloned().unwrap_or_default();
            let has = |expected: &str| {
                conditions.iter().any(|found| found.as_str().is_some_and(|found| found.starts_with(expected)))
            };
            let is_done = if change == Change::SiteDeleted {
                let children = ["site", "workload", "service", "serviceAccount", "config"];
                children.iter().all(|name| state[*name].is_null())
            } else {
                let is_ready = has("Ready=True") && has("Compliant=True");
                is_ready && state["config"]["videoCeilingMs"] == json!(ceiling_ms)
            };
            is_done.then_some(()).ok_or(state.to_string())
        })
        .await;
        // Some statuses follow later.
        self.operator.as_ref().unwrap().wait_until_in_sync(&self.scene.namespace).await;
        self.state(bucket).await
    }

    /// Makes a change, and kills the operator after `point` writes to `peer`. Returns whether it was killed.
    async fn make_and_kill(
        &mut self,
        change: Change,
        bucket: &str,
        peer: Peer,
        point: usize,
        expected: &Value,
    ) -> bool {
        let (api, store) = match peer {
            Peer::ApiServer => (Some(self.api.cut_after(point)), None),
            Peer::Store => {
                // Recorders write through the same proxy.
                let operator = self.scene.bucket.server.bucket_maker().access_key.clone();
                let is_write = move |parts: &Parts| {
                    !is_read(parts.method.as_str()) && access_key(parts).as_ref() == Some(&operator)
                };
                (None, Some(self.store.cut_after(point, is_write)))
            }
        };
        let killed_after = async {
            match (api, store) {
                (Some(api), _) => api.await.unwrap(),
                (None, Some(store)) => {
                    let last = store.await.unwrap();
                    format!("{} {}", last.method, last.path_and_query)
                }
                (None, None) => std::future::pending().await,
            }
        };
        self.make(change, bucket).await;
        let killed_after = tokio::select! {
            biased;
            last = killed_after => Some(last),
            () = self.wait_for(change, bucket, expected) => None,
        };
        if let Some(last) = &killed_after {
            println!("{change:?}, killed after {point} writes to the {peer:?}: {last}");
            self.operator.take().unwrap().kill().await;
            release_lease(&self.scene.namespace).await;
        }
        self.api.clear_cut();
        self.store.clear_faults();
        if killed_after.is_some() {
            self.start_operator().await;
        }
        self.wait_for(change, bucket, expected).await;
        killed_after.is_some()
    }

    async fn wait_for(&self, change: Change, bucket: &str, expected: &Value) {
        eventually(&format!("{change:?}: the state is as without a kill"), HANG, || async {
            // The bucket last: to read it takes a process.
            let mut state = self.cluster_state(bucket).await;
            state["bucket"] = expected["bucket"].clone();
            if state == *expected {
                state = self.state(bucket).await;
            }
            (state == *expected).then_some(()).ok_or_else(|| format!("{state:#}\nexpected: {expected:#}"))
        })
        .await;
    }

    /// Returns everything that the operator writes, without names of the round, times and secrets.
    async fn state(&self, bucket: &str) -> Value {
        let mut state = self.cluster_state(bucket).await;
        let found = read_back(&self.scene.bucket.server, bucket, "operator").await;
        state["bucket"] = without_name(&found, bucket);
        state
    }

    async fn cluster_state(&self, bucket: &str) -> Value {
        let namespace = &self.scene.namespace;
        let workload = namespace.api::<StatefulSet>().get_opt(RECORDER).await.unwrap();
        let service = namespace.api::<Service>().get_opt(RECORDER).await.unwrap();
        let account = namespace.api::<ServiceAccount>().get_opt(RECORDER).await.unwrap();
        let secrets = namespace.api::<Secret>();
        let config = secrets.get_opt(&format!("{RECORDER}-config")).await.unwrap();
        let site = namespace.api::<Site>().get_opt(SITE).await.unwrap();
        let policy = namespace.api::<RecordingPolicy>().get(POLICY).await.unwrap();
        let mut cameras = Vec::new();
        for name in ["deur", "hal"] {
            let camera = namespace.api::<Camera>().get_opt(name).await.unwrap();
            // Without their Site, they stall after a while.
            cameras.push(camera.filter(|_| site.is_some()).map(|camera| {
                json!({"name": name, "conditions": conditions(camera.status.map(|status| status.conditions))})
            }));
        }
        let mut finalizers = Vec::new();
        for name in ["s3-operator", "s3-recorder", "camera-login"] {
            finalizers.push(secrets.get(name).await.unwrap().finalizers().to_vec());
        }
        let state = json!({
            "workload": workload.and_then(|workload| workload.spec).map(|spec| {
                let pod = spec.template.spec.unwrap_or_default();
                json!({"replicas": spec.replicas, "containers": pod.containers, "volumes": pod.volumes})
            }),
            "service": service.and_then(|service| service.spec).map(|spec| json!([spec.ports, spec.selector])),
            "serviceAccount": account.map(|account| account.automount_service_account_token),
            "config": config.map(|config| normalised_config(&config)),
            "site": site.map(|site| {
                let finalizers = site.finalizers().to_vec();
                let status = site.status.unwrap_or_default();
                json!({
                    "finalizers": finalizers, "conditions": conditions(Some(status.conditions)),
                    "ceilings": status.ceilings,
                })
            }),
            "policy": conditions(policy.status.map(|status| status.conditions)),
            "cameras": cameras,
            "secretFinalizers": finalizers,
        });
        without_name(&state, bucket)
    }
}

/// Replaces the name of a round's bucket.
fn without_name(state: &Value, bucket: &str) -> Value {
    serde_json::from_str(&state.to_string().replace(bucket, "BUCKET")).unwrap()
}

fn is_read(method: &str) -> bool {
    matches!(method, "GET" | "HEAD" | "OPTIONS")
}

fn conditions(conditions: Option<Vec<Condition>>) -> Vec<String> {
    let conditions = conditions.unwrap_or_default().into_iter();
    let mut texts: Vec<String> =
        conditions.map(|found| format!("{}={} {}", found.type_, found.status, found.reason)).collect();
    texts.sort();
    texts
}

/// Returns the recorders' configuration without what is new with each Site.
fn normalised_config(secret: &Secret) -> Value {
    let bytes = secret.data.as_ref().and_then(|data| data.get("config.json")).map(|bytes| bytes.0.as_slice());
    let mut config: Value = serde_json::from_slice(bytes.unwrap_or(b"{}")).unwrap();
    for new in ["revision", "statusApi"] {
        config.as_object_mut().unwrap().remove(new);
    }
    config
}

/// Returns the step between two rounds; `None` with `make test`: one round, in which a seed chooses the writes.
fn stride() -> Option<usize> {
    let every = std::env::var("TOEZICHT_TEST_KILL_EVERY").ok();
    every.map(|every| every.parse().expect("TOEZICHT_TEST_KILL_EVERY: a number"))
}

fn random() -> Rng {
    static SEED: OnceLock<u64> = OnceLock::new();
    let given = std::env::var("TOEZICHT_TEST_SEED").ok();
    let given = given.map(|seed| seed.parse().expect("TOEZICHT_TEST_SEED: a number"));
    let seed = *SEED.get_or_init(|| given.unwrap_or_else(|| fastrand::u64(..)));
    println!("TOEZICHT_TEST_SEED={seed}");
    Rng::with_seed(seed)
}

async fn check_crash_recovery(prefix: &'static str, peer: Peer, port: u16) {
    with_chart_scaled_down(prefix, async move |namespace| {
        let mut scene = ChangeScene::new(namespace, port).await;
        let name = scene.scene.bucket.name.clone();
        let expected = scene.make_all(&format!("{name}-0")).await;
        let (stride, mut random) = (stride(), random());
        let mut number = 1;
        loop {
            let bucket = format!("{name}-{number}");
            let mut is_killed = false;
            for (change, expected) in CHANGES.into_iter().zip(&expected) {
                let point =
                    if stride.is_some() { number } else { random.usize(1..=certain_writes(peer, change)) };
                is_killed |= scene.make_and_kill(change, &bucket, peer, point, expected).await;
            }
            scene.end_round().await;
            assert!(is_killed || number > 1, "{peer:?}: no operator was killed");
            match stride {
                Some(stride) if is_killed => number += stride,
                _ => break,
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn change_is_finished_after_crash_at_api_write() {
    check_crash_recovery("changes-api", Peer::ApiServer, 28391).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn change_is_finished_after_crash_at_store_write() {
    check_crash_recovery("changes-store", Peer::Store, 28392).await;
}
