//! Versions of objects as a listing shows them.

use jiff::Timestamp;

/// One version, or a delete marker, as the listing tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedVersion {
    pub key: String,
    /// Its version id; `null` where it was written before versioning.
    pub id: String,
    pub is_marker: bool,
    /// What a reader gets who names no version.
    pub is_latest: bool,
    pub modified: Timestamp,
    /// How many bytes it has.
    pub size: u64,
    /// What the store tells its content by; empty of a delete marker.
    pub etag: String,
}

impl ListedVersion {
    pub(crate) fn version_ref(&self) -> VersionRef {
        VersionRef { key: self.key.clone(), id: self.id.clone(), is_marker: self.is_marker }
    }
}

/// One version of an object, or a delete marker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VersionRef {
    pub(crate) key: String,
    pub(crate) id: String,
    pub(crate) is_marker: bool,
}
