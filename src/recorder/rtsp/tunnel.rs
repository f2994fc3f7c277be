//! RTSP over TLS. The RTSP client speaks plain TCP. So it gets a port on the loopback interface, whose one connection is
//! forwarded to the camera in TLS. Each stream has its own port, which closes once the client has connected.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{CameraAddress, StreamError};

/// A local port that leads to a camera. The connection ends when it is dropped.
pub struct Tunnel {
    local_addr: SocketAddr,
    forwarder: JoinHandle<()>,
}

impl Tunnel {
    /// Connects to the camera, verifies its certificate, and opens the port.
    pub async fn open(address: &CameraAddress, ca_pem: Option<&str>) -> Result<Self, StreamError> {
        let connector = TlsConnector::from(Arc::new(client_config(ca_pem)?));
        let name = ServerName::try_from(address.host.clone()).map_err(|_| StreamError::InvalidUrl)?;
        let camera = TcpStream::connect((address.host.as_str(), address.port)).await?;
        camera.set_nodelay(true)?;
        let camera = connector
            .connect(name, camera)
            .await
            .map_err(|error| StreamError::Tls(handshake_error(&error)))?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let local = listener.local_addr()?;
        Ok(Self { local_addr: local, forwarder: tokio::spawn(forward(listener, camera)) })
    }

    pub const fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.forwarder.abort();
    }
}

async fn forward(listener: TcpListener, mut camera: TlsStream<TcpStream>) {
    let Ok((mut client, _)) = listener.accept().await else {
        return;
    };
    drop(listener);
    // The client sees the end of its connection, and reports it.
    let _ = tokio::io::copy_bidirectional(&mut client, &mut camera).await;
}

/// Trusts only the given authorities. Cameras have private ones, and a public authority proves nothing about a camera in a
/// private network.
fn client_config(ca_pem: Option<&str>) -> Result<ClientConfig, StreamError> {
    let pem = ca_pem.ok_or(StreamError::Tls(
        "spec.stream.caRef: missing; name the authority that signed the camera's certificate",
    ))?;
    let unreadable = StreamError::Tls("the authority of spec.stream.caRef is not a PEM certificate");
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let added = certificate.ok().map(|certificate| roots.add(certificate));
        if !matches!(added, Some(Ok(()))) {
            return Err(unreadable);
        }
    }
    if roots.is_empty() {
        return Err(unreadable);
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|_| StreamError::Tls("no common version"))?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

fn handshake_error(error: &std::io::Error) -> &'static str {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(_)) => {
            "the camera's certificate is not from the authority of spec.stream.caRef, not for this name, or not valid now"
        }
        Some(rustls::Error::AlertReceived(_)) => "the camera ended the handshake",
        Some(_) => "the handshake failed",
        None => "the connection ended during the handshake",
    }
}
