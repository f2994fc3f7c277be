//! The operator, installed by its chart as a user would.

use std::sync::{Arc, Weak};

use tokio::sync::{Mutex, OnceCell, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::settings::root;
use super::tools::{run, script, try_run};

/// Where the chart puts it.
pub const NAMESPACE: &str = "toezicht-system";
/// The release's and the Deployment's name.
pub const RELEASE: &str = "toezicht";
const PODS: &str = "app.kubernetes.io/name=toezicht,app.kubernetes.io/component=operator";
const REPLICAS: u32 = 2;

static INSTALLED: OnceCell<()> = OnceCell::const_new();
static STAGE: RwLock<()> = RwLock::const_new(());

/// The operator, installed once for all tests of the run; nobody stops it while this is held.
pub async fn present() -> RwLockReadGuard<'static, ()> {
    let guard = STAGE.read().await;
    INSTALLED.get_or_init(install).await;
    guard
}

/// The operator for a test that stops it: no other test needs it while this is held.
pub async fn alone() -> RwLockWriteGuard<'static, ()> {
    let guard = STAGE.write().await;
    INSTALLED.get_or_init(install).await;
    guard
}

/// No operator of the chart, for as long as this is held.
pub struct Gone {
    _alone: RwLockWriteGuard<'static, ()>,
}

static GONE: Mutex<Weak<Gone>> = Mutex::const_new(Weak::new());

/// Ends the operator for tests that run operators of their own: all that run share its absence.
pub async fn gone() -> Arc<Gone> {
    let mut shared = GONE.lock().await;
    if let Some(gone) = shared.upgrade() {
        return gone;
    }
    let gone = Arc::new(Gone { _alone: alone().await });
    scale(0).await;
    *shared = Arc::downgrade(&gone);
    gone
}

/// The operator again, unless another test still holds its absence.
pub async fn end_shared_shutdown(gone: Arc<Gone>) {
    if let Some(_last) = Arc::into_inner(gone) {
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

/// No operator, until this is given [`back`](Away::back) or dropped: also by a test that panics.
#[must_use]
pub struct Away {
    ended: bool,
}

/// Ends all operators; when it returns, the cluster has no pod of theirs.
pub async fn away() -> Away {
    let away = Away { ended: false };
    scale(0).await;
    let left = run("kubectl", &["-n", NAMESPACE, "get", "pod", "-l", PODS, "-o", "name"], None).await;
    assert!(left.trim().is_empty(), "operators that are still there: {left}");
    away
}

impl Away {
    /// The operators again, ready.
    pub async fn back(mut self) {
        scale(REPLICAS).await;
        self.ended = true;
    }
}

impl Drop for Away {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        // Nothing can be awaited here; whoever needs the operator next waits for its conditions.
        let (to, name) = (format!("--replicas={REPLICAS}"), format!("deployment/{RELEASE}"));
        let scaled =
            std::process::Command::new("kubectl").args(["-n", NAMESPACE, "scale", &name, &to]).status();
        eprintln!("the operator is scaled back to {REPLICAS}: {scaled:?}");
    }
}

/// How many operators run: 0 stops reconciling while recorders go on.
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

/// What the operators count, of all that run.
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
    let mut all = String::new();
    for address in addresses.split_whitespace() {
        let answer = reqwest::get(format!("http://{address}:8080/metrics")).await;
        let text = answer.map_err(|e| e.to_string())?.text().await;
        all.push_str(&text.map_err(|e| e.to_string())?);
    }
    Ok(all)
}

/// Ends all operators and waits for new ones.
pub async fn restart() {
    let name = format!("deployment/{RELEASE}");
    run("kubectl", &["-n", NAMESPACE, "rollout", "restart", &name], None).await;
    run("kubectl", &["-n", NAMESPACE, "rollout", "status", &name, "--timeout=300s"], None).await;
}
