//! The behaviour of the store itself, tried by the operator on canaries that it may read and delete.

use std::collections::BTreeSet;
use std::time::Duration;

use aws_sdk_s3::primitives::DateTime;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use super::actor::{Actor, DeleteMethod, WrittenCanary, read_tags};
use super::canary::{Canary, ignore_rejection, supports_tags};
use super::checks::Check;
use super::table::{BATCHES_IGNORED, ConformanceFindings, NO_CANARY, UnknownReason, Verdict, VerdictResult};
use crate::rules::{RetentionTag, TAG_KEY, VersionRef};
use crate::storage::recordings::sources::list_names;
use crate::storage::s3::StoreError;
use crate::storage::s3::listing::{PAGE_SIZE, list_one_by_one};
use crate::storage::s3::protection::{has_legal_hold, write_legal_hold};
use crate::storage::s3::segments::PutInterceptor;
use crate::storage::s3::send::{send, store_error};

/// Names that test the order: `a-b/` comes before `a/` by bytes, and after it by folders.
const FOLDERS: [&str; 5] = ["a", "a-b", "a-b-c", "a.b", "ab"];
const NAMES: [&str; 3] = ["1.mp4", "1-2.mp4", "2026/03/07/1.mp4"];
/// Folders of a small page. By bytes, the first page ends between `a.b/` and `a/`.
const SMALL_PAGE: i32 = 3;
/// Maximum number of pages of one key for a folder: more than the versions in it.
const MOST_PAGES: usize = 16;
/// Longer than a second, the unit of `LastModified`.
const CLOCK_STEP: Duration = Duration::from_millis(1100);
const DELETE_HAD_NO_EFFECT: &str =
    "the version stays even without a legal hold, which shows nothing: let the operator delete versions";
const BATCHES_REJECTED: &str =
    "the store rejects batch deletions, which shows nothing; the operator deletes versions one by one";
const CLOCK_DID_NOT_ADVANCE: &str =
    "the store's LastModified did not advance within a second, which shows nothing";
const UNCHANGED: &str = "the tag or the legal hold could not be changed, which shows nothing";

/// The part of a put that has a hash of the bytes.
#[derive(Clone, Copy, Debug)]
enum HashedPart {
    /// The header `x-amz-checksum-sha256`.
    Checksum,
    Signature,
}

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
        for (check, part) in [
            (Check::WrongChecksumIsRejected, HashedPart::Checksum),
            (Check::WrongPayloadHashIsRejected, HashedPart::Signature),
        ] {
            findings.record(check, self.check_wrong_hash(part)).await;
        }
        findings.record(Check::LastModifiedIsStable, self.check_last_modified()).await;
    }

    fn canary(&self, name: &str, tag: RetentionTag) -> Canary {
        Canary::new(format!("{}{name}", self.folder), Some(tag))
    }

    fn video_canary(&self, name: &str) -> Canary {
        self.canary(name, RetentionTag::Video)
    }

    /// Reads the hold back off, on and off again: a store with a constant answer enforces nothing.
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

    /// Tries to delete a held version. The same deletion without the hold is the control.
    async fn check_held_survives(&self, by: DeleteMethod) -> VerdictResult {
        let it = self.operator.create_canary(self.video_canary(&format!("held-{by:?}"))).await?;
        let operator = self.operator.store;
        ignore_rejection(write_legal_hold(operator, &it.version, true).await)?;
        let was_held = has_legal_hold(operator, &it.version).await?;
        // A listed version does not show that its bytes are still there, so the operator also reads it.
        let is_gone = self.operator.can_delete_version(&it.version, by).await?
            || !self.operator.can_read(&it.canary, Some(&it.version.id)).await?;
        if is_gone {
            return Ok(Verdict::Failed);
        }
        ignore_rejection(write_legal_hold(operator, &it.version, false).await)?;
        // The control: the same deletion must have an effect without the hold.
        let goes_unheld = self.operator.can_delete_version(&it.version, by).await?;
        if was_held && goes_unheld {
            return Ok(Verdict::Passed);
        }
        if by == DeleteMethod::Batch && !goes_unheld {
            return Err(UnknownReason::Inconclusive(self.explain_ineffective_batch(&it.version).await?));
        }
        Err(UnknownReason::Inconclusive(DELETE_HAD_NO_EFFECT))
    }

    /// Distinguishes a store that rejects batches, which the sweep can do without, from one that ignores them.
    async fn explain_ineffective_batch(&self, version: &VersionRef) -> Result<&'static str, UnknownReason> {
        if self.operator.rejects_batches(version).await? {
            return Ok(BATCHES_REJECTED);
        }
        let goes_by_id = self.operator.can_delete_version(version, DeleteMethod::Id).await?;
        Ok(if goes_by_id { BATCHES_IGNORED } else { DELETE_HAD_NO_EFFECT })
    }

    /// Lists folders by delimiter on large and small pages, although some names extend others with a character before `/`. Then
    /// lists each folder by pages of one key, in order. Holds and the sweep depend on complete listings.
    async fn check_listing(&self) -> VerdictResult {
        let base = format!("{}order/", self.folder);
        let mut expected = BTreeSet::new();
        for folder in FOLDERS {
            for name in NAMES {
                let key = format!("order/{folder}/{name}");
                // Two versions of each key, so that a page can end between them.
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
                // The SDK repeats a put after a lost answer, so the listing may have more versions than were counted.
                let is_whole = found.len() == keys.len() && expected.iter().all(|one| found.contains(one));
                Ok(Verdict::from_expectation(has_all_folders && is_ordered && is_whole))
            }
            Err(error) if !error.is_rejection() => Err(error.into()),
            Err(_) => Ok(Verdict::Failed),
        }
    }

    /// Reads back two values, so that a constant answer fails.
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
            // The store rejects the condition even for a new key. The recorder then puts without it.
            let is_written = self.operator.can_put(&canary.unconditional()).await?;
            return is_written.then_some(Verdict::Failed).ok_or(UnknownReason::Inconclusive(NO_CANARY));
        }
        let had_effect = self.operator.can_overwrite(&canary).await?;
        let control = self.operator.can_overwrite(&canary.unconditional()).await?;
        Ok(Verdict::from_attempt(had_effect, control))
    }

    /// Puts bytes with the hash of other bytes. The control has the right hash.
    async fn check_wrong_hash(&self, part: HashedPart) -> VerdictResult {
        let is_stored = async |name: &str, bytes: Option<&[u8]>| -> Result<bool, StoreError> {
            let canary = self.video_canary(&format!("{part:?}-{name}")).unconditional();
            let hash = Sha256::digest(bytes.unwrap_or(&canary.bytes));
            let request = canary.request(self.operator.store);
            let answer = match part {
                HashedPart::Checksum => request.checksum_sha256(STANDARD.encode(hash)).send().await,
                HashedPart::Signature => {
                    request.customize().interceptor(PutInterceptor::new(&hash.into())).send().await
                }
            };
            ignore_rejection(answer.map_err(store_error("PutObject")))?;
            Ok(!canary.versions(self.operator.observer).await?.is_empty())
        };
        let had_effect = is_stored("wrong", Some(b"other bytes")).await?;
        Ok(Verdict::from_attempt(had_effect, is_stored("right", None).await?))
    }

    /// Changes tag and hold of a version more than a second after its put. The control is an object put then, whose time must be
    /// later.
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
        let page = send!(store, "ListObjectVersions", list_object_versions().prefix(&version.key))?;
        let mut listed = page.versions().iter();
        let found = listed.find(|it| it.key() == Some(&version.key) && it.version_id() == Some(&version.id));
        Ok(found.and_then(|it| it.last_modified().copied()))
    }
}
