//! `ListObjectVersions` as stores answer it.

use std::collections::VecDeque;
use std::ops::Bound;

use super::kind::ListingOrder;
use super::store::{Store, Version};

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    pub prefix: String,
    pub delimiter: Option<String>,
    pub key_marker: String,
    pub id_marker: String,
    pub most: usize,
}

/// One line of an answer.
#[derive(Clone, Debug)]
pub enum Line {
    Version {
        key: String,
        is_latest: bool,
        version: Version,
    },
    /// All keys that begin so.
    Common(String),
}

impl Line {
    pub fn key(&self) -> &str {
        match self {
            Self::Version { key, .. } | Self::Common(key) => key,
        }
    }
}

/// An answer.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    pub lines: Vec<Line>,
    /// Key and version where the next goes on.
    pub next: Option<(String, String)>,
}

impl Store {
    pub fn list(&self, asked: &Asked) -> Listing {
        // Of the ledger a hundred pages are read: with three versions each that would be few.
        let page = if asked.prefix.starts_with("ledger/") { self.kind.page.max(40) } else { self.kind.page };
        let most = asked.most.min(page);
        if most == 0 {
            return Listing::default();
        }
        let mut found = Listing::default();
        for line in self.after(asked) {
            if found.lines.len() == most {
                // In the order of the page, whatever the order of the folders.
                self.sort(&mut found.lines);
                let last = found.lines.last().unwrap();
                let id = match last {
                    Line::Version { version, .. } => version.id.clone(),
                    Line::Common(_) => String::new(),
                };
                found.next = Some((last.key().to_owned(), id));
                return found;
            }
            found.lines.push(line);
        }
        self.sort(&mut found.lines);
        found
    }

    fn sort(&self, lines: &mut [Line]) {
        if self.kind.order == ListingOrder::Tree {
            lines.sort_by(|one, other| one.key().cmp(other.key()));
        }
    }

    /// The lines after the markers, in the order of the store.
    fn after<'a>(&'a self, asked: &'a Asked) -> Box<dyn Iterator<Item = Line> + 'a> {
        match (self.kind.order, &asked.delimiter) {
            (ListingOrder::Tree, None) => Box::new(self.entries_by_folder(asked)),
            _ => Box::new(self.entries_by_bytes(asked)),
        }
    }

    /// In the order of bytes. A folder is passed over in one step: a Site has hundreds of thousands of recordings in few.
    fn entries_by_bytes<'a>(&'a self, asked: &'a Asked) -> impl Iterator<Item = Line> + 'a {
        let first = asked.prefix.as_str().max(asked.key_marker.as_str());
        let (mut from, mut lines) = (Bound::Included(first.to_owned()), VecDeque::new());
        std::iter::from_fn(move || {
            loop {
                if let Some(line) = lines.pop_front() {
                    return Some(line);
                }
                let (key, versions) = self.keys.range((from.clone(), Bound::Unbounded)).next()?;
                if !key.starts_with(&asked.prefix) {
                    return None;
                }
                from = match common(asked, key) {
                    // '0' follows '/'.
                    Some(common) => {
                        Bound::Included(format!("{}0", common.strip_suffix('/').unwrap_or(&common)))
                    }
                    None => Bound::Excluded(key.clone()),
                };
                lines.extend(self.lines(asked, key, versions));
            }
        })
    }

    fn entries_by_folder<'a>(&'a self, asked: &'a Asked) -> impl Iterator<Item = Line> + 'a {
        let range = self.keys.range(asked.prefix.clone()..);
        let mut keys: Vec<_> = range.take_while(|(key, _)| key.starts_with(&asked.prefix)).collect();
        keys.sort_by(|(one, _), (other, _)| one.split('/').cmp(other.split('/')));
        keys.into_iter().flat_map(move |(key, versions)| self.lines(asked, key, versions))
    }

    fn lines(&self, asked: &Asked, key: &str, versions: &[Version]) -> Vec<Line> {
        let marker = asked.key_marker.as_str();
        if let Some(common) = common(asked, key) {
            // A marker within a folder is after all of it, or names it; for some, so is one that goes on from its name.
            let is_named = self.kind.order == ListingOrder::Tree && common.trim_end_matches('/') < marker;
            let is_past =
                marker.is_empty() || common.as_str() > marker && !marker.starts_with(&common) && !is_named;
            return if is_past { vec![Line::Common(common)] } else { Vec::new() };
        }
        let from = if marker.is_empty() || key > marker {
            0
        } else if key < marker {
            return Vec::new();
        } else if !asked.id_marker.is_empty() {
            match versions.iter().position(|version| version.id == asked.id_marker) {
                Some(place) => place + 1,
                // It is gone since: what is older goes on.
                None => {
                    versions.iter().position(|version| version.id < asked.id_marker).unwrap_or(versions.len())
                }
            }
        } else if self.kind.inclusive_marker {
            0
        } else {
            return Vec::new();
        };
        let lines = versions.iter().enumerate().skip(from);
        lines
            .map(|(place, version)| Line::Version {
                key: key.to_owned(),
                is_latest: place == 0,
                version: version.clone(),
            })
            .collect()
    }
}

/// The folder that a key is in, beneath the prefix.
fn common(asked: &Asked, key: &str) -> Option<String> {
    let delimiter = asked.delimiter.as_deref()?;
    let end = asked.prefix.len() + key.get(asked.prefix.len()..)?.find(delimiter)?;
    Some(key.get(..end + delimiter.len())?.to_owned())
}
