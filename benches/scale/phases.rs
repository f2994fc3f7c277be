//! The phases of the benchmark, in order.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use toezicht::api::{Camera, IncidentHold};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::Args;
use crate::api_server::RequestCounts;
use crate::objects::{Cluster, camera_name, site_key, stream_url};
use crate::operator::Process;
use crate::recorders::{Recorders, Simulated};
use crate::report::{Convergence, Figures, FirstStart, HoldPath, Rest};
use crate::support::scene::has;
use crate::support::settings::setting;
use crate::support::tools::run as run_tool;

const EDITS: usize = 20;
const HOLDS: usize = 5;
const DEAD_SITES: usize = 64;
/// Reconciles of one store that the operator runs at the same time.
const HANGING_RECONCILES: usize = 16;
const POLL_INTERVAL: Duration = Duration::from_millis(20);
const PROGRESS_INTERVAL: Duration = Duration::from_secs(15);
/// Period without writes other than refreshes of statuses after which the operator is at rest.
const QUIET_PERIOD: Duration = Duration::from_secs(20);
const MAX_WAIT_FOR_QUIET: Duration = Duration::from_mins(10);

pub async fn run(args: Args) {
    let bench = Bench::set_up(args).await;
    // In two halves, to see how time and memory grow.
    let half = args.sites / 2;
    let first = [bench.first_start(0, half).await, bench.first_start(half, args.sites - half).await];

    let (children, kubectl_seconds) = bench.time_kubectl().await;
    bench.delete_children().await;
    let begun = Instant::now();
    let operator = bench.start_operator().await;
    let again = bench.converge("children alone", begun, args.sites, &operator).await;
    let rest = bench.rest(&operator).await;
    let edits = bench.time_edits().await;
    let holds = bench.time_holds().await;
    let memory = operator.memory();
    operator.stop().await;
    Figures { args, first, children, kubectl_seconds, again, rest, edits, holds, memory }.write();
}

struct Bench {
    args: Args,
    cluster: Cluster,
    recorders: Recorders,
    dead: DeadStore,
}

impl Bench {
    async fn set_up(args: Args) -> Self {
        let cluster = Cluster::connect().await;
        cluster.install().await;
        let recorders = Recorders::start(&cluster.client).await;
        Self { args, cluster, recorders, dead: DeadStore::start().await }
    }

    /// Creates the Sites from `from` on, and starts the operator until they and all before them record.
    async fn first_start(&self, from: usize, sites: usize) -> FirstStart {
        let begun = Instant::now();
        let cameras_per_site = self.args.cameras / self.args.sites;
        self.cluster.create_sites(from, sites, cameras_per_site, self.cluster.endpoint()).await;
        progress(&format!("{sites} Sites created in {:.0} s", begun.elapsed().as_secs_f64()));
        let begun = Instant::now();
        let operator = self.start_operator().await;
        let all = from + sites;
        let converged = self.converge("from nothing, with buckets", begun, all, &operator).await;
        let memory = operator.memory();
        operator.stop().await;
        self.recorders.lock().acknowledged.clear();
        FirstStart { sites: all, converged, memory }
    }

    async fn start_operator(&self) -> Process {
        let endpoints = [self.cluster.endpoint(), &self.dead.endpoint];
        let config: Value = json!({
            "recorderImage": "none",
            "grants": [{"namespaces": ["*"], "endpoints": endpoints, "buckets": ["tz-*"], "plainHttp": true}],
        });
        Process::start(&self.cluster.client, &config).await
    }

    /// Waits until `sites` Sites have all children, and until all recorders were queried and all statuses say so.
    async fn converge(&self, what: &str, begun: Instant, sites: usize, operator: &Process) -> Convergence {
        let requests = RequestCounts::read(&self.cluster.client).await;
        let cameras = self.args.cameras / self.args.sites * sites;
        let children_seconds =
            self.wait_for(what, begun, |all| (all.workloads.len() == sites).then_some(())).await;
        let processor_seconds = operator.processor_seconds();
        let is_recording = |all: &Simulated| {
            let is_complete = all.acknowledged.len() == sites
                && all.recording_sites.len() == sites
                && all.recording_cameras.len() == cameras;
            is_complete.then_some(())
        };
        let recording_seconds = self.wait_for(what, begun, is_recording).await;
        let requests = RequestCounts::read(&self.cluster.client).await.since(&requests);
        progress(&format!("{what}: children {children_seconds:.1} s, recording {recording_seconds:.1} s"));
        println!("  {} requests: {}", requests.total(), requests.describe());
        Convergence { children_seconds, processor_seconds, recording_seconds, requests }
    }

    async fn wait_for(&self, what: &str, begun: Instant, find: impl Fn(&Simulated) -> Option<()>) -> f64 {
        let found = self.recorders.wait_for(find);
        tokio::pin!(found);
        while tokio::time::timeout(PROGRESS_INTERVAL, &mut found).await.is_err() {
            let all = self.recorders.lock();
            let (workloads, sites) = (all.workloads.len(), all.recording_sites.len());
            let (asked, cameras) = (all.acknowledged.len(), all.recording_cameras.len());
            drop(all);
            progress(&format!(
                "{what}: {:.0} s, {workloads} StatefulSets, {asked} recorders queried, {sites} Sites and {cameras} Cameras record",
                begun.elapsed().as_secs_f64()
            ));
        }
        begun.elapsed().as_secs_f64()
    }

    /// Deletes the children and lets `kubectl apply --server-side` create them again. Returns their number and the seconds.
    async fn time_kubectl(&self) -> (usize, f64) {
        let (file, children) = self.cluster.export_children().await;
        self.delete_children().await;
        let kubeconfig = setting("TOEZICHT_TEST_KUBECONFIG_NEWEST");
        let file = file.display().to_string();
        let apply = ["--kubeconfig", &kubeconfig, "apply", "--server-side", "-f", &file];
        let begun = Instant::now();
        run_tool("kubectl", &apply, None).await;
        let seconds = begun.elapsed().as_secs_f64();
        progress(&format!("kubectl apply --server-side of {children} children: {seconds:.1} s"));
        (children, seconds)
    }

    async fn delete_children(&self) {
        let sites = self.args.sites;
        // A pod that is created later would outlive its StatefulSet.
        self.recorders.wait_for(|all| (all.ready_workloads() == sites).then_some(())).await;
        self.cluster.delete_children().await;
        self.recorders.wait_for(|all| all.workloads.is_empty().then_some(())).await;
        self.recorders.lock().acknowledged.clear();
    }

    /// Counts requests and processor time while nothing changes.
    async fn rest(&self, operator: &Process) -> Rest {
        let begun = Instant::now();
        loop {
            let before = RequestCounts::read(&self.cluster.client).await;
            tokio::time::sleep(QUIET_PERIOD).await;
            let new =
                RequestCounts::read(&self.cluster.client).await.since(&before).without("cameras/status");
            progress(&format!("before the rest: {}", new.describe()));
            if new.total() <= 2 + self.args.sites as u64 / 100 || begun.elapsed() > MAX_WAIT_FOR_QUIET {
                break;
            }
        }
        let settled_seconds = begun.elapsed().as_secs_f64();
        let (before, processor) =
            (RequestCounts::read(&self.cluster.client).await, operator.processor_seconds());
        let begun = Instant::now();
        tokio::time::sleep(Duration::from_secs(self.args.rest)).await;
        let requests = RequestCounts::read(&self.cluster.client).await.since(&before);
        let minutes = begun.elapsed().as_secs_f64() / 60.0;
        let cores = (operator.processor_seconds() - processor) / begun.elapsed().as_secs_f64();
        progress(&format!("at rest for {minutes:.1} min: {} ({cores:.2} cores)", requests.describe()));
        operator.scrape().await;
        Rest { settled_seconds, minutes, requests, cores, memory: operator.memory() }
    }

    /// Changes Cameras one by one. Returns the seconds until the recorders' configuration has each change.
    async fn time_edits(&self) -> Vec<f64> {
        let mut seconds = Vec::new();
        for edit in 0..EDITS {
            let number = edit * self.args.sites / EDITS;
            let (site, name) = (site_key(number), camera_name(number, 0));
            let url = stream_url(&name, "edited");
            let patch = json!({"spec": {"stream": {"url": url}}});
            let api = self.cluster.api::<Camera>(&site.0);
            let begun = Instant::now();
            api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
            let has_url = |all: &Simulated| {
                let config = all.config(&site)?;
                config.cameras.iter().any(|camera| camera.source.url.reveal() == url).then_some(())
            };
            self.recorders.wait_for(has_url).await;
            seconds.push(begun.elapsed().as_secs_f64());
        }
        progress(&format!("edits: {seconds:.2?}"));
        seconds
    }

    /// Declares holds while Sites of a store that does not answer are reconciled.
    async fn time_holds(&self) -> Vec<HoldPath> {
        let first = self.args.sites.next_multiple_of(100);
        self.cluster.create_sites(first, DEAD_SITES, 1, &self.dead.endpoint).await;
        let mut open = self.dead.open.clone();
        open.wait_for(|open| *open >= HANGING_RECONCILES).await.unwrap();
        progress("the dead store has all connections that it gets");
        let mut paths = Vec::new();
        for hold in 0..HOLDS {
            let number = (hold * self.args.sites + self.args.sites / 2) / HOLDS;
            let path = self.time_hold(number).await;
            progress(&format!("hold: {path:.2?}"));
            paths.push(path);
        }
        paths
    }

    async fn time_hold(&self, number: usize) -> HoldPath {
        let site = site_key(number);
        let name = format!("incident-{number}");
        let hold = json!({
            "apiVersion": "toezicht.dev/v1alpha1", "kind": "IncidentHold", "metadata": {"name": name},
            "spec": {
                "siteRef": {"name": site.1}, "cameras": [camera_name(number, 0)],
                "window": {"from": Timestamp::now() - SignedDuration::from_hours(1)},
                "purpose": "Theft", "reference": "2026-0412",
            },
        });
        let begun = Instant::now();
        self.cluster.create::<IncidentHold>(&site.0, hold).await;
        let api = self.cluster.api::<IncidentHold>(&site.0);
        let uid = api.get(&name).await.unwrap().uid().unwrap();
        let revision = |all: &Simulated| {
            let config = all.config(&site)?;
            config.holds.contains_key(&uid).then(|| config.revision.clone())
        };
        self.recorders.wait_for(revision).await;
        let configured = begun.elapsed().as_secs_f64();
        let acknowledged =
            |all: &Simulated| (all.acknowledged.get(&site) == Some(&revision(all)?)).then_some(());
        self.recorders.wait_for(acknowledged).await;
        let acknowledged = begun.elapsed().as_secs_f64();
        loop {
            let conditions = api.get(&name).await.unwrap().status.unwrap_or_default().conditions;
            if has(&conditions, "Placed", "True").is_ok() {
                break;
            }
            assert!(begun.elapsed() < Duration::from_mins(2), "{conditions:?}");
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        HoldPath { configured, acknowledged, placed: begun.elapsed().as_secs_f64() }
    }
}

/// A store that accepts connections and never answers.
struct DeadStore {
    endpoint: String,
    /// Number of connections that clients hold open.
    open: watch::Receiver<usize>,
}

impl DeadStore {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let (count, open) = watch::channel(0);
        tokio::spawn(async move {
            loop {
                let (connection, _) = listener.accept().await.unwrap();
                count.send_modify(|open| *open += 1);
                let count = count.clone();
                tokio::spawn(async move {
                    hold_open(connection).await;
                    count.send_modify(|open| *open -= 1);
                });
            }
        });
        Self { endpoint, open }
    }
}

/// Reads until the client closes the connection.
async fn hold_open(mut connection: TcpStream) {
    let _ = tokio::io::copy(&mut connection, &mut tokio::io::sink()).await;
}

fn progress(text: &str) {
    println!("{} {text}", Timestamp::now().strftime("%H:%M:%S"));
}
