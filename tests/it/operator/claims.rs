//! Spools on volume claims: neither a scaled nor a deleted StatefulSet, nor a deleted claim, loses a segment. The operator deletes
//! a claim only once it is proved empty.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::json;
use toezicht::api::{Camera, Site};
use tokio::time::sleep;

use super::process::{Process, config_for_store, wait_for_leader, with_chart_scaled_down};
use super::spools::{assert_no_children, wait_for_ready_message, wait_for_spooled_segments, wait_until_gone};
use crate::support::cluster::TestNamespace;
use crate::support::proxy::Proxy;
use crate::support::recorded::{
    UNWRITTEN, check_frames, ensure_complete, segments, time, wait_until_complete,
};
use crate::support::scene::{SITE, Scene};
use crate::support::settings::S3Server;
use crate::support::volumes::Volumes;
use crate::support::wait::{HANG, eventually};

const RECORDER: &str = "die-heijgrave-recorder";
const FINALIZER: &str = "toezicht.dev/spool";
const EMPTY: &str = "toezicht.dev/spool-empty";
const SCALED_PORT: u16 = 28361;
const WORKLOAD_PORT: u16 = 28362;
const CLAIM_PORT: u16 = 28363;
const CAMERA_PORT: u16 = 28364;
const CLASS_PORT: u16 = 28365;
const DELETED_PORT: u16 = 28366;
const LABEL_PORT: u16 = 28376;
const FOREIGN_PORT: u16 = 28369;

/// A site with a volume claim for each camera.
struct ClaimScene {
    scene: Scene,
    proxy: Proxy,
    volumes: Volumes,
    process: Process,
}

impl ClaimScene {
    /// Starts an operator and a site whose cameras record. Then the store goes away, until each spool has segments.
    async fn with_filled_spools(
        namespace: TestNamespace,
        instance: &str,
        port: u16,
        cameras: &[&str],
    ) -> Self {
        let proxy = Proxy::start(&S3Server::primary().endpoint, port).await;
        let volumes = Volumes::new(&namespace, "spools", 4).await;
        let config = config_for_store(&proxy.endpoint);
        let process = Process::with_config(&namespace, &namespace, instance, config);
        wait_for_leader(&namespace, instance).await;
        let scene = Scene::within(namespace, S3Server::primary(), |_, site| {
            site["spec"]["storage"]["endpoint"] = proxy.endpoint.as_str().into();
            site["spec"]["recorder"]["maxCamerasPerPod"] = 1.into();
            site["spec"]["recorder"]["spool"]["storageClassName"] = volumes.class.as_str().into();
        })
        .await;
        for camera in cameras {
            scene.camera(camera, "h264/9").await;
            scene.wait_for_camera(camera, "Recording", "True", HANG).await;
        }
        scene.wait_for_site("SpoolPersistent", "True", HANG).await;
        proxy.set_down(true);
        for shard in 0..cameras.len() {
            wait_for_spooled_segments(&scene, &format!("{RECORDER}-{shard}"), 2).await;
        }
        Self { scene, proxy, volumes, process }
    }

    async fn restart_operator(&mut self, instance: &str) {
        let (namespace, config) = (&self.scene.namespace, config_for_store(&self.proxy.endpoint));
        self.process = Process::with_config(namespace, namespace, instance, config);
        wait_for_leader(namespace, instance).await;
    }

    async fn claim(&self, shard: u32) -> Result<PersistentVolumeClaim, String> {
        let claims = self.scene.namespace.api::<PersistentVolumeClaim>();
        claims.get(&format!("spool-{RECORDER}-{shard}")).await.map_err(|e| e.to_string())
    }

    async fn pod_uid(&self, shard: u32) -> Option<String> {
        let pod = self.scene.namespace.api::<Pod>().get_opt(&format!("{RECORDER}-{shard}")).await.unwrap();
        pod.filter(|pod| pod.metadata.deletion_timestamp.is_none()).and_then(|pod| pod.uid())
    }

    /// Waits until the first pod is another one.
    async fn wait_for_new_pod(&self, before: Option<String>) {
        eventually("the pod is replaced", HANG, || async {
            let uid = self.pod_uid(0).await;
            if uid.is_some() && uid != before { Ok(()) } else { Err(format!("{uid:?}")) }
        })
        .await;
    }

    /// Waits until everything that `camera` recorded is in the bucket. Its recorder ended after `end`.
    async fn wait_for_all_frames(&self, camera: &str, end: Timestamp) {
        self.scene.wait_for_camera(camera, "Recording", "True", HANG).await;
        let restart = Timestamp::now();
        wait_until_complete(&self.scene.bucket, camera, &[[end, Timestamp::MAX]], restart).await;
    }

    async fn wait_until_claim_is_gone(&self, shard: u32) {
        eventually("the claim is deleted", HANG, || async {
            match self.claim(shard).await {
                Ok(claim) => Err(format!("{:?}", claim.metadata)),
                Err(_) => Ok(()),
            }
        })
        .await;
    }

    /// Deletes the site, and waits until its claims are gone.
    async fn end(self) {
        let namespace = &self.scene.namespace;
        namespace.api::<Site>().delete(SITE, &DeleteParams::default()).await.unwrap();
        eventually("site and claims are deleted", HANG, || async {
            let site = namespace.api::<Site>().get_opt(SITE).await.map_err(|e| e.to_string())?;
            let claims = namespace.api::<PersistentVolumeClaim>().list(&ListParams::default()).await;
            let claims = claims.map_err(|e| e.to_string())?.items;
            let left: Vec<String> = claims.iter().map(ResourceExt::name_any).collect();
            let is_gone = site.is_none() && left.is_empty();
            is_gone.then_some(()).ok_or_else(|| format!("{left:?}; {:?}", site.map(|site| site.status)))
        })
        .await;
        assert_no_children(&self.scene).await;
        self.volumes.delete().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn scaled_statefulset_loses_nothing() {
    with_chart_scaled_down("claims-scaled", |namespace| async move {
        let mut scene =
            ClaimScene::with_filled_spools(namespace, "claims-scaled", SCALED_PORT, &["hal"]).await;
        let (claim, pod, end) = (scene.claim(0).await.unwrap(), scene.pod_uid(0).await, Timestamp::now());
        // While no operator runs, nobody scales it up again.
        scene.process.release_lease_and_exit(&scene.scene.namespace).await;
        let workloads = scene.scene.namespace.api::<StatefulSet>();
        let none = json!({"spec": {"replicas": 0}});
        workloads.patch(RECORDER, &PatchParams::default(), &Patch::Merge(&none)).await.unwrap();
        wait_until_gone(&scene.scene, &format!("{RECORDER}-0")).await;
        // The garbage collector deletes what belongs to the pod.
        sleep(Duration::from_secs(10)).await;
        scene.restart_operator("claims-scaled").await;
        scene.wait_for_new_pod(pod).await;
        assert_eq!(scene.claim(0).await.map(|claim| claim.uid()), Ok(claim.uid()));
        scene.proxy.set_down(false);
        scene.wait_for_all_frames("hal", end).await;
        scene.end().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_statefulset_loses_nothing() {
    with_chart_scaled_down("claims-workload", |namespace| async move {
        let scene =
            ClaimScene::with_filled_spools(namespace, "claims-workload", WORKLOAD_PORT, &["hal", "deur"])
                .await;
        let (claim, pod, end) = (scene.claim(0).await.unwrap(), scene.pod_uid(0).await, Timestamp::now());
        // The second pod is not wanted any more either: only its claim brings it back.
        let cameras = scene.scene.namespace.api::<Camera>();
        let second = scene.claim(1).await.unwrap();
        cameras.delete("deur", &DeleteParams::default()).await.unwrap();
        let workloads = scene.scene.namespace.api::<StatefulSet>();
        workloads.delete(RECORDER, &DeleteParams::background()).await.unwrap();
        scene.wait_for_new_pod(pod).await;
        assert_eq!(scene.claim(0).await.map(|claim| claim.uid()), Ok(claim.uid()));
        assert_eq!(scene.claim(1).await.map(|claim| claim.uid()), Ok(second.uid()));
        wait_for_ready_message(&scene.scene, &[&format!("{RECORDER}-1")]).await;
        scene.proxy.set_down(false);
        scene.wait_for_all_frames("hal", end).await;
        scene.wait_until_claim_is_gone(1).await;
        let recorded = segments(&scene.scene.bucket, "deur").await;
        ensure_complete("deur", &recorded, &[], end - UNWRITTEN).unwrap();
        scene.end().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_claim_is_replaced_without_loss() {
    with_chart_scaled_down("claims-claim", |namespace| async move {
        let scene = ClaimScene::with_filled_spools(namespace, "claims-claim", CLAIM_PORT, &["hal"]).await;
        let (claim, pod) = (scene.claim(0).await.unwrap(), scene.pod_uid(0).await);
        assert!(claim.finalizers().iter().any(|finalizer| finalizer == FINALIZER), "{:?}", claim.metadata);
        let claims = scene.scene.namespace.api::<PersistentVolumeClaim>();
        claims.delete(&claim.name_any(), &DeleteParams::background()).await.unwrap();
        wait_for_ready_message(&scene.scene, &[&format!("segments in the spools of {RECORDER}-0")]).await;
        sleep(Duration::from_secs(30)).await;
        assert_eq!((scene.pod_uid(0).await, scene.claim(0).await.unwrap().uid()), (pod.clone(), claim.uid()));
        let end = Timestamp::now();
        scene.proxy.set_down(false);
        scene.wait_for_new_pod(pod).await;
        let new = scene.claim(0).await.unwrap();
        assert!(new.uid() != claim.uid() && new.metadata.deletion_timestamp.is_none(), "{:?}", new.metadata);
        scene.wait_for_all_frames("hal", end).await;
        scene.end().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unneeded_claim_goes_once_its_spool_is_empty() {
    with_chart_scaled_down("claims-camera", |namespace| async move {
        let scene =
            ClaimScene::with_filled_spools(namespace, "claims-camera", CAMERA_PORT, &["deur", "hal"]).await;
        let (second, claim) = (format!("{RECORDER}-1"), scene.claim(1).await.unwrap());
        let cameras = scene.scene.namespace.api::<Camera>();
        let deleted = Timestamp::now();
        cameras.delete("hal", &DeleteParams::default()).await.unwrap();
        wait_for_ready_message(&scene.scene, &[&format!("segments in the spools of {second}")]).await;
        sleep(Duration::from_secs(30)).await;
        let kept = scene.claim(1).await.unwrap();
        assert_eq!((kept.uid(), kept.annotations().get(EMPTY)), (claim.uid(), None));
        assert!(kept.metadata.deletion_timestamp.is_none() && scene.pod_uid(1).await.is_some());
        scene.proxy.set_down(false);
        wait_until_gone(&scene.scene, &second).await;
        scene.wait_until_claim_is_gone(1).await;
        let recorded = segments(&scene.scene.bucket, "hal").await;
        ensure_complete("hal", &recorded, &[], deleted - UNWRITTEN).unwrap();
        let first = scene.claim(0).await.unwrap();
        assert_eq!(
            (first.annotations().get(EMPTY), first.metadata.deletion_timestamp.is_none()),
            (None, true)
        );
        scene.end().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_storage_class_replaces_claims_without_loss() {
    with_chart_scaled_down("claims-class", |namespace| async move {
        let other = Volumes::new(&namespace, "other", 2).await;
        let scene = ClaimScene::with_filled_spools(namespace, "claims-class", CLASS_PORT, &["hal"]).await;
        let (claim, pod) = (scene.claim(0).await.unwrap(), scene.pod_uid(0).await);
        let class = json!({"spec": {"recorder": {"spool": {"storageClassName": other.class}}}});
        scene.scene.patch_site(class).await;
        wait_for_ready_message(&scene.scene, &[&format!("segments in the spools of {RECORDER}-0")]).await;
        assert_eq!((scene.pod_uid(0).await, scene.claim(0).await.unwrap().uid()), (pod.clone(), claim.uid()));
        let end = Timestamp::now();
        scene.proxy.set_down(false);
        scene.wait_for_new_pod(pod).await;
        let new = scene.claim(0).await.unwrap();
        assert_ne!(new.uid(), claim.uid());
        let storage_class = new.spec.and_then(|spec| spec.storage_class_name);
        assert_eq!(storage_class, Some(other.class.clone()));
        scene.wait_for_all_frames("hal", end).await;
        scene.end().await;
        other.delete().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_statefulset_of_a_deleted_site_loses_nothing() {
    with_chart_scaled_down("claims-deleted", |namespace| async move {
        let scene = ClaimScene::with_filled_spools(namespace, "claims-deleted", DELETED_PORT, &["hal"]).await;
        let (claim, pod, end) = (scene.claim(0).await.unwrap(), scene.pod_uid(0).await, Timestamp::now());
        scene.scene.namespace.api::<Site>().delete(SITE, &DeleteParams::default()).await.unwrap();
        wait_for_ready_message(&scene.scene, &[&format!("segments in the spools of {RECORDER}-0")]).await;
        let workloads = scene.scene.namespace.api::<StatefulSet>();
        workloads.delete(RECORDER, &DeleteParams::background()).await.unwrap();
        scene.wait_for_new_pod(pod).await;
        assert_eq!(scene.claim(0).await.map(|claim| claim.uid()), Ok(claim.uid()));
        scene.proxy.set_down(false);
        eventually("all frames are in the bucket", HANG, || async {
            let recorded = segments(&scene.scene.bucket, "hal").await;
            let last = recorded.last().and_then(|segment| segment.frames.last()).map(time);
            let gaps = check_frames("hal", &recorded);
            let is_complete = gaps.is_empty() && last > Some(end - UNWRITTEN);
            is_complete.then_some(()).ok_or_else(|| format!("{gaps:?}, end {end}, last {last:?}"))
        })
        .await;
        scene.end().await;
    })
    .await;
}

/// As `kubectl label pvc spool-die-heijgrave-recorder-1 toezicht.dev/site-`.
#[tokio::test(flavor = "multi_thread")]
async fn claim_without_its_label_is_not_abandoned() {
    with_chart_scaled_down("claims-label", |namespace| async move {
        let scene =
            ClaimScene::with_filled_spools(namespace, "claims-label", LABEL_PORT, &["deur", "hal"]).await;
        let (second, claim) = (format!("{RECORDER}-1"), scene.claim(1).await.unwrap());
        let claims = scene.scene.namespace.api::<PersistentVolumeClaim>();
        let label = json!({"metadata": {"labels": {"toezicht.dev/site": null}}});
        claims.patch(&claim.name_any(), &PatchParams::default(), &Patch::Merge(&label)).await.unwrap();
        let deleted = Timestamp::now();
        let cameras = scene.scene.namespace.api::<Camera>();
        cameras.delete("hal", &DeleteParams::default()).await.unwrap();
        wait_for_ready_message(&scene.scene, &[&format!("segments in the spools of {second}")]).await;
        sleep(Duration::from_secs(30)).await;
        let kept = scene.claim(1).await.unwrap();
        assert_eq!((kept.uid(), kept.annotations().get(EMPTY)), (claim.uid(), None));
        assert_eq!(kept.labels().get("toezicht.dev/site").map(String::as_str), Some(SITE));
        assert!(scene.pod_uid(1).await.is_some(), "it uploads what is in the claim");
        scene.proxy.set_down(false);
        wait_until_gone(&scene.scene, &second).await;
        scene.wait_until_claim_is_gone(1).await;
        let recorded = segments(&scene.scene.bucket, "hal").await;
        ensure_complete("hal", &recorded, &[], deleted - UNWRITTEN).unwrap();
        scene.end().await;
    })
    .await;
}

/// Another party's claim with the name of a spool. No pod can ever use it.
#[tokio::test(flavor = "multi_thread")]
async fn foreign_claim_that_is_not_bound_adds_no_pods() {
    with_chart_scaled_down("claims-foreign", |namespace| async move {
        let scene =
            ClaimScene::with_filled_spools(namespace, "claims-foreign", FOREIGN_PORT, &["hal"]).await;
        scene.proxy.set_down(false);
        let name = format!("spool-{RECORDER}-40");
        let foreign = serde_json::from_value(json!({
            "metadata": {"name": name, "labels": {"toezicht.dev/site": SITE}},
            "spec": {
                "accessModes": ["ReadWriteOnce"], "storageClassName": scene.volumes.class, "volumeName": "nope",
                "resources": {"requests": {"storage": "1Mi"}},
            },
        }));
        let claims = scene.scene.namespace.api::<PersistentVolumeClaim>();
        claims.create(&PostParams::default(), &foreign.unwrap()).await.unwrap();
        wait_for_ready_message(&scene.scene, &[&name, "is not bound"]).await;
        sleep(Duration::from_secs(15)).await;
        let workload = scene.scene.namespace.api::<StatefulSet>().get(RECORDER).await.unwrap();
        assert_eq!(workload.spec.and_then(|spec| spec.replicas), Some(1));
        claims.delete(&name, &DeleteParams::default()).await.unwrap();
        scene.scene.wait_for_site("Ready", "True", HANG).await;
        scene.end().await;
    })
    .await;
}
