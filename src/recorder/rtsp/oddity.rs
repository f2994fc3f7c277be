//! Deviations of cameras from the standards that the client tolerates. It counts each by name, without text of the camera.

use strum::{EnumCount, VariantArray};

/// Deviation that the client tolerates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::EnumCount, strum::IntoStaticStr, strum::VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Oddity {
    /// A status line ends after the code, without the blank and the reason.
    MissingReason,
    /// A start line names another version than RTSP/1.0.
    OtherVersion,
    /// A line of a head ends in LF without CR.
    BareLineFeed,
    /// A header continues on the next line.
    FoldedHeader,
    /// A header has no value.
    EmptyHeader,
    /// A line of a head is no header: it has no colon or no name.
    HeaderWithoutName,
    /// A start line or header is not UTF-8.
    NotUtf8,
    /// Blank lines stand between messages, mostly because Content-Length does not count the last line end.
    BlankLine,
    /// Bytes between messages belong to no message.
    Garbage,
    /// The answer to DESCRIBE has no Content-Length, or 0.
    MissingContentLength,
    /// Content-Length is negative or no number, has text after the number, or occurs with two values.
    InvalidContentLength,
    /// A body is shorter than its Content-Length.
    ShortBody,
    /// An answer has no `CSeq`, or that of another request.
    OtherSequence,
    /// Interleaved data came on a channel that no SETUP named.
    UnassignedChannel,
}

/// Number of occurrences of each oddity on one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OddityCounts([u64; Oddity::COUNT]);

impl Default for OddityCounts {
    fn default() -> Self {
        Self([0; Oddity::COUNT])
    }
}

impl OddityCounts {
    /// Counts one occurrence.
    pub fn note(&mut self, oddity: Oddity) {
        if let Some(count) = self.0.get_mut(oddity as usize) {
            *count = count.saturating_add(1);
        }
    }

    /// Returns the number of occurrences.
    pub fn get(&self, oddity: Oddity) -> u64 {
        self.0.get(oddity as usize).copied().unwrap_or_default()
    }

    /// Returns the oddities that occurred, with their numbers of occurrences.
    pub fn iter(&self) -> impl Iterator<Item = (Oddity, u64)> + '_ {
        Oddity::VARIANTS.iter().map(|oddity| (*oddity, self.get(*oddity))).filter(|(_, count)| *count > 0)
    }
}
