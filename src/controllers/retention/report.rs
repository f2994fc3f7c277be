//! Reports the outcome of a pass: in the status of the Site and of each hold, and as events.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use kube::runtime::events::Event;

use super::error::RetentionPassError;
use super::outcome::{HoldDrift, PassOutcome};
use super::plan::HoldPlan;
use super::schedule::is_since_acceptance;
use crate::api::condition::{ConditionType, Reason};
use crate::api::{
    self, CoverageGap, IncidentHold, IncidentHoldStatus, Placement, RetentionStatus, Site, SiteStatus,
    SourceCoverage, StoreRejectionStatus,
};
use crate::controllers::context::Context;
use crate::controllers::kubernetes::quantity::format_size;
use crate::controllers::kubernetes::{ApiError, event};
use crate::controllers::runner::{Watched, write_status_part};
use crate::storage::PassErrors;
use crate::storage::recordings::hold::coverage::{Coverage, SourceTimeline};
use crate::storage::recordings::sweep::state::SweepReport;

/// Field manager of the retention status.
const MANAGER: &str = "toezicht/retention";
/// Limit of the status field.
const MAX_ORPHANED_HOLDS: usize = 16;
/// Limit of the status field.
const MAX_SOURCES: usize = 64;

/// Reports that no pass runs, and why. Leaves the earlier findings. Returns whether a status changed.
pub async fn report_error(
    context: &Context,
    site: &Site,
    holds: &[IncidentHold],
    problem: &str,
) -> Result<bool, ApiError> {
    let problem = Some(truncate_message(problem));
    let mut is_changed = false;
    for hold in holds {
        let before = hold.status.as_ref().and_then(|status| status.placement.clone());
        if let Some(before) = before.filter(|before| before.release_time.is_none()) {
            let problem = problem.clone();
            is_changed |= write_hold(context, hold, Placement { last_error: problem, ..before }).await?;
        }
    }
    let before = site.status.as_ref().and_then(|status| status.retention.clone());
    let before = before.unwrap_or_default();
    is_changed |= write_site(context, site, RetentionStatus { last_error: problem, ..before }).await?;
    Ok(is_changed)
}

/// Returns why the bucket of `site` is not used, by its own conditions.
pub fn bucket_unused_message(site: &Site) -> String {
    let of = |type_: ConditionType| {
        let (type_, paused): (&str, &str) = (type_.into(), Reason::Paused.into());
        let mut conditions = site.conditions().iter();
        conditions.find(|condition| {
            condition.type_ == type_ && condition.status != "True" && condition.reason != paused
        })
    };
    let cause = of(ConditionType::Accepted).or_else(|| of(ConditionType::StorageEnforced));
    let cause = cause.map_or("its Site is not reconciled yet", |cause| cause.message.as_str());
    format!("the bucket is not used: {cause}")
}

async fn write_hold(context: &Context, hold: &IncidentHold, placement: Placement) -> Result<bool, ApiError> {
    let part = |placement| IncidentHoldStatus { placement: Some(placement), ..IncidentHoldStatus::default() };
    let before = hold.status.as_ref().and_then(|status| status.placement.clone()).map(part);
    write_status_part(context, MANAGER, hold, before.as_ref(), &part(placement)).await
}

async fn write_site(context: &Context, site: &Site, retention: RetentionStatus) -> Result<bool, ApiError> {
    let part = |retention| SiteStatus { retention: Some(retention), ..SiteStatus::default() };
    let before = site.status.as_ref().and_then(|status| status.retention.clone()).map(part);
    write_status_part(context, MANAGER, site, before.as_ref(), &part(retention)).await
}

/// Writes the statuses that changed. Returns whether any did.
pub async fn report_pass(
    context: &Context,
    site: &Site,
    holds: &[IncidentHold],
    plan: &HoldPlan,
    outcome: &PassOutcome,
    failed: Option<&RetentionPassError>,
    now: Timestamp,
) -> Result<bool, ApiError> {
    let problem = failed.map(|error| truncate_message(&error.to_string()));
    let before = site.status.as_ref().and_then(|status| status.retention.as_ref());
    let next = retention_status(before, plan, outcome, problem.clone(), now);
    let mut is_changed = false;
    if outcome.drift.is_some() {
        // First: the next pass finds neither restored drift nor losses against a hold's status again.
        let told = RetentionStatus { drift: next.drift.clone(), ..before.cloned().unwrap_or_default() };
        is_changed |= write_site(context, site, told).await?;
    }
    for hold in holds {
        if let Some(next) = placement_status(hold, plan, outcome, now) {
            is_changed |= write_hold(context, hold, next).await?;
        } else if is_newly_never_held(hold, plan) {
            is_changed |= write_status_part(context, MANAGER, hold, None, &never_held_status(now)).await?;
        }
    }
    // Last: until it has the new verification time, the next pass repeats whatever the holds' statuses lack.
    Ok(is_changed | write_site(context, site, next).await?)
}

fn never_held_status(now: Timestamp) -> IncidentHoldStatus {
    IncidentHoldStatus { never_held_time: Some(Time(now)), ..IncidentHoldStatus::default() }
}

/// Returns whether a hold's status must still report that the ledger never had it.
fn is_newly_never_held(hold: &IncidentHold, plan: &HoldPlan) -> bool {
    let is_never = hold.uid().is_some_and(|uid| plan.report_never_held.contains(&uid));
    is_never && hold.status.as_ref().is_none_or(|status| status.never_held_time.is_none())
}

/// Returns the Site's status after a pass. Pure.
pub fn retention_status(
    before: Option<&RetentionStatus>,
    plan: &HoldPlan,
    outcome: &PassOutcome,
    problem: Option<String>,
    now: Timestamp,
) -> RetentionStatus {
    let before = before.cloned().unwrap_or_default();
    let (deleted, resisted) = match &outcome.swept {
        Some(swept) if swept.deleted > 0 => {
            (saturating_count(swept.deleted), saturating_count(swept.undeletable))
        }
        Some(swept) => (before.deleted_versions, saturating_count(swept.undeletable)),
        None => (before.deleted_versions, before.undeletable_versions),
    };
    let is_held = !plan.open.is_empty();
    RetentionStatus {
        open_holds: saturating_count(plan.open.len() as u64),
        orphaned_holds: plan.orphaned.iter().take(MAX_ORPHANED_HOLDS).cloned().collect(),
        last_verification_time: outcome.verified_at.filter(|_| is_held).map(Time),
        // Without coverage this was no full pass, which alone can tell that a rejection is over.
        store_rejection: if outcome.coverage.is_empty() {
            before.store_rejection.filter(|_| is_held)
        } else {
            rejection_status(outcome.rejection.as_ref(), now)
        },
        verification_interval_seconds: outcome
            .verify_interval
            .filter(|_| is_held)
            .map(|every| every.as_secs()),
        last_sweep_time: if outcome.swept.is_some() { Some(Time(now)) } else { before.last_sweep_time },
        deleted_versions: deleted,
        undeletable_versions: resisted,
        incomplete_uploads: match &outcome.swept {
            Some(swept) => saturating_count(swept.incomplete_uploads),
            None => before.incomplete_uploads,
        },
        drift: match &outcome.drift {
            Some(drift) => Some(api::DriftStatus::accumulate(&drift.to_string(), before.drift.as_ref(), now)),
            None => before.drift,
        },
        last_error: problem,
    }
}

/// Returns the placement for a hold's status. `None`: the plan does not have the hold.
pub fn placement_status(
    hold: &IncidentHold,
    plan: &HoldPlan,
    outcome: &PassOutcome,
    now: Timestamp,
) -> Option<Placement> {
    let uid = hold.uid()?;
    let before = hold.status.as_ref().and_then(|status| status.placement.clone());
    let closing = plan.closing.iter().find(|entry| entry.uid == uid);
    let closed = plan.closed.iter().find(|entry| entry.uid == uid);
    let entry = plan.open.get(&uid).or(closing).or(closed)?;
    let mut next = before.unwrap_or_else(|| Placement {
        observed_generation: 0,
        acceptance_time: Time(entry.accepted_at),
        scope_hash: String::new(),
        acknowledged: false,
        verified: false,
        last_verification_time: None,
        segments: 0,
        size: format_size(0),
        coverage_until_time: None,
        coverage: None,
        sealed_segments: 0,
        store_rejection: None,
        sources: Vec::new(),
        release_wait: None,
        release_time: None,
        last_error: None,
    });
    let problem = if closing.is_some() { &outcome.release_error } else { &outcome.place_error };
    next.last_error = problem.as_deref().map(truncate_message);
    next.release_wait = outcome.release_waits.get(&uid).copied();
    if let Some(closed) = closed {
        next.observed_generation = hold.metadata.generation.unwrap_or_default();
        next.release_time = next.release_time.or(closed.closed_at.map(Time));
        (next.last_error, next.store_rejection) = (None, None);
        return Some(next);
    }
    if closing.is_some() {
        next.observed_generation = hold.metadata.generation.unwrap_or_default();
        next.release_time = outcome.released.contains(&uid).then_some(Time(now));
        if !outcome.deferred_releases.contains(&uid) {
            let unseen = outcome.unseen.errors_for(&entry.scope);
            let refused = outcome.release_rejections.get(&uid).or(unseen.as_ref());
            next.store_rejection = rejection_status(refused, now);
        }
        if next.release_time.is_some() {
            // These concern other holds.
            (next.last_error, next.store_rejection) = (None, None);
        }
        return Some(next);
    }
    // A release or an earlier acceptance in the status is older than the ledger entry: the cluster was restored from a
    // backup. Verification and acknowledgement from that time no longer count.
    if next.release_time.take().is_some() || !is_since_acceptance(&next, entry) {
        (next.verified, next.acknowledged) = (false, false);
        next.acceptance_time = Time(entry.accepted_at);
    }
    let scope = entry.scope_hash();
    let was_proved = next.verified && next.scope_hash == scope;
    if next.scope_hash == scope {
        next.observed_generation = hold.metadata.generation.unwrap_or_default();
        next.acknowledged |= outcome.acknowledged.contains(&uid);
    }
    if let Some((_, coverage)) = outcome.coverage.iter().find(|(of, _)| *of == uid) {
        next.observed_generation = hold.metadata.generation.unwrap_or_default();
        next.scope_hash = scope;
        next.acknowledged = outcome.acknowledged.contains(&uid);
        if coverage.errors.is_some() {
            // The rejection does not show whether verified versions are still protected.
            next.verified = was_proved;
        } else {
            next.verified = outcome.proved.contains(&uid);
            next.last_verification_time = outcome.verified_at.map(Time);
        }
        next.store_rejection = rejection_status(coverage.errors.as_ref(), now);
        next.segments = saturating_count(coverage.segments);
        next.size = format_size(coverage.bytes);
        next.sealed_segments = saturating_count(coverage.sealed);
        if !coverage.incomplete_listings.is_empty() {
            // Unlisted versions may have been recorded, so no gap is reported.
            return Some(next);
        }
        let known_until = coverage.known_until(|name, covered| is_relevant_source(hold, name, covered));
        next.coverage_until_time =
            Some(known_until).filter(|known| *known > entry.scope.window.from).map(Time);
        next.coverage = coverage_percent(hold, coverage, known_until, now);
        next.sources = source_coverage(hold, coverage, known_until, outcome, entry.accepted_at);
    }
    Some(next)
}

fn source_coverage(
    hold: &IncidentHold,
    coverage: &Coverage,
    known_until: Timestamp,
    outcome: &PassOutcome,
    accepted_at: Timestamp,
) -> Vec<SourceCoverage> {
    let mut all: Vec<SourceCoverage> = relevant_sources(hold, coverage)
        .map(|(name, covered)| SourceCoverage {
            name: name.to_owned(),
            segments: saturating_count(covered.segments),
            recorded_seconds: covered.recorded_until(known_until).as_secs(),
            missing_seconds: covered.missing.as_secs(),
            gaps: outcome
                .missing_in_source(name, covered, accepted_at)
                .into_iter()
                .map(|gap| CoverageGap { from: Time(gap.from), until: Time(gap.until), reason: gap.cause })
                .collect(),
        })
        .collect();
    // Sources without a segment first, so that the limit of the status drops the unremarkable ones.
    all.sort_by_key(|source| (source.segments > 0, std::cmp::Reverse(source.missing_seconds)));
    all.truncate(MAX_SOURCES);
    all
}

/// Returns the sources that concern `hold`.
fn relevant_sources<'a>(
    hold: &'a IncidentHold,
    coverage: &'a Coverage,
) -> impl Iterator<Item = (&'a str, &'a SourceTimeline)> {
    let all = coverage.sources.iter();
    all.map(|((_, name), covered)| (name.as_str(), covered))
        .filter(|(name, covered)| is_relevant_source(hold, name, covered))
}

/// Returns whether a source concerns `hold`. A camera without recordings that the spec no longer names does not: only
/// the ledger keeps its name.
fn is_relevant_source(hold: &IncidentHold, name: &str, covered: &SourceTimeline) -> bool {
    let cameras = &hold.spec.cameras;
    covered.segments > 0 || cameras.is_empty() || cameras.iter().any(|camera| camera == name)
}

/// Returns the recorded share of the window over all sources. `None`: not known yet, or nothing to record.
fn coverage_percent(
    hold: &IncidentHold,
    coverage: &Coverage,
    known_until: Timestamp,
    now: Timestamp,
) -> Option<String> {
    if !coverage.is_known(known_until, now) {
        return None;
    }
    let recorded = relevant_sources(hold, coverage).map(|(_, covered)| covered.recorded_until(known_until));
    let recorded: i128 = recorded.map(|recorded| recorded.as_millis()).sum();
    let missing: i128 =
        relevant_sources(hold, coverage).map(|(_, covered)| covered.missing.as_millis()).sum();
    let percent = (recorded * 100).checked_div(recorded + missing)?;
    // Rounding must not hide a gap.
    Some(format!("{}%", if missing > 0 { percent.min(99) } else { percent }))
}

fn rejection_status(refused: Option<&PassErrors>, now: Timestamp) -> Option<StoreRejectionStatus> {
    let refused = refused?;
    Some(StoreRejectionStatus {
        versions: saturating_count(refused.versions),
        error: truncate_message(&refused.first_error.to_string()),
        retryable: refused.is_transient(),
        time: Time(now),
    })
}

fn saturating_count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Truncates a message to the limit of its status field.
fn truncate_message(message: &str) -> String {
    message.chars().take(1000).collect()
}

/// Returns the events of a pass.
pub fn events(outcome: &PassOutcome) -> Vec<Event> {
    let warning = |reason, note: String| event::warning(reason, "Retention", &note);
    let drift = outcome.drift.as_ref();
    let swept = |count: fn(&SweepReport) -> u64| outcome.swept.as_ref().map(count).filter(|count| *count > 0);
    let retag_error = || outcome.swept.as_ref()?.retag_error.as_ref().map(ToString::to_string);
    let all = [
        drift
            .and_then(HoldDrift::changed_message)
            .map(|changed| warning("HoldDriftCorrected", format!("somebody else changed held versions: {changed}"))),
        drift.and_then(HoldDrift::lost_message).map(|lost| warning("HeldVersionsLost", lost)),
        swept(|swept| swept.deleted).map(|count| {
            let note = format!("deleted {count} versions past their ceiling (article 6), and confirmed that they are gone");
            event::normal("Swept", "Retention", &note)
        }),
        swept(|swept| swept.undeletable).map(|count| {
            let note = format!(
                "the store does not delete {count} versions past their ceiling that no open hold covers; see \
                 docs/how-to/audit-a-bucket.md"
            );
            warning("UndeletableVersions", note)
        }),
        swept(|swept| swept.days_with_unlisted_keys).map(|count| {
            let note = format!(
                "the store does not list all recordings of {count} source days, so they cannot be swept; see \
                 docs/how-to/audit-a-bucket.md, UnlistedKey"
            );
            warning("SweepIncomplete", note)
        }),
        swept(|swept| swept.deferred_days).map(|count| {
            let note = format!(
                "at least {count} source days that should be empty wait for a later sweep; see \
                 docs/how-to/audit-a-bucket.md, UnvisitedDay"
            );
            warning("SweepIncomplete", note)
        }),
        swept(|swept| swept.retag_failures).map(|count| {
            let note = format!(
                "the tags of {count} versions may still be wrong: the store did not return their protection, or did not persist \
                 the restored tag: {}; see docs/how-to/audit-a-bucket.md, Mistagged",
                retag_error().unwrap_or_default()
            );
            warning("SweepIncomplete", note)
        }),
        swept(|swept| swept.incomplete_uploads).map(|count| {
            let note = format!(
                "{count} incomplete multipart uploads remain: the store did not abort them, or there are too many for one sweep; \
                 if this lasts, see docs/reference/alerts.md, ToezichtUndeletableVersions"
            );
            warning("IncompleteUploads", note)
        }),
    ];
    all.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests;
