use proptest::prelude::*;

use super::*;

fn read(text: &str) -> SessionDescription {
    read_sdp(text.as_bytes(), &mut OddityCounts::default()).unwrap()
}

fn oddities(text: &str) -> Vec<(Oddity, u64)> {
    let mut odd = OddityCounts::default();
    read_sdp(text.as_bytes(), &mut odd).unwrap();
    odd.iter().collect()
}

fn format(payload_type: u8, codec: OfferedCodec, clock_rate: Option<u32>, parameters: &str) -> PayloadFormat {
    PayloadFormat { payload_type, codec, clock_rate, parameters: FormatParameters(parameters.to_owned()) }
}

const REGULAR: &str = "v=0\r\n\
    o=- 1705180917694 1 IN IP4 192.0.2.63\r\n\
    s=Live\r\n\
    c=IN IP4 0.0.0.0\r\n\
    t=0 0\r\n\
    a=control:*\r\n\
    a=range:npt=now-\r\n\
    m=video 0 RTP/AVP 96\r\n\
    b=AS:4096\r\n\
    a=control:trackID=0\r\n\
    a=framerate:15.000000\r\n\
    a=rtpmap:96 H264/90000\r\n\
    a=fmtp:96 packetization-mode=1; profile-level-id=64002A;sprop-parameter-sets=Z2QAKg==,aO4=;\r\n\
    a=recvonly\r\n\
    m=audio 0 RTP/AVP 0 97\r\n\
    a=control:trackID=1\r\n\
    a=rtpmap:97 opus/48000/2\r\n\
    a=sendonly\r\n\
    m=application 0 RTP/AVP 107\r\n\
    a=control:trackID=4\r\n\
    a=rtpmap:107 vnd.onvif.metadata/90000\r\n";

#[test]
fn regular_description_is_read() {
    let description = read(REGULAR);
    assert_eq!(description.control, Some(HiddenText::new("*")));
    let [video, audio, metadata] = description.media.as_slice() else { panic!("three media") };
    let fmtp = "packetization-mode=1; profile-level-id=64002A;sprop-parameter-sets=Z2QAKg==,aO4=;";
    let expected = MediaDescription {
        kind: MediaKind::Video,
        formats: vec![format(96, OfferedCodec::H264, Some(90_000), fmtp)],
        control: Some(HiddenText::new("trackID=0")),
        direction: Some(Direction::RecvOnly),
        frame_rate: Some(15.0),
        is_encrypted: false,
    };
    assert_eq!(*video, expected);
    assert_eq!((audio.kind, audio.is_back_channel()), (MediaKind::Audio, true));
    assert_eq!(audio.formats.iter().map(|format| format.payload_type).collect::<Vec<_>>(), [0, 97]);
    assert_eq!((metadata.kind, metadata.is_back_channel()), (MediaKind::Application, false));
    assert_eq!(oddities(REGULAR), []);
}

#[test]
fn origin_and_connection_lines_are_not_read() {
    let media =
        "m=video 0 RTP/AVP 105\nc=IN \na=rtpmap:105 H265/90000\na=control:rtsp://192.0.2.1/media/video1\n";
    let expected = read(media);
    for head in [
        "v=0\no=- 1001 1 IN \ns=VCP IPC\n",
        "o=-2208991488 2208991488 IN IP4 192.0.2.1\n",
        "v=0\no=- 99999999999999999999999 1 IN IP4\nc=SM SM spk0\nt=\n\n",
        "=\nx\n",
    ] {
        assert_eq!(read(&format!("{head}{media}")), expected, "{head}");
        assert_eq!(oddities(&format!("{head}{media}")), [], "{head}");
    }
    assert_eq!(expected.media[0].formats, [format(105, OfferedCodec::H265, Some(90_000), "")]);
}

#[test]
fn format_parameters_end_in_a_semicolon_or_have_blanks() {
    let parameters =
        FormatParameters(" Packetization-Mode = 1 ;x; sprop-parameter-sets=Z2QAKg==,aO4=;;".into());
    assert_eq!(parameters.get("packetization-mode"), Some("1"));
    assert_eq!(parameters.get("sprop-parameter-sets"), Some("Z2QAKg==,aO4="));
    assert_eq!(parameters.get("x"), None);
    assert_eq!(FormatParameters::default().get("x"), None);
}

#[test]
fn second_fmtp_adds_its_parameters() {
    let text = "m=video 0 RTP/AVP 96\na=rtpmap:96 H265/90000\na=fmtp:96 sprop-sps=QgE=; x=1\n\
        a=fmtp:96 sprop-max-don-diff=2;x=2\n";
    let parameters = &read(text).media[0].formats[0].parameters;
    assert_eq!(parameters.get("sprop-sps"), Some("QgE="));
    assert_eq!(parameters.get("sprop-max-don-diff"), Some("2"));
    assert_eq!(parameters.get("x"), Some("1"));
    assert_eq!(oddities(text), [(Oddity::SdpRepeated, 1)]);
}

#[test]
fn formats_that_are_no_payload_types_are_left_out() {
    let text = "m=video 0 RTP/AVP * 35 vnd.x 300 35 96\na=rtpmap:96 h264\na=rtpmap:35 H265/0\na=rtpmap:98 AV1/90000\n";
    let formats = &read(text).media[0].formats;
    assert_eq!(
        *formats,
        [format(35, OfferedCodec::H265, None, ""), format(96, OfferedCodec::H264, None, "")]
    );
    assert_eq!(oddities(text), [(Oddity::SdpFormat, 3), (Oddity::SdpRtpmap, 1)]);
}

#[test]
fn rtpmaps_replace_formats_that_say_nothing() {
    for list in ["", " 97", " x"] {
        let text = format!("m=video 0 RTP/AVP{list}\na=rtpmap:96 H264/90000\n");
        let formats = &read(&text).media[0].formats;
        assert_eq!(formats.last(), Some(&format(96, OfferedCodec::H264, Some(90_000), "")), "{text}");
    }
    assert_eq!(read("m=video 0 RTP/AVP\n").media[0].formats, []);
    // Some firmware omits the port.
    assert_eq!(read("m=video RTP/AVP 26\n").media[0].formats, [format(26, OfferedCodec::Mjpeg, None, "")]);
}

#[test]
fn codec_without_rtpmap_is_concluded_from_parameters() {
    let codec = |fmtp: &str| read(&format!("m=video 0 RTP/AVP 96\n{fmtp}\n")).media[0].formats[0].codec;
    assert_eq!(codec("a=fmtp:96 packetization-mode=1"), OfferedCodec::H264);
    assert_eq!(codec("a=fmtp:96 sprop-vps=QAE=;sprop-sps=QgE="), OfferedCodec::H265);
    assert_eq!(codec("a=fmtp:97 packetization-mode=1"), OfferedCodec::Unnamed);
    assert_eq!(codec("a=fmtp:packetization-mode=1"), OfferedCodec::Unnamed);
    assert_eq!(codec(""), OfferedCodec::Unnamed);
}

#[test]
fn odd_attributes_are_counted() {
    let text = "a=sendonly\nm=video 0 RTP/SAVP 96\na=control:a b\na=control:\na=control:t=1\na=control:t=2\n\
        a=framerate:nan\na=framerate:-1\na=x-framerate: 25\na=rtpmap:96\na=rtpmap:96 H264/90000\n\
        a=rtpmap:96 H265/90000\na=fmtp:x\na=fmtp:96 a=1\na=fmtp:96 a=2\na=recvonly\na=inactive\n";
    let media = &read(text).media[0];
    assert_eq!(media.control, Some(HiddenText::new("t=1")));
    assert_eq!(media.frame_rate, Some(25.0));
    assert_eq!(media.formats, [format(96, OfferedCodec::H264, Some(90_000), "a=1;a=2")]);
    assert_eq!(media.direction, Some(Direction::RecvOnly));
    assert!(media.is_encrypted);
    assert_eq!(
        oddities(text),
        [
            (Oddity::SdpRtpmap, 1),
            (Oddity::SdpAttribute, 3),
            (Oddity::SdpRepeated, 4),
            (Oddity::SdpSessionSendonly, 1),
            (Oddity::ControlUnusable, 1),
        ]
    );
}

#[test]
fn text_in_other_charsets_is_read() {
    let text = b"\xEF\xBB\xBFm=video 0 RTP/AVP 96\ns=Cam\xE9ra\na=x-name:\xE9\na=rtpmap:96 H264/90000\0\n\0";
    let mut odd = OddityCounts::default();
    let description = read_sdp(text, &mut odd).unwrap();
    assert_eq!(description.media[0].formats, [format(96, OfferedCodec::H264, Some(90_000), "")]);
    assert_eq!(odd.iter().collect::<Vec<_>>(), [(Oddity::SdpCharset, 1)]);
}

#[test]
fn description_is_bounded() {
    let error = |text: &[u8]| read_sdp(text, &mut OddityCounts::default()).unwrap_err();
    assert_eq!(error(&vec![b'\n'; MAX_SDP_BYTES]), SdpError::NoMedia);
    assert_eq!(error(&vec![b'\n'; MAX_SDP_BYTES + 1]), SdpError::SdpTooLong);
    assert_eq!(error(b""), SdpError::NoMedia);
    assert_eq!(error(b"<html>404</html>"), SdpError::NoMedia);

    let many = format!("{}a=control:last\n", "m=video 0 RTP/AVP 96\n".repeat(MAX_MEDIA + 2));
    assert_eq!(read(&many).media.len(), MAX_MEDIA);
    assert!(read(&many).media.iter().all(|media| media.control.is_none()));
    let types: Vec<String> = (0..128).map(|payload_type| payload_type.to_string()).collect();
    assert_eq!(read(&format!("m=audio 0 RTP/AVP {}\n", types.join(" "))).media[0].formats.len(), MAX_MEDIA);
    let attributes = format!("m=video 0 RTP/AVP 96\n{}a=recvonly\n", "a=x\n".repeat(MAX_ATTRIBUTES));
    assert_eq!(read(&attributes).media[0].direction, None);
    assert_eq!(oddities(&attributes)[0], (Oddity::SdpManyAttributes, 1));
    let long = format!("m=video 0 RTP/AVP 96\na=fmtp:96 {}\na=recvonly\n", "x".repeat(MAX_LINE_BYTES));
    assert_eq!(read(&long).media[0].direction, Some(Direction::RecvOnly));
    assert_eq!(read(&long).media[0].formats[0].parameters.0, "");
}

/// A medium of a regular description: its lines, and what they say.
fn medium() -> impl Strategy<Value = (Vec<String>, MediaDescription)> {
    let formats = proptest::collection::btree_map(
        96_u8..128,
        (0_usize..4, 1_u32..100_000, "([a-z]=[0-9=]{1,4};){0,3}"),
        1..4,
    );
    let kind = prop_oneof![
        Just(("video", MediaKind::Video)),
        Just(("audio", MediaKind::Audio)),
        Just(("application", MediaKind::Application)),
    ];
    let direction = proptest::option::of(prop_oneof![
        Just(("recvonly", Direction::RecvOnly)),
        Just(("sendonly", Direction::SendOnly)),
        Just(("sendrecv", Direction::SendRecv)),
    ]);
    let control = proptest::option::of("[a-zA-Z0-9=/?&]{1,12}");
    (kind, formats, direction, control, proptest::option::of(1_u16..60)).prop_map(
        |(kind, formats, direction, control, frame_rate)| {
            let codecs = [
                ("H264", OfferedCodec::H264),
                ("H265", OfferedCodec::H265),
                ("JPEG", OfferedCodec::Mjpeg),
                ("x-new", OfferedCodec::Other),
            ];
            let types: Vec<String> = formats.keys().map(u8::to_string).collect();
            let mut lines = vec![format!("m={} 0 RTP/AVP {}", kind.0, types.join(" "))];
            let mut expected = Vec::new();
            for (payload_type, (codec, rate, fmtp)) in formats {
                let (name, codec) = codecs[codec];
                lines.push(format!("a=rtpmap:{payload_type} {name}/{rate}"));
                if !fmtp.is_empty() {
                    lines.push(format!("a=fmtp:{payload_type} {fmtp}"));
                }
                expected.push(format(payload_type, codec, Some(rate), &fmtp));
            }
            lines.extend(direction.map(|direction| format!("a={}", direction.0)));
            lines.extend(control.as_ref().map(|control| format!("a=control:{control}")));
            lines.extend(frame_rate.map(|rate| format!("a=framerate:{rate}.0")));
            let expected = MediaDescription {
                kind: kind.1,
                formats: expected,
                control: control.map(HiddenText::new),
                direction: direction.map(|direction| direction.1),
                frame_rate: frame_rate.map(f32::from),
                is_encrypted: false,
            };
            (lines, expected)
        },
    )
}

/// The lines of a medium in any order after its first one, with lines between them that nobody knows.
fn shuffled_medium() -> impl Strategy<Value = (Vec<String>, MediaDescription)> {
    let unknown = prop_oneof!["[b-ln-z]=.{0,20}", "a=[p-z]{3}:.{0,20}", "", "[a-z]{0,9}"]
        .prop_map(|line: String| line.replace(['\r', '\n'], " "))
        .prop_filter("unknown", |line| !line.trim().starts_with("m="));
    (medium(), proptest::collection::vec(unknown, 0..6)).prop_flat_map(|((mut lines, expected), unknown)| {
        let first = lines.remove(0);
        lines.extend(unknown);
        Just(lines).prop_shuffle().prop_map(move |mut lines| {
            lines.insert(0, first.clone());
            (lines, expected.clone())
        })
    })
}

proptest! {
    /// The order of lines, their ends, and unknown lines change nothing.
    #[test]
    fn regular_description_is_read_in_any_order(
        media in proptest::collection::vec(shuffled_medium(), 1..5),
        head in Just(vec!["v=0", "o=- 1 1 IN IP4 192.0.2.1", "s=x", "a=control:*", "t=0 0"]).prop_shuffle(),
        end in prop_oneof![Just("\n"), Just("\r\n"), Just("\r"), Just(" \r\n\r\n")],
    ) {
        let head = head.into_iter().map(str::to_owned);
        let lines: Vec<String> = head.chain(media.iter().flat_map(|(lines, _)| lines.clone())).collect();
        let description = read(&lines.join(end));
        prop_assert_eq!(description.control, Some(HiddenText::new("*")));
        let expected: Vec<MediaDescription> = media.into_iter().map(|(_, expected)| expected).collect();
        prop_assert_eq!(description.media, expected);
    }

    #[test]
    fn any_bytes_are_read_within_bounds(
        text in proptest::collection::vec(
            prop_oneof![
                "(m=|a=)[ -~]{0,20}".prop_map(String::into_bytes),
                "m=(video|audio)( 0)?( RTP/S?AVP)?( [0-9]{1,3}){0,70}".prop_map(String::into_bytes),
                "a=(rtpmap|fmtp|control|framerate|sendonly):?[0-9]{0,3} ?.{0,9}".prop_map(String::into_bytes),
                proptest::collection::vec(any::<u8>(), 0..20),
            ],
            0..100,
        ),
    ) {
        let mut odd = OddityCounts::default();
        let Ok(description) = read_sdp(&text.join(&b'\n'), &mut odd) else { return Ok(()) };
        prop_assert!((1..=MAX_MEDIA).contains(&description.media.len()));
        for media in description.media {
            prop_assert!(media.formats.len() <= MAX_MEDIA);
            prop_assert!(media.control.is_none_or(|control| rtsp_url::is_sendable(control.as_str())));
            prop_assert!(media.frame_rate.is_none_or(|rate| rate > 0.0 && rate <= MAX_FRAME_RATE));
            for format in media.formats {
                prop_assert!(format.payload_type < 128 && format.clock_rate != Some(0));
            }
        }
    }
}
