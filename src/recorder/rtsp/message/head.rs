//! Head of a message: its start line and headers, read line by line.

use super::start::{StartLine, StartLineKind, strip_line_end};
use super::{Headers, MessageError, Request, Response};
use crate::recorder::rtsp::oddity::{Oddity, OddityCounts};
use crate::recorder::rtsp::text::{decode, trim};

/// Head that is being read.
pub(super) struct Head {
    kind: StartLineKind,
    headers: Headers,
}

/// Request or answer with its body.
pub(super) enum Complete {
    Request(Request),
    Response(Response),
}

impl Head {
    pub(super) fn new(line: StartLine) -> Self {
        Self { kind: line.kind, headers: Headers::default() }
    }

    /// Reads one line without its LF. Returns whether it ends the head.
    pub(super) fn push_line(&mut self, line: &[u8], odd: &mut OddityCounts) -> Result<bool, MessageError> {
        let line = strip_line_end(line);
        if line.is_bare {
            odd.note(Oddity::BareLineFeed);
        }
        if line.text.is_empty() {
            return Ok(true);
        }
        let (text, is_utf8) = decode(line.text);
        if !is_utf8 {
            odd.note(Oddity::NotUtf8);
        }
        if text.starts_with([' ', '\t']) && self.headers.continue_last(trim(&text)) {
            odd.note(Oddity::FoldedHeader);
            return Ok(false);
        }
        match text.split_once(':').map(|(name, value)| (trim(name), trim(value))) {
            Some((name, value)) if !name.is_empty() => {
                if value.is_empty() {
                    odd.note(Oddity::EmptyHeader);
                }
                self.headers.push(name.to_owned(), value.to_owned())?;
            }
            _ => odd.note(Oddity::HeaderWithoutName),
        }
        Ok(false)
    }

    /// Returns the length of the body in bytes, or `None` if it ends with silence or the next message. Without a
    /// Content-Length a message has no body (RFC 2326 section 4.4). `is_description` is an answer to DESCRIBE: a 200 to it
    /// without a body makes no sense.
    pub(super) fn body_len(
        &self,
        is_description: bool,
        odd: &mut OddityCounts,
    ) -> Result<Option<usize>, MessageError> {
        let len = self.content_length(odd)?;
        if is_description && self.kind == StartLineKind::Status(200) && len == 0 {
            odd.note(Oddity::MissingContentLength);
            return Ok(None);
        }
        Ok(Some(len))
    }

    /// Returns the first readable Content-Length, or 0.
    fn content_length(&self, odd: &mut OddityCounts) -> Result<usize, MessageError> {
        let mut found = None;
        let mut is_invalid = false;
        for value in self.headers.get_all("Content-Length") {
            let digits = value.bytes().take_while(u8::is_ascii_digit).count();
            is_invalid |= digits == 0 || digits < value.len();
            let Some(digits) = value.get(..digits).filter(|digits| !digits.is_empty()) else {
                continue;
            };
            let len: usize = digits.parse().map_err(|_| MessageError::BodyTooLong)?;
            is_invalid |= found.is_some_and(|found| found != len);
            found.get_or_insert(len);
        }
        if is_invalid {
            odd.note(Oddity::InvalidContentLength);
        }
        Ok(found.unwrap_or_default())
    }

    /// Returns whether this is an answer, and no provisional one (RFC 2326 section 7.1.1).
    pub(super) fn is_final_response(&self) -> bool {
        matches!(self.kind, StartLineKind::Status(200..))
    }

    pub(super) fn complete(self, body: Vec<u8>) -> Complete {
        let headers = self.headers;
        match self.kind {
            StartLineKind::Status(status) => Complete::Response(Response { status, headers, body }),
            StartLineKind::Request { method, uri } => {
                Complete::Request(Request { method, uri, headers, body })
            }
        }
    }
}
