//! `toezicht operator` as a child process, which can be stopped, thawed and ended.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};

use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use crate::support::audit;
use crate::support::cluster::{TestNamespace, client};
use crate::support::looks;
use crate::support::operator;
use crate::support::port::free_port;
use crate::support::settings::setting;
use crate::support::tools::run;
use crate::support::wait::{HANG, eventually};

/// Name of the Lease, in the test's own namespace.
pub const LEASE: &str = "operator";

/// What an operator needs to record, allowed the store at `endpoint` and buckets of it that begin with `tz-`.
pub fn config_for_store(endpoint: &str) -> Value {
    json!({
        "recorderImage": setting("TOEZICHT_TEST_IMAGE"),
        "grants": [{"namespaces": ["*"], "endpoints": [endpoint], "buckets": ["tz-*"], "plainHttp": true}],
    })
}

/// One operator process, which looks after one namespace.
pub struct Process {
    pub instance: String,
    pub log: PathBuf,
    port: u16,
    child: Child,
    _folder: tempfile::TempDir,
}

impl Process {
    /// Starts one that calls itself `instance`, with the protocol's ceilings.
    pub fn start(namespace: &TestNamespace, instance: &str) -> Self {
        Self::with_ceiling(namespace, instance, "28d")
    }

    /// Starts one whose cluster allows video to be kept for `video`.
    pub fn with_ceiling(namespace: &TestNamespace, instance: &str, video: &str) -> Self {
        let config = json!({"recorderImage": "none", "ceilings": {"video": video, "calls": "7d"}});
        Self::with_config(namespace, namespace, instance, config)
    }

    /// Starts one with this configuration that looks after `watched` and has its Lease in `namespace`.
    pub fn with_config(
        namespace: &TestNamespace,
        watched: &TestNamespace,
        instance: &str,
        config: Value,
    ) -> Self {
        Self::with_cluster(&setting("KUBECONFIG"), namespace, watched, instance, config)
    }

    /// Starts one that reaches the cluster as this kubeconfig says.
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

    /// Starts one with these variables in its environment.
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
        let pid = self.child.id().expect("it runs");
        run("sh", &["-c", &format!("kill -{name} {pid}")], None).await;
    }

    /// The ports of this machine that its connections go out from.
    pub fn ports(&self) -> BTreeSet<u16> {
        let folder = format!("/proc/{}/fd", self.child.id().expect("it runs"));
        let files = std::fs::read_dir(folder).unwrap().flatten();
        let links = files.filter_map(|file| std::fs::read_link(file.path()).ok());
        let sockets: BTreeSet<String> = links.map(|link| link.display().to_string()).collect();
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let rows = table.lines().skip(1).map(|row| row.split_whitespace().collect::<Vec<_>>());
        // Local address and inode, as proc(5) has them.
        let own = rows.filter(|row| sockets.contains(&format!("socket:[{}]", row[9])));
        own.map(|row| u16::from_str_radix(row[1].rsplit_once(':').unwrap().1, 16).unwrap()).collect()
    }

    /// SIGKILL.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Waits until it ends.
    pub async fn ends(&mut self) -> ExitStatus {
        match tokio::time::timeout(HANG, self.child.wait()).await {
            Ok(status) => status.unwrap(),
            Err(_) => panic!("{} still runs after {HANG:?}:\n{}", self.instance, self.said()),
        }
    }

    /// Asks it to end, and waits until it has let go of its Lease: so the next one may do all at once.
    pub async fn lets_go(&mut self, namespace: &TestNamespace) {
        self.signal("TERM").await;
        let ended = self.ends().await;
        assert!(ended.success(), "{ended}: {}", self.said());
        assert_eq!(leader(namespace).await.unwrap(), "", "{}", self.said());
    }

    /// What it logged.
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Status and body of one of its paths.
    pub async fn get(&self, path: &str) -> Result<(u16, String), String> {
        let url = format!("http://127.0.0.1:{}{path}", self.port);
        let answer = reqwest::get(url).await.map_err(|e| e.to_string())?;
        Ok((answer.status().as_u16(), answer.text().await.map_err(|e| e.to_string())?))
    }

    /// What it counts.
    pub async fn metrics(&self) -> Result<String, String> {
        Ok(self.get("/metrics").await?.1)
    }

    /// Waits until `/readyz` says so.
    pub async fn is_ready(&self) {
        eventually(&format!("{} is ready", self.instance), HANG, || async {
            match self.get("/readyz").await? {
                (200, _) => Ok(()),
                (status, body) => Err(format!("{status} {body}")),
            }
        })
        .await;
    }

    /// Waits until it writes nothing any more when it looks at what is in `namespace`.
    pub async fn wait_until_in_sync(&self, namespace: &TestNamespace) {
        looks::wait_until_in_sync(
            namespace,
            || self.metrics(),
            |event| audit::is_write_of(event, &self.instance),
        )
        .await;
    }

    /// Waits until it has looked at all that is in `namespace`, after this was called.
    pub async fn reconcile_all_twice(&self, namespace: &TestNamespace) {
        // At any of them it may just have been looking.
        for _ in 0..2 {
            looks::reconcile_all(namespace, || self.metrics()).await;
        }
    }
}

/// Who leads, by the Lease: the instance's name, without what tells its processes apart.
pub async fn leader(namespace: &TestNamespace) -> Result<String, String> {
    let lease = namespace.api::<Lease>().get(LEASE).await.map_err(|e| e.to_string())?;
    let holder = lease.spec.and_then(|spec| spec.holder_identity).unwrap_or_default();
    Ok(holder.rsplit_once('_').map(|(instance, _)| instance.to_owned()).unwrap_or_default())
}

/// Waits until `instance` leads.
pub async fn leads(namespace: &TestNamespace, instance: &str) {
    eventually(&format!("{instance} leads"), HANG, || async {
        let leader = leader(namespace).await?;
        if leader == instance { Ok(()) } else { Err(format!("{leader:?} leads")) }
    })
    .await;
}

/// Writes the Lease as a leader leaves it that has let go: what a test may say where no request of a leader can still land.
/// Without it the next leader would release nothing for a quarter of an hour.
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

/// Runs `test` in a namespace of its own while the operator of the chart is away, as others like it do at the same time;
/// it is brought back after the last of them, whatever happens.
pub async fn with_chart_scaled_down<F>(prefix: &str, test: impl FnOnce(TestNamespace) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let gone = operator::gone().await;
    let namespace = TestNamespace::new(&client().await, prefix).await;
    // No operator was ever there.
    release_lease(&namespace).await;
    let kept = TestNamespace { client: namespace.client.clone(), name: namespace.name.clone() };
    let outcome = tokio::spawn(test(namespace)).await;
    operator::end_shared_shutdown(gone).await;
    if let Err(failed) = outcome {
        std::panic::resume_unwind(failed.into_panic());
    }
    kept.delete().await;
}
