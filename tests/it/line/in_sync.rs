//! Reconciles of objects in sync write nothing and read nothing, as counted in the API server's audit log and at a proxy in front of
//! the store.

use std::time::{Duration, Instant};

use k8s_openapi::api::events::v1::Event;
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::{Value, json};
use toezicht::api::Camera;
use toezicht::controllers::kubernetes::status::REFRESH_INTERVAL;

use crate::support::audit;
use crate::support::cluster::{self, TestNamespace};
use crate::support::operator;
use crate::support::proxy::Proxy;
use crate::support::reconciles;
use crate::support::scene::{SITE, Scene};
use crate::support::settings::S3Server;
use crate::support::wait::{HANG, eventually};

const PROXY_PORT: u16 = 28333;

#[tokio::test(flavor = "multi_thread")]
async fn reconciles_in_sync_write_nothing() {
    let _exclusive = operator::exclusive().await;
    let server = S3Server::primary();
    let proxy = Proxy::start(&server.endpoint, PROXY_PORT).await;
    let endpoint = proxy.endpoint.clone();
    let scene = Scene::new(&cluster::client().await, "line-sync", server, |_, site| {
        site["spec"]["storage"]["endpoint"] = endpoint.clone().into();
    })
    .await;
    let began = Instant::now();
    scene.camera("receptie", "h264/8").await;
    scene.wait_for_camera("receptie", "Recording", "True", HANG).await;
    scene.wait_for_site("Ready", "True", HANG).await;
    // The Site counts recording cameras a little later than the Camera reports it.
    scene.wait_for_site("Recording", "True", HANG).await;
    // The status reports the newest segment at most every 15 minutes. Wait for the first report.
    eventually("a last segment", HANG, || async {
        let api: kube::Api<Camera> = scene.namespace.api();
        let status = api.get("receptie").await.map_err(|e| e.to_string())?.status.unwrap_or_default();
        status.last_segment.map(|_| ()).ok_or_else(|| "none".into())
    })
    .await;
    scene.wait_until_settled(HANG).await;
    // The event of the last condition follows its status, so the status alone does not say that all is written.
    reconciles::wait_until_in_sync(&scene.namespace, operator::metrics, is_by_operator).await;
    for restart in 1..=2 {
        let before = audit::end();
        let mut requests = Vec::new();
        proxy.take();
        operator::restart().await;
        // A new leader reconciles everything: its reads of the bucket prove it.
        eventually("the new leader has read the bucket's policy", HANG, || {
            requests.extend(proxy.take());
            let is_read = requests.iter().any(|r| r.method == "GET" && r.path_and_query.contains("policy"));
            let count = requests.len();
            async move { is_read.then_some(()).ok_or_else(|| format!("{count} requests")) }
        })
        .await;
        reconciles::wait_until_in_sync(&scene.namespace, operator::metrics, is_by_operator).await;
        let mut written = audit::writes_until_now(&scene.namespace, before).await;
        written.retain(|event| {
            is_by_operator(event) && event["objectRef"]["namespace"] == scene.namespace.name.as_str()
        });
        let written: Vec<String> = written.iter().map(audit::describe).collect();
        // On a slow machine a periodic status refresh may be due. Then only the rounds above count.
        let is_in_time = began.elapsed() <= REFRESH_INTERVAL;
        let events = if written.is_empty() { Vec::new() } else { event_notes(&scene.namespace).await };
        assert!(
            written.is_empty() || !is_in_time,
            "restart {restart}: {written:#?}, with these events: {events:#?}"
        );
        requests.extend(proxy.take());
        // The recorder keeps uploading segments; the operator writes nothing.
        let writes: Vec<_> =
            requests.iter().filter(|r| r.is_write() && !r.path_and_query.contains("/video/")).collect();
        assert!(writes.is_empty(), "restart {restart}: {writes:?}");
    }
    scene.delete().await;
}

/// One camera records. The recorder of the other attempts to connect every few seconds, which is no news.
#[tokio::test(flavor = "multi_thread")]
async fn site_in_sync_costs_no_requests() {
    let _alone = operator::exclusive().await;
    let scene = Scene::new(&cluster::client().await, "line-dead", S3Server::primary(), |_, _| ()).await;
    scene.camera("receptie", "h264/8").await;
    scene
        .create::<Camera>(json!({
            "apiVersion": "toezicht.dev/v1alpha1", "kind": "Camera", "metadata": {"name": "stil"},
            "spec": {
                "siteRef": {"name": SITE}, "area": "Receptie", "visible": true,
                "stream": {"url": "rtsp://127.0.0.1:9/none", "credentialsRef": {"name": "camera-login"}},
            },
        }))
        .await;
    eventually("the camera is disconnected", HANG, || async {
        let camera: Camera = scene.namespace.api().get("stil").await.map_err(|e| e.to_string())?;
        let conditions = camera.status.unwrap_or_default().conditions;
        let is_down = conditions.iter().any(|c| c.type_ == "Recording" && c.reason == "Disconnected");
        is_down.then_some(()).ok_or_else(|| format!("{conditions:?}"))
    })
    .await;
    scene.wait_for_camera("receptie", "Recording", "True", HANG).await;
    scene.wait_until_settled(HANG).await;
    reconciles::wait_until_in_sync(&scene.namespace, operator::metrics, is_by_operator).await;
    let before = audit::end();
    // Several attempts: the longest wait between two is half a minute.
    tokio::time::sleep(Duration::from_secs(75)).await;
    let mut requests = audit::requests_until_now(&scene.namespace, before).await;
    requests.retain(|event| {
        is_by_operator(event) && event["objectRef"]["namespace"] == scene.namespace.name.as_str()
    });
    let is_refresh = |event: &Value| event["objectRef"]["subresource"] == "status";
    let (refreshes, others): (Vec<Value>, Vec<Value>) = requests.into_iter().partition(is_refresh);
    let [refreshes, others] =
        [refreshes, others].map(|all| all.iter().map(audit::describe).collect::<Vec<_>>());
    assert!(refreshes.len() <= 3, "but for one refresh of each status: {refreshes:#?}");
    assert!(others.is_empty(), "{others:#?}");
    scene.delete().await;
}

/// Returns names, reasons and notes of a namespace's events. The audit log has only the names.
async fn event_notes(namespace: &TestNamespace) -> Vec<String> {
    let events = namespace.api::<Event>().list(&ListParams::default()).await.unwrap().items;
    let note = |event: &Event| {
        let (name, reason, note) = (event.name_any(), &event.reason, &event.note);
        format!("{name} {} {}", reason.as_deref().unwrap_or_default(), note.as_deref().unwrap_or_default())
    };
    events.iter().map(note).collect()
}

/// Returns whether the operator made this request, outside its own namespace.
fn is_by_operator(event: &Value) -> bool {
    let user = format!("system:serviceaccount:{}:", operator::NAMESPACE);
    let name = event["user"]["username"].as_str();
    name.is_some_and(|name| name.starts_with(&user)) && event["objectRef"]["namespace"] != operator::NAMESPACE
}
