//! What recorders may: put recordings, each with its one tag; and explicit Denies for the rest.

use serde_json::{Value, json};

use crate::rules::recording::key::Class;
use crate::rules::recording::tag::{RetentionTag, TAG_KEY};
use crate::storage::bucket::policy::actions::{
    ACLS, CANARY_PREFIX, DELETE, LIST, LOCK, POLICY, READ, READ_LOCK, READ_TAGS, RETAG, ResourceArns, allow,
    deny, set_element,
};
use crate::storage::bucket::policy::dialect::Dialect;

pub(crate) fn recorder_allows(at: &ResourceArns<'_>, recorder: &Value, dialect: &Dialect) -> Vec<Value> {
    // Where tagging needs a right of its own, a put with a tag needs it too.
    let put: &[&str] =
        if dialect.deny_tagging { &["s3:PutObject"] } else { &["s3:PutObject", "s3:PutObjectTagging"] };
    let allowed = |sid: &str, class: Class, places: &[String]| {
        let mut statement = allow(sid, recorder, put, places);
        if dialect.request_tag {
            set_element(
                &mut statement,
                "Condition",
                json!({ "StringEquals": { request_tag_key(): allowed_tags(class) } }),
            );
        }
        statement
    };
    vec![
        allowed("RecorderVideo", Class::Video, &video_patterns(at)),
        allowed("RecorderCalls", Class::Calls, &[at.prefix_pattern(Class::Calls.prefix())]),
    ]
}

pub(crate) fn recorder_denies(
    at: &ResourceArns<'_>,
    recorder: &Value,
    dialect: &Dialect,
    settings: &[&str],
) -> Vec<Value> {
    let tagging: &[&str] = if dialect.deny_tagging { &["s3:PutObjectTagging"] } else { &[] };
    let objects = [&READ[..], &DELETE, &LOCK, &READ_LOCK, &RETAG, &READ_TAGS, &ACLS, tagging].concat();
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
        let mut retag = deny("RecorderRetags", recorder, &["s3:PutObjectTagging"], &[at.prefix_pattern("")]);
        let tagged = format!("s3:ExistingObjectTag/{TAG_KEY}");
        set_element(&mut retag, "Condition", json!({ "Null": { tagged: "false" } }));
        all.push(retag);
    }
    all
}

/// Whatever rights it has from elsewhere, it puts no recording without its one tag. On Ceph "not equal" does not
/// apply to a put without any, and to two values it applies where one differs: so the first has a statement of its own, and
/// each value an operator of its own.
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

/// No put there that is so.
fn deny_put_if(sid: &str, recorder: &Value, places: &[String], condition: Value) -> Value {
    let mut statement = deny(sid, recorder, &["s3:PutObject"], places);
    set_element(&mut statement, "Condition", condition);
    statement
}

/// Where pictures are put, and the canaries that stand for them.
fn video_patterns(at: &ResourceArns<'_>) -> [String; 2] {
    [at.prefix_pattern(Class::Video.prefix()), at.prefix_pattern(CANARY_PREFIX)]
}

/// What a recorder may write of a class.
fn allowed_tags(class: Class) -> [&'static str; 2] {
    [RetentionTag::Sealed, RetentionTag::default_for(class)].map(RetentionTag::as_str)
}

fn request_tag_key() -> String {
    format!("s3:RequestObjectTag/{TAG_KEY}")
}
