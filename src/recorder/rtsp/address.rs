//! A camera's address.

use std::net::SocketAddr;

use url::{Host, Url};

use super::StreamError;

/// The parts of a camera's URL.
#[derive(Clone)]
pub struct CameraAddress {
    pub url: Url,
    /// Host name or IP address, without brackets.
    pub host: String,
    /// Default: 554 for `rtsp`, 322 for `rtsps` (RFC 7826).
    pub port: u16,
    /// `rtsps`.
    pub is_tls: bool,
}

impl CameraAddress {
    /// Parses a URL. No error contains its text.
    pub fn parse(url: &str) -> Result<Self, StreamError> {
        let url = Url::parse(url).map_err(|_| StreamError::InvalidUrl)?;
        let tls = match url.scheme() {
            "rtsp" => false,
            "rtsps" => true,
            _ => return Err(StreamError::InvalidUrl),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(StreamError::InvalidUrl);
        }
        let host = match url.host() {
            Some(Host::Domain(name)) if !name.is_empty() => name.to_owned(),
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Ipv6(address)) => address.to_string(),
            _ => return Err(StreamError::InvalidUrl),
        };
        let port = url.port().unwrap_or(if tls { 322 } else { 554 });
        Ok(Self { url, host, port, is_tls: tls })
    }

    /// Returns the URL of the same stream through a plain local port.
    pub fn through_local_port(&self, local: SocketAddr) -> Option<Url> {
        let rest = self.url.as_str().split_once("://")?.1;
        let path = rest.find(['/', '?']).and_then(|at| rest.get(at..)).unwrap_or("/");
        Url::parse(&format!("rtsp://{local}{path}")).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_accepts_camera_urls() {
        let address = |url| CameraAddress::parse(url).map(|a| (a.host, a.port, a.is_tls)).ok();
        assert_eq!(address("rtsp://10.0.0.1/h264?ch=1"), Some(("10.0.0.1".into(), 554, false)));
        assert_eq!(address("rtsps://[2001:db8::1]/"), Some(("2001:db8::1".into(), 322, true)));
        assert_eq!(address("rtsps://cam.example.nl:8322/x"), Some(("cam.example.nl".into(), 8322, true)));
        for wrong in ["http://10.0.0.1/", "rtsp:///x", "rtsp://u:p@10.0.0.1/", "rtsp://u@10.0.0.1/", "x"] {
            assert_eq!(address(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn local_port_url_keeps_path_and_query() {
        let local: SocketAddr = "127.0.0.1:4000".parse().unwrap();
        let through = |url| CameraAddress::parse(url).ok()?.through_local_port(local).map(String::from);
        assert_eq!(through("rtsps://cam:322/a/b?c=d").as_deref(), Some("rtsp://127.0.0.1:4000/a/b?c=d"));
        assert_eq!(through("rtsps://cam").as_deref(), Some("rtsp://127.0.0.1:4000/"));
    }
}
