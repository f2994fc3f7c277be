//! What a manifest says of a hold.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ManifestSegment {
    /// Its key: camera, start, duration, and the first digits of the SHA-256 of its bytes.
    pub key: String,
    pub version_id: String,
    pub bytes: u64,
    /// Nobody may read it before (article 4.2); absent: it may be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed_until: Option<Timestamp>,
}

/// A stretch of the window of which there is nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ManifestGap {
    pub source: String,
    pub from: Timestamp,
    pub until: Timestamp,
    /// Why, as in the hold's status.
    pub cause: String,
}
