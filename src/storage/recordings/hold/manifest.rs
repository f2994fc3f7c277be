//! Manifest of a hold, for its readers: `ledger/manifests/{name}/`.
//!
//! It consists of parts with some hundred segments each and an index, which is written last. The bucket policy lets the
//! site's readers read it. They create links from it with their own credentials, since they cannot list and the
//! operator cannot read recordings.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::presigning::PresigningConfig;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::coverage::Coverage;
use super::protection_cache::{ManifestVersions, ProtectionCache};
use crate::rules::{Embargo, LedgerEntry, RetentionTag, RetentionTerms, StoredRecording, Window};
use crate::storage::recordings::day_filter::VersionLister;
use crate::storage::recordings::hold::manifest_format::{ManifestGap, ManifestSegment};
use crate::storage::recordings::{HoldError, SourceDay};
use crate::storage::s3::listing::{OPERATION, list_all};
use crate::storage::s3::objects::{INDEX_SUFFIX, MANIFEST_PREFIX};
use crate::storage::s3::{BucketClient, BucketConnection, StoreError, objects};

/// Pages of one manifest's listing.
const MAX_PAGES: usize = 100;
/// Parts of one manifest: 20 million segments.
const MAX_PARTS: usize = 100_000;
const SEGMENTS_PER_PART: usize = 200;
/// Error code of a missing manifest.
pub const NO_MANIFEST: &str = "NoSuchManifest";
/// Longest lifetime of a link.
pub const MAX_LINK_LIFETIME: Duration = Duration::from_mins(15);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ManifestIndex {
    pub uid: String,
    pub reference: String,
    pub window: Window,
    pub segments: u64,
    /// Gaps, at most ten of each camera.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<ManifestGap>,
    /// SHA-256 of each part in hexadecimal, in order.
    pub parts: Vec<String>,
}

/// Content of a manifest, as the place pass found it.
#[derive(Clone, Copy, Debug)]
pub struct ManifestContent<'a> {
    pub entry: &'a LedgerEntry,
    pub coverage: &'a Coverage,
    pub missing: &'a [ManifestGap],
    pub terms: &'a RetentionTerms,
}

/// Writes the manifest of a hold unless it is already up to date. Does not rewrite unchanged parts.
pub async fn write(
    operator: &BucketConnection,
    content: ManifestContent<'_>,
    memory: &ProtectionCache,
    now: Timestamp,
) -> Result<(), HoldError> {
    let ManifestContent { entry, coverage, missing, .. } = content;
    let store = operator.client();
    if load_from(&store, entry, memory).await?.matches(coverage, missing) {
        return Ok(());
    }
    let folder = folder(&entry.name);
    let before: Option<ManifestIndex> = read_json(&store, &index_key(&folder)).await?;
    let mut index = ManifestIndex {
        uid: entry.uid.clone(),
        reference: entry.reference.clone(),
        window: entry.scope.window,
        segments: 0,
        missing: missing.to_vec(),
        parts: Vec::new(),
    };
    let mut written = ManifestVersions::new(memory, missing, coverage.sealed);
    let mut parts = ManifestParts::new(&store, content, memory, now);
    while let Some(part) = parts.next().await? {
        index.segments += part.len() as u64;
        for line in &part {
            written.force_add(memory, line);
        }
        index.parts.push(sha256_hex(&to_json(&part)));
    }
    if !written.has_same_versions(coverage) {
        // A held version is gone since the pass found it. The next pass must report it before any manifest drops it.
        memory.put_manifest(&entry.uid, written.with_lost(coverage));
        return Err(version_gone().into());
    }
    // Both listings must agree before a part is written: a part that lacks a version would hide its loss.
    let is_there =
        |number| before.as_ref().and_then(|before| before.parts.get(number)) == index.parts.get(number);
    if !(0..index.parts.len()).all(is_there) {
        let mut parts = ManifestParts::new(&store, content, memory, now);
        for (number, expected) in index.parts.iter().enumerate() {
            let part = to_json(&parts.next().await?.unwrap_or_default());
            if sha256_hex(&part) != *expected {
                return Err(version_gone().into());
            }
            if !is_there(number) {
                objects::put(&store, &part_key(&folder, number), part).await?;
            }
        }
    }
    // The index last: it must not name parts that do not exist yet.
    if before.as_ref() != Some(&index) {
        objects::put(&store, &index_key(&folder), to_json(&index)).await?;
    }
    // After the index: the previous one still names the parts that go now.
    remove_stale(&store, &folder, index.parts.len()).await?;
    memory.put_manifest(&entry.uid, written);
    Ok(())
}

/// Returns the versions in a hold's manifest, from the cache if possible. Empty if there is none or somebody overwrote
/// it.
pub async fn load(
    operator: &BucketConnection,
    entry: &LedgerEntry,
    memory: &ProtectionCache,
) -> Result<Arc<ManifestVersions>, HoldError> {
    let store = operator.client();
    Ok(load_from(&store, entry, memory).await?)
}

/// Returns the versions in the manifests of open `entries`. Omits manifests that the store refuses to return: nearly
/// all of their versions are covered by key.
pub(crate) async fn load_open(
    store: &BucketClient,
    entries: impl Iterator<Item = &LedgerEntry>,
    memory: &ProtectionCache,
) -> Result<Vec<Arc<ManifestVersions>>, StoreError> {
    let mut all = Vec::new();
    for entry in entries.filter(|entry| entry.is_open()) {
        match load_from(store, entry, memory).await {
            Ok(told) => all.push(told),
            Err(error) if !error.is_rejection() => return Err(error),
            Err(_) => (),
        }
    }
    Ok(all)
}

pub(crate) async fn load_from(
    store: &BucketClient,
    entry: &LedgerEntry,
    memory: &ProtectionCache,
) -> Result<Arc<ManifestVersions>, StoreError> {
    if let Some(told) = memory.manifest(&entry.uid) {
        return Ok(told);
    }
    let folder = folder(&entry.name);
    let mut told = ManifestVersions::new(memory, &[], 0);
    let index = read_json::<ManifestIndex>(store, &index_key(&folder)).await?;
    // A re-created hold has another UID and takes over its predecessor's versions.
    if let Some(index) = index.filter(|index| index.reference == entry.reference) {
        told = ManifestVersions::new(memory, &index.missing, 0);
        for number in 0..index.parts.len().min(MAX_PARTS) {
            // A part newer than the index was written by an operator that stopped before the index. Its versions were
            // held too.
            let lines = read_json::<Vec<ManifestSegment>>(store, &part_key(&folder, number)).await?;
            let lines = lines.iter().flatten().take(SEGMENTS_PER_PART);
            lines.for_each(|line| told.add(memory, line));
        }
    }
    Ok(memory.put_manifest(&entry.uid, told))
}

fn segment_of(stored: &StoredRecording<'_>, embargo: Embargo, now: Timestamp) -> ManifestSegment {
    let is_sealed = stored.tag_if_held(embargo, now) != RetentionTag::Held;
    let opens = stored.embargo_end(embargo);
    ManifestSegment {
        key: stored.listed.key.clone(),
        version_id: stored.listed.id.clone(),
        bytes: stored.listed.size,
        sealed_until: is_sealed.then_some(opens),
    }
}

/// Parts of a manifest, from a new listing of the versions that a pass found.
struct ManifestParts<'a> {
    lister: VersionLister<'a>,
    content: ManifestContent<'a>,
    memory: &'a ProtectionCache,
    now: Timestamp,
    segments: VecDeque<ManifestSegment>,
}

impl<'a> ManifestParts<'a> {
    fn new(
        store: &'a BucketClient,
        kept: ManifestContent<'a>,
        memory: &'a ProtectionCache,
        now: Timestamp,
    ) -> Self {
        Self {
            lister: VersionLister::new(store, kept.coverage.days.iter().map(SourceDay::prefix)),
            content: kept,
            memory,
            now,
            segments: VecDeque::new(),
        }
    }

    /// Returns the next part. `None`: there are no more.
    async fn next(&mut self) -> Result<Option<Vec<ManifestSegment>>, StoreError> {
        while self.segments.len() < SEGMENTS_PER_PART {
            let Some(found) = self.lister.next_page().await? else {
                break;
            };
            for listed in found.iter().filter(|listed| !listed.is_marker) {
                let version = self.memory.fingerprint(&listed.key, &listed.id);
                let is_kept = self.content.coverage.present.contains(version);
                let stored = StoredRecording::of(listed, &self.content.terms.ceilings).filter(|_| is_kept);
                let line = stored.map(|stored| segment_of(&stored, self.content.terms.embargo, self.now));
                self.segments.extend(line);
            }
        }
        let many = self.segments.len().min(SEGMENTS_PER_PART);
        Ok((many > 0).then(|| self.segments.drain(..many).collect()))
    }
}

fn to_json(of: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(of).unwrap_or_default()
}

fn sha256_hex(part: &[u8]) -> String {
    hex::encode(Sha256::digest(part))
}

/// A held version disappeared while the manifest was written. The next pass reports it.
fn version_gone() -> StoreError {
    // Without a status, the error is retryable.
    StoreError::without_status(OPERATION, "HeldVersionGone")
}

/// Removes the manifest of a released hold.
pub async fn remove(operator: &BucketConnection, name: &str) -> Result<(), HoldError> {
    let store = operator.client();
    for listed in list_all(&store, &folder(name), MAX_PAGES).await? {
        objects::delete_version(&store, &listed.version_ref()).await?;
    }
    Ok(())
}

/// Removes old versions, and parts beyond the last.
async fn remove_stale(store: &BucketClient, folder: &str, parts: usize) -> Result<(), StoreError> {
    let kept: BTreeSet<String> =
        (0..parts).map(|number| part_key(folder, number)).chain([index_key(folder)]).collect();
    let mut seen = BTreeSet::new();
    for listed in list_all(store, folder, MAX_PAGES).await? {
        // Newest first within a key.
        let is_latest = seen.insert(listed.key.clone());
        if !is_latest || !kept.contains(&listed.key) {
            objects::delete_version(store, &listed.version_ref()).await?;
        }
    }
    Ok(())
}

/// Segment and its link.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SegmentLink {
    #[serde(flatten)]
    pub segment: ManifestSegment,
    /// Presigned URL that anybody can use until it expires. Absent while the segment is under embargo.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// Links and gaps of a hold.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HoldLinks {
    pub segments: Vec<SegmentLink>,
    pub missing: Vec<ManifestGap>,
}

/// Returns links to the segments of the hold `name`, signed with the credentials of `reader`. The store checks these
/// when a link is followed.
pub async fn links(
    reader: &BucketConnection,
    name: &str,
    lifetime: Duration,
    now: Timestamp,
) -> Result<HoldLinks, HoldError> {
    let store = reader.client();
    let folder = folder(name);
    let index = read_json::<ManifestIndex>(&store, &index_key(&folder)).await?;
    let index = index.ok_or_else(|| StoreError::without_status("GetObject", NO_MANIFEST))?;
    let mut links = Vec::new();
    for number in 0..index.parts.len() {
        let part = read_json::<Vec<ManifestSegment>>(&store, &part_key(&folder, number)).await?;
        for line in part.ok_or_else(|| StoreError::without_status("GetObject", "UnreadableManifest"))? {
            let is_open = line.sealed_until.is_none_or(|until| until <= now);
            let url = if is_open { Some(presign(&store, &line, lifetime).await?) } else { None };
            links.push(SegmentLink { segment: line, url });
        }
    }
    Ok(HoldLinks { segments: links, missing: index.missing })
}

async fn presign(
    store: &BucketClient,
    line: &ManifestSegment,
    lives: Duration,
) -> Result<String, StoreError> {
    let config = PresigningConfig::expires_in(lives.min(MAX_LINK_LIFETIME))
        .map_err(|_| StoreError::without_status("GetObject", "InvalidRequest"))?;
    let request = store.client.get_object().bucket(&store.bucket).key(&line.key).version_id(&line.version_id);
    let signed = request.presigned(config).await;
    signed.map(|signed| signed.uri().to_owned()).map_err(|error| StoreError::from_sdk("GetObject", &error))
}

/// Reads an index or a part. `None`: missing, or overwritten by somebody else, so it is rewritten.
async fn read_json<T: DeserializeOwned>(store: &BucketClient, key: &str) -> Result<Option<T>, StoreError> {
    match objects::read_json(store, key, None).await {
        Err(error) if error.is_not_found() => Ok(None),
        said => said,
    }
}

fn folder(name: &str) -> String {
    format!("{MANIFEST_PREFIX}{name}/")
}

fn part_key(folder: &str, number: usize) -> String {
    format!("{folder}{number:05}.json")
}

fn index_key(folder: &str) -> String {
    format!("{}{INDEX_SUFFIX}", folder.trim_end_matches('/'))
}
