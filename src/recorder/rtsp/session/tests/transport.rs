use super::super::super::oddity::Oddity;
use super::super::super::rtsp_url::RtspUrl;
use super::super::*;
use super::script::*;

const UDP_OK: &str = "RTSP/1.0 200 OK\r\nCSeq: {cseq}\r\nSession: 4711\r\n\
                      Transport: RTP/AVP;unicast;client_port=4000-4001;server_port=6970-6971;source=10.0.0.9\r\n\r\n";
const PORTS: RtpPair<u16> = RtpPair { rtp: 4000, rtcp: Some(4001) };

fn set_up(plan: ConnectPlan, learned: &Learned) -> Script {
    let mut script = Script::connect(plan, learned);
    script.expect("DESCRIBE");
    script.answer(&described(SDP));
    script
}

fn datagram(script: &mut Script, is_rtcp: bool) {
    let mut data = RTP;
    script.input(SessionInput::Datagram { is_rtcp, data: &mut data });
}

#[test]
fn channels_of_the_camera_count() {
    for (transport, rtp, stray) in [
        ("Transport: RTP/AVP/TCP;unicast;interleaved=20-21\r\n", 20, 0),
        ("Transport: RTP/AVP/TCP;unicast;interleaved=0-1;ssrc=A0C6\r\n", 0, 2),
        ("Transport: RTP/AVP/TCP;unicast\r\n", 0, 2),
        ("Transport: \r\n", 0, 2),
        ("", 0, 2),
    ] {
        let setup = format!("RTSP/1.0 200 OK\r\nCSeq: {{cseq}}\r\nSession: 4711\r\n{transport}\r\n");
        let mut script = Script::playing(plan(), &setup);
        script.bytes(&frame(stray, &RTP));
        assert_eq!((script.sink.rtp, script.sink.rtcp), (0, 0), "{transport}");
        script.bytes(&frame(rtp, &RTP));
        script.bytes(&frame(rtp + 1, &RTP));
        assert_eq!((script.sink.rtp, script.sink.rtcp), (1, 1), "{transport}");
        assert_eq!(script.odd.get(Oddity::UnassignedChannel), 1);
        // Reports go to the channel of RTCP.
        script.pass(5, true);
        assert_eq!(script.reports[0][..4], [b'$', rtp + 1, 0, 8], "{transport}");
    }
}

#[test]
fn data_before_an_answer_is_taken_on_channels_that_were_asked_for() {
    let mut script = set_up(plan(), &Learned::default());
    script.bytes(&frame(0, &RTP));
    script.expect("SETUP");
    script.answer(SETUP_OK);
    script.bytes(&frame(0, &RTP));
    script.expect("PLAY");
    script.bytes(&frame(0, &RTP));
    assert_eq!(script.sink.rtp, 3);
    script.answer(OK);
    script.expect_event("Playing");
}

#[test]
fn play_without_an_answer_plays_if_packets_come() {
    let mut script = set_up(plan(), &Learned::default());
    script.expect("SETUP");
    script.answer(SETUP_OK);
    script.expect("PLAY");
    script.pass(30, true);
    script.expect_event("Playing");
    script.expect_nothing();
    assert_eq!(script.odd.get(Oddity::PlayUnanswered), 1);
    script.pass(120, true);
    assert!(script.events.is_empty());
}

#[test]
fn old_live555_with_data_of_a_dead_session_gets_time() {
    for (tool, strays, seconds) in
        [("v2013.04.08", true, 65), ("v2013.04.08", false, 0), ("v2020.01.01", true, 0)]
    {
        let sdp = SDP.replace("t=0 0\r\n", &format!("t=0 0\r\na=tool:LIVE555 Streaming Media {tool}\r\n"));
        let mut script = Script::new(plan());
        script.expect("DESCRIBE");
        if strays {
            script.bytes(&frame(2, &RTP));
        }
        script.answer(&described(&sdp));
        script.expect("SETUP");
        script.answer(SETUP_OK);
        script.expect("PLAY");
        script.answer(OK);
        script.expect_event("Playing");
        assert_eq!(script.sink.rtp, 0);
        let learned = script.learned(&Learned::default());
        assert_eq!(learned.wait_before_attempt().as_secs(), seconds, "{tool} {strays}");
    }
}

#[test]
fn camera_without_tcp_gets_udp_and_is_remembered() {
    for code in [461, 406] {
        let mut script = set_up(plan(), &Learned::default());
        script.expect("SETUP");
        script.answer(&status(code));
        script.expect_event("BindUdp");
        script.expect_nothing();
        script.input(SessionInput::UdpBound(Some(PORTS)));
        let setup = script.expect("SETUP rtsp://10.0.0.9:554/live/trackID=1 ");
        assert_eq!(setup.header("Transport"), Some("RTP/AVP;unicast;client_port=4000-4001"));
        script.answer(UDP_OK);
        script.expect_event("PunchUdp(RtpPair { rtp: 6970, rtcp: Some(6971) })");
        script.expect("PLAY");
        script.answer(OK);
        script.expect_event("Playing");
        // Interleaved data is not asked for.
        script.bytes(&frame(0, &RTP));
        assert_eq!(script.sink.rtp, 0);
        for _ in 0..20 {
            datagram(&mut script, false);
            datagram(&mut script, true);
            script.pass(1, false);
        }
        assert_eq!((script.sink.rtp, script.sink.rtcp), (20, 20));
        script.expect_event("PunchUdp(RtpPair { rtp: 6970, rtcp: Some(6971) })");
        assert_eq!(script.reports.len(), 4);
        assert_eq!(script.sink.begun, [LowerTransport::Tcp, LowerTransport::Udp]);

        let learned = script.learned(&Learned::default());
        let mut script = set_up(plan(), &learned);
        script.expect_event("BindUdp");
    }
}

#[test]
fn transport_that_the_plan_excludes_is_not_tried() {
    let tls = RtspUrl::parse("rtsps://10.0.0.9/live").unwrap();
    for (plan, refused, text) in [
        (
            ConnectPlan { transport: TransportPlan::Tcp, ..plan() },
            RefusedTransport::Tcp,
            "the camera answered 461 to SETUP: it offers no RTP over TCP; set spec.stream.transport to Auto",
        ),
        (
            ConnectPlan { url: tls, ..plan() },
            RefusedTransport::TcpUnderTls,
            "the camera answered 461 to SETUP: it offers no RTP over TCP, and over UDP TLS would not protect it; use rtsp://",
        ),
    ] {
        let mut script = set_up(plan, &Learned::default());
        script.expect("SETUP");
        script.answer(&status(461));
        let error = SessionError::Transport { code: 461, refused };
        assert_eq!(error.to_string(), text);
        script.expect_failure(error);
    }
}

#[test]
fn camera_without_any_transport_is_named() {
    let mut script = set_up(plan(), &Learned::default());
    script.expect("SETUP");
    script.answer(&status(461));
    script.expect_event("BindUdp");
    script.input(SessionInput::UdpBound(Some(PORTS)));
    script.expect("SETUP");
    script.answer(&status(461));
    script.expect_failure(SessionError::Transport { code: 461, refused: RefusedTransport::Both });
    let mut script = set_up(ConnectPlan { transport: TransportPlan::Udp, ..plan() }, &Learned::default());
    script.expect_event("BindUdp");
    script.input(SessionInput::UdpBound(None));
    script.expect_failure(SessionError::NoPorts);
}

#[test]
fn udp_without_datagrams_falls_back_to_tcp() {
    let mut learned = Learned::default();
    learned.note(AttemptFacts { delivered_over: Some(LowerTransport::Udp), ..AttemptFacts::default() });
    let mut script = set_up(plan(), &learned);
    script.expect_event("BindUdp");
    script.input(SessionInput::UdpBound(Some(PORTS)));
    script.expect("SETUP");
    script.answer(&UDP_OK.replace("server_port=6970-6971", "server_port=0"));
    script.expect("PLAY");
    script.answer(OK);
    script.expect_event("Playing");
    script.pass(5, false);
    script.expect("TEARDOWN");
    script.expect_event("Reconnect(NoDatagrams)");
    script.reconnected();
    script.play(SETUP_OK);
    script.pass(3, true);
    let learned = script.learned(&learned);
    assert_eq!(learned.transport(), Some(LowerTransport::Tcp));

    // Without TCP, there is nothing left.
    let mut script = set_up(ConnectPlan { transport: TransportPlan::Udp, ..plan() }, &Learned::default());
    script.expect_event("BindUdp");
    script.input(SessionInput::UdpBound(Some(PORTS)));
    script.expect("SETUP");
    script.answer(UDP_OK);
    script.expect("PLAY");
    script.answer(OK);
    script.pass(5, false);
    script.events.retain(|event| event.starts_with("Failed"));
    script.requests.clear();
    script.expect_failure(SessionError::NoDatagrams);
}
