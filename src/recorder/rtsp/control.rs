//! Control URLs of a session and its tracks, and the choice of the video track. URLs are joined as strings, as most players
//! do: cameras expect this, even where RFC 3986 joins differently.

use std::num::NonZeroU8;

use super::hidden_text::HiddenText;
use super::oddity::{Oddity, OddityCounts};
use super::rtsp_url::{self, RtspUrl};
use super::sdp::{MediaDescription, MediaKind, OfferedCodec, PayloadFormat, SessionDescription};
use super::text;
use crate::recorder::frame::Codec;

/// Clock rate of video in hertz, if the camera names none (RFC 6184, section 8.2.1; RFC 7798, section 7.2.1).
const VIDEO_CLOCK_RATE: u32 = 90_000;

/// A description without a track that can be recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr, thiserror::Error)]
#[strum(serialize_all = "snake_case")]
pub enum TrackError {
    #[error("the camera offers no video: check the path of spec.stream.url")]
    NoVideo,
    #[error(
        "the camera marks its only video as a back channel (sendonly): check the path of spec.stream.url"
    )]
    OnlyBackChannel,
    #[error(
        "spec.stream.track: the camera has no video track {track}; choose a number from 1 to {offered}, or remove the field"
    )]
    NoSuchTrack {
        track: NonZeroU8,
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
    pub control: Option<HiddenText>,
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
    if let Some(track) = track {
        let offered = videos.len();
        let wanted = videos.get(usize::from(track.get()).saturating_sub(1)).copied();
        videos = vec![wanted.ok_or(TrackError::NoSuchTrack { track, offered })?];
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
    request: &RtspUrl,
    odd: &mut OddityCounts,
) -> RtspUrl {
    [content_base, content_location]
        .into_iter()
        .flatten()
        .filter(|value| !text::trim(value).is_empty())
        .find_map(|value| rtsp_url::read_url(value, request, odd))
        .unwrap_or_else(|| request.clone())
}

/// Returns the URL of a request for the session or a track. An absolute control URL stays as it is, with any host, but
/// without a login. A relative one is appended to the base after a slash, even if the base has a query: cameras that put a
/// query into the base expect this. Without control URL, with `*`, or if no request can have the URL, it is the base itself.
pub fn join(base: &RtspUrl, control: Option<&HiddenText>, odd: &mut OddityCounts) -> RtspUrl {
    let control = match control.map(|control| text::trim(control.as_str())) {
        None | Some("" | "*") => return base.clone(),
        Some(control) => control,
    };
    let url = if rtsp_url::has_scheme(control) {
        RtspUrl::read(control, odd)
    } else {
        base.with_path(&join_path(base.path_and_query(), control))
    };
    let Some(url) = url else {
        odd.note(Oddity::ControlUnusable);
        return base.clone();
    };
    if url.origin().host != base.origin().host {
        odd.note(Oddity::ControlOtherHost);
    }
    url
}

fn join_path(base: &str, control: &str) -> String {
    if repeats_path(base, control) {
        return control.to_owned();
    }
    let is_separated = control.starts_with(['/', '?']);
    match base.strip_suffix('/') {
        Some(base) if control.starts_with('/') => format!("{base}{control}"),
        None if !is_separated => format!("{base}/{control}"),
        _ => format!("{base}{control}"),
    }
}

/// Returns whether the control URL is a path from the root that begins with the whole path of the base.
fn repeats_path(base: &str, control: &str) -> bool {
    let path = base.split('?').next().unwrap_or_default().trim_end_matches('/');
    let rest = control.strip_prefix(path).filter(|_| !path.is_empty());
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']))
}

#[cfg(test)]
mod tests;
