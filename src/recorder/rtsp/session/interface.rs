//! What goes into a session and what comes out.

use std::fmt;
use std::num::NonZeroU8;

use super::super::super::frame::Arrival;
use super::super::auth::{BasicPolicy, LoginProof};
use super::super::control::VideoTrack;
use super::super::headers::{LowerTransport, RtpPair};
use super::super::message::{Message, MessageError};
use super::super::oddity::OddityCounts;
use super::super::rtsp_url::{RtspOrigin, RtspUrl};
use super::error::SessionError;
use crate::wire::Login;

/// What an attempt at a camera needs to know.
#[derive(Clone, Debug)]
pub struct ConnectPlan {
    /// Its scheme decides about TLS.
    pub url: RtspUrl,
    pub login: Option<Login>,
    pub basic: BasicPolicy,
    pub transport: TransportPlan,
    /// Number of the video track, from 1. `None`: the first one that can be recorded.
    pub track: Option<NonZeroU8>,
    /// Source of the client nonces, random for each attempt.
    pub random: AttemptRandom,
}

/// Random bytes that no other attempt has.
#[derive(Clone)]
pub struct AttemptRandom(pub [u8; 32]);

impl fmt::Debug for AttemptRandom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AttemptRandom(…)")
    }
}

/// Transports of RTP that the Camera allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransportPlan {
    /// TCP, and UDP if the camera refuses it. Under TLS, TCP only: UDP would be in clear.
    Auto,
    Tcp,
    Udp,
}

/// Event of the connection.
#[derive(Debug)]
pub enum SessionInput<'a> {
    /// The connection to the URL of the plan, or to that of the last [`SessionOutput::Reconnect`], is open.
    Connected,
    Message(Message<'a>),
    /// Datagram on one of the ports of [`Self::UdpBound`], from the address of the camera.
    Datagram {
        is_rtcp: bool,
        data: &'a mut [u8],
    },
    /// Answers [`SessionOutput::BindUdp`] with the client's ports. `None`: there are none.
    UdpBound(Option<RtpPair<u16>>),
    /// The reader of messages cannot go on.
    Unreadable(MessageError),
    /// The time of [`super::Session::next_timer`] has come. An earlier one does no harm.
    Timer,
    /// The camera closed the connection, or it broke.
    Closed,
}

/// Request to the connection.
pub enum SessionOutput {
    /// The next answer is to DESCRIBE: see [`super::super::message::MessageReader::expect_description`]. It comes before its
    /// [`Self::Send`].
    ExpectDescription,
    /// Bytes for the connection.
    Send(Vec<u8>),
    /// Bind a pair of UDP ports, the first of them even, and answer with [`SessionInput::UdpBound`].
    BindUdp,
    /// Send something to these ports of the camera, to open the way back through a NAT.
    PunchUdp { peer: RtpPair<u16> },
    /// RTCP for the camera, over UDP.
    SendRtcp(Vec<u8>),
    /// Write the bytes before, close the connection, and open one to this server. [`SessionInput::Connected`] follows, or
    /// the attempt ends.
    Reconnect { to: RtspOrigin, why: ReconnectReason },
    /// The camera accepted the login. Once in an attempt.
    LoginAccepted(LoginProof),
    /// The camera answered PLAY. Packets may have come before.
    Playing,
    /// The attempt has ended. [`super::Session::teardown`] follows.
    Failed(SessionError),
    /// The camera answered TEARDOWN, or need not be waited for. The connection can be closed.
    Finished,
}

impl fmt::Debug for SessionOutput {
    /// Omits bytes: requests have logins.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ExpectDescription => f.write_str("ExpectDescription"),
            Self::Send(bytes) => write!(f, "Send({} bytes)", bytes.len()),
            Self::BindUdp => f.write_str("BindUdp"),
            Self::PunchUdp { peer } => write!(f, "PunchUdp({peer:?})"),
            Self::SendRtcp(bytes) => write!(f, "SendRtcp({} bytes)", bytes.len()),
            Self::Reconnect { why, .. } => write!(f, "Reconnect({why:?})"),
            Self::LoginAccepted(_) => f.write_str("LoginAccepted"),
            Self::Playing => f.write_str("Playing"),
            Self::Failed(error) => write!(f, "Failed({error:?})"),
            Self::Finished => f.write_str("Finished"),
        }
    }
}

/// Reason of a further connection in one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum ReconnectReason {
    /// To another port, or to TLS.
    Redirect,
    /// The camera closed after it asked for a login.
    Login,
    /// No RTP over UDP arrives. The next connection uses TCP.
    NoDatagrams,
}

/// Receiver of the video track.
pub trait MediaSink {
    /// Begins a track. Its packets follow. A track that began before is void.
    fn begin(&mut self, track: &VideoTrack, transport: LowerTransport);

    /// Takes bytes that should be an RTP packet.
    fn rtp(&mut self, data: &mut [u8], at: Arrival, odd: &mut OddityCounts);

    /// Takes bytes that should be a compound packet of RTCP.
    fn rtcp(&mut self, data: &mut [u8], at: Arrival, odd: &mut OddityCounts);

    /// Returns a compound packet of RTCP for the camera, at most 65,535 bytes.
    fn receiver_report(&mut self, at: Arrival) -> Option<Vec<u8>>;
}

/// Surroundings of one input.
pub struct SessionIo<'a> {
    /// Time of the input, never before that of an earlier one.
    pub at: Arrival,
    pub media: &'a mut dyn MediaSink,
    pub odd: &'a mut OddityCounts,
    pub out: &'a mut Vec<SessionOutput>,
}
