//! Camera servers that a test can stop and restart.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::process::{Child, Command};

use crate::support::port::free_port;
use crate::support::settings::setting;
use crate::support::tools::script;
use crate::support::wait::{HANG, eventually};

/// Password of these camera servers.
pub const PASSWORD: &str = "een-heel-geheim-woord";

/// Returns the configuration of a camera of the test bed.
pub fn testbed_camera(name: &str, path: &str) -> Value {
    let login = json!({
        "username": setting("TOEZICHT_TEST_CAMERA_USER"), "password": setting("TOEZICHT_TEST_CAMERA_PASSWORD"),
    });
    camera_config(name, &format!("{}/{path}", setting("TOEZICHT_TEST_CAMERAS")), &login)
}

/// Returns the configuration of a camera that is always permitted to record.
pub fn camera_config(name: &str, url: &str, login: &Value) -> Value {
    json!({
        "name": name, "shard": 0, "url": url, "login": login,
        "permitted": [{"from": "2020-01-01T00:00:00Z"}],
    })
}

/// An RTSP server with cameras, stopped when dropped.
pub struct CameraServer {
    child: Child,
    pub port: u16,
    address: String,
    arguments: Vec<String>,
    /// File with the beginnings and ends of its sessions.
    log: Option<PathBuf>,
}

impl CameraServer {
    /// Starts a server on a free port and waits until it listens.
    pub async fn start(arguments: &[&str]) -> Self {
        Self::start_on("127.0.0.1", arguments, None).await
    }

    /// Starts a server on a free port of `address`, which logs its sessions to `log`.
    pub async fn start_on(address: &str, arguments: &[&str], log: Option<PathBuf>) -> Self {
        let port = free_port();
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        let child = spawn(address, port, &arguments, log.as_deref());
        let server = Self { child, port, address: address.to_owned(), arguments, log };
        server.wait_until_listening().await;
        server
    }

    /// Kills the server, as a power failure would.
    pub async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }

    /// Freezes the server: it sends nothing more, and its connections stay open.
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    /// Resumes a frozen server.
    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().unwrap().to_string();
        let sent = std::process::Command::new("kill").args([signal, &pid]).status();
        assert!(sent.unwrap().success());
    }

    /// Starts the server again on the same port.
    pub async fn restart(&mut self) {
        self.child = spawn(&self.address, self.port, &self.arguments, self.log.as_deref());
        self.wait_until_listening().await;
    }

    /// Returns the configuration of one of its cameras.
    pub fn camera_config(&self, name: &str, path: &str) -> Value {
        let login = json!({"username": "camera", "password": PASSWORD});
        camera_config(name, &format!("rtsp://127.0.0.1:{}/{path}", self.port), &login)
    }

    async fn wait_until_listening(&self) {
        eventually("the camera server listens", HANG, || async {
            let connected = tokio::net::TcpStream::connect((self.address.as_str(), self.port)).await;
            connected.map(drop).map_err(|error| error.to_string())
        })
        .await;
    }
}

fn spawn(address: &str, port: u16, arguments: &[String], log: Option<&Path>) -> Child {
    let log = log.map(|log| File::options().create(true).append(true).open(log).unwrap());
    Command::new("/usr/bin/python3")
        .args([&script("cameras.py"), "--address", address, "--port", &port.to_string()])
        .args(["--clips", &setting("TOEZICHT_TEST_CLIPS"), "--user", "camera", "--password", PASSWORD])
        .args(arguments)
        .stdout(log.map_or_else(Stdio::null, Stdio::from))
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}
