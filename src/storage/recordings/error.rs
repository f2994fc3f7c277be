//! Errors of passes over recordings.

use jiff::civil::Date;

use crate::rules::recording::Class;
use crate::rules::recording::days::utc_date;
use crate::rules::recording::key::Key;
use crate::storage::recordings::open_holds::OpenHoldsError;
use crate::storage::s3::error::StoreError;
use crate::storage::s3::store_clock::ClockSkew;

/// Why a pass has not done all, or why a version was refused. What was written was right.
#[derive(Clone, Debug, PartialEq, Eq, strum::IntoStaticStr, thiserror::Error)]
#[strum(serialize_all = "snake_case")]
pub enum HoldError {
    /// The clocks are too far apart to delete by.
    #[error(transparent)]
    Clock(#[from] ClockSkew),
    /// Which holds are open is not known.
    #[error(transparent)]
    Holds(#[from] OpenHoldsError),
    /// Nobody declares whose calls there are, so that any source may be a telephone's.
    #[error(
        "TooManySources: not all folders under calls/ can be visited in one pass: delete those that no telephone of yours made \
         (docs/how-to/audit-a-bucket.md, UnvisitedSource)"
    )]
    TooManySources,
    /// The store leaves a key out of its listings.
    #[error(
        "ListingOmitsKey: the store does not list a recording of one of the sources, which is there: delete the versions that hide \
         it (docs/how-to/audit-a-bucket.md, HiddenKey)"
    )]
    UnlistedKey,
    /// There are more versions than there is room for in this process's memory.
    #[error(
        "TooManyVersions: {count} recordings or more are covered, each of which is held, but this operator's memory has no room to tell \
         whether one is lost: raise its memory limit (resources.limits.memory), or find out who made them (docs/threat-model.md)"
    )]
    TooManyVersions { count: u64 },
    /// A pass was ended so that others have their turn.
    #[error(
        "PassTimeout: there is more to look at than fits between two sweeps; it came to {day}, and goes on at once"
    )]
    PassTimeout {
        /// The day of recordings that it was about.
        day: Date,
    },
    /// What another open hold has is not known, and may be what is to be released.
    #[error(
        "UnknownManifest: the manifest of the open hold {hold:?}, which is about the same source, is not known: {reason}"
    )]
    UnknownManifest { hold: String, reason: String },
    /// A hold is released, and its manifest or its entry in the ledger is not ended.
    #[error("the recordings are released, and the hold's manifest and ledger entry are still to be ended: {}", .0.to_string())]
    #[strum(transparent)]
    CleanupFailed(StoreError),
    #[error(transparent)]
    #[strum(transparent)]
    Storage(#[from] StoreError),
}

impl HoldError {
    /// The store has said no for good: to wait is no help, and asking again no hurry. A version that is not there any more is
    /// not refused.
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

/// Versions of which the store refused something, or failed at it though it was tried again, and which stay as they are; or
/// what was not looked at ([`Unchecked`](super::hold::Unchecked)). All others were done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassErrors {
    /// How many; none: something was not looked at.
    pub versions: u64,
    /// What the store answered at one of them: the first that failed, or else the first that it refused. Or what was not looked
    /// at.
    pub first_error: HoldError,
}

impl PassErrors {
    /// Whether it is about versions. Where it is not, something was not looked at, and has its turn.
    pub const fn has_versions(&self) -> bool {
        self.versions > 0
    }

    /// By this answer, of no version yet.
    pub fn without_versions(error: &HoldError) -> Self {
        Self { versions: 0, first_error: error.clone() }
    }

    /// Whether the store failed, rather than refuse it: then waiting may be enough.
    pub fn is_transient(&self) -> bool {
        match &self.first_error {
            HoldError::CleanupFailed(error) => !error.is_rejection(),
            first => self.has_versions() && !first.is_rejection(),
        }
    }

    pub(crate) fn add(&mut self, error: &HoldError) {
        self.versions += 1;
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
    /// `done`, if that was all.
    pub(crate) fn from_result(outcome: Result<(), HoldError>, done: D) -> Result<D, Box<Self>> {
        match outcome {
            Ok(()) => Ok(done),
            Err(error) => Err(Box::new(Self { error, report: done })),
        }
    }

    /// What was done, and whether that was all.
    pub fn into_parts(outcome: Result<D, Box<Self>>) -> (D, Result<(), HoldError>) {
        match outcome {
            Ok(done) => (done, Ok(())),
            Err(broken_off) => (broken_off.report, Err(broken_off.error)),
        }
    }
}

/// One day of one source, where at least one of the windows may have something.
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
