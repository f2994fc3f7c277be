//! Cameras of a test's own, which it can end.

use serde_json::{Value, json};
use std::process::Stdio;
use tokio::process::{Child, Command};

use crate::support::port::free_port;
use crate::support::settings::setting;
use crate::support::tools::script;
use crate::support::wait::{HANG, eventually};

/// The password of cameras of a test's own.
pub const PASSWORD: &str = "een-heel-geheim-woord";

/// A camera of the test bed, as the configuration names it.
pub fn testbed_camera(name: &str, path: &str) -> Value {
    let login = json!({
        "username": setting("TOEZICHT_TEST_CAMERA_USER"), "password": setting("TOEZICHT_TEST_CAMERA_PASSWORD"),
    });
    camera(name, &format!("{}/{path}", setting("TOEZICHT_TEST_CAMERAS")), &login)
}

/// A camera that may always record.
pub fn camera(name: &str, url: &str, login: &Value) -> Value {
    json!({
        "name": name, "shard": 0, "url": url, "login": login,
        "permitted": [{"from": "2020-01-01T00:00:00Z"}],
    })
}

/// A server of cameras; ends when dropped.
pub struct Cameras {
    child: Child,
    pub port: u16,
    arguments: Vec<String>,
}

impl Cameras {
    /// Starts one on a free port, and waits until it listens.
    pub async fn start(arguments: &[&str]) -> Self {
        let port = free_port();
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        let child = spawn(port, &arguments);
        let cameras = Self { child, port, arguments };
        cameras.listening().await;
        cameras
    }

    /// Pulls the plug.
    pub async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }

    /// It says nothing more, and its connections stay open.
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    /// It goes on.
    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().unwrap().to_string();
        let sent = std::process::Command::new("kill").args([signal, &pid]).status();
        assert!(sent.unwrap().success());
    }

    /// Plugs it in again, where it was.
    pub async fn restart(&mut self) {
        self.child = spawn(self.port, &self.arguments);
        self.listening().await;
    }

    /// One of its cameras, as the configuration names it.
    pub fn camera(&self, name: &str, path: &str) -> Value {
        let login = json!({"username": "camera", "password": PASSWORD});
        camera(name, &format!("rtsp://127.0.0.1:{}/{path}", self.port), &login)
    }

    async fn listening(&self) {
        eventually("cameras listen", HANG, || async {
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
