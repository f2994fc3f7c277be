//! Ports to listen on.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below those that connections go out from: one of these could take a port between its choice and its use.
static NEXT: AtomicU16 = AtomicU16::new(20_000);
/// From here on, tests name theirs.
const END: u16 = 28_000;

/// A port of this machine that nobody listens on, and that no other test of this run gets.
pub fn free_port() -> u16 {
    loop {
        let port = NEXT.fetch_add(1, Ordering::Relaxed);
        assert!(port < END, "no port is free");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
