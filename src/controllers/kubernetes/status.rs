//! Status is patched only when it differs, by one field manager a writer.

use std::fmt::Debug;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::api::{Patch, PatchParams};
use kube::{Api, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::error::ApiError;
use crate::api::condition::{ConditionFinding, ConditionStatus, ConditionType, Reason, merge};
use crate::api::reject_future;

/// Timestamps and what goes with them are refreshed in a status at most this often: what moves faster is a metric.
pub const REFRESH_INTERVAL: Duration = Duration::from_mins(5);

/// Whether something that was last refreshed at `previous` may be refreshed again.
pub fn may_refresh(previous: Option<&Time>, now: Timestamp) -> bool {
    let previous = previous.and_then(|previous| reject_future(previous.0, now));
    previous.is_none_or(|previous| {
        Duration::try_from(now.duration_since(previous)).is_ok_and(|age| age >= REFRESH_INTERVAL)
    })
}

/// Patches the status of `object` to `next` as `manager`, unless it already says so; whether it was written.
/// An object that is gone, or was made anew since, is left alone.
pub async fn report<K, S>(
    api: &Api<K>,
    manager: &str,
    object: &K,
    current: Option<&S>,
    next: &S,
) -> Result<bool, ApiError>
where
    K: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug,
    S: Serialize,
{
    if is_unchanged(current, next).map_err(kube::Error::SerdeError)? {
        return Ok(false);
    }
    let patch = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        // With the UID the server refuses this for an object that was deleted and made anew.
        "metadata": {"name": object.name_any(), "uid": object.uid()},
        "status": next,
    });
    match api
        .patch_status(&object.name_any(), &PatchParams::apply(manager).force(), &Patch::Apply(&patch))
        .await
    {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The conditions of an object that is paused: what was found before, and that nobody looks now.
pub fn paused_conditions(before: &[Condition], generation: Option<i64>, now: Timestamp) -> Vec<Condition> {
    let message = "paused by the annotation toezicht.dev/paused, until it is removed";
    let ready =
        ConditionFinding::new(ConditionType::Ready, ConditionStatus::Unknown, Reason::Paused, message);
    let conditions = replace_condition(before, &ready, generation, now);
    mark_unobserved(conditions, before, Reason::Paused, "it is paused", now)
}

/// `conditions`, at which nobody looks now, and why: what was well when somebody last did may be so no more. `before`: as they
/// stand.
pub fn mark_unobserved(
    mut conditions: Vec<Condition>,
    before: &[Condition],
    reason: Reason,
    why: &str,
    now: Timestamp,
) -> Vec<Condition> {
    let (reason, unknown): (&str, &str) = (reason.into(), ConditionStatus::Unknown.into());
    let bad: [&str; 2] = [ConditionType::Stalled.into(), ConditionType::ReviewDue.into()];
    let well = |one: &&mut Condition| one.status == "True" && !bad.contains(&one.type_.as_str());
    for one in conditions.iter_mut().filter(well) {
        let is_same =
            |old: &&Condition| old.type_ == one.type_ && old.status == unknown && old.reason == reason;
        let same = before.iter().find(is_same);
        one.last_transition_time = same.map_or(Time(now), |old| old.last_transition_time.clone());
        one.message = format!("nobody looks now, since {why}; the last look found: {}", one.message);
        (one.status, one.reason) = (unknown.to_owned(), reason.to_owned());
    }
    conditions
}

/// The conditions `before`, with that of the type of `finding` put in place of what it was.
pub fn replace_condition(
    before: &[Condition],
    finding: &ConditionFinding,
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    let type_: &str = finding.condition.into();
    let mut conditions = merge(before, std::slice::from_ref(finding), generation, now);
    conditions.extend(before.iter().filter(|condition| condition.type_ != type_).cloned());
    conditions
}

/// Compared as written, since writing drops what the server does not keep, such as parts of a second.
fn is_unchanged<S: Serialize>(current: Option<&S>, next: &S) -> Result<bool, serde_json::Error> {
    let Some(current) = current else { return Ok(false) };
    Ok(serde_json::to_value(current)? == serde_json::to_value(next)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{SiteStatus, StorageStatus};

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millisecond(1_700_000_000_000 + millis).unwrap()
    }

    fn status(now: Timestamp, before: &SiteStatus) -> SiteStatus {
        let findings = [ConditionFinding::new(ConditionType::Ready, true, Reason::AsRequired, "")];
        SiteStatus { conditions: merge(&before.conditions, &findings, Some(1), now), ..SiteStatus::default() }
    }

    /// One event, not one of each condition.
    #[test]
    fn pause_produces_one_event() {
        let findings = [
            ConditionFinding::new(ConditionType::Ready, true, Reason::AsRequired, ""),
            ConditionFinding::new(ConditionType::Accepted, true, Reason::Valid, ""),
            ConditionFinding::new(ConditionType::Permitted, true, Reason::Permitted, ""),
        ];
        let before = merge(&[], &findings, Some(1), at(0));
        let after = paused_conditions(&before, Some(1), at(1000));
        assert!(after.iter().all(|condition| condition.status == "Unknown"), "{after:?}");
        let events = crate::controllers::kubernetes::event::condition_changes(&before, &after);
        let told: Vec<_> = events.iter().map(|event| event.action.as_str()).collect();
        assert_eq!(told, ["Ready"]);
    }

    #[test]
    fn unchanged_conditions_leave_status_unchanged() {
        let first = status(at(123), &SiteStatus::default());
        let live: SiteStatus = serde_json::from_value(serde_json::to_value(&first).unwrap()).unwrap();
        assert!(is_unchanged(Some(&live), &first).unwrap());
        assert!(is_unchanged(Some(&live), &status(at(90_000), &live)).unwrap());
        assert!(!is_unchanged(None, &first).unwrap());
        let storage = StorageStatus {
            last_read_time: Time(at(0)),
            object_lock: true,
            versioning: true,
            video_expiration_days: None,
            calls_expiration_days: None,
            last_probe_time: None,
            conformance: vec![],
            limitations: vec![],
            unknown_principals: vec![],
            bucket_spec_hash: String::new(),
        };
        assert!(!is_unchanged(Some(&live), &SiteStatus { storage: Some(storage), ..first }).unwrap());
    }

    #[test]
    fn refresh_waits_five_minutes() {
        assert!(may_refresh(None, at(0)));
        assert!(!may_refresh(Some(&Time(at(0))), at(299_999)));
        assert!(may_refresh(Some(&Time(at(0))), at(300_000)));
    }
}
