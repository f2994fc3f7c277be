//! The chart's proxy and workload identity settings, and an operator whose only route to the store is a proxy.

use std::net::IpAddr;

use serde_json::{Value, json};
use toezicht::controllers::config::OperatorConfig;
use toezicht::controllers::egress::{PROXY_PASSWORD, PROXY_USERNAME};

use super::chart::{documents_of_kind, render};
use super::process::{Process, config_for_store, wait_for_leader, with_chart_scaled_down};
use crate::support::recorded::keys;
use crate::support::scene::Scene;
use crate::support::settings::{S3Server, root, setting};
use crate::support::tinyproxy::{PASSWORD, Tinyproxy, USERNAME};
use crate::support::tls_frontend::TlsFrontend;
use crate::support::tools::try_run;
use crate::support::wait::{HANG, eventually};

/// Renders the operator's pod and its configuration file.
async fn render_operator(values: &[&str]) -> (Value, String) {
    let documents = render(values).await;
    let pod = documents_of_kind(&documents, "Deployment")[0]["spec"]["template"]["spec"].clone();
    let maps = documents_of_kind(&documents, "ConfigMap");
    let file = maps.iter().find_map(|map| map["data"]["operator.yaml"].as_str());
    (pod, file.unwrap().to_owned())
}

fn env_variable<'a>(pod: &'a Value, name: &str) -> Option<&'a Value> {
    let variables = pod["containers"][0]["env"].as_array().unwrap();
    variables.iter().find(|variable| variable["name"] == name)
}

#[tokio::test]
async fn proxy_is_configured_and_its_password_is_in_a_secret() {
    let (pod, file) = render_operator(&[]).await;
    let config = OperatorConfig::parse(&file).unwrap();
    assert_eq!((config.egress.proxy(false), config.egress.proxy(true)), (None, None));
    assert_eq!(env_variable(&pod, "TOEZICHT_PROXY_PASSWORD"), None);

    let values = [
        "--set=proxy.https=http://proxy.example.nl:3128",
        "--set=proxy.noProxy=s3.example.nl\\,10.0.0.0/8",
        "--set=proxy.credentialsSecret=proxy-login",
    ];
    let (pod, file) = render_operator(&values).await;
    let config = OperatorConfig::parse(&file).unwrap();
    let proxy = config.egress.proxy(false).unwrap();
    assert_eq!(proxy.url, "http://proxy.example.nl:3128");
    assert_eq!(proxy.no_proxy, "s3.example.nl,10.0.0.0/8");
    let password = env_variable(&pod, "TOEZICHT_PROXY_PASSWORD").unwrap();
    assert_eq!(password["valueFrom"]["secretKeyRef"], json!({"name": "proxy-login", "key": "password"}));
    // The Kubernetes client would use these variables.
    for name in ["HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy"] {
        assert_eq!(env_variable(&pod, name), None, "{name}");
    }
}

#[tokio::test]
async fn password_in_proxy_url_is_rejected() {
    let chart = root().join("charts/toezicht").display().to_string();
    for url in ["http://tz:secret@proxy.example.nl:3128", "https://proxy.example.nl", "proxy.example.nl:3128"]
    {
        let value = format!("--set=proxy.https={url}");
        let rendered = try_run("helm", &["template", "tz", &chart, &value], None).await;
        assert!(!rendered.0, "{url}");
    }
}

#[tokio::test]
async fn operator_gets_store_token_only_with_role_grant() {
    let grant = |ambient: bool| {
        let roles = ambient.then_some("arn:aws:iam::1:role/vlijmen-*").into_iter();
        let roles: Vec<&str> = roles.collect();
        let grant = json!([{"namespaces": ["vlijmen"], "endpoints": ["aws"], "buckets": ["vlijmen-*"], "roles": roles}]);
        format!("--set-json=grants={grant}")
    };
    for ambient in [false, true] {
        let (pod, file) = render_operator(&[&grant(ambient), "--set=workloadIdentity.audience=rgw"]).await;
        let config = OperatorConfig::parse(&file).unwrap();
        assert_eq!(config.egress.audience, "rgw");
        let volumes = pod["volumes"].as_array().unwrap();
        let token = volumes.iter().find(|volume| volume["name"] == "store-token");
        assert_eq!(token.is_some(), ambient);
        let Some(token) = token else { continue };
        let projected = &token["projected"]["sources"][0]["serviceAccountToken"];
        assert_eq!(projected["audience"], "rgw");
        let mounts = pod["containers"][0]["volumeMounts"].as_array().unwrap();
        let mount = mounts.iter().find(|mount| mount["name"] == "store-token").unwrap();
        let path = std::path::Path::new(mount["mountPath"].as_str().unwrap())
            .join(projected["path"].as_str().unwrap());
        assert_eq!(config.egress.token_file, path);
    }
}

/// Host name that only the proxy resolves.
const STORE_HOST: &str = "s3.behind-a-proxy.test";

#[tokio::test(flavor = "multi_thread")]
async fn operator_and_recorders_reach_store_through_proxy() {
    with_chart_scaled_down("egress", |namespace| async move {
        let server = S3Server::secondary();
        let url = url::Url::parse(&server.endpoint).unwrap();
        let local_address: IpAddr = url.host_str().unwrap().parse().unwrap();
        let frontend = TlsFrontend::start(&server, local_address, STORE_HOST).await;
        let proxy = Tinyproxy::start(local_address, frontend.port, &[STORE_HOST]).await;
        let endpoint = format!("https://{STORE_HOST}:{}", frontend.port);
        let mut config = config_for_store(&endpoint);
        config["proxy"] = json!({"https": proxy.url, "noProxy": ""});
        let variables =
            [("KUBECONFIG", &*setting("KUBECONFIG")), (PROXY_USERNAME, USERNAME), (PROXY_PASSWORD, PASSWORD)];
        let process = Process::with_variables(&variables, &namespace, &namespace, "egress", config);
        wait_for_leader(&namespace, "egress").await;
        let ca = [("ca.crt", frontend.ca.clone())];
        namespace.secret("store-ca", "toezicht.dev/ca", ca).await;
        let scene = Scene::within(namespace, server, |_, site| {
            site["spec"]["storage"]["endpoint"] = endpoint.as_str().into();
            site["spec"]["storage"]["caRef"] = json!({"name": "store-ca"});
        })
        .await;
        scene.camera("hal", "h264/3").await;
        scene.wait_for_site("StorageEnforced", "True", HANG).await;
        eventually("a segment is uploaded", HANG, || async {
            let keys = keys(&scene.bucket, "hal").await;
            if keys.is_empty() { Err("none yet".to_owned()) } else { Ok(()) }
        })
        .await;
        // Clients are the operator on this machine and a recorder in its pod.
        let clients: std::collections::BTreeSet<String> =
            proxy.clients_tunnelled_to(STORE_HOST).into_iter().collect();
        let is_local =
            |address: &&String| address.parse::<IpAddr>().is_ok_and(|address| address == local_address);
        assert!(clients.iter().any(|address| is_local(&address)), "{clients:?}");
        assert!(!clients.iter().all(|address| is_local(&address)), "{clients:?}");
        let log = process.log();
        assert!(!log.contains(PASSWORD) && !log.contains("panicked"), "{log}");
    })
    .await;
}
