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

fn code(answer: &ListObjectVersionsOutput, query: Query<'_>) -> Option<String> {
    read(answer, query).err().map(|error| error.code)
}

#[test]
fn page_out_of_order_is_an_error() {
    let query = Query::under("video/hal/");
    assert_eq!(code(&answer(&["video/hal/b", "video/hal/c"]), query), None);
    let disordered = answer(&["video/hal/c", "video/hal/b"]);
    assert_eq!(code(&disordered, query).as_deref(), Some("ListingOutOfOrder"));
    let others_are_not_ours = Query { is_ours: |key| key.ends_with('c'), ..query };
    assert_eq!(code(&disordered, others_are_not_ours), None);
    let outside = answer(&["video/hal-2/a"]);
    assert_eq!(code(&outside, query).as_deref(), Some("ListingOutsidePrefix"));
}

#[test]
fn page_before_its_marker_is_an_error_and_the_marker_itself_is_not() {
    let after = After::text("video/hal/m");
    let query = Query { after: Some(&after), ..Query::under("video/hal/") };
    assert_eq!(code(&answer(&["video/hal/a"]), query).as_deref(), Some("ListingGoesBack"));
    let inclusive = read(&answer(&["video/hal/m", "video/hal/n"]), query).unwrap();
    let keys: Vec<_> = inclusive.versions.iter().map(|listed| listed.key.as_str()).collect();
    assert_eq!(keys, ["video/hal/n"]);
    // Within the versions of a key, the key comes again.
    let after = After::version("video/hal/m", "7".into());
    let query = Query { after: Some(&after), ..query };
    assert_eq!(read(&answer(&["video/hal/m"]), query).unwrap().versions.len(), 1);
}

#[test]
fn encoded_answers_and_plain_ones_are_understood() {
    let plain = answer(&["video/hal/a+b%20c"]);
    let key = |answer| read(answer, Query::under("video/")).unwrap().versions.pop().unwrap().key;
    assert_eq!(key(&plain), "video/hal/a+b%20c");
    let encoded = ListObjectVersionsOutput::builder()
        .encoding_type(EncodingType::Url)
        .versions(version("video/hal/a%2Bb+c%01"))
        .delete_markers(marker("video/hal/a%2Bb+c%01"))
        .common_prefixes(CommonPrefix::builder().prefix("video/%C3%A9/").build())
        .is_truncated(true)
        // Some stores encode it, and some do not.
        .next_key_marker("video/hal/a+b c\u{1}")
        .next_version_id_marker("1")
        .build();
    let page = read(&encoded, Query::under("video/")).unwrap();
    assert_eq!(page.folders, ["video/é/"]);
    let last = page.versions.last().unwrap();
    assert_eq!(last.key, "video/hal/a+b c\u{1}");
    assert!(page.versions.first().unwrap().is_marker, "a marker hides");
    assert!(page.after(&last.key).is_within(&last.key));
}

#[test]
fn next_page_begins_after_all_versions_of_the_last_key_that_counts() {
    let cut = ListObjectVersionsOutput::builder()
        .versions(version("video/hal/a"))
        .versions(version("video/hal/z/foreign"))
        .is_truncated(true)
        .next_key_marker("video/hal/z/foreign")
        .next_version_id_marker("1")
        .build();
    let page = read(&cut, Query::under("video/hal/")).unwrap();
    assert_eq!(page.after("video/hal/a"), After::key("video/hal/a"));
    assert!(After::key("video/hal/a").key.as_str() < "video/hal/a-");
}
