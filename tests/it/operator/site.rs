//! The Site controller on a real API server, kubelet and store: grants, Secrets of the wrong type, drift, zero writes
//! in sync, and deletion in any order.

use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{LimitRange, Namespace, Pod, Secret, Service};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use toezicht::api::{Camera, IncidentHold, RecordingPolicy, Site};
use toezicht::controllers::kubernetes::status::REFRESH_INTERVAL;

use super::process::{Process, config_for_store, wait_for_leader, with_chart_scaled_down};
use crate::support::audit;
use crate::support::cluster::TestNamespace;
use crate::support::packet_counters::PacketCounters;
use crate::support::proxy::Proxy;
use crate::support::scene::{POLICY, SITE, Scene};
use crate::support::settings::S3Server;
use crate::support::tools::read_back;
use crate::support::wait::{HANG, eventually};

/// Name of the recorders' objects.
const RECORDER: &str = "die-heijgrave-recorder";

fn config() -> Value {
    config_for_store(&S3Server::primary().endpoint)
}

/// Starts an operator for `namespace` and waits until it is the leader.
async fn start_operator(namespace: &TestNamespace, instance: &str) -> Process {
    let process = Process::with_config(namespace, namespace, instance, config());
    wait_for_leader(namespace, instance).await;
    process
}

async fn new_scene(namespace: TestNamespace, edit: impl Fn(&mut Value, &mut Value)) -> Scene {
    Scene::within(namespace, S3Server::primary(), edit).await
}

/// Waits until a condition of the site has status and reason, and returns its message.
async fn wait_for_condition(scene: &Scene, type_: &str, status: &str, reason: &str) -> String {
    eventually(&format!("{type_}={status} {reason}"), HANG, || async {
        let site = scene.namespace.api::<Site>().get(SITE).await.map_err(|e| e.to_string())?;
        let conditions = site.status.unwrap_or_default().conditions;
        let found = conditions.iter().find(|c| c.type_ == type_ && c.status == status && c.reason == reason);
        found.map(|c| c.message.clone()).ok_or_else(|| format!("{conditions:?}"))
    })
    .await
}

/// Deletes the Site and waits until it no longer exists.
async fn delete_site(sites: &Api<Site>) {
    sites.delete(SITE, &DeleteParams::default()).await.unwrap();
    eventually("the Site is deleted", HANG, || async {
        let left = sites.get_opt(SITE).await.map_err(|e| e.to_string())?;
        left.map_or(Ok(()), |site| Err(format!("{:?}", site.status)))
    })
    .await;
}

/// Destinations that a malicious Site could name, as nftables rules. No other process of this machine connects to
/// them: the cluster's pods reach the API server from other networks.
const FORBIDDEN: [(&str, &str); 4] = [
    ("listener", "tcp dport 28338"),
    ("metadata", "ip daddr 169.254.169.254"),
    ("apiserver", "ip daddr 10.96.0.1 tcp flags & (syn | ack) == syn"),
    ("names", "meta l4proto { tcp, udp } th dport 53"),
];

#[tokio::test(flavor = "multi_thread")]
async fn operator_connects_only_to_granted_stores() {
    with_chart_scaled_down("site-grants", |namespace| async move {
        let proxy = Proxy::start(&S3Server::primary().endpoint, 28339).await;
        let counters = PacketCounters::new(&FORBIDDEN).await;
        // Check the counters first: the test itself tries the forbidden connections.
        for address in ["10.244.0.1:28338", "169.254.169.254:80", "10.96.0.1:443"] {
            let connect = tokio::net::TcpStream::connect(address);
            // These addresses do not answer.
            let _ = tokio::time::timeout(Duration::from_millis(200), connect).await;
        }
        let probe = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        probe.send_to(b"?", "192.0.2.1:53").unwrap();
        eventually("the kernel counts the test's own attempts", HANG, || async {
            let packets = counters.packets().await;
            let all = packets.iter().all(|(_, packets)| *packets > 0);
            all.then_some(()).ok_or_else(|| format!("{packets:?}"))
        })
        .await;

        let mut config = config();
        config["grants"][0]["endpoints"] = json!([proxy.endpoint]);
        let process = Process::with_config(&namespace, &namespace, "grants", config);
        wait_for_leader(&namespace, "grants").await;
        let before = counters.packets().await;
        let scene = new_scene(namespace, |_, site| {
            site["spec"]["storage"]["endpoint"] = "http://10.244.0.1:28338".into();
        })
        .await;
        let sites = scene.namespace.api::<Site>();
        for (endpoint, bucket) in [
            ("http://10.244.0.1:28338", "tz-a"),
            ("http://169.254.169.254", "tz-a"),
            ("https://kubernetes.default.svc", "tz-a"),
            ("https://10.96.0.1", "tz-a"),
            // The granted store with a bucket that is not granted.
            (proxy.endpoint.as_str(), "other-tenants-bucket"),
        ] {
            delete_site(&sites).await;
            let mut site = scene.site();
            site["spec"]["storage"]["endpoint"] = endpoint.into();
            site["spec"]["storage"]["bucket"] = bucket.into();
            scene.create::<Site>(site).await;
            let message = wait_for_condition(&scene, "Accepted", "False", "NotGranted").await;
            assert!(message.starts_with("spec.storage: no grant"), "{message}");
            wait_for_condition(&scene, "Stalled", "True", "NotGranted").await;
            wait_for_condition(&scene, "StorageEnforced", "Unknown", "DependencyNotReady").await;
        }
        assert_eq!(scene.namespace.api::<StatefulSet>().get_opt(RECORDER).await.unwrap(), None);
        process.reconcile_all_twice(&scene.namespace).await;
        let (packets, requests) = (counters.packets().await, proxy.take());
        assert_eq!((packets, requests), (before, vec![]));
        let log = process.log();
        assert!(!log.contains("panicked"), "{log}");

        // The grant works: the operator reaches the granted bucket through the same proxy.
        delete_site(&sites).await;
        let mut site = scene.site();
        site["spec"]["storage"]["endpoint"] = proxy.endpoint.as_str().into();
        scene.create::<Site>(site).await;
        wait_for_condition(&scene, "Accepted", "True", "Valid").await;
        eventually("the operator sends a request", HANG, || async {
            let requests = proxy.take();
            if requests.is_empty() { Err("no request".into()) } else { Ok(()) }
        })
        .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn secret_of_wrong_type_is_reported_as_missing() {
    with_chart_scaled_down("site-secret", |namespace| async move {
        let process = start_operator(&namespace, "secret").await;
        let opaque = [("accessKeyId", "AKIAOPAQUE".to_owned()), ("secretAccessKey", "hunter2".to_owned())];
        namespace.secret("somebody-elses", "Opaque", opaque).await;
        let scene = new_scene(namespace, |_, site| {
            site["spec"]["storage"]["operator"]["credentialsRef"]["name"] = "somebody-elses".into();
        })
        .await;
        let wrong = wait_for_condition(&scene, "Accepted", "False", "ReferenceNotFound").await;
        scene.namespace.api::<Secret>().delete("somebody-elses", &DeleteParams::default()).await.unwrap();
        process.wait_until_in_sync(&scene.namespace).await;
        let without = wait_for_condition(&scene, "Accepted", "False", "ReferenceNotFound").await;
        assert_eq!(without, wrong);
        assert!(!wrong.contains("AKIA") && !wrong.contains("hunter2"), "{wrong}");
        let login = scene.namespace.api::<Secret>().get("camera-login").await.unwrap();
        assert_eq!(login.type_.as_deref(), Some("toezicht.dev/camera"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn default_of_a_limit_range_does_not_shrink_the_spool() {
    with_chart_scaled_down("site-limits", |namespace| async move {
        let amount = |text: &str| json!({"ephemeral-storage": text});
        let limit = json!({"type": "Container", "default": amount("64Mi"), "defaultRequest": amount("32Mi")});
        let range = json!({"metadata": {"name": "small"}, "spec": {"limits": [limit]}});
        let range: LimitRange = serde_json::from_value(range).unwrap();
        namespace.api::<LimitRange>().create(&PostParams::default(), &range).await.unwrap();
        let _process = start_operator(&namespace, "limits").await;
        let scene = new_scene(namespace, |_, _| ()).await;
        scene.camera("hal", "h264/0").await;
        scene.wait_for_camera("hal", "Recording", "True", HANG).await;
        let pod = scene.namespace.api::<Pod>().get(&format!("{RECORDER}-0")).await.unwrap();
        let resources = pod.spec.unwrap().containers.remove(0).resources.unwrap();
        for amounts in [resources.requests, resources.limits] {
            // The spool of 512Mi, and 256Mi for logs.
            assert_eq!(amounts.unwrap()["ephemeral-storage"].0, (768_u64 << 20).to_string());
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cameras_that_do_not_fit_keep_no_hold_from_the_others() {
    with_chart_scaled_down("site-cameras", |namespace| async move {
        let _process = start_operator(&namespace, "cameras").await;
        // No Secret has room for twenty of these: each is almost as long as the operator accepts.
        let authority = [("ca.crt", "x".repeat(60_000))];
        namespace.secret("large-ca", "toezicht.dev/ca", authority).await;
        let scene = new_scene(namespace, |_, _| ()).await;
        scene.camera("hal", "h264/0").await;
        let names: Vec<String> = (0..20).map(|number| format!("extra-{number}")).collect();
        for name in names.iter().map(String::as_str).chain(["newest"]) {
            // The API server stores creation times in whole seconds.
            if name == names[0] || name == "newest" {
                tokio::time::sleep(Duration::from_millis(1100)).await;
            }
            let stream = json!({"url": "rtsps://192.0.2.1/", "caRef": {"name": "large-ca"}});
            scene
                .create::<Camera>(json!({
                    "apiVersion": "toezicht.dev/v1alpha1", "kind": "Camera", "metadata": {"name": name},
                    "spec": {"siteRef": {"name": SITE}, "area": "Hal", "visible": true, "stream": stream},
                }))
                .await;
        }
        let message = wait_for_condition(&scene, "Stalled", "True", "TooManyCameras").await;
        assert!(message.contains("are not recorded: "), "{message}");
        eventually("the newest camera is left out", HANG, || async {
            let camera = scene.namespace.api::<Camera>().get("newest").await.map_err(|e| e.to_string())?;
            let conditions = camera.status.unwrap_or_default().conditions;
            let found = conditions.iter().any(|c| c.type_ == "Recording" && c.reason == "TooManyCameras");
            found.then_some(()).ok_or_else(|| format!("{conditions:?}"))
        })
        .await;
        scene.wait_for_camera("hal", "Recording", "True", HANG).await;
        scene.declare("diefstal", &[], jiff::Timestamp::now(), None).await;
        scene.wait_for_hold("diefstal", "Placed", "True", HANG).await;
        let uid = scene.namespace.api::<IncidentHold>().get("diefstal").await.unwrap().uid().unwrap();
        assert!(scene.recorder_config().await.contains(&uid));
        // Their places are free.
        for name in &names {
            scene.namespace.api::<Camera>().delete(name, &DeleteParams::default()).await.unwrap();
        }
        wait_for_condition(&scene, "Stalled", "False", "AsRequired").await;
    })
    .await;
}

/// Triggers a reconcile of the site by changing an annotation.
async fn touch_site(scene: &Scene) {
    let annotation = json!({"metadata": {"annotations": {"touched": jiff::Timestamp::now().to_string()}}});
    let api = scene.namespace.api::<Site>();
    api.patch(SITE, &PatchParams::default(), &Patch::Merge(&annotation)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn drift_is_reverted_and_in_sync_site_is_not_written() {
    with_chart_scaled_down("site-drift", |namespace| async move {
        let began = Instant::now();
        let mut process = start_operator(&namespace, "drift-first").await;
        let scene = new_scene(namespace, |_, _| ()).await;
        wait_for_condition(&scene, "Ready", "True", "AsRequired").await;
        wait_for_condition(&scene, "Recording", "False", "NoCameras").await;
        wait_for_condition(&scene, "SpoolPersistent", "False", "EmptyDir").await;
        let services = scene.namespace.api::<Service>();
        let drift = json!({"spec": {"publishNotReadyAddresses": false}});
        services.patch(RECORDER, &PatchParams::default(), &Patch::Merge(&drift)).await.unwrap();
        eventually("the Service is restored", HANG, || async {
            let service = services.get(RECORDER).await.map_err(|e| e.to_string())?;
            let spec = service.spec.unwrap_or_default();
            if spec.publish_not_ready_addresses == Some(true) { Ok(()) } else { Err(format!("{spec:?}")) }
        })
        .await;

        scene.wait_until_settled(HANG).await;
        process.wait_until_in_sync(&scene.namespace).await;
        process.release_lease_and_exit(&scene.namespace).await;
        // A new operator reconciles everything for the first time.
        let before = audit::end();
        let second = start_operator(&scene.namespace, "drift-second").await;
        second.wait_until_ready().await;
        second.reconcile_all_twice(&scene.namespace).await;
        let mut writes = audit::writes_until_now(&scene.namespace, before).await;
        writes.retain(|event| audit::is_write_of(event, "drift-second"));
        let writes: Vec<String> = writes.iter().map(audit::describe).collect();
        // On a slow machine a periodic status refresh may be due. Then only the rounds of `wait_until_in_sync` count.
        assert!(writes.is_empty() || began.elapsed() > REFRESH_INTERVAL, "{writes:#?}");
        second.wait_until_in_sync(&scene.namespace).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn recorder_that_cannot_start_is_explained() {
    with_chart_scaled_down("site-image", |namespace| async move {
        let mut config = config();
        config["recorderImage"] = "localhost/no-such-image:1".into();
        let _process = Process::with_config(&namespace, &namespace, "image", config);
        wait_for_leader(&namespace, "image").await;
        let scene = new_scene(namespace, |_, _| ()).await;
        scene.camera("receptie", "h264/3").await;
        eventually("the Site names the cause", HANG, || async {
            let site = scene.namespace.api::<Site>().get(SITE).await.map_err(|e| e.to_string())?;
            let conditions = site.status.unwrap_or_default().conditions;
            let ready = conditions.iter().find(|c| c.type_ == "Ready").ok_or("no Ready")?;
            // The kubelet alternates between the two.
            let is_named = ["ImagePullBackOff", "ErrImagePull", "ErrImageNeverPull"]
                .iter()
                .any(|it| ready.message.contains(it));
            is_named.then_some(()).ok_or_else(|| format!("{ready:?}"))
        })
        .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_object_is_left_alone_and_reported() {
    with_chart_scaled_down("site-foreign", |namespace| async move {
        let _process = start_operator(&namespace, "foreign").await;
        let foreign: Service = serde_json::from_value(json!({
            "metadata": {"name": RECORDER}, "spec": {"ports": [{"port": 1}], "selector": {"a": "b"}},
        }))
        .unwrap();
        namespace.api::<Service>().create(&PostParams::default(), &foreign).await.unwrap();
        let scene = new_scene(namespace, |_, _| ()).await;
        let message = wait_for_condition(&scene, "Ready", "False", "ForeignObject").await;
        assert!(message.contains(RECORDER), "{message}");
        let left = scene.namespace.api::<Service>().get(RECORDER).await.unwrap();
        assert_eq!(left.spec.unwrap().selector.unwrap()["a"], "b");
        // Once the foreign object is deleted, the next reconcile succeeds.
        scene.namespace.api::<Service>().delete(RECORDER, &DeleteParams::default()).await.unwrap();
        touch_site(&scene).await;
        wait_for_condition(&scene, "Ready", "True", "AsRequired").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn site_is_deleted_in_any_order_and_bucket_keeps_its_rules() {
    with_chart_scaled_down("site-delete", |namespace| async move {
        let _process = start_operator(&namespace, "delete").await;
        let scene = new_scene(namespace, |_, _| ()).await;
        scene.camera("receptie", "h264/5").await;
        wait_for_condition(&scene, "Recording", "True", "Recording").await;
        let rules = read_back(&scene.bucket.server, &scene.bucket.name, "admin").await;

        let secrets = scene.namespace.api::<Secret>();
        for secret in ["s3-operator", "s3-recorder", "camera-login"] {
            secrets.delete(secret, &DeleteParams::default()).await.unwrap();
        }
        scene.namespace.api::<RecordingPolicy>().delete(POLICY, &DeleteParams::default()).await.unwrap();
        scene.namespace.api::<Site>().delete(SITE, &DeleteParams::default()).await.unwrap();
        eventually("the recorders and then the Site are deleted", HANG, || async {
            // The Site is read before the pods: if it is missing here, it was deleted before the pods were listed.
            let site = scene.namespace.api::<Site>().get_opt(SITE).await.map_err(|e| e.to_string())?;
            let pods =
                scene.namespace.api::<Pod>().list(&ListParams::default()).await.map_err(|e| e.to_string())?;
            let running: Vec<_> =
                pods.items.into_iter().filter(|pod| !has_terminated(pod)).map(|pod| pod.status).collect();
            match (running.is_empty(), site) {
                (true, None) => Ok(()),
                (false, None) => panic!("the Site was deleted before its recorders: {running:?}"),
                (_, Some(site)) => Err(format!("{running:?}; {:?}", site.status)),
            }
        })
        .await;
        assert_eq!(read_back(&scene.bucket.server, &scene.bucket.name, "admin").await, rules);
    })
    .await;
}

/// Returns whether all containers of a pod have terminated, even if the kubelet has not removed it yet.
fn has_terminated(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

#[tokio::test(flavor = "multi_thread")]
async fn namespace_with_site_is_deleted() {
    with_chart_scaled_down("site-namespace", |namespace| async move {
        // The operator's Lease is in the test's namespace. Another namespace is deleted.
        let other = TestNamespace::new(&namespace.client, "site-going").await;
        let _process = Process::with_config(&namespace, &other, "namespace", config());
        wait_for_leader(&namespace, "namespace").await;
        let scene = new_scene(other, |_, _| ()).await;
        scene.camera("receptie", "h264/5").await;
        wait_for_condition(&scene, "Recording", "True", "Recording").await;
        let (client, name) = (scene.namespace.client.clone(), scene.namespace.name.clone());
        let all: Api<Namespace> = Api::all(client);
        all.delete(&name, &DeleteParams::default()).await.unwrap();
        eventually("the namespace is deleted", HANG, || async {
            match all.get_opt(&name).await.map_err(|e| e.to_string())? {
                None => Ok(()),
                Some(left) => Err(format!("{:?}", left.status)),
            }
        })
        .await;
    })
    .await;
}
