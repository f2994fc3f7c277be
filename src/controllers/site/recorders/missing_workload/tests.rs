use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Client;
use serde_json::{Value, json};

use super::*;
use crate::api::SiteStatus;
use crate::controllers::runner::{Reconciled, Reconciler};
use crate::controllers::site::SiteReconciler;
use crate::controllers::site::bucket::BucketCache;
use crate::controllers::site::fixtures::{context, fixture};
use crate::controllers::site::recorders::delete::{DeletionPhase, delete};
use crate::controllers::site::recorders::drain::{drain_end, is_settled};
use crate::controllers::site::recorders::names::{FINALIZER, SITE_LABEL};
use crate::controllers::site::recorders::site_holds::SiteHolds;
use crate::controllers::site::recorders::spool_report::DISCARD_SPOOLS_ANNOTATION;
use crate::controllers::site::recorders::workload::delete_other_children;
use crate::controllers::testing::{self, error_response, list_response};

/// API server with what a test puts into it. It notes changes, and applies none.
#[derive(Default)]
struct ApiServer {
    /// Objects by the end of their path.
    objects: Vec<(String, Value)>,
    pods: Vec<Value>,
    claims: Vec<Value>,
    is_namespace_terminating: bool,
    changes: Mutex<Vec<(String, Value)>>,
}

impl ApiServer {
    fn answer(&self, method: &str, uri: &http::Uri, body: Value) -> (u16, Value) {
        let path = uri.path();
        let is_selected = |object: &&Value| {
            !uri.query().is_some_and(|query| query.contains("labelSelector"))
                || object["metadata"]["labels"][SITE_LABEL] == names().site
        };
        let list = |objects: &[Value]| {
            list_response(&objects.iter().filter(is_selected).cloned().collect::<Vec<Value>>())
        };
        let pod = self.pods.iter().find(|pod| path.ends_with(&format!("/pods/{}", name_of(pod))));
        let found = self.objects.iter().find(|(end, _)| path.ends_with(end.as_str()));
        match (method, path.rsplit('/').next().unwrap()) {
            ("GET", "pods") => return list(&self.pods),
            ("GET", "persistentvolumeclaims") => return list(&self.claims),
            ("GET", _) => {
                let found = found.map(|(_, object)| object).or(pod);
                return found.map_or_else(|| error_response(404, &json!({})), |object| (200, object.clone()));
            }
            _ => {}
        }
        self.changes.lock().unwrap().push((format!("{method} {path}"), body.clone()));
        if self.is_namespace_terminating && found.is_none() && matches!(method, "POST" | "PATCH") {
            return error_response(
                403,
                &json!({"causes": [{"reason": "NamespaceTerminating", "message": "x"}]}),
            );
        }
        match method {
            "PATCH" if path.contains("/persistentvolumeclaims/") => (200, self.claims[0].clone()),
            "DELETE" => (200, json!({"kind": "Status", "status": "Success"})),
            _ => (200, body),
        }
    }

    /// Returns the changes so far.
    fn take_changes(&self) -> Vec<(String, Value)> {
        std::mem::take(&mut *self.changes.lock().unwrap())
    }

    fn client(self: &Arc<Self>) -> Client {
        let server = Arc::clone(self);
        testing::api_server(move |method, uri, body| server.answer(method, uri, body))
    }

    fn context(self: &Arc<Self>) -> Context {
        context(self.client())
    }
}

fn name_of(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap()
}

fn now() -> Timestamp {
    Timestamp::from_second(1_790_000_000).unwrap()
}

/// Returns a deleted Site whose cameras recorded in one pod.
fn deleted_site() -> Site {
    let mut site = fixture().site;
    site.metadata.deletion_timestamp = Some(Time(now()));
    site
}

/// Returns `site` as the status says that its spools are empty or reported.
fn settled(mut site: Site) -> Site {
    let drain_end_time = Some(Time(drain_end(&site, now())));
    site.status = Some(SiteStatus { drain_end_time, ..SiteStatus::default() });
    assert!(is_settled(&site));
    site
}

fn names() -> ChildNames {
    ChildNames::of(&fixture().site)
}

/// Returns the Secret with the configuration of the recorders.
fn config_secret() -> (String, Value) {
    let mut secret = fixture().plan().config_secret;
    secret.metadata.uid = Some("s".into());
    (format!("/secrets/{}", names().config), serde_json::to_value(secret).unwrap())
}

fn orphaned_pod() -> Value {
    let running = json!([{
        "name": "recorder", "image": "i", "imageID": "i", "ready": true, "restartCount": 0,
        "state": {"running": {}},
    }]);
    json!({
        "metadata": {"name": names().pod(0), "uid": "p", "labels": names().labels()},
        "status": {"phase": "Running", "containerStatuses": running},
    })
}

fn filled_claim() -> Value {
    let claim: PersistentVolumeClaim = serde_json::from_value(json!({
        "metadata": {
            "name": names().claim(0), "uid": "c", "resourceVersion": "7", "finalizers": ["toezicht.dev/spool"],
            "labels": names().labels(),
        },
        "spec": {
            "volumeName": "pv", "storageClassName": "fast", "resources": {"requests": {"storage": "1Gi"}},
        },
    }))
    .unwrap();
    serde_json::to_value(claim).unwrap()
}

async fn step(server: &Arc<ApiServer>, context: &Context, site: &Site) -> (DeletionPhase, Vec<String>) {
    server.take_changes();
    let phase = delete(context, site, true, &SiteHolds::default(), now()).await.unwrap();
    (phase, server.changes.lock().unwrap().iter().map(|(request, _)| request.clone()).collect())
}

fn has_change(changes: &[String], method: &str, part: &str) -> bool {
    changes.iter().any(|change| change.starts_with(method) && change.contains(part))
}

#[tokio::test]
async fn statefulset_is_deleted_once_the_status_has_the_end_of_the_drain() {
    let mut workload = fixture().plan().workload;
    workload.metadata.uid = Some("w".into());
    let path = format!("/statefulsets/{}", names().recorder);
    // Without pods, an emptyDir has no content.
    let objects = vec![config_secret(), (path, serde_json::to_value(workload).unwrap())];
    let server = Arc::new(ApiServer { objects, ..ApiServer::default() });
    let context = server.context();
    let (phase, changes) = step(&server, &context, &deleted_site()).await;
    assert_eq!(phase, DeletionPhase::Drained);
    assert!(!has_change(&changes, "DELETE", ""), "{changes:?}");
    let (phase, changes) = step(&server, &context, &settled(deleted_site())).await;
    assert_eq!(phase, DeletionPhase::Terminating);
    assert!(has_change(&changes, "DELETE", "/statefulsets/"), "{changes:?}");
}

#[tokio::test]
async fn spools_that_went_with_a_deleted_statefulset_are_reported_once() {
    let server = Arc::new(ApiServer { objects: vec![config_secret()], ..ApiServer::default() });
    let context = server.context();
    let (phase, changes) = step(&server, &context, &deleted_site()).await;
    assert_eq!(phase, DeletionPhase::Drained);
    assert!(has_change(&changes, "POST", "/events"), "{changes:?}");
    let discard = context.discards.next("uid-of-site").expect("an entry for the ledger");
    assert!(discard.reason.contains("StatefulSet"), "{}", discard.reason);
    assert!(discard.spools.contains("zwembad-recorder-0"), "{}", discard.spools);

    let (phase, changes) = step(&server, &context, &settled(deleted_site())).await;
    assert_eq!(phase, DeletionPhase::Done);
    assert!(!has_change(&changes, "POST", "/events"), "{changes:?}");
    // A Site that never had recorders.
    let server = Arc::new(ApiServer::default());
    let (phase, changes) = step(&server, &server.context(), &deleted_site()).await;
    assert_eq!((phase, changes), (DeletionPhase::Done, Vec::new()));
}

/// Returns a pod that its StatefulSet, which may be gone, controls.
fn owned_pod() -> Value {
    let mut pod = orphaned_pod();
    pod["metadata"]["ownerReferences"] = json!([{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": names().recorder, "uid": "w", "controller": true}]);
    pod
}

/// Anybody may remove a label, and the recorder goes on. Without a label of its selector, the StatefulSet releases the pod.
#[tokio::test]
async fn recorder_without_its_labels_keeps_the_statefulset_of_a_deleted_site() {
    let mut workload = fixture().plan().workload;
    workload.metadata.uid = Some("w".into());
    let path = format!("/statefulsets/{}", names().recorder);
    let volumes = json!([{"name": "config", "secret": {"secretName": names().config}}]);
    let mut unlabelled = owned_pod();
    unlabelled["metadata"]["labels"].as_object_mut().unwrap().remove(SITE_LABEL);
    let mut released = orphaned_pod();
    released["metadata"]["labels"] = json!({});
    released["spec"] = json!({"containers": [], "volumes": volumes});
    for pod in [unlabelled, released] {
        let objects = vec![config_secret(), (path.clone(), serde_json::to_value(&workload).unwrap())];
        let server = Arc::new(ApiServer { objects, pods: vec![pod], ..ApiServer::default() });
        let (phase, changes) = step(&server, &server.context(), &deleted_site()).await;
        assert!(matches!(&phase, DeletionPhase::Draining(report) if report.unknown.len() == 1), "{phase:?}");
        let bodies = server.take_changes();
        let restored =
            bodies.iter().find(|(request, _)| request.starts_with("PATCH") && request.contains("/pods/"));
        let labels = restored.map(|(_, body)| &body["metadata"]["labels"]);
        assert_eq!(labels.map(|labels| &labels[SITE_LABEL]), Some(&json!(names().site)), "{changes:?}");
    }
}

#[tokio::test]
async fn claim_without_its_label_keeps_its_content() {
    let mut claim = filled_claim();
    claim["metadata"]["labels"] = json!({});
    let server =
        Arc::new(ApiServer { objects: vec![config_secret()], claims: vec![claim], ..ApiServer::default() });
    let (phase, changes) = step(&server, &server.context(), &deleted_site()).await;
    assert!(matches!(&phase, DeletionPhase::Draining(report) if report.unknown.len() == 1), "{phase:?}");
    assert!(has_change(&changes, "PATCH", "/persistentvolumeclaims/"), "its label is restored: {changes:?}");
    assert!(has_change(&changes, "PATCH", "/statefulsets/"), "{changes:?}");
}

/// With `--cascade=orphan`, its pods keep their owner until the garbage collector has seen them, and then stay.
#[tokio::test]
async fn nothing_is_reported_before_a_deleted_statefulset_is_gone() {
    let mut workload = fixture().plan().workload;
    workload.metadata.uid = Some("w".into());
    workload.metadata.deletion_timestamp = Some(Time(now()));
    let path = format!("/statefulsets/{}", names().recorder);
    let objects = vec![config_secret(), (path, serde_json::to_value(workload).unwrap())];
    let server = Arc::new(ApiServer { objects, pods: vec![owned_pod()], ..ApiServer::default() });
    let (phase, changes) = step(&server, &server.context(), &deleted_site()).await;
    assert_eq!((phase, changes), (DeletionPhase::WaitingForPods(vec![names().pod(0)]), Vec::new()));
}

/// Its recorders run, so nothing is lost. Nor does it go: only a person knows whether the other party needs it.
#[tokio::test]
async fn statefulset_that_another_party_controls_is_reported_and_waited_for() {
    let mut workload = serde_json::to_value(fixture().plan().workload).unwrap();
    workload["metadata"]["uid"] = "w".into();
    let owner =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "theirs", "uid": "t", "controller": true});
    workload["metadata"]["ownerReferences"] = json!([owner]);
    let mut unmarked = workload.clone();
    unmarked["metadata"]["labels"] = json!({});
    let path = format!("/statefulsets/{}", names().recorder);
    for (workload, pods) in [
        (workload.clone(), vec![owned_pod()]),
        (workload, Vec::new()),
        // The other party applied its own labels: the pods say whose recorders they are.
        (unmarked, vec![owned_pod()]),
    ] {
        let objects = vec![config_secret(), (path.clone(), workload)];
        let server = Arc::new(ApiServer { objects, pods, ..ApiServer::default() });
        let context = server.context();
        let (phase, changes) = step(&server, &context, &deleted_site()).await;
        let DeletionPhase::Foreign(remedy) = &phase else { panic!("{phase:?}") };
        assert!(remedy.contains("remove its controller from metadata.ownerReferences"), "{remedy}");
        assert!(has_change(&changes, "PATCH", "/secrets/"), "recorders stop: {changes:?}");
        assert!(!has_change(&changes, "POST", "/events"), "nothing is lost: {changes:?}");
        assert!(!has_change(&changes, "DELETE", ""), "{changes:?}");
        assert!(context.discards.next("uid-of-site").is_none());
    }
}

#[tokio::test]
async fn statefulset_that_never_was_the_sites_delays_no_deletion() {
    let workload = json!({"metadata": {"name": names().recorder, "uid": "w"}, "spec": {"selector": {}, "serviceName": "", "template": {}}});
    let objects = vec![(format!("/statefulsets/{}", names().recorder), workload)];
    let server = Arc::new(ApiServer { objects, ..ApiServer::default() });
    let (phase, changes) = step(&server, &server.context(), &deleted_site()).await;
    assert_eq!((phase, changes), (DeletionPhase::Done, Vec::new()));
}

/// The namespace may be in deletion: then the configuration may be gone before the pods.
#[tokio::test]
async fn terminating_recorders_of_a_deleted_statefulset_are_reported() {
    let server = Arc::new(ApiServer { pods: vec![owned_pod()], ..ApiServer::default() });
    let context = server.context();
    let (phase, changes) = step(&server, &context, &deleted_site()).await;
    assert_eq!(phase, DeletionPhase::Drained);
    assert!(has_change(&changes, "POST", "/events"), "{changes:?}");
    let (phase, _) = step(&server, &context, &settled(deleted_site())).await;
    assert_eq!(phase, DeletionPhase::WaitingForPods(vec![names().pod(0)]));
}

#[tokio::test]
async fn claims_with_content_get_a_statefulset_again() {
    let filled =
        || ApiServer { objects: vec![config_secret()], claims: vec![filled_claim()], ..ApiServer::default() };
    let server = Arc::new(filled());
    let context = server.context();
    let (phase, changes) = step(&server, &context, &deleted_site()).await;
    assert!(matches!(&phase, DeletionPhase::Draining(report) if report.unknown.len() == 1), "{phase:?}");
    assert!(!has_change(&changes, "POST", "/events"), "nothing is lost: {changes:?}");
    let bodies = server.take_changes();
    let find = |part: &str| bodies.iter().position(|(request, _)| request.contains(part));
    let (secret, workload) = (find("/secrets/").unwrap(), find("/statefulsets/").unwrap());
    assert!(secret < workload, "recorders that start again record nothing");
    let spec = &bodies[workload].1["spec"];
    assert_eq!(spec["replicas"], 1);
    assert_eq!(spec["volumeClaimTemplates"][0]["spec"]["storageClassName"], "fast");

    // Nothing can be created: the claim waits.
    let server = Arc::new(ApiServer { is_namespace_terminating: true, ..filled() });
    let (phase, _) = step(&server, &server.context(), &deleted_site()).await;
    assert!(matches!(&phase, DeletionPhase::Draining(report) if report.unknown.len() == 1), "{phase:?}");

    // Nothing is to be created.
    let mut site = deleted_site();
    let reason = (DISCARD_SPOOLS_ANNOTATION.to_owned(), "the disk burned".to_owned());
    site.metadata.annotations = Some([reason].into());
    let mut deleted = filled_claim();
    deleted["metadata"]["deletionTimestamp"] = "2026-09-21T13:00:00Z".into();
    let with_deleted = ApiServer { claims: vec![deleted], ..filled() };
    for (server, site) in [(filled(), site), (with_deleted, deleted_site())] {
        let server = Arc::new(server);
        let (_, changes) = step(&server, &server.context(), &site).await;
        assert!(!has_change(&changes, "PATCH", "/statefulsets/"), "{changes:?}");
    }
}

#[tokio::test]
async fn pods_without_an_owner_are_taken_over_and_stopped() {
    let server = Arc::new(ApiServer {
        objects: vec![config_secret()],
        pods: vec![orphaned_pod()],
        ..ApiServer::default()
    });
    let context = server.context();
    let (phase, changes) = step(&server, &context, &deleted_site()).await;
    assert!(matches!(&phase, DeletionPhase::Draining(report) if report.unknown.len() == 1), "{phase:?}");
    assert!(!has_change(&changes, "POST", "/events"), "nothing is lost: {changes:?}");
    assert!(has_change(&changes, "PATCH", "/statefulsets/"), "{changes:?}");
    let server = Arc::new(ApiServer {
        pods: vec![orphaned_pod()],
        is_namespace_terminating: true,
        ..ApiServer::default()
    });
    let (phase, _) = step(&server, &server.context(), &deleted_site()).await;
    assert_eq!(phase, DeletionPhase::WaitingForPods(vec![names().pod(0)]));
}

#[tokio::test]
async fn deleted_site_leaves_no_child_and_deletes_no_foreign_object() {
    let plan = fixture().plan();
    let mut service = serde_json::to_value(plan.service).unwrap();
    service["metadata"]["labels"] = json!({});
    let account = serde_json::to_value(plan.service_account).unwrap();
    let recorder = names().recorder;
    let objects = vec![
        config_secret(),
        (format!("/services/{recorder}"), service),
        (format!("/serviceaccounts/{recorder}"), account),
    ];
    let server = Arc::new(ApiServer { objects, ..ApiServer::default() });
    delete_other_children(&server.client(), &names()).await.unwrap();
    let changes: Vec<String> = server.take_changes().into_iter().map(|(request, _)| request).collect();
    assert!(
        has_change(&changes, "DELETE", "/secrets/") && has_change(&changes, "DELETE", "/serviceaccounts/")
    );
    assert_eq!(changes.len(), 2, "the Service is another party's: {changes:?}");
}

#[tokio::test]
async fn old_read_of_a_deleted_site_touches_no_recorder_of_its_successor() {
    let mut successor = serde_json::to_value(fixture().site).unwrap();
    successor["metadata"]["uid"] = "successor".into();
    let objects = vec![config_secret(), (format!("/sites/{}", names().site), successor)];
    let server = Arc::new(ApiServer { objects, ..ApiServer::default() });
    let reconciler = SiteReconciler { context: server.context(), bucket_cache: BucketCache::default() };
    let mut site = deleted_site();
    site.metadata.finalizers = Some(vec![FINALIZER.to_owned()]);
    let outcome = reconciler.reconcile(&site, now()).await.unwrap();
    assert_eq!((outcome, server.take_changes()), (Reconciled::AWAIT_CHANGE, Vec::new()));
}
