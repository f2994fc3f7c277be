//! The bucket policy of a site: who may what, and explicit Denies for the rest (design: identities). There
//! is no Allow to everyone, and every right that somebody may have by another way is denied by name.

mod people;
mod recorder;

use serde_json::{Map, Value, json};

use super::bucket::BucketSpec;
use super::dialect::Dialect;

/// Where the recorders' canaries are: under the same statements as recordings, so that what is tried there
/// is true for recordings, and yet no key of a recording.
pub(crate) const CANARIES: &str = "probe/recorder/";
/// What is kept for each hold, for those who may read it.
const MANIFESTS: &str = super::hold::manifest::FOLDER;
/// Name of the statement about everyone else.
const OTHERS: &str = "Others";
/// Reading what an object holds.
const READ: [&str; 2] = ["s3:GetObject", "s3:GetObjectVersion"];
const LIST: [&str; 3] = [
    "s3:ListBucket",
    "s3:ListBucketVersions",
    "s3:ListBucketMultipartUploads",
];
const DELETE: [&str; 2] = ["s3:DeleteObject", "s3:DeleteObjectVersion"];
/// What protects an object, and what could undo it.
const LOCK: [&str; 3] = [
    "s3:PutObjectLegalHold",
    "s3:PutObjectRetention",
    "s3:BypassGovernanceRetention",
];
const READ_LOCK: [&str; 2] = ["s3:GetObjectLegalHold", "s3:GetObjectRetention"];
/// Changing tags of what is there already.
const RETAG: [&str; 3] = [
    "s3:PutObjectVersionTagging",
    "s3:DeleteObjectTagging",
    "s3:DeleteObjectVersionTagging",
];
const READ_TAGS: [&str; 2] = ["s3:GetObjectTagging", "s3:GetObjectVersionTagging"];
const ACLS: [&str; 4] = [
    "s3:GetObjectAcl",
    "s3:GetObjectVersionAcl",
    "s3:PutObjectAcl",
    "s3:PutObjectVersionAcl",
];
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
const POLICY: [&str; 3] = [
    "s3:GetBucketPolicy",
    "s3:PutBucketPolicy",
    "s3:DeleteBucketPolicy",
];
/// More of its settings, in words that not every store's policies know.
pub(crate) const MORE_SETTINGS: [&str; 3] = [
    "s3:PutBucketOwnershipControls",
    "s3:PutEncryptionConfiguration",
    "s3:PutInventoryConfiguration",
];
const READ_MORE_SETTINGS: [&str; 3] = [
    "s3:GetBucketOwnershipControls",
    "s3:GetEncryptionConfiguration",
    "s3:GetInventoryConfiguration",
];
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

/// The statements for `bucket`, in the words that its store understands.
pub fn policy(bucket: &str, spec: &BucketSpec, dialect: &Dialect, tls: bool) -> Vec<Value> {
    let at = Resources { bucket };
    let operator = by(&spec.operator_principal);
    let recorders = by(&spec.recorder_principal);
    let mut all = bootstrap(bucket, &spec.operator_principal, dialect.more_settings);
    let settings = settings(dialect);
    all.extend(recorder::may(&at, &recorders, dialect));
    all.extend(operator_may_not(&at, &operator));
    all.extend(recorder::may_not(&at, &recorders, dialect, &settings));
    if let Some(auditor) = &spec.auditor {
        all.extend(people::auditors(&at, &by(auditor), &settings));
    }
    if !spec.readers.is_empty() {
        all.extend(people::readers(&at, &json!({ "AWS": spec.readers }), &settings));
    }
    let mut exempt = vec![spec.operator_principal.as_str(), spec.recorder_principal.as_str()];
    exempt.extend(spec.auditor.as_deref());
    exempt.extend(spec.readers.iter().map(String::as_str));
    if let Some(elements) = dialect.others.elements(&exempt) {
        all.push(others(&at, elements, &settings));
    }
    if tls && dialect.deny_plain_http {
        all.push(plain_http(&at));
    }
    all
}

/// What the operator needs to begin with: on a store where an identity has no rights of its own, whoever
/// makes the bucket puts this policy there. `more_settings`: the store's policies know the rights to these.
pub fn bootstrap(bucket: &str, operator_principal: &str, more_settings: bool) -> Vec<Value> {
    let at = Resources { bucket };
    let operator = by(operator_principal);
    let settings = [&POLICY[..], &READ_SETTINGS, &SETTINGS, &LIST].concat();
    let objects = [
        &LOCK[..],
        &READ_LOCK,
        &RETAG,
        &READ_TAGS,
        &["s3:PutObjectTagging", "s3:AbortMultipartUpload"],
    ]
    .concat();
    let more = more_settings.then(|| {
        let settings = [READ_MORE_SETTINGS, MORE_SETTINGS].concat();
        allow("OperatorMoreSettings", &operator, &settings, &[at.bucket()])
    });
    let all = [
        allow("OperatorSettings", &operator, &settings, &[at.bucket()]),
        allow("OperatorVersions", &operator, &objects, &[at.under("")]),
        // Ceph asks for the right of batch deletion on the bucket.
        allow(
            "OperatorDeletes",
            &operator,
            &DELETE,
            &[at.bucket(), at.under("")],
        ),
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
    let more: &[&str] = if dialect.more_settings {
        &MORE_SETTINGS
    } else {
        &[]
    };
    [&SETTINGS, more].concat()
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
/// any case: so the glass can be broken, visibly, when the operator's identity is lost.
fn others(at: &Resources<'_>, elements: Map<String, Value>, settings: &[&str]) -> Value {
    let objects = [&READ[..], &DELETE, &LOCK, &READ_LOCK, &RETAG, &READ_TAGS, &ACLS].concat();
    let actions = [
        &objects[..],
        &["s3:PutObject", "s3:PutObjectTagging", "s3:AbortMultipartUpload"],
        &LIST,
        settings,
    ]
    .concat();
    let mut statement = json!({
        "Sid": OTHERS, "Effect": "Deny", "Action": actions, "Resource": [at.bucket(), at.under("")],
    });
    elements
        .into_iter()
        .for_each(|(element, value)| set(&mut statement, &element, value));
    statement
}

/// Whether a statement is the one about everyone else.
pub(crate) fn is_others(statement: &Value) -> bool {
    statement.get("Sid").and_then(Value::as_str) == Some(OTHERS)
}

fn plain_http(at: &Resources<'_>) -> Value {
    let mut statement = deny(
        "PlainHttp",
        &json!({ "AWS": ["*"] }),
        &["s3:*"],
        &[at.bucket(), at.under("")],
    );
    set(
        &mut statement,
        "Condition",
        json!({ "Bool": { "aws:SecureTransport": "false" } }),
    );
    statement
}

struct Resources<'a> {
    bucket: &'a str,
}

impl Resources<'_> {
    fn bucket(&self) -> String {
        format!("arn:aws:s3:::{}", self.bucket)
    }

    fn under(&self, prefix: &str) -> String {
        format!("arn:aws:s3:::{}/{prefix}*", self.bucket)
    }

    /// Recordings, and the canaries that stand for them.
    fn recordings(&self) -> Vec<String> {
        vec![self.under("video/"), self.under("calls/"), self.under(CANARIES)]
    }
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
