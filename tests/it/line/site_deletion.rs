//! A Site deleted during a store outage keeps its recorders until their spools are uploaded.

use kube::api::DeleteParams;
use toezicht::api::Site;

use crate::support::cluster;
use crate::support::operator;
use crate::support::pod;
use crate::support::proxy::Proxy;
use crate::support::recorded::{check_frames, segments};
use crate::support::scene::{SITE, Scene};
use crate::support::settings::S3Server;
use crate::support::wait::{HANG, eventually};

const PROXY_PORT: u16 = 28337;

#[tokio::test(flavor = "multi_thread")]
async fn deleted_site_uploads_its_spools_first() {
    let _operator = operator::shared().await;
    let server = S3Server::primary();
    let proxy = Proxy::start(&server.endpoint, PROXY_PORT).await;
    let client = cluster::client().await;
    let scene = Scene::new(&client, "line-drained", server, |_, site| {
        site["spec"]["storage"]["endpoint"] = proxy.endpoint.as_str().into();
    })
    .await;
    scene.camera("receptie", "h264/9").await;
    scene.wait_for_camera("receptie", "Recording", "True", HANG).await;

    proxy.set_down(true);
    eventually("the spool holds two segments", HANG, || async {
        let spooled = pod::metric(&scene.namespace, "toezicht_recorder_spool_segments").await?;
        if spooled >= 2 { Ok(()) } else { Err(format!("{spooled}")) }
    })
    .await;
    let recorded_frames = pod::frames(&scene.namespace, "receptie").await.unwrap();
    let sites = scene.namespace.api::<Site>();
    sites.delete(SITE, &DeleteParams::default()).await.unwrap();
    eventually("the deletion waits and reports the reason", HANG, || async {
        let site = sites.get(SITE).await.map_err(|e| e.to_string())?;
        let conditions = site.status.unwrap_or_default().conditions;
        let ready = conditions.iter().find(|c| c.type_ == "Ready").ok_or("no Ready")?;
        let is_reported = ready.reason == "Deleting" && ready.message.contains(" segments in the spools of ");
        if is_reported && !ready.message.contains(": 0 segments") {
            Ok(())
        } else {
            Err(format!("{ready:?}"))
        }
    })
    .await;

    proxy.set_down(false);
    eventually("the Site is deleted", HANG, || async {
        match sites.get_opt(SITE).await.map_err(|e| e.to_string())? {
            None => Ok(()),
            Some(site) => Err(format!("{:?}", site.status)),
        }
    })
    .await;
    let recorded = segments(&scene.bucket, "receptie").await;
    assert_eq!(check_frames("receptie", &recorded), [], "frames are missing");
    let uploaded: usize = recorded.iter().map(|segment| segment.frames.len()).sum();
    assert!(
        uploaded as u64 >= recorded_frames,
        "{recorded_frames} frames were in the spool before the deletion, {uploaded} are in the bucket"
    );
    scene.delete().await;
}
