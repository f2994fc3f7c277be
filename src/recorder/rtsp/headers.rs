//! Values of the headers that answers have: `Session`, `Transport`, `Public`, `Location`. Each reader takes a value without
//! its name, of any content, and returns only the usable parts.

use std::time::Duration;

use super::hidden_text::HiddenText;
use super::message::Method;
use super::oddity::{Oddity, OddityCounts};
use super::parameters::{find_parameter, split_parameters};
use super::rtsp_url::{self, RtspUrl};
use super::text;

/// Timeout of a session that names none (RFC 2326, section 12.37).
pub const DEFAULT_SESSION_TIMEOUT: Duration = Duration::from_mins(1);
/// Longest id of a session, and longest text of a parameter, in bytes.
const MAX_TEXT_BYTES: usize = 256;

/// The `Session` header (RFC 2326, section 12.37).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionHeader {
    /// Not empty, at most 256 bytes, without blanks, `;` and control characters. Each request repeats it as it is. It is
    /// hidden: anyone who has it can end the session.
    pub id: HiddenText,
    /// At least one second. 60 seconds if the camera names none, or none that is usable.
    pub timeout: Duration,
}

impl SessionHeader {
    /// Returns `None` if no request can repeat the id.
    pub fn read(value: &str, odd: &mut OddityCounts) -> Option<Self> {
        let (id, parameters) = split_parameters(value);
        let Some(id) = sendable_word(id) else {
            odd.note(Oddity::SessionId);
            return None;
        };
        let timeout =
            find_parameter(parameters, "timeout").map(|seconds| leading_number(seconds).unwrap_or(0));
        let timeout = match timeout {
            None => DEFAULT_SESSION_TIMEOUT,
            Some(0) => {
                odd.note(Oddity::SessionTimeout);
                DEFAULT_SESSION_TIMEOUT
            }
            Some(seconds) => Duration::from_secs(u64::from(seconds)),
        };
        Some(Self { id: HiddenText::new(id), timeout })
    }
}

/// How a `Transport` header carries RTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LowerTransport {
    /// Interleaved in the connection of RTSP.
    Tcp,
    Udp,
}

/// Channels or ports of RTP and RTCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtpPair<T> {
    pub rtp: T,
    /// Differs from `rtp`. If the camera names one number only, the next one. `None`: there is no next one, or the camera
    /// names the same number twice.
    pub rtcp: Option<T>,
}

/// The `Transport` header of an answer to SETUP (RFC 2326, section 12.39). Every part may be missing: the one of the
/// request counts instead.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TransportHeader {
    pub lower: Option<LowerTransport>,
    /// Channels of the connection.
    pub interleaved: Option<RtpPair<u8>>,
    /// Ports of the camera, never 0.
    pub server_ports: Option<RtpPair<u16>>,
    /// Advisory: cameras send RTP with another one.
    pub ssrc: Option<u32>,
    /// Host that sends the packets, at most 256 bytes.
    pub source: Option<String>,
}

impl TransportHeader {
    /// Reads the first transport of the value.
    pub fn read(value: &str, odd: &mut OddityCounts) -> Self {
        let (protocol, parameters) = split_parameters(first_of_list(value));
        let lower = read_lower_transport(protocol);
        if lower.is_none() {
            odd.note(Oddity::TransportProtocol);
        }
        let channel = |number| u8::try_from(number).ok();
        let port = |number| u16::try_from(number).ok().filter(|port| *port > 0);
        let mut parameters = Parameters { text: parameters, odd };
        Self {
            lower,
            interleaved: parameters
                .read("interleaved", Oddity::TransportChannels, |text| read_pair(text, channel)),
            server_ports: parameters
                .read("server_port", Oddity::TransportPorts, |text| read_pair(text, port)),
            ssrc: parameters.read("ssrc", Oddity::TransportSsrc, read_ssrc),
            source: parameters.read("source", Oddity::TransportSource, sendable_word),
        }
    }
}

/// The parameters of a header.
struct Parameters<'a> {
    text: &'a str,
    odd: &'a mut OddityCounts,
}

impl<'a> Parameters<'a> {
    /// Returns the value of the parameter. Notes the oddity if the parameter is there and unreadable.
    fn read<T>(&mut self, name: &str, oddity: Oddity, read: impl Fn(&'a str) -> Option<T>) -> Option<T> {
        let value = read(find_parameter(self.text, name)?);
        if value.is_none() {
            self.odd.note(oddity);
        }
        value
    }
}

/// Returns whether a `Public` or `Allow` header lists the method (RFC 2326, sections 12.4 and 12.28).
pub fn lists_method(value: &str, method: Method) -> bool {
    text::lists_word(value, method.name())
}

/// Returns the absolute URL that a `Location` header names (RFC 2326, section 12.25), without a login. It may lead
/// elsewhere: see [`rtsp_url::may_follow`].
pub fn read_location(value: &str, request: &RtspUrl, odd: &mut OddityCounts) -> Option<RtspUrl> {
    rtsp_url::read_url(value, request, odd)
}

/// Returns the part before the first comma that stands outside quotation marks.
fn first_of_list(value: &str) -> &str {
    let mut is_quoted = false;
    let end = value.find(|character| {
        is_quoted ^= character == '"';
        character == ',' && !is_quoted
    });
    end.and_then(|end| value.get(..end)).unwrap_or(value)
}

fn sendable_word(word: &str) -> Option<String> {
    let word = text::trim(word);
    (word.len() <= MAX_TEXT_BYTES && text::is_sendable_word(word)).then(|| word.to_owned())
}

/// Returns the number at the beginning of the text. Firmware writes units or further words after it.
fn leading_number(text: &str) -> Option<u32> {
    let end = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    text.get(..end)?.parse().ok()
}

fn read_lower_transport(protocol: &str) -> Option<LowerTransport> {
    let protocol = text::trim(protocol).to_ascii_uppercase();
    match protocol.rsplit('/').next()? {
        "TCP" => Some(LowerTransport::Tcp),
        // UDP is the default of RTP.
        "UDP" | "AVP" | "AVPF" | "SAVP" | "SAVPF" => Some(LowerTransport::Udp),
        _ => None,
    }
}

/// Reads `n` or `n-m`.
fn read_pair<T: Copy + PartialEq>(pair: &str, convert: impl Fn(u32) -> Option<T>) -> Option<RtpPair<T>> {
    let (first, second) = pair.split_once('-').unwrap_or((pair, ""));
    let number = leading_number(text::trim(first))?;
    let rtp = convert(number)?;
    let second = leading_number(text::trim(second)).or_else(|| number.checked_add(1));
    Some(RtpPair { rtp, rtcp: second.and_then(convert).filter(|rtcp| *rtcp != rtp) })
}

/// RFC 2326 wants eight digits. Some firmware omits leading zeros. Values of 16 bits are never those of the packets.
fn read_ssrc(text: &str) -> Option<u32> {
    let is_read = (6..=8).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    u32::from_str_radix(text, 16).ok().filter(|_| is_read)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn session(value: &str) -> Option<(String, u64)> {
        let header = SessionHeader::read(value, &mut OddityCounts::default())?;
        Some((header.id.as_str().to_owned(), header.timeout.as_secs()))
    }

    fn transport(value: &str) -> TransportHeader {
        TransportHeader::read(value, &mut OddityCounts::default())
    }

    fn oddities(value: &str) -> Vec<Oddity> {
        let mut odd = OddityCounts::default();
        TransportHeader::read(value, &mut odd);
        odd.iter().map(|(oddity, _)| oddity).collect()
    }

    fn pair<T>(of_packets: T, of_control: T) -> RtpPair<T> {
        RtpPair { rtp: of_packets, rtcp: Some(of_control) }
    }

    #[test]
    fn session_timeout_is_read_or_the_default() {
        for (value, seconds) in [
            ("12345678", 60),
            ("12345678;timeout=20", 20),
            (" 12345678 ; Timeout = 20 ", 20),
            ("12345678;timeout=\"20\"", 20),
            ("12345678;timeout=20\0", 20),
            ("12345678\0", 60),
            ("12345678;timeout=20;x", 20),
            ("12345678;x;timeout=20s", 20),
            ("12345678;timeout=0", 60),
            ("12345678;timeout=-5", 60),
            ("12345678;timeout=", 60),
            ("12345678;timeout=99999999999999999999", 60),
            ("12345678;", 60),
            ("12345678;x", 60),
        ] {
            assert_eq!(session(value), Some(("12345678".into(), seconds)), "{value}");
        }
        let mut odd = OddityCounts::default();
        SessionHeader::read("1;timeout=0", &mut odd);
        assert_eq!(odd.get(Oddity::SessionTimeout), 1);
    }

    #[test]
    fn session_id_can_be_repeated() {
        assert_eq!(session("a+b/c=d$-_.").unwrap().0, "a+b/c=d$-_.");
        for wrong in ["", " ", ";timeout=60", "a b", "a\rX: y", "a\u{7f}", &"x".repeat(MAX_TEXT_BYTES + 1)] {
            assert_eq!(session(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn session_id_is_not_shown() {
        let header = SessionHeader::read("12345678", &mut OddityCounts::default());
        assert!(!format!("{header:?}").contains("12345678"));
    }

    #[test]
    fn transport_of_tcp_has_channels() {
        let header = transport("RTP/AVP/TCP;unicast;interleaved=0-1;ssrc=0A1B2C3D;mode=\"PLAY\"");
        let expected = TransportHeader {
            lower: Some(LowerTransport::Tcp),
            interleaved: Some(pair(0, 1)),
            ssrc: Some(0x0A1B_2C3D),
            ..TransportHeader::default()
        };
        assert_eq!(header, expected);
        for (value, channels) in [
            ("RTP/AVP/TCP;interleaved=20-21", Some(pair(20, 21))),
            ("rtp/avp/tcp ; Interleaved = 4 - 7 ", Some(pair(4, 7))),
            ("RTP/AVP/TCP;interleaved=2", Some(pair(2, 3))),
            ("RTP/AVP/TCP;interleaved=2-", Some(pair(2, 3))),
            ("RTP/AVP/TCP;interleaved=255", Some(RtpPair { rtp: 255, rtcp: None })),
            ("RTP/AVP/TCP;interleaved=3-3", Some(RtpPair { rtp: 3, rtcp: None })),
            ("RTP/AVP/TCP;interleaved=256-257", None),
            ("RTP/AVP/TCP;interleaved=-1", None),
            ("RTP/AVP/TCP;interleaved=", None),
            ("RTP/AVP/TCP;unicast", None),
            ("", None),
        ] {
            assert_eq!(transport(value).interleaved, channels, "{value}");
        }
        assert_eq!(oddities("RTP/AVP/TCP;interleaved=x"), [Oddity::TransportChannels]);
        assert_eq!(oddities("RTP/AVP/TCP;unicast"), []);
        assert_eq!(oddities(""), [Oddity::TransportProtocol]);
    }

    #[test]
    fn transport_of_udp_has_ports_and_source() {
        let header = transport("RTP/AVP;unicast;client_port=4000-4001;server_port=6970-6971;source=10.0.0.1");
        let expected = TransportHeader {
            lower: Some(LowerTransport::Udp),
            server_ports: Some(pair(6970, 6971)),
            source: Some("10.0.0.1".into()),
            ..TransportHeader::default()
        };
        assert_eq!(header, expected);
        let ports = |value: &str| transport(value).server_ports;
        assert_eq!(ports("RTP/AVP/UDP;server_port=0-0"), None);
        assert_eq!(ports("RTP/AVP/UDP;server_port=6970"), Some(pair(6970, 6971)));
        assert_eq!(ports("RTP/AVP/UDP;server_port=65535"), Some(RtpPair { rtp: 65535, rtcp: None }));
        assert_eq!(ports("RTP/AVP/UDP;server_port=65536-65537"), None);
        assert_eq!(transport("RTP/AVP;source=").source, None);
        assert_eq!(
            oddities("RTP/AVP;source=;server_port=0"),
            [Oddity::TransportPorts, Oddity::TransportSource]
        );
    }

    #[test]
    fn transport_takes_the_first_of_several() {
        let header = transport("RTP/AVP/TCP;mode=\"PLAY,RECORD\";interleaved=2-3,RTP/AVP;server_port=1-2");
        assert_eq!(header.lower, Some(LowerTransport::Tcp));
        assert_eq!(header.interleaved, Some(pair(2, 3)));
        assert_eq!(header.server_ports, None);
        assert_eq!(transport("raw;unicast").lower, None);
    }

    #[test]
    fn ssrc_of_another_length_is_ignored() {
        let ssrc = |text: &str| transport(&format!("RTP/AVP/TCP;ssrc={text}")).ssrc;
        assert_eq!(ssrc("D6D66270"), Some(0xD6D6_6270));
        assert_eq!(ssrc(" d6d6627"), Some(0x0D6D_6627));
        assert_eq!(ssrc("d6d662"), Some(0x00D6_D662));
        for wrong in ["A0C6", "0x6f7c", "0x6f7c12", "1234567890", "+1234567", ""] {
            assert_eq!(ssrc(wrong), None, "{wrong}");
        }
        assert_eq!(oddities("RTP/AVP/TCP;ssrc=A0C6"), [Oddity::TransportSsrc]);
    }

    #[test]
    fn public_lists_methods_in_any_form() {
        let value = "OPTIONS, DESCRIBE,setup ;GET_PARAMETER\0";
        for method in [Method::Options, Method::Describe, Method::Setup, Method::GetParameter] {
            assert!(lists_method(value, method), "{method:?}");
        }
        assert!(!lists_method(value, Method::SetParameter));
        assert!(!lists_method("", Method::Options));
    }

    #[test]
    fn location_is_absolute() {
        let request = RtspUrl::parse("rtsp://cam/a").unwrap();
        let read = |value| read_location(value, &request, &mut OddityCounts::default());
        assert_eq!(read("rtsp://cam:8554/b"), RtspUrl::parse("rtsp://cam:8554/b"));
        assert_eq!(read("/b"), RtspUrl::parse("rtsp://cam/b"));
        assert_eq!(read("http://cam/b"), None);
    }

    proptest! {
        #[test]
        fn any_value_is_read_within_bounds(value in "(RTP/AVP(/TCP)?|[0-9a-f]{8})?([;,=\" -]|.|timeout=|ssrc=|source=|interleaved=|server_port=|[0-9]{1,6}){0,40}") {
            let mut odd = OddityCounts::default();
            if let Some(session) = SessionHeader::read(&value, &mut odd) {
                let id = session.id.as_str();
                prop_assert!(id.len() <= MAX_TEXT_BYTES && text::is_sendable_word(id) && !id.contains(';'));
                prop_assert!(session.timeout >= Duration::from_secs(1));
            }
            let transport = TransportHeader::read(&value, &mut odd);
            prop_assert!(transport.interleaved.is_none_or(|pair| pair.rtcp != Some(pair.rtp)));
            prop_assert!(transport.server_ports.is_none_or(|pair| pair.rtp > 0 && pair.rtcp != Some(0)));
            prop_assert!(transport.source.is_none_or(|source| source.len() <= MAX_TEXT_BYTES));
            lists_method(&value, Method::Options);
        }
    }
}
