//! Temporary keys of a real STS: Ceph's gateway has one at its own endpoint.

use std::path::Path;
use std::sync::Arc;

use aws_sdk_sts::config::{BehaviorVersion, Credentials as Plain, Region};
use axum::http::request::Parts;
use jiff::Timestamp;
use toezicht::contract::{Credentials, Keys, Secret, StorageTarget, WebIdentity};
use toezicht::storage::{EnforceError, Trials};

use super::liar::{Lie, lying};
use super::lies::keeps;
use super::scene::Scene;
use crate::support::settings::{S3Identity, S3Server};

/// A quarter of an hour: the shortest that S3 knows.
const SECONDS: i32 = 900;
const OPERATOR: &str = "arn:aws:iam:::role/temporary-operator";
const RECORDER: &str = "arn:aws:iam:::role/temporary-recorder";

/// Temporary keys of an identity.
async fn session(server: &S3Server, identity: &S3Identity) -> Keys {
    let config = aws_sdk_sts::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .credentials_provider(Plain::new(
            &identity.access_key,
            &identity.secret_key,
            None,
            None,
            "test",
        ))
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .region(Region::new(server.region.clone()))
        .endpoint_url(&server.endpoint)
        .build();
    let request = aws_sdk_sts::Client::from_conf(config).get_session_token();
    let answer = request.duration_seconds(SECONDS).send().await.unwrap();
    let keys = answer.credentials().unwrap();
    Keys {
        access_key_id: Secret::new(keys.access_key_id()),
        secret_access_key: Secret::new(keys.secret_access_key()),
        session_token: Some(Secret::new(keys.session_token())),
    }
}

/// Those of a scene's operator and recorder.
async fn sessions(server: &S3Server) -> [Keys; 2] {
    let maker = server.bucket_maker();
    [
        session(server, maker).await,
        session(server, server.identity("recorder")).await,
    ]
}

fn without_token(target: &mut StorageTarget) {
    let Credentials::Keys(keys) = &mut target.credentials else {
        panic!()
    };
    keys.session_token = None;
}

#[tokio::test]
async fn ceph_temporary_keys_do_all_that_keys_do() {
    let server = S3Server::second();
    let [operator, recorder] = sessions(&server).await;
    let mut scene = Scene::new(server, "session");
    scene.operator.credentials = Credentials::Keys(operator);
    scene.recorder.credentials = Credentials::Keys(recorder);
    keeps(&scene).await;

    without_token(&mut scene.operator);
    let error = scene.enforce(Trials::Keep).await.unwrap_err();
    assert!(matches!(error, EnforceError::Advised { .. }), "{error:?}");
    assert!(error.safe_message().contains("add its sessionToken"), "{error}");
}

/// The answer of an STS with these keys.
fn assumed(keys: &Keys) -> String {
    let expiry = Timestamp::now() + jiff::SignedDuration::from_secs(i64::from(SECONDS));
    let (id, secret, token) = (
        keys.access_key_id.reveal(),
        keys.secret_access_key.reveal(),
        keys.session_token.as_ref().unwrap().reveal(),
    );
    format!(
        "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>\
         <AccessKeyId>{id}</AccessKeyId><SecretAccessKey>{secret}</SecretAccessKey><SessionToken>{token}</SessionToken>\
         <Expiration>{expiry:.0}</Expiration></Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
    )
}

fn ambient(role: &str, token_file: &Path) -> Credentials {
    Credentials::WebIdentity {
        web_identity: WebIdentity {
            role_arn: role.into(),
            token_file: token_file.to_owned(),
        },
    }
}

/// Workload identity, with an STS of ours before the real store: it knows two tokens, and has real keys for them.
#[tokio::test]
async fn ceph_workload_identity_needs_no_keys() {
    let server = S3Server::second();
    let [operator, recorder] = sessions(&server).await;
    let answers = [
        ("token-of-operator", OPERATOR, assumed(&operator)),
        ("token-of-recorder", RECORDER, assumed(&recorder)),
    ];
    let sts = Lie::Answer(Arc::new(move |parts: &Parts, body: &[u8]| {
        if parts.uri.path() != "/" || parts.method != "POST" {
            return None;
        }
        let form: Vec<(String, String)> = url::form_urlencoded::parse(body).into_owned().collect();
        let has = |name: &str, value: &str| form.contains(&(name.to_owned(), value.to_owned()));
        let known = answers
            .iter()
            .find(|(token, role, _)| has("WebIdentityToken", token) && has("RoleArn", role));
        Some(
            match known.filter(|_| has("Action", "AssumeRoleWithWebIdentity")) {
                Some((_, _, answer)) => (200, answer.clone()),
                None => (
                    403,
                    "<ErrorResponse><Error><Code>AccessDenied</Code></Error></ErrorResponse>".to_owned(),
                ),
            },
        )
    }));
    let mut scene = lying(server, "ambient", vec![sts]).await;
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name);
    std::fs::write(file("operator"), "token-of-operator").unwrap();
    std::fs::write(file("recorder"), "token-of-recorder").unwrap();
    scene.operator.credentials = ambient(OPERATOR, &file("operator"));
    scene.recorder.credentials = ambient(RECORDER, &file("recorder"));
    keeps(&scene).await;

    // The STS does not let everybody into every role.
    scene.operator.credentials = ambient(OPERATOR, &file("recorder"));
    let error = scene.enforce(Trials::Keep).await.unwrap_err();
    let told = error.safe_message();
    assert!(
        told.contains("AssumeRoleWithWebIdentity was answered with AccessDenied"),
        "{told}"
    );
}
