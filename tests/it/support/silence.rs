//! A recorder that no operator process on this machine can reach.

use std::process::Command;

use super::tools::run;

/// The recorder at an address is silent until this is dropped.
pub struct Silence {
    table: String,
}

impl Silence {
    /// Drops everything that this machine sends to the status API of the recorder at `address`.
    pub async fn new(address: &str) -> Self {
        let table = format!("toezicht_silence_{}", address.replace('.', "_"));
        let rule = format!("ip daddr {address} tcp dport 8443 drop");
        let chain = format!("chain output {{ type filter hook output priority raw; {rule}; }}");
        run("nft", &["-f", "-"], Some(format!("table inet {table} {{\n{chain}\n}}\n").as_bytes())).await;
        Self { table }
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        let _ = Command::new("nft").args(["delete", "table", "inet", &self.table]).status();
    }
}
