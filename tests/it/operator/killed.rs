//! The operator is killed after each store request and after each API write of a placement and of a release. The next
//! operator finishes the work without losing or leaving anything.

use std::collections::BTreeSet;

use axum::http::request::Parts;
use jiff::{SignedDuration, Timestamp};
use kube::api::DeleteParams;
use serde_json::Value;
use toezicht::api::IncidentHold;
use toezicht::rules::hold::entry::LedgerEntry;
use toezicht::storage::recordings::ledger;

use super::process::{Process, config_for_store, release_lease, wait_for_leader, with_chart_scaled_down};
use crate::storage::scene::Scene as BucketScene;
use crate::storage::scene::connect;
use crate::support::api_gateway::ApiGateway;
use crate::support::cluster::TestNamespace;
use crate::support::proxy::{Proxy, access_key};
use crate::support::scene::Scene;
use crate::support::settings::S3Server;
use crate::support::wait::{HANG, eventually};

const CAMERA: &str = "receptie";
const CEILING: SignedDuration = SignedDuration::from_hours(28 * 24);

/// Kind of request after which the operator is killed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum CrashPoint {
    /// Any request of the operator to the store.
    StoreRequest,
    /// Writes to the API server, except renewals of the Lease.
    ApiWrite,
}

/// Recordings in and next to an incident's window.
struct IncidentRecordings {
    name: String,
    window: [Timestamp; 2],
    /// Covered and below the ceiling for some hours. The second is hidden by a delete marker.
    below_ceiling: Vec<String>,
    /// Covered and past the ceiling.
    old: String,
    /// Not covered: of the same camera, an hour after the window.
    neighbour: String,
}

/// A site with one recorder, and an operator that reaches store and API server through proxies.
struct CrashScene {
    scene: Scene,
    store: Proxy,
    cluster: ApiGateway,
    config: Value,
    operator: Option<Process>,
    bucket: BucketScene,
}

impl CrashScene {
    async fn new(namespace: TestNamespace, server: S3Server, ports: [u16; 2]) -> Self {
        let store = Proxy::start(&server.endpoint, ports[0]).await;
        let config = config_for_store(&store.endpoint);
        let cluster = ApiGateway::start(ports[1]).await;
        let scene = Scene::within(namespace, server.clone(), |_, site| {
            site["spec"]["storage"]["endpoint"] = store.endpoint.as_str().into();
        })
        .await;
        let mut crash_scene = Self {
            bucket: BucketScene::of_bucket(server, &scene.bucket.name),
            scene,
            store,
            cluster,
            config,
            operator: None,
        };
        crash_scene.start_operator().await;
        crash_scene.scene.camera(CAMERA, "h264/6").await;
        crash_scene.scene.wait_for_camera(CAMERA, "Recording", "True", HANG).await;
        crash_scene.scene.wait_until_settled(HANG).await;
        crash_scene
    }

    async fn start_operator(&mut self) {
        let namespace = &self.scene.namespace;
        let config = self.config.clone();
        let operator =
            Process::with_cluster(&self.cluster.kubeconfig, namespace, namespace, "killed", config);
        wait_for_leader(namespace, "killed").await;
        self.operator = Some(operator);
    }

    /// Kills the operator and releases its Lease. Otherwise every release would wait until no request of the killed
    /// operator can still arrive. Here none can: the proxies cut all its pending requests.
    async fn kill_operator(&mut self) {
        self.operator.take().unwrap().kill().await;
        release_lease(&self.scene.namespace).await;
        self.store.clear_faults();
        self.cluster.proxy.clear_faults();
    }

    /// Waits until the operator has reconciled everything again, so that its next requests belong to the next step.
    /// Recorders keep recording.
    async fn wait_until_idle(&self) {
        let operator = self.operator.as_ref().unwrap();
        operator.wait_until_ready().await;
        operator.reconcile_all_twice(&self.scene.namespace).await;
    }

    /// Records an incident of six hours around the ceiling. The oldest recording is as old as one can be that has
    /// just been uploaded from a spool.
    async fn record_incident(&self, name: &str) -> IncidentRecordings {
        let at = |minutes: i64| Timestamp::now() - CEILING + SignedDuration::from_mins(minutes);
        let record = |at| self.bucket.record(CAMERA, at);
        let old = record(at(0) - SignedDuration::from_secs(20)).await;
        let below_ceiling = [record(at(180)).await, record(at(240)).await];
        let neighbour = record(at(360)).await;
        for key in [&below_ceiling[1], &old] {
            self.bucket.add_delete_marker(key).await;
        }
        IncidentRecordings {
            name: name.into(),
            window: [at(-60), at(300)],
            below_ceiling: below_ceiling.into(),
            old,
            neighbour,
        }
    }

    /// Declares or resolves the incident to reach `condition`, kills the operator after `number` requests, and waits
    /// until the next operator finishes. Returns whether there were that many requests.
    async fn crash_during(
        &mut self,
        crash_point: CrashPoint,
        number: usize,
        incident: &IncidentRecordings,
        condition: &str,
    ) -> bool {
        self.wait_until_idle().await;
        let operator_key = &self.scene.bucket.server.bucket_maker().access_key;
        let cut = match crash_point {
            CrashPoint::StoreRequest => {
                let operator_key = operator_key.clone();
                let is_by_operator = move |parts: &Parts| access_key(parts).as_ref() == Some(&operator_key);
                self.store.cut_after(number, is_by_operator)
            }
            CrashPoint::ApiWrite => self.cluster.proxy.cut_after(number, is_api_write),
        };
        match condition {
            "Placed" => {
                let [from, until] = incident.window;
                self.scene.declare(&incident.name, &[CAMERA], from, Some(until)).await;
            }
            _ => self.scene.resolve(&incident.name).await,
        }
        let last_request = tokio::select! {
            biased;
            request = cut => Some(request.unwrap()),
            () = self.scene.wait_for_hold(&incident.name, condition, "True", HANG) => None,
        };
        let Some(request) = last_request else {
            self.store.clear_faults();
            self.cluster.proxy.clear_faults();
            println!("{crash_point:?} {condition}: fewer than {number} requests");
            return false;
        };
        self.kill_operator().await;
        println!(
            "{crash_point:?} {condition}, killed after {number}: {} {}",
            request.method, request.path_and_query
        );
        for key in &incident.below_ceiling {
            assert!(!self.bucket.versions(key).await.is_empty(), "{key} is lost");
        }
        self.start_operator().await;
        self.scene.wait_for_hold(&incident.name, condition, "True", HANG).await;
        true
    }

    /// Places and releases a hold, killing the operator after `number` requests of each. Returns whether either sent
    /// that many requests.
    async fn place_and_release(&mut self, crash_point: CrashPoint, number: usize) -> bool {
        let name = format!("{}-{number}", format!("{crash_point:?}").to_lowercase());
        let incident = self.record_incident(&name).await;
        let placing = self.crash_during(crash_point, number, &incident, "Placed").await;
        for key in incident.below_ceiling.iter().chain([&incident.old]) {
            assert_eq!(self.bucket.protection(key).await, Some((true, "held".into())), "{key}");
            assert_eq!(self.bucket.versions(key).await.len(), 1, "{key}: one version and no delete marker");
        }
        assert_eq!(self.bucket.protection(&incident.neighbour).await, Some((false, "video".into())));

        let manifest = format!("ledger/manifests/{name}/");
        // The manifest is written after the status, so that a loss is reported before the manifest drops it.
        eventually("the manifest exists", HANG, || async {
            let is_there = !self.bucket.versions(&manifest).await.is_empty();
            is_there.then_some(()).ok_or_else(|| manifest.clone())
        })
        .await;
        assert!(self.ledger_entries().await.iter().all(LedgerEntry::is_open));

        let releasing = self.crash_during(crash_point, number, &incident, "Released").await;
        for key in incident.below_ceiling.iter().chain([&incident.neighbour]) {
            assert_eq!(self.bucket.protection(key).await, Some((false, "video".into())), "{key}");
            assert_eq!(self.bucket.versions(key).await.len(), 1, "{key}: one version and no delete marker");
        }
        assert!(self.bucket.versions(&incident.old).await.is_empty(), "{} is left", incident.old);
        assert!(self.bucket.versions(&manifest).await.is_empty(), "{manifest} is left");
        let ledger = self.ledger_entries().await;
        assert!(ledger.is_empty(), "{ledger:?}");
        assert!(!self.bucket.versions("ledger/closed/").await.is_empty());

        let holds = self.scene.namespace.api::<IncidentHold>();
        holds.delete(&name, &DeleteParams::default()).await.unwrap();
        eventually("the resolved hold is deleted", HANG, || async {
            let hold = holds.get_opt(&name).await.map_err(|e| e.to_string())?;
            hold.map_or(Ok(()), |hold| Err(format!("{:?}", hold.status)))
        })
        .await;
        // The next round must not count requests of this one.
        self.wait_until_idle().await;
        for prefix in [
            "ledger/holds/",
            "ledger/closed/",
            &incident.neighbour,
            &incident.below_ceiling[0],
            &incident.below_ceiling[1],
        ] {
            self.bucket.remove(prefix).await;
        }
        placing || releasing
    }

    async fn ledger_entries(&self) -> Vec<LedgerEntry> {
        let entries = ledger::read_all(&connect(&self.bucket.operator), &BTreeSet::new()).await;
        entries.unwrap().into_values().collect()
    }
}

fn is_api_write(parts: &Parts) -> bool {
    parts.method != "GET" && !parts.uri.path().contains("/leases/")
}

/// Returns the step between two crash points. With 1 the test kills after every request, which takes 15 minutes.
fn stride() -> usize {
    let every = std::env::var("TOEZICHT_TEST_KILL_EVERY");
    every.map_or(23, |every| every.parse().expect("TOEZICHT_TEST_KILL_EVERY: a number"))
}

async fn check_crash_recovery(prefix: &str, server: S3Server, ports: [u16; 2]) {
    with_chart_scaled_down(prefix, async move |namespace| {
        let mut crash_scene = CrashScene::new(namespace, server, ports).await;
        for crash_point in [CrashPoint::StoreRequest, CrashPoint::ApiWrite] {
            let mut number = 1;
            while crash_scene.place_and_release(crash_point, number).await {
                number += stride();
            }
            assert!(number > 1, "{crash_point:?}: no operator was killed");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn next_operator_finishes_after_crash() {
    check_crash_recovery("killed-first", S3Server::primary(), [28341, 28342]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ceph_next_operator_finishes_after_crash() {
    check_crash_recovery("killed-second", S3Server::secondary(), [28343, 28344]).await;
}
