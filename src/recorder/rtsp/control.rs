//! Control URLs of a session and its tracks, and the choice of the video track. URLs are joined as strings, as most players
//! do: cameras expect this, even where RFC 3986 joins differently.

use std::num::NonZeroU8;

use super::oddity::{Oddity, OddityCounts};
use super::rtsp_url::{self, RtspUrlParts};
use super::sdp::{MediaDescription, MediaKind, OfferedCodec, PayloadFormat, SessionDescription};
use crate::recorder::frame::Codec;

/// Clock rate of video in hertz, if the camera names none (RFC 6184, section 8.2.1; RFC 7798, section 7.2.1).
const VIDEO_CLOCK_RATE: u32 = 90_000;

/// A description without a track that can be recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr, thiserror::Error)]
#[strum(serialize_all = "snake_case")]
pub enum TrackError {
    #[error("the camera offers no video")]
    NoVideo,
    #[error("the camera marks its only video as a back channel (sendonly)")]
    OnlyBackChannel,
    #[error("the camera offers fewer video tracks than the number of the selected track: {offered}")]
    NoSuchTrack {
        /// Number of video tracks without back channels.
        offered: usize,
    },
    #[error("the camera encrypts its video (SRTP): disable this in the camera, and use rtsps:// instead")]
    EncryptedVideo,
    #[error("the camera offers its video as {offered} only: select H.264 or H.265 in the camera")]
    UnsupportedCodec { offered: OfferedCodec },
}

/// The track to record.
#[derive(Clone, Debug, PartialEq)]
pub struct VideoTrack {
    pub codec: Codec,
    pub format: PayloadFormat,
    /// Clock rate of the RTP timestamps in hertz, never 0.
    pub clock_rate: u32,
    /// In hertz, as the camera says. Advisory.
    pub frame_rate: Option<f32>,
    /// To be joined with the base: see [`join`].
    pub control: Option<String>,
}

/// Returns the first video track in H.264 or H.265, or the track of the given number. Numbers count all video tracks in the
/// order of the description, from 1. Audio, metadata, and back channels are never picked and never counted.
pub fn pick_video(
    description: &SessionDescription,
    track: Option<NonZeroU8>,
) -> Result<VideoTrack, TrackError> {
    let is_video = |media: &&MediaDescription| media.kind == MediaKind::Video;
    let is_offered = |media: &&MediaDescription| !media.is_back_channel();
    let mut videos: Vec<_> = description.media.iter().filter(is_video).filter(is_offered).collect();
    if videos.is_empty() {
        let is_back_channel = description.media.iter().any(|media| is_video(&media));
        return Err(if is_back_channel { TrackError::OnlyBackChannel } else { TrackError::NoVideo });
    }
    if let Some(number) = track {
        let offered = videos.len();
        let wanted = videos.get(usize::from(number.get()).saturating_sub(1)).copied();
        videos = vec![wanted.ok_or(TrackError::NoSuchTrack { offered })?];
    }
    if let Some(track) = videos.iter().filter(|media| !media.is_encrypted).find_map(|media| read_track(media))
    {
        return Ok(track);
    }
    if videos.iter().any(|media| read_track(media).is_some()) {
        return Err(TrackError::EncryptedVideo);
    }
    let mut offered = videos.iter().flat_map(|media| &media.formats).map(|format| format.codec);
    let named = offered.find(|codec| *codec != OfferedCodec::Unnamed);
    Err(TrackError::UnsupportedCodec { offered: named.unwrap_or(OfferedCodec::Unnamed) })
}

/// Returns the track with its first format that can be recorded.
fn read_track(media: &MediaDescription) -> Option<VideoTrack> {
    let (codec, format) =
        media.formats.iter().find_map(|format| Some((format.codec.recordable()?, format)))?;
    Some(VideoTrack {
        codec,
        format: format.clone(),
        clock_rate: format.clock_rate.unwrap_or(VIDEO_CLOCK_RATE),
        frame_rate: media.frame_rate,
        control: media.control.clone(),
    })
}

/// Returns the URL that control URLs are relative to (RFC 2326, appendix C.1.1): the first usable one of `Content-Base`,
/// `Content-Location`, and the URL of the request.
pub fn base_url(
    content_base: Option<&str>,
    content_location: Option<&str>,
    request_url: &str,
    odd: &mut OddityCounts,
) -> String {
    [content_base, content_location]
        .into_iter()
        .flatten()
        .filter(|value| !value.trim().is_empty())
        .find_map(|value| rtsp_url::read_url(value, request_url, odd))
        .unwrap_or_else(|| request_url.to_owned())
}

/// Returns the URL of a request for the session or a track. An absolute control URL stays as it is, whatever its host. A
/// relative one is appended to the base after a slash, even if the base has a query: cameras that put a query into the base
/// expect this. Without control URL, or with `*`, it is the base itself. At most one byte longer than both together.
pub fn join(base: &str, control: Option<&str>, odd: &mut OddityCounts) -> String {
    let control = match control.map(str::trim) {
        None | Some("" | "*") => return base.to_owned(),
        Some(control) => control,
    };
    let base_parts = RtspUrlParts::split(base);
    if let Some(parts) = RtspUrlParts::split(control).filter(|_| rtsp_url::is_sendable(control)) {
        if base_parts.is_some_and(|base| !base.host().eq_ignore_ascii_case(parts.host())) {
            odd.note(Oddity::ControlOtherHost);
        }
        return control.to_owned();
    }
    if !rtsp_url::is_sendable(control) || rtsp_url::has_scheme(control) {
        odd.note(Oddity::ControlUnusable);
        return base.to_owned();
    }
    if let Some(base) = base_parts.filter(|base| repeats_path(base, control)) {
        return format!("{}://{}{control}", base.scheme, base.authority);
    }
    let is_separated = control.starts_with(['/', '?']);
    match base.strip_suffix('/') {
        Some(base) if control.starts_with('/') => format!("{base}{control}"),
        None if !is_separated => format!("{base}/{control}"),
        _ => format!("{base}{control}"),
    }
}

/// Returns whether the control URL is a path from the root that begins with the whole path of the base.
fn repeats_path(base: &RtspUrlParts, control: &str) -> bool {
    let path = base.rest.split('?').next().unwrap_or_default().trim_end_matches('/');
    !path.is_empty() && control.strip_prefix(path).is_some_and(|rest| rest.starts_with(['/', '?']))
}

#[cfg(test)]
mod tests;
