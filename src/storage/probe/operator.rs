//! What the store itself does, whoever asks: tried by the operator, on canaries that it may read and delete.

use std::collections::BTreeSet;
use std::time::Duration;

use aws_runtime::auth::PayloadSigningOverride;
use aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextMut;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::DateTime;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use super::attempts::{By, There, Tries, tags};
use super::canary::{Canary, takes_tags, tried};
use super::checks::Check;
use super::table::{BATCHES_IGNORED, Findings, NO_CANARY, Told, Verdict, Why};
use crate::storage::error::StoreError;
use crate::storage::listing::{PAGE, one_by_one};
use crate::storage::marks::{is_held, write_hold};
use crate::storage::objects::Version;
use crate::storage::sources::names;
use crate::storage::tag::{RetentionTag, TAG_KEY};

/// Names that try the order: in bytes `a-b/` comes before `a/`, in folders after it.
const FOLDERS: [&str; 5] = ["a", "a-b", "a-b-c", "a.b", "ab"];
const NAMES: [&str; 3] = ["1.mp4", "1-2.mp4", "2026/03/07/1.mp4"];
/// Folders of a page, where there are more: in bytes the first ends between `a.b/` and `a/`.
const FEW: i32 = 3;
/// More than a folder of these can have.
const MOST_PAGES: usize = 16;
/// Longer than the second in which stores tell `LastModified`.
const A_SECOND: Duration = Duration::from_millis(1100);
const UNDELETED: &str = "it stays, but so it does without a legal hold: so nothing is shown; the operator must be able to delete it";
const BATCHES_REFUSED: &str =
    "the store refuses batch deletions, so nothing is shown; the operator deletes versions one by one";
const NO_CLOCK: &str = "the store's LastModified did not move on within a second: so nothing is shown";
const UNCHANGED: &str = "the tag or the legal hold could not be changed: so nothing is shown";

pub(super) struct Stage<'a> {
    pub(super) operator: Tries<'a>,
    /// Folder of the canaries.
    pub(super) folder: String,
}

impl Stage<'_> {
    pub(super) async fn run(&self, findings: &mut Findings) {
        findings.enter(Check::LegalHoldIsKept, self.keeps_hold()).await;
        for (check, by) in [
            (Check::HeldSurvivesDelete, By::Id),
            (Check::HeldSurvivesBatchDelete, By::Batch),
            (Check::HeldSurvivesBypass, By::Bypass),
        ] {
            findings.enter(check, self.survives(by)).await;
        }
        findings.enter(Check::TagArrivesWithPut, self.tag_arrives()).await;
        findings.enter(Check::ListingIsComplete, self.lists_all()).await;
        findings.enter(Check::SecondPutIsRefused, self.once()).await;
        findings.enter(Check::WrongChecksumIsRefused, self.checksum()).await;
        findings.enter(Check::WrongPayloadHashIsRefused, self.payload_hash()).await;
        findings.enter(Check::LastModifiedStays, self.last_modified()).await;
    }

    fn canary(&self, name: &str, tag: RetentionTag) -> Canary {
        Canary::new(format!("{}{name}", self.folder), Some(tag))
    }

    fn video(&self, name: &str) -> Canary {
        self.canary(name, RetentionTag::Video)
    }

    /// Off, on, off, and so it reads back each time: a store that always says "on" keeps nothing.
    async fn keeps_hold(&self) -> Told {
        let There { version, .. } = self.operator.leaves(self.video("kept")).await?;
        let operator = self.operator.actor;
        let before = is_held(operator, &version).await?;
        tried(write_hold(operator, &version, true).await)?;
        let on = is_held(operator, &version).await?;
        tried(write_hold(operator, &version, false).await)?;
        let off = is_held(operator, &version).await?;
        Ok(Verdict::is_so(!before && on && !off))
    }

    /// Tries to delete a held version. The same without the hold must succeed, or nothing is shown.
    async fn survives(&self, by: By) -> Told {
        let it = self.operator.leaves(self.video(&format!("held-{by:?}"))).await?;
        let operator = self.operator.actor;
        tried(write_hold(operator, &it.version, true).await)?;
        let was_held = is_held(operator, &it.version).await?;
        let is_gone = self.operator.deletes_version(&it.version, by).await?
            || !self.operator.reads(&it.canary, Some(&it.version.id)).await?;
        if is_gone {
            return Ok(Verdict::Fails);
        }
        tried(write_hold(operator, &it.version, false).await)?;
        let goes_unheld = self.operator.deletes_version(&it.version, by).await?;
        if was_held && goes_unheld {
            return Ok(Verdict::Holds);
        }
        if by == By::Batch && !goes_unheld {
            return Err(Why::Untold(self.batch_without_effect(&it.version).await?));
        }
        Err(Why::Untold(UNDELETED))
    }

    /// Tells a store that refuses batches, which the sweep can do without, from one that ignores them.
    async fn batch_without_effect(&self, version: &Version) -> Result<&'static str, Why> {
        if self.operator.refuses_batches(version).await? {
            return Ok(BATCHES_REFUSED);
        }
        let goes_by_id = self.operator.deletes_version(version, By::Id).await?;
        Ok(if goes_by_id { BATCHES_IGNORED } else { UNDELETED })
    }

    /// Every claim rests on listings. Folders whose names extend each other's with a character before `/` are found by
    /// delimiter, also where they fill several pages; within a folder, keys and versions come in order however small the pages are.
    async fn lists_all(&self) -> Told {
        let base = format!("{}order/", self.folder);
        let mut expected = BTreeSet::new();
        for folder in FOLDERS {
            for name in NAMES {
                let key = format!("order/{folder}/{name}");
                for _ in 0..2 {
                    let There { version, .. } = self.operator.leaves(self.video(&key)).await?;
                    expected.insert((version.key, version.id));
                }
            }
        }
        let listed = async {
            let mut folders = Vec::new();
            for most in [PAGE, FEW] {
                let found = names(self.operator.actor, &base, most).await?;
                folders.push((found.folders, found.is_cut));
            }
            let mut keys = Vec::new();
            for folder in FOLDERS {
                let prefix = format!("{base}{folder}/");
                keys.push(one_by_one(self.operator.actor, &prefix, MOST_PAGES).await?);
            }
            Ok::<_, StoreError>((folders, keys))
        };
        match listed.await {
            Ok((folders, keys)) => {
                let all = (FOLDERS.map(str::to_owned).into(), false);
                let has_all_folders = folders.iter().all(|found| *found == all);
                let is_ordered = keys.iter().all(|keys| keys.is_sorted_by(|one, other| one.0 <= other.0));
                let keys: Vec<(String, String)> = keys.into_iter().flatten().collect();
                let found: BTreeSet<&(String, String)> = keys.iter().collect();
                // A put whose answer was lost is made again: more versions than were counted are no fault of the listing.
                let is_whole = found.len() == keys.len() && expected.iter().all(|one| found.contains(one));
                Ok(Verdict::is_so(has_all_folders && is_ordered && is_whole))
            }
            Err(error) if !error.is_refusal() => Err(error.into()),
            Err(_) => Ok(Verdict::Fails),
        }
    }

    /// Two values, so that a store that always says the same is seen.
    async fn tag_arrives(&self) -> Told {
        if !takes_tags(self.operator.operator).await? {
            return Ok(Verdict::Fails);
        }
        for tag in [RetentionTag::Video, RetentionTag::Sealed] {
            let it = self.operator.leaves(self.canary(&format!("tag-{tag}"), tag)).await?;
            let expected = [(TAG_KEY.to_owned(), tag.to_string())];
            match tags(self.operator.operator, &it.version).await {
                Ok(tags) if tags == expected => (),
                Ok(_) => return Ok(Verdict::Fails),
                Err(error) if error.is_unsupported() => return Ok(Verdict::Fails),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Verdict::Holds)
    }

    async fn once(&self) -> Told {
        let canary = self.video("once").conditional();
        if !self.operator.puts(&canary).await? {
            // The store refuses the condition even where nothing is: puts are then repeated without it.
            let is_written = self.operator.puts(&canary.unconditional()).await?;
            return if is_written { Ok(Verdict::Fails) } else { Err(Why::Untold(NO_CANARY)) };
        }
        let had_effect = self.operator.puts_again(&canary).await?;
        let control = self.operator.puts_again(&canary.unconditional()).await?;
        Ok(Verdict::refused(had_effect, control))
    }

    async fn checksum(&self) -> Told {
        let arrives = async |name: &str, of: &[u8]| -> Result<bool, StoreError> {
            let canary = self.video(name).unconditional();
            let sum = if of.is_empty() { canary.bytes.as_slice() } else { of };
            let request = canary.request(self.operator.actor);
            let answer = request.checksum_sha256(STANDARD.encode(Sha256::digest(sum))).send();
            tried(answer.await.map_err(|error| StoreError::of("PutObject", &error)))?;
            Ok(!canary.versions(self.operator.operator).await?.is_empty())
        };
        let had_effect = arrives("checksum-wrong", b"other bytes").await?;
        Ok(Verdict::refused(had_effect, arrives("checksum", b"").await?))
    }

    async fn payload_hash(&self) -> Told {
        let arrives = async |name: &str, of: &[u8]| -> Result<bool, StoreError> {
            let canary = self.video(name).unconditional();
            let sum = if of.is_empty() { canary.bytes.as_slice() } else { of };
            let signed = SignedHash(hex::encode(Sha256::digest(sum)));
            let request = canary.request(self.operator.actor).customize();
            let answer = request.interceptor(signed).send().await;
            tried(answer.map_err(|error| StoreError::of("PutObject", &error)))?;
            Ok(!canary.versions(self.operator.operator).await?.is_empty())
        };
        let had_effect = arrives("hash-wrong", b"other bytes").await?;
        Ok(Verdict::refused(had_effect, arrives("hash", b"").await?))
    }

    /// Changes tag and hold of a version more than a second after it was written. A second object, written
    /// then, shows that the store's clock went on.
    async fn last_modified(&self) -> Told {
        let it = self.operator.leaves(self.video("dated")).await?;
        let before = self.modified(&it.version).await?;
        tokio::time::sleep(A_SECOND).await;
        let retagged = self.operator.retags(&it.version, true).await?;
        let held = self.operator.holds(&it.version).await?;
        let unheld = self.operator.unholds(&it.version).await?;
        if !(retagged && held && unheld) {
            return Err(Why::Untold(UNCHANGED));
        }
        let after = self.modified(&it.version).await?;
        if after != before {
            return Ok(Verdict::Fails);
        }
        let later = self.operator.leaves(self.video("dated-later")).await?;
        match (before, self.modified(&later.version).await?) {
            (Some(before), Some(later)) if later > before => Ok(Verdict::Holds),
            _ => Err(Why::Untold(NO_CLOCK)),
        }
    }

    async fn modified(&self, version: &Version) -> Result<Option<DateTime>, StoreError> {
        let store = self.operator.operator;
        let request = store.client.list_object_versions().bucket(&store.bucket);
        let page = request.prefix(&version.key).send().await;
        let page = page.map_err(|error| StoreError::of("ListObjectVersions", &error))?;
        let is_it = |other: &&aws_sdk_s3::types::ObjectVersion| {
            other.key() == Some(&version.key) && other.version_id() == Some(&version.id)
        };
        Ok(page.versions().iter().find(is_it).and_then(|it| it.last_modified().copied()))
    }
}

/// Signs this as the body's hash, whatever the body is.
#[derive(Debug)]
struct SignedHash(String);

impl Intercept for SignedHash {
    fn name(&self) -> &'static str {
        "SignedHash"
    }

    fn modify_before_signing(
        &self,
        _: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let hash = PayloadSigningOverride::Precomputed(self.0.clone());
        config.interceptor_state().store_put(hash);
        Ok(())
    }
}
