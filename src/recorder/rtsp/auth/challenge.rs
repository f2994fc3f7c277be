//! Challenges of `WWW-Authenticate` headers (RFC 7235 section 4.1, RFC 7616 section 3.3). The reader accepts the headers of
//! real cameras: several headers or one list, any case, values with or without quotes, missing commas, bytes outside ASCII.

use std::fmt;

use super::digest::Algorithm;
use crate::recorder::rtsp::oddity::{Oddity, OddityCounts};
use crate::recorder::rtsp::text;

/// Limit of the `WWW-Authenticate` headers of one answer.
const MAX_HEADERS: usize = 16;
/// Limit of the value of a header, in bytes. It bounds realm, nonce and opaque value too, which each answer repeats.
const MAX_HEADER_BYTES: usize = 4 << 10;
/// Limit of the challenges of one answer, supported or not.
const MAX_CHALLENGES: usize = 16;
/// Limit of the parameters of one challenge.
const MAX_PARAMETERS: usize = 32;

/// A challenge that the recorder can answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// RFC 2069, RFC 2617 and RFC 7616.
    Digest(DigestChallenge),
    /// RFC 7617. The answer contains the password in clear, for any realm.
    Basic,
}

/// A digest challenge. Its strings have neither quotes nor escapes, and need not be UTF-8.
#[derive(Clone, PartialEq, Eq)]
pub struct DigestChallenge {
    pub realm: Vec<u8>,
    pub nonce: Vec<u8>,
    pub opaque: Option<Vec<u8>>,
    pub algorithm: Algorithm,
    /// The algorithm as the camera writes it, if it names one.
    pub algorithm_name: Option<String>,
    /// Whether the camera offers `qop=auth`. Otherwise the answer is that of RFC 2069.
    pub has_qop: bool,
    /// Whether the camera says that only the nonce was too old.
    pub is_stale: bool,
}

impl fmt::Debug for DigestChallenge {
    /// Omits the camera's own text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { algorithm, has_qop, is_stale, .. } = self;
        let mut debug = f.debug_struct("DigestChallenge");
        debug.field("algorithm", algorithm).field("has_qop", has_qop).field("is_stale", is_stale);
        debug.finish_non_exhaustive()
    }
}

/// Returns the challenges that the recorder can answer, in the camera's order, from the values of all `WWW-Authenticate`
/// headers of one answer. Each header is read alone, so that a malformed one spoils no other.
pub fn read_challenges(
    values: impl IntoIterator<Item = impl AsRef<[u8]>>,
    odd: &mut OddityCounts,
) -> Vec<Challenge> {
    let mut read = Vec::new();
    let mut allowed = MAX_CHALLENGES;
    for (index, value) in values.into_iter().enumerate() {
        if index >= MAX_HEADERS {
            odd.note(Oddity::ChallengeOverLimit);
            break;
        }
        let value = text::trim_bytes(value.as_ref());
        if value.len() > MAX_HEADER_BYTES {
            odd.note(Oddity::ChallengeOverLimit);
            continue;
        }
        // The answer repeats the value, so a line end in it would begin a header.
        if !text::is_sendable(value) {
            odd.note(Oddity::ChallengeMalformed);
            continue;
        }
        if !value.is_ascii() {
            odd.note(Oddity::ChallengeNotAscii);
        }
        read_header(value, &mut allowed, &mut read, odd);
    }
    read
}

fn read_header(value: &[u8], allowed: &mut usize, read: &mut Vec<Challenge>, odd: &mut OddityCounts) {
    let mut cursor = ChallengeText { rest: value };
    let mut current: Option<ChallengeDraft> = None;
    loop {
        cursor.take_while(is_separator);
        let word = cursor.take_while(is_word);
        if word.is_empty() {
            if cursor.rest.is_empty() {
                break;
            }
            // An equals sign or a quote without a name.
            odd.note(Oddity::ChallengeMalformed);
            cursor.skip_byte();
        } else if let Some((value, is_quoted)) = cursor.value(odd) {
            match &mut current {
                Some(draft) => draft.set(word, value, is_quoted, odd),
                None => odd.note(Oddity::ChallengeMalformed),
            }
        } else if let Some(draft) = current.as_mut().filter(|_| is_qop(word)) {
            // `qop=auth,auth-int`, a list without quotes.
            draft.add_qop(word, odd);
        } else {
            read.extend(current.take().and_then(|draft| draft.finish(odd)));
            if *allowed == 0 {
                odd.note(Oddity::ChallengeOverLimit);
                break;
            }
            *allowed = allowed.saturating_sub(1);
            current = Some(ChallengeDraft::new(word));
        }
    }
    read.extend(current.and_then(|draft| draft.finish(odd)));
}

const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

const fn is_separator(byte: u8) -> bool {
    is_space(byte) || matches!(byte, b',' | b';')
}

const fn is_word(byte: u8) -> bool {
    !is_separator(byte) && !matches!(byte, b'=' | b'"')
}

const fn is_qop(word: &[u8]) -> bool {
    word.eq_ignore_ascii_case(b"auth") || word.eq_ignore_ascii_case(b"auth-int")
}

/// The unread part of a header.
struct ChallengeText<'a> {
    rest: &'a [u8],
}

impl<'a> ChallengeText<'a> {
    fn take_while(&mut self, accepts: impl Fn(u8) -> bool) -> &'a [u8] {
        let length = self.rest.iter().position(|byte| !accepts(*byte)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at_checked(length).unwrap_or((self.rest, &[]));
        self.rest = rest;
        taken
    }

    fn skip_byte(&mut self) {
        self.rest = self.rest.split_first().map_or(&[], |(_, rest)| rest);
    }

    /// Returns the value of the parameter whose name was read, and whether it has quotes. Returns `None` if no equals sign
    /// follows: the word is a scheme.
    fn value(&mut self, odd: &mut OddityCounts) -> Option<(Vec<u8>, bool)> {
        let mut ahead = ChallengeText { rest: self.rest };
        ahead.take_while(is_space);
        self.rest = ahead.rest.strip_prefix(b"=")?;
        self.take_while(is_space);
        if let Some(rest) = self.rest.strip_prefix(b"\"") {
            self.rest = rest;
            return Some((self.quoted(odd), true));
        }
        Some((self.unquoted(), false))
    }

    /// Returns the text up to the closing quote, without escapes (RFC 7230 section 3.2.6).
    fn quoted(&mut self, odd: &mut OddityCounts) -> Vec<u8> {
        let mut value = Vec::new();
        while let Some((byte, rest)) = self.rest.split_first() {
            self.rest = rest;
            match (byte, rest.split_first()) {
                (b'"', _) => return value,
                (b'\\', Some((escaped, rest))) => {
                    value.push(*escaped);
                    self.rest = rest;
                }
                _ => value.push(*byte),
            }
        }
        odd.note(Oddity::ChallengeMalformed);
        value
    }

    /// Returns the text up to a comma, or up to a blank or semicolon that the next parameter follows: some realms have
    /// blanks, and some lists no commas.
    fn unquoted(&mut self) -> Vec<u8> {
        let mut value = Vec::new();
        loop {
            value.extend_from_slice(self.take_while(|byte| !is_separator(byte)));
            let mut ahead = ChallengeText { rest: self.rest };
            let separators = ahead.take_while(|byte| byte != b',' && is_separator(byte));
            let next = ahead.rest;
            let word = ahead.take_while(is_word);
            ahead.take_while(is_space);
            if separators.is_empty() || word.is_empty() || ahead.rest.starts_with(b"=") {
                return value;
            }
            value.extend_from_slice(separators);
            self.rest = next;
        }
    }
}

/// A challenge whose parameters are being read.
#[derive(Default)]
struct ChallengeDraft {
    scheme: Vec<u8>,
    parameters: usize,
    realm: Option<Vec<u8>>,
    nonce: Option<Vec<u8>>,
    opaque: Option<Vec<u8>>,
    algorithm: Option<Vec<u8>>,
    offers_auth: bool,
    offers_auth_int: bool,
    is_stale: bool,
}

impl ChallengeDraft {
    fn new(scheme: &[u8]) -> Self {
        Self { scheme: scheme.to_vec(), ..Self::default() }
    }

    fn set(&mut self, name: &[u8], value: Vec<u8>, is_quoted: bool, odd: &mut OddityCounts) {
        if self.parameters >= MAX_PARAMETERS {
            odd.note(Oddity::ChallengeOverLimit);
            return;
        }
        self.parameters = self.parameters.saturating_add(1);
        let name = name.to_ascii_lowercase();
        let field = match name.as_slice() {
            b"realm" => &mut self.realm,
            b"nonce" => &mut self.nonce,
            b"opaque" => &mut self.opaque,
            b"algorithm" => &mut self.algorithm,
            b"stale" => {
                self.is_stale = value.trim_ascii().eq_ignore_ascii_case(b"true");
                return;
            }
            b"qop" => {
                for offered in value.split(|byte| is_separator(*byte)) {
                    self.add_qop(offered, odd);
                }
                return;
            }
            // Others, such as `domain`, `charset` and `userhash`, change nothing in the answer.
            _ => return,
        };
        if !is_quoted && name != b"algorithm" {
            odd.note(Oddity::ChallengeUnquoted);
        }
        if field.replace(value).is_some() {
            odd.note(Oddity::ChallengeRepeatsParameter);
        }
    }

    fn add_qop(&mut self, offered: &[u8], odd: &mut OddityCounts) {
        if offered.eq_ignore_ascii_case(b"auth") {
            self.offers_auth = true;
        } else if offered.eq_ignore_ascii_case(b"auth-int") {
            self.offers_auth_int = true;
        } else if !offered.is_empty() {
            // Clients ignore unknown values (RFC 7616 section 3.3).
            odd.note(Oddity::ChallengeUnsupported);
        }
    }

    fn finish(self, odd: &mut OddityCounts) -> Option<Challenge> {
        if self.scheme.eq_ignore_ascii_case(b"basic") {
            return Some(Challenge::Basic);
        }
        if !self.scheme.eq_ignore_ascii_case(b"digest") {
            odd.note(Oddity::ChallengeUnsupported);
            return None;
        }
        let name = self.algorithm.map(|name| name.trim_ascii().to_vec()).filter(|name| !name.is_empty());
        let algorithm = name.as_ref().map_or(Some(Algorithm::Md5), |name| Algorithm::from_name(name));
        let needs_auth_int = self.offers_auth_int && !self.offers_auth;
        let Some(algorithm) = algorithm.filter(|_| !needs_auth_int) else {
            odd.note(Oddity::ChallengeUnsupported);
            return None;
        };
        let Some(nonce) = self.nonce else {
            odd.note(Oddity::ChallengeMalformed);
            return None;
        };
        if self.realm.is_none() {
            odd.note(Oddity::ChallengeWithoutRealm);
        }
        Some(Challenge::Digest(DigestChallenge {
            realm: self.realm.unwrap_or_default(),
            nonce,
            opaque: self.opaque,
            algorithm,
            algorithm_name: name.and_then(|name| String::from_utf8(name).ok()),
            has_qop: self.offers_auth,
            is_stale: self.is_stale,
        }))
    }
}

#[cfg(test)]
mod tests;
