//! The bucket policy of a Site: the rights of each identity, and explicit Denies for the rest. No Allow is for everyone. Rights that
//! an identity may have from elsewhere are denied by name.

use serde_json::{Map, Value, json};

use super::dialect::{Dialect, EveryoneExcept};
use crate::rules::{Class, RetentionTag, TAG_KEY};
use crate::storage::bucket::policy::actions::{
    ACLS, BucketRef, CANARY_PREFIX, DELETE, LIST, LOCK, MORE_SETTINGS, NEWER_SETTINGS, POLICY, READ,
    READ_LOCK, READ_MORE_SETTINGS, READ_SETTINGS, READ_TAGS, RETAG, ResourceArns, SETTINGS, allow,
    any_principal, aws_principal, deny, set_element, with_condition,
};
use crate::storage::bucket::spec::BucketSpec;
use crate::storage::s3::objects::MANIFEST_PREFIX;

/// Sids of the statements about everyone else: the Deny without readers, and the one that exempts them.
const OTHERS_SID: &str = "Others";
const OTHERS_READ_SID: &str = "OthersRead";

/// Returns the statements for a bucket in this dialect; none if policies have no effect.
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
    all.extend(recorder_allows(&at, &recorders, dialect));
    all.push(operator_deny(&at, &operator));
    all.extend(recorder_denies(&at, &recorders, dialect, &settings));
    if let Some(auditor) = &spec.auditor {
        all.extend(auditor_statements(&at, &aws_principal(auditor), &settings));
    }
    let mut machines = vec![spec.operator_principal.as_str(), spec.recorder_principal.as_str()];
    machines.extend(spec.auditor.as_deref());
    let readers: Vec<&str> = spec.readers.iter().map(String::as_str).collect();
    if !readers.is_empty() {
        let named = json!({ "AWS": readers });
        all.extend(reader_statements(&at, &named));
        // Each name costs bytes in each statement, so the Deny for everyone else includes readers where there is one.
        if dialect.others == EveryoneExcept::Unsaid {
            all.extend(reader_denies(&at, &named, &settings));
        }
    }
    all.extend(everyone_else_denies(&at, dialect.others, &machines, &readers, &settings));
    if tls && dialect.deny_plain_http {
        all.push(plain_http_deny(&at));
    }
    all
}

/// Returns the rights that the operator needs at first. On a store where an identity has no rights of its own, the bucket's creator
/// puts this policy. `more_settings`: the store's policies know the rights to these.
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
        // Ceph checks the right to a batch deletion on the bucket.
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

/// Returns the actions on settings that the store's policies know.
fn deniable_settings(dialect: &Dialect) -> Vec<&'static str> {
    let more: &[&str] = if dialect.more_settings { &MORE_SETTINGS } else { &[] };
    let newer = NEWER_SETTINGS.into_iter();
    let newer = newer.filter(|word| dialect.newer_settings.contains(*word));
    [&SETTINGS, more].concat().into_iter().chain(newer).collect()
}

fn operator_deny(at: &ResourceArns<'_>, operator: &Value) -> Value {
    let actions = [&READ[..], &["s3:PutObject"]].concat();
    deny("OperatorReadsNoRecording", operator, &actions, &at.recording_patterns())
}

fn recorder_allows(at: &ResourceArns<'_>, recorder: &Value, dialect: &Dialect) -> Vec<Value> {
    // A store that checks the right to tag in a put needs it here.
    let put: &[&str] =
        if dialect.deny_tagging { &["s3:PutObject"] } else { &["s3:PutObject", "s3:PutObjectTagging"] };
    let allowed = |sid: &str, class: Class, places: &[String]| {
        let statement = allow(sid, recorder, put, places);
        let has_tag = json!({ "StringEquals": { request_tag_key(): allowed_tags(class) } });
        if dialect.request_tag { with_condition(statement, has_tag) } else { statement }
    };
    vec![
        allowed("RecorderVideo", Class::Video, &video_patterns(at)),
        allowed("RecorderCalls", Class::Calls, &[at.prefix_pattern(Class::Calls.prefix())]),
    ]
}

fn recorder_denies(
    at: &ResourceArns<'_>,
    recorder: &Value,
    dialect: &Dialect,
    settings: &[&str],
) -> Vec<Value> {
    let tagging: &[&str] = if dialect.deny_tagging { &["s3:PutObjectTagging"] } else { &[] };
    let objects = [&READ[..], &DELETE, &LOCK, &READ_LOCK, &RETAG, &READ_TAGS, &ACLS, tagging].concat();
    // Readers may read objects tagged `held`, so a recorder must not write that tag anywhere.
    let held = json!({ "StringEquals": { request_tag_key(): RetentionTag::Held.as_str() } });
    let held = deny_put_if("RecorderHolds", recorder, &[at.prefix_pattern("")], held);
    let mut all = vec![
        deny("RecorderObjects", recorder, &objects, &[at.bucket(), at.prefix_pattern("")]),
        deny("RecorderBucket", recorder, &[&LIST[..], settings, &POLICY].concat(), &[at.bucket()]),
        deny("RecorderLedger", recorder, &["s3:PutObject"], &[at.prefix_pattern("ledger/")]),
        held,
    ];
    if dialect.request_tag {
        all.extend(tag_denies(at, recorder));
    }
    if !dialect.deny_tagging {
        // The put itself needs this right there (AWS). A new object has no tag yet, so a Deny with this condition
        // spares it.
        let retag = deny("RecorderRetags", recorder, &["s3:PutObjectTagging"], &[at.prefix_pattern("")]);
        let tag = format!("s3:ExistingObjectTag/{TAG_KEY}");
        all.push(with_condition(retag, json!({ "Null": { tag: "false" } })));
    }
    all
}

/// Returns Denies of puts without the one tag, even if a recorder has rights from elsewhere. On Ceph, "not equal" does not apply to a
/// put without a tag, and applies to two values if one differs. So a put without a tag has a statement of its own, and each value a
/// condition operator of its own.
fn tag_denies(at: &ResourceArns<'_>, recorder: &Value) -> Vec<Value> {
    let no_other = |sid: &str, class: Class, places: &[String]| {
        let [sealed, unheld] = allowed_tags(class);
        let neither = json!({
            "StringNotEquals": { request_tag_key(): sealed },
            "StringNotLike": { request_tag_key(): unheld },
        });
        deny_put_if(sid, recorder, places, neither)
    };
    let none = json!({ "Null": { request_tag_key(): "true" } });
    vec![
        no_other("RecorderVideoTags", Class::Video, &video_patterns(at)),
        no_other("RecorderCallsTags", Class::Calls, &[at.prefix_pattern(Class::Calls.prefix())]),
        deny_put_if("RecorderUntagged", recorder, &at.recording_patterns(), none),
    ]
}

/// Returns a Deny of puts that meet a condition.
fn deny_put_if(sid: &str, recorder: &Value, places: &[String], condition: Value) -> Value {
    with_condition(deny(sid, recorder, &["s3:PutObject"], places), condition)
}

/// Returns the patterns of videos, and of the canaries that represent them.
fn video_patterns(at: &ResourceArns<'_>) -> [String; 2] {
    [at.prefix_pattern(Class::Video.prefix()), at.prefix_pattern(CANARY_PREFIX)]
}

/// Returns the tags that a recorder may write on a class.
fn allowed_tags(class: Class) -> [&'static str; 2] {
    [RetentionTag::Sealed, RetentionTag::default_for(class)].map(RetentionTag::as_str)
}

/// Returns the condition key of the tag that a put writes.
pub(crate) fn request_tag_key() -> String {
    format!("s3:RequestObjectTag/{TAG_KEY}")
}

/// Returns the rights that an audit needs, and Denies of recordings and of every change (article 3).
fn auditor_statements(at: &ResourceArns<'_>, auditor: &Value, settings: &[&str]) -> Vec<Value> {
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
        allow("AuditorLists", auditor, &[&LIST[..], &READ_SETTINGS, &[read_policy]].concat(), &[at.bucket()]),
        allow("AuditorMarks", auditor, &[&READ_TAGS[..], &READ_LOCK].concat(), &[at.prefix_pattern("")]),
        allow("AuditorLedger", auditor, &READ, &[at.prefix_pattern("ledger/")]),
        deny("AuditorReadsNoRecording", auditor, &READ, &at.recording_patterns()),
        deny("AuditorObjects", auditor, &writes, &[at.bucket(), at.prefix_pattern("")]),
        deny("AuditorBucket", auditor, &[settings, &change_policy].concat(), &[at.bucket()]),
    ]
}

/// Returns the rights of readers: held recordings, and the manifests. A Deny for everybody covers other recordings, even with rights
/// from elsewhere.
fn reader_statements(at: &ResourceArns<'_>, readers: &Value) -> Vec<Value> {
    let held = allow("ReadersHeld", readers, &READ, &at.recording_patterns());
    let not_held = deny("NotHeld", &any_principal(), &READ, &at.recording_patterns());
    vec![
        with_condition(held, held_tag_condition("StringEquals")),
        with_condition(not_held, held_tag_condition("StringNotEquals")),
        allow("ReadersManifests", readers, &READ, &[at.prefix_pattern(MANIFEST_PREFIX)]),
    ]
}

/// Returns the condition that compares the object's tag with `held` by this operator.
pub(crate) fn held_tag_condition(operator: &str) -> Value {
    json!({ operator: { format!("s3:ExistingObjectTag/{TAG_KEY}"): RetentionTag::Held.as_str() } })
}

/// Returns Denies of everything else to readers by name, for a dialect without "everyone but".
fn reader_denies(at: &ResourceArns<'_>, readers: &Value, settings: &[&str]) -> Vec<Value> {
    let writes =
        [&DELETE[..], &LOCK, &READ_LOCK, &RETAG, &ACLS, &["s3:PutObject", "s3:PutObjectTagging"]].concat();
    vec![
        deny("ReadersObjects", readers, &writes, &[at.bucket(), at.prefix_pattern("")]),
        deny("ReadersBucket", readers, &[&LIST[..], settings, &POLICY].concat(), &[at.bucket()]),
    ]
}

/// Returns the Denies for everyone else. Readers count as everyone else, except for reading.
///
/// No Deny concerns the policy itself: the store's administrators have the root key anyway, and can so recover the bucket, visibly,
/// if the operator's identity is lost.
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

/// Returns a Deny with these elements for its principals.
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

/// Returns whether a statement is about everyone else.
pub(crate) fn is_everyone_else_statement(statement: &Value) -> bool {
    let sid = statement.get("Sid").and_then(Value::as_str);
    sid.is_some_and(|sid| [OTHERS_SID, OTHERS_READ_SID].contains(&sid))
}

fn plain_http_deny(at: &ResourceArns<'_>) -> Value {
    let all = deny("PlainHttp", &any_principal(), &["s3:*"], &[at.bucket(), at.prefix_pattern("")]);
    with_condition(all, plain_http_condition())
}

/// Returns the condition that the request came without TLS.
pub(crate) fn plain_http_condition() -> Value {
    json!({ "Bool": { "aws:SecureTransport": "false" } })
}

#[cfg(test)]
mod tests;
