//! The recorder's metrics. Labels are camera names and values from closed sets.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::sync::lock;
use crate::wire::GapCause;

type CameraLabels = [(&'static str, String); 1];
type CameraReasonLabels = [(&'static str, String); 2];
type ReasonLabels = [(&'static str, &'static str); 1];

#[derive(Clone, Debug, Default)]
pub struct RecorderMetrics {
    frames: Family<CameraLabels, Counter>,
    written_bytes: Family<CameraLabels, Counter>,
    lost_packets: Family<CameraLabels, Counter>,
    segments: Family<CameraLabels, Counter>,
    last_segment: Family<CameraLabels, Gauge>,
    connection_attempts: Family<CameraLabels, Counter>,
    connection_failures: Family<CameraReasonLabels, Counter>,
    gaps: Family<CameraReasonLabels, Counter>,
    uploads: Family<ReasonLabels, Counter>,
    discarded: Family<ReasonLabels, Counter>,
    spool_bytes: Gauge,
    spool_segments: Gauge,
    spool_limit: Gauge,
    clock_offset: Gauge<f64, AtomicU64>,
    /// Reasons counted for each camera, to remove their series with the camera: a family does not list its series.
    reasons: Arc<Mutex<BTreeSet<(String, &'static str)>>>,
}

impl RecorderMetrics {
    pub fn register(&self, registry: &mut Registry) {
        let r = registry.sub_registry_with_prefix("toezicht_recorder");
        r.register("frames", "Frames written", self.frames.clone());
        let help = "Bytes written to the spool";
        r.register_with_unit("written", help, Unit::Bytes, self.written_bytes.clone());
        r.register("lost_packets", "Lost RTP packets", self.lost_packets.clone());
        r.register("segments", "Segments completed", self.segments.clone());
        let help = "End of the newest segment that the store confirmed";
        r.register_with_unit("last_segment_timestamp", help, Unit::Seconds, self.last_segment.clone());
        let help = "Attempts to connect to the camera";
        r.register("connection_attempts", help, self.connection_attempts.clone());
        let help = "Connections that failed or ended, by reason";
        r.register("connection_failures", help, self.connection_failures.clone());
        r.register("gaps", "Gaps in the video, by reason", self.gaps.clone());
        r.register("uploads", "Attempts to upload a segment, by outcome", self.uploads.clone());
        let help = "Segments removed from the spool before the store confirmed them, by reason";
        r.register("discarded_segments", help, self.discarded.clone());
        r.register_with_unit("spool", "Bytes in the spool", Unit::Bytes, self.spool_bytes.clone());
        r.register("spool_segments", "Complete segments in the spool", self.spool_segments.clone());
        r.register_with_unit("spool_limit", "Capacity of the spool", Unit::Bytes, self.spool_limit.clone());
        let help = "Offset of the recorder's clock from the store's, or before its first answer from the operator's; positive: the recorder is ahead";
        r.register_with_unit("clock_offset", help, Unit::Seconds, self.clock_offset.clone());
    }

    pub fn add_written(&self, camera: &str, frames: u64, bytes: u64) {
        self.frames.get_or_create(&camera_labels(camera)).inc_by(frames);
        self.written_bytes.get_or_create(&camera_labels(camera)).inc_by(bytes);
    }

    pub fn add_lost_packets(&self, camera: &str, packets: u16) {
        self.lost_packets.get_or_create(&camera_labels(camera)).inc_by(packets.into());
    }

    pub fn count_segment(&self, camera: &str) {
        self.segments.get_or_create(&camera_labels(camera)).inc();
    }

    pub fn set_last_segment(&self, camera: &str, end: Timestamp) {
        self.last_segment.get_or_create(&camera_labels(camera)).set(end.as_second());
    }

    pub fn count_connection_attempt(&self, camera: &str) {
        self.connection_attempts.get_or_create(&camera_labels(camera)).inc();
    }

    pub fn count_connection_failure(&self, camera: &str, category: &'static str) {
        lock(&self.reasons).insert((camera.to_owned(), category));
        self.connection_failures.get_or_create(&camera_reason_labels(camera, category)).inc();
    }

    pub fn count_gap(&self, camera: &str, cause: GapCause) {
        lock(&self.reasons).insert((camera.to_owned(), cause.into()));
        self.gaps.get_or_create(&camera_reason_labels(camera, cause.into())).inc();
    }

    pub fn count_upload(&self, outcome: &'static str) {
        self.uploads.get_or_create(&[("outcome", outcome)]).inc();
    }

    /// Counts a segment that left the spool unconfirmed.
    pub fn count_discarded(&self, reason: &'static str) {
        self.discarded.get_or_create(&[("reason", reason)]).inc();
    }

    pub fn set_spool(&self, status: crate::wire::SpoolStatus) {
        self.spool_bytes.set(i64::try_from(status.bytes).unwrap_or(i64::MAX));
        self.spool_segments.set(i64::try_from(status.segments).unwrap_or(i64::MAX));
        self.spool_limit.set(i64::try_from(status.limit).unwrap_or(i64::MAX));
    }

    /// Sets the offset of this clock from the confirmed time; positive: this clock is ahead.
    pub fn set_clock_offset(&self, lead: SignedDuration) {
        self.clock_offset.set(lead.as_secs_f64());
    }

    /// Ends the series of a removed camera.
    pub fn remove_camera(&self, camera: &str) {
        for family in
            [&self.frames, &self.written_bytes, &self.lost_packets, &self.segments, &self.connection_attempts]
        {
            family.remove(&camera_labels(camera));
        }
        self.last_segment.remove(&camera_labels(camera));
        lock(&self.reasons).retain(|(other, reason)| {
            let stays = other != camera;
            if !stays {
                self.connection_failures.remove(&camera_reason_labels(camera, reason));
                self.gaps.remove(&camera_reason_labels(camera, reason));
            }
            stays
        });
    }
}

fn camera_labels(camera: &str) -> CameraLabels {
    [("camera", camera.to_owned())]
}

fn camera_reason_labels(camera: &str, reason: &str) -> CameraReasonLabels {
    [("camera", camera.to_owned()), ("reason", reason.to_owned())]
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    #[test]
    fn removed_camera_loses_its_series() {
        let (metrics, mut registry) = (RecorderMetrics::default(), Registry::default());
        metrics.register(&mut registry);
        for camera in ["hal", "deur"] {
            metrics.add_written(camera, 1, 1);
            metrics.add_lost_packets(camera, 1);
            metrics.count_segment(camera);
            metrics.set_last_segment(camera, Timestamp::UNIX_EPOCH);
            metrics.count_connection_attempt(camera);
            metrics.count_connection_failure(camera, "timeout");
            metrics.count_gap(camera, GapCause::RecorderRestarted);
        }
        metrics.remove_camera("hal");
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        assert!(!text.contains("hal"), "{text}");
        assert_eq!(text.matches("deur").count(), 8, "{text}");
    }
}
