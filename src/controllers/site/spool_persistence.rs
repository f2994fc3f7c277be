//! `SpoolPersistent`: what a lost pod or node takes with it. Pure.

use std::time;

use crate::api::condition::{ConditionFinding, ConditionType, Reason};
use crate::api::{Duration, RecorderSettings};

/// Time after which Linux has written a page to the disk, by its default settings. A volume claim does not have more of the open
/// segment after a loss of power.
const WRITEBACK_DELAY: time::Duration = time::Duration::from_secs(30);

/// Evaluates `SpoolPersistent`. `has_claims`: whether the spools are volume claims; `None`: the Site has no recorders yet.
pub fn evaluate(settings: &RecorderSettings, has_claims: Option<bool>) -> ConditionFinding {
    let (spool, open) = (&settings.spool, power_loss(settings));
    let finding = |is_persistent: bool, reason, message| {
        ConditionFinding::new(ConditionType::SpoolPersistent, is_persistent, reason, message)
    };
    let is_volume = spool.storage_class_name.is_some();
    if has_claims.unwrap_or(is_volume) {
        let message = format!(
            "the spools are volume claims, which outlast their pods; a node that loses its power takes at most the last {open} of each \
             camera, unless its volumes are its own and do not come back"
        );
        return finding(true, Reason::VolumeClaim, message);
    }
    let remedy = if is_volume {
        "this lasts until the recorders are replaced: see Ready"
    } else {
        "set spec.recorder.spool.storageClassName to keep it, and maxLoss to require that"
    };
    let message = format!(
        "the spools are emptyDirs: a pod that is evicted or deleted by force, or a node that does not come back, takes with it the \
         open segment of each camera and all that waits for the store, held segments too: after an outage, up to 90% of {}; {remedy}",
        spool.size
    );
    finding(false, Reason::EmptyDir, message)
}

/// Returns why the spool may lose more than `spec.recorder.spool.maxLoss`; `None`: it does not.
pub fn excess_loss(settings: &RecorderSettings) -> Option<String> {
    let (spool, open) = (&settings.spool, power_loss(settings));
    let limit = spool.max_loss?;
    if spool.storage_class_name.is_none() {
        return Some(format!(
            "spec.recorder.spool.maxLoss: without storageClassName the spool is an emptyDir, which can lose more than {limit}: set \
             storageClassName"
        ));
    }
    (limit < open).then(|| {
        format!(
            "spec.recorder.spool.maxLoss: a loss of power can take the last {open} (spec.recorder.segmentDuration and 30s), which is \
             more than {limit}: set a longer maxLoss or a shorter segmentDuration"
        )
    })
}

/// Returns how much of a camera is not on the disk yet, at most.
fn power_loss(settings: &RecorderSettings) -> Duration {
    Duration(settings.segment_duration.0.saturating_add(WRITEBACK_DELAY))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(value: serde_json::Value) -> RecorderSettings {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn loss_is_told_and_limited() {
        for (value, status, excess) in [
            (serde_json::json!({}), "False EmptyDir", None),
            (serde_json::json!({"spool": {"storageClassName": "fast"}}), "True VolumeClaim", None),
            (
                serde_json::json!({"spool": {"maxLoss": "10h"}}),
                "False EmptyDir",
                Some("set storageClassName"),
            ),
            (
                serde_json::json!({"spool": {"storageClassName": "fast", "maxLoss": "89s"}}),
                "True VolumeClaim",
                Some("the last 90s"),
            ),
            (
                serde_json::json!({"spool": {"storageClassName": "fast", "maxLoss": "90s"}}),
                "True VolumeClaim",
                None,
            ),
            (
                serde_json::json!({"segmentDuration": "6s", "spool": {"storageClassName": "fast", "maxLoss": "36s"}}),
                "True VolumeClaim",
                None,
            ),
        ] {
            let settings = settings(value.clone());
            let found = evaluate(&settings, None);
            let (truth, reason): (&str, &str) = (found.status.into(), found.reason.into());
            assert_eq!(format!("{truth} {reason}"), status, "{value}");
            // What is, not what will be.
            for (has_claims, reason) in [(true, Reason::VolumeClaim), (false, Reason::EmptyDir)] {
                assert_eq!(evaluate(&settings, Some(has_claims)).reason, reason, "{value}");
            }
            let problem = excess_loss(&settings);
            assert_eq!(problem.is_some(), excess.is_some(), "{value}: {problem:?}");
            assert!(problem.is_none_or(|problem| problem.contains(excess.unwrap())), "{value}");
        }
    }
}
