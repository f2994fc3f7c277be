//! Operator and recorders without keys of their own: at Ceph's STS, tokens of their service accounts count.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde_json::{Value, json};
use toezicht::api::IncidentHold;

use super::process::{Process, config_for_store, leads, with_chart_scaled_down};
use crate::support::cluster::TestNamespace;
use crate::support::scene::{SITE, Scene, policy};
use crate::support::settings::{S3Server, setting};
use crate::support::tools::run;
use crate::support::wait::HANG;

/// The audience that the test bed's STS is told of.
const AUDIENCE: &str = "sts.amazonaws.com";
/// The service account of the operator, which runs outside the cluster here.
const OPERATOR: &str = "toezicht";

async fn radosgw_admin(args: &[&str]) {
    let config = format!("{}/run/ceph/ceph.conf", setting("TOEZICHT_TEST_BED"));
    run("radosgw-admin", &[&["-c", &config], args].concat(), None).await;
}

/// A token of a service account.
async fn token(namespace: &TestNamespace, account: &str) -> String {
    let args = ["-n", &namespace.name, "create", "token", account, "--audience", AUDIENCE];
    run("kubectl", &args, None).await.trim().to_owned()
}

/// The issuer of a token, as Ceph names it.
fn issuer(token: &str) -> String {
    let part = token.split('.').nth(1).unwrap();
    let bytes = URL_SAFE_NO_PAD.decode(part).unwrap();
    let claims: Value = serde_json::from_slice(&bytes).unwrap();
    claims["iss"].as_str().unwrap().trim_start_matches("http://").to_owned()
}

/// Who may assume a role: these service accounts and no other.
fn trust(issuer: &str, subjects: &[String]) -> Value {
    json!({"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow",
        "Principal": {"Federated": [format!("arn:aws:iam:::oidc-provider/{issuer}")]},
        "Action": ["sts:AssumeRoleWithWebIdentity"],
        "Condition": {"StringEquals": {format!("{issuer}:sub"): subjects}},
    }]})
}

/// Makes a role that may do what the document says.
async fn make_role(name: &str, trust: &Value, document: &Value) {
    let role = format!("--role-name={name}");
    let trust = format!("--assume-role-policy-doc={trust}");
    radosgw_admin(&["role", "create", &role, &trust]).await;
    let document = format!("--policy-doc={document}");
    radosgw_admin(&["role-policy", "put", &role, "--policy-name=toezicht", &document]).await;
}

/// Whether a token is good for a role, or the STS says that it is not.
async fn assumes(server: &S3Server, role: &str, token: &str) -> bool {
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

/// What each identity of a Site needs, as `toezicht iam` tells it.
async fn documents(policy: &Value, site: &Value) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("site.yaml");
    std::fs::write(&file, format!("{site}\n---\n{policy}\n")).unwrap();
    let file = file.display().to_string();
    let told = run(env!("CARGO_BIN_EXE_toezicht"), &["iam", "--store", "ceph", &file], None).await;
    serde_json::from_str(&told).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn operator_and_recorders_authenticate_with_service_account_tokens() {
    with_chart_scaled_down("tokens", |namespace| async move {
        let server = S3Server::second();
        let account = ["-n", &namespace.name, "create", "serviceaccount", OPERATOR];
        run("kubectl", &account, None).await;
        let token = token(&namespace, OPERATOR).await;
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
        leads(&namespace, "tokens").await;

        let own = namespace.name.clone();
        let role_of = |who: &str| format!("{own}-{who}");
        let with_roles = |site: &mut Value| {
            for who in ["operator", "recorder"] {
                let principal = format!("arn:aws:iam:::role/{}", role_of(who));
                site["spec"]["storage"][who] = json!({"principal": principal, "workloadIdentity": true});
            }
        };
        let scene = Scene::within(namespace, server, |_, site| with_roles(site)).await;
        // Nobody has made the roles yet.
        let told = scene.site_says("StorageEnforced", "StorageError", HANG).await;
        let expected =
            "AssumeRoleWithWebIdentity was answered with AccessDenied (HTTP 403): there is no such role";
        assert!(told.starts_with(expected), "{told}");

        let mut site = scene.site();
        with_roles(&mut site);
        let documents = documents(&policy(), &site).await;
        let issuer = issuer(&token);
        let subject = |account: &str| format!("system:serviceaccount:{own}:{account}");
        let recorders = [subject(&format!("{SITE}-recorder")), subject(OPERATOR)];
        make_role(&role_of("operator"), &trust(&issuer, &recorders[1..]), &documents["operator"]).await;
        make_role(&role_of("recorder"), &trust(&issuer, &recorders[..1]), &documents["recorder"]).await;
        // The bucket is read, and still nobody can be the recorder.
        scene.wait_for_site("Compliant", "True", HANG).await;
        let told = scene.site_says("StorageEnforced", "StorageError", HANG).await;
        assert!(told.starts_with(expected), "{told}");
        // The operator tries what recorders may.
        let with_operator = format!("--assume-role-policy-doc={}", trust(&issuer, &recorders));
        let role = format!("--role-name={}", role_of("recorder"));
        radosgw_admin(&["role", "modify", &role, &with_operator]).await;
        scene.wait_for_site("StorageEnforced", "True", HANG).await;
        let told = scene.site_says("AccessRestricted", "AccessMismatch", HANG).await;
        let as_of_users = "A recorder can write objects with a legal hold, which stay until a person clears it with the operator's keys. A recorder can";
        assert!(told.starts_with(as_of_users), "{told}");
        let from = Timestamp::now();
        scene.camera("hal", "h264/4").await;
        // The store has confirmed a segment.
        scene.wait_for_site("Recording", "True", HANG).await;
        scene.declare("theft", &["hal"], from, Some(Timestamp::now())).await;
        scene.wait_for_hold("theft", "Placed", "True", HANG).await;
        let hold = scene.namespace.api::<IncidentHold>().get("theft").await.unwrap();
        let placement = hold.status.unwrap().placement.unwrap();
        assert!(placement.segments > 0, "{placement:?}");

        let of_recorder = self::token(&scene.namespace, &format!("{SITE}-recorder")).await;
        let of_another = self::token(&scene.namespace, "default").await;
        for (who, token, is_good) in [
            ("operator", &token, true),
            ("operator", &of_recorder, false),
            ("operator", &of_another, false),
            ("recorder", &of_recorder, true),
            ("recorder", &of_another, false),
        ] {
            let assumed = assumes(&scene.bucket.server, &role_of(who), token).await;
            assert_eq!(assumed, is_good, "{who}");
        }
        let log = process.said();
        assert!(!log.contains(&token) && !log.contains("panicked"), "{log}");
    })
    .await;
}
