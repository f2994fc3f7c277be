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

use super::actor::{Actor, DeleteMethod, WrittenCanary, read_tags};
use super::canary::{Canary, ignore_rejection, supports_tags};
use super::checks::Check;
use super::table::{BATCHES_IGNORED, ConformanceFindings, NO_CANARY, UnknownReason, Verdict, VerdictResult};
use crate::rules::recording::tag::{RetentionTag, TAG_KEY};
use crate::rules::recording::version::VersionRef;
use crate::storage::recordings::sources::list_names;
use crate::storage::s3::error::StoreError;
use crate::storage::s3::listing::{PAGE_SIZE, list_one_by_one};
use crate::storage::s3::protection::{has_legal_hold, write_legal_hold};

/// Names that try the order: in bytes `a-b/` comes before `a/`, in folders after it.
const FOLDERS: [&str; 5] = ["a", "a-b", "a-b-c", "a.b", "ab"];
const NAMES: [&str; 3] = ["1.mp4", "1-2.mp4", "2026/03/07/1.mp4"];
/// Folders of a page, where there are more: in bytes the first ends between `a.b/` and `a/`.
const SMALL_PAGE: i32 = 3;
/// More than a folder of these can have.
const MOST_PAGES: usize = 16;
/// Longer than the second in which stores tell `LastModified`.
const CLOCK_STEP: Duration = Duration::from_millis(1100);
const DELETE_HAD_NO_EFFECT: &str = "it stays, but so it does without a legal hold: so nothing is shown; the operator must be able to delete it";
const BATCHES_REJECTED: &str =
    "the store refuses batch deletions, so nothing is shown; the operator deletes versions one by one";
const CLOCK_DID_NOT_ADVANCE: &str =
    "the store's LastModified did not move on within a second: so nothing is shown";
const UNCHANGED: &str = "the tag or the legal hold could not be changed: so nothing is shown";

pub(crate) struct StoreStage<'a> {
    pub(crate) operator: Actor<'a>,
    pub(crate) folder: String,
}

impl StoreStage<'_> {
    pub(crate) async fn run(&self, findings: &mut ConformanceFindings) {
        findings.record(Check::LegalHoldReadsBack, self.check_legal_hold()).await;
        for (check, by) in [
            (Check::HeldSurvivesDelete, DeleteMethod::Id),
            (Check::HeldSurvivesBatchDelete, DeleteMethod::Batch),
            (Check::HeldSurvivesBypass, DeleteMethod::Bypass),
        ] {
            findings.record(check, self.check_held_survives(by)).await;
        }
        findings.record(Check::PutStoresTag, self.check_tag()).await;
        findings.record(Check::ListingIsComplete, self.check_listing()).await;
        findings.record(Check::ConditionalPutIsEnforced, self.check_conditional_put()).await;
        findings.record(Check::WrongChecksumIsRejected, self.check_checksum()).await;
        findings.record(Check::WrongPayloadHashIsRejected, self.check_payload_hash()).await;
        findings.record(Check::LastModifiedIsStable, self.check_last_modified()).await;
    }

    fn canary(&self, name: &str, tag: RetentionTag) -> Canary {
        Canary::new(format!("{}{name}", self.folder), Some(tag))
    }

    fn video_canary(&self, name: &str) -> Canary {
        self.canary(name, RetentionTag::Video)
    }

    /// Off, on, off, and so it reads back each time: a store that always says "on" keeps nothing.
    async fn check_legal_hold(&self) -> VerdictResult {
        let WrittenCanary { version, .. } = self.operator.create_canary(self.video_canary("kept")).await?;
        let operator = self.operator.store;
        let before = has_legal_hold(operator, &version).await?;
        ignore_rejection(write_legal_hold(operator, &version, true).await)?;
        let on = has_legal_hold(operator, &version).await?;
        ignore_rejection(write_legal_hold(operator, &version, false).await)?;
        let off = has_legal_hold(operator, &version).await?;
        Ok(Verdict::from_expectation(!before && on && !off))
    }

    /// Tries to delete a held version. The same without the hold must succeed, or nothing is shown.
    async fn check_held_survives(&self, by: DeleteMethod) -> VerdictResult {
        let it = self.operator.create_canary(self.video_canary(&format!("held-{by:?}"))).await?;
        let operator = self.operator.store;
        ignore_rejection(write_legal_hold(operator, &it.version, true).await)?;
        let was_held = has_legal_hold(operator, &it.version).await?;
        let is_gone = self.operator.can_delete_version(&it.version, by).await?
            || !self.operator.can_read(&it.canary, Some(&it.version.id)).await?;
        if is_gone {
            return Ok(Verdict::Failed);
        }
        ignore_rejection(write_legal_hold(operator, &it.version, false).await)?;
        let goes_unheld = self.operator.can_delete_version(&it.version, by).await?;
        if was_held && goes_unheld {
            return Ok(Verdict::Passed);
        }
        if by == DeleteMethod::Batch && !goes_unheld {
            return Err(UnknownReason::Inconclusive(self.explain_ineffective_batch(&it.version).await?));
        }
        Err(UnknownReason::Inconclusive(DELETE_HAD_NO_EFFECT))
    }

    /// Tells a store that refuses batches, which the sweep can do without, from one that ignores them.
    async fn explain_ineffective_batch(&self, version: &VersionRef) -> Result<&'static str, UnknownReason> {
        if self.operator.rejects_batches(version).await? {
            return Ok(BATCHES_REJECTED);
        }
        let goes_by_id = self.operator.can_delete_version(version, DeleteMethod::Id).await?;
        Ok(if goes_by_id { BATCHES_IGNORED } else { DELETE_HAD_NO_EFFECT })
    }

    /// Every claim rests on listings. Folders whose names extend each other's with a character before `/` are found by
    /// delimiter, also where they fill several pages; within a folder, keys and versions come in order however small the pages are.
    async fn check_listing(&self) -> VerdictResult {
        let base = format!("{}order/", self.folder);
        let mut expected = BTreeSet::new();
        for folder in FOLDERS {
            for name in NAMES {
                let key = format!("order/{folder}/{name}");
                for _ in 0..2 {
                    let WrittenCanary { version, .. } =
                        self.operator.create_canary(self.video_canary(&key)).await?;
                    expected.insert((version.key, version.id));
                }
            }
        }
        let listed = async {
            let mut folders = Vec::new();
            for most in [PAGE_SIZE, SMALL_PAGE] {
                let found = list_names(self.operator.store, &base, most).await?;
                folders.push((found.folders, found.is_truncated));
            }
            let mut keys = Vec::new();
            for folder in FOLDERS {
                let prefix = format!("{base}{folder}/");
                keys.push(list_one_by_one(self.operator.store, &prefix, MOST_PAGES).await?);
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
                Ok(Verdict::from_expectation(has_all_folders && is_ordered && is_whole))
            }
            Err(error) if !error.is_rejection() => Err(error.into()),
            Err(_) => Ok(Verdict::Failed),
        }
    }

    /// Two values, so that a store that always says the same is seen.
    async fn check_tag(&self) -> VerdictResult {
        if !supports_tags(self.operator.observer).await? {
            return Ok(Verdict::Failed);
        }
        for tag in [RetentionTag::Video, RetentionTag::Sealed] {
            let it = self.operator.create_canary(self.canary(&format!("tag-{tag}"), tag)).await?;
            let expected = [(TAG_KEY.to_owned(), tag.to_string())];
            match read_tags(self.operator.observer, &it.version).await {
                Ok(tags) if tags == expected => (),
                Ok(_) => return Ok(Verdict::Failed),
                Err(error) if error.is_unsupported() => return Ok(Verdict::Failed),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Verdict::Passed)
    }

    async fn check_conditional_put(&self) -> VerdictResult {
        let canary = self.video_canary("once").conditional();
        if !self.operator.can_put(&canary).await? {
            // The store refuses the condition even where nothing is: puts are then repeated without it.
            let is_written = self.operator.can_put(&canary.unconditional()).await?;
            return if is_written {
                Ok(Verdict::Failed)
            } else {
                Err(UnknownReason::Inconclusive(NO_CANARY))
            };
        }
        let had_effect = self.operator.can_overwrite(&canary).await?;
        let control = self.operator.can_overwrite(&canary.unconditional()).await?;
        Ok(Verdict::from_attempt(had_effect, control))
    }

    async fn check_checksum(&self) -> VerdictResult {
        let arrives = async |name: &str, of: &[u8]| -> Result<bool, StoreError> {
            let canary = self.video_canary(name).unconditional();
            let sum = if of.is_empty() { canary.bytes.as_slice() } else { of };
            let request = canary.request(self.operator.store);
            let answer = request.checksum_sha256(STANDARD.encode(Sha256::digest(sum))).send();
            ignore_rejection(answer.await.map_err(|error| StoreError::from_sdk("PutObject", &error)))?;
            Ok(!canary.versions(self.operator.observer).await?.is_empty())
        };
        let had_effect = arrives("checksum-wrong", b"other bytes").await?;
        Ok(Verdict::from_attempt(had_effect, arrives("checksum", b"").await?))
    }

    async fn check_payload_hash(&self) -> VerdictResult {
        let arrives = async |name: &str, of: &[u8]| -> Result<bool, StoreError> {
            let canary = self.video_canary(name).unconditional();
            let sum = if of.is_empty() { canary.bytes.as_slice() } else { of };
            let signed = SignedHash(hex::encode(Sha256::digest(sum)));
            let request = canary.request(self.operator.store).customize();
            let answer = request.interceptor(signed).send().await;
            ignore_rejection(answer.map_err(|error| StoreError::from_sdk("PutObject", &error)))?;
            Ok(!canary.versions(self.operator.observer).await?.is_empty())
        };
        let had_effect = arrives("hash-wrong", b"other bytes").await?;
        Ok(Verdict::from_attempt(had_effect, arrives("hash", b"").await?))
    }

    /// Changes tag and hold of a version more than a second after it was written. A second object, written
    /// then, shows that the store's clock went on.
    async fn check_last_modified(&self) -> VerdictResult {
        let it = self.operator.create_canary(self.video_canary("dated")).await?;
        let before = self.read_last_modified(&it.version).await?;
        tokio::time::sleep(CLOCK_STEP).await;
        let retagged = self.operator.can_retag(&it.version, true).await?;
        let held = self.operator.can_set_hold(&it.version).await?;
        let unheld = self.operator.can_clear_hold(&it.version).await?;
        if !(retagged && held && unheld) {
            return Err(UnknownReason::Inconclusive(UNCHANGED));
        }
        let after = self.read_last_modified(&it.version).await?;
        if after != before {
            return Ok(Verdict::Failed);
        }
        let later = self.operator.create_canary(self.video_canary("dated-later")).await?;
        match (before, self.read_last_modified(&later.version).await?) {
            (Some(before), Some(later)) if later > before => Ok(Verdict::Passed),
            _ => Err(UnknownReason::Inconclusive(CLOCK_DID_NOT_ADVANCE)),
        }
    }

    async fn read_last_modified(&self, version: &VersionRef) -> Result<Option<DateTime>, StoreError> {
        let store = self.operator.observer;
        let request = store.client.list_object_versions().bucket(&store.bucket);
        let page = request.prefix(&version.key).send().await;
        let page = page.map_err(|error| StoreError::from_sdk("ListObjectVersions", &error))?;
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
