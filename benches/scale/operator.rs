//! `toezicht operator` as a child process.

use std::process::Stdio;

use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use crate::support::settings::{root, setting};
use crate::support::tools::run;

/// Name of the Lease, in the namespace `default`.
const LEASE: &str = "bench-scale";
const LISTEN: &str = "127.0.0.1:18080";
/// Clock ticks of a second, by proc(5).
const TICKS: f64 = 100.0;

pub struct Process {
    child: Child,
}

/// Memory of a process in MiB.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    pub now: f64,
    pub peak: f64,
}

impl Process {
    /// Starts a process. Its Lease is free, so that it leads at once.
    pub async fn start(client: &Client, config: &Value) -> Self {
        let folder = root().join("target/benches");
        let file = folder.join("scale-operator.json");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(&file, config.to_string()).unwrap();
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": LEASE},
            "spec": {"holderIdentity": ""},
        });
        let leases = Api::<Lease>::namespaced(client.clone(), "default");
        leases.patch(LEASE, &PatchParams::apply("bench").force(), &Patch::Apply(&lease)).await.unwrap();
        let log = folder.join("scale-operator.log");
        let log = std::fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_toezicht"))
            .args(["operator", "--log-format=text", "--lease-name", LEASE, "--lease-namespace=default"])
            .args(["--instance=bench", "--listen", LISTEN, "--config"])
            .arg(&file)
            .env("KUBECONFIG", setting("TOEZICHT_TEST_KUBECONFIG_NEWEST"))
            // As in the chart.
            .env("MALLOC_ARENA_MAX", "1")
            .stdin(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn();
        Self { child: child.unwrap() }
    }

    /// Ends the process as Kubernetes does.
    pub async fn stop(mut self) {
        run("sh", &["-c", &format!("kill -TERM {}", self.pid())], None).await;
        self.child.wait().await.unwrap();
    }

    /// Reads the metrics, as Prometheus does. That takes memory, too.
    pub async fn scrape(&self) {
        run("curl", &["-sS", "--fail", "-o", "/dev/null", &format!("http://{LISTEN}/metrics")], None).await;
    }

    /// Returns the memory that is resident now, and the most that ever was.
    pub fn memory(&self) -> Memory {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let mib = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
        };
        Memory { now: mib("VmRSS:"), peak: mib("VmHWM:") }
    }

    /// Returns the processor time since the start, in seconds.
    pub fn processor_seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        // The name in parentheses may contain spaces. utime and stime are fields 14 and 15.
        let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split_whitespace().collect();
        fields[11..13].iter().map(|ticks| ticks.parse::<f64>().unwrap()).sum::<f64>() / TICKS
    }

    fn pid(&self) -> u32 {
        self.child.id().expect("a running process")
    }
}
