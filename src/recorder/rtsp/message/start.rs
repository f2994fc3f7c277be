//! Recognises the beginning of a message.

use strum::VariantArray;

use super::{Channels, Method};
use crate::recorder::rtsp::oddity::{Oddity, OddityCounts};
use crate::recorder::rtsp::text;

/// Limit of a start line with its line end, in bytes. A longer one is garbage.
const MAX_START_LINE: usize = 4096;
/// Length of a word that is too long to begin a start line, in bytes.
const MAX_WORD: usize = 24;
/// Minimum length of an RTP or RTCP packet, in bytes (RFC 3550 section 6.4: an RTCP packet with one SSRC).
const MIN_PACKET: usize = 8;
/// Limit of a packet on an unassigned channel out of step, in bytes. The reader waits for its end before it decides, and
/// false ones must not delay an answer. Two printable characters are never a shorter length.
const MAX_STRAY_PACKET: usize = 4096;

/// Beginning of the unread bytes.
pub(super) enum Start {
    /// More bytes must come before the reader can decide.
    Undecided,
    /// CR or LF.
    LineEnd,
    /// A byte that begins no message.
    Garbage,
    /// An answer of an HTTP server.
    Http,
    /// Interleaved data of `len` bytes after a header of four.
    Frame { channel: u8, len: usize },
    /// A request or an answer. Its start line takes `len` bytes with the line end.
    Head { line: StartLine, len: usize },
}

/// Search for the ends of lines. It reads no byte twice, even if each word of a line could begin a message.
#[derive(Default)]
pub(super) struct LineSearch {
    /// Number of the first unread bytes that end no line.
    clear: usize,
    #[cfg(test)]
    pub(super) steps: usize,
}

impl LineSearch {
    /// Returns the position of the first byte that ends a line, if it is one of the first `limit`. Between two calls with
    /// different rules, the end of a line is consumed.
    pub(super) fn find(&mut self, bytes: &[u8], limit: usize, is_end: impl Fn(&u8) -> bool) -> Option<usize> {
        let before = self.clear;
        let found = bytes.iter().take(limit).skip(before).position(is_end);
        self.clear = match found {
            Some(further) => before.saturating_add(further),
            None => before.max(bytes.len().min(limit)),
        };
        #[cfg(test)]
        {
            self.steps += self.clear - before + 1;
        }
        found.map(|_| self.clear)
    }

    pub(super) fn consume(&mut self, len: usize) {
        self.clear = self.clear.saturating_sub(len);
    }
}

/// Returns the beginning of the unread bytes. The result does not change when more bytes come, unless it is
/// [`Start::Undecided`]. `search` belongs to these bytes.
///
/// In step means: everything before these bytes belongs to a message. Out of step, chance bytes must not look like a
/// message, because a false frame swallows up to 64 KiB. Then only known methods count, and frames only with a packet of
/// version 2 (RFC 3550 section 5.1). Their channel is ours, or another message follows them.
pub(super) fn find(bytes: &[u8], is_in_step: bool, channels: &Channels, search: &mut LineSearch) -> Start {
    match bytes.first() {
        None => Start::Undecided,
        Some(b'\r' | b'\n') => Start::LineEnd,
        Some(b'$') => frame(bytes, is_in_step, channels),
        Some(b'A'..=b'Z') => line(bytes, is_in_step, search),
        Some(_) => Start::Garbage,
    }
}

fn frame(bytes: &[u8], is_in_step: bool, channels: &Channels) -> Start {
    let [_, channel, high, low, packet @ ..] = bytes else {
        return Start::Undecided;
    };
    let channel = *channel;
    let len = usize::from(u16::from_be_bytes([*high, *low]));
    let is_ours = channels.contains(channel);
    if is_in_step {
        return Start::Frame { channel, len };
    }
    if len < MIN_PACKET || (!is_ours && len > MAX_STRAY_PACKET) {
        return Start::Garbage;
    }
    match (packet.first(), packet.get(len..)) {
        (None, _) => Start::Undecided,
        (Some(first), _) if first >> 6 != 2 => Start::Garbage,
        _ if is_ours => Start::Frame { channel, len },
        (_, Some([b'$', ..])) => Start::Frame { channel, len },
        (_, Some(next)) if known_words().any(|word| next.starts_with(word)) => Start::Frame { channel, len },
        (_, Some(next)) if !begins_known_word(next) => Start::Garbage,
        _ => Start::Undecided,
    }
}

fn line(bytes: &[u8], is_in_step: bool, search: &mut LineSearch) -> Start {
    let is_word = |byte: &u8| byte.is_ascii_uppercase() || *byte == b'_';
    let word = bytes.iter().take(MAX_WORD).take_while(|byte| is_word(byte)).count();
    let Some((word, after)) = bytes.split_at_checked(word).filter(|(word, _)| word.len() < MAX_WORD) else {
        return Start::Garbage;
    };
    match (word, after.first()) {
        (_, None) if is_in_step || begins_known_word(word) => Start::Undecided,
        (b"HTTP", Some(b'/')) if is_in_step => Start::Http,
        (b"RTSP", Some(b'/')) => head(bytes, is_in_step, search),
        (_, Some(b' ')) if is_in_step || (word != b"RTSP" && known_words().any(|known| known == word)) => {
            head(bytes, is_in_step, search)
        }
        _ => Start::Garbage,
    }
}

fn known_words() -> impl Iterator<Item = &'static [u8]> {
    let methods = Method::VARIANTS.iter().map(|method| method.name().as_bytes());
    methods.chain(std::iter::once(&b"RTSP"[..]))
}

fn begins_known_word(word: &[u8]) -> bool {
    known_words().any(|known| known.starts_with(word))
}

/// A word of garbage looks like a start line until its line ends, and takes the messages in that line with it. So a control
/// character ends the attempt, and there is one in most interleaved data.
fn head(bytes: &[u8], is_in_step: bool, search: &mut LineSearch) -> Start {
    let is_end = |byte: &u8| byte.is_ascii_control() && !matches!(byte, b'\t' | b'\r');
    let Some(end) = search.find(bytes, MAX_START_LINE, is_end) else {
        return if bytes.len() < MAX_START_LINE { Start::Undecided } else { Start::Garbage };
    };
    let line = bytes.get(..end).filter(|_| bytes.get(end) == Some(&b'\n'));
    match line.filter(|line| is_in_step || has_start_words(line)).and_then(StartLine::read) {
        Some(line) => Start::Head { line, len: end.saturating_add(1) },
        None => Start::Garbage,
    }
}

/// Returns whether the first words of a line allow a start line out of step, where a URI has no blanks. It reads no further,
/// because each word of a line of garbage may begin another attempt.
fn has_start_words(line: &[u8]) -> bool {
    let mut words = line.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty());
    let mut next = || words.next().unwrap_or_default();
    let (first, second) = (next(), next());
    if let Some(version) = first.strip_prefix(b"RTSP/") {
        let digits = second.iter().take(4).take_while(|byte| byte.is_ascii_digit()).count();
        return digits == 3 && !second.starts_with(b"0") && is_version(version);
    }
    let version = if second.starts_with(b"RTSP/") { second } else { next() };
    version.starts_with(b"RTSP/") && matches!(next(), b"" | b"\r")
}

/// First line of a message.
pub(super) struct StartLine {
    pub(super) kind: StartLineKind,
    oddities: [Option<Oddity>; 4],
}

#[derive(PartialEq, Eq)]
pub(super) enum StartLineKind {
    Status(u16),
    Request { method: Option<Method>, uri: String },
}

impl StartLine {
    /// Reads a line without its LF. Returns `None` if it is neither a status line nor a request line.
    fn read(line: &[u8]) -> Option<Self> {
        let ending = strip_line_end(line);
        let (text, is_utf8) = text::decode(ending.text);
        let (kind, version, has_reason) = match text.strip_prefix("RTSP/") {
            Some(status) => read_status(status)?,
            None => read_request(&text)?,
        };
        let odd = |is_odd: bool, oddity| is_odd.then_some(oddity);
        let oddities = [
            odd(ending.is_bare, Oddity::BareLineFeed),
            odd(!is_utf8, Oddity::NotUtf8),
            odd(version != "1.0", Oddity::OtherVersion),
            odd(!has_reason, Oddity::MissingReason),
        ];
        Some(Self { kind, oddities })
    }

    pub(super) fn note(&self, odd: &mut OddityCounts) {
        for oddity in self.oddities.iter().flatten() {
            odd.note(*oddity);
        }
    }
}

const BLANKS: [char; 2] = [' ', '\t'];

/// Reads a status line after `RTSP/` (RFC 2326 section 7.1).
fn read_status(text: &str) -> Option<(StartLineKind, &str, bool)> {
    let (version, status) = text.split_once(BLANKS)?;
    let status = status.trim_start_matches(BLANKS);
    let (code, reason) = status.split_at_checked(3)?;
    let is_code = code.bytes().all(|byte| byte.is_ascii_digit())
        && !reason.starts_with(|character: char| character.is_ascii_digit());
    let code = code.parse().ok().filter(|code| is_code && *code >= 100)?;
    is_version(version.as_bytes()).then_some((StartLineKind::Status(code), version, !reason.is_empty()))
}

/// Reads a request line (RFC 2326 section 6.1). The URI may have blanks, or be missing.
fn read_request(text: &str) -> Option<(StartLineKind, &str, bool)> {
    let (request, version) = text.rsplit_once(" RTSP/")?;
    let (method, uri) = request.split_once(' ').unwrap_or((request, ""));
    let version = version.trim_end_matches(BLANKS);
    let kind = StartLineKind::Request {
        method: Method::from_name(method),
        uri: uri.trim_matches(BLANKS).to_owned(),
    };
    is_version(version.as_bytes()).then_some((kind, version, true))
}

fn is_version(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.')
}

/// A line without its line end.
pub(super) struct LineEnding<'a> {
    pub(super) text: &'a [u8],
    /// LF without CR.
    pub(super) is_bare: bool,
}

/// Strips the CR from a line without its LF.
pub(super) fn strip_line_end(line: &[u8]) -> LineEnding<'_> {
    match line.strip_suffix(b"\r") {
        Some(text) => LineEnding { text, is_bare: false },
        None => LineEnding { text: line, is_bare: true },
    }
}
