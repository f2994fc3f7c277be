//! Status of a resource. The operator patches it only if it differs, with one field manager for each writer.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde::Serialize;
use serde_json::json;

use super::error::ApiError;
use super::meta::StoredObject;
use crate::api::condition::{ConditionFinding, ConditionStatus, ConditionType, Reason, merge};
use crate::api::{CameraStatus, IncidentHoldStatus, RecordingPolicyStatus, SiteStatus, reject_future};

/// Shortest interval between two updates of timestamps in a status. Metrics carry values that change faster.
pub const REFRESH_INTERVAL: Duration = Duration::from_mins(5);

/// Status with conditions.
pub trait ReportedStatus: Clone + Default + Serialize + Send + Sync {
    fn conditions(&self) -> &[Condition];

    /// Returns this status as that of a paused object.
    #[must_use]
    fn paused(self, now: Timestamp) -> Self;

    /// Returns the fields that the kind's own controller writes, and none of another controller.
    #[must_use]
    fn own_fields(self) -> Self;
}

macro_rules! reported_status {
    ($($status:ident, of_other_controllers: [$($field:ident),*];)*) => {$(
        impl ReportedStatus for $status {
            fn conditions(&self) -> &[Condition] {
                &self.conditions
            }

            fn paused(self, now: Timestamp) -> Self {
                let conditions = paused_conditions(&self.conditions, self.observed_generation, now);
                Self { conditions, ..self }
            }

            fn own_fields(self) -> Self {
                Self { $($field: None,)* ..self }
            }
        }
    )*};
}

reported_status! {
    RecordingPolicyStatus, of_other_controllers: [];
    SiteStatus, of_other_controllers: [retention, audit];
    CameraStatus, of_other_controllers: [];
    IncidentHoldStatus, of_other_controllers: [placement, never_held_time];
}

/// Whether a value that was last refreshed at `previous` may be refreshed again.
pub fn may_refresh(previous: Option<&Time>, now: Timestamp) -> bool {
    let previous = previous.and_then(|previous| reject_future(previous.0, now));
    previous.is_none_or(|previous| {
        Duration::try_from(now.duration_since(previous)).is_ok_and(|age| age >= REFRESH_INTERVAL)
    })
}

/// Patches the status of `object` to `next` as `manager`, unless it is `current`. Returns the written object. Skips an
/// object that was deleted or re-created.
pub async fn report<K: StoredObject, S: Serialize>(
    api: &Api<K>,
    manager: &str,
    object: &K,
    current: Option<&S>,
    next: &S,
) -> Result<Option<K>, ApiError> {
    if is_unchanged(current, next).map_err(kube::Error::SerdeError)? {
        return Ok(None);
    }
    let patch = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        // With the UID, the server rejects this patch for another object that took the name.
        "metadata": {"name": object.name_any(), "uid": object.uid()},
        "status": next,
    });
    let params = PatchParams::apply(manager).force();
    match api.patch_status(&object.name_any(), &params, &Patch::Apply(&patch)).await {
        Ok(written) => Ok(Some(written)),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Returns the conditions of a paused object: those before, marked as not observed.
pub fn paused_conditions(before: &[Condition], generation: Option<i64>, now: Timestamp) -> Vec<Condition> {
    let message = "paused by the annotation toezicht.dev/paused: remove it to continue";
    let ready =
        ConditionFinding::new(ConditionType::Ready, ConditionStatus::Unknown, Reason::Paused, message);
    let conditions = replace_condition(before, &ready, generation, now);
    mark_unobserved(conditions, before, Reason::Paused, "it is paused", now)
}

/// Marks `conditions` as not observed because of `cause`: a condition that was good may not be so any more. `before`:
/// the conditions in the status now.
pub fn mark_unobserved(
    mut conditions: Vec<Condition>,
    before: &[Condition],
    reason: Reason,
    cause: &str,
    now: Timestamp,
) -> Vec<Condition> {
    let (reason, unknown): (&str, &str) = (reason.into(), ConditionStatus::Unknown.into());
    let bad: [&str; 2] = [ConditionType::Stalled.into(), ConditionType::ReviewDue.into()];
    let is_good = |one: &&mut Condition| one.status == "True" && !bad.contains(&one.type_.as_str());
    for one in conditions.iter_mut().filter(is_good) {
        // The transition time stays while the condition stays unobserved; otherwise each reconcile would write it.
        let is_same =
            |old: &&Condition| old.type_ == one.type_ && old.status == unknown && old.reason == reason;
        let same = before.iter().find(is_same);
        one.last_transition_time = same.map_or(Time(now), |old| old.last_transition_time.clone());
        one.message = format!("not observed now, because {cause}; last observed: {}", one.message);
        (one.status, one.reason) = (unknown.to_owned(), reason.to_owned());
    }
    conditions
}

/// Returns the conditions `before`, with `finding` in place of the condition of its type.
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

fn is_unchanged<S: Serialize>(current: Option<&S>, next: &S) -> Result<bool, serde_json::Error> {
    let Some(current) = current else { return Ok(false) };
    // As JSON, which drops fractions of a second as the server does: they would otherwise always differ.
    Ok(serde_json::to_value(current)? == serde_json::to_value(next)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::kubernetes::event;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millisecond(1_700_000_000_000 + millis).unwrap()
    }

    fn status(now: Timestamp, before: &SiteStatus) -> SiteStatus {
        let findings = [ConditionFinding::new(ConditionType::Ready, true, Reason::AsRequired, "")];
        SiteStatus { conditions: merge(&before.conditions, &findings, Some(1), now), ..SiteStatus::default() }
    }

    /// Not one event for each condition.
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
        let events = event::condition_changes(&before, &after);
        let actions: Vec<_> = events.iter().map(|event| event.action.as_str()).collect();
        assert_eq!(actions, ["Ready"]);
    }

    #[test]
    fn unchanged_conditions_leave_status_unchanged() {
        let first = status(at(123), &SiteStatus::default());
        let live: SiteStatus = serde_json::from_value(serde_json::to_value(&first).unwrap()).unwrap();
        assert!(is_unchanged(Some(&live), &first).unwrap());
        assert!(is_unchanged(Some(&live), &status(at(90_000), &live)).unwrap());
        assert!(!is_unchanged(None, &first).unwrap());
        assert!(!is_unchanged(Some(&live), &SiteStatus { cameras: Some(1), ..first }).unwrap());
    }

    #[test]
    fn refresh_waits_five_minutes() {
        assert!(may_refresh(None, at(0)));
        assert!(!may_refresh(Some(&Time(at(0))), at(299_999)));
        assert!(may_refresh(Some(&Time(at(0))), at(300_000)));
    }
}
