//! S3 actions of the bucket policy, and the parts of its statements.

use serde_json::{Value, json};

use crate::storage::bucket::policy::partition;
use crate::storage::s3::BucketClient;

/// Prefix of the recorders' canaries. The statements about recordings include it, so that the results of the probe apply to
/// recordings, and yet no recording has such a key.
pub(crate) const CANARY_PREFIX: &str = "probe/recorder/";

pub(crate) const READ: [&str; 2] = ["s3:GetObject", "s3:GetObjectVersion"];

pub(crate) const LIST: [&str; 3] =
    ["s3:ListBucket", "s3:ListBucketVersions", "s3:ListBucketMultipartUploads"];

pub(crate) const DELETE: [&str; 2] = ["s3:DeleteObject", "s3:DeleteObjectVersion"];

/// Protecting an object, and bypassing that.
pub(crate) const LOCK: [&str; 3] =
    ["s3:PutObjectLegalHold", "s3:PutObjectRetention", "s3:BypassGovernanceRetention"];

pub(crate) const READ_LOCK: [&str; 2] = ["s3:GetObjectLegalHold", "s3:GetObjectRetention"];

/// Changing the tags of present objects.
pub(crate) const RETAG: [&str; 3] =
    ["s3:PutObjectVersionTagging", "s3:DeleteObjectTagging", "s3:DeleteObjectVersionTagging"];

pub(crate) const READ_TAGS: [&str; 2] = ["s3:GetObjectTagging", "s3:GetObjectVersionTagging"];

pub(crate) const ACLS: [&str; 4] =
    ["s3:GetObjectAcl", "s3:GetObjectVersionAcl", "s3:PutObjectAcl", "s3:PutObjectVersionAcl"];

/// Writing the bucket's settings, except its policy. `SeaweedFS` compares the case of letters, and writes `Cors`.
pub(crate) const SETTINGS: [&str; 12] = [
    "s3:DeleteBucket",
    "s3:PutBucketAcl",
    "s3:PutBucketCors",
    "s3:PutBucketLogging",
    "s3:PutBucketNotification",
    "s3:PutBucketObjectLockConfiguration",
    "s3:PutBucketPublicAccessBlock",
    "s3:PutBucketVersioning",
    "s3:PutBucketWebsite",
    "s3:DeleteBucketWebsite",
    "s3:PutLifecycleConfiguration",
    "s3:PutReplicationConfiguration",
];

pub(crate) const POLICY: [&str; 3] = ["s3:GetBucketPolicy", "s3:PutBucketPolicy", "s3:DeleteBucketPolicy"];

/// More settings: actions that not every store's policies know.
pub(crate) const MORE_SETTINGS: [&str; 3] =
    ["s3:PutBucketOwnershipControls", "s3:PutEncryptionConfiguration", "s3:PutInventoryConfiguration"];

/// Settings of AWS that copy the list of recordings elsewhere, or cost their reader money. A store may know any of these actions.
pub(crate) const NEWER_SETTINGS: [&str; 4] = [
    "s3:CreateBucketMetadataTableConfiguration",
    "s3:PutAccelerateConfiguration",
    "s3:PutAnalyticsConfiguration",
    "s3:PutBucketRequestPayment",
];

pub(crate) const READ_MORE_SETTINGS: [&str; 3] =
    ["s3:GetBucketOwnershipControls", "s3:GetEncryptionConfiguration", "s3:GetInventoryConfiguration"];

pub(crate) const READ_SETTINGS: [&str; 11] = [
    "s3:GetBucketAcl",
    "s3:GetBucketCors",
    "s3:GetBucketLocation",
    "s3:GetBucketLogging",
    "s3:GetBucketNotification",
    "s3:GetBucketObjectLockConfiguration",
    "s3:GetBucketPublicAccessBlock",
    "s3:GetBucketVersioning",
    "s3:GetBucketWebsite",
    "s3:GetLifecycleConfiguration",
    "s3:GetReplicationConfiguration",
];

/// A bucket, and the region of requests to it.
#[derive(Clone, Copy, Debug)]
pub struct BucketRef<'a> {
    pub name: &'a str,
    pub region: &'a str,
}

impl<'a> From<&'a BucketClient> for BucketRef<'a> {
    fn from(store: &'a BucketClient) -> Self {
        Self { name: &store.bucket, region: &store.region }
    }
}

/// Names of a bucket and its objects in statements.
pub(crate) struct ResourceArns<'a> {
    pub(crate) bucket: &'a str,
    pub(crate) partition: &'a str,
}

impl<'a> ResourceArns<'a> {
    /// Returns the names in the partition of `principal`: AWS rejects ARNs of another one.
    pub(crate) fn new(place: BucketRef<'a>, principal: &'a str) -> Self {
        Self { bucket: place.name, partition: partition::of(principal, place.region) }
    }

    pub(crate) fn bucket(&self) -> String {
        format!("arn:{}:s3:::{}", self.partition, self.bucket)
    }

    /// Returns the ARN of a key, or of a pattern of keys.
    pub(crate) fn key(&self, key: &str) -> String {
        format!("{}/{key}", self.bucket())
    }

    pub(crate) fn prefix_pattern(&self, prefix: &str) -> String {
        self.key(&format!("{prefix}*"))
    }

    /// Returns the patterns of recordings, and of the canaries that represent them.
    pub(crate) fn recording_patterns(&self) -> Vec<String> {
        vec![self.prefix_pattern("video/"), self.prefix_pattern("calls/"), self.prefix_pattern(CANARY_PREFIX)]
    }
}

/// Returns everybody, with credentials or without.
pub(crate) fn any_principal() -> Value {
    json!({ "AWS": ["*"] })
}

pub(crate) fn aws_principal(principal: &str) -> Value {
    json!({ "AWS": [principal] })
}

pub(crate) fn allow(sid: &str, principal: &Value, actions: &[&str], resources: &[String]) -> Value {
    json!({ "Sid": sid, "Effect": "Allow", "Principal": principal, "Action": actions, "Resource": resources })
}

pub(crate) fn deny(sid: &str, principal: &Value, actions: &[&str], resources: &[String]) -> Value {
    json!({ "Sid": sid, "Effect": "Deny", "Principal": principal, "Action": actions, "Resource": resources })
}

pub(crate) fn with_condition(mut statement: Value, condition: Value) -> Value {
    set_element(&mut statement, "Condition", condition);
    statement
}

pub(crate) fn set_element(statement: &mut Value, element: &str, value: Value) {
    if let Value::Object(elements) = statement {
        elements.insert(element.to_owned(), value);
    }
}
