use serde_json::{Value, json};

use super::*;

pub(crate) fn valid_config() -> Value {
    let certificate =
        rcgen::generate_simple_self_signed([crate::wire::STATUS_SERVER_NAME.to_owned()]).unwrap();
    json!({
        "format": 1, "revision": "r1", "namespace": "heusden", "site": "hal",
        "storage": {"endpoint": "http://127.0.0.1:1", "region": "nl-1", "bucket": "hal", "pathStyle": true,
                    "accessKeyId": "a", "secretAccessKey": "s3cret"},
        "segmentDurationMs": 60000, "videoCeilingMs": 2_419_200_000_u64, "spoolBytes": 1_000_000,
        "cameras": [{"name": "receptie", "shard": 0, "url": "rtsp://192.0.2.1/h264",
                     "login": {"username": "u", "password": "p4ssword"},
                     "permitted": [{"from": "2026-01-01T00:00:00Z"}], "suspended": []}],
        "statusApi": {"certPem": certificate.cert.pem(), "keyPem": certificate.signing_key.serialize_pem(),
                      "token": "0123456789abcdef"},
    })
}

fn rejection_message(pointer: &str, value: Value) -> String {
    let mut config = valid_config();
    *config.pointer_mut(pointer).unwrap() = value;
    parse(config.to_string().as_bytes()).expect_err("rejected").to_string()
}

#[test]
fn valid_config_is_read_and_unknown_fields_are_ignored() {
    let mut config = valid_config();
    config["aFieldOfTomorrow"] = json!(1);
    let config = parse(config.to_string().as_bytes()).unwrap();
    assert_eq!(config.cameras[0].name, "receptie");
}

#[test]
fn invalid_config_is_rejected_with_its_field() {
    let window = json!([{"from": "2026-01-02T00:00:00Z", "until": "2026-01-01T00:00:00Z"}]);
    let camera = &valid_config()["cameras"][0];
    for (pointer, value, message) in [
        ("/format", json!(2), "format 2"),
        ("/segmentDurationMs", json!(10), "segmentDurationMs"),
        ("/spoolBytes", json!(0), "spoolBytes"),
        ("/statusApi/keyPem", json!("x"), "statusApi"),
        ("/statusApi/token", json!("short"), "statusApi.token"),
        ("/cameras/0/name", json!("../../etc"), "cameras[0].name"),
        ("/cameras/0/url", json!("http://192.0.2.1/"), "cameras[0].url"),
        ("/cameras/0/url", json!("rtsp://u:p@192.0.2.1/"), "cameras[0].url"),
        ("/cameras", json!([camera, camera]), "cameras[1].name"),
        ("/cameras/0/suspended", window, "cameras[0].suspended"),
    ] {
        let actual = rejection_message(pointer, value);
        assert!(actual.contains(message), "{actual}");
    }
}

/// Its windows, suspensions and holds must reach the recorder.
#[test]
fn unusable_storage_does_not_reject_the_rest() {
    for (field, value) in
        [("secretAccessKey", json!("a b")), ("caPem", json!("x")), ("endpoint", json!("ftp://a"))]
    {
        let mut config = valid_config();
        config["storage"][field] = value;
        let config = parse(&serde_json::to_vec(&config).unwrap()).unwrap();
        assert!(
            crate::storage::BucketConnection::new(&config.storage).is_err(),
            "{field} is meant to be unusable"
        );
    }
}

#[test]
fn error_message_quotes_no_secret() {
    let message = rejection_message("/cameras/0/shard", json!("p4ssword"));
    assert!(!message.contains("p4ssword") && message.contains("another type"), "{message}");
    let error = parse(b"{\"format\": 1, \"p4ssword\"").unwrap_err().to_string();
    assert!(!error.contains("p4ssword"), "{error}");
}

async fn wait_until(
    current: &mut watch::Receiver<ConfigState>,
    condition: impl FnMut(&ConfigState) -> bool,
) -> ConfigState {
    tokio::time::timeout(Duration::from_mins(5), current.wait_for(condition))
        .await
        .expect("in time")
        .unwrap()
        .clone()
}

#[tokio::test]
async fn watcher_follows_kubelet_symlinks_and_keeps_last_valid_config() {
    let folder = tempfile::tempdir().unwrap();
    // Like the kubelet: writes a new folder, then swaps the link.
    let write = |version: &str, text: &str| {
        let data = folder.path().join(version);
        std::fs::create_dir(&data).unwrap();
        std::fs::write(data.join(CONFIG_KEY), text).unwrap();
        let link = folder.path().join("..data_tmp");
        std::os::unix::fs::symlink(version, &link).unwrap();
        std::fs::rename(link, folder.path().join("..data")).unwrap();
    };
    std::os::unix::fs::symlink(format!("..data/{CONFIG_KEY}"), folder.path().join(CONFIG_KEY)).unwrap();
    let (sender, mut current) = watch::channel(ConfigState::default());
    let stop = CancellationToken::new();
    let following = tokio::spawn(watch_file(folder.path().to_owned(), sender, stop.clone()));
    wait_until(&mut current, |c| c.rejected.is_some() && c.config.is_none()).await;

    let config = valid_config();
    write("..1", &config.to_string());
    wait_until(&mut current, |c| c.config.is_some() && c.rejected.is_none()).await;

    let mut bad = config.clone();
    bad["revision"] = json!("r2");
    bad["spoolBytes"] = json!(0);
    write("..2", &bad.to_string());
    let now = wait_until(&mut current, |c| c.rejected.is_some()).await;
    assert_eq!(now.config.unwrap().revision, "r1");
    assert_eq!(now.rejected.unwrap().revision.as_deref(), Some("r2"));

    bad["revision"] = json!("r3");
    bad["spoolBytes"] = json!(5);
    write("..3", &bad.to_string());
    let now = wait_until(&mut current, |c| c.rejected.is_none()).await;
    assert_eq!(now.config.unwrap().revision, "r3");
    stop.cancel();
    following.await.unwrap();
}
