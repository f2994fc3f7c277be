//! The recorder's HTTP endpoints, and secrets that they must not disclose.

use serde_json::json;
use toezicht::wire::CameraState;

use super::cameras::{CameraServer, PASSWORD, testbed_camera};
use super::fixture::{RecorderFixture, TOKEN};
use crate::support::wait::{HANG, eventually};
/// The status API requires the token and TLS with the configured certificate. Health and metrics are public and
/// contain no secrets.
#[tokio::test]
async fn status_api_requires_the_operator_token() {
    let mut fixture = RecorderFixture::new(vec![testbed_camera("een", "h264/9")]).await;
    fixture.write("{}");
    fixture.start();
    let url = format!("http://127.0.0.1:{}", fixture.health);
    let ready =
        || async { reqwest::get(format!("{url}/readyz")).await.map(|answer| answer.status().as_u16()) };
    eventually("not ready without a configuration", HANG, || async {
        let ready = ready().await;
        if matches!(ready, Ok(503)) { Ok(()) } else { Err(format!("{ready:?}")) }
    })
    .await;
    assert_eq!(reqwest::get(format!("{url}/livez")).await.unwrap().status(), 200);
    fixture.write(&fixture.config.to_string());
    fixture.wait_for_camera_state("een", CameraState::Recording).await;
    assert_eq!(ready().await.unwrap(), 200);

    for wrong in [None, Some(""), Some("another-token-of-the-same-length!"), Some(&TOKEN[1..])] {
        let answer = fixture.request_status(wrong).await.unwrap();
        assert_eq!(answer.status(), 401, "{wrong:?}");
        assert_eq!(answer.bytes().await.unwrap().len(), 0);
    }
    let plain = reqwest::get(format!("http://127.0.0.1:{}/v1/status", fixture.status_port())).await;
    assert!(plain.is_err(), "the status API answered without TLS");

    let metrics = reqwest::get(format!("{url}/metrics")).await.unwrap().text().await.unwrap();
    assert!(metrics.contains("toezicht_recorder_connection_attempts_total{camera=\"een\"} "), "{metrics}");
    assert!(metrics.ends_with("# EOF\n"));
    // A new certificate and token are used without a restart.
    let new_token = "another-token-that-came-with-a-new-configuration";
    fixture.reconfigure(|config| config["statusApi"]["token"] = json!(new_token));
    eventually("the new token is accepted and the old one rejected", HANG, || async {
        let (new, old) = (
            fixture.request_status(Some(new_token)).await.unwrap().status(),
            fixture.request_status(Some(TOKEN)).await.unwrap().status(),
        );
        if new == 200 && old == 401 { Ok(()) } else { Err(format!("new {new}, old {old}")) }
    })
    .await;
    let status = fixture.stop().await;
    assert!(status.success());
}

/// A wrong password is reported. No status, metric or log contains passwords or the URL. A camera that requests Basic
/// authentication does not get the password.
#[tokio::test]
async fn secrets_are_not_disclosed() {
    let digest = CameraServer::start(&["--count", "1"]).await;
    let basic = CameraServer::start(&["--count", "1", "--basic"]).await;
    let mut wrong = digest.camera_config("fout", "h264/0?token=a-secret-in-the-url");
    wrong["login"]["password"] = json!("a-wrong-password");
    let mut allowed = basic.camera_config("mag", "h264/0");
    allowed["allowBasicAuth"] = json!(true);
    let mut fixture = RecorderFixture::started(vec![
        wrong,
        basic.camera_config("basic", "h265/0"),
        allowed,
        digest.camera_config("goed", "h265/0"),
    ])
    .await;
    fixture.wait_for_camera_state("goed", CameraState::Recording).await;
    fixture.wait_for_camera_state("mag", CameraState::Recording).await;
    let wrong = fixture.wait_for_camera_state("fout", CameraState::Disconnected).await;
    assert_eq!(wrong.last_error.as_deref(), Some("the camera refused the user or password (401)"));
    let clear = fixture.wait_for_camera_state("basic", CameraState::Disconnected).await;
    assert!(clear.last_error.as_ref().is_some_and(|error| error.contains("allowBasicAuth")), "{clear:?}");

    let status = serde_json::to_string(&fixture.status().await.unwrap()).unwrap();
    let metrics = reqwest::get(format!("http://127.0.0.1:{}/metrics", fixture.health)).await.unwrap();
    let metrics = metrics.text().await.unwrap();
    fixture.stop_cleanly().await;
    let secret_key = fixture.config["storage"]["secretAccessKey"].as_str().unwrap();
    for (place, text) in [("status", status), ("metrics", metrics), ("log", fixture.log())] {
        for secret in ["a-wrong-password", PASSWORD, "a-secret-in-the-url", "rtsp://1", secret_key, TOKEN] {
            assert!(!text.contains(secret), "{secret} is in the {place}: {text}");
        }
    }
}

/// RTSP over TLS requires the CA of the camera's certificate: without it or with another CA the recorder does not
/// connect.
#[tokio::test]
async fn rtsps_requires_a_trusted_ca() {
    let folder = tempfile::tempdir().unwrap();
    let certified = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let other = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let pem = folder.path().join("camera.pem");
    std::fs::write(&pem, format!("{}{}", certified.cert.pem(), certified.signing_key.serialize_pem()))
        .unwrap();
    let cameras = CameraServer::start(&["--count", "1", "--tls", &pem.display().to_string()]).await;
    let over_tls = |name: &str, path: &str, ca: Option<String>| {
        let mut camera = cameras.camera_config(name, path);
        camera["url"] = json!(camera["url"].as_str().unwrap().replace("rtsp://", "rtsps://"));
        camera["caPem"] = json!(ca);
        camera
    };
    let mut fixture = RecorderFixture::started(vec![
        over_tls("een", "h264/0", Some(certified.cert.pem())),
        over_tls("twee", "h265/0", Some(certified.cert.pem())),
        over_tls("ander", "h264/0", Some(other.cert.pem())),
        over_tls("geen", "h264/0", None),
    ])
    .await;
    fixture.wait_for_uploads_of("een", 2).await;
    fixture.wait_for_uploads_of("twee", 2).await;
    let report = fixture.wait_for_camera_state("ander", CameraState::Disconnected).await;
    assert!(
        report
            .last_error
            .as_ref()
            .is_some_and(|error| error.contains("not from the authority of spec.stream.caRef")),
        "{report:?}"
    );
    let report = fixture.wait_for_camera_state("geen", CameraState::Disconnected).await;
    assert!(report.last_error.as_ref().is_some_and(|error| error.contains("caRef")), "{report:?}");
    fixture.stop_cleanly().await;
    for name in ["een", "twee"] {
        let (_, gaps) = fixture.segments_with_gaps(name).await;
        assert_eq!(gaps, [], "{name}");
    }
}
