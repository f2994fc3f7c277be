//! StatefulSet controller, kubelets and recorders in one process: a pod for each replica, with an address of its own on this
//! machine, at which it serves the status API by the configuration in its Site's Secret.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use toezicht::api::{Camera, Site};
use toezicht::telemetry::serve::serve_http;
use toezicht::wire::{
    CONFIG_KEY, CameraReport, CameraState, FORMAT, RecorderConfig, RecorderStatus, STATUS_PORT,
    SegmentReport, SpoolStatus, StatusApi,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use crate::objects::{CHILDREN, Key, Kind};
use crate::support::scene::has;
use crate::support::tools::run;

/// As the recorders' own server.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Addresses of the pods, for benchmarks by RFC 2544. The kernel accepts connections to all of them.
const POD_NETWORK: &str = "198.18.0.0/15";
const FIRST_POD: u32 = 0xC612_0001;
/// Revision of all templates.
const REVISION: &str = "only";
const SEGMENT: SignedDuration = SignedDuration::from_secs(60);
const MAX_CONCURRENT_PODS: usize = 16;

/// What the API server and the recorders have at the moment.
#[derive(Clone)]
pub struct Recorders(Arc<Shared>);

struct Shared {
    client: Client,
    state: Mutex<Simulated>,
    /// Number of changes of `state`.
    changes: watch::Sender<u64>,
    /// Pods that are created at the same time.
    turns: Semaphore,
}

/// Simulated recorders, and the objects that the benchmark waits for.
#[derive(Default)]
pub struct Simulated {
    /// UIDs of the workloads by key.
    pub workloads: HashMap<Key, String>,
    configs: HashMap<Key, Arc<SiteConfig>>,
    pods: HashMap<Ipv4Addr, PodIdentity>,
    /// Revision that the operator was last told by the recorder of a Site.
    pub acknowledged: HashMap<Key, String>,
    /// Sites and Cameras with `Recording=True`.
    pub recording_sites: HashSet<Key>,
    pub recording_cameras: HashSet<Key>,
    /// UID of each workload that has or gets pods.
    with_pods: HashSet<String>,
    /// UID of each workload that has all its pods.
    ready: HashSet<String>,
    next_pod: u32,
}

#[derive(Clone)]
struct PodIdentity {
    /// Key of the Site.
    site: Key,
    shard: u32,
    started: Timestamp,
}

struct SiteConfig {
    config: RecorderConfig,
    acceptor: TlsAcceptor,
}

impl Simulated {
    /// Returns the number of Sites with all their pods.
    pub fn ready_workloads(&self) -> usize {
        self.workloads.values().filter(|uid| self.ready.contains(*uid)).count()
    }

    /// Returns the configuration of a Site's recorders.
    pub fn config(&self, site: &Key) -> Option<&RecorderConfig> {
        self.configs.get(site).map(|site| &site.config)
    }
}

impl Recorders {
    /// Starts to play everything that a cluster has beside the API server.
    pub async fn start(client: &Client) -> Self {
        run("ip", &["route", "replace", "local", POD_NETWORK, "dev", "lo"], None).await;
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, STATUS_PORT)).await.unwrap();
        let (changes, _) = watch::channel(0);
        let turns = Semaphore::new(MAX_CONCURRENT_PODS);
        let recorders =
            Self(Arc::new(Shared { client: client.clone(), state: Mutex::default(), changes, turns }));
        tokio::spawn(recorders.clone().serve(listener));
        let config_secrets = watcher::Config::default().fields("type=toezicht.dev/recorder-config");
        recorders.watch::<Secret>(config_secrets, Self::on_secret);
        recorders.watch::<StatefulSet>(watcher::Config::default().labels(CHILDREN), Self::on_workload);
        recorders.watch::<Site>(watcher::Config::default(), |all, site, _| {
            let conditions = site.status.as_ref().map_or(&[][..], |status| &status.conditions);
            set(&mut all.lock().recording_sites, key(site), has(conditions, "Recording", "True").is_ok());
        });
        recorders.watch::<Camera>(watcher::Config::default(), |all, camera, _| {
            let conditions = camera.status.as_ref().map_or(&[][..], |status| &status.conditions);
            set(&mut all.lock().recording_cameras, key(camera), has(conditions, "Recording", "True").is_ok());
        });
        recorders
    }

    /// Waits until `find` finds something.
    pub async fn wait_for<T>(&self, find: impl Fn(&Simulated) -> Option<T>) -> T {
        let mut changes = self.0.changes.subscribe();
        loop {
            if let Some(found) = find(&self.lock()) {
                return found;
            }
            changes.changed().await.unwrap();
        }
    }

    /// Returns the state.
    pub fn lock(&self) -> MutexGuard<'_, Simulated> {
        self.0.state.lock().unwrap()
    }

    fn report_change(&self) {
        self.0.changes.send_modify(|changes| *changes += 1);
    }

    /// Calls `act` with each object that changes, and whether it was deleted.
    fn watch<K: Kind>(&self, config: watcher::Config, act: fn(&Self, &K, bool)) {
        let (api, this) = (Api::<K>::all(self.0.client.clone()), self.clone());
        tokio::spawn(async move {
            let mut events = pin!(watcher(api, config).default_backoff());
            while let Some(event) = events.next().await {
                match event {
                    Ok(Event::Apply(object) | Event::InitApply(object)) => act(&this, &object, false),
                    Ok(Event::Delete(object)) => act(&this, &object, true),
                    Ok(Event::Init | Event::InitDone) => {}
                    Err(error) => println!("a watch of {} failed: {error}", K::kind(&())),
                }
                this.report_change();
            }
        });
    }

    fn on_secret(&self, secret: &Secret, is_deleted: bool) {
        let (namespace, name) = key(secret);
        let site = name.strip_suffix("-recorder-config").unwrap().to_owned();
        if is_deleted {
            self.lock().configs.remove(&(namespace, site));
            return;
        }
        let config: RecorderConfig =
            serde_json::from_slice(&secret.data.as_ref().unwrap()[CONFIG_KEY].0).unwrap();
        let acceptor = acceptor(&config.status_api);
        self.lock().configs.insert((namespace, site), Arc::new(SiteConfig { config, acceptor }));
    }

    /// Does what the StatefulSet controller and the kubelets do.
    fn on_workload(&self, set: &StatefulSet, is_deleted: bool) {
        if is_deleted {
            self.lock().workloads.remove(&key(set));
            return;
        }
        let uid = set.uid().unwrap();
        let is_new = {
            let mut state = self.lock();
            state.workloads.insert(key(set), uid.clone());
            state.with_pods.insert(uid)
        };
        let observed = set.status.as_ref().and_then(|status| status.observed_generation);
        if !is_new && (observed.is_none() || observed >= set.metadata.generation) {
            return;
        }
        let (this, set) = (self.clone(), set.clone());
        tokio::spawn(async move {
            let _turn = this.0.turns.acquire().await;
            if is_new {
                this.create_pods(&set).await;
            }
            this.report_workload(&set).await;
            this.lock().ready.extend(set.uid());
            this.report_change();
        });
    }

    async fn create_pods(&self, set: &StatefulSet) {
        let (namespace, name) = key(set);
        let spec = set.spec.clone().unwrap();
        for shard in 0..spec.replicas.unwrap() {
            let site = (namespace.clone(), name.strip_suffix("-recorder").unwrap().to_owned());
            let address = self.assign_address(site, u32::try_from(shard).unwrap());
            let mut labels = spec.template.metadata.clone().unwrap().labels.unwrap();
            labels.insert("controller-revision-hash".into(), REVISION.into());
            let mut pod = Pod { spec: spec.template.spec.clone(), ..Pod::default() };
            pod.metadata.name = Some(format!("{name}-{shard}"));
            pod.metadata.labels = Some(labels);
            pod.metadata.owner_references = Some(set.controller_owner_ref(&()).into_iter().collect());
            let pods = Api::<Pod>::namespaced(self.0.client.clone(), &namespace);
            if let Err(error) = pods.create(&PostParams::default(), &pod).await {
                println!("pod {namespace}/{name}-{shard}: {error}");
                continue;
            }
            let now = Timestamp::now();
            let condition = |type_: &str| json!({"type": type_, "status": "True", "lastTransitionTime": now});
            let status = json!({"status": {
                "phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "startTime": now,
                "conditions": [condition("PodScheduled"), condition("ContainersReady"), condition("Ready")],
            }});
            let merge = PatchParams::default();
            // The pod may be deleted already.
            let _ = pods.patch_status(&format!("{name}-{shard}"), &merge, &Patch::Merge(&status)).await;
        }
    }

    /// Reports that all pods have the template.
    async fn report_workload(&self, set: &StatefulSet) {
        let (namespace, name) = key(set);
        let replicas = set.spec.as_ref().unwrap().replicas;
        let status = json!({"status": {
            "observedGeneration": set.metadata.generation, "replicas": replicas, "readyReplicas": replicas,
            "availableReplicas": replicas, "currentReplicas": replicas, "updatedReplicas": replicas,
            "currentRevision": REVISION, "updateRevision": REVISION,
        }});
        let sets = Api::<StatefulSet>::namespaced(self.0.client.clone(), &namespace);
        // The StatefulSet may be deleted already.
        let _ = sets.patch_status(&name, &PatchParams::default(), &Patch::Merge(&status)).await;
    }

    fn assign_address(&self, site: Key, shard: u32) -> Ipv4Addr {
        let mut state = self.lock();
        let address = Ipv4Addr::from_bits(FIRST_POD + state.next_pod);
        state.next_pod += 1;
        state.pods.insert(address, PodIdentity { site, shard, started: Timestamp::now() });
        address
    }

    async fn serve(self, listener: TcpListener) {
        loop {
            let Ok((connection, _)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            tokio::spawn(self.clone().answer(connection));
        }
    }

    /// Answers at the address that the client connected to, as the pod that has it.
    async fn answer(self, connection: TcpStream) {
        let Ok(IpAddr::V4(address)) = connection.local_addr().map(|address| address.ip()) else { return };
        let Some((pod, site)) = self.find(address) else { return };
        let Ok(stream) = site.acceptor.accept(connection).await else { return };
        let router = Router::new().route("/v1/status", get(get_status)).with_state((self, pod));
        serve_http(stream, router, IDLE_TIMEOUT).await;
    }

    fn find(&self, address: Ipv4Addr) -> Option<(PodIdentity, Arc<SiteConfig>)> {
        let state = self.lock();
        let pod = state.pods.get(&address)?.clone();
        let site = state.configs.get(&pod.site)?.clone();
        Some((pod, site))
    }
}

async fn get_status(
    State((recorders, pod)): State<(Recorders, PodIdentity)>,
    headers: HeaderMap,
) -> Response {
    let Some(site) = recorders.lock().configs.get(&pod.site).cloned() else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    let config = &site.config;
    let token = format!("Bearer {}", config.status_api.token.reveal());
    if headers.get(header::AUTHORIZATION).is_none_or(|shown| shown.as_bytes() != token.as_bytes()) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let is_new = {
        let revision = config.revision.clone();
        let before = recorders.lock().acknowledged.insert(pod.site.clone(), revision.clone());
        before.as_ref() != Some(&revision)
    };
    if is_new {
        recorders.report_change();
    }
    Json(status(config, &pod, Timestamp::now())).into_response()
}

fn status(config: &RecorderConfig, pod: &PodIdentity, now: Timestamp) -> RecorderStatus {
    let own = config.cameras.iter().filter(|camera| camera.shard == pod.shard);
    // The previous minute is uploaded.
    let minute = Timestamp::from_second(now.as_second() / 60 * 60).unwrap() - SEGMENT;
    let cameras = own.map(|camera| {
        let is_permitted = camera.permitted.iter().any(|window| window.contains(now));
        let state = if is_permitted { CameraState::Recording } else { CameraState::NotPermitted };
        CameraReport {
            codec: Some("H264".into()),
            last_frame: Some(now),
            last_segment: Some(SegmentReport {
                key: format!("video/{}/{}", camera.name, minute.as_millisecond()),
                start: minute,
                duration_ms: 60_000,
                bytes: 7_500_000,
            }),
            uploaded: 1,
            ..CameraReport::new(&camera.name, state, pod.started)
        }
    });
    RecorderStatus {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").into(),
        shard: pod.shard,
        revision: config.revision.clone(),
        uploads_follow: Some(config.revision.clone()),
        refused: None,
        storage_problem: None,
        started: pod.started,
        now,
        clock_ahead_ms: Some(0),
        spool: SpoolStatus { limit: config.spool_bytes, ..SpoolStatus::default() },
        cameras: cameras.collect(),
    }
}

fn acceptor(api: &StatusApi) -> TlsAcceptor {
    let chain = CertificateDer::pem_slice_iter(api.cert_pem.as_bytes()).collect::<Result<Vec<_>, _>>();
    let key = PrivateKeyDer::from_pem_slice(api.key_pem.reveal().as_bytes()).unwrap();
    let config = rustls::ServerConfig::builder().with_no_client_auth();
    TlsAcceptor::from(Arc::new(config.with_single_cert(chain.unwrap(), key).unwrap()))
}

fn key<K: Resource>(object: &K) -> Key {
    (object.namespace().unwrap_or_default(), object.name_any())
}

fn set(all: &mut HashSet<Key>, key: Key, is_member: bool) {
    if is_member {
        all.insert(key);
    } else {
        all.remove(&key);
    }
}
