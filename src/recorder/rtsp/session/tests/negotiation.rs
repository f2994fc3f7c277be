use super::super::super::control::TrackError;
use super::super::super::oddity::Oddity;
use super::super::super::sdp::{OfferedCodec, SdpError};
use super::super::*;
use super::script::*;

#[test]
fn good_camera_plays_after_three_requests() {
    let mut script = Script::new(plan());
    let describe = script.expect("DESCRIBE rtsp://10.0.0.9:554/live RTSP/1.0\r\nCSeq: 1\r\n");
    assert_eq!(describe.header("Accept"), Some("application/sdp"));
    assert!(describe.header("User-Agent").unwrap().starts_with("toezicht/"));
    script.answer(&described(SDP));
    let setup = script.expect("SETUP rtsp://10.0.0.9:554/live/trackID=1 RTSP/1.0\r\nCSeq: 2\r\n");
    assert_eq!(setup.header("Transport"), Some("RTP/AVP/TCP;unicast;interleaved=0-1"));
    assert_eq!(setup.header("Session"), None);
    script.answer(SETUP_OK);
    let play = script.expect("PLAY rtsp://10.0.0.9:554/live RTSP/1.0\r\nCSeq: 3\r\n");
    assert_eq!((play.header("Session"), play.header("Range")), (Some("4711"), Some("npt=0.000-")));
    script.answer(OK);
    script.expect_event("Playing");
    script.bytes(&frame(0, &RTP));
    script.bytes(&frame(1, &RTP));
    assert_eq!((script.sink.rtp, script.sink.rtcp, script.setups), (1, 1, 1));
    script.expect_nothing();
}

#[test]
fn control_urls_of_several_makes_are_joined() {
    let video = |session: &str, control: &str| {
        let control = if control.is_empty() { String::new() } else { format!("a=control:{control}\r\n") };
        format!(
            "v=0\r\no=- 1001 1 IN \r\nc=IN \r\n{session}m=audio 0 RTP/AVP 0\r\na=control:audio\r\n\
             m=video 0 RTP/AVP 96\r\na=rtpmap:96 H265/90000\r\n{control}"
        )
    };
    for (base, session, control, setup, play) in [
        // Hikvision.
        (
            "Content-Base: rtsp://10.0.0.9:554/live/\r\n",
            "a=control:rtsp://10.0.0.9:554/live/\r\n",
            "rtsp://10.0.0.9:554/live/trackID=1",
            "rtsp://10.0.0.9:554/live/trackID=1",
            "rtsp://10.0.0.9:554/live/",
        ),
        // Dahua.
        (
            "Content-Base: rtsp://10.0.0.9:554/live/\r\n",
            "",
            "trackID=0",
            "rtsp://10.0.0.9:554/live/trackID=0",
            "rtsp://10.0.0.9:554/live/",
        ),
        // Axis.
        (
            "Content-Base: rtsp://10.0.0.9/axis-media/media.amp/\r\n",
            "a=control:rtsp://10.0.0.9/axis-media/media.amp?videocodec=h264\r\n",
            "rtsp://10.0.0.9/axis-media/media.amp/stream=0?videocodec=h264",
            "rtsp://10.0.0.9/axis-media/media.amp/stream=0?videocodec=h264",
            "rtsp://10.0.0.9/axis-media/media.amp?videocodec=h264",
        ),
        // A single stream without controls.
        ("", "", "", "rtsp://10.0.0.9:554/live", "rtsp://10.0.0.9:554/live"),
        // A proxied camera that names itself.
        (
            "Content-Base: /live/\r\n",
            "a=control:*\r\n",
            "rtsp://192.168.0.2/live/track1",
            "rtsp://192.168.0.2/live/track1",
            "rtsp://10.0.0.9:554/live/",
        ),
    ] {
        let sdp = video(session, control);
        let mut script = Script::new(plan());
        script.expect("DESCRIBE");
        script.answer(&described(&sdp).replace("Content-Type:", &format!("{base}Content-Type:")));
        assert_eq!(script.expect("SETUP").line(), format!("SETUP {setup} RTSP/1.0"));
        script.answer(SETUP_OK);
        assert_eq!(script.expect("PLAY").line(), format!("PLAY {play} RTSP/1.0"));
    }
}

#[test]
fn description_without_a_recordable_track_is_refused_by_name() {
    let jpeg = SDP.replace("96 H264", "96 JPEG");
    let audio = "v=0\r\nm=audio 0 RTP/AVP 0\r\na=control:audio\r\n";
    let unsupported = TrackError::UnsupportedCodec { offered: OfferedCodec::Mjpeg };
    for (sdp, error) in [
        (jpeg.as_str(), SessionError::Track(unsupported)),
        (audio, SessionError::Track(TrackError::NoVideo)),
        ("<html>", SessionError::Description(SdpError::NoMedia)),
    ] {
        let mut script = Script::new(plan());
        script.expect("DESCRIBE");
        script.answer(&described(sdp));
        script.expect_failure(error);
        assert_eq!(script.setups, 0);
    }
}

#[test]
fn answers_in_odd_forms_are_taken() {
    let mut script = Script::new(plan());
    script.expect("DESCRIBE");
    // No reason, no value, no length, and the sequence number of another request.
    script.answer(&format!("RTSP/1.0 200\r\nServer: \r\nCSeq: 0\r\n\r\n{SDP}"));
    script.expect_nothing();
    script.end_body();
    script.expect("SETUP");
    // A provisional answer, and one without a sequence number.
    script.answer("RTSP/1.0 100 Continue\nCSeq: {cseq}\n\n");
    script.expect_nothing();
    script.answer("RTSP/1.0 200 OK\nSession: 4711 ;timeout=0;x\n\n");
    script.expect("PLAY");
    script.answer(OK);
    script.expect_event("Playing");
    script.answer(OK);
    script.expect_nothing();
    for oddity in
        [Oddity::MissingContentLength, Oddity::EmptyHeader, Oddity::SessionTimeout, Oddity::UnexpectedAnswer]
    {
        assert_eq!(script.odd.get(oddity), 1, "{oddity:?}");
    }
    assert_eq!(script.odd.get(Oddity::OtherSequence), 2);
}

#[test]
fn refusal_has_code_and_method() {
    for (code, text) in [
        (404, "the camera answered 404 to DESCRIBE: check the path of spec.stream.url"),
        (453, "the camera answered 453 to DESCRIBE: it serves no further client; disconnect another one"),
        (500, "the camera answered 500 to DESCRIBE"),
    ] {
        let mut script = Script::new(plan());
        script.expect("DESCRIBE");
        script.answer(&status(code));
        let error = SessionError::Status { method: Method::Describe, code };
        assert_eq!(error.to_string(), text);
        script.expect_failure(error);
    }
    for (step, method) in ["SETUP", "PLAY"].into_iter().zip([Method::Setup, Method::Play]) {
        let mut script = Script::new(plan());
        script.expect("DESCRIBE");
        script.answer(&described(SDP));
        if step == "PLAY" {
            script.expect("SETUP");
            script.answer(SETUP_OK);
        }
        script.expect(step);
        script.answer(&status(454));
        script.expect_failure(SessionError::Status { method, code: 454 });
    }
}

#[test]
fn busy_camera_gets_time_to_free_its_place() {
    let mut learned = Learned::default();
    for (code, seconds) in [(453, 1), (503, 2), (404, 0)] {
        let mut script = Script::connect(plan(), &learned);
        script.expect("DESCRIBE");
        script.answer(&status(code));
        learned = script.learned(&learned);
        assert_eq!(learned.wait_before_attempt().as_secs(), seconds, "{code}");
    }
}

#[test]
fn options_are_asked_only_where_the_camera_wants_them() {
    let mut script = Script::new(plan());
    script.expect("DESCRIBE");
    script.answer(&status(455));
    script.expect("OPTIONS rtsp://10.0.0.9:554/live");
    script.answer("RTSP/1.0 200 OK\r\nCSeq: {cseq}\r\nPublic: OPTIONS, GET_PARAMETER\r\n\r\n");
    script.play(SETUP_OK);
    // The camera named GET_PARAMETER.
    script.pass(31, true);
    script.expect("GET_PARAMETER");

    let mut script = Script::new(plan());
    for method in ["DESCRIBE", "OPTIONS", "DESCRIBE"] {
        script.expect(method);
        script.answer(&status(400));
    }
    script.expect_failure(SessionError::Status { method: Method::Describe, code: 400 });
}

#[test]
fn redirect_on_the_same_server_keeps_the_connection() {
    let mut script = Script::new(plan());
    script.expect("DESCRIBE");
    for (location, url) in [
        ("rtsp://10.0.0.9:554/a", "rtsp://10.0.0.9:554/a"),
        ("/b", "rtsp://10.0.0.9:554/b"),
        ("rtsp://x:y@10.0.0.9/c", "rtsp://10.0.0.9/c"),
    ] {
        script.answer(&format!("RTSP/1.0 301 Moved\r\nCSeq: {{cseq}}\r\nLocation: {location}\r\n\r\n"));
        script.expect(&format!("DESCRIBE {url} "));
        script.expect_nothing();
    }
    script.answer(&described(SDP));
    script.expect("SETUP rtsp://10.0.0.9/c/trackID=1 ");
}

#[test]
fn redirect_to_another_port_needs_a_new_connection() {
    for (location, describe) in [
        ("rtsp://10.0.0.9:8554/x", "DESCRIBE rtsp://10.0.0.9:8554/x "),
        ("rtsps://10.0.0.9/x", "DESCRIBE rtsps://10.0.0.9/x "),
    ] {
        let mut script = Script::new(plan());
        script.expect("DESCRIBE");
        script.answer(&format!("RTSP/1.0 302 Found\r\nLocation: {location}\r\n\r\n"));
        script.expect_event("Reconnect(Redirect)");
        script.expect_nothing();
        script.reconnected();
        script.expect(describe);
    }
}

#[test]
fn redirect_elsewhere_is_refused_without_its_text() {
    for (answer, refusal) in [
        ("RTSP/1.0 302 Found\r\nLocation: rtsp://evil/live\r\n\r\n", RedirectRefusal::Elsewhere),
        ("RTSP/1.0 302 Found\r\nLocation: rtsp://10.0.0.9@evil/live\r\n\r\n", RedirectRefusal::Elsewhere),
        ("RTSP/1.0 302 Found\r\nLocation: rtsp://10.0.0.9:0/live\r\n\r\n", RedirectRefusal::NoTarget),
        ("RTSP/1.0 302 Found\r\nLocation: http://10.0.0.9/\r\n\r\n", RedirectRefusal::NoTarget),
        ("RTSP/1.0 302 Found\r\n\r\n", RedirectRefusal::NoTarget),
    ] {
        let mut script = Script::new(plan());
        script.expect("DESCRIBE");
        script.answer(answer);
        let error = SessionError::Redirect { code: 302, refusal };
        assert!(!error.to_string().contains("evil"));
        script.expect_failure(error);
    }
    let mut script = Script::new(plan());
    for _ in 0..4 {
        script.expect("DESCRIBE");
        script.answer("RTSP/1.0 302 Found\r\nLocation: /live\r\n\r\n");
    }
    script.expect_failure(SessionError::Redirect { code: 302, refusal: RedirectRefusal::TooMany });
}

#[test]
fn play_is_repeated_once_without_range() {
    let mut script = Script::new(plan());
    script.expect("DESCRIBE");
    script.answer(&described(SDP));
    script.expect("SETUP");
    script.answer(SETUP_OK);
    script.expect("PLAY");
    script.answer(&status(457));
    let play = script.expect("PLAY");
    assert_eq!((play.header("Range"), play.header("Session")), (None, Some("4711")));
    script.answer(&status(457));
    script.expect_failure(SessionError::Status { method: Method::Play, code: 457 });
}

#[test]
fn slow_answers_have_30_seconds_each_and_60_together() {
    let mut script = Script::new(plan());
    script.expect("DESCRIBE");
    script.pass(29, false);
    script.answer(&described(SDP));
    script.expect("SETUP");
    script.pass(2, false);
    script.answer(SETUP_OK);
    script.expect("PLAY");
    script.pass(28, false);
    script.answer(OK);
    script.expect_event("Playing");
    // Next time it gets three times as long.
    let learned = script.learned(&Learned::default());
    let mut script = Script::connect(plan(), &learned);
    script.expect("DESCRIBE");
    script.pass(86, false);
    script.expect_nothing();
    script.pass(1, false);
    script.expect_failure(SessionError::NoAnswer { method: Method::Describe });

    let mut script = Script::new(plan());
    script.expect("DESCRIBE");
    script.pass(25, false);
    script.answer(&described(SDP));
    script.expect("SETUP");
    script.pass(25, false);
    script.answer(SETUP_OK);
    script.expect("PLAY");
    script.pass(10, false);
    script.expect_failure(SessionError::TooSlow);
}

#[test]
fn port_without_rtsp_is_named() {
    let mut script = Script::new(plan());
    script.expect("DESCRIBE");
    script.answer("HTTP/1.1 400 Bad Request\r\n\r\n");
    script.expect_failure(SessionError::NotRtsp);
    let mut script = Script::new(plan());
    script.expect("DESCRIBE");
    script.bytes(&vec![0; 70_000]);
    let error = MessageError::TooMuchGarbage;
    script.expect_failure(SessionError::Unreadable { method: Some(Method::Describe), error });
}

#[test]
fn close_names_the_request_under_way() {
    let mut script = Script::new(plan());
    script.expect("DESCRIBE");
    script.answer(&described(SDP));
    script.expect("SETUP");
    script.input(SessionInput::Closed);
    script.expect_failure(SessionError::Closed { method: Method::Setup });
    assert_eq!(script.session.next_timer(), None);
}

#[test]
fn teardown_ends_with_its_answer_or_after_2_seconds() {
    for how in ["answer", "silence", "close", "garbage"] {
        let mut script = Script::playing(plan(), SETUP_OK);
        script.teardown();
        let teardown = script.expect("TEARDOWN rtsp://10.0.0.9:554/live RTSP/1.0");
        assert_eq!(teardown.header("Session"), Some("4711"));
        script.bytes(&frame(0, &RTP));
        assert_eq!(script.sink.rtp, 0);
        script.expect_nothing();
        match how {
            "answer" => script.answer(OK),
            "silence" => script.pass(2, true),
            "close" => script.input(SessionInput::Closed),
            _ => script.bytes(&vec![0; 70_000]),
        }
        script.expect_event("Finished");
        script.teardown();
        script.expect_nothing();
    }
}

#[test]
fn teardown_follows_the_answer_to_setup() {
    let mut script = Script::new(plan());
    script.expect("DESCRIBE");
    script.teardown();
    script.expect_event("Finished");

    let mut script = Script::new(plan());
    script.expect("DESCRIBE");
    script.answer(&described(SDP));
    script.expect("SETUP");
    script.teardown();
    script.expect_nothing();
    script.answer(SETUP_OK);
    assert_eq!(script.expect("TEARDOWN").header("Session"), Some("4711"));
    script.answer(OK);
    script.expect_event("Finished");
}

#[test]
fn teardown_after_a_failure_frees_the_place() {
    let mut script = Script::playing(plan(), SETUP_OK);
    script.pass(10, false);
    script.expect("OPTIONS");
    script.expect_failure(SessionError::Ended(SessionEnd::Silence));
    script.teardown();
    script.expect("TEARDOWN");
    script.pass(2, false);
    script.expect_event("Finished");
    // Nothing can be sent on a closed connection.
    let mut script = Script::playing(plan(), SETUP_OK);
    script.input(SessionInput::Closed);
    script.expect_failure(SessionError::Ended(SessionEnd::ConnectionClosed));
    script.teardown();
    script.expect_event("Finished");
    script.expect_nothing();
}
