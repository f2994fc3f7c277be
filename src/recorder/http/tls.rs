//! TLS of the status API.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::wire::StatusApi;

/// Accepts connections with the configured certificate; `None` if it or its key is unusable.
pub fn acceptor(api: &StatusApi) -> Option<TlsAcceptor> {
    let chain = CertificateDer::pem_slice_iter(api.cert_pem.as_bytes()).collect::<Result<Vec<_>, _>>();
    let key = PrivateKeyDer::from_pem_slice(api.key_pem.reveal().as_bytes()).ok()?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .ok()?
        .with_no_client_auth()
        .with_single_cert(chain.ok()?, key)
        .ok()?;
    Some(TlsAcceptor::from(Arc::new(config)))
}
