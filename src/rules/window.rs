//! Windows of time and sets of instants.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Instants from `from` to `until`, exclusive. Without `until`, the window has no end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Window {
    pub from: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

impl Window {
    pub const fn new(from: Timestamp, until: Option<Timestamp>) -> Self {
        Self { from, until }
    }

    pub fn contains(&self, instant: Timestamp) -> bool {
        self.from <= instant && !ends_by(self.until, instant)
    }

    pub fn is_empty(&self) -> bool {
        ends_by(self.until, self.from)
    }

    /// Returns the common instants, or `None` if there are none.
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Option<Self> {
        let both = Self::new(self.from.max(other.from), earlier_end(self.until, other.until));
        (!both.is_empty()).then_some(both)
    }
}

/// Set of instants: ascending, nonempty windows that do not touch. Each set has exactly one representation, so equal sets are
/// equal values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Windows(Vec<Window>);

impl Windows {
    pub const fn empty() -> Self {
        Self(Vec::new())
    }

    /// Returns the union of `windows`, which can be in any order, overlap, touch or be empty.
    pub fn union(windows: impl IntoIterator<Item = Window>) -> Self {
        let mut sorted: Vec<Window> = windows.into_iter().filter(|window| !window.is_empty()).collect();
        sorted.sort_by_key(|window| window.from);
        let mut merged: Vec<Window> = Vec::with_capacity(sorted.len());
        for window in sorted {
            match merged.last_mut() {
                // Windows that touch become one. Otherwise `next_change` would return an instant at which nothing
                // changes.
                Some(last) if last.until.is_none_or(|until| until >= window.from) => {
                    last.until = later_end(last.until, window.until);
                }
                _ => merged.push(window),
            }
        }
        Self(merged)
    }

    pub fn contains(&self, instant: Timestamp) -> bool {
        self.window_at(instant).is_some()
    }

    pub fn window_at(&self, instant: Timestamp) -> Option<&Window> {
        self.0.iter().find(|window| window.contains(instant))
    }

    #[must_use]
    pub fn intersect(&self, other: &Self) -> Self {
        Self::union(self.0.iter().flat_map(|mine| other.0.iter().filter_map(|theirs| mine.intersect(theirs))))
    }

    /// Returns the instants that are not in `other`.
    #[must_use]
    pub fn subtract(&self, other: &Self) -> Self {
        self.intersect(&other.complement())
    }

    /// Returns the windows that end after `instant`, or never.
    #[must_use]
    pub fn ending_after(&self, instant: Timestamp) -> Self {
        Self(self.0.iter().filter(|window| !ends_by(window.until, instant)).copied().collect())
    }

    /// Returns the first instant after `now` at which [`Self::contains`] changes, or `None`.
    pub fn next_change(&self, now: Timestamp) -> Option<Timestamp> {
        self.0
            .iter()
            .flat_map(|window| [Some(window.from), window.until])
            .flatten()
            .find(|boundary| *boundary > now)
    }

    pub fn as_slice(&self) -> &[Window] {
        &self.0
    }

    pub fn into_vec(self) -> Vec<Window> {
        self.0
    }

    fn complement(&self) -> Self {
        let mut gaps = Vec::with_capacity(self.0.len() + 1);
        let mut from = Some(Timestamp::MIN);
        for window in &self.0 {
            gaps.extend(from.map(|from| Window::new(from, Some(window.from))));
            from = window.until;
        }
        gaps.extend(from.map(|from| Window::new(from, None)));
        Self::union(gaps)
    }
}

impl FromIterator<Window> for Windows {
    fn from_iter<T: IntoIterator<Item = Window>>(windows: T) -> Self {
        Self::union(windows)
    }
}

fn ends_by(until: Option<Timestamp>, instant: Timestamp) -> bool {
    until.is_some_and(|until| until <= instant)
}

/// Returns the earlier of two ends. `None` is later than every end.
fn earlier_end(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (end, None) | (None, end) => end,
    }
}

/// Returns the later of two ends. `None` is later than every end.
fn later_end(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    Some(a?.max(b?))
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Instants within a few days, at whole hours, so that boundaries often coincide.
    pub(crate) fn instant() -> impl Strategy<Value = Timestamp> {
        (0_i64..96).prop_map(|hour| Timestamp::from_second(1_588_716_000 + hour * 3600).unwrap())
    }

    pub(crate) fn any_window() -> impl Strategy<Value = Window> {
        (instant(), proptest::option::of(instant())).prop_map(|(from, until)| Window::new(from, until))
    }

    pub(crate) fn any_windows() -> impl Strategy<Value = Vec<Window>> {
        proptest::collection::vec(any_window(), 0..6)
    }

    proptest! {
        #[test]
        fn ending_after_keeps_every_later_instant(windows in any_windows(), limit in instant(), at in instant()) {
            let windows = Windows::union(windows);
            let kept = windows.ending_after(limit);
            prop_assert!(at < limit || kept.contains(at) == windows.contains(at));
            prop_assert!(kept.as_slice().iter().all(|window| window.until.is_none_or(|until| until > limit)));
        }

        #[test]
        fn union_keeps_every_instant_and_is_canonical(raw in any_windows(), at in instant()) {
            let windows = Windows::union(raw.clone());
            prop_assert_eq!(windows.contains(at), raw.iter().any(|window| window.contains(at)));
            for pair in windows.as_slice().windows(2) {
                prop_assert!(pair[0].until.is_some_and(|until| until < pair[1].from));
            }
            prop_assert!(windows.as_slice().iter().all(|window| !window.is_empty()));
            prop_assert_eq!(Windows::union(windows.clone().into_vec()), windows);
        }

        #[test]
        fn set_operations_agree_with_membership(a in any_windows(), b in any_windows(), at in instant()) {
            let (a, b) = (Windows::union(a), Windows::union(b));
            prop_assert_eq!(a.intersect(&b).contains(at), a.contains(at) && b.contains(at));
            prop_assert_eq!(a.subtract(&b).contains(at), a.contains(at) && !b.contains(at));
            prop_assert_eq!(a.subtract(&Windows::empty()), a.clone());
            prop_assert_eq!(a.subtract(&a), Windows::empty());
        }

        #[test]
        fn next_change_is_the_first_boundary(raw in any_windows(), now in instant()) {
            let windows = Windows::union(raw);
            let before = windows.contains(now);
            let change = windows.next_change(now);
            prop_assert!(change.is_none_or(|change| change > now));
            prop_assert!(change.is_none_or(|change| windows.contains(change) != before));
            let last = change.unwrap_or(Timestamp::MAX) - jiff::SignedDuration::from_nanos(1);
            prop_assert_eq!(windows.contains(last), before);
        }
    }
}
