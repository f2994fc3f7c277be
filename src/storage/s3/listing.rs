//! One page of a bucket's versions and delete markers, checked before anybody relies on it.
//!
//! S3 lists in byte order and says where the next page begins. Stores differ: some walk folders, so that `x-y` comes after
//! `x`; some repeat the key of the marker; some replace bytes that XML cannot have. A page that breaks the order of keys of
//! ours, or goes back, is an error with a name. It is never sorted into shape: what it left out would go unnoticed.

use std::borrow::Cow;
use std::cmp::Reverse;

use aws_sdk_s3::operation::list_object_versions::ListObjectVersionsOutput;
use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::EncodingType;
use jiff::Timestamp;

use super::client::{BucketClient, listing_timeouts};
use super::error::StoreError;
use crate::rules::recording::version::ListedVersion;

pub(crate) const OPERATION: &str = "ListObjectVersions";
/// The most that S3 gives at once.
pub(crate) const PAGE_SIZE: i32 = 1000;
/// Sorts before every character of a key of ours.
const LOWEST_CHAR: char = ' ';

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ListCursor {
    key: String,
    id: Option<String>,
}

impl ListCursor {
    /// At the first key that sorts after `text`. A key that equals `text` may be listed or not: `key-marker` is inclusive in
    /// some stores.
    pub(crate) fn after_text(text: impl Into<String>) -> Self {
        Self { key: text.into(), id: None }
    }

    /// After all versions of `key`.
    pub(crate) fn after_key(key: &str) -> Self {
        Self::after_text(format!("{key}{LOWEST_CHAR}"))
    }

    /// After the version `id` of `key`.
    fn after_version(key: &str, id: String) -> Self {
        Self { key: key.to_owned(), id: Some(id) }
    }

    /// Whether it lies after the first key that begins with `prefix`.
    pub(crate) fn is_past_prefix(&self, prefix: &str) -> bool {
        self.key.as_str() > prefix
    }

    /// Whether it lies within the versions of one key.
    pub(crate) fn is_within_key(&self, key: &str) -> bool {
        self.id.is_some() && self.key == key
    }
}

#[derive(Clone, Copy)]
pub(crate) struct ListQuery<'a> {
    pub(crate) prefix: &'a str,
    /// Groups keys by what stands up to the next `/`.
    pub(crate) has_delimiter: bool,
    pub(crate) after: Option<&'a ListCursor>,
    /// The most that the page may have.
    pub(crate) max_keys: i32,
    /// Whether a key has a form that only we write: these must come in order. Others come from whoever may put objects.
    pub(crate) is_own_key: fn(&str) -> bool,
}

impl<'a> ListQuery<'a> {
    /// Everything under `prefix`, of which all keys are ours.
    pub(crate) const fn under_prefix(prefix: &'a str) -> Self {
        Self { prefix, has_delimiter: false, after: None, max_keys: PAGE_SIZE, is_own_key: |_| true }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct VersionPage {
    /// By key, newest first within a key.
    pub(crate) versions: Vec<ListedVersion>,
    /// Its greatest key, also where that is the marker's, of which nothing else is told.
    pub(crate) greatest_key: Option<String>,
    /// What keys begin with that were grouped.
    pub(crate) folders: Vec<String>,
    /// Whether it ends within the bucket: there is more.
    pub(crate) is_truncated: bool,
    /// Where the store says that the next page begins; as it came, and decoded where it may be encoded.
    next_key_markers: [Option<String>; 2],
    next_version_id_marker: Option<String>,
}

impl VersionPage {
    /// Where to go on after `last`, the last key of the page that counts: within its versions, if the store says so.
    pub(crate) fn cursor_after(&self, last: &str) -> ListCursor {
        let is_last = self.next_key_markers.iter().flatten().any(|next| next == last);
        match self.next_version_id_marker.clone().filter(|_| is_last) {
            Some(id) => ListCursor::after_version(last, id),
            None => ListCursor::after_key(last),
        }
    }

    /// Where a listing of folders goes on that was asked for `after`: after the greatest name, without its `/`. From there on
    /// nothing of ours is left out, neither where `a-1/` comes before `a/`, by the bytes of keys, nor where `a` comes before
    /// `a-1`, by the names of folders; some of what was listed may come again. Of a name with U+FFFD only what stands before it
    /// counts: some stores tell a character so that XML cannot have, and such names come after all of ours. `None`: that was
    /// all, or the page leads no further.
    pub(crate) fn next_folder_cursor(&self, after: Option<&ListCursor>) -> Option<ListCursor> {
        let next = ListCursor::after_key(self.greatest_name()?);
        (self.is_truncated && after.is_none_or(|after| next > *after)).then_some(next)
    }

    /// The greatest of its names, without its `/`, as far as it came as it is.
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

/// One page, checked.
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
    // The two kinds come mixed, and the client takes them apart: each must be in order.
    check_order(&versions, query)?;
    check_order(&markers, query)?;
    versions.append(&mut markers);
    let end = versions.iter().map(|listed| &listed.key).max().cloned();
    if let Some(after) = query.after.filter(|after| after.id.is_none()) {
        // The marker itself, of a store whose markers are inclusive.
        versions.retain(|listed| listed.key != after.key);
    }
    // Newest first within a key. Of two of one second, stores do not say; the latest is known, and a marker hides.
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

/// Keys of ours begin with the prefix, after the marker, and come in byte order.
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

/// Pages of one listing that may follow each other.
pub(crate) const MAX_PAGES: usize = 100_000;

/// Everything under a prefix that only the operator writes: small, and bounded all the same.
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
            Some(next) if page.is_truncated && after.as_ref() != Some(&next) => after = Some(next),
            _ if page.is_truncated => break,
            _ => return Ok(all),
        }
    }
    Err(endless_listing_error())
}

/// Keys and version ids under a prefix, listed in pages of one: whoever leaves something out between two pages is seen.
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
            // A page of nothing but the marker itself, of a store whose markers are inclusive.
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

/// Decodes a key of an answer with `encoding-type=url`, in which stores write a space as `+` or `%20`.
fn decode_key(text: &str) -> Cow<'_, str> {
    let spaced: Cow<'_, str> = if text.contains('+') { text.replace('+', " ").into() } else { text.into() };
    let bytes: Vec<u8> = percent_encoding::percent_decode_str(&spaced).collect();
    String::from_utf8_lossy(&bytes).into_owned().into()
}

/// What decides how long something lives is never guessed.
fn unreadable_answer() -> StoreError {
    StoreError { operation: OPERATION, code: "UnreadableAnswer".into(), status: None }
}

/// The code of a listing that leaves out a key which is there.
const UNLISTED_KEY_CODE: &str = "ListingOmitsKey";

/// A listing that leaves out a key which is there.
pub(crate) fn unlisted_key_error() -> StoreError {
    invalid_listing_error(UNLISTED_KEY_CODE)
}

pub(crate) fn is_unlisted_key_error(error: &StoreError) -> bool {
    error.code == UNLISTED_KEY_CODE
}

/// A listing that does not come to its end.
pub(crate) fn endless_listing_error() -> StoreError {
    invalid_listing_error("EndlessListing")
}

/// An answer that no S3 server may give: by no repetition does it get right.
fn invalid_listing_error(code: &str) -> StoreError {
    StoreError { operation: OPERATION, code: code.into(), status: Some(200) }
}

#[cfg(test)]
mod tests;
