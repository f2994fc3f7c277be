//! Questions about an object's metadata.

use kube::{Resource, ResourceExt};

/// Annotation that pauses a resource: with `"true"` its controller changes nothing.
pub const PAUSED: &str = "toezicht.dev/paused";

/// Whether `object` is paused by annotation.
pub fn is_paused<K: Resource>(object: &K) -> bool {
    object
        .annotations()
        .get(PAUSED)
        .is_some_and(|value| value == "true")
}

/// Whether `object` is being deleted.
pub fn is_deleting<K: Resource>(object: &K) -> bool {
    object.meta().deletion_timestamp.is_some()
}

/// `namespace/name`, for logs and for [`super::error::Backoff`].
pub fn key<K: Resource>(object: &K) -> String {
    format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any())
}

/// Whether the controller of `object` is the object with `uid`.
pub fn is_controlled_by<K: Resource>(object: &K, uid: &str) -> bool {
    object
        .owner_references()
        .iter()
        .any(|owner| owner.controller == Some(true) && owner.uid == uid)
}
