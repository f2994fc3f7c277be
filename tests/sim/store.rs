//! A bucket in memory: versions, delete markers, tags, legal holds. Every change is recorded as an [`Effect`].

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::store_kind::StoreKind;

/// Origin of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Actor {
    /// One of the two operators.
    Operator(usize),
    Recorder,
    /// An attacker with the recorders' credentials.
    Hostile,
    Lifecycle,
    /// The store's administrator.
    Admin,
}

/// One version, or a delete marker.
#[derive(Clone, Debug)]
pub struct Version {
    pub id: String,
    pub is_marker: bool,
    pub body: Arc<[u8]>,
    pub tags: Vec<(String, String)>,
    pub legal_hold: Option<bool>,
    /// `LastModified` in listings.
    pub modified: Timestamp,
    /// Upload time by the store's clock.
    pub uploaded_at: Timestamp,
    pub by: Actor,
}

impl Version {
    pub fn is_held(&self) -> bool {
        self.legal_hold == Some(true)
    }

    /// Returns the retention tag if it is the only tag.
    pub fn tag(&self) -> Option<&str> {
        match self.tags.as_slice() {
            [(key, value)] if key == "toezicht-retention" => Some(value),
            _ => None,
        }
    }
}

/// Change of a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Put,
    MarkerAdded,
    Removed,
    Hold(bool),
    Tag(Option<String>),
}

/// An effect of a request.
#[derive(Clone, Debug)]
pub struct Effect {
    pub actor: Actor,
    pub key: String,
    pub id: String,
    pub change: Change,
    /// The removed version.
    pub removed: Option<Version>,
    /// Time at which the request was sent.
    pub sent: Timestamp,
}

/// An S3 error: status and code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreError(pub u16, pub &'static str);

/// The simulated store.
pub struct Store {
    pub kind: StoreKind,
    /// Newest first within a key.
    pub keys: BTreeMap<String, Vec<Version>>,
    pub effects: Vec<Effect>,
    next: u64,
}

/// Origin and times of a request; `now` is by the store's clock.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    pub actor: Actor,
    pub now: Timestamp,
    pub sent: Timestamp,
}

impl Store {
    pub fn new(kind: StoreKind) -> Self {
        Self { kind, keys: BTreeMap::new(), effects: Vec::new(), next: 0 }
    }

    pub fn find(&self, key: &str, id: &str) -> Option<&Version> {
        self.keys.get(key)?.iter().find(|version| version.id == id)
    }

    /// Returns all versions except delete markers, with their keys.
    pub fn versions(&self) -> impl Iterator<Item = (&String, &Version)> {
        let all = self.keys.iter();
        all.flat_map(|(key, versions)| versions.iter().map(move |version| (key, version)))
            .filter(|(_, version)| !version.is_marker)
    }

    fn record_effect(&mut self, by: Caller, key: &str, id: &str, change: Change, removed: Option<Version>) {
        self.effects.push(Effect {
            actor: by.actor,
            key: key.to_owned(),
            id: id.to_owned(),
            change,
            removed,
            sent: by.sent,
        });
    }

    fn add(
        &mut self,
        by: Caller,
        key: &str,
        is_marker: bool,
        body: Arc<[u8]>,
        tags: Vec<(String, String)>,
    ) -> String {
        self.next += 1;
        let id = format!("v{:07}", self.next);
        let version = Version {
            id: id.clone(),
            is_marker,
            body,
            tags,
            legal_hold: None,
            modified: by.now,
            uploaded_at: by.now,
            by: by.actor,
        };
        self.keys.entry(key.to_owned()).or_default().insert(0, version);
        let change = if is_marker { Change::MarkerAdded } else { Change::Put };
        self.record_effect(by, key, &id, change, None);
        id
    }

    /// Puts an object.
    pub fn put(
        &mut self,
        by: Caller,
        key: &str,
        body: Arc<[u8]>,
        tags: Vec<(String, String)>,
        is_new_only: bool,
    ) -> Result<String, StoreError> {
        self.check_put_allowed(by.actor, key, &tags)?;
        let current = self.keys.get(key).and_then(|versions| versions.first());
        let is_there = current.is_some_and(|version| !version.is_marker);
        if is_new_only && is_there && !self.kind.ignores_condition {
            return Err(StoreError(412, "PreconditionFailed"));
        }
        Ok(self.add(by, key, false, body, tags))
    }

    /// Checks the part of the bucket policy that concerns puts.
    fn check_put_allowed(
        &self,
        actor: Actor,
        key: &str,
        tags: &[(String, String)],
    ) -> Result<(), StoreError> {
        let denied = Err(StoreError(403, "AccessDenied"));
        match actor {
            Actor::Recorder | Actor::Hostile => {
                if !key.starts_with("video/") && !key.starts_with("calls/") {
                    return denied;
                }
                let values = ["video", "calls", "sealed"];
                let is_one = matches!(tags, [(key, value)] if key == "toezicht-retention" && values.contains(&value.as_str()));
                if self.kind.knows_request_tag && !is_one {
                    return denied;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Returns the current version, or the one with this id.
    pub fn get(&self, actor: Actor, key: &str, id: Option<&str>) -> Result<&Version, StoreError> {
        let is_recording = key.starts_with("video/") || key.starts_with("calls/");
        if is_recording || !matches!(actor, Actor::Operator(_) | Actor::Admin) {
            return Err(StoreError(403, "AccessDenied"));
        }
        if let Some(id) = id {
            self.find(key, id).ok_or(StoreError(404, "NoSuchVersion"))
        } else {
            let current = self.keys.get(key).and_then(|versions| versions.first());
            current.filter(|version| !version.is_marker).ok_or(StoreError(404, "NoSuchKey"))
        }
    }

    /// Returns the version of a request about its legal hold or tags.
    pub fn version_mut(&mut self, actor: Actor, key: &str, id: &str) -> Result<&mut Version, StoreError> {
        if !matches!(actor, Actor::Operator(_) | Actor::Admin) {
            return Err(StoreError(403, "AccessDenied"));
        }
        let versions = self.keys.get_mut(key);
        let version = versions.and_then(|versions| versions.iter_mut().find(|version| version.id == id));
        match version {
            None => Err(StoreError(404, "NoSuchVersion")),
            Some(version) if version.is_marker => Err(StoreError(405, "MethodNotAllowed")),
            Some(version) => Ok(version),
        }
    }

    pub fn set_hold(&mut self, by: Caller, key: &str, id: &str, on: bool) -> Result<(), StoreError> {
        let moves = self.kind.modified_moves;
        let version = self.version_mut(by.actor, key, id)?;
        version.legal_hold = Some(on);
        if moves {
            version.modified = by.now;
        }
        self.record_effect(by, key, id, Change::Hold(on), None);
        Ok(())
    }

    pub fn set_tags(
        &mut self,
        by: Caller,
        key: &str,
        id: &str,
        tags: Vec<(String, String)>,
    ) -> Result<(), StoreError> {
        let version = self.version_mut(by.actor, key, id)?;
        version.tags = tags;
        let tag = version.tag().map(str::to_owned);
        self.record_effect(by, key, id, Change::Tag(tag), None);
        Ok(())
    }

    /// Deletes one version, or adds a delete marker.
    pub fn delete(&mut self, by: Caller, key: &str, id: Option<&str>) -> Result<Option<String>, StoreError> {
        if matches!(by.actor, Actor::Recorder | Actor::Hostile) {
            return Err(StoreError(403, "AccessDenied"));
        }
        let Some(id) = id else {
            return Ok(Some(self.add(by, key, true, Arc::from([]), Vec::new())));
        };
        let Some(versions) = self.keys.get_mut(key) else {
            return Ok(None);
        };
        let Some(place) = versions.iter().position(|version| version.id == id) else {
            return Ok(None);
        };
        if versions[place].is_held() {
            return Err(StoreError(403, "AccessDenied"));
        }
        let removed = versions.remove(place);
        if versions.is_empty() {
            self.keys.remove(key);
        }
        self.record_effect(by, key, id, Change::Removed, Some(removed));
        Ok(None)
    }
}
