//! Object keys of recordings: `{class}/{source}/{yyyy}/{mm}/{dd}/{hhmmss.mmm}Z-{duration_ms}-{sha256 prefix}.mp4`, with the
//! recording's time in UTC. Keys sort by time. A day is a prefix, so a time range needs no index. The key contains a hash of the
//! bytes, so a store that answers "already exists" has the same bytes.

use std::fmt;
use std::str::FromStr;

use jiff::civil;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

pub use super::Class;
use super::Recording;

/// Maximum duration of a segment: one day. A search for recordings that overlap a window starts this much earlier.
pub const MAX_DURATION_MS: u64 = 24 * 60 * 60 * 1000;
/// Maximum length of a Kubernetes object name.
const MAX_SOURCE_LENGTH: usize = 253;
/// Hexadecimal digits of the SHA-256 in the key.
const DIGEST_DIGITS: usize = 16;
const EXTENSION: &str = ".mp4";

/// Object key of a recording. It has one textual form: `key.to_string().parse() == Ok(key)`, and a parsed text is written back
/// unchanged.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    class: Class,
    source: String,
    /// Whole milliseconds.
    start: Timestamp,
    duration_ms: u64,
    digest: [u8; DIGEST_DIGITS / 2],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr, thiserror::Error)]
#[strum(serialize_all = "snake_case")]
pub enum KeyError {
    #[error("the source is not a lowercase DNS name of at most 253 characters")]
    Source,
    #[error("the start is not in the years 1970 to 9999")]
    Start,
    #[error("the recording is longer than a day")]
    Duration,
    #[error("not the key of a recording")]
    Form,
}

impl Key {
    /// Returns the key of a recording. Truncates `start` to milliseconds.
    pub fn new(
        class: Class,
        source: impl Into<String>,
        start: Timestamp,
        duration_ms: u64,
        sha256: &[u8; 32],
    ) -> Result<Self, KeyError> {
        let mut digest = [0; DIGEST_DIGITS / 2];
        digest.iter_mut().zip(sha256).for_each(|(to, from)| *to = *from);
        Self::from_parts(class, source.into(), start, duration_ms, digest)
    }

    fn from_parts(
        class: Class,
        source: String,
        start: Timestamp,
        duration_ms: u64,
        digest: [u8; DIGEST_DIGITS / 2],
    ) -> Result<Self, KeyError> {
        if !is_source_name(&source) {
            return Err(KeyError::Source);
        }
        // Before the epoch, truncation would round up, and a year can have a sign. No camera recorded then.
        if start < Timestamp::UNIX_EPOCH {
            return Err(KeyError::Start);
        }
        if duration_ms > MAX_DURATION_MS {
            return Err(KeyError::Duration);
        }
        let start = Timestamp::from_millisecond(start.as_millisecond()).map_err(|_| KeyError::Start)?;
        Ok(Self { class, source, start, duration_ms, digest })
    }

    pub const fn class(&self) -> Class {
        self.class
    }

    pub fn source(&self) -> &str {
        &self.source
    }

    pub const fn start(&self) -> Timestamp {
        self.start
    }

    pub const fn duration_ms(&self) -> u64 {
        self.duration_ms
    }

    pub fn duration(&self) -> SignedDuration {
        SignedDuration::from_millis(i64::try_from(self.duration_ms).unwrap_or(i64::MAX))
    }

    /// Returns the end, exclusive.
    pub fn end(&self) -> Timestamp {
        self.start.checked_add(self.duration()).unwrap_or(Timestamp::MAX)
    }

    pub fn recording(&self) -> Recording<'_> {
        Recording { class: self.class, source: &self.source, start: self.start, end: self.end() }
    }

    /// Returns whether `sha256` begins with the digits in the key.
    pub fn matches_sha256(&self, sha256: &[u8; 32]) -> bool {
        sha256.starts_with(&self.digest)
    }

    /// Returns the part of a key after the day prefix, down to the second, for recordings that start at `at`.
    pub(crate) fn time_prefix(at: Timestamp) -> String {
        let at = TimeZone::UTC.to_datetime(at);
        format!("{:02}{:02}{:02}", at.hour(), at.minute(), at.second())
    }

    /// Returns the prefix of all recordings of `source` that start on the UTC day `day`.
    pub fn day_prefix(class: Class, source: &str, day: civil::Date) -> String {
        format!("{class}/{source}/{:04}/{:02}/{:02}/", day.year(), day.month(), day.day())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = TimeZone::UTC.to_datetime(self.start);
        f.write_str(&Self::day_prefix(self.class, &self.source, at.date()))?;
        write!(f, "{:02}{:02}{:02}.{:03}Z", at.hour(), at.minute(), at.second(), at.millisecond())?;
        write!(f, "-{}-{}{EXTENSION}", self.duration_ms, hex::encode(self.digest))
    }
}

impl FromStr for Key {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let key = parse_parts(text).ok_or(KeyError::Form)??;
        // Two texts for one recording would allow two objects for it.
        if key.to_string() == text { Ok(key) } else { Err(KeyError::Form) }
    }
}

/// Parses a text that may deviate from the canonical form, such as in leading zeros.
fn parse_parts(text: &str) -> Option<Result<Key, KeyError>> {
    let mut split = text.split('/');
    let class = split.next()?;
    let class = class.parse().ok()?;
    let source = split.next()?;
    let (year, month, day) = (split.next()?, split.next()?, split.next()?);
    let name = split.next()?.strip_suffix(EXTENSION)?;
    if split.next().is_some() {
        return None;
    }
    // At most three parts: a further dash stays in the digest, which `hex` rejects.
    let mut split = name.splitn(3, '-');
    let time = split.next()?.strip_suffix('Z')?;
    let duration_ms = split.next()?.parse().ok()?;
    let digest = hex::decode(split.next()?).ok()?.try_into().ok()?;

    let date = civil::Date::new(year.parse().ok()?, month.parse().ok()?, day.parse().ok()?).ok()?;
    let (clock, milli) = time.split_once('.')?;
    let clock: u32 = clock.parse().ok()?;
    let nano = milli.parse::<i32>().ok()?.checked_mul(1_000_000)?;
    let part = |n: u32| i8::try_from(n).ok();
    let time =
        civil::Time::new(part(clock / 10_000)?, part(clock / 100 % 100)?, part(clock % 100)?, nano).ok()?;
    let start = date.to_datetime(time).to_zoned(TimeZone::UTC).ok()?.timestamp();
    Some(Key::from_parts(class, source.to_owned(), start, duration_ms, digest))
}

/// Returns whether `text` is a valid source: a Kubernetes object name (RFC 1123 subdomain).
pub(crate) fn is_source_name(text: &str) -> bool {
    let label = |label: &str| {
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        !label.is_empty() && label.chars().all(inner) && !label.starts_with('-') && !label.ends_with('-')
    };
    text.len() <= MAX_SOURCE_LENGTH && text.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keys() -> impl Strategy<Value = Key> {
        let class = prop_oneof![Just(Class::Video), Just(Class::Calls)];
        let source = "[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?(\\.[a-z0-9]{1,5})?";
        (class, source, 0_i64..253_402_207_200_000, 0..=MAX_DURATION_MS, any::<[u8; 32]>()).prop_map(
            |(class, source, ms, duration, sha)| {
                Key::new(class, source, Timestamp::from_millisecond(ms).unwrap(), duration, &sha).unwrap()
            },
        )
    }

    #[test]
    fn key_has_documented_format() {
        let start: Timestamp = "2026-03-07T08:09:10.0119Z".parse().unwrap();
        let key = Key::new(Class::Video, "receptie", start, 60_033, &[0xab; 32]).unwrap();
        assert_eq!(key.to_string(), "video/receptie/2026/03/07/080910.011Z-60033-abababababababab.mp4");
        assert_eq!(key.end().to_string(), "2026-03-07T08:10:10.044Z");
        assert!(key.matches_sha256(&[0xab; 32]) && !key.matches_sha256(&[0xac; 32]));
    }

    #[test]
    fn other_texts_are_rejected() {
        for text in [
            "",
            "ledger/owner.json",
            "video/receptie",
            "probe/receptie/2026/03/07/080910.011Z-60033-abababababababab.mp4",
            "video//2026/03/07/080910.011Z-60033-abababababababab.mp4",
            "video/Receptie/2026/03/07/080910.011Z-60033-abababababababab.mp4",
            "video/receptie/2026/3/07/080910.011Z-60033-abababababababab.mp4",
            "video/receptie/2026/02/30/080910.011Z-60033-abababababababab.mp4",
            "video/receptie/2026/03/07/080960.011Z-60033-abababababababab.mp4",
            "video/receptie/2026/03/07/080910.011Z-060033-abababababababab.mp4",
            "video/receptie/2026/03/07/080910.011Z-+6003-abababababababab.mp4",
            "video/receptie/2026/03/07/080910.011Z-60033-ABABABABABABABAB.mp4",
            "video/receptie/2026/03/07/080910.011Z-60033-abababab.mp4",
            "video/receptie/2026/03/07/080910.011Z-86400001-abababababababab.mp4",
            "video/receptie/2026/03/07/080910.011Z-60033-abababababababab.mp4/x",
            "video/receptie/2026/03/07/080910.011Z-60033-abababababababab.mkv",
        ] {
            assert!(text.parse::<Key>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn key_round_trips(key in keys()) {
            prop_assert_eq!(key.to_string().parse(), Ok(key));
        }

        #[test]
        fn parsed_key_is_unchanged(text in "(video|calls)/[a-z0-9]{1,3}/20[0-9]{2}/[01][0-9]/[0-3][0-9]/[0-2][0-9][0-5][0-9][0-5][0-9]\\.[0-9]{3}Z-[0-9]{1,6}-[0-9a-f]{16}\\.mp4") {
            if let Ok(key) = text.parse::<Key>() {
                prop_assert_eq!(key.to_string(), text);
            }
        }

        #[test]
        fn parse_never_panics(text in "\\PC*") {
            let _ = text.parse::<Key>();
        }

        #[test]
        fn listing_order_is_time_order(one in keys(), other in keys()) {
            let other = Key { class: one.class, source: one.source.clone(), ..other };
            if one.start < other.start {
                prop_assert!(one.to_string() < other.to_string());
            }
        }

        #[test]
        fn key_starts_with_its_day_prefix(key in keys()) {
            let day = TimeZone::UTC.to_datetime(key.start()).date();
            prop_assert!(key.to_string().starts_with(&Key::day_prefix(key.class(), key.source(), day)));
        }
    }
}
