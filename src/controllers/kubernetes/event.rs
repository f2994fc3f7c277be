//! Events, for people. A condition produces one when it changes, and none while it stays.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Resource;
use kube::runtime::events::{Event, EventType, Recorder};

use super::error::ApiError;

/// Longest note that the API server accepts.
const MAX_NOTE_BYTES: usize = 1024;
/// Reasons of conditions that are not `True` although nothing is wrong.
const EXPECTED_REASONS: [&str; 11] = [
    "DependencyNotReady",
    "Deleting",
    "Paused",
    "NotYetInForce",
    "Withdrawn",
    "Suspended",
    "NoCameras",
    "NotEncrypted",
    "Connecting",
    "Placing",
    "Releasing",
];

/// Returns the events for a change of conditions from `before` to `after`.
pub fn condition_changes(before: &[Condition], after: &[Condition]) -> Vec<Event> {
    let is_news = |new: &&Condition| is_notable_change(before.iter().find(|old| old.type_ == new.type_), new);
    let news: Vec<&Condition> = after.iter().filter(is_news).collect();
    news.iter().filter(|new| !is_redundant_summary(new, &news)).map(|new| condition_event(new)).collect()
}

/// Whether a summary only repeats the condition that it follows from.
fn is_redundant_summary(condition: &Condition, news: &[&Condition]) -> bool {
    let is_summary = |condition: &Condition| matches!(condition.type_.as_str(), "Ready" | "Stalled");
    is_summary(condition) && news.iter().any(|other| !is_summary(other) && other.reason == condition.reason)
}

/// Whether a change concerns a person.
fn is_notable_change(old: Option<&Condition>, new: &Condition) -> bool {
    // The condition that it depends on has its own event, as has a drift.
    if new.reason == "DependencyNotReady" || new.type_ == "Intact" || is_unobserved(new) {
        return false;
    }
    match old.filter(|old| old.status != "Unknown" || new.status == "Unknown") {
        Some(old) => old.status != new.status || old.reason != new.reason,
        // Of a new object, `Ready` alone speaks if all is well.
        None => new.type_ == "Ready" && new.status == "True" || is_warning(new),
    }
}

/// Whether a condition only says that it is not observed. `Ready` says so for all of them.
fn is_unobserved(condition: &Condition) -> bool {
    condition.type_ != "Ready" && matches!(condition.reason.as_str(), "Paused" | "Deleting")
}

fn is_warning(condition: &Condition) -> bool {
    if matches!(condition.type_.as_str(), "Stalled" | "ReviewDue") {
        return condition.status == "True";
    }
    condition.status == "False" && !EXPECTED_REASONS.contains(&condition.reason.as_str())
}

fn condition_event(condition: &Condition) -> Event {
    let note = if condition.message.is_empty() {
        format!("{} is {}", condition.type_, condition.status)
    } else {
        format!("{} is {}: {}", condition.type_, condition.status, condition.message)
    };
    let type_ = if is_warning(condition) { EventType::Warning } else { EventType::Normal };
    new_event(type_, &condition.reason, &condition.type_, &note)
}

pub fn normal(reason: &str, action: &str, note: &str) -> Event {
    new_event(EventType::Normal, reason, action, note)
}

/// Returns an event that a person should act on, or at least know.
pub fn warning(reason: &str, action: &str, note: &str) -> Event {
    new_event(EventType::Warning, reason, action, note)
}

fn new_event(type_: EventType, reason: &str, action: &str, note: &str) -> Event {
    Event {
        type_,
        reason: reason.to_owned(),
        note: Some(truncate_note(note).to_owned()),
        action: action.to_owned(),
        secondary: None,
    }
}

/// Returns the longest beginning of a note that the API server accepts.
fn truncate_note(note: &str) -> &str {
    note.get(..note.floor_char_boundary(MAX_NOTE_BYTES)).unwrap_or(note)
}

/// Publishes `events` about `object`, as far as the API server accepts them. In a namespace that is being deleted it
/// accepts none, which must not stop the reconcile.
pub async fn publish<K: Resource<DynamicType = ()>>(recorder: &Recorder, object: &K, events: &[Event]) {
    let regarding = object.object_ref(&());
    for event in events {
        if let Err(error) = recorder.publish(event, &regarding).await {
            tracing::debug!(reason = %event.reason, error = %ApiError(error), "an event could not be published");
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::api::condition::{ConditionFinding, ConditionStatus, ConditionType, Reason, merge};

    fn conditions(findings: &[(ConditionType, ConditionStatus, Reason)]) -> Vec<Condition> {
        let findings: Vec<_> = findings
            .iter()
            .map(|(type_, truth, reason)| ConditionFinding::new(*type_, *truth, *reason, "why"))
            .collect();
        merge(&[], &findings, None, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn only_condition_changes_produce_events() {
        use ConditionType::{Permitted, Ready};
        let ready = conditions(&[
            (Ready, ConditionStatus::True, Reason::AsRequired),
            (Permitted, ConditionStatus::True, Reason::Permitted),
        ]);
        assert_eq!(condition_changes(&[], &ready).len(), 1);
        assert!(condition_changes(&ready, &ready).is_empty());
        let covered = conditions(&[
            (Ready, ConditionStatus::True, Reason::Suspended),
            (Permitted, ConditionStatus::False, Reason::Suspended),
        ]);
        let events = condition_changes(&ready, &covered);
        // `Ready` only repeats the reason of `Permitted`.
        assert_eq!(events.len(), 1);
        assert!(events.iter().all(|event| event.type_ == EventType::Normal));
        let refused = conditions(&[
            (Ready, ConditionStatus::False, Reason::DependencyNotReady),
            (Permitted, ConditionStatus::False, Reason::NoConsent),
        ]);
        let events = condition_changes(&covered, &refused);
        assert_eq!(events.len(), 1);
        assert_eq!((events[0].type_, events[0].action.as_str()), (EventType::Warning, "Permitted"));
    }

    #[test]
    fn long_note_is_cut_at_char_boundary() {
        assert!(truncate_note(&"é".repeat(2000)).len() <= MAX_NOTE_BYTES);
        assert_eq!(truncate_note("kort"), "kort");
    }
}
