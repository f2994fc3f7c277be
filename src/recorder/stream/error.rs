//! Why a camera gives no pictures. The client's own words hold addresses and URLs, so only their kind gets out.

use std::io;

/// Why a camera gives no pictures.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The URL is none.
    #[error("the camera's URL is not an rtsp:// or rtsps:// URL without user and password")]
    Address,
    /// No connection.
    #[error("the camera cannot be reached: {0}")]
    Connect(io::ErrorKind),
    /// No answer within ten seconds.
    #[error("the camera did not answer within 10 seconds")]
    Timeout,
    /// Wrong user or password, or none given.
    #[error("the camera refused the user or password (401)")]
    Unauthorized,
    /// Basic authentication over plain RTSP.
    #[error(
        "the camera asks for the password in clear (basic authentication over rtsp://): use rtsps://, or set allowBasic"
    )]
    Basic,
    /// Another answer than success.
    #[error("the camera answered {0}")]
    Refused(u16),
    /// No video track.
    #[error("the camera offers no video")]
    NoVideo,
    /// A codec that is not copied.
    #[error("the camera's video is neither H.264 nor H.265")]
    Codec,
    /// Parameters that MP4 cannot hold.
    #[error("the camera's parameters cannot be written into a file")]
    Size,
    /// The TLS handshake failed.
    #[error("no trusted TLS connection: {0}")]
    Tls(&'static str),
    /// RTSP or RTP as it should not be.
    #[error("the camera's stream is broken")]
    Broken,
    /// The camera ended the stream.
    #[error("the camera ended the stream")]
    Ended,
    /// No picture for ten seconds.
    #[error("no picture for 10 seconds")]
    Silent,
}

impl StreamError {
    /// Bounded, for metrics.
    pub const fn category(&self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Connect(_) => "connect",
            Self::Timeout => "timeout",
            Self::Unauthorized => "unauthorized",
            Self::Basic => "basic",
            Self::Refused(_) => "refused",
            Self::NoVideo => "no_video",
            Self::Codec => "codec",
            Self::Size => "size",
            Self::Tls(_) => "tls",
            Self::Broken => "broken",
            Self::Ended => "ended",
            Self::Silent => "silent",
        }
    }

    /// Holds no secret, address or URL.
    pub fn safe_message(&self) -> String {
        self.to_string()
    }
}

impl From<retina::Error> for StreamError {
    fn from(error: retina::Error) -> Self {
        match error.status_code() {
            Some(401) => Self::Unauthorized,
            Some(200) | None => io_kind(&error).map_or(Self::Broken, |kind| match kind {
                io::ErrorKind::UnexpectedEof => Self::Ended,
                kind => Self::Connect(kind),
            }),
            Some(status) => Self::Refused(status),
        }
    }
}

impl From<io::Error> for StreamError {
    fn from(error: io::Error) -> Self {
        Self::Connect(error.kind())
    }
}

/// The I/O error at the root of an error, where there is one.
fn io_kind(error: &(dyn std::error::Error + 'static)) -> Option<io::ErrorKind> {
    std::iter::successors(Some(error), |error| error.source())
        .find_map(|error| error.downcast_ref::<io::Error>())
        .map(io::Error::kind)
}
