//! How long recordings live (article 6).
//!
//! S3 rounds up to the next midnight UTC twice: once for the delete marker, once for the noncurrent version.
//! Rules of N days and one day thus remove the bytes up to N + 3 days after the midnight before the upload;
//! a fourth day is left for a recording that began before that midnight and for a store that runs late.

use jiff::{SignedDuration, Timestamp};

use super::live_view::Embargo;
use crate::api::{Ceilings, Days, RetentionCeilings};

/// The shortest ceiling that can be kept: below it lifecycle would have to run more often than daily.
pub const MIN_CEILING: Days = Days(5);
/// How many days before the ceiling lifecycle must hide a recording, for its bytes to be gone in time though the operator is
/// dead: two midnights to which S3 rounds up, one noncurrent day, and one for a store that runs late.
pub const LIFECYCLE_MARGIN: Days = Days(4);

const SECONDS_PER_DAY: i64 = 86_400;

/// Why a ceiling cannot be kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CeilingError {
    /// Shorter than a store can do.
    #[error(
        "{path}: {value} is shorter than {MIN_CEILING}, the least that a store's daily lifecycle can keep; \
         set {MIN_CEILING} or more"
    )]
    TooShort { path: &'static str, value: Days },
    /// Longer than the cluster's administrators allow.
    #[error(
        "{path}: {value} is above the cluster's ceiling of {ceiling} (article 6); set {ceiling} or less, or \
         have the cluster's administrators raise ceilings.{class} of the operator"
    )]
    AboveCluster {
        path: &'static str,
        value: Days,
        ceiling: Days,
        /// `video` or `calls`.
        class: &'static str,
    },
}

/// Ceilings of the protocol: four weeks for video and one week for calls (article 6).
pub const PROTOCOL_CEILINGS: Ceilings = Ceilings { video: Days(28), calls: Days(7) };

/// What a site's policy says of each of its recordings: how long it may be kept, and from when it may be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetentionTerms {
    /// Maximum ages (article 6).
    pub ceilings: Ceilings,
    pub embargo: Embargo,
}

impl RetentionTerms {
    /// Terms without an embargo.
    pub const fn with_live_view(ceilings: Ceilings) -> Self {
        Self { ceilings, embargo: Embargo::LiveView }
    }
}

/// For how many days lifecycle lets a recording be, for its bytes to be gone before `ceiling`; `None`: the
/// ceiling is shorter than [`MIN_CEILING`].
pub fn lifecycle_expiration_days(ceiling: Days) -> Option<u32> {
    (ceiling >= MIN_CEILING).then(|| ceiling.0.saturating_sub(LIFECYCLE_MARGIN.0))
}

/// Whether a recording's bytes are already hidden, in a versioned bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VersionState {
    /// No: it is what a reader gets, since the store took it.
    CurrentSince(Timestamp),
    /// Behind a delete marker or a newer version, since then.
    NoncurrentSince(Timestamp),
}

/// When a store's lifecycle must have taken its next step with a recording, as S3 documents it: from N days after the
/// upload on it hides it, from one day after that on it removes the bytes, each at the next midnight UTC. `None`: the
/// ceiling cannot be kept.
pub fn lifecycle_deadline(ceiling: Days, state: VersionState) -> Option<Timestamp> {
    let (from, days) = match state {
        VersionState::CurrentSince(uploaded) => (uploaded, lifecycle_expiration_days(ceiling)?),
        VersionState::NoncurrentSince(hidden) => (hidden, 1),
    };
    let at = from.checked_add(SignedDuration::from_hours(24 * i64::from(days))).ok()?;
    let midnight = at
        .as_second()
        .checked_add(SECONDS_PER_DAY - 1)?
        .div_euclid(SECONDS_PER_DAY)
        .checked_mul(SECONDS_PER_DAY)?;
    Timestamp::from_second(midnight).ok()
}

/// The ceilings of a policy, if they can be kept and the cluster allows them. They are refused otherwise,
/// never clamped: a protocol that says another number than what is done would be untrue.
pub fn validate_ceilings(
    retention: &RetentionCeilings,
    cluster: &Ceilings,
) -> Result<Ceilings, CeilingError> {
    Ok(Ceilings {
        video: validate_ceiling("spec.retention.video", "video", retention.video, cluster.video)?,
        calls: validate_ceiling("spec.retention.calls", "calls", retention.calls, cluster.calls)?,
    })
}

fn validate_ceiling(
    path: &'static str,
    class: &'static str,
    value: Days,
    ceiling: Days,
) -> Result<Days, CeilingError> {
    if value < MIN_CEILING {
        return Err(CeilingError::TooShort { path, value });
    }
    if value > ceiling {
        return Err(CeilingError::AboveCluster { path, value, ceiling, class });
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY_S: u64 = 86_400;

    /// When S3 removes the bytes of an object that was written at `upload`, with rules of `days` and one day, in a store
    /// that hides and removes so many seconds after each was due.
    fn bytes_gone(upload: u64, days: u64, late: [u64; 2]) -> u64 {
        let midnight_after = |at: u64| (at / DAY_S + 1) * DAY_S;
        let marker = midnight_after(upload + days * DAY_S) + late[0];
        midnight_after(marker + DAY_S) + late[1]
    }

    proptest! {
        #[test]
        fn lifecycle_removes_bytes_before_the_ceiling(
            ceiling in 5_u32..400,
            recorded in 0..DAY_S * 2,
            upload_delay in 0..=DAY_S,
            hides_late in 0..DAY_S,
            part in 0_u64..=1000,
        ) {
            // What an upload takes and what the store is behind, are a day together; the first is rounded off by midnights.
            let removes_late = (DAY_S - upload_delay) * part / 1000;
            let days = u64::from(lifecycle_expiration_days(Days(ceiling)).unwrap());
            let gone = bytes_gone(recorded + upload_delay, days, [hides_late, removes_late]);
            prop_assert!(gone <= recorded + u64::from(ceiling) * DAY_S, "{gone}");
        }

        #[test]
        fn ceilings_are_accepted_or_rejected_never_clamped(video in 1_u32..60, calls in 1_u32..60) {
            let cluster = Ceilings { video: Days(28), calls: Days(7) };
            let asked = RetentionCeilings { video: Days(video), calls: Days(calls) };
            match validate_ceilings(&asked, &cluster) {
                Ok(kept) => {
                    prop_assert_eq!((kept.video, kept.calls), (asked.video, asked.calls));
                    prop_assert!((5..=28).contains(&video) && (5..=7).contains(&calls));
                }
                Err(error) => {
                    let (path, value, most) = if (5..=28).contains(&video) {
                        ("spec.retention.calls", calls, 7)
                    } else {
                        ("spec.retention.video", video, 28)
                    };
                    prop_assert!(error.to_string().starts_with(path), "{error}");
                    prop_assert!(value < 5 || value > most);
                    prop_assert_eq!(value < 5, matches!(error, CeilingError::TooShort { .. }));
                }
            }
        }
    }

    #[test]
    fn one_more_expiration_day_exceeds_the_ceiling() {
        let days = u64::from(lifecycle_expiration_days(Days(28)).unwrap()) + 1;
        assert!(bytes_gone(0, days, [0, 1]) > 28 * DAY_S);
    }

    #[test]
    fn expiration_days_of_the_protocol_ceilings() {
        assert_eq!(lifecycle_expiration_days(Days(28)), Some(24));
        assert_eq!(lifecycle_expiration_days(Days(7)), Some(3));
        assert_eq!(lifecycle_expiration_days(Days(5)), Some(1));
        assert_eq!(lifecycle_expiration_days(Days(4)), None);
    }
}
