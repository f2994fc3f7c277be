//! A lost node: its cameras are recorded elsewhere within five minutes, nothing is deleted by force, and no condition says more than
//! is known of recorders that may still run there.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::api::events::v1::Event;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use serde_json::json;
use toezicht::api::{Camera, IncidentHold, Site};
use toezicht::rules::recording::key::Key;

use crate::operator::process::{
    Process, config_for_store, release_lease, wait_for_leader, with_chart_scaled_down,
};
use crate::operator::spools::{wait_for_ready_message, wait_for_spooled_segments};
use crate::support::cluster::TestNamespace;
use crate::support::proxy::Proxy;
use crate::support::recorded::{FrameGap, UNWRITTEN, check_frames, keys, segments, wait_until_complete};
use crate::support::scene::{SITE, Scene, has};
use crate::support::second_node::{SECOND, SecondNode};
use crate::support::settings::S3Server;
use crate::support::volumes::Volumes;
use crate::support::wait::{HANG, eventually};

const FIRST_RECORDER: &str = "die-heijgrave-recorder-0";
const SECOND_RECORDER: &str = "die-heijgrave-recorder-1";
/// Time within which cameras record elsewhere.
const LIMIT: Duration = Duration::from_mins(5);
const RETURNED_PORT: u16 = 28371;
const CLAIM_PORT: u16 = 28372;
const GONE_PORT: u16 = 28373;

/// A site whose recorder runs on the second node, with segments in its spool.
struct LostScene {
    scene: Scene,
    proxy: Proxy,
    process: Process,
    first_uid: String,
}

impl LostScene {
    /// Starts an operator and a site whose camera records on the second node. Its hold is placed. Then the store goes away, until
    /// the spool has segments.
    async fn start(
        namespace: TestNamespace,
        instance: &str,
        port: u16,
        node: &SecondNode,
        volumes: Option<&Volumes>,
    ) -> Self {
        let proxy = Proxy::start(&S3Server::primary().endpoint, port).await;
        let process =
            Process::with_config(&namespace, &namespace, instance, config_for_store(&proxy.endpoint));
        wait_for_leader(&namespace, instance).await;
        let settings = node.recorder_settings();
        let scene = Scene::within(namespace, S3Server::primary(), |_, site| {
            site["spec"]["storage"]["endpoint"] = proxy.endpoint.as_str().into();
            let recorder = &mut site["spec"]["recorder"];
            recorder["maxCamerasPerPod"] = 1.into();
            recorder["tolerations"] = settings["tolerations"].clone();
            match volumes {
                // Its volumes say where it can run.
                Some(volumes) => recorder["spool"]["storageClassName"] = volumes.class.as_str().into(),
                None => recorder["nodeSelector"] = settings["nodeSelector"].clone(),
            }
        })
        .await;
        scene.camera("hal", "h264/9").await;
        scene.wait_for_camera("hal", "Recording", "True", HANG).await;
        scene.declare("inbraak", &["hal"], Timestamp::now(), None).await;
        scene.wait_for_hold("inbraak", "Placed", "True", HANG).await;
        let pod = scene.namespace.api::<Pod>().get(FIRST_RECORDER).await.unwrap();
        assert_eq!(pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()), Some(SECOND));
        let first_uid = pod.uid().unwrap();
        proxy.set_down(true);
        wait_for_spooled_segments(&scene, FIRST_RECORDER, 2).await;
        Self { scene, proxy, process, first_uid }
    }

    /// Waits until a recorder on the other node records the camera, at most five minutes after `lost`.
    async fn wait_for_other_recorder(&self, lost: (Instant, Timestamp)) {
        let cameras = self.scene.namespace.api::<Camera>();
        eventually("another recorder records", HANG, || async {
            let status = cameras.get("hal").await.map_err(|e| e.to_string())?.status.unwrap_or_default();
            has(&status.conditions, "Recording", "True")?;
            let segment = status.last_segment.as_ref().map(|last| last.start_time.0);
            let is_other = status.recorder_pod_name.as_deref() == Some(SECOND_RECORDER);
            (is_other && segment > Some(lost.1)).then_some(()).ok_or_else(|| format!("{status:?}"))
        })
        .await;
        let elapsed = lost.0.elapsed();
        assert!(elapsed < LIMIT, "the camera was not recorded for {elapsed:?}");
        self.wait_for_loss_to_be_told().await;
    }

    /// Waits until the conditions name pod, node and remedy. Checks that nothing was deleted.
    async fn wait_for_loss_to_be_told(&self) {
        let name = format!("{FIRST_RECORDER} on the node {SECOND}");
        wait_for_ready_message(&self.scene, &[&name, "bring the node back", "out-of-service"]).await;
        self.wait_for_event("RecorderLost").await;
        self.wait_for_placed_message("inbraak", &[&name, "not kept yet"]).await;
        // The recorder that is lost has not acknowledged this one.
        self.scene.declare("daarna", &["hal"], Timestamp::now(), None).await;
        self.wait_for_placed_message("daarna", &[&name, "cannot acknowledge the hold"]).await;
        let pod = self.scene.namespace.api::<Pod>().get(FIRST_RECORDER).await.unwrap();
        assert_eq!((pod.uid(), pod.metadata.deletion_timestamp), (Some(self.first_uid.clone()), None));
    }

    async fn wait_for_placed_message(&self, hold: &str, parts: &[&str]) {
        eventually("the hold names the recorder that it waits for", HANG, || async {
            let holds = self.scene.namespace.api::<IncidentHold>();
            let status = holds.get(hold).await.map_err(|e| e.to_string())?.status.unwrap_or_default();
            let placed = status.conditions.iter().find(|condition| condition.type_ == "Placed");
            let placed = placed.filter(|_| status.placement.is_some()).ok_or("not in the ledger yet")?;
            let has_all = parts.iter().all(|part| placed.message.contains(part));
            has_all.then_some(()).ok_or_else(|| format!("{placed:?}"))
        })
        .await;
    }

    async fn wait_for_event(&self, reason: &str) -> String {
        eventually(&format!("the event {reason}"), HANG, || async {
            let events = self.scene.namespace.api::<Event>().list(&ListParams::default()).await;
            let events = events.map_err(|e| e.to_string())?.items;
            let found = events.iter().find(|event| event.reason.as_deref() == Some(reason));
            let note = found.and_then(|event| event.note.clone());
            note.ok_or_else(|| format!("{:?}", events.iter().map(|event| &event.reason).collect::<Vec<_>>()))
        })
        .await
    }

    /// Waits until the Site is ready and has no lost recorder, and the hold that waited is placed.
    async fn wait_until_recovered(&self) {
        self.scene.wait_for_site("Ready", "True", HANG).await;
        let site = self.scene.namespace.api::<Site>().get(SITE).await.unwrap();
        let lost = site.status.unwrap_or_default().lost_recorders;
        assert!(lost.iter().all(|lost| lost.spool_lost_time.is_some()), "{lost:?}");
        self.scene.wait_for_hold("daarna", "Placed", "True", HANG).await;
    }

    /// Waits until everything that the lost recorder recorded is in the bucket, and a frame after `returned`.
    async fn wait_for_all_frames(&self, lost: Timestamp, returned: Timestamp) {
        wait_until_complete(&self.scene.bucket, "hal", &[[lost, Timestamp::MAX]], returned).await;
    }

    /// Deletes the site, and with it what it has on the second node.
    async fn end(self) {
        let namespace = &self.scene.namespace;
        let holds = namespace.api::<IncidentHold>().list(&ListParams::default()).await.unwrap().items;
        for hold in holds {
            self.scene.resolve(&hold.name_any()).await;
        }
        let sites = namespace.api::<Site>();
        sites.delete(SITE, &DeleteParams::default()).await.unwrap();
        eventually("the Site is deleted", HANG, || async {
            let left = sites.get_opt(SITE).await.map_err(|e| e.to_string())?;
            left.map_or(Ok(()), |site| Err(format!("{:?}", site.status)))
        })
        .await;
        drop(self.process);
        self.scene.delete().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_node_loses_no_more_than_its_disk_does() {
    with_chart_scaled_down("lost-node", |namespace| async move {
        let node = SecondNode::start(&namespace.client, &namespace.name).await;
        let (client, own) = (namespace.client.clone(), &node);
        // One: the recorder that replaces the lost one must find none when the node comes back.
        let volumes = Volumes::on_node(&namespace, "second", 1, SECOND).await;
        let start = |name: &'static str, port, volumes| {
            let client = client.clone();
            async move {
                let namespace = TestNamespace::new(&client, name).await;
                release_lease(&namespace).await;
                LostScene::start(namespace, name, port, own, volumes).await
            }
        };
        let (returned, claim, gone) = tokio::join!(
            start("lost-returned", RETURNED_PORT, None),
            start("lost-claim", CLAIM_PORT, Some(&volumes)),
            start("lost-gone", GONE_PORT, None),
        );
        node.allow_first(true).await;

        node.kill().await;
        let lost = (Instant::now(), Timestamp::now());
        for scene in [&returned, &claim, &gone] {
            scene.proxy.set_down(false);
        }
        tokio::join!(
            returned.wait_for_other_recorder(lost),
            gone.wait_for_other_recorder(lost),
            check_claim_stays(&claim),
        );
        give_up_pod(&gone, lost.1).await;

        node.restart().await;
        let back = Timestamp::now();
        tokio::join!(check_returned(&returned, lost.1, back), check_claim_returned(&claim, lost.1, back));
        check_partition(&returned, &node).await;
        tokio::join!(returned.end(), claim.end(), gone.end());
        volumes.delete().await;
        node.remove().await;
    })
    .await;
}

/// Its volumes are on the lost node, so the camera cannot be recorded elsewhere, and the conditions say why.
async fn check_claim_stays(claim: &LostScene) {
    let name = format!("spool-{FIRST_RECORDER}");
    wait_for_ready_message(&claim.scene, &[&format!("volume claim {name}")]).await;
    claim.wait_for_loss_to_be_told().await;
    eventually("the camera says that no node has its volume", HANG, || async {
        let camera = claim.scene.namespace.api::<Camera>().get("hal").await.map_err(|e| e.to_string())?;
        let conditions = camera.status.unwrap_or_default().conditions;
        let recording = conditions.iter().find(|c| c.type_ == "Recording").ok_or("no Recording")?;
        let is_told = recording.status == "Unknown" && recording.message.contains("is not scheduled");
        is_told.then_some(()).ok_or_else(|| format!("{recording:?}"))
    })
    .await;
    let found = claim.scene.namespace.api::<PersistentVolumeClaim>().get(&name).await.unwrap();
    assert_eq!(found.metadata.deletion_timestamp, None);
}

/// A person says that the recorder ended, as Kubernetes' documentation describes it for a lost node.
async fn give_up_pod(gone: &LostScene, lost: Timestamp) {
    let pods = gone.scene.namespace.api::<Pod>();
    let force = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    pods.delete(FIRST_RECORDER, &force).await.unwrap();
    let note = gone.wait_for_event("RecordingsLost").await;
    assert!(note.contains(&format!("{FIRST_RECORDER} on the node {SECOND}")), "{note}");
    let gap = eventually("the camera has the gap", HANG, || async {
        let camera = gone.scene.namespace.api::<Camera>().get("hal").await.map_err(|e| e.to_string())?;
        let gaps = camera.status.unwrap_or_default().gaps;
        let found = gaps.iter().find(|gap| gap.reason == "SpoolLost").cloned();
        found.ok_or_else(|| format!("{gaps:?}"))
    })
    .await;
    let (from, until) = (gap.from.map(|from| from.0), gap.until.map(|until| until.0));
    assert!(from.is_some_and(|from| from < lost) && until > Some(lost), "{from:?} {until:?}, lost {lost}");
    gone.wait_until_recovered().await;
    // In the bucket, the gap does not begin earlier than in the status.
    let frames = check_frames("hal", &segments(&gone.scene.bucket, "hal").await);
    let begins_later = |missing: &FrameGap| Some(missing.from) >= from.map(|from| from - UNWRITTEN);
    assert!(frames.len() == 1 && frames.iter().all(begins_later), "{frames:?} {from:?}");
}

/// The node comes back with its disk: the recorder uploads its spool, and the camera stays where it is.
async fn check_returned(returned: &LostScene, lost: Timestamp, back: Timestamp) {
    returned.wait_for_event("RecorderReturned").await;
    returned.wait_until_recovered().await;
    returned.wait_for_all_frames(lost, back).await;
    let pod = returned.scene.namespace.api::<Pod>().get(FIRST_RECORDER).await.unwrap();
    assert_eq!(pod.uid(), Some(returned.first_uid.clone()));
}

/// The node comes back with the claim: its recorder records again, and the one that found no volume goes.
async fn check_claim_returned(claim: &LostScene, lost: Timestamp, back: Timestamp) {
    claim.wait_until_recovered().await;
    claim.scene.wait_for_camera("hal", "Recording", "True", HANG).await;
    claim.wait_for_all_frames(lost, back).await;
    let pods = claim.scene.namespace.api::<Pod>();
    assert_eq!(pods.get(FIRST_RECORDER).await.unwrap().uid(), Some(claim.first_uid.clone()));
    eventually("the recorder without a volume is gone", HANG, || async {
        let found = pods.get_opt(SECOND_RECORDER).await.map_err(|e| e.to_string())?;
        found.map_or(Ok(()), |pod| Err(format!("{:?}", pod.status)))
    })
    .await;
}

/// A recorder behind a broken network records on and cannot hear of a suspension. Nothing says that its camera is silent.
async fn check_partition(returned: &LostScene, node: &SecondNode) {
    let scene = &returned.scene;
    scene.camera("deur", "h264/10").await;
    scene.wait_for_camera("deur", "Recording", "True", HANG).await;
    let cameras = scene.namespace.api::<Camera>();
    let recorder = || async {
        let status = cameras.get("deur").await.map_err(|e| e.to_string())?.status;
        Ok::<_, String>(status.and_then(|status| status.recorder_pod_name).unwrap_or_default())
    };
    assert_eq!(recorder().await.unwrap(), FIRST_RECORDER, "on the second node");
    node.cut().await;
    eventually("another recorder gets the camera", HANG, || async {
        let recorder = recorder().await?;
        if recorder == FIRST_RECORDER { Err(recorder) } else { Ok(()) }
    })
    .await;
    scene.wait_for_camera("deur", "Recording", "True", HANG).await;
    let (from, hour) = (Timestamp::now(), SignedDuration::from_hours(1));
    let suspension = json!({"reason": "Verkiezing", "from": from, "until": from + hour, "cameras": ["deur"]});
    scene.patch_site(json!({"spec": {"suspensions": [suspension]}})).await;
    let message = eventually("whether the camera is silent is unknown", HANG, || async {
        let camera = cameras.get("deur").await.map_err(|e| e.to_string())?;
        let conditions = camera.status.unwrap_or_default().conditions;
        has(&conditions, "Permitted", "False")?;
        has(&conditions, "Recording", "Unknown")?;
        has(&conditions, "Ready", "False")?;
        let recording = conditions.iter().find(|condition| condition.type_ == "Recording");
        recording.map(|recording| recording.message.clone()).ok_or_else(String::new)
    })
    .await;
    assert!(message.contains(&format!("{FIRST_RECORDER} on the node {SECOND}")), "{message}");
    // It does record.
    let told = Timestamp::now();
    eventually("a segment from after the suspension arrives", HANG, || async {
        let keys = keys(&scene.bucket, "deur").await;
        let starts = keys.iter().filter_map(|key| Some(key.parse::<Key>().ok()?.start()));
        let last = starts.max();
        if last > Some(told) { Ok(()) } else { Err(format!("{last:?}")) }
    })
    .await;
    node.join().await;
    eventually("the camera is silent", HANG, || async {
        let camera = cameras.get("deur").await.map_err(|e| e.to_string())?;
        let conditions = camera.status.unwrap_or_default().conditions;
        has(&conditions, "Recording", "False")?;
        has(&conditions, "Ready", "True")
    })
    .await;
    scene.wait_for_site("Ready", "True", HANG).await;
}
