//! A store that nobody knows but the proxy on the way to it: all that the operator, the recorders and the command line ask goes
//! through a tunnel.

use std::net::{IpAddr, Ipv4Addr};
use std::process::Stdio;

use jiff::{SignedDuration, Timestamp};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use toezicht::rules::Window;
use toezicht::rules::hold::scope::{CameraSelector, HoldScope};
use toezicht::storage::Probe;
use toezicht::wire::{Login, Proxy, Secret};
use tokio::process::Command;

use super::holds::placed;
use super::scene::Scene;
use crate::support::settings::S3Server;
use crate::support::tinyproxy::{PASSWORD, Tinyproxy, USERNAME};
use crate::support::tls_frontend::TlsFrontend;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// No DNS has it.
const STORE: &str = "s3.behind-a-proxy.test";

fn through(proxy: &Tinyproxy, password: &str) -> Proxy {
    Proxy {
        url: proxy.url.clone(),
        no_proxy: "127.0.0.1,localhost".into(),
        login: Some(Login { username: USERNAME.into(), password: Secret::new(password) }),
    }
}

async fn store_is_reached_through_proxy(server: S3Server) {
    let frontend = TlsFrontend::start(&server, HERE, STORE).await;
    let proxy = Tinyproxy::start(HERE, frontend.port, &[STORE]).await;
    let endpoint = format!("https://{STORE}:{}", frontend.port);
    let mut scene = Scene::new(server, "tunnel");
    for target in [&mut scene.operator, &mut scene.recorder] {
        target.endpoint = Some(endpoint.clone());
        target.ca_pem = Some(frontend.ca.clone());
        target.proxy = Some(through(&proxy, PASSWORD));
    }
    scene.enforce(Probe::Run).await.unwrap();
    let start = Timestamp::now() - SignedDuration::from_mins(5);
    let key = scene.record("hal", start).await;
    let incident = [HoldScope {
        cameras: CameraSelector::All,
        calls: false,
        window: Window::new(start - SignedDuration::from_mins(1), Some(Timestamp::now())),
    }];
    let found = placed(&scene.operator, &incident).await;
    assert_eq!(found.coverage[0].segments, 1);
    assert_eq!(scene.protection(&key).await, Some((true, "held".to_owned())));
    assert!(!proxy.clients_tunnelled_to(STORE).is_empty());

    let (code, told) = audited(&scene, &endpoint, &frontend.ca, &proxy, PASSWORD).await;
    // No ledger entry explains the hold of this test.
    assert!(code == 4 && told.contains("UnexplainedHold"), "{code} {told}");

    // Whoever does not get through is told that it is the proxy, and no password.
    let (code, told) = audited(&scene, &endpoint, &frontend.ca, &proxy, "wr0ng").await;
    assert!(code == 1 && told.contains("proxy"), "{code} {told}");
    scene.operator.proxy = Some(through(&proxy, "wr0ng"));
    let wrong = scene.enforce(Probe::Skip).await.unwrap_err().to_string();
    let login = None;
    scene.operator.proxy = Some(Proxy { login, ..through(&proxy, PASSWORD) });
    let nobody = scene.enforce(Probe::Skip).await.unwrap_err().to_string();
    scene.operator.proxy = Some(through(&proxy, PASSWORD));
    scene.operator.endpoint = Some(format!("https://{STORE}:1"));
    let forbidden = scene.enforce(Probe::Skip).await.unwrap_err().to_string();
    for (told, code) in [
        // tinyproxy answers a wrong password as it answers a port that it lets nobody through to.
        (told, "ProxyRefused"),
        (wrong, "ProxyRefused"),
        (nobody, "ProxyAuthenticationRequired"),
        (forbidden, "ProxyRefused"),
    ] {
        assert!(told.contains(code) && told.contains("the proxy "), "{told}");
        assert!(!told.contains("wr0ng") && !told.contains(PASSWORD), "{told}");
    }
}

/// `toezicht audit` with the proxy and its login in the environment: exit code, and all that it prints.
async fn audited(
    scene: &Scene,
    endpoint: &str,
    ca: &str,
    proxy: &Tinyproxy,
    password: &str,
) -> (i32, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.crt");
    std::fs::write(&file, ca).unwrap();
    let password = utf8_percent_encode(password, NON_ALPHANUMERIC);
    let url = proxy.url.replace("http://", &format!("http://{USERNAME}:{password}@"));
    let keys = scene.keys();
    let output = Command::new(env!("CARGO_BIN_EXE_toezicht"))
        .args(["audit", "--endpoint", endpoint, "--region", &scene.server.region])
        .args(["--path-style", "--bucket", scene.bucket(), "--sample-one-in", "1", "--ca-file"])
        .arg(&file)
        .env("AWS_ACCESS_KEY_ID", keys.access_key_id.reveal())
        .env("AWS_SECRET_ACCESS_KEY", keys.secret_access_key.reveal())
        .env("HTTPS_PROXY", url)
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(text).unwrap())
}

#[tokio::test]
async fn seaweedfs_is_reached_through_proxy() {
    store_is_reached_through_proxy(S3Server::primary()).await;
}

#[tokio::test]
async fn ceph_is_reached_through_proxy() {
    store_is_reached_through_proxy(S3Server::secondary()).await;
}
