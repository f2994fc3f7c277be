//! JSON format of a manifest.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ManifestSegment {
    /// Camera, start, duration and the first digits of the SHA-256 of the content.
    pub key: String,
    pub version_id: String,
    pub bytes: u64,
    /// End of the embargo (article 4.2). Absent if the segment may be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed_until: Option<Timestamp>,
}

/// Part of the window without recordings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ManifestGap {
    pub source: String,
    pub from: Timestamp,
    pub until: Timestamp,
    /// Reason, as in the hold's status.
    pub cause: String,
}
