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
    /// An answer came while no request was under way.
    UnexpectedAnswer,
    /// An answer to a keepalive came after the next request.
    LateAnswer,
    /// PLAY was not answered, but packets came after it. The session plays.
    PlayUnanswered,
    /// The answer to SETUP names no session. The requests name none either.
    MissingSession,
    /// A request of the camera has a method that the recorder does not serve.
    RequestMethod,
    /// TEARDOWN of the camera names another session.
    OtherSessionTeardown,
    /// Interleaved data came on a channel that no SETUP named.
    UnassignedChannel,
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
    /// An attribute that may stand once stands again. The first one counts. A second `fmtp` adds its parameters.
    SdpRepeated,
    /// The whole session is marked `sendonly`, which marks a back channel only on a medium.
    SdpSessionSendonly,
    /// A control URL that no request can use, alone or joined with its base. The recorder takes the base.
    ControlUnusable,
    /// A control URL names another host than the session's. The recorder sends it as it is, on the same connection.
    ControlOtherHost,
    /// A `WWW-Authenticate` header has text that is no scheme and no parameter, or a challenge without a nonce.
    ChallengeMalformed,
    /// A 401 has more or longer challenges than the recorder reads. It ignores the surplus.
    ChallengeOverLimit,
    /// A challenge names a parameter twice. The last value counts.
    ChallengeRepeatsParameter,
    /// A challenge has no realm. The recorder uses the empty realm.
    ChallengeWithoutRealm,
    /// A realm, nonce or opaque value has no quotes.
    ChallengeUnquoted,
    /// A challenge has bytes outside ASCII. The recorder returns them unchanged.
    ChallengeNotAscii,
    /// A challenge names a scheme, algorithm or quality of protection that the recorder does not support.
    ChallengeUnsupported,
    /// The camera closes the connection with or after a 401, before it could receive the login.
    ClosedAfterChallenge,
    /// A packet on an RTP channel is no RTP: too short, another version, or an extension beyond its end. It is dropped.
    RtpMalformed,
    /// An RTP packet has the padding bit, but no valid padding (RFC 3550, section 5.1). All of it counts as payload.
    RtpPadding,
    /// An RTP packet has a payload type that the description does not name, such as 50 of Geovision. It is dropped.
    RtpPayloadType,
    /// A track sends only a payload type that the description does not name. It names one format, so the recorder takes the
    /// packets for that format.
    RtpPayloadTypeAdopted,
    /// An RTP packet continues neither the known sequence nor a new one, such as those of a dead session on a new
    /// connection. It is dropped.
    RtpStranger,
    /// The sequence numbers began again, as those of an encoder that restarts.
    RtpRestart,
    /// The SSRC changed but the sequence numbers go on, as with Uniview at each keyframe.
    RtpSsrcChanged,
    /// An RTP packet came twice. The second one is dropped.
    RtpRepeated,
    /// An RTP packet came after the client had given it up as lost. It is dropped.
    RtpLate,
    /// An RTCP packet does not fit, as with Edimax. If its content is wrong, it is dropped. If its length is wrong, the rest
    /// of the compound packet is dropped too.
    RtcpMalformed,
    /// A payload is empty or too short for its type. It is dropped.
    PayloadMalformed,
    /// A payload is of a type that carries video only in the interleaved mode, or PACI. Its NAL units are lost.
    PayloadInterleaved,
    /// A payload is of a type that carries no video. It is dropped.
    PayloadUnknown,
    /// A length in an aggregation packet is zero, or points beyond its end.
    AggregateLength,
    /// A fragment has the start bit and the end bit. It is a whole NAL unit.
    FragmentWhole,
    /// A fragment comes without a NAL unit that it continues, and nothing is missing before it.
    FragmentWithoutStart,
    /// A NAL unit in fragments has the marker, but no end bit.
    FragmentWithoutEnd,
    /// Another NAL unit begins before the last fragment of one. The recorder drops the unfinished one.
    FragmentUnfinished,
    /// A fragment names another NAL unit header than the first one. The first one counts.
    FragmentOtherHeader,
    /// A payload has start codes. The recorder divides it there.
    StartCode,
    /// A NAL unit has the `forbidden_zero_bit`. The recorder clears it.
    NalForbiddenBit,
    /// A NAL unit is of a type that no stream has. It is dropped.
    NalUnknown,
    /// A NAL unit is empty except its header. It is dropped.
    NalMalformed,
    /// The start of a slice cannot be read. Its access unit is dropped.
    SliceMalformed,
    /// An access unit is longer than 16 MiB, or the NAL units before its first slice are longer than 4 MiB. It is dropped.
    UnitTooLarge,
    /// A parameter set of the description is not in base64, or none of its codec.
    SetInDescription,
    /// A parameter set cannot be read: it ends too early, or has a value out of range. Samples keep it.
    SetMalformed,
    /// A parameter set is too long, or there are too many. Samples keep it.
    SetOverLimit,
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
