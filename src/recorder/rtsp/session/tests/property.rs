use proptest::prelude::*;

use super::super::super::auth::BasicPolicy;
use super::super::*;
use super::script::*;

/// Event of a camera that does as it likes.
#[derive(Clone, Debug)]
enum Event {
    Text(String),
    Bytes(Vec<u8>),
    Frame(u8, Vec<u8>),
    Datagram(bool),
    /// Milliseconds until the next event.
    Wait(i64),
    /// The next timer is due.
    Timer,
    EndBody,
    Close,
    Bound(bool),
    Teardown,
}

fn headers() -> impl Strategy<Value = String> {
    let header = prop_oneof![
        Just("CSeq: {cseq}\r\n".to_owned()),
        "CSeq: [0-9]{1,3}\r\n",
        Just("Session: 4711;timeout=5\r\n".to_owned()),
        "Session: .{0,12}\r\n",
        "Transport: RTP/AVP(/TCP)?;(interleaved=[0-9]{1,2}-[0-9]{1,2};)?(server_port=[0-9]{1,5})?\r\n",
        "Location: rtsps?://(10\\.0\\.0\\.9|evil)(:8554)?/[a-z]{0,3}\r\n",
        "Location: /[a-z]{0,3}\r\n",
        "WWW-Authenticate: Digest realm=\"cam\", nonce=\"[a-c]\"(, qop=\"auth\")?(, stale=true)?\r\n",
        Just("WWW-Authenticate: Basic realm=\"cam\"\r\n".to_owned()),
        Just("Connection: close\r\n".to_owned()),
        Just("Content-Base: rtsp://evil/\r\n".to_owned()),
        "Public: (OPTIONS|GET_PARAMETER|SET_PARAMETER)\r\n",
    ];
    proptest::collection::vec(header, 0..5).prop_map(|headers| headers.concat())
}

fn answer() -> impl Strategy<Value = String> {
    let status = prop_oneof![
        4 => Just(200_u16),
        3 => Just(401),
        1 => prop_oneof![Just(100), Just(302), Just(400), Just(454), Just(455), Just(457), Just(461), Just(503)],
    ];
    let sdp = prop_oneof![
        3 => Just(SDP.to_owned()),
        1 => Just("v=0\r\nm=audio 0 RTP/AVP 0\r\na=control:audio\r\n".to_owned()),
        1 => Just(SDP.replace("trackID=1", "rtsp://evil/x")),
        1 => Just(String::new()),
    ];
    (status, headers(), sdp, any::<bool>()).prop_map(|(status, headers, sdp, has_length)| {
        let length = if has_length { format!("Content-Length: {}\r\n", sdp.len()) } else { String::new() };
        format!(
            "RTSP/1.0 {status} x\r\n{headers}{length}\r\n{}",
            if has_length { sdp } else { String::new() }
        )
    })
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => answer().prop_map(Event::Text),
        1 => ("(OPTIONS|TEARDOWN|PLAY|X)", headers()).prop_map(|(method, headers)| Event::Text(format!("{method} * RTSP/1.0\r\n{headers}\r\n"))),
        1 => proptest::collection::vec(any::<u8>(), 0..40).prop_map(Event::Bytes),
        2 => (0_u8..4, proptest::collection::vec(any::<u8>(), 0..20)).prop_map(|(channel, data)| Event::Frame(channel, data)),
        1 => any::<bool>().prop_map(Event::Datagram),
        2 => (0_i64..40_000).prop_map(Event::Wait),
        3 => Just(Event::Timer),
        1 => Just(Event::EndBody),
        1 => Just(Event::Close),
        2 => prop_oneof![3 => Just(true), 1 => Just(false)].prop_map(Event::Bound),
        1 => prop_oneof![9 => Just(Event::Timer), 1 => Just(Event::Teardown)],
    ]
}

/// Checks all requests since the last call.
fn check_requests(
    script: &mut Script,
    may_have_login: bool,
    may_have_basic: bool,
) -> Result<(), TestCaseError> {
    while let Some(sent) = script.requests.pop_front() {
        if let Some(login) = sent.header("Authorization") {
            prop_assert!(may_have_login);
            prop_assert!(may_have_basic || !login.starts_with("Basic"), "{}", login);
        }
        prop_assert!(!sent.0.contains("Cam-Pass:1"));
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_camera_leads_to_an_end_or_a_timer(
        events in proptest::collection::vec(event(), 1..80),
        transport in prop_oneof![Just(TransportPlan::Auto), Just(TransportPlan::Tcp), Just(TransportPlan::Udp)],
        has_login in any::<bool>(),
        is_basic_allowed in any::<bool>(),
    ) {
        let basic = if is_basic_allowed { BasicPolicy::Anywhere } else { BasicPolicy::OverTls };
        let begun = if has_login { plan_with_login() } else { plan() };
        let mut script = Script::new(ConnectPlan { basic, transport, ..begun });
        let mut is_tls = false;
        let mut connections = 1;
        let mut ends = 0;
        for event in events {
            let last = script.requests.back().cloned();
            is_tls |= last.as_ref().is_some_and(|sent| sent.line().contains("rtsps://"));
            check_requests(&mut script, has_login, is_basic_allowed || is_tls)?;
            // The camera knows the sequence number of the last request.
            if let Some(last) = last {
                script.requests.push_front(last);
                script.expect("");
            }
            match event {
                Event::Text(text) => script.answer(&text),
                Event::Bytes(bytes) => script.bytes(&bytes),
                Event::Frame(channel, data) => script.bytes(&frame(channel, &data)),
                Event::Datagram(is_rtcp) => {
                    let mut data = RTP;
                    script.input(SessionInput::Datagram { is_rtcp, data: &mut data });
                }
                Event::Wait(milliseconds) => {
                    script.now_us += milliseconds * 1000;
                    script.input(SessionInput::Timer);
                }
                Event::Timer => {
                    if let Some(due) = script.session.next_timer() {
                        script.now_us = script.now_us.max(due);
                        script.input(SessionInput::Timer);
                    }
                }
                Event::EndBody => script.end_body(),
                Event::Close => script.input(SessionInput::Closed),
                Event::Bound(has_ports) => {
                    let ports = has_ports.then_some(RtpPair { rtp: 4000, rtcp: Some(4001) });
                    script.input(SessionInput::UdpBound(ports));
                }
                Event::Teardown => script.teardown(),
            }
            while let Some(event) = script.events.pop_front() {
                prop_assert!(!event.contains("evil"));
                ends += usize::from(event.starts_with("Failed") || event == "Finished");
                if event.starts_with("Reconnect") {
                    connections += 1;
                    prop_assert!(connections <= 8);
                    script.reconnected();
                }
            }
            // A timer that is due is handled before the next event.
            let due = script.session.next_timer();
            if due.is_some_and(|due| due <= script.now_us) {
                script.input(SessionInput::Timer);
                let due = script.session.next_timer();
                prop_assert!(due.is_none_or(|due| due > script.now_us), "busy: {:?}", script.session);
            }
            ends += script.events.iter().filter(|event| event.starts_with("Failed") || *event == "Finished").count();
            let is_reconnecting = script.events.iter().any(|event| event.starts_with("Reconnect"));
            if is_reconnecting {
                script.reconnected();
            }
            script.events.clear();
            prop_assert!(script.session.next_timer().is_some() || ends > 0, "{:?}", script.session);
        }
        prop_assert!(ends <= 2);
        prop_assert!(!script.sink.begun.is_empty() || script.sink.rtp == 0);
        script.learned(&Learned::default());
    }

    #[test]
    fn flood_of_challenges_gets_few_logins(
        challenges in proptest::collection::vec("Digest realm=\"cam\", nonce=\"[a-z]{1,3}\"(, qop=\"auth\")?(, stale=true)?", 1..40),
    ) {
        let mut script = Script::new(plan_with_login());
        let mut logins = 0;
        for challenge in challenges {
            let Some(sent) = script.requests.pop_front() else { break };
            logins += usize::from(sent.header("Authorization").is_some());
            script.answer(&format!("RTSP/1.0 401 No\r\nWWW-Authenticate: {challenge}\r\n\r\n"));
        }
        prop_assert!(logins <= 2, "{}", logins);
    }
}
