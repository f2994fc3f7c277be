//! The bucket policy of a site: who may what, and explicit Denies for the rest (design: identities). There
//! is no Allow to everyone, and every right that somebody may have by another way is denied by name.

mod people;
mod recorder;

use serde_json::{Map, Value, json};

pub(crate) use people::if_tagged;

use super::bucket::BucketSpec;
use super::client::Store;
use super::dialect::{Dialect, Others};
use super::partition;
use super::policy::{LONGEST, ROOM, size};
use super::refusal::EnforceError;

/// Where the recorders' canaries are: under the same statements as recordings, so that what is tried there
/// is true for recordings, and yet no key of a recording.
pub(crate) const CANARIES: &str = "probe/recorder/";
/// Names of the statements about everyone else: what nobody else may do, and what only readers may beside.
const OTHERS: &str = "Others";
const OTHERS_READ: &str = "OthersRead";
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
pub struct Place<'a> {
    /// The bucket's name.
    pub bucket: &'a str,
    /// The region.
    pub region: &'a str,
}

impl<'a> From<&'a Store> for Place<'a> {
    fn from(store: &'a Store) -> Self {
        Self { bucket: &store.bucket, region: &store.region }
    }
}

/// The statements for a bucket, in the words that its store understands; none on a store that heeds none.
pub fn policy(place: Place<'_>, spec: &BucketSpec, dialect: &Dialect, tls: bool) -> Vec<Value> {
    if !dialect.heeds_policies {
        return Vec::new();
    }
    let at = Resources::of(place, &spec.operator_principal);
    let operator = by(&spec.operator_principal);
    let recorders = by(&spec.recorder_principal);
    let mut all = bootstrap(place, &spec.operator_principal, dialect.more_settings);
    let settings = settings(dialect);
    all.extend(recorder::may(&at, &recorders, dialect));
    all.extend(operator_may_not(&at, &operator));
    all.extend(recorder::may_not(&at, &recorders, dialect, &settings));
    if let Some(auditor) = &spec.auditor {
        all.extend(people::auditors(&at, &by(auditor), &settings));
    }
    let mut machines = vec![spec.operator_principal.as_str(), spec.recorder_principal.as_str()];
    machines.extend(spec.auditor.as_deref());
    let readers: Vec<&str> = spec.readers.iter().map(String::as_str).collect();
    if !readers.is_empty() {
        let named = json!({ "AWS": readers });
        all.extend(people::readers(&at, &named));
        // Each name costs bytes in each statement: where "everyone but" can be said, readers are among everyone.
        if dialect.others == Others::Unsaid {
            all.extend(people::readers_may_not(&at, &named, &settings));
        }
    }
    all.extend(others(&at, dialect.others, &machines, &readers, &settings));
    if tls && dialect.deny_plain_http {
        all.push(plain_http(&at));
    }
    all
}

/// Checks that the policy is one that stores take, with room for what is added while it is tried; says how many of the
/// readers fit where it is not.
pub(crate) fn fitting(
    place: Place<'_>,
    spec: &BucketSpec,
    dialect: &Dialect,
    tls: bool,
) -> Result<(), EnforceError> {
    const LIMIT: usize = LONGEST - ROOM;
    let bytes = |spec: &BucketSpec| size(&policy(place, spec, dialect, tls));
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
pub fn bootstrap(place: Place<'_>, operator_principal: &str, more_settings: bool) -> Vec<Value> {
    let at = Resources::of(place, operator_principal);
    let operator = by(operator_principal);
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
        allow("OperatorVersions", &operator, &objects, &[at.under("")]),
        // Ceph asks for the right of batch deletion on the bucket.
        allow("OperatorDeletes", &operator, &DELETE, &[at.bucket(), at.under("")]),
        allow(
            "OperatorLedger",
            &operator,
            &[&READ[..], &["s3:PutObject"]].concat(),
            &[at.under("ledger/"), at.under("probe/")],
        ),
    ];
    all.into_iter().chain(more).collect()
}

/// The bucket's settings that the store's policies can name.
fn settings(dialect: &Dialect) -> Vec<&'static str> {
    let more: &[&str] = if dialect.more_settings { &MORE_SETTINGS } else { &[] };
    let newer = NEWER_SETTINGS.into_iter();
    let newer = newer.filter(|word| dialect.newer_settings.contains(*word));
    [&SETTINGS, more].concat().into_iter().chain(newer).collect()
}

fn operator_may_not(at: &Resources<'_>, operator: &Value) -> Vec<Value> {
    vec![deny(
        "OperatorReadsNoRecording",
        operator,
        &[&READ[..], &["s3:PutObject"]].concat(),
        &at.recordings(),
    )]
}

/// Everyone else. The policy itself is left to the store's administrators, who have the bucket's root key in
/// any case: so the glass can be broken, visibly, when the operator's identity is lost. Readers are everyone else in all
/// but reading.
fn others(
    at: &Resources<'_>,
    words: Others,
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
        let elements = words.elements(exempt)?;
        Some(everyone_but(sid, elements, actions, places))
    };
    let everywhere = [at.bucket(), at.under("")];
    let all = if readers.is_empty() {
        let actions = [&READ[..], &changes].concat();
        vec![denied(OTHERS, machines, &actions, &everywhere)]
    } else {
        let exempt = [machines, readers].concat();
        vec![
            denied(OTHERS, machines, &changes, &everywhere),
            denied(OTHERS_READ, &exempt, &READ, &[at.under("")]),
        ]
    };
    all.into_iter().flatten().collect()
}

/// A Deny with these elements, which say about whom it is.
pub(crate) fn everyone_but(
    sid: &str,
    elements: Map<String, Value>,
    actions: &[&str],
    places: &[String],
) -> Value {
    let mut statement = json!({ "Sid": sid, "Effect": "Deny", "Action": actions, "Resource": places });
    elements.into_iter().for_each(|(element, value)| set(&mut statement, &element, value));
    statement
}

/// Whether a statement is one about everyone else.
pub(crate) fn is_others(statement: &Value) -> bool {
    let sid = statement.get("Sid").and_then(Value::as_str);
    sid.is_some_and(|sid| [OTHERS, OTHERS_READ].contains(&sid))
}

fn plain_http(at: &Resources<'_>) -> Value {
    let mut statement = deny("PlainHttp", &everybody(), &["s3:*"], &[at.bucket(), at.under("")]);
    set(&mut statement, "Condition", json!({ "Bool": { "aws:SecureTransport": "false" } }));
    statement
}

/// A bucket and what is in it, as statements name them.
pub(crate) struct Resources<'a> {
    bucket: &'a str,
    partition: &'a str,
}

impl<'a> Resources<'a> {
    /// In the partition that `principal` is of.
    pub(crate) fn of(place: Place<'a>, principal: &'a str) -> Self {
        Self { bucket: place.bucket, partition: partition::of(principal, place.region) }
    }

    pub(crate) fn bucket(&self) -> String {
        format!("arn:{}:s3:::{}", self.partition, self.bucket)
    }

    /// One key, or a pattern of keys.
    pub(crate) fn key(&self, key: &str) -> String {
        format!("{}/{key}", self.bucket())
    }

    fn under(&self, prefix: &str) -> String {
        self.key(&format!("{prefix}*"))
    }

    /// Recordings, and the canaries that stand for them.
    fn recordings(&self) -> Vec<String> {
        vec![self.under("video/"), self.under("calls/"), self.under(CANARIES)]
    }
}

/// Everybody, with credentials or without.
pub(crate) fn everybody() -> Value {
    json!({ "AWS": ["*"] })
}

pub(crate) fn by(principal: &str) -> Value {
    json!({ "AWS": [principal] })
}

pub(crate) fn allow(sid: &str, principal: &Value, actions: &[&str], resources: &[String]) -> Value {
    json!({ "Sid": sid, "Effect": "Allow", "Principal": principal, "Action": actions, "Resource": resources })
}

pub(crate) fn deny(sid: &str, principal: &Value, actions: &[&str], resources: &[String]) -> Value {
    json!({ "Sid": sid, "Effect": "Deny", "Principal": principal, "Action": actions, "Resource": resources })
}

pub(crate) fn set(statement: &mut Value, element: &str, value: Value) {
    if let Value::Object(elements) = statement {
        elements.insert(element.to_owned(), value);
    }
}

#[cfg(test)]
#[path = "statements_tests.rs"]
mod tests;
