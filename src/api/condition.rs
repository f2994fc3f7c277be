//! Types and reasons of the conditions: closed sets, so that users can build on them.
//!
//! Conditions are those of `metav1`: positive polarity, `Unknown` until the operator has looked.

/// Types of condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ConditionType {
    /// The spec is valid and what it refers to exists and may be used.
    Accepted,
    /// Everything is as the protocol now demands, read back.
    Ready,
    /// `True` when only a person can help (kstatus).
    Stalled,
    /// RecordingPolicy: in force now (article 11).
    InForce,
    /// Site, Camera: the protocol allows recording now (articles 1, 5, 7, 8, 11).
    Permitted,
    /// Site: the bucket, read back, is as it must be.
    StorageEnforced,
    /// Site, Camera: pictures arrive and segments are confirmed.
    Recording,
    /// Site: administrators cannot watch (article 3.2).
    AdministratorsExcluded,
    /// IncidentHold: what it covers is held.
    Placed,
}

impl ConditionType {
    /// As it stands in the resource.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "Accepted",
            Self::Ready => "Ready",
            Self::Stalled => "Stalled",
            Self::InForce => "InForce",
            Self::Permitted => "Permitted",
            Self::StorageEnforced => "StorageEnforced",
            Self::Recording => "Recording",
            Self::AdministratorsExcluded => "AdministratorsExcluded",
            Self::Placed => "Placed",
        }
    }
}
