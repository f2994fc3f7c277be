use super::*;
use crate::storage::bucket::error::EnforceError;
use crate::storage::bucket::policy::actions::{BucketRef, NEWER_SETTINGS, READ, any_principal};
use crate::storage::bucket::policy::document::{MAX_POLICY_BYTES, RESERVED_POLICY_BYTES, document_bytes};
use crate::storage::bucket::policy::size::check_policy_size;

const BUCKET: &str = "gemeente-heusden-cameratoezicht-zwembad-sporthal-die-heijgrave";

fn bucket_ref() -> BucketRef<'static> {
    BucketRef { name: BUCKET, region: "eu-central-1" }
}

/// A name of so many characters, as AWS's single sign-on makes them.
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
    // Of the longest bucket's name, and with an auditor.
    for (readers, length) in [(0, 256), (12, 80), (15, 80), (8, 120), (18, 66)] {
        let spec = spec(readers, length, true);
        let size = policy_bytes(&spec, &aws_dialect());
        assert_eq!(
            check_policy_size(bucket_ref(), &spec, &aws_dialect(), true),
            Ok(()),
            "{readers} of {length}: {size}"
        );
    }
    // Of a usual one, and without: as many as the schema allows of an ordinary length, and most of single sign-on's.
    let usual = BucketRef { name: "heusden-die-heijgrave", ..bucket_ref() };
    for (readers, length) in [(32, 66), (20, 115)] {
        let spec = spec(readers, length, false);
        let size = document_bytes(&policy_statements(usual, &spec, &aws_dialect(), true));
        assert_eq!(
            check_policy_size(usual, &spec, &aws_dialect(), true),
            Ok(()),
            "{readers} of {length}: {size}"
        );
    }
    for (readers, length) in [(32, 115), (32, 256)] {
        let spec = spec(readers, length, true);
        let size = policy_bytes(&spec, &aws_dialect());
        println!(
            "{readers} of {length}: {size}, of a usual bucket {}",
            document_bytes(&policy_statements(usual, &spec, &aws_dialect(), true))
        );
        let Err(EnforceError::PolicyTooLong { people, bytes, limit, fits }) =
            check_policy_size(bucket_ref(), &spec, &aws_dialect(), true)
        else {
            panic!("{readers} of {length} fit, with {size}")
        };
        println!("{fits} fit");
        assert_eq!((people, bytes, limit), (readers, size, MAX_POLICY_BYTES - RESERVED_POLICY_BYTES));
        let mut fewer = spec.clone();
        fewer.readers.truncate(fits);
        assert_eq!(check_policy_size(bucket_ref(), &fewer, &aws_dialect(), true), Ok(()));
        fewer.readers.push(spec.readers[fits].clone());
        assert!(check_policy_size(bucket_ref(), &fewer, &aws_dialect(), true).is_err(), "{fits} is the most");
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

/// What only some stores' words are about is denied to everyone else, recorders and auditors.
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
    assert_eq!(not_held["Principal"], any_principal(), "it names nobody");
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
