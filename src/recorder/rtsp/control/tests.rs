use proptest::prelude::*;

use super::*;
use crate::recorder::rtsp::rtsp_url::MAX_URL_BYTES;
use crate::recorder::rtsp::sdp::read_sdp;

fn url(url: &str) -> RtspUrl {
    RtspUrl::parse(url).unwrap()
}

fn joined(base: &str, control: &str) -> String {
    join_counted(base, Some(control), &mut OddityCounts::default())
}

fn join_counted(base: &str, control: Option<&str>, odd: &mut OddityCounts) -> String {
    join(&url(base), control.map(HiddenText::new).as_ref(), odd).as_str().to_owned()
}

#[test]
fn relative_control_is_appended_to_the_base() {
    for (base, control, expected) in [
        ("rtsp://cam/live/", "trackID=0", "rtsp://cam/live/trackID=0"),
        ("rtsp://cam/live", "trackID=0", "rtsp://cam/live/trackID=0"),
        ("rtsp://cam", "track1", "rtsp://cam/track1"),
        ("rtsp://cam/live.sdp/", "/track1", "rtsp://cam/live.sdp/track1"),
        ("rtsp://cam/live.sdp", "/track1", "rtsp://cam/live.sdp/track1"),
        // A query stands in the base, and cameras expect the track after it.
        (
            "rtsp://cam/real?channel=1&subtype=0/",
            "trackID=0",
            "rtsp://cam/real?channel=1&subtype=0/trackID=0",
        ),
        ("rtsp://cam/real?channel=1", "trackID=0", "rtsp://cam/real?channel=1/trackID=0"),
        ("rtsp://cam/a", "?track=1", "rtsp://cam/a?track=1"),
        // A path from the root that names the base again.
        ("rtsp://cam:554/live", "/live/track1", "rtsp://cam:554/live/track1"),
        ("rtsp://cam:554/live/?x=1", "/live/track1?x=1", "rtsp://cam:554/live/track1?x=1"),
        ("rtsp://cam/live", "/live2/track1", "rtsp://cam/live/live2/track1"),
        ("rtsp://cam/live", "/live", "rtsp://cam/live"),
        ("rtsp://cam/live/?x=1", "/live", "rtsp://cam/live"),
        // Neither is normalised.
        ("rtsp://cam/a;b/%2f/../", "x%2F;y", "rtsp://cam/a;b/%2f/../x%2F;y"),
        ("rtsp://cam/a/", "track?from=rtsp://x/", "rtsp://cam/a/track?from=rtsp://x/"),
    ] {
        assert_eq!(joined(base, control), expected, "{base} {control}");
    }
}

#[test]
fn absolute_control_stays_as_it_is() {
    let mut odd = OddityCounts::default();
    let mut join = |base, control| join_counted(base, Some(control), &mut odd);
    let control = "rtsp://cam/axis-media/media.amp/stream=0?videocodec=h264";
    assert_eq!(join("rtsp://cam/axis-media/media.amp/", control), control);
    assert_eq!(join("rtsp://CAM:554/a", " rtsp://cam/b\0"), "rtsp://cam/b");
    // A port that does not exist does no harm: nobody connects to it.
    assert_eq!(join("rtsp://cam/a", "rtsp://cam:0/b"), "rtsp://cam:0/b");
    assert_eq!(odd.iter().collect::<Vec<_>>(), []);
    let control = "rtsp://192.0.2.9:554/a/1";
    assert_eq!(join_counted("rtsp://cam/a", Some(control), &mut odd), control);
    assert_eq!(odd.get(Oddity::ControlOtherHost), 1);
}

#[test]
fn login_in_a_control_url_is_removed() {
    let mut odd = OddityCounts::default();
    let control = Some("rtsp://admin:p@ss@cam/track1");
    assert_eq!(join_counted("rtsp://cam/a", control, &mut odd), "rtsp://cam/track1");
    assert_eq!(odd.iter().collect::<Vec<_>>(), [(Oddity::UrlWithLogin, 1)]);
}

#[test]
fn missing_or_unusable_control_is_the_base() {
    let mut odd = OddityCounts::default();
    for control in [None, Some("*"), Some(""), Some(" * ")] {
        assert_eq!(join_counted("rtsp://cam/a?b", control, &mut odd), "rtsp://cam/a?b");
    }
    assert_eq!(odd.get(Oddity::ControlUnusable), 0);
    for control in ["http://cam/a", "a b", "a\r\nb", "rtsp://cam/a b", "rtsp:///a"] {
        assert_eq!(join_counted("rtsp://cam/a", Some(control), &mut odd), "rtsp://cam/a", "{control}");
    }
    assert_eq!(odd.get(Oddity::ControlUnusable), 5);
}

#[test]
fn joined_url_is_bounded() {
    let base = format!("rtsp://cam/{}", "x".repeat(1000));
    for (bytes, is_usable) in [(MAX_URL_BYTES - base.len() - 1, true), (MAX_URL_BYTES - base.len(), false)] {
        let mut odd = OddityCounts::default();
        let joined = join_counted(&base, Some(&"y".repeat(bytes)), &mut odd);
        assert_eq!(joined.len(), if is_usable { MAX_URL_BYTES } else { base.len() });
        assert_eq!(odd.get(Oddity::ControlUnusable), u64::from(!is_usable));
    }
}

#[test]
fn bytes_that_are_not_utf_8_stay_as_they_are() {
    let sdp = b"m=video 0 RTP/AVP 96\na=rtpmap:96 H264/90000\na=control:track\xe9\xa0\n";
    let description = read_sdp(sdp, &mut OddityCounts::default()).unwrap();
    let track = pick_video(&description, None).unwrap();
    let mut odd = OddityCounts::default();
    let (content_base, _) = text::decode(b"/caf\xe9/\xc3\xa0");
    let base = base_url(Some(&content_base), None, &url("rtsp://cam/"), &mut odd);
    let joined = join(&base, track.control.as_ref(), &mut odd);
    assert_eq!(text::encode(joined.as_str()), b"rtsp://cam/caf\xe9/\xc3\xa0/track\xe9\xa0");
}

#[test]
fn control_is_not_shown() {
    let sdp =
        "a=control:/pw=secret\nm=video 0 RTP/AVP 96\na=rtpmap:96 H264\na=control:rtsp://u:secret@cam/\n";
    let description = read_sdp(sdp.as_bytes(), &mut OddityCounts::default()).unwrap();
    let track = pick_video(&description, None).unwrap();
    assert!(!format!("{description:?} {track:?}").contains("secret"));
}

#[test]
fn base_is_the_first_usable_url() {
    let request = "rtsp://cam:554/live?x=1";
    let base = |content_base, content_location| {
        let base = base_url(content_base, content_location, &url(request), &mut OddityCounts::default());
        base.as_str().to_owned()
    };
    assert_eq!(base(Some("rtsp://cam/b/"), Some("rtsp://cam/l")), "rtsp://cam/b/");
    assert_eq!(base(None, Some("rtsp://cam/l")), "rtsp://cam/l");
    assert_eq!(base(None, None), request);
    assert_eq!(base(Some(""), None), request);
    assert_eq!(base(Some("\0"), None), request);
    assert_eq!(base(Some("http://cam/"), Some("rtsp://cam/l")), "rtsp://cam/l");
    assert_eq!(base(Some("cam:8086/"), None), "rtsp://cam:8086/");
    assert_eq!(base(Some("/b/"), None), "rtsp://cam:554/b/");
}

fn pick(sdp: &str, track: u8) -> Result<(Codec, u8, String), TrackError> {
    let description = read_sdp(sdp.as_bytes(), &mut OddityCounts::default()).unwrap();
    let track = pick_video(&description, NonZeroU8::new(track))?;
    let control = track.control.map(|control| control.as_str().to_owned());
    Ok((track.codec, track.format.payload_type, control.unwrap_or_default()))
}

const TWO_LENSES: &str = "m=audio 0 RTP/AVP 0\na=control:0\n\
    m=application 0 RTP/AVP 107\na=rtpmap:107 vnd.onvif.metadata/90000\na=control:1\n\
    m=video 0 RTP/AVP 26\na=control:2\n\
    m=video 0 RTP/AVP 96\na=rtpmap:96 H264/90000\na=sendonly\na=control:3\n\
    m=video 0 RTP/AVP 26 97 98\na=rtpmap:97 H265/90000\na=rtpmap:98 H264/90000\na=control:4\n\
    m=video 0 RTP/AVP 99\na=rtpmap:99 H264\na=control:5\n";

#[test]
fn first_recordable_video_is_picked() {
    assert_eq!(pick(TWO_LENSES, 0), Ok((Codec::H265, 97, "4".into())));
    let description = read_sdp(TWO_LENSES.as_bytes(), &mut OddityCounts::default()).unwrap();
    assert_eq!(pick_video(&description, None).unwrap().clock_rate, 90_000);
    // The whole session is marked, so the mark says nothing of back channels.
    assert!(pick("a=sendonly\nm=video 0 RTP/AVP 96\na=rtpmap:96 H264/90000\n", 0).is_ok());
}

#[test]
fn numbered_track_counts_videos_without_back_channels() {
    assert_eq!(pick(TWO_LENSES, 1), Err(TrackError::UnsupportedCodec { offered: OfferedCodec::Mjpeg }));
    assert_eq!(pick(TWO_LENSES, 2), Ok((Codec::H265, 97, "4".into())));
    assert_eq!(pick(TWO_LENSES, 3), Ok((Codec::H264, 99, "5".into())));
    let error = pick(TWO_LENSES, 4).unwrap_err();
    assert_eq!(error, TrackError::NoSuchTrack { track: NonZeroU8::new(4).unwrap(), offered: 3 });
    let message = "spec.stream.track: the camera has no video track 4; choose a number from 1 to 3, or remove the field";
    assert_eq!(error.to_string(), message);
}

#[test]
fn error_names_the_offered_codec() {
    let message = |sdp: &str| pick(sdp, 0).unwrap_err().to_string();
    let offered = |sdp: &str, name: &str| {
        assert_eq!(
            message(sdp),
            format!("the camera offers its video as {name} only: select H.264 or H.265 in the camera")
        );
    };
    offered("m=video 0 RTP/AVP 26\n", "MJPEG");
    offered("m=video 0 RTP/AVP 96 97\na=rtpmap:97 MP4V-ES/90000\n", "MPEG-4");
    offered("m=video 0 RTP/AVP 96\na=rtpmap:96 AV1/90000\n", "AV1");
    offered("m=video 0 RTP/AVP 96\na=rtpmap:96 secret/90000\n", "an unknown format");
    offered("m=video 0 RTP/AVP\n", "a format without name");
    let h264 = "a=rtpmap:96 H264/90000\n";
    assert_eq!(pick(&format!("m=audio 0 RTP/AVP 96\n{h264}"), 0), Err(TrackError::NoVideo));
    assert_eq!(
        pick(&format!("m=video 0 RTP/AVP 96\n{h264}a=sendonly\n"), 0),
        Err(TrackError::OnlyBackChannel)
    );
    assert_eq!(pick(&format!("m=video 0 RTP/SAVP 96\n{h264}"), 0), Err(TrackError::EncryptedVideo));
    let both = format!("m=video 0 RTP/SAVP 96\n{h264}m=video 0 RTP/AVP 96\n{h264}a=control:2\n");
    assert_eq!(pick(&both, 0), Ok((Codec::H264, 96, "2".into())));
}

proptest! {
    #[test]
    fn joined_url_can_be_sent_and_keeps_its_parts(
        base in "rtsp://[a-z0-9]{1,9}(:554)?(/[!-~]{0,30})?",
        base_bytes in 0_usize..2048,
        control in "(rtsp://|/)?.{0,30}",
        control_bytes in prop_oneof![0_usize..9, 0_usize..2048],
    ) {
        // Often near the limit.
        let base = format!("{base}/{}", "b".repeat(base_bytes.saturating_sub(base.len())));
        let control = format!("{control}{}", "c".repeat(control_bytes));
        let Some(base) = RtspUrl::parse(&base) else { return Ok(()) };
        let joined = join(&base, Some(&HiddenText::new(control.as_str())), &mut OddityCounts::default());
        prop_assert!(rtsp_url::is_sendable(joined.as_str()));
        prop_assert_eq!(RtspUrl::parse(joined.as_str()), Some(joined.clone()));
        let control = text::trim(&control);
        if !rtsp_url::has_scheme(control) {
            prop_assert!(joined == base || joined.as_str().ends_with(control));
            prop_assert_eq!(joined.origin(), base.origin());
        }
    }

    /// Neither audio nor metadata nor a back channel is ever picked.
    #[test]
    fn only_offered_video_is_picked(
        media in proptest::collection::vec((0_usize..3, any::<bool>(), 0_usize..3), 1..8), track in 0_u8..9,
    ) {
        let sdp: Vec<String> = media.iter().enumerate().map(|(index, (kind, is_back_channel, codec))| {
            let kind = ["video", "audio", "application"][*kind];
            let codec = ["H264", "H265", "VP8"][*codec];
            let direction = if *is_back_channel { "sendonly" } else { "recvonly" };
            format!("m={kind} 0 RTP/AVP 96\na=control:{index}\na={direction}\na=rtpmap:96 {codec}/90000\n")
        }).collect();
        if let Ok((_, _, control)) = pick(&sdp.concat(), track) {
            let (kind, is_back_channel, codec) = media[control.parse::<usize>().unwrap()];
            prop_assert!(kind == 0 && !is_back_channel && codec < 2);
        } else if track == 0 {
            prop_assert!(!media.iter().any(|(kind, back, codec)| *kind == 0 && !back && *codec < 2));
        }
    }
}
