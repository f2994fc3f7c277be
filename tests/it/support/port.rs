//! Free ports.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

/// First port, below the range of ephemeral ports: an outgoing connection could take one of those between its choice
/// and its use.
static NEXT: AtomicU16 = AtomicU16::new(20_000);
/// End of the range. Tests use fixed ports above it.
const END: u16 = 28_000;

/// Returns a port without a listener on this machine, which no other test of this run gets.
pub fn free_port() -> u16 {
    loop {
        let port = NEXT.fetch_add(1, Ordering::Relaxed);
        assert!(port < END, "no port is free");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
