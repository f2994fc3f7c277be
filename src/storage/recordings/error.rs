//! Errors of passes over recordings.

use jiff::civil::Date;

use crate::rules::{Class, Key, utc_date};
use crate::storage::recordings::OpenHoldsError;
use crate::storage::s3::StoreError;
use crate::storage::s3::store_clock::ClockSkew;

/// Reason that a pass is incomplete or a version failed. All completed writes are correct.
#[derive(Clone, Debug, PartialEq, Eq, strum::IntoStaticStr, thiserror::Error)]
#[strum(serialize_all = "snake_case")]
pub enum HoldError {
    /// The clocks are too far apart to delete anything.
    #[error(transparent)]
    Clock(#[from] ClockSkew),
    /// The open holds are unknown.
    #[error(transparent)]
    Holds(#[from] OpenHoldsError),
    /// The sources of calls are not declared, so any folder may be a telephone.
    #[error(
        "TooManySources: calls/ has more folders than one pass can visit; delete those that none of your telephones made \
         (docs/how-to/audit-a-bucket.md, UnvisitedSource)"
    )]
    TooManySources,
    /// The store does not list an existing key.
    #[error(
        "ListingOmitsKey: the store does not list an existing recording of one of the sources; delete the versions that hide it \
         (docs/how-to/audit-a-bucket.md, UnlistedKey)"
    )]
    UnlistedKey,
    /// The versions exceed the memory budget of this process.
    #[error(
        "TooManyVersions: {count} recordings or more are covered and held, but the operator has too little memory to detect \
         losses; raise its memory limit (resources.limits.memory), or find out who made them (docs/threat-model.md)"
    )]
    TooManyVersions { count: u64 },
    /// The pass timed out so that other work has its turn.
    #[error("PassTimeout: the pass reached {day} before its deadline; it continues at once")]
    PassTimeout {
        /// Day of the recordings in progress.
        day: Date,
    },
    /// The manifest of another open hold is unknown and may list a version under release.
    #[error(
        "UnknownManifest: the manifest of the open hold {hold:?} over the same source is unknown: {reason}"
    )]
    UnknownManifest { hold: String, reason: String },
    /// A hold is released, but its manifest or ledger entry is not closed.
    #[error("the recordings are released, but the hold's manifest or ledger entry is not closed: {0}")]
    #[strum(transparent)]
    CleanupFailed(StoreError),
    #[error(transparent)]
    #[strum(transparent)]
    Storage(#[from] StoreError),
}

impl HoldError {
    /// Returns whether the store rejected the request permanently. A version that is gone is not rejected.
    pub(crate) fn is_rejection(&self) -> bool {
        match self {
            Self::Storage(error) => error.is_rejection() && !error.is_not_found(),
            Self::Clock(_)
            | Self::Holds(_)
            | Self::TooManySources
            | Self::UnlistedKey
            | Self::TooManyVersions { .. }
            | Self::PassTimeout { .. }
            | Self::UnknownManifest { .. }
            | Self::CleanupFailed(_) => false,
        }
    }
}

/// Versions that stay unchanged because requests were rejected, or failed despite retries. Or parts that were not
/// checked ([`Unchecked`](super::hold::Unchecked)). All others are done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassErrors {
    /// Zero if parts were not checked.
    pub versions: u64,
    /// Error of one version: the first failure, else the first rejection. Or the unchecked part.
    pub first_error: HoldError,
}

impl PassErrors {
    /// Returns whether versions are concerned. If not, the unchecked part has its turn later.
    pub const fn has_versions(&self) -> bool {
        self.versions > 0
    }

    /// Returns this error without a version.
    pub fn without_versions(error: &HoldError) -> Self {
        Self { versions: 0, first_error: error.clone() }
    }

    /// Returns whether a request failed rather than was rejected, so that waiting may help.
    pub fn is_transient(&self) -> bool {
        match &self.first_error {
            HoldError::CleanupFailed(error) => !error.is_rejection(),
            first => self.has_versions() && !first.is_rejection(),
        }
    }

    pub(crate) fn add(&mut self, error: &HoldError) {
        self.versions += 1;
        // A failure may pass, and then decides when the next attempt comes. It therefore replaces a rejection.
        if self.first_error.is_rejection() {
            self.first_error = error.clone();
        }
    }

    pub(crate) fn add_to(all: &mut Option<Self>, error: &HoldError) {
        all.get_or_insert_with(|| Self::without_versions(error)).add(error);
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct Incomplete<D> {
    pub error: HoldError,
    pub report: D,
}

impl<D> Incomplete<D> {
    /// Returns `done` if the outcome is a success.
    pub(crate) fn from_result(outcome: Result<(), HoldError>, done: D) -> Result<D, Box<Self>> {
        match outcome {
            Ok(()) => Ok(done),
            Err(error) => Err(Box::new(Self { error, report: done })),
        }
    }

    /// Returns the report in either case, and the outcome.
    pub fn into_parts(outcome: Result<D, Box<Self>>) -> (D, Result<(), HoldError>) {
        match outcome {
            Ok(done) => (done, Ok(())),
            Err(broken_off) => (broken_off.report, Err(broken_off.error)),
        }
    }
}

/// Day of one source.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SourceDay {
    pub(crate) day: Date,
    pub(crate) class: Class,
    pub(crate) source: String,
}

impl SourceDay {
    pub(crate) fn of(key: &Key) -> Self {
        Self { day: utc_date(key.start()), class: key.class(), source: key.source().to_owned() }
    }

    pub(crate) fn prefix(&self) -> String {
        Key::day_prefix(self.class, &self.source, self.day)
    }
}
