use std::sync::{Arc, Mutex};

use rcgen::{CertificateParams, KeyPair};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::storage::s3::BucketConnection;
use crate::storage::s3::stub::{Stub, get_bucket_policy};
use crate::wire::{Login, Secret};

/// First line and `Proxy-Authorization` of each request.
type ProxiedRequests = Arc<Mutex<Vec<(String, Option<String>)>>>;

/// A proxy that tunnels and forwards all requests to one server.
struct HttpProxy {
    url: String,
    requests: ProxiedRequests,
}

impl HttpProxy {
    async fn start(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::<Mutex<Vec<_>>>::default();
        let seen = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve_connection(stream, server.clone(), Arc::clone(&seen)));
            }
        });
        Self { url, requests: asked }
    }

    fn proxy(&self) -> Proxy {
        Proxy { url: self.url.clone(), no_proxy: String::new(), login: None }
    }

    fn take_requests(&self) -> Vec<(String, Option<String>)> {
        std::mem::take(&mut self.requests.lock().unwrap())
    }
}

/// Reads the head of a request. `None`: the connection ended before.
async fn read_head(stream: &mut (impl AsyncBufRead + Unpin)) -> Option<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).await.unwrap_or_default() == 0 {
            return None;
        }
    }
    Some(head)
}

async fn serve_connection(stream: TcpStream, server: String, seen: ProxiedRequests) {
    let mut stream = BufReader::new(stream);
    let Some(head) = read_head(&mut stream).await else { return };
    let first = head.lines().next().unwrap().to_owned();
    let login = head.lines().find_map(|line| {
        line.strip_prefix("proxy-authorization: ").or_else(|| line.strip_prefix("Proxy-Authorization: "))
    });
    seen.lock().unwrap().push((first.clone(), login.map(str::to_owned)));
    let mut server = TcpStream::connect(server).await.unwrap();
    if first.starts_with("CONNECT ") {
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        let _ = tokio::io::copy_bidirectional(&mut stream, &mut server).await;
    } else {
        server.write_all(head.as_bytes()).await.unwrap();
        let mut answer = [0; 4096];
        let length = server.read(&mut answer).await.unwrap();
        stream.write_all(&answer[..length]).await.unwrap();
    }
}

/// Starts a TLS server for `name` that answers with an empty document. Returns its address and certificate.
async fn start_tls_server(name: &str) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new([name.to_owned()]).unwrap().self_signed(&key).unwrap();
    let config =
        rustls::ServerConfig::builder_with_provider(rustls::crypto::aws_lc_rs::default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                rustls_pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut stream = BufReader::new(acceptor.accept(stream).await.unwrap());
                if read_head(&mut stream).await.is_none() {
                    return;
                }
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                stream.write_all(answer).await.unwrap();
                let _ = stream.shutdown().await;
            });
        }
    });
    (address, certificate.pem())
}

#[tokio::test]
async fn https_goes_through_a_tunnel() {
    let (server, certificate) = start_tls_server("s3.nowhere.example").await;
    let proxy = HttpProxy::start(server).await;
    let mut target = Stub::start(|_| (200, String::new())).await.target();
    // No DNS resolves this name, so only the proxy can reach it.
    target.endpoint = Some("https://s3.nowhere.example:9000".into());
    target.ca_pem = Some(certificate);
    target.proxy = Some(proxy.proxy());
    get_bucket_policy(&target).await.unwrap();
    let tunnel = "CONNECT s3.nowhere.example:9000 HTTP/1.1".to_owned();
    assert_eq!(proxy.take_requests(), [(tunnel.clone(), None)]);

    let password = Secret::new("p@ss:word/1");
    target.proxy = Some(Proxy { login: Some(Login { username: "tz".into(), password }), ..proxy.proxy() });
    get_bucket_policy(&target).await.unwrap();
    assert_eq!(proxy.take_requests(), [(tunnel, Some("Basic dHo6cEBzczp3b3JkLzE=".to_owned()))]);
    assert!(!format!("{target:?}").contains("p@ss"));
}

#[tokio::test]
async fn plain_http_is_forwarded() {
    let stub = Stub::start(|_| (200, String::new())).await;
    let proxy = HttpProxy::start(stub.endpoint.replace("http://", "")).await;
    let mut target = stub.target();
    target.endpoint = Some("http://s3.nowhere.example:9000".into());
    target.proxy = Some(proxy.proxy());
    get_bucket_policy(&target).await.unwrap();
    let asked = proxy.take_requests();
    assert_eq!(asked.len(), 1);
    assert!(asked[0].0.starts_with("GET http://s3.nowhere.example:9000/tz-stub"), "{asked:?}");
}

#[tokio::test]
async fn no_proxy_hosts_are_reached_directly() {
    let stub = Stub::start(|_| (200, String::new())).await;
    let proxy = HttpProxy::start("127.0.0.1:1".into()).await;
    for no_proxy in ["127.0.0.1", "10.0.0.0/8, 127.0.0.0/8", "localhost,127.0.0.1"] {
        let mut target = stub.target();
        target.proxy = Some(Proxy { no_proxy: no_proxy.into(), ..proxy.proxy() });
        get_bucket_policy(&target).await.unwrap();
        assert_eq!(proxy.take_requests(), [], "{no_proxy}");
        assert_eq!(stub.take_requests().len(), 1, "{no_proxy}");
    }
}

#[tokio::test]
async fn advice_names_unreachable_proxy() {
    let mut target = Stub::start(|_| (200, String::new())).await.target();
    target.proxy = Some(Proxy { url: "http://127.0.0.1:1".into(), no_proxy: String::new(), login: None });
    let error = get_bucket_policy(&target).await.unwrap_err();
    assert_eq!(error.code, "NoConnection");
    let store = BucketConnection::new(&target).unwrap().client();
    let advice = store.advice(&error).unwrap();
    assert!(advice.contains("proxy") && advice.contains("proxy.noProxy"), "{advice}");
}

#[test]
fn proxy_url_must_be_an_origin() {
    for url in ["http://proxy.example.nl:3128", "http://10.0.0.1", "http://[fd00::1]:3128/"] {
        assert!(parse_proxy_url(url).is_some(), "{url}");
    }
    for url in [
        "proxy.example.nl:3128",
        "https://proxy.example.nl",
        "socks5://proxy.example.nl",
        "http://tz:secret@proxy.example.nl",
        "http://proxy.example.nl/path",
        "http://",
        "",
    ] {
        assert!(parse_proxy_url(url).is_none(), "{url}");
    }
}
