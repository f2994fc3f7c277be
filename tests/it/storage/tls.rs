//! TLS: a private authority is trusted and nothing else; and a rule against plain HTTP is only made where
//! the store knows that a request came over TLS, which it does not behind a proxy that ends it.

use std::net::{IpAddr, Ipv4Addr};

use toezicht::storage::Trials;

use super::scene::Scene;
use crate::support::front::Front;
use crate::support::settings::S3Server;

/// Ends TLS before a server; gives its endpoint and its certificate.
async fn front(server: &S3Server) -> (String, String) {
    let here = IpAddr::from(Ipv4Addr::LOCALHOST);
    let Front { port, ca } = Front::start(server, here, "127.0.0.1").await;
    (format!("https://127.0.0.1:{port}"), ca)
}

async fn behind_a_proxy_nobody_is_locked_out(server: S3Server, tells: bool) {
    let (endpoint, ca) = front(&server).await;
    let mut scene = Scene::new(server, "tls");
    for target in [&mut scene.operator, &mut scene.recorder] {
        target.endpoint = Some(endpoint.clone());
        target.ca_pem = Some(ca.clone());
    }
    let enforced = scene.enforce(Trials::Run).await.unwrap();
    let told = enforced.gaps.iter().any(|gap| gap.contains("plain HTTP"));
    assert_eq!(told, !tells, "{:?}", enforced.gaps);
    assert_eq!(scene.policy().await.unwrap().contains("aws:SecureTransport"), tells);
    assert!(scene.enforce(Trials::Keep).await.unwrap().changed.is_empty());
}

#[tokio::test]
async fn seaweedfs_behind_a_proxy_cannot_tell_tls() {
    behind_a_proxy_nobody_is_locked_out(S3Server::first(), false).await;
}

/// Ceph heeds the condition only on its own TLS listener, and passes what it cannot tell.
#[tokio::test]
async fn ceph_behind_a_proxy_takes_the_rule() {
    behind_a_proxy_nobody_is_locked_out(S3Server::second(), true).await;
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_not_trusted() {
    let server = S3Server::first();
    let (endpoint, _) = front(&server).await;
    let (_, other) = front(&server).await;
    for ca in [Some(other), None] {
        let mut scene = Scene::new(server.clone(), "distrust");
        scene.operator.endpoint = Some(endpoint.clone());
        scene.operator.ca_pem = ca;
        let error = scene.enforce(Trials::Keep).await.unwrap_err();
        assert_eq!(error.safe_message(), "GetBucketVersioning got no answer: UntrustedCertificate");
    }
}
