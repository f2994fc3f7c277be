use std::path::Path;

use jiff::{SignedDuration, Timestamp};

use super::*;
use crate::storage::s3::stub::{ReceivedRequest, Stub, error_answer, get_bucket_policy};
use crate::wire::Secret;

const ROLE: &str = "arn:aws:iam::000000000012:role/toezicht-recorder";

/// Returns the answer of an STS, with keys named after the token.
fn sts_answer(asked: &ReceivedRequest, lives: SignedDuration) -> (u16, String) {
    let form: HashMap<String, String> = url::form_urlencoded::parse(&asked.body).into_owned().collect();
    let token = &form["WebIdentityToken"];
    if form["Action"] != TOKEN_EXCHANGE || form["RoleArn"] != ROLE {
        return error_answer(400, "ValidationError");
    }
    let expiry = Timestamp::now() + lives;
    let keys = format!(
        "<AccessKeyId>key-of-{token}</AccessKeyId><SecretAccessKey>s</SecretAccessKey>\
         <SessionToken>session-of-{token}</SessionToken><Expiration>{expiry:.0}</Expiration>"
    );
    let result = format!(
        "<AssumeRoleWithWebIdentityResult><Credentials>{keys}</Credentials></AssumeRoleWithWebIdentityResult>"
    );
    let name = "AssumeRoleWithWebIdentityResponse";
    (200, format!("<{name} xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">{result}</{name}>"))
}

fn is_exchange(asked: &ReceivedRequest) -> bool {
    asked.method == "POST" && asked.path == "/"
}

fn web_identity_target(stub: &Stub, token_file: &Path) -> StorageTarget {
    StorageTarget {
        credentials: Credentials::WebIdentity {
            web_identity: WebIdentity { role_arn: ROLE.into(), token_file: token_file.to_owned() },
        },
        ..stub.target()
    }
}

/// Returns the access key and session token of each request to the bucket.
fn signing_keys(asked: &[ReceivedRequest]) -> Vec<(String, Option<String>)> {
    let requests = asked.iter().filter(|asked| !is_exchange(asked));
    requests
        .map(|asked| {
            let scope = asked.header("authorization").unwrap().split_once("Credential=").unwrap().1;
            let key = scope.split_once('/').unwrap().0.to_owned();
            (key, asked.header("x-amz-security-token").map(str::to_owned))
        })
        .collect()
}

#[tokio::test]
async fn session_token_is_sent_with_its_key() {
    let stub = Stub::start(|_| (200, String::new())).await;
    let mut target = stub.target();
    target.credentials = Credentials::AccessKey(AccessKey {
        access_key_id: Secret::new("ASIA1"),
        secret_access_key: Secret::new("s"),
        session_token: Some(Secret::new("FwoGZXIvYXdzEBY=")),
    });
    get_bucket_policy(&target).await.unwrap();
    get_bucket_policy(&stub.target()).await.unwrap();
    assert_eq!(
        signing_keys(&stub.take_requests()),
        [("ASIA1".to_owned(), Some("FwoGZXIvYXdzEBY=".to_owned())), ("id".to_owned(), None)]
    );
}

#[tokio::test]
async fn temporary_keys_are_shared_and_renewed_before_they_expire() {
    for (minutes, exchanges) in [(60, 1), (4, 3)] {
        let lives = SignedDuration::from_mins(minutes);
        let stub =
            Stub::start(
                move |asked| {
                    if is_exchange(asked) { sts_answer(asked, lives) } else { (200, String::new()) }
                },
            )
            .await;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        let target = web_identity_target(&stub, &file);
        let mut expected = Vec::new();
        for token in ["first", "second", "third"] {
            // The kubelet renews the token.
            std::fs::write(&file, format!("{token}\n")).unwrap();
            get_bucket_policy(&target).await.unwrap();
            let used = if exchanges == 1 { "first" } else { token };
            expected.push((format!("key-of-{used}"), Some(format!("session-of-{used}"))));
        }
        let asked = stub.take_requests();
        assert_eq!(asked.iter().filter(|asked| is_exchange(asked)).count(), exchanges);
        assert_eq!(signing_keys(&asked), expected);
        // Only the STS receives the token itself.
        let shown = asked.iter().filter(|asked| is_exchange(asked));
        assert!(shown.into_iter().all(|asked| asked.header("authorization").is_none()));
    }
}

/// After a revoked session or a changed role, new keys are exchanged before the old ones expire.
#[tokio::test]
async fn rejected_keys_are_exchanged_again() {
    let stub = Stub::start(|asked| {
        if is_exchange(asked) {
            sts_answer(asked, SignedDuration::from_hours(1))
        } else {
            error_answer(403, "InvalidAccessKeyId")
        }
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let token_file = folder.path().join("token");
    std::fs::write(&token_file, "refused").unwrap();
    let target = web_identity_target(&stub, &token_file);
    let exchanges = || stub.take_requests().iter().filter(|asked| is_exchange(asked)).count();
    for _ in 0..3 {
        get_bucket_policy(&target).await.unwrap_err();
    }
    assert_eq!(exchanges(), 1, "not with each refusal");
    let doubt = KeyEviction::for_target(&target).unwrap();
    for (status, minutes, count) in [(403, 4, 0), (404, 6, 0), (503, 6, 0), (403, 6, 1), (400, 6, 1)] {
        doubt.discard_if_rejected(status, Instant::now() + Duration::from_mins(minutes));
        get_bucket_policy(&target).await.unwrap_err();
        assert_eq!(exchanges(), count, "{status} after {minutes} minutes");
    }
    assert!(KeyEviction::for_target(&stub.target()).is_none());
}

#[tokio::test]
async fn failed_exchange_reports_its_cause() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    let denied = "<Error><Code>AccessDenied</Code></Error>";
    let of_aws = format!("<ErrorResponse>{denied}</ErrorResponse>");
    let of_ceph = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>{denied}");
    // A multi-byte character crosses the length limit.
    let long = format!("{of_ceph}.{}", "é".repeat(1000));
    assert!(!long.is_char_boundary(1024));
    for answer in [of_aws, of_ceph, long] {
        std::fs::write(&file, "").unwrap();
        let stub = Stub::start(move |_| (403, answer.clone())).await;
        let missing = get_bucket_policy(&web_identity_target(&stub, &file)).await.unwrap_err();
        assert_eq!((missing.operation, missing.code.as_str()), (TOKEN_EXCHANGE, "NoToken"));
        assert!(missing.is_retryable() && missing.to_string().contains("no service account token"));
        assert!(stub.take_requests().is_empty());

        std::fs::write(&file, "token").unwrap();
        let denied = get_bucket_policy(&web_identity_target(&stub, &file)).await.unwrap_err();
        let told = denied.to_string();
        let expected =
            "AssumeRoleWithWebIdentity was answered with AccessDenied (HTTP 403): there is no such role";
        assert!(told.starts_with(expected), "{told}");
        assert!(!denied.is_retryable());
        assert!(stub.take_requests().iter().all(is_exchange), "nothing goes unsigned to the bucket");
    }
}

#[tokio::test]
async fn expired_key_is_reported() {
    let stub = Stub::start(|_| error_answer(400, "ExpiredToken")).await;
    let expired = get_bucket_policy(&stub.target()).await.unwrap_err();
    assert!(expired.to_string().contains("the temporary key has expired"), "{expired:?}");
    assert!(!expired.is_retryable());
}

#[test]
fn secrets_are_redacted_in_debug_output() {
    let keys = Credentials::AccessKey(AccessKey {
        access_key_id: Secret::new("a"),
        secret_access_key: Secret::new("hunter2"),
        session_token: Some(Secret::new("hunter3")),
    });
    let shown = format!("{keys:?}");
    assert!(!shown.contains("hunter"), "{shown}");
}
