//! What a pass could not look at: of holds that are about it, nothing may be claimed.

use std::collections::BTreeSet;

use super::{HoldError, Place, Refused};
use crate::protocol::cover::Cover;

/// See the module. Of all other holds the pass says as much as ever.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unseen {
    /// Sources of calls that were not visited.
    pub(crate) calls: bool,
    /// Days of sources in which the store hides a key that is there.
    pub(super) hidden: BTreeSet<Place>,
}

impl Unseen {
    /// Whether everything was seen.
    pub fn is_empty(&self) -> bool {
        !self.calls && self.hidden.is_empty()
    }

    /// Why nothing may be claimed of a hold over `cover`.
    pub fn of(&self, cover: &Cover) -> Option<Refused> {
        let why = if self.hidden_of(cover).next().is_some() {
            HoldError::HiddenKey
        } else if self.calls && cover.calls {
            HoldError::UnvisitedCalls
        } else {
            return None;
        };
        Some(Refused { versions: 0, first: why })
    }

    /// Where the store hides a key that may be of `cover`: in one of its sources, also on another day, since a key that cannot be
    /// true may have been held.
    pub(super) fn hidden_of(&self, cover: &Cover) -> impl Iterator<Item = &Place> {
        let is_its = |place: &&Place| cover.is_about(place.class, &place.source);
        self.hidden.iter().filter(is_its)
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::protocol::Window;
    use crate::protocol::cover::Sources;
    use crate::protocol::recording::Class;

    #[test]
    fn nothing_is_claimed_of_what_was_not_seen_and_as_much_as_ever_of_the_rest() {
        let cover = |cameras: &[&str], calls| Cover {
            sources: match cameras {
                [] => Sources::All,
                _ => Sources::Named(cameras.iter().map(|name| (*name).to_owned()).collect()),
            },
            calls,
            window: Window::new(Timestamp::UNIX_EPOCH, None),
        };
        let hidden = |class, source: &str| Place {
            day: "2026-03-01".parse().unwrap(),
            class,
            source: source.to_owned(),
        };
        let told = |unseen: &Unseen, cover: &Cover| {
            let refused = unseen.of(cover)?;
            assert_eq!(refused.versions, 0);
            Some(refused.first.to_string())
        };
        let all = Unseen::default();
        assert!(all.is_empty() && told(&all, &cover(&[], true)).is_none());

        let of_hal = Unseen { hidden: [hidden(Class::Video, "hal")].into(), ..Unseen::default() };
        assert!(!of_hal.is_empty());
        for (cover, is_hidden) in
            [(cover(&["hal"], false), true), (cover(&[], false), true), (cover(&["hal-2"], true), false)]
        {
            assert_eq!(of_hal.hidden_of(&cover).count(), usize::from(is_hidden), "{cover:?}");
            assert_eq!(told(&of_hal, &cover).is_some(), is_hidden, "{cover:?}");
        }
        let first = told(&of_hal, &cover(&["hal"], false)).unwrap();
        assert!(first.starts_with("ListingHidesKey: "), "{first}");

        let of_calls = Unseen { calls: true, hidden: [hidden(Class::Calls, "balie")].into() };
        assert_eq!(told(&of_calls, &cover(&["hal"], false)), None);
        assert!(told(&of_calls, &cover(&["hal"], true)).unwrap().contains("ListingHidesKey"));
        let unvisited = Unseen { calls: true, ..Unseen::default() };
        assert_eq!(told(&unvisited, &cover(&["hal"], false)), None);
        assert!(told(&unvisited, &cover(&["hal"], true)).unwrap().starts_with("TooManySources: "));
    }
}
