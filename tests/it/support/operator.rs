//! The operator, installed by its chart as a user would.

use tokio::sync::{OnceCell, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::settings::root;
use super::tools::{run, script};

/// Where the chart puts it.
pub const NAMESPACE: &str = "toezicht-system";
/// The release's and the Deployment's name.
pub const RELEASE: &str = "toezicht";

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

async fn install() {
    let values = run("python3", &[&script("demo/values.py")], None).await;
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
            "120s",
        ],
        Some(values.as_bytes()),
    )
    .await;
}

/// How many operators run: 0 stops reconciling while recorders go on.
pub async fn scale(replicas: u32) {
    let to = format!("--replicas={replicas}");
    let name = format!("deployment/{RELEASE}");
    run("kubectl", &["-n", NAMESPACE, "scale", &name, &to], None).await;
    if replicas == 0 {
        let selector = "app.kubernetes.io/name=toezicht,app.kubernetes.io/component=operator";
        run(
            "kubectl",
            &[
                "-n",
                NAMESPACE,
                "wait",
                "--for=delete",
                "pod",
                "-l",
                selector,
                "--timeout=90s",
            ],
            None,
        )
        .await;
    } else {
        run(
            "kubectl",
            &["-n", NAMESPACE, "rollout", "status", &name, "--timeout=90s"],
            None,
        )
        .await;
    }
}

/// Ends all operators and waits for new ones.
pub async fn restart() {
    let name = format!("deployment/{RELEASE}");
    run("kubectl", &["-n", NAMESPACE, "rollout", "restart", &name], None).await;
    run(
        "kubectl",
        &["-n", NAMESPACE, "rollout", "status", &name, "--timeout=90s"],
        None,
    )
    .await;
}
