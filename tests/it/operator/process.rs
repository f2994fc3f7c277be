//! `toezicht operator` as a child process, which can be stopped, thawed and ended.

use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use crate::support::cluster::{TestNamespace, client};
use crate::support::operator;
use crate::support::port::free_port;
use crate::support::settings::setting;
use crate::support::tools::run;
use crate::support::wait::eventually;

/// Name of the Lease, in the test's own namespace.
pub const LEASE: &str = "operator";

/// What an operator needs to record, allowed the store at `endpoint` and buckets of it that begin with `tz-`.
pub fn recording_at(endpoint: &str) -> Value {
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
            .args(["--namespace", &namespace.name, "--instance", instance])
            .arg(format!("--listen=127.0.0.1:{port}"))
            .arg("--config")
            .arg(&path)
            .env("KUBECONFIG", kubeconfig)
            .stdin(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self {
            instance: instance.to_owned(),
            log,
            port,
            child,
            _folder: folder,
        }
    }

    /// Sends a signal, such as `STOP`.
    pub async fn signal(&self, name: &str) {
        let pid = self.child.id().expect("it runs");
        run("sh", &["-c", &format!("kill -{name} {pid}")], None).await;
    }

    /// SIGKILL.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Waits until it ends by itself.
    pub async fn ends(&mut self, limit: Duration) -> ExitStatus {
        match tokio::time::timeout(limit, self.child.wait()).await {
            Ok(status) => status.unwrap(),
            Err(_) => panic!("{} still runs after {limit:?}:\n{}", self.instance, self.said()),
        }
    }

    /// What it logged.
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Status and body of one of its paths.
    pub async fn get(&self, path: &str) -> Result<(u16, String), String> {
        let url = format!("http://127.0.0.1:{}{path}", self.port);
        let answer = reqwest::get(url).await.map_err(|e| e.to_string())?;
        Ok((
            answer.status().as_u16(),
            answer.text().await.map_err(|e| e.to_string())?,
        ))
    }

    /// Waits until `/readyz` says so.
    pub async fn is_ready(&self) {
        eventually(
            &format!("{} is ready", self.instance),
            Duration::from_secs(30),
            || async {
                match self.get("/readyz").await? {
                    (200, _) => Ok(()),
                    (status, body) => Err(format!("{status} {body}")),
                }
            },
        )
        .await;
    }
}

/// Who leads, by the Lease: the instance's name, without what tells its processes apart.
pub async fn leader(namespace: &TestNamespace) -> Result<String, String> {
    let lease = namespace
        .api::<Lease>()
        .get(LEASE)
        .await
        .map_err(|e| e.to_string())?;
    let holder = lease
        .spec
        .and_then(|spec| spec.holder_identity)
        .unwrap_or_default();
    Ok(holder
        .rsplit_once('_')
        .map(|(instance, _)| instance.to_owned())
        .unwrap_or_default())
}

/// Waits until `instance` leads; how long it took.
pub async fn leads(namespace: &TestNamespace, instance: &str, limit: Duration) -> Duration {
    let start = Instant::now();
    eventually(&format!("{instance} leads"), limit, || async {
        let leader = leader(namespace).await?;
        if leader == instance {
            Ok(())
        } else {
            Err(format!("{leader:?} leads"))
        }
    })
    .await;
    start.elapsed()
}

/// How long the audit log is.
pub fn audit_length() -> usize {
    std::fs::read_to_string(setting("TOEZICHT_TEST_AUDIT_LOG"))
        .unwrap()
        .lines()
        .count()
}

/// Writes of the process `instance` that took effect, since line `from` of the audit log. Its identity is
/// part of its user agent.
pub fn writes_of(instance: &str, from: usize) -> Vec<String> {
    let log = std::fs::read_to_string(setting("TOEZICHT_TEST_AUDIT_LOG")).unwrap();
    let agent = format!(" {instance}_");
    log.lines()
        .skip(from)
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|event| {
            event["userAgent"]
                .as_str()
                .is_some_and(|name| name.contains(&agent))
        })
        .filter(|event| {
            event["responseStatus"]["code"]
                .as_u64()
                .is_some_and(|code| code < 300)
        })
        .map(|event| {
            format!(
                "{} {} {}",
                event["requestReceivedTimestamp"], event["verb"], event["objectRef"]
            )
        })
        .collect()
}

/// The same, but for its Lease.
pub fn written(instance: &str, from: usize) -> Vec<String> {
    let mut writes = writes_of(instance, from);
    writes.retain(|write| !write.contains("leases"));
    writes
}

/// Whether it wrote nothing since line `from` of the audit log; else what it wrote.
pub fn wrote_nothing(instance: &str, from: usize) -> Result<(), String> {
    let writes = written(instance, from);
    writes
        .is_empty()
        .then_some(())
        .ok_or_else(|| format!("{writes:#?}"))
}

/// Waits until `instance` writes nothing for a second: a look that was waiting meanwhile may still say what was said just
/// now.
pub async fn all_is_written(instance: &str) {
    let limit = Duration::from_secs(60);
    eventually("what is to be written is written", limit, || async {
        let before = audit_length();
        tokio::time::sleep(Duration::from_secs(1)).await;
        wrote_nothing(instance, before)
    })
    .await;
}

/// Runs `test` in a namespace of its own while the operator of the chart is away, as others like it do at the same time;
/// it is brought back after the last of them, whatever happens.
pub async fn without_the_chart<F>(prefix: &str, test: impl FnOnce(TestNamespace) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let gone = operator::gone().await;
    let namespace = TestNamespace::new(&client().await, prefix).await;
    let kept = TestNamespace {
        client: namespace.client.clone(),
        name: namespace.name.clone(),
    };
    let outcome = tokio::spawn(test(namespace)).await;
    operator::may_return(gone).await;
    if let Err(failed) = outcome {
        std::panic::resume_unwind(failed.into_panic());
    }
    kept.delete().await;
}
