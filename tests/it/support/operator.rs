//! The operator, installed from its chart as a user would install it.

use std::sync::{Arc, Weak};

use tokio::sync::{Mutex, OnceCell, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::settings::root;
use super::tools::{run, script, try_run};

/// Namespace of the operator.
pub const NAMESPACE: &str = "toezicht-system";
/// Name of the Helm release and of the Deployment.
pub const RELEASE: &str = "toezicht";
const PODS: &str = "app.kubernetes.io/name=toezicht,app.kubernetes.io/component=operator";
const REPLICAS: u32 = 2;

static INSTALLED: OnceCell<()> = OnceCell::const_new();
static OPERATOR_USE: RwLock<()> = RwLock::const_new(());

/// Installs the operator once for all tests of the run. No other test stops it while the guard is held.
pub async fn shared() -> RwLockReadGuard<'static, ()> {
    let guard = OPERATOR_USE.read().await;
    INSTALLED.get_or_init(install).await;
    guard
}

/// Reserves the operator for a test that stops it. No other test uses it while the guard is held.
pub async fn exclusive() -> RwLockWriteGuard<'static, ()> {
    let guard = OPERATOR_USE.write().await;
    INSTALLED.get_or_init(install).await;
    guard
}

/// A shutdown of the chart's operator that several tests share.
pub struct SharedShutdown {
    _guard: RwLockWriteGuard<'static, ()>,
}

static SHARED_SHUTDOWN: Mutex<Weak<SharedShutdown>> = Mutex::const_new(Weak::new());

/// Scales the chart's operator down for tests that run their own operator processes. Concurrent tests share the
/// shutdown.
pub async fn share_shutdown() -> Arc<SharedShutdown> {
    let mut current = SHARED_SHUTDOWN.lock().await;
    if let Some(shutdown) = current.upgrade() {
        return shutdown;
    }
    let shutdown = Arc::new(SharedShutdown { _guard: exclusive().await });
    scale(0).await;
    *current = Arc::downgrade(&shutdown);
    shutdown
}

/// Scales the operator up again, unless another test still shares the shutdown.
pub async fn end_shared_shutdown(shutdown: Arc<SharedShutdown>) {
    if let Some(_last) = Arc::into_inner(shutdown) {
        scale(REPLICAS).await;
    }
}

async fn install() {
    let values = run("python3", &[&script("demo/values.py")], None).await;
    run("kubectl", &["apply", "-f", &script("demo/first.yaml")], None).await;
    let chart = root().join("charts/toezicht").display().to_string();
    run(
        "helm",
        &[
            "upgrade",
            "--install",
            RELEASE,
            &chart,
            "--namespace",
            NAMESPACE,
            "--create-namespace",
            "--values",
            "-",
            "--wait",
            "--timeout",
            "300s",
        ],
        Some(values.as_bytes()),
    )
    .await;
}

/// A shutdown of the operator, ended by [`end`](Shutdown::end) or by dropping it, even if the test panics.
#[must_use]
pub struct Shutdown {
    ended: bool,
}

/// Scales the operator down and waits until the cluster has none of its pods.
pub async fn shut_down() -> Shutdown {
    let shutdown = Shutdown { ended: false };
    scale(0).await;
    let left = run("kubectl", &["-n", NAMESPACE, "get", "pod", "-l", PODS, "-o", "name"], None).await;
    assert!(left.trim().is_empty(), "operator pods that are left: {left}");
    shutdown
}

impl Shutdown {
    /// Scales the operator up again and waits until it is ready.
    pub async fn end(mut self) {
        scale(REPLICAS).await;
        self.ended = true;
    }
}

impl Drop for Shutdown {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        // Drop cannot await. The next test that needs the operator waits for its conditions.
        let (to, name) = (format!("--replicas={REPLICAS}"), format!("deployment/{RELEASE}"));
        let scaled =
            std::process::Command::new("kubectl").args(["-n", NAMESPACE, "scale", &name, &to]).status();
        eprintln!("the operator is scaled back to {REPLICAS}: {scaled:?}");
    }
}

/// Scales the operator's Deployment. With 0 replicas nothing is reconciled, and recorders keep recording.
pub async fn scale(replicas: u32) {
    let to = format!("--replicas={replicas}");
    let name = format!("deployment/{RELEASE}");
    run("kubectl", &["-n", NAMESPACE, "scale", &name, &to], None).await;
    if replicas == 0 {
        run("kubectl", &["-n", NAMESPACE, "wait", "--for=delete", "pod", "-l", PODS, "--timeout=300s"], None)
            .await;
    } else {
        run("kubectl", &["-n", NAMESPACE, "rollout", "status", &name, "--timeout=300s"], None).await;
    }
}

/// Returns the metrics of all running operator pods, concatenated.
pub async fn metrics() -> Result<String, String> {
    let path = "{.items[*].status.podIP}";
    let (ok, addresses, error) = try_run(
        "kubectl",
        &["-n", NAMESPACE, "get", "pod", "-l", PODS, "-o", &format!("jsonpath={path}")],
        None,
    )
    .await;
    if !ok {
        return Err(error);
    }
    let mut metrics = String::new();
    for address in addresses.split_whitespace() {
        let answer = reqwest::get(format!("http://{address}:8080/metrics")).await;
        let text = answer.map_err(|e| e.to_string())?.text().await;
        metrics.push_str(&text.map_err(|e| e.to_string())?);
    }
    Ok(metrics)
}

/// Restarts all operator pods and waits for the new ones.
pub async fn restart() {
    let name = format!("deployment/{RELEASE}");
    run("kubectl", &["-n", NAMESPACE, "rollout", "restart", &name], None).await;
    run("kubectl", &["-n", NAMESPACE, "rollout", "status", &name, "--timeout=300s"], None).await;
}
