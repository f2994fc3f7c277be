//! Reasons why a session cannot begin, or has ended. None of them has text of the camera.

use super::super::auth::LoginRefusal;
use super::super::control::TrackError;
use super::super::headers::LowerTransport;
use super::super::message::{MessageError, Method};
use super::super::sdp::SdpError;

/// End of an attempt at a camera.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr, thiserror::Error)]
#[strum(serialize_all = "snake_case")]
pub enum SessionError {
    #[error("the camera answered {code} to {}{}", .method.name(), remedy(*.code))]
    Status { method: Method, code: u16 },
    #[error("{refusal}")]
    Login { method: Method, refusal: LoginRefusal },
    /// The answer to DESCRIBE leads elsewhere.
    #[error("the camera answered {code} to DESCRIBE: {refusal}")]
    Redirect { code: u16, refusal: RedirectRefusal },
    #[error("{0}")]
    Description(SdpError),
    #[error("{0}")]
    Track(TrackError),
    #[error("the camera answered {code} to SETUP: {refused}")]
    Transport { code: u16, refused: RefusedTransport },
    /// The caller has no pair of ports for RTP over UDP.
    #[error("the recorder has no free ports for RTP over UDP: set spec.stream.transport to TCP")]
    NoPorts,
    /// Over UDP, PLAY was answered and no packet arrived.
    #[error(
        "no RTP over UDP arrives from the camera: allow it in the network, or set spec.stream.transport to TCP"
    )]
    NoDatagrams,
    #[error("the port answers in HTTP, not RTSP: check the port of spec.stream.url")]
    NotRtsp,
    /// The bytes of the connection are no RTSP.
    #[error("{error}, after {}", name(*.method))]
    Unreadable { method: Option<Method>, error: MessageError },
    #[error("the camera did not answer {} in time", .method.name())]
    NoAnswer { method: Method },
    /// Each answer came in time, but not all of them together.
    #[error("the camera needs too long to begin a session")]
    TooSlow,
    #[error("the camera closed the connection instead of an answer to {}", .method.name())]
    Closed { method: Method },
    #[error("{0}")]
    Ended(SessionEnd),
    /// The URL cannot be written into a request.
    #[error("spec.stream.url: {} cannot be written with it; remove its control characters", .method.name())]
    Unwritable { method: Method },
}

/// Reason why a session that played has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr, thiserror::Error)]
#[strum(serialize_all = "snake_case")]
pub enum SessionEnd {
    #[error("the camera closed the connection")]
    ConnectionClosed,
    #[error("the camera ended the session (TEARDOWN)")]
    TornDown,
    #[error("the camera sent nothing for 10 seconds")]
    Silence,
    /// The camera answers keepalives.
    #[error("the camera answers, but sends no video")]
    NoPackets,
}

/// Reason why a redirect is not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr, thiserror::Error)]
#[strum(serialize_all = "snake_case")]
pub enum RedirectRefusal {
    #[error("it names no usable address; check spec.stream.url")]
    NoTarget,
    /// Another host, or without TLS.
    #[error("it leads to another host or away from TLS; set spec.stream.url to the address behind it")]
    Elsewhere,
    #[error("it leads on after three redirects; check spec.stream.url")]
    TooMany,
}

/// Transports that the camera refused, out of those that the Camera allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr, thiserror::Error)]
#[strum(serialize_all = "snake_case")]
pub enum RefusedTransport {
    #[error("it offers no RTP over TCP; set spec.stream.transport to Auto")]
    Tcp,
    #[error("it offers no RTP over UDP; set spec.stream.transport to Auto")]
    Udp,
    #[error("it offers no RTP over TCP, and over UDP TLS would not protect it; use rtsp://")]
    TcpUnderTls,
    #[error("it offers RTP neither over TCP nor over UDP; check the path of spec.stream.url")]
    Both,
}

impl From<LowerTransport> for RefusedTransport {
    fn from(transport: LowerTransport) -> Self {
        match transport {
            LowerTransport::Tcp => Self::Tcp,
            LowerTransport::Udp => Self::Udp,
        }
    }
}

/// Returns the remedy for a status code (RFC 2326, section 11) with a colon before it, or nothing.
const fn remedy(code: u16) -> &'static str {
    match code {
        403 => ": allow the user to view the stream in the camera",
        404 => ": check the path of spec.stream.url",
        453 | 503 => ": it serves no further client; disconnect another one",
        454 => ": it has lost the session",
        _ => "",
    }
}

fn name(method: Option<Method>) -> &'static str {
    method.map_or("PLAY", Method::name)
}
