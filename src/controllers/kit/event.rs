//! Events, for people: one when a condition changes, none when it does not.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Resource;
use kube::runtime::events::{Event, EventType, Recorder};

/// The API server refuses a longer note.
const LONGEST_NOTE: usize = 1024;
/// Reasons for a condition that is not `True` though nothing is wrong.
const EXPECTED: [&str; 11] = [
    "DependsOn",
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

/// The events that lead from conditions `before` to `after`.
pub fn changes(before: &[Condition], after: &[Condition]) -> Vec<Event> {
    let news = |new: &&Condition| is_news(before.iter().find(|old| old.type_ == new.type_), new);
    let news: Vec<&Condition> = after.iter().filter(news).collect();
    news.iter().filter(|new| !is_echo(new, &news)).map(|new| event(new)).collect()
}

/// Whether a summary only repeats the condition that it follows from.
fn is_echo(condition: &Condition, news: &[&Condition]) -> bool {
    let is_summary = |condition: &Condition| matches!(condition.type_.as_str(), "Ready" | "Stalled");
    is_summary(condition) && news.iter().any(|other| !is_summary(other) && other.reason == condition.reason)
}

/// Whether a person wants to hear of it. That something became `True` when it was never otherwise is worth
/// saying once, for `Ready`; what follows from another condition is said there, and what somebody else changed in events of
/// its own.
fn is_news(old: Option<&Condition>, new: &Condition) -> bool {
    if new.reason == "DependsOn" || new.type_ == "Intact" || is_unlooked(new) {
        return false;
    }
    match old.filter(|old| old.status != "Unknown" || new.status == "Unknown") {
        Some(old) => old.status != new.status || old.reason != new.reason,
        None => new.type_ == "Ready" && new.status == "True" || is_warning(new),
    }
}

/// Whether it says no more than that nobody looks, which `Ready` says.
fn is_unlooked(condition: &Condition) -> bool {
    condition.type_ != "Ready" && matches!(condition.reason.as_str(), "Paused" | "Deleting")
}

fn is_warning(condition: &Condition) -> bool {
    if matches!(condition.type_.as_str(), "Stalled" | "ReviewDue") {
        return condition.status == "True";
    }
    condition.status == "False" && !EXPECTED.contains(&condition.reason.as_str())
}

fn event(condition: &Condition) -> Event {
    let note = if condition.message.is_empty() {
        format!("{} is {}", condition.type_, condition.status)
    } else {
        format!("{} is {}: {}", condition.type_, condition.status, condition.message)
    };
    Event {
        type_: if is_warning(condition) { EventType::Warning } else { EventType::Normal },
        reason: condition.reason.clone(),
        note: Some(shorten(&note).to_owned()),
        action: condition.type_.clone(),
        secondary: None,
    }
}

/// An event about something that went as it should.
pub fn normal(reason: &str, action: &str, note: &str) -> Event {
    told(EventType::Normal, reason, action, note)
}

/// One that a person should act on, or at least know of.
pub fn warning(reason: &str, action: &str, note: &str) -> Event {
    told(EventType::Warning, reason, action, note)
}

fn told(type_: EventType, reason: &str, action: &str, note: &str) -> Event {
    Event {
        type_,
        reason: reason.to_owned(),
        note: Some(shorten(note).to_owned()),
        action: action.to_owned(),
        secondary: None,
    }
}

/// The longest beginning that fits, cut between characters.
fn shorten(note: &str) -> &str {
    note.get(..note.floor_char_boundary(LONGEST_NOTE)).unwrap_or(note)
}

/// Publishes `events` about `object`. An event is a courtesy: where one cannot be written, such as in a
/// namespace that is going away, the work goes on.
pub async fn publish<K: Resource<DynamicType = ()>>(recorder: &Recorder, object: &K, events: &[Event]) {
    let regarding = object.object_ref(&());
    for event in events {
        if let Err(error) = recorder.publish(event, &regarding).await {
            let error = super::error::ApiError(error);
            tracing::debug!(reason = %event.reason, %error, "an event could not be published");
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::api::condition::{ConditionType, Finding, Reason, Truth, merge};

    fn conditions(findings: &[(ConditionType, Truth, Reason)]) -> Vec<Condition> {
        let findings: Vec<_> = findings
            .iter()
            .map(|(type_, truth, reason)| Finding::new(*type_, *truth, *reason, "why"))
            .collect();
        merge(&[], &findings, None, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn only_a_change_is_an_event() {
        use ConditionType::{Permitted, Ready};
        let ready = conditions(&[
            (Ready, Truth::True, Reason::AsRequired),
            (Permitted, Truth::True, Reason::Permitted),
        ]);
        assert_eq!(changes(&[], &ready).len(), 1);
        assert!(changes(&ready, &ready).is_empty());
        let covered = conditions(&[
            (Ready, Truth::True, Reason::Suspended),
            (Permitted, Truth::False, Reason::Suspended),
        ]);
        let events = changes(&ready, &covered);
        // That it is ready because it is covered is said by being covered.
        assert_eq!(events.len(), 1);
        assert!(events.iter().all(|event| event.type_ == EventType::Normal));
        let refused = conditions(&[
            (Ready, Truth::False, Reason::DependsOn),
            (Permitted, Truth::False, Reason::NoConsent),
        ]);
        let events = changes(&covered, &refused);
        assert_eq!(events.len(), 1);
        assert_eq!((events[0].type_, events[0].action.as_str()), (EventType::Warning, "Permitted"));
    }

    #[test]
    fn a_long_note_is_cut_between_characters() {
        assert!(shorten(&"é".repeat(2000)).len() <= LONGEST_NOTE);
        assert_eq!(shorten("kort"), "kort");
    }
}
