//! The bucket as the other controllers receive it. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use super::evaluation::BucketEvaluation;
use crate::api::{Camera, Site};
use crate::controllers::handoff::{BucketIdentity, HoldAck, SiteBucket, SiteHandoff};
use crate::controllers::site::dereference::ObservedSite;
use crate::controllers::site::recorders::apply::AppliedPlan;
use crate::controllers::site::recorders::query::ShardReply;
use crate::controllers::site::validate::ValidSite;
use crate::rules::RetentionTerms;
use crate::rules::live_view::effective_embargo;
use crate::storage::TargetError;
use crate::wire::{Gap, GapCause};

/// Returns the bucket if the store confirms that the Site owns it, or confirmed it and does not answer now.
///
/// In a bucket that is not compliant nothing is recorded, but retention and audits continue (article 6).
pub fn site_bucket(
    site: &Site,
    observed: &ObservedSite,
    valid: &ValidSite,
    bucket: &BucketEvaluation,
    applied: Option<&AppliedPlan>,
    replies: &[ShardReply],
    handoff: &SiteHandoff,
) -> Option<SiteBucket> {
    if !bucket.is_ours() {
        return None;
    }
    let hold_ack = applied.map_or(HoldAck::Unknown, |applied| evaluate_hold_ack(applied, replies));
    // `enforce` has already reported a target that cannot be used.
    let open = deleted_site_bucket(site, observed, valid, hold_ack, handoff).ok().flatten()?;
    Some(SiteBucket { gaps: known_gaps(&observed.cameras, replies), ..open })
}

/// Returns the bucket of a Site that is being deleted, without contacting the store. `None`: the Site is not valid enough to
/// name one.
pub fn deleted_site_bucket(
    site: &Site,
    observed: &ObservedSite,
    valid: &ValidSite,
    hold_ack: HoldAck,
    handoff: &SiteHandoff,
) -> Result<Option<SiteBucket>, TargetError> {
    let (Some(access), Some(ceilings)) = (&valid.access, valid.ceilings.clone()) else {
        return Ok(None);
    };
    let policy = observed.policies.policy.as_ref().map(|policy| &policy.spec);
    Ok(Some(SiteBucket {
        operator: handoff.connect(&access.claim.uid, BucketIdentity::Operator, &access.operator)?,
        terms: RetentionTerms {
            ceilings,
            embargo: effective_embargo(&site.name_any(), site.spec.live_view, policy, valid.embargo),
        },
        hold_ack,
        cameras: camera_creation_times(observed),
        gaps: BTreeMap::new(),
    }))
}

fn camera_creation_times(observed: &ObservedSite) -> BTreeMap<String, Timestamp> {
    let declared = |camera: &Camera| Some(camera.metadata.creation_timestamp.as_ref()?.0);
    let cameras = observed.cameras.iter();
    cameras.filter_map(|camera| Some((camera.name_any(), declared(camera)?))).collect()
}

/// Returns the holds that every recorder has acknowledged.
///
/// Unknown while a recorder does not answer, or has an upload that began earlier. Also unknown while recorders with
/// spooled segments are to be removed or pods are terminating: these no longer receive holds.
fn evaluate_hold_ack(applied: &AppliedPlan, replies: &[ShardReply]) -> HoldAck {
    if !applied.pending.is_empty() || !applied.leaving_pods.is_empty() {
        return HoldAck::Unknown;
    }
    let Some(running) = &applied.recorders else {
        return HoldAck::NoRecorders;
    };
    let has_acknowledged = |answer: &ShardReply| {
        let status = answer.status.as_ref();
        status.is_ok_and(|status| status.has_acknowledged(&running.expected.revision))
    };
    if !replies.iter().all(has_acknowledged) {
        return HoldAck::Unknown;
    }
    HoldAck::Acknowledged(running.expected.holds.clone())
}

/// Returns the gaps of each camera: those of spools that were lost with their recorders, which no recorder reports, and then the
/// reported ones.
fn known_gaps(cameras: &[Camera], replies: &[ShardReply]) -> BTreeMap<String, Vec<Gap>> {
    let reports =
        replies.iter().filter_map(|answer| answer.status.as_ref().ok()).flat_map(|status| &status.cameras);
    let mut gaps: BTreeMap<String, Vec<Gap>> = BTreeMap::new();
    for camera in cameras {
        gaps.insert(camera.name_any(), lost_spools(camera));
    }
    for report in reports {
        gaps.entry(report.name.clone()).or_default().extend(report.gaps.iter().cloned());
    }
    gaps.retain(|_, gaps| !gaps.is_empty());
    gaps
}

/// Returns the gaps `SpoolLost` in the status of `camera`.
fn lost_spools(camera: &Camera) -> Vec<Gap> {
    let cause: &str = GapCause::SpoolLost.into();
    let gaps = camera.status.iter().flat_map(|status| &status.gaps).filter(|gap| gap.reason == cause);
    let time = |time: &Option<Time>| time.as_ref().map(|time| time.0);
    gaps.map(|gap| Gap { cause: GapCause::SpoolLost, from: time(&gap.from), until: time(&gap.until) })
        .collect()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;

    use super::*;
    use crate::controllers::site::fixtures::fixture;
    use crate::controllers::site::recorders::workload::AppliedRecorders;
    use crate::controllers::testing;
    use crate::wire::{CameraReport, CameraState};

    #[test]
    fn gaps_of_lost_spools_come_before_reported_ones() {
        let time = |second| Timestamp::from_second(second).unwrap();
        let restarted = Gap { cause: GapCause::RecorderRestarted, from: None, until: Some(time(90)) };
        let gaps = vec![restarted.clone()];
        let report = CameraReport { gaps, ..CameraReport::new("hal", CameraState::Recording, time(90)) };
        let status = Ok(testing::recorder_status("r", time(100), vec![report]));
        let mut camera = testing::camera("hal");
        let gap = |reason: &str| serde_json::json!({"reason": reason, "from": time(10), "until": time(60)});
        let status_of_camera = serde_json::json!({"gaps": [gap("Disconnected"), gap("SpoolLost")]});
        camera.status = Some(serde_json::from_value(status_of_camera).unwrap());
        let lost = Gap { cause: GapCause::SpoolLost, from: Some(time(10)), until: Some(time(60)) };
        let known = known_gaps(&[camera, testing::camera("deur")], &[ShardReply { shard: 0, status }]);
        assert_eq!(known, BTreeMap::from([("hal".to_owned(), vec![lost, restarted])]));
    }

    #[test]
    fn leaving_recorders_make_hold_ack_unknown() {
        let expected = fixture().plan().expected;
        let holds = HoldAck::Acknowledged(expected.holds.clone());
        let mut applied = AppliedPlan {
            recorders: Some(AppliedRecorders { expected, pods: Vec::new(), terminating: Vec::new() }),
            ..AppliedPlan::default()
        };
        assert_eq!(evaluate_hold_ack(&applied, &[]), holds);
        applied.leaving_pods = vec![Pod::default()];
        assert_eq!(evaluate_hold_ack(&applied, &[]), HoldAck::Unknown);
        (applied.leaving_pods, applied.pending.filled) = (Vec::new(), vec!["zwembad-recorder-1".to_owned()]);
        assert_eq!(evaluate_hold_ack(&applied, &[]), HoldAck::Unknown);
        // No recorder is desired any more.
        applied = AppliedPlan { leaving_pods: vec![Pod::default()], ..AppliedPlan::default() };
        assert_eq!(evaluate_hold_ack(&applied, &[]), HoldAck::Unknown);
        applied.leaving_pods.clear();
        assert_eq!(evaluate_hold_ack(&applied, &[]), HoldAck::NoRecorders);
    }
}
