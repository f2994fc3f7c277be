//! Operator and recorders without static keys: they exchange service account tokens at Ceph's STS.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde_json::{Value, json};
use toezicht::api::IncidentHold;

use super::process::{Process, config_for_store, wait_for_leader, with_chart_scaled_down};
use crate::support::cluster::TestNamespace;
use crate::support::scene::{SITE, Scene, policy};
use crate::support::settings::{S3Server, setting};
use crate::support::tools::run;
use crate::support::wait::HANG;

/// Audience that the test bed's STS accepts.
const AUDIENCE: &str = "sts.amazonaws.com";
/// Service account of the operator, which runs outside the cluster in this test.
const OPERATOR: &str = "toezicht";

async fn radosgw_admin(args: &[&str]) {
    let config = format!("{}/run/ceph/ceph.conf", setting("TOEZICHT_TEST_BED"));
    run("radosgw-admin", &[&["-c", &config], args].concat(), None).await;
}

/// Creates a token of a service account.
async fn create_token(namespace: &TestNamespace, account: &str) -> String {
    let args = ["-n", &namespace.name, "create", "token", account, "--audience", AUDIENCE];
    run("kubectl", &args, None).await.trim().to_owned()
}

/// Returns the issuer of a token without its scheme, as Ceph names it.
fn token_issuer(token: &str) -> String {
    let part = token.split('.').nth(1).unwrap();
    let bytes = URL_SAFE_NO_PAD.decode(part).unwrap();
    let claims: Value = serde_json::from_slice(&bytes).unwrap();
    claims["iss"].as_str().unwrap().trim_start_matches("http://").to_owned()
}

/// Returns a trust policy that lets only these service accounts assume a role.
fn trust_policy(issuer: &str, subjects: &[String]) -> Value {
    json!({"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow",
        "Principal": {"Federated": [format!("arn:aws:iam:::oidc-provider/{issuer}")]},
        "Action": ["sts:AssumeRoleWithWebIdentity"],
        "Condition": {"StringEquals": {format!("{issuer}:sub"): subjects}},
    }]})
}

/// Creates a role with this trust policy and these permissions.
async fn make_role(name: &str, trust: &Value, document: &Value) {
    let role = format!("--role-name={name}");
    let trust = format!("--assume-role-policy-doc={trust}");
    radosgw_admin(&["role", "create", &role, &trust]).await;
    let document = format!("--policy-doc={document}");
    radosgw_admin(&["role-policy", "put", &role, "--policy-name=toezicht", &document]).await;
}

/// Returns whether the STS lets a token assume a role. Panics on errors other than a denial.
async fn can_assume_role(server: &S3Server, role: &str, token: &str) -> bool {
    let config = aws_sdk_sts::Config::builder()
        .behavior_version(aws_sdk_sts::config::BehaviorVersion::latest())
        .region(aws_sdk_sts::config::Region::new(server.region.clone()))
        .endpoint_url(&server.endpoint)
        .build();
    let request = aws_sdk_sts::Client::from_conf(config).assume_role_with_web_identity();
    let request = request.role_arn(format!("arn:aws:iam:::role/{role}"));
    let request = request.role_session_name("test").web_identity_token(token);
    match request.send().await {
        Ok(_) => true,
        Err(error) => {
            let status = error.raw_response().map(|response| response.status().as_u16());
            assert_eq!(status, Some(403), "{error:?}");
            false
        }
    }
}

/// Returns the policy documents of a Site's identities, as printed by `toezicht iam`.
async fn identity_policies(policy: &Value, site: &Value) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("site.yaml");
    std::fs::write(&file, format!("{site}\n---\n{policy}\n")).unwrap();
    let file = file.display().to_string();
    let output = run(env!("CARGO_BIN_EXE_toezicht"), &["iam", "--store", "ceph", &file], None).await;
    serde_json::from_str(&output).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn operator_and_recorders_authenticate_with_service_account_tokens() {
    with_chart_scaled_down("tokens", |namespace| async move {
        let server = S3Server::secondary();
        let account = ["-n", &namespace.name, "create", "serviceaccount", OPERATOR];
        run("kubectl", &account, None).await;
        let token = create_token(&namespace, OPERATOR).await;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, &token).unwrap();
        let variables = [
            ("KUBECONFIG", &*setting("KUBECONFIG")),
            ("AWS_WEB_IDENTITY_TOKEN_FILE", file.to_str().unwrap()),
        ];
        let mut config = config_for_store(&server.endpoint);
        config["grants"][0]["roles"] = json!([format!("arn:aws:iam:::role/{}-*", namespace.name)]);
        let process = Process::with_variables(&variables, &namespace, &namespace, "tokens", config);
        wait_for_leader(&namespace, "tokens").await;

        let namespace_name = namespace.name.clone();
        let role_of = |identity: &str| format!("{namespace_name}-{identity}");
        let with_roles = |site: &mut Value| {
            for identity in ["operator", "recorder"] {
                let principal = format!("arn:aws:iam:::role/{}", role_of(identity));
                site["spec"]["storage"][identity] = json!({"principal": principal, "workloadIdentity": true});
            }
        };
        let scene = Scene::within(namespace, server, |_, site| with_roles(site)).await;
        // The roles do not exist yet.
        let message = scene.wait_for_site_reason("StorageEnforced", "StorageError", HANG).await;
        let expected =
            "AssumeRoleWithWebIdentity was answered with AccessDenied (HTTP 403): there is no such role";
        assert!(message.starts_with(expected), "{message}");

        let mut site = scene.site();
        with_roles(&mut site);
        let policies = identity_policies(&policy(), &site).await;
        let issuer = token_issuer(&token);
        let subject = |account: &str| format!("system:serviceaccount:{namespace_name}:{account}");
        let recorders = [subject(&format!("{SITE}-recorder")), subject(OPERATOR)];
        make_role(&role_of("operator"), &trust_policy(&issuer, &recorders[1..]), &policies["operator"]).await;
        make_role(&role_of("recorder"), &trust_policy(&issuer, &recorders[..1]), &policies["recorder"]).await;
        // The operator reads the bucket, but the recorder's trust policy does not admit the operator.
        scene.wait_for_site("Compliant", "True", HANG).await;
        let message = scene.wait_for_site_reason("StorageEnforced", "StorageError", HANG).await;
        assert!(message.starts_with(expected), "{message}");
        // Let the operator assume the recorder's role to probe the recorder's permissions.
        let with_operator = format!("--assume-role-policy-doc={}", trust_policy(&issuer, &recorders));
        let role = format!("--role-name={}", role_of("recorder"));
        radosgw_admin(&["role", "modify", &role, &with_operator]).await;
        scene.wait_for_site("StorageEnforced", "True", HANG).await;
        let message = scene.wait_for_site_reason("AccessRestricted", "AccessMismatch", HANG).await;
        let same_as_for_users = "A recorder can write objects with a legal hold, which stay until a person clears it with the operator's keys. A recorder can";
        assert!(message.starts_with(same_as_for_users), "{message}");
        let from = Timestamp::now();
        scene.camera("hal", "h264/4").await;
        // The store has confirmed an uploaded segment.
        scene.wait_for_site("Recording", "True", HANG).await;
        scene.declare("theft", &["hal"], from, Some(Timestamp::now())).await;
        scene.wait_for_hold("theft", "Placed", "True", HANG).await;
        let hold = scene.namespace.api::<IncidentHold>().get("theft").await.unwrap();
        let placement = hold.status.unwrap().placement.unwrap();
        assert!(placement.segments > 0, "{placement:?}");

        let recorder_token = create_token(&scene.namespace, &format!("{SITE}-recorder")).await;
        let other_token = create_token(&scene.namespace, "default").await;
        for (identity, token, is_allowed) in [
            ("operator", &token, true),
            ("operator", &recorder_token, false),
            ("operator", &other_token, false),
            ("recorder", &recorder_token, true),
            ("recorder", &other_token, false),
        ] {
            let is_assumed = can_assume_role(&scene.bucket.server, &role_of(identity), token).await;
            assert_eq!(is_assumed, is_allowed, "{identity}");
        }
        let log = process.log();
        assert!(!log.contains(&token) && !log.contains("panicked"), "{log}");
    })
    .await;
}
