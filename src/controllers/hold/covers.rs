//! Whether a hold covers anything: from what was found in the bucket and the cameras that there are. Pure.

use jiff::{SignedDuration, Timestamp};

use super::validate::Valid;
use crate::api::condition::{ConditionType, Finding, Reason, Truth};
use crate::api::{IncidentHold, Placement};
use crate::storage::hold::coverage::ON_ITS_WAY;

/// Names that a status has room for.
const MOST_NAMES: usize = 64;
/// Names that a message tells.
const TOLD: usize = 8;

/// Whether there are recordings of what an open hold names, and the names in `spec.cameras` that nothing is known of.
pub fn covers(
    hold: &IncidentHold,
    valid: &Valid,
    accepted: &Finding,
    placement: Option<&Placement>,
    now: Timestamp,
) -> (Finding, Vec<String>) {
    let found = |truth, reason, message| Finding::new(ConditionType::Covers, truth, reason, message);
    let Some(placement) = placement else {
        let finding = if accepted.is_true() {
            let message = "the bucket has not been searched yet".to_owned();
            found(Truth::Unknown, Reason::NotKnownYet, message)
        } else {
            let message = format!("nothing is kept for it: {}", accepted.message);
            found(Truth::Unknown, Reason::DependsOn, message)
        };
        return (finding, Vec::new());
    };
    let is_of_this = Some(placement.observed_generation) == hold.metadata.generation;
    let unknown = if is_of_this { unknown(valid, placement) } else { Vec::new() };
    let finding = match (segments(placement), is_of_this) {
        (segments, _) if !unknown.is_empty() => {
            found(Truth::False, Reason::UnknownCamera, unknown_cameras(&unknown, segments))
        }
        (segments @ 1.., _) => found(Truth::True, Reason::RecordingsFound, recordings(placement, segments)),
        (_, true) if is_known(hold, placement, now) => {
            found(Truth::False, Reason::NothingFound, nothing(hold, valid, placement))
        }
        _ => {
            let at = known_from(hold).map_or_else(String::new, |at| format!(" until {at}"));
            let message =
                format!("no segment was found yet that it covers; segments may be on their way{at}");
            found(Truth::Unknown, Reason::NotKnownYet, message)
        }
    };
    (finding, unknown)
}

/// When at the latest it is known what was recorded in the window of `hold`, or in its beginning where it goes on.
pub fn known_from(hold: &IncidentHold) -> Option<Timestamp> {
    let window = &hold.spec.window;
    let until = window.until.as_ref().unwrap_or(&window.from);
    until.0.checked_add(ON_ITS_WAY).ok()
}

/// Whether it is known of the whole window what was recorded; while the window goes on, of its beginning.
pub fn is_known(hold: &IncidentHold, placement: &Placement, now: Timestamp) -> bool {
    let Some(known) = placement.known_until.as_ref().map(|known| known.0) else {
        return false;
    };
    let ended = hold.spec.window.until.as_ref().filter(|until| until.0 <= now);
    // A status has whole seconds.
    ended.is_none_or(|until| until.0.duration_since(known) < SignedDuration::from_secs(1))
}

fn segments(placement: &Placement) -> i64 {
    let refused = placement.refused.as_ref().map_or(0, |refused| refused.versions);
    placement.segments.saturating_add(refused)
}

/// Those without a Camera of which the bucket has no segment, where that was looked for.
fn unknown(valid: &Valid, placement: &Placement) -> Vec<String> {
    let is_empty = |name: &&String| {
        let mut sources = placement.sources.iter();
        sources.any(|source| source.name == **name && source.segments == 0)
    };
    let unknown = valid.unnamed.iter().filter(is_empty);
    unknown.take(MOST_NAMES).cloned().collect()
}

fn unknown_cameras(unknown: &[String], segments: i64) -> String {
    let others = if segments > 0 {
        format!("{segments} segments of others are kept")
    } else {
        "nothing is kept for it".to_owned()
    };
    format!(
        "spec.cameras: the Site has no Camera named {}, and the bucket has no segment of that name in the window; {others}. Add \
         the right name and remove this one",
        listed(unknown)
    )
}

fn recordings(placement: &Placement, segments: i64) -> String {
    let without = placement.sources.iter().filter(|source| source.segments == 0);
    let without: Vec<String> = without.map(|source| source.name.clone()).collect();
    if without.is_empty() {
        format!("{segments} segments were found that it covers")
    } else {
        format!("{segments} segments were found that it covers, none of them of {}", listed(&without))
    }
}

fn nothing(hold: &IncidentHold, valid: &Valid, placement: &Placement) -> String {
    let window = &hold.spec.window;
    let until = window.until.as_ref().or(placement.known_until.as_ref());
    let until = until.unwrap_or(&window.from).0;
    let made = valid.site.as_ref().and_then(|site| site.made);
    let mut gaps = placement.sources.iter().flat_map(|source| &source.gaps);
    let why = if gaps.any(|gap| gap.cause == "GoneBefore") {
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

fn listed(names: &[String]) -> String {
    let told: Vec<&str> = names.iter().take(TOLD).map(String::as_str).collect();
    let more = names.len().saturating_sub(TOLD);
    if more > 0 { format!("{} and {more} more", told.join(", ")) } else { told.join(", ") }
}

#[cfg(test)]
#[path = "covers_tests.rs"]
mod tests;
