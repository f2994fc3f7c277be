//! Cameras that cannot be recorded because of their spec: the status says which field or Secret to correct.

use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};
use toezicht::api::Camera;

use crate::support::cluster;
use crate::support::operator;
use crate::support::scene::{SITE, Scene};
use crate::support::settings::{S3Server, setting};
use crate::support::wait::{HANG, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn disconnected_camera_names_the_field_to_correct() {
    let _operator = operator::shared().await;
    let scene = Scene::new(&cluster::client().await, "line-failures", S3Server::primary(), |_, _| ()).await;
    let wrong =
        [("username", setting("TOEZICHT_TEST_CAMERA_USER")), ("password", "not-the-password".to_owned())];
    scene.namespace.secret("wrong-login", "toezicht.dev/camera", wrong).await;
    let cameras = setting("TOEZICHT_TEST_CAMERAS");
    let port = cameras.rfind(':').unwrap();
    let dead = format!("{}:9/h264/0", &cameras[..port]);
    for (name, url, login) in [
        ("password", format!("{cameras}/h264/0"), "wrong-login"),
        ("path", format!("{cameras}/h264/nowhere"), "camera-login"),
        ("port", dead, "camera-login"),
    ] {
        scene.create::<Camera>(camera(name, &url, login)).await;
    }
    for (name, expected) in [
        (
            "password",
            "the camera refused the user or password (401): correct Secret \"wrong-login\" of spec.stream.credentialsRef",
        ),
        ("path", "the camera has no stream at this path (404): correct the path of spec.stream.url"),
        (
            "port",
            "the camera cannot be reached: check its power and network, and the host and port of spec.stream.url",
        ),
    ] {
        wait_for_message(&scene, name, expected).await;
    }
    // Another mistake replaces the message, and the corrected camera records.
    let api: Api<Camera> = scene.namespace.api();
    let move_to = async |path: &str, login: &str| {
        let stream = json!({"url": format!("{cameras}/{path}"), "credentialsRef": {"name": login}});
        let patch = json!({"spec": {"stream": stream}});
        api.patch("password", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    };
    move_to("h264/nowhere", "camera-login").await;
    wait_for_message(&scene, "password", "the camera has no stream at this path (404)").await;
    move_to("h264/0", "camera-login").await;
    scene.wait_for_camera("password", "Recording", "True", HANG).await;
    scene.delete().await;
}

async fn wait_for_message(scene: &Scene, name: &str, expected: &str) {
    let api: Api<Camera> = scene.namespace.api();
    eventually(&format!("Camera {name}: {expected}"), HANG, || async {
        let camera = api.get(name).await.map_err(|e| e.to_string())?;
        let conditions = camera.status.unwrap_or_default().conditions;
        let is_told = conditions.iter().any(|condition| {
            condition.type_ == "Recording"
                && condition.reason == "Disconnected"
                && condition.message.starts_with(expected)
        });
        is_told.then_some(()).ok_or_else(|| format!("{conditions:?}"))
    })
    .await;
}

fn camera(name: &str, url: &str, login: &str) -> Value {
    json!({
        "apiVersion": "toezicht.dev/v1alpha1", "kind": "Camera", "metadata": {"name": name},
        "spec": {
            "siteRef": {"name": SITE}, "area": "Receptie", "visible": true,
            "stream": {"url": url, "credentialsRef": {"name": login}},
        },
    })
}
