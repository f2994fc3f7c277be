use super::*;
use crate::api::Days;

const BUCKET: &str = "gemeente-heusden-cameratoezicht-zwembad-sporthal-die-heijgrave";

fn place() -> Place<'static> {
    Place { bucket: BUCKET, region: "eu-central-1" }
}

/// A name of so many characters, as AWS's single sign-on makes them.
fn role(whose: &str, number: usize, length: usize) -> String {
    let begin = format!("arn:aws:iam::123456789012:role/aws-reserved/sso.amazonaws.com/{whose}{number}_");
    let fill = "x".repeat(length.saturating_sub(begin.len()));
    format!("{begin}{fill}")
}

fn spec(readers: usize, length: usize, auditor: bool) -> BucketSpec {
    BucketSpec {
        video_ceiling: Days(28),
        calls_ceiling: Days(7),
        operator_principal: role("o", 0, 80),
        recorder_principal: role("r", 0, 80),
        auditor: auditor.then(|| role("a", 0, 80)),
        readers: (0..readers).map(|number| role("m", number, length)).collect(),
        take_over: false,
        operator_only: false,
        allow_unprotected: false,
    }
}

/// All words that AWS knows.
fn aws() -> Dialect {
    Dialect {
        others: Others::PrincipalArn,
        request_tag: true,
        deny_plain_http: true,
        more_settings: true,
        newer_settings: NEWER_SETTINGS.map(str::to_owned).into(),
        ..Dialect::of("o", "r")
    }
}

fn bytes(spec: &BucketSpec, dialect: &Dialect) -> usize {
    size(&policy(place(), spec, dialect, true))
}

#[test]
fn each_reader_is_named_once_a_class_of_statement() {
    let (with, without) = (spec(2, 115, true), spec(1, 115, true));
    let extra = bytes(&with, &aws()) - bytes(&without, &aws());
    assert_eq!(extra, 3 * (115 + 3), "an Allow, an Allow for manifests, an exemption");
}

#[test]
fn a_policy_of_many_readers_fits_or_says_how_many_do() {
    // Of the longest bucket's name, and with an auditor.
    for (readers, length) in [(0, 256), (12, 80), (15, 80), (8, 120), (18, 66)] {
        let spec = spec(readers, length, true);
        let size = bytes(&spec, &aws());
        assert_eq!(fitting(place(), &spec, &aws(), true), Ok(()), "{readers} of {length}: {size}");
    }
    // Of a usual one, and without: as many as the schema allows of an ordinary length, and most of single sign-on's.
    let usual = Place { bucket: "heusden-die-heijgrave", ..place() };
    for (readers, length) in [(32, 66), (20, 115)] {
        let spec = spec(readers, length, false);
        let size = size(&policy(usual, &spec, &aws(), true));
        assert_eq!(fitting(usual, &spec, &aws(), true), Ok(()), "{readers} of {length}: {size}");
    }
    for (readers, length) in [(32, 115), (32, 256)] {
        let spec = spec(readers, length, true);
        let size = bytes(&spec, &aws());
        println!(
            "{readers} of {length}: {size}, of a usual bucket {}",
            self::size(&policy(usual, &spec, &aws(), true))
        );
        let Err(EnforceError::PolicyTooLong { people, bytes, limit, fits }) =
            fitting(place(), &spec, &aws(), true)
        else {
            panic!("{readers} of {length} fit, with {size}")
        };
        println!("{fits} fit");
        assert_eq!((people, bytes, limit), (readers, size, LONGEST - ROOM));
        let mut fewer = spec.clone();
        fewer.readers.truncate(fits);
        assert_eq!(fitting(place(), &fewer, &aws(), true), Ok(()));
        fewer.readers.push(spec.readers[fits].clone());
        assert!(fitting(place(), &fewer, &aws(), true).is_err(), "{fits} is the most");
    }
}

#[test]
fn every_arn_is_of_the_principals_partition() {
    for partition in ["aws", "aws-cn", "aws-us-gov", "aws-eusc"] {
        let mut spec = spec(1, 90, true);
        let other = format!("arn:{partition}:iam::");
        for name in [&mut spec.operator_principal, &mut spec.recorder_principal] {
            *name = name.replace("arn:aws:iam::", &other);
        }
        for others in Others::SAYABLE.into_iter().chain([Others::Unsaid]) {
            let dialect = Dialect { others, ..aws() };
            for statement in policy(place(), &spec, &dialect, true) {
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
fn settings_are_denied_where_the_store_knows_the_words() {
    for word in NEWER_SETTINGS {
        let denied = |known: bool| {
            let newer_settings = known.then(|| word.to_owned()).into_iter().collect();
            let dialect = Dialect { newer_settings, ..aws() };
            let all = policy(place(), &spec(1, 60, true), &dialect, true);
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
fn readers_are_everyone_else_in_all_but_reading() {
    let spec = spec(1, 60, false);
    let all = policy(place(), &spec, &aws(), true);
    let of = |sid: &str| all.iter().find(|statement| statement["Sid"] == sid).unwrap();
    let exempt = |sid: &str| of(sid)["Condition"]["StringNotEquals"]["aws:PrincipalArn"].clone();
    let machines = json!([spec.operator_principal, spec.recorder_principal]);
    assert_eq!(exempt(OTHERS), machines);
    assert_eq!(exempt(OTHERS_READ).as_array().unwrap().len(), 3);
    assert_eq!(of(OTHERS_READ)["Action"], json!(READ));
    let not_held = of("NotHeld");
    assert_eq!(not_held["Principal"], everybody(), "it names nobody");
    assert!(all.iter().all(|statement| is_others(statement) == statement["Sid"].as_str().unwrap().starts_with("Others")));

    let unsaid = Dialect { others: Others::Unsaid, ..aws() };
    let all = policy(place(), &spec, &unsaid, true);
    for sid in ["ReadersObjects", "ReadersBucket", "NotHeld"] {
        assert!(all.iter().any(|statement| statement["Sid"] == sid), "{sid}");
    }
    let unheeded = Dialect { heeds_policies: false, ..aws() };
    assert!(policy(place(), &spec, &unheeded, true).is_empty());
}
