use super::super::super::oddity::Oddity;
use super::super::*;
use super::script::*;

/// Session with this timeout in seconds.
fn playing(timeout: u32) -> Script {
    Script::playing(plan(), &SETUP_OK.replace("timeout=60", &format!("timeout={timeout}")))
}

/// Lets pictures come for some seconds. Each keepalive gets `answer`, if there is one. Returns when they were sent, and
/// their methods.
fn keepalives(
    script: &mut Script,
    seconds: i64,
    answer: impl Fn(&str) -> Option<String>,
) -> Vec<(i64, String)> {
    let mut sent = Vec::new();
    for second in 1..=seconds {
        script.pass(1, true);
        while !script.requests.is_empty() {
            let request = script.expect("");
            let method = request.line().split(' ').next().unwrap().to_owned();
            if let Some(answer) = answer(&method) {
                script.answer(&answer);
            }
            sent.push((second, method));
        }
        assert!(script.events.is_empty(), "{:?}", script.events);
    }
    sent
}

fn count(sent: &[(i64, String)], method: &str) -> usize {
    sent.iter().filter(|(_, sent)| sent == method).count()
}

#[test]
fn both_methods_keep_a_session_that_knows_only_one() {
    // EvoStream counts GET_PARAMETER only, and does not name it.
    let public =
        "RTSP/1.0 200 OK\r\nCSeq: {cseq}\r\nPublic: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n\r\n";
    let mut script = playing(20);
    let sent = keepalives(&mut script, 60, |_| Some(public.to_owned()));
    for method in ["OPTIONS", "GET_PARAMETER"] {
        let times: Vec<i64> =
            sent.iter().filter(|(_, sent)| sent == method).map(|(second, _)| *second).collect();
        assert!(times.windows(2).all(|pair| pair[1] - pair[0] <= 10), "{method} {times:?}");
    }
    assert!(script.reports.len() >= 11);
    assert!(sent.len() <= 12, "{sent:?}");
}

#[test]
fn refused_keepalives_end_nothing() {
    for code in [400, 405, 454, 501] {
        let mut script = playing(15);
        let sent = keepalives(&mut script, 120, |_| Some(status(code)));
        assert!(count(&sent, "OPTIONS") > 2 && count(&sent, "GET_PARAMETER") > 2, "{sent:?}");
    }
    // Thingino answers 454 to GET_PARAMETER.
    let mut script = playing(15);
    let sent = keepalives(&mut script, 120, |method| {
        Some(if method == "OPTIONS" { OK.to_owned() } else { status(454) })
    });
    assert_eq!((count(&sent, "GET_PARAMETER"), count(&sent, "SET_PARAMETER")), (2, 0));
    // Tapo names SET_PARAMETER, and answers with the number of the previous request.
    let mut script = playing(15);
    let public = "RTSP/1.0 200 OK\r\nCSeq: 3\r\nPublic: OPTIONS, GET_PARAMETER, SET_PARAMETER\r\n\r\n";
    let sent = keepalives(&mut script, 120, |_| Some(public.to_owned()));
    assert_eq!(count(&sent, "SET_PARAMETER"), 0);
    assert!(count(&sent, "GET_PARAMETER") >= 14, "{sent:?}");
}

#[test]
fn unanswered_keepalives_end_nothing() {
    let mut script = playing(15);
    let sent = keepalives(&mut script, 300, |_| None);
    assert!(sent.len() >= 40, "{}", sent.len());
    script.teardown();
    script.expect("TEARDOWN");
    script.answer(OK);
    script.expect_event("Finished");
}

#[test]
fn late_answer_is_not_that_of_the_next_request() {
    let mut script = playing(15);
    script.pass(4, true);
    script.expect("OPTIONS");
    let late = OK.replace("{cseq}", "4");
    script.teardown();
    script.expect("TEARDOWN");
    script.bytes(late.as_bytes());
    script.expect_nothing();
    script.answer(OK);
    script.expect_event("Finished");
    assert_eq!(script.odd.get(Oddity::LateAnswer), 1);
}

#[test]
fn requests_of_the_camera_are_answered() {
    let mut script = playing(60);
    for (request, answer) in [
        ("OPTIONS * RTSP/1.0\r\nCSeq: 77\r\n\r\n", "RTSP/1.0 200 OK\r\nCSeq: 77\r\n\r\n"),
        (
            "GET_PARAMETER rtsp://x RTSP/1.0\r\nCSeq:5\r\nContent-Length: 3\r\n\r\nabc",
            "RTSP/1.0 200 OK\r\nCSeq: 5\r\n\r\n",
        ),
        ("ANNOUNCE rtsp://x RTSP/1.0\nCSeq: 6\n\n", "RTSP/1.0 200 OK\r\nCSeq: 6\r\n\r\n"),
        (
            "PLAY_NOTIFY rtsp://x RTSP/1.0\r\nCSeq: 7\r\n\r\n",
            "RTSP/1.0 501 Not Implemented\r\nCSeq: 7\r\n\r\n",
        ),
        ("REDIRECT rtsp://x RTSP/1.0\r\nCSeq: 8\r\n\r\n", "RTSP/1.0 501 Not Implemented\r\nCSeq: 8\r\n\r\n"),
        ("OPTIONS * RTSP/1.0\r\n\r\n", "RTSP/1.0 200 OK\r\nCSeq: \r\n\r\n"),
        // It ends another session.
        (
            "TEARDOWN rtsp://x RTSP/1.0\r\nCSeq: 9\r\nSession: 9999\r\n\r\n",
            "RTSP/1.0 200 OK\r\nCSeq: 9\r\n\r\n",
        ),
    ] {
        script.bytes(request.as_bytes());
        let sent = script.requests.pop_front().unwrap();
        assert_eq!(sent.0, answer, "{request}");
        script.expect_nothing();
    }
}

#[test]
fn teardown_of_the_camera_ends_the_session_by_name() {
    for session in ["", "Session: 4711\r\n", "Session: 4711;timeout=60\r\n"] {
        let mut script = playing(60);
        script.bytes(format!("TEARDOWN rtsp://x RTSP/1.0\r\nCSeq: 9\r\n{session}\r\n").as_bytes());
        assert_eq!(script.requests.pop_front().unwrap().0, "RTSP/1.0 200 OK\r\nCSeq: 9\r\n\r\n");
        script.expect_failure(SessionError::Ended(SessionEnd::TornDown));
        script.teardown();
        script.expect_event("Finished");
        script.expect_nothing();
    }
}

#[test]
fn silence_is_asked_after_5_seconds_and_ends_after_10() {
    let mut script = playing(60);
    script.pass(5, false);
    script.expect("OPTIONS");
    script.pass(4, false);
    script.expect_nothing();
    script.answer(OK);
    script.pass(5, false);
    script.expect("GET_PARAMETER");
    script.pass(5, false);
    script.expect_failure(SessionError::Ended(SessionEnd::Silence));
}

#[test]
fn picture_every_12_seconds_is_enough() {
    let mut script = playing(60);
    for second in 0..600 {
        if second % 12 == 0 {
            script.bytes(&frame(0, &RTP));
        }
        script.pass(1, false);
        while !script.requests.is_empty() {
            script.expect("");
            script.answer(OK);
        }
    }
    script.expect_nothing();
    assert_eq!(script.sink.rtp, 50);
}

#[test]
fn answers_without_pictures_end_after_a_minute() {
    let mut script = playing(60);
    for _ in 0..60 {
        script.expect_nothing();
        script.pass(1, false);
        while !script.requests.is_empty() {
            script.expect("");
            script.answer(OK);
        }
    }
    script.expect_failure(SessionError::Ended(SessionEnd::NoPackets));
}

#[test]
fn method_at_which_the_camera_closes_is_avoided_after_two_sessions() {
    let mut learned = Learned::default();
    for _ in 0..2 {
        let mut script = Script::connect(plan(), &learned);
        script.play(SETUP_OK);
        script.pass(15, true);
        script.expect("OPTIONS");
        script.answer(OK);
        script.pass(15, true);
        script.expect("GET_PARAMETER");
        script.input(SessionInput::Closed);
        script.expect_failure(SessionError::Ended(SessionEnd::ConnectionClosed));
        learned = script.learned(&learned);
    }
    assert!(learned.avoids(Method::GetParameter) && !learned.avoids(Method::Options));
    assert!(learned.has_constant_length());
    let mut script = Script::connect(plan(), &learned);
    script.play(SETUP_OK);
    assert_eq!(count(&keepalives(&mut script, 300, |_| Some(OK.to_owned())), "GET_PARAMETER"), 0);
}
