//! `toezicht operator` as a child process that tests can freeze, thaw and stop.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};

use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use crate::support::audit;
use crate::support::cluster::{TestNamespace, client};
use crate::support::operator;
use crate::support::port::free_port;
use crate::support::reconciles;
use crate::support::settings::setting;
use crate::support::tools::run;
use crate::support::wait::{HANG, eventually};

/// Name of the Lease, in the test's own namespace.
pub const LEASE: &str = "operator";

/// Returns an operator configuration that grants the store at `endpoint` and its buckets that begin with `tz-`.
pub fn config_for_store(endpoint: &str) -> Value {
    json!({
        "recorderImage": setting("TOEZICHT_TEST_IMAGE"),
        "grants": [{"namespaces": ["*"], "endpoints": [endpoint], "buckets": ["tz-*"], "plainHttp": true}],
    })
}

/// An operator process that watches one namespace.
pub struct Process {
    pub instance: String,
    pub log: PathBuf,
    port: u16,
    child: Child,
    _folder: tempfile::TempDir,
}

impl Process {
    /// Starts a process named `instance` with the example policy's ceilings.
    pub fn start(namespace: &TestNamespace, instance: &str) -> Self {
        Self::with_ceiling(namespace, instance, "28d")
    }

    /// Starts a process with `video` as the ceiling for video.
    pub fn with_ceiling(namespace: &TestNamespace, instance: &str, video: &str) -> Self {
        let config = json!({"recorderImage": "none", "ceilings": {"video": video, "calls": "7d"}});
        Self::with_config(namespace, namespace, instance, config)
    }

    /// Starts a process with this configuration that watches `watched` and has its Lease in `namespace`.
    pub fn with_config(
        namespace: &TestNamespace,
        watched: &TestNamespace,
        instance: &str,
        config: Value,
    ) -> Self {
        Self::with_cluster(&setting("KUBECONFIG"), namespace, watched, instance, config)
    }

    /// Starts a process that connects to the cluster by this kubeconfig.
    pub fn with_cluster(
        kubeconfig: &str,
        namespace: &TestNamespace,
        watched: &TestNamespace,
        instance: &str,
        config: Value,
    ) -> Self {
        let variables = [("KUBECONFIG", kubeconfig)];
        Self::with_variables(&variables, namespace, watched, instance, config)
    }

    /// Starts a process with these environment variables.
    pub fn with_variables(
        variables: &[(&str, &str)],
        namespace: &TestNamespace,
        watched: &TestNamespace,
        instance: &str,
        mut config: Value,
    ) -> Self {
        config["watchNamespaces"] = json!([watched.name]);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("operator.yaml");
        std::fs::write(&path, config.to_string()).unwrap();
        let port = free_port();
        let log = folder.path().join("log");
        let child = Command::new(env!("CARGO_BIN_EXE_toezicht"))
            .args(["operator", "--log-format=text", "--lease-name", LEASE])
            .args(["--lease-namespace", &namespace.name, "--instance", instance])
            .arg(format!("--listen=127.0.0.1:{port}"))
            .arg("--config")
            .arg(&path)
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self { instance: instance.to_owned(), log, port, child, _folder: folder }
    }

    /// Sends a signal, such as `STOP`.
    pub async fn signal(&self, name: &str) {
        let pid = self.child.id().expect("a running process");
        run("sh", &["-c", &format!("kill -{name} {pid}")], None).await;
    }

    /// Returns the local ports of its connections.
    pub fn local_ports(&self) -> BTreeSet<u16> {
        let folder = format!("/proc/{}/fd", self.child.id().expect("a running process"));
        let files = std::fs::read_dir(folder).unwrap().flatten();
        let links = files.filter_map(|file| std::fs::read_link(file.path()).ok());
        let sockets: BTreeSet<String> = links.map(|link| link.display().to_string()).collect();
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let rows = table.lines().skip(1).map(|row| row.split_whitespace().collect::<Vec<_>>());
        // Local address and inode, by proc(5).
        let own = rows.filter(|row| sockets.contains(&format!("socket:[{}]", row[9])));
        own.map(|row| u16::from_str_radix(row[1].rsplit_once(':').unwrap().1, 16).unwrap()).collect()
    }

    /// Sends SIGKILL and waits for the exit.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Waits for the exit and returns its status.
    pub async fn wait_for_exit(&mut self) -> ExitStatus {
        match tokio::time::timeout(HANG, self.child.wait()).await {
            Ok(status) => status.unwrap(),
            Err(_) => panic!("{} still runs after {HANG:?}:\n{}", self.instance, self.log()),
        }
    }

    /// Returns whether the process has exited.
    pub fn has_exited(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Sends SIGTERM and waits until the process has released its Lease, so that the next leader need not wait.
    pub async fn release_lease_and_exit(&mut self, namespace: &TestNamespace) {
        self.signal("TERM").await;
        let ended = self.wait_for_exit().await;
        assert!(ended.success(), "{ended}: {}", self.log());
        assert_eq!(leader(namespace).await.unwrap(), "", "{}", self.log());
    }

    /// Returns the log.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Returns status and body of an HTTP path.
    pub async fn get(&self, path: &str) -> Result<(u16, String), String> {
        let url = format!("http://127.0.0.1:{}{path}", self.port);
        let answer = reqwest::get(url).await.map_err(|e| e.to_string())?;
        Ok((answer.status().as_u16(), answer.text().await.map_err(|e| e.to_string())?))
    }

    /// Returns its metrics.
    pub async fn metrics(&self) -> Result<String, String> {
        Ok(self.get("/metrics").await?.1)
    }

    /// Waits until `/readyz` returns 200.
    pub async fn wait_until_ready(&self) {
        eventually(&format!("{} is ready", self.instance), HANG, || async {
            match self.get("/readyz").await? {
                (200, _) => Ok(()),
                (status, body) => Err(format!("{status} {body}")),
            }
        })
        .await;
    }

    /// Waits until its reconciles of the objects in `namespace` write nothing.
    pub async fn wait_until_in_sync(&self, namespace: &TestNamespace) {
        reconciles::wait_until_in_sync(
            namespace,
            || self.metrics(),
            |event| audit::is_write_of(event, &self.instance),
        )
        .await;
    }

    /// Reconciles all objects in `namespace` twice, so that one reconcile of each began after this call.
    pub async fn reconcile_all_twice(&self, namespace: &TestNamespace) {
        // The first round may count reconciles that were already running.
        for _ in 0..2 {
            reconciles::reconcile_all(namespace, || self.metrics()).await;
        }
    }
}

/// Returns the leader's instance name by the Lease, without the suffix of its process.
pub async fn leader(namespace: &TestNamespace) -> Result<String, String> {
    let lease = namespace.api::<Lease>().get(LEASE).await.map_err(|e| e.to_string())?;
    let holder = lease.spec.and_then(|spec| spec.holder_identity).unwrap_or_default();
    Ok(holder.rsplit_once('_').map(|(instance, _)| instance.to_owned()).unwrap_or_default())
}

/// Waits until `instance` is the leader.
pub async fn wait_for_leader(namespace: &TestNamespace, instance: &str) {
    eventually(&format!("{instance} is the leader"), HANG, || async {
        let leader = leader(namespace).await?;
        if leader == instance { Ok(()) } else { Err(format!("the leader is {leader:?}")) }
    })
    .await;
}

/// Writes the Lease as a leader that released it does. A test may do so if no request of a previous leader can still
/// reach the store. Otherwise the next leader would release no hold for 15 minutes.
pub async fn release_lease(namespace: &TestNamespace) {
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": LEASE},
        "spec": {"holderIdentity": ""},
    });
    let force = PatchParams::apply("toezicht-tests").force();
    let leases = namespace.api::<Lease>();
    leases.patch(LEASE, &force, &Patch::Apply(&lease)).await.unwrap();
}

/// Runs `test` in a namespace of its own while the chart's operator is scaled down. Concurrent tests share the
/// shutdown. The last one ends it, even if a test fails.
pub async fn with_chart_scaled_down<F>(prefix: &str, test: impl FnOnce(TestNamespace) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let shutdown = operator::share_shutdown().await;
    let namespace = TestNamespace::new(&client().await, prefix).await;
    // No operator has run in this namespace yet.
    release_lease(&namespace).await;
    let to_delete = TestNamespace { client: namespace.client.clone(), name: namespace.name.clone() };
    let outcome = tokio::spawn(test(namespace)).await;
    operator::end_shared_shutdown(shutdown).await;
    if let Err(failure) = outcome {
        std::panic::resume_unwind(failure.into_panic());
    }
    to_delete.delete().await;
}
