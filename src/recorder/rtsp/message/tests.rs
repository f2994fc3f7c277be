use proptest::prelude::*;

use super::*;

fn written(method: Method, uri: &str, headers: &[(&str, &str)]) -> Result<String, UnwritableMessage> {
    let mut out = Vec::new();
    let headers: Vec<(&str, &[u8])> = headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
    write_request(&mut out, method, uri, 7, &headers)?;
    Ok(String::from_utf8(out).unwrap())
}

enum Read {
    Request(Request),
    Response(Response),
}

/// Reads one message from bytes that hold nothing else.
fn read_one(bytes: &[u8]) -> Read {
    let mut reader = MessageReader::new(MessageLimits::default());
    let mut odd = OddityCounts::default();
    reader.space()[..bytes.len()].copy_from_slice(bytes);
    reader.filled(bytes.len(), ());
    let read = match reader.next(&Channels::default(), &mut odd).unwrap() {
        Some((Message::Request(request), ())) => Read::Request(request),
        Some((Message::Response(response), ())) => Read::Response(response),
        other => panic!("{other:?}"),
    };
    assert!(reader.next(&Channels::default(), &mut odd).unwrap().is_none());
    read
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
    for uri in [
        "",
        " rtsp://camera/",
        "rtsp://camera/ ",
        "rtsp://camera/\r\nTeardown: 1",
        "a\rb",
        "a\0b",
        "a b",
        "a\tb",
    ] {
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
fn bytes_of_camera_return_unchanged() {
    let answer = b"RTSP/1.0 401 x\r\nWWW-Authenticate: Digest realm=\"\xc9\xe3\t\x85\", nonce=\"1\"\r\n\
                   Content-Base: rtsp://camera/caf\xe9/\r\nCSeq: \xff\r\n\r\n";
    let Read::Response(response) = read_one(answer) else { panic!("no answer") };
    let realm: Vec<Vec<u8>> = response.headers.get_all_bytes("WWW-Authenticate").collect();
    assert_eq!(realm, [b"Digest realm=\"\xc9\xe3\t\x85\", nonce=\"1\""]);
    let mut out = Vec::new();
    let base = response.headers.get("Content-Base").unwrap();
    write_request(&mut out, Method::Setup, base, 7, &[("Authorization", &realm[0])]).unwrap();
    let expected = b"SETUP rtsp://camera/caf\xe9/ RTSP/1.0\r\nCSeq: 7\r\n\
                     Authorization: Digest realm=\"\xc9\xe3\t\x85\", nonce=\"1\"\r\n\r\n";
    assert_eq!(out.escape_ascii().to_string(), expected.escape_ascii().to_string());
    let mut out = Vec::new();
    write_answer(&mut out, AnswerStatus::Ok, response.headers.get("CSeq").unwrap()).unwrap();
    assert_eq!(out, b"RTSP/1.0 200 OK\r\nCSeq: \xff\r\n\r\n");
}

#[test]
fn announced_close_is_read() {
    let closes = |value: &str| {
        let Read::Response(response) = read_one(format!("RTSP/1.0 401 x\r\n{value}\r\n").as_bytes()) else {
            panic!("no answer")
        };
        response.headers.closes_connection()
    };
    for value in ["Connection: close\r\n", "connection: x\r\nCONNECTION: Keep-Alive, Close\r\n"] {
        assert!(closes(value), "{value}");
    }
    for value in ["", "Connection: Keep-Alive\r\n", "Connection:\r\n", "X: close\r\n"] {
        assert!(!closes(value), "{value}");
    }
}

#[test]
fn text_of_camera_is_not_shown() {
    let secret = "rtsp://admin:Cam-Pass@camera/";
    let text = format!(
        "RTSP/1.0 200 OK\r\n{secret}: x\r\nContent-Base: {secret}\r\nContent-Length: 8\r\n\r\nCam-Pass"
    );
    let mut reader = MessageReader::new(MessageLimits::default());
    reader.space()[..text.len()].copy_from_slice(text.as_bytes());
    reader.filled(text.len() - 1, ());
    let unread = format!("{reader:?}");
    assert!(reader.next(&Channels::default(), &mut OddityCounts::default()).unwrap().is_none());
    let in_body = format!("{reader:?}");
    let mut data = *b"Cam-Pass";
    let frame = Message::Interleaved { channel: 0, data: &mut data };
    let (answer, request) = (
        read_one(text.as_bytes()),
        read_one(format!("SETUP {secret} RTSP/1.0\r\nX: {secret}\r\n\r\n").as_bytes()),
    );
    let shown = match (answer, request) {
        (Read::Response(answer), Read::Request(request)) => {
            let messages = [Message::Response(answer.clone()), Message::Request(request.clone()), frame];
            format!("{unread} {in_body} {answer:?} {request:?} {:?} {messages:?}", answer.headers)
        }
        _ => panic!("no messages"),
    };
    assert!(!shown.contains("Cam-Pass") && !shown.contains("67, 97, 109"), "{shown}");
    assert!(shown.contains("200") && shown.contains("Setup"), "{shown}");
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
        let headers: Vec<(&str, &[u8])> =
            headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        let mut out = Vec::new();
        if write_request(&mut out, method, &uri, cseq, &headers).is_ok() {
            let Read::Request(request) = read_one(&out) else { panic!("{out:?}") };
            prop_assert_eq!(request.method, Some(method));
            prop_assert_eq!(text::encode(&request.uri), text::encode(&uri));
            prop_assert!(request.body.is_empty());
            let mut sent = vec![("CSeq", cseq.to_string().into_bytes())];
            sent.extend(headers.iter().map(|(name, value)| (*name, text::trim_bytes(value).to_vec())));
            let read: Vec<_> = request.headers.iter().map(|(name, value)| (name, text::encode(value))).collect();
            prop_assert_eq!(read, sent);
        }
    }
}
