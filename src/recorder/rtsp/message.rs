//! RTSP messages (RFC 2326): reader of a camera's messages, and writer of the client's.
//!
//! Reading tolerates the deviations that [`Oddity`] lists. Writing is strict: a text that would break a line is refused.
//! `Debug` omits the camera's own text, because cameras repeat the login of a URL in it.

mod head;
mod reader;
mod start;

use std::fmt;

use strum::VariantArray;

use super::oddity::{Oddity, OddityCounts};
use super::text;

pub use self::reader::MessageReader;

/// Limits of a reader, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageLimits {
    /// Start line and headers of one message, with their line ends. 64 KiB by default.
    pub head: usize,
    /// Body of one message. 1 MiB by default.
    pub body: usize,
    /// Blank lines and garbage between two messages. 64 KiB by default.
    pub skipped: usize,
}

impl Default for MessageLimits {
    fn default() -> Self {
        Self { head: 64 << 10, body: 1 << 20, skipped: 64 << 10 }
    }
}

/// Maximum number of headers of a message.
pub const MAX_HEADERS: usize = 128;

/// Reason why a connection cannot be read any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr, thiserror::Error)]
#[strum(serialize_all = "snake_case")]
pub enum MessageError {
    #[error("the port answers in HTTP, not RTSP: check the port of spec.stream.url")]
    NotRtsp,
    #[error("the headers of a message exceed the limit")]
    HeadTooLong,
    #[error("a message has more than 128 headers")]
    TooManyHeaders,
    #[error("the body of a message exceeds the limit")]
    BodyTooLong,
    #[error("no RTSP message in the last bytes of the connection")]
    TooMuchGarbage,
}

/// Method of a request (RFC 2326 section 10).
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr, strum::VariantArray)]
#[strum(serialize_all = "SCREAMING_SNAKE_CASE")]
pub enum Method {
    Options,
    Describe,
    Announce,
    Setup,
    Play,
    Pause,
    Record,
    Redirect,
    Teardown,
    GetParameter,
    SetParameter,
}

impl Method {
    /// Returns the name in a request line.
    pub fn name(self) -> &'static str {
        self.into()
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::VARIANTS.iter().copied().find(|method| method.name() == name)
    }
}

/// Headers in their order. A name may occur more than once. [`text::decode`] made the values, so [`text::encode`] returns
/// their bytes.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, String)>);

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Headers({})", self.len())
    }
}

impl Headers {
    /// Returns the first value of a header, without the blanks around it. Names are compared without case. The value is
    /// empty if the camera sent none.
    pub fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = self.iter().find(|(found, _)| found.eq_ignore_ascii_case(name))?;
        Some(value)
    }

    /// Returns all values of a header.
    pub fn get_all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.iter().filter(move |(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Returns the bytes of all values of a header. A login signs and repeats them.
    pub fn get_all_bytes<'a>(&'a self, name: &'a str) -> impl Iterator<Item = Vec<u8>> {
        self.get_all(name).map(text::encode)
    }

    /// Returns whether the camera closes the connection after this message (RFC 2326 section 12.10).
    pub fn closes_connection(&self) -> bool {
        self.get_all("Connection").any(|value| text::lists_word(value, "close"))
    }

    /// Returns names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Returns the number of headers, at most [`MAX_HEADERS`].
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn push(&mut self, name: String, value: String) -> Result<(), MessageError> {
        if self.0.len() >= MAX_HEADERS {
            return Err(MessageError::TooManyHeaders);
        }
        self.0.push((name, value));
        Ok(())
    }

    /// Appends the continuation of the last header. Returns `false` if there is none.
    fn continue_last(&mut self, text: &str) -> bool {
        let Some((_, value)) = self.0.last_mut() else {
            return false;
        };
        if !value.is_empty() && !text.is_empty() {
            value.push(' ');
        }
        value.push_str(text);
        true
    }
}

/// Request of the camera.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    /// `None` is a method that RFC 2326 does not define.
    pub method: Option<Method>,
    /// Empty if the camera sent none.
    pub uri: String,
    pub headers: Headers,
    pub body: Vec<u8>,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Request");
        debug
            .field("method", &self.method)
            .field("headers", &self.headers)
            .field("body_len", &self.body.len());
        debug.finish_non_exhaustive()
    }
}

/// Answer of the camera. Its reason is not kept: it is the camera's own text.
#[derive(Clone, PartialEq, Eq)]
pub struct Response {
    /// From 100 to 999.
    pub status: u16,
    pub headers: Headers,
    pub body: Vec<u8>,
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Response");
        debug
            .field("status", &self.status)
            .field("headers", &self.headers)
            .field("body_len", &self.body.len());
        debug.finish_non_exhaustive()
    }
}

impl Response {
    /// Returns whether the camera did what the request asks for (RFC 2326 section 7.1.1).
    pub fn is_success(&self) -> bool {
        matches!(self.status, 200..300)
    }

    /// Counts a `CSeq` that is not that of the request. Some cameras answer with the `CSeq` of the previous request, so a
    /// client with one outstanding request takes any answer for its own.
    pub fn note_sequence(&self, sent: u32, odd: &mut OddityCounts) {
        if self.headers.get("CSeq").and_then(|value| value.parse().ok()) != Some(sent) {
            odd.note(Oddity::OtherSequence);
        }
    }
}

/// Message of the camera.
#[derive(PartialEq, Eq)]
pub enum Message<'a> {
    Request(Request),
    Response(Response),
    /// RTP or RTCP in the RTSP connection (RFC 2326 section 10.12), at most 65,535 bytes.
    Interleaved {
        channel: u8,
        data: &'a mut [u8],
    },
}

impl fmt::Debug for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request(request) => request.fmt(f),
            Self::Response(response) => response.fmt(f),
            Self::Interleaved { channel, data } => write!(f, "Interleaved({channel}, {} bytes)", data.len()),
        }
    }
}

/// Channels that a SETUP asked for or that its answer named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Channels(Vec<u8>);

impl Channels {
    pub fn insert(&mut self, channel: u8) {
        if !self.contains(channel) {
            self.0.push(channel);
        }
    }

    pub fn contains(&self, channel: u8) -> bool {
        self.0.contains(&channel)
    }
}

/// A URI or header has a character that cannot stand in a line of a message, or a header's name is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a URI or header cannot be written into an RTSP message")]
pub struct UnwritableMessage;

/// Appends a request without a body. `CSeq` is the first header, because some cameras answer 400 to any other order. The
/// other headers keep their order, and none of them is `CSeq` or Content-Length. URI and `CSeq` leave as [`text::encode`]
/// returns them. If a text cannot be written, `out` stays unchanged.
pub fn write_request(
    out: &mut Vec<u8>,
    method: Method,
    uri: &str,
    cseq: u32,
    headers: &[(&str, &[u8])],
) -> Result<(), UnwritableMessage> {
    if !text::is_sendable_word(uri) {
        return Err(UnwritableMessage);
    }
    let start_line = [method.name().as_bytes(), b" ", &text::encode(uri), b" RTSP/1.0"].concat();
    write_head(out, &start_line, &cseq.to_string(), headers)
}

/// Answer of the client to a request of the camera.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerStatus {
    Ok,
    NotImplemented,
}

/// Appends an answer. `cseq` is the value of the request's `CSeq`, or empty if it had none. If it cannot be written, `out`
/// stays unchanged.
pub fn write_answer(out: &mut Vec<u8>, answer: AnswerStatus, cseq: &str) -> Result<(), UnwritableMessage> {
    let start_line: &[u8] = match answer {
        AnswerStatus::Ok => b"RTSP/1.0 200 OK",
        AnswerStatus::NotImplemented => b"RTSP/1.0 501 Not Implemented",
    };
    write_head(out, start_line, cseq, &[])
}

fn write_head(
    out: &mut Vec<u8>,
    start_line: &[u8],
    cseq: &str,
    headers: &[(&str, &[u8])],
) -> Result<(), UnwritableMessage> {
    let is_reserved =
        |name: &str| ["CSeq", "Content-Length"].iter().any(|own| own.eq_ignore_ascii_case(name));
    let is_header =
        |(name, value): &(&str, &[u8])| is_token(name) && !is_reserved(name) && text::is_sendable(value);
    if !text::is_sendable(cseq.as_bytes()) || !headers.iter().all(is_header) {
        return Err(UnwritableMessage);
    }
    let mut line = |parts: &[&[u8]]| {
        for part in parts {
            out.extend_from_slice(part);
        }
        out.extend_from_slice(b"\r\n");
    };
    line(&[start_line]);
    line(&[b"CSeq: ", &text::encode(cseq)]);
    for (name, value) in headers {
        line(&[name.as_bytes(), b": ", value]);
    }
    line(&[]);
    Ok(())
}

/// Returns whether a text is a token (RFC 2326 section 15.1).
fn is_token(text: &str) -> bool {
    let is_special = |byte: u8| br#"()<>@,;:\"/[]?={}"#.contains(&byte);
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && !is_special(byte))
}

#[cfg(test)]
mod tests;
