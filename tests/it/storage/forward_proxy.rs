//! A store that only a forward proxy can reach: all requests of the operator, the recorder and the command line go
//! through its tunnel.

use std::net::{IpAddr, Ipv4Addr};
use std::process::Stdio;

use jiff::{SignedDuration, Timestamp};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use toezicht::rules::Window;
use toezicht::rules::hold::scope::{CameraSelector, HoldScope};
use toezicht::storage::Probe;
use toezicht::wire::{Login, Proxy, Secret};
use tokio::process::Command;

use super::holds::place_until_confirmed;
use super::scene::Scene;
use crate::support::settings::S3Server;
use crate::support::tinyproxy::{PASSWORD, Tinyproxy, USERNAME};
use crate::support::tls_frontend::TlsFrontend;

const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Host name that only the proxy resolves.
const STORE_HOST: &str = "s3.behind-a-proxy.test";

fn proxy_settings(proxy: &Tinyproxy, password: &str) -> Proxy {
    Proxy {
        url: proxy.url.clone(),
        no_proxy: "127.0.0.1,localhost".into(),
        login: Some(Login { username: USERNAME.into(), password: Secret::new(password) }),
    }
}

async fn store_is_reached_through_proxy(server: S3Server) {
    let frontend = TlsFrontend::start(&server, ADDRESS, STORE_HOST).await;
    let proxy = Tinyproxy::start(ADDRESS, frontend.port, &[STORE_HOST]).await;
    let endpoint = format!("https://{STORE_HOST}:{}", frontend.port);
    let mut scene = Scene::new(server, "tunnel");
    for target in [&mut scene.operator, &mut scene.recorder] {
        target.endpoint = Some(endpoint.clone());
        target.ca_pem = Some(frontend.ca.clone());
        target.proxy = Some(proxy_settings(&proxy, PASSWORD));
    }
    scene.enforce(Probe::Run).await.unwrap();
    let start = Timestamp::now() - SignedDuration::from_mins(5);
    let key = scene.record("hal", start).await;
    let incident = [HoldScope {
        cameras: CameraSelector::All,
        calls: false,
        window: Window::new(start - SignedDuration::from_mins(1), Some(Timestamp::now())),
    }];
    let found = place_until_confirmed(&scene.operator, &incident).await;
    assert_eq!(found.coverage[0].segments, 1);
    assert_eq!(scene.protection(&key).await, Some((true, "held".to_owned())));
    assert!(!proxy.clients_tunnelled_to(STORE_HOST).is_empty());

    let (code, message) = run_audit(&scene, &endpoint, &frontend.ca, &proxy, PASSWORD).await;
    // No ledger entry explains the hold of this test.
    assert!(code == 4 && message.contains("UnexplainedHold"), "{code} {message}");

    // If the proxy refuses, the error names the proxy and discloses no password.
    let (code, message) = run_audit(&scene, &endpoint, &frontend.ca, &proxy, "wr0ng").await;
    assert!(code == 1 && message.contains("proxy"), "{code} {message}");
    scene.operator.proxy = Some(proxy_settings(&proxy, "wr0ng"));
    let wrong = scene.enforce(Probe::Skip).await.unwrap_err().to_string();
    let login = None;
    scene.operator.proxy = Some(Proxy { login, ..proxy_settings(&proxy, PASSWORD) });
    let without_login = scene.enforce(Probe::Skip).await.unwrap_err().to_string();
    scene.operator.proxy = Some(proxy_settings(&proxy, PASSWORD));
    scene.operator.endpoint = Some(format!("https://{STORE_HOST}:1"));
    let forbidden = scene.enforce(Probe::Skip).await.unwrap_err().to_string();
    for (message, code) in [
        // tinyproxy answers a wrong password like a forbidden port.
        (message, "ProxyRefused"),
        (wrong, "ProxyRefused"),
        (without_login, "ProxyAuthenticationRequired"),
        (forbidden, "ProxyRefused"),
    ] {
        assert!(message.contains(code) && message.contains("the proxy "), "{message}");
        assert!(!message.contains("wr0ng") && !message.contains(PASSWORD), "{message}");
    }
}

/// Runs `toezicht audit` with the proxy and its login in the environment, and returns its exit code and output.
async fn run_audit(
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
