//! What is known of each Site's bucket, as gauges: counted when asked for, from the status of the Sites, so that none
//! outlives its Site.

use std::sync::atomic::AtomicU64;

use jiff::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::api::Site;
use kube::ResourceExt;

type SecondsGauge = Gauge<f64, AtomicU64>;

/// Whose bucket.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SiteLabels {
    namespace: String,
    site: String,
}

/// Whose bucket, and what of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SiteKindLabels {
    namespace: String,
    site: String,
    kind: String,
}

/// What an audit found in whose bucket, and whether it breaks a promise.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FindingLabels {
    namespace: String,
    site: String,
    kind: String,
    violation: String,
}

/// The gauges.
#[derive(Debug, Default)]
pub struct BucketMetrics {
    versions: Family<SiteLabels, Gauge>,
    bytes: Family<SiteLabels, Gauge>,
    held_versions: Family<SiteLabels, Gauge>,
    oldest_unheld_age: Family<SiteKindLabels, SecondsGauge>,
    ceiling: Family<SiteKindLabels, SecondsGauge>,
    findings: Family<FindingLabels, Gauge>,
    store_lag: Family<SiteLabels, SecondsGauge>,
    last_success: Family<SiteKindLabels, SecondsGauge>,
    drift_detected: Family<SiteKindLabels, SecondsGauge>,
    open_holds: Family<SiteLabels, Gauge>,
    orphaned_holds: Family<SiteLabels, Gauge>,
    undeletable: Family<SiteLabels, Gauge>,
    conformance: Family<SiteKindLabels, Gauge>,
}

impl BucketMetrics {
    /// Registers them.
    pub fn register(&self, registry: &mut Registry) {
        let text = "Versions of recordings, by the last whole audit";
        registry.register("bucket_versions", text, self.versions.clone());
        let text = "Bytes of recordings, by the last whole audit";
        registry.register_with_unit("bucket", text, Unit::Bytes, self.bytes.clone());
        let text = "Versions that an open hold covers, by the last whole audit";
        registry.register("bucket_held_versions", text, self.held_versions.clone());
        let text = "How old the oldest recording is that no hold covers, by class";
        registry.register_with_unit("oldest_unheld_age", text, Unit::Seconds, self.oldest_unheld_age.clone());
        let text = "How long recordings may live (article 6), by class";
        registry.register_with_unit("ceiling", text, Unit::Seconds, self.ceiling.clone());
        let text = "What audits found that should not be, by kind";
        registry.register("audit_findings", text, self.findings.clone());
        let text = "How far the store's own lifecycle is behind what S3 documents";
        registry.register_with_unit("store_lag", text, Unit::Seconds, self.store_lag.clone());
        let text =
            "When it was last done (Unix time): audit, audit_all, sweep, verification, read_back, probe";
        registry.register_with_unit("bucket_done_at", text, Unit::Seconds, self.last_success.clone());
        let text = "When it was last found that somebody else had changed it (Unix time): the bucket, or what is held";
        registry.register_with_unit("drift_found_at", text, Unit::Seconds, self.drift_detected.clone());
        let text = "Holds that are open, by the API and the bucket's ledger";
        registry.register("open_holds", text, self.open_holds.clone());
        let text = "Holds that only the bucket's ledger knows";
        registry.register("orphaned_holds", text, self.orphaned_holds.clone());
        let text = "Versions over their ceiling that no hold covers and the store does not give up";
        registry.register("sweep_resisted", text, self.undeletable.clone());
        let text = "Rows of the conformance table by verdict";
        registry.register("conformance_rows", text, self.conformance.clone());
    }

    /// Counts anew.
    pub fn update(&self, sites: &[Site]) {
        self.versions.clear();
        self.bytes.clear();
        self.held_versions.clear();
        self.oldest_unheld_age.clear();
        self.ceiling.clear();
        self.findings.clear();
        self.store_lag.clear();
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
        let labels = SiteLabels { namespace: namespace.clone(), site: name.clone() };
        let kind_labels = |kind: &str| SiteKindLabels {
            namespace: namespace.clone(),
            site: name.clone(),
            kind: kind.to_owned(),
        };
        let set_last_success = |kind, at: Option<Timestamp>| {
            if let Some(at) = at {
                self.last_success.get_or_create(&kind_labels(kind)).set(to_seconds(at.as_millisecond()));
            }
        };
        // What was never done is as late as if it had been done when the Site was made.
        let created = site.metadata.creation_timestamp.as_ref().map(|made| made.0);
        set_last_success("audit", created);
        set_last_success("sweep", created);
        let Some(status) = &site.status else { return };
        let held = status.retention.as_ref().and_then(|retention| retention.drift.as_ref());
        for (kind, drift) in [("bucket", status.drift.as_ref()), ("held", held)] {
            if let Some(drift) = drift {
                let at = to_seconds(drift.at.0.as_millisecond());
                self.drift_detected.get_or_create(&kind_labels(kind)).set(at);
            }
        }
        if let Some(ceilings) = &status.ceilings {
            for (class, days) in [("video", ceilings.video), ("calls", ceilings.calls)] {
                self.ceiling.get_or_create(&kind_labels(class)).set(f64::from(days.0) * 86_400.0);
            }
        }
        if let Some(audit) = &status.audit {
            self.versions.get_or_create(&labels).set(audit.versions);
            self.bytes.get_or_create(&labels).set(audit.bytes);
            self.held_versions.get_or_create(&labels).set(audit.held);
            self.store_lag
                .get_or_create(&labels)
                .set(to_seconds(audit.store_lag_seconds.saturating_mul(1000)));
            for (class, oldest) in
                [("video", &audit.oldest_unheld_video), ("calls", &audit.oldest_unheld_calls)]
            {
                if let Some(oldest) = oldest {
                    let age = now.as_millisecond().saturating_sub(oldest.0.as_millisecond());
                    self.oldest_unheld_age.get_or_create(&kind_labels(class)).set(to_seconds(age));
                }
            }
            for finding in &audit.findings {
                let finding_labels = FindingLabels {
                    namespace: namespace.clone(),
                    site: name.clone(),
                    kind: finding.kind.clone(),
                    violation: finding.violation.to_string(),
                };
                self.findings.get_or_create(&finding_labels).set(finding.count);
            }
            set_last_success("audit", Some(audit.boundary_at.0));
            set_last_success("audit_all", Some(audit.audited_at.0));
        }
        if let Some(retention) = &status.retention {
            self.open_holds.get_or_create(&labels).set(retention.open_holds);
            let orphaned = i64::try_from(retention.orphaned_holds.len()).unwrap_or(i64::MAX);
            self.orphaned_holds.get_or_create(&labels).set(orphaned);
            self.undeletable.get_or_create(&labels).set(retention.resisted);
            set_last_success("sweep", retention.swept_at.as_ref().map(|at| at.0));
            set_last_success("verification", retention.verified_at.as_ref().map(|at| at.0));
        }
        if let Some(storage) = &status.storage {
            set_last_success("read_back", Some(storage.read_back_at.0));
            set_last_success("probe", storage.tried_at.as_ref().map(|at| at.0));
            for row in &storage.conformance {
                self.conformance.get_or_create(&kind_labels(row.verdict.into())).inc();
            }
        }
    }
}

/// As Prometheus has times.
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
                    "drift": {"at": "2026-01-01T00:00:00Z", "what": "policy: a → b"},
                    "retention": {"openHolds": 2, "orphanedHolds": ["x"], "deleted": 3, "resisted": 1, "sweptAt": "2026-01-01T00:00:00Z"},
                    "audit": {
                        "auditedAt": "2026-01-01T00:00:00Z", "boundaryAt": "2026-01-01T00:00:00Z", "versions": 5, "bytes": 10,
                        "held": 1, "inspected": 1, "sampleOneIn": 100, "oldestUnheldVideo": "2026-01-01T00:00:00Z",
                        "storeLagSeconds": 7, "findings": [{"kind": "Overdue", "count": 4, "violation": true}],
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
            r#"toezicht_audit_findings{namespace="n",site="s",kind="Overdue",violation="true"} 4"#,
            r#"toezicht_ceiling_seconds{namespace="n",site="s",kind="video"} 2419200.0"#,
            r#"toezicht_store_lag_seconds{namespace="n",site="s"} 7.0"#,
            r#"toezicht_drift_found_at_seconds{namespace="n",site="s",kind="bucket"} 1767225600.0"#,
            r#"toezicht_open_holds{namespace="n",site="s"} 2"#,
            r#"toezicht_orphaned_holds{namespace="n",site="s"} 1"#,
            r#"toezicht_bucket_done_at_seconds{namespace="n",site="s",kind="sweep"} 1767225600.0"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
        metrics.update(&[]);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        assert!(!text.contains("site=\"s\""), "{text}");
    }
}
