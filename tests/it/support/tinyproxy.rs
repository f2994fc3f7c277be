//! A forward proxy: tinyproxy with Basic authentication, which tunnels to one port only. It resolves host names that
//! no other process resolves.

use std::fmt::Write;
use std::net::IpAddr;
use std::process::Stdio;

use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use super::port::free_port;
use super::wait::{HANG, eventually};

pub const USERNAME: &str = "toezicht";
/// Password in the characters that tinyproxy accepts.
pub const PASSWORD: &str = "Wacht-woord.1";

/// A running tinyproxy, stopped when dropped.
pub struct Tinyproxy {
    /// URL without the login.
    pub url: String,
    folder: TempDir,
    _process: Child,
}

impl Tinyproxy {
    /// Starts a proxy that listens on `address` and tunnels to `port` only. It resolves `hosts` to its own address.
    pub async fn start(address: IpAddr, port: u16, hosts: &[&str]) -> Self {
        let (listen_port, folder) = (free_port(), tempfile::tempdir().unwrap());
        let path = |name: &str| folder.path().join(name).display().to_string();
        let config = format!(
            "Port {listen_port}\nListen {address}\nTimeout 60\nMaxClients 100\nLogFile \"{}\"\nLogLevel Connect\n\
             BasicAuth {USERNAME} {PASSWORD}\nConnectPort {port}\n",
            path("log")
        );
        std::fs::write(path("tinyproxy.conf"), config).unwrap();
        let mut hosts_file = std::fs::read_to_string("/etc/hosts").unwrap();
        for host in hosts {
            let _ = writeln!(hosts_file, "{address} {host}");
        }
        std::fs::write(path("hosts"), hosts_file).unwrap();
        // A private mount namespace gives the proxy its own /etc/hosts.
        let start = "mount --bind \"$0\" /etc/hosts && exec tinyproxy -d -c \"$1\"";
        let mut process = Command::new("unshare")
            .args(["--mount", "sh", "-c", start])
            .args([path("hosts"), path("tinyproxy.conf")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        eventually("tinyproxy listens", HANG, || {
            assert_eq!(process.try_wait().unwrap(), None, "tinyproxy has exited");
            async move {
                let connected = TcpStream::connect((address, listen_port)).await;
                connected.map(drop).map_err(|error| error.to_string())
            }
        })
        .await;
        Self { url: format!("http://{address}:{listen_port}"), folder, _process: process }
    }

    /// Returns the addresses of the clients that were tunnelled to `host`.
    pub fn clients_tunnelled_to(&self, host: &str) -> Vec<String> {
        let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        // A connection's lines: `Connect (file descriptor N): ADDRESS`, then `Request (file descriptor N): CONNECT HOST:PORT …`.
        let (mut clients, mut tunnelled) = (std::collections::HashMap::new(), Vec::new());
        for line in log.lines() {
            let entry = |kind: &str| {
                let (_, rest) = line.split_once(&format!("{kind} (file descriptor "))?;
                rest.split_once("): ")
            };
            if let Some((descriptor, address)) = entry("Connect") {
                clients.insert(descriptor.to_owned(), address.to_owned());
            } else if let Some((descriptor, request)) = entry("Request")
                && request.starts_with(&format!("CONNECT {host}:"))
            {
                tunnelled.extend(clients.get(descriptor).cloned());
            }
        }
        tunnelled
    }
}
