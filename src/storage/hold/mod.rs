//! Placing and releasing: what open holds cover gets a legal hold, then its tag; what no hold covers any more gets its
//! tag back, then its legal hold goes, then, where it is over its ceiling, the version itself.
//!
//! Both are passes over the days and sources in question, the oldest first. A pass reads the marks of each version and
//! writes those that differ; so it can be stopped anywhere, and one that wrote nothing has proved that all is as it must
//! be.

pub mod coverage;
pub mod manifest;
pub(crate) mod order;
mod pass;
mod place;
mod release;

pub use place::{Placed, Task, place, unhide};
pub use release::{Released, release};

use std::collections::BTreeSet;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};

use super::client::{Store, TargetError};
use super::date::ClocksDisagree;
use super::error::StoreError;
use super::key::{Key, MAX_DURATION_MS};
use super::listing::{After, page};
use super::sweep::HoldsUnknown;
use crate::protocol::Window;
use crate::protocol::cover::Cover;
use crate::protocol::recording::Class;

/// Sources that one bucket can have. Where a listing finds more, somebody else made them, and what comes behind them is
/// not known.
const MOST_SOURCES: usize = 4096;

/// Why a pass has not done all, or why a version was refused. What was written was right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HoldError {
    /// The target cannot be used.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The clocks are too far apart to delete by.
    #[error(transparent)]
    Clock(#[from] ClocksDisagree),
    /// Which holds are open is not known.
    #[error(transparent)]
    Holds(#[from] HoldsUnknown),
    /// The store.
    #[error("{}", .0.safe_message())]
    Storage(#[from] StoreError),
}

impl HoldError {
    /// The store has said no for good: to wait is no help, and asking again no hurry. A version that is not there any more is
    /// not refused.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self, Self::Storage(error) if !error.is_retryable() && !error.is_absent())
    }

    /// Bounded, for metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Target(_) => "target",
            Self::Clock(_) => "clock",
            Self::Holds(_) => "holds_unknown",
            Self::Storage(error) => error.category(),
        }
    }
}

/// Versions of which the store refused something. They stay as they are; all others were done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// How many.
    pub versions: u64,
    /// What the store answered, at the first of them.
    pub first: HoldError,
}

impl Refused {
    /// Counts a version. What failed is no refusal: the pass itself tells of it.
    fn note(all: &mut Option<Self>, error: &HoldError) {
        if !error.is_refusal() {
            return;
        }
        let first = || Self {
            versions: 0,
            first: error.clone(),
        };
        all.get_or_insert_with(first).versions += 1;
    }
}

/// A pass that has not done all: it ended early, or single versions failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct BrokenOff<D> {
    /// What ended it, or the first failure.
    pub error: HoldError,
    /// What it had done.
    pub done: D,
}

impl<D> BrokenOff<D> {
    /// `done`, if that was all.
    fn unless(outcome: Result<(), HoldError>, done: D) -> Result<D, Box<Self>> {
        match outcome {
            Ok(()) => Ok(done),
            Err(error) => Err(Box::new(Self { error, done })),
        }
    }

    /// What was done, and whether that was all.
    pub fn apart(outcome: Result<D, Box<Self>>) -> (D, Result<(), HoldError>) {
        match outcome {
            Ok(done) => (done, Ok(())),
            Err(broken_off) => (broken_off.done, Err(broken_off.error)),
        }
    }
}

/// A source that has anything under a class, and the first day of which it has.
pub(crate) struct Source {
    pub(crate) name: String,
    pub(crate) first: Option<Date>,
}

/// The sources that have anything under a class: one request each, however much they have.
pub(crate) async fn sources(store: &Store, class: Class) -> Result<Vec<Source>, StoreError> {
    let mut found = Vec::new();
    let mut after = None;
    loop {
        if found.len() >= MOST_SOURCES {
            return Err(StoreError {
                operation: "ListObjectVersions",
                code: "TooManySources".into(),
                status: None,
            });
        }
        let one = page(store, class.prefix(), after.as_ref(), 1).await?;
        let Some(key) = one.versions.first().map(|listed| listed.key.as_str()) else {
            return Ok(found);
        };
        let name = key.get(class.prefix().len()..).unwrap_or_default();
        match name.split_once('/') {
            Some((source, _)) => {
                let first = key.parse::<Key>().ok().map(|key| day(key.start()));
                found.push(Source {
                    name: source.to_owned(),
                    first,
                });
                // '0' is what sorts right after '/'.
                after = Some(After::key(format!("{}{source}0", class.prefix())));
            }
            None => after = Some(After::key(key)),
        }
    }
}

fn day(at: Timestamp) -> Date {
    TimeZone::UTC.to_datetime(at).date()
}

/// The UTC days on which a recording may have begun that overlaps `window`; none before `first`.
fn days(window: &Window, first: Option<Date>, now: Timestamp) -> impl Iterator<Item = Date> + use<> {
    let longest = SignedDuration::from_millis(i64::try_from(MAX_DURATION_MS).unwrap_or(i64::MAX));
    let from = day(window.from.saturating_sub(longest).unwrap_or(Timestamp::MIN));
    let from = first.map_or(from, |first| from.max(first));
    // Clocks differ: what seems to be of tomorrow is looked at too.
    let last = window.until.unwrap_or(Timestamp::MAX).min(now);
    let last = day(last).checked_add(1.day()).unwrap_or(Date::MAX);
    from.series(1.day()).take_while(move |day| *day <= last)
}

/// One day of one source, where at least one of the windows may have something; without a day: all that it has.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    day: Option<Date>,
    class: Class,
    source: String,
}

/// All that `covers` may be about, the oldest day first. `everywhere`: keys may not be true, so every day is.
async fn places(
    store: &Store,
    covers: &[Cover],
    everywhere: bool,
    now: Timestamp,
) -> Result<Vec<Place>, StoreError> {
    let mut all = BTreeSet::new();
    for class in Class::ALL {
        if !covers.iter().any(|cover| class == Class::Video || cover.calls) {
            continue;
        }
        for Source { name, first } in sources(store, class).await? {
            let place = |day| Place {
                day,
                class,
                source: name.clone(),
            };
            for cover in covers.iter().filter(|cover| cover.is_about(class, &name)) {
                if everywhere {
                    all.insert(place(None));
                } else {
                    all.extend(days(&cover.window, first, now).map(|day| place(Some(day))));
                }
            }
        }
    }
    Ok(all.into_iter().collect())
}

impl Place {
    fn prefix(&self) -> String {
        match self.day {
            Some(day) => Key::day_prefix(self.class, &self.source, day),
            None => format!("{}{}/", self.class.prefix(), self.source),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_no_refusal() {
        let answered = |code: &str, status| {
            HoldError::from(StoreError {
                operation: "PutObjectLegalHold",
                code: code.into(),
                status,
            })
        };
        let mut refused = None;
        for (code, status) in [
            ("Timeout", None),
            ("SlowDown", Some(503)),
            ("NoSuchVersion", Some(404)),
        ] {
            Refused::note(&mut refused, &answered(code, status));
        }
        assert_eq!(refused, None);
        let denied = answered("AccessDenied", Some(403));
        for _ in 0..2 {
            Refused::note(&mut refused, &denied);
        }
        assert_eq!(
            refused,
            Some(Refused {
                versions: 2,
                first: denied
            })
        );
    }
}
