//! Errors of a camera's stream. The client's messages contain addresses and URLs, so the recorder stores only the kind.

use std::io;

use crate::wire::CameraFailure;

#[derive(Debug, strum::IntoStaticStr, thiserror::Error)]
#[strum(serialize_all = "snake_case")]
pub enum StreamError {
    #[error("invalid URL of the camera: write an rtsp:// or rtsps:// URL without user and password")]
    InvalidUrl,
    #[error("the camera cannot be reached: {0}")]
    Connect(io::ErrorKind),
    #[error("the camera did not answer within 10 seconds")]
    Timeout,
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
    #[error("the camera's video is neither H.264 nor H.265: select one of these codecs in the camera")]
    UnsupportedCodec,
    #[error("the camera's coding parameters do not fit into MP4")]
    UnsupportedParameters,
    #[error("no trusted TLS connection: {0}")]
    Tls(&'static str),
    #[error("the camera's stream violates RTSP or RTP")]
    Malformed,
    #[error("the camera ended the stream")]
    Ended,
    #[error("no frame arrived for 10 seconds")]
    NoFrames,
}

impl StreamError {
    /// Returns the category that the Camera's status explains. Attempts at a host without power end with changing errors,
    /// such as a timeout or no route: all of them are `Unreachable`.
    pub fn camera_failure(&self) -> CameraFailure {
        match self {
            Self::InvalidUrl => CameraFailure::InvalidUrl,
            Self::Connect(_) | Self::Timeout => CameraFailure::Unreachable,
            Self::Unauthorized => CameraFailure::Unauthorized,
            Self::BasicAuth => CameraFailure::BasicAuthNotAllowed,
            Self::ErrorStatus(403) => CameraFailure::Forbidden,
            Self::ErrorStatus(404) => CameraFailure::PathNotFound,
            Self::ErrorStatus(461) => CameraFailure::TransportUnsupported,
            Self::ErrorStatus(453 | 503) => CameraFailure::Busy,
            Self::ErrorStatus(_) => CameraFailure::ErrorStatus,
            Self::NoVideo => CameraFailure::NoVideo,
            Self::UnsupportedCodec => CameraFailure::UnsupportedCodec,
            Self::UnsupportedParameters => CameraFailure::UnsupportedParameters,
            Self::Tls(_) => CameraFailure::UntrustedTls,
            Self::Malformed => CameraFailure::ProtocolViolation,
            Self::Ended | Self::NoFrames => CameraFailure::StreamEnded,
        }
    }
}

impl From<retina::Error> for StreamError {
    fn from(error: retina::Error) -> Self {
        match error.status_code() {
            Some(401) => Self::Unauthorized,
            Some(status) if status != 200 => Self::ErrorStatus(status),
            // The client distinguishes its other errors only by messages, which may name the camera.
            // They end here.
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

    async fn connect_error(address: &str) -> StreamError {
        let url = url::Url::parse(&format!("rtsp://{address}/")).unwrap();
        let session = retina::client::Session::describe(url, retina::client::SessionOptions::default()).await;
        session.err().expect("no RTSP server").into()
    }

    #[tokio::test]
    async fn client_message_maps_to_error_kind() {
        // No server listens on port 9.
        let error = connect_error("127.0.0.1:9").await;
        assert_eq!(error.to_string(), "the camera cannot be reached: connection refused");
    }

    #[test]
    fn attempts_at_a_host_without_power_have_one_category() {
        let connect = |kind| StreamError::Connect(kind).camera_failure();
        for kind in
            [io::ErrorKind::HostUnreachable, io::ErrorKind::TimedOut, io::ErrorKind::ConnectionRefused]
        {
            assert_eq!(connect(kind), CameraFailure::Unreachable);
        }
        assert_eq!(StreamError::Timeout.camera_failure(), CameraFailure::Unreachable);
    }

    #[tokio::test]
    async fn closed_connection_is_reported_as_ended() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move { drop(listener.accept().await) });
        assert_eq!(connect_error(&address).await.category(), "ended");
    }
}
