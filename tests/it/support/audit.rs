//! The API server's audit log: who wrote what. An end of it is marked by a write of the test's own, so that a test need
//! not wait for a while to see that nothing more comes.

use std::io::{Read, Seek, SeekFrom};
use std::sync::atomic::{AtomicU32, Ordering};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::cluster::TestNamespace;
use super::settings::setting;
use super::wait::{HANG, eventually};

static MARKERS: AtomicU32 = AtomicU32::new(0);

/// A place in the log.
#[derive(Clone, Copy, Debug)]
pub struct Mark(u64);

/// Returns the end of the log as it is now.
pub fn end() -> Mark {
    Mark(std::fs::metadata(path()).unwrap().len())
}

/// Returns the writes that took effect from `mark` on, in the words of the log, as far as it is written.
pub fn since(mark: Mark) -> Vec<Value> {
    let mut log = std::fs::File::open(path()).unwrap();
    log.seek(SeekFrom::Start(mark.0)).unwrap();
    let mut text = String::new();
    log.read_to_string(&mut text).unwrap();
    let events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let took_effect = |event: &Value| event["responseStatus"]["code"].as_u64().is_some_and(|code| code < 300);
    events.filter(took_effect).collect()
}

/// The same up to now: waits until a write that the test makes now is in the log.
pub async fn writes_until_now(namespace: &TestNamespace, mark: Mark) -> Vec<Value> {
    let name = format!("marker-{}", MARKERS.fetch_add(1, Ordering::Relaxed));
    let marker = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
    let params = PatchParams::apply("test").force();
    let api = namespace.api::<ConfigMap>();
    api.patch(&name, &params, &Patch::Apply(&marker)).await.unwrap();
    let is_marker = |event: &Value| {
        let about = &event["objectRef"];
        about["namespace"] == namespace.name.as_str() && about["name"] == name.as_str()
    };
    eventually("the audit log has the marker", HANG, || async {
        let mut events = since(mark);
        let end = events.iter().position(is_marker);
        end.map(|end| events.drain(..end).collect()).ok_or_else(|| format!("{} writes", events.len()))
    })
    .await
}

/// Whether the operator process `instance` wrote it, its Lease aside. Its identity is part of its user agent.
pub fn is_write_of(event: &Value, instance: &str) -> bool {
    let agent = format!(" {instance}_");
    let is_its = event["userAgent"].as_str().is_some_and(|name| name.contains(&agent));
    is_its && event["objectRef"]["resource"] != "leases"
}

/// What was written, to be read by people.
pub fn told(event: &Value) -> String {
    format!("{} {} {}", event["requestReceivedTimestamp"], event["verb"], event["objectRef"])
}

fn path() -> String {
    setting("TOEZICHT_TEST_AUDIT_LOG")
}
