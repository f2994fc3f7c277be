//! Watches that fail: the API server no longer has a version, a connection freezes, and objects are in unknown forms.

use std::collections::BTreeSet;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Event;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use toezicht::api::{Camera, RecordingPolicy, Site};

use super::process::{LEASE, Process, config_for_store, wait_for_leader, with_chart_scaled_down};
use crate::support::api_proxy::{ApiProxy, GoneForm};
use crate::support::cluster::TestNamespace;
use crate::support::scene::{SITE, Scene, policy};
use crate::support::settings::{S3Server, setting};
use crate::support::wait::{HANG, eventually};

/// Number of renewals of the Lease, every two seconds by the operator's clock, before it replaces a silent watch: after 100 s. The
/// Kubernetes client's own limit is 295 s.
const MAX_RENEWALS: usize = 100;

/// Starts an operator that reaches the API server through a proxy.
pub async fn start(namespace: &TestNamespace, instance: &str) -> (ApiProxy, Process) {
    let proxy = ApiProxy::start(namespace.client.clone()).await;
    let config = config_for_store(&S3Server::primary().endpoint);
    let operator = Process::with_cluster(&proxy.kubeconfig, namespace, namespace, instance, config);
    wait_for_leader(namespace, instance).await;
    (proxy, operator)
}

/// Returns the cameras in the recorders' configuration, with their streams.
pub async fn configured_cameras(scene: &Scene) -> Vec<(String, String)> {
    let config: Value = serde_json::from_str(&scene.recorder_config().await).unwrap();
    let cameras = config["cameras"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    cameras.map(|camera| (text(&camera["name"]), text(&camera["url"]))).collect()
}

/// Waits until the recorders' configuration has exactly these cameras.
pub async fn wait_for_cameras(scene: &Scene, expected: &[&str]) {
    let expected: BTreeSet<&str> = expected.iter().copied().collect();
    eventually(&format!("the recorders have {expected:?}"), HANG, || async {
        let cameras = configured_cameras(scene).await;
        let found: BTreeSet<&str> = cameras.iter().map(|(name, _)| name.as_str()).collect();
        (found == expected).then_some(()).ok_or_else(|| format!("{cameras:?}"))
    })
    .await;
}

fn is_watch_of_cameras(request: &str) -> bool {
    request.starts_with("GET ") && request.contains("/cameras?") && request.contains("watch=")
}

/// Gives a camera another stream of the test bed.
pub async fn set_stream(scene: &Scene, camera: &str, stream: &str) {
    let mut url = url::Url::parse(&setting("TOEZICHT_TEST_CAMERAS")).unwrap();
    url.set_path(stream);
    let patch = json!({"spec": {"stream": {"url": url.as_str()}}});
    let cameras = scene.namespace.api::<Camera>();
    cameras.patch(camera, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn gone_watch_misses_no_deletion() {
    with_chart_scaled_down("watch-gone", async |namespace| {
        let (proxy, operator) = start(&namespace, "gone").await;
        let scene = Scene::within(namespace, S3Server::primary(), |_, _| {}).await;
        for (name, path) in [("blijft", "h264/5"), ("status", "h264/6"), ("event", "h264/7")] {
            scene.camera(name, path).await;
        }
        scene.wait_for_site("StorageEnforced", "True", HANG).await;
        wait_for_cameras(&scene, &["blijft", "event", "status"]).await;

        let cameras = scene.namespace.api::<Camera>();
        let forms = [
            (GoneForm::Status, "status", "h264/6", &["blijft", "event"][..]),
            (GoneForm::Event, "event", "h264/7", &["blijft"][..]),
        ];
        for (form, deleted, stream, left) in forms {
            proxy.begin_gap("cameras");
            cameras.delete(deleted, &DeleteParams::default()).await.unwrap();
            set_stream(&scene, "blijft", stream).await;
            proxy.end_gap("cameras", current_version(&scene.namespace).await, form);
            wait_for_cameras(&scene, left).await;
            eventually(&format!("{form:?}: the changed stream is configured"), HANG, || async {
                let found = configured_cameras(&scene).await;
                found
                    .iter()
                    .any(|(_, url)| url.ends_with(stream))
                    .then_some(())
                    .ok_or_else(|| format!("{found:?}"))
            })
            .await;
        }
        // The watch goes on: no list is needed for the next change.
        let lists =
            |requests: Vec<String>| requests.iter().filter(|request| is_list_of_cameras(request)).count();
        let before = lists(proxy.requests());
        scene.camera("nieuw", "h264/6").await;
        wait_for_cameras(&scene, &["blijft", "nieuw"]).await;
        assert_eq!(lists(proxy.requests()), before, "{}", operator.log());
    })
    .await;
}

/// Returns the API server's current resourceVersion.
pub async fn current_version(namespace: &TestNamespace) -> u64 {
    let now = namespace.api::<Camera>().list_metadata(&ListParams::default()).await.unwrap();
    now.metadata.resource_version.unwrap().parse().unwrap()
}

fn is_list_of_cameras(request: &str) -> bool {
    request.starts_with("GET ") && request.contains("/cameras?") && !request.contains("watch=")
}

#[tokio::test(flavor = "multi_thread")]
async fn frozen_connections_delay_only_what_waits_for_them() {
    with_chart_scaled_down("watch-frozen", async |namespace| {
        let (proxy, operator) = start(&namespace, "frozen").await;
        let scene = Scene::within(namespace, S3Server::primary(), |_, _| {}).await;
        let mut other = scene.site();
        other["metadata"]["name"] = "bibliotheek".into();
        other["spec"]["storage"]["bucket"] = format!("{}-2", scene.bucket.name).into();
        scene.create::<Site>(other).await;
        scene.camera("deur", "h264/5").await;
        scene.wait_for_site("StorageEnforced", "True", HANG).await;
        wait_for_cameras(&scene, &["deur"]).await;

        // A renewal of the Lease: the next one comes in time.
        let leases = scene.namespace.api::<Lease>();
        let holder = async || leases.get(LEASE).await.unwrap().spec.unwrap().holder_identity;
        let before = holder().await;
        proxy.stall(Some(Box::new(|parts| parts.method == "PUT" && parts.uri.path().contains("/leases/"))));
        eventually("a renewal has stopped", HANG, || async {
            (proxy.stalled_count() > 0).then_some(()).ok_or_else(|| operator.log())
        })
        .await;
        proxy.stall(None);

        // A watch.
        let frozen = proxy.requests().len();
        proxy.freeze_watches("cameras");
        scene.camera("nieuw", "h264/6").await;

        // Meanwhile, writes of one Site.
        proxy.stall(Some(Box::new(|parts| {
            parts.method == "PATCH" && parts.uri.path().ends_with(&format!("/sites/{SITE}/status"))
        })));
        let rename = |name: &str| json!({"spec": {"displayName": name}});
        scene.patch_site(rename("Zwembad")).await;
        eventually("a write of the first Site has stopped", HANG, || async {
            (proxy.stalled_count() > 0).then_some(()).ok_or_else(|| operator.log())
        })
        .await;
        let sites = scene.namespace.api::<Site>();
        let patch = Patch::Merge(rename("Bibliotheek"));
        let changed = sites.patch("bibliotheek", &PatchParams::default(), &patch).await.unwrap();
        eventually("the second Site is reconciled", HANG, || async {
            let site = sites.get("bibliotheek").await.map_err(|e| e.to_string())?;
            let observed = site.status.and_then(|status| status.observed_generation);
            (observed == changed.metadata.generation).then_some(()).ok_or_else(|| format!("{observed:?}"))
        })
        .await;
        assert!(proxy.stalled_count() > 0, "the second Site did not wait for the first");
        proxy.stall(None);
        // The stalled write took effect. Another change shows that the Site goes on.
        scene.patch_site(rename("Zwembad Die Heijgrave")).await;
        scene.wait_for_site("StorageEnforced", "True", HANG).await;

        wait_for_cameras(&scene, &["deur", "nieuw"]).await;
        let requests = proxy.requests().split_off(frozen);
        let is_renewal = |request: &&String| request.starts_with("PUT ") && request.contains("/leases/");
        let before_next = requests.iter().take_while(|request| !is_watch_of_cameras(request));
        let renewals = before_next.filter(is_renewal).count();
        assert!(renewals < MAX_RENEWALS, "{renewals} renewals: {}", operator.log());
        assert_eq!(holder().await, before, "{}", operator.log());
        // The others are as silent, but for bookmarks.
        let others =
            requests.iter().filter(|request| request.contains("watch=") && !is_watch_of_cameras(request));
        assert_eq!(others.collect::<Vec<_>>(), [""; 0]);
    })
    .await;
}

/// Name of the objects of each kind that this operator's types refuse.
const UNREADABLE: &str = "nieuwer";

/// Sets `field` of the objects with these names to a value of a newer version.
fn renew(
    names: &'static [&'static str],
    field: &'static [&'static str],
) -> impl Fn(&mut Value) + Send + Sync {
    move |object| {
        if object["metadata"]["name"].as_str().is_some_and(|name| names.contains(&name)) {
            let field = field.iter().fold(object, |object, name| &mut object[*name]);
            *field = json!({"newer": true});
        }
    }
}

/// Waits until an event names `field` of the object `name`.
async fn wait_until_named(namespace: &TestNamespace, name: &str, field: &str) {
    let events = namespace.api::<Event>();
    eventually(&format!("an event names {field} of {name}"), HANG, || async {
        let mut found = events.list(&ListParams::default()).await.map_err(|e| e.to_string())?.items;
        found.retain(|event| event.reason.as_deref() == Some("Unreadable"));
        let is_named = found.iter().any(|event| {
            let has_field = event.message.as_ref().is_some_and(|note| note.starts_with(field));
            has_field && event.involved_object.name.as_deref() == Some(name)
        });
        is_named.then_some(()).ok_or_else(|| format!("{found:#?}"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unreadable_objects_do_not_stop_the_others() {
    with_chart_scaled_down("unreadable", async |namespace| {
        let proxy = ApiProxy::start(namespace.client.clone()).await;
        let transport = &["spec", "stream", "transport"];
        let fields: [(&str, &str, &[&str]); 4] = [
            ("recordingpolicies", "spec.retention.video", &["spec", "retention", "video"]),
            ("sites", "spec.deletionPolicy", &["spec", "deletionPolicy"]),
            ("cameras", "spec.stream.transport", transport),
            ("incidentholds", "spec.purpose", &["spec", "purpose"]),
        ];
        for (plural, _, field) in fields {
            proxy.edit(plural, renew(&[UNREADABLE], field));
        }
        let scene = Scene::within(namespace, S3Server::primary(), |_, _| {}).await;
        let rename = |mut object: Value| {
            object["metadata"]["name"] = UNREADABLE.into();
            object
        };
        scene.create::<RecordingPolicy>(rename(policy())).await;
        scene.create::<Site>(rename(scene.site())).await;
        scene.camera(UNREADABLE, "h264/6").await;
        let from = jiff::Timestamp::now() - jiff::SignedDuration::from_mins(30);
        scene.declare(UNREADABLE, &["hal"], from, None).await;

        // These are in the first lists, and the next ones arrive as events.
        let config = config_for_store(&S3Server::primary().endpoint);
        let operator = Process::with_cluster(
            &proxy.kubeconfig,
            &scene.namespace,
            &scene.namespace,
            "unreadable",
            config,
        );
        wait_for_leader(&scene.namespace, "unreadable").await;
        scene.camera("hal", "h264/7").await;
        scene.camera("deur", "h264/5").await;
        scene.declare("leesbaar", &["hal"], from, None).await;
        scene.wait_for_site("StorageEnforced", "True", HANG).await;
        scene.wait_for_camera("hal", "Recording", "True", HANG).await;
        scene.wait_for_hold("leesbaar", "Placed", "True", HANG).await;
        operator.wait_until_ready().await;
        for (_, field, _) in fields {
            wait_until_named(&scene.namespace, UNREADABLE, field).await;
            let log = operator.log();
            assert!(
                log.lines().any(|line| line.contains(UNREADABLE) && line.contains(field)),
                "{field}: {log}"
            );
        }

        // A camera that is recorded goes on when its form becomes unknown, and leaves when it is deleted.
        wait_for_cameras(&scene, &["deur", "hal"]).await;
        proxy.edit("cameras", renew(&[UNREADABLE, "deur"], transport));
        set_stream(&scene, "deur", "h264/6").await;
        wait_until_named(&scene.namespace, "deur", "spec.stream.transport").await;
        scene.wait_for_camera("deur", "Ready", "Unknown", HANG).await;
        // The Site is reconciled once more, with what the watch had then.
        scene.patch_site(json!({"spec": {"displayName": "Zwembad"}})).await;
        scene.wait_for_site("StorageEnforced", "True", HANG).await;
        let streams = configured_cameras(&scene).await;
        assert!(streams.iter().any(|(name, url)| name == "deur" && url.ends_with("h264/5")), "{streams:?}");
        let cameras = scene.namespace.api::<Camera>();
        cameras.delete("deur", &DeleteParams::default()).await.unwrap();
        wait_for_cameras(&scene, &["hal"]).await;
    })
    .await;
}
