//! TLS: only the configured CA is trusted. The policy denies plain HTTP only if the store can detect TLS, which it
//! cannot behind a TLS-terminating proxy.

use std::net::{IpAddr, Ipv4Addr};

use toezicht::storage::Probe;

use super::scene::Scene;
use crate::support::settings::S3Server;
use crate::support::tls_frontend::TlsFrontend;

/// Starts a TLS frontend and returns its endpoint and certificate.
async fn start_frontend(server: &S3Server) -> (String, String) {
    let address = IpAddr::from(Ipv4Addr::LOCALHOST);
    let TlsFrontend { port, ca } = TlsFrontend::start(server, address, "127.0.0.1").await;
    (format!("https://127.0.0.1:{port}"), ca)
}

async fn tls_terminating_proxy_locks_nobody_out(server: S3Server, detects_tls: bool) {
    let (endpoint, ca) = start_frontend(&server).await;
    let mut scene = Scene::new(server, "tls");
    for target in [&mut scene.operator, &mut scene.recorder] {
        target.endpoint = Some(endpoint.clone());
        target.ca_pem = Some(ca.clone());
    }
    let enforced = scene.enforce(Probe::Run).await.unwrap();
    let is_reported = enforced.limitations.iter().any(|limitation| limitation.contains("plain HTTP"));
    assert_eq!(is_reported, !detects_tls, "{:?}", enforced.limitations);
    assert_eq!(scene.policy().await.unwrap().contains("aws:SecureTransport"), detects_tls);
    assert!(scene.enforce(Probe::Skip).await.unwrap().changes.is_empty());
}

#[tokio::test]
async fn seaweedfs_behind_proxy_gets_no_tls_rule() {
    tls_terminating_proxy_locks_nobody_out(S3Server::primary(), false).await;
}

/// Ceph evaluates the condition only on its own TLS listener, and admits requests for which it cannot.
#[tokio::test]
async fn ceph_behind_proxy_gets_the_tls_rule() {
    tls_terminating_proxy_locks_nobody_out(S3Server::secondary(), true).await;
}

#[tokio::test]
async fn certificate_of_unknown_ca_is_rejected() {
    let server = S3Server::primary();
    let (endpoint, _) = start_frontend(&server).await;
    let (_, other) = start_frontend(&server).await;
    for ca in [Some(other), None] {
        let mut scene = Scene::new(server.clone(), "distrust");
        scene.operator.endpoint = Some(endpoint.clone());
        scene.operator.ca_pem = ca;
        let error = scene.enforce(Probe::Skip).await.unwrap_err();
        assert_eq!(error.to_string(), "GetBucketVersioning got no answer: UntrustedCertificate");
    }
}
