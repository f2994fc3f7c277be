//! What is counted. Labels are camera names and closed sets only.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::contract::GapCause;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Of {
    camera: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfKind {
    camera: String,
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

/// The recorder's metrics.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    frames: Family<Of, Counter>,
    bytes: Family<Of, Counter>,
    lost_packets: Family<Of, Counter>,
    segments: Family<Of, Counter>,
    connects: Family<Of, Counter>,
    failures: Family<OfKind, Counter>,
    gaps: Family<OfKind, Counter>,
    uploads: Family<Outcome, Counter>,
    discarded: Family<Outcome, Counter>,
    spool_bytes: Gauge,
    spool_segments: Gauge,
    spool_limit: Gauge,
    clock_ahead_ms: Gauge,
    /// The series by kind that each camera has: the library does not list them.
    kinds: Arc<Mutex<BTreeSet<(String, &'static str)>>>,
}

impl Metrics {
    /// Registers all of them.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("toezicht_recorder");
        let r = registry;
        r.register("frames", "Pictures written", self.frames.clone());
        r.register_with_unit("written", "Written into the spool", Unit::Bytes, self.bytes.clone());
        r.register("lost_packets", "RTP packets that did not arrive", self.lost_packets.clone());
        r.register("segments", "Segments completed", self.segments.clone());
        r.register("connects", "Connections to the camera", self.connects.clone());
        r.register("failures", "Connections that failed or ended, by kind", self.failures.clone());
        r.register("gaps", "Stretches without picture, by cause", self.gaps.clone());
        r.register("uploads", "Attempts to upload a segment, by outcome", self.uploads.clone());
        r.register(
            "discarded",
            "Segments that left the spool unconfirmed, by reason",
            self.discarded.clone(),
        );
        r.register_with_unit("spool", "In the spool", Unit::Bytes, self.spool_bytes.clone());
        r.register("spool_segments", "Complete segments in the spool", self.spool_segments.clone());
        r.register_with_unit("spool_limit", "What the spool may hold", Unit::Bytes, self.spool_limit.clone());
        r.register("clock_ahead_milliseconds", "Our clock ahead of the store's", self.clock_ahead_ms.clone());
    }

    /// A fragment is in the spool.
    pub fn written(&self, camera: &str, frames: u64, bytes: u64) {
        self.frames.get_or_create(&of(camera)).inc_by(frames);
        self.bytes.get_or_create(&of(camera)).inc_by(bytes);
    }

    /// RTP packets did not arrive.
    pub fn lost(&self, camera: &str, packets: u16) {
        self.lost_packets.get_or_create(&of(camera)).inc_by(packets.into());
    }

    /// A segment is complete.
    pub fn segment(&self, camera: &str) {
        self.segments.get_or_create(&of(camera)).inc();
    }

    /// A connection to the camera begins.
    pub fn connect(&self, camera: &str) {
        self.connects.get_or_create(&of(camera)).inc();
    }

    /// A connection failed or ended.
    pub fn failure(&self, camera: &str, kind: &'static str) {
        self.kind(camera, kind);
        self.failures.get_or_create(&of_kind(camera, kind)).inc();
    }

    /// A gap began.
    pub fn gap(&self, camera: &str, cause: GapCause) {
        self.kind(camera, name(cause));
        self.gaps.get_or_create(&of_kind(camera, name(cause))).inc();
    }

    /// An attempt to upload ended.
    pub fn upload(&self, outcome: &'static str) {
        self.uploads.get_or_create(&Outcome { outcome }).inc();
    }

    /// A segment left the spool unconfirmed.
    pub fn discard(&self, outcome: &'static str) {
        self.discarded.get_or_create(&Outcome { outcome }).inc();
    }

    /// How full the spool is.
    pub fn spool(&self, status: crate::contract::SpoolStatus) {
        self.spool_bytes.set(i64::try_from(status.bytes).unwrap_or(i64::MAX));
        self.spool_segments.set(i64::try_from(status.segments).unwrap_or(i64::MAX));
        self.spool_limit.set(i64::try_from(status.limit).unwrap_or(i64::MAX));
    }

    /// How far our clock is ahead of the store's.
    pub fn clock_ahead(&self, ms: i64) {
        self.clock_ahead_ms.set(ms);
    }

    /// A camera went away: its series end.
    pub fn forget(&self, camera: &str) {
        for family in [&self.frames, &self.bytes, &self.lost_packets, &self.segments, &self.connects] {
            family.remove(&of(camera));
        }
        self.kinds().retain(|(of, kind)| {
            let stays = of != camera;
            if !stays {
                self.failures.remove(&of_kind(camera, kind));
                self.gaps.remove(&of_kind(camera, kind));
            }
            stays
        });
    }

    fn kind(&self, camera: &str, kind: &'static str) {
        self.kinds().insert((camera.to_owned(), kind));
    }

    fn kinds(&self) -> MutexGuard<'_, BTreeSet<(String, &'static str)>> {
        self.kinds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn of(camera: &str) -> Of {
    Of { camera: camera.to_owned() }
}

fn of_kind(camera: &str, kind: &'static str) -> OfKind {
    OfKind { camera: camera.to_owned(), kind }
}

const fn name(cause: GapCause) -> &'static str {
    match cause {
        GapCause::Disconnected => "Disconnected",
        GapCause::Suspended => "Suspended",
        GapCause::NotPermitted => "NotPermitted",
        GapCause::SpoolFull => "SpoolFull",
        GapCause::Restart => "Restart",
        GapCause::ClockUnknown => "ClockUnknown",
        GapCause::Other => "Other",
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    #[test]
    fn the_series_of_a_camera_that_went_away_end() {
        let (metrics, mut registry) = (Metrics::default(), Registry::default());
        metrics.register(&mut registry);
        for camera in ["hal", "deur"] {
            metrics.written(camera, 1, 1);
            metrics.lost(camera, 1);
            metrics.segment(camera);
            metrics.connect(camera);
            metrics.failure(camera, "timeout");
            metrics.gap(camera, GapCause::Restart);
        }
        metrics.forget("hal");
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        assert!(!text.contains("hal"), "{text}");
        assert_eq!(text.matches("deur").count(), 7, "{text}");
    }
}
