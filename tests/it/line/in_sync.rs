//! In sync means zero writes: counted in the API server's audit log and at a proxy before the store.

use std::time::Duration;

use serde_json::Value;
use toezicht::api::Camera;

use crate::support::cluster;
use crate::support::operator;
use crate::support::proxy::Proxy;
use crate::support::scene::Scene;
use crate::support::settings::{S3Server, setting};
use crate::support::wait::{eventually, throughout};

const SOON: Duration = Duration::from_secs(90);
const PROXY_PORT: u16 = 28333;

#[tokio::test(flavor = "multi_thread")]
async fn in_sync_nothing_is_written_over_two_resyncs() {
    let _alone = operator::alone().await;
    let server = S3Server::first();
    let proxy = Proxy::start(&server.endpoint, PROXY_PORT).await;
    let endpoint = proxy.endpoint.clone();
    let scene = Scene::new(&cluster::client().await, "line-sync", server, |_, site| {
        site["spec"]["storage"]["endpoint"] = endpoint.clone().into();
    })
    .await;
    scene.camera("receptie", "h264/8").await;
    scene.camera_is("receptie", "Recording", "True", SOON).await;
    scene.site_is("Ready", "True", SOON).await;
    // The Site counts what records a little later than the Camera says so.
    scene.site_is("Recording", "True", SOON).await;
    // Statuses name the newest segment at most every five minutes: wait until there is one.
    eventually("a last segment", SOON, || async {
        let api: kube::Api<Camera> = scene.namespace.api();
        let status = api
            .get("receptie")
            .await
            .map_err(|e| e.to_string())?
            .status
            .unwrap_or_default();
        status.last_segment.map(|_| ()).ok_or_else(|| "none".into())
    })
    .await;
    scene.is_settled(SOON).await;
    let namespace = scene.namespace.name.clone();
    for resync in 1..=2 {
        let before = audit_length();
        proxy.take();
        operator::restart().await;
        // A new leader looks at everything at once: its reads of the bucket prove that it did.
        let mut seen = Vec::new();
        eventually("the new leader has read the bucket's policy", SOON, || {
            seen.extend(proxy.take());
            let read = seen
                .iter()
                .any(|r| r.method == "GET" && r.path_and_query.contains("policy"));
            let so_far = seen.len();
            async move {
                if read {
                    Ok(())
                } else {
                    Err(format!("{so_far} requests"))
                }
            }
        })
        .await;
        throughout("the operator writes nothing", Duration::from_secs(20), || async {
            let written = operator_writes(before, &namespace);
            if written.is_empty() {
                Ok(())
            } else {
                Err(format!("resync {resync}: {written:#?}"))
            }
        })
        .await;
        seen.extend(proxy.take());
        // The recorder goes on putting segments; the operator writes nothing.
        let writes: Vec<_> = seen
            .iter()
            .filter(|r| r.is_write() && !r.path_and_query.contains("/video/"))
            .collect();
        assert!(writes.is_empty(), "resync {resync}: {writes:?}");
        let written = operator_writes(before, &namespace);
        assert!(written.is_empty(), "resync {resync}: {written:#?}");
    }
    scene.delete().await;
}

fn audit_length() -> usize {
    std::fs::read_to_string(setting("TOEZICHT_TEST_AUDIT_LOG"))
        .unwrap()
        .lines()
        .count()
}

/// What the operator wrote since line `from` of the audit log in this test's namespace.
fn operator_writes(from: usize, namespace: &str) -> Vec<String> {
    let log = std::fs::read_to_string(setting("TOEZICHT_TEST_AUDIT_LOG")).unwrap();
    let user = format!("system:serviceaccount:{}:", operator::NAMESPACE);
    log.lines()
        .skip(from)
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|event| {
            event["user"]["username"]
                .as_str()
                .is_some_and(|name| name.starts_with(&user))
        })
        .filter(|event| event["objectRef"]["namespace"] == namespace)
        .map(|event| format!("{} {}", event["verb"], event["objectRef"]))
        .collect()
}
