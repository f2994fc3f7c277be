//! The configuration, read from a mounted Secret and read again when it changes. The recorder rejects an invalid
//! configuration and continues with the last valid one. An invalid camera spoils only itself: gates, suspensions and holds of the
//! others must reach the recorder.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::Deserialize;
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::http::tls;
use super::rtsp::CameraAddress;
use crate::failure::Failure;
use crate::rules::recording::key::is_source_name;
use crate::wire::{CONFIG_KEY, CameraConfig, FORMAT, GapCause, RecorderConfig, RejectedConfig, Window};

/// Interval of checks of the mounted file. The kubelet swaps a symbolic link, so a check is cheap.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// Most messages of invalid cameras in the status.
const MAX_MESSAGES: usize = 5;
const SEGMENT_DURATION_MS: std::ops::RangeInclusive<u64> = 1000..=3_600_000;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConfigState {
    /// The last valid configuration; `None` before the first.
    pub config: Option<Arc<RecorderConfig>>,
    /// A newer configuration that was rejected, or what was rejected of this one.
    pub rejected: Option<RejectedConfig>,
}

/// A rejected configuration. Its messages contain field names, but no values, which may be secrets.
#[derive(Debug, strum::IntoStaticStr, thiserror::Error)]
#[strum(serialize_all = "snake_case")]
pub enum RecorderConfigError {
    #[error("the configuration cannot be read: {}", .0.kind())]
    Io(#[from] io::Error),
    #[error("the configuration is not valid JSON: {kind} at line {line}, column {column}")]
    Json { kind: &'static str, line: usize, column: usize },
    #[error(
        "the configuration has format {0}, but this recorder reads formats 1 to {FORMAT}: use the operator's version"
    )]
    Format(u32),
    #[error("{field}: {problem}")]
    Invalid { field: String, problem: &'static str },
}

impl From<serde_json::Error> for RecorderConfigError {
    fn from(error: serde_json::Error) -> Self {
        // The message of serde_json may quote a value, and values are secrets here.
        let kind = match error.classify() {
            serde_json::error::Category::Io => "unreadable",
            serde_json::error::Category::Syntax => "wrong syntax",
            serde_json::error::Category::Data => "a missing field or a value of another type",
            serde_json::error::Category::Eof => "it ends too early",
        };
        Self::Json { kind, line: error.line(), column: error.column() }
    }
}

/// A configuration, and the fields of cameras that were invalid in it.
#[derive(Debug)]
pub struct Parsed {
    pub config: RecorderConfig,
    pub invalid_cameras: Vec<RecorderConfigError>,
}

/// Parses a configuration. An invalid camera is replaced by what is certain of it, given the configuration `before`.
pub fn parse(bytes: &[u8], before: Option<&RecorderConfig>) -> Result<Parsed, RecorderConfigError> {
    #[derive(Deserialize)]
    struct FormatHeader {
        format: u32,
    }
    // First, so that a newer document is rejected for its format, not for its fields.
    let FormatHeader { format } = serde_json::from_slice(bytes)?;
    if format == 0 || format > FORMAT {
        return Err(RecorderConfigError::Format(format));
    }
    let mut document: Value = serde_json::from_slice(bytes)?;
    let cameras = document.get_mut("cameras").and_then(Value::as_array_mut).map(std::mem::take);
    let mut config: RecorderConfig = match serde_json::from_value(document) {
        Ok(config) => config,
        // The text has the line of the error, and the document does not.
        Err(error) => {
            return Err(serde_json::from_slice::<RecorderConfig>(bytes).err().unwrap_or(error).into());
        }
    };
    validate(&config)?;
    let invalid_cameras;
    (config.cameras, invalid_cameras) = parse_cameras(cameras.unwrap_or_default(), before);
    Ok(Parsed { config, invalid_cameras })
}

/// Does not check the storage: an unusable one must not keep windows, suspensions and holds from the recorder.
fn validate(config: &RecorderConfig) -> Result<(), RecorderConfigError> {
    let invalid =
        |field: &str, problem| Err(RecorderConfigError::Invalid { field: field.to_owned(), problem });
    if !SEGMENT_DURATION_MS.contains(&config.segment_duration_ms) {
        return invalid("segmentDurationMs", "write a value from 1000 to 3600000");
    }
    if config.spool_bytes == 0 {
        return invalid("spoolBytes", "write a value above 0");
    }
    if config.video_ceiling_ms == 0 {
        return invalid("videoCeilingMs", "write a value above 0");
    }
    if config.status_api.token.reveal().len() < 16 {
        return invalid("statusApi.token", "write at least 16 characters");
    }
    if tls::acceptor(&config.status_api).is_none() {
        return invalid("statusApi", "write a certificate and its key as PEM");
    }
    Ok(())
}

fn parse_cameras(
    entries: Vec<Value>,
    before: Option<&RecorderConfig>,
) -> (Vec<CameraConfig>, Vec<RecorderConfigError>) {
    let mut count_of_name: BTreeMap<String, u32> = BTreeMap::new();
    for name in entries.iter().filter_map(name_of) {
        *count_of_name.entry(name.to_owned()).or_default() += 1;
    }
    let (mut cameras, mut errors): (BTreeMap<String, CameraConfig>, Vec<_>) = Default::default();
    for (index, entry) in entries.into_iter().enumerate() {
        let name = name_of(&entry).unwrap_or_default().to_owned();
        let camera = if count_of_name.get(&name).is_some_and(|count| *count > 1) {
            Err(("name", "another camera has this name"))
        } else {
            parse_camera(&entry)
        };
        let camera = camera.or_else(|(field, problem)| {
            let path = if field.is_empty() { String::new() } else { format!(".{field}") };
            errors.push(RecorderConfigError::Invalid { field: format!("cameras[{index}]{path}"), problem });
            let known = before.and_then(|config| config.cameras.iter().find(|camera| camera.name == name));
            replacement(&entry, &name, known, field).ok_or(())
        });
        if let Ok(camera) = camera {
            cameras.insert(name, camera);
        }
    }
    (cameras.into_values().collect(), errors)
}

fn name_of(entry: &Value) -> Option<&str> {
    entry.get("name")?.as_str()
}

fn parse_camera(entry: &Value) -> Result<CameraConfig, (&'static str, &'static str)> {
    // The message of serde_json may quote a value, and values are secrets here.
    let camera: CameraConfig = CameraConfig::deserialize(entry)
        .map_err(|_| ("", "a field is missing, or its value is of another type"))?;
    validate_camera(&camera)?;
    Ok(camera)
}

/// Returns the configuration of a camera whose `entry` is invalid in `field`: its windows with the stream that is known of it, or
/// no window at all. `None`: it has no name, or nobody knows which recorder records it.
fn replacement(
    entry: &Value,
    name: &str,
    known: Option<&CameraConfig>,
    field: &'static str,
) -> Option<CameraConfig> {
    #[derive(Deserialize)]
    struct Gates {
        permitted: Vec<Window>,
        denial: Option<GapCause>,
        #[serde(default)]
        suspended: Vec<Window>,
    }
    let shard = entry.get("shard").and_then(|shard| u32::deserialize(shard).ok());
    let shard = shard.or_else(|| Some(known?.shard)).filter(|_| is_source_name(name))?;
    let source = known.map(|known| known.source.clone());
    let is_of_stream = matches!(field, "url" | "");
    let gates = Gates::deserialize(entry).ok().filter(|gates| {
        is_of_stream && !gates.permitted.iter().chain(&gates.suspended).any(Window::is_empty)
    });
    let name = name.to_owned();
    Some(match (source.filter(|source| !source.url.reveal().is_empty()), gates) {
        (Some(source), Some(Gates { permitted, denial, suspended })) => {
            CameraConfig { name, shard, source, permitted, denial, suspended, is_rejected: false }
        }
        (source, _) => CameraConfig {
            name,
            shard,
            source: source.unwrap_or_default(),
            permitted: Vec::new(),
            denial: Some(GapCause::SiteNotReady),
            suspended: Vec::new(),
            is_rejected: true,
        },
    })
}

fn validate_camera(camera: &CameraConfig) -> Result<(), (&'static str, &'static str)> {
    // Names become folders and object keys, so no name may lead out of its folder.
    if !is_source_name(&camera.name) {
        return Err(("name", "write a lower-case DNS name"));
    }
    if CameraAddress::parse(camera.source.url.reveal()).is_err() {
        return Err(("url", "write an rtsp:// or rtsps:// URL without user and password"));
    }
    for (field, windows) in [("permitted", &camera.permitted), ("suspended", &camera.suspended)] {
        if windows.iter().any(Window::is_empty) {
            return Err((field, "a window must end after it begins"));
        }
    }
    Ok(())
}

/// Version of the mounted file: the target of the kubelet's link if there is one, and the file's time and size.
type Fingerprint = (Option<PathBuf>, Option<(SystemTime, u64)>);

async fn fingerprint(folder: &Path) -> Fingerprint {
    let meta = tokio::fs::metadata(folder.join(CONFIG_KEY)).await.ok();
    let link = tokio::fs::read_link(folder.join("..data")).await.ok();
    (link, meta.and_then(|meta| Some((meta.modified().ok()?, meta.len()))))
}

/// Reads each new configuration until `stop`.
pub async fn watch_file(folder: PathBuf, current: watch::Sender<ConfigState>, stop: CancellationToken) {
    let mut seen: Option<Fingerprint> = None;
    loop {
        // Before the content: a change during the read causes another read.
        let observed = fingerprint(&folder).await;
        if seen.as_ref() != Some(&observed) {
            seen = Some(observed);
            reload(&folder, &current).await;
        }
        tokio::select! {
            () = tokio::time::sleep(POLL_INTERVAL) => {}
            () = stop.cancelled() => return,
        }
    }
}

async fn reload(folder: &Path, current: &watch::Sender<ConfigState>) {
    let bytes = tokio::fs::read(folder.join(CONFIG_KEY)).await;
    let before = current.borrow().config.clone();
    let parsed = bytes
        .as_ref()
        .map_err(|error| RecorderConfigError::Io(error.kind().into()))
        .and_then(|bytes| parse(bytes, before.as_deref()));
    match parsed {
        Ok(Parsed { config, invalid_cameras }) => {
            let messages: Vec<String> = invalid_cameras.iter().map(RecorderConfigError::to_string).collect();
            let rejected = (!messages.is_empty()).then(|| RejectedConfig {
                revision: Some(config.revision.clone()),
                message: bounded(&messages),
            });
            for message in &messages {
                tracing::warn!(
                    revision = config.revision,
                    "a camera of the configuration is rejected: {message}"
                );
            }
            let (cameras, revision) = (config.cameras.len(), config.revision.clone());
            let next = ConfigState { config: Some(Arc::new(config)), rejected };
            if *current.borrow() != next {
                tracing::info!(revision, cameras, "configuration read");
                current.send_replace(next);
            }
        }
        Err(error) => {
            let revision = bytes.ok().and_then(|bytes| parse_revision(&bytes));
            tracing::warn!(category = error.category(), revision, "configuration rejected: {error}");
            let rejected = RejectedConfig { revision, message: error.to_string() };
            // The previous configuration stays in force: a bad edit must not end the recording.
            current.send_modify(|current| current.rejected = Some(rejected));
        }
    }
}

/// Joins messages. There may be one for each camera of a large Site.
fn bounded(messages: &[String]) -> String {
    let text = messages.iter().take(MAX_MESSAGES).map(String::as_str).collect::<Vec<_>>().join("; ");
    match messages.len().checked_sub(MAX_MESSAGES) {
        Some(more @ 1..) => format!("{text}; and {more} more"),
        _ => text,
    }
}

/// Returns the revision of a rejected configuration, if it is readable.
fn parse_revision(bytes: &[u8]) -> Option<String> {
    let document: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    let revision = document.get("revision")?.as_str()?;
    // Bounded, since the document is invalid and this text appears in the status and the log.
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    (revision.len() <= 80 && revision.chars().all(plain)).then(|| revision.to_owned())
}

#[cfg(test)]
mod tests;
