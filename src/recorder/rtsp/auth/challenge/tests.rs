use proptest::prelude::*;

use super::*;

fn read(values: &[&[u8]]) -> (Vec<Challenge>, OddityCounts) {
    let mut odd = OddityCounts::default();
    (read_challenges(values.iter().copied(), &mut odd), odd)
}

fn digest(value: &str) -> DigestChallenge {
    match read(&[value.as_bytes()]).0.as_slice() {
        [Challenge::Digest(digest)] => digest.clone(),
        other => panic!("{value}: {other:?}"),
    }
}

fn plain(realm: &[u8], nonce: &[u8]) -> DigestChallenge {
    DigestChallenge {
        realm: realm.to_vec(),
        nonce: nonce.to_vec(),
        opaque: None,
        algorithm: Algorithm::Md5,
        algorithm_name: None,
        has_qop: false,
        is_stale: false,
    }
}

#[test]
fn challenges_of_rfc_7616_are_read() {
    let first = "Digest realm=\"http-auth@example.org\", qop=\"auth, auth-int\", algorithm=SHA-256, \
        nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\"";
    let second = first.replace("SHA-256", "MD5");
    let (challenges, odd) = read(&[first.as_bytes(), second.as_bytes()]);
    let expected = DigestChallenge {
        opaque: Some(b"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS".to_vec()),
        algorithm: Algorithm::Sha256,
        algorithm_name: Some("SHA-256".to_owned()),
        has_qop: true,
        ..plain(b"http-auth@example.org", b"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v")
    };
    let md5 = DigestChallenge {
        algorithm: Algorithm::Md5,
        algorithm_name: Some("MD5".to_owned()),
        ..expected.clone()
    };
    assert_eq!(challenges, [Challenge::Digest(expected), Challenge::Digest(md5)]);
    assert_eq!(odd.iter().count(), 0);
}

#[test]
fn joined_list_is_read_as_separate_headers_are() {
    let basic: &[u8] = b"Basic realm=\"cam\"";
    let digest: &[u8] = b"Digest realm=\"cam\", nonce=\"f00\"";
    let separate = read(&[basic, digest]).0;
    assert_eq!(separate, [Challenge::Basic, Challenge::Digest(plain(b"cam", b"f00"))]);
    assert_eq!(read(&[&[basic, digest].join(&b", "[..])]).0, separate);
    assert_eq!(read(&[&[basic, digest].join(&b","[..])]).0, separate);
    let reversed = read(&[&[digest, basic].join(&b", "[..])]).0;
    assert_eq!(reversed, [Challenge::Digest(plain(b"cam", b"f00")), Challenge::Basic]);
}

#[test]
fn case_of_schemes_names_and_algorithms_is_ignored() {
    let read = digest("DIGEST Realm=\"cam\", NONCE=\"f00\", Algorithm=md5, QOP=\"AUTH\", STALE=TRUE");
    let expected = DigestChallenge {
        algorithm_name: Some("md5".to_owned()),
        has_qop: true,
        is_stale: true,
        ..plain(b"cam", b"f00")
    };
    assert_eq!(read, expected);
    let quoted = digest("Digest realm=\"cam\", nonce=\"f00\", algorithm=\"SHA-256-sess\", stale=\"true\"");
    assert_eq!(quoted.algorithm, Algorithm::Sha256Session);
    assert!(quoted.is_stale && !digest("Digest nonce=\"f00\", stale=FALSE").is_stale);
}

#[test]
fn quoted_strings_may_have_escapes_commas_and_scheme_names() {
    let read = digest(r#"Digest realm="a \"b\", Basic realm=\\c", nonce="n=1,2""#);
    assert_eq!(read, plain(br#"a "b", Basic realm=\c"#, b"n=1,2"));
}

#[test]
fn values_may_lack_quotes_and_commas() {
    assert_eq!(
        digest("Digest realm=IP Camera (C6), nonce=bm9uY2U==, stale=FALSE"),
        plain(b"IP Camera (C6)", b"bm9uY2U==")
    );
    assert_eq!(digest("Digest realm=\"cam\" nonce=\"f00\"  stale=false"), plain(b"cam", b"f00"));
    assert_eq!(digest("Digest realm=cam nonce=f00 stale=false"), plain(b"cam", b"f00"));
    assert_eq!(digest("Digest\trealm = \"cam\" ;nonce= \"f00\","), plain(b"cam", b"f00"));
    let (_, odd) = read(&[b"Digest realm=cam, nonce=\"f00\""]);
    assert_eq!(odd.get(Oddity::ChallengeUnquoted), 1);
}

#[test]
fn semicolon_ends_a_value_without_quotes() {
    assert_eq!(
        digest("Digest realm=cam;nonce=abc; stale=true;"),
        DigestChallenge { is_stale: true, ..plain(b"cam", b"abc") }
    );
    assert_eq!(digest("Digest realm=cam;1, nonce=abc;"), plain(b"cam;1", b"abc"));
}

#[test]
fn trailing_nul_is_no_part_of_a_challenge() {
    let (challenges, odd) = read(&[b"Digest realm=\"cam\", nonce=\"f00\"\0"]);
    assert_eq!(challenges, [Challenge::Digest(plain(b"cam", b"f00"))]);
    assert_eq!(odd.iter().count(), 0);
}

#[test]
fn realm_need_not_be_utf_8() {
    let (challenges, odd) = read(&[b"Digest realm=\"C\xe2mera\", nonce=\"f00\""]);
    assert_eq!(challenges, [Challenge::Digest(plain(b"C\xe2mera", b"f00"))]);
    assert_eq!(odd.get(Oddity::ChallengeNotAscii), 1);
    assert_eq!(digest("Digest realm=\"摄像机\", nonce=\"f00\"").realm, "摄像机".as_bytes());
}

#[test]
fn unknown_parts_of_a_challenge_are_ignored() {
    let read_one = |rest: &str| digest(&format!("Digest realm=\"cam\", nonce=\"f00\", {rest}"));
    assert_eq!(read_one("domain=\"/\", charset=UTF-8, userhash=true, x=\"y\""), plain(b"cam", b"f00"));
    assert!(read_one("qop=\"auth-conf,auth\"").has_qop);
    // Not one known value: as if none were there.
    assert!(!read_one("qop=\"auth-conf\"").has_qop);
    assert!(!read_one("qop=\"\"").has_qop);
    assert!(read_one("qop=auth,auth-int, algorithm=MD5").has_qop);
    assert!(read_one("qop=auth-int,auth, algorithm=SHA-256").algorithm == Algorithm::Sha256);
    assert_eq!(read_one("algorithm=").algorithm, Algorithm::Md5);
}

#[test]
fn last_of_repeated_parameters_counts() {
    let (challenges, odd) = read(&[b"Digest realm=\"a\", realm=\"b\", nonce=\"f00\""]);
    assert_eq!(challenges, [Challenge::Digest(plain(b"b", b"f00"))]);
    assert_eq!(odd.get(Oddity::ChallengeRepeatsParameter), 1);
}

#[test]
fn unsupported_challenges_are_skipped() {
    let known = Challenge::Digest(plain(b"cam", b"f00"));
    for skipped in [
        "Digest realm=\"cam\", nonce=\"f01\", algorithm=SHA-512-256",
        "Digest realm=\"cam\", nonce=\"f01\", qop=\"auth-int\"",
        "Digest realm=\"cam\"",
        "Negotiate YII+abc/==",
        "NTLM",
        "Bearer realm=\"cam\", nonce=\"f01\"",
    ] {
        let joined = format!("{skipped}, Digest realm=\"cam\", nonce=\"f00\"");
        let (challenges, odd) = read(&[joined.as_bytes()]);
        assert_eq!(challenges, [known.clone()], "{skipped}");
        assert!(odd.iter().count() > 0, "{skipped}");
    }
}

#[test]
fn malformed_header_spoils_no_other() {
    let good: &[u8] = b"Digest realm=\"cam\", nonce=\"f00\"";
    let known = Challenge::Digest(plain(b"cam", b"f00"));
    let long = vec![b'x'; MAX_HEADER_BYTES + 1];
    for bad in [
        b"".as_slice(),
        b"=",
        b"\"",
        b"realm=\"cam\"",
        b"Digest realm=\"open",
        b"Digest nonce=\"a\r\nX: y\"",
        &long,
    ] {
        assert_eq!(read(&[bad, good]).0, [known.clone()], "{}", bad.escape_ascii());
    }
}

#[test]
fn missing_realm_is_empty() {
    let (challenges, odd) = read(&[b"Digest nonce=\"f00\""]);
    assert_eq!(challenges, [Challenge::Digest(plain(b"", b"f00"))]);
    assert_eq!(odd.get(Oddity::ChallengeWithoutRealm), 1);
}

#[test]
fn number_of_challenges_and_parameters_is_limited() {
    let header = b"Basic realm=\"cam\"".as_slice();
    let (challenges, odd) = read(&[header; 40]);
    assert_eq!(challenges.len(), MAX_CHALLENGES);
    assert_eq!(odd.get(Oddity::ChallengeOverLimit), 1);
    let (challenges, _) = read(&["Basic ".repeat(600).as_bytes()]);
    assert_eq!(challenges.len(), MAX_CHALLENGES);
    let surplus = format!("Digest {}nonce=\"f00\"", "x=1, ".repeat(MAX_PARAMETERS));
    assert_eq!(read(&[surplus.as_bytes()]).0, []);
}

#[test]
fn text_of_camera_is_not_shown() {
    let shown = format!("{:?}", digest("Digest realm=\"S3cret\", nonce=\"f00ba4\", opaque=\"0paque\""));
    assert!(["S3cret", "f00ba4", "0paque"].iter().all(|text| !shown.contains(text)), "{shown}");
}

/// Pieces from which most of the reader's cases are assembled.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let known: Vec<&[u8]> = vec![
        b"Digest ",
        b"Basic ",
        b"realm=",
        b"nonce=",
        b"qop=",
        b"algorithm=",
        b"stale=true",
        b"auth-int",
        b"MD5",
        b"\"",
        b"\\",
        b"=",
        b",",
        b";",
        b" ",
        b"\t",
        b"\xff",
    ];
    prop_oneof![
        8 => proptest::sample::select(known).prop_map(<[u8]>::to_vec),
        1 => proptest::collection::vec(any::<u8>(), 0..8),
    ]
}

proptest! {
    #[test]
    fn any_input_is_read_within_limits(
        values in proptest::collection::vec(
            proptest::collection::vec(piece(), 0..60).prop_map(|pieces| pieces.concat()),
            0..24,
        ),
    ) {
        let values: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
        let (challenges, _) = read(&values);
        prop_assert!(challenges.len() <= MAX_CHALLENGES);
        for challenge in challenges {
            if let Challenge::Digest(digest) = challenge {
                let opaque = digest.opaque.unwrap_or_default();
                prop_assert!(digest.realm.len() + digest.nonce.len() + opaque.len() <= MAX_HEADER_BYTES);
                let mut text = digest.realm.iter().chain(&digest.nonce).chain(&opaque);
                prop_assert!(!text.any(|byte| byte.is_ascii_control() && *byte != b'\t'));
            }
        }
    }

    #[test]
    fn written_challenge_is_read_back(
        realm in proptest::collection::vec(0x20_u8..=0xff, 0..40),
        nonce in "[ -~]{0,40}",
        opaque in proptest::option::of("[ -~]{0,40}"),
        algorithm in proptest::sample::select(vec!["", "MD5", "md5-sess", "SHA-256", "sha-256-Sess"]),
        qop in proptest::sample::select(vec!["", "auth", "auth,auth-int", "auth-int, auth"]),
        is_stale: bool,
        separator in proptest::sample::select(vec![", ", ",", " ", "  ,, "]),
    ) {
        // DEL is a control character.
        let realm: Vec<u8> = realm.into_iter().filter(|byte| *byte != 0x7f).collect();
        let quoted = |name: &str, value: &[u8]| {
            let escaped = value.iter().flat_map(|byte| match byte {
                b'"' | b'\\' => vec![b'\\', *byte],
                _ => vec![*byte],
            });
            [name.as_bytes(), b"=\"", &escaped.collect::<Vec<u8>>(), b"\""].concat()
        };
        let mut parts = vec![quoted("Digest realm", &realm), quoted("nonce", nonce.as_bytes())];
        parts.extend(opaque.as_ref().map(|opaque| quoted("opaque", opaque.as_bytes())));
        if !algorithm.is_empty() {
            parts.push(format!("algorithm={algorithm}").into_bytes());
        }
        if !qop.is_empty() {
            parts.push(quoted("qop", qop.as_bytes()));
        }
        parts.push(format!("stale={is_stale}").into_bytes());
        let header = parts.join(separator.as_bytes());
        let expected = DigestChallenge {
            realm,
            nonce: nonce.into_bytes(),
            opaque: opaque.map(String::into_bytes),
            algorithm: Algorithm::from_name(algorithm.as_bytes()).unwrap_or(Algorithm::Md5),
            algorithm_name: (!algorithm.is_empty()).then(|| algorithm.to_owned()),
            has_qop: !qop.is_empty(),
            is_stale,
        };
        prop_assert_eq!(read(&[&header]).0, [Challenge::Digest(expected)]);
    }
}
