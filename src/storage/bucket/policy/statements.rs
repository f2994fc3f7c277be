//! The bucket policy of a site: who may what, and explicit Denies for the rest (design: identities). There
//! is no Allow to everyone, and every right that somebody may have by another way is denied by name.

mod people;
mod recorder;

use serde_json::{Map, Value, json};

pub(crate) use self::people::held_tag_condition;

use super::dialect::{Dialect, EveryoneExcept};
use crate::storage::bucket::policy::actions::ACLS;
use crate::storage::bucket::policy::actions::BucketRef;
use crate::storage::bucket::policy::actions::DELETE;
use crate::storage::bucket::policy::actions::LIST;
use crate::storage::bucket::policy::actions::LOCK;
use crate::storage::bucket::policy::actions::MORE_SETTINGS;
use crate::storage::bucket::policy::actions::NEWER_SETTINGS;
use crate::storage::bucket::policy::actions::POLICY;
use crate::storage::bucket::policy::actions::READ;
use crate::storage::bucket::policy::actions::READ_LOCK;
use crate::storage::bucket::policy::actions::READ_MORE_SETTINGS;
use crate::storage::bucket::policy::actions::READ_SETTINGS;
use crate::storage::bucket::policy::actions::READ_TAGS;
use crate::storage::bucket::policy::actions::RETAG;
use crate::storage::bucket::policy::actions::ResourceArns;
use crate::storage::bucket::policy::actions::SETTINGS;
use crate::storage::bucket::policy::actions::any_principal;
use crate::storage::bucket::policy::actions::aws_principal;
use crate::storage::bucket::policy::actions::set_element;
use crate::storage::bucket::policy::actions::{allow, deny};
use crate::storage::bucket::spec::BucketSpec;

/// Names of the statements about everyone else: what nobody else may do, and what only readers may beside.
const OTHERS_SID: &str = "Others";
const OTHERS_READ_SID: &str = "OthersRead";

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

#[cfg(test)]
mod tests;
