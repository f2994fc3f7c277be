//! One page of a bucket's versions and delete markers, verified before use.
//!
//! S3 lists in byte order and returns the start of the next page. Some stores walk folders, so that `x-y` comes after
//! `x`. Some repeat the key of the marker. Some replace bytes that XML does not allow.
//!
//! A page with own keys out of order is an error. Sorting it would hide the keys that it omits.

use std::borrow::Cow;
use std::cmp::Reverse;

use aws_sdk_s3::operation::list_object_versions::ListObjectVersionsOutput;
use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::EncodingType;
use jiff::Timestamp;

use super::client::{BucketClient, listing_timeouts};
use super::error::StoreError;
use crate::rules::ListedVersion;

pub(crate) const OPERATION: &str = "ListObjectVersions";
/// Largest page of S3.
pub(crate) const PAGE_SIZE: i32 = 1000;
/// Sorts before every character of an own key.
const LOWEST_CHAR: char = ' ';

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ListCursor {
    key: String,
    id: Option<String>,
}

impl ListCursor {
    /// Points at the first key after `text`. A key equal to `text` may be listed or not: `key-marker` is inclusive in
    /// some stores.
    pub(crate) fn after_text(text: impl Into<String>) -> Self {
        Self { key: text.into(), id: None }
    }

    /// Points after all versions of `key`.
    pub(crate) fn after_key(key: &str) -> Self {
        Self::after_text(format!("{key}{LOWEST_CHAR}"))
    }

    /// Points after the version `id` of `key`.
    fn after_version(key: &str, id: String) -> Self {
        Self { key: key.to_owned(), id: Some(id) }
    }

    /// Returns whether the cursor is after the first key with `prefix`.
    pub(crate) fn is_past_prefix(&self, prefix: &str) -> bool {
        self.key.as_str() > prefix
    }

    /// Returns whether the cursor is within the versions of a key.
    pub(crate) fn is_within_key(&self, key: &str) -> bool {
        self.id.is_some() && self.key == key
    }
}

#[derive(Clone, Copy)]
pub(crate) struct ListQuery<'a> {
    pub(crate) prefix: &'a str,
    /// Groups keys up to the next `/`.
    pub(crate) has_delimiter: bool,
    pub(crate) after: Option<&'a ListCursor>,
    /// Largest number of versions and folders.
    pub(crate) max_keys: i32,
    /// Returns whether only the operator and recorders write such a key, so that it must be in order. Anyone with put
    /// access can write others.
    pub(crate) is_own_key: fn(&str) -> bool,
}

impl<'a> ListQuery<'a> {
    /// Returns a query for everything under `prefix`, where all keys are own keys.
    pub(crate) const fn under_prefix(prefix: &'a str) -> Self {
        Self { prefix, has_delimiter: false, after: None, max_keys: PAGE_SIZE, is_own_key: |_| true }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct VersionPage {
    /// By key, newest first within a key.
    pub(crate) versions: Vec<ListedVersion>,
    /// Greatest key of the page, including the marker's own key.
    pub(crate) greatest_key: Option<String>,
    /// Prefixes of grouped keys.
    pub(crate) folders: Vec<String>,
    /// More pages follow.
    pub(crate) is_truncated: bool,
    /// Start of the next page, as received and decoded: some stores do not encode it.
    next_key_markers: [Option<String>; 2],
    next_version_id_marker: Option<String>,
}

impl VersionPage {
    /// Returns the cursor after `last`, an own key: within its versions if the page ends there.
    pub(crate) fn cursor_after(&self, last: &str) -> ListCursor {
        let is_last = self.next_key_markers.iter().flatten().any(|next| next == last);
        match self.next_version_id_marker.clone().filter(|_| is_last) {
            Some(id) => ListCursor::after_version(last, id),
            None => ListCursor::after_key(last),
        }
    }

    /// Returns the cursor for folders after a page requested with `after`: the greatest name without `/`.
    ///
    /// No own name is omitted from there, in byte order of keys (`a-1/` before `a/`) or in order of folder names (`a`
    /// before `a-1`). Some names may repeat. Of a name with U+FFFD, only the part before it counts: some stores replace
    /// characters that XML does not allow, and such names sort after all own ones.
    ///
    /// `None`: there are no more, or the page makes no progress.
    pub(crate) fn next_folder_cursor(&self, after: Option<&ListCursor>) -> Option<ListCursor> {
        let next = ListCursor::after_key(self.greatest_name()?);
        (self.is_truncated && after.is_none_or(|after| next > *after)).then_some(next)
    }

    /// Returns the greatest name without `/`, up to a replaced character.
    pub(crate) fn greatest_name(&self) -> Option<&str> {
        let keys = self.versions.iter().map(|listed| &listed.key);
        let names = self.folders.iter().chain(keys).chain(&self.greatest_key);
        let names = names.map(|name| match name.split_once('\u{fffd}') {
            Some((before, _)) => before,
            None => name.strip_suffix('/').unwrap_or(name),
        });
        names.max()
    }
}

/// Returns one verified page.
pub(crate) async fn list_page(store: &BucketClient, query: ListQuery<'_>) -> Result<VersionPage, StoreError> {
    let request = store
        .client
        .list_object_versions()
        .bucket(&store.bucket)
        .max_keys(query.max_keys)
        .encoding_type(EncodingType::Url)
        .set_delimiter(query.has_delimiter.then(|| "/".to_owned()))
        .set_prefix(Some(query.prefix.to_owned()).filter(|prefix| !prefix.is_empty()))
        .set_key_marker(query.after.map(|after| after.key.clone()))
        .set_version_id_marker(query.after.and_then(|after| after.id.clone()));
    let answer = request
        .customize()
        .config_override(listing_timeouts())
        .send()
        .await
        .map_err(|error| StoreError::from_sdk(OPERATION, &error))?;
    parse_page(&answer, query)
}

fn parse_page(answer: &ListObjectVersionsOutput, query: ListQuery<'_>) -> Result<VersionPage, StoreError> {
    // Some stores ignore `encoding-type`. Decoding their keys would change those that contain `%` or `+`.
    let is_encoded = answer.encoding_type() == Some(&EncodingType::Url);
    let decoded = |text: &str| {
        if is_encoded { decode_key(text).into_owned() } else { text.to_owned() }
    };
    let key = |key: Option<&str>| key.map(decoded).ok_or_else(unreadable_answer);
    let (mut versions, mut markers) = (Vec::new(), Vec::new());
    for version in answer.versions() {
        versions.push(ListedVersion {
            key: key(version.key())?,
            id: version.version_id().unwrap_or("null").to_owned(),
            is_marker: false,
            is_latest: version.is_latest() == Some(true),
            modified: parse_timestamp(version.last_modified())?,
            size: version.size().and_then(|size| u64::try_from(size).ok()).unwrap_or_default(),
            etag: version.e_tag().unwrap_or_default().to_owned(),
        });
    }
    for marker in answer.delete_markers() {
        markers.push(ListedVersion {
            key: key(marker.key())?,
            id: marker.version_id().unwrap_or("null").to_owned(),
            is_marker: true,
            is_latest: marker.is_latest() == Some(true),
            modified: parse_timestamp(marker.last_modified())?,
            size: 0,
            etag: String::new(),
        });
    }
    // The SDK separates the two kinds. Each must be in order.
    check_order(&versions, query)?;
    check_order(&markers, query)?;
    versions.append(&mut markers);
    // Before the marker's own key goes: a page of nothing else must still say how far the listing is.
    let end = versions.iter().map(|listed| &listed.key).max().cloned();
    if let Some(after) = query.after.filter(|after| after.id.is_none()) {
        // The marker's own key, of a store with inclusive markers.
        versions.retain(|listed| listed.key != after.key);
    }
    // Newest first within a key. Stores do not order versions of the same second: the latest is flagged, and a marker
    // hides.
    let rank = |listed: &ListedVersion| Reverse((listed.is_latest, listed.modified, listed.is_marker));
    versions.sort_by(|one, other| one.key.cmp(&other.key).then_with(|| rank(one).cmp(&rank(other))));
    let folders = answer.common_prefixes().iter();
    let next = answer.next_key_marker();
    Ok(VersionPage {
        versions,
        greatest_key: end,
        folders: folders.filter_map(|folder| folder.prefix().map(decoded)).collect(),
        is_truncated: answer.is_truncated() == Some(true),
        next_key_markers: [next.map(str::to_owned), next.map(decoded)],
        next_version_id_marker: answer
            .next_version_id_marker()
            .filter(|id| !id.is_empty())
            .map(str::to_owned),
    })
}

/// Checks that own keys have the prefix, follow the marker, and are in byte order.
fn check_order(listed: &[ListedVersion], query: ListQuery<'_>) -> Result<(), StoreError> {
    let mut last: Option<&str> = None;
    for key in listed.iter().map(|listed| listed.key.as_str()) {
        if !key.starts_with(query.prefix) {
            return Err(invalid_listing_error("ListingOutsidePrefix"));
        }
        if !(query.is_own_key)(key) {
            continue;
        }
        if query.after.is_some_and(|after| key < after.key.as_str()) {
            return Err(invalid_listing_error("ListingGoesBack"));
        }
        if last.is_some_and(|last| key < last) {
            return Err(invalid_listing_error("ListingOutOfOrder"));
        }
        last = Some(key);
    }
    Ok(())
}

/// Pages of one listing.
pub(crate) const MAX_PAGES: usize = 100_000;

/// Returns everything under a prefix that only the operator writes, within a page limit.
pub(crate) async fn list_all(
    store: &BucketClient,
    prefix: &str,
    most_pages: usize,
) -> Result<Vec<ListedVersion>, StoreError> {
    let (mut all, mut after) = (Vec::new(), None);
    for _ in 0..most_pages {
        let page =
            list_page(store, ListQuery { after: after.as_ref(), ..ListQuery::under_prefix(prefix) }).await?;
        let next = page.versions.last().map(|last| page.cursor_after(&last.key));
        all.extend(page.versions);
        match next {
            // The same cursor twice means a store that repeats a page for ever.
            Some(next) if page.is_truncated && after.as_ref() != Some(&next) => after = Some(next),
            // The page makes no progress, so the list would be incomplete.
            _ if page.is_truncated => break,
            _ => return Ok(all),
        }
    }
    Err(endless_listing_error())
}

/// Returns keys and version ids under a prefix from pages of one version. Detects a store that omits versions between
/// pages.
pub(crate) async fn list_one_by_one(
    store: &BucketClient,
    prefix: &str,
    most: usize,
) -> Result<Vec<(String, String)>, StoreError> {
    let (mut all, mut after) = (Vec::new(), None);
    for _ in 0..most {
        let query = ListQuery { after: after.as_ref(), max_keys: 1, ..ListQuery::under_prefix(prefix) };
        let page = list_page(store, query).await?;
        let next = page.versions.last().map(|last| page.cursor_after(&last.key));
        all.extend(page.versions.into_iter().map(|listed| (listed.key, listed.id)));
        match next {
            Some(next) if page.is_truncated => after = Some(next),
            // The page has only the marker's own key, of a store with inclusive markers.
            None if page.is_truncated => return Err(endless_listing_error()),
            _ => return Ok(all),
        }
    }
    Err(endless_listing_error())
}

pub(crate) fn parse_timestamp(of: Option<&DateTime>) -> Result<Timestamp, StoreError> {
    let of = of.ok_or_else(unreadable_answer)?;
    let nanos = i32::try_from(of.subsec_nanos()).map_err(|_| unreadable_answer())?;
    Timestamp::new(of.secs(), nanos).map_err(|_| unreadable_answer())
}

/// Decodes a key with `encoding-type=url`. Stores write a space as `+` or `%20`.
fn decode_key(text: &str) -> Cow<'_, str> {
    let spaced: Cow<'_, str> = if text.contains('+') { text.replace('+', " ").into() } else { text.into() };
    let bytes: Vec<u8> = percent_encoding::percent_decode_str(&spaced).collect();
    String::from_utf8_lossy(&bytes).into_owned().into()
}

/// A missing or damaged field is never guessed, since lifetimes depend on it.
fn unreadable_answer() -> StoreError {
    StoreError::without_status(OPERATION, "UnreadableAnswer")
}

const UNLISTED_KEY_CODE: &str = "ListingOmitsKey";

/// Returns the error of a listing that omits an existing key.
pub(crate) fn unlisted_key_error() -> StoreError {
    invalid_listing_error(UNLISTED_KEY_CODE)
}

pub(crate) fn is_unlisted_key_error(error: &StoreError) -> bool {
    error.code == UNLISTED_KEY_CODE
}

/// Returns the error of a listing that does not end.
pub(crate) fn endless_listing_error() -> StoreError {
    invalid_listing_error("EndlessListing")
}

/// An answer that violates the protocol, so a retry does not help.
fn invalid_listing_error(code: &str) -> StoreError {
    StoreError { operation: OPERATION, code: code.into(), status: Some(200) }
}

#[cfg(test)]
mod tests;
