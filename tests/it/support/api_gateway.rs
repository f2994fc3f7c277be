//! A proxy between an operator process and the API server.

use std::process::Stdio;

use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::cluster::kubeconfig_for;
use super::port::free_port;
use super::proxy::Proxy;
use super::wait::{HANG, eventually};

/// A proxy to the API server, and a kubeconfig that names it.
pub struct ApiGateway {
    pub proxy: Proxy,
    pub kubeconfig: String,
    _kubectl: Child,
    _folder: TempDir,
}

impl ApiGateway {
    /// Starts a proxy on `port`.
    pub async fn start(port: u16) -> Self {
        let (kubectl, url) = start_kubectl_proxy().await;
        let proxy = Proxy::start(&url, port).await;
        let folder = tempfile::tempdir().unwrap();
        let kubeconfig = folder.path().join("kubeconfig");
        std::fs::write(&kubeconfig, kubeconfig_for(&proxy.endpoint).to_string()).unwrap();
        Self { proxy, kubeconfig: kubeconfig.display().to_string(), _kubectl: kubectl, _folder: folder }
    }
}

/// Starts `kubectl proxy`, which serves the API server over plain HTTP on this machine until it is dropped.
async fn start_kubectl_proxy() -> (Child, String) {
    let port = free_port();
    let child = Command::new("kubectl")
        .args(["proxy", &format!("--port={port}")])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let url = format!("http://127.0.0.1:{port}");
    eventually("kubectl proxy answers", HANG, || async {
        let answer = reqwest::get(format!("{url}/readyz")).await;
        answer.map(|_| ()).map_err(|e| e.to_string())
    })
    .await;
    (child, url)
}
