//! What people may: managers and incident officers look at what is held, an auditor at everything but recordings.

use serde_json::{Value, json};

use super::{
    ACLS, DELETE, LIST, LOCK, POLICY, READ, READ_LOCK, READ_SETTINGS, READ_TAGS, RETAG, Resources, allow,
    deny, everybody, set,
};
use crate::storage::objects::MANIFESTS;
use crate::storage::tag::{RetentionTag, TAG_KEY};

/// All that an audit reads, and nothing of what was recorded (article 3).
pub(super) fn auditors(at: &Resources<'_>, auditor: &Value, settings: &[&str]) -> Vec<Value> {
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
        allow("AuditorMarks", auditor, &[&READ_TAGS[..], &READ_LOCK].concat(), &[at.under("")]),
        allow("AuditorLedger", auditor, &READ, &[at.under("ledger/")]),
        deny("AuditorReadsNoRecording", auditor, &READ, &at.recordings()),
        deny("AuditorObjects", auditor, &writes, &[at.bucket(), at.under("")]),
        deny("AuditorBucket", auditor, &[settings, &change_policy].concat(), &[at.bucket()]),
    ]
}

/// What readers may: recordings that an incident holds, and the manifests. Nobody at all may read another recording,
/// whatever rights it has from elsewhere.
pub(super) fn readers(at: &Resources<'_>, readers: &Value) -> Vec<Value> {
    let mut may = allow("ReadersHeld", readers, &READ, &at.recordings());
    set(&mut may, "Condition", if_tagged("StringEquals"));
    let mut not_held = deny("NotHeld", &everybody(), &READ, &at.recordings());
    set(&mut not_held, "Condition", if_tagged("StringNotEquals"));
    vec![may, not_held, allow("ReadersManifests", readers, &READ, &[at.under(MANIFESTS)])]
}

/// The condition that the object's tag compares so with `held`.
pub(crate) fn if_tagged(operator: &str) -> Value {
    json!({ operator: { format!("s3:ExistingObjectTag/{TAG_KEY}"): RetentionTag::Held.as_str() } })
}

/// Where a policy cannot say "everyone but", all else is denied to readers by name.
pub(super) fn readers_may_not(at: &Resources<'_>, readers: &Value, settings: &[&str]) -> Vec<Value> {
    let writes =
        [&DELETE[..], &LOCK, &READ_LOCK, &RETAG, &ACLS, &["s3:PutObject", "s3:PutObjectTagging"]].concat();
    vec![
        deny("ReadersObjects", readers, &writes, &[at.bucket(), at.under("")]),
        deny("ReadersBucket", readers, &[&LIST[..], settings, &POLICY].concat(), &[at.bucket()]),
    ]
}
