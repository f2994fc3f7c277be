//! What recorders may: put recordings, each with its one tag; and explicit Denies for the rest.

use serde_json::{Value, json};

use super::{
    ACLS, CANARIES, DELETE, LIST, LOCK, POLICY, READ, READ_LOCK, READ_TAGS, RETAG, Resources, allow, deny,
    set,
};
use crate::storage::dialect::Dialect;
use crate::storage::key::Class;
use crate::storage::tag::{RetentionTag, TAG_KEY};

pub(super) fn may(at: &Resources<'_>, recorder: &Value, dialect: &Dialect) -> Vec<Value> {
    // Where tagging needs a right of its own, a put with a tag needs it too.
    let put: &[&str] =
        if dialect.deny_tagging { &["s3:PutObject"] } else { &["s3:PutObject", "s3:PutObjectTagging"] };
    let allowed = |sid: &str, class: Class, places: &[String]| {
        let mut statement = allow(sid, recorder, put, places);
        if dialect.request_tag {
            set(&mut statement, "Condition", json!({ "StringEquals": { request_tag(): tags(class) } }));
        }
        statement
    };
    vec![
        allowed("RecorderVideo", Class::Video, &video(at)),
        allowed("RecorderCalls", Class::Calls, &[at.under(Class::Calls.prefix())]),
    ]
}

pub(super) fn may_not(
    at: &Resources<'_>,
    recorder: &Value,
    dialect: &Dialect,
    settings: &[&str],
) -> Vec<Value> {
    let tagging: &[&str] = if dialect.deny_tagging { &["s3:PutObjectTagging"] } else { &[] };
    let objects = [&READ[..], &DELETE, &LOCK, &READ_LOCK, &RETAG, &READ_TAGS, &ACLS, tagging].concat();
    let held = json!({ "StringEquals": { request_tag(): RetentionTag::Held.as_str() } });
    let held = denied("RecorderHolds", recorder, &[at.under("")], held);
    let mut all = vec![
        deny("RecorderObjects", recorder, &objects, &[at.bucket(), at.under("")]),
        deny("RecorderBucket", recorder, &[&LIST[..], settings, &POLICY].concat(), &[at.bucket()]),
        deny("RecorderLedger", recorder, &["s3:PutObject"], &[at.under("ledger/")]),
        held,
    ];
    if dialect.request_tag {
        all.extend(one_tag_only(at, recorder));
    }
    if !dialect.deny_tagging {
        let mut retag = deny("RecorderRetags", recorder, &["s3:PutObjectTagging"], &[at.under("")]);
        let tagged = format!("s3:ExistingObjectTag/{TAG_KEY}");
        set(&mut retag, "Condition", json!({ "Null": { tagged: "false" } }));
        all.push(retag);
    }
    all
}

/// Whatever rights it has from elsewhere, it puts no recording without its one tag. On Ceph "not equal" does not
/// apply to a put without any, and to two values it applies where one differs: so the first has a statement of its own, and
/// each value an operator of its own.
fn one_tag_only(at: &Resources<'_>, recorder: &Value) -> Vec<Value> {
    let no_other = |sid: &str, class: Class, places: &[String]| {
        let [sealed, unheld] = tags(class);
        let neither = json!({
            "StringNotEquals": { request_tag(): sealed },
            "StringNotLike": { request_tag(): unheld },
        });
        denied(sid, recorder, places, neither)
    };
    let none = json!({ "Null": { request_tag(): "true" } });
    vec![
        no_other("RecorderVideoTags", Class::Video, &video(at)),
        no_other("RecorderCallsTags", Class::Calls, &[at.under(Class::Calls.prefix())]),
        denied("RecorderUntagged", recorder, &at.recordings(), none),
    ]
}

/// No put there that is so.
fn denied(sid: &str, recorder: &Value, places: &[String], condition: Value) -> Value {
    let mut statement = deny(sid, recorder, &["s3:PutObject"], places);
    set(&mut statement, "Condition", condition);
    statement
}

/// Where pictures are put, and the canaries that stand for them.
fn video(at: &Resources<'_>) -> [String; 2] {
    [at.under(Class::Video.prefix()), at.under(CANARIES)]
}

/// What a recorder may write of a class.
fn tags(class: Class) -> [&'static str; 2] {
    [RetentionTag::Sealed, RetentionTag::unheld(class)].map(RetentionTag::as_str)
}

fn request_tag() -> String {
    format!("s3:RequestObjectTag/{TAG_KEY}")
}
