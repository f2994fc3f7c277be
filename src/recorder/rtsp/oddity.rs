//! Oddities of cameras: deviations from the standards that the recorder works around. It counts them, so that an operator
//! finds out why a camera behaves as it does. No oddity holds text of the camera.

use std::collections::BTreeMap;

/// A deviation that the recorder works around.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Oddity {
    /// The `Session` header has no id that a request can repeat: it is empty, too long, or has blanks within.
    SessionId,
    /// The timeout of the `Session` header is zero or no number. The default of 60 seconds counts.
    SessionTimeout,
    /// The `Transport` header of an answer names no transport that the recorder knows.
    TransportProtocol,
    /// `interleaved` of the `Transport` header names no channel of one byte.
    TransportChannels,
    /// `server_port` of the `Transport` header names no port. Some firmware writes 0.
    TransportPorts,
    /// `ssrc` of the `Transport` header is not of 6 to 8 hexadecimal digits. Some firmware writes 16 bits.
    TransportSsrc,
    /// `source` of the `Transport` header is empty, too long, or has blanks within.
    TransportSource,
    /// A header has a URL without scheme or host where RFC 2326 wants an absolute one.
    RelativeUrl,
    /// A header has a URL that no request can use. The recorder takes the next best URL.
    UnusableUrl,
    /// A URL of the camera holds a login. The recorder removes it.
    UrlWithLogin,
    /// A line of the description is not UTF-8.
    SdpCharset,
    /// A line of the description is longer than the recorder reads.
    SdpLongLine,
    /// The session or one medium has more attributes than the recorder reads.
    SdpManyAttributes,
    /// The description has more media, or a medium has more formats, than the recorder reads.
    SdpManyMedia,
    /// An `m=` line has no kind or no protocol.
    SdpMediaLine,
    /// A format of an `m=` line is no payload type.
    SdpFormat,
    /// An `rtpmap` cannot be read, or describes a payload type that the `m=` line does not name.
    SdpRtpmap,
    /// A video format has no `rtpmap`. The recorder concludes the codec from its `fmtp`.
    SdpRtpmapMissing,
    /// An `fmtp` without payload type, or a frame rate that is none.
    SdpAttribute,
    /// An attribute that may stand once stands again. The first counts.
    SdpRepeated,
    /// The whole session is marked `sendonly`, which marks a back channel only on a medium.
    SdpSessionSendonly,
    /// A control URL that no request can use. The recorder takes the URL of the session.
    ControlUnusable,
    /// A control URL names another host than the session's. The recorder sends it as it is, on the same connection.
    ControlOtherHost,
}

/// How often each oddity occurred.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OddityCounts(BTreeMap<Oddity, u64>);

impl OddityCounts {
    /// Counts one occurrence.
    pub fn note(&mut self, oddity: Oddity) {
        let count = self.0.entry(oddity).or_default();
        *count = count.saturating_add(1);
    }

    /// Returns the number of occurrences.
    pub fn get(&self, oddity: Oddity) -> u64 {
        self.0.get(&oddity).copied().unwrap_or_default()
    }

    /// Returns the oddities that occurred, with their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (Oddity, u64)> + '_ {
        self.0.iter().map(|(oddity, count)| (*oddity, *count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_name_each_oddity() {
        let mut odd = OddityCounts::default();
        odd.note(Oddity::SessionTimeout);
        odd.note(Oddity::SessionTimeout);
        assert_eq!(odd.get(Oddity::SessionTimeout), 2);
        assert_eq!(odd.get(Oddity::SdpFormat), 0);
        let named: Vec<(&str, u64)> = odd.iter().map(|(oddity, count)| (oddity.into(), count)).collect();
        assert_eq!(named, [("session_timeout", 2)]);
    }
}
