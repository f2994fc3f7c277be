use proptest::collection::vec;
use proptest::prelude::*;

use super::super::{Headers, MAX_HEADERS, Method, Request, Response};
use super::*;
use crate::recorder::rtsp::text;

/// Result of a reader.
#[derive(Clone, Debug, PartialEq)]
enum Read {
    Request(Request),
    Response(Response),
    Frame(u8, Vec<u8>),
    Failed(MessageError),
}

/// Small limits, so that short inputs reach them.
const SMALL: MessageLimits = MessageLimits { head: 300, body: 200, skipped: 150 };

struct Reading {
    reader: MessageReader<usize>,
    channels: Channels,
    odd: OddityCounts,
    read: Vec<Read>,
}

impl Reading {
    fn new(limits: MessageLimits) -> Self {
        let mut channels = Channels::default();
        channels.insert(0);
        channels.insert(1);
        Self { reader: MessageReader::new(limits), channels, odd: OddityCounts::default(), read: Vec::new() }
    }

    fn has_failed(&self) -> bool {
        matches!(self.read.last(), Some(Read::Failed(_)))
    }

    fn drain(&mut self) {
        while !self.has_failed() {
            let read = match self.reader.next(&self.channels, &mut self.odd) {
                Ok(None) => return,
                Ok(Some((Message::Request(request), _))) => Read::Request(request),
                Ok(Some((Message::Response(response), _))) => Read::Response(response),
                Ok(Some((Message::Interleaved { channel, data }, _))) => Read::Frame(channel, data.to_vec()),
                Err(error) => Read::Failed(error),
            };
            self.read.push(read);
        }
    }

    /// One read of the socket for each chunk, or more if the space is smaller.
    fn push(&mut self, mut chunk: &[u8]) {
        let limits = self.reader.limits;
        while !chunk.is_empty() && !self.has_failed() {
            let space = self.reader.space();
            assert!(!space.is_empty(), "an empty space reads like the end of the connection");
            let (now, later) = chunk.split_at(space.len().min(chunk.len()));
            space[..now.len()].copy_from_slice(now);
            self.reader.filled(now.len(), now.len());
            chunk = later;
            self.drain();
            let bound = limits.head.max(MAX_FRAME) + MIN_SPACE + 2 * limits.body;
            assert!(self.reader.allocated() <= bound, "{} bytes", self.reader.allocated());
        }
    }

    /// Silence, or the end of the connection.
    fn end(&mut self) {
        self.reader.end_body();
        self.drain();
    }

    fn odd(&self) -> Vec<(Oddity, u64)> {
        self.odd.iter().collect()
    }
}

fn read_with(limits: MessageLimits, bytes: &[u8]) -> Reading {
    let mut reading = Reading::new(limits);
    reading.push(bytes);
    reading
}

fn read(bytes: impl AsRef<[u8]>) -> Reading {
    read_with(MessageLimits::default(), bytes.as_ref())
}

fn response(reading: &Reading) -> &Response {
    let [Read::Response(response)] = &reading.read[..] else { panic!("{:?}", reading.read) };
    response
}

fn frame(channel: u8, data: &[u8]) -> Vec<u8> {
    let len = u16::try_from(data.len()).unwrap().to_be_bytes();
    [&[b'$', channel, len[0], len[1]], data].concat()
}

const RTP: [u8; 14] = [0x80, 96, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0x65, 0x88];

const OK: &str = "RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n";

#[test]
fn answer_of_the_standard_is_read() {
    let text =
        "RTSP/1.0 200 OK\r\nCSeq: 2\r\nContent-Type: application/sdp\r\nContent-Length: 6\r\n\r\nv=0\r\n\n";
    let reading = read(text);
    let answer = response(&reading);
    assert_eq!((answer.status, &answer.body[..]), (200, &b"v=0\r\n\n"[..]));
    assert_eq!(answer.headers.get("content-type"), Some("application/sdp"));
    assert_eq!(reading.odd(), []);
}

#[test]
fn tolerated_heads_are_named() {
    for (text, expected) in [
        ("RTSP/1.0 200 OK\r\nServer: \r\n\r\n", vec![Oddity::EmptyHeader]),
        ("RTSP/1.0 200 OK\r\nServer:\r\n\r\n", vec![Oddity::EmptyHeader]),
        ("RTSP/1.0 200\r\n\r\n", vec![Oddity::MissingReason]),
        ("RTSP/1.0 200 \r\n\r\n", vec![]),
        ("RTSP/1.0  200  All is well\r\n\r\n", vec![]),
        ("RTSP/2.0 200 OK\r\n\r\n", vec![Oddity::OtherVersion]),
        ("RTSP/1.0 200 OK\nCSeq: 1\n\n", vec![Oddity::BareLineFeed]),
        ("RTSP/1.0 200 OK\r\nCSeq : 1\r\n\r\n", vec![]),
        ("RTSP/1.0 200 OK\r\nPublic: PLAY,\r\n  SETUP\r\n\r\n", vec![Oddity::FoldedHeader]),
        ("RTSP/1.0 200 OK\r\nno header\r\n: x\r\n\r\n", vec![Oddity::HeaderWithoutName]),
        ("RTSP/1.0 200 OK\r\n folded nothing\r\n\r\n", vec![Oddity::HeaderWithoutName]),
        ("\r\n\r\nRTSP/1.0 200 OK\r\n\r\n", vec![Oddity::BlankLine]),
        ("\0RTSP/1.0 200 OK\r\n\r\n", vec![Oddity::Garbage]),
    ] {
        let reading = read(text);
        assert_eq!(response(&reading).status, 200, "{text:?}");
        let named: Vec<Oddity> = reading.odd.iter().map(|(oddity, _)| oddity).collect();
        assert_eq!(named, expected, "{text:?}");
    }
}

#[test]
fn headers_of_odd_lines_keep_their_values() {
    let bytes = b"RTSP/1.0 200 OK\r\nServer:\r\nPublic: PLAY,\r\n\t SETUP \r\nSession : 5 ;timeout=9\0\r\r\nRealm: K\xfcche\r\n\r\n";
    let reading = read(bytes);
    let headers = &response(&reading).headers;
    let kitchen = text::decode(b"K\xfcche").0;
    let expected =
        [("Server", ""), ("Public", "PLAY, SETUP"), ("Session", "5 ;timeout=9"), ("Realm", &kitchen)];
    assert_eq!(headers.iter().collect::<Vec<_>>(), expected);
    assert_eq!(reading.odd.get(Oddity::NotUtf8), 1);
}

#[test]
fn requests_of_cameras_are_read() {
    let request = |text: &str| {
        let reading = read(text);
        let [Read::Request(request)] = &reading.read[..] else { panic!("{text:?}: {:?}", reading.read) };
        request.clone()
    };
    let options = request("OPTIONS * RTSP/1.0\r\nCSeq: 9\r\n\r\n");
    assert_eq!((options.method, options.uri.as_str()), (Some(Method::Options), "*"));
    assert_eq!(options.headers.get("CSeq"), Some("9"));
    let announce = request("ANNOUNCE rtsp://a/b c RTSP/1.0\r\nContent-Length: 3\r\n\r\nv=0");
    assert_eq!((announce.uri.as_str(), &announce.body[..]), ("rtsp://a/b c", &b"v=0"[..]));
    assert_eq!(request("OPTIONS RTSP/1.0\r\n\r\n").uri, "");
    // The session answers 501.
    assert_eq!(request("PLAY_NOTIFY rtsp://a RTSP/1.0\r\n\r\n").method, None);
}

#[test]
fn http_answer_is_named() {
    assert_eq!(read("HTTP/1.1 400 Bad Request\r\n\r\n").read, [Read::Failed(MessageError::NotRtsp)]);
    // The body of an unannounced page is garbage, even if it quotes messages.
    assert_eq!(read("<p>HTTP/1.1 400</p>").read, []);
}

#[test]
fn data_between_and_before_answers_is_read() {
    let bytes = [&frame(0, &RTP)[..], OK.as_bytes(), &frame(1, &RTP), &frame(0, &[]), OK.as_bytes()].concat();
    let reading = read(bytes);
    let channels: Vec<Option<u8>> = reading
        .read
        .iter()
        .map(|read| if let Read::Frame(channel, _) = read { Some(*channel) } else { None })
        .collect();
    assert_eq!(channels, [Some(0), None, Some(1), Some(0), None]);
    assert_eq!(reading.odd(), []);
}

#[test]
fn data_of_unassigned_channels_is_counted() {
    let bytes = [frame(4, &RTP), frame(0, &RTP), frame(5, &RTP)].concat();
    let reading = read(bytes);
    let expected = [4, 0, 5].map(|channel| Read::Frame(channel, RTP.to_vec()));
    assert_eq!(reading.read, expected);
    assert_eq!(reading.odd(), [(Oddity::UnassignedChannel, 2)]);
}

#[test]
fn reader_resumes_after_garbage() {
    let rtp = frame(0, &RTP);
    for garbage in [
        &b"a=control:track1\r\n"[..],
        b"<html>RTSP/1.0 and PLAY it</html>",
        b"to PLAY it ",
        // `$` with a channel of nobody, with a short packet, and with a wrong version.
        b"x$\x07\xff\xff\x80",
        b"x$\0\0\x02\x80\0",
        b"x$\0\xff\xff\x40",
        b"x\r\n\r\nFOO",
        b"\0\0\0",
    ] {
        for next in [&rtp[..], OK.as_bytes(), b"OPTIONS * RTSP/1.0\r\n\r\n"] {
            let reading = read([OK.as_bytes(), garbage, next].concat());
            assert_eq!(reading.read.len(), 2, "{garbage:?} {next:?}: {:?}", reading.read);
            assert_eq!(reading.odd(), [(Oddity::Garbage, 1)], "{garbage:?} {next:?}");
        }
    }
}

#[test]
fn too_long_frame_loses_only_its_neighbour() {
    // The first frame claims ten bytes of the second.
    let mut short = frame(0, &RTP);
    short[3] += 10;
    let reading = read([short, frame(0, &RTP), frame(0, &RTP), OK.into()].concat());
    assert_eq!(reading.read.len(), 3, "{:?}", reading.read);
    assert_eq!(reading.read[1], Read::Frame(0, RTP.to_vec()));
    assert_eq!(reading.odd(), [(Oddity::Garbage, 1)]);
}

#[test]
fn wrong_content_length_loses_no_message() {
    let head = |len: &str| format!("RTSP/1.0 200 OK\r\nContent-Length: {len}\r\n\r\n");
    for (text, body, oddity) in [
        // It does not count the last line end.
        (head("5") + "v=0\r\n\r\n", "v=0\r\n", Some(Oddity::BlankLine)),
        (head("-1"), "", Some(Oddity::InvalidContentLength)),
        (head("many"), "", Some(Oddity::InvalidContentLength)),
        (head("3 bytes") + "v=0", "v=0", Some(Oddity::InvalidContentLength)),
        (head("3\r\nContent-Length: 3") + "v=0", "v=0", None),
        (head("3\r\nContent-Length: 4") + "v=0", "v=0", Some(Oddity::InvalidContentLength)),
        (head("x\r\nContent-Length: 3") + "v=0", "v=0", Some(Oddity::InvalidContentLength)),
    ] {
        let reading = read(text.clone() + OK);
        let [Read::Response(first), Read::Response(second)] = &reading.read[..] else {
            panic!("{text:?}: {:?}", reading.read)
        };
        assert_eq!((&first.body[..], second.headers.get("CSeq")), (body.as_bytes(), Some("1")), "{text:?}");
        assert_eq!(
            reading.odd(),
            oddity.map(|oddity| (oddity, 1)).into_iter().collect::<Vec<_>>(),
            "{text:?}"
        );
    }
}

#[test]
fn body_without_length_ends_with_silence_or_next_message() {
    let begin = || {
        let mut reading = Reading::new(MessageLimits::default());
        reading.reader.expect_description();
        reading
    };
    let sdp = "v=0\r\na=tool:RTSP/1.0 200 $\r\nm=video 0 RTP/AVP 96\r\n";
    for head in ["RTSP/1.0 200 OK\r\n\r\n", "RTSP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n"] {
        for next in [&frame(0, &RTP)[..], OK.as_bytes(), b"OPTIONS * RTSP/1.0\r\n\r\n"] {
            let mut reading = begin();
            reading.push([head.as_bytes(), sdp.as_bytes(), next].concat().as_slice());
            let [Read::Response(answer), _] = &reading.read[..] else { panic!("{:?}", reading.read) };
            assert_eq!(answer.body, sdp.as_bytes());
            assert_eq!(reading.odd(), [(Oddity::MissingContentLength, 1)]);
        }
        let mut reading = begin();
        reading.push(format!("{head}{sdp}RTSP/").as_bytes());
        assert!(reading.read.is_empty() && reading.reader.is_in_body());
        reading.end();
        assert_eq!(response(&reading).body, format!("{sdp}RTSP/").as_bytes());
        assert!(!reading.reader.is_in_body());
    }
    // A refusal has no body, and the expectation is over after any answer.
    let mut reading = begin();
    reading.push(format!("RTSP/1.0 401 Unauthorized\r\n\r\n{OK}").as_bytes());
    assert_eq!(reading.read.len(), 2);
}

#[test]
fn short_body_ends_with_silence() {
    let mut reading = read("RTSP/1.0 200 OK\r\nContent-Length: 10\r\n\r\nv=0\r\n");
    assert!(reading.read.is_empty() && reading.reader.is_in_body());
    reading.end();
    assert_eq!(response(&reading).body, b"v=0\r\n");
    assert_eq!(reading.odd(), [(Oddity::ShortBody, 1)]);
    reading.push(OK.as_bytes());
    assert_eq!(reading.read.len(), 2);
}

#[test]
fn limits_hold() {
    let limits = MessageLimits::default();
    let head = |len: usize| {
        let begin = "RTSP/1.0 200 OK\r\nX: ";
        format!("{begin}{}\r\n\r\n", "x".repeat(len - begin.len() - 4))
    };
    let body = |len: usize| format!("RTSP/1.0 200 OK\r\nContent-Length: {len}\r\n\r\n{}", "x".repeat(len));
    let headers = |count: usize| format!("RTSP/1.0 200 OK\r\n{}\r\n", "X: y\r\n".repeat(count));
    let garbage = |len: usize| "x".repeat(len) + OK;
    for text in [
        head(limits.head),
        body(limits.body),
        headers(MAX_HEADERS),
        garbage(limits.skipped),
        "\n".repeat(limits.skipped) + OK,
    ] {
        assert_eq!(response(&read(&text)).status, 200);
    }
    for (text, error) in [
        (head(limits.head + 1), MessageError::HeadTooLong),
        (body(limits.body + 1), MessageError::BodyTooLong),
        (format!("RTSP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n", "9".repeat(40)), MessageError::BodyTooLong),
        (headers(MAX_HEADERS + 1), MessageError::TooManyHeaders),
        (garbage(limits.skipped + 1), MessageError::TooMuchGarbage),
        ("\n".repeat(limits.skipped + 1) + OK, MessageError::TooMuchGarbage),
        // A start line without an end is garbage.
        ("RTSP/1.0 200 ".to_owned() + &"x".repeat(80_000), MessageError::TooMuchGarbage),
    ] {
        assert_eq!(read(&text).read, [Read::Failed(error)], "{error}");
    }
    let mut reading = Reading::new(limits);
    reading.reader.expect_description();
    reading.push(format!("RTSP/1.0 200 OK\r\n\r\n{}", "x".repeat(limits.body + 1)).as_bytes());
    assert_eq!(reading.read, [Read::Failed(MessageError::BodyTooLong)]);
}

#[test]
fn largest_frame_fits_into_buffer() {
    let data = vec![0x80; 0xffff];
    let reading = read([frame(0, &data), frame(1, &data), frame(0, &data)].concat());
    assert_eq!(reading.read.len(), 3);
    assert!(reading.reader.allocated() <= 70_000);
}

/// A long line in small reads is searched once.
#[test]
fn head_in_single_bytes_is_searched_once() {
    let text = format!("RTSP/1.0 200 OK\r\nX: {}\r\n\r\n", "x".repeat(60_000));
    let mut reading = Reading::new(MessageLimits::default());
    text.as_bytes().chunks(1).for_each(|byte| reading.push(byte));
    assert_eq!(response(&reading).status, 200);
    let steps = reading.reader.search.steps;
    assert!(steps <= 3 * text.len(), "{steps}");
}

/// Each word of garbage could begin a message.
#[test]
fn garbage_is_searched_once() {
    for (word, end) in [
        ("PLAY ", ""),
        ("PLAY ", "\n"),
        ("PLAY ", "\0"),
        ("PLAY a RTSP/1.0 ", "x\n"),
        ("RTSP/1.0 200 ", "\0"),
        ("RTSP/1.0 200 ", ""),
        ("RTSP/1.0\r200 ", "\n"),
        ("RTSP/1.0 000 ", "\n"),
        ("OPTIONS ", "\n"),
    ] {
        let line = word.repeat(4000 / word.len()) + end;
        let garbage = "x".to_owned() + &line.repeat(60_000 / line.len());
        for chunk in [garbage.len(), 100] {
            let mut reading = Reading::new(MessageLimits::default());
            garbage.as_bytes().chunks(chunk).for_each(|chunk| reading.push(chunk));
            let steps = reading.reader.search.steps;
            assert!(steps <= 3 * garbage.len(), "{steps} {word:?} {end:?} {chunk}");
            assert!(reading.read.is_empty(), "{:?}", reading.read);
        }
    }
}

#[test]
fn data_of_an_older_session_is_no_garbage() {
    let stray = frame(2, &RTP);
    for begin in [
        // An empty frame, an endless one of no packet, and garbage.
        frame(2, &[]),
        frame(2, &vec![0; 0xffff]),
        b"x".to_vec(),
        b"x$\x02\xff\xff".to_vec(),
    ] {
        let mut reading = Reading { channels: Channels::default(), ..Reading::new(MessageLimits::default()) };
        reading.push(&begin);
        (0..10_000).for_each(|_| reading.push(&stray));
        reading.push(OK.as_bytes());
        assert!(matches!(reading.read.last(), Some(Read::Response(_))), "{:?}", reading.read.last());
        assert!(reading.read.len() >= 10_000, "{}", reading.read.len());
    }
}

#[test]
fn description_without_length_ends_at_data_of_an_older_session() {
    let sdp = "v=0\r\na=x:$\x02\r\n";
    let mut reading = Reading::new(MessageLimits::default());
    reading.reader.expect_description();
    reading.push(format!("RTSP/1.0 200 OK\r\n\r\n{sdp}").as_bytes());
    (0..3).for_each(|_| reading.push(&frame(2, &RTP)));
    let [Read::Response(answer), Read::Frame(2, _), ..] = &reading.read[..] else {
        panic!("{:?}", reading.read)
    };
    assert_eq!(answer.body, sdp.as_bytes());
}

#[test]
fn provisional_answer_is_no_description() {
    let mut reading = Reading::new(MessageLimits::default());
    reading.reader.expect_description();
    reading.push(b"RTSP/1.0 100 Continue\r\n\r\nRTSP/1.0 200 OK\r\n\r\nv=0\r\n");
    reading.end();
    let [Read::Response(_), Read::Response(answer)] = &reading.read[..] else { panic!("{:?}", reading.read) };
    assert_eq!(answer.body, b"v=0\r\n");
}

#[test]
fn time_is_that_of_the_last_read() {
    let mut reader = MessageReader::new(MessageLimits::default());
    let mut odd = OddityCounts::default();
    let (first, second) = OK.as_bytes().split_at(9);
    for (chunk, at, expected) in [(first, 1, None), (second, 2, Some(2))] {
        reader.space()[..chunk.len()].copy_from_slice(chunk);
        reader.filled(chunk.len(), at);
        let read = reader.next(&Channels::default(), &mut odd).unwrap();
        assert_eq!(read.map(|(_, at)| at), expected);
    }
}

/// Good and bad pieces of the streams of cameras.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let text = |text: &'static str| Just(text.as_bytes().to_vec());
    prop_oneof![
        4 => (0u8..4, vec(any::<u8>(), 0..40)).prop_map(|(channel, mut data)| {
            if let Some(first) = data.first_mut() { *first = 0x80 | (*first & 0x3f); }
            frame(channel, &data)
        }),
        2 => (0u8..4, vec(any::<u8>(), 0..40)).prop_map(|(channel, data)| frame(channel, &data)),
        2 => text(OK),
        1 => text("RTSP/1.0 200\nServer:\nX: y\n z\n\n"),
        1 => text("RTSP/1.0 200 OK\r\nContent-Length: 8\r\n\r\nv=0\r\ns=x\r\n"),
        1 => text("RTSP/1.0 200 OK\r\nContent-Length: 90\r\n\r\nv=0\r\n"),
        1 => text("RTSP/1.0 200 OK\r\n\r\nv=0\r\nRTSP\r\nm=video\r\n"),
        1 => text("RTSP/1.0 401 Unauthorized\r\nWWW-Authenticate: Digest realm=\"a\"\r\n\r\n"),
        1 => text("OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n"),
        1 => text("FOO * RTSP/1.0\r\n\r\n"),
        1 => text("ABCDEFGHIJKLMNOPQRSTUVW * RTSP/1.0\r\n\r\n"),
        1 => text("ABCDEFGHIJKLMNOPQRSTUVWX * RTSP/1.0\r\n\r\n"),
        1 => text("HTTP/1.1 400 Bad Request\r\n\r\n"),
        1 => text("RTSP/1.0 "),
        1 => text("PLAY "),
        1 => text("\r\n\r\n"),
        1 => text("$\0"),
        1 => text("a=control:x\r\n"),
        1 => vec(any::<u8>(), 0..20),
        1 => vec(proptest::sample::select(b"$RTSPLAYHX/1.0 2:\r\n\0\x01\x80".to_vec()), 0..40),
    ]
}

/// Returns the result of the bytes in chunks of these lengths, and a last one with the rest.
fn read_in_chunks(bytes: &[u8], chunks: &[usize], is_description: bool) -> (Vec<Read>, OddityCounts) {
    let mut reading = Reading::new(SMALL);
    if is_description {
        reading.reader.expect_description();
    }
    let mut rest = bytes;
    for len in chunks {
        let (chunk, later) = rest.split_at((*len).min(rest.len()));
        reading.push(chunk);
        rest = later;
    }
    reading.push(rest);
    reading.end();
    (reading.read, reading.odd)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn reads_do_not_change_messages(
        pieces in vec(piece(), 0..12),
        chunks in vec(0usize..30, 0..40),
        is_description: bool,
    ) {
        let bytes = pieces.concat();
        let whole = read_in_chunks(&bytes, &[], is_description);
        prop_assert_eq!(&read_in_chunks(&bytes, &chunks, is_description), &whole);
        prop_assert_eq!(&read_in_chunks(&bytes, &vec![1; bytes.len()], is_description), &whole);
    }

    #[test]
    fn arbitrary_bytes_stay_within_bounds(
        bytes in vec(any::<u8>(), 0..2000),
        chunks in vec(0usize..300, 0..20),
        is_description: bool,
    ) {
        let whole = read_in_chunks(&bytes, &[], is_description);
        prop_assert_eq!(read_in_chunks(&bytes, &chunks, is_description), whole);
    }

    #[test]
    fn good_messages_are_read_whole(
        messages in vec(prop_oneof![
            (0u8..2, vec(any::<u8>(), 0..300)).prop_map(|(channel, data)| Read::Frame(channel, data)),
            (100u16..1000, vec(any::<u8>(), 0..150))
                .prop_map(|(status, body)| Read::Response(Response { status, headers: Headers::default(), body })),
        ], 0..20),
        chunks in vec(0usize..300, 0..20),
    ) {
        let mut bytes = Vec::new();
        for message in &messages {
            match message {
                Read::Frame(channel, data) => bytes.extend(frame(*channel, data)),
                Read::Response(Response { status, body, .. }) => {
                    bytes.extend(format!("RTSP/1.0 {status} x\r\nContent-Length: {}\r\n\r\n", body.len()).bytes());
                    bytes.extend(body);
                }
                _ => {}
            }
        }
        let (mut read, odd) = read_in_chunks(&bytes, &chunks, false);
        for read in &mut read {
            if let Read::Response(response) = read {
                response.headers = Headers::default();
            }
        }
        prop_assert_eq!(read, messages);
        prop_assert_eq!(odd, OddityCounts::default());
    }
}

#[test]
fn every_split_gives_the_same_messages() {
    let stream = [
        OK.as_bytes(),
        b"\r\nRTSP/1.0 200\nServer:\nPublic: PLAY,\n SETUP\n\n",
        &frame(0, &RTP),
        b"RTSP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nv=0\r\n\r\n",
        &frame(9, &RTP),
        b"noise $\0 RTSP/1.0 PLAY $\x01\xff\xff\x40",
        &frame(1, &RTP),
        b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n",
        b"RTSP/1.0 200 OK\r\nContent-Length: 50\r\n\r\nshort",
    ]
    .concat();
    let whole = read_in_chunks(&stream, &[], false);
    assert_eq!(whole.0.len(), 8, "{whole:?}");
    for first in 0..=stream.len() {
        for second in (0..=stream.len() - first).step_by(7) {
            assert_eq!(read_in_chunks(&stream, &[first, second], false), whole, "{first} {second}");
        }
    }
}
