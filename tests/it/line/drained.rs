//! A Site that is deleted while its store is away keeps its recorders until what is in their spools is uploaded.

use kube::api::DeleteParams;
use toezicht::api::Site;

use crate::support::cluster;
use crate::support::operator;
use crate::support::pod;
use crate::support::proxy::Proxy;
use crate::support::recorded::{account, segments};
use crate::support::scene::{SITE, Scene};
use crate::support::settings::S3Server;
use crate::support::wait::{HANG, eventually};

const PROXY_PORT: u16 = 28337;

#[tokio::test(flavor = "multi_thread")]
async fn deleted_site_uploads_its_spools_first() {
    let _operator = operator::present().await;
    let server = S3Server::first();
    let proxy = Proxy::start(&server.endpoint, PROXY_PORT).await;
    let client = cluster::client().await;
    let scene = Scene::new(&client, "line-drained", server, |_, site| {
        site["spec"]["storage"]["endpoint"] = proxy.endpoint.as_str().into();
    })
    .await;
    scene.camera("receptie", "h264/9").await;
    scene.wait_for_camera("receptie", "Recording", "True", HANG).await;

    proxy.set_down(true);
    eventually("two segments wait in the spool", HANG, || async {
        let waiting = pod::metric(&scene.namespace, "toezicht_recorder_spool_segments").await?;
        if waiting >= 2 { Ok(()) } else { Err(format!("{waiting}")) }
    })
    .await;
    let taken = pod::frames(&scene.namespace, "receptie").await.unwrap();
    let sites = scene.namespace.api::<Site>();
    sites.delete(SITE, &DeleteParams::default()).await.unwrap();
    eventually("the deletion waits, and says for what", HANG, || async {
        let site = sites.get(SITE).await.map_err(|e| e.to_string())?;
        let conditions = site.status.unwrap_or_default().conditions;
        let ready = conditions.iter().find(|c| c.type_ == "Ready").ok_or("no Ready")?;
        let is_told = ready.reason == "Deleting" && ready.message.contains("in their spools: ");
        if is_told && !ready.message.contains(": 0 segments") { Ok(()) } else { Err(format!("{ready:?}")) }
    })
    .await;

    proxy.set_down(false);
    eventually("the Site is gone", HANG, || async {
        match sites.get_opt(SITE).await.map_err(|e| e.to_string())? {
            None => Ok(()),
            Some(site) => Err(format!("{:?}", site.status)),
        }
    })
    .await;
    let recorded = segments(&scene.bucket, "receptie").await;
    assert_eq!(account("receptie", &recorded), [], "frames are missing");
    let uploaded: usize = recorded.iter().map(|segment| segment.frames.len()).sum();
    assert!(
        uploaded as u64 >= taken,
        "{taken} pictures were in the spool before the deletion, {uploaded} are in the bucket"
    );
    scene.delete().await;
}
