//! A bucket in memory: versions, delete markers, tags, legal holds. What it does to them it tells as [`Effect`]s.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::kind::Kind;

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// The operator, of which there may be two.
    Operator(usize),
    Recorder,
    /// Whoever has the recorders' credentials and is none.
    Hostile,
    Lifecycle,
    /// The store itself, or who administers it.
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
    /// As it is listed.
    pub modified: Timestamp,
    /// When the store took it, by its clock.
    pub taken: Timestamp,
    pub by: Who,
}

impl Version {
    pub fn is_held(&self) -> bool {
        self.legal_hold == Some(true)
    }

    /// The value of the one tag.
    pub fn tag(&self) -> Option<&str> {
        match self.tags.as_slice() {
            [(key, value)] if key == "toezicht-retention" => Some(value),
            _ => None,
        }
    }
}

/// What happened to a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    Put,
    MarkerAdded,
    Removed,
    Hold(bool),
    Tag(Option<String>),
}

/// Something that happened.
#[derive(Clone, Debug)]
pub struct Effect {
    pub who: Who,
    pub key: String,
    pub id: String,
    pub what: What,
    /// The version before it, where it was removed.
    pub was: Option<Version>,
    /// When it was asked for.
    pub sent: Timestamp,
}

/// Why something is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct No(pub u16, pub &'static str);

/// See the module.
pub struct Store {
    pub kind: Kind,
    /// Newest first within a key.
    pub keys: BTreeMap<String, Vec<Version>>,
    pub effects: Vec<Effect>,
    next: u64,
}

/// Who asks for what, and when by the store's clock.
#[derive(Clone, Copy, Debug)]
pub struct By {
    pub who: Who,
    pub now: Timestamp,
    pub sent: Timestamp,
}

impl Store {
    pub fn new(kind: Kind) -> Self {
        Self { kind, keys: BTreeMap::new(), effects: Vec::new(), next: 0 }
    }

    pub fn find(&self, key: &str, id: &str) -> Option<&Version> {
        self.keys.get(key)?.iter().find(|version| version.id == id)
    }

    /// All versions that are none of a marker, with their keys.
    pub fn versions(&self) -> impl Iterator<Item = (&String, &Version)> {
        let all = self.keys.iter();
        all.flat_map(|(key, versions)| versions.iter().map(move |version| (key, version)))
            .filter(|(_, version)| !version.is_marker)
    }

    fn tell(&mut self, by: By, key: &str, id: &str, what: What, was: Option<Version>) {
        self.effects.push(Effect {
            who: by.who,
            key: key.to_owned(),
            id: id.to_owned(),
            what,
            was,
            sent: by.sent,
        });
    }

    fn add(
        &mut self,
        by: By,
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
            taken: by.now,
            by: by.who,
        };
        self.keys.entry(key.to_owned()).or_default().insert(0, version);
        let what = if is_marker { What::MarkerAdded } else { What::Put };
        self.tell(by, key, &id, what, None);
        id
    }

    /// Takes an object.
    pub fn put(
        &mut self,
        by: By,
        key: &str,
        body: Arc<[u8]>,
        tags: Vec<(String, String)>,
        is_new_only: bool,
    ) -> Result<String, No> {
        self.check_put_allowed(by.who, key, &tags)?;
        let current = self.keys.get(key).and_then(|versions| versions.first());
        let is_there = current.is_some_and(|version| !version.is_marker);
        if is_new_only && is_there && !self.kind.ignores_condition {
            return Err(No(412, "PreconditionFailed"));
        }
        Ok(self.add(by, key, false, body, tags))
    }

    /// The bucket's policy, as far as it matters.
    fn check_put_allowed(&self, who: Who, key: &str, tags: &[(String, String)]) -> Result<(), No> {
        let denied = Err(No(403, "AccessDenied"));
        match who {
            Who::Recorder | Who::Hostile => {
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

    /// The current version, or the one with this id.
    pub fn get(&self, who: Who, key: &str, id: Option<&str>) -> Result<&Version, No> {
        let is_recording = key.starts_with("video/") || key.starts_with("calls/");
        if is_recording || !matches!(who, Who::Operator(_) | Who::Admin) {
            return Err(No(403, "AccessDenied"));
        }
        if let Some(id) = id {
            self.find(key, id).ok_or(No(404, "NoSuchVersion"))
        } else {
            let current = self.keys.get(key).and_then(|versions| versions.first());
            current.filter(|version| !version.is_marker).ok_or(No(404, "NoSuchKey"))
        }
    }

    /// The version whose marks are asked for, or changed.
    pub fn marked(&mut self, who: Who, key: &str, id: &str) -> Result<&mut Version, No> {
        if !matches!(who, Who::Operator(_) | Who::Admin) {
            return Err(No(403, "AccessDenied"));
        }
        let versions = self.keys.get_mut(key);
        let version = versions.and_then(|versions| versions.iter_mut().find(|version| version.id == id));
        match version {
            None => Err(No(404, "NoSuchVersion")),
            Some(version) if version.is_marker => Err(No(405, "MethodNotAllowed")),
            Some(version) => Ok(version),
        }
    }

    pub fn set_hold(&mut self, by: By, key: &str, id: &str, on: bool) -> Result<(), No> {
        let moves = self.kind.modified_moves;
        let version = self.marked(by.who, key, id)?;
        version.legal_hold = Some(on);
        if moves {
            version.modified = by.now;
        }
        self.tell(by, key, id, What::Hold(on), None);
        Ok(())
    }

    pub fn set_tags(&mut self, by: By, key: &str, id: &str, tags: Vec<(String, String)>) -> Result<(), No> {
        let version = self.marked(by.who, key, id)?;
        version.tags = tags;
        let tag = version.tag().map(str::to_owned);
        self.tell(by, key, id, What::Tag(tag), None);
        Ok(())
    }

    /// Removes one version for good, or hides the key behind a marker.
    pub fn delete(&mut self, by: By, key: &str, id: Option<&str>) -> Result<Option<String>, No> {
        if matches!(by.who, Who::Recorder | Who::Hostile) {
            return Err(No(403, "AccessDenied"));
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
            return Err(No(403, "AccessDenied"));
        }
        let was = versions.remove(place);
        if versions.is_empty() {
            self.keys.remove(key);
        }
        self.tell(by, key, id, What::Removed, Some(was));
        Ok(None)
    }
}
