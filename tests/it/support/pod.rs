//! Metrics of a scene's recorder, read from its pod.

use k8s_openapi::api::core::v1::Pod;

use super::cluster::TestNamespace;
use super::scene::SITE;

/// Returns the name of the recorder's pod in a scene.
pub fn name() -> String {
    format!("{SITE}-recorder-0")
}

/// Returns the address of a pod.
pub async fn address(namespace: &TestNamespace, pod: &str) -> Result<String, String> {
    let pod = namespace.api::<Pod>().get(pod).await.map_err(|e| e.to_string())?;
    pod.status.and_then(|status| status.pod_ip).ok_or_else(|| "no address".into())
}

/// Returns the value of one of the first recorder's metrics: `series` is its name with its labels.
pub async fn metric(namespace: &TestNamespace, series: &str) -> Result<u64, String> {
    metric_of(namespace, &name(), series).await
}

/// Returns the value of a metric of the recorder in `pod`.
pub async fn metric_of(namespace: &TestNamespace, pod: &str, series: &str) -> Result<u64, String> {
    let address = address(namespace, pod).await?;
    let answer = reqwest::get(format!("http://{address}:8080/metrics")).await;
    let text = answer.map_err(|e| e.to_string())?.text().await;
    let text = text.map_err(|e| e.to_string())?;
    let mut values = text.lines().filter_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    let value = values.find_map(|value| value.parse().ok());
    value.ok_or(text)
}

/// Returns the number of a camera's frames that the recorder has written to the spool since it started.
pub async fn frames(namespace: &TestNamespace, camera: &str) -> Result<u64, String> {
    metric(namespace, &format!("toezicht_recorder_frames_total{{camera=\"{camera}\"}}")).await
}

/// Sends SIGKILL to the recorder process of a pod on this machine and returns the time.
pub fn kill_recorder(pod_uid: &str) -> jiff::Timestamp {
    let at = jiff::Timestamp::now();
    let is_killed = try_kill_recorder(pod_uid);
    assert!(is_killed, "no recorder process of the pod: does the cluster run on this machine?");
    at
}

/// Sends SIGKILL to the recorder process of a pod on this machine. Returns whether there is one.
pub fn try_kill_recorder(pod_uid: &str) -> bool {
    recorder_pid(pod_uid).is_some_and(|pid| {
        let killed = std::process::Command::new("kill").args(["-KILL", &pid]).status();
        killed.is_ok_and(|killed| killed.success())
    })
}

fn recorder_pid(pod_uid: &str) -> Option<String> {
    std::fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
        let pid = entry.file_name().into_string().ok()?;
        let cgroup = std::fs::read_to_string(entry.path().join("cgroup")).ok()?;
        let command = std::fs::read_to_string(entry.path().join("cmdline")).ok()?;
        (cgroup.contains(pod_uid) && command.contains("toezicht\0recorder")).then_some(pid)
    })
}
