//! From a camera to frames: RTSP over TCP. Only the video track is ever set up, so no audio reaches this process
//! (article 1: no hidden audio).

mod address;
pub mod auth;
mod challenge;
pub mod codec;
pub mod control;
mod error;
pub mod headers;
pub mod hidden_text;
pub mod learned;
pub mod lockout;
pub mod message;
pub mod oddity;
pub mod parameters;
pub mod rtcp;
pub mod rtp;
pub mod rtsp_url;
pub mod sdp;
pub mod session;
pub mod text;
mod tunnel;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use retina::client::{
    Credentials, Demuxed, Described, PlayOptions, Session, SessionOptions, SetupOptions, TcpTransportOptions,
    Transport,
};
use retina::codec::{CodecItem, FrameFormat, ParametersRef, VideoFrame};
use tokio::time::{timeout, timeout_at};

pub use self::address::CameraAddress;
pub use self::error::StreamError;
use self::tunnel::Tunnel;

use super::frame::{Arrival, Codec, Frame, TICKS_PER_SECOND, VideoParameters};
use crate::wire::CameraSource;

/// Limit of the connection and the RTSP requests up to PLAY.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Time without a frame after which a stream counts as dead.
const FRAME_TIMEOUT: Duration = Duration::from_secs(10);

pub struct VideoStream {
    session: Demuxed,
    track: usize,
    parameters: Option<Arc<VideoParameters>>,
    /// Origin of the monotonic clock.
    epoch: Instant,
    /// Arrival of the last frame, or start of the stream.
    last_frame_at: tokio::time::Instant,
    _tunnel: Option<Tunnel>,
}

impl VideoStream {
    pub async fn connect(source: &CameraSource, epoch: Instant) -> Result<Self, StreamError> {
        timeout(CONNECT_TIMEOUT, Self::play(source, epoch)).await.map_err(|_| StreamError::Timeout)?
    }

    async fn play(source: &CameraSource, epoch: Instant) -> Result<Self, StreamError> {
        let address = CameraAddress::parse(source.url.reveal())?;
        let (url, tunnel) = if address.is_tls {
            let tunnel = Tunnel::open(&address, source.ca_pem.as_deref()).await?;
            (address.through_local_port(tunnel.local_addr()).ok_or(StreamError::InvalidUrl)?, Some(tunnel))
        } else {
            // Over plain RTSP, a basic challenge asks for the password in clear, and the client would answer it.
            if source.login.is_some() && !source.allow_basic_auth {
                challenge::require_digest(&address).await?;
            }
            (address.url.clone(), None)
        };
        let options = SessionOptions::default()
            .user_agent(concat!("toezicht/", env!("CARGO_PKG_VERSION")).to_owned())
            .creds(source.login.as_ref().map(|login| Credentials {
                username: login.username.clone(),
                password: login.password.reveal().to_owned(),
            }));
        let mut session = Session::describe(url, options).await?;
        let track = video_track(&session)?;
        let setup = SetupOptions::default()
            .transport(Transport::Tcp(TcpTransportOptions::default()))
            .frame_format(FrameFormat::MP4);
        session.setup(track, setup).await?;
        let session = session.play(PlayOptions::default()).await?.demuxed()?;
        Ok(Self {
            session,
            track,
            parameters: None,
            epoch,
            last_frame_at: tokio::time::Instant::now(),
            _tunnel: tunnel,
        })
    }

    /// Returns the next frame. A dropped future loses no frame. The timeout counts from the last frame, not from the call,
    /// so that repeated calls do not extend it.
    pub async fn next(&mut self) -> Result<Frame, StreamError> {
        let frame = timeout_at(self.last_frame_at + FRAME_TIMEOUT, self.next_frame())
            .await
            .map_err(|_| StreamError::NoFrames)??;
        self.last_frame_at = tokio::time::Instant::now();
        Ok(frame)
    }

    async fn next_frame(&mut self) -> Result<Frame, StreamError> {
        loop {
            match self.session.next().await {
                Some(Ok(CodecItem::VideoFrame(video_frame))) => {
                    if let Some(frame) = self.convert_frame(video_frame)? {
                        return Ok(frame);
                    }
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error.into()),
                None => return Err(StreamError::Ended),
            }
        }
    }

    /// Returns `None` before the parameters are known: without them the frame is undecodable.
    fn convert_frame(&mut self, video_frame: VideoFrame) -> Result<Option<Frame>, StreamError> {
        if video_frame.has_new_parameters() || self.parameters.is_none() {
            self.parameters = self.read_parameters()?.map(Arc::new);
        }
        let Some(parameters) = self.parameters.clone() else {
            return Ok(None);
        };
        let stamp = video_frame.timestamp();
        let rate = i64::from(stamp.clock_rate().get());
        let received = video_frame.end_ctx().received();
        let wall: std::time::SystemTime = video_frame.end_ctx().received_wall().into();
        Ok(Some(Frame {
            is_keyframe: video_frame.is_random_access_point(),
            // Relative to the first frame, so that a camera's clock near its end cannot overflow.
            ticks: stamp.elapsed().saturating_mul(TICKS_PER_SECOND) / rate,
            arrival: Arrival {
                monotonic_us: micros(received.saturating_duration_since(self.epoch)),
                wall_us: micros(wall.duration_since(std::time::UNIX_EPOCH).unwrap_or_default()),
            },
            lost_packets: video_frame.loss(),
            parameters,
            data: video_frame.into_data(),
        }))
    }

    fn read_parameters(&self) -> Result<Option<VideoParameters>, StreamError> {
        let stream = self.session.streams().get(self.track).ok_or(StreamError::NoVideo)?;
        let codec = parse_codec(stream.encoding_name()).ok_or(StreamError::NoVideo)?;
        let Some(ParametersRef::Video(video)) = stream.parameters() else {
            return Ok(None);
        };
        let (width, height) = video.pixel_dimensions();
        let size = |pixels: u32| u16::try_from(pixels).map_err(|_| StreamError::UnsupportedParameters);
        let sample_entry =
            video.mp4_sample_entry().build().map_err(|_| StreamError::UnsupportedParameters)?;
        Ok(Some(VideoParameters { codec, width: size(width)?, height: size(height)?, sample_entry }))
    }
}

/// Returns the first video track with a supported codec.
fn video_track(session: &Session<Described>) -> Result<usize, StreamError> {
    let streams = session.streams();
    let video = |media: &str| media.eq_ignore_ascii_case("video");
    match streams
        .iter()
        .position(|stream| video(stream.media()) && parse_codec(stream.encoding_name()).is_some())
    {
        Some(track) => Ok(track),
        None if streams.iter().any(|stream| video(stream.media())) => Err(StreamError::UnsupportedCodec),
        None => Err(StreamError::NoVideo),
    }
}

fn parse_codec(encoding: &str) -> Option<Codec> {
    match encoding {
        "h264" => Some(Codec::H264),
        "h265" => Some(Codec::H265),
        _ => None,
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
