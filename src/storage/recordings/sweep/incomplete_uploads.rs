//! Aborts incomplete multipart uploads.

use aws_sdk_s3::types::MultipartUpload;
use futures::future;
use jiff::SignedDuration;

use super::state::{MAX_CONCURRENT_REQUESTS, Sweep, SweepError};
use crate::storage::s3::listing::parse_timestamp;
use crate::storage::s3::send::send;
use crate::storage::s3::{BucketClient, StoreError};

/// Age after which a multipart upload is abandoned. Recorders start none.
const ABORT_AFTER: SignedDuration = SignedDuration::from_hours(24);
/// Pages of one sweep: anyone with a recorder's credentials can start any number of uploads.
const MAX_PAGES: usize = 100;
/// Uploads that one sweep aborts, since nothing else runs meanwhile.
const MAX_ABORTS: usize = 1000;

/// Aborts abandoned uploads: their parts cost storage, and no listing shows them.
pub(crate) async fn abort_incomplete_uploads(sweep: &mut Sweep<'_>) -> Result<(), SweepError> {
    let (mut key, mut id) = (None, None);
    let (mut tried, mut consecutive_failures) = (0, 0);
    for _ in 0..MAX_PAGES {
        let answer = send!(
            sweep.store,
            "ListMultipartUploads",
            list_multipart_uploads().set_key_marker(key.clone()).set_upload_id_marker(id.clone())
        );
        let page = match answer {
            // Some stores do not know the operation or deny it. No ceiling depends on it, so the sweep does not fail.
            Err(error) if error.is_rejection() => return Ok(()),
            page => page?,
        };
        let is_old = |upload: &&MultipartUpload| {
            let begun = parse_timestamp(upload.initiated());
            begun.is_ok_and(|begun| sweep.time.now.duration_since(begun) > ABORT_AFTER)
        };
        let old: Vec<&MultipartUpload> = page.uploads().iter().filter(is_old).collect();
        sweep.report.incomplete_uploads += old.len() as u64;
        for some in old.chunks(MAX_CONCURRENT_REQUESTS) {
            // A store that rejects a whole group of aborts (SeaweedFS) rejects the next ones too.
            if tried >= MAX_ABORTS || consecutive_failures >= MAX_CONCURRENT_REQUESTS {
                return Ok(());
            }
            tried += some.len();
            let ended = future::join_all(some.iter().map(|upload| abort_upload(sweep.store, upload))).await;
            let gone = ended.iter().filter(|answer| answer.is_ok()).count();
            consecutive_failures = if gone == 0 { consecutive_failures + some.len() } else { 0 };
            sweep.report.incomplete_uploads -= gone as u64;
            sweep.report.aborted_uploads += ended.iter().filter(|answer| **answer == Ok(true)).count() as u64;
        }
        let next =
            (page.next_key_marker().map(str::to_owned), page.next_upload_id_marker().map(str::to_owned));
        // The same markers twice mean that the store repeats a page for ever.
        if page.is_truncated() != Some(true) || next == (key, id) {
            return Ok(());
        }
        (key, id) = next;
    }
    // Aborted uploads are gone, so the next sweep gets further.
    Ok(())
}

/// Returns whether the upload existed. A failure is retried by the next sweep. On SeaweedFS, an identity that cannot
/// put cannot abort either.
async fn abort_upload(store: &BucketClient, upload: &MultipartUpload) -> Result<bool, StoreError> {
    let (key, id) = (upload.key().map(str::to_owned), upload.upload_id().map(str::to_owned));
    match send!(store, "AbortMultipartUpload", abort_multipart_upload().set_key(key).set_upload_id(id)) {
        Ok(_) => Ok(true),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use jiff::Timestamp;

    use super::*;
    use crate::rules::PROTOCOL_CEILINGS;
    use crate::storage::recordings::hold::protection_cache::ProtectionCache;
    use crate::storage::recordings::sweep::state::{ScanRange, SweepReport};
    use crate::storage::recordings::sweep::sweep;
    use crate::storage::s3::DecisionTime;
    use crate::storage::s3::stub::{NO_OPEN_HOLDS, Stub, error_answer, versions_answer};

    /// Sweeps a bucket with so many pages of a thousand old uploads.
    async fn sweep_with_uploads(most: usize, may_abort: bool) -> (SweepReport, usize, usize) {
        let pages = Arc::new(AtomicUsize::new(0));
        let counted = pages.clone();
        let stub = Stub::start(move |asked| {
            if asked.method == "DELETE" {
                return if may_abort { (204, String::new()) } else { error_answer(403, "AccessDenied") };
            }
            if asked.query_parameter("uploads").is_none() {
                return versions_answer(asked, &[]);
            }
            let number = counted.fetch_add(1, Ordering::Relaxed);
            let uploads = (0..if number < most { 1000 } else { 0 }).map(|upload| {
                format!("<Upload><Key>video/x</Key><UploadId>{number}-{upload}</UploadId><Initiated>2020-01-01T00:00:00Z</Initiated></Upload>")
            });
            (
                200,
                format!(
                    "<ListMultipartUploadsResult><IsTruncated>true</IsTruncated>{}\
                     <NextKeyMarker>video/x{number:06}</NextKeyMarker></ListMultipartUploadsResult>",
                    uploads.collect::<Vec<_>>().concat()
                ),
            )
        })
        .await;
        let (memory, time) = (ProtectionCache::default(), DecisionTime::at(Timestamp::now()));
        let swept =
            sweep(&stub.connection(), &PROTOCOL_CEILINGS, &NO_OPEN_HOLDS, &memory, ScanRange::Boundary, time)
                .await;
        let asked = stub.take_requests();
        let aborts = asked.iter().filter(|asked| asked.method == "DELETE").count();
        (swept.unwrap(), pages.load(Ordering::Relaxed), aborts)
    }

    #[tokio::test]
    async fn sweep_is_not_blocked_by_endless_uploads() {
        let (swept, pages, _) = sweep_with_uploads(0, true).await;
        assert_eq!((swept.deleted, pages), (0, MAX_PAGES));
        let (swept, _, aborts) = sweep_with_uploads(100, true).await;
        assert_eq!((swept.aborted_uploads, swept.incomplete_uploads, aborts), (1000, 1000, 1000));
        let (swept, _, aborts) = sweep_with_uploads(100, false).await;
        assert_eq!(
            (swept.aborted_uploads, swept.incomplete_uploads, aborts),
            (0, 1000, MAX_CONCURRENT_REQUESTS)
        );
    }
}
