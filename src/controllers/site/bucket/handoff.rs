//! The bucket as the other controllers receive it. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use kube::ResourceExt;

use super::evaluation::BucketEvaluation;
use crate::api::{Camera, CameraGap, Site};
use crate::controllers::camera::gaps::{GapStart, merge};
use crate::controllers::handoff::{BucketIdentity, HoldAck, SiteBucket, SiteHandoff};
use crate::controllers::site::dereference::ObservedSite;
use crate::controllers::site::recorders::apply::AppliedPlan;
use crate::controllers::site::recorders::query::ShardReply;
use crate::controllers::site::validate::ValidSite;
use crate::rules::RetentionTerms;
use crate::rules::live_view::effective_embargo;
use crate::storage::TargetError;

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

/// Returns the gaps of each camera: those of its status, and the reported ones. The status has gaps that no recorder reports, such as
/// those of lost spools, and the beginnings of gaps that their recorders do not know.
fn known_gaps(cameras: &[Camera], replies: &[ShardReply]) -> BTreeMap<String, Vec<CameraGap>> {
    let of_status = |camera: &Camera| camera.status.as_ref().map(|status| status.gaps.clone());
    let known = cameras.iter().filter_map(|camera| Some((camera.name_any(), of_status(camera)?)));
    let mut gaps: BTreeMap<String, Vec<CameraGap>> = known.collect();
    let reports =
        replies.iter().filter_map(|answer| answer.status.as_ref().ok()).flat_map(|status| &status.cameras);
    for report in reports {
        let known = gaps.entry(report.name.clone()).or_default();
        *known = merge(known, &report.gaps, GapStart::default());
    }
    gaps.retain(|_, gaps| !gaps.is_empty());
    gaps
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;
    use crate::api::CameraStatus;
    use crate::controllers::site::fixtures::fixture;
    use crate::controllers::site::recorders::workload::AppliedRecorders;
    use crate::controllers::testing;
    use crate::wire::{CameraReport, CameraState, Gap, GapCause};

    #[test]
    fn gaps_are_those_of_the_status_and_the_reported_ones() {
        let time = |second| Timestamp::from_second(second).unwrap();
        let reported = |cause, from, until| Gap { cause, from, until: Some(time(until)) };
        let gaps = vec![
            reported(GapCause::RecorderRestarted, None, 90),
            reported(GapCause::Disconnected, Some(time(95)), 99),
        ];
        let report = CameraReport { gaps, ..CameraReport::new("hal", CameraState::Recording, time(90)) };
        let status = Ok(testing::recorder_status("r", time(100), vec![report]));
        let gap = |reason: &str, from: i64, until: i64| CameraGap {
            reason: reason.into(),
            from: Some(Time(time(from))),
            until: Some(Time(time(until))),
        };
        let of_status = vec![gap("SpoolLost", 10, 60), gap("RecorderRestarted", 60, 90)];
        let mut camera = testing::camera("hal");
        camera.status = Some(CameraStatus { gaps: of_status.clone(), ..CameraStatus::default() });
        let known = known_gaps(&[camera, testing::camera("deur")], &[ShardReply { shard: 0, status }]);
        // The recorder does not know when it ended.
        let expected = [of_status, vec![gap("Disconnected", 95, 99)]].concat();
        assert_eq!(known, BTreeMap::from([("hal".to_owned(), expected)]));
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
