//! Recorders without cameras that no node can run, because their volumes are on nodes that are gone.
//!
//! Such a recorder stays below one that has its cameras now, since a StatefulSet numbers its pods without holes. Holds wait for its
//! acknowledgement and for its spool. Only people can say that the volume does not come back.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::claims::{ClaimContent, SpoolClaim};
use super::names::ChildNames;
use super::spool_report::SpoolReport;
use super::workload::is_unscheduled;
use crate::controllers::kubernetes::meta;
use crate::wire::RecorderConfig;

/// Pod without a node and without cameras, and the claim that it waits for.
pub struct StrandedRecorder<'a> {
    pub shard: u32,
    pub pod: &'a Pod,
    /// Whether people gave the content of its claim up.
    pub is_given_up: bool,
}

/// Returns the recorders below `wanted_pods` whose claims people may give up. `config` is the configuration to be followed, `pods` are
/// all pods of the Site.
///
/// A claim that is younger than its pod has replaced one that was given up. It has nothing, and its pod waits for something else.
pub fn stranded<'a>(
    names: &ChildNames,
    claims: &[SpoolClaim],
    pods: &'a [Pod],
    config: &RecorderConfig,
    wanted_pods: u32,
) -> Vec<StrandedRecorder<'a>> {
    let has_cameras = |shard: u32| config.cameras.iter().any(|camera| camera.shard == shard);
    let candidates = claims.iter().filter(|claim| claim.shard < wanted_pods && !has_cameras(claim.shard));
    let find = |claim: &SpoolClaim| {
        let name = names.pod(claim.shard);
        let pod = pods.iter().find(|pod| pod.name_any() == name && is_unscheduled(pod))?;
        let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
        let is_given_up = claim.content == ClaimContent::GivenUp;
        let is_stranded =
            (is_given_up || !claim.may_go()) && claim.created <= created && !meta::is_deleting(pod);
        is_stranded.then_some(StrandedRecorder { shard: claim.shard, pod, is_given_up })
    };
    candidates.filter_map(find).collect()
}

/// Reports the spools of `stranded` recorders whose content nobody gave up before.
pub fn report(stranded: &[StrandedRecorder<'_>]) -> SpoolReport {
    let new = stranded.iter().filter(|recorder| !recorder.is_given_up);
    let why = "no node can run its recorder, which has no cameras any more";
    let unknown = new.map(|recorder| (recorder.pod.name_any(), why.to_owned()));
    SpoolReport { unknown: unknown.collect(), ..SpoolReport::default() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::controllers::site::fixtures::fixture;
    use crate::controllers::site::recorders::claims::SPOOL_GIVEN_UP_ANNOTATION;
    use crate::controllers::site::recorders::workload::read_config;
    use crate::controllers::testing;

    const NOON: &str = "2026-11-30T12:00:00Z";

    fn names() -> ChildNames {
        ChildNames::of(&testing::site())
    }

    fn claim(shard: u32, annotation: &str, created: &str) -> SpoolClaim {
        let claim = json!({
            "metadata": {
                "name": names().claim(shard), "annotations": {annotation: "true"}, "creationTimestamp": created,
            },
            "spec": {"volumeName": "pv"},
        });
        SpoolClaim::new(&serde_json::from_value(claim).unwrap(), &names()).unwrap()
    }

    fn pod(shard: u32, scheduled: &str) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": names().pod(shard), "creationTimestamp": NOON},
            "status": {"conditions": [{"type": "PodScheduled", "status": scheduled}]},
        }))
        .unwrap()
    }

    #[test]
    fn only_recorders_without_node_and_cameras_are_stranded() {
        let mut config = read_config(&fixture().plan().config_secret).unwrap();
        config.cameras.truncate(1);
        config.cameras[0].shard = 1;
        let found = |claims: &[SpoolClaim], pods: &[Pod]| {
            let found = stranded(&names(), claims, pods, &config, 3);
            found.iter().map(|found| (found.shard, found.is_given_up)).collect::<Vec<_>>()
        };
        let unknown = |shard| claim(shard, "a", "2026-11-30T11:00:00Z");
        assert_eq!(found(&[unknown(0)], &[pod(0, "False")]), [(0, false)]);
        assert_eq!(found(&[unknown(0)], &[pod(0, "True")]), [], "it starts");
        assert_eq!(found(&[unknown(0)], &[]), [], "it is created again");
        assert_eq!(found(&[unknown(1)], &[pod(1, "False")]), [], "it has a camera");
        assert_eq!(found(&[unknown(3)], &[pod(3, "False")]), [], "it is to be removed");
        let given_up = claim(2, SPOOL_GIVEN_UP_ANNOTATION, NOON);
        assert_eq!(found(&[given_up], &[pod(2, "False")]), [(2, true)]);
        let later = claim(0, "a", "2026-11-30T12:00:01Z");
        assert_eq!(found(&[later], &[pod(0, "False")]), [], "the claim is new");
        let empty = claim(0, "toezicht.dev/spool-empty", "2026-11-30T11:00:00Z");
        assert_eq!(found(&[empty], &[pod(0, "False")]), [], "nobody needs to give it up");
    }

    #[test]
    fn spools_that_were_given_up_are_reported_once() {
        let pod = pod(0, "False");
        let recorder = |is_given_up| StrandedRecorder { shard: 0, pod: &pod, is_given_up };
        assert_eq!(report(&[recorder(false)]).unknown.keys().collect::<Vec<_>>(), ["zwembad-recorder-0"]);
        assert!(report(&[recorder(true)]).is_empty());
    }
}
