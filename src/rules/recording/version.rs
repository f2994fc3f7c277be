//! Versions of objects in a listing.

use jiff::Timestamp;

/// Version or delete marker in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedVersion {
    pub key: String,
    /// Version id. `null` if the object was written before versioning was on.
    pub id: String,
    pub is_marker: bool,
    pub is_latest: bool,
    pub modified: Timestamp,
    /// Bytes.
    pub size: u64,
    /// Empty for a delete marker.
    pub etag: String,
}

impl ListedVersion {
    pub(crate) fn version_ref(&self) -> VersionRef {
        VersionRef { key: self.key.clone(), id: self.id.clone(), is_marker: self.is_marker }
    }
}

/// Reference to a version or a delete marker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VersionRef {
    pub(crate) key: String,
    pub(crate) id: String,
    pub(crate) is_marker: bool,
}
