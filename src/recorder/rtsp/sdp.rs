//! Descriptions of sessions (SDP: RFC 4566, RFC 8866), as cameras write them. Only `m=` and `a=` lines are read: all others
//! are of no use to a player, and cameras write the oddest `o=` and `c=` lines. No line is needed, and lines of one medium
//! may stand in any order.

use super::hidden_text::HiddenText;
use super::oddity::{Oddity, OddityCounts};
use super::parameters::find_parameter;
use super::{rtsp_url, text};
use crate::recorder::frame::Codec;

/// Longest description, in bytes.
pub const MAX_SDP_BYTES: usize = 1 << 20;
/// Most media, and most formats of a medium, that are read.
pub const MAX_MEDIA: usize = 64;
/// Most attributes of the session, and of a medium, that are read.
pub const MAX_ATTRIBUTES: usize = 256;
/// Longest line that is read, in bytes. Parameter sets take up to some kilobytes.
pub const MAX_LINE_BYTES: usize = 16 << 10;
/// Highest frame rate that is believed, in hertz.
const MAX_FRAME_RATE: f32 = 1000.0;

/// A description that cannot be used at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr, thiserror::Error)]
#[strum(serialize_all = "snake_case")]
pub enum SdpError {
    #[error("the camera's description of the stream is longer than 1 MiB: check the path of spec.stream.url")]
    SdpTooLong,
    #[error("the camera's description of the stream names no media: check the path of spec.stream.url")]
    NoMedia,
}

#[derive(Clone, Debug, PartialEq)]
pub struct SessionDescription {
    /// Control URL of the whole session: absolute, relative, or `*`.
    pub control: Option<HiddenText>,
    /// In the order of the `m=` lines: 1 to 64.
    pub media: Vec<MediaDescription>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct MediaDescription {
    pub kind: MediaKind,
    /// In the order of the `m=` line, the first of them preferred: 0 to 64.
    pub formats: Vec<PayloadFormat>,
    /// Control URL of the medium: absolute, relative, or `*`. A request line can have it.
    pub control: Option<HiddenText>,
    /// The medium's own direction.
    pub direction: Option<Direction>,
    /// In hertz, above 0, at most 1000. Advisory.
    pub frame_rate: Option<f32>,
    /// SRTP (RFC 3711): the packets are encrypted.
    pub is_encrypted: bool,
}

impl MediaDescription {
    /// Returns whether the client would send this medium (ONVIF Streaming Specification, section 5.3: `sendonly`).
    pub fn is_back_channel(&self) -> bool {
        self.direction == Some(Direction::SendOnly)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaKind {
    Video,
    Audio,
    /// Among others: metadata of ONVIF.
    Application,
    Other,
}

/// Direction of a medium, as the client sees it (RFC 2326, appendix C.1.4; ONVIF).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    SendRecv,
    SendOnly,
    RecvOnly,
    Inactive,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayloadFormat {
    /// 0 to 127.
    pub payload_type: u8,
    pub codec: OfferedCodec,
    /// Clock rate of the RTP timestamps in hertz, never 0.
    pub clock_rate: Option<u32>,
    pub parameters: FormatParameters,
}

/// Video formats that a camera offers. The list is closed, so that a message can name one without the camera's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::Display, strum::IntoStaticStr)]
pub enum OfferedCodec {
    #[strum(serialize = "H.264")]
    H264,
    #[strum(serialize = "H.265")]
    H265,
    #[strum(serialize = "H.266")]
    H266,
    #[strum(serialize = "AV1")]
    Av1,
    #[strum(serialize = "MJPEG")]
    Mjpeg,
    #[strum(serialize = "JPEG 2000")]
    Jpeg2000,
    #[strum(serialize = "MPEG-1 or MPEG-2")]
    Mpeg2,
    #[strum(serialize = "MPEG-4")]
    Mpeg4,
    #[strum(serialize = "an MPEG transport stream")]
    MpegTransportStream,
    #[strum(serialize = "H.261")]
    H261,
    #[strum(serialize = "H.263")]
    H263,
    #[strum(serialize = "VP8")]
    Vp8,
    #[strum(serialize = "VP9")]
    Vp9,
    /// A format with a name that is not in this list.
    #[strum(serialize = "an unknown format")]
    Other,
    /// A dynamic payload type without `rtpmap`.
    #[strum(serialize = "a format without name")]
    Unnamed,
}

impl OfferedCodec {
    /// Reads the encoding name of an `rtpmap`.
    fn from_encoding(name: &str) -> Self {
        match name.to_ascii_uppercase().as_str() {
            "H264" | "AVC" => Self::H264,
            "H265" | "HEVC" => Self::H265,
            "H266" | "VVC" => Self::H266,
            "AV1" => Self::Av1,
            "JPEG" | "MJPEG" => Self::Mjpeg,
            "JPEG2000" => Self::Jpeg2000,
            "MPV" | "MP1S" | "MP2P" => Self::Mpeg2,
            "MP4V-ES" | "MPEG4" => Self::Mpeg4,
            "MP2T" => Self::MpegTransportStream,
            "H261" => Self::H261,
            "H263" | "H263-1998" | "H263-2000" => Self::H263,
            "VP8" => Self::Vp8,
            "VP9" => Self::Vp9,
            _ => Self::Other,
        }
    }

    /// Returns the video format of a static payload type (RFC 3551, section 6).
    fn from_static_type(payload_type: u8) -> Self {
        match payload_type {
            26 => Self::Mjpeg,
            31 => Self::H261,
            32 => Self::Mpeg2,
            33 => Self::MpegTransportStream,
            34 => Self::H263,
            25 | 28 => Self::Other,
            _ => Self::Unnamed,
        }
    }

    /// Concludes the codec from parameters that only one codec has (RFC 6184, section 8.1; RFC 7798, section 7.1).
    fn from_parameters(parameters: &FormatParameters) -> Self {
        let has = |names: &[&str]| names.iter().any(|name| parameters.get(name).is_some());
        if has(&["sprop-vps", "sprop-max-don-diff"]) {
            Self::H265
        } else if has(&["sprop-parameter-sets", "packetization-mode"]) {
            Self::H264
        } else {
            Self::Unnamed
        }
    }

    /// Returns the codec if the recorder can record it.
    pub fn recordable(self) -> Option<Codec> {
        match self {
            Self::H264 => Some(Codec::H264),
            Self::H265 => Some(Codec::H265),
            _ => None,
        }
    }
}

/// The parameters of the `fmtp` lines of a format, as written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FormatParameters(String);

impl FormatParameters {
    /// Returns the first value of the parameter, without blanks and quotation marks around it. Names ignore case.
    pub fn get(&self, name: &str) -> Option<&str> {
        find_parameter(&self.0, name)
    }
}

/// Reads a description. Unusable lines are counted and ignored.
pub fn read_sdp(text: &[u8], odd: &mut OddityCounts) -> Result<SessionDescription, SdpError> {
    if text.len() > MAX_SDP_BYTES {
        return Err(SdpError::SdpTooLong);
    }
    let text = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text);
    let mut session = Section::default();
    let mut media: Vec<Section> = Vec::new();
    let mut is_beyond_limit = false;
    for line in text.split(|byte| matches!(byte, b'\n' | b'\r')).map(text::trim_bytes) {
        let is_media = line.starts_with(b"m=");
        if !is_media && !line.starts_with(b"a=") {
            continue;
        }
        if is_media && media.len() >= MAX_MEDIA {
            odd.note(Oddity::SdpManyMedia);
            is_beyond_limit = true;
        }
        if is_beyond_limit {
            continue;
        }
        let is_long = line.len() > MAX_LINE_BYTES;
        if is_long {
            odd.note(Oddity::SdpLongLine);
        }
        let (line, is_utf8) = text::decode(if is_long { b"" } else { line });
        if !is_utf8 {
            odd.note(Oddity::SdpCharset);
        }
        let value = line.get(2..).unwrap_or_default();
        if is_media {
            media.push(Section::begin(value, odd));
        } else {
            media.last_mut().unwrap_or(&mut session).attribute(value, odd);
        }
    }
    if media.is_empty() {
        return Err(SdpError::NoMedia);
    }
    if session.direction == Some(Direction::SendOnly) {
        odd.note(Oddity::SdpSessionSendonly);
    }
    let media = media.into_iter().map(|section| section.finish(odd)).collect();
    Ok(SessionDescription { control: session.control, media })
}

/// The lines of a medium, or those before the first one, until all are read.
#[derive(Default)]
struct Section {
    kind: Option<MediaKind>,
    is_encrypted: bool,
    listed: Vec<u8>,
    rtpmaps: Vec<RtpMap>,
    fmtps: Vec<(u8, String)>,
    control: Option<HiddenText>,
    direction: Option<Direction>,
    frame_rate: Option<f32>,
    attributes: usize,
}

#[derive(Clone, Copy)]
struct RtpMap {
    payload_type: u8,
    codec: OfferedCodec,
    clock_rate: Option<u32>,
}

impl Section {
    /// Reads an `m=` line: kind, port, protocol, formats (RFC 8866, section 5.14). The port may be missing.
    fn begin(value: &str, odd: &mut OddityCounts) -> Self {
        let mut words = value.split_whitespace();
        let kind = words.next().unwrap_or_default().to_ascii_lowercase();
        let protocol = words.by_ref().take(2).map(str::to_ascii_uppercase).find(|word| word.contains("RTP/"));
        if kind.is_empty() || protocol.is_none() {
            odd.note(Oddity::SdpMediaLine);
        }
        let mut listed = Vec::new();
        for word in words {
            match read_payload_type(word) {
                Some(_) if listed.len() >= MAX_MEDIA => odd.note(Oddity::SdpManyMedia),
                Some(payload_type) if listed.contains(&payload_type) => {}
                Some(payload_type) => listed.push(payload_type),
                None => odd.note(Oddity::SdpFormat),
            }
        }
        let kind = match kind.as_str() {
            "video" => MediaKind::Video,
            "audio" => MediaKind::Audio,
            "application" => MediaKind::Application,
            _ => MediaKind::Other,
        };
        let is_encrypted = protocol.is_some_and(|protocol| protocol.contains("SAVP"));
        Self { kind: Some(kind), is_encrypted, listed, ..Self::default() }
    }

    fn attribute(&mut self, attribute: &str, odd: &mut OddityCounts) {
        self.attributes = self.attributes.saturating_add(1);
        if self.attributes > MAX_ATTRIBUTES {
            odd.note(Oddity::SdpManyAttributes);
            return;
        }
        let (name, value) = attribute.split_once(':').unwrap_or((attribute, ""));
        let value = text::trim(value);
        match text::trim(name).to_ascii_lowercase().as_str() {
            "rtpmap" => match read_rtpmap(value) {
                Some(map) if self.rtpmaps.iter().any(|other| other.payload_type == map.payload_type) => {
                    odd.note(Oddity::SdpRepeated);
                }
                Some(map) => self.rtpmaps.push(map),
                None => odd.note(Oddity::SdpRtpmap),
            },
            "fmtp" => match read_fmtp(value) {
                Some((payload_type, parameters)) => self.add_fmtp(payload_type, parameters, odd),
                None => odd.note(Oddity::SdpAttribute),
            },
            "control" if value.is_empty() => {}
            "control" if !rtsp_url::is_sendable(value) => odd.note(Oddity::ControlUnusable),
            "control" => set_once(&mut self.control, HiddenText::new(value), odd),
            "framerate" | "x-framerate" => match read_frame_rate(value) {
                Some(rate) => set_once(&mut self.frame_rate, rate, odd),
                None => odd.note(Oddity::SdpAttribute),
            },
            "sendrecv" => set_once(&mut self.direction, Direction::SendRecv, odd),
            "sendonly" => set_once(&mut self.direction, Direction::SendOnly, odd),
            "recvonly" => set_once(&mut self.direction, Direction::RecvOnly, odd),
            "inactive" => set_once(&mut self.direction, Direction::Inactive, odd),
            _ => {}
        }
    }

    /// Some firmware divides the parameters of a format among several lines.
    fn add_fmtp(&mut self, payload_type: u8, parameters: &str, odd: &mut OddityCounts) {
        if let Some((_, known)) = self.fmtps.iter_mut().find(|(other, _)| *other == payload_type) {
            odd.note(Oddity::SdpRepeated);
            known.push(';');
            known.push_str(parameters);
        } else {
            self.fmtps.push((payload_type, parameters.to_owned()));
        }
    }

    fn finish(self, odd: &mut OddityCounts) -> MediaDescription {
        let kind = self.kind.unwrap_or(MediaKind::Other);
        let mut formats: Vec<PayloadFormat> =
            self.listed.iter().map(|payload_type| self.format(*payload_type, kind, odd)).collect();
        // Formats that the m= line does not name count only if those that it names say nothing.
        let is_described = formats.iter().any(|format| format.codec != OfferedCodec::Unnamed);
        for map in &self.rtpmaps {
            if self.listed.contains(&map.payload_type) {
                continue;
            }
            odd.note(Oddity::SdpRtpmap);
            if !is_described && formats.len() < MAX_MEDIA {
                formats.push(self.format(map.payload_type, kind, odd));
            }
        }
        MediaDescription {
            kind,
            formats,
            control: self.control,
            direction: self.direction,
            frame_rate: self.frame_rate,
            is_encrypted: self.is_encrypted,
        }
    }

    fn format(&self, payload_type: u8, kind: MediaKind, odd: &mut OddityCounts) -> PayloadFormat {
        let map = self.rtpmaps.iter().find(|map| map.payload_type == payload_type);
        let fmtp = self.fmtps.iter().find(|(described, _)| *described == payload_type);
        let parameters = FormatParameters(fmtp.map(|(_, text)| text.clone()).unwrap_or_default());
        let mut codec = map.map_or_else(|| OfferedCodec::from_static_type(payload_type), |map| map.codec);
        if codec == OfferedCodec::Unnamed && kind == MediaKind::Video {
            odd.note(Oddity::SdpRtpmapMissing);
            codec = OfferedCodec::from_parameters(&parameters);
        }
        PayloadFormat { payload_type, codec, clock_rate: map.and_then(|map| map.clock_rate), parameters }
    }
}

fn set_once<T>(field: &mut Option<T>, value: T, odd: &mut OddityCounts) {
    if field.is_some() {
        odd.note(Oddity::SdpRepeated);
    } else {
        *field = Some(value);
    }
}

fn read_payload_type(word: &str) -> Option<u8> {
    word.parse().ok().filter(|payload_type| *payload_type < 128)
}

/// Reads `96 H264/90000`, perhaps with further parts. The clock rate may be missing.
fn read_rtpmap(value: &str) -> Option<RtpMap> {
    let (payload_type, encoding) = value.split_once(char::is_whitespace)?;
    let mut parts = encoding.split('/').map(str::trim);
    let name = parts.next().filter(|name| !name.is_empty())?;
    Some(RtpMap {
        payload_type: read_payload_type(payload_type)?,
        codec: OfferedCodec::from_encoding(name),
        clock_rate: parts.next().and_then(|rate| rate.parse().ok()).filter(|rate| *rate > 0),
    })
}

/// Reads `96 name=value;…`.
fn read_fmtp(value: &str) -> Option<(u8, &str)> {
    let (payload_type, parameters) = value.split_once(char::is_whitespace)?;
    Some((read_payload_type(payload_type)?, text::trim(parameters)))
}

fn read_frame_rate(value: &str) -> Option<f32> {
    value.parse().ok().filter(|rate: &f32| *rate > 0.0 && *rate <= MAX_FRAME_RATE)
}

#[cfg(test)]
mod tests;
