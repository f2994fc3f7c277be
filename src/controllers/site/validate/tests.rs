use super::*;
use crate::api::{Auditor, Days, LocalRef, SiteStatus};
use crate::controllers::kubernetes::secret_ref::ReferencedSecret;
use crate::controllers::site::fixtures::{Fixture, OPERATOR_CONFIG, fixture};
use crate::controllers::site::recorders::identity::ensure_identity;
use crate::controllers::testing::camera;

/// Returns `Accepted` after a change of the fixture.
fn accepted(change: impl Fn(&mut Fixture)) -> ConditionFinding {
    let mut fixture = fixture();
    change(&mut fixture);
    fixture.valid().accepted
}

#[test]
fn complete_site_is_accepted() {
    let valid = fixture().valid();
    assert!(valid.accepted.is_true(), "{}", valid.accepted.message);
    assert!(valid.permission.finding.is_true());
    let access = valid.access.unwrap();
    assert_eq!(access.operator.endpoint.as_deref(), Some("https://s3.example.nl"));
    assert_eq!(
        access.recorder.as_ref().unwrap().credentials.as_access_key().unwrap().access_key_id.reveal(),
        "s3-recorder"
    );
    assert_eq!(access.spec.readers, ["manager", "officer"]);
    assert_eq!((access.spec.video_ceiling, access.spec.calls_ceiling), (Days(28), Days(7)));
    assert_eq!((access.claim.cluster_id.as_str(), access.claim.uid.as_str()), ("cluster", "uid-of-site"));
    assert_eq!(valid.spool_bytes, 20 << 30);
    assert_eq!(valid.cameras.len(), 2);
}

#[test]
fn missing_recorder_secret_keeps_operator_access() {
    let mut fixture = fixture();
    fixture.observed.store_secrets.remove("s3-recorder");
    let valid = fixture.valid();
    assert!(!valid.accepted.is_true(), "the Site may not record");
    let access = valid.access.unwrap();
    assert_eq!((access.recorder, access.operator.bucket.as_str()), (None, "gemeente-zwembad"));
}

/// A key or a certificate authority that cannot be used says nothing about the bucket, like a key that the store rejects.
#[test]
fn unusable_operator_key_or_store_ca_stops_no_recording() {
    let pem = ensure_identity(None, fixture().now).unwrap().api.cert_pem;
    let key = |secret: &str| {
        let mut fixture = fixture();
        let texts = [("accessKeyId", "s3-operator"), ("secretAccessKey", secret)];
        fixture.observed.store_secrets.insert("s3-operator".into(), ReferencedSecret::of(&texts));
        fixture.valid()
    };
    let ca = |pem: &str| {
        let mut fixture = fixture();
        fixture.site.spec.storage.ca_ref = Some(LocalRef { name: "ca".into() });
        let secret = ReferencedSecret::of(&[("ca.crt", pem)]);
        fixture.observed.camera_secrets.ca_certificates.insert("ca".into(), secret);
        fixture.valid()
    };
    for usable in [key("store-secret"), ca(&pem)] {
        assert!(usable.accepted.is_true() && usable.access.unwrap().recorder.is_some());
    }
    let (key_field, ca_field) = ("spec.storage.operator.credentialsRef: ", "spec.storage.caRef");
    for (valid, field, has_recorder) in [
        (key("two words"), key_field, true),
        (key(&"x".repeat(20_000)), key_field, true),
        (ca("no certificate"), ca_field, false),
        // Each is a certificate, but they do not fit beside the cameras.
        (ca(&pem.repeat(200)), ca_field, false),
    ] {
        let message = &valid.accepted.message;
        assert!(!valid.accepted.is_true() && message.starts_with(field), "{message}");
        assert_eq!((valid.recording, valid.grace_end), (RecordingVerdict::Allowed, None), "{message}");
        assert_eq!(valid.access.unwrap().recorder.is_some(), has_recorder, "{message}");
    }
}

/// Objects can be older than the admission rule about principals. The policy omits a person; a machine stops everything.
#[test]
fn ambiguous_principal_is_excluded_from_bucket_policy() {
    for wrong in ["${aws:username}", "arn:aws:iam::000000000000:user/${aws:username}", "a b"] {
        let mut fixture = fixture();
        fixture.site.spec.managers[0].principal = Some(wrong.into());
        let policy = fixture.observed.policies.policy.as_mut().unwrap();
        policy.spec.incident_officers[0].principal = Some(wrong.into());
        fixture.site.spec.storage.auditor = Some(Auditor { principal: wrong.into() });
        let valid = fixture.valid();
        let message = &valid.accepted.message;
        assert!(!valid.accepted.is_true(), "{message}");
        for field in [
            "spec.managers[0].principal: article 4.1",
            "spec.policyRef: spec.incidentOfficers[0].principal",
            "spec.storage.auditor.principal",
        ] {
            assert!(message.contains(field), "{message}");
        }
        let spec = valid.access.unwrap().spec;
        assert_eq!((spec.auditor, spec.readers), (None, vec![]));

        for machine in [0, 1] {
            let mut fixture = self::fixture();
            let storage = &mut fixture.site.spec.storage;
            [&mut storage.operator, &mut storage.recorder][machine].principal = wrong.into();
            let valid = fixture.valid();
            assert!(!valid.accepted.is_true() && valid.access.is_none(), "{wrong}");
        }
    }
}

/// An incident officer of the policy has the auditor's name.
#[test]
fn auditor_with_another_role_is_excluded() {
    let mut fixture = fixture();
    let principal = "arn:aws:iam::1:user/officer".to_owned();
    fixture.site.spec.storage.auditor = Some(Auditor { principal });
    let valid = fixture.valid();
    assert!(valid.accepted.message.contains("spec.storage.auditor.principal"), "{}", valid.accepted.message);
    assert_eq!(valid.access.unwrap().spec.auditor, None);
    fixture.site.spec.storage.auditor.as_mut().unwrap().principal = "fg".into();
    let valid = fixture.valid();
    assert!(valid.accepted.is_true());
    assert_eq!(valid.access.unwrap().spec.auditor.as_deref(), Some("fg"));
}

#[test]
fn problems_state_field_and_reason() {
    use Reason::{InvalidField, NotGranted, ReferenceInvalid, ReferenceNotFound};
    type Change = fn(&mut Fixture);
    let table: &[(Change, Reason, &str)] = &[
        (|f| f.observed.policies.policy = None, ReferenceNotFound, "spec.policyRef"),
        (|f| f.config.ceilings.video = Days(14), ReferenceInvalid, "spec.policyRef"),
        (|f| f.observed.store_secrets.clear(), ReferenceNotFound, "spec.storage.operator.credentialsRef"),
        (
            |f| drop(f.observed.store_secrets.remove("s3-recorder")),
            ReferenceNotFound,
            "spec.storage.recorder.credentialsRef",
        ),
        (
            |f| {
                let login = f.observed.camera_secrets.logins["login"].clone();
                f.observed.store_secrets.insert("s3-operator".into(), login);
            },
            ReferenceInvalid,
            "spec.storage.operator.credentialsRef",
        ),
        (|f| set_endpoint(f, "http://169.254.169.254"), NotGranted, "spec.storage"),
        (|f| set_endpoint(f, "https://10.96.0.1"), NotGranted, "spec.storage"),
        (|f| f.site.spec.storage.endpoint = None, NotGranted, "spec.storage"),
        (|f| f.site.spec.storage.bucket = "buurgemeente-zwembad".into(), NotGranted, "spec.storage"),
        (|f| f.site.metadata.namespace = Some("buurgemeente".into()), NotGranted, "spec.storage"),
        (|f| f.site.spec.storage.allow_unprotected = true, NotGranted, "spec.storage"),
        (|f| set_endpoint(f, "https://s3.example.nl/a"), InvalidField, "spec.storage.endpoint"),
        (|f| f.site.spec.recorder.spool.size = "20Gb".into(), InvalidField, "spec.recorder.spool.size"),
        (|f| f.site.spec.recorder.spool.size = "1Mi".into(), InvalidField, "spec.recorder.spool.size"),
        (
            |f| {
                f.site.spec.live_view = true;
                f.observed.policies.policy.as_mut().unwrap().spec.live_view = None;
            },
            InvalidField,
            "spec.liveView",
        ),
    ];
    for (at, (change, reason, field)) in table.iter().enumerate() {
        let finding = accepted(change);
        assert!(!finding.is_true(), "case {at}");
        assert_eq!(finding.reason, *reason, "case {at}: {}", finding.message);
        assert!(finding.message.starts_with(field), "case {at}: {}", finding.message);
        assert!(!finding.message.contains("store-secret") && !finding.message.contains("camera-password"));
    }
}

fn set_endpoint(fixture: &mut Fixture, endpoint: &str) {
    fixture.site.spec.storage.endpoint = Some(endpoint.to_owned());
}

/// The schema compares texts. This compares the name in an ARN too, and the policy's officers.
#[test]
fn machine_principals_cannot_be_readers() {
    let as_manager =
        accepted(|f| f.site.spec.managers[0].principal = Some("arn:aws:iam::1:user/operator".into()));
    assert_eq!(as_manager.reason, Reason::InvalidField);
    assert!(as_manager.message.starts_with("spec.managers: article 3.2"), "{}", as_manager.message);
    let as_officer = accepted(|f| {
        let officers = &mut f.observed.policies.policy.as_mut().unwrap().spec.incident_officers;
        officers[0].principal = Some("recorder".into());
    });
    assert_eq!(as_officer.reason, Reason::ReferenceInvalid);
    assert!(as_officer.message.contains("incidentOfficers"), "{}", as_officer.message);
}

/// A store may compare only the name in an ARN.
#[test]
fn operator_and_recorder_must_be_different_identities() {
    let finding =
        accepted(|f| f.site.spec.storage.recorder.principal = "arn:aws:iam::1:user/operator".into());
    assert_eq!(finding.reason, Reason::InvalidField);
    let message = finding.message;
    assert!(message.starts_with("spec.storage.recorder.principal: article 3.2"), "{message}");
}

#[test]
fn operator_only_requires_grant_and_decision() {
    let mut fixture = fixture();
    fixture.config =
        OperatorConfig::parse(&OPERATOR_CONFIG.replace("buckets:", "exceptions: [OperatorOnly], buckets:"))
            .unwrap();
    let storage = &mut fixture.site.spec.storage;
    storage.retention_enforcement = RetentionEnforcement::OperatorOnly;
    assert_eq!(fixture.valid().access, None, "without a decision");
    fixture.site.spec.storage.decision = serde_json::from_value(
        serde_json::json!({"by": "College", "date": "2026-01-01", "reference": "2026-1"}),
    )
    .unwrap();
    assert!(fixture.valid().access.unwrap().spec.operator_only);
}

#[test]
fn ungranted_endpoint_gives_no_bucket_access() {
    let mut fixture = fixture();
    set_endpoint(&mut fixture, "https://kubernetes.default.svc");
    assert_eq!(fixture.valid().access, None);
}

#[test]
fn deleted_policy_stops_recording_and_keeps_bucket_access() {
    let mut fixture = fixture();
    fixture.observed.policies.policy = None;
    assert_eq!(fixture.valid().access, None, "no ceilings were ever effective");
    fixture.site.status = Some(SiteStatus {
        ceilings: Some(Ceilings { video: Days(21), calls: Days(6) }),
        ..SiteStatus::default()
    });
    let valid = fixture.valid();
    assert_eq!(valid.access.unwrap().spec.video_ceiling, Days(21));
    assert_eq!(valid.permission.windows, Windows::empty());
    assert_eq!(valid.permission.finding.reason, Reason::DependencyNotReady);
}

#[test]
fn unusable_camera_does_not_stop_the_others() {
    let mut fixture = fixture();
    fixture.observed.cameras.push(camera("zolder"));
    fixture.observed.cameras[0].spec.stream.credentials_ref.as_mut().unwrap().name = "nobody".into();
    let valid = fixture.valid();
    assert!(valid.accepted.is_true());
    assert_eq!(valid.unusable_cameras, ["hal"]);
    let names: Vec<_> = valid.cameras.iter().map(|camera| camera.name.as_str()).collect();
    assert_eq!(names, ["kassa", "zolder"]);
}

#[test]
fn unreadable_camera_goes_on_as_its_recorder_has_it() {
    let mut fixture = fixture();
    let before = fixture.valid();
    let unreadable = fixture.observed.cameras.remove(0).metadata;
    fixture.observed.unreadable_cameras = vec![unreadable.clone()];
    assert_eq!(fixture.valid().cameras, before.cameras[1..], "it was never recorded");
    fixture.observed.unreadable_cameras.clear();
    fixture.observed.cameras.insert(0, camera("hal"));
    let config =
        serde_json::from_slice(&fixture.plan().config_secret.data.unwrap()["config.json"].0).unwrap();
    fixture.observed.cameras.remove(0);
    fixture.observed.recorder_config = Some(config);
    assert_eq!(fixture.valid().cameras, before.cameras[1..], "a deleted camera is removed");
    fixture.observed.unreadable_cameras = vec![unreadable];
    let mut valid = fixture.valid().cameras;
    valid.sort_by(|one, other| one.name.cmp(&other.name));
    assert_eq!(valid, before.cameras);
    // The suspension of all readable cameras does not silence the Site while the unreadable one records.
    fixture.now = "2026-03-18T12:00:00Z".parse().unwrap();
    fixture.site.spec.suspensions[0].cameras = vec!["kassa".into()];
    assert!(fixture.valid().permission.finding.is_true());
}

#[test]
fn suspension_applies_to_named_cameras() {
    let mut fixture = fixture();
    fixture.now = "2026-03-18T12:00:00Z".parse().unwrap();
    let valid = fixture.valid();
    assert!(valid.permission.finding.is_true(), "the other camera still records");
    assert!(valid.cameras[0].suspended.contains(fixture.now));
    assert!(!valid.cameras[1].suspended.contains(fixture.now));
    fixture.site.spec.suspensions[0].cameras.clear();
    let valid = fixture.valid();
    assert_eq!(valid.permission.finding.reason, Reason::Suspended);
    assert_eq!(valid.permission.next_change, Some("2026-03-18T21:00:00Z".parse().unwrap()));
}

#[test]
fn temporary_key_includes_session_token() {
    let mut fixture = fixture();
    let texts = [("accessKeyId", "ASIA9"), ("secretAccessKey", "s"), ("sessionToken", "IQoJb3Jp\n")];
    fixture.observed.store_secrets.insert("s3-operator".into(), ReferencedSecret::of(&texts));
    let access = fixture.valid().access.unwrap();
    let keys = access.operator.credentials.as_access_key().unwrap();
    assert_eq!(keys.session_token.as_ref().unwrap().reveal(), "IQoJb3Jp");
    let recorder = access.recorder.unwrap();
    assert_eq!(recorder.credentials.as_access_key().unwrap().session_token, None);
}

#[test]
fn workload_identity_requires_a_grant() {
    for of_operator in [true, false] {
        let mut fixture = fixture();
        let storage = &mut fixture.site.spec.storage;
        let identity = if of_operator { &mut storage.operator } else { &mut storage.recorder };
        (identity.credentials_ref, identity.workload_identity) = (None, true);
        let valid = fixture.valid();
        assert_eq!(valid.accepted.reason, Reason::NotGranted);
        assert!(valid.accepted.message.contains("workload identity"), "{}", valid.accepted.message);
        assert!(valid.access.is_none());
    }
}

/// The schema of another release could admit it. It must not count as workload identity.
#[test]
fn identity_without_credentials_is_rejected() {
    let mut fixture = fixture();
    fixture.site.spec.storage.operator.credentials_ref = None;
    let valid = fixture.valid();
    assert_eq!(valid.accepted.reason, Reason::ReferenceNotFound);
    assert!(valid.access.is_none());
}

#[test]
fn succession_keeps_the_stricter_ceilings_of_both_policies() {
    let mut fixture = fixture();
    let policy = fixture.observed.policies.policy.as_mut().unwrap();
    policy.spec.replaces = Some("protocol-2016".into());
    policy.spec.in_force.from = crate::api::DateOrInstant("2026-11-20T00:00:00Z".into());
    let ceilings = |video, calls| Ceilings { video: Days(video), calls: Days(calls) };
    fixture.site.status = Some(SiteStatus { ceilings: Some(ceilings(14, 7)), ..SiteStatus::default() });
    govern(&mut fixture, "2026-11-20T00:00:00Z");
    let valid = fixture.valid();
    assert_eq!(valid.ceilings, Some(ceilings(14, 7)));
    assert_eq!(valid.ceilings_change, Some("2026-12-04T00:00:00Z".parse().unwrap()));
    assert_eq!(valid.access.unwrap().spec.video_ceiling, Days(14));
    fixture.now = "2026-12-04T00:00:00Z".parse().unwrap();
    let valid = fixture.valid();
    assert_eq!((valid.ceilings, valid.ceilings_change), (Some(ceilings(28, 7)), None));
}

fn govern(fixture: &mut Fixture, since: &str) {
    fixture.site.status.get_or_insert_default().policy = Some(GoverningPolicy {
        name: "protocol-2020".into(),
        policy_ref: "protocol-2020".into(),
        since_time: Time(since.parse().unwrap()),
    });
}

/// Its author may create a policy after the entry into force that it states.
#[test]
fn late_successor_keeps_the_stricter_ceilings_from_when_it_governs() {
    let mut fixture = fixture();
    let policy = fixture.observed.policies.policy.as_mut().unwrap();
    policy.spec.replaces = Some("protocol-2016".into());
    policy.spec.in_force.from = crate::api::DateOrInstant("2026-01-01T00:00:00Z".into());
    fixture.now = "2026-06-01T12:00:00Z".parse().unwrap();
    let ceilings = |video| Ceilings { video: Days(video), calls: Days(7) };
    fixture.site.status = Some(SiteStatus { ceilings: Some(ceilings(14)), ..SiteStatus::default() });
    let valid = fixture.valid();
    assert_eq!(valid.policy.since_time.0, fixture.now);
    assert_eq!(valid.ceilings, Some(ceilings(14)));
    assert_eq!(valid.ceilings_change, Some("2026-06-15T12:00:00Z".parse().unwrap()));
    govern(&mut fixture, "2026-06-01T12:00:00Z");
    fixture.now = "2026-06-15T12:00:00Z".parse().unwrap();
    assert_eq!(fixture.valid().ceilings, Some(ceilings(28)));
    // Another policy governed until now.
    fixture.site.status.as_mut().unwrap().policy.as_mut().unwrap().name = "protocol-2016".into();
    assert_eq!(fixture.valid().ceilings, Some(ceilings(14)));
}

#[test]
fn missing_successor_is_named_with_the_policy_that_it_replaced() {
    let mut fixture = fixture();
    fixture.observed.policies = crate::controllers::site_policies::SitePolicies {
        name: "protocol-2026".into(),
        ..Default::default()
    };
    let valid = fixture.valid();
    assert_eq!(valid.policy.name, "protocol-2026");
    let expected = "RecordingPolicy \"protocol-2026\", which replaced \"protocol-2020\"";
    assert!(valid.accepted.message.contains(expected), "{}", valid.accepted.message);
}
