//! Stores as they are: what servers of other makes refuse, before real servers that do the rest.

use std::sync::Arc;

use aws_sdk_s3::types::{
    DefaultRetention, ObjectLockConfiguration, ObjectLockEnabled, ObjectLockRetentionMode, ObjectLockRule,
};
use axum::http::request::Parts;
use jiff::{SignedDuration, Timestamp};
use toezicht::storage::hold::memory::Memory;
use toezicht::storage::probe::{Check, Verdict};
use toezicht::storage::sweep::{Reach, sweep};
use toezicht::storage::{EnforceError, Enforced, Trials};

use super::holds::{CEILINGS, Declared, as_if};
use super::liar::{Lie, asks, has, is_object, lying, writes};
use super::scene::Scene;
use crate::support::settings::S3Server;

/// Older servers want `Content-MD5` where S3 once required it.
const MD5: Lie = Lie::Refuse(|parts, _| {
    let parts_with = ["delete", "lifecycle", "policy", "legal-hold", "tagging", "object-lock", "versioning"];
    let needs = writes(parts) && parts_with.iter().any(|part| asks(parts, part));
    (needs && !has(parts, "content-md5")).then_some((400, "MissingContentMD5"))
});
const NO_BATCHES: Lie =
    Lie::Refuse(|parts, _| (writes(parts) && asks(parts, "delete")).then_some((400, "MalformedPOSTRequest")));
const NO_CONDITIONS: Lie =
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
const CHECKED_PUTS: Lie = Lie::Refuse(|parts, _| {
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
fn region_one() -> Lie {
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
pub async fn keeps(scene: &Scene) -> Enforced {
    let enforced = scene.enforce(Trials::Run).await.unwrap();
    let again = scene.enforce(Trials::Keep).await.unwrap();
    assert!(again.changed.is_empty(), "{:?}", again.changed);
    let key = scene.record("balie-2", Timestamp::now() - SignedDuration::from_hours(1)).await;
    assert_eq!(scene.versions(&key).await.len(), 1);
    let later = Timestamp::now() + SignedDuration::from_hours(24 * 30);
    let swept =
        sweep(&scene.operator, &CEILINGS, &Declared(vec![]), &Memory::default(), Reach::All, as_if(later))
            .await
            .unwrap();
    assert_eq!((swept.deleted, swept.resisted), (1, 0), "{swept:?}");
    assert!(scene.versions(&key).await.is_empty());
    enforced
}

async fn md5_is_sent(server: S3Server) {
    keeps(&lying(server, "md5", vec![MD5, CHECKED_PUTS]).await).await;
}

#[tokio::test]
async fn seaweedfs_md5_is_sent() {
    md5_is_sent(S3Server::first()).await;
}

#[tokio::test]
async fn ceph_md5_is_sent() {
    md5_is_sent(S3Server::second()).await;
}

async fn batches_are_not_needed(server: S3Server) {
    let enforced = keeps(&lying(server, "nobatch", vec![NO_BATCHES]).await).await;
    let conformance = enforced.conformance.unwrap();
    let verdict = conformance.verdict(Check::HeldSurvivesBatchDelete);
    assert!(matches!(verdict, Verdict::Unknown(_)), "{verdict:?}");
}

#[tokio::test]
async fn seaweedfs_batches_are_not_needed() {
    batches_are_not_needed(S3Server::first()).await;
}

#[tokio::test]
async fn ceph_batches_are_not_needed() {
    batches_are_not_needed(S3Server::second()).await;
}

async fn conditions_are_not_needed(server: S3Server) {
    let scene = lying(server, "nocond", vec![NO_CONDITIONS]).await;
    let enforced = keeps(&scene).await;
    let conformance = enforced.conformance.unwrap();
    assert_eq!(conformance.verdict(Check::SecondPutIsRefused), &Verdict::Fails);
    // A latecomer is refused as ever: the oldest version wins.
    let mut late = scene.clone();
    late.claim.site = "another".into();
    assert_eq!(late.enforce(Trials::Keep).await.unwrap_err(), EnforceError::Claimed);
}

#[tokio::test]
async fn seaweedfs_conditions_are_not_needed() {
    conditions_are_not_needed(S3Server::first()).await;
}

#[tokio::test]
async fn ceph_conditions_are_not_needed() {
    conditions_are_not_needed(S3Server::second()).await;
}

async fn rules_that_keep_no_promise_are_left_out(server: S3Server) {
    for (lies, gaps) in [
        (vec![NO_ABORT_RULE], vec!["unfinished uploads"]),
        (vec![NO_ABORT_RULE, NO_MARKER_RULE], vec!["unfinished uploads", "expired delete markers"]),
    ] {
        let scene = lying(server.clone(), "norule", lies).await;
        let enforced = keeps(&scene).await;
        let told = enforced.gaps.join("; ");
        for gap in &gaps {
            assert!(told.contains(gap), "{gap}: {told}");
        }
        let rules = enforced.read_back.lifecycle.unwrap();
        assert_eq!(rules.len(), 4 - gaps.len());
        let conformance = enforced.conformance.unwrap();
        assert_eq!(conformance.verdict(Check::LifecycleIsKept), &Verdict::Holds);
        // Tried again on the next day, it is no change, and is said again.
        let daily = scene.enforce(Trials::Run).await.unwrap();
        assert!(daily.changed.is_empty(), "{:?}", daily.changed);
        assert_eq!(daily.gaps, enforced.gaps);
    }
}

#[tokio::test]
async fn seaweedfs_rules_that_keep_no_promise_are_left_out() {
    rules_that_keep_no_promise_are_left_out(S3Server::first()).await;
}

#[tokio::test]
async fn ceph_rules_that_keep_no_promise_are_left_out() {
    rules_that_keep_no_promise_are_left_out(S3Server::second()).await;
}

async fn a_bucket_that_wants_checksums_is_taken_over(server: S3Server) {
    let mut scene = lying(server, "checked", vec![CHECKED_PUTS]).await;
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
    let enforced = scene.enforce(Trials::Run).await.unwrap();
    assert_eq!(enforced.read_back.default_retention, None);
}

#[tokio::test]
async fn seaweedfs_bucket_that_wants_checksums_is_taken_over() {
    a_bucket_that_wants_checksums_is_taken_over(S3Server::first()).await;
}

#[tokio::test]
async fn ceph_bucket_that_wants_checksums_is_taken_over() {
    a_bucket_that_wants_checksums_is_taken_over(S3Server::second()).await;
}

async fn an_acl_of_nobody_is_no_obstacle(server: S3Server) {
    let scene = lying(server, "acl", vec![DUMMY_ACL]).await;
    let client = scene.operator_client();
    let bucket = client.create_bucket().bucket(scene.bucket());
    bucket.object_lock_enabled_for_bucket(true).send().await.unwrap();
    assert!(scene.enforce(Trials::Keep).await.unwrap().read_back.foreign.is_empty());
}

#[tokio::test]
async fn seaweedfs_acl_of_nobody_is_no_obstacle() {
    an_acl_of_nobody_is_no_obstacle(S3Server::first()).await;
}

#[tokio::test]
async fn ceph_acl_of_nobody_is_no_obstacle() {
    an_acl_of_nobody_is_no_obstacle(S3Server::second()).await;
}

/// What a store lacks is told as that, and not as an error that may pass.
async fn what_is_lacking_is_unfit(server: S3Server) {
    for (lie, what) in [(NO_VERSIONING, "GetBucketVersioning"), (NO_TAGS, "object tags")] {
        let scene = lying(server.clone(), "unfit", vec![lie]).await;
        let error = scene.enforce(Trials::Run).await.unwrap_err();
        let told = error.safe_message();
        assert!(matches!(error, EnforceError::StoreUnfit { .. }), "{error:?}");
        assert!(told.contains(what) && told.contains("use a store with"), "{told}");
        assert!(!error.is_retryable());
    }
}

/// A store on which nothing can be claimed from a listing is unfit, whatever it leaves out.
async fn a_listing_that_leaves_something_out_is_unfit(server: S3Server) {
    for lie in [SKIPS_FOLDERS, SKIPS_KEYS] {
        let scene = lying(server.clone(), "listing", vec![lie]).await;
        let error = scene.enforce(Trials::Run).await.unwrap_err();
        let told = error.safe_message();
        assert!(matches!(error, EnforceError::StoreUnfit { .. }), "{error:?}");
        assert!(told.contains("ListingIsComplete"), "{told}");
    }
}

#[tokio::test]
async fn seaweedfs_listing_that_leaves_something_out_is_unfit() {
    a_listing_that_leaves_something_out_is_unfit(S3Server::first()).await;
}

#[tokio::test]
async fn ceph_listing_that_leaves_something_out_is_unfit() {
    a_listing_that_leaves_something_out_is_unfit(S3Server::second()).await;
}

#[tokio::test]
async fn seaweedfs_what_is_lacking_is_unfit() {
    what_is_lacking_is_unfit(S3Server::first()).await;
}

#[tokio::test]
async fn ceph_what_is_lacking_is_unfit() {
    what_is_lacking_is_unfit(S3Server::second()).await;
}

async fn a_wrong_region_is_told(server: S3Server) {
    let mut scene = lying(server, "region", vec![region_one()]).await;
    let error = scene.enforce(Trials::Keep).await.unwrap_err();
    let told = error.safe_message();
    assert!(told.contains("AuthorizationHeaderMalformed"), "{told}");
    assert!(told.contains("set spec.storage.region to RegionOne"), "{told}");
    scene.operator.region = "RegionOne".into();
    scene.recorder.region = "RegionOne".into();
    scene.enforce(Trials::Keep).await.unwrap();
}

#[tokio::test]
async fn seaweedfs_wrong_region_is_told() {
    a_wrong_region_is_told(S3Server::first()).await;
}

#[tokio::test]
async fn ceph_wrong_region_is_told() {
    a_wrong_region_is_told(S3Server::second()).await;
}

/// The lies lie.
#[test]
fn lies_are_about_what_they_name() {
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
