//! Begins and ends the faults of the schedule.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::ResourceExt;
use kube::api::{DeleteParams, EvictParams, ObjectMeta, PostParams};
use serde_json::{Value, json};
use toezicht::api::{Camera, RecordingPolicy, Site};

use super::plan::{Kind, Planned};
use super::world::{ChaosCamera, SITES, World, second_node, until_done};
use crate::recorder::cameras::PASSWORD;
use crate::support::pod;
use crate::support::proxy::Trouble;
use crate::support::scene::POLICY;
use crate::support::tools::{run, script, try_run};

/// Time from the declaration of a suspension to its beginning.
const SUSPENSION_NOTICE: SignedDuration = SignedDuration::from_secs(10);
const STORE_DELAY: Duration = Duration::from_secs(4);
const CLOCK_LEAD_SECONDS: i64 = 3600;

/// A fault that began.
#[derive(Clone, Debug)]
pub struct Fault {
    pub planned: Planned,
    pub began: Timestamp,
    /// `None`: it lasts.
    pub ended: Option<Timestamp>,
    /// Cameras of a suspension, or the camera that was added.
    pub cameras: Vec<ChaosCamera>,
    /// Window of a suspension.
    pub window: Option<[Timestamp; 2]>,
    /// What was done, for the report.
    pub note: String,
    /// Secret that was deleted.
    secret: Option<Secret>,
}

impl Fault {
    /// Returns a fault that began and ended at these times.
    pub fn at(planned: Planned, [began, ended]: [Timestamp; 2]) -> Self {
        Self { ended: Some(ended), ..Self::begun(planned, began) }
    }

    fn begun(planned: Planned, began: Timestamp) -> Self {
        let ended = if planned.lasts == 0 { Some(began) } else { None };
        let (cameras, window, note, secret) = (vec![], None, String::new(), None);
        Self { planned, began, ended, cameras, window, note, secret }
    }

    /// Returns whether the fault touches a camera of this site and group.
    pub fn touches(&self, camera: &ChaosCamera) -> bool {
        let target = self.planned.target;
        match self.planned.kind {
            Kind::CamerasOff
            | Kind::CamerasHang
            | Kind::CameraPasswordWrong
            | Kind::CameraSecretRecreated => camera.group == target,
            Kind::Suspended | Kind::CameraAdded => self.cameras.iter().any(|other| other.name == camera.name),
            kind if kind.stops_operator() || kind == Kind::PolicyEdited => true,
            _ => camera.site == target,
        }
    }
}

/// Begins a fault.
pub async fn begin(world: &mut World, planned: Planned) -> Fault {
    let mut fault = Fault::begun(planned, Timestamp::now());
    let Planned { kind, target, .. } = planned;
    match kind {
        Kind::RecorderKilled | Kind::PodDeleted | Kind::PodForceDeleted | Kind::PodEvicted => {
            fault.note = disturb_pod(world, planned).await;
        }
        Kind::WorkloadScaled | Kind::WorkloadDeleted | Kind::WorkloadRestarted => {
            disturb_workload(world, planned).await;
        }
        Kind::TemplateChanged => {
            let cpu = format!("{}m", 10 + world.next_change());
            let requests = json!({"cpu": cpu, "memory": "32Mi"});
            let patch = json!({"spec": {"recorder": {"resources": {"requests": requests}}}});
            world.patch::<Site>(SITES[target as usize], &patch).await;
        }
        Kind::CapacityLowered => {
            let cameras = world.cameras.iter().filter(|camera| camera.site == target).count();
            set_capacity(world, target, cameras.div_ceil(2)).await;
        }
        Kind::ImageUpgraded => world.upgrade_image().await,
        Kind::StoreAway
        | Kind::StoreUnavailable
        | Kind::StoreSilent
        | Kind::StoreSlow
        | Kind::StoreResponsesLost
        | Kind::StoreFaulty
        | Kind::StoreClockAhead => set_store(world, kind, target, true),
        Kind::OperatorKilled => {
            let leader = world.leader().await;
            let process = &world.operators.running[leader];
            fault.note = process.instance.clone();
            process.signal("KILL").await;
        }
        Kind::LeaderFrozen => {
            let leader = world.leader().await;
            let process = &world.operators.running[leader];
            fault.note = process.instance.clone();
            process.signal("STOP").await;
        }
        Kind::ApiAway => world.api.proxy.set_trouble(Some(Trouble::Away)),
        Kind::ApiSilent => world.api.proxy.set_trouble(Some(Trouble::Silent)),
        Kind::ApiRestarted => api_server("stop").await,
        Kind::RecorderKeyWrong => {
            set_recorder_key(world, target, "recorderkey", "recordersecret ").await;
        }
        Kind::RecorderKeyRotated => {
            let is_second = world.next_change().is_multiple_of(2);
            let [key, secret] = if is_second {
                ["recorderkey", "recordersecret"]
            } else {
                ["recordersecondkey", "recordersecondsecret"]
            };
            key.clone_into(&mut fault.note);
            set_recorder_key(world, target, key, secret).await;
        }
        Kind::OperatorKeyWrong => {
            let name = world.sites[target as usize].operator_secret.clone();
            world.set_secret(&name, json!({"secretAccessKey": "wrong"})).await;
        }
        Kind::RecorderSecretRecreated => {
            let name = world.sites[target as usize].recorder_secret.clone();
            fault.secret = Some(delete_secret(world, &name).await);
        }
        Kind::CameraSecretRecreated => {
            let name = world.groups[target as usize].secret.clone();
            fault.secret = Some(delete_secret(world, &name).await);
        }
        Kind::CameraPasswordWrong => {
            let name = world.groups[target as usize].secret.clone();
            world.set_secret(&name, json!({"password": "een-ander-woord"})).await;
        }
        Kind::CamerasOff => world.groups[target as usize].server.kill().await,
        Kind::CamerasHang => world.groups[target as usize].server.freeze(),
        Kind::CameraAdded => fault.cameras = vec![add_camera(world, target).await],
        Kind::Suspended => suspend(world, &mut fault).await,
        Kind::PolicyEdited => {
            let change = world.next_change();
            let video = if change.is_multiple_of(2) { "28d" } else { "27d" };
            let patch =
                json!({"spec": {"title": format!("Protocol {change}"), "retention": {"video": video}}});
            world.patch::<RecordingPolicy>(POLICY, &patch).await;
            video.clone_into(&mut fault.note);
        }
        Kind::NodeKilled => second_node("kill").await,
        Kind::NodeCut => second_node("cut").await,
    }
    fault
}

/// Ends a fault.
pub async fn end(world: &mut World, fault: &mut Fault) {
    let Planned { kind, target, .. } = fault.planned;
    match kind {
        Kind::CapacityLowered => set_capacity(world, target, 32).await,
        kind if kind.is_of_store() => set_store(world, kind, target, false),
        Kind::LeaderFrozen => {
            for process in world.operators.running.iter().filter(|process| process.instance == fault.note) {
                process.signal("CONT").await;
            }
        }
        Kind::ApiAway | Kind::ApiSilent => world.api.proxy.set_trouble(None),
        Kind::ApiRestarted => api_server("start").await,
        Kind::RecorderKeyWrong => set_recorder_key(world, target, "recorderkey", "recordersecret").await,
        Kind::OperatorKeyWrong => {
            let site = &world.sites[target as usize];
            let key = site.bucket.server.bucket_maker().secret_key.clone();
            world.set_secret(&site.operator_secret, json!({"secretAccessKey": key})).await;
        }
        Kind::RecorderSecretRecreated | Kind::CameraSecretRecreated => {
            let secret = fault.secret.take().expect("a deleted Secret");
            let api = world.scene.namespace.api::<Secret>();
            let params = PostParams::default();
            until_done("create a Secret", || api.create(&params, &secret)).await;
        }
        Kind::CameraPasswordWrong => {
            let name = world.groups[target as usize].secret.clone();
            world.set_secret(&name, json!({"password": PASSWORD})).await;
        }
        Kind::CamerasOff => world.groups[target as usize].server.restart().await,
        Kind::CamerasHang => world.groups[target as usize].server.thaw(),
        Kind::CameraAdded => {
            let api = world.scene.namespace.api::<Camera>();
            let (name, params) = (&fault.cameras[0].name, DeleteParams::default());
            until_done("delete a camera", || api.delete(name, &params)).await;
        }
        Kind::NodeKilled => second_node("up").await,
        Kind::NodeCut => second_node("join").await,
        // The replacement of the operator that exited comes with the next second.
        _ => {}
    }
    fault.ended = Some(Timestamp::now());
}

async fn disturb_pod(world: &World, planned: Planned) -> String {
    let pods = world.pods(SITES[planned.target as usize]).await;
    let Some(chosen) = pods.get(planned.choice as usize % pods.len().max(1)) else {
        return "no pod".into();
    };
    let (name, api) = (chosen.name_any(), world.scene.namespace.api::<Pod>());
    let outcome = match planned.kind {
        Kind::RecorderKilled => {
            let is_killed = pod::try_kill_recorder(&chosen.uid().unwrap());
            return format!("{name}{}", if is_killed { "" } else { ": does not run" });
        }
        Kind::PodDeleted => api.delete(&name, &DeleteParams::default()).await.map(drop),
        Kind::PodForceDeleted => api.delete(&name, &DeleteParams::default().grace_period(0)).await.map(drop),
        _ => api.evict(&name, &EvictParams::default()).await.map(drop),
    };
    format!("{name}{}", outcome.err().map(|error| format!(": {error}")).unwrap_or_default())
}

async fn disturb_workload(world: &World, planned: Planned) {
    let name = format!("statefulset/{}-recorder", SITES[planned.target as usize]);
    let namespace = world.scene.namespace.name.as_str();
    let arguments: &[&str] = match planned.kind {
        Kind::WorkloadScaled => &["scale", &name, "--replicas=0"],
        Kind::WorkloadDeleted => &["delete", &name, "--wait=false", "--ignore-not-found"],
        _ => &["rollout", "restart", &name],
    };
    // It may just be re-created.
    let (ok, _, error) = try_run("kubectl", &[&["-n", namespace], arguments].concat(), None).await;
    if !ok {
        println!("{arguments:?}: {error}");
    }
}

async fn set_capacity(world: &World, site: u32, cameras: usize) {
    let patch = json!({"spec": {"recorder": {"maxCamerasPerPod": cameras}}});
    world.patch::<Site>(SITES[site as usize], &patch).await;
}

fn set_store(world: &World, kind: Kind, target: u32, is_broken: bool) {
    let proxy = &world.sites[target as usize].proxy;
    match kind {
        Kind::StoreUnavailable => proxy.set_down(is_broken),
        Kind::StoreFaulty => proxy.set_faulty(is_broken),
        Kind::StoreClockAhead => proxy.set_date_ahead(if is_broken { CLOCK_LEAD_SECONDS } else { 0 }),
        Kind::StoreAway => proxy.set_trouble(is_broken.then_some(Trouble::Away)),
        Kind::StoreSilent => proxy.set_trouble(is_broken.then_some(Trouble::Silent)),
        Kind::StoreSlow => proxy.set_trouble(is_broken.then_some(Trouble::Slow(STORE_DELAY))),
        _ => proxy.set_trouble(is_broken.then_some(Trouble::ResponsesLost)),
    }
}

async fn set_recorder_key(world: &World, site: u32, key: &str, secret: &str) {
    let name = &world.sites[site as usize].recorder_secret;
    world.set_secret(name, json!({"accessKeyId": key, "secretAccessKey": secret})).await;
}

/// Deletes a Secret and returns it as it is to be created again.
async fn delete_secret(world: &World, name: &str) -> Secret {
    let api = world.scene.namespace.api::<Secret>();
    let mut secret = until_done("get a Secret", || api.get(name)).await;
    let params = DeleteParams::default();
    until_done("delete a Secret", || api.delete(name, &params)).await;
    secret.metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
    secret
}

async fn add_camera(world: &mut World, group: u32) -> ChaosCamera {
    let number = world.next_change();
    let of = &world.groups[group as usize];
    let camera =
        ChaosCamera { name: format!("added-{number}"), site: of.site, group, path: of.spare_path.clone() };
    world.create_camera(&camera).await;
    camera
}

/// Covers every second camera of a site.
async fn suspend(world: &World, fault: &mut Fault) {
    let Planned { target, lasts, choice, .. } = fault.planned;
    let of_site = world.cameras.iter().filter(|camera| camera.site == target);
    let every_second = of_site.enumerate().filter(|(index, _)| (index + choice as usize).is_multiple_of(2));
    fault.cameras = every_second.map(|(_, camera)| camera.clone()).collect();
    let from = Timestamp::from_second(Timestamp::now().as_second()).unwrap() + SUSPENSION_NOTICE;
    let until = from + SignedDuration::from_secs(i64::from(lasts));
    fault.window = Some([from, until]);
    let name = SITES[target as usize];
    let site = world.get::<Site>(name).await;
    let mut suspensions = site["spec"]["suspensions"].as_array().cloned().unwrap_or_default();
    let names: Vec<&str> = fault.cameras.iter().map(|camera| camera.name.as_str()).collect();
    suspensions.push(json!({
        "reason": "Gemeenteraadsverkiezing", "from": from, "until": until, "cameras": names,
    }));
    fault.note = format!("{names:?}");
    world.patch::<Site>(name, &json!({"spec": {"suspensions": Value::Array(suspensions)}})).await;
}

/// Stops or starts the API server of the test bed.
async fn api_server(action: &str) {
    run("bash", &[&script("lib/daemons.sh"), action, "apiserver"], None).await;
}
