//! What came of a pass, for people: into the status of the Site and of each hold, and as events.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::runtime::events::Event;
use kube::{Api, Client, ResourceExt};
use serde::Serialize;

use super::RetentionError;
use super::cadence::is_of;
use super::outcome::{Drift, Outcome};
use super::plan::Plan;
use crate::api::condition::{ConditionType, Reason};
use crate::api::{
    self, CoverageGap, IncidentHold, Placement, Refusal, RetentionStatus, Site, SourceCoverage,
};
use crate::controllers::drive::Watched;
use crate::controllers::kit::error::{ApiError, Failure};
use crate::controllers::kit::event;
use crate::controllers::kit::quantity::size;
use crate::controllers::kit::status::report as write;
use crate::storage::error::StoreError;
use crate::storage::hold::Refused;
use crate::storage::hold::coverage::{Coverage, Covered};

/// Field manager of what is kept and deleted.
const MANAGER: &str = "toezicht/retention";
/// Names that a status has room for.
const MOST_NAMES: usize = 16;
/// Sources that a status has room for.
const MOST_SOURCES: usize = 64;

/// The part of a Site's status that is ours.
#[derive(Clone, Debug, Serialize)]
struct OfSite {
    retention: RetentionStatus,
}

/// The part of a hold's status that is ours.
#[derive(Clone, Debug, Serialize)]
struct OfHold {
    placement: Placement,
}

/// The same of a hold that never counted.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct OfNever {
    never_held_at: Time,
}

/// Says that nothing could be looked at, and why; whether that was news. What was found before stays.
pub async fn trouble(
    client: &Client,
    site: &Site,
    holds: &[IncidentHold],
    problem: &str,
) -> Result<bool, ApiError> {
    let problem = Some(shorten(problem));
    let namespace = site.namespace().unwrap_or_default();
    let mut is_changed = false;
    let api = Api::<IncidentHold>::namespaced(client.clone(), &namespace);
    for hold in holds {
        let before = hold.status.as_ref().and_then(|status| status.placement.clone());
        if let Some(before) = before.filter(|before| before.released_at.is_none()) {
            let problem = problem.clone();
            is_changed |= write_hold(&api, hold, Placement { problem, ..before }).await?;
        }
    }
    let before = site.status.as_ref().and_then(|status| status.retention.clone());
    let before = before.unwrap_or_default();
    is_changed |= write_site(client, site, RetentionStatus { problem, ..before }).await?;
    Ok(is_changed)
}

/// Why the bucket of `site` is not used, by what its own conditions say.
pub fn unused(site: &Site) -> String {
    let of = |type_: ConditionType| {
        let (type_, paused): (&str, &str) = (type_.into(), Reason::Paused.into());
        let mut conditions = site.conditions().iter();
        conditions.find(|condition| {
            condition.type_ == type_ && condition.status != "True" && condition.reason != paused
        })
    };
    let cause = of(ConditionType::Accepted).or_else(|| of(ConditionType::StorageEnforced));
    let cause = cause.map_or("its Site was not looked at yet", |cause| cause.message.as_str());
    format!("the bucket is not used: {cause}")
}

async fn write_hold(
    api: &Api<IncidentHold>,
    hold: &IncidentHold,
    placement: Placement,
) -> Result<bool, ApiError> {
    let before = hold.status.as_ref().and_then(|status| status.placement.clone());
    let before = before.map(|placement| OfHold { placement });
    write(api, MANAGER, hold, before.as_ref(), &OfHold { placement }).await
}

async fn write_site(client: &Client, site: &Site, retention: RetentionStatus) -> Result<bool, ApiError> {
    let api = Api::<Site>::namespaced(client.clone(), &site.namespace().unwrap_or_default());
    let before = site.status.as_ref().and_then(|status| status.retention.clone());
    let before = before.map(|retention| OfSite { retention });
    write(&api, MANAGER, site, before.as_ref(), &OfSite { retention }).await
}

/// Writes it where it differs; whether anything was written.
pub async fn report(
    client: &Client,
    site: &Site,
    holds: &[IncidentHold],
    plan: &Plan,
    outcome: &Outcome,
    failed: Option<&RetentionError>,
    now: Timestamp,
) -> Result<bool, ApiError> {
    let namespace = site.namespace().unwrap_or_default();
    let problem = failed.map(|error| shorten(&error.safe_message()));
    let before = site.status.as_ref().and_then(|status| status.retention.as_ref());
    let next = of_site(before, plan, outcome, problem.clone(), now);
    let mut is_changed = false;
    if outcome.drift.is_some() {
        // First: what was put back, or is missed against a hold's status, is not found again.
        let told = RetentionStatus { drift: next.drift.clone(), ..before.cloned().unwrap_or_default() };
        is_changed |= write_site(client, site, told).await?;
    }
    let api = Api::<IncidentHold>::namespaced(client.clone(), &namespace);
    for hold in holds {
        if let Some(next) = placement(hold, plan, outcome, now) {
            is_changed |= write_hold(&api, hold, next).await?;
        } else if is_new_to_never(hold, plan) {
            let never_held_at = Time(now);
            is_changed |= write(&api, MANAGER, hold, None, &OfNever { never_held_at }).await?;
        }
    }
    // Last: until it says that everything was looked at, what holds are not told yet is looked for again.
    Ok(is_changed | write_site(client, site, next).await?)
}

/// Whether it is to be said of a hold that the ledger never had it.
fn is_new_to_never(hold: &IncidentHold, plan: &Plan) -> bool {
    let is_never = hold.uid().is_some_and(|uid| plan.never.contains(&uid));
    is_never && hold.status.as_ref().is_none_or(|status| status.never_held_at.is_none())
}

/// The Site's status after a pass. Pure.
pub fn of_site(
    before: Option<&RetentionStatus>,
    plan: &Plan,
    outcome: &Outcome,
    problem: Option<String>,
    now: Timestamp,
) -> RetentionStatus {
    let before = before.cloned().unwrap_or_default();
    let (deleted, resisted) = match &outcome.swept {
        Some(swept) if swept.deleted > 0 => (count(swept.deleted), count(swept.resisted)),
        Some(swept) => (before.deleted, count(swept.resisted)),
        None => (before.deleted, before.resisted),
    };
    let is_held = !plan.open.is_empty();
    RetentionStatus {
        open_holds: count(plan.open.len() as u64),
        orphaned_holds: plan.orphaned.iter().take(MOST_NAMES).cloned().collect(),
        verified_at: outcome.verified_at.filter(|_| is_held).map(Time),
        refused: if outcome.coverage.is_empty() {
            before.refused.filter(|_| is_held)
        } else {
            refusal(outcome.refused.as_ref(), now)
        },
        verified_every_seconds: outcome.verify_every.filter(|_| is_held).map(|every| every.as_secs()),
        swept_at: if outcome.swept.is_some() { Some(Time(now)) } else { before.swept_at },
        deleted,
        resisted,
        unfinished: match &outcome.swept {
            Some(swept) => count(swept.unfinished),
            None => before.unfinished,
        },
        drift: match &outcome.drift {
            Some(drift) => Some(api::Drift::told(&drift.to_string(), before.drift.as_ref(), now)),
            None => before.drift,
        },
        problem,
    }
}

/// What there is to say of a hold; `None`: nothing was placed for it, or nothing is new.
pub fn placement(hold: &IncidentHold, plan: &Plan, outcome: &Outcome, now: Timestamp) -> Option<Placement> {
    let uid = hold.uid()?;
    let before = hold.status.as_ref().and_then(|status| status.placement.clone());
    let closing = plan.closing.iter().find(|entry| entry.uid == uid);
    let closed = plan.closed.iter().find(|entry| entry.uid == uid);
    let entry = plan.open.get(&uid).or(closing).or(closed)?;
    let mut next = before.unwrap_or_else(|| Placement {
        observed_generation: 0,
        accepted_at: Time(entry.accepted_at),
        scope: String::new(),
        acknowledged: false,
        proved: false,
        verified_at: None,
        segments: 0,
        size: size(0),
        known_until: None,
        coverage: None,
        sealed: 0,
        refused: None,
        sources: Vec::new(),
        released_at: None,
        problem: None,
    });
    let problem = if closing.is_some() { &outcome.release_problem } else { &outcome.place_problem };
    next.problem = problem.as_deref().map(shorten);
    if let Some(closed) = closed {
        next.observed_generation = hold.metadata.generation.unwrap_or_default();
        next.released_at = next.released_at.or(closed.closed_at.map(Time));
        (next.problem, next.refused) = (None, None);
        return Some(next);
    }
    if closing.is_some() {
        next.observed_generation = hold.metadata.generation.unwrap_or_default();
        next.released_at = outcome.released.contains(&uid).then_some(Time(now));
        if !outcome.put_off.contains(&uid) {
            let unseen = outcome.unseen.of(&entry.cover());
            let refused = outcome.unreleased.get(&uid).or(unseen.as_ref());
            next.refused = refusal(refused, now);
        }
        if next.released_at.is_some() {
            // They are about other holds.
            (next.problem, next.refused) = (None, None);
        }
        return Some(next);
    }
    // Where it was released once, that was before the cluster was restored from a backup; and what was proved, too.
    if next.released_at.take().is_some() || !is_of(&next, entry) {
        (next.proved, next.acknowledged) = (false, false);
        next.accepted_at = Time(entry.accepted_at);
    }
    let scope = entry.scope();
    let was_proved = next.proved && next.scope == scope;
    if next.scope == scope {
        next.observed_generation = hold.metadata.generation.unwrap_or_default();
        next.acknowledged |= outcome.acknowledged.contains(&uid);
    }
    if let Some((_, coverage)) = outcome.coverage.iter().find(|(of, _)| *of == uid) {
        next.observed_generation = hold.metadata.generation.unwrap_or_default();
        next.scope = scope;
        next.acknowledged = outcome.acknowledged.contains(&uid);
        if coverage.refused.is_some() {
            // Of what was proved it is not known whether it still is.
            next.proved = was_proved;
        } else {
            next.proved = outcome.proved.contains(&uid);
            next.verified_at = outcome.verified_at.map(Time);
        }
        next.refused = refusal(coverage.refused.as_ref(), now);
        next.segments = count(coverage.segments);
        next.size = size(coverage.bytes);
        next.sealed = count(coverage.sealed);
        if !coverage.hidden.is_empty() {
            // What is not listed may have been recorded: no gap is told of it.
            return Some(next);
        }
        let known_until = coverage.known_until(|name, covered| is_about(hold, name, covered));
        next.known_until = Some(known_until).filter(|known| *known > entry.window.from).map(Time);
        next.coverage = share(hold, coverage, known_until, now);
        next.sources = sources(hold, coverage, known_until, outcome, entry.accepted_at);
    }
    Some(next)
}

fn sources(
    hold: &IncidentHold,
    coverage: &Coverage,
    known_until: Timestamp,
    outcome: &Outcome,
    accepted_at: Timestamp,
) -> Vec<SourceCoverage> {
    let mut all: Vec<SourceCoverage> = told_of(hold, coverage)
        .map(|(name, covered)| SourceCoverage {
            name: name.to_owned(),
            segments: count(covered.segments),
            recorded_seconds: covered.recorded_until(known_until).as_secs(),
            missing_seconds: covered.missing.as_secs(),
            gaps: outcome
                .missing_of(name, covered, accepted_at)
                .into_iter()
                .map(|gap| CoverageGap { from: Time(gap.from), until: Time(gap.until), cause: gap.cause })
                .collect(),
        })
        .collect();
    all.sort_by_key(|source| (source.segments > 0, std::cmp::Reverse(source.missing_seconds)));
    all.truncate(MOST_SOURCES);
    all
}

/// The sources that `hold` is about.
fn told_of<'a>(
    hold: &'a IncidentHold,
    coverage: &'a Coverage,
) -> impl Iterator<Item = (&'a str, &'a Covered)> {
    let all = coverage.sources.iter();
    all.map(|((_, name), covered)| (name.as_str(), covered))
        .filter(|(name, covered)| is_about(hold, name, covered))
}

/// Whether `hold` is about a source. A camera that it named once, and of which nothing was found, is none: the ledger keeps
/// the name.
fn is_about(hold: &IncidentHold, name: &str, covered: &Covered) -> bool {
    let cameras = &hold.spec.cameras;
    covered.segments > 0 || cameras.is_empty() || cameras.iter().any(|camera| camera == name)
}

/// How much of its window there are recordings of, over all sources; `None`: that is not known yet, or there is nothing to
/// be recorded.
fn share(hold: &IncidentHold, coverage: &Coverage, known_until: Timestamp, now: Timestamp) -> Option<String> {
    if !coverage.is_known(known_until, now) {
        return None;
    }
    let recorded = told_of(hold, coverage).map(|(_, covered)| covered.recorded_until(known_until));
    let recorded: i128 = recorded.map(|recorded| recorded.as_millis()).sum();
    let missing: i128 = told_of(hold, coverage).map(|(_, covered)| covered.missing.as_millis()).sum();
    let percent = (recorded * 100).checked_div(recorded + missing)?;
    // Only what is whole is a hundred.
    Some(format!("{}%", if missing > 0 { percent.min(99) } else { percent }))
}

fn refusal(refused: Option<&Refused>, now: Timestamp) -> Option<Refusal> {
    let refused = refused?;
    Some(Refusal {
        versions: count(refused.versions),
        answer: shorten(&refused.first.to_string()),
        failed: refused.is_failure(),
        at: Time(now),
    })
}

fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// At most what the field takes.
fn shorten(message: &str) -> String {
    message.chars().take(1000).collect()
}

/// What somebody should read about.
pub fn events(outcome: &Outcome) -> Vec<Event> {
    let mut news = Vec::new();
    if let Some(changed) = outcome.drift.as_ref().and_then(Drift::changed) {
        let note = format!("somebody else changed what is held: {changed}");
        news.push(event::warning("HoldTampered", "Retention", &note));
    }
    if let Some(lost) = outcome.drift.as_ref().and_then(Drift::lost) {
        news.push(event::warning("HeldLost", "Retention", &lost));
    }
    if let Some(swept) = outcome.swept.as_ref().filter(|swept| swept.deleted > 0) {
        let note =
            format!("{} versions were over their ceiling (article 6) and are gone, read back", swept.deleted);
        news.push(event::normal("Swept", "Retention", &note));
    }
    if let Some(swept) = outcome.swept.as_ref().filter(|swept| swept.resisted > 0) {
        let note = format!(
            "{} versions are over their ceiling and covered by no open hold, but the store does not give them up: see docs/audit.md",
            swept.resisted
        );
        news.push(event::warning("SweepResisted", "Retention", &note));
    }
    if let Some(swept) = outcome.swept.as_ref().filter(|swept| swept.hidden > 0) {
        let note = format!(
            "in {} days of sources the store hides a recording, which cannot be swept: see docs/audit.md, HiddenKey",
            swept.hidden
        );
        news.push(event::warning("SweepIncomplete", "Retention", &note));
    }
    if let Some(swept) = outcome.swept.as_ref().filter(|swept| swept.put_off > 0) {
        let note = format!(
            "{} days of sources, or more, in which nothing is expected have their turn in a later sweep: see docs/audit.md, \
             UnvisitedDay",
            swept.put_off
        );
        news.push(event::warning("SweepIncomplete", "Retention", &note));
    }
    if let Some(swept) = outcome.swept.as_ref().filter(|swept| swept.untagged > 0) {
        let answer = swept.untagged_by.as_ref().map(StoreError::safe_message);
        let note = format!(
            "the tags of {} versions may be wrong still: the store did not tell their marks, or did not keep the tag that was put \
             back: {}; see docs/audit.md, Mistagged",
            swept.untagged,
            answer.unwrap_or_default()
        );
        news.push(event::warning("SweepIncomplete", "Retention", &note));
    }
    if let Some(swept) = outcome.swept.as_ref().filter(|swept| swept.unfinished > 0) {
        let note = format!(
            "{} uploads in parts were never finished, and are left: the store did not abort them, or they are too many for one sweep; \
             if that lasts, abort them as its administrator",
            swept.unfinished
        );
        news.push(event::warning("UploadsUnfinished", "Retention", &note));
    }
    news
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
