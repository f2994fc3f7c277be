use proptest::prelude::*;

use super::*;

fn written(method: Method, uri: &str, headers: &[(&str, &str)]) -> Result<String, UnwritableMessage> {
    let mut out = Vec::new();
    write_request(&mut out, method, uri, 7, headers)?;
    Ok(String::from_utf8(out).unwrap())
}

/// Reads one request from bytes that hold nothing else.
fn read_request(bytes: &[u8]) -> Request {
    let mut reader = MessageReader::new(MessageLimits::default());
    let mut odd = OddityCounts::default();
    reader.space()[..bytes.len()].copy_from_slice(bytes);
    reader.filled(bytes.len(), ());
    let Some((Message::Request(request), ())) = reader.next(&Channels::default(), &mut odd).unwrap() else {
        panic!("no request");
    };
    assert!(reader.next(&Channels::default(), &mut odd).unwrap().is_none());
    request
}

#[test]
fn cseq_is_first_header() {
    let headers = [("Accept", "application/sdp"), ("Authorization", "Digest username=\"u\"")];
    let request = written(Method::Describe, "rtsp://camera/a?b=c;d", &headers).unwrap();
    let expected = "DESCRIBE rtsp://camera/a?b=c;d RTSP/1.0\r\nCSeq: 7\r\nAccept: application/sdp\r\n\
                    Authorization: Digest username=\"u\"\r\n\r\n";
    assert_eq!(request, expected);
    assert!(
        written(Method::GetParameter, "*", &[])
            .unwrap()
            .starts_with("GET_PARAMETER * RTSP/1.0\r\nCSeq: 7\r\n")
    );
}

#[test]
fn text_that_breaks_a_line_is_not_written() {
    for uri in ["", " rtsp://camera/", "rtsp://camera/ ", "rtsp://camera/\r\nTeardown: 1", "a\rb", "a\0b"] {
        assert_eq!(written(Method::Setup, uri, &[]), Err(UnwritableMessage), "{uri:?}");
    }
    for header in [
        ("A", "b\r\nC: d"),
        ("A\n", "b"),
        ("", "b"),
        ("A b", "c"),
        ("A:", "b"),
        ("cseq", "8"),
        ("Content-length", "0"),
    ] {
        assert_eq!(
            written(Method::Setup, "*", &[("Session", "1"), header]),
            Err(UnwritableMessage),
            "{header:?}"
        );
    }
    let mut out = b"kept".to_vec();
    assert_eq!(write_answer(&mut out, AnswerStatus::Ok, "1\r\nA: b"), Err(UnwritableMessage));
    assert_eq!(out, b"kept");
}

#[test]
fn answer_repeats_cseq_of_camera() {
    let mut out = Vec::new();
    write_answer(&mut out, AnswerStatus::Ok, "12").unwrap();
    write_answer(&mut out, AnswerStatus::NotImplemented, "").unwrap();
    assert_eq!(out, b"RTSP/1.0 200 OK\r\nCSeq: 12\r\n\r\nRTSP/1.0 501 Not Implemented\r\nCSeq: \r\n\r\n");
}

#[test]
fn headers_ignore_case_and_keep_order() {
    let pairs = [("WWW-Authenticate", "Basic"), ("Server", "x"), ("www-authenticate", "Digest")];
    let headers =
        Headers(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect());
    assert_eq!(headers.get("Www-Authenticate"), Some("Basic"));
    assert_eq!(headers.get_all("WWW-AUTHENTICATE").collect::<Vec<_>>(), ["Basic", "Digest"]);
    assert_eq!(headers.get("Session"), None);
    assert_eq!(headers.iter().collect::<Vec<_>>(), pairs);
}

#[test]
fn other_sequence_is_counted() {
    let count = |cseq: Option<&str>| {
        let headers = Headers(cseq.map(|value| ("Cseq".to_owned(), value.to_owned())).into_iter().collect());
        let mut odd = OddityCounts::default();
        Response { status: 200, headers, body: Vec::new() }.note_sequence(5, &mut odd);
        odd.get(Oddity::OtherSequence)
    };
    assert_eq!([Some("5"), Some("4"), Some(""), None].map(count), [0, 1, 1, 1]);
}

proptest! {
    #[test]
    fn written_request_is_read_back(
        method in proptest::sample::select(Method::VARIANTS),
        uri in "\\PC{1,60}",
        cseq: u32,
        headers in proptest::collection::vec(("[!-~]{1,12}", "\\PC{0,40}"), 0..6),
    ) {
        let headers: Vec<(&str, &str)> =
            headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let mut out = Vec::new();
        if write_request(&mut out, method, &uri, cseq, &headers).is_ok() {
            let request = read_request(&out);
            prop_assert_eq!(request.method, Some(method));
            prop_assert_eq!(request.uri, uri);
            prop_assert!(request.body.is_empty());
            let cseq = cseq.to_string();
            let mut sent = vec![("CSeq", cseq.as_str())];
            sent.extend(headers.iter().map(|(name, value)| (*name, value.trim())));
            prop_assert_eq!(request.headers.iter().collect::<Vec<_>>(), sent);
        }
    }
}
