//! The configuration: read from a mounted Secret, judged, and read again when it changes. A bad one is
//! refused whole and the last good one kept: half of a configuration is nobody's intention.

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
use crate::storage::TargetError;
use crate::storage::s3::segments::Uploader;
use crate::wire::{CONFIG_KEY, CameraConfig, FORMAT, RecorderConfig, RejectedConfig};

/// How often the mounted file is looked at. The kubelet swaps a symbolic link, so the look is a cheap one.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// Bounds of a segment's duration, in milliseconds.
const SEGMENT_DURATION_MS: std::ops::RangeInclusive<u64> = 1000..=3_600_000;

/// What is known of the configuration.
#[derive(Clone, Debug, Default)]
pub struct ConfigState {
    /// The one that is followed; `None`: there has been no good one yet.
    pub config: Option<Arc<RecorderConfig>>,
    /// A newer one that was refused.
    pub rejected: Option<RejectedConfig>,
}

/// Why a configuration is refused. Holds nothing of its content but names.
#[derive(Debug, strum::IntoStaticStr, thiserror::Error)]
#[strum(serialize_all = "snake_case")]
pub enum RecorderConfigError {
    /// The file cannot be read.
    #[error("the configuration cannot be read: {}", .0.kind())]
    Io(#[from] io::Error),
    /// Not JSON of the right form.
    #[error("the configuration is no valid JSON document: {kind} at line {line}, column {column}")]
    Json { kind: &'static str, line: usize, column: usize },
    /// Written by an operator that this recorder does not understand.
    #[error("the configuration has format {0}, and this recorder reads 1 to {FORMAT}")]
    Format(u32),
    /// The bucket cannot be used.
    #[error(transparent)]
    Storage(#[from] TargetError),
    #[error("{field}: {problem}")]
    Invalid { field: String, problem: &'static str },
}

impl From<serde_json::Error> for RecorderConfigError {
    fn from(error: serde_json::Error) -> Self {
        // Its own words may quote a value, and values here are secrets.
        let kind = match error.classify() {
            serde_json::error::Category::Io => "unreadable",
            serde_json::error::Category::Syntax => "wrong syntax",
            serde_json::error::Category::Data => "a missing field or a value of another type",
            serde_json::error::Category::Eof => "it ends too early",
        };
        Self::Json { kind, line: error.line(), column: error.column() }
    }
}

/// Reads a configuration, or tells why not.
pub fn parse(bytes: &[u8]) -> Result<RecorderConfig, RecorderConfigError> {
    #[derive(serde::Deserialize)]
    struct FormatHeader {
        format: u32,
    }
    let FormatHeader { format } = serde_json::from_slice(bytes)?;
    if format == 0 || format > FORMAT {
        return Err(RecorderConfigError::Format(format));
    }
    let config: RecorderConfig = serde_json::from_slice(bytes)?;
    validate(&config)?;
    Ok(config)
}

fn validate(config: &RecorderConfig) -> Result<(), RecorderConfigError> {
    let invalid =
        |field: &str, problem| Err(RecorderConfigError::Invalid { field: field.to_owned(), problem });
    if !SEGMENT_DURATION_MS.contains(&config.segment_duration_ms) {
        return invalid("segmentDurationMs", "from a second to an hour");
    }
    if config.spool_bytes == 0 {
        return invalid("spoolBytes", "more than 0");
    }
    if config.video_ceiling_ms == 0 {
        return invalid("videoCeilingMs", "more than 0");
    }
    if config.status_api.token.reveal().len() < 16 {
        return invalid("statusApi.token", "at least 16 characters");
    }
    if tls::acceptor(&config.status_api).is_err() {
        return invalid("statusApi", "a certificate and its key, PEM");
    }
    Uploader::new(&config.storage)?;
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
    if !is_valid_camera_name(&camera.name) {
        return Err(("name", "a lower-case DNS name"));
    }
    if CameraAddress::parse(camera.url.reveal()).is_err() {
        return Err(("url", "an rtsp:// or rtsps:// URL without user and password"));
    }
    for (field, windows) in [("permitted", &camera.permitted), ("suspended", &camera.suspended)] {
        if windows.iter().any(|window| window.until.is_some_and(|until| until <= window.from)) {
            return Err((field, "a window ends after it begins"));
        }
    }
    Ok(())
}

/// Camera names become folders and keys: nothing that climbs out of them.
fn is_valid_camera_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let label = |label: &str| {
        !label.is_empty() && label.chars().all(plain) && !label.starts_with('-') && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

/// What tells one state of the mounted file from another: the kubelet's link where there is one, else the
/// file's own time and size.
#[derive(Debug, PartialEq, Eq)]
struct FileFingerprint {
    link: Option<PathBuf>,
    modified: Option<SystemTime>,
    size: Option<u64>,
}

async fn fingerprint(folder: &Path) -> FileFingerprint {
    let meta = tokio::fs::metadata(folder.join(CONFIG_KEY)).await.ok();
    FileFingerprint {
        link: tokio::fs::read_link(folder.join("..data")).await.ok(),
        modified: meta.as_ref().and_then(|meta| meta.modified().ok()),
        size: meta.map(|meta| meta.len()),
    }
}

/// Follows the configuration until told to stop.
pub async fn watch_file(folder: PathBuf, current: watch::Sender<ConfigState>, stop: CancellationToken) {
    let mut seen: Option<FileFingerprint> = None;
    loop {
        // The mark first: what changes while reading is read again.
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
            tracing::warn!(
                category = error.category(),
                revision,
                "configuration refused: {}",
                error.to_string()
            );
            let rejected = RejectedConfig { revision, message: error.to_string() };
            current.send_modify(|current| current.rejected = Some(rejected));
        }
    }
}

/// The revision of a configuration that could not be used.
fn parse_revision(bytes: &[u8]) -> Option<String> {
    let document: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    let revision = document.get("revision")?.as_str()?;
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    (revision.len() <= 80 && revision.chars().all(plain)).then(|| revision.to_owned())
}

#[cfg(test)]
mod tests;
