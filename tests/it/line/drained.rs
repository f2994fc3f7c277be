//! A Site that is deleted while its store is away keeps its recorders until what is in their spools is uploaded.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::DeleteParams;
use toezicht::api::Site;

use crate::support::cluster;
use crate::support::operator;
use crate::support::proxy::Proxy;
use crate::support::recorded::{account, segments, time};
use crate::support::scene::{SITE, Scene};
use crate::support::settings::S3Server;
use crate::support::wait::eventually;

const SOON: Duration = Duration::from_secs(90);
const PROXY_PORT: u16 = 28337;

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_site_uploads_first_what_waits_in_its_spools() {
    let _operator = operator::present().await;
    let server = S3Server::first();
    let proxy = Proxy::start(&server.endpoint, PROXY_PORT).await;
    let client = cluster::client().await;
    let scene = Scene::new(&client, "line-drained", server, |_, site| {
        site["spec"]["storage"]["endpoint"] = proxy.endpoint.as_str().into();
    })
    .await;
    scene.camera("receptie", "h264/9").await;
    scene.camera_is("receptie", "Recording", "True", SOON).await;

    proxy.set_down(true);
    eventually("two segments wait in the spool", SOON, || async {
        let waiting = spooled(&scene).await?;
        if waiting >= 2 {
            Ok(())
        } else {
            Err(format!("{waiting}"))
        }
    })
    .await;
    let deleted = Timestamp::now();
    let sites = scene.namespace.api::<Site>();
    sites.delete(SITE, &DeleteParams::default()).await.unwrap();
    eventually("the deletion waits, and says for what", SOON, || async {
        let site = sites.get(SITE).await.map_err(|e| e.to_string())?;
        let conditions = site.status.unwrap_or_default().conditions;
        let ready = conditions.iter().find(|c| c.type_ == "Ready").ok_or("no Ready")?;
        let is_told = ready.reason == "Deleting" && ready.message.contains("in their spools: ");
        if is_told && !ready.message.contains(": 0 segments") {
            Ok(())
        } else {
            Err(format!("{ready:?}"))
        }
    })
    .await;

    proxy.set_down(false);
    eventually("the Site is gone", SOON, || async {
        match sites.get_opt(SITE).await.map_err(|e| e.to_string())? {
            None => Ok(()),
            Some(site) => Err(format!("{:?}", site.status)),
        }
    })
    .await;
    let recorded = segments(&scene.bucket, "receptie").await;
    assert_eq!(account("receptie", &recorded), [], "frames are missing");
    let last = recorded.iter().flat_map(|s| &s.frames).map(time).max().unwrap();
    let short = deleted.duration_since(last).as_secs_f64();
    assert!(
        short < 1.5,
        "what was recorded in the last {short} s before the deletion is missing"
    );
    scene.delete().await;
}

/// How many complete segments wait in the spool of the scene's recorder.
async fn spooled(scene: &Scene) -> Result<u64, String> {
    let pods = scene.namespace.api::<Pod>();
    let pod = pods
        .get(&format!("{SITE}-recorder-0"))
        .await
        .map_err(|e| e.to_string())?;
    let address = pod.status.and_then(|status| status.pod_ip).ok_or("no address")?;
    let answer = reqwest::get(format!("http://{address}:8080/metrics"))
        .await
        .map_err(|e| e.to_string())?;
    let text = answer.text().await.map_err(|e| e.to_string())?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("toezicht_recorder_spool_segments "));
    line.and_then(|value| value.parse().ok()).ok_or(text)
}
