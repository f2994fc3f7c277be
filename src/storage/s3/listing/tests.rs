use aws_sdk_s3::types::{CommonPrefix, DeleteMarkerEntry, ObjectVersion};

use super::*;

fn version(key: &str) -> ObjectVersion {
    ObjectVersion::builder()
        .key(key)
        .version_id("1")
        .last_modified(DateTime::from_secs(1_700_000_000))
        .build()
}

fn marker(key: &str) -> DeleteMarkerEntry {
    DeleteMarkerEntry::builder()
        .key(key)
        .version_id("0")
        .is_latest(true)
        .last_modified(DateTime::from_secs(1_700_000_001))
        .build()
}

fn answer(keys: &[&str]) -> ListObjectVersionsOutput {
    let versions = keys.iter().map(|key| version(key)).collect();
    ListObjectVersionsOutput::builder().set_versions(Some(versions)).build()
}

fn error_code(answer: &ListObjectVersionsOutput, query: ListQuery<'_>) -> Option<String> {
    parse_page(answer, query).err().map(|error| error.code)
}

#[test]
fn page_out_of_order_is_an_error() {
    let query = ListQuery::under_prefix("video/hal/");
    assert_eq!(error_code(&answer(&["video/hal/b", "video/hal/c"]), query), None);
    let disordered = answer(&["video/hal/c", "video/hal/b"]);
    assert_eq!(error_code(&disordered, query).as_deref(), Some("ListingOutOfOrder"));
    let others_are_not_ours = ListQuery { is_own_key: |key| key.ends_with('c'), ..query };
    assert_eq!(error_code(&disordered, others_are_not_ours), None);
    let outside = answer(&["video/hal-2/a"]);
    assert_eq!(error_code(&outside, query).as_deref(), Some("ListingOutsidePrefix"));
}

#[test]
fn page_may_repeat_its_marker_but_not_go_back() {
    let after = ListCursor::after_text("video/hal/m");
    let query = ListQuery { after: Some(&after), ..ListQuery::under_prefix("video/hal/") };
    assert_eq!(error_code(&answer(&["video/hal/a"]), query).as_deref(), Some("ListingGoesBack"));
    let inclusive = parse_page(&answer(&["video/hal/m", "video/hal/n"]), query).unwrap();
    let keys: Vec<_> = inclusive.versions.iter().map(|listed| listed.key.as_str()).collect();
    assert_eq!(keys, ["video/hal/n"]);
    // Within the versions of a key, the key repeats.
    let after = ListCursor::after_version("video/hal/m", "7".into());
    let query = ListQuery { after: Some(&after), ..query };
    assert_eq!(parse_page(&answer(&["video/hal/m"]), query).unwrap().versions.len(), 1);
}

#[test]
fn encoded_and_plain_keys_are_decoded() {
    let plain = answer(&["video/hal/a+b%20c"]);
    let key =
        |answer| parse_page(answer, ListQuery::under_prefix("video/")).unwrap().versions.pop().unwrap().key;
    assert_eq!(key(&plain), "video/hal/a+b%20c");
    let encoded = ListObjectVersionsOutput::builder()
        .encoding_type(EncodingType::Url)
        .versions(version("video/hal/a%2Bb+c%01"))
        .delete_markers(marker("video/hal/a%2Bb+c%01"))
        .common_prefixes(CommonPrefix::builder().prefix("video/%C3%A9/").build())
        .is_truncated(true)
        // Some stores do not encode it.
        .next_key_marker("video/hal/a+b c\u{1}")
        .next_version_id_marker("1")
        .build();
    let page = parse_page(&encoded, ListQuery::under_prefix("video/")).unwrap();
    assert_eq!(page.folders, ["video/é/"]);
    let last = page.versions.last().unwrap();
    assert_eq!(last.key, "video/hal/a+b c\u{1}");
    assert!(page.versions.first().unwrap().is_marker, "a marker hides");
    assert!(page.cursor_after(&last.key).is_within_key(&last.key));
}

#[test]
fn next_page_starts_after_last_own_key() {
    let cut = ListObjectVersionsOutput::builder()
        .versions(version("video/hal/a"))
        .versions(version("video/hal/z/foreign"))
        .is_truncated(true)
        .next_key_marker("video/hal/z/foreign")
        .next_version_id_marker("1")
        .build();
    let page = parse_page(&cut, ListQuery::under_prefix("video/hal/")).unwrap();
    assert_eq!(page.cursor_after("video/hal/a"), ListCursor::after_key("video/hal/a"));
    assert!(ListCursor::after_key("video/hal/a").key.as_str() < "video/hal/a-");
}
