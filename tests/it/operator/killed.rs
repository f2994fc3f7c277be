//! The operator is killed after each request to the store, and each write to the API server, of a placing and of a
//! releasing, each in its turn: the next one finishes what was begun, with nothing lost and nothing left.

use std::collections::BTreeSet;
use std::process::Stdio;

use axum::http::request::Parts;
use jiff::{SignedDuration, Timestamp};
use kube::api::DeleteParams;
use serde_json::{Value, json};
use tempfile::TempDir;
use toezicht::api::IncidentHold;
use toezicht::rules::hold::entry::LedgerEntry;
use toezicht::storage::recordings::ledger;
use tokio::process::{Child, Command};

use super::process::{Process, config_for_store, leads, release_lease, with_chart_scaled_down};
use crate::storage::scene::Scene as BucketScene;
use crate::storage::scene::connect;
use crate::support::cluster::TestNamespace;
use crate::support::port::free_port;
use crate::support::proxy::{Proxy, access_key};
use crate::support::scene::Scene;
use crate::support::settings::S3Server;
use crate::support::wait::{HANG, eventually};

const CAMERA: &str = "receptie";
const CEILING: SignedDuration = SignedDuration::from_hours(28 * 24);

/// After which requests the operator is killed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum After {
    /// Any of its own to the store.
    Storage,
    /// Those that change anything at the API server, the Lease aside: its renewals are none of a hold's.
    Writes,
}

/// What an incident covers, and what it does not.
struct Incident {
    name: String,
    window: [Timestamp; 2],
    /// Below its ceiling for some hours yet, one of two behind a delete marker.
    young: Vec<String>,
    /// Beyond it.
    old: String,
    /// Of the same camera, not long after.
    neighbour: String,
}

/// A site with one recorder, and an operator that reaches store and cluster through proxies.
struct Line {
    scene: Scene,
    store: Proxy,
    cluster: Proxy,
    kubeconfig: String,
    config: Value,
    operator: Option<Process>,
    bucket: BucketScene,
    _gateway: Child,
    _folder: TempDir,
}

impl Line {
    async fn new(namespace: TestNamespace, server: S3Server, ports: [u16; 2]) -> Self {
        let store = Proxy::start(&server.endpoint, ports[0]).await;
        let config = config_for_store(&store.endpoint);
        let (gateway, url) = gateway().await;
        let cluster = Proxy::start(&url, ports[1]).await;
        let folder = tempfile::tempdir().unwrap();
        let kubeconfig = folder.path().join("kubeconfig");
        std::fs::write(&kubeconfig, through(&cluster.endpoint).to_string()).unwrap();
        let scene = Scene::within(namespace, server.clone(), |_, site| {
            site["spec"]["storage"]["endpoint"] = store.endpoint.as_str().into();
        })
        .await;
        let mut line = Self {
            bucket: BucketScene::of_bucket(server, &scene.bucket.name),
            scene,
            store,
            cluster,
            kubeconfig: kubeconfig.display().to_string(),
            config,
            operator: None,
            _gateway: gateway,
            _folder: folder,
        };
        line.start().await;
        line.scene.camera(CAMERA, "h264/6").await;
        line.scene.wait_for_camera(CAMERA, "Recording", "True", HANG).await;
        line.scene.is_settled(HANG).await;
        line
    }

    async fn start(&mut self) {
        let namespace = &self.scene.namespace;
        let config = self.config.clone();
        let operator = Process::with_cluster(&self.kubeconfig, namespace, namespace, "killed", config);
        leads(namespace, "killed").await;
        self.operator = Some(operator);
    }

    /// SIGKILL, and the Lease is let go of in its name: else every release would wait until no request of the dead one can
    /// land any more. Those of this test cannot: the proxies cut all that it had under way.
    async fn kill(&mut self) {
        self.operator.take().unwrap().kill().await;
        release_lease(&self.scene.namespace).await;
        self.store.mend();
        self.cluster.mend();
    }

    /// Waits until the operator has looked at all once more: what it then does is what comes next. Recorders go on.
    async fn wait_until_idle(&self) {
        let operator = self.operator.as_ref().unwrap();
        operator.is_ready().await;
        operator.reconcile_all_twice(&self.scene.namespace).await;
    }

    /// Of four minutes, at the ceiling and before it. The oldest is as old as one can be that has just come from a spool.
    async fn incident(&self, name: &str) -> Incident {
        let at = |minutes: i64| Timestamp::now() - CEILING + SignedDuration::from_mins(minutes);
        let record = |at| self.bucket.record(CAMERA, at);
        let old = record(at(0) - SignedDuration::from_secs(20)).await;
        let young = [record(at(180)).await, record(at(240)).await];
        let neighbour = record(at(360)).await;
        for key in [&young[1], &old] {
            self.bucket.hide(key).await;
        }
        Incident { name: name.into(), window: [at(-60), at(300)], young: young.into(), old, neighbour }
    }

    /// Starts what leads to `condition`, kills the operator after `number` requests, and sees the next one finish. Whether
    /// there were so many.
    async fn killed(&mut self, after: After, number: usize, incident: &Incident, condition: &str) -> bool {
        self.wait_until_idle().await;
        let maker = &self.scene.bucket.server.bucket_maker().access_key;
        let cut = match after {
            After::Storage => {
                let maker = maker.clone();
                let is_own = move |parts: &Parts| access_key(parts).as_ref() == Some(&maker);
                self.store.cut_after(number, is_own)
            }
            After::Writes => self.cluster.cut_after(number, is_write),
        };
        match condition {
            "Placed" => {
                let [from, until] = incident.window;
                self.scene.declare(&incident.name, &[CAMERA], from, Some(until)).await;
            }
            _ => self.scene.resolve(&incident.name).await,
        }
        let killed_after = tokio::select! {
            biased;
            seen = cut => Some(seen.unwrap()),
            () = self.scene.wait_for_hold(&incident.name, condition, "True", HANG) => None,
        };
        let Some(seen) = killed_after else {
            self.store.mend();
            self.cluster.mend();
            println!("{after:?} {condition}: fewer than {number}");
            return false;
        };
        self.kill().await;
        println!("{after:?} {condition}, killed after {number}: {} {}", seen.method, seen.path_and_query);
        for key in &incident.young {
            assert!(!self.bucket.versions(key).await.is_empty(), "{key} is lost");
        }
        self.start().await;
        self.scene.wait_for_hold(&incident.name, condition, "True", HANG).await;
        true
    }

    /// Places and releases, killed in both after `number` requests. Whether there were so many in either.
    async fn round(&mut self, after: After, number: usize) -> bool {
        let name = format!("{}-{number}", format!("{after:?}").to_lowercase());
        let incident = self.incident(&name).await;
        let placing = self.killed(after, number, &incident, "Placed").await;
        for key in incident.young.iter().chain([&incident.old]) {
            assert_eq!(self.bucket.marks(key).await, Some((true, "held".into())), "{key}");
            assert_eq!(self.bucket.versions(key).await.len(), 1, "{key} and no marker");
        }
        assert_eq!(self.bucket.marks(&incident.neighbour).await, Some((false, "video".into())));

        let manifest = format!("ledger/manifests/{name}/");
        // The manifest is written after the report: a loss is told before the manifest forgets it.
        eventually("the manifest is there", HANG, || async {
            let is_there = !self.bucket.versions(&manifest).await.is_empty();
            is_there.then_some(()).ok_or_else(|| manifest.clone())
        })
        .await;
        assert!(self.ledger().await.iter().all(LedgerEntry::is_open));

        let releasing = self.killed(after, number, &incident, "Released").await;
        for key in incident.young.iter().chain([&incident.neighbour]) {
            assert_eq!(self.bucket.marks(key).await, Some((false, "video".into())), "{key}");
            assert_eq!(self.bucket.versions(key).await.len(), 1, "{key} and no marker");
        }
        assert!(self.bucket.versions(&incident.old).await.is_empty(), "{} is left", incident.old);
        assert!(self.bucket.versions(&manifest).await.is_empty(), "{manifest} is left");
        let ledger = self.ledger().await;
        assert!(ledger.is_empty(), "{ledger:?}");
        assert!(!self.bucket.versions("ledger/closed/").await.is_empty());

        let holds = self.scene.namespace.api::<IncidentHold>();
        holds.delete(&name, &DeleteParams::default()).await.unwrap();
        eventually("a resolved hold goes", HANG, || async {
            let hold = holds.get_opt(&name).await.map_err(|e| e.to_string())?;
            hold.map_or(Ok(()), |hold| Err(format!("{:?}", hold.status)))
        })
        .await;
        // The next round asks for no more than this one.
        self.wait_until_idle().await;
        for prefix in
            ["ledger/holds/", "ledger/closed/", &incident.neighbour, &incident.young[0], &incident.young[1]]
        {
            self.bucket.remove(prefix).await;
        }
        placing || releasing
    }

    async fn ledger(&self) -> Vec<LedgerEntry> {
        let entries = ledger::read_all(&connect(&self.bucket.operator), &BTreeSet::new()).await;
        entries.unwrap().into_values().collect()
    }
}

fn is_write(parts: &Parts) -> bool {
    parts.method != "GET" && !parts.uri.path().contains("/leases/")
}

/// The cluster over plain HTTP, on this machine alone, until it is dropped.
async fn gateway() -> (Child, String) {
    let port = free_port();
    let child = Command::new("kubectl")
        .args(["proxy", &format!("--port={port}")])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let url = format!("http://127.0.0.1:{port}");
    eventually("kubectl proxy answers", HANG, || async {
        let answer = reqwest::get(format!("{url}/readyz")).await;
        answer.map(|_| ()).map_err(|e| e.to_string())
    })
    .await;
    (child, url)
}

fn through(endpoint: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "test",
        "clusters": [{"name": "test", "cluster": {"server": endpoint}}],
        "users": [{"name": "test", "user": {}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
    })
}

/// How many requests further each time; 1: each has its turn, which takes a quarter of an hour.
fn stride() -> usize {
    let every = std::env::var("TOEZICHT_TEST_KILL_EVERY");
    every.map_or(23, |every| every.parse().expect("TOEZICHT_TEST_KILL_EVERY: a number"))
}

async fn check_crash_recovery(prefix: &str, server: S3Server, ports: [u16; 2]) {
    with_chart_scaled_down(prefix, async move |namespace| {
        let mut line = Line::new(namespace, server, ports).await;
        for after in [After::Storage, After::Writes] {
            let mut number = 1;
            while line.round(after, number).await {
                number += stride();
            }
            assert!(number > 1, "{after:?}: none was killed");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn next_operator_finishes_after_crash() {
    check_crash_recovery("killed-first", S3Server::first(), [28341, 28342]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ceph_next_operator_finishes_after_crash() {
    check_crash_recovery("killed-second", S3Server::second(), [28343, 28344]).await;
}
