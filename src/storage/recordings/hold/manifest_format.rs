//! What a manifest says of a hold.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// One segment that is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ManifestSegment {
    /// Its key: camera, start, duration, and the first digits of the SHA-256 of its bytes.
    pub key: String,
    /// Its version.
    pub version_id: String,
    /// Its size.
    pub bytes: u64,
    /// Nobody may read it before (article 4.2); absent: it may be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed_until: Option<Timestamp>,
}

/// A stretch of the window of which there is nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ManifestGap {
    /// The camera.
    pub source: String,
    /// Its first moment.
    pub from: Timestamp,
    /// Its end.
    pub until: Timestamp,
    /// Why, as in the hold's status.
    pub cause: String,
}
