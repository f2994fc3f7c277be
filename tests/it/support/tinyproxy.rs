//! An HTTP proxy as organisations have them: tinyproxy, which tunnels to some ports, for who has the login. It alone knows the
//! host names that it is told.

use std::fmt::Write;
use std::net::IpAddr;
use std::process::Stdio;

use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use super::port::free_port;
use super::wait::{HANG, eventually};

pub const USERNAME: &str = "toezicht";
/// tinyproxy takes no other characters.
pub const PASSWORD: &str = "Wacht-woord.1";

/// Stops when it is dropped.
pub struct Tinyproxy {
    /// Without the login.
    pub url: String,
    folder: TempDir,
    _process: Child,
}

impl Tinyproxy {
    /// Listens on `address`, and tunnels to one port. What is in `hosts` it finds at its own address.
    pub async fn start(address: IpAddr, port: u16, hosts: &[&str]) -> Self {
        let (own, folder) = (free_port(), tempfile::tempdir().unwrap());
        let path = |name: &str| folder.path().join(name).display().to_string();
        let config = format!(
            "Port {own}\nListen {address}\nTimeout 60\nMaxClients 100\nLogFile \"{}\"\nLogLevel Connect\n\
             BasicAuth {USERNAME} {PASSWORD}\nConnectPort {port}\n",
            path("log")
        );
        std::fs::write(path("tinyproxy.conf"), config).unwrap();
        let mut known = std::fs::read_to_string("/etc/hosts").unwrap();
        for host in hosts {
            let _ = writeln!(known, "{address} {host}");
        }
        std::fs::write(path("hosts"), known).unwrap();
        // A view of the files of its own.
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
            assert_eq!(process.try_wait().unwrap(), None, "tinyproxy has ended");
            async move {
                let connected = TcpStream::connect((address, own)).await;
                connected.map(drop).map_err(|error| error.to_string())
            }
        })
        .await;
        Self { url: format!("http://{address}:{own}"), folder, _process: process }
    }

    /// The addresses of who was tunnelled to `host`.
    pub fn clients_tunnelled_to(&self, host: &str) -> Vec<String> {
        let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        // A connection's lines: `Connect (file descriptor N): ADDRESS`, then `Request (file descriptor N): CONNECT HOST:PORT …`.
        let (mut from, mut found) = (std::collections::HashMap::new(), Vec::new());
        for line in log.lines() {
            let of = |what: &str| {
                let (_, rest) = line.split_once(&format!("{what} (file descriptor "))?;
                rest.split_once("): ")
            };
            if let Some((descriptor, address)) = of("Connect") {
                from.insert(descriptor.to_owned(), address.to_owned());
            } else if let Some((descriptor, request)) = of("Request")
                && request.starts_with(&format!("CONNECT {host}:"))
            {
                found.extend(from.get(descriptor).cloned());
            }
        }
        found
    }
}
