//! `helm upgrade` of a release of the test's own: an image that cannot be pulled, or that starts and never records, stops at the
//! first pod, and nothing is lost.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::{Value, json};
use tokio::time::{Duration, sleep};

use crate::operator::process::with_chart_scaled_down;
use crate::operator::spools::{wait_for_ready_message, wait_for_spooled_segments};
use crate::support::cluster::TestNamespace;
use crate::support::proxy::Proxy;
use crate::support::recorded::wait_until_complete;
use crate::support::scene::Scene;
use crate::support::settings::{S3Server, root, setting};
use crate::support::tools::run;
use crate::support::wait::{HANG, eventually};

const PORT: u16 = 28358;
/// An image that no registry has.
const UNPULLABLE: &str = "localhost/toezicht:unpullable";
/// An image that starts with any arguments and does nothing: that of the bed's sandboxes.
const IDLE: &str = "localhost/pause:1";
const PODS: [&str; 2] = ["die-heijgrave-recorder-0", "die-heijgrave-recorder-1"];

/// A release in a namespace of its own, which watches only that namespace.
struct Release {
    namespace: String,
    values: Value,
}

impl Release {
    fn new(namespace: &TestNamespace, endpoint: &str) -> Self {
        let image = setting("TOEZICHT_TEST_IMAGE");
        let (repository, tag) = image.rsplit_once(':').unwrap();
        let values = json!({
            "image": {"repository": repository, "tag": tag},
            "replicas": 1,
            "crds": {"enabled": false},
            "watchNamespaces": [namespace.name],
            "grants": [{"namespaces": ["*"], "endpoints": [endpoint], "buckets": ["tz-*"], "plainHttp": true}],
        });
        Self { namespace: namespace.name.clone(), values }
    }

    async fn upgrade(&self, recorder_image: &str) {
        let mut values = self.values.clone();
        values["recorderImage"] = recorder_image.into();
        let chart = root().join("charts/toezicht").display().to_string();
        let target = ["upgrade", "--install", &self.namespace, &chart, "--namespace", &self.namespace];
        let options = ["--values", "-", "--wait", "--timeout", "120s"];
        run("helm", &[&target[..], &options].concat(), Some(values.to_string().as_bytes())).await;
    }

    async fn run(&self, arguments: &[&str]) {
        run("helm", &[arguments, &["--namespace", &self.namespace, "--wait"]].concat(), None).await;
    }
}

/// Gives the image another name, as a new version has.
async fn tag_image(namespace: &TestNamespace) -> String {
    let image = setting("TOEZICHT_TEST_IMAGE");
    let next = format!("localhost/toezicht:{}", namespace.name);
    run("ctr", &["--namespace", "k8s.io", "images", "tag", "--force", &image, &next], None).await;
    next
}

/// Image and UID of a pod.
async fn pod(scene: &Scene, name: &str) -> Result<(String, String), String> {
    let pod = scene.namespace.api::<Pod>().get(name).await.map_err(|e| e.to_string())?;
    let uid = pod.uid().ok_or("no UID")?;
    let image = pod.spec.and_then(|spec| spec.containers.into_iter().next()?.image);
    Ok((image.ok_or("no image")?, uid))
}

async fn wait_for_image(scene: &Scene, name: &str, expected: &str) {
    eventually(&format!("{name} has the image {expected}"), HANG, || async {
        let (image, _) = pod(scene, name).await?;
        if image == expected { Ok(()) } else { Err(image) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn upgrade_stops_at_an_image_that_does_not_start_and_loses_nothing() {
    with_chart_scaled_down("upgrade", |namespace| async move {
        let proxy = Proxy::start(&S3Server::primary().endpoint, PORT).await;
        let release = Release::new(&namespace, &proxy.endpoint);
        release.upgrade("").await;
        let next = tag_image(&namespace).await;
        let scene = Scene::within(namespace, S3Server::primary(), |_, site| {
            site["spec"]["storage"]["endpoint"] = proxy.endpoint.as_str().into();
            site["spec"]["recorder"]["maxCamerasPerPod"] = 1.into();
        })
        .await;
        for camera in ["deur", "hal"] {
            scene.camera(camera, "h264/10").await;
            scene.wait_for_camera(camera, "Recording", "True", HANG).await;
        }
        let mut before = Vec::new();
        for name in PODS {
            before.push(pod(&scene, name).await.unwrap());
        }

        // The store is away: spools have the only copies.
        proxy.set_down(true);
        wait_for_spooled_segments(&scene, PODS[1], 1).await;
        release.upgrade(UNPULLABLE).await;
        sleep(Duration::from_secs(30)).await;
        for (name, old) in PODS.iter().zip(&before) {
            assert_eq!(pod(&scene, name).await.as_ref(), Ok(old), "{name} has the only copy");
        }

        let failing = Timestamp::now();
        proxy.set_down(false);
        wait_for_image(&scene, PODS[1], UNPULLABLE).await;
        let failing = [failing, Timestamp::now()];
        wait_for_ready_message(&scene, &[PODS[1]]).await;
        sleep(Duration::from_secs(20)).await;
        assert_eq!(pod(&scene, PODS[0]).await.as_ref(), Ok(&before[0]), "one pod shows that the image fails");
        scene.wait_for_camera("deur", "Recording", "True", HANG).await;

        // The next version mends it, and can be taken back.
        let upgrade = Timestamp::now();
        release.upgrade(&next).await;
        for name in PODS {
            wait_for_image(&scene, name, &next).await;
        }
        let upgrade = [upgrade, Timestamp::now()];
        scene.wait_for_site("Ready", "True", HANG).await;
        let rollback = Timestamp::now();
        release.run(&["rollback", &release.namespace, "1"]).await;
        for (name, (image, _)) in PODS.iter().zip(&before) {
            wait_for_image(&scene, name, image).await;
        }
        let rollback = [rollback, Timestamp::now()];
        scene.wait_for_site("Ready", "True", HANG).await;
        for (camera, restarts) in [("deur", &[upgrade, rollback][..]), ("hal", &[failing, upgrade, rollback])]
        {
            scene.wait_for_camera(camera, "Recording", "True", HANG).await;
            let gaps = wait_until_complete(&scene.bucket, camera, restarts, rollback[1]).await;
            assert!(gaps.len() <= restarts.len(), "only the restarts: {camera}: {gaps:?}");
        }
        release.run(&["uninstall", &release.namespace]).await;
    })
    .await;
}

/// Returns whether the container of a pod runs, or ran before its probes ended it.
async fn has_started(scene: &Scene, name: &str) -> Result<(), String> {
    let pod = scene.namespace.api::<Pod>().get(name).await.map_err(|e| e.to_string())?;
    let containers = pod.status.unwrap_or_default().container_statuses.unwrap_or_default();
    let is_started = containers.iter().any(|container| {
        let is_running = container.state.as_ref().is_some_and(|state| state.running.is_some());
        is_running || container.restart_count > 0
    });
    is_started.then_some(()).ok_or_else(|| format!("{containers:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn upgrade_stops_at_an_image_that_starts_and_never_records() {
    with_chart_scaled_down("idle-upgrade", |namespace| async move {
        let release = Release::new(&namespace, &S3Server::primary().endpoint);
        release.upgrade("").await;
        let scene = Scene::within(namespace, S3Server::primary(), |_, site| {
            site["spec"]["recorder"]["maxCamerasPerPod"] = 1.into();
        })
        .await;
        for camera in ["deur", "hal"] {
            scene.camera(camera, "h264/10").await;
            scene.wait_for_camera(camera, "Recording", "True", HANG).await;
        }
        let before = pod(&scene, PODS[0]).await.unwrap();

        let idle = Timestamp::now();
        release.upgrade(IDLE).await;
        wait_for_image(&scene, PODS[1], IDLE).await;
        let idle = [idle, Timestamp::now()];
        eventually("the idle image starts", HANG, || has_started(&scene, PODS[1])).await;
        wait_for_ready_message(&scene, &[PODS[1]]).await;
        scene.wait_for_site("Ready", "False", HANG).await;
        // Longer than its probes let it run.
        sleep(Duration::from_secs(75)).await;
        assert_eq!(pod(&scene, PODS[0]).await.as_ref(), Ok(&before), "one pod shows that the image fails");
        scene.wait_for_camera("deur", "Recording", "True", HANG).await;

        release.run(&["rollback", &release.namespace, "1"]).await;
        wait_for_image(&scene, PODS[1], &before.0).await;
        scene.wait_for_site("Ready", "True", HANG).await;
        scene.wait_for_camera("hal", "Recording", "True", HANG).await;
        assert_eq!(pod(&scene, PODS[0]).await.as_ref(), Ok(&before), "its template is the same again");
        // The pod of the first camera was never replaced.
        wait_until_complete(&scene.bucket, "deur", &[], idle[1]).await;
        let gaps = wait_until_complete(&scene.bucket, "hal", &[idle], idle[1]).await;
        assert_eq!(gaps.len(), 1, "the time without a recorder: {gaps:?}");
        release.run(&["uninstall", &release.namespace]).await;
    })
    .await;
}
