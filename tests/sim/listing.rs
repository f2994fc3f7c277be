//! `ListObjectVersions` as different stores answer it.

use std::collections::VecDeque;
use std::ops::Bound;

use super::store::{Store, Version};
use super::store_kind::ListingOrder;

/// Parameters of a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListParameters {
    pub prefix: String,
    pub delimiter: Option<String>,
    pub key_marker: String,
    pub id_marker: String,
    pub max_keys: usize,
}

/// An entry of a listing.
#[derive(Clone, Debug)]
pub enum ListingEntry {
    Version {
        key: String,
        is_latest: bool,
        version: Version,
    },
    /// Common prefix of several keys.
    Common(String),
}

impl ListingEntry {
    pub fn key(&self) -> &str {
        match self {
            Self::Version { key, .. } | Self::Common(key) => key,
        }
    }
}

/// A page of a listing.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    pub entries: Vec<ListingEntry>,
    /// Key marker and version marker of the next page.
    pub next: Option<(String, String)>,
}

impl Store {
    pub fn list(&self, parameters: &ListParameters) -> Listing {
        // The operator reads at most a hundred pages of the ledger, so its pages must not be tiny.
        let page =
            if parameters.prefix.starts_with("ledger/") { self.kind.page.max(40) } else { self.kind.page };
        let max_keys = parameters.max_keys.min(page);
        if max_keys == 0 {
            return Listing::default();
        }
        let mut page = Listing::default();
        for entry in self.after(parameters) {
            if page.entries.len() == max_keys {
                // A page is sorted by key, even if the folders come in another order.
                self.sort(&mut page.entries);
                let last = page.entries.last().unwrap();
                let id = match last {
                    ListingEntry::Version { version, .. } => version.id.clone(),
                    ListingEntry::Common(_) => String::new(),
                };
                page.next = Some((last.key().to_owned(), id));
                return page;
            }
            page.entries.push(entry);
        }
        self.sort(&mut page.entries);
        page
    }

    fn sort(&self, entries: &mut [ListingEntry]) {
        if self.kind.order == ListingOrder::Tree {
            entries.sort_by(|one, other| one.key().cmp(other.key()));
        }
    }

    /// Returns the entries after the markers in the store's order.
    fn after<'a>(&'a self, parameters: &'a ListParameters) -> Box<dyn Iterator<Item = ListingEntry> + 'a> {
        match (self.kind.order, &parameters.delimiter) {
            (ListingOrder::Tree, None) => Box::new(self.entries_by_folder(parameters)),
            _ => Box::new(self.entries_by_bytes(parameters)),
        }
    }

    /// Returns the entries in byte order. A folder is skipped in one step, because a Site has hundreds of thousands
    /// of recordings in few folders.
    fn entries_by_bytes<'a>(
        &'a self,
        parameters: &'a ListParameters,
    ) -> impl Iterator<Item = ListingEntry> + 'a {
        let first = parameters.prefix.as_str().max(parameters.key_marker.as_str());
        let (mut from, mut entries) = (Bound::Included(first.to_owned()), VecDeque::new());
        std::iter::from_fn(move || {
            loop {
                if let Some(entry) = entries.pop_front() {
                    return Some(entry);
                }
                let (key, versions) = self.keys.range((from.clone(), Bound::Unbounded)).next()?;
                if !key.starts_with(&parameters.prefix) {
                    return None;
                }
                from = match common_prefix(parameters, key) {
                    // '0' follows '/'.
                    Some(common_prefix) => Bound::Included(format!(
                        "{}0",
                        common_prefix.strip_suffix('/').unwrap_or(&common_prefix)
                    )),
                    None => Bound::Excluded(key.clone()),
                };
                entries.extend(self.entries(parameters, key, versions));
            }
        })
    }

    fn entries_by_folder<'a>(
        &'a self,
        parameters: &'a ListParameters,
    ) -> impl Iterator<Item = ListingEntry> + 'a {
        let range = self.keys.range(parameters.prefix.clone()..);
        let mut keys: Vec<_> = range.take_while(|(key, _)| key.starts_with(&parameters.prefix)).collect();
        keys.sort_by(|(one, _), (other, _)| one.split('/').cmp(other.split('/')));
        keys.into_iter().flat_map(move |(key, versions)| self.entries(parameters, key, versions))
    }

    fn entries(&self, parameters: &ListParameters, key: &str, versions: &[Version]) -> Vec<ListingEntry> {
        let marker = parameters.key_marker.as_str();
        if let Some(common_prefix) = common_prefix(parameters, key) {
            // A marker within a folder, or equal to it, is past the whole folder. For some stores so is a marker that
            // extends its name.
            let is_named =
                self.kind.order == ListingOrder::Tree && common_prefix.trim_end_matches('/') < marker;
            let is_past = marker.is_empty()
                || common_prefix.as_str() > marker && !marker.starts_with(&common_prefix) && !is_named;
            return if is_past { vec![ListingEntry::Common(common_prefix)] } else { Vec::new() };
        }
        let from = if marker.is_empty() || key > marker {
            0
        } else if key < marker {
            return Vec::new();
        } else if !parameters.id_marker.is_empty() {
            match versions.iter().position(|version| version.id == parameters.id_marker) {
                Some(place) => place + 1,
                // The marker's version was deleted since: continue with older ones.
                None => versions
                    .iter()
                    .position(|version| version.id < parameters.id_marker)
                    .unwrap_or(versions.len()),
            }
        } else if self.kind.inclusive_marker {
            0
        } else {
            return Vec::new();
        };
        let entries = versions.iter().enumerate().skip(from);
        entries
            .map(|(place, version)| ListingEntry::Version {
                key: key.to_owned(),
                is_latest: place == 0,
                version: version.clone(),
            })
            .collect()
    }
}

/// Returns the common prefix of a key below the listing's prefix.
fn common_prefix(parameters: &ListParameters, key: &str) -> Option<String> {
    let delimiter = parameters.delimiter.as_deref()?;
    let end = parameters.prefix.len() + key.get(parameters.prefix.len()..)?.find(delimiter)?;
    Some(key.get(..end + delimiter.len())?.to_owned())
}
