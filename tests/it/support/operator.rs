//! The operator, installed by its chart as a user would.

use std::time::Duration;

use serde_json::json;
use tokio::sync::{OnceCell, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::settings::{S3Server, root, setting};
use super::tools::run;

/// Where the chart puts it.
pub const NAMESPACE: &str = "toezicht-system";
/// The release's and the Deployment's name.
pub const RELEASE: &str = "toezicht";
/// Ports at which tests put a proxy before the first S3 server.
pub const PROXY_PORTS: std::ops::Range<u16> = 18333..18341;

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
    let image = setting("TOEZICHT_TEST_IMAGE");
    let (repository, tag) = image.rsplit_once(':').expect("TOEZICHT_TEST_IMAGE is NAME:TAG");
    let first = S3Server::first();
    let mut endpoints = vec![first.endpoint.clone()];
    if std::env::var("TOEZICHT_TEST_S3_SECOND").is_ok() {
        endpoints.push(S3Server::second().endpoint);
    }
    let host = url::Url::parse(&first.endpoint).unwrap();
    let host = host.host_str().unwrap();
    endpoints.extend(PROXY_PORTS.map(|port| format!("http://{host}:{port}")));
    let values = json!({
        "image": {"repository": repository, "tag": tag, "pullPolicy": "IfNotPresent"},
        "grants": [{
            "namespaces": ["*"], "endpoints": endpoints, "buckets": ["*"], "plainHttp": true,
            "exceptions": ["TakeOver", "OperatorOnly", "AllowUnprotected"],
        }],
    });
    let chart = root().join("charts/toezicht").display().to_string();
    let timeout = format!("{}s", Duration::from_secs(120).as_secs());
    run(
        "helm",
        &[
            "upgrade", "--install", RELEASE, &chart, "--namespace", NAMESPACE, "--create-namespace", "--values", "-",
            "--wait", "--timeout", &timeout,
        ],
        Some(values.to_string().as_bytes()),
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
            &["-n", NAMESPACE, "wait", "--for=delete", "pod", "-l", selector, "--timeout=90s"],
            None,
        )
        .await;
    } else {
        run("kubectl", &["-n", NAMESPACE, "rollout", "status", &name, "--timeout=90s"], None).await;
    }
}
