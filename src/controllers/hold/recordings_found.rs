//! Whether a hold covers anything: from what was found in the bucket and the cameras that there are. Pure.

use jiff::{SignedDuration, Timestamp};

use super::validate::HoldValidation;
use crate::api::condition::{ConditionFinding, ConditionStatus, ConditionType, Reason};
use crate::api::{IncidentHold, Placement};
use crate::storage::recordings::hold::coverage::MAX_UPLOAD_DELAY;

/// Names that a status has room for.
const MAX_UNKNOWN_CAMERAS: usize = 64;
const MAX_NAMES_IN_MESSAGE: usize = 8;

/// Whether there are recordings of what an open hold names, and the names in `spec.cameras` that nothing is known of.
pub fn evaluate_covers(
    hold: &IncidentHold,
    valid: &HoldValidation,
    accepted: &ConditionFinding,
    placement: Option<&Placement>,
    now: Timestamp,
) -> (ConditionFinding, Vec<String>) {
    let found = |truth, reason, message| {
        ConditionFinding::new(ConditionType::RecordingsFound, truth, reason, message)
    };
    let Some(placement) = placement else {
        let finding = if accepted.is_true() {
            let message = "the bucket has not been searched yet".to_owned();
            found(ConditionStatus::Unknown, Reason::UploadsPending, message)
        } else {
            let message = format!("nothing is kept for it: {}", accepted.message);
            found(ConditionStatus::Unknown, Reason::DependencyNotReady, message)
        };
        return (finding, Vec::new());
    };
    let is_of_this = Some(placement.observed_generation) == hold.metadata.generation;
    let unknown = if is_of_this { find_unknown_cameras(valid, placement) } else { Vec::new() };
    let finding = match (count_segments(placement), is_of_this) {
        (segments, _) if !unknown.is_empty() => {
            found(ConditionStatus::False, Reason::UnknownCamera, unknown_cameras_message(&unknown, segments))
        }
        (segments @ 1.., _) => {
            found(ConditionStatus::True, Reason::RecordingsFound, recordings_message(placement, segments))
        }
        (_, true) if is_coverage_known(hold, placement, now) => found(
            ConditionStatus::False,
            Reason::NoRecordingsFound,
            nothing_found_message(hold, valid, placement),
        ),
        _ => {
            let at = coverage_known_at(hold).map_or_else(String::new, |at| format!(" until {at}"));
            let message =
                format!("no segment was found yet that it covers; segments may be on their way{at}");
            found(ConditionStatus::Unknown, Reason::UploadsPending, message)
        }
    };
    (finding, unknown)
}

/// When at the latest it is known what was recorded in the window of `hold`, or in its beginning where it goes on.
pub fn coverage_known_at(hold: &IncidentHold) -> Option<Timestamp> {
    let window = &hold.spec.window;
    let until = window.until.as_ref().unwrap_or(&window.from);
    until.0.checked_add(MAX_UPLOAD_DELAY).ok()
}

/// Whether it is known of the whole window what was recorded; while the window goes on, of its beginning.
pub fn is_coverage_known(hold: &IncidentHold, placement: &Placement, now: Timestamp) -> bool {
    let Some(known) = placement.coverage_until_time.as_ref().map(|known| known.0) else {
        return false;
    };
    let ended = hold.spec.window.until.as_ref().filter(|until| until.0 <= now);
    // A status has whole seconds.
    ended.is_none_or(|until| until.0.duration_since(known) < SignedDuration::from_secs(1))
}

fn count_segments(placement: &Placement) -> i64 {
    let refused = placement.store_rejection.as_ref().map_or(0, |refused| refused.versions);
    placement.segments.saturating_add(refused)
}

/// Those without a Camera of which the bucket has no segment, where that was looked for.
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
        format!("{segments} segments of others are kept")
    } else {
        "nothing is kept for it".to_owned()
    };
    format!(
        "spec.cameras: the Site has no Camera named {}, and the bucket has no segment of that name in the window; {others}. Add \
         the right name and remove this one",
        join_names(unknown)
    )
}

fn recordings_message(placement: &Placement, segments: i64) -> String {
    let without = placement.sources.iter().filter(|source| source.segments == 0);
    let without: Vec<String> = without.map(|source| source.name.clone()).collect();
    if without.is_empty() {
        format!("{segments} segments were found that it covers")
    } else {
        format!("{segments} segments were found that it covers, none of them of {}", join_names(&without))
    }
}

fn nothing_found_message(hold: &IncidentHold, valid: &HoldValidation, placement: &Placement) -> String {
    let window = &hold.spec.window;
    let until = window.until.as_ref().or(placement.coverage_until_time.as_ref());
    let until = until.unwrap_or(&window.from).0;
    let made = valid.site.as_ref().and_then(|site| site.created_at);
    let mut gaps = placement.sources.iter().flat_map(|source| &source.gaps);
    let why = if gaps.any(|gap| gap.reason == "ExpiredBeforeHold") {
        "recordings of the window had passed their ceiling before the hold was declared".to_owned()
    } else if let Some(made) = made.filter(|made| until <= *made) {
        format!("the window ends before the Site was made ({made}): check its offset from UTC")
    } else {
        "check the window, its offset from UTC and spec.cameras".to_owned()
    };
    format!(
        "spec.window: no segment was found from {} to {until}, so nothing is kept for it; {why}. If the window is wrong, create \
         another hold; then resolve this one",
        window.from.0
    )
}

fn join_names(names: &[String]) -> String {
    let told: Vec<&str> = names.iter().take(MAX_NAMES_IN_MESSAGE).map(String::as_str).collect();
    let more = names.len().saturating_sub(MAX_NAMES_IN_MESSAGE);
    if more > 0 { format!("{} and {more} more", told.join(", ")) } else { told.join(", ") }
}

#[cfg(test)]
mod tests;
