//! What a pass could not look at: of holds that are about it, nothing may be claimed.

use std::collections::BTreeSet;

use super::{HoldError, Place, Refused};
use crate::protocol::cover::Cover;
use crate::storage::listing::hidden_key;

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

    /// Whether the store hides a key that may be of `cover`: one of its sources, be it on another day, since a key may have been
    /// held that cannot be true.
    pub(super) fn hides(&self, cover: &Cover) -> bool {
        self.hidden_of(cover).next().is_some()
    }

    /// Why nothing may be claimed of a hold over `cover`.
    pub fn of(&self, cover: &Cover) -> Option<Refused> {
        if self.hides(cover) {
            return Some(Refused {
                versions: self.hidden_of(cover).count() as u64,
                first: hidden_key().into(),
            });
        }
        (self.calls && cover.calls).then_some(Refused {
            versions: 0,
            first: HoldError::UnvisitedCalls,
        })
    }

    fn hidden_of(&self, cover: &Cover) -> impl Iterator<Item = &Place> {
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
            Some((refused.versions, refused.first.to_string()))
        };
        let all = Unseen::default();
        assert!(all.is_empty() && told(&all, &cover(&[], true)).is_none());

        let of_hal = Unseen {
            hidden: [hidden(Class::Video, "hal")].into(),
            ..Unseen::default()
        };
        assert!(!of_hal.is_empty());
        for (cover, is_hidden) in [
            (cover(&["hal"], false), true),
            (cover(&[], false), true),
            (cover(&["hal-2"], true), false),
        ] {
            assert_eq!(of_hal.hides(&cover), is_hidden, "{cover:?}");
            assert_eq!(told(&of_hal, &cover).is_some(), is_hidden, "{cover:?}");
        }
        let (versions, first) = told(&of_hal, &cover(&["hal"], false)).unwrap();
        assert!(
            versions == 1 && first.contains("ListingHidesKey"),
            "{versions} {first}"
        );

        let of_calls = Unseen {
            calls: true,
            hidden: [hidden(Class::Calls, "balie")].into(),
        };
        assert_eq!(told(&of_calls, &cover(&["hal"], false)), None);
        assert!(
            told(&of_calls, &cover(&["hal"], true))
                .unwrap()
                .1
                .contains("ListingHidesKey")
        );
        let unvisited = Unseen {
            calls: true,
            ..Unseen::default()
        };
        assert_eq!(told(&unvisited, &cover(&["hal"], false)), None);
        assert!(
            told(&unvisited, &cover(&["hal"], true))
                .unwrap()
                .1
                .starts_with("TooManySources: ")
        );
    }
}
