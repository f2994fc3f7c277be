//! Behaviour of cameras that the client tolerates, counted by kind. No text of a camera is in here.

use std::collections::BTreeMap;

/// Kind of behaviour that departs from the standards and that the client tolerates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Oddity {
    /// A packet on an RTP channel is no RTP: too short, another version, or an extension beyond its end. It is dropped.
    RtpMalformed,
    /// An RTP packet has the padding bit, but no valid padding (RFC 3550, section 5.1). All of it counts as payload.
    RtpPadding,
    /// An RTP packet has a payload type that the description does not name, such as 50 of Geovision. It is dropped.
    RtpPayloadType,
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
    /// An RTCP packet has a length or content that does not fit, as with Edimax. It and the rest are dropped.
    RtcpMalformed,
}

/// Number of times that each oddity was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OddityCounts(BTreeMap<Oddity, u64>);

impl OddityCounts {
    pub fn note(&mut self, oddity: Oddity) {
        let count = self.0.entry(oddity).or_default();
        *count = count.saturating_add(1);
    }

    pub fn get(&self, oddity: Oddity) -> u64 {
        self.0.get(&oddity).copied().unwrap_or_default()
    }

    /// Returns the oddities seen at least once.
    pub fn iter(&self) -> impl Iterator<Item = (Oddity, u64)> + '_ {
        self.0.iter().map(|(oddity, count)| (*oddity, *count))
    }
}
