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
    parse(config.to_string().as_bytes(), None).expect_err("rejected").to_string()
}

#[test]
fn valid_config_is_read_and_unknown_fields_are_ignored() {
    let mut config = valid_config();
    config["aFieldOfTomorrow"] = json!(1);
    let parsed = parse(config.to_string().as_bytes(), None).unwrap();
    assert_eq!(parsed.config.cameras[0].name, "receptie");
    assert!(parsed.invalid_cameras.is_empty());
}

#[test]
fn invalid_config_is_rejected_with_its_field() {
    for (pointer, value, message) in [
        ("/format", json!(2), "format 2"),
        ("/segmentDurationMs", json!(10), "segmentDurationMs"),
        ("/spoolBytes", json!(0), "spoolBytes"),
        ("/statusApi/keyPem", json!("x"), "statusApi"),
        ("/statusApi/token", json!("short"), "statusApi.token"),
    ] {
        let actual = rejection_message(pointer, value);
        assert!(actual.contains(message), "{actual}");
    }
}

/// Windows, suspensions and holds of the others reach the recorder, and what is certain of that camera too.
#[test]
fn invalid_camera_spoils_only_itself() {
    let window = json!([{"from": "2026-03-01T00:00:00Z", "until": "2026-04-01T00:00:00Z"}]);
    let empty = json!([{"from": "2026-01-02T00:00:00Z", "until": "2026-01-01T00:00:00Z"}]);
    let mut first = valid_config();
    let known_camera = first["cameras"][0].clone();
    first["cameras"]
        .as_array_mut()
        .unwrap()
        .push(json!({"name": "hal", "shard": 0, "url": "rtsp://192.0.2.2/1", "permitted": []}));
    let before = parse(first.to_string().as_bytes(), None).unwrap().config;
    let known = before.cameras.iter().find(|camera| camera.name == "receptie").unwrap().clone();

    let mut next = first.clone();
    next["holds"] = json!({"uid-1": {"window": {"from": "2026-03-02T00:00:00Z"}}});
    for camera in [0, 1] {
        next["cameras"][camera]["suspended"] = window.clone();
    }
    // The last value: whether the new windows apply to the known stream.
    for (field, value, path, has_new_windows) in [
        ("url", json!("http://192.0.2.1/"), "cameras[0].url", true),
        ("url", json!("rtsp://u:p@192.0.2.1/"), "cameras[0].url", true),
        ("url", json!(null), "cameras[0]", true),
        ("login", json!({"username": 5}), "cameras[0]", true),
        ("suspended", json!("2026"), "cameras[0]", false),
        ("permitted", json!(null), "cameras[0]", false),
        ("suspended", empty.clone(), "cameras[0].suspended", false),
        ("permitted", empty, "cameras[0].permitted", false),
    ] {
        let mut document = next.clone();
        document["cameras"][0][field] = value;
        for before in [Some(&before), None] {
            let Parsed { config, invalid_cameras } = parse(document.to_string().as_bytes(), before).unwrap();
            let message = invalid_cameras[0].to_string();
            assert!(invalid_cameras.len() == 1 && message.starts_with(&format!("{path}: ")), "{message}");
            let camera = |name| config.cameras.iter().find(|camera: &&CameraConfig| camera.name == name);
            assert!(config.holds.len() == 1 && camera("hal").unwrap().suspended.len() == 1, "{field}");
            let replaced = camera("receptie").unwrap();
            if before.is_some() && has_new_windows {
                assert_eq!(replaced.source, known.source);
                assert!(replaced.suspended.len() == 1 && replaced.permitted == known.permitted);
            } else {
                assert!(replaced.permitted.is_empty() && replaced.is_rejected, "{replaced:?}");
            }
            // A stream that is not known does not become known by another error.
            let after = parse(document.to_string().as_bytes(), Some(&config)).unwrap().config;
            assert_eq!(after.cameras, config.cameras);
        }
    }

    // Which of the two is meant? Neither is recorded.
    let mut twice = first.clone();
    twice["cameras"].as_array_mut().unwrap().push(known_camera);
    let parsed = parse(twice.to_string().as_bytes(), Some(&before)).unwrap();
    assert_eq!(parsed.invalid_cameras.len(), 2);
    let camera = parsed.config.cameras.iter().find(|camera| camera.name == "receptie").unwrap();
    assert!(camera.permitted.is_empty(), "{camera:?}");

    let strangers =
        [json!({"name": "../../etc", "shard": 0}), json!(7), json!({"name": 7}), json!({"name": "gang"})];
    for stranger in strangers {
        let mut document = first.clone();
        document["cameras"].as_array_mut().unwrap().push(stranger);
        let parsed = parse(document.to_string().as_bytes(), Some(&before)).unwrap();
        assert!(parsed.invalid_cameras.len() == 1 && parsed.config.cameras == before.cameras);
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
        let parsed = parse(&serde_json::to_vec(&config).unwrap(), None).unwrap();
        assert!(
            crate::storage::BucketConnection::new(&parsed.config.storage).is_err(),
            "{field} is meant to be unusable"
        );
    }
}

#[test]
fn error_message_quotes_no_secret() {
    let message = rejection_message("/storage/region", json!(["p4ssword"]));
    assert!(!message.contains("p4ssword") && message.contains("another type at line 1"), "{message}");
    let mut config = valid_config();
    config["cameras"][0]["shard"] = json!("p4ssword");
    let parsed = parse(config.to_string().as_bytes(), None).unwrap();
    let message = parsed.invalid_cameras[0].to_string();
    assert_eq!(message, "cameras[0]: a field is missing, or its value is of another type");
    let error = parse(b"{\"format\": 1, \"p4ssword\"", None).unwrap_err().to_string();
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
    bad["cameras"][0]["url"] = json!("ftp://192.0.2.1");
    write("..3", &bad.to_string());
    let now = wait_until(&mut current, |c| c.config.as_ref().unwrap().revision == "r3").await;
    let rejected = now.rejected.unwrap();
    assert!(rejected.revision.as_deref() == Some("r3") && rejected.message.starts_with("cameras[0].url: "));

    bad["revision"] = json!("r4");
    bad["cameras"] = config["cameras"].clone();
    write("..4", &bad.to_string());
    let now = wait_until(&mut current, |c| c.rejected.is_none()).await;
    assert_eq!(now.config.unwrap().revision, "r4");
    stop.cancel();
    following.await.unwrap();
}
