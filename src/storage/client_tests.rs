use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::contract::{Credentials, Keys, Secret};
use crate::storage::listing::{Query, page};
use crate::storage::stub::{self, SILENCE, Stub};

fn target() -> StorageTarget {
    StorageTarget {
        endpoint: Some("https://s3.example.nl:9000".into()),
        region: "nl-1".into(),
        bucket: "heusden-die-heijgrave".into(),
        path_style: true,
        ca_pem: None,
        credentials: Credentials::keys("id", "secret"),
        proxy: None,
    }
}

fn refusal(change: impl FnOnce(&mut StorageTarget)) -> Option<TargetError> {
    let mut target = target();
    change(&mut target);
    Store::new(&target, Purpose::Configure).err()
}

#[test]
fn endpoints_that_are_no_origin_are_refused() {
    assert_eq!(refusal(|_| ()), None);
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
            refusal(|t| t.endpoint = Some(endpoint.into())),
            Some(TargetError::Endpoint),
            "{endpoint}"
        );
    }
}

#[test]
fn buckets_that_choose_their_own_host_are_refused() {
    for bucket in
        ["arn:aws:s3:eu-west-1:1:accesspoint/x", "a", "x--euw1-az1--x-s3", "../x", "A-bucket", "a..b", "x/y"]
    {
        assert_eq!(refusal(|t| t.bucket = bucket.into()), Some(TargetError::Bucket), "{bucket}");
    }
}

#[test]
fn what_cannot_be_used_is_found_before_connecting() {
    assert_eq!(refusal(|t| t.ca_pem = Some("no certificate".into())), Some(TargetError::Ca));
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert_eq!(refusal(|t| t.ca_pem = Some(broken.into())), Some(TargetError::Ca));
    for region in ["evil.example/", "", "a b", "nl.1", &"r".repeat(65)] {
        assert_eq!(refusal(|t| t.region = region.into()), Some(TargetError::Region), "{region}");
    }
    for region in ["NL", "RegionOne", "nl_1", "us-east-1", &"R".repeat(64)] {
        assert_eq!(refusal(|t| t.region = region.into()), None, "{region}");
    }
    let with_token = |token: &str| {
        Credentials::Keys(Keys {
            access_key_id: Secret::new("id"),
            secret_access_key: Secret::new("secret"),
            session_token: Some(Secret::new(token)),
        })
    };
    assert_eq!(refusal(|t| t.credentials = with_token("FwoG/+=token")), None);
    for credentials in [
        Credentials::keys("id", ""),
        Credentials::keys("a\nb", "secret"),
        with_token("two words"),
        with_token(""),
    ] {
        assert_eq!(refusal(|t| t.credentials = credentials), Some(TargetError::Credentials));
    }
}

/// Trust bundles of an organisation hold every public root beside its own.
#[test]
fn a_bundle_of_many_authorities_is_taken() {
    let authority = |n: u8| {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new([format!("root-{n}.example")]).unwrap();
        params.self_signed(&key).unwrap().pem()
    };
    let roots: Vec<String> = (0..150).map(|n| format!("# Root {n}\n{}\n", authority(n))).collect();
    let bundle = roots.concat();
    assert_eq!(refusal(|t| t.ca_pem = Some(bundle)), None);
}

/// An audit reads thousands of pages, and would begin again.
#[tokio::test]
async fn a_page_whose_answer_never_comes_is_asked_for_again() {
    let asked = Arc::new(AtomicUsize::new(0));
    let stub = Stub::start(move |request| match asked.fetch_add(1, Ordering::Relaxed) {
        0 => (SILENCE, String::new()),
        _ => stub::versions(request, &[]),
    })
    .await;
    let found = page(&stub.store(), Query::under("video/")).await.unwrap();
    assert!(found.versions.is_empty() && stub.take().len() == 2);
}
