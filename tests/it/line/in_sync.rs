//! In sync means zero writes: counted in the API server's audit log and at a proxy before the store.

use std::time::Instant;

use k8s_openapi::api::events::v1::Event;
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::Value;
use toezicht::api::Camera;
use toezicht::controllers::kubernetes::status::REFRESH_INTERVAL;

use crate::support::audit;
use crate::support::cluster::{self, TestNamespace};
use crate::support::looks;
use crate::support::operator;
use crate::support::proxy::Proxy;
use crate::support::scene::Scene;
use crate::support::settings::S3Server;
use crate::support::wait::{HANG, eventually};

const PROXY_PORT: u16 = 28333;

#[tokio::test(flavor = "multi_thread")]
async fn reconciles_in_sync_write_nothing() {
    let _alone = operator::alone().await;
    let server = S3Server::first();
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
    // The Site counts what records a little later than the Camera says so.
    scene.wait_for_site("Recording", "True", HANG).await;
    // Statuses name the newest segment at most every five minutes: wait until there is one.
    eventually("a last segment", HANG, || async {
        let api: kube::Api<Camera> = scene.namespace.api();
        let status = api.get("receptie").await.map_err(|e| e.to_string())?.status.unwrap_or_default();
        status.last_segment.map(|_| ()).ok_or_else(|| "none".into())
    })
    .await;
    scene.is_settled(HANG).await;
    // The event of the last condition follows its status, so the status alone does not say that all is written.
    looks::wait_until_in_sync(&scene.namespace, operator::metrics, is_its).await;
    for restart in 1..=2 {
        let before = audit::end();
        let mut seen = Vec::new();
        proxy.take();
        operator::restart().await;
        // A new leader looks at everything: its reads of the bucket prove that it did.
        eventually("the new leader has read the bucket's policy", HANG, || {
            seen.extend(proxy.take());
            let is_read = seen.iter().any(|r| r.method == "GET" && r.path_and_query.contains("policy"));
            let so_far = seen.len();
            async move { is_read.then_some(()).ok_or_else(|| format!("{so_far} requests")) }
        })
        .await;
        looks::wait_until_in_sync(&scene.namespace, operator::metrics, is_its).await;
        let mut written = audit::writes_until_now(&scene.namespace, before).await;
        written.retain(|event| {
            is_its(event) && event["objectRef"]["namespace"] == scene.namespace.name.as_str()
        });
        let written: Vec<String> = written.iter().map(audit::told).collect();
        // On a machine so slow that a newer segment was to be named meanwhile, the rounds have to do.
        let is_late = began.elapsed() > REFRESH_INTERVAL;
        let notes = notes(&scene.namespace).await;
        assert!(written.is_empty() || is_late, "restart {restart}: {written:#?}, with the events {notes:#?}");
        seen.extend(proxy.take());
        // The recorder goes on putting segments; the operator writes nothing.
        let writes: Vec<_> =
            seen.iter().filter(|r| r.is_write() && !r.path_and_query.contains("/video/")).collect();
        assert!(writes.is_empty(), "restart {restart}: {writes:?}");
    }
    scene.delete().await;
}

/// What the events of a namespace say; the audit log has only their names.
async fn notes(namespace: &TestNamespace) -> Vec<String> {
    let events = namespace.api::<Event>().list(&ListParams::default()).await.unwrap().items;
    let note = |event: &Event| {
        let (name, reason, note) = (event.name_any(), &event.reason, &event.note);
        format!("{name} {} {}", reason.as_deref().unwrap_or_default(), note.as_deref().unwrap_or_default())
    };
    events.iter().map(note).collect()
}

/// Whether the operator wrote it, of whatever namespace but its own.
fn is_its(event: &Value) -> bool {
    let user = format!("system:serviceaccount:{}:", operator::NAMESPACE);
    let name = event["user"]["username"].as_str();
    name.is_some_and(|name| name.starts_with(&user)) && event["objectRef"]["namespace"] != operator::NAMESPACE
}
