use super::*;
use crate::storage::bucket::error::EnforceError;
use crate::storage::bucket::policy::document::{MAX_POLICY_BYTES, RESERVED_POLICY_BYTES, document_bytes};
use crate::storage::bucket::proof::people::check_policy_size;

const BUCKET: &str = "gemeente-heusden-cameratoezicht-zwembad-sporthal-die-heijgrave";

fn bucket_ref() -> BucketRef<'static> {
    BucketRef { name: BUCKET, region: "eu-central-1" }
}

/// A name of this length, as AWS's single sign-on makes them.
fn role_arn(whose: &str, number: usize, length: usize) -> String {
    let begin = format!("arn:aws:iam::123456789012:role/aws-reserved/sso.amazonaws.com/{whose}{number}_");
    let fill = "x".repeat(length.saturating_sub(begin.len()));
    format!("{begin}{fill}")
}

fn spec(readers: usize, length: usize, auditor: bool) -> BucketSpec {
    BucketSpec {
        operator_principal: role_arn("o", 0, 80),
        recorder_principal: role_arn("r", 0, 80),
        auditor: auditor.then(|| role_arn("a", 0, 80)),
        readers: (0..readers).map(|number| role_arn("m", number, length)).collect(),
        ..BucketSpec::example()
    }
}

fn aws_dialect() -> Dialect {
    Dialect {
        others: EveryoneExcept::PrincipalArn,
        request_tag: true,
        deny_plain_http: true,
        more_settings: true,
        newer_settings: NEWER_SETTINGS.map(str::to_owned).into(),
        ..Dialect::unproved("o", "r")
    }
}

fn policy_bytes(spec: &BucketSpec, dialect: &Dialect) -> usize {
    document_bytes(&policy_statements(bucket_ref(), spec, dialect, true))
}

#[test]
fn each_reader_is_named_in_three_statements() {
    let (with, without) = (spec(2, 115, true), spec(1, 115, true));
    let extra = policy_bytes(&with, &aws_dialect()) - policy_bytes(&without, &aws_dialect());
    assert_eq!(extra, 3 * (115 + 3), "an Allow, an Allow for manifests, an exemption");
}

#[test]
fn oversized_policy_reports_how_many_readers_fit() {
    let longest = bucket_ref();
    let usual = BucketRef { name: "heusden-die-heijgrave", ..longest };
    let size_of = |place, spec: &BucketSpec| check_policy_size(place, spec, &aws_dialect(), true);
    for (place, auditor, readers, length) in [
        (longest, true, 0, 256),
        (longest, true, 12, 80),
        (longest, true, 15, 80),
        (longest, true, 8, 120),
        (longest, true, 18, 66),
        // The maximum of the schema with names of an ordinary length, and most names of single sign-on.
        (usual, false, 32, 66),
        (usual, false, 20, 115),
    ] {
        let spec = spec(readers, length, auditor);
        let size = document_bytes(&policy_statements(place, &spec, &aws_dialect(), true));
        assert_eq!(size_of(place, &spec), Ok(()), "{readers} of {length}: {size}");
    }
    for (readers, length) in [(32, 115), (32, 256)] {
        let spec = spec(readers, length, true);
        let size = policy_bytes(&spec, &aws_dialect());
        let Err(EnforceError::PolicyTooLong { people, bytes, limit, fits }) = size_of(longest, &spec) else {
            panic!("{readers} of {length} fit, with {size}")
        };
        assert_eq!((people, bytes, limit), (readers, size, MAX_POLICY_BYTES - RESERVED_POLICY_BYTES));
        let mut fewer = spec.clone();
        fewer.readers.truncate(fits);
        assert_eq!(size_of(longest, &fewer), Ok(()));
        fewer.readers.push(spec.readers[fits].clone());
        assert!(size_of(longest, &fewer).is_err(), "{fits} is the maximum");
    }
}

#[test]
fn resource_arns_use_the_partition_of_the_principal() {
    for partition in ["aws", "aws-cn", "aws-us-gov", "aws-eusc"] {
        let mut spec = spec(1, 90, true);
        let other = format!("arn:{partition}:iam::");
        for name in [&mut spec.operator_principal, &mut spec.recorder_principal] {
            *name = name.replace("arn:aws:iam::", &other);
        }
        for others in EveryoneExcept::CANDIDATES.into_iter().chain([EveryoneExcept::Unsaid]) {
            let dialect = Dialect { others, ..aws_dialect() };
            for statement in policy_statements(bucket_ref(), &spec, &dialect, true) {
                for resource in statement["Resource"].as_array().unwrap() {
                    let begin = format!("arn:{partition}:s3:::{BUCKET}");
                    assert!(resource.as_str().unwrap().starts_with(&begin), "{resource}");
                }
            }
        }
    }
}

/// A setting whose action only some stores know is denied to everyone else, recorders and auditors.
#[test]
fn settings_are_denied_where_supported() {
    for word in NEWER_SETTINGS {
        let denied = |known: bool| {
            let newer_settings = known.then(|| word.to_owned()).into_iter().collect();
            let dialect = Dialect { newer_settings, ..aws_dialect() };
            let all = policy_statements(bucket_ref(), &spec(1, 60, true), &dialect, true);
            let names = |statement: &&Value| {
                let actions = statement["Action"].as_array().unwrap();
                actions.iter().any(|action| action == word)
            };
            let sids = all.iter().filter(names).map(|statement| {
                assert_eq!(statement["Effect"], "Deny");
                statement["Sid"].as_str().unwrap().to_owned()
            });
            sids.collect::<Vec<_>>()
        };
        assert_eq!(denied(true), ["RecorderBucket", "AuditorBucket", "Others"], "{word}");
        assert!(denied(false).is_empty(), "{word}");
    }
}

#[test]
fn readers_are_exempt_only_from_the_read_deny() {
    let spec = spec(1, 60, false);
    let all = policy_statements(bucket_ref(), &spec, &aws_dialect(), true);
    let of = |sid: &str| all.iter().find(|statement| statement["Sid"] == sid).unwrap();
    let exempt = |sid: &str| of(sid)["Condition"]["StringNotEquals"]["aws:PrincipalArn"].clone();
    let machines = json!([spec.operator_principal, spec.recorder_principal]);
    assert_eq!(exempt(OTHERS_SID), machines);
    assert_eq!(exempt(OTHERS_READ_SID).as_array().unwrap().len(), 3);
    assert_eq!(of(OTHERS_READ_SID)["Action"], json!(READ));
    let not_held = of("NotHeld");
    assert_eq!(not_held["Principal"], any_principal(), "no reader by name");
    assert!(all.iter().all(|statement| is_everyone_else_statement(statement)
        == statement["Sid"].as_str().unwrap().starts_with("Others")));

    let unsaid = Dialect { others: EveryoneExcept::Unsaid, ..aws_dialect() };
    let all = policy_statements(bucket_ref(), &spec, &unsaid, true);
    for sid in ["ReadersObjects", "ReadersBucket", "NotHeld"] {
        assert!(all.iter().any(|statement| statement["Sid"] == sid), "{sid}");
    }
    let unheeded = Dialect { heeds_policies: false, ..aws_dialect() };
    assert!(policy_statements(bucket_ref(), &spec, &unheeded, true).is_empty());
}
