//! Camera servers that a test can stop and restart.

use serde_json::{Value, json};
use std::process::Stdio;
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
    arguments: Vec<String>,
}

impl CameraServer {
    /// Starts a server on a free port and waits until it listens.
    pub async fn start(arguments: &[&str]) -> Self {
        let port = free_port();
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        let child = spawn(port, &arguments);
        let server = Self { child, port, arguments };
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
        self.child = spawn(self.port, &self.arguments);
        self.wait_until_listening().await;
    }

    /// Returns the configuration of one of its cameras.
    pub fn camera_config(&self, name: &str, path: &str) -> Value {
        let login = json!({"username": "camera", "password": PASSWORD});
        camera_config(name, &format!("rtsp://127.0.0.1:{}/{path}", self.port), &login)
    }

    async fn wait_until_listening(&self) {
        eventually("the camera server listens", HANG, || async {
            let connected = tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await;
            connected.map(drop).map_err(|error| error.to_string())
        })
        .await;
    }
}

fn spawn(port: u16, arguments: &[String]) -> Child {
    Command::new("/usr/bin/python3")
        .args([&script("cameras.py"), "--address", "127.0.0.1", "--port", &port.to_string()])
        .args(["--clips", &setting("TOEZICHT_TEST_CLIPS"), "--user", "camera", "--password", PASSWORD])
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}
