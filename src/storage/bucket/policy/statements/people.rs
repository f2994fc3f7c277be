//! What people may: managers and incident officers look at what is held, an auditor at everything but recordings.

use serde_json::{Value, json};

use crate::rules::recording::tag::{RetentionTag, TAG_KEY};
use crate::storage::bucket::policy::actions::{
    ACLS, DELETE, LIST, LOCK, POLICY, READ, READ_LOCK, READ_SETTINGS, READ_TAGS, RETAG, ResourceArns, allow,
    any_principal, deny, set_element,
};
use crate::storage::s3::objects::MANIFEST_PREFIX;

/// All that an audit reads, and nothing of what was recorded (article 3).
pub(crate) fn auditor_statements(at: &ResourceArns<'_>, auditor: &Value, settings: &[&str]) -> Vec<Value> {
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

/// What readers may: recordings that an incident holds, and the manifests. Nobody at all may read another recording,
/// whatever rights it has from elsewhere.
pub(crate) fn reader_statements(at: &ResourceArns<'_>, readers: &Value) -> Vec<Value> {
    let mut may = allow("ReadersHeld", readers, &READ, &at.recording_patterns());
    set_element(&mut may, "Condition", held_tag_condition("StringEquals"));
    let mut not_held = deny("NotHeld", &any_principal(), &READ, &at.recording_patterns());
    set_element(&mut not_held, "Condition", held_tag_condition("StringNotEquals"));
    vec![may, not_held, allow("ReadersManifests", readers, &READ, &[at.prefix_pattern(MANIFEST_PREFIX)])]
}

/// The condition that the object's tag compares so with `held`.
pub(crate) fn held_tag_condition(operator: &str) -> Value {
    json!({ operator: { format!("s3:ExistingObjectTag/{TAG_KEY}"): RetentionTag::Held.as_str() } })
}

/// Where a policy cannot say "everyone but", all else is denied to readers by name.
pub(crate) fn reader_denies(at: &ResourceArns<'_>, readers: &Value, settings: &[&str]) -> Vec<Value> {
    let writes =
        [&DELETE[..], &LOCK, &READ_LOCK, &RETAG, &ACLS, &["s3:PutObject", "s3:PutObjectTagging"]].concat();
    vec![
        deny("ReadersObjects", readers, &writes, &[at.bucket(), at.prefix_pattern("")]),
        deny("ReadersBucket", readers, &[&LIST[..], settings, &POLICY].concat(), &[at.bucket()]),
    ]
}
