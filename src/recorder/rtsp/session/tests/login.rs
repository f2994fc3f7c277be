use std::collections::BTreeSet;

use super::super::super::auth::BasicPolicy;
use super::super::super::rtsp_url::RtspUrl;
use super::super::*;
use super::script::*;

fn challenge(nonce: &str, more: &str) -> String {
    format!(
        "RTSP/1.0 401 Unauthorized\r\nCSeq: {{cseq}}\r\n{more}WWW-Authenticate: Digest realm=\"cam\", \
         nonce=\"{nonce}\", qop=\"auth\"\r\n\r\n"
    )
}

/// Begins a session that plays after a login.
fn logged_in() -> Script {
    let mut script = Script::new(plan_with_login());
    assert_eq!(script.expect("DESCRIBE").header("Authorization"), None);
    script.answer(&challenge("n1", ""));
    script.expect("DESCRIBE");
    script.answer(&described(SDP));
    script.expect_event("LoginAccepted");
    script.expect("SETUP");
    script.answer(SETUP_OK);
    script.expect("PLAY");
    script.answer(OK);
    script.expect_event("Playing");
    script
}

#[test]
fn login_is_sent_after_the_challenge_and_with_each_request() {
    let mut script = Script::new(plan_with_login());
    assert_eq!(script.expect("DESCRIBE").header("Authorization"), None);
    script.answer(&challenge("n1", ""));
    let mut nonces = BTreeSet::new();
    for (at, (method, answer)) in
        [("DESCRIBE", described(SDP)), ("SETUP", SETUP_OK.into()), ("PLAY", OK.into())]
            .into_iter()
            .enumerate()
    {
        let sent = script.expect(method);
        let header = sent.header("Authorization").unwrap();
        let uri = sent.line().split(' ').nth(1).unwrap();
        assert!(header.contains(&format!("uri=\"{uri}\"")), "{header}");
        assert!(header.contains(&format!("nc=0000000{}", at + 1)), "{header}");
        nonces.insert(header.split("cnonce=").nth(1).unwrap().to_owned());
        script.answer(&answer);
    }
    assert_eq!(nonces.len(), 3);
    script.expect_event("LoginAccepted");
    script.expect_event("Playing");
    script.expect_nothing();
}

#[test]
fn camera_that_closes_after_its_challenge_gets_a_new_connection() {
    for announces in [true, false] {
        let mut script = Script::new(plan_with_login());
        script.expect("DESCRIBE");
        script.answer(&challenge("n1", if announces { "Connection: close\r\n" } else { "" }));
        if !announces {
            script.expect("DESCRIBE");
        }
        script.input(SessionInput::Closed);
        script.expect_event("Reconnect(Login)");
        script.expect_nothing();
        script.reconnected();
        assert!(script.expect("DESCRIBE").header("Authorization").is_some());
    }
}

#[test]
fn camera_that_refuses_on_the_new_connection_gets_no_other() {
    let mut script = Script::new(plan_with_login());
    script.expect("DESCRIBE");
    script.answer(&challenge("n1", "Connection: close\r\n"));
    script.expect_event("Reconnect(Login)");
    script.reconnected();
    script.expect("DESCRIBE");
    script.answer(&challenge("n1", "Connection: close\r\n"));
    let refusal = LoginRefusal::WrongLogin;
    script.expect_failure(SessionError::Login { method: Method::Describe, refusal });
}

#[test]
fn wrong_login_is_sent_once() {
    let mut script = Script::new(plan_with_login());
    script.expect("DESCRIBE");
    script.answer(&challenge("n1", ""));
    script.expect("DESCRIBE");
    script.answer(&challenge("n2", ""));
    let refusal = LoginRefusal::WrongLogin;
    script.expect_failure(SessionError::Login { method: Method::Describe, refusal });
    // The next attempt asks for a challenge first.
    let learned = script.learned(&Learned::default());
    let mut script = Script::connect(plan_with_login(), &learned);
    assert_eq!(script.expect("DESCRIBE").header("Authorization"), None);
}

#[test]
fn missing_login_is_named() {
    let mut script = Script::new(plan());
    script.expect("DESCRIBE");
    script.answer(&challenge("n1", ""));
    let refusal = LoginRefusal::NoLogin;
    script.expect_failure(SessionError::Login { method: Method::Describe, refusal });
}

#[test]
fn password_in_clear_stays_here() {
    let basic = "RTSP/1.0 401 Unauthorized\r\nCSeq: {cseq}\r\nWWW-Authenticate: Basic realm=\"cam\"\r\n\r\n";
    let mut script = Script::new(plan_with_login());
    script.expect("DESCRIBE");
    script.answer(basic);
    let refusal = LoginRefusal::BasicNotAllowed;
    script.expect_failure(SessionError::Login { method: Method::Describe, refusal });
    let tls = RtspUrl::parse("rtsps://10.0.0.9/live").unwrap();
    for plan in [
        ConnectPlan { basic: BasicPolicy::Anywhere, ..plan_with_login() },
        ConnectPlan { url: tls, ..plan_with_login() },
    ] {
        let mut script = Script::new(plan);
        script.expect("DESCRIBE");
        script.answer(basic);
        assert!(script.expect("DESCRIBE").header("Authorization").unwrap().starts_with("Basic "));
    }
}

#[test]
fn next_attempt_continues_with_the_nonce() {
    let learned = logged_in().learned(&Learned::default());
    let mut script = Script::connect(plan_with_login(), &learned);
    let describe = script.expect("DESCRIBE");
    let header = describe.header("Authorization").unwrap();
    assert!(header.contains("nonce=\"n1\"") && header.contains("nc=00000004"), "{header}");
}

#[test]
fn redirect_to_another_port_gets_no_login_before_its_challenge() {
    let mut script = Script::new(plan_with_login());
    script.expect("DESCRIBE");
    script.answer(&challenge("n1", ""));
    assert!(script.expect("DESCRIBE").header("Authorization").is_some());
    script.answer("RTSP/1.0 302 Found\r\nCSeq: {cseq}\r\nLocation: rtsp://10.0.0.9:9999/x\r\n\r\n");
    script.events.retain(|event| event != "LoginAccepted");
    script.expect_event("Reconnect(Redirect)");
    script.reconnected();
    assert_eq!(script.expect("DESCRIBE").header("Authorization"), None);
}

#[test]
fn expired_nonce_is_renewed_at_once() {
    let mut script = logged_in();
    for round in 0..4 {
        script.pass(15, true);
        let (method, sent) = {
            let sent = script.requests.pop_front().unwrap();
            script.requests.push_front(sent.clone());
            (sent.line().split(' ').next().unwrap().to_owned(), sent)
        };
        assert!(sent.header("Authorization").is_some());
        script.expect(&method);
        let stale = if round % 2 == 0 { ", stale=TRUE" } else { "" };
        let nonce = format!("r{round}");
        script.answer(&challenge(&nonce, "").replace(", qop", &format!("{stale}, qop")));
        let repeated = script.expect(&method);
        let header = repeated.header("Authorization").unwrap();
        assert!(header.contains(&format!("nonce=\"{nonce}\"")) && header.contains("nc=00000001"), "{header}");
        script.answer(OK);
        script.expect_nothing();
    }
}

#[test]
fn refused_login_of_a_keepalive_is_not_repeated() {
    let mut script = logged_in();
    script.pass(15, true);
    script.expect("OPTIONS");
    script.answer(&challenge("n2", ""));
    script.expect("OPTIONS");
    script.answer(&challenge("n3", ""));
    script.expect_nothing();
    script.pass(120, true);
    assert!(!script.requests.is_empty() && script.events.is_empty());
    while !script.requests.is_empty() {
        assert_eq!(script.expect("").header("Authorization"), None);
        script.answer(&challenge("n4", ""));
    }
}

#[test]
fn nonce_for_each_request_is_followed() {
    let mut script = Script::new(plan_with_login());
    for (number, (method, answer)) in
        [("DESCRIBE", described(SDP)), ("SETUP", SETUP_OK.into()), ("PLAY", OK.into())]
            .into_iter()
            .enumerate()
    {
        script.expect(method);
        script.answer(&challenge(&format!("n{number}"), ""));
        script.expect(method);
        script.answer(&answer);
    }
    script.expect_event("LoginAccepted");
    script.expect_event("Playing");
    assert_eq!(script.setups, 2);
}

#[test]
fn logs_have_no_login() {
    let mut script = logged_in();
    script.teardown();
    let shown = format!("{:?} {:?}", script.session, plan_with_login());
    for secret in ["Cam-Pass", "n1", "4711", "/live"] {
        assert!(!shown.contains(secret), "{secret}: {shown}");
    }
}
