//! The response of the digest scheme (RFC 2069 section 2.1.2, RFC 2617 section 3.2.2, RFC 7616 section 3.4). Of the
//! qualities of protection, only `auth` is supported: no request of the recorder has a body to protect.

use md5::{Digest, Md5};
use sha2::Sha256;

/// Algorithm of a digest challenge (RFC 7616 section 6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    Md5,
    Md5Session,
    Sha256,
    Sha256Session,
}

impl Algorithm {
    /// Returns the algorithm of this name. Cameras differ in the case of its letters.
    pub fn from_name(name: &[u8]) -> Option<Self> {
        let names: [(&[u8], Self); 4] = [
            (b"MD5", Self::Md5),
            (b"MD5-sess", Self::Md5Session),
            (b"SHA-256", Self::Sha256),
            (b"SHA-256-sess", Self::Sha256Session),
        ];
        names.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, algorithm)| algorithm)
    }

    /// Returns whether the key includes the nonces of the challenge's first answer.
    pub const fn is_session(self) -> bool {
        matches!(self, Self::Md5Session | Self::Sha256Session)
    }

    /// Returns the hash of the parts with colons between them, in lower-case hexadecimal digits.
    fn hash(self, parts: &[&[u8]]) -> String {
        let joined = parts.join(&b':');
        match self {
            Self::Md5 | Self::Md5Session => hex::encode(Md5::digest(joined)),
            Self::Sha256 | Self::Sha256Session => hex::encode(Sha256::digest(joined)),
        }
    }
}

/// Input of a response. It has no `Debug`, because it holds the password.
pub struct DigestInput<'a> {
    pub algorithm: Algorithm,
    pub username: &'a str,
    pub password: &'a str,
    /// Realm and nonce without quotes and escapes. They need not be UTF-8.
    pub realm: &'a [u8],
    pub nonce: &'a [u8],
    pub method: &'a str,
    /// URI of the request line, byte for byte.
    pub uri: &'a [u8],
    pub cnonce: &'a str,
    /// Eight hexadecimal digits that count the requests with this nonce, if the camera offers `qop=auth`. `None` is the
    /// response of RFC 2069.
    pub nonce_count: Option<&'a str>,
}

/// Returns the response, in lower-case hexadecimal digits.
pub fn response(input: &DigestInput<'_>) -> String {
    let DigestInput { algorithm, realm, nonce, .. } = *input;
    let cnonce = input.cnonce.as_bytes();
    let mut key = algorithm.hash(&[input.username.as_bytes(), realm, input.password.as_bytes()]);
    if algorithm.is_session() {
        key = algorithm.hash(&[key.as_bytes(), nonce, cnonce]);
    }
    let request = algorithm.hash(&[input.method.as_bytes(), input.uri]);
    match input.nonce_count {
        Some(count) => {
            algorithm.hash(&[key.as_bytes(), nonce, count.as_bytes(), cnonce, b"auth", request.as_bytes()])
        }
        None => algorithm.hash(&[key.as_bytes(), nonce, request.as_bytes()]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7616 section 3.9.1.
    fn rfc7616(algorithm: Algorithm) -> String {
        response(&DigestInput {
            algorithm,
            username: "Mufasa",
            password: "Circle of Life",
            realm: b"http-auth@example.org",
            nonce: b"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
            method: "GET",
            uri: b"/dir/index.html",
            cnonce: "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
            nonce_count: Some("00000001"),
        })
    }

    #[test]
    fn responses_equal_those_of_rfc_7616() {
        assert_eq!(rfc7616(Algorithm::Md5), "8ca523f5e9506fed4657c9700eebdbec");
        assert_eq!(
            rfc7616(Algorithm::Sha256),
            "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"
        );
    }

    #[test]
    fn response_equals_that_of_rfc_2617() {
        let response = response(&DigestInput {
            algorithm: Algorithm::Md5,
            username: "Mufasa",
            password: "Circle Of Life",
            realm: b"testrealm@host.com",
            nonce: b"dcd98b7102dd2f0e8b11d0f600bfb0c093",
            method: "GET",
            uri: b"/dir/index.html",
            cnonce: "0a4f113b",
            nonce_count: Some("00000001"),
        });
        assert_eq!(response, "6629fae49393a05397450978507c4ef1");
    }

    /// RFC 2069 section 2.4, with the response of its erratum 749.
    #[test]
    fn response_without_qop_equals_that_of_rfc_2069() {
        let response = response(&DigestInput {
            algorithm: Algorithm::Md5,
            username: "Mufasa",
            password: "CircleOfLife",
            realm: b"testrealm@host.com",
            nonce: b"dcd98b7102dd2f0e8b11d0f600bfb0c093",
            method: "GET",
            uri: b"/dir/index.html",
            cnonce: "",
            nonce_count: None,
        });
        assert_eq!(response, "1949323746fe6a43ef61f9606e7febea");
    }

    #[test]
    fn algorithms_are_known_in_any_case() {
        assert_eq!(Algorithm::from_name(b"md5"), Some(Algorithm::Md5));
        assert_eq!(Algorithm::from_name(b"Sha-256-SESS"), Some(Algorithm::Sha256Session));
        assert_eq!(Algorithm::from_name(b"SHA-512-256"), None);
        assert_eq!(Algorithm::from_name(b""), None);
    }
}
