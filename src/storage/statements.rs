//! The bucket policy of a site: who may what, and explicit Denies for the rest (design: identities). There
//! is no Allow to everyone, and every right that somebody may have by another way is denied by name.

mod people;
mod recorder;

use serde_json::{Map, Value, json};

pub(crate) use people::held_tag_condition;

use super::bucket::BucketSpec;
use super::client::BucketClient;
use super::dialect::{Dialect, EveryoneExcept};
use super::partition;
use super::policy::{MAX_POLICY_BYTES, RESERVED_POLICY_BYTES, document_bytes};
use super::refusal::EnforceError;

/// Where the recorders' canaries are: under the same statements as recordings, so that what is tried there
/// is true for recordings, and yet no key of a recording.
pub(crate) const CANARY_PREFIX: &str = "probe/recorder/";
/// Names of the statements about everyone else: what nobody else may do, and what only readers may beside.
const OTHERS_SID: &str = "Others";
const OTHERS_READ_SID: &str = "OthersRead";
/// Reading what an object holds.
const READ: [&str; 2] = ["s3:GetObject", "s3:GetObjectVersion"];
const LIST: [&str; 3] = ["s3:ListBucket", "s3:ListBucketVersions", "s3:ListBucketMultipartUploads"];
const DELETE: [&str; 2] = ["s3:DeleteObject", "s3:DeleteObjectVersion"];
/// What protects an object, and what could undo it.
const LOCK: [&str; 3] = ["s3:PutObjectLegalHold", "s3:PutObjectRetention", "s3:BypassGovernanceRetention"];
const READ_LOCK: [&str; 2] = ["s3:GetObjectLegalHold", "s3:GetObjectRetention"];
/// Changing tags of what is there already.
const RETAG: [&str; 3] =
    ["s3:PutObjectVersionTagging", "s3:DeleteObjectTagging", "s3:DeleteObjectVersionTagging"];
const READ_TAGS: [&str; 2] = ["s3:GetObjectTagging", "s3:GetObjectVersionTagging"];
const ACLS: [&str; 4] =
    ["s3:GetObjectAcl", "s3:GetObjectVersionAcl", "s3:PutObjectAcl", "s3:PutObjectVersionAcl"];
/// The bucket's own settings, but for its policy. Stores that heed the case of letters (`SeaweedFS`) write `Cors`.
const SETTINGS: [&str; 12] = [
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
const POLICY: [&str; 3] = ["s3:GetBucketPolicy", "s3:PutBucketPolicy", "s3:DeleteBucketPolicy"];
/// More of its settings, in words that not every store's policies know.
pub(crate) const MORE_SETTINGS: [&str; 3] =
    ["s3:PutBucketOwnershipControls", "s3:PutEncryptionConfiguration", "s3:PutInventoryConfiguration"];
/// Settings of AWS that copy the list of recordings elsewhere, or cost their reader money, in words that each store
/// knows or does not.
pub(crate) const NEWER_SETTINGS: [&str; 4] = [
    "s3:CreateBucketMetadataTableConfiguration",
    "s3:PutAccelerateConfiguration",
    "s3:PutAnalyticsConfiguration",
    "s3:PutBucketRequestPayment",
];
const READ_MORE_SETTINGS: [&str; 3] =
    ["s3:GetBucketOwnershipControls", "s3:GetEncryptionConfiguration", "s3:GetInventoryConfiguration"];
const READ_SETTINGS: [&str; 11] = [
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

/// A bucket, and the region that requests to it name.
#[derive(Clone, Copy, Debug)]
pub struct BucketRef<'a> {
    /// The bucket's name.
    pub name: &'a str,
    /// The region.
    pub region: &'a str,
}

impl<'a> From<&'a BucketClient> for BucketRef<'a> {
    fn from(store: &'a BucketClient) -> Self {
        Self { name: &store.bucket, region: &store.region }
    }
}

/// The statements for a bucket, in the words that its store understands; none on a store that heeds none.
pub fn policy_statements(
    bucket: BucketRef<'_>,
    spec: &BucketSpec,
    dialect: &Dialect,
    tls: bool,
) -> Vec<Value> {
    if !dialect.heeds_policies {
        return Vec::new();
    }
    let at = ResourceArns::new(bucket, &spec.operator_principal);
    let operator = aws_principal(&spec.operator_principal);
    let recorders = aws_principal(&spec.recorder_principal);
    let mut all = bootstrap(bucket, &spec.operator_principal, dialect.more_settings);
    let settings = deniable_settings(dialect);
    all.extend(recorder::recorder_allows(&at, &recorders, dialect));
    all.extend(operator_denies(&at, &operator));
    all.extend(recorder::recorder_denies(&at, &recorders, dialect, &settings));
    if let Some(auditor) = &spec.auditor {
        all.extend(people::auditor_statements(&at, &aws_principal(auditor), &settings));
    }
    let mut machines = vec![spec.operator_principal.as_str(), spec.recorder_principal.as_str()];
    machines.extend(spec.auditor.as_deref());
    let readers: Vec<&str> = spec.readers.iter().map(String::as_str).collect();
    if !readers.is_empty() {
        let named = json!({ "AWS": readers });
        all.extend(people::reader_statements(&at, &named));
        // Each name costs bytes in each statement: where "everyone but" can be said, readers are among everyone.
        if dialect.others == EveryoneExcept::Unsaid {
            all.extend(people::reader_denies(&at, &named, &settings));
        }
    }
    all.extend(everyone_else_denies(&at, dialect.others, &machines, &readers, &settings));
    if tls && dialect.deny_plain_http {
        all.push(plain_http_deny(&at));
    }
    all
}

/// Checks that the policy is one that stores take, with room for what is added while it is tried; says how many of the
/// readers fit where it is not.
pub(crate) fn check_policy_size(
    bucket: BucketRef<'_>,
    spec: &BucketSpec,
    dialect: &Dialect,
    tls: bool,
) -> Result<(), EnforceError> {
    const LIMIT: usize = MAX_POLICY_BYTES - RESERVED_POLICY_BYTES;
    let bytes = |spec: &BucketSpec| document_bytes(&policy_statements(bucket, spec, dialect, tls));
    let whole = bytes(spec);
    if whole <= LIMIT {
        return Ok(());
    }
    let mut fewer = spec.clone();
    while bytes(&fewer) > LIMIT && fewer.readers.pop().is_some() {}
    Err(EnforceError::PolicyTooLong {
        people: spec.readers.len(),
        bytes: whole,
        limit: LIMIT,
        fits: fewer.readers.len(),
    })
}

/// What the operator needs to begin with: on a store where an identity has no rights of its own, whoever
/// makes the bucket puts this policy there. `more_settings`: the store's policies know the rights to these.
pub fn bootstrap(bucket: BucketRef<'_>, operator_principal: &str, more_settings: bool) -> Vec<Value> {
    let at = ResourceArns::new(bucket, operator_principal);
    let operator = aws_principal(operator_principal);
    let settings = [&POLICY[..], &READ_SETTINGS, &SETTINGS, &LIST].concat();
    let objects =
        [&LOCK[..], &READ_LOCK, &RETAG, &READ_TAGS, &["s3:PutObjectTagging", "s3:AbortMultipartUpload"]]
            .concat();
    let more = more_settings.then(|| {
        let settings = [READ_MORE_SETTINGS, MORE_SETTINGS].concat();
        allow("OperatorMoreSettings", &operator, &settings, &[at.bucket()])
    });
    let all = [
        allow("OperatorSettings", &operator, &settings, &[at.bucket()]),
        allow("OperatorVersions", &operator, &objects, &[at.prefix_pattern("")]),
        // Ceph asks for the right of batch deletion on the bucket.
        allow("OperatorDeletes", &operator, &DELETE, &[at.bucket(), at.prefix_pattern("")]),
        allow(
            "OperatorLedger",
            &operator,
            &[&READ[..], &["s3:PutObject"]].concat(),
            &[at.prefix_pattern("ledger/"), at.prefix_pattern("probe/")],
        ),
    ];
    all.into_iter().chain(more).collect()
}

/// The bucket's settings that the store's policies can name.
fn deniable_settings(dialect: &Dialect) -> Vec<&'static str> {
    let more: &[&str] = if dialect.more_settings { &MORE_SETTINGS } else { &[] };
    let newer = NEWER_SETTINGS.into_iter();
    let newer = newer.filter(|word| dialect.newer_settings.contains(*word));
    [&SETTINGS, more].concat().into_iter().chain(newer).collect()
}

fn operator_denies(at: &ResourceArns<'_>, operator: &Value) -> Vec<Value> {
    vec![deny(
        "OperatorReadsNoRecording",
        operator,
        &[&READ[..], &["s3:PutObject"]].concat(),
        &at.recording_patterns(),
    )]
}

/// Everyone else. The policy itself is left to the store's administrators, who have the bucket's root key in
/// any case: so the glass can be broken, visibly, when the operator's identity is lost. Readers are everyone else in all
/// but reading.
fn everyone_else_denies(
    at: &ResourceArns<'_>,
    words: EveryoneExcept,
    machines: &[&str],
    readers: &[&str],
    settings: &[&str],
) -> Vec<Value> {
    let changes = [
        &DELETE[..],
        &LOCK,
        &READ_LOCK,
        &RETAG,
        &READ_TAGS,
        &ACLS,
        &["s3:PutObject", "s3:PutObjectTagging", "s3:AbortMultipartUpload"],
        &LIST,
        settings,
    ]
    .concat();
    let denied = |sid: &str, exempt: &[&str], actions: &[&str], places: &[String]| {
        let elements = words.statement_elements(exempt)?;
        Some(deny_everyone_except(sid, elements, actions, places))
    };
    let everywhere = [at.bucket(), at.prefix_pattern("")];
    let all = if readers.is_empty() {
        let actions = [&READ[..], &changes].concat();
        vec![denied(OTHERS_SID, machines, &actions, &everywhere)]
    } else {
        let exempt = [machines, readers].concat();
        vec![
            denied(OTHERS_SID, machines, &changes, &everywhere),
            denied(OTHERS_READ_SID, &exempt, &READ, &[at.prefix_pattern("")]),
        ]
    };
    all.into_iter().flatten().collect()
}

/// A Deny with these elements, which say about whom it is.
pub(crate) fn deny_everyone_except(
    sid: &str,
    elements: Map<String, Value>,
    actions: &[&str],
    places: &[String],
) -> Value {
    let mut statement = json!({ "Sid": sid, "Effect": "Deny", "Action": actions, "Resource": places });
    elements.into_iter().for_each(|(element, value)| set_element(&mut statement, &element, value));
    statement
}

/// Whether a statement is one about everyone else.
pub(crate) fn is_everyone_else_statement(statement: &Value) -> bool {
    let sid = statement.get("Sid").and_then(Value::as_str);
    sid.is_some_and(|sid| [OTHERS_SID, OTHERS_READ_SID].contains(&sid))
}

fn plain_http_deny(at: &ResourceArns<'_>) -> Value {
    let mut statement = deny("PlainHttp", &any_principal(), &["s3:*"], &[at.bucket(), at.prefix_pattern("")]);
    set_element(&mut statement, "Condition", json!({ "Bool": { "aws:SecureTransport": "false" } }));
    statement
}

/// A bucket and what is in it, as statements name them.
pub(crate) struct ResourceArns<'a> {
    bucket: &'a str,
    partition: &'a str,
}

impl<'a> ResourceArns<'a> {
    /// In the partition that `principal` is of.
    pub(crate) fn new(place: BucketRef<'a>, principal: &'a str) -> Self {
        Self { bucket: place.name, partition: partition::of(principal, place.region) }
    }

    pub(crate) fn bucket(&self) -> String {
        format!("arn:{}:s3:::{}", self.partition, self.bucket)
    }

    /// One key, or a pattern of keys.
    pub(crate) fn key(&self, key: &str) -> String {
        format!("{}/{key}", self.bucket())
    }

    fn prefix_pattern(&self, prefix: &str) -> String {
        self.key(&format!("{prefix}*"))
    }

    /// Recordings, and the canaries that stand for them.
    fn recording_patterns(&self) -> Vec<String> {
        vec![self.prefix_pattern("video/"), self.prefix_pattern("calls/"), self.prefix_pattern(CANARY_PREFIX)]
    }
}

/// Everybody, with credentials or without.
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

pub(crate) fn set_element(statement: &mut Value, element: &str, value: Value) {
    if let Value::Object(elements) = statement {
        elements.insert(element.to_owned(), value);
    }
}

#[cfg(test)]
#[path = "statements_tests.rs"]
mod tests;
