//! Transport of RTP: the choice, its `Transport` header, and the channels on which packets come.

use super::super::headers::{LowerTransport, RtpPair, TransportHeader};
use super::super::message::Channels;
use super::error::RefusedTransport;
use super::interface::TransportPlan;

/// Channels that SETUP asks for. RTSP names none that every camera takes, but all take these.
const ASKED_CHANNELS: RtpPair<u8> = RtpPair { rtp: 0, rtcp: Some(1) };

/// Transports that one attempt has left.
#[derive(Clone, Debug)]
pub struct TransportChoice {
    plan: TransportPlan,
    preferred: Option<LowerTransport>,
    is_tcp_refused: bool,
    is_udp_refused: bool,
}

impl TransportChoice {
    /// `preferred` worked in an earlier attempt.
    pub fn new(plan: TransportPlan, preferred: Option<LowerTransport>) -> Self {
        Self { plan, preferred, is_tcp_refused: false, is_udp_refused: false }
    }

    /// Returns the transport to ask for, or `None` if none is left.
    pub fn current(&self, is_tls: bool) -> Option<LowerTransport> {
        let tcp = Some(LowerTransport::Tcp).filter(|_| !self.is_tcp_refused);
        let udp = Some(LowerTransport::Udp).filter(|_| !self.is_udp_refused);
        match (self.plan, self.preferred) {
            (TransportPlan::Tcp, _) => tcp,
            (TransportPlan::Udp, _) => udp,
            (TransportPlan::Auto, _) if is_tls => tcp,
            (TransportPlan::Auto, Some(LowerTransport::Udp)) => udp.or(tcp),
            (TransportPlan::Auto, _) => tcp.or(udp),
        }
    }

    /// Excludes a transport that does not work.
    pub fn refuse(&mut self, transport: LowerTransport) {
        match transport {
            LowerTransport::Tcp => self.is_tcp_refused = true,
            LowerTransport::Udp => self.is_udp_refused = true,
        }
    }

    /// Returns the reason that no transport is left after `last` was refused.
    pub fn refused(&self, last: LowerTransport, is_tls: bool) -> RefusedTransport {
        match self.plan {
            TransportPlan::Tcp | TransportPlan::Udp => last.into(),
            TransportPlan::Auto if is_tls => RefusedTransport::TcpUnderTls,
            TransportPlan::Auto => RefusedTransport::Both,
        }
    }
}

/// Returns the `Transport` header for RTP over TCP.
pub fn tcp_header() -> String {
    let RtpPair { rtp, rtcp } = ASKED_CHANNELS;
    format!("RTP/AVP/TCP;unicast;interleaved={rtp}-{}", rtcp.unwrap_or(rtp))
}

/// Returns the `Transport` header for RTP over UDP.
pub fn udp_header(ports: RtpPair<u16>) -> String {
    let RtpPair { rtp, rtcp } = ports;
    match rtcp {
        Some(rtcp) => format!("RTP/AVP;unicast;client_port={rtp}-{rtcp}"),
        None => format!("RTP/AVP;unicast;client_port={rtp}"),
    }
}

/// Kind of the packets on a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketKind {
    Rtp,
    Rtcp,
}

/// Channels of the track in the connection.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    pair: Option<RtpPair<u8>>,
    channels: Channels,
}

impl Routes {
    /// Returns the channels that SETUP asks for. Some cameras send on them before they answer.
    pub fn asked() -> Self {
        Self::new(ASKED_CHANNELS)
    }

    /// Returns the channels that the answer names, or else those of the request.
    pub fn answered(header: &TransportHeader) -> Self {
        Self::new(header.interleaved.unwrap_or(ASKED_CHANNELS))
    }

    fn new(pair: RtpPair<u8>) -> Self {
        let mut channels = Channels::default();
        channels.insert(pair.rtp);
        if let Some(rtcp) = pair.rtcp {
            channels.insert(rtcp);
        }
        Self { pair: Some(pair), channels }
    }

    /// Returns the channels for the reader of messages.
    pub fn channels(&self) -> &Channels {
        &self.channels
    }

    /// Returns RTCP for the camera as interleaved data (RFC 2326, section 10.12), or `None` if it has no channel for it.
    pub fn frame_rtcp(&self, packet: &[u8]) -> Option<Vec<u8>> {
        let channel = self.pair?.rtcp?;
        let len = u16::try_from(packet.len()).ok()?;
        Some([&[b'$', channel][..], &len.to_be_bytes(), packet].concat())
    }

    pub fn kind(&self, channel: u8) -> Option<PacketKind> {
        let pair = self.pair?;
        if channel == pair.rtp {
            return Some(PacketKind::Rtp);
        }
        (Some(channel) == pair.rtcp).then_some(PacketKind::Rtcp)
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::oddity::OddityCounts;
    use super::*;

    #[test]
    fn auto_tries_what_worked_first_and_then_the_other() {
        use LowerTransport::{Tcp, Udp};
        for (plan, preferred, is_tls, expected) in [
            (TransportPlan::Auto, None, false, vec![Tcp, Udp]),
            (TransportPlan::Auto, Some(Tcp), false, vec![Tcp, Udp]),
            (TransportPlan::Auto, Some(Udp), false, vec![Udp, Tcp]),
            (TransportPlan::Auto, Some(Udp), true, vec![Tcp]),
            (TransportPlan::Tcp, Some(Udp), false, vec![Tcp]),
            (TransportPlan::Udp, Some(Tcp), false, vec![Udp]),
        ] {
            let mut choice = TransportChoice::new(plan, preferred);
            let mut tried = Vec::new();
            while let Some(transport) = choice.current(is_tls) {
                tried.push(transport);
                choice.refuse(transport);
            }
            assert_eq!(tried, expected, "{plan:?} {preferred:?} {is_tls}");
        }
    }

    #[test]
    fn routes_are_those_of_the_answer() {
        let routes = |value| {
            let routes = Routes::answered(&TransportHeader::read(value, &mut OddityCounts::default()));
            let kinds = [0, 1, 20, 21].map(|channel| routes.kind(channel));
            assert_eq!(
                kinds.map(|kind| kind.is_some()),
                [0, 1, 20, 21].map(|c| routes.channels().contains(c))
            );
            (kinds, routes.frame_rtcp(&[7]).map(|frame| frame[1]))
        };
        let [rtp, control] = [PacketKind::Rtp, PacketKind::Rtcp].map(Some);
        let asked = ([rtp, control, None, None], Some(1));
        assert_eq!(routes("RTP/AVP/TCP;unicast;interleaved=0-1"), asked);
        assert_eq!(routes("RTP/AVP/TCP;unicast"), asked);
        assert_eq!(routes(""), asked);
        assert_eq!(routes("RTP/AVP/TCP;interleaved=20-21"), ([None, None, rtp, control], Some(21)));
        assert_eq!(routes("RTP/AVP/TCP;interleaved=20-20"), ([None, None, rtp, None], None));
        assert_eq!(Routes::default().kind(0), None);
    }
}
