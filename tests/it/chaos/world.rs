//! Everything that a chaos run disturbs: two sites in one namespace, their stores behind proxies, cameras, and two operators.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::ResourceExt;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use toezicht::api::{Camera, RecordingPolicy, Site};

use crate::operator::process::{Process, leader, wait_for_leader};
use crate::recorder::cameras::{CameraServer, PASSWORD};
use crate::support::api_gateway::ApiGateway;
use crate::support::cluster::TestNamespace;
use crate::support::proxy::Proxy;
use crate::support::recorded::Bucket;
use crate::support::scene::{Scene, policy};
use crate::support::settings::{S3Server, setting};
use crate::support::tools::{run, script};
use crate::support::volumes::Volumes;
use crate::support::wait::{HANG, eventually};

/// Names of the sites. The spools of the first are volumes, those of the second are emptyDirs.
pub const SITES: [&str; 2] = ["zwembad", "sporthal"];
/// Frames of a camera in a second. Few, since all cameras and recorders share the machine.
pub const FPS: u32 = 5;
/// Ceiling of the policy at first, in days.
pub const FIRST_CEILING: u32 = 28;
const STORE_PORTS: [u16; 2] = [28381, 28382];
const API_PORT: u16 = 28383;
/// Addresses of the bed that pods reach.
const ADDRESS: &str = "10.244.0.1";

/// A camera as the run knows it.
#[derive(Clone, Debug)]
pub struct ChaosCamera {
    pub name: String,
    /// Number of its site.
    pub site: u32,
    /// Number of its group.
    pub group: u32,
    /// Path at its server, such as `h264/0`.
    pub path: String,
}

/// Cameras with one server and one login.
pub struct Group {
    pub server: CameraServer,
    pub secret: String,
    pub site: u32,
    /// Path that no camera of the run uses at first.
    pub spare_path: String,
}

pub struct ChaosSite {
    pub name: &'static str,
    pub bucket: Bucket,
    pub proxy: Proxy,
    pub recorder_secret: String,
    pub operator_secret: String,
}

/// The operators' processes. One leads, the others wait.
pub struct Operators {
    pub running: Vec<Process>,
    /// Processes that exited, with their logs.
    pub ended: Vec<Process>,
    image: String,
    started: usize,
}

pub struct World {
    pub scene: Scene,
    pub sites: Vec<ChaosSite>,
    pub groups: Vec<Group>,
    pub cameras: Vec<ChaosCamera>,
    pub operators: Operators,
    pub api: ApiGateway,
    pub volumes: Volumes,
    /// Time from which all cameras number their frames.
    pub epoch: Timestamp,
    /// Folder with the logs of the run.
    pub folder: PathBuf,
    /// Images that differ in their names only.
    images: [String; 2],
    pub segment_seconds: u32,
    /// Ceiling of the policy, in days.
    pub ceiling: u32,
    /// Changes so far, so that each differs from the others.
    changes: u32,
}

impl World {
    /// Creates the sites with `per_group` cameras of each codec at each of `groups` servers. Waits until all record.
    pub async fn new(
        namespace: TestNamespace,
        folder: &Path,
        groups: u32,
        per_group: u32,
        segment_seconds: u32,
        has_second_node: bool,
    ) -> Self {
        let server = S3Server::primary();
        let volumes = Volumes::new(&namespace, "chaos", 16).await;
        let bucket = Bucket { server: server.clone(), name: format!("tz-{}", namespace.name) };
        let scene = Scene { namespace, bucket };
        let api = ApiGateway::start(API_PORT).await;
        if has_second_node {
            second_node("up").await;
        }
        let images = second_image(has_second_node).await;
        let epoch = Timestamp::from_second(Timestamp::now().as_second()).unwrap();
        let mut world = Self {
            operators: Operators { running: vec![], ended: vec![], image: images[0].clone(), started: 0 },
            scene,
            sites: vec![],
            groups: vec![],
            cameras: vec![],
            api,
            volumes,
            epoch,
            folder: folder.to_owned(),
            images,
            segment_seconds,
            ceiling: FIRST_CEILING,
            changes: 0,
        };
        for (number, port) in STORE_PORTS.into_iter().enumerate() {
            let proxy = Proxy::start(&server.endpoint, port).await;
            let name = SITES[number];
            world.sites.push(ChaosSite {
                name,
                bucket: Bucket {
                    server: server.clone(),
                    name: format!("{}-{name}", world.scene.bucket.name),
                },
                proxy,
                recorder_secret: format!("s3-recorder-{name}"),
                operator_secret: format!("s3-operator-{name}"),
            });
        }
        world.start_cameras(groups, per_group).await;
        world.create_objects(has_second_node).await;
        world.operators.start(&world.api, &world.scene.namespace, &world.sites);
        wait_for_leader(&world.scene.namespace, "chaos-1").await;
        world.operators.start(&world.api, &world.scene.namespace, &world.sites);
        for camera in world.cameras.clone() {
            world.scene.wait_for_camera(&camera.name, "Recording", "True", HANG).await;
        }
        world
    }

    async fn start_cameras(&mut self, groups: u32, per_group: u32) {
        let clips = self.folder.join("clips");
        make_clips(&clips).await;
        for number in 0..groups {
            let (count, fps) = ((per_group + 1).to_string(), FPS.to_string());
            let epoch = self.epoch.as_second().to_string();
            let clips = clips.display().to_string();
            let arguments =
                ["--count", &count, "--fps", &fps, "--epoch", &epoch, "--no-audio", "--clips", &clips];
            let log = self.folder.join(format!("cameras-{number}.log"));
            let server = CameraServer::start_on(ADDRESS, &arguments, Some(log)).await;
            let site = number % 2;
            self.groups.push(Group {
                server,
                secret: format!("login-{number}"),
                site,
                spare_path: format!("h264/{per_group}"),
            });
            for index in 0..per_group {
                for codec in ["h264", "h265"] {
                    self.cameras.push(ChaosCamera {
                        name: format!("cam-{number}-{codec}-{index}"),
                        site,
                        group: number,
                        path: format!("{codec}/{index}"),
                    });
                }
            }
        }
    }

    async fn create_objects(&self, has_second_node: bool) {
        let namespace = &self.scene.namespace;
        let mut policy = policy();
        policy["spec"]["retention"]["video"] = format!("{FIRST_CEILING}d").into();
        self.scene.create::<RecordingPolicy>(policy).await;
        for (number, site) in self.sites.iter().enumerate() {
            let server = &site.bucket.server;
            namespace.s3_secret(&site.operator_secret, server.bucket_maker()).await;
            namespace.s3_secret(&site.recorder_secret, server.identity("recorder")).await;
            let mut manifest = self.scene.site();
            manifest["metadata"]["name"] = site.name.into();
            let spec = &mut manifest["spec"];
            spec["storage"]["bucket"] = site.bucket.name.as_str().into();
            spec["storage"]["endpoint"] = site.proxy.endpoint.as_str().into();
            spec["storage"]["operator"]["credentialsRef"]["name"] = site.operator_secret.as_str().into();
            spec["storage"]["recorder"]["credentialsRef"]["name"] = site.recorder_secret.as_str().into();
            spec["recorder"]["segmentDuration"] = format!("{}s", self.segment_seconds).into();
            if number == 0 {
                spec["recorder"]["spool"]["storageClassName"] = self.volumes.class.as_str().into();
            }
            if number == 1 && has_second_node {
                let tolerated = json!([{"key": "toezicht.dev/second-node", "operator": "Exists"}]);
                manifest["spec"]["recorder"]["tolerations"] = tolerated;
                manifest["spec"]["recorder"]["nodeSelector"] = json!({"kubernetes.io/hostname": "second"});
            }
            self.scene.create::<Site>(manifest).await;
        }
        for group in &self.groups {
            let login = [("username", "camera".to_owned()), ("password", PASSWORD.to_owned())];
            namespace.secret(&group.secret, "toezicht.dev/camera", login).await;
        }
        for camera in &self.cameras {
            self.create_camera(camera).await;
        }
    }

    pub async fn create_camera(&self, camera: &ChaosCamera) {
        let group = &self.groups[camera.group as usize];
        let url = format!("rtsp://{ADDRESS}:{}/{}", group.server.port, camera.path);
        let object: Camera = serde_json::from_value(json!({
            "apiVersion": "toezicht.dev/v1alpha1", "kind": "Camera", "metadata": {"name": camera.name},
            "spec": {
                "siteRef": {"name": SITES[camera.site as usize]}, "area": "Hal", "visible": true,
                "stream": {"url": url, "credentialsRef": {"name": group.secret}},
            },
        }))
        .unwrap();
        let api = self.scene.namespace.api::<Camera>();
        let params = PostParams::default();
        until_done("create a camera", || api.create(&params, &object)).await;
    }

    /// Returns the next number of a change.
    pub fn next_change(&mut self) -> u32 {
        self.changes += 1;
        self.changes
    }

    /// Stops the operators. Those that replace them use the other image for recorders.
    pub async fn upgrade_image(&mut self) {
        let is_first = self.operators.image == self.images[0];
        self.operators.image.clone_from(&self.images[usize::from(is_first)]);
        for process in &self.operators.running {
            process.signal("TERM").await;
        }
    }

    /// Replaces the operators that exited.
    pub fn replace_exited_operators(&mut self) {
        let (ended, running): (Vec<_>, Vec<_>) =
            self.operators.running.drain(..).map(|mut p| (p.has_exited(), p)).partition(|(ended, _)| *ended);
        self.operators.running = running.into_iter().map(|(_, process)| process).collect();
        for _ in &ended {
            self.operators.start(&self.api, &self.scene.namespace, &self.sites);
        }
        self.operators.ended.extend(ended.into_iter().map(|(_, process)| process));
    }

    /// Returns the number of the process that leads, or of the first.
    pub async fn leader(&self) -> usize {
        let leader = leader(&self.scene.namespace).await.unwrap_or_default();
        self.operators.running.iter().position(|process| process.instance == leader).unwrap_or(0)
    }

    /// Stops all operators. Their Lease is released, or is of an operator whose requests can land no more.
    pub async fn stop_operators(&mut self) {
        for mut process in std::mem::take(&mut self.operators.running) {
            process.signal("CONT").await;
            process.signal("TERM").await;
            process.wait_for_exit().await;
            self.operators.ended.push(process);
        }
    }

    pub fn start_operator(&mut self) {
        self.operators.start(&self.api, &self.scene.namespace, &self.sites);
    }

    pub async fn pods(&self, site: &str) -> Vec<Pod> {
        let api = self.scene.namespace.api::<Pod>();
        let params = ListParams::default().labels(&format!("toezicht.dev/site={site}"));
        let mut pods = until_done("list pods", || api.list(&params)).await.items;
        pods.sort_by_key(|pod| pod.name_any());
        pods
    }

    /// Merges `patch` into an object.
    pub async fn patch<K>(&self, name: &str, patch: &Value)
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>
            + serde::de::DeserializeOwned
            + Clone
            + std::fmt::Debug,
        K::DynamicType: Default,
    {
        let api: Api<K> = self.scene.namespace.api();
        let (params, patch) = (PatchParams::default(), Patch::Merge(patch));
        until_done("patch an object", || api.patch(name, &params, &patch)).await;
    }

    /// Sets values of a Secret.
    pub async fn set_secret(&self, name: &str, data: Value) {
        self.patch::<Secret>(name, &json!({"stringData": data})).await;
    }

    /// Returns an object as JSON, or null.
    pub async fn get<K>(&self, name: &str) -> Value
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>
            + serde::de::DeserializeOwned
            + serde::Serialize
            + Clone
            + std::fmt::Debug,
        K::DynamicType: Default,
    {
        let api: Api<K> = self.scene.namespace.api();
        let found = until_done("get an object", || api.get_opt(name)).await;
        found.map_or(Value::Null, |object| serde_json::to_value(object).unwrap())
    }
}

impl Operators {
    fn start(&mut self, api: &ApiGateway, namespace: &TestNamespace, sites: &[ChaosSite]) {
        self.started += 1;
        let endpoints: Vec<&str> = sites.iter().map(|site| site.proxy.endpoint.as_str()).collect();
        let config = json!({
            "recorderImage": self.image,
            "grants": [{"namespaces": ["*"], "endpoints": endpoints, "buckets": ["tz-*"], "plainHttp": true}],
        });
        let instance = format!("chaos-{}", self.started);
        let process = Process::with_cluster(&api.kubeconfig, namespace, namespace, &instance, config);
        self.running.push(process);
    }
}

/// Repeats a request until the API server applies it: a fault may keep it away.
pub async fn until_done<T, F>(description: &str, mut request: impl FnMut() -> F) -> T
where
    F: Future<Output = kube::Result<T>>,
{
    eventually(description, HANG, || {
        let response = request();
        async {
            let response = response.await;
            if let Err(kube::Error::Api(status)) = &response {
                assert!(status.code != 422, "{description}: {status}");
            }
            response.map_err(|error| error.to_string())
        }
    })
    .await
}

/// Returns the image of the recorders, and a second name of it on all nodes.
async fn second_image(has_second_node: bool) -> [String; 2] {
    let image = setting("TOEZICHT_TEST_IMAGE");
    let second = format!("{image}-again");
    let tag = format!("ctr -n k8s.io images tag --force {image} {second}");
    run("sh", &["-c", &tag], None).await;
    if has_second_node {
        let enter = "nsenter --target \"$(second_pid)\" --net --mount --pid --";
        let command = format!(". {}; {enter} {tag}", script("lib/common.sh"));
        run("bash", &["-c", &command], None).await;
    }
    [image, second]
}

/// Makes clips of ten seconds that cost little: small frames, and few.
async fn make_clips(folder: &Path) {
    std::fs::create_dir_all(folder).unwrap();
    let source = format!("testsrc2=size=160x96:rate={FPS}");
    let keys = format!("aud=1:keyint={0}:min-keyint={0}:scenecut=0:bframes=0:repeat-headers=1", 2 * FPS);
    for (codec, parameters, format, more) in [
        ("libx264", "-x264-params", "h264", ""),
        ("libx265", "-x265-params", "hevc", ":open-gop=0:log-level=error"),
    ] {
        let name = if format == "hevc" { "clip.h265" } else { "clip.h264" };
        let (file, keys) = (folder.join(name).display().to_string(), format!("{keys}{more}"));
        let arguments =
            ["-y", "-v", "error", "-f", "lavfi", "-i", &source, "-t", "10", "-pix_fmt", "yuv420p"];
        let arguments =
            [&arguments[..], &["-b:v", "60k", "-c:v", codec, parameters, &keys, "-f", format, &file]];
        run("ffmpeg", &arguments.concat(), None).await;
    }
}

/// Starts or loses the second node of the test bed.
pub async fn second_node(action: &str) {
    run("bash", &[&script("lib/second.sh"), action], None).await;
}
