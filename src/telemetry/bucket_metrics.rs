//! Gauges of each Site's bucket, computed from the statuses of the Sites at each scrape, so that none outlives its Site.

use std::sync::atomic::AtomicU64;

use jiff::Timestamp;
use kube::ResourceExt;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::api::Site;

type SecondsGauge = Gauge<f64, AtomicU64>;

/// Labels of one gauge: the Site, and what distinguishes its values.
type Labels = Vec<(&'static str, String)>;

#[derive(Debug, Default)]
pub struct BucketMetrics {
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

impl BucketMetrics {
    pub fn register(&self, registry: &mut Registry) {
        let text = "Versions of recordings, as of the last full audit";
        registry.register("bucket_versions", text, self.versions.clone());
        let text = "Bytes of recordings, as of the last full audit";
        registry.register_with_unit("bucket", text, Unit::Bytes, self.bytes.clone());
        let text = "Versions that an open hold covers, as of the last full audit";
        registry.register("bucket_held_versions", text, self.held_versions.clone());
        let text = "Age of the oldest recording that no hold covers, by class";
        registry.register_with_unit("oldest_unheld_age", text, Unit::Seconds, self.oldest_unheld_age.clone());
        let text = "Maximum age of recordings (article 6), by class";
        registry.register_with_unit("ceiling", text, Unit::Seconds, self.ceiling.clone());
        let text = "Findings of the last audit, by type";
        registry.register("audit_findings", text, self.findings.clone());
        let text = "Delay of the store's lifecycle rules behind the schedule that S3 documents";
        registry.register_with_unit("lifecycle_lag", text, Unit::Seconds, self.lifecycle_lag.clone());
        let text = "Unix time of the last success of each operation; the creation of the Site before the first audit or sweep";
        registry.register_with_unit("last_success_timestamp", text, Unit::Seconds, self.last_success.clone());
        let text = "Unix time at which the operator last detected drift, by scope: bucket or held_versions";
        registry.register_with_unit(
            "drift_last_detected_timestamp",
            text,
            Unit::Seconds,
            self.drift_detected.clone(),
        );
        let text = "Open holds in the API and in the bucket's ledger";
        registry.register("open_holds", text, self.open_holds.clone());
        let text = "Open holds that exist only in the bucket's ledger";
        registry.register("orphaned_holds", text, self.orphaned_holds.clone());
        let text = "Versions past their ceiling and not held that the store refuses to delete";
        registry.register("undeletable_versions", text, self.undeletable.clone());
        let text = "Conformance checks by result";
        registry.register("conformance_checks", text, self.conformance.clone());
    }

    /// Replaces all values by those of `sites`.
    pub fn update(&self, sites: &[Site]) {
        self.versions.clear();
        self.bytes.clear();
        self.held_versions.clear();
        self.oldest_unheld_age.clear();
        self.ceiling.clear();
        self.findings.clear();
        self.lifecycle_lag.clear();
        self.last_success.clear();
        self.drift_detected.clear();
        self.open_holds.clear();
        self.orphaned_holds.clear();
        self.undeletable.clear();
        self.conformance.clear();
        let now = Timestamp::now();
        for site in sites {
            self.update_site(site, now);
        }
    }

    fn update_site(&self, site: &Site, now: Timestamp) {
        let (namespace, name) = (site.namespace().unwrap_or_default(), site.name_any());
        let labels: Labels = vec![("namespace", namespace), ("site", name)];
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

    #[test]
    fn bucket_gauges_follow_site_status_and_end_with_the_site() {
        let site = || -> Site {
            serde_json::from_value(json!({
                "metadata": {"name": "s", "namespace": "n"},
                "spec": {
                    "displayName": "S", "address": {"street": "a", "city": "b"}, "policyRef": {"name": "p"},
                    "managers": [],
                    "storage": {
                        "bucket": "bucket", "region": "r",
                        "operator": {"principal": "o", "credentialsRef": {"name": "o"}},
                        "recorder": {"principal": "r", "credentialsRef": {"name": "r"}},
                    },
                },
                "status": {
                    "ceilings": {"video": "28d", "calls": "7d"},
                    "drift": {"lastDetectionTime": "2026-01-01T00:00:00Z", "message": "policy: a → b"},
                    "retention": {"openHolds": 2, "orphanedHolds": ["x"], "deletedVersions": 3, "undeletableVersions": 1, "lastSweepTime": "2026-01-01T00:00:00Z"},
                    "audit": {
                        "lastFullAuditTime": "2026-01-01T00:00:00Z", "lastBoundaryAuditTime": "2026-01-01T00:00:00Z", "versions": 5, "bytes": 10,
                        "heldVersions": 1, "inspectedVersions": 1, "sampleOneIn": 100, "oldestUnheldVideoTime": "2026-01-01T00:00:00Z",
                        "lifecycleLagSeconds": 7, "findings": [{"type": "Overdue", "count": 4, "violation": true}],
                    },
                },
            }))
            .unwrap()
        };
        let (metrics, mut registry) = (BucketMetrics::default(), Registry::with_prefix("toezicht"));
        metrics.register(&mut registry);
        metrics.update(&[site()]);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
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
        metrics.update(&[]);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        assert!(!text.contains("site=\"s\""), "{text}");
    }
}
