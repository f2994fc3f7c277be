//! What is in a bucket, a page at a time: all versions and delete markers. However many there are, no more than a
//! page is held.

use std::cmp::Reverse;

use aws_sdk_s3::primitives::DateTime;
use jiff::Timestamp;

use super::client::{Store, patient};
use super::error::StoreError;
use super::objects::Version;

const OPERATION: &str = "ListObjectVersions";
/// The most that S3 gives at once.
pub(crate) const PAGE: i32 = 1000;

/// One version, or a delete marker, as the listing tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its key.
    pub key: String,
    /// Its version id; `null` where it was written before versioning.
    pub id: String,
    /// A delete marker.
    pub is_marker: bool,
    /// What a reader gets who names no version.
    pub is_latest: bool,
    /// When the store took it.
    pub modified: Timestamp,
    /// How many bytes it has.
    pub size: u64,
    /// What the store tells its content by; empty of a delete marker.
    pub etag: String,
}

impl Listed {
    pub(crate) fn version(&self) -> Version {
        Version {
            key: self.key.clone(),
            id: self.id.clone(),
            is_marker: self.is_marker,
        }
    }
}

/// Where a listing goes on: after this key, or after this version of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct After {
    key: String,
    id: Option<String>,
}

impl After {
    /// After all that sorts up to `text`.
    pub(crate) fn key(text: impl Into<String>) -> Self {
        Self {
            key: text.into(),
            id: None,
        }
    }

    /// Whether something lies between `key` and what it is after.
    pub(crate) fn is_past(&self, key: &str) -> bool {
        self.key.as_str() > key
    }
}

/// A page of a listing, by key.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    pub(crate) versions: Vec<Listed>,
    /// `None`: that was all.
    pub(crate) next: Option<After>,
}

/// The page of what is under `prefix` after `after`; at most `most`.
pub(crate) async fn page(
    store: &Store,
    prefix: &str,
    after: Option<&After>,
    most: i32,
) -> Result<Page, StoreError> {
    let request = store
        .client
        .list_object_versions()
        .bucket(&store.bucket)
        .max_keys(most)
        .set_prefix(Some(prefix.to_owned()).filter(|prefix| !prefix.is_empty()))
        .set_key_marker(after.map(|after| after.key.clone()))
        .set_version_id_marker(after.and_then(|after| after.id.clone()));
    let page = request
        .customize()
        .config_override(patient())
        .send()
        .await
        .map_err(|error| StoreError::of(OPERATION, &error))?;
    let mut versions = Vec::with_capacity(page.versions().len() + page.delete_markers().len());
    for version in page.versions() {
        versions.push(Listed {
            key: version.key().ok_or_else(unreadable)?.to_owned(),
            id: version.version_id().unwrap_or("null").to_owned(),
            is_marker: false,
            is_latest: version.is_latest() == Some(true),
            modified: instant(version.last_modified())?,
            size: version
                .size()
                .and_then(|size| u64::try_from(size).ok())
                .unwrap_or_default(),
            etag: version.e_tag().unwrap_or_default().to_owned(),
        });
    }
    for marker in page.delete_markers() {
        versions.push(Listed {
            key: marker.key().ok_or_else(unreadable)?.to_owned(),
            id: marker.version_id().unwrap_or("null").to_owned(),
            is_marker: true,
            is_latest: marker.is_latest() == Some(true),
            modified: instant(marker.last_modified())?,
            size: 0,
            etag: String::new(),
        });
    }
    // Newest first within a key. Of two of one second, stores do not say; the latest is known, and a marker hides.
    let rank = |listed: &Listed| Reverse((listed.is_latest, listed.modified, listed.is_marker));
    versions.sort_by(|one, other| one.key.cmp(&other.key).then_with(|| rank(one).cmp(&rank(other))));
    let next = (page.is_truncated() == Some(true)).then(|| After {
        key: page.next_key_marker().map(str::to_owned).unwrap_or_default(),
        id: page
            .next_version_id_marker()
            .filter(|id| !id.is_empty())
            .map(str::to_owned),
    });
    match next {
        // A listing that does not get on would go on for ever.
        Some(next) if next.key.is_empty() || Some(&next) == after => Err(StoreError {
            operation: OPERATION,
            code: "EndlessListing".into(),
            status: None,
        }),
        next => Ok(Page { versions, next }),
    }
}

pub(crate) fn instant(of: Option<&DateTime>) -> Result<Timestamp, StoreError> {
    let of = of.ok_or_else(unreadable)?;
    let nanos = i32::try_from(of.subsec_nanos()).map_err(|_| unreadable())?;
    Timestamp::new(of.secs(), nanos).map_err(|_| unreadable())
}

/// What decides how long something lives is never guessed.
fn unreadable() -> StoreError {
    StoreError {
        operation: OPERATION,
        code: "UnreadableAnswer".into(),
        status: None,
    }
}
