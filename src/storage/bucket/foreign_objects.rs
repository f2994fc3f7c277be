//! What others keep in a bucket. Whether it has objects that are no recordings of ours is asked before one that nobody claimed
//! is adopted.

use crate::rules::recording::key::{Class, Key};
use crate::storage::s3::client::BucketClient;
use crate::storage::s3::error::StoreError;
use crate::storage::s3::listing::{ListQuery, VersionPage, list_page};

const OWN_PREFIXES: [&str; 2] = ["ledger/", "probe/"];
/// As many keys as one request tells. At the top level of a bucket of ours stand four names, so that all are seen;
/// below them a key of another form may be missed here, and the audit, which reads everything, finds it.
const MAX_KEYS: i32 = 1000;

/// The most pages of a [`scan`].
const MAX_SCAN_PAGES: usize = 100;

/// Looks at pages under a prefix where others may put what they like, in whatever order it comes: nothing may be claimed not to be
/// there because this did not see it. Whether it came to the end, and not only to the last page that it looks at.
pub(crate) async fn scan(
    store: &BucketClient,
    prefix: &str,
    by_folder: bool,
    mut on_page: impl FnMut(&VersionPage),
) -> Result<bool, StoreError> {
    let mut after = None;
    for _ in 0..MAX_SCAN_PAGES {
        let query = ListQuery {
            has_delimiter: by_folder,
            after: after.as_ref(),
            is_own_key: |_| false,
            ..ListQuery::under_prefix(prefix)
        };
        let page = list_page(store, query).await?;
        on_page(&page);
        let next = page.next_folder_cursor(after.as_ref());
        if next.is_none() {
            return Ok(!page.is_truncated);
        }
        after = next;
    }
    Ok(false)
}

/// Whether there is such an object, hidden or not.
pub(crate) async fn has_foreign_objects(store: &BucketClient) -> Result<bool, StoreError> {
    let top = list_keys(store, None).await?;
    if top.iter().any(|name| !is_own_key(name)) {
        return Ok(true);
    }
    for class in Class::ALL {
        let is_there = top.iter().any(|name| name.starts_with(class.prefix()));
        if is_there && list_keys(store, Some(class)).await?.iter().any(|key| !is_recording(key)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The names at the top of the bucket, or keys of a class, of all versions and delete markers.
async fn list_keys(store: &BucketClient, class: Option<Class>) -> Result<Vec<String>, StoreError> {
    let request = store.client.list_object_versions().bucket(&store.bucket).max_keys(MAX_KEYS);
    let request = match class {
        None => request.delimiter("/"),
        Some(class) => request.prefix(class.prefix()),
    };
    let page = request.send().await.map_err(|error| StoreError::from_sdk("ListObjectVersions", &error))?;
    let versions = page.versions().iter().map(|version| version.key());
    let markers = page.delete_markers().iter().map(|marker| marker.key());
    let names = page.common_prefixes().iter().map(|name| name.prefix());
    Ok(versions.chain(markers).chain(names).flatten().map(str::to_owned).collect())
}

/// Of a name at the top, or a whole key where the store does not know of levels.
fn is_own_key(name: &str) -> bool {
    OWN_PREFIXES.iter().any(|own| name.starts_with(own))
        || Class::ALL.iter().any(|class| name == class.prefix())
        || is_recording(name)
}

fn is_recording(key: &str) -> bool {
    key.parse::<Key>().is_ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::storage::s3::stub::Stub;

    #[test]
    fn own_keys_match_the_layout() {
        let recording = "video/receptie/2026/03/07/080910.011Z-60033-abababababababab.mp4";
        for name in ["video/", "calls/", "ledger/", "probe/", "ledger/owner.json", recording] {
            assert!(is_own_key(name), "{name}");
        }
        for name in ["", "their/", "root", "videos/", "video", "video/x.mp4", "/video/", "Ledger/"] {
            assert!(!is_own_key(name), "{name}");
        }
    }

    /// Pages of one key each, as long as there are `keys`; and whether a look sees all, and what it sees.
    async fn scan_keys(keys: fn(usize) -> Option<String>) -> (bool, Vec<String>) {
        let asked = Arc::new(AtomicUsize::new(0));
        let stub = Stub::start(move |_| {
            let number = asked.fetch_add(1, Ordering::Relaxed);
            let key = keys(number).unwrap();
            let is_cut = keys(number + 1).is_some();
            let version = format!(
                "<Version><Key>{key}</Key><VersionId>v</VersionId><Size>1</Size>\
                 <LastModified>2026-03-07T08:09:10.000Z</LastModified></Version>"
            );
            (
                200,
                format!(
                    "<ListVersionsResult><IsTruncated>{is_cut}</IsTruncated>\
                     <NextKeyMarker>{key}</NextKeyMarker>{version}</ListVersionsResult>"
                ),
            )
        })
        .await;
        let mut seen = Vec::new();
        let store = stub.store();
        let is_all = scan(&store, "probe/", false, |page| {
            seen.extend(page.versions.iter().map(|listed| listed.key.clone()));
        });
        (is_all.await.unwrap(), seen)
    }

    #[tokio::test]
    async fn scan_is_bounded_and_reports_completeness() {
        const FOLDERS: [&str; 2] = ["probe/recorder/a-1", "probe/recorder/a/1"];
        const BACK: [&str; 3] = ["probe/recorder/b", "probe/recorder/a", "probe/recorder/c"];
        let told = |key: &&str| (*key).to_owned();
        let (is_all, seen) = scan_keys(|number| FOLDERS.get(number).map(|key| (*key).to_owned())).await;
        assert!(is_all && seen == FOLDERS.map(|key| told(&key)), "{seen:?}");
        let (is_all, seen) = scan_keys(|number| BACK.get(number).map(|key| (*key).to_owned())).await;
        assert!(!is_all && seen == [told(&BACK[0]), told(&BACK[1])], "{seen:?}");
        let (is_all, seen) = scan_keys(|number| Some(format!("probe/recorder/{number:05}"))).await;
        assert_eq!((is_all, seen.len()), (false, MAX_SCAN_PAGES));
        let (is_all, _) = scan_keys(|_| Some("probe/\u{fffd}".to_owned())).await;
        assert!(!is_all);
    }
}
