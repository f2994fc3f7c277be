//! Ledger entry of a hold, and its permitted changes. Pure.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::api::{IncidentHoldSpec, reject_future};
use crate::rules::{CameraSelector, HoldScope, Window};

/// Format of the entries. The operator releases nothing because of an entry with another format.
pub(crate) const FORMAT_VERSION: u32 = 1;

pub(crate) const OPEN_PREFIX: &str = "ledger/holds/";

/// Prefix of closed entries. They are read one by one, on request.
pub(crate) const CLOSED_PREFIX: &str = "ledger/closed/";

/// Bytes of quotes, comma and indentation for a name in the JSON.
pub(crate) const NAME_OVERHEAD: usize = 8;

/// Maximum size of an entry's camera names in bytes, so that the entry stays below the maximum size of a ledger object.
pub(crate) const MAX_NAME_BYTES: usize = 128 * 1024;

/// A hold in the bucket's ledger, with enough data to re-create the resource if the cluster is lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LedgerEntry {
    pub(crate) format: u32,
    /// UID of the IncidentHold.
    pub uid: String,
    pub namespace: String,
    pub name: String,
    pub reference: String,
    pub purpose: String,
    pub site: String,
    #[serde(flatten)]
    pub scope: HoldScope,
    pub accepted_at: Timestamp,
    /// Time at which the operator first observed the resolution.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved_at: Option<Timestamp>,
    /// Time from which nothing is held for the hold. Absent while it is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed_at: Option<Timestamp>,
}

impl LedgerEntry {
    /// Returns an open entry for the declared hold.
    pub fn new(
        uid: String,
        namespace: String,
        name: String,
        spec: &IncidentHoldSpec,
        accepted_at: Timestamp,
    ) -> Self {
        Self {
            format: FORMAT_VERSION,
            uid,
            namespace,
            name,
            reference: spec.reference.clone(),
            purpose: spec.purpose.clone(),
            site: spec.site_ref.name.clone(),
            scope: spec.into(),
            accepted_at,
            resolved_at: None,
            closed_at: None,
        }
    }

    pub const fn is_open(&self) -> bool {
        self.closed_at.is_none()
    }

    /// Returns a short hash of the scope.
    pub fn scope_hash(&self) -> String {
        let bytes = serde_json::to_vec(&self.scope).unwrap_or_default();
        let hash = Sha256::digest(bytes);
        hex::encode(hash.get(..8).unwrap_or_default())
    }

    /// Returns the entry, extended by the scope of `spec`. It never covers less than before. If `spec` ends an open window,
    /// the window ends `now` at the earliest, so nothing that was covered is released.
    #[must_use]
    pub fn extended(&self, spec: &IncidentHoldSpec, now: Timestamp) -> Self {
        let added = HoldScope::from(spec);
        let mut scope = union_of_scopes(&self.scope, &added);
        scope.window.until = match (self.scope.window.until, added.window.until) {
            (None, Some(until)) => Some(until.max(now)),
            (Some(before), Some(until)) => Some(until.max(before)),
            (_, None) => None,
        };
        Self { scope, ..self.with_clamped_accepted_at(now) }
    }

    /// Returns the entry with `accepted_at` not in the future: a clock that was ahead may have written it.
    #[must_use]
    pub fn with_clamped_accepted_at(&self, now: Timestamp) -> Self {
        Self { accepted_at: reject_future(self.accepted_at, now).unwrap_or(now), ..self.clone() }
    }

    /// Returns the entry, open again. If its release had started, the hold is accepted `now`, so that every recorder must
    /// acknowledge it again: recorders may have dropped it.
    #[must_use]
    pub fn reopened(self, now: Timestamp) -> Self {
        let was_releasing = self.resolved_at.is_some() || !self.is_open();
        Self {
            accepted_at: if was_releasing { now } else { self.accepted_at },
            resolved_at: None,
            closed_at: None,
            ..self
        }
    }

    /// Returns the entry with the time at which the resolution was first observed.
    #[must_use]
    pub fn resolved(&self, now: Timestamp) -> Self {
        Self {
            resolved_at: self.resolved_at.and_then(|at| reject_future(at, now)).or(Some(now)),
            ..self.clone()
        }
    }

    /// Returns the entry, extended by the scope of another entry of the same hold.
    #[must_use]
    pub fn merged(&self, other: &Self) -> Self {
        Self {
            scope: union_of_scopes(&self.scope, &other.scope),
            // Recordings are protected since the first of the two acceptances.
            accepted_at: self.accepted_at.min(other.accepted_at),
            ..self.clone()
        }
    }

    #[must_use]
    pub fn closed(&self, now: Timestamp) -> Self {
        Self { closed_at: Some(now), ..self.clone() }
    }

    pub(crate) const fn is_supported(&self) -> bool {
        self.format == FORMAT_VERSION
    }

    pub(crate) fn open_key(uid: &str) -> String {
        format!("{OPEN_PREFIX}{uid}.json")
    }

    pub(crate) fn closed_key(uid: &str) -> String {
        format!("{CLOSED_PREFIX}{uid}.json")
    }
}

/// Returns a scope that covers both.
pub fn union_of_scopes(one: &HoldScope, other: &HoldScope) -> HoldScope {
    // Without an end in one of the two, `zip` returns `None`: an ongoing hold stays ongoing.
    let until = one.window.until.zip(other.window.until);
    HoldScope {
        cameras: union_of_cameras(&one.cameras, &other.cameras),
        calls: one.calls || other.calls,
        // A re-created resource may begin later than its predecessor, and the earlier recordings stay held.
        window: Window::new(one.window.from.min(other.window.from), until.map(|(one, other)| one.max(other))),
    }
}

/// Returns the union. If it exceeds [`MAX_NAME_BYTES`], it becomes all cameras: the entry then covers more, never less.
fn union_of_cameras(one: &CameraSelector, other: &CameraSelector) -> CameraSelector {
    let (CameraSelector::Named(one), CameraSelector::Named(other)) = (one, other) else {
        return CameraSelector::All;
    };
    let both = one | other;
    let bytes: usize = both.iter().map(|name| name.len() + NAME_OVERHEAD).sum();
    if bytes > MAX_NAME_BYTES { CameraSelector::All } else { CameraSelector::Named(both) }
}

#[cfg(test)]
mod tests;
