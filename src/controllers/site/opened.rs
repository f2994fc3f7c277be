//! What the other controllers may know of a Site's bucket: pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use kube::ResourceExt;

use super::apply::Applied;
use super::dereference::Dereferenced;
use super::found::Bucket;
use super::recording::Answer;
use super::validate::Valid;
use crate::api::{Camera, Site};
use crate::contract::Gap;
use crate::controllers::buckets::{Follow, OpenBucket};
use crate::protocol::live_view::embargo;

/// The bucket, if the store says that it is the Site's, or said so and does not answer now. Where it is not as it must be,
/// nothing is recorded; what is there is looked after all the same (article 6).
pub fn opened(
    site: &Site,
    found: &Dereferenced,
    valid: &Valid,
    bucket: &Bucket,
    applied: Option<&Applied>,
    answers: &[Answer],
) -> Option<OpenBucket> {
    if !bucket.is_ours() {
        return None;
    }
    let recorders = applied.map_or(Follow::Unknown, |applied| follow(applied, answers));
    let open = of_deleted(site, found, valid, recorders)?;
    Some(OpenBucket { gaps: gaps(answers), ..open })
}

/// That of a Site that is being deleted: it was as it must be, and is not changed any more.
pub fn of_deleted(site: &Site, found: &Dereferenced, valid: &Valid, recorders: Follow) -> Option<OpenBucket> {
    let access = valid.access.as_ref()?;
    let policy = found.policy.as_ref().map(|policy| &policy.spec);
    Some(OpenBucket {
        operator: access.operator.clone(),
        ceilings: valid.ceilings.clone()?,
        embargo: embargo(&site.name_any(), site.spec.live_view, policy),
        recorders,
        cameras: cameras(found),
        gaps: BTreeMap::new(),
    })
}

fn cameras(found: &Dereferenced) -> BTreeMap<String, Timestamp> {
    let declared = |camera: &Camera| Some(camera.metadata.creation_timestamp.as_ref()?.0);
    let cameras = found.cameras.iter();
    cameras.filter_map(|camera| Some((camera.name_any(), declared(camera)?))).collect()
}

/// The holds that every recorder follows. One that does not answer, or that may still have an upload under way which began
/// before, leaves it unknown; so do recorders that are to go and have something in their spools, and those that are going:
/// they are not told any more.
fn follow(applied: &Applied, answers: &[Answer]) -> Follow {
    if applied.waits_for > 0 || applied.leaving > 0 {
        return Follow::Unknown;
    }
    let Some(running) = &applied.recorders else {
        return Follow::NoRecorders;
    };
    let follows = |answer: &Answer| {
        let status = answer.status.as_ref();
        status.is_ok_and(|status| status.follows(&running.expected.revision))
    };
    if !answers.iter().all(follows) {
        return Follow::Unknown;
    }
    Follow::Holds(running.expected.holds.clone())
}

fn gaps(answers: &[Answer]) -> BTreeMap<String, Vec<Gap>> {
    let reports =
        answers.iter().filter_map(|answer| answer.status.as_ref().ok()).flat_map(|status| &status.cameras);
    reports
        .filter(|report| !report.gaps.is_empty())
        .map(|report| (report.name.clone(), report.gaps.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::apply::AppliedRecorders;
    use super::super::fixtures::fixture;
    use super::*;

    #[test]
    fn recorders_that_are_going_leave_it_unknown() {
        let expected = fixture().plan().recorders.unwrap().expected;
        let holds = Follow::Holds(expected.holds.clone());
        let mut applied = Applied {
            recorders: Some(AppliedRecorders { expected, pods: Vec::new() }),
            ..Applied::default()
        };
        assert_eq!(follow(&applied, &[]), holds);
        applied.leaving = 1;
        assert_eq!(follow(&applied, &[]), Follow::Unknown);
        (applied.leaving, applied.waits_for) = (0, 1);
        assert_eq!(follow(&applied, &[]), Follow::Unknown);
        // None is to be there any more.
        (applied.leaving, applied.waits_for, applied.recorders) = (1, 0, None);
        assert_eq!(follow(&applied, &[]), Follow::Unknown);
        applied.leaving = 0;
        assert_eq!(follow(&applied, &[]), Follow::NoRecorders);
    }
}
