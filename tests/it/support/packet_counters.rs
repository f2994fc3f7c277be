//! Kernel counters of the connections that processes of this machine attempt, including those to addresses without a
//! listener.

use std::fmt::Write;
use std::process::Command;

use serde_json::Value;

use super::tools::run;

const TABLE: &str = "toezicht_test";

/// nftables counters by name. Dropping it deletes them.
pub struct PacketCounters(());

impl PacketCounters {
    /// Counts the packets that match each rule, such as `ip daddr 169.254.169.254`. The counters run before
    /// kube-proxy's rules, which replace service addresses. A default route is needed: without one the kernel rejects
    /// a packet before it counts it.
    pub async fn new(rules: &[(&str, &str)]) -> Self {
        let mut table = String::new();
        for (name, _) in rules {
            let _ = writeln!(table, "counter {name} {{ }}");
        }
        let _ = writeln!(table, "chain output {{ type filter hook output priority raw;");
        for (name, rule) in rules {
            let _ = writeln!(table, "{rule} counter name \"{name}\"");
        }
        let text = format!("table inet {TABLE} {{\n{table}}}\n}}\n");
        run("ip", &["route", "replace", "default", "dev", "cni0"], None).await;
        run("nft", &["-f", "-"], Some(text.as_bytes())).await;
        Self(())
    }

    /// Returns the number of packets that each rule matched.
    pub async fn packets(&self) -> Vec<(String, u64)> {
        let out = run("nft", &["-j", "list", "counters", "table", "inet", TABLE], None).await;
        let listed: Value = serde_json::from_str(&out).unwrap();
        let counters = listed["nftables"].as_array().unwrap().iter();
        counters
            .filter_map(|entry| entry.get("counter"))
            .map(|counter| {
                (counter["name"].as_str().unwrap().to_owned(), counter["packets"].as_u64().unwrap())
            })
            .collect()
    }
}

impl Drop for PacketCounters {
    fn drop(&mut self) {
        let _ = Command::new("nft").args(["delete", "table", "inet", TABLE]).status();
        let _ = Command::new("ip").args(["route", "delete", "default", "dev", "cni0"]).status();
    }
}
