//! The API server's audit log. A test marks the end of the log by a write of its own. So it need not wait for a fixed
//! time to learn that no more writes come.

use std::io::{Read, Seek, SeekFrom};
use std::sync::atomic::{AtomicU32, Ordering};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::cluster::TestNamespace;
use super::settings::setting;
use super::wait::{HANG, eventually};

static MARKERS: AtomicU32 = AtomicU32::new(0);

/// A byte offset in the log.
#[derive(Clone, Copy, Debug)]
pub struct Mark(u64);

/// Returns the current end of the log.
pub fn end() -> Mark {
    Mark(std::fs::metadata(path()).unwrap().len())
}

/// Returns the log entries of successful writes from `mark` on, as far as the log is written.
pub fn since(mark: Mark) -> Vec<Value> {
    requests_since(mark).into_iter().filter(is_write).collect()
}

fn is_write(event: &Value) -> bool {
    !matches!(event["verb"].as_str(), Some("get" | "list" | "watch"))
}

/// Returns the log entries of successful writes and of the operator's reads.
fn requests_since(mark: Mark) -> Vec<Value> {
    let mut log = std::fs::File::open(path()).unwrap();
    log.seek(SeekFrom::Start(mark.0)).unwrap();
    let mut text = String::new();
    log.read_to_string(&mut text).unwrap();
    let events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let took_effect = |event: &Value| event["responseStatus"]["code"].as_u64().is_some_and(|code| code < 300);
    events.filter(took_effect).collect()
}

/// Returns the successful writes from `mark` up to now.
pub async fn writes_until_now(namespace: &TestNamespace, mark: Mark) -> Vec<Value> {
    requests_until_now(namespace, mark).await.into_iter().filter(is_write).collect()
}

/// Returns the successful writes, and the operator's reads, from `mark` up to now. Writes a marker of its own and waits until it is
/// in the log.
pub async fn requests_until_now(namespace: &TestNamespace, mark: Mark) -> Vec<Value> {
    let name = format!("marker-{}", MARKERS.fetch_add(1, Ordering::Relaxed));
    let marker = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
    let params = PatchParams::apply("test").force();
    let api = namespace.api::<ConfigMap>();
    api.patch(&name, &params, &Patch::Apply(&marker)).await.unwrap();
    let is_marker = |event: &Value| {
        let object = &event["objectRef"];
        object["namespace"] == namespace.name.as_str() && object["name"] == name.as_str()
    };
    eventually("the audit log has the marker", HANG, || async {
        let mut events = requests_since(mark);
        let end = events.iter().position(is_marker);
        end.map(|end| events.drain(..end).collect()).ok_or_else(|| format!("{} requests", events.len()))
    })
    .await
}

/// Returns whether the operator process `instance` made this write, Leases excepted. Its identity is part of its user
/// agent.
pub fn is_write_of(event: &Value, instance: &str) -> bool {
    let agent = format!(" {instance}_");
    let is_by_instance = event["userAgent"].as_str().is_some_and(|name| name.contains(&agent));
    is_by_instance && event["objectRef"]["resource"] != "leases"
}

/// Describes a write for failure messages.
pub fn describe(event: &Value) -> String {
    format!("{} {} {}", event["requestReceivedTimestamp"], event["verb"], event["objectRef"])
}

fn path() -> String {
    setting("TOEZICHT_TEST_AUDIT_LOG")
}
