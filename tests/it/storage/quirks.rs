//! Quirks of other S3 implementations, imitated by a proxy in front of real servers.

use std::sync::Arc;

use aws_sdk_s3::types::{
    DefaultRetention, ObjectLockConfiguration, ObjectLockEnabled, ObjectLockRetentionMode, ObjectLockRule,
};
use axum::http::request::Parts;
use jiff::{SignedDuration, Timestamp};
use toezicht::rules::retention::PROTOCOL_CEILINGS;
use toezicht::storage::bucket::probe::{Check, Verdict};
use toezicht::storage::recordings::hold::protection_cache::ProtectionCache;
use toezicht::storage::recordings::sweep::state::ScanRange;
use toezicht::storage::recordings::sweep::sweep;
use toezicht::storage::{Claimant, EnforceError, EnforceReport, Probe};

use super::holds::{FixedHolds, at_time};
use super::quirk_proxy::{
    Quirk, has_header, is_for_subresource, is_object, is_put_or_post, scene_with_quirks,
};
use super::scene::Scene;
use crate::storage::scene::connect;
use crate::support::settings::S3Server;

/// Older servers require `Content-MD5` where S3 once did.
const REQUIRES_MD5: Quirk = Quirk::Reject(|parts, _| {
    let parts_with = ["delete", "lifecycle", "policy", "legal-hold", "tagging", "object-lock", "versioning"];
    let needs_md5 = is_put_or_post(parts) && parts_with.iter().any(|part| is_for_subresource(parts, part));
    (needs_md5 && !has_header(parts, "content-md5")).then_some((400, "MissingContentMD5"))
});
const NO_BATCH_DELETE: Quirk = Quirk::Reject(|parts, _| {
    (is_put_or_post(parts) && is_for_subresource(parts, "delete")).then_some((400, "MalformedPOSTRequest"))
});
const NO_CONDITIONAL_PUT: Quirk = Quirk::Reject(|parts, _| {
    (is_put_or_post(parts) && has_header(parts, "if-none-match")).then_some((501, "NotImplemented"))
});
const NO_ABORT_RULE: Quirk = Quirk::Reject(|parts, body| {
    let is_named = String::from_utf8_lossy(body).contains("AbortIncompleteMultipartUpload");
    (is_put_or_post(parts) && is_for_subresource(parts, "lifecycle") && is_named)
        .then_some((400, "MalformedXML"))
});
const NO_MARKER_RULE: Quirk = Quirk::Reject(|parts, body| {
    let is_named = String::from_utf8_lossy(body).contains("ExpiredObjectDeleteMarker");
    (is_put_or_post(parts) && is_for_subresource(parts, "lifecycle") && is_named)
        .then_some((501, "NotImplemented"))
});
/// A put into a bucket with default retention requires a checksum.
const REQUIRES_CHECKSUM: Quirk = Quirk::Reject(|parts, _| {
    let is_checked = has_header(parts, "content-md5")
        || parts.headers.keys().any(|name| name.as_str().starts_with("x-amz-checksum-"));
    (is_put_or_post(parts) && is_object(parts) && !is_checked).then_some((400, "InvalidRequest"))
});
const DUMMY_ACL: Quirk = Quirk::Rewrite(|parts, text| {
    if !is_for_subresource(parts, "acl") {
        return text;
    }
    "<AccessControlPolicy xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\"><Owner><ID>x</ID></Owner>\
     <AccessControlList><Grant><Grantee xsi:type=\"CanonicalUser\"/><Permission>FULL_CONTROL</Permission></Grant>\
     </AccessControlList></AccessControlPolicy>"
        .to_owned()
});
const NO_VERSIONING: Quirk =
    Quirk::Reject(|parts, _| is_for_subresource(parts, "versioning").then_some((501, "NotImplemented")));
const NO_TAGS: Quirk =
    Quirk::Reject(|parts, _| has_header(parts, "x-amz-tagging").then_some((501, "NotImplemented")));
/// Listings with a delimiter skip a folder whose name extends another's, as if the marker `a/` covered all names with
/// that prefix.
const SKIPS_FOLDERS: Quirk = Quirk::Rewrite(|parts, text| {
    if is_for_subresource(parts, "versions") && is_for_subresource(parts, "delimiter") {
        without(&text, "CommonPrefixes", "/a-b/")
    } else {
        text
    }
});
/// Listings with a low `max-keys` omit a key.
const SKIPS_KEYS: Quirk = Quirk::Rewrite(|parts, text| {
    if is_for_subresource(parts, "versions") && is_for_subresource(parts, "max-keys") {
        without(&text, "Version", "1-2.mp4")
    } else {
        text
    }
});

/// Returns a document without the elements of this name that contain `what`.
fn without(text: &str, name: &str, what: &str) -> String {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let mut parts = text.split(&open);
    let mut remaining = parts.next().unwrap().to_owned();
    for part in parts {
        let (element, rest) = part.split_once(&close).unwrap();
        if !element.contains(what) {
            remaining.extend([&open, element, &close]);
        }
        remaining.push_str(rest);
    }
    remaining
}

/// Returns the quirk of a store in the region `RegionOne`, which its error names.
fn requires_region_one() -> Quirk {
    Quirk::Respond(Arc::new(|parts: &Parts, _: &[u8]| {
        let signed = parts.headers.get("authorization")?.to_str().ok()?;
        if signed.contains("/RegionOne/s3/") {
            return None;
        }
        let code = "<Code>AuthorizationHeaderMalformed</Code><Region>RegionOne</Region>";
        Some((400, format!("<Error>{code}</Error>")))
    }))
}

/// Asserts that the bucket becomes compliant, accepts a recording, and that the sweep deletes it past its ceiling.
pub async fn assert_compliant_and_swept(scene: &Scene) -> EnforceReport {
    let enforced = scene.enforce(Probe::Run).await.unwrap();
    let again = scene.enforce(Probe::Skip).await.unwrap();
    assert!(again.changes.is_empty(), "{:?}", again.changes);
    let key = scene.record("balie-2", Timestamp::now() - SignedDuration::from_hours(1)).await;
    assert_eq!(scene.versions(&key).await.len(), 1);
    let later = Timestamp::now() + SignedDuration::from_hours(24 * 30);
    let swept = sweep(
        &connect(&scene.operator),
        &PROTOCOL_CEILINGS,
        &FixedHolds(vec![]),
        &ProtectionCache::default(),
        ScanRange::All,
        at_time(later),
    )
    .await
    .unwrap();
    assert_eq!((swept.deleted, swept.undeletable), (1, 0), "{swept:?}");
    assert!(scene.versions(&key).await.is_empty());
    enforced
}

async fn md5_is_sent(server: S3Server) {
    assert_compliant_and_swept(
        &scene_with_quirks(server, "md5", vec![REQUIRES_MD5, REQUIRES_CHECKSUM]).await,
    )
    .await;
}

#[tokio::test]
async fn seaweedfs_md5_is_sent() {
    md5_is_sent(S3Server::primary()).await;
}

#[tokio::test]
async fn ceph_md5_is_sent() {
    md5_is_sent(S3Server::secondary()).await;
}

async fn batch_delete_is_optional(server: S3Server) {
    let enforced =
        assert_compliant_and_swept(&scene_with_quirks(server, "nobatch", vec![NO_BATCH_DELETE]).await).await;
    let conformance = enforced.conformance.unwrap();
    let verdict = conformance.verdict(Check::HeldSurvivesBatchDelete);
    assert!(matches!(verdict, Verdict::Unknown(_)), "{verdict:?}");
}

#[tokio::test]
async fn seaweedfs_batch_delete_is_optional() {
    batch_delete_is_optional(S3Server::primary()).await;
}

#[tokio::test]
async fn ceph_batch_delete_is_optional() {
    batch_delete_is_optional(S3Server::secondary()).await;
}

async fn conditional_put_is_optional(server: S3Server) {
    let scene = scene_with_quirks(server, "nocond", vec![NO_CONDITIONAL_PUT]).await;
    let enforced = assert_compliant_and_swept(&scene).await;
    let conformance = enforced.conformance.unwrap();
    assert_eq!(conformance.verdict(Check::ConditionalPutIsEnforced), &Verdict::Failed);
    // A later claim is still rejected: the oldest version wins.
    let mut latecomer = scene.clone();
    latecomer.claim.site = "another".into();
    let claimant = Claimant::SameNamespace { site: scene.claim.site.clone() };
    assert_eq!(latecomer.enforce(Probe::Skip).await.unwrap_err(), EnforceError::ClaimedByOther(claimant));
}

#[tokio::test]
async fn seaweedfs_conditional_put_is_optional() {
    conditional_put_is_optional(S3Server::primary()).await;
}

#[tokio::test]
async fn ceph_conditional_put_is_optional() {
    conditional_put_is_optional(S3Server::secondary()).await;
}

async fn optional_lifecycle_rules_are_left_out(server: S3Server) {
    for (quirks, limitations) in [
        (vec![NO_ABORT_RULE], vec!["unfinished uploads"]),
        (vec![NO_ABORT_RULE, NO_MARKER_RULE], vec!["unfinished uploads", "expired delete markers"]),
    ] {
        let scene = scene_with_quirks(server.clone(), "norule", quirks).await;
        let enforced = assert_compliant_and_swept(&scene).await;
        let message = enforced.limitations.join("; ");
        for limitation in &limitations {
            assert!(message.contains(limitation), "{limitation}: {message}");
        }
        let rules = enforced.observed.lifecycle.unwrap();
        assert_eq!(rules.len(), 4 - limitations.len());
        let conformance = enforced.conformance.unwrap();
        assert_eq!(conformance.verdict(Check::LifecycleReadsBack), &Verdict::Passed);
        // The daily retry makes no change and reports the limitations again.
        let daily = scene.enforce(Probe::Run).await.unwrap();
        assert!(daily.changes.is_empty(), "{:?}", daily.changes);
        assert_eq!(daily.limitations, enforced.limitations);
    }
}

#[tokio::test]
async fn seaweedfs_optional_lifecycle_rules_are_left_out() {
    optional_lifecycle_rules_are_left_out(S3Server::primary()).await;
}

#[tokio::test]
async fn ceph_optional_lifecycle_rules_are_left_out() {
    optional_lifecycle_rules_are_left_out(S3Server::secondary()).await;
}

async fn bucket_requiring_checksums_is_taken_over(server: S3Server) {
    let mut scene = scene_with_quirks(server, "checked", vec![REQUIRES_CHECKSUM]).await;
    let client = scene.operator_client();
    let bucket = client.create_bucket().bucket(scene.bucket());
    bucket.object_lock_enabled_for_bucket(true).send().await.unwrap();
    let retention = DefaultRetention::builder().mode(ObjectLockRetentionMode::Governance).days(1);
    let rule = ObjectLockRule::builder().default_retention(retention.build()).build();
    let lock =
        ObjectLockConfiguration::builder().object_lock_enabled(ObjectLockEnabled::Enabled).rule(rule).build();
    let put = client.put_object_lock_configuration().bucket(scene.bucket());
    put.object_lock_configuration(lock).send().await.unwrap();
    scene.spec.take_over = true;
    let enforced = scene.enforce(Probe::Run).await.unwrap();
    assert_eq!(enforced.observed.default_retention, None);
}

#[tokio::test]
async fn seaweedfs_bucket_requiring_checksums_is_taken_over() {
    bucket_requiring_checksums_is_taken_over(S3Server::primary()).await;
}

#[tokio::test]
async fn ceph_bucket_requiring_checksums_is_taken_over() {
    bucket_requiring_checksums_is_taken_over(S3Server::secondary()).await;
}

async fn dummy_acl_does_not_block_adoption(server: S3Server) {
    let scene = scene_with_quirks(server, "acl", vec![DUMMY_ACL]).await;
    let client = scene.operator_client();
    let bucket = client.create_bucket().bucket(scene.bucket());
    bucket.object_lock_enabled_for_bucket(true).send().await.unwrap();
    assert!(scene.enforce(Probe::Skip).await.unwrap().observed.forbidden.is_empty());
}

#[tokio::test]
async fn seaweedfs_dummy_acl_does_not_block_adoption() {
    dummy_acl_does_not_block_adoption(S3Server::primary()).await;
}

#[tokio::test]
async fn ceph_dummy_acl_does_not_block_adoption() {
    dummy_acl_does_not_block_adoption(S3Server::secondary()).await;
}

/// Checks that a missing feature is reported as permanent, not as a retryable error.
async fn store_without_required_feature_is_unfit(server: S3Server) {
    for (quirk, what) in [(NO_VERSIONING, "GetBucketVersioning"), (NO_TAGS, "object tags")] {
        let scene = scene_with_quirks(server.clone(), "unfit", vec![quirk]).await;
        let error = scene.enforce(Probe::Run).await.unwrap_err();
        let message = error.to_string();
        assert!(matches!(error, EnforceError::StoreUnsupported { .. }), "{error:?}");
        assert!(message.contains(what) && message.contains("use a store with"), "{message}");
        assert!(!error.is_retryable());
    }
}

/// Checks that a store whose listings are incomplete is unfit.
async fn incomplete_listing_is_unfit(server: S3Server) {
    for quirk in [SKIPS_FOLDERS, SKIPS_KEYS] {
        let scene = scene_with_quirks(server.clone(), "listing", vec![quirk]).await;
        let error = scene.enforce(Probe::Run).await.unwrap_err();
        let message = error.to_string();
        assert!(matches!(error, EnforceError::StoreUnsupported { .. }), "{error:?}");
        assert!(message.contains("ListingIsComplete"), "{message}");
    }
}

#[tokio::test]
async fn seaweedfs_incomplete_listing_is_unfit() {
    incomplete_listing_is_unfit(S3Server::primary()).await;
}

#[tokio::test]
async fn ceph_incomplete_listing_is_unfit() {
    incomplete_listing_is_unfit(S3Server::secondary()).await;
}

#[tokio::test]
async fn seaweedfs_store_without_required_feature_is_unfit() {
    store_without_required_feature_is_unfit(S3Server::primary()).await;
}

#[tokio::test]
async fn ceph_store_without_required_feature_is_unfit() {
    store_without_required_feature_is_unfit(S3Server::secondary()).await;
}

async fn wrong_region_is_reported(server: S3Server) {
    let mut scene = scene_with_quirks(server, "region", vec![requires_region_one()]).await;
    let error = scene.enforce(Probe::Skip).await.unwrap_err();
    let message = error.to_string();
    assert!(message.contains("AuthorizationHeaderMalformed"), "{message}");
    assert!(message.contains("set spec.storage.region to RegionOne"), "{message}");
    scene.operator.region = "RegionOne".into();
    scene.recorder.region = "RegionOne".into();
    scene.enforce(Probe::Skip).await.unwrap();
}

#[tokio::test]
async fn seaweedfs_wrong_region_is_reported() {
    wrong_region_is_reported(S3Server::primary()).await;
}

#[tokio::test]
async fn ceph_wrong_region_is_reported() {
    wrong_region_is_reported(S3Server::secondary()).await;
}

/// The quirks apply only to the intended requests.
#[test]
fn quirks_match_the_requests_they_name() {
    let parts = |method: &str, uri: &str| -> Parts {
        let request = axum::http::Request::builder().method(method).uri(uri);
        request.body(()).unwrap().into_parts().0
    };
    let listed = "<L><Version><Key>1-2.mp4</Key></Version><Version><Key>1.mp4</Key></Version></L>";
    assert_eq!(without(listed, "Version", "1-2.mp4"), "<L><Version><Key>1.mp4</Key></Version></L>");
    let Quirk::Reject(md5) = REQUIRES_MD5 else { panic!() };
    assert!(md5(&parts("POST", "/b?delete&x-id=DeleteObjects"), b"").is_some());
    assert!(md5(&parts("GET", "/b?policy"), b"").is_none());
    assert!(!is_object(&parts("PUT", "/b?policy")));
    assert!(is_object(&parts("PUT", "/b/video/a?x-id=PutObject")));
    assert!(!is_object(&parts("PUT", "/b/video/a?tagging")));
}
