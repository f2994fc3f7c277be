//! Detects truncated answers.
//!
//! A proxy may give up halfway and close the connection properly, or a store may answer without a length. HTTP then
//! takes half an answer for a whole one (RFC 9112, section 6.3, rule 8). The SDK parses XML as far as it goes: half a
//! listing would be one with fewer versions, and half the errors of a batch one with fewer errors.

use aws_sdk_s3::config::interceptors::AfterDeserializationInterceptorContextRef;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;

/// A success answer was truncated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer was cut off")]
struct TruncatedResponse;

/// Rejects XML success answers that do not end with their root element.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TruncationGuard;

impl Intercept for TruncationGuard {
    fn name(&self) -> &'static str {
        "TruncationGuard"
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let response = context.response();
        // Object contents are streamed and not here.
        let body = without_bom(response.body().bytes().unwrap_or_default());
        // A bucket policy is JSON, and half of it does not parse. Many other answers are empty.
        let is_cut = response.status().is_success() && body.starts_with(b"<") && !is_complete_xml(body);
        if is_cut { Err(TruncatedResponse.into()) } else { Ok(()) }
    }
}

/// Returns whether a document ends with its root element.
pub(crate) fn is_complete_xml(document: &[u8]) -> bool {
    let Some(root) = find_root(without_bom(document)) else {
        return false;
    };
    let root = without_epilogue(root);
    let name: &[u8] = root
        .split(|byte| byte.is_ascii_whitespace() || matches!(byte, b'/' | b'>'))
        .next()
        .unwrap_or_default();
    let Some(before) = root.strip_suffix(b">").map(<[u8]>::trim_ascii_end) else {
        return false;
    };
    let is_closed = before.strip_suffix(name).is_some_and(|before| before.ends_with(b"</"));
    // `<Tagging/>` has no other element.
    let is_empty = before.ends_with(b"/") && !root.contains(&b'<');
    !name.is_empty() && (is_closed || is_empty)
}

/// Returns the document after the `<` of its root element.
fn find_root(document: &[u8]) -> Option<&[u8]> {
    let mut rest = document;
    loop {
        rest = rest.trim_ascii_start().strip_prefix(b"<")?;
        if !rest.starts_with(b"?") && !rest.starts_with(b"!") {
            return Some(rest);
        }
        let end: &[u8] = if rest.starts_with(b"!--") { b"-->" } else { b">" };
        let place = rest.windows(end.len()).position(|part| part == end)?;
        rest = rest.get(place + end.len()..)?;
    }
}

/// Removes a byte order mark.
fn without_bom(document: &[u8]) -> &[u8] {
    document.strip_prefix(b"\xef\xbb\xbf").unwrap_or(document).trim_ascii()
}

/// Removes comments and processing instructions at the end.
fn without_epilogue(mut document: &[u8]) -> &[u8] {
    // Comments occur twice, since they may stand before and after a processing instruction.
    for (end, begin) in [(&b"-->"[..], &b"<!--"[..]), (b"?>", b"<?"), (b"-->", b"<!--")] {
        while document.ends_with(end)
            && let Some(place) = document.windows(begin.len()).rposition(|part| part == begin)
        {
            document = document.get(..place).unwrap_or_default().trim_ascii_end();
        }
    }
    document
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::s3::stub::Stub;
    use crate::storage::s3::{ListQuery, list_page};

    const LISTING: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
        <ListVersionsResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>tz-stub</Name><Prefix>ledger/</Prefix>\
        <IsTruncated>false</IsTruncated>\
        <Version><Key>ledger/a</Key><VersionId>1</VersionId><IsLatest>true</IsLatest>\
        <LastModified>2026-03-01T00:00:00.000Z</LastModified></Version>\
        <Version><Key>ledger/b</Key><VersionId>2</VersionId><IsLatest>true</IsLatest>\
        <LastModified>2026-03-01T00:00:00.000Z</LastModified></Version></ListVersionsResult>";

    async fn list_versions(text: String) -> Result<usize, (String, bool)> {
        let stub = Stub::start(move |_| (200, text.clone())).await;
        let found = list_page(&stub.store(), ListQuery::under_prefix("ledger/")).await;
        found.map(|page| page.versions.len()).map_err(|error| (error.code.clone(), error.is_retryable()))
    }

    #[tokio::test]
    async fn truncated_listing_is_rejected() {
        assert_eq!(list_versions(LISTING.to_owned()).await, Ok(2));
        assert_eq!(list_versions(format!("{LISTING}\n")).await, Ok(2));
        // At the end of each element, where an XML parser sees no error.
        for (place, _) in LISTING.match_indices('>') {
            let cut = LISTING[..=place].to_owned();
            if cut.len() < LISTING.len() {
                let unreadable = Err(("UnreadableAnswer".to_owned(), true));
                assert_eq!(list_versions(cut.clone()).await, unreadable, "{cut}");
            }
        }
    }

    #[tokio::test]
    async fn truncated_tagging_is_rejected() {
        let text = "<Tagging><TagSet><Tag><Key>k</Key><Value>v</Value></Tag></TagSet></Tagging>";
        for (place, _) in text.match_indices('>') {
            let cut = text[..=place].to_owned();
            let is_whole = cut == text;
            let stub = Stub::start(move |_| (200, cut.clone())).await;
            let store = stub.store();
            let asked = store.client.get_object_tagging().bucket(&store.bucket).key("k").send();
            let tags = asked.await;
            assert_eq!(tags.is_ok(), is_whole, "{tags:?}");
        }
    }

    #[test]
    fn complete_xml_ends_with_its_root_element() {
        let whole = [
            "<a/>",
            "<a />",
            "<?xml version=\"1.0\"?><!-- c --><a x=\"1\"><b>1</b></a >",
            "<!DOCTYPE html><html><body></body></html>",
            "\u{feff}<a><b/></a>",
            "<!-- x > y --><s:a xmlns:s=\"u\"><s:b/></s:a><!-- made by <a> --> <?p i?>",
        ];
        let cut =
            ["", "<", "<a", "<a>", "<a><b/>", "<a><b></b>", "<?xml version=\"1.0\"?>", "<a></b>", "<a/"];
        assert!(whole.into_iter().all(|text| is_complete_xml(text.as_bytes())));
        for text in cut {
            assert!(!is_complete_xml(text.as_bytes()), "{text}");
        }
    }
}
