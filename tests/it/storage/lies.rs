//! Stores as they are: what servers of other makes refuse, before real servers that do the rest.

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
use toezicht::storage::{EnforceError, EnforceReport, Probe};

use super::holds::{Declared, at_time};
use super::liar::{Lie, asks, has, is_object, lying, writes};
use super::scene::Scene;
use crate::storage::scene::connect;
use crate::support::settings::S3Server;

/// Older servers want `Content-MD5` where S3 once required it.
const MD5: Lie = Lie::Refuse(|parts, _| {
    let parts_with = ["delete", "lifecycle", "policy", "legal-hold", "tagging", "object-lock", "versioning"];
    let needs = writes(parts) && parts_with.iter().any(|part| asks(parts, part));
    (needs && !has(parts, "content-md5")).then_some((400, "MissingContentMD5"))
});
const NO_BATCH_DELETE: Lie =
    Lie::Refuse(|parts, _| (writes(parts) && asks(parts, "delete")).then_some((400, "MalformedPOSTRequest")));
const NO_CONDITIONAL_PUT: Lie =
    Lie::Refuse(|parts, _| (writes(parts) && has(parts, "if-none-match")).then_some((501, "NotImplemented")));
const NO_ABORT_RULE: Lie = Lie::Refuse(|parts, body| {
    let names = String::from_utf8_lossy(body).contains("AbortIncompleteMultipartUpload");
    (writes(parts) && asks(parts, "lifecycle") && names).then_some((400, "MalformedXML"))
});
const NO_MARKER_RULE: Lie = Lie::Refuse(|parts, body| {
    let names = String::from_utf8_lossy(body).contains("ExpiredObjectDeleteMarker");
    (writes(parts) && asks(parts, "lifecycle") && names).then_some((501, "NotImplemented"))
});
/// A put into a bucket with default retention must bear a checksum.
const REQUIRES_CHECKSUM: Lie = Lie::Refuse(|parts, _| {
    let is_checked = has(parts, "content-md5")
        || parts.headers.keys().any(|name| name.as_str().starts_with("x-amz-checksum-"));
    (writes(parts) && is_object(parts) && !is_checked).then_some((400, "InvalidRequest"))
});
const DUMMY_ACL: Lie = Lie::Rewrite(|parts, text| {
    if !asks(parts, "acl") {
        return text;
    }
    "<AccessControlPolicy xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\"><Owner><ID>x</ID></Owner>\
     <AccessControlList><Grant><Grantee xsi:type=\"CanonicalUser\"/><Permission>FULL_CONTROL</Permission></Grant>\
     </AccessControlList></AccessControlPolicy>"
        .to_owned()
});
const NO_VERSIONING: Lie =
    Lie::Refuse(|parts, _| asks(parts, "versioning").then_some((501, "NotImplemented")));
const NO_TAGS: Lie = Lie::Refuse(|parts, _| has(parts, "x-amz-tagging").then_some((501, "NotImplemented")));
/// Listings of folders skip one whose name goes on from another's, as where a marker `a/` is taken for all that begins so.
const SKIPS_FOLDERS: Lie = Lie::Rewrite(|parts, text| {
    if asks(parts, "versions") && asks(parts, "delimiter") {
        without(&text, "CommonPrefixes", "/a-b/")
    } else {
        text
    }
});
/// Listings of few keys leave one out.
const SKIPS_KEYS: Lie = Lie::Rewrite(|parts, text| {
    if asks(parts, "versions") && asks(parts, "max-keys") {
        without(&text, "Version", "1-2.mp4")
    } else {
        text
    }
});

/// A document without the elements of this name that say something.
fn without(text: &str, name: &str, what: &str) -> String {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let mut parts = text.split(&open);
    let mut kept = parts.next().unwrap().to_owned();
    for part in parts {
        let (element, rest) = part.split_once(&close).unwrap();
        if !element.contains(what) {
            kept.extend([&open, element, &close]);
        }
        kept.push_str(rest);
    }
    kept
}

/// A store of the region `RegionOne`, which names it.
fn requires_region_one() -> Lie {
    Lie::Answer(Arc::new(|parts: &Parts, _: &[u8]| {
        let signed = parts.headers.get("authorization")?.to_str().ok()?;
        if signed.contains("/RegionOne/s3/") {
            return None;
        }
        let code = "<Code>AuthorizationHeaderMalformed</Code><Region>RegionOne</Region>";
        Some((400, format!("<Error>{code}</Error>")))
    }))
}

/// The bucket is as it must be, a recording arrives, and it goes when it is due.
pub async fn keeps(scene: &Scene) -> EnforceReport {
    let enforced = scene.enforce(Probe::Run).await.unwrap();
    let again = scene.enforce(Probe::Skip).await.unwrap();
    assert!(again.changes.is_empty(), "{:?}", again.changes);
    let key = scene.record("balie-2", Timestamp::now() - SignedDuration::from_hours(1)).await;
    assert_eq!(scene.versions(&key).await.len(), 1);
    let later = Timestamp::now() + SignedDuration::from_hours(24 * 30);
    let swept = sweep(
        &connect(&scene.operator),
        &PROTOCOL_CEILINGS,
        &Declared(vec![]),
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
    keeps(&lying(server, "md5", vec![MD5, REQUIRES_CHECKSUM]).await).await;
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
    let enforced = keeps(&lying(server, "nobatch", vec![NO_BATCH_DELETE]).await).await;
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
    let scene = lying(server, "nocond", vec![NO_CONDITIONAL_PUT]).await;
    let enforced = keeps(&scene).await;
    let conformance = enforced.conformance.unwrap();
    assert_eq!(conformance.verdict(Check::ConditionalPutIsEnforced), &Verdict::Failed);
    // A latecomer is refused as ever: the oldest version wins.
    let mut late = scene.clone();
    late.claim.site = "another".into();
    assert_eq!(late.enforce(Probe::Skip).await.unwrap_err(), EnforceError::ClaimedByOther);
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
    for (lies, gaps) in [
        (vec![NO_ABORT_RULE], vec!["unfinished uploads"]),
        (vec![NO_ABORT_RULE, NO_MARKER_RULE], vec!["unfinished uploads", "expired delete markers"]),
    ] {
        let scene = lying(server.clone(), "norule", lies).await;
        let enforced = keeps(&scene).await;
        let told = enforced.limitations.join("; ");
        for gap in &gaps {
            assert!(told.contains(gap), "{gap}: {told}");
        }
        let rules = enforced.observed.lifecycle.unwrap();
        assert_eq!(rules.len(), 4 - gaps.len());
        let conformance = enforced.conformance.unwrap();
        assert_eq!(conformance.verdict(Check::LifecycleReadsBack), &Verdict::Passed);
        // Tried again on the next day, it is no change, and is said again.
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
    let mut scene = lying(server, "checked", vec![REQUIRES_CHECKSUM]).await;
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
    let scene = lying(server, "acl", vec![DUMMY_ACL]).await;
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

/// What a store lacks is told as that, and not as an error that may pass.
async fn store_without_required_feature_is_unfit(server: S3Server) {
    for (lie, what) in [(NO_VERSIONING, "GetBucketVersioning"), (NO_TAGS, "object tags")] {
        let scene = lying(server.clone(), "unfit", vec![lie]).await;
        let error = scene.enforce(Probe::Run).await.unwrap_err();
        let told = error.to_string();
        assert!(matches!(error, EnforceError::StoreUnsupported { .. }), "{error:?}");
        assert!(told.contains(what) && told.contains("use a store with"), "{told}");
        assert!(!error.is_retryable());
    }
}

/// A store on which nothing can be claimed from a listing is unfit, whatever it leaves out.
async fn incomplete_listing_is_unfit(server: S3Server) {
    for lie in [SKIPS_FOLDERS, SKIPS_KEYS] {
        let scene = lying(server.clone(), "listing", vec![lie]).await;
        let error = scene.enforce(Probe::Run).await.unwrap_err();
        let told = error.to_string();
        assert!(matches!(error, EnforceError::StoreUnsupported { .. }), "{error:?}");
        assert!(told.contains("ListingIsComplete"), "{told}");
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
    let mut scene = lying(server, "region", vec![requires_region_one()]).await;
    let error = scene.enforce(Probe::Skip).await.unwrap_err();
    let told = error.to_string();
    assert!(told.contains("AuthorizationHeaderMalformed"), "{told}");
    assert!(told.contains("set spec.storage.region to RegionOne"), "{told}");
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

/// The lies lie.
#[test]
fn quirks_match_the_requests_they_name() {
    let parts = |method: &str, uri: &str| -> Parts {
        let request = axum::http::Request::builder().method(method).uri(uri);
        request.body(()).unwrap().into_parts().0
    };
    let listed = "<L><Version><Key>1-2.mp4</Key></Version><Version><Key>1.mp4</Key></Version></L>";
    assert_eq!(without(listed, "Version", "1-2.mp4"), "<L><Version><Key>1.mp4</Key></Version></L>");
    let Lie::Refuse(md5) = MD5 else { panic!() };
    assert!(md5(&parts("POST", "/b?delete&x-id=DeleteObjects"), b"").is_some());
    assert!(md5(&parts("GET", "/b?policy"), b"").is_none());
    assert!(!is_object(&parts("PUT", "/b?policy")));
    assert!(is_object(&parts("PUT", "/b/video/a?x-id=PutObject")));
    assert!(!is_object(&parts("PUT", "/b/video/a?tagging")));
}
