//! XML documents of S3.

use jiff::Timestamp;
use quick_xml::events::Event;
use quick_xml::reader::Reader;

use super::listing::{ListParameters, Listing, ListingEntry};
use super::store::StoreError;
use super::store_kind::StoreKind;

const HEAD: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>";
const NAMESPACE: &str = "http://s3.amazonaws.com/doc/2006-03-01/";

/// Returns the texts of all elements with this name, in order.
pub fn texts(body: &[u8], name: &str) -> Vec<String> {
    let mut reader = Reader::from_reader(body);
    let (mut found, mut now) = (Vec::new(), None::<String>);
    loop {
        match reader.read_event().unwrap() {
            Event::Start(start) if start.local_name().as_ref() == name => now = Some(String::new()),
            Event::End(end) if end.local_name().as_ref() == name => found.extend(now.take()),
            Event::Text(text) => {
                if let Some(now) = now.as_mut() {
                    now.push_str(&text);
                }
            }
            Event::GeneralRef(entity) => {
                if let Some(now) = now.as_mut() {
                    let text = format!("&{};", &*entity);
                    now.push_str(&quick_xml::escape::unescape(&text).unwrap_or_default());
                }
            }
            Event::Eof => return found,
            _ => (),
        }
    }
}

fn element(name: &str, inner: &str) -> String {
    format!("<{name}>{inner}</{name}>")
}

fn root(name: &str, inner: &str) -> String {
    format!("{HEAD}<{name} xmlns=\"{NAMESPACE}\">{inner}</{name}>")
}

/// Escapes a text. With `mangles`, characters that are invalid in XML are replaced.
fn escaped(text: &str, mangles: bool) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\u{0}'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' if mangles => out.push('\u{fffd}'),
            '\u{0}'..='\u{1f}' => out.push_str(&format!("&#x{:x};", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

/// URL-encodes a key as S3 does in listings.
pub fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' | b'*' => {
                out.push(byte.into());
            }
            b' ' => out.push('+'),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// Decodes a URL-encoded path or query.
pub fn decoded(text: &str) -> String {
    let (mut out, bytes) = (Vec::new(), text.as_bytes());
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] == b'%'
            && let Some(byte) = text.get(at + 1..at + 3).and_then(|two| u8::from_str_radix(two, 16).ok())
        {
            out.push(byte);
            at += 3;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn instant(at: Timestamp) -> String {
    let at = Timestamp::from_second(at.as_second()).unwrap();
    element("LastModified", &at.strftime("%Y-%m-%dT%H:%M:%S.000Z").to_string())
}

/// Serializes a response to `ListObjectVersions`.
pub fn listing(kind: &StoreKind, parameters: &ListParameters, wants_url: bool, listing: &Listing) -> String {
    let is_url = wants_url && !kind.ignores_encoding;
    let text = |text: &str| {
        if is_url { encoded(text) } else { escaped(text, kind.mangles) }
    };
    let mut inner = String::new();
    inner += &element("Prefix", &text(&parameters.prefix));
    inner += &element("KeyMarker", &text(&parameters.key_marker));
    inner += &element("VersionIdMarker", &parameters.id_marker);
    inner += &element("MaxKeys", &parameters.max_keys.to_string());
    if let Some(delimiter) = &parameters.delimiter {
        inner += &element("Delimiter", &text(delimiter));
    }
    if is_url {
        inner += &element("EncodingType", "url");
    }
    inner += &element("IsTruncated", if listing.next.is_some() { "true" } else { "false" });
    if let Some((key, id)) = &listing.next {
        inner += &element("NextKeyMarker", &text(key));
        if !id.is_empty() {
            inner += &element("NextVersionIdMarker", id);
        }
    }
    for entry in &listing.entries {
        match entry {
            ListingEntry::Common(common) => {
                inner += &element("CommonPrefixes", &element("Prefix", &text(common)));
            }
            ListingEntry::Version { key, is_latest, version } => {
                let mut fields = element("Key", &text(key));
                fields += &element("VersionId", &version.id);
                fields += &element("IsLatest", if *is_latest { "true" } else { "false" });
                fields += &instant(version.modified);
                if !version.is_marker {
                    fields += &element("ETag", &format!("\"{:x}\"", digest(&version.body)));
                    fields += &element("Size", &version.body.len().to_string());
                    fields += &element("StorageClass", "STANDARD");
                }
                inner += &element(if version.is_marker { "DeleteMarker" } else { "Version" }, &fields);
            }
        }
    }
    root("ListVersionsResult", &inner)
}

/// Returns the FNV-1a hash, which is the same in every run.
pub fn digest(bytes: &[u8]) -> u64 {
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, mix)
}

pub fn error(no: StoreError) -> String {
    format!("{HEAD}<Error><Code>{}</Code><Message>simulated</Message></Error>", no.1)
}

pub fn tagging(tags: &[(String, String)]) -> String {
    let one = |(key, value): &(String, String)| {
        let inner = element("Key", &escaped(key, false)) + &element("Value", &escaped(value, false));
        element("Tag", &inner)
    };
    let all: String = tags.iter().map(one).collect();
    root("Tagging", &element("TagSet", &all))
}

pub fn legal_hold(on: bool) -> String {
    root("LegalHold", &element("Status", if on { "ON" } else { "OFF" }))
}

/// Serializes a response to `DeleteObjects` in quiet mode.
pub fn deleted(errors: &[(String, String, StoreError)]) -> String {
    let one = |(key, id, no): &(String, String, StoreError)| {
        let inner = element("Key", &escaped(key, false)) + &element("VersionId", id) + &element("Code", no.1);
        element("Error", &inner)
    };
    let all: String = errors.iter().map(one).collect();
    root("DeleteResult", &all)
}

pub fn empty_uploads_result() -> String {
    root("ListMultipartUploadsResult", &element("IsTruncated", "false"))
}
