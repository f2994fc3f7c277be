//! The entry of a hold in the ledger: what the hold covers and since when, and how that may change. Pure.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::api::{IncidentHoldSpec, reject_future};
use crate::rules::Window;
use crate::rules::hold::scope::{HoldScope, HoldScopeConfig};

/// The form of the entries; one of another form is not understood, and nothing is released by it.
pub(crate) const FORMAT_VERSION: u32 = 1;

pub(crate) const OPEN_PREFIX: &str = "ledger/holds/";

/// Where closed entries are: they are read one by one, when somebody asks for one.
pub(crate) const CLOSED_PREFIX: &str = "ledger/closed/";

pub(crate) const NAME_OVERHEAD: usize = 8;

/// Bytes that the names of an entry's cameras may take: it stays well below what a ledger object may have.
pub(crate) const MAX_NAME_BYTES: usize = 128 * 1024;

/// A hold as the bucket knows it: enough to go on without the cluster, and to make the resource anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LedgerEntry {
    /// See [`FORMAT_VERSION`].
    pub(crate) format: u32,
    /// UID of the IncidentHold that it was first written for.
    pub uid: String,
    pub namespace: String,
    pub name: String,
    pub reference: String,
    /// One of the policy's purposes (article 1).
    pub purpose: String,
    pub site: String,
    /// Names of cameras; empty: all.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub cameras: BTreeSet<String>,
    /// Whether recorded calls are kept too.
    #[serde(default)]
    pub calls: bool,
    pub window: Window,
    pub accepted_at: Timestamp,
    /// When the operator first saw that its incident is resolved; absent: it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved_at: Option<Timestamp>,
    /// Since when nothing is held for it any more; absent: it is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed_at: Option<Timestamp>,
}

impl LedgerEntry {
    /// An open entry for a hold as it is declared now.
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
            cameras: spec.cameras.iter().cloned().collect(),
            calls: spec.include_calls,
            window: Window::new(spec.window.from.0, spec.window.until.as_ref().map(|until| until.0)),
            accepted_at,
            resolved_at: None,
            closed_at: None,
        }
    }

    pub const fn is_open(&self) -> bool {
        self.closed_at.is_none()
    }

    /// What it covers, as recorders are told.
    pub fn scope_config(&self) -> HoldScopeConfig {
        HoldScopeConfig { cameras: self.cameras.clone(), calls: self.calls, window: self.window }
    }

    pub fn scope(&self) -> HoldScope {
        self.scope_config().scope()
    }

    /// What it covers, as a short text that changes when that changes.
    pub fn scope_hash(&self) -> String {
        let bytes = serde_json::to_vec(&self.scope_config()).unwrap_or_default();
        let hash = Sha256::digest(bytes);
        hex::encode(hash.get(..8).unwrap_or_default())
    }

    /// The entry with what the hold now covers too. It never covers less: ending the window of what was going on releases
    /// nothing that was covered when the end was seen.
    #[must_use]
    pub fn extended(&self, spec: &IncidentHoldSpec, now: Timestamp) -> Self {
        let cameras = union_of_cameras(&self.cameras, &spec.cameras.iter().cloned().collect());
        let until = match (self.window.until, spec.window.until.as_ref().map(|until| until.0)) {
            (None, Some(until)) => Some(until.max(now)),
            (Some(before), Some(until)) => Some(until.max(before)),
            (_, None) => None,
        };
        Self {
            cameras,
            calls: self.calls || spec.include_calls,
            window: Window::new(self.window.from.min(spec.window.from.0), until),
            ..self.with_clamped_accepted_at(now)
        }
    }

    /// The entry as it counts now: one that was accepted by a clock that was ahead counts from now.
    #[must_use]
    pub fn with_clamped_accepted_at(&self, now: Timestamp) -> Self {
        Self { accepted_at: reject_future(self.accepted_at, now).unwrap_or(now), ..self.clone() }
    }

    /// The entry as that of a resource that was made anew.
    #[must_use]
    pub fn with_uid(self, uid: String) -> Self {
        Self { uid, ..self }
    }

    /// The entry of a hold that is open. Where it was being released, or was released, it counts anew: recorders may have let
    /// go of it.
    #[must_use]
    pub fn reopened(self, now: Timestamp) -> Self {
        let is_anew = self.resolved_at.is_some() || !self.is_open();
        Self {
            accepted_at: if is_anew { now } else { self.accepted_at },
            resolved_at: None,
            closed_at: None,
            ..self
        }
    }

    /// The entry when its incident is seen to be resolved.
    #[must_use]
    pub fn resolved(&self, now: Timestamp) -> Self {
        Self {
            resolved_at: self.resolved_at.and_then(|at| reject_future(at, now)).or(Some(now)),
            ..self.clone()
        }
    }

    /// The entry with what another one of the same hold covers.
    #[must_use]
    pub fn merged(&self, other: &Self) -> Self {
        let cameras = union_of_cameras(&self.cameras, &other.cameras);
        let until = self.window.until.zip(other.window.until);
        Self {
            cameras,
            calls: self.calls || other.calls,
            window: Window::new(
                self.window.from.min(other.window.from),
                until.map(|(one, other)| one.max(other)),
            ),
            accepted_at: self.accepted_at.min(other.accepted_at),
            ..self.clone()
        }
    }

    /// The entry when nothing is held for it any more.
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

/// The cameras of either; empty: all. So many that an entry has no room for them are all.
fn union_of_cameras(one: &BTreeSet<String>, other: &BTreeSet<String>) -> BTreeSet<String> {
    if one.is_empty() || other.is_empty() {
        return BTreeSet::new();
    }
    let both: BTreeSet<String> = one.union(other).cloned().collect();
    let bytes: usize = both.iter().map(|name| name.len() + NAME_OVERHEAD).sum();
    if bytes > MAX_NAME_BYTES { BTreeSet::new() } else { both }
}

#[cfg(test)]
mod tests;
