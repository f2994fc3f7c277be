//! The status API's side of TLS.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::wire::StatusApi;

/// The certificate or key of the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the status API's certificate and key cannot be used")]
pub struct TlsConfigError;

/// Accepts connections with the configured certificate.
pub fn acceptor(api: &StatusApi) -> Result<TlsAcceptor, TlsConfigError> {
    let chain = CertificateDer::pem_slice_iter(api.cert_pem.as_bytes()).collect::<Result<Vec<_>, _>>();
    let key = PrivateKeyDer::from_pem_slice(api.key_pem.reveal().as_bytes()).map_err(|_| TlsConfigError)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|_| TlsConfigError)?
        .with_no_client_auth()
        .with_single_cert(chain.map_err(|_| TlsConfigError)?, key)
        .map_err(|_| TlsConfigError)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
