//! What it serves, and what it must not say.

use serde_json::json;
use toezicht::wire::CameraState;

use super::bench::{Bench, TOKEN};
use super::cameras::{Cameras, PASSWORD, testbed_camera};
use crate::support::wait::{HANG, eventually};
/// The status is for who shows the token, over TLS with the configured certificate; health and metrics tell
/// nothing secret.
#[tokio::test]
async fn status_api_requires_the_operator_token() {
    let mut bench = Bench::new(vec![testbed_camera("een", "h264/9")]).await;
    bench.write("{}");
    bench.start();
    let url = format!("http://127.0.0.1:{}", bench.health);
    let ready =
        || async { reqwest::get(format!("{url}/readyz")).await.map(|answer| answer.status().as_u16()) };
    eventually("not ready without a configuration", HANG, || async {
        let ready = ready().await;
        if matches!(ready, Ok(503)) { Ok(()) } else { Err(format!("{ready:?}")) }
    })
    .await;
    assert_eq!(reqwest::get(format!("{url}/livez")).await.unwrap().status(), 200);
    bench.write(&bench.config.to_string());
    bench.wait_for_camera_state("een", CameraState::Recording).await;
    assert_eq!(ready().await.unwrap(), 200);

    for wrong in [None, Some(""), Some("another-token-of-the-same-length!"), Some(&TOKEN[1..])] {
        let answer = bench.ask(wrong).await.unwrap();
        assert_eq!(answer.status(), 401, "{wrong:?}");
        assert_eq!(answer.bytes().await.unwrap().len(), 0);
    }
    let plain = reqwest::get(format!("http://127.0.0.1:{}/v1/status", bench.status_port())).await;
    assert!(plain.is_err(), "answered without TLS");

    let metrics = reqwest::get(format!("{url}/metrics")).await.unwrap().text().await.unwrap();
    assert!(metrics.contains("toezicht_recorder_connection_attempts_total{camera=\"een\"} "), "{metrics}");
    assert!(metrics.ends_with("# EOF\n"));
    // Another certificate and token are used as soon as they are there.
    let other = "another-token-that-came-with-a-new-configuration";
    bench.reconfigure(|config| config["statusApi"]["token"] = json!(other));
    eventually("the new token opens", HANG, || async {
        let (new, old) =
            (bench.ask(Some(other)).await.unwrap().status(), bench.ask(Some(TOKEN)).await.unwrap().status());
        if new == 200 && old == 401 { Ok(()) } else { Err(format!("new {new}, old {old}")) }
    })
    .await;
    let status = bench.stop().await;
    assert!(status.success());
}

/// A wrong password is told as such; it, the right one and the URL are in no status, metric or log. A camera
/// that asks for the password in clear does not get it.
#[tokio::test]
async fn secrets_are_not_disclosed() {
    let digest = Cameras::start(&["--count", "1"]).await;
    let basic = Cameras::start(&["--count", "1", "--basic"]).await;
    let mut wrong = digest.camera("fout", "h264/0?token=a-secret-in-the-url");
    wrong["login"]["password"] = json!("a-wrong-password");
    let mut allowed = basic.camera("mag", "h264/0");
    allowed["allowBasicAuth"] = json!(true);
    let mut bench = Bench::started(vec![
        wrong,
        basic.camera("basic", "h265/0"),
        allowed,
        digest.camera("goed", "h265/0"),
    ])
    .await;
    bench.wait_for_camera_state("goed", CameraState::Recording).await;
    bench.wait_for_camera_state("mag", CameraState::Recording).await;
    let wrong = bench.wait_for_camera_state("fout", CameraState::Disconnected).await;
    assert_eq!(wrong.last_error.as_deref(), Some("the camera refused the user or password (401)"));
    let clear = bench.wait_for_camera_state("basic", CameraState::Disconnected).await;
    assert!(clear.last_error.as_ref().is_some_and(|error| error.contains("allowBasicAuth")), "{clear:?}");

    let status = serde_json::to_string(&bench.status().await.unwrap()).unwrap();
    let metrics = reqwest::get(format!("http://127.0.0.1:{}/metrics", bench.health)).await.unwrap();
    let metrics = metrics.text().await.unwrap();
    bench.stop_cleanly().await;
    let secret_key = bench.config["storage"]["secretAccessKey"].as_str().unwrap();
    for (place, text) in [("status", status), ("metrics", metrics), ("log", bench.log())] {
        for secret in ["a-wrong-password", PASSWORD, "a-secret-in-the-url", "rtsp://1", secret_key, TOKEN] {
            assert!(!text.contains(secret), "{secret} is in the {place}: {text}");
        }
    }
}

/// RTSP over TLS with the camera's authority given; without it, or with another, no connection.
#[tokio::test]
async fn rtsps_requires_a_trusted_ca() {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let other = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let pem = folder.path().join("camera.pem");
    std::fs::write(&pem, format!("{}{}", made.cert.pem(), made.signing_key.serialize_pem())).unwrap();
    let cameras = Cameras::start(&["--count", "1", "--tls", &pem.display().to_string()]).await;
    let over_tls = |name: &str, path: &str, ca: Option<String>| {
        let mut camera = cameras.camera(name, path);
        camera["url"] = json!(camera["url"].as_str().unwrap().replace("rtsp://", "rtsps://"));
        camera["caPem"] = json!(ca);
        camera
    };
    let mut bench = Bench::started(vec![
        over_tls("een", "h264/0", Some(made.cert.pem())),
        over_tls("twee", "h265/0", Some(made.cert.pem())),
        over_tls("ander", "h264/0", Some(other.cert.pem())),
        over_tls("geen", "h264/0", None),
    ])
    .await;
    bench.wait_for_uploads_of("een", 2).await;
    bench.wait_for_uploads_of("twee", 2).await;
    let refused = bench.wait_for_camera_state("ander", CameraState::Disconnected).await;
    assert!(
        refused
            .last_error
            .as_ref()
            .is_some_and(|error| error.contains("not from the authority of spec.stream.caRef")),
        "{refused:?}"
    );
    let refused = bench.wait_for_camera_state("geen", CameraState::Disconnected).await;
    assert!(refused.last_error.as_ref().is_some_and(|error| error.contains("caRef")), "{refused:?}");
    bench.stop_cleanly().await;
    for name in ["een", "twee"] {
        let (_, holes) = bench.recorded(name).await;
        assert_eq!(holes, [], "{name}");
    }
}
