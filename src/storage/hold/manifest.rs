//! What is kept for a hold, for those who may read it: `ledger/manifests/{name}/`. Parts of some hundred segments each, and
//! an index, which is written last. Readers of the site may read it by the bucket's policy; from it they make links
//! with credentials of their own, since they may not list and the operator may not read.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::presigning::PresigningConfig;
use jiff::{SignedDuration, Timestamp};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::coverage::Coverage;
use super::memory::{Memory, Told};
use super::{HoldError, Place};
use crate::api::Ceilings;
use crate::contract::StorageTarget;
use crate::protocol::Window;
use crate::storage::aging::Stored;
use crate::storage::client::{Purpose, Store};
use crate::storage::error::StoreError;
use crate::storage::ledger::Entry;
use crate::storage::listing::{OPERATION, all};
use crate::storage::objects::{self, INDEX, MANIFESTS};
use crate::storage::tag::RetentionTag;
use crate::storage::walk::Walk;

/// Pages that a manifest may have.
const MOST_PAGES: usize = 100;
/// Parts that it may have: 20 million segments.
const MOST_PARTS: usize = 100_000;
/// Segments in a part.
const LINES: usize = 200;
/// The error code where there is none.
pub const NO_MANIFEST: &str = "NoSuchManifest";
/// The longest that a link may live.
pub const LONGEST_LINK: Duration = Duration::from_mins(15);

/// One segment that is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
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
pub struct Missing {
    /// The camera.
    pub source: String,
    /// Its first moment.
    pub from: Timestamp,
    /// Its end.
    pub until: Timestamp,
    /// Why, as in the hold's status.
    pub cause: String,
}

/// What a manifest is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// UID of the hold.
    pub uid: String,
    /// The organisation's case number.
    pub reference: String,
    /// When it happened.
    pub window: Window,
    /// How many segments there are.
    pub segments: u64,
    /// What is missing, at most ten stretches of each camera.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<Missing>,
    /// SHA-256 of each part, in order, as hexadecimal digits.
    pub parts: Vec<String>,
}

/// What a manifest lists, as the pass that placed the hold found it.
#[derive(Clone, Copy, Debug)]
pub struct Kept<'a> {
    /// The hold, as the ledger has it.
    pub entry: &'a Entry,
    /// What the pass found of it.
    pub coverage: &'a Coverage,
    /// What is missing of its window.
    pub missing: &'a [Missing],
    /// The ceilings (article 6).
    pub ceilings: &'a Ceilings,
    /// How old a recording must be to be readable (article 4.2); `None`: the site has live viewing.
    pub embargo: Option<SignedDuration>,
}

/// Writes the manifest of a hold, unless it says the same already; parts that are as before are not written again.
pub async fn write(
    operator: &StorageTarget,
    kept: Kept<'_>,
    memory: &Memory,
    now: Timestamp,
) -> Result<(), HoldError> {
    let Kept { entry, coverage, missing, .. } = kept;
    let store = Store::new(operator, Purpose::Configure)?;
    if told_by(&store, entry, memory).await?.is_of(coverage, missing) {
        return Ok(());
    }
    let folder = folder(&entry.name);
    let before: Option<Index> = read(&store, &index_key(&folder)).await?;
    let mut index = Index {
        uid: entry.uid.clone(),
        reference: entry.reference.clone(),
        window: entry.window,
        segments: 0,
        missing: missing.to_vec(),
        parts: Vec::new(),
    };
    let mut listed = Told::new(memory, missing, coverage.sealed);
    let mut parts = Parts::new(&store, kept, memory, now);
    while let Some(part) = parts.next().await? {
        index.segments += part.len() as u64;
        for line in &part {
            listed.push(memory, line);
        }
        index.parts.push(hash(&bytes(&part)));
    }
    if !listed.has_all_of(coverage) {
        // What was held when the pass found it is gone. That is told before any manifest forgets it.
        memory.note_told(&entry.uid, listed.and_lost(coverage));
        return Err(changed().into());
    }
    // Nothing is written but what the whole of it was found to be: a part that lacks something would forget it.
    let is_there =
        |number| before.as_ref().and_then(|before| before.parts.get(number)) == index.parts.get(number);
    if !(0..index.parts.len()).all(is_there) {
        let mut parts = Parts::new(&store, kept, memory, now);
        for (number, expected) in index.parts.iter().enumerate() {
            let part = bytes(&parts.next().await?.unwrap_or_default());
            if hash(&part) != *expected {
                return Err(changed().into());
            }
            if !is_there(number) {
                objects::put(&store, &part_key(&folder, number), part).await?;
            }
        }
    }
    if before.as_ref() != Some(&index) {
        objects::put(&store, &index_key(&folder), bytes(&index)).await?;
    }
    tidy(&store, &folder, index.parts.len()).await?;
    memory.note_told(&entry.uid, listed);
    Ok(())
}

/// What the manifest of a hold lists: as it was last written, or read. Nothing where there is none, or somebody spoilt it.
pub async fn told(operator: &StorageTarget, entry: &Entry, memory: &Memory) -> Result<Arc<Told>, HoldError> {
    let store = Store::new(operator, Purpose::Configure)?;
    Ok(told_by(&store, entry, memory).await?)
}

/// The same of the open ones of `entries`. One that cannot be read, however often it is asked for, is left out: nearly all that it
/// lists is known by its keys.
pub(in crate::storage) async fn told_of_open(
    store: &Store,
    entries: impl Iterator<Item = &Entry>,
    memory: &Memory,
) -> Result<Vec<Arc<Told>>, StoreError> {
    let mut all = Vec::new();
    for entry in entries.filter(|entry| entry.is_open()) {
        match told_by(store, entry, memory).await {
            Ok(told) => all.push(told),
            Err(error) if !error.is_refusal() => return Err(error),
            Err(_) => (),
        }
    }
    Ok(all)
}

pub(super) async fn told_by(store: &Store, entry: &Entry, memory: &Memory) -> Result<Arc<Told>, StoreError> {
    if let Some(told) = memory.told(&entry.uid) {
        return Ok(told);
    }
    let folder = folder(&entry.name);
    let mut told = Told::new(memory, &[], 0);
    let index = read::<Index>(store, &index_key(&folder)).await?;
    // A hold that was re-created has another UID, and what its predecessor held.
    if let Some(index) = index.filter(|index| index.reference == entry.reference) {
        told = Told::new(memory, &index.missing, 0);
        for number in 0..index.parts.len().min(MOST_PARTS) {
            // One that is newer than the index was written by an operator that was stopped: that was held, too.
            let lines = read::<Vec<Line>>(store, &part_key(&folder, number)).await?;
            let lines = lines.iter().flatten().take(LINES);
            lines.for_each(|line| told.add(memory, line));
        }
    }
    Ok(memory.note_told(&entry.uid, told))
}

fn line(stored: &Stored<'_>, embargo: Option<SignedDuration>, now: Timestamp) -> Line {
    let is_sealed = stored.tag_if_held(embargo, now) != RetentionTag::Held;
    let opens = stored.opens_at(embargo.unwrap_or_default());
    Line {
        key: stored.listed.key.clone(),
        version_id: stored.listed.id.clone(),
        bytes: stored.listed.size,
        sealed_until: is_sealed.then_some(opens),
    }
}

/// The parts of a manifest of what a pass found, as the bucket lists it now.
struct Parts<'a> {
    walk: Walk<'a>,
    kept: Kept<'a>,
    memory: &'a Memory,
    now: Timestamp,
    lines: VecDeque<Line>,
}

impl<'a> Parts<'a> {
    fn new(store: &'a Store, kept: Kept<'a>, memory: &'a Memory, now: Timestamp) -> Self {
        Self {
            walk: Walk::new(store, kept.coverage.places.iter().map(Place::prefix)),
            kept,
            memory,
            now,
            lines: VecDeque::new(),
        }
    }

    /// The next; `None`: that was the last.
    async fn next(&mut self) -> Result<Option<Vec<Line>>, StoreError> {
        while self.lines.len() < LINES {
            let Some(found) = self.walk.next().await? else {
                break;
            };
            for listed in found.iter().filter(|listed| !listed.is_marker) {
                let version = self.memory.fingerprint(&listed.key, &listed.id);
                let is_kept = self.kept.coverage.present.has(version);
                let stored = Stored::of(listed, self.kept.ceilings).filter(|_| is_kept);
                let line = stored.map(|stored| line(&stored, self.kept.embargo, self.now));
                self.lines.extend(line);
            }
        }
        let many = self.lines.len().min(LINES);
        Ok((many > 0).then(|| self.lines.drain(..many).collect()))
    }
}

fn bytes(of: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(of).unwrap_or_default()
}

fn hash(part: &[u8]) -> String {
    hex::encode(Sha256::digest(part))
}

/// What is held changed while the manifest was written: the next pass tells what.
fn changed() -> StoreError {
    StoreError { operation: OPERATION, code: "HeldVersionGone".into(), status: None }
}

/// Removes the manifest of a hold that is released.
pub async fn remove(operator: &StorageTarget, name: &str) -> Result<(), HoldError> {
    let store = Store::new(operator, Purpose::Configure)?;
    for listed in all(&store, &folder(name), MOST_PAGES).await? {
        objects::delete(&store, &listed.version()).await?;
    }
    Ok(())
}

/// Removes what is not the latest, and parts beyond the last.
async fn tidy(store: &Store, folder: &str, parts: usize) -> Result<(), StoreError> {
    let kept: BTreeSet<String> =
        (0..parts).map(|number| part_key(folder, number)).chain([index_key(folder)]).collect();
    let mut seen = BTreeSet::new();
    for listed in all(store, folder, MOST_PAGES).await? {
        // Newest first within a key.
        let is_latest = seen.insert(listed.key.clone());
        if !is_latest || !kept.contains(&listed.key) {
            objects::delete(store, &listed.version()).await?;
        }
    }
    Ok(())
}

/// A link to a segment, and what it is.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Link {
    /// The segment.
    #[serde(flatten)]
    pub line: Line,
    /// Where it can be read, by anybody, for a while; absent: it may not be read yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// What a reader is shown of a hold.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Links {
    /// What is kept.
    pub segments: Vec<Link>,
    /// What is missing.
    pub missing: Vec<Missing>,
}

/// Links to what is kept for the hold `name`, that live so long, signed with the credentials of `reader`: the store judges
/// by these, when a link is followed.
pub async fn links(
    reader: &StorageTarget,
    name: &str,
    lives: Duration,
    now: Timestamp,
) -> Result<Links, HoldError> {
    let store = Store::new(reader, Purpose::Configure)?;
    let folder = folder(name);
    let index = read::<Index>(&store, &index_key(&folder)).await?;
    let index = index.ok_or_else(|| unreadable(NO_MANIFEST))?;
    let mut links = Vec::new();
    for number in 0..index.parts.len() {
        let part = read::<Vec<Line>>(&store, &part_key(&folder, number)).await?;
        for line in part.ok_or_else(|| unreadable("UnreadableManifest"))? {
            let is_open = line.sealed_until.is_none_or(|until| until <= now);
            let url = if is_open { Some(link(&store, &line, lives).await?) } else { None };
            links.push(Link { line, url });
        }
    }
    Ok(Links { segments: links, missing: index.missing })
}

async fn link(store: &Store, line: &Line, lives: Duration) -> Result<String, StoreError> {
    let config =
        PresigningConfig::expires_in(lives.min(LONGEST_LINK)).map_err(|_| unreadable("InvalidRequest"))?;
    let request = store.client.get_object().bucket(&store.bucket).key(&line.key).version_id(&line.version_id);
    let signed = request.presigned(config).await;
    signed.map(|signed| signed.uri().to_owned()).map_err(|error| StoreError::of("GetObject", &error))
}

/// An index or a part. `None`: there is none, or somebody spoilt it; it is written anew.
async fn read<T: DeserializeOwned>(store: &Store, key: &str) -> Result<Option<T>, StoreError> {
    match objects::read(store, key, None).await {
        Err(error) if error.is_absent() => Ok(None),
        said => said,
    }
}

fn unreadable(code: &str) -> StoreError {
    StoreError { operation: "GetObject", code: code.into(), status: None }
}

fn folder(name: &str) -> String {
    format!("{MANIFESTS}{name}/")
}

fn part_key(folder: &str, number: usize) -> String {
    format!("{folder}{number:05}.json")
}

fn index_key(folder: &str) -> String {
    format!("{}{INDEX}", folder.trim_end_matches('/'))
}
