//! `RecordingsFound`: whether the bucket has recordings that a hold covers. Pure.

use jiff::{SignedDuration, Timestamp};

use super::validate::HoldValidation;
use crate::api::condition::{ConditionFinding, ConditionStatus, ConditionType, Reason};
use crate::api::{IncidentHold, Placement};
use crate::storage::recordings::hold::coverage::MAX_UPLOAD_DELAY;

/// Names that a status has room for.
const MAX_UNKNOWN_CAMERAS: usize = 64;
const MAX_NAMES_IN_MESSAGE: usize = 8;

/// Returns `RecordingsFound` of an open hold, and the names in `spec.cameras` without Camera and without segment.
pub fn evaluate_recordings_found(
    hold: &IncidentHold,
    valid: &HoldValidation,
    accepted: &ConditionFinding,
    placement: Option<&Placement>,
    now: Timestamp,
) -> (ConditionFinding, Vec<String>) {
    use ConditionStatus::{False, True, Unknown};
    let finding = |status, reason, message| {
        ConditionFinding::new(ConditionType::RecordingsFound, status, reason, message)
    };
    let Some(placement) = placement else {
        let not_searched = if accepted.is_true() {
            finding(Unknown, Reason::UploadsPending, "the bucket has not been searched yet".to_owned())
        } else {
            let message = format!("nothing is kept for the hold: {}", accepted.message);
            finding(Unknown, Reason::DependencyNotReady, message)
        };
        return (not_searched, Vec::new());
    };
    // A placement of an earlier generation says nothing about the cameras and the window that the spec names now.
    let is_current = Some(placement.observed_generation) == hold.metadata.generation;
    let unknown = if is_current { find_unknown_cameras(valid, placement) } else { Vec::new() };
    let found = match (count_segments(placement), is_current) {
        (segments, _) if !unknown.is_empty() => {
            finding(False, Reason::UnknownCamera, unknown_cameras_message(&unknown, segments))
        }
        (segments @ 1.., _) => {
            finding(True, Reason::RecordingsFound, recordings_message(placement, segments))
        }
        (_, true) if is_coverage_known(hold, placement, now) => {
            finding(False, Reason::NoRecordingsFound, nothing_found_message(hold, valid, placement))
        }
        _ => {
            let until = coverage_known_at(hold).map_or_else(String::new, |at| format!(" until {at}"));
            let message = format!("no segment in the window was found yet; segments can still arrive{until}");
            finding(Unknown, Reason::UploadsPending, message)
        }
    };
    (found, unknown)
}

/// Returns the latest time at which the coverage of the window of `hold` becomes known. If the window has no end: that of
/// its beginning.
pub fn coverage_known_at(hold: &IncidentHold) -> Option<Timestamp> {
    let window = &hold.spec.window;
    let until = window.until.as_ref().unwrap_or(&window.from);
    until.0.checked_add(MAX_UPLOAD_DELAY).ok()
}

/// Whether the coverage of the whole window is known. While the window goes on: that of its beginning.
pub fn is_coverage_known(hold: &IncidentHold, placement: &Placement, now: Timestamp) -> bool {
    let Some(known) = placement.coverage_until_time.as_ref().map(|known| known.0) else {
        return false;
    };
    let ended = hold.spec.window.until.as_ref().filter(|until| until.0 <= now);
    // A status has whole seconds, so `known` can be a fraction of a second before the end.
    ended.is_none_or(|until| until.0.duration_since(known) < SignedDuration::from_secs(1))
}

fn count_segments(placement: &Placement) -> i64 {
    let rejected = placement.store_rejection.as_ref().map_or(0, |rejected| rejected.versions);
    placement.segments.saturating_add(rejected)
}

/// Returns the cameras without a resource for which the last pass searched the bucket in vain.
fn find_unknown_cameras(valid: &HoldValidation, placement: &Placement) -> Vec<String> {
    let is_empty = |name: &&String| {
        let mut sources = placement.sources.iter();
        sources.any(|source| source.name == **name && source.segments == 0)
    };
    let unknown = valid.cameras_without_resource.iter().filter(is_empty);
    unknown.take(MAX_UNKNOWN_CAMERAS).cloned().collect()
}

fn unknown_cameras_message(unknown: &[String], segments: i64) -> String {
    let others = if segments > 0 {
        format!("{segments} segments of other cameras are kept")
    } else {
        "nothing is kept for the hold".to_owned()
    };
    format!(
        "spec.cameras: the Site has no Camera named {}, and the bucket has no segment of that name in the window; {others}; add \
         the right name and remove these",
        join_names(unknown)
    )
}

fn recordings_message(placement: &Placement, segments: i64) -> String {
    let without = placement.sources.iter().filter(|source| source.segments == 0);
    let without: Vec<String> = without.map(|source| source.name.clone()).collect();
    let none_of =
        if without.is_empty() { String::new() } else { format!(", none of {}", join_names(&without)) };
    format!("{segments} segments in the window were found{none_of}")
}

fn nothing_found_message(hold: &IncidentHold, valid: &HoldValidation, placement: &Placement) -> String {
    let window = &hold.spec.window;
    let until = window.until.as_ref().or(placement.coverage_until_time.as_ref());
    let until = until.unwrap_or(&window.from).0;
    let created_at = valid.site.as_ref().and_then(|site| site.created_at);
    let mut gaps = placement.sources.iter().flat_map(|source| &source.gaps);
    let cause = if gaps.any(|gap| gap.reason == "ExpiredBeforeHold") {
        "lifecycle rules may have deleted recordings of the window before the hold took effect".to_owned()
    } else if let Some(created_at) = created_at.filter(|created_at| until <= *created_at) {
        format!("the window ends before the Site was created ({created_at}): check its offset from UTC")
    } else {
        "check the window, its offset from UTC and spec.cameras".to_owned()
    };
    format!(
        "spec.window: no segment was found from {} to {until}, so nothing is kept for the hold; {cause}; if the window is wrong, \
         create another hold, then resolve this one",
        window.from.0
    )
}

fn join_names(names: &[String]) -> String {
    let first: Vec<&str> = names.iter().take(MAX_NAMES_IN_MESSAGE).map(String::as_str).collect();
    let more = names.len().saturating_sub(MAX_NAMES_IN_MESSAGE);
    if more > 0 { format!("{} and {more} more", first.join(", ")) } else { first.join(", ") }
}

#[cfg(test)]
mod tests;
