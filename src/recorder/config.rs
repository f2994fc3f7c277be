//! The configuration, read from a mounted Secret and read again when it changes. The recorder rejects an invalid
//! configuration as a whole and continues with the last valid one: a part of a configuration would be nobody's
//! intention.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::http::tls;
use super::rtsp::CameraAddress;
use crate::failure::Failure;
use crate::rules::recording::key::is_source_name;
use crate::wire::{CONFIG_KEY, CameraConfig, FORMAT, RecorderConfig, RejectedConfig, Window};

/// Interval of checks of the mounted file. The kubelet swaps a symbolic link, so a check is cheap.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
const SEGMENT_DURATION_MS: std::ops::RangeInclusive<u64> = 1000..=3_600_000;

#[derive(Clone, Debug, Default)]
pub struct ConfigState {
    /// The last valid configuration; `None` before the first.
    pub config: Option<Arc<RecorderConfig>>,
    /// A newer configuration that was rejected.
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

pub fn parse(bytes: &[u8]) -> Result<RecorderConfig, RecorderConfigError> {
    #[derive(serde::Deserialize)]
    struct FormatHeader {
        format: u32,
    }
    // First, so that a newer document is rejected for its format, not for its fields.
    let FormatHeader { format } = serde_json::from_slice(bytes)?;
    if format == 0 || format > FORMAT {
        return Err(RecorderConfigError::Format(format));
    }
    let config: RecorderConfig = serde_json::from_slice(bytes)?;
    validate(&config)?;
    Ok(config)
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
    let mut names = BTreeSet::new();
    for (index, camera) in config.cameras.iter().enumerate() {
        validate_camera(camera).map_err(|(field, problem)| RecorderConfigError::Invalid {
            field: format!("cameras[{index}].{field}"),
            problem,
        })?;
        if !names.insert(&camera.name) {
            return invalid(&format!("cameras[{index}].name"), "another camera has this name");
        }
    }
    Ok(())
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
    let config = bytes
        .as_ref()
        .map_err(|error| RecorderConfigError::Io(error.kind().into()))
        .and_then(|bytes| parse(bytes));
    match config {
        Ok(config) => {
            let is_new =
                |known: &ConfigState| known.rejected.is_some() || known.config.as_deref() != Some(&config);
            if is_new(&current.borrow()) {
                tracing::info!(
                    revision = config.revision,
                    cameras = config.cameras.len(),
                    "configuration read"
                );
                current.send_replace(ConfigState { config: Some(Arc::new(config)), rejected: None });
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
