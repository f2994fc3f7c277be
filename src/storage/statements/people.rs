//! What people may: managers and incident officers look at what is held, an auditor at everything but recordings.

use serde_json::{Value, json};

use super::{
    ACLS, DELETE, LIST, LOCK, MANIFESTS, POLICY, READ, READ_LOCK, READ_SETTINGS, READ_TAGS, RETAG, Resources,
    allow, deny, set,
};
use crate::storage::tag::TAG_KEY;

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

pub(super) fn readers(at: &Resources<'_>, readers: &Value, settings: &[&str]) -> Vec<Value> {
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
