//! URLs of RTSP as strings. A camera compares the URL of a request with its own byte by byte, and a digest signs these
//! bytes. A parser of URLs would change them.

use super::oddity::{Oddity, OddityCounts};

/// Longest URL that a request may have, in bytes.
pub const MAX_URL_BYTES: usize = 2048;

/// Parts of an absolute `rtsp` or `rtsps` URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtspUrlParts<'a> {
    /// As written.
    pub scheme: &'a str,
    /// Host and port as written, perhaps after a login. Never empty.
    pub authority: &'a str,
    /// Path and query as written: empty, or begins with `/`, `?` or `#`.
    pub rest: &'a str,
}

impl<'a> RtspUrlParts<'a> {
    /// Returns `None` unless the URL has one of the two schemes and a host.
    pub fn split(url: &'a str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        if !["rtsp", "rtsps"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
            return None;
        }
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at_checked(end)?;
        let parts = Self { scheme, authority, rest };
        (!parts.host().is_empty()).then_some(parts)
    }

    /// Returns whether the scheme is `rtsps`.
    pub fn is_tls(&self) -> bool {
        self.scheme.eq_ignore_ascii_case("rtsps")
    }

    /// Returns host and port without login.
    pub fn host_and_port(&self) -> &'a str {
        self.authority.rsplit_once('@').map_or(self.authority, |(_, host)| host)
    }

    /// Returns the host, an IPv6 address in its brackets.
    pub fn host(&self) -> &'a str {
        let host = self.host_and_port();
        match host.rsplit_once(':') {
            Some((name, _)) if !name.starts_with('[') || name.ends_with(']') => name,
            _ => host,
        }
    }
}

/// Returns whether a request line can have the URL: it is not empty, within the limit, and has neither blanks nor control
/// characters, which would begin another part of the request.
pub fn is_sendable(url: &str) -> bool {
    !url.is_empty()
        && url.len() <= MAX_URL_BYTES
        && !url.contains(|character: char| character == ' ' || character.is_control())
}

/// Returns whether the text begins with a scheme and `://`, whatever the scheme (RFC 3986, section 3.1).
pub fn has_scheme(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, _)| {
        scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
    })
}

/// Returns whether a redirect stays at the camera: the host is the same, and the connection keeps its TLS.
pub fn may_follow(from: &str, to: &str) -> bool {
    let (Some(from), Some(to)) = (RtspUrlParts::split(from), RtspUrlParts::split(to)) else {
        return false;
    };
    from.host().eq_ignore_ascii_case(to.host()) && (to.is_tls() || !from.is_tls())
}

/// Returns the absolute URL that a header of an answer means (`Content-Base`, `Content-Location`, `Location`). Some firmware
/// omits the scheme, or scheme and host: those of the request count. `None`: no request can use the URL.
pub fn read_url(value: &str, request_url: &str, odd: &mut OddityCounts) -> Option<String> {
    let value = value.trim_matches(|c: char| c.is_whitespace() || matches!(c, '"' | '<' | '>' | '\0'));
    let url = if is_sendable(value) { make_absolute(value, request_url, odd) } else { None };
    let url = url.filter(|url| is_sendable(url) && has_no_login(url));
    if url.is_none() {
        odd.note(Oddity::UnusableUrl);
    }
    url
}

fn has_no_login(url: &str) -> bool {
    RtspUrlParts::split(url).is_some_and(|parts| parts.host_and_port() == parts.authority)
}

fn make_absolute(value: &str, request_url: &str, odd: &mut OddityCounts) -> Option<String> {
    if let Some(parts) = RtspUrlParts::split(value) {
        if parts.host_and_port() == parts.authority {
            return Some(value.to_owned());
        }
        odd.note(Oddity::UrlWithLogin);
        return Some(format!("{}://{}{}", parts.scheme, parts.host_and_port(), parts.rest));
    }
    let request = RtspUrlParts::split(request_url)?;
    let begins_with_host = || {
        value.get(..request.host().len()).is_some_and(|host| host.eq_ignore_ascii_case(request.host()))
            && value
                .get(request.host().len()..)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', ':', '?']))
    };
    let url = if has_scheme(value) || value.starts_with("//") {
        return None;
    } else if value.starts_with('/') {
        format!("{}://{}{value}", request.scheme, request.host_and_port())
    } else if begins_with_host() {
        format!("{}://{value}", request.scheme)
    } else {
        return None;
    };
    odd.note(Oddity::RelativeUrl);
    Some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn split_keeps_every_byte() {
        let parts = RtspUrlParts::split("RTSP://a;b@[fe80::1]:554?x=/%2f;").unwrap();
        assert_eq!((parts.scheme, parts.authority, parts.rest), ("RTSP", "a;b@[fe80::1]:554", "?x=/%2f;"));
        assert_eq!(parts.host(), "[fe80::1]");
        assert_eq!(RtspUrlParts::split("rtsp://[fe80::1]/").unwrap().host(), "[fe80::1]");
        assert_eq!(RtspUrlParts::split("rtsps://cam:322").unwrap().host(), "cam");
        for wrong in ["http://a/", "rtsp:/a", "rtsp:///a", "rtsp://:554/", "rtsp://a@/", "a", ""] {
            assert_eq!(RtspUrlParts::split(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn redirect_stays_at_the_host_and_keeps_tls() {
        let request = "rtsp://10.0.0.1:554/a";
        assert!(may_follow(request, "rtsp://10.0.0.1/b"));
        assert!(may_follow(request, "rtsps://10.0.0.1:322/b"));
        assert!(!may_follow(request, "rtsp://10.0.0.11/b"));
        assert!(!may_follow(request, "rtsp://10.0.0.1@evil/b"));
        assert!(!may_follow("rtsps://cam/a", "rtsp://cam/a"));
        assert!(may_follow("rtsps://cam/a", "rtsps://CAM/b"));
    }

    #[test]
    fn header_url_is_absolute_or_completed_from_request() {
        let read =
            |value: &str| read_url(value, "rtsp://10.0.0.1:8554/live?x=1", &mut OddityCounts::default());
        assert_eq!(read(" rtsp://10.0.0.2/a?b=c/ ").as_deref(), Some("rtsp://10.0.0.2/a?b=c/"));
        assert_eq!(read("\"rtsp://10.0.0.2/a\"").as_deref(), Some("rtsp://10.0.0.2/a"));
        assert_eq!(read("/a/").as_deref(), Some("rtsp://10.0.0.1:8554/a/"));
        assert_eq!(read("10.0.0.1:8086/").as_deref(), Some("rtsp://10.0.0.1:8086/"));
        assert_eq!(read("10.0.0.1").as_deref(), Some("rtsp://10.0.0.1"));
        assert_eq!(read("rtsp://admin:pw@10.0.0.1/a").as_deref(), Some("rtsp://10.0.0.1/a"));
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
            assert_eq!(read(wrong), None, "{wrong}");
        }
        let mut odd = OddityCounts::default();
        read_url("/a", "rtsp://h/", &mut odd);
        read_url("a b", "rtsp://h/", &mut odd);
        read_url("rtsp://u:p@h/", "rtsp://h/", &mut odd);
        for oddity in [Oddity::RelativeUrl, Oddity::UnusableUrl, Oddity::UrlWithLogin] {
            assert_eq!(odd.get(oddity), 1, "{oddity:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn url_of_a_header_can_always_be_sent(value in ".{0,80}", request in "(rtsps?://[a-z@:.\\[\\]]{0,9}/?)?.{0,9}") {
            if let Some(url) = read_url(&value, &request, &mut OddityCounts::default()) {
                proptest::prop_assert!(is_sendable(&url));
                let parts = RtspUrlParts::split(&url).unwrap();
                proptest::prop_assert_eq!(parts.host_and_port(), parts.authority);
            }
        }
    }
}
