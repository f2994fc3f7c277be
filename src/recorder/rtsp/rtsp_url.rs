//! URLs of RTSP as texts. A camera compares the URL of a request with its own byte by byte, and a digest signs these bytes.
//! A parser of URLs would change them. [`text::encode`] returns them.

use super::hidden_text::HiddenText;
use super::oddity::{Oddity, OddityCounts};
use super::text;

/// Longest URL that a request may have, in bytes.
pub const MAX_URL_BYTES: usize = 2048;
/// Port of a URL that names none (RFC 2326, section 3.2).
pub const RTSP_PORT: u16 = 554;
/// Port of a URL with TLS that names none (RFC 7826, section 4.2).
pub const RTSPS_PORT: u16 = 322;

/// Scheme, host and port of a URL: the destination of a login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RtspOrigin {
    /// The scheme is `rtsps`.
    pub is_tls: bool,
    /// Never empty. In lower case, an IPv6 address in its brackets.
    pub host: String,
    /// The default port of the scheme if the URL names none. `None`: the URL names none that exists.
    pub port: Option<u16>,
}

impl RtspOrigin {
    fn read(scheme: &str, host_and_port: &str) -> Option<Self> {
        let is_tls = scheme.eq_ignore_ascii_case("rtsps");
        if !is_tls && !scheme.eq_ignore_ascii_case("rtsp") {
            return None;
        }
        let (host, port) = match host_and_port.rsplit_once(':') {
            Some((host, port)) if host.ends_with(']') || !host.contains(':') => (host, port),
            _ => (host_and_port, ""),
        };
        let default_port = if is_tls { RTSPS_PORT } else { RTSP_PORT };
        let port = if port.is_empty() { Some(default_port) } else { port.parse().ok() };
        let port = port.filter(|port| *port > 0);
        (!host.is_empty()).then(|| Self { is_tls, host: host.to_ascii_lowercase(), port })
    }
}

/// Absolute `rtsp` or `rtsps` URL that a request line can have: without a login, blanks and control characters, and at most
/// [`MAX_URL_BYTES`] long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RtspUrl {
    url: HiddenText,
    /// Position of path and query.
    rest_at: usize,
    origin: RtspOrigin,
}

impl RtspUrl {
    /// Returns `None` if no request can have the URL.
    pub fn parse(url: &str) -> Option<Self> {
        let parts = UrlParts::split(url)?;
        let origin = RtspOrigin::read(parts.scheme, parts.host_and_port)?;
        let rest_at = url.len().saturating_sub(parts.rest.len());
        let is_usable = is_sendable(url) && !parts.has_login;
        is_usable.then(|| Self { url: HiddenText::new(url), rest_at, origin })
    }

    /// Reads a URL of the camera as [`Self::parse`] does, but removes a login.
    pub fn read(url: &str, odd: &mut OddityCounts) -> Option<Self> {
        let UrlParts { scheme, has_login, host_and_port, rest } = UrlParts::split(url)?;
        if !has_login {
            return Self::parse(url);
        }
        let url = Self::parse(&format!("{scheme}://{host_and_port}{rest}"))?;
        odd.note(Oddity::UrlWithLogin);
        Some(url)
    }

    /// Returns the URL for a request line and a digest.
    pub fn as_str(&self) -> &str {
        self.url.as_str()
    }

    pub fn origin(&self) -> &RtspOrigin {
        &self.origin
    }

    /// Returns path and query as written: empty, or begins with `/`, `?` or `#`.
    pub fn path_and_query(&self) -> &str {
        self.as_str().get(self.rest_at..).unwrap_or_default()
    }

    /// Returns the same scheme, host and port with another path and query, or `None` if no request can have that URL.
    pub fn with_path(&self, path_and_query: &str) -> Option<Self> {
        let before = self.as_str().get(..self.rest_at)?;
        Self::parse(&format!("{before}{path_and_query}"))
    }
}

/// Parts of an absolute URL as written.
struct UrlParts<'a> {
    scheme: &'a str,
    has_login: bool,
    host_and_port: &'a str,
    /// Path and query.
    rest: &'a str,
}

impl<'a> UrlParts<'a> {
    /// Returns `None` if the URL does not begin with a scheme (RFC 3986, section 3.1) and `://`.
    fn split(url: &'a str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at_checked(end).filter(|_| is_scheme)?;
        let (has_login, host_and_port) = match authority.rsplit_once('@') {
            Some((_, host_and_port)) => (true, host_and_port),
            None => (false, authority),
        };
        Some(Self { scheme, has_login, host_and_port, rest })
    }
}

/// Returns whether a request line can have the URL or a part of it.
pub fn is_sendable(url: &str) -> bool {
    url.len() <= MAX_URL_BYTES && text::is_sendable_word(url)
}

/// Returns whether the text begins with any scheme and `://`.
pub fn has_scheme(text: &str) -> bool {
    UrlParts::split(text).is_some()
}

/// Returns whether a redirect stays at the camera: the host is the same, and the connection keeps its TLS.
pub fn may_follow(from: &RtspOrigin, to: &RtspOrigin) -> bool {
    from.host == to.host && (to.is_tls || !from.is_tls)
}

/// Returns the absolute URL that a header of an answer means (`Content-Base`, `Content-Location`, `Location`), without a
/// login. Some firmware omits the scheme, or scheme and host: those of the request count. `None`: no request can use the
/// URL.
pub fn read_url(value: &str, request: &RtspUrl, odd: &mut OddityCounts) -> Option<RtspUrl> {
    let value = text::trim(text::trim(value).trim_matches(['"', '<', '>']));
    let url = if has_scheme(value) { RtspUrl::read(value, odd) } else { complete(value, request, odd) };
    if url.is_none() {
        odd.note(Oddity::UnusableUrl);
    }
    url
}

/// Completes a path from the root, or a URL that begins with the host of the request.
fn complete(value: &str, request: &RtspUrl, odd: &mut OddityCounts) -> Option<RtspUrl> {
    let url = if value.starts_with('/') && !value.starts_with("//") {
        request.with_path(value)?
    } else {
        let host = request.origin.host.as_str();
        let (named, rest) = value.split_at_checked(host.len())?;
        let is_host =
            named.eq_ignore_ascii_case(host) && (rest.is_empty() || rest.starts_with(['/', ':', '?']));
        let scheme = if request.origin.is_tls { "rtsps" } else { "rtsp" };
        RtspUrl::parse(&format!("{scheme}://{value}")).filter(|_| is_host)?
    };
    odd.note(Oddity::RelativeUrl);
    Some(url)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(url: &str) -> RtspUrl {
        RtspUrl::parse(url).unwrap()
    }

    fn origin(url: &str) -> (bool, String, Option<u16>) {
        let RtspOrigin { is_tls, host, port } = parse(url).origin;
        (is_tls, host, port)
    }

    #[test]
    fn url_keeps_every_byte() {
        let text = "RTSP://[FE80::1]:554?x=/%2f;é:@";
        let url = parse(text);
        assert_eq!(url.as_str(), text);
        assert_eq!(url.path_and_query(), "?x=/%2f;é:@");
        for wrong in [
            "http://a/",
            "rtsp:/a",
            "rtsp:///a",
            "rtsp://:554/",
            "rtsp://u@/",
            "rtsp://u:p@a/",
            "rtsp://a/ b",
            "rtsp://a/\r\nX: y",
            "rtsp://a/\0",
            "a",
            "",
        ] {
            assert_eq!(RtspUrl::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn origin_has_the_port_or_its_default() {
        assert_eq!(origin("rtsp://Cam/a:1"), (false, "cam".into(), Some(554)));
        assert_eq!(origin("RTSPS://cam?a"), (true, "cam".into(), Some(322)));
        assert_eq!(origin("rtsp://cam:/"), (false, "cam".into(), Some(554)));
        assert_eq!(origin("rtsp://cam:8554"), (false, "cam".into(), Some(8554)));
        assert_eq!(origin("rtsp://[fe80::1]/"), (false, "[fe80::1]".into(), Some(554)));
        assert_eq!(origin("rtsps://[fe80::1]:1/"), (true, "[fe80::1]".into(), Some(1)));
        assert_eq!(origin("rtsp://fe80::1/"), (false, "fe80::1".into(), Some(554)));
        for wrong in ["0", "65536", "x", "-1"] {
            assert_eq!(parse(&format!("rtsp://cam:{wrong}/")).origin.port, None, "{wrong}");
        }
        assert_eq!(parse("rtsp://cam/a").origin, parse("rtsp://CAM:554/b").origin);
        assert_ne!(parse("rtsp://cam/a").origin, parse("rtsps://cam:554/a").origin);
    }

    #[test]
    fn url_is_bounded() {
        let path = |bytes: usize| format!("rtsp://cam/{}", "x".repeat(bytes - "rtsp://cam/".len()));
        assert!(RtspUrl::parse(&path(MAX_URL_BYTES)).is_some());
        assert_eq!(RtspUrl::parse(&path(MAX_URL_BYTES + 1)), None);
    }

    #[test]
    fn url_is_not_shown() {
        // Some cameras take the login in the path.
        let url = parse("rtsp://cam/user=admin&password=secret");
        let shown = format!("{url:?}");
        assert!(shown.contains("cam") && !shown.contains("secret"), "{shown}");
    }

    #[test]
    fn redirect_stays_at_the_host_and_keeps_tls() {
        let may_follow = |from, to| may_follow(parse(from).origin(), parse(to).origin());
        let request = "rtsp://10.0.0.1:554/a";
        assert!(may_follow(request, "rtsp://10.0.0.1/b"));
        assert!(may_follow(request, "rtsps://10.0.0.1:322/b"));
        assert!(!may_follow(request, "rtsp://10.0.0.11/b"));
        assert!(!may_follow("rtsps://cam/a", "rtsp://cam/a"));
        assert!(may_follow("rtsps://cam/a", "rtsps://CAM/b"));
        let evil = RtspUrl::read("rtsp://10.0.0.1@evil/b", &mut OddityCounts::default()).unwrap();
        assert_eq!(evil.origin.host, "evil");
    }

    #[test]
    fn header_url_is_absolute_or_completed_from_request() {
        let request = parse("rtsp://10.0.0.1:8554/live?x=1");
        let read = |value: &[u8]| {
            let (value, _) = text::decode(value);
            let url = read_url(&value, &request, &mut OddityCounts::default());
            url.map(|url| text::encode(url.as_str()))
        };
        for (value, url) in [
            (&b" rtsp://10.0.0.2/a?b=c/ "[..], &b"rtsp://10.0.0.2/a?b=c/"[..]),
            (b"\"rtsp://10.0.0.2/a\"\0", b"rtsp://10.0.0.2/a"),
            (b"/a/", b"rtsp://10.0.0.1:8554/a/"),
            (b"10.0.0.1:8086/", b"rtsp://10.0.0.1:8086/"),
            (b"10.0.0.1", b"rtsp://10.0.0.1"),
            (b"rtsp://admin:pw@10.0.0.1/a", b"rtsp://10.0.0.1/a"),
            (b"/caf\xe9/", b"rtsp://10.0.0.1:8554/caf\xe9/"),
            (b"rtsp://10.0.0.1/\xc3\x80/\xc3\xa0", b"rtsp://10.0.0.1/\xc3\x80/\xc3\xa0"),
        ] {
            assert_eq!(read(value).as_deref(), Some(url), "{}", value.escape_ascii());
        }
        let long = "x".repeat(MAX_URL_BYTES);
        let nearly = "x".repeat(MAX_URL_BYTES - 1);
        for wrong in [
            "",
            "rtsp://10.0.0.1/a b",
            "rtsp://10.0.0.1/\r\nX: y",
            "http://10.0.0.1/",
            "//10.0.0.2/a",
            "10.0.0.11/a",
            "10.0.0.1:x@10.0.0.2/a",
            "*",
            "rtsp://u:p@/",
            &format!("/{long}"),
            &format!("/{nearly}"),
        ] {
            assert_eq!(read(wrong.as_bytes()), None, "{wrong}");
        }
        let mut odd = OddityCounts::default();
        read_url("/a", &request, &mut odd);
        read_url("a b", &request, &mut odd);
        read_url("rtsp://u:p@h/", &request, &mut odd);
        for oddity in [Oddity::RelativeUrl, Oddity::UnusableUrl, Oddity::UrlWithLogin] {
            assert_eq!(odd.get(oddity), 1, "{oddity:?}");
        }
    }

    proptest! {
        #[test]
        fn url_of_a_header_can_always_be_sent(
            value in prop_oneof![
                ".{0,80}",
                "rtsps?://[a-z@:.\\[\\]]{0,9}/?.{0,9}",
                proptest::collection::vec(any::<u8>(), 0..20).prop_map(|bytes| text::decode(&bytes).0),
            ],
            request in "rtsps?://[a-z@:.\\[\\]]{1,9}/?[a-z]{0,9}",
        ) {
            let Some(request) = RtspUrl::parse(&request) else { return Ok(()) };
            if let Some(url) = read_url(&value, &request, &mut OddityCounts::default()) {
                prop_assert!(is_sendable(url.as_str()));
                prop_assert_eq!(RtspUrl::parse(url.as_str()), Some(url));
            }
        }
    }
}
