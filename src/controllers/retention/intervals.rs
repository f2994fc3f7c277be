//! How often held versions are verified. Pure.

use jiff::SignedDuration;

use crate::api::Placement;
use crate::rules::hold::entry::LedgerEntry;
use crate::storage::recordings::hold::PlaceReport;

/// How often everything that is held is listed, and its marks read, where that takes little.
pub(crate) const MIN_VERIFY_INTERVAL: SignedDuration = SignedDuration::from_mins(15);

/// Verification takes at most this part of the time.
pub(crate) const DUTY_CYCLE: i32 = 20;

/// What a day of verifications may cost at a store that charges for requests: at most 700,000 reads of two requests each and
/// 30,000 listings of what cameras recorded. Listings of calls, and of what somebody else put elsewhere, come on top.
pub(crate) const TIME_PER_READ: SignedDuration = SignedDuration::from_millis(250);

pub(crate) const TIME_PER_LISTING: SignedDuration = SignedDuration::from_secs(3);

/// The longest that verification may be put off.
pub(crate) const MAX_VERIFY_INTERVAL: SignedDuration = SignedDuration::from_hours(24);

/// While the store refuses something, everything is read so many times as often, and takes so much more.
pub(crate) const REJECTED_SPEEDUP: i32 = 15;

/// How often everything is verified, by what it took the last time.
pub(crate) fn verify_interval(placed: &PlaceReport, versions: u64, took: SignedDuration) -> SignedDuration {
    let times =
        |each: SignedDuration, count: u64| each.saturating_mul(i32::try_from(count).unwrap_or(i32::MAX));
    MIN_VERIFY_INTERVAL
        .max(took.saturating_mul(DUTY_CYCLE))
        .max(times(TIME_PER_READ, versions))
        .max(times(TIME_PER_LISTING, placed.listed_days))
        .min(MAX_VERIFY_INTERVAL)
}

pub(crate) fn effective_interval(every: SignedDuration, is_refused: bool) -> SignedDuration {
    if is_refused { every / REJECTED_SPEEDUP } else { every }
}

/// Whether a placement is of the time since the entry counts: what it says may come from before a release, out of a backup.
/// A status has whole seconds.
pub(crate) fn is_since_acceptance(placement: &Placement, entry: &LedgerEntry) -> bool {
    placement.acceptance_time.0.as_second() == entry.accepted_at.as_second()
}
