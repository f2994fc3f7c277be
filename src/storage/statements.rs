//! The bucket policy of a site: who may what, and explicit Denies for the rest (design: identities). There
//! is no Allow to everyone, and every right that somebody may have by another way is denied by name.

use serde_json::{Map, Value, json};

use super::bucket::BucketSpec;
use super::dialect::Dialect;
use super::key::Class;
use super::tag::{RetentionTag, TAG_KEY};

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
    let recorder = by(&spec.recorder_principal);
    let mut all = bootstrap(bucket, &spec.operator_principal, dialect.more_settings);
    let settings = settings(dialect);
    all.extend(recorder_may(&at, &recorder, dialect));
    all.extend(operator_may_not(&at, &operator));
    all.extend(recorder_may_not(&at, &recorder, dialect, &settings));
    if let Some(auditor) = &spec.auditor {
        all.extend(auditors(&at, &by(auditor), &settings));
    }
    if !spec.readers.is_empty() {
        all.extend(readers(&at, &json!({ "AWS": spec.readers }), &settings));
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

fn recorder_may(at: &Resources<'_>, recorder: &Value, dialect: &Dialect) -> Vec<Value> {
    // Where tagging needs a right of its own, a put with a tag needs it too.
    let put: &[&str] = if dialect.deny_tagging {
        &["s3:PutObject"]
    } else {
        &["s3:PutObject", "s3:PutObjectTagging"]
    };
    let may = |sid: &str, class: Class, places: &[String]| {
        let mut statement = allow(sid, recorder, put, places);
        if dialect.request_tag {
            set(
                &mut statement,
                "Condition",
                json!({ "StringEquals": { request_tag(): tags(class) } }),
            );
        }
        statement
    };
    vec![
        may(
            "RecorderVideo",
            Class::Video,
            &[at.under(Class::Video.prefix()), at.under(CANARIES)],
        ),
        may("RecorderCalls", Class::Calls, &[at.under(Class::Calls.prefix())]),
    ]
}

fn operator_may_not(at: &Resources<'_>, operator: &Value) -> Vec<Value> {
    vec![deny(
        "OperatorReadsNoRecording",
        operator,
        &[&READ[..], &["s3:PutObject"]].concat(),
        &at.recordings(),
    )]
}

fn recorder_may_not(
    at: &Resources<'_>,
    recorder: &Value,
    dialect: &Dialect,
    settings: &[&str],
) -> Vec<Value> {
    let tagging: &[&str] = if dialect.deny_tagging {
        &["s3:PutObjectTagging"]
    } else {
        &[]
    };
    let objects = [
        &READ[..],
        &DELETE,
        &LOCK,
        &READ_LOCK,
        &RETAG,
        &READ_TAGS,
        &ACLS,
        tagging,
    ]
    .concat();
    let mut held = deny("RecorderHolds", recorder, &["s3:PutObject"], &[at.under("")]);
    set(
        &mut held,
        "Condition",
        json!({ "StringEquals": { request_tag(): RetentionTag::Held.as_str() } }),
    );
    // Whatever rights it has from elsewhere, it puts nothing without its one tag. Stores differ in what "not equal" says
    // of a put without any.
    let other_tag = |sid: &str, class: Class, places: &[String]| {
        let mut statement = deny(sid, recorder, &["s3:PutObject"], places);
        set(
            &mut statement,
            "Condition",
            json!({ "StringNotEquals": { request_tag(): tags(class) } }),
        );
        statement
    };
    let mut untagged = deny("RecorderUntagged", recorder, &["s3:PutObject"], &at.recordings());
    set(
        &mut untagged,
        "Condition",
        json!({ "Null": { request_tag(): "true" } }),
    );
    let tagged = [
        other_tag(
            "RecorderVideoTags",
            Class::Video,
            &[at.under(Class::Video.prefix()), at.under(CANARIES)],
        ),
        other_tag(
            "RecorderCallsTags",
            Class::Calls,
            &[at.under(Class::Calls.prefix())],
        ),
        untagged,
    ];
    let mut all = vec![
        deny(
            "RecorderObjects",
            recorder,
            &objects,
            &[at.bucket(), at.under("")],
        ),
        deny(
            "RecorderBucket",
            recorder,
            &[&LIST[..], settings, &POLICY].concat(),
            &[at.bucket()],
        ),
        deny(
            "RecorderLedger",
            recorder,
            &["s3:PutObject"],
            &[at.under("ledger/")],
        ),
        held,
    ];
    if dialect.request_tag {
        all.extend(tagged);
    }
    if !dialect.deny_tagging {
        let mut retag = deny(
            "RecorderRetags",
            recorder,
            &["s3:PutObjectTagging"],
            &[at.under("")],
        );
        let tagged = format!("s3:ExistingObjectTag/{TAG_KEY}");
        set(&mut retag, "Condition", json!({ "Null": { tagged: "false" } }));
        all.push(retag);
    }
    all
}

/// All that an audit reads, and nothing of what was recorded (article 3).
fn auditors(at: &Resources<'_>, auditor: &Value, settings: &[&str]) -> Vec<Value> {
    let [read_policy, change_policy @ ..] = POLICY;
    let writes = [
        &DELETE[..],
        &LOCK,
        &RETAG,
        &ACLS,
        &["s3:PutObject", "s3:PutObjectTagging", "s3:AbortMultipartUpload"],
    ]
    .concat();
    vec![
        allow(
            "AuditorLists",
            auditor,
            &[&LIST[..], &READ_SETTINGS, &[read_policy]].concat(),
            &[at.bucket()],
        ),
        allow(
            "AuditorMarks",
            auditor,
            &[&READ_TAGS[..], &READ_LOCK].concat(),
            &[at.under("")],
        ),
        allow("AuditorLedger", auditor, &READ, &[at.under("ledger/")]),
        deny("AuditorReadsNoRecording", auditor, &READ, &at.recordings()),
        deny("AuditorObjects", auditor, &writes, &[at.bucket(), at.under("")]),
        deny(
            "AuditorBucket",
            auditor,
            &[settings, &change_policy].concat(),
            &[at.bucket()],
        ),
    ]
}

fn readers(at: &Resources<'_>, readers: &Value, settings: &[&str]) -> Vec<Value> {
    let when = |operator: &str| json!({ operator: { format!("s3:ExistingObjectTag/{TAG_KEY}"): "held" } });
    let mut may = allow("ReadersHeld", readers, &READ, &at.recordings());
    set(&mut may, "Condition", when("StringEquals"));
    let mut not_held = deny("ReadersNotHeld", readers, &READ, &at.recordings());
    set(&mut not_held, "Condition", when("StringNotEquals"));
    let writes = [
        &DELETE[..],
        &LOCK,
        &READ_LOCK,
        &RETAG,
        &ACLS,
        &["s3:PutObject", "s3:PutObjectTagging"],
    ]
    .concat();
    let manifests = [at.under(MANIFESTS)];
    vec![
        may,
        not_held,
        allow("ReadersManifests", readers, &READ, &manifests),
        deny("ReadersObjects", readers, &writes, &[at.bucket(), at.under("")]),
        deny(
            "ReadersBucket",
            readers,
            &[&LIST[..], settings, &POLICY].concat(),
            &[at.bucket()],
        ),
    ]
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

/// What a recorder may write of a class.
fn tags(class: Class) -> [&'static str; 2] {
    [RetentionTag::Sealed, RetentionTag::unheld(class)].map(RetentionTag::as_str)
}

fn request_tag() -> String {
    format!("s3:RequestObjectTag/{TAG_KEY}")
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
