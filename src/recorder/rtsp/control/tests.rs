use proptest::prelude::*;

use super::*;
use crate::recorder::rtsp::sdp::read_sdp;

fn joined(base: &str, control: &str) -> String {
    join(base, Some(control), &mut OddityCounts::default())
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
    let url = "rtsp://cam/axis-media/media.amp/stream=0?videocodec=h264";
    assert_eq!(join("rtsp://cam/axis-media/media.amp/", Some(url), &mut odd), url);
    assert_eq!(join("rtsp://CAM:554/a", Some(" rtsp://cam/b "), &mut odd), "rtsp://cam/b");
    assert_eq!(odd.get(Oddity::ControlOtherHost), 0);
    assert_eq!(join("rtsp://cam/a", Some("rtsp://192.0.2.9:554/a/1"), &mut odd), "rtsp://192.0.2.9:554/a/1");
    assert_eq!(odd.get(Oddity::ControlOtherHost), 1);
}

#[test]
fn missing_or_unusable_control_is_the_base() {
    let mut odd = OddityCounts::default();
    for control in [None, Some("*"), Some(""), Some(" * ")] {
        assert_eq!(join("rtsp://cam/a?b", control, &mut odd), "rtsp://cam/a?b");
    }
    assert_eq!(odd.get(Oddity::ControlUnusable), 0);
    for control in ["http://cam/a", "a b", "a\r\nb", "rtsp://cam/a b"] {
        assert_eq!(join("rtsp://cam/a", Some(control), &mut odd), "rtsp://cam/a", "{control}");
    }
    assert_eq!(odd.get(Oddity::ControlUnusable), 4);
}

#[test]
fn base_is_the_first_usable_url() {
    let request = "rtsp://cam:554/live?x=1";
    let base = |content_base, content_location| {
        base_url(content_base, content_location, request, &mut OddityCounts::default())
    };
    assert_eq!(base(Some("rtsp://cam/b/"), Some("rtsp://cam/l")), "rtsp://cam/b/");
    assert_eq!(base(None, Some("rtsp://cam/l")), "rtsp://cam/l");
    assert_eq!(base(None, None), request);
    assert_eq!(base(Some(""), None), request);
    assert_eq!(base(Some("http://cam/"), Some("rtsp://cam/l")), "rtsp://cam/l");
    assert_eq!(base(Some("cam:8086/"), None), "rtsp://cam:8086/");
    assert_eq!(base(Some("/b/"), None), "rtsp://cam:554/b/");
}

fn pick(sdp: &str, track: u8) -> Result<(Codec, u8, String), TrackError> {
    let description = read_sdp(sdp.as_bytes(), &mut OddityCounts::default()).unwrap();
    let track = pick_video(&description, NonZeroU8::new(track))?;
    Ok((track.codec, track.format.payload_type, track.control.unwrap_or_default()))
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
    assert_eq!(pick(TWO_LENSES, 4), Err(TrackError::NoSuchTrack { offered: 3 }));
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
        base in "rtsp://[a-z0-9.:]{1,9}(/[!-~]{0,30})?", control in "(rtsp://|/)?.{0,30}",
    ) {
        let url = joined(&base, &control);
        prop_assert!(rtsp_url::is_sendable(&url));
        let control = control.trim();
        prop_assert!(url == base || url.ends_with(control));
        prop_assert!(url.len() <= base.len() + control.len() + 1);
        if RtspUrlParts::split(control).is_none() {
            let authority = |url: &str| RtspUrlParts::split(url).map(|parts| parts.authority.to_owned());
            prop_assert_eq!(authority(&url), authority(&base));
        }
    }

    /// Neither audio nor metadata nor a back channel is ever picked.
    #[test]
    fn only_offered_video_is_picked(
        media in proptest::collection::vec((0_usize..3, any::<bool>(), 0_usize..3), 1..8), track in 0_u8..9,
    ) {
        let sdp: String = media.iter().enumerate().map(|(index, (kind, is_back_channel, codec))| {
            let kind = ["video", "audio", "application"][*kind];
            let codec = ["H264", "H265", "VP8"][*codec];
            let direction = if *is_back_channel { "sendonly" } else { "recvonly" };
            format!("m={kind} 0 RTP/AVP 96\na=control:{index}\na={direction}\na=rtpmap:96 {codec}/90000\n")
        }).collect();
        if let Ok((_, _, control)) = pick(&sdp, track) {
            let (kind, is_back_channel, codec) = media[control.parse::<usize>().unwrap()];
            prop_assert!(kind == 0 && !is_back_channel && codec < 2);
        } else if track == 0 {
            prop_assert!(!media.iter().any(|(kind, back, codec)| *kind == 0 && !back && *codec < 2));
        }
    }
}
