//! The operator is killed after each request to the store, and each write to the API server, of a placing and of a
//! releasing, each in its turn: the next one finishes what was begun, with nothing lost and nothing left.

use std::process::Stdio;
use std::time::{Duration, Instant};

use axum::http::request::Parts;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use tempfile::TempDir;
use toezicht::api::IncidentHold;
use toezicht::contract::StorageTarget;
use toezicht::storage::ledger::{self, Entry};
use tokio::process::{Child, Command};

use super::process::{LEASE, Process, leads, without_the_chart};
use crate::storage::scene::{client, marks, record, target, versions};
use crate::support::cluster::TestNamespace;
use crate::support::port::free_port;
use crate::support::proxy::{Proxy, access_key};
use crate::support::scene::{SITE, Scene, has};
use crate::support::settings::{S3Server, setting};
use crate::support::wait::eventually;

const SOON: Duration = Duration::from_secs(60);
/// So long without a request to the store, the operator is at rest.
const REST: Duration = Duration::from_millis(700);
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
    s3: aws_sdk_s3::Client,
    recorder: StorageTarget,
    _gateway: Child,
    _folder: TempDir,
}

impl Line {
    async fn new(namespace: TestNamespace, server: S3Server, ports: [u16; 2]) -> Self {
        let store = Proxy::start(&server.endpoint, ports[0]).await;
        let config = json!({
            "recorderImage": setting("TOEZICHT_TEST_IMAGE"),
            "grants": [{"namespaces": ["*"], "endpoints": [store.endpoint], "buckets": ["tz-*"], "plainHttp": true}],
        });
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
            s3: client(&server, server.bucket_maker()),
            recorder: target(&server, server.identity("recorder"), &scene.bucket.name),
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
        line.scene.camera_is(CAMERA, "Recording", "True", SOON).await;
        line.scene.is_settled(SOON).await;
        line
    }

    async fn start(&mut self) {
        let namespace = &self.scene.namespace;
        let config = self.config.clone();
        let operator = Process::with_cluster(&self.kubeconfig, namespace, namespace, "killed", config);
        leads(namespace, "killed", SOON).await;
        self.operator = Some(operator);
    }

    /// SIGKILL, and the Lease goes with it: else every release would wait until no request of the dead one can land any
    /// more, as those of this test do not.
    async fn kill(&mut self) {
        self.operator.take().unwrap().kill().await;
        let leases = self.scene.namespace.api::<Lease>();
        leases.delete(LEASE, &DeleteParams::default()).await.unwrap();
        self.store.mend();
        self.cluster.mend();
    }

    /// Waits until the operator does nothing at the store for a while. Recorders go on.
    async fn is_at_rest(&self) {
        self.operator.as_ref().unwrap().is_ready().await;
        let maker = &self.scene.bucket.server.bucket_maker().access_key;
        let mut last = Instant::now();
        eventually("the operator is at rest", SOON, || {
            let requests = self.store.take();
            if requests
                .iter()
                .any(|seen| seen.access_key.as_ref() == Some(maker))
            {
                last = Instant::now();
            }
            let rest = last.elapsed();
            async move { (rest > REST).then_some(()).ok_or_else(|| format!("{rest:?}")) }
        })
        .await;
    }

    /// Of four minutes, at the ceiling and before it. The oldest is as old as one can be that has just come from a spool.
    async fn incident(&self, name: &str) -> Incident {
        let at = |minutes: i64| Timestamp::now() - CEILING + SignedDuration::from_mins(minutes);
        let record = |at| record(&self.recorder, CAMERA, at);
        let old = record(at(0) - SignedDuration::from_secs(20)).await;
        let young = [record(at(180)).await, record(at(240)).await];
        let neighbour = record(at(360)).await;
        for key in [&young[1], &old] {
            let request = self.s3.delete_object().bucket(self.bucket()).key(key);
            assert_eq!(request.send().await.unwrap().delete_marker(), Some(true));
        }
        Incident {
            name: name.into(),
            window: [at(-60), at(300)],
            young: young.into(),
            old,
            neighbour,
        }
    }

    async fn declare(&self, incident: &Incident) {
        let [from, until] = incident.window;
        let hold = json!({
            "apiVersion": "toezicht.dev/v1alpha1", "kind": "IncidentHold", "metadata": {"name": incident.name},
            "spec": {
                "siteRef": {"name": SITE}, "cameras": [CAMERA], "window": {"from": from, "until": until},
                "purpose": "Theft", "reference": "2026-0412",
            },
        });
        self.scene.create::<IncidentHold>(hold).await;
    }

    async fn resolve(&self, incident: &Incident) {
        let at = Timestamp::now() - SignedDuration::from_secs(1);
        let patch = json!({"spec": {"state": "Resolved", "resolution": {"at": at, "by": "Gemeentesecretaris", "outcome": "Closed"}}});
        let holds = self.scene.namespace.api::<IncidentHold>();
        let params = PatchParams::default();
        holds
            .patch(&incident.name, &params, &Patch::Merge(&patch))
            .await
            .unwrap();
    }

    async fn hold_is(&self, incident: &Incident, condition: &str) {
        let holds = self.scene.namespace.api::<IncidentHold>();
        eventually(&format!("{} {condition}=True", incident.name), SOON, || async {
            let hold = holds.get(&incident.name).await.map_err(|e| e.to_string())?;
            has(&hold.status.unwrap_or_default().conditions, condition, "True")
        })
        .await;
    }

    /// Starts what leads to `condition`, kills the operator after `number` requests, and sees the next one finish. Whether
    /// there were so many.
    async fn killed(&mut self, after: After, number: usize, incident: &Incident, condition: &str) -> bool {
        self.is_at_rest().await;
        let maker = &self.scene.bucket.server.bucket_maker().access_key;
        let cut = match after {
            After::Storage => self.store.cut_after(number, is_signed_by, maker),
            After::Writes => self.cluster.cut_after(number, is_write, ""),
        };
        match condition {
            "Placed" => self.declare(incident).await,
            _ => self.resolve(incident).await,
        }
        let killed_after = tokio::select! {
            biased;
            seen = cut => Some(seen.unwrap()),
            () = self.hold_is(incident, condition) => None,
        };
        let Some(seen) = killed_after else {
            self.store.mend();
            self.cluster.mend();
            println!("{after:?} {condition}: fewer than {number}");
            return false;
        };
        self.kill().await;
        println!(
            "{after:?} {condition}, killed after {number}: {} {}",
            seen.method, seen.path_and_query
        );
        for key in &incident.young {
            assert!(!self.versions(key).await.is_empty(), "{key} is lost");
        }
        self.start().await;
        self.hold_is(incident, condition).await;
        true
    }

    /// Places and releases, killed in both after `number` requests. Whether there were so many in either.
    async fn round(&mut self, after: After, number: usize) -> bool {
        let name = format!("{}-{number}", format!("{after:?}").to_lowercase());
        let incident = self.incident(&name).await;
        let placing = self.killed(after, number, &incident, "Placed").await;
        for key in incident.young.iter().chain([&incident.old]) {
            assert_eq!(self.marks(key).await, Some((true, "held".into())), "{key}");
            assert_eq!(self.versions(key).await.len(), 1, "{key} and no marker");
        }
        assert_eq!(
            self.marks(&incident.neighbour).await,
            Some((false, "video".into()))
        );

        let manifest = format!("ledger/manifests/{name}/");
        assert!(
            !self.versions(&manifest).await.is_empty(),
            "{manifest} is not there"
        );
        assert!(self.ledger().await.iter().all(Entry::is_open));

        let releasing = self.killed(after, number, &incident, "Released").await;
        for key in incident.young.iter().chain([&incident.neighbour]) {
            assert_eq!(self.marks(key).await, Some((false, "video".into())), "{key}");
            assert_eq!(self.versions(key).await.len(), 1, "{key} and no marker");
        }
        assert!(
            self.versions(&incident.old).await.is_empty(),
            "{} is left",
            incident.old
        );
        assert!(self.versions(&manifest).await.is_empty(), "{manifest} is left");
        let ledger = self.ledger().await;
        assert!(ledger.len() == 1 && !ledger[0].is_open(), "{ledger:?}");

        let holds = self.scene.namespace.api::<IncidentHold>();
        holds.delete(&name, &DeleteParams::default()).await.unwrap();
        eventually("a resolved hold goes", SOON, || async {
            let hold = holds.get_opt(&name).await.map_err(|e| e.to_string())?;
            hold.map_or(Ok(()), |hold| Err(format!("{:?}", hold.status)))
        })
        .await;
        // The next round asks for no more than this one.
        self.is_at_rest().await;
        for prefix in [
            "ledger/holds/",
            &incident.neighbour,
            &incident.young[0],
            &incident.young[1],
        ] {
            for (key, version) in self.versions(prefix).await {
                let request = self.s3.delete_object().bucket(self.bucket()).key(key);
                request.version_id(version).send().await.unwrap();
            }
        }
        placing || releasing
    }

    async fn ledger(&self) -> Vec<Entry> {
        let server = &self.scene.bucket.server;
        let operator = target(server, server.bucket_maker(), self.bucket());
        ledger::read_all(&operator).await.unwrap().into_values().collect()
    }

    fn bucket(&self) -> &str {
        &self.scene.bucket.name
    }

    async fn marks(&self, key: &str) -> Option<(bool, String)> {
        marks(&self.s3, self.bucket(), key).await
    }

    /// All versions and delete markers under a prefix: key and version.
    async fn versions(&self, prefix: &str) -> Vec<(String, String)> {
        versions(&self.s3, self.bucket(), prefix).await
    }
}

fn is_signed_by(parts: &Parts, key: &str) -> bool {
    access_key(parts).is_some_and(|signed| signed == key)
}

fn is_write(parts: &Parts, _: &str) -> bool {
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
    eventually("kubectl proxy answers", SOON, || async {
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
    every.map_or(23, |every| {
        every.parse().expect("TOEZICHT_TEST_KILL_EVERY: a number")
    })
}

async fn the_next_finishes(prefix: &str, server: S3Server, ports: [u16; 2]) {
    without_the_chart(prefix, async move |namespace| {
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
async fn killed_it_is_finished_by_the_next() {
    the_next_finishes("killed-first", S3Server::first(), [28341, 28342]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ceph_killed_it_is_finished_by_the_next() {
    the_next_finishes("killed-second", S3Server::second(), [28343, 28344]).await;
}
