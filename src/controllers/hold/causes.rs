//! When a hold needs a person. Pure.

use jiff::{SignedDuration, Timestamp};

use super::validate::Valid;
use crate::api::IncidentHold;
use crate::api::condition::{ConditionType, Finding, Reason, Truth};
use crate::controllers::drive::Watched;
use crate::controllers::kit::patience::{self, Cause, since};

/// A resolution that lies further ahead than this is a mistake.
const AHEAD: SignedDuration = SignedDuration::from_hours(24);

/// What was found of a hold that is open.
pub struct Open<'a> {
    /// `Accepted`.
    pub accepted: &'a Finding,
    /// `Placed`.
    pub placed: &'a Finding,
    /// `Covers`.
    pub covers: &'a Finding,
}

/// Why an open hold may need a person, the gravest first.
pub fn of_open(
    hold: &IncidentHold,
    valid: &Valid,
    open: &Open<'_>,
    released: Option<&Finding>,
    now: Timestamp,
) -> Vec<Cause> {
    let made = hold.metadata.creation_timestamp.as_ref();
    let since = |finding: &Finding| since(hold.conditions(), finding, made, now);
    let Open { accepted, placed, covers } = open;
    if !accepted.is_true() {
        let soon = now.saturating_add(patience::REFERENCE).unwrap_or(now);
        return match accepted.reason {
            Reason::ReferenceNotFound => {
                vec![Cause::after((*accepted).clone(), since(accepted), patience::REFERENCE)]
            }
            Reason::NotBegun if hold.spec.window.from.0 <= soon => Vec::new(),
            _ => vec![Cause::now((*accepted).clone())],
        };
    }
    let mut causes = Vec::new();
    if valid.site.is_none() {
        causes.push(Cause::now(valid.accepted.clone()));
    }
    if !placed.is_true() {
        causes.extend(of_site(valid));
        causes.push(Cause::after((*placed).clone(), since(placed), patience::WORK));
    }
    let ahead = hold.spec.resolution.as_ref().map(|resolution| resolution.at.0);
    if ahead.is_some_and(|ahead| ahead.duration_since(now) > AHEAD) {
        causes.extend(released.cloned().map(Cause::now));
    }
    if covers.truth == Truth::False {
        causes.push(Cause::after((*covers).clone(), since(covers), patience::REFERENCE));
    }
    causes
}

/// Why a resolved hold may need a person; `overdue`: when its release is.
pub fn of_resolved(valid: &Valid, released: &Finding, overdue: Option<Timestamp>) -> Vec<Cause> {
    if released.truth != Truth::False {
        return Vec::new();
    }
    let mut causes: Vec<Cause> = of_site(valid).into_iter().collect();
    if valid.site.is_none() {
        causes.push(Cause::now(valid.accepted.clone()));
    }
    causes.extend(overdue.map(|from| Cause { finding: released.clone(), from }));
    causes
}

/// The Site needs a person, and without it nothing is done for its holds.
fn of_site(valid: &Valid) -> Option<Cause> {
    let stalled = valid.site.as_ref()?.stalled.as_ref()?;
    let message = format!("its Site waits for a person: {stalled}");
    Some(Cause::now(Finding::new(ConditionType::Stalled, true, Reason::DependsOn, message)))
}

#[cfg(test)]
#[path = "causes_tests.rs"]
mod tests;
