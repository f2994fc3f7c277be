//! Begins and ends the faults of the schedule.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::ResourceExt;
use kube::api::{DeleteParams, EvictParams, ObjectMeta, PostParams};
use serde_json::{Value, json};
use toezicht::api::{Camera, RecordingPolicy, Site};

use super::plan::{Kind, Object, Planned};
use super::spans::{span, undisturbed, widened};
use super::world::{ChaosCamera, FIRST_CEILING, SITES, World, second_node, until_done};
use crate::recorder::cameras::PASSWORD;
use crate::storage::scene::client;
use crate::support::pod;
use crate::support::proxy::{ProxiedRequest, Trouble};
use crate::support::scene::POLICY;
use crate::support::tools::{run, script, try_run};

/// Time from the declaration of a suspension to its beginning.
const SUSPENSION_NOTICE: SignedDuration = SignedDuration::from_secs(10);
const STORE_DELAY: Duration = Duration::from_secs(4);
const CLOCK_LEAD_SECONDS: i64 = 3600;
/// Access keys and secrets that the store does not accept. The operator removes space around them, as people paste it.
const WRONG_KEYS: [[&str; 2]; 3] =
    [["recorderkey", "een-ander-woord"], ["recorderkey", "recorder secret"], ["nobodykey", "recordersecret"]];
/// Undisturbed seconds of a wrong key within which a recorder tries it.
const TRIED: f64 = 40.0;

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
    /// Ceiling in days that an edit of the policy set.
    pub ceiling: Option<u32>,
    /// Uploads that the store refused during a fault of the recorders' key.
    pub refused_uploads: Option<usize>,
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
        Self {
            planned,
            began,
            ended,
            cameras: vec![],
            window: None,
            ceiling: None,
            refused_uploads: None,
            note: String::new(),
            secret: None,
        }
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
            let [key, secret] = WRONG_KEYS[planned.choice as usize % WRONG_KEYS.len()];
            world.sites[target as usize].proxy.take();
            set_recorder_key(world, target, key, secret).await;
            fault.note = format!("{key:?} {secret:?}");
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
            world.ceiling = if world.ceiling == FIRST_CEILING { FIRST_CEILING - 1 } else { FIRST_CEILING };
            let video = format!("{}d", world.ceiling);
            let patch =
                json!({"spec": {"title": format!("Protocol {change}"), "retention": {"video": video}}});
            world.patch::<RecordingPolicy>(POLICY, &patch).await;
            fault.ceiling = Some(world.ceiling);
            fault.note = video;
        }
        Kind::LifecycleRemoved | Kind::BucketPolicyRemoved => {
            remove_configuration(world, kind, target).await;
            // What was read before is no news.
            fault.began = Timestamp::now();
            fault.ended = None;
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
        Kind::RecorderKeyWrong => {
            set_recorder_key(world, target, "recorderkey", "recordersecret").await;
            let requests = world.sites[target as usize].proxy.take();
            fault.refused_uploads =
                Some(requests.iter().filter(|request| is_refused_upload(request)).count());
        }
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

/// Deletes a part of a bucket's configuration, with keys that may do so.
async fn remove_configuration(world: &World, kind: Kind, site: u32) {
    let bucket = &world.sites[site as usize].bucket;
    let s3 = client(&bucket.server, bucket.server.bucket_maker());
    if kind == Kind::LifecycleRemoved {
        s3.delete_bucket_lifecycle().bucket(&bucket.name).send().await.unwrap();
    } else {
        s3.delete_bucket_policy().bucket(&bucket.name).send().await.unwrap();
    }
}

fn is_refused_upload(request: &ProxiedRequest) -> bool {
    request.method == "PUT" && request.path_and_query.contains("/video/") && request.status == 403
}

/// Returns the faults of the recorders' key that no recorder noticed: then they are none.
pub fn unnoticed_keys(faults: &[Fault], end: Timestamp) -> Vec<String> {
    let period = |fault: &Fault| span([fault.began, fault.ended.unwrap_or(end)], end);
    let mut unnoticed = Vec::new();
    for fault in faults.iter().filter(|fault| fault.refused_uploads == Some(0)) {
        let site = fault.planned.target;
        let is_delay = |other: &&Fault| {
            let Planned { kind, target, .. } = other.planned;
            let is_of_site = match kind.object(target) {
                // The groups are on the sites in turns.
                Object::Cameras(group) => group % 2 == site,
                Object::Suspensions(of) => of == site,
                _ => target == site && (kind.is_of_store() || kind.ending().is_some() || kind.is_drift()),
            };
            kind.stops_operator() || is_of_site
        };
        let delays = faults.iter().filter(is_delay).map(|other| widened(period(other), 1.0, 60.0));
        if undisturbed(period(fault), &delays.collect::<Vec<_>>()) > TRIED {
            unnoticed.push(format!("no recorder was refused with {}: {}", fault.note, fault.planned));
        }
    }
    unnoticed
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

/// Each fault has an effect.
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_keys_are_wrong_without_the_space_around_them() {
        // By tests/testbed/lib/s3.sh.
        let valid = |name: &str| {
            [
                [format!("{name}key"), format!("{name}secret")],
                [format!("{name}secondkey"), format!("{name}secondsecret")],
            ]
        };
        for wrong in WRONG_KEYS {
            let trimmed = wrong.map(|text| text.trim().to_owned());
            for name in
                ["recorder", "operator", "operator-scoped", "operator-admin", "admin", "manager", "other"]
            {
                assert!(!valid(name).contains(&trimmed), "{wrong:?} is valid");
            }
        }
    }

    #[test]
    fn wrong_key_that_no_recorder_tries_is_no_fault() {
        let at = |second: i64| Timestamp::from_second(1_800_000_000 + second).unwrap();
        let fault = |kind: Kind, target: u32, [began, ended]: [i64; 2]| {
            let planned = Planned { at: 0, lasts: 60, kind, target, choice: 0 };
            Fault::at(planned, [at(began), at(ended)])
        };
        let wrong = |refused: usize, ended: i64| {
            let fault = fault(Kind::RecorderKeyWrong, 0, [100, ended]);
            Fault { refused_uploads: Some(refused), ..fault }
        };
        let count = |faults: &[Fault]| unnoticed_keys(faults, at(600)).len();
        assert_eq!(count(&[wrong(0, 160)]), 1);
        assert_eq!(count(&[wrong(3, 160)]), 0);
        assert_eq!(count(&[wrong(0, 120)]), 0, "too short to try it");
        assert_eq!(count(&[wrong(0, 160), fault(Kind::OperatorKilled, 0, [90, 100])]), 0);
        assert_eq!(count(&[wrong(0, 160), fault(Kind::StoreAway, 0, [90, 150])]), 0);
        assert_eq!(count(&[wrong(0, 160), fault(Kind::StoreAway, 1, [90, 150])]), 1, "another store");
        let refused = |method: &str, path: &str, status: u16| ProxiedRequest {
            method: method.into(),
            path_and_query: path.into(),
            status,
            access_key: None,
        };
        assert!(is_refused_upload(&refused("PUT", "/tz-a/video/hal/1.mp4?x-id=PutObject", 403)));
        assert!(!is_refused_upload(&refused("PUT", "/tz-a/video/hal/1.mp4?x-id=PutObject", 200)));
        assert!(!is_refused_upload(&refused("PUT", "/tz-a/probe/1", 403)), "the operator's");
    }
}
