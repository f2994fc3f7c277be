//! Text in messages of RTSP, shared by all layers: one charset, one set of blanks, and one rule of the text that can be sent.

/// Private characters U+EF80 to U+EFFF stand for the bytes 0x80 to 0xFF that are not UTF-8.
const ESCAPES: u32 = 0xef00;

/// Blanks around a value. Firmware writes NUL, or a second CR, after some values.
const BLANKS: [char; 5] = [' ', '\t', '\r', '\n', '\0'];

/// Decodes the bytes of a camera. Returns whether they are UTF-8. [`encode`] returns exactly these bytes, so that a request
/// repeats a realm, an id or a URL as the camera wrote it, in any charset.
pub fn decode(bytes: &[u8]) -> (String, bool) {
    let mut text = String::with_capacity(bytes.len());
    let mut is_utf8 = true;
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if escaped_byte(character).is_some() {
                // The escape itself, in UTF-8.
                let mut bytes = [0; 4];
                text.extend(character.encode_utf8(&mut bytes).bytes().map(escape));
            } else {
                text.push(character);
            }
        }
        is_utf8 &= chunk.invalid().is_empty();
        text.extend(chunk.invalid().iter().copied().map(escape));
    }
    (text, is_utf8)
}

/// Returns the bytes of a text that was decoded, or composed of such texts and UTF-8.
pub fn encode(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    for character in text.chars() {
        match escaped_byte(character) {
            Some(byte) => bytes.push(byte),
            None => bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    bytes
}

fn escape(byte: u8) -> char {
    char::from_u32(ESCAPES | u32::from(byte)).unwrap_or(char::REPLACEMENT_CHARACTER)
}

fn escaped_byte(character: char) -> Option<u8> {
    u8::try_from(u32::from(character) ^ ESCAPES).ok().filter(|byte| !byte.is_ascii())
}

/// Returns the text without blanks, line ends and NUL around it.
pub fn trim(text: &str) -> &str {
    text.trim_matches(BLANKS)
}

/// [`trim`] for bytes.
pub fn trim_bytes(mut bytes: &[u8]) -> &[u8] {
    let is_blank = |byte: &u8| BLANKS.contains(&char::from(*byte));
    while let Some((_, rest)) = bytes.split_first().filter(|(first, _)| is_blank(first)) {
        bytes = rest;
    }
    while let Some((_, rest)) = bytes.split_last().filter(|(last, _)| is_blank(last)) {
        bytes = rest;
    }
    bytes
}

/// Returns whether a byte can stand in the value of a header. A line end would begin another header, and TAB is the only
/// control character that RFC 7230 section 3.2 allows.
pub const fn is_sendable_byte(byte: u8) -> bool {
    !byte.is_ascii_control() || byte == b'\t'
}

/// Returns whether a header can have this value.
pub fn is_sendable(value: &[u8]) -> bool {
    value.iter().copied().all(is_sendable_byte)
}

/// Returns whether the text can be one word of a request, such as its URI or the id of its session: it is not empty, and has
/// neither blanks nor control characters.
pub fn is_sendable_word(text: &str) -> bool {
    !text.is_empty() && is_sendable(text.as_bytes()) && !text.contains([' ', '\t'])
}

/// Returns whether a header that lists words has this one, in any case. Cameras differ in the separators.
pub fn lists_word(value: &str, word: &str) -> bool {
    let is_separator = |character: char| BLANKS.contains(&character) || matches!(character, ',' | ';' | '"');
    value.split(is_separator).any(|listed| listed.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn utf_8_stays_readable() {
        assert_eq!(decode("Küche 摄".as_bytes()), ("Küche 摄".to_owned(), true));
        assert_eq!(encode("Küche 摄"), "Küche 摄".as_bytes());
        assert!(!decode(b"K\xfcche").1);
    }

    #[test]
    fn blanks_of_firmware_are_trimmed() {
        assert_eq!(trim(" \ta b\0\r"), "a b");
        assert_eq!(trim_bytes(b" \ta b\0\r"), b"a b");
        assert_eq!((trim("\0"), trim_bytes(b"\0")), ("", &b""[..]));
    }

    #[test]
    fn sendable_text_stays_in_its_place() {
        assert!(is_sendable(b"a\tb \xc9\x85") && is_sendable(b""));
        for wrong in [&b"a\r\nb"[..], b"\n", b"\r", b"\0", b"\x7f", b"\x1b"] {
            assert!(!is_sendable(wrong), "{}", wrong.escape_ascii());
        }
        assert!(is_sendable_word("rtsp://a/\u{85}é"));
        for wrong in ["", "a b", "a\tb", "a\r", "\u{7f}"] {
            assert!(!is_sendable_word(wrong), "{wrong:?}");
        }
    }

    #[test]
    fn words_are_listed_with_any_separator() {
        for value in ["close", "Keep-Alive, CLOSE", "x;close", "\"close\""] {
            assert!(lists_word(value, "close"), "{value}");
        }
        assert!(!lists_word("closed, not-close", "close") && !lists_word("", "close"));
    }

    proptest! {
        #[test]
        fn every_text_leaves_as_it_came(
            parts in proptest::collection::vec(prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..12),
                "[\u{ee00}-\u{f0ff}é ]{0,4}".prop_map(String::into_bytes),
            ], 0..6),
        ) {
            let decoded: Vec<String> = parts.iter().map(|part| decode(part).0).collect();
            prop_assert_eq!(encode(&decoded.concat()), parts.concat());
            let whole = parts.concat();
            let (text, is_utf8) = decode(&whole);
            prop_assert_eq!(is_utf8, std::str::from_utf8(&whole).is_ok());
            prop_assert_eq!(is_sendable(text.as_bytes()), is_sendable(&whole));
            prop_assert_eq!(encode(trim(&text)), trim_bytes(&whole));
        }
    }
}
