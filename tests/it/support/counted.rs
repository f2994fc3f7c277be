//! Connections that processes of this machine try to make, counted by the kernel: also to addresses where
//! nobody listens.

use std::fmt::Write;
use std::process::Command;

use serde_json::Value;

use super::tools::run;

const TABLE: &str = "toezicht_test";

/// What is counted, by name. Gone when it is dropped.
pub struct Counted(());

impl Counted {
    /// Counts what matches each rule (`ip daddr 169.254.169.254`). Before kube-proxy's rules, which write
    /// another address over that of a service; and with a route to everywhere, since without one the kernel
    /// refuses before it counts.
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

    /// The packets that each rule matched.
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

impl Drop for Counted {
    fn drop(&mut self) {
        let _ = Command::new("nft").args(["delete", "table", "inet", TABLE]).status();
        let _ = Command::new("ip").args(["route", "delete", "default", "dev", "cni0"]).status();
    }
}
