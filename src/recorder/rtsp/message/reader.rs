//! Incremental reader of a camera's side of an RTSP connection.

use std::fmt;

use super::head::{Complete, Head};
use super::start::{self, LineSearch, Start};
use super::{Channels, Message, MessageError, MessageLimits};
use crate::recorder::rtsp::oddity::{Oddity, OddityCounts};

/// First size of the buffer, in bytes.
const INITIAL_BUFFER: usize = 16 << 10;
/// Header of interleaved data: `$`, channel and length (RFC 2326 section 10.12), in bytes.
const FRAME_HEADER: usize = 4;
/// Largest interleaved data with its header, in bytes.
const MAX_FRAME: usize = FRAME_HEADER + 0xffff;
/// Free space below which the buffer grows, in bytes.
const MIN_SPACE: usize = 4 << 10;

/// Reads requests, answers and interleaved data from the bytes of a connection.
///
/// It does no I/O and has no clock. `A` is the caller's time of a read. The caller repeats: read from the socket into
/// [`Self::space`], call [`Self::filled`], then [`Self::next`] until it returns `None`. The messages do not depend on how
/// the bytes are divided into reads.
///
/// The buffer takes about 68 KiB at most, and a body its limit in addition. Bytes that belong to no message are skipped up
/// to the limit. After them, the reader resumes at `RTSP/`, a known method, interleaved RTP on a channel of ours, or on any
/// channel if another message follows. The work of a call is linear in the bytes of the buffer.
pub struct MessageReader<A> {
    limits: MessageLimits,
    /// `buffer[start..end]` is unread, and the rest is free: `start <= end <= buffer.len()`.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    search: LineSearch,
    /// Bytes skipped since the last message.
    skipped: usize,
    state: ReaderState,
    is_description_expected: bool,
    filled_at: Option<A>,
}

impl<A> fmt::Debug for MessageReader<A> {
    /// Omits the camera's own text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unread = self.end.saturating_sub(self.start);
        let mut debug = f.debug_struct("MessageReader");
        debug.field("limits", &self.limits).field("unread", &unread).field("skipped", &self.skipped);
        debug.finish_non_exhaustive()
    }
}

enum ReaderState {
    Between(Skipped),
    /// `len` bytes of the head were read.
    Head {
        head: Head,
        len: usize,
    },
    Body(PendingBody),
}

/// Kind of the bytes skipped since the last message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Skipped {
    Nothing,
    BlankLines,
    Garbage,
}

struct PendingBody {
    head: Head,
    data: Vec<u8>,
    /// `None` without a Content-Length.
    len: Option<usize>,
    /// The caller says that no more bytes come.
    has_ended: bool,
}

/// Result of one step.
enum Step {
    /// More bytes must come.
    Starved,
    Advanced,
    Complete(Complete),
    Frame {
        channel: u8,
        len: usize,
    },
}

impl<A: Copy> MessageReader<A> {
    pub fn new(limits: MessageLimits) -> Self {
        Self {
            limits,
            buffer: Vec::new(),
            start: 0,
            end: 0,
            search: LineSearch::default(),
            skipped: 0,
            state: ReaderState::Between(Skipped::Nothing),
            is_description_expected: false,
            filled_at: None,
        }
    }

    /// Returns the free space that the next read fills. It is not empty if [`Self::next`] returned `None` before.
    pub fn space(&mut self) -> &mut [u8] {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end = self.end.saturating_sub(self.start);
            self.start = 0;
        }
        let max = self.limits.head.max(MAX_FRAME).saturating_add(MIN_SPACE);
        if self.buffer.len().saturating_sub(self.end) < MIN_SPACE && self.buffer.len() < max {
            let len = self.buffer.len().saturating_mul(2).clamp(INITIAL_BUFFER.min(max), max);
            self.buffer.reserve_exact(len.saturating_sub(self.buffer.len()));
            self.buffer.resize(len, 0);
        }
        self.buffer.get_mut(self.end..).unwrap_or_default()
    }

    /// Adds the first `len` bytes of [`Self::space`], which were read `at` this time.
    pub fn filled(&mut self, len: usize, at: A) {
        self.end = self.end.saturating_add(len).min(self.buffer.len());
        self.filled_at = Some(at);
    }

    /// Announces that the next answer is to DESCRIBE. A 200 without Content-Length then has a body, which ends with
    /// [`Self::end_body`] or the next message.
    pub fn expect_description(&mut self) {
        self.is_description_expected = true;
    }

    /// Returns whether a head was read and its body is incomplete. After some silence, or when the connection ends, the
    /// caller calls [`Self::end_body`].
    pub fn is_in_body(&self) -> bool {
        matches!(self.state, ReaderState::Body(_))
    }

    /// Ends the current body, if there is one, with the bytes that came. The next call of [`Self::next`] returns its
    /// message.
    pub fn end_body(&mut self) {
        if let ReaderState::Body(body) = &mut self.state {
            body.has_ended = true;
        }
    }

    /// Returns the memory of the buffer and the current body, in bytes.
    pub fn allocated(&self) -> usize {
        let body = match &self.state {
            ReaderState::Body(body) => body.data.capacity(),
            _ => 0,
        };
        self.buffer.capacity().saturating_add(body)
    }

    /// Returns the next message and the time of the last read, or `None` if more bytes must come. After an error, the
    /// connection cannot be read any further.
    pub fn next(
        &mut self,
        channels: &Channels,
        odd: &mut OddityCounts,
    ) -> Result<Option<(Message<'_>, A)>, MessageError> {
        let Some(at) = self.filled_at else {
            return Ok(None);
        };
        loop {
            match self.step(channels, odd)? {
                Step::Starved => return Ok(None),
                Step::Advanced => {}
                Step::Complete(Complete::Request(request)) => {
                    return Ok(Some((Message::Request(request), at)));
                }
                Step::Complete(Complete::Response(response)) => {
                    return Ok(Some((Message::Response(response), at)));
                }
                Step::Frame { channel, len } => {
                    let begin = self.start;
                    self.consume(len);
                    let data = self.buffer.get_mut(begin..self.start).unwrap_or_default();
                    return Ok(Some((Message::Interleaved { channel, data }, at)));
                }
            }
        }
    }

    fn step(&mut self, channels: &Channels, odd: &mut OddityCounts) -> Result<Step, MessageError> {
        match std::mem::replace(&mut self.state, ReaderState::Between(Skipped::Nothing)) {
            ReaderState::Between(gap) => self.step_between(gap, channels, odd),
            ReaderState::Head { head, len } => self.step_head(head, len, odd),
            ReaderState::Body(body) => self.step_body(body, channels, odd),
        }
    }

    fn step_between(
        &mut self,
        gap: Skipped,
        channels: &Channels,
        odd: &mut OddityCounts,
    ) -> Result<Step, MessageError> {
        let unread = self.buffer.get(self.start..self.end).unwrap_or_default();
        match start::find(unread, gap != Skipped::Garbage, channels, &mut self.search) {
            Start::Undecided => Ok(self.starve(ReaderState::Between(gap))),
            Start::LineEnd if gap != Skipped::Garbage => {
                self.skip(gap, Skipped::BlankLines, Oddity::BlankLine, odd)
            }
            Start::LineEnd | Start::Garbage => self.skip(gap, Skipped::Garbage, Oddity::Garbage, odd),
            Start::Http => Err(MessageError::NotRtsp),
            Start::Frame { len, .. } if unread.len() < FRAME_HEADER.saturating_add(len) => {
                Ok(self.starve(ReaderState::Between(gap)))
            }
            Start::Frame { channel, len } => {
                self.consume(FRAME_HEADER);
                self.skipped = 0;
                if !channels.contains(channel) {
                    odd.note(Oddity::UnassignedChannel);
                }
                Ok(Step::Frame { channel, len })
            }
            Start::Head { line, len } => {
                self.consume(len);
                self.skipped = 0;
                line.note(odd);
                self.state = ReaderState::Head { head: Head::new(line), len };
                Ok(Step::Advanced)
            }
        }
    }

    /// Skips a byte that belongs to no message. A run of such bytes counts once.
    fn skip(
        &mut self,
        gap: Skipped,
        next: Skipped,
        oddity: Oddity,
        odd: &mut OddityCounts,
    ) -> Result<Step, MessageError> {
        if gap != next {
            odd.note(oddity);
        }
        self.consume(1);
        self.skipped = self.skipped.saturating_add(1);
        if self.skipped > self.limits.skipped {
            return Err(MessageError::TooMuchGarbage);
        }
        self.state = ReaderState::Between(next);
        Ok(Step::Advanced)
    }

    fn step_head(
        &mut self,
        mut head: Head,
        len: usize,
        odd: &mut OddityCounts,
    ) -> Result<Step, MessageError> {
        let allowed = self.limits.head.saturating_sub(len);
        let unread = self.buffer.get(self.start..self.end).unwrap_or_default();
        let Some(end) = self.search.find(unread, allowed, |byte| *byte == b'\n') else {
            if unread.len() >= allowed {
                return Err(MessageError::HeadTooLong);
            }
            return Ok(self.starve(ReaderState::Head { head, len }));
        };
        let is_end = head.push_line(unread.get(..end).unwrap_or_default(), odd)?;
        let line = end.saturating_add(1);
        self.consume(line);
        if !is_end {
            self.state = ReaderState::Head { head, len: len.saturating_add(line) };
            return Ok(Step::Advanced);
        }
        let is_description = head.is_final_response() && std::mem::take(&mut self.is_description_expected);
        let len = head.body_len(is_description, odd)?;
        if len.is_some_and(|len| len > self.limits.body) {
            return Err(MessageError::BodyTooLong);
        }
        let data = Vec::with_capacity(len.unwrap_or_default());
        self.state = ReaderState::Body(PendingBody { head, data, len, has_ended: false });
        Ok(Step::Advanced)
    }

    fn step_body(
        &mut self,
        mut body: PendingBody,
        channels: &Channels,
        odd: &mut OddityCounts,
    ) -> Result<Step, MessageError> {
        let unread = self.unread();
        let (taken, is_complete) = match body.len {
            Some(len) => {
                let missing = len.saturating_sub(body.data.len());
                let taken = missing.min(unread.len());
                if body.has_ended && taken < missing {
                    odd.note(Oddity::ShortBody);
                }
                (taken, taken == missing)
            }
            None if body.has_ended => (unread.len(), true),
            None => find_end(&body.data, unread, channels),
        };
        if body.data.len().saturating_add(taken) > self.limits.body {
            return Err(MessageError::BodyTooLong);
        }
        body.data.extend_from_slice(unread.get(..taken).unwrap_or_default());
        self.consume(taken);
        if is_complete || body.has_ended {
            return Ok(Step::Complete(body.head.complete(body.data)));
        }
        Ok(self.starve(ReaderState::Body(body)))
    }

    /// Keeps the state until more bytes come.
    fn starve(&mut self, state: ReaderState) -> Step {
        self.state = state;
        Step::Starved
    }

    fn unread(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    fn consume(&mut self, len: usize) {
        self.start = self.start.saturating_add(len).min(self.end);
        self.search.consume(len);
    }
}

/// Searches the end of a body without a length: the beginning of a message, if it is text at the beginning of a line.
/// Returns the number of bytes that belong to the body, and whether its end was found.
fn find_end(data: &[u8], unread: &[u8], channels: &Channels) -> (usize, bool) {
    let mut previous = data.last().copied().unwrap_or(b'\n');
    for (at, byte) in unread.iter().enumerate() {
        if *byte == b'$' || previous == b'\n' {
            let rest = unread.get(at..).unwrap_or_default();
            match start::find(rest, false, channels, &mut LineSearch::default()) {
                Start::Undecided => return (at, false),
                Start::Frame { .. } | Start::Head { .. } => return (at, true),
                Start::LineEnd | Start::Garbage | Start::Http => {}
            }
        }
        previous = *byte;
    }
    (unread.len(), false)
}

#[cfg(test)]
mod tests;
