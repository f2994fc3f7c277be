//! The versions in a bucket, and how they are protected, read with the S3 client of the tests.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_s3::Client;
use aws_sdk_s3::types::{ObjectLockConfiguration, ObjectLockEnabled, ObjectLockLegalHoldStatus, Tag};
use jiff::Timestamp;
use toezicht::rules::recording::key::Key;

use super::configuration::{Configuration, ExpiryRule};
use super::world::ChaosCamera;
use crate::storage::scene::client;
use crate::support::recorded::Bucket;

/// A hold as the run declared it.
#[derive(Clone, Debug)]
pub struct DeclaredHold {
    pub name: String,
    /// Number of the site.
    pub site: u32,
    /// Empty: all.
    pub cameras: Vec<String>,
    pub from: Timestamp,
    pub until: Option<Timestamp>,
}

impl DeclaredHold {
    pub fn covers_camera(&self, camera: &ChaosCamera) -> bool {
        self.site == camera.site && self.has_camera(&camera.name)
    }

    fn has_camera(&self, camera: &str) -> bool {
        self.cameras.is_empty() || self.cameras.iter().any(|name| name == camera)
    }

    pub fn covers(&self, key: &Key) -> bool {
        self.has_camera(key.source())
            && key.end() > self.from
            && self.until.is_none_or(|until| key.start() < until)
    }
}

/// A version of a recording.
#[derive(Clone, Debug)]
pub struct Version {
    pub key: Key,
    /// First time at which it was listed.
    pub seen: Timestamp,
    /// First time at which it had a legal hold.
    pub held: Option<Timestamp>,
    /// Its first tag.
    pub first_tag: Option<String>,
    pub is_gone: bool,
}

pub struct BucketWatch {
    pub site: u32,
    s3: Client,
    bucket: String,
    /// By key and version.
    pub versions: BTreeMap<(String, String), Version>,
}

impl BucketWatch {
    pub fn new(site: u32, bucket: &Bucket) -> Self {
        let s3 = client(&bucket.server, bucket.server.bucket_maker());
        Self { site, s3, bucket: bucket.name.clone(), versions: BTreeMap::new() }
    }

    /// Lists the bucket, and reads the protection of all versions that a hold covers and that had none.
    pub async fn poll(&mut self, holds: &[DeclaredHold]) {
        self.list().await;
        let site = self.site;
        let is_covered = |key: &Key| holds.iter().any(|hold| hold.site == site && hold.covers(key));
        let missing: Vec<(String, String)> = self
            .versions
            .iter()
            .filter(|(_, version)| version.held.is_none() && !version.is_gone && is_covered(&version.key))
            .map(|(id, _)| id.clone())
            .collect();
        for (key, id) in missing {
            let (is_held, tag) = self.protection(&key, &id).await;
            let version = self.versions.get_mut(&(key, id)).unwrap();
            version.first_tag.get_or_insert(tag);
            version.held = is_held.then(Timestamp::now);
        }
    }

    async fn list(&mut self) {
        let mut listed = BTreeSet::new();
        let (mut key_marker, mut version_marker) = (None, None);
        loop {
            let request = self.s3.list_object_versions().bucket(&self.bucket).prefix("video/");
            let request = request.set_key_marker(key_marker).set_version_id_marker(version_marker);
            let page = request.send().await.unwrap();
            for version in page.versions() {
                let id = [version.key(), version.version_id()].map(|text| text.unwrap().to_owned());
                listed.insert(id);
            }
            if page.is_truncated() != Some(true) {
                break;
            }
            (key_marker, version_marker) =
                (page.next_key_marker().map(str::to_owned), page.next_version_id_marker().map(str::to_owned));
        }
        let now = Timestamp::now();
        for ((key, id), version) in &mut self.versions {
            version.is_gone |= !listed.remove(&[key.clone(), id.clone()]);
        }
        for [key, id] in listed {
            let version = Version {
                key: key.parse().unwrap_or_else(|error| panic!("{key}: {error}")),
                seen: now,
                held: None,
                first_tag: None,
                is_gone: false,
            };
            self.versions.insert((key, id), version);
        }
    }

    /// Returns whether a version has a legal hold, and its tag.
    pub async fn protection(&self, key: &str, id: &str) -> (bool, String) {
        let (s3, bucket) = (&self.s3, &self.bucket);
        let hold = s3.get_object_legal_hold().bucket(bucket).key(key).version_id(id).send().await;
        let is_held = hold.is_ok_and(|hold| {
            hold.legal_hold().and_then(|hold| hold.status()) == Some(&ObjectLockLegalHoldStatus::On)
        });
        let tags = s3.get_object_tagging().bucket(bucket).key(key).version_id(id).send().await;
        let tags = tags.map(|tags| tags.tag_set().iter().map(Tag::value).collect::<Vec<_>>().join(","));
        (is_held, tags.unwrap_or_else(|error| format!("unreadable: {error}")))
    }

    /// Reads the configuration of the bucket. An answer with an error is none.
    pub async fn configuration(&self) -> Configuration {
        let (s3, bucket) = (&self.s3, &self.bucket);
        let lifecycle = s3.get_bucket_lifecycle_configuration().bucket(bucket).send().await;
        let policy = s3.get_bucket_policy().bucket(bucket).send().await;
        let lock = s3.get_object_lock_configuration().bucket(bucket).send().await;
        let is_enabled =
            |lock: &ObjectLockConfiguration| lock.object_lock_enabled() == Some(&ObjectLockEnabled::Enabled);
        Configuration {
            rules: lifecycle
                .map(|all| all.rules().iter().filter_map(ExpiryRule::of).collect())
                .unwrap_or_default(),
            policy: policy.ok().and_then(|policy| serde_json::from_str(policy.policy()?).ok()),
            has_lock: lock.is_ok_and(|lock| lock.object_lock_configuration().is_some_and(is_enabled)),
        }
    }
}
