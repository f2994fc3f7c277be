use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::storage::s3::stub::{NEVER_ANSWERS, Stub};
use crate::storage::s3::{ListQuery, TargetError, list_page, stub};
use crate::wire::{AccessKey, Credentials, Secret};

fn target() -> StorageTarget {
    StorageTarget { endpoint: Some("https://s3.example.nl:9000".into()), ..stub::target() }
}

fn target_error(change: impl FnOnce(&mut StorageTarget)) -> Option<TargetError> {
    let mut target = target();
    change(&mut target);
    BucketConnection::new(&target).err()
}

#[test]
fn endpoint_must_be_an_origin() {
    assert_eq!(target_error(|_| ()), None);
    for endpoint in [
        "s3.example.nl",
        "https://user@s3.example.nl",
        "https://s3.example.nl/path",
        "https://s3.example.nl?x=y",
        "file:///etc",
        "ftp://s3.example.nl",
        "https://",
    ] {
        assert_eq!(
            target_error(|t| t.endpoint = Some(endpoint.into())),
            Some(TargetError::Endpoint),
            "{endpoint}"
        );
    }
}

#[test]
fn bucket_name_must_not_choose_a_host() {
    for bucket in
        ["arn:aws:s3:eu-west-1:1:accesspoint/x", "a", "x--euw1-az1--x-s3", "../x", "A-bucket", "a..b", "x/y"]
    {
        assert_eq!(target_error(|t| t.bucket = bucket.into()), Some(TargetError::Bucket), "{bucket}");
    }
}

#[test]
fn invalid_target_is_rejected_before_connecting() {
    assert_eq!(target_error(|t| t.ca_pem = Some("no certificate".into())), Some(TargetError::Ca));
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert_eq!(target_error(|t| t.ca_pem = Some(broken.into())), Some(TargetError::Ca));
    for region in ["evil.example/", "", "a b", "nl.1", &"r".repeat(65)] {
        assert_eq!(target_error(|t| t.region = region.into()), Some(TargetError::Region), "{region}");
    }
    for region in ["NL", "RegionOne", "nl_1", "us-east-1", &"R".repeat(64)] {
        assert_eq!(target_error(|t| t.region = region.into()), None, "{region}");
    }
    let with_token = |token: &str| {
        Credentials::AccessKey(AccessKey {
            access_key_id: Secret::new("id"),
            secret_access_key: Secret::new("secret"),
            session_token: Some(Secret::new(token)),
        })
    };
    assert_eq!(target_error(|t| t.credentials = with_token("FwoG/+=token")), None);
    for credentials in [
        Credentials::access_key("id", ""),
        Credentials::access_key("a\nb", "secret"),
        with_token("two words"),
        with_token(""),
    ] {
        assert_eq!(target_error(|t| t.credentials = credentials), Some(TargetError::Credentials));
    }
}

/// Trust bundles of an organisation contain every public root besides its own.
#[test]
fn ca_bundle_with_many_roots_is_accepted() {
    let authority = |n: u8| {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new([format!("root-{n}.example")]).unwrap();
        params.self_signed(&key).unwrap().pem()
    };
    let roots: Vec<String> = (0..150).map(|n| format!("# Root {n}\n{}\n", authority(n))).collect();
    let bundle = roots.concat();
    assert_eq!(target_error(|t| t.ca_pem = Some(bundle)), None);
}

/// An audit reads thousands of pages and would start again.
#[tokio::test]
async fn unanswered_listing_is_retried() {
    let asked = Arc::new(AtomicUsize::new(0));
    let stub = Stub::start(move |request| match asked.fetch_add(1, Ordering::Relaxed) {
        0 => (NEVER_ANSWERS, String::new()),
        _ => stub::versions_answer(request, &[]),
    })
    .await;
    let found = list_page(&stub.store(), ListQuery::under_prefix("video/")).await.unwrap();
    assert!(found.versions.is_empty() && stub.take_requests().len() == 2);
}

#[tokio::test]
async fn clients_of_one_connection_share_http_connections() {
    use axum::serve::ListenerExt;

    let accepted = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&accepted);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut target = target();
    target.endpoint = Some(format!("http://{}", listener.local_addr().unwrap()));
    let listener = listener.tap_io(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
    });
    let answers = axum::Router::new().fallback(|| async { axum::http::StatusCode::NOT_FOUND });
    tokio::spawn(async move { axum::serve(listener, answers).await.unwrap() });

    let connection = BucketConnection::new(&target).unwrap();
    for _ in 0..3 {
        let store = connection.client();
        assert!(list_page(&store, ListQuery::under_prefix("video/")).await.is_err());
    }
    assert_eq!(accepted.load(Ordering::Relaxed), 1);
}
