//! Parts of the bucket that a pass could not check. Holds over them are not verified.

use std::collections::BTreeSet;

use crate::rules::HoldScope;
use crate::storage::recordings::{HoldError, PassErrors, SourceDay};

/// Parts that a pass could not check. Other holds are not affected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unchecked {
    /// Some sources of calls were not visited.
    pub(crate) has_unvisited_calls: bool,
    /// Source days with an existing key that the store does not list.
    pub(crate) incomplete_listings: BTreeSet<SourceDay>,
}

impl Unchecked {
    pub fn is_empty(&self) -> bool {
        !self.has_unvisited_calls && self.incomplete_listings.is_empty()
    }

    /// Returns why a hold over `cover` is not verified.
    pub fn errors_for(&self, cover: &HoldScope) -> Option<PassErrors> {
        let why = if self.incomplete_listings_of(cover).next().is_some() {
            HoldError::UnlistedKey
        } else if self.has_unvisited_calls && cover.calls {
            HoldError::TooManySources
        } else {
            return None;
        };
        Some(PassErrors { versions: 0, first_error: why })
    }

    /// Returns the days with unlisted keys in the sources of `cover`. Includes days outside its window, since a version
    /// with an implausible key may be held.
    pub(crate) fn incomplete_listings_of(&self, cover: &HoldScope) -> impl Iterator<Item = &SourceDay> {
        let is_its = |place: &&SourceDay| cover.includes_source(place.class, &place.source);
        self.incomplete_listings.iter().filter(is_its)
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::rules::hold::scope::tests::video_scope;
    use crate::rules::{Class, Window};

    #[test]
    fn unchecked_parts_block_only_holds_over_them() {
        let window = Window::new(Timestamp::UNIX_EPOCH, None);
        let cover = |cameras: &[&str], calls| HoldScope { calls, ..video_scope(cameras, window) };
        let hidden = |class, source: &str| SourceDay {
            day: "2026-03-01".parse().unwrap(),
            class,
            source: source.to_owned(),
        };
        let told = |unseen: &Unchecked, cover: &HoldScope| {
            let refused = unseen.errors_for(cover)?;
            assert_eq!(refused.versions, 0);
            Some(refused.first_error.to_string())
        };
        let all = Unchecked::default();
        assert!(all.is_empty() && told(&all, &cover(&[], true)).is_none());

        let of_hal =
            Unchecked { incomplete_listings: [hidden(Class::Video, "hal")].into(), ..Unchecked::default() };
        assert!(!of_hal.is_empty());
        for (cover, is_hidden) in
            [(cover(&["hal"], false), true), (cover(&[], false), true), (cover(&["hal-2"], true), false)]
        {
            assert_eq!(of_hal.incomplete_listings_of(&cover).count(), usize::from(is_hidden), "{cover:?}");
            assert_eq!(told(&of_hal, &cover).is_some(), is_hidden, "{cover:?}");
        }
        let first = told(&of_hal, &cover(&["hal"], false)).unwrap();
        assert!(first.starts_with("ListingOmitsKey: "), "{first}");

        let of_calls = Unchecked {
            has_unvisited_calls: true,
            incomplete_listings: [hidden(Class::Calls, "balie")].into(),
        };
        assert_eq!(told(&of_calls, &cover(&["hal"], false)), None);
        assert!(told(&of_calls, &cover(&["hal"], true)).unwrap().contains("ListingOmitsKey"));
        let unvisited = Unchecked { has_unvisited_calls: true, ..Unchecked::default() };
        assert_eq!(told(&unvisited, &cover(&["hal"], false)), None);
        assert!(told(&unvisited, &cover(&["hal"], true)).unwrap().starts_with("TooManySources: "));
    }
}
