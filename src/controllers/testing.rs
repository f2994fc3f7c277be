//! Example resources and reports for tests.

use jiff::Timestamp;

pub(crate) use crate::api::testing::{camera, hold, policy, site};
use crate::wire::{CameraReport, FORMAT, RecorderStatus, SpoolStatus};

/// Returns the status of a recorder that follows `revision`.
pub(crate) fn recorder_status(revision: &str, now: Timestamp, cameras: Vec<CameraReport>) -> RecorderStatus {
    RecorderStatus {
        format: FORMAT,
        version: "1".into(),
        shard: 0,
        revision: revision.into(),
        uploads_follow: Some(revision.into()),
        refused: None,
        storage_problem: None,
        started: now,
        now,
        clock_ahead_ms: None,
        spool: SpoolStatus::default(),
        cameras,
    }
}
