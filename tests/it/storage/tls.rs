//! TLS: a private authority is trusted and nothing else; and a rule against plain HTTP is only made where
//! the store knows that a request came over TLS, which it does not behind a proxy that ends it.

use std::net::{IpAddr, Ipv4Addr};

use toezicht::storage::Probe;

use super::scene::Scene;
use crate::support::settings::S3Server;
use crate::support::tls_frontend::TlsFrontend;

/// Ends TLS before a server; gives its endpoint and its certificate.
async fn frontend(server: &S3Server) -> (String, String) {
    let here = IpAddr::from(Ipv4Addr::LOCALHOST);
    let TlsFrontend { port, ca } = TlsFrontend::start(server, here, "127.0.0.1").await;
    (format!("https://127.0.0.1:{port}"), ca)
}

async fn tls_terminating_proxy_locks_nobody_out(server: S3Server, tells: bool) {
    let (endpoint, ca) = frontend(&server).await;
    let mut scene = Scene::new(server, "tls");
    for target in [&mut scene.operator, &mut scene.recorder] {
        target.endpoint = Some(endpoint.clone());
        target.ca_pem = Some(ca.clone());
    }
    let enforced = scene.enforce(Probe::Run).await.unwrap();
    let told = enforced.limitations.iter().any(|gap| gap.contains("plain HTTP"));
    assert_eq!(told, !tells, "{:?}", enforced.limitations);
    assert_eq!(scene.policy().await.unwrap().contains("aws:SecureTransport"), tells);
    assert!(scene.enforce(Probe::Skip).await.unwrap().changes.is_empty());
}

#[tokio::test]
async fn seaweedfs_behind_proxy_gets_no_tls_rule() {
    tls_terminating_proxy_locks_nobody_out(S3Server::primary(), false).await;
}

/// Ceph heeds the condition only on its own TLS listener, and passes what it cannot tell.
#[tokio::test]
async fn ceph_behind_proxy_gets_the_tls_rule() {
    tls_terminating_proxy_locks_nobody_out(S3Server::secondary(), true).await;
}

#[tokio::test]
async fn certificate_of_unknown_ca_is_rejected() {
    let server = S3Server::primary();
    let (endpoint, _) = frontend(&server).await;
    let (_, other) = frontend(&server).await;
    for ca in [Some(other), None] {
        let mut scene = Scene::new(server.clone(), "distrust");
        scene.operator.endpoint = Some(endpoint.clone());
        scene.operator.ca_pem = ca;
        let error = scene.enforce(Probe::Skip).await.unwrap_err();
        assert_eq!(error.to_string(), "GetBucketVersioning got no answer: UntrustedCertificate");
    }
}
