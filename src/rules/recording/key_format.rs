//! Incremental check of object keys: which bytes can follow the beginning of a recording's key. Pure.

/// Beginning of a recording's key after the day prefix, where `d` is a digit. The entire form is
/// `hhmmss.mmmZ-{duration_ms}-{16 hexadecimal digits}.mp4`.
const TIME_PATTERN: &[u8] = b"dddddd.dddZ-";
// `MAX_DURATION_MS` has eight digits. The key's parser rejects longer durations within them.
const MAX_DURATION_DIGITS: usize = 8;
const HASH_DIGITS: usize = 16;
const EXTENSION: &[u8] = b".mp4";
const DIGITS: &[u8] = b"0123456789";
const HEX: &[u8] = b"0123456789abcdef";

/// Returns the bytes that can follow `text`, the part of a key after its day prefix. Returns `None` if no recording's key begins
/// with it, and no bytes if it is complete.
pub(crate) fn allowed_next_bytes(text: &[u8]) -> Option<&'static [u8]> {
    let (clock, rest) = text.split_at(text.len().min(TIME_PATTERN.len()));
    let matches = |(byte, form): (&u8, &u8)| if *form == b'd' { byte.is_ascii_digit() } else { byte == form };
    if !clock.iter().zip(TIME_PATTERN).all(matches) {
        return None;
    }
    match TIME_PATTERN.get(clock.len()) {
        Some(b'd') => return Some(DIGITS),
        Some(b'.') => return Some(b"."),
        Some(b'Z') => return Some(b"Z"),
        Some(_) => return Some(b"-"),
        None => (),
    }
    let Some(dash) = rest.iter().position(|byte| *byte == b'-') else {
        let is_duration = rest.len() <= MAX_DURATION_DIGITS && rest.iter().all(u8::is_ascii_digit);
        return is_duration.then_some(match rest.len() {
            0 => DIGITS,
            MAX_DURATION_DIGITS => b"-",
            _ => b"-0123456789",
        });
    };
    let (duration, rest) = rest.split_at(dash);
    if duration.is_empty() || duration.len() > MAX_DURATION_DIGITS || !duration.iter().all(u8::is_ascii_digit)
    {
        return None;
    }
    let rest = rest.get(1..).unwrap_or_default();
    let (hash, ending) = rest.split_at(rest.len().min(HASH_DIGITS));
    if !hash.iter().all(|byte| HEX.contains(byte)) {
        return None;
    }
    if hash.len() < HASH_DIGITS {
        return Some(HEX);
    }
    EXTENSION.strip_prefix(ending).map(|left| left.get(..1).unwrap_or_default())
}

/// Returns the longest beginning of `text`, the part of a key after its day prefix, with which a recording's key can begin.
pub(crate) fn valid_prefix(text: &str) -> &str {
    let bytes = text.as_bytes();
    let mut length = 0;
    while let Some(next) = bytes.get(length) {
        match allowed_next_bytes(bytes.get(..length).unwrap_or_default()) {
            Some(allowed) if allowed.contains(next) => length += 1,
            _ => break,
        }
    }
    text.get(..length).unwrap_or_default()
}

/// Returns the first text that sorts after every text with the prefix `text`. Its last character must be below `~`.
pub(crate) fn successor(text: &str) -> Option<String> {
    let last = text.chars().next_back().filter(char::is_ascii)?;
    let next = char::from_u32(u32::from(last) + 1)?;
    let mut successor = text.get(..text.len() - 1)?.to_owned();
    successor.push(next);
    Some(successor)
}

/// Returns whether `folder` is a number with this many digits, such as `yyyy`, `mm` or `dd`.
pub(crate) fn is_number_of_length(folder: &str, digits: usize) -> bool {
    folder.len() == digits && folder.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::*;
    use crate::rules::recording::key::MAX_DURATION_MS;
    use crate::rules::{Class, Key};

    proptest! {
        #[test]
        fn allowed_next_bytes_accept_every_key(
            ms in 0_i64..253_402_207_200_000, duration in 0..=MAX_DURATION_MS, sha in any::<[u8; 32]>(),
        ) {
            let start = Timestamp::from_millisecond(ms).unwrap();
            let key = Key::new(Class::Video, "a", start, duration, &sha).unwrap().to_string();
            let name = key.rsplit('/').next().unwrap();
            for (length, next) in name.bytes().enumerate() {
                let ways = allowed_next_bytes(&name.as_bytes()[..length]).unwrap();
                prop_assert!(ways.contains(&next), "{name} at {length}");
            }
            prop_assert_eq!(allowed_next_bytes(name.as_bytes()), Some(&b""[..]));
            prop_assert_eq!(valid_prefix(name), name);
        }

        #[test]
        fn valid_prefix_is_a_prefix(text in "\\PC*") {
            prop_assert!(text.starts_with(valid_prefix(&text)));
        }

        #[test]
        fn successor_sorts_after_every_extension(text in "[ -}]{1,20}", more in "\\PC{0,20}", other in "[ -}]{1,20}") {
            let next = successor(&text).unwrap();
            let longer = text.clone() + &more;
            prop_assert!(longer < next);
            prop_assert!(other < text || other.starts_with(&text) || other >= next);
        }
    }

    #[test]
    fn valid_prefix_ends_at_first_invalid_byte() {
        for (text, expected) in [
            ("101010/k", "101010"),
            ("101010.123Z/k", "101010.123Z"),
            ("101010.123Z-60000-0123456789abcdef.mp4-x", "101010.123Z-60000-0123456789abcdef.mp4"),
            ("101010.123Z-60000-0123456789abcdefX", "101010.123Z-60000-0123456789abcdef"),
            ("\u{fffd}1", ""),
            ("10é", "10"),
            ("-", ""),
        ] {
            assert_eq!(valid_prefix(text), expected, "{text}");
        }
    }
}
