//! TLS: a private authority is trusted and nothing else; and a rule against plain HTTP is only made where
//! the store knows that a request came over TLS, which it does not behind a proxy that ends it.

use std::sync::Arc;

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use toezicht::storage::Trials;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::scene::Scene;
use crate::support::settings::S3Server;

/// Ends TLS before a server; gives its endpoint and its certificate.
async fn front(server: &S3Server) -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let certificate = CertificateDer::from(made.cert.der().to_vec());
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("https://{}", listener.local_addr().unwrap());
    let url = url::Url::parse(&server.endpoint).unwrap();
    let behind = format!(
        "{}:{}",
        url.host_str().unwrap(),
        url.port_or_known_default().unwrap()
    );
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (acceptor, behind) = (acceptor.clone(), behind.clone());
            tokio::spawn(async move {
                // A client that does not trust the certificate ends the handshake.
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    return;
                };
                let mut server = TcpStream::connect(behind).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut stream, &mut server).await;
            });
        }
    });
    (endpoint, made.cert.pem())
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
    assert_eq!(
        scene.policy().await.unwrap().contains("aws:SecureTransport"),
        tells
    );
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
        assert_eq!(
            error.safe_message(),
            "GetBucketVersioning got no answer: UntrustedCertificate"
        );
    }
}
