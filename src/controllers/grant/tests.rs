use proptest::prelude::*;

use super::*;

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(ToString::to_string).collect()
}

fn spec(namespace: &str, endpoints: &[&str], bucket: &str, exceptions: &[Exception]) -> GrantSpec {
    GrantSpec {
        namespaces: strings(&[namespace]),
        endpoints: strings(endpoints),
        buckets: strings(&[bucket]),
        exceptions: exceptions.to_vec(),
        ..GrantSpec::default()
    }
}

fn grants() -> Grants {
    let s3 = ["https://s3.example.nl"];
    Grants::new(vec![
        spec("heusden", &s3, "heusden-*", &[Exception::TakeOver]),
        spec("heusden", &s3, "heusden-test", &[Exception::AllowUnprotected]),
        GrantSpec { plain_http: true, ..spec("*", &["http://10.0.0.1:8333", "aws"], "shared", &[]) },
    ])
    .unwrap()
}

fn check(
    namespace: &str,
    endpoint: Option<&str>,
    bucket: &str,
    exceptions: &[Exception],
) -> Result<(), Denied> {
    let endpoint = Endpoint::parse(endpoint).unwrap();
    grants().check(&GrantRequest { namespace, endpoint: &endpoint, bucket, roles: &[], exceptions })
}

fn with_roles(endpoints: &[&str], roles: &[&str]) -> GrantSpec {
    GrantSpec { roles: strings(roles), ..spec("vlijmen", endpoints, "vlijmen-*", &[]) }
}

#[test]
fn workload_identity_requires_granted_role() {
    let role = |name: &str| format!("arn:aws:iam:::role/{name}");
    let (own, prefix, of_another) = (role("vlijmen-hal"), role("vlijmen-*"), role("drunen"));
    let check = |granted: &[&str], requested: &[&str]| {
        let grants = Grants::new(vec![with_roles(&["aws"], granted)]).unwrap();
        grants.check(&GrantRequest {
            namespace: "vlijmen",
            endpoint: &Endpoint::Aws,
            bucket: "vlijmen-hal",
            roles: requested,
            exceptions: &[],
        })
    };
    for granted in [&own, &prefix] {
        assert_eq!(check(&[granted], &[]), Ok(()));
        assert_eq!(check(&[granted], &[&own]), Ok(()));
        // The operator may assume the role of another tenant, but this Site may not use it.
        for requested in [vec![of_another.as_str()], vec![&own, &of_another]] {
            assert_eq!(check(&[granted], &requested), Err(Denied::Role(of_another.clone())));
        }
    }
    let denied = check(&[], &[&own]).unwrap_err();
    assert_eq!(denied, Denied::Role(own.clone()));
    assert!(denied.to_string().contains(&own) && denied.to_string().contains("set credentialsRef"));
}

#[test]
fn roles_are_limited_to_one_endpoint() {
    let (here, there) = ("https://s3.here.nl", "https://s3.there.nl");
    let grants = |all: &[(&[&str], &[&str])]| {
        let specs = all.iter().map(|(endpoints, roles)| with_roles(endpoints, roles));
        Grants::new(specs.collect()).map(|_| ())
    };
    assert_eq!(grants(&[(&[here], &["a"]), (&[here], &["b"]), (&[there], &[])]), Ok(()));
    for rejected in [
        vec![(&[here, there][..], &["a"][..])],
        vec![(&[here], &["a"]), (&[there], &["a"])],
        vec![(&[here], &["a"]), (&["aws"], &["b"])],
    ] {
        assert_eq!(grants(&rejected), Err(GrantsError::MultipleTokenEndpoints));
    }
}

/// Namespace, endpoint, bucket and exceptions of a request, and the answer.
type GrantCase<'a> = (&'a str, Option<&'a str>, &'a str, &'a [Exception], Result<(), Denied>);

#[test]
fn request_must_match_a_single_grant() {
    use Exception::{AllowUnprotected, OperatorOnly, TakeOver};
    let s3 = Some("https://s3.example.nl");
    let plain = Some("http://10.0.0.1:8333");
    let not = Err(Denied::NotGranted);
    let table: &[GrantCase<'_>] = &[
        ("heusden", s3, "heusden-a", &[], Ok(())),
        ("heusden", Some("https://s3.example.nl:443/"), "heusden-a", &[], Ok(())),
        ("heusden", Some("https://S3.EXAMPLE.nl"), "heusden-a", &[], Ok(())),
        ("heusden", s3, "heusden-a", &[TakeOver], Ok(())),
        ("heusden", s3, "heusden-test", &[AllowUnprotected], Ok(())),
        ("heusden", s3, "heusden-a", &[OperatorOnly], Err(Denied::Exception(OperatorOnly))),
        // Two grants allow one exception each, but no grant allows both.
        ("heusden", s3, "heusden-test", &[TakeOver, AllowUnprotected], Err(Denied::Exception(TakeOver))),
        ("heusden", s3, "heusden", &[], not.clone()),
        ("heusden", s3, "altena-a", &[], not.clone()),
        ("altena", s3, "heusden-a", &[], not.clone()),
        ("heusden-2", s3, "heusden-a", &[], not.clone()),
        ("heusden", Some("http://s3.example.nl"), "heusden-a", &[], not.clone()),
        ("heusden", Some("https://s3.example.nl:8443"), "heusden-a", &[], not.clone()),
        ("heusden", Some("https://s3.example.nl.evil.org"), "heusden-a", &[], not.clone()),
        ("heusden", Some("http://169.254.169.254"), "heusden-a", &[], not.clone()),
        ("heusden", Some("https://kubernetes.default.svc"), "heusden-a", &[], not.clone()),
        ("heusden", None, "heusden-a", &[], not.clone()),
        ("anyone", plain, "shared", &[], Ok(())),
        ("anyone", Some("http://0xa.1:8333"), "shared", &[], Ok(())),
        ("anyone", None, "shared", &[], Ok(())),
        ("anyone", None, "shared", &[TakeOver], Err(Denied::Exception(TakeOver))),
        ("anyone", plain, "shared2", &[], not),
    ];
    for (namespace, endpoint, bucket, exceptions, expected) in table {
        assert_eq!(
            &check(namespace, *endpoint, bucket, exceptions),
            expected,
            "{namespace} {endpoint:?} {bucket}"
        );
    }
}

#[test]
fn empty_grants_deny_everything() {
    let request =
        GrantRequest { namespace: "a", endpoint: &Endpoint::Aws, roles: &[], bucket: "a", exceptions: &[] };
    assert_eq!(Grants::default().check(&request), Err(Denied::NotGranted));
}

#[test]
fn endpoint_must_be_a_bare_origin() {
    for written in [
        "https://user@s3.example.nl",
        "https://:p@s3.example.nl",
        "https://@s3.example.nl",
        "https://s3.example.nl/path",
        "https://s3.example.nl?a",
        "https://s3.example.nl#a",
        "https://s3.example.nl\\@evil.org",
        "https://s3.exa\tmple.nl",
        " https://s3.example.nl",
    ] {
        assert_eq!(Endpoint::parse(Some(written)), Err(EndpointError::NotOnlyOrigin), "{written:?}");
    }
    for written in
        ["", "s3.example.nl", "ftp://s3.example.nl", "file:///etc", "https://", "//s3.example.nl", "aws"]
    {
        assert_eq!(Endpoint::parse(Some(written)), Err(EndpointError::NotAnOrigin), "{written:?}");
    }
}

#[test]
fn malformed_grant_is_rejected() {
    let good = spec("a", &["https://a"], "a", &[]);
    assert!(Grants::new(vec![good.clone()]).is_ok());
    let with = |edit: fn(&mut GrantSpec)| {
        let mut spec = good.clone();
        edit(&mut spec);
        Grants::new(vec![spec])
    };
    assert!(matches!(with(|it| it.buckets = vec!["a*b".into()]), Err(GrantsError::Pattern { grant: 0, .. })));
    assert!(matches!(with(|it| it.buckets = vec!["a**".into()]), Err(GrantsError::Pattern { grant: 0, .. })));
    assert!(matches!(with(|it| it.buckets = vec![String::new()]), Err(GrantsError::Pattern { .. })));
    assert!(matches!(with(|it| it.namespaces = vec![]), Err(GrantsError::Empty { .. })));
    assert!(matches!(with(|it| it.endpoints = vec!["http://a".into()]), Err(GrantsError::PlainHttp { .. })));
    assert!(matches!(with(|it| it.endpoints = vec!["a".into()]), Err(GrantsError::Endpoint { .. })));
}

proptest! {
    #[test]
    fn only_granted_origin_is_allowed(text in "https?://[a-z0-9.@:/\\\\#?%-]{1,24}") {
        if let Ok(endpoint) = Endpoint::parse(Some(&text)) {
            let request = GrantRequest { namespace: "heusden", endpoint: &endpoint, bucket: "heusden-a", roles: &[], exceptions: &[] };
            if grants().check(&request).is_ok() {
                prop_assert_eq!(endpoint.url(), Some("https://s3.example.nl".to_owned()));
            }
        }
    }

    #[test]
    fn other_namespace_or_bucket_is_denied(namespace in "[a-z-]{1,12}", bucket in "[a-z-]{1,12}") {
        let allowed = check(&namespace, Some("https://s3.example.nl"), &bucket, &[]).is_ok();
        prop_assert_eq!(allowed, namespace == "heusden" && bucket.starts_with("heusden-"));
    }

    #[test]
    fn ungranted_exception_is_denied(bits in 0_u8..8) {
        use Exception::{AllowUnprotected, OperatorOnly, TakeOver};
        let all = [TakeOver, OperatorOnly, AllowUnprotected];
        let requested: Vec<_> = all.iter().enumerate().filter(|(at, _)| bits & (1 << at) != 0).map(|(_, it)| *it).collect();
        let allowed = check("heusden", Some("https://s3.example.nl"), "heusden-a", &requested).is_ok();
        prop_assert_eq!(allowed, requested.iter().all(|it| *it == TakeOver));
    }
}
