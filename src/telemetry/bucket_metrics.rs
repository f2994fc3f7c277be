//! Gauges of each Site's bucket, computed from the statuses of the Sites at each scrape, so that no gauge outlives its
//! Site.

use std::sync::atomic::AtomicU64;

use jiff::Timestamp;
use kube::ResourceExt;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::api::Site;

type SecondsGauge = Gauge<f64, AtomicU64>;

/// Labels of one series, by name.
pub type Labels = Vec<(&'static str, String)>;

pub fn labels<const N: usize>(pairs: [(&'static str, &str); N]) -> Labels {
    pairs.map(|(name, value)| (name, value.to_owned())).to_vec()
}

struct BucketMetrics {
    versions: Family<Labels, Gauge>,
    bytes: Family<Labels, Gauge>,
    held_versions: Family<Labels, Gauge>,
    oldest_unheld_age: Family<Labels, SecondsGauge>,
    ceiling: Family<Labels, SecondsGauge>,
    findings: Family<Labels, Gauge>,
    lifecycle_lag: Family<Labels, SecondsGauge>,
    last_success: Family<Labels, SecondsGauge>,
    drift_detected: Family<Labels, SecondsGauge>,
    open_holds: Family<Labels, Gauge>,
    orphaned_holds: Family<Labels, Gauge>,
    undeletable: Family<Labels, Gauge>,
    conformance: Family<Labels, Gauge>,
}

/// Registers the gauges of `sites`.
pub fn register(registry: &mut Registry, sites: &[&Site]) {
    let (metrics, now) = (BucketMetrics::new(registry), Timestamp::now());
    for site in sites {
        metrics.add(site, now);
    }
}

fn counts(registry: &mut Registry, name: &str, help: &str) -> Family<Labels, Gauge> {
    let family = Family::default();
    registry.register(name, help, family.clone());
    family
}

fn seconds(registry: &mut Registry, name: &str, help: &str) -> Family<Labels, SecondsGauge> {
    let family = Family::default();
    registry.register_with_unit(name, help, Unit::Seconds, family.clone());
    family
}

impl BucketMetrics {
    fn new(r: &mut Registry) -> Self {
        let bytes = Family::default();
        let text = "Bytes of recordings, as of the last full audit";
        r.register_with_unit("bucket", text, Unit::Bytes, Family::<Labels, Gauge>::clone(&bytes));
        let versions = "Versions of recordings, as of the last full audit";
        let held = "Versions that an open hold covers, as of the last full audit";
        let oldest = "Age of the oldest recording that no hold covers, by class";
        let lag = "Delay of the store's lifecycle rules behind the schedule that S3 documents";
        let success = "Unix time of the last success of each operation; the creation of the Site before the first audit or sweep";
        let drift = "Unix time at which the operator last detected drift, by scope: bucket or held_versions";
        let undeletable = "Versions past their ceiling and not held that the store refuses to delete";
        Self {
            bytes,
            versions: counts(r, "bucket_versions", versions),
            held_versions: counts(r, "bucket_held_versions", held),
            oldest_unheld_age: seconds(r, "oldest_unheld_age", oldest),
            ceiling: seconds(r, "ceiling", "Maximum age of recordings (article 6), by class"),
            findings: counts(r, "audit_findings", "Findings of the last audit, by type"),
            lifecycle_lag: seconds(r, "lifecycle_lag", lag),
            last_success: seconds(r, "last_success_timestamp", success),
            drift_detected: seconds(r, "drift_last_detected_timestamp", drift),
            open_holds: counts(r, "open_holds", "Open holds in the API and in the bucket's ledger"),
            orphaned_holds: counts(r, "orphaned_holds", "Open holds that exist only in the bucket's ledger"),
            undeletable: counts(r, "undeletable_versions", undeletable),
            conformance: counts(r, "conformance_checks", "Conformance checks by result"),
        }
    }

    fn add(&self, site: &Site, now: Timestamp) {
        let (namespace, name) = (site.namespace().unwrap_or_default(), site.name_any());
        let labels = labels([("namespace", &namespace), ("site", &name)]);
        let with = |label: &'static str, value: &str| [&labels[..], &[(label, value.to_owned())]].concat();
        let set_last_success = |operation, at: Option<Timestamp>| {
            if let Some(at) = at {
                let labels = with("operation", operation);
                self.last_success.get_or_create(&labels).set(to_seconds(at.as_millisecond()));
            }
        };
        // An audit or sweep that never succeeded must raise its alert too, so its age counts from the creation of the Site.
        let created = site.metadata.creation_timestamp.as_ref().map(|made| made.0);
        set_last_success("boundary_audit", created);
        set_last_success("sweep", created);
        let Some(status) = &site.status else { return };
        let held = status.retention.as_ref().and_then(|retention| retention.drift.as_ref());
        for (scope, drift) in [("bucket", status.drift.as_ref()), ("held_versions", held)] {
            if let Some(drift) = drift {
                let at = to_seconds(drift.last_detection_time.0.as_millisecond());
                self.drift_detected.get_or_create(&with("scope", scope)).set(at);
            }
        }
        if let Some(ceilings) = &status.ceilings {
            for (class, days) in [("video", ceilings.video), ("calls", ceilings.calls)] {
                self.ceiling.get_or_create(&with("class", class)).set(f64::from(days.0) * 86_400.0);
            }
        }
        if let Some(audit) = &status.audit {
            self.versions.get_or_create(&labels).set(audit.versions);
            self.bytes.get_or_create(&labels).set(audit.bytes);
            self.held_versions.get_or_create(&labels).set(audit.held_versions);
            self.lifecycle_lag
                .get_or_create(&labels)
                .set(to_seconds(audit.lifecycle_lag_seconds.saturating_mul(1000)));
            for (class, oldest) in
                [("video", &audit.oldest_unheld_video_time), ("calls", &audit.oldest_unheld_calls_time)]
            {
                if let Some(oldest) = oldest {
                    let age = now.as_millisecond().saturating_sub(oldest.0.as_millisecond());
                    self.oldest_unheld_age.get_or_create(&with("class", class)).set(to_seconds(age));
                }
            }
            for finding in &audit.findings {
                let mut finding_labels = with("type", &finding.type_);
                finding_labels.push(("violation", finding.violation.to_string()));
                self.findings.get_or_create(&finding_labels).set(finding.count);
            }
            set_last_success("boundary_audit", Some(audit.last_boundary_audit_time.0));
            set_last_success("full_audit", Some(audit.last_full_audit_time.0));
        }
        if let Some(retention) = &status.retention {
            self.open_holds.get_or_create(&labels).set(retention.open_holds);
            let orphaned = i64::try_from(retention.orphaned_holds.len()).unwrap_or(i64::MAX);
            self.orphaned_holds.get_or_create(&labels).set(orphaned);
            self.undeletable.get_or_create(&labels).set(retention.undeletable_versions);
            set_last_success("sweep", retention.last_sweep_time.as_ref().map(|at| at.0));
            set_last_success("verification", retention.last_verification_time.as_ref().map(|at| at.0));
        }
        if let Some(storage) = &status.storage {
            set_last_success("read_back", Some(storage.last_read_time.0));
            set_last_success("probe", storage.last_probe_time.as_ref().map(|at| at.0));
            for row in &storage.conformance {
                self.conformance.get_or_create(&with("result", row.result.into())).inc();
            }
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "milliseconds of this millennium fit")]
fn to_seconds(milliseconds: i64) -> f64 {
    milliseconds as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use serde_json::json;

    use super::*;
    use crate::api::testing;

    #[test]
    fn bucket_gauges_follow_site_status_and_end_with_the_site() {
        let mut site = testing::site();
        (site.metadata.namespace, site.metadata.name) = (Some("n".into()), Some("s".into()));
        site.status = serde_json::from_value(json!({
            "ceilings": {"video": "28d", "calls": "7d"},
            "drift": {"lastDetectionTime": "2026-01-01T00:00:00Z", "message": "policy: a → b"},
            "retention": {"openHolds": 2, "orphanedHolds": ["x"], "deletedVersions": 3, "undeletableVersions": 1, "lastSweepTime": "2026-01-01T00:00:00Z"},
            "audit": {
                "lastFullAuditTime": "2026-01-01T00:00:00Z", "lastBoundaryAuditTime": "2026-01-01T00:00:00Z", "versions": 5, "bytes": 10,
                "heldVersions": 1, "inspectedVersions": 1, "sampleOneIn": 100, "oldestUnheldVideoTime": "2026-01-01T00:00:00Z",
                "lifecycleLagSeconds": 7, "findings": [{"type": "Overdue", "count": 4, "violation": true}],
            },
        }))
        .unwrap();
        let encoded = |sites: &[&Site]| {
            let mut registry = Registry::with_prefix("toezicht");
            register(&mut registry, sites);
            let mut text = String::new();
            encode(&mut text, &registry).unwrap();
            text
        };
        let text = encoded(&[&site]);
        for line in [
            r#"toezicht_bucket_versions{namespace="n",site="s"} 5"#,
            r#"toezicht_audit_findings{namespace="n",site="s",type="Overdue",violation="true"} 4"#,
            r#"toezicht_ceiling_seconds{namespace="n",site="s",class="video"} 2419200.0"#,
            r#"toezicht_lifecycle_lag_seconds{namespace="n",site="s"} 7.0"#,
            r#"toezicht_drift_last_detected_timestamp_seconds{namespace="n",site="s",scope="bucket"} 1767225600.0"#,
            r#"toezicht_open_holds{namespace="n",site="s"} 2"#,
            r#"toezicht_orphaned_holds{namespace="n",site="s"} 1"#,
            r#"toezicht_last_success_timestamp_seconds{namespace="n",site="s",operation="sweep"} 1767225600.0"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
        let text = encoded(&[]);
        assert!(!text.contains("site=\"s\""), "{text}");
    }
}
