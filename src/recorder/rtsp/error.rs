//! Why a camera gives no pictures. The client's own words hold addresses and URLs, so only their kind gets out.

use std::io;

/// Why a camera gives no pictures.
#[derive(Debug, strum::IntoStaticStr, thiserror::Error)]
#[strum(serialize_all = "snake_case")]
pub enum StreamError {
    #[error("the camera's URL is not an rtsp:// or rtsps:// URL without user and password")]
    InvalidUrl,
    #[error("the camera cannot be reached: {0}")]
    Connect(io::ErrorKind),
    /// No answer within ten seconds.
    #[error("the camera did not answer within 10 seconds")]
    Timeout,
    /// Wrong user or password, or none given.
    #[error("the camera refused the user or password (401)")]
    Unauthorized,
    #[error(
        "the camera asks for the password in clear (basic authentication over rtsp://): use rtsps://, or set allowBasicAuth"
    )]
    BasicAuth,
    #[error("the camera answered {0}")]
    ErrorStatus(u16),
    #[error("the camera offers no video")]
    NoVideo,
    /// A codec that is not copied.
    #[error("the camera's video is neither H.264 nor H.265")]
    UnsupportedCodec,
    /// Parameters that MP4 cannot hold.
    #[error("the camera's parameters cannot be written into a file")]
    UnsupportedParameters,
    #[error("no trusted TLS connection: {0}")]
    Tls(&'static str),
    /// RTSP or RTP as it should not be.
    #[error("the camera's stream is broken")]
    Malformed,
    #[error("the camera ended the stream")]
    Ended,
    /// No picture for ten seconds.
    #[error("no picture for 10 seconds")]
    NoFrames,
}

impl From<retina::Error> for StreamError {
    fn from(error: retina::Error) -> Self {
        match error.status_code() {
            Some(401) => Self::Unauthorized,
            Some(status) if status != 200 => Self::ErrorStatus(status),
            // The client tells its errors apart only in words; these may name the camera, so they end here.
            _ => from_client_message(&error.to_string()),
        }
    }
}

impl From<io::Error> for StreamError {
    fn from(error: io::Error) -> Self {
        Self::Connect(error.kind())
    }
}

fn from_client_message(message: &str) -> StreamError {
    if let Some(why) = message.strip_prefix("Unable to connect to RTSP server: ") {
        let kinds = [
            ("refused", io::ErrorKind::ConnectionRefused),
            ("No route", io::ErrorKind::HostUnreachable),
            ("unreachable", io::ErrorKind::NetworkUnreachable),
            ("lookup", io::ErrorKind::NotFound),
            ("timed out", io::ErrorKind::TimedOut),
        ];
        let known = kinds.into_iter().find(|(word, _)| why.contains(word));
        return StreamError::Connect(known.map_or(io::ErrorKind::Other, |(_, kind)| kind));
    }
    if message.starts_with("Error reading from RTSP peer")
        || message.starts_with("Error writing to RTSP peer")
    {
        return StreamError::Ended;
    }
    StreamError::Malformed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Failure;

    #[tokio::test]
    async fn client_message_maps_to_error_kind() {
        // Port 9 of this machine: nobody listens.
        let url = url::Url::parse("rtsp://127.0.0.1:9/").unwrap();
        let error = retina::client::Session::describe(url, retina::client::SessionOptions::default()).await;
        let error = StreamError::from(error.err().expect("nobody listens"));
        assert_eq!(error.to_string(), "the camera cannot be reached: connection refused");
    }

    #[tokio::test]
    async fn closed_connection_is_reported_as_ended() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = url::Url::parse(&format!("rtsp://{}/", listener.local_addr().unwrap())).unwrap();
        tokio::spawn(async move { drop(listener.accept().await) });
        let error = retina::client::Session::describe(url, retina::client::SessionOptions::default()).await;
        assert_eq!(StreamError::from(error.err().expect("it ends")).category(), "ended");
    }
}
